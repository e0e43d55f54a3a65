"""Fixtures for every test."""

import pytest
import uvloop

from tests.helpers import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def pytest_asyncio_loop_factories(config, item):
    """Tests run on the loop that production runs on; its transports differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
