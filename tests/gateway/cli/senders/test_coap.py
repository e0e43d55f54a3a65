"""The CoAP client of `send`, against a scripted server that is no code of ours."""

import asyncio
import socket

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers import Code

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.coap import CoapSender

EVENT = Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b"{}")


class Server(asyncio.DatagramProtocol):
    """Answers each datagram by a function of it; remembers what came."""

    def __init__(self, answer):
        self.answer = answer
        self.received = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.received.put_nowait(data)
        for reply in self.answer(data):
            self.transport.sendto(reply, addr)


class Sending:
    def __init__(self, answer, *, path="/ce", **options):
        self.answer, self.path, self.options = answer, path, options

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, server = await loop.create_datagram_endpoint(
            lambda: Server(self.answer), local_addr=("127.0.0.1", 0)
        )
        port = self.transport.get_extra_info("sockname")[1]
        self.sender = CoapSender(f"coap://127.0.0.1:{port}{self.path}", SendOptions(**self.options))
        await self.sender.open()
        return self.sender, server

    async def __aexit__(self, *_):
        await self.sender.close()
        self.transport.close()


def piggybacked(code):
    """Answer in the ACK: type and token length, code, the request's message id and token."""
    return lambda data: [bytes((0x60 | data[0] & 15, code)) + data[2 : 4 + (data[0] & 15)]]


async def test_an_event_is_one_con_with_short_queries():
    async with Sending(piggybacked(0x44)) as (sender, server):
        assert await sender.send(EVENT) == "2.04 Changed"
        request = await server.received.get()
    assert request[:2] == b"\x44\x02"
    assert request[8:] == b"\xb2ce\x112\x33i=1\x04s=/s\x03t=t\xff{}"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", b"\xb2ce"),
        ("/", b"\xb2ce"),
        ("/t", b"\xb1t"),
        ("/a/b%2Fc", b"\xb1a\x03b/c"),
        ("/t?j=a%26b&x%3Dy", b"\xb1t\x45j=a&b\x03x=y"),
    ],
)
async def test_path_and_query_become_options(url, options):
    async with Sending(piggybacked(0x44), path=url) as (sender, server):
        await sender.send(Plain(b"1"))
        request = await server.received.get()
    assert request[8:] == options + b"\xff1"


async def test_a_structured_event_goes_to_the_structured_resource():
    async with Sending(piggybacked(0x44), mode="structured") as (sender, server):
        await sender.send(EVENT)
        request = await server.received.get()
    assert request[8:17] == b"\xb2ce\x01s\x112\xff{"


async def test_a_separate_answer_is_acknowledged_again_when_it_is_repeated():
    def answer(data):
        if data[:2] == b"\x44\x02":
            answer.separate = b"\x44\x44\x7d\x01" + data[4:8]
            return [b"\x60\x00" + data[2:4], answer.separate]
        if answer.separate:  # the first acknowledgement, said to be lost
            again, answer.separate = answer.separate, b""
            return [again, b"\x40\x44\x7d\x02"]
        return []

    async with Sending(answer) as (sender, server):
        assert await sender.send(EVENT) == "2.04 Changed"
        replies = [(await server.received.get())[:4] for _ in range(4)]
    assert replies[1:] == [b"\x60\x00\x7d\x01", b"\x60\x00\x7d\x01", b"\x70\x00\x7d\x02"]


async def test_a_request_that_is_acknowledged_is_not_repeated():
    async with Sending(lambda data: [b"\x60\x00" + data[2:4]], timeout=3.2) as (sender, server):
        with pytest.raises(SendError, match="no answer"):
            await sender.send(EVENT)
    assert server.received.qsize() == 1


async def test_a_con_without_answer_is_repeated_with_the_same_bytes():
    seen = []

    def answer(data):
        seen.append(data)
        return piggybacked(0x44)(data) if len(seen) == 2 else []

    async with Sending(answer) as (sender, _):
        assert await sender.send(EVENT) == "2.04 Changed"
    assert seen[0] == seen[1]


async def test_a_non_is_sent_as_such_and_answered_by_its_token():
    def answer(data):
        return [b"\x54\x44\x00\x09" + data[4:8]]

    async with Sending(answer, confirmable=False) as (sender, server):
        assert await sender.send(EVENT) == "2.04 Changed"
        assert (await server.received.get())[0] == 0x54


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda data: [b"\x70\x00" + data[2:4]], "reset"),
        (lambda data: [b"\x64\xa3" + data[2:8] + b"\xd1\x01\x2d"], "5.03.*again in 45 s"),
        (lambda data: [b"\x64\x80" + data[2:8] + b"\xffno type"], "4.00 Bad Request: no type"),
        (lambda data: [b"\x64\x8d" + data[2:8] + b"\xd2\x2f\x03\xe8"], "at most 1000 bytes"),
        (lambda data: [b"\x64\x9e" + data[2:8]], "4.30"),
        (lambda _: [b"\x40", b"\x40\x20\x00\x01", b"\x60\x00\xff\xff"], "no answer within 0.3 s"),
    ],
)
async def test_a_refusal_is_told_in_the_server_s_words(answer, words):
    waits = "no answer" in words
    async with Sending(answer, timeout=0.3 if waits else 20) as (sender, _):
        with pytest.raises(SendError, match=words):
            await sender.send(EVENT)


async def test_nobody_listening_is_told_at_once():
    sender = CoapSender("coap://127.0.0.1:1", SendOptions())
    await sender.open()
    with pytest.raises(SendError, match="listen"):
        await sender.send(EVENT)
    await sender.close()


async def test_what_can_t_be_opened_is_told():
    with pytest.raises(SendError):
        await CoapSender("coap://no host", SendOptions()).open()


async def test_what_does_not_fit_into_a_query_is_told():
    async with Sending(piggybacked(0x44)) as (sender, _):
        with pytest.raises(SendError, match="structured"):
            await sender.send(EVENT.replace(subject="x" * 300))


async def test_closing_ends_what_waits():
    async with Sending(lambda _: []) as (sender, server):
        waiting = asyncio.ensure_future(sender.send(EVENT))
        await server.received.get()
        await sender.close()
        with pytest.raises(SendError, match="closed"):
            await waiting


async def test_a_large_payload_goes_in_blocks_that_aiocoap_puts_together():
    received = []

    class Resource(aiocoap.resource.Resource):
        async def render_post(self, request):
            received.append(request.payload)
            return aiocoap.Message(code=Code.CHANGED)

    site = aiocoap.resource.Site()
    site.add_resource(["ce"], Resource())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    server = await aiocoap.Context.create_server_context(
        site, bind=("::1", port), transports=["udp6"]
    )
    try:
        sender = CoapSender(f"coap://[::1]:{port}/ce", SendOptions())
        await sender.open()
        for size in (1024, 1025, 2048, 65536):
            assert await sender.send(Plain(bytes(size))) == "2.04 Changed"
        await sender.close()
    finally:
        await server.shutdown()
    assert [len(payload) for payload in received] == [1024, 1025, 2048, 65536]
