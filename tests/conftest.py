"""Fixtures for every test."""

import os

import pytest
import uvloop
from hypothesis import settings

from tests.helpers import Certificates, examples, make_certificates

# A shared machine has no deadlines. In CI the same examples are drawn at every run, so that what
# is red is red for the change at hand; people draw others each time.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=examples(100))
settings.register_profile("people", deadline=None, max_examples=examples(100))
settings.load_profile("ci" if os.environ.get("CI") else "people")


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    """Where gateways keep their state that a configuration gives no folder."""
    folder = tmp_path / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    return folder


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def pytest_asyncio_loop_factories(config, item):
    """Tests run on the loop that production runs on; its transports differ from asyncio's."""
    marker = item.get_closest_marker("loop")
    if marker is not None:
        return {"of its own": marker.kwargs["factory"]}
    return {"uvloop": uvloop.new_event_loop}
