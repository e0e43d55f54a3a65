"""Fixtures for the end-to-end tests: each program starts when the first test asks for it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.readers.sdk import NpmReader
from tests.e2e.servers import (
    GatedRecorder,
    Gateway,
    HttpRecorder,
    Kafka,
    MissingError,
    Mosquitto,
    NatsServer,
    make_kafka,
)

_served: dict[str, str] = {}


@contextlib.contextmanager
def skipping_what_is_missing() -> Iterator[None]:
    """Turn `MissingError` into a skip, or into a failure when REQUIRE_SERVERS=1."""
    try:
        yield
    except MissingError as missing:
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with skipping_what_is_missing():
        return (yield)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a worker of xdist: the controller prints
        session.config.workeroutput["served"] = _served


class _Workers:
    """Collects what xdist's workers used."""

    @staticmethod
    def pytest_testnodedown(node):
        _served.update(getattr(node, "workeroutput", {}).get("served", {}))


def pytest_configure(config):
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workeroutput"):
        config.pluginmanager.register(_Workers())


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("end to end")
    for name, kind in _served.items():
        terminalreporter.line(f"{name}: {kind}")
    terminalreporter.line(f"skipped: {len(skipped)}")
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"  {count} x {reason}")


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory) -> Iterator[Mosquitto]:
    with skipping_what_is_missing():
        broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    with broker:
        yield broker


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory) -> Iterator[NatsServer]:
    with skipping_what_is_missing():
        server = NatsServer(tmp_path_factory.mktemp("nats"))
    with server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory, certificates) -> Iterator[Kafka]:
    with skipping_what_is_missing():
        broker = make_kafka(tmp_path_factory.mktemp("kafka"), certificates)
    _served["kafka"] = broker.kind
    with broker:
        yield broker


@pytest.fixture(scope="session")
def npm_reader() -> Iterator[NpmReader]:
    with skipping_what_is_missing():
        reader = NpmReader()
    with reader:
        yield reader


@pytest.fixture
def http_recorder() -> Iterator[HttpRecorder]:
    with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture
def sink() -> Iterator[GatedRecorder]:
    with GatedRecorder() as recorder:
        yield recorder


@pytest.fixture
def start(tmp_path_factory) -> Iterator[Callable[..., object]]:
    """Start a server of one's own: `start(Mosquitto, users={"a": "b"})`; stopped after the test."""
    with contextlib.ExitStack() as running:

        def start_server(kind, *args, **kwargs):
            with skipping_what_is_missing():
                server = kind(tmp_path_factory.mktemp(kind.name), *args, **kwargs)
            return running.enter_context(server)

        yield start_server


@pytest.fixture
def gateway(tmp_path_factory) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway with a configuration; after the test it has to end well (see `finish`)."""
    started: list[Gateway] = []

    def start_gateway(
        config: Mapping[str, object], env: Mapping[str, str] | None = None, *, ready: bool = True
    ) -> Gateway:
        process = Gateway(tmp_path_factory.mktemp("gateway"), config, env, ready=ready)
        started.append(process.start())
        return process

    yield start_gateway
    for process in started:
        process.finish()
