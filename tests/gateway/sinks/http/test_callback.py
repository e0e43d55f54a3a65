"""Consent by callback, given over raw sockets (http-webhook.md 4.1.3)."""

import asyncio
import contextlib
import logging
import re
import ssl
from urllib.parse import parse_qs, urlsplit

import pytest

from bindings.event import Event
from gateway.delivery import Outcome, Reason
from gateway.lane import Lane, Way
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.sinks.http import HttpSink, HttpSinkConfig, callback
from gateway.target import Target
from tests.gateway.scripted_http import OK, Script, answer
from tests.helpers import Answers

NO_CONSENT = answer(200, b"Allow: POST")
CONSENT = answer(200, b"WebHook-Allowed-Origin: gw.example.com", b"WebHook-Allowed-Rate: *")
TOO_MANY = answer(429, b"Retry-After: 100")


@pytest.fixture
async def receiver():
    script = await Script().start()
    script.reply = lambda r: NO_CONSENT if r.line.startswith("OPTIONS") else OK
    yield script
    await script.close()


@pytest.fixture
async def start(receiver):
    running = []

    async def start(*, tls=None, **webhook):
        table = {"url": "https://gw.example.com/consent?a=b", "listen": "127.0.0.1:0", "tls": tls}
        config = HttpSinkConfig(
            name="out/1",
            url=receiver.url,
            webhook={"origin": "gw.example.com", "callback": table, **webhook},
        )
        sink = HttpSink(config)
        running.append(sink)
        await sink.open()
        return sink

    yield start
    for sink in running:
        await sink.close()


def event(number):
    return Event(id=str(number), source="/s", type="t", data=b"{}", datacontenttype="text/json")


async def call(sink, data, context=None):
    """Send bytes to the callback listener; returns what comes back before it closes."""
    port = sink._webhook._callback.address.port
    host = "localhost" if context else "127.0.0.1"
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(url, *fields, method="GET"):
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


async def asked(sink, receiver, request=-1):
    """Let the sink ask; returns the callback's address that it gave."""
    assert await sink.send([event(1)]) != []
    return receiver.requests[request].fields["webhook-request-callback"]


# WH-VAL-004, WH-VAL-007
async def test_the_address_has_an_identifier_and_a_secret_of_256_bits(receiver, start, caplog):
    caplog.set_level(logging.DEBUG)
    sink, other = await start(), await start()
    url = await asked(sink, receiver)
    assert url.startswith("https://gw.example.com/consent?a=b&id=out%2F1&key=")
    (key,) = parse_qs(urlsplit(url).query)["key"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key)
    assert key not in (await asked(other, receiver))
    assert key not in caplog.text
    assert "may still come by callback" in caplog.text


# WH-VAL-005; WH-VRS-002: nothing is sent before.
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_get_and_post_grant(receiver, start, method):
    sink = await start()
    url = await asked(sink, receiver)
    data = await call(sink, request(url, "Content-Length: 0", method=method))
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in data
    assert b"Connection: close\r\n" in data
    assert await sink.send([event(2)]) == []
    assert [r.line.split()[0] for r in receiver.requests] == ["OPTIONS", "POST"]
    assert receiver.requests[-1].fields["webhook-request-origin"] == "gw.example.com"


async def test_an_address_grants_once(receiver, start):
    sink = await start()
    url = await asked(sink, receiver)
    assert b" 200 " in await call(sink, request(url))
    assert (await call(sink, request(url))).startswith(b"HTTP/1.1 403 ")


async def test_the_address_stays_the_same_until_it_is_used_and_is_new_after_that(receiver, start):
    sink = await start(ask_again=0.01, valid_for=0.05)
    url = await asked(sink, receiver)
    async with asyncio.timeout(10):
        while len(receiver.requests) < 2:
            await sink.send([event(1)])
    assert receiver.requests[1].fields["webhook-request-callback"] == url
    assert b" 200 " in await call(sink, request(url))
    count = len(receiver.requests)
    async with asyncio.timeout(10):
        while not [r for r in receiver.requests[count:] if r.line.startswith("OPTIONS")]:
            await sink.send([event(1)])
    assert receiver.requests[-1].fields["webhook-request-callback"] != url


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda url: url[:-1] + ("A" if url[-1] != "A" else "B"), 403),
        (lambda url: url.split("&key=")[0], 403),
        (lambda url: url.split("&key=")[0] + "&key=", 403),
        (lambda url: url + "&key=x", 403),
        (lambda url: url.split("&key=")[0] + "&key=%ff%00", 403),
    ],
)
async def test_a_wrong_key_grants_nothing(receiver, start, change, status):
    sink = await start()
    url = await asked(sink, receiver)
    data = await call(sink, request(change(url)))
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert await sink.send([event(2)]) != []
    assert b" 200 " in await call(sink, request(url))


async def test_no_key_grants_before_the_receiver_was_asked(start):
    sink = await start()
    assert b" 403 " in await call(sink, request("https://gw.example.com/?key="))


# WH-VAL-006, WH-RAT-003
async def test_the_rate_may_come_with_the_callback(receiver, start):
    sink = await start(rate=600_000)
    url = await asked(sink, receiver)
    assert b" 200 " in await call(sink, request(url, "WebHook-Allowed-Rate: 1"))
    assert await sink.send([event(2)]) == []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sink.send([event(3)])


# WH-RAT-004
async def test_without_a_rate_the_one_asked_for_is_meant(receiver, start):
    sink = await start(rate=1)
    url = await asked(sink, receiver)
    assert b" 200 " in await call(sink, request(url))
    assert await sink.send([event(2)]) == []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sink.send([event(3)])


# WH-RAT-005
async def test_a_wrong_rate_is_no_consent_and_may_be_corrected(receiver, start):
    sink = await start()
    url = await asked(sink, receiver)
    assert b" 400 " in await call(sink, request(url, "WebHook-Allowed-Rate: 0"))
    assert await sink.send([event(2)]) != []
    assert b" 200 " in await call(sink, request(url, "WebHook-Allowed-Rate: *"))
    assert await sink.send([event(2)]) == []


async def test_a_callback_that_overtakes_the_answer_counts(receiver, start):
    sink = await start()

    async def grant_then_answer(options):
        await call(sink, request(options.fields["webhook-request-callback"]))
        return NO_CONSENT

    receiver.reply = lambda r: grant_then_answer(r) if r.line.startswith("OPTIONS") else OK
    assert await sink.send([event(1)]) == []
    async with asyncio.timeout(10):
        while sink._webhook.asking:
            await asyncio.sleep(0)
    assert await sink.send([event(2)]) == []


async def test_other_methods_are_refused_with_those_that_grant(receiver, start):
    sink = await start()
    url = await asked(sink, receiver)
    data = await call(sink, request(url, method="DELETE"))
    assert data.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, POST\r\n" in data


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b" 4"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, b""),
    ],
)
async def test_what_is_no_request_grants_nothing_and_is_closed(start, data, status, caplog):
    sink = await start()
    assert status in await call(sink, data)
    assert "Traceback" not in caplog.text


async def test_a_caller_that_says_nothing_is_dropped(start, monkeypatch):
    monkeypatch.setattr(callback, "_SECONDS", 0.05)
    sink = await start()
    assert await call(sink, b"GET / HT") == b""


async def test_a_caller_that_says_nothing_is_dropped_by_a_process_that_stood_still(
    start, monkeypatch
):
    """It stands still between the two steps in which the loop takes a connection."""
    monkeypatch.setattr(callback, "_SECONDS", 0.05)
    sink = await start()
    made = callback._Connection.connection_made

    def connection_made(connection, transport):
        asyncio.get_running_loop().call_later(0.1, made, connection, transport)

    monkeypatch.setattr(callback._Connection, "connection_made", connection_made)
    assert await call(sink, b"") == b""


async def test_tls(receiver, start, certificates):
    sink = await start(tls={"cert": certificates.server_cert, "key": certificates.server_key})
    url = await asked(sink, receiver)
    context = ssl.create_default_context(cafile=certificates.ca)
    assert b" 200 " in await call(sink, request(url), context)
    assert await sink.send([event(2)]) == []


async def test_closing_closes_the_port_and_the_connections(start, caplog):
    sink = await start()
    port = sink._webhook._callback.address.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET")
    async with asyncio.timeout(10):
        while not sink._webhook._callback.connections:
            await asyncio.sleep(0)
        await sink.close()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert caplog.text == ""


async def test_what_was_refused_goes_at_once_when_consent_comes(receiver, start):
    sink = await start()
    answers = Answers()
    lane = Lane(
        Target(name="out", sink=sink, address="http://sink/"),
        Way(route="route", policy=RetryPolicy(retry=1)),
        metrics=(SinkMetrics(), RouteMetrics()),
        on_done=lambda _: None,
    )
    lane.start()
    lane.put([answers.delivery(event(n)) for n in range(3)])
    await receiver.wait_for(1)
    async with asyncio.timeout(10):
        while sink._webhook._refusal is None:
            await asyncio.sleep(0)
    url = receiver.requests[0].fields["webhook-request-callback"]
    await call(sink, request(url))
    async with asyncio.timeout(10):
        await answers.count(3)
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}
    await lane.close()


async def test_a_late_callback_does_not_shorten_retry_after(receiver, start):
    receiver.reply = lambda r: CONSENT if r.line.startswith("OPTIONS") else TOO_MANY
    sink = await start()
    url = await asked(sink, receiver, request=0)
    await call(sink, request(url))
    (failure,) = await sink.send([event(2)])
    assert failure.reason is Reason.HELD
    assert failure.retry_after > 90
    assert len(receiver.requests) == 2


async def test_retry_after_counts_although_there_was_no_consent_before(receiver, start):
    sink = await start()
    url = await asked(sink, receiver)
    await call(sink, request(url))
    receiver.reply = lambda _: answer(429, b"Retry-After: 30")
    assert await sink.send([event(2)]) != []
    (failure,) = await sink.send([event(3)])
    assert 20 < failure.retry_after <= 30
    assert len(receiver.requests) == 2
