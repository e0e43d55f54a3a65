"""The HTTP sink over HTTP/2 to Node's server, which is nghttp2's."""

import asyncio
import json
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from bindings.event import Event
from gateway.config.records import TlsConfig
from gateway.delivery import Outcome, Reason
from gateway.sinks.http import HttpSink, HttpSinkConfig
from tests.e2e.servers import HOST, Server, poll_until, program

SCRIPT = Path(__file__).with_name("h2_sink.mjs")


class NodeSink(Server):
    """See the script for its options."""

    name = "h2_sink"

    def __init__(self, folder, **options):
        super().__init__(folder)
        self.options = {"port": self.port, **options}
        self._node = program("node", "nodejs")
        self.scheme = "https" if "tls" in options else "http"

    def command(self):
        return [self._node, str(SCRIPT), json.dumps(self.options)]

    @property
    def url(self):
        return f"{self.scheme}://{HOST}:{self.port}/events"

    def requests(self):
        """Return session, version, id and size of each request."""
        return [line.split() for line in self.log.splitlines()]

    def ids(self):
        return Counter(line[2] for line in self.requests())


@pytest.fixture
async def open_sink():
    running = []

    async def open_sink(server, **config):
        config.setdefault("http_version", "2")
        sink = HttpSink(HttpSinkConfig(name="out", url=server.url, ordered=False, **config))
        await sink.open()
        running.append(sink)
        return sink

    yield open_sink
    for sink in running:
        await sink.close()


def events(*ids, size=0):
    data = json.dumps("x" * size).encode()
    kind = "application/json"
    return [Event(id=i, source="/s", type="t", data=data, datacontenttype=kind) for i in ids]


def numbered(count):
    return events(*(f"e{number}" for number in range(count)))


async def test_hundred_requests_are_under_way_on_one_connection(start, open_sink):
    server = start(NodeSink, hold=100)  # nobody is answered before
    sink = await open_sink(server, connections=1)
    assert await sink.send(numbered(300)) == []
    assert {(session, version) for session, version, _, _ in server.requests()} == {("1", "2.0")}
    assert server.ids() == {f"e{number}": 1 for number in range(300)}


async def test_goaway_under_load_loses_nothing_and_repeats_nothing_that_was_read(start, open_sink):
    server = start(NodeSink, goawayEvery=37)
    sink = await open_sink(server, connections=2)
    failures = []
    for _ in range(4):
        failures += await sink.send(numbered(500))
    # What was turned away twice is released, for the dispatcher to try again.
    assert {each.outcome for each in failures} <= {Outcome.RELEASED}
    assert server.ids().total() + len(failures) == 2000
    assert len({session for session, *_ in server.requests()}) > 30


async def test_server_that_allows_one_stream_gets_one_at_a_time(start, open_sink):
    server = start(NodeSink, settings={"maxConcurrentStreams": 1})
    sink = await open_sink(server, connections=1)
    assert await sink.send(numbered(200)) == []
    assert server.ids() == {f"e{number}": 1 for number in range(200)}


async def test_window_of_zero_is_waited_for(start, open_sink):
    server = start(NodeSink, settings={"initialWindowSize": 0}, openAfter=300)
    sink = await open_sink(server)
    assert await sink.send(numbered(50)) == []
    assert server.ids() == {f"e{number}": 1 for number in range(50)}


async def test_large_events_arrive_whole_among_small_ones(start, open_sink):
    server = start(NodeSink)
    sink = await open_sink(server)
    small, large = numbered(20), events("large0", "large1", "large2", size=3_000_000)
    assert await sink.send([*small[:10], *large, *small[10:]]) == []
    sizes = {line[2]: int(line[3]) for line in server.requests()}
    assert all(sizes[each.id] > 3_000_000 for each in large)
    assert len(sizes) == 23


async def test_reset_and_stalled_streams_do_not_harm_their_neighbours(start, open_sink):
    server = start(NodeSink)
    sink = await open_sink(server, connections=1, timeout=3)
    sending = asyncio.ensure_future(sink.send(events("stall", "reset", "ok")))
    neighbours = [await sink.send(numbered(20), 60) for _ in range(20)]
    stalled, reset = await sending
    assert (stalled.position, stalled.reason) == (0, Reason.TIMEOUT)
    assert (reset.position, reset.outcome) == (1, Outcome.RELEASED)
    assert reset.detail == "the stream was reset: INTERNAL_ERROR"
    assert neighbours == [[]] * 20
    assert await sink.send(events("after")) == []
    assert {session for session, *_ in server.requests()} == {"1"}


async def test_answers_carry_retry_after_and_a_body(start, open_sink):
    server = start(NodeSink)
    sink = await open_sink(server)
    busy, down = await sink.send(events("429-7", "503-9", "ok"))
    assert (busy.reason, busy.status, busy.retry_after) == (Reason.SINK_BUSY, 429, 7)
    assert (down.reason, down.status, down.retry_after) == (Reason.SINK_DOWN, 503, 9)
    assert down.body == b"why 503"


async def test_server_that_is_killed_and_comes_back_gets_events_again(start, open_sink):
    server = start(NodeSink)
    sink = await open_sink(server)
    assert await sink.send(numbered(50)) == []
    server.kill()
    failures = await sink.send(numbered(5))
    assert [each.outcome for each in failures] == [Outcome.RELEASED] * 5
    server.start()
    assert await sink.send(events("again")) == []


@pytest.fixture
def tls(certificates):
    return {"key": str(certificates.server_key), "cert": str(certificates.server_cert)}


@pytest.mark.parametrize(("offered", "spoken"), [("auto", "2.0"), ("2", "2.0"), ("1.1", "1.1")])
async def test_version_is_negotiated_over_tls(start, open_sink, certificates, tls, offered, spoken):
    server = start(NodeSink, tls=tls)
    trust = TlsConfig(ca=certificates.ca)
    sink = await open_sink(server, http_version=offered, tls=trust)
    assert await sink.send(numbered(150)) == []
    assert Counter(line[1] for line in server.requests()) == {spoken: 150}
    assert server.ids() == {f"e{number}": 1 for number in range(150)}


async def test_server_without_http2_gets_http1_unless_http2_is_demanded(
    start, open_sink, certificates, tls
):
    server = start(NodeSink, tls=tls, h1=True)
    trust = TlsConfig(ca=certificates.ca)
    auto = await open_sink(server, http_version="auto", tls=trust)
    assert await auto.send(numbered(150)) == []
    assert Counter(line[1] for line in server.requests()) == {"1.1": 150}
    strict = await open_sink(server, http_version="2", tls=trust)
    failures = await strict.send(numbered(3))
    assert {each.outcome for each in failures} == {Outcome.RELEASED}
    assert "ALPN" in failures[0].detail or "alert" in failures[0].detail.lower()
    assert len(server.requests()) == 150


def test_events_of_a_gateway_arrive_once_while_the_server_says_goaway(start, gateway):
    server = start(NodeSink, goawayEvery=20)
    running = gateway(
        {
            "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
            "sinks": {"out": {"protocol": "http", "url": server.url, "http_version": "2"}},
            "routes": [{"from": ["web"], "to": ["out"]}],
        }
    )
    for batch in range(5):
        table = [
            {"specversion": "1.0", "id": f"g{batch}-{number}", "source": f"/{number}", "type": "t"}
            for number in range(100)
        ]
        request = urllib.request.Request(
            f"http://{HOST}:{running.ports['web']}/",
            json.dumps(table).encode(),
            {"Content-Type": "application/cloudevents-batch+json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 202
    poll_until(lambda: len(server.ids()) == 500, 30, "500 events")
    assert set(server.ids().values()) == {1}
