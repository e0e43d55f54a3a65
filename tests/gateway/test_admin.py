"""Health, metrics, the event API and its stream, asked by a foreign HTTP client."""

import asyncio
import json
import re

import pytest
from pydantic import SecretStr

from bindings.json_format import encode_event
from gateway.admin import AdminServer
from gateway.build import build
from gateway.config.records import Address
from gateway.dead_letters import DeadLetter, DeadLetters, IntakeReplayer, Replay
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.sinks.log import LogSink, LogSinkConfig
from tests.helpers import RecordingIntake, make_event


class Shown:
    def __init__(self):
        self.metrics = Metrics()
        self.unready = ""
        self.logs = {"out": LogSink(LogSinkConfig(name="out", protocol="log"))}

    async def exposition(self):
        return self.metrics.exposition()

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


async def test_the_status_tells_the_build_with_what_the_gateway_says(server):
    _, _, body = await get(server, "/api/v1/status")
    this = {"version": build().version, "is_compiled": build().is_compiled}
    assert json.loads(body) == {"build": this, "ready": True}


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


# Dead letters


@pytest.fixture
async def letters(shown, tmp_path):
    shown.dead_letters = DeadLetters(tmp_path / "dead-letters", max_bytes=8 << 20)
    shown.dead_letters.open()
    shown.intake = RecordingIntake()
    shown.replay = Replay(shown.dead_letters, IntakeReplayer({"r": shown.intake}.get))
    yield shown.dead_letters
    await shown.replay.close()
    shown.dead_letters.close()


def a_letter(number, **changes):
    known = {"reason": "timeout", "first_time": "1", "last_time": "2", "source": "web"}
    event = encode_event(make_event(number, data=b"secret"))
    return DeadLetter(**{**known, "route": "r", "event": event, **changes})


async def put(store, *letters):
    stored = asyncio.get_running_loop().create_future()
    store.put(letters, stored.set_result)
    assert await stored is None


async def ask(server, method, target, body=None, **headers):
    """Return status and body of a request to the dead letters; JSON is parsed."""
    reader, writer = await asyncio.open_connection(*server.address)
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} /api/v1/dead-letters{target} HTTP/1.1\r\nHost: x\r\nConnection: close",
        f"Content-Length: {len(content)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    if body is not None and "Content_Type" not in headers:
        lines.append("Content-Type: application/json")
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    is_json = b"content-type: application/json\r\n" in head.lower() + b"\r\n"
    return int(head.split()[1]), json.loads(answer) if is_json else answer


async def test_dead_letters_come_in_pages_without_their_data(server, letters):
    await put(letters, *(a_letter(n) for n in range(5)))
    status, page = await ask(server, "GET", "?limit=2")
    assert status == 200
    assert [one["event_id"] for one in page["letters"]] == ["4", "3"]
    assert "secret" not in json.dumps(page)
    _, page = await ask(server, "GET", f"?limit=3&cursor={page['cursor']}")
    assert [one["event_id"] for one in page["letters"]] == ["2", "1", "0"]
    assert page["cursor"] is None


async def test_a_dead_letter_is_shown_whole(server, letters):
    await put(letters, a_letter(1))
    assert (await ask(server, "GET", "/1"))[1]["event"]["data_base64"] == "c2VjcmV0"
    assert (await ask(server, "GET", "/2"))[0] == 404
    assert (await ask(server, "GET", "/x"))[0] == 422
    assert (await ask(server, "GET", f"/{2**63}"))[0] == 422


async def test_filters_choose_and_what_they_do_not_know_is_an_error(server, letters):
    await put(letters, a_letter(1), a_letter(2, route="s", reason="invalid"))
    assert (await ask(server, "GET", "/count?route=s&reason=invalid"))[1] == {"count": 1}
    assert (await ask(server, "GET", "/count?since=PT1H&until=2026-01-01T00:00:00Z"))[0] == 200
    for wrong in ("?rout=s", "?since=yesterday", "?limit=0", "?cursor=x"):
        assert (await ask(server, "GET", wrong))[0] == 422
    assert (await ask(server, "DELETE", "?rout=s"))[0] == 422
    assert (await ask(server, "GET", "/count"))[1] == {"count": 2}


async def test_an_export_is_json_lines_of_whole_letters(server, letters):
    await put(letters, *(a_letter(n) for n in range(120)))
    _, lines = await ask(server, "GET", "/export?route=r")
    found = [json.loads(line) for line in re.findall(rb"\{.*\}", lines)]
    assert [one["event"]["id"] for one in found] == [str(n) for n in range(120)]


async def test_a_purge_needs_to_be_told_what(server, letters):
    await put(letters, *(a_letter(n) for n in range(1, 8)))
    assert (await ask(server, "DELETE", ""))[0] == 422
    assert await ask(server, "DELETE", "/2") == (200, {"count": 1})
    assert (await ask(server, "DELETE", "/2"))[0] == 404
    assert await ask(server, "DELETE", "?ids=1&ids=2&ids=3") == (200, {"count": 2})
    assert await ask(server, "DELETE", "?reason=nothing") == (200, {"count": 0})
    assert await ask(server, "DELETE", "?all=true") == (200, {"count": 4})


async def test_a_replay_says_of_each_letter_what_became_of_it(server, shown, letters):
    await put(letters, a_letter(1), a_letter(2, route="gone"), a_letter(3))
    status, lines = await ask(server, "POST", "/replay", {"filter": {"reason": "timeout"}})
    results = [json.loads(line) for line in re.findall(rb"\{.*\}", lines)]
    assert status == 200
    assert [(one["id"], one["outcome"]) for one in results] == [
        (1, "accepted"),
        (2, "rejected"),
        (3, "accepted"),
    ]
    assert [event.id for event in shown.intake.events] == ["1", "3"]
    assert (await ask(server, "GET", "/count"))[1] == {"count": 1}


async def test_a_replay_has_to_be_told_what_and_how_fast(server, shown, letters):
    await put(letters, a_letter(1))
    for wrong in (
        {},
        {"ids": [1], "filter": {}},
        {"filter": {"rout": "r"}},
        {"ids": [1], "rate": 0},
        {"ids": [0]},
        {"idz": [1]},
    ):
        assert (await ask(server, "POST", "/replay", wrong))[0] == 422
    # What a foreign page could send without asking first.
    assert (await ask(server, "POST", "/replay", {"ids": [1]}, Content_Type="text/plain"))[0] == 422
    assert shown.intake.events == []
    assert (await ask(server, "POST", "/replay", {"ids": [1], "rate": 5}))[0] == 200
    assert len(shown.intake.events) == 1


async def test_hanging_up_ends_a_replay(server, shown, letters):
    await put(letters, *(a_letter(n) for n in range(50)))
    body = b'{"filter": {}, "rate": 1}'
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(
        b"POST /api/v1/dead-letters/replay HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    await reader.readuntil(b'"outcome"')
    writer.close()
    await writer.wait_closed()
    await ask(server, "GET", "/count")
    await shown.intake.wait_for(lambda one: len(one.events) >= 1)
    before = len(shown.intake.events)
    with pytest.raises(TimeoutError):
        await shown.intake.wait_for(lambda one: len(one.events) > before + 1, seconds=2.5)


@pytest.mark.parametrize(
    ("listen", "token", "brings", "status"),
    [
        ("127.0.0.1", None, None, 200),
        ("0.0.0.0", None, None, 403),
        ("0.0.0.0", None, "Bearer x", 403),
        ("0.0.0.0", "x", None, 401),
        ("0.0.0.0", "x", "Bearer y", 401),
        ("0.0.0.0", "x", "Basic x", 401),
        ("0.0.0.0", "x", "Bearer x", 200),
        ("127.0.0.1", "x", None, 401),
        ("127.0.0.1", "x", "bearer x", 200),
    ],
)
async def test_who_may_write(shown, letters, listen, token, brings, status):
    secret = None if token is None else SecretStr(token)
    server = AdminServer(shown, Address(listen, 0), secret)
    await server.open()
    headers = {} if brings is None else {"Authorization": brings}
    try:
        assert (await ask(server, "DELETE", "?all=true", **headers))[0] == status
        assert (await ask(server, "POST", "/replay", {"filter": {}}, **headers))[0] == status
        await put(letters, a_letter(1))
        number = (await letters.page()).letters[0].id
        assert (await ask(server, "DELETE", f"/{number}", **headers))[0] == status
        assert (await ask(server, "GET", "/count", **headers))[0] == 200
    finally:
        await server.close()


async def test_a_gateway_without_dead_letters_says_404_and_a_broken_store_503(
    server, shown, letters
):
    kept, shown.dead_letters = shown.dead_letters, None
    status, body = await ask(server, "GET", "")
    assert status == 404
    assert "delivery.dead_letters" in body["detail"]
    shown.dead_letters = kept
    kept.close()
    for target in ("", "/1", "/count", "/export"):
        assert (await ask(server, "GET", target))[0] == 503
    assert (await ask(server, "DELETE", "?all=true"))[0] == 503
    status, lines = await ask(server, "POST", "/replay", {"filter": {}})
    assert b'{"error":"the dead letters are closed"}' in lines


async def test_the_openapi_document_names_the_dead_letters_and_the_token(server):
    _, _, body = await get(server, "/api/v1/openapi.json")
    document = json.loads(body)
    paths = document["paths"]
    assert {"get", "delete"} == set(paths["/api/v1/dead-letters"])
    assert {"get", "delete"} == set(paths["/api/v1/dead-letters/{number}"])
    assert paths["/api/v1/dead-letters/replay"]["post"]["security"]
    assert "security" not in paths["/api/v1/dead-letters"]["get"]
