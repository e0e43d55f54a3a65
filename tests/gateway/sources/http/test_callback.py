"""Consent by callback to a webhook's sender: who is called, and with what."""

import asyncio
import logging
import ssl

import pytest

from tests.gateway.scripted_http import OK, Script, answer


@pytest.fixture
async def sender():
    script = await Script().start()
    yield script
    await script.close()


def options(callback, *fields, origin=b"good.example.com"):
    lines = [b"OPTIONS / HTTP/1.1", b"Host: x", b"WebHook-Request-Origin: " + origin, *fields]
    lines.append(b"WebHook-Request-Callback: " + callback)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def address(sender):
    return f"http://127.0.0.1:{sender.port}"


# WH-VRS-002, WH-VAL-006, WH-RAT-003
async def test_consent_is_withheld_in_the_answer_and_given_by_a_post(start, connect, sender):
    source, _ = await start(
        callbacks=[address(sender)], allowed_rate=120, allowed_origins=["good.example.com"]
    )
    client = await connect(source)
    url = f"{address(sender)}/confirm?id=1&key=s3cret".encode()
    reply = await client.ask(options(url, b"WebHook-Request-Rate: 60"))
    assert (reply.status, reply.fields["allow"]) == (200, "POST, OPTIONS")
    assert not [name for name in reply.fields if name.startswith("webhook")]
    await sender.wait_for(1)
    (request,) = sender.requests
    assert request.line == "POST /confirm?id=1&key=s3cret HTTP/1.1"
    assert request.lines == [
        f"Host: 127.0.0.1:{sender.port}",
        "WebHook-Allowed-Origin: good.example.com",
        "WebHook-Allowed-Rate: 60",
        "Content-Length: 0",
        "Connection: close",
    ]


# WH-VAL-008: no request to an address of a stranger's choice; consent is in the answer then.
@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("127.0.0.1", "localhost"),
        lambda url: url.replace("http:", "https:"),
        lambda url: url.replace("127.0.0.1", "a@127.0.0.1"),
        lambda url: url.replace("http://", "//"),
        lambda url: url.rpartition(":")[0] + "/",
        lambda url: "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_other_addresses_are_not_called(start, connect, sender, change):
    source, _ = await start(callbacks=[address(sender)])
    client = await connect(source)
    reply = await client.ask(options(change(address(sender)).encode()))
    assert reply.fields["webhook-allowed-origin"] == "*"
    await client.ask(options(f"{address(sender)}/marker".encode()))
    await sender.wait_for(1)
    assert [request.line for request in sender.requests] == ["POST /marker HTTP/1.1"]


async def test_nobody_is_called_by_default_nor_for_a_sender_without_consent(start, connect, sender):
    url = f"{address(sender)}/".encode()
    source, _ = await start()
    reply = await (await connect(source)).ask(options(url))
    assert reply.fields["webhook-allowed-origin"] == "*"
    source, _ = await start(callbacks=[address(sender)], allowed_origins=["good.example.com"])
    client = await connect(source)
    reply = await client.ask(options(url, origin=b"evil.example.com"))
    assert "webhook-allowed-origin" not in reply.fields
    await client.ask(options(url + b"marker"))
    await sender.wait_for(1)
    assert [request.line for request in sender.requests] == ["POST /marker HTTP/1.1"]


async def test_a_call_under_way_is_not_repeated_and_there_are_only_so_many(start, connect, sender):
    release = asyncio.Event()

    async def reply():
        await release.wait()
        return OK

    sender.reply = lambda _: reply()
    source, _ = await start(callbacks=[address(sender)])
    client = await connect(source)
    for number in range(20):
        for _ in range(2):
            await client.ask(options(f"{address(sender)}/{number}".encode()))
    await sender.wait_for(16)
    assert sorted(request.line for request in sender.requests) == sorted(
        f"POST /{number} HTTP/1.1" for number in range(16)
    )
    release.set()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(403), "it answered 403"),
        (answer(302, b"Location: /other"), "it answered 302"),
        ((b"", "close"), "0 bytes read"),
        ((b"SSH-2.0-x\r\n", "close"), "no HTTP answer"),
        ((b"x" * 100_000, "close"), ""),
    ],
)
async def test_a_call_that_fails_is_one_line_without_the_secret(
    start, connect, sender, caplog, reply, why
):
    caplog.set_level(logging.INFO, "gateway.sources.http.callback")
    sender.reply = lambda _: reply
    source, _ = await start(callbacks=[address(sender)])
    client = await connect(source)
    for number in range(1, 4):
        await client.ask(options(f"{address(sender)}/?key=s3cret{number}".encode()))
        await sender.wait_for(number)
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"no consent given at {address(sender)}: ")
    assert why in record.getMessage()
    assert "s3cret" not in caplog.text


async def test_https_with_a_certificate_that_is_checked(
    start, connect, certificates, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "gateway.sources.http.callback")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    sender = await Script().start(context)
    url = f"https://localhost:{sender.port}"
    source, _ = await start(callbacks=[url])
    client = await connect(source)
    await client.ask(options(f"{url}/a".encode()))
    async with asyncio.timeout(10):
        while "CERTIFICATE_VERIFY_FAILED" not in caplog.text:
            await asyncio.sleep(0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    source, _ = await start(callbacks=[url])
    client = await connect(source)
    await client.ask(options(f"{url}/b".encode()))
    await sender.wait_for(1)
    assert sender.requests[0].line == "POST /b HTTP/1.1"
    await sender.close()


async def test_closing_gives_up_calls_under_way(start, connect, sender):
    sender.reply = lambda _: (b"", "stall")
    source, _ = await start(callbacks=[address(sender)])
    await (await connect(source)).ask(options(f"{address(sender)}/".encode()))
    await sender.wait_for(1)
    async with asyncio.timeout(5):
        await source.close()


async def test_certificates_are_read_once_not_for_each_call(start, connect, monkeypatch):
    made = []

    def create_default_context():
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    attempts = 0
    reached = asyncio.Event()

    def count(_reader, writer):
        nonlocal attempts
        attempts += 1
        writer.close()
        reached.set()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    source, _ = await start(callbacks=[url])
    client = await connect(source)
    for number in range(3):
        reached.clear()
        await client.ask(options(f"{url}/{number}".encode()))
        async with asyncio.timeout(10):
            await reached.wait()
    server.close()
    assert attempts == 3
    assert len(made) == 1
