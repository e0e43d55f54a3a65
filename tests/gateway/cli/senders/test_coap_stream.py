"""The CoAP client of `send` over connections, against aiocoap and scripted servers."""

import asyncio
import json
import re
import ssl
from contextlib import asynccontextmanager, suppress
from unittest.mock import ANY

import aiocoap
import aiocoap.resource
import pytest
import websockets.asyncio.server
from aiocoap.numbers import Code
from aiocoap.transports.tcp import TCPServer
from aiocoap.transports.tls import TLSServer
from aiocoap.transports.ws import WSPool

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.coap import CoapSender
from gateway.config.records import TlsConfig
from tests.gateway.cli.processes import ce_gateway
from tests.gateway.sources.coap.stream_device import LOOPBACK, listening
from tests.gateway.stepped import HurriedLoop
from tests.helpers import RecordingIntake, make_certificates

EVENT = Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b"{}")
SCHEMES = ["coap+tcp", "coaps+tcp", "coap+ws", "coaps+ws"]
ANSWER = bytes.fromhex("0444")  # 2.04 with a token of 4 bytes
SERVER_CSM = bytes.fromhex("30e1220bb8")  # Max-Message-Size 3000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Script:
    """A server that says what it is told to and keeps what it hears."""

    def __init__(self, *said, answer=None):
        self.said, self.answer = said, answer
        self.heard = bytearray()
        self.ended = asyncio.Event()

    async def serve(self, reader, writer):
        writer.write(b"".join(self.said))
        with suppress(ConnectionError):  # the client may go before it has read all
            while data := await reader.read(65536):
                self.heard += data
                if self.answer is not None:
                    writer.write(self.answer(data))
        writer.close()
        self.ended.set()


@asynccontextmanager
async def scripted(*said, answer=None, scheme="coap+tcp", path="/ce", **options):
    script = Script(*said, answer=answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield CoapSender(f"{scheme}://127.0.0.1:{port}{path}", SendOptions(**options)), script
    finally:
        server.close()
        await server.wait_closed()


def changed(data):
    """Answer the request at the end of what was read; its token follows its code."""
    found = re.search(rb"\x02(.{4})\xb2ce", data, re.DOTALL)
    return ANSWER + found[1] if found else b""


async def test_csm_request_and_release_are_those_of_rfc_8323():
    async with scripted(SERVER_CSM, answer=changed) as (sender, script):
        await sender.open()
        assert await sender.send(EVENT) == "2.04 Changed"
        await sender.close()
        await script.ended.wait()
    assert script.heard[:2] == b"\x00\xe1"
    request = script.heard[2:-2]
    # 21 bytes of options, marker and payload; the length of 13 and more has a byte of its own.
    assert request[:3] == b"\xd4\x08\x02"
    assert request[7:] == b"\xb2ce\x112\x33i=1\x04s=/s\x03t=t\xff{}"
    assert script.heard[-2:] == b"\x00\xe4"


async def test_a_ping_is_answered_and_answers_may_come_in_any_order():
    tokens = []

    def answer(data):
        found = re.findall(rb"\x02(.{4})\xb2ce", data, re.DOTALL)
        tokens.extend(found)
        if not found or len(tokens) < 2:
            return b""
        first, second = tokens
        return b"\x01\xe2\x09" + ANSWER + second + b"\x34\x80" + first + b"\xffno"

    async with scripted(SERVER_CSM, answer=answer) as (sender, script):
        await sender.open()
        results = await asyncio.gather(
            sender.send(EVENT), sender.send(EVENT), return_exceptions=True
        )
        await sender.close()
        await script.ended.wait()
    assert [str(result) for result in results] == ["4.00 Bad Request: no", "2.04 Changed"]
    assert b"\x01\xe3\x09" in script.heard


async def test_what_the_server_s_csm_does_not_allow_goes_in_blocks():
    seen = []

    def answer(data):
        seen.append(data)
        found = re.search(rb"\x02(.{4})\xb2ce", data, re.DOTALL)
        code = b"\x5f" if b"\xd1\x03\x0e" in data or b"\xd1\x03\x1e" in data else b"\x44"
        return b"\x04" + code + found[1] if found else b""

    async with scripted(SERVER_CSM, answer=answer) as (sender, script):
        await sender.open()
        assert await sender.send(Plain(bytes(2900))) == "2.04 Changed"
        whole = len(seen)
        assert await sender.send(Plain(bytes(3000))) == "2.04 Changed"
        await sender.close()
    assert script.heard.count(b"\xb2ce") == 4  # 2900 bytes at once, 3000 in three blocks
    assert whole >= 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\x00\xe5", "^aborted$"),
        (b"\x30\xe5\xffno", "^aborted: no$"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no CSM within 10 s|no CoAP"),
        (b"\x09\xe1" + bytes(9), "no CoAP: reserved token length"),
        (b"\xf0\xff\xff\xff\xff\xe1", "no CoAP: an answer that is too large"),
        (b"\x10\xe1\xff", "no CoAP: a payload marker without payload"),
        (b"", r"no CSM within 10 s; does CoAP listen there\?"),
    ],
)
@pytest.mark.loop(factory=HurriedLoop)
async def test_a_server_that_speaks_otherwise_is_told(said, words):
    async with scripted(said, timeout=10) as (sender, script):
        with pytest.raises(SendError, match=words):
            await open_and_send(sender)
        await sender.close()
        await script.ended.wait()


async def open_and_send(sender):
    await sender.open()
    await sender.send(EVENT)


async def test_a_connection_that_ends_fails_what_waits_and_what_follows():

    def abort(data):
        return b"\x00\xe5" if b"ce" in data else b""

    async with scripted(SERVER_CSM, answer=abort) as (sender, _):
        await sender.open()
        for _ in range(2):
            with pytest.raises(SendError, match="aborted"):
                await sender.send(EVENT)
        await sender.close()


@pytest.mark.loop(factory=HurriedLoop)
async def test_no_answer_in_time_is_told():
    async with scripted(SERVER_CSM, timeout=10) as (sender, script):
        await sender.open()
        with pytest.raises(SendError, match="no answer within 10 s"):
            await sender.send(EVENT)
        await sender.close()
        await script.ended.wait()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nobody_listening_is_told_at_once(scheme):
    with pytest.raises(SendError, match=r"127\.0\.0\.1:1: "):
        await CoapSender(f"{scheme}://127.0.0.1:1", SendOptions()).open()


async def test_a_web_server_that_has_no_coap_is_told():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SendError, match="HTTP 404"):
        await CoapSender(f"coap+ws://127.0.0.1:{port}", SendOptions()).open()
    server.close()
    await server.wait_closed()


async def test_a_text_message_is_no_coap():
    async def serve(socket):
        await socket.send("hello")
        await socket.wait_closed()

    async with websockets.asyncio.server.serve(
        serve, "127.0.0.1", 0, subprotocols=["coap"]
    ) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SendError, match="no CoAP: a text message"):
            await CoapSender(f"coap+ws://127.0.0.1:{port}", SendOptions()).open()


def foreign_server(scheme, certificates):
    """How aiocoap opens a server for a scheme; its own way binds to fixed ports."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    return {
        "coap+tcp": (TCPServer, {}),
        "coaps+tcp": (TLSServer, {"server_context": context}),
        "coap+ws": (WSPool, {"client_credentials": None}),
    }[scheme]


@asynccontextmanager
async def aiocoap_server(scheme, certificates, received):
    class Resource(aiocoap.resource.Resource):
        async def render_post(self, request):
            received.append((request.opt.uri_query, len(request.payload)))
            return aiocoap.Message(code=Code.CHANGED)

    site = aiocoap.resource.Site()
    site.add_resource(["ce"], Resource())
    # No server context: an empty list of transports stands for all of them, on their usual ports.
    context = aiocoap.Context(loop=asyncio.get_running_loop(), serversite=site)
    kind, options = foreign_server(scheme, certificates)
    if kind is WSPool:
        arguments = {"server_bind": ("127.0.0.1", 0), **options}
        await context._append_tokenmanaged_transport(
            lambda manager: WSPool.create_transport(manager, context.log, context.loop, **arguments)
        )
        pool = context.request_interfaces[-1].token_interface
        port = pool._servers[0].sockets[0].getsockname()[1]
    else:
        await context._append_tokenmanaged_transport(
            lambda manager: kind.create_server(
                ("127.0.0.1", 0), manager, context.log, context.loop, **options
            )
        )
        server = context.request_interfaces[-1].token_interface.server
        port = server.sockets[0].getsockname()[1]
    try:
        yield port
    finally:
        await context.shutdown()


@pytest.mark.parametrize("scheme", ["coap+tcp", "coaps+tcp", "coap+ws"])
async def test_aiocoap_takes_small_and_large_events(scheme, certificates):
    received = []
    async with aiocoap_server(scheme, certificates, received) as port:
        sender = CoapSender(f"{scheme}://localhost:{port}/ce", SendOptions(ca=certificates.ca))
        await sender.open()
        assert await sender.send(EVENT) == "2.04 Changed"
        assert await sender.send(Plain(bytes(300_000))) == "2.04 Changed"
        await sender.close()
    assert received == [(("i=1", "s=/s", "t=t"), 2), ((), 300_000)]


async def send(*arguments):
    async with ce_gateway("send", *map(str, arguments)) as process:
        out, err = await process.communicate()
        return process.returncode, json.loads(out) if out else {}, err.decode()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_command_sends_to_the_gateway_over_each_kind_of_connection(scheme, certificates):
    names = dict(zip(SCHEMES, ("listen_tcp", "listen_tls", "listen_ws", "listen_wss"), strict=True))
    own = certificates
    changes, options = {"listen_tcp": None, names[scheme]: LOOPBACK}, ()
    if scheme.startswith("coaps"):
        changes["tls"] = TlsConfig(cert=own.server_cert, key=own.server_key, ca=own.ca)
        options = ("--ca", own.ca, "--cert", own.client_cert, "--key", own.client_key)
    intake = RecordingIntake()
    async with listening(intake, **changes) as source:
        url = f"{scheme}://localhost:{source.stream_addresses[scheme].port}"
        load = (*options, "--type", "t", "--json", "-n", "20", "--concurrency", "10")
        code, tally, _ = await send(url, "--size", "70000", *load)
        words = "4.13 Request Entity Too Large (at most 65536 bytes)"
        assert (code, tally["failures"]) == (1, {words: 20})
        assert await send(f"{url}/ce", "--size", "40000", *load) == (0, ANY, "")
        code, tally, _ = await send(url, "--mode", "structured", *load)
        assert (code, tally["answers"]) == (0, {"2.04 Changed": 20})
    assert len(intake.events) == 40
