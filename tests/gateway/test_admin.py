"""Health, metrics, the event API and its stream, asked by a foreign HTTP client."""

import asyncio
import json

import pytest

from gateway.admin import AdminServer
from gateway.config.records import Address
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.sinks.log import LogSink, LogSinkConfig
from tests.helpers import make_event


class Shown:
    def __init__(self):
        self.metrics = Metrics()
        self.unready = ""
        self.logs = {"out": LogSink(LogSinkConfig(name="out", protocol="log"))}

    def status(self):
        return {"ready": True}


@pytest.fixture
async def shown():
    return Shown()


@pytest.fixture
async def server(shown):
    server = AdminServer(shown, Address("127.0.0.1", 0))
    await server.open()
    yield server
    await server.close()


async def get(server, target):
    """Return status, headers in lower case and body of a GET."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


async def test_livez_is_always_ok_and_readyz_says_why_not(server, shown):
    assert (await get(server, "/livez"))[0] == 200
    assert (await get(server, "/readyz"))[0] == 200
    shown.unready = "draining"
    status, _, body = await get(server, "/readyz")
    assert (status, body) == (503, b"draining\n")
    assert (await get(server, "/livez"))[0] == 200


async def test_metrics_are_in_prometheus_text_format(server, shown):
    shown.metrics.sources["web"].received = 3
    status, headers, body = await get(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b'ce_gateway_events_received_total{source="web"} 3.0' in body


async def test_the_event_log_is_a_json_batch_of_the_newest_events_oldest_first(server, shown):
    await shown.logs["out"].send([make_event(n, data=b'{"n": 1}') for n in (1, 2, 3)])
    status, headers, body = await get(server, "/api/v1/events?limit=2")
    assert status == 200
    assert headers["content-type"] == "application/cloudevents-batch+json"
    assert [event["id"] for event in json.loads(body)] == ["2", "3"]


async def test_a_log_that_does_not_exist_is_404_with_a_hint(server, shown):
    status, _, body = await get(server, "/api/v1/events?sink=nope")
    assert status == 404
    assert b"protocol: log" in body
    shown.logs.clear()
    assert (await get(server, "/api/v1/events"))[0] == 404


async def test_the_stream_sends_each_event_as_one_server_sent_event(server, shown):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.readuntil(b": connected\n\n")
        pretty = b'{\n"specversion": "1.0", "id": "9", "source": "/s", "type": "t"}'
        event = make_event(9, source="/s", type="t").replace(encoded=pretty)
        await shown.logs["out"].send([event])
        text = (await reader.readuntil(b"}\n\n")).decode()
    writer.close()
    await writer.wait_closed()
    data = [line for line in text.split("\n") if line.startswith("data: ")]
    assert len(data) == 1
    assert json.loads(data[0].removeprefix("data: "))["id"] == "9"


async def test_the_openapi_document_names_the_api(server):
    _, _, body = await get(server, "/api/v1/openapi.json")
    assert {"/api/v1/events", "/readyz", "/metrics"} <= set(json.loads(body)["paths"])


async def test_the_console_is_a_page(server):
    status, headers, body = await get(server, "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"EventSource" in body


async def test_an_address_in_use_is_a_gateway_error(server, shown):
    second = AdminServer(shown, server.address)
    with pytest.raises(GatewayError, match=r"admin can't listen"):
        await second.open()
