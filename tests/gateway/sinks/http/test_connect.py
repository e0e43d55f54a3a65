"""Which version of HTTP a connection speaks."""

import ssl

import pytest

from bindings.event import Event
from gateway.config.records import TlsConfig
from gateway.delivery import Outcome, Reason
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sinks.http.connect import Endpoint
from tests.gateway.scripted_http import Script
from tests.gateway.scripted_http2 import Http2Script


@pytest.fixture
async def serve(certificates):
    """Start a TLS server that speaks one version and offers `names`."""
    running = []

    async def serve(kind, names):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        if names:
            context.set_alpn_protocols(names)
        running.append(await kind().start(context))
        return running[-1]

    yield serve
    for server in running:
        await server.close()


@pytest.fixture
async def send(certificates):
    """Send 40 events by a sink of that version; returns the failures."""

    async def send(server, version, scheme="https"):
        config = HttpSinkConfig(
            name="out",
            url=f"{scheme}://127.0.0.1:{server.port}/x",
            http_version=version,
            connections=4,
            tls=TlsConfig(ca=certificates.ca),
        )
        sink = HttpSink(config)
        await sink.open()
        try:
            return await sink.send(
                [Event(id=str(number), source=f"/{number}", type="t") for number in range(40)]
            )
        finally:
            await sink.close()

    return send


@pytest.mark.parametrize("version", ["auto", "2"])
async def test_http2_is_spoken_where_the_server_picks_it(serve, send, version):
    server = await serve(Http2Script, ["h2", "http/1.1"])
    assert await send(server, version) == []
    assert len(server.requests) == 40
    assert len(server.connections) == 1
    assert server.requests[0].fields[":scheme"] == "https"


@pytest.mark.parametrize(
    ("version", "names"),
    [("auto", ["http/1.1"]), ("auto", []), ("1.1", ["h2", "http/1.1"]), ("1.1", ["http/1.1"])],
)
async def test_http1_is_spoken_where_the_server_has_nothing_better(serve, send, version, names):
    server = await serve(Script, names)
    assert await send(server, version) == []
    assert len(server.requests) == 40
    assert server.connections == 4  # all of them, once it is known that one will not do


@pytest.mark.parametrize("names", [["http/1.1"], []])
async def test_demanded_http2_that_is_not_offered_is_no_connection(serve, send, names):
    server = await serve(Script, names)
    failures = await send(server, "2")
    assert len(failures) == 40
    assert {(each.outcome, each.reason) for each in failures} == {
        (Outcome.RELEASED, Reason.SINK_DOWN)
    }
    assert failures[0].detail.startswith("no connection: ")
    assert server.requests == []


async def test_auto_is_http1_over_plain_tcp(send):
    server = await Script().start()
    try:
        assert await send(server, "auto", "http") == []
        assert len(server.requests) == 40
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("version", "tls", "may"),
    [("auto", True, True), ("auto", False, False), ("1.1", True, False), ("2", False, True)],
)
def test_connections_may_be_shared_where_http2_may_be_spoken(version, tls, may):
    endpoint = Endpoint("h", 1, ssl.create_default_context if tls else None, version)
    assert endpoint.may_multiplex is may
