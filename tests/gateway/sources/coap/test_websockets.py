"""CoAP over WebSockets, byte by byte, and with aiocoap and `websockets` as clients."""

import asyncio
import logging
import random
import socket
import ssl

import pytest
import websockets.asyncio.client
from aiocoap.numbers import Code

from gateway.config.records import TlsConfig
from gateway.delivery import ACCEPTED
from gateway.sources.coap import CoapSource
from tests.gateway.sources.coap.device import CountingIntake, config
from tests.gateway.sources.coap.foreign_client import aiocoap_client, ask
from tests.gateway.sources.coap.stream_device import LOOPBACK
from tests.gateway.sources.coap.websocket_device import (
    BINARY,
    CHANGED,
    CLOSE,
    CONTINUATION,
    CSM,
    PING,
    PONG,
    POST_T,
    SERVER_CSM,
    TEXT,
    connected,
    fields,
    frame,
    handshake,
    listening_ws,
    message,
    websocket,
)
from tests.gateway.stepped import HurriedLoop
from tests.helpers import RecordingIntake, make_certificates

POST, RELEASE, ABORT = 0x02, 0xE4, 0xE5
NORMAL, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1000, 1002, 1007, 1009


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def over_tls(certificates, **changes):
    files = {"cert": certificates.server_cert, "key": certificates.server_key}
    return {"listen_ws": None, "listen_wss": LOOPBACK, "tls": TlsConfig(**files, **changes)}


def client_context(certificates):
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return context


# --- requests ---------------------------------------------------------------------------------


async def test_a_message_in_a_frame_is_answered_in_a_frame_of_its_own():
    intake = RecordingIntake()
    async with listening_ws(intake) as source, websocket(source) as line:
        assert await line.ask(POST_T) == CHANGED
        big = message(POST, options=b"\xb1t", payload=bytes(60_000))
        assert await line.ask(big) == CHANGED
        longer = message(POST, options=b"\xb1t", payload=bytes(65_536))
        assert await line.ask(longer) == CHANGED
    assert [event.source for event in intake.events] == ["coap://127.0.0.1"] * 3
    assert [len(event.data) for event in intake.events] == [7, 60_000, 65_536]


async def test_frames_that_follow_the_handshake_at_once_are_taken():
    intake = RecordingIntake()
    async with listening_ws(intake) as source, connected(source) as line:
        line.write(handshake(), frame(CSM), frame(POST_T))
        assert (await line.response())[0] == 101
        assert await line.receive() == SERVER_CSM
        assert await line.receive() == CHANGED
    assert len(intake.events) == 1


async def test_all_that_one_read_brings_is_one_submit_and_a_bad_request_hurts_no_neighbour():
    intake = CountingIntake()
    async with listening_ws(intake) as source, websocket(source) as line:
        bad = message(POST, options=b"\xb1t\x11\x32", payload=b"{", token=b"\x08")
        line.send(POST_T, bad, POST_T)
        codes = [fields(await line.receive())["code"] for _ in range(3)]
    assert sorted(codes) == ["2.04", "2.04", "4.00"]
    assert intake.lists == [2]


async def test_a_fragmented_message_with_a_ping_inside_is_put_together():
    intake = RecordingIntake()
    async with listening_ws(intake) as source, websocket(source) as line:
        line.write(
            frame(POST_T[:1], fin=False),
            frame(b"", CONTINUATION, fin=False),
            frame(b"are you there", PING),
            frame(POST_T[1:9], CONTINUATION, fin=False),
        )
        assert await line.receive_frame() == (PONG, b"are you there")
        line.write(frame(POST_T[9:], CONTINUATION))
        assert await line.receive() == CHANGED
    assert intake.events[0].data == b'{"a":1}'


async def test_bytes_may_arrive_one_by_one():
    intake = RecordingIntake()
    async with listening_ws(intake) as source, connected(source) as line:
        for octet in handshake() + frame(CSM) + frame(POST_T):
            line.write(bytes((octet,)))
            await line.writer.drain()
            await asyncio.sleep(0)
        assert (await line.response())[0] == 101
        assert await line.receive() == SERVER_CSM
        assert await line.receive() == CHANGED


async def test_the_largest_message_that_was_announced_is_taken_and_one_byte_more_is_not():
    async with listening_ws(RecordingIntake()) as source:
        async with websocket(source) as line:
            largest = message(POST, options=b"\xb1t", payload=bytes(67_584 - 6))
            assert len(largest) == 67_584
            assert fields(await line.ask(largest))["code"] == "4.13"
        async with websocket(source) as line:
            line.send(largest + b"\0")
            await line.expect_close(TOO_BIG)


async def test_coap_s_own_ping_is_answered():
    async with listening_ws(RecordingIntake()) as source, websocket(source) as line:
        assert await line.ask(bytes.fromhex("01e209")) == bytes.fromhex("01e309")


# --- the handshake ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /ce HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404),
        (handshake("GET /.well-known/core HTTP/1.1"), 404),
        (b"GET /.well-known/coap HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (handshake(Upgrade="h2c"), 426),
        (handshake(Connection="close"), 426),
        (handshake("POST /.well-known/coap HTTP/1.1"), 400),
        (handshake("GET /.well-known/coap HTTP/1.0"), 400),
        (handshake(Sec_WebSocket_Protocol=None), 400),
        (handshake(Sec_WebSocket_Protocol="mqtt"), 400),
        (handshake(Sec_WebSocket_Version="8"), 400),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key="short"), 400),
        (handshake(Content_Length="1") + b"1", 400),
        (handshake(Transfer_Encoding="chunked"), 400),
        (handshake(Origin="https://elsewhere.example"), 403),
        (handshake(Origin="https://\xff.example"), 400),
        (handshake(Cookie="x" * 20_000), 431),
        (b"x" * 20_000, 431),
        (b"\r\n\r\n", 404),
        (b"\x00\xff\x16\x03\x01\r\n\r\n", 400),
    ],
    ids=str,
)
async def test_what_opens_no_websocket_gets_an_http_answer_and_the_end(request_, status, caplog):
    intake = RecordingIntake()
    async with listening_ws(intake) as source, connected(source) as line:
        line.write(request_)
        got, headers, body = await line.response()
        assert got == status, body
        assert headers["connection"] == "close"
        if status == 426:
            assert headers["upgrade"] == "websocket"
        await line.expect_end()
    assert [reason for reason, _ in intake.rejections] == ["websocket_handshake"]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("origins", [["https://app.example"], ["*"]])
async def test_a_web_page_may_connect_when_its_origin_is_named(origins):
    async with listening_ws(RecordingIntake(), ws_origins=origins) as source:
        async with connected(source) as line:
            line.write(handshake(Origin="https://app.example"))
            assert (await line.response())[0] == 101
        async with connected(source) as line:
            line.write(handshake())  # no browser
            assert (await line.response())[0] == 101


async def test_who_begins_no_handshake_is_dropped_in_time():
    intake = RecordingIntake()
    async with listening_ws(intake, message_timeout=0.05) as source, connected(source) as line:
        line.write(b"GET /.well-known/coap HTTP/1.1\r\n")
        await line.expect_end()


async def test_who_is_refused_and_stays_is_dropped():
    async with listening_ws(RecordingIntake()) as source, connected(source) as line:
        line.write(b"GET / HTTP/1.1\r\n\r\n")
        await line.response()
        await line.expect_end()
        async with asyncio.timeout(10):
            while not line.writer.transport.is_closing():  # as it is once our bytes are reset
                line.write(b"x")
                await asyncio.sleep(0.05)


# --- what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "detail"),
    [
        (frame(b"POST /t", TEXT), "a text message"),
        (frame(b"POST /t", TEXT, fin=False), "a text message"),
        (frame(b""), "no header"),
        (frame(b"\x00"), "no header"),
        (frame(b"\x10\xe2\x00"), "over WebSockets the length is 0"),
        (frame(b"\x08\x02" + bytes(7)), "the token is longer than the message"),
        (frame(b"\x09\x02" + bytes(9)), "reserved token length"),
        (frame(b"\x00\x02\xff"), "a payload marker without payload"),
        (frame(b"\x00\xc0"), "reserved class of codes"),
    ],
)
async def test_a_broken_message_is_answered_with_abort_after_what_was_well_asked(octets, detail):
    intake = RecordingIntake()
    async with listening_ws(intake) as source, websocket(source) as line:
        line.write(frame(POST_T), octets)
        assert await line.receive() == CHANGED
        assert await line.receive() == bytes((0, ABORT)) + b"\xff" + detail.encode()
        await line.expect_close(NORMAL)
    assert intake.rejections == [("message_format", detail)]
    assert len(intake.events) == 1


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(POST_T, mask=b""), PROTOCOL_ERROR),
        (frame(POST_T, reserved=4), PROTOCOL_ERROR),
        (frame(POST_T, 3), PROTOCOL_ERROR),
        (frame(POST_T, CONTINUATION), PROTOCOL_ERROR),
        (frame(POST_T, fin=False) + frame(POST_T), PROTOCOL_ERROR),
        (frame(bytes(126), PING), PROTOCOL_ERROR),
        (frame(b"\x03", CLOSE), PROTOCOL_ERROR),
        (frame(b"\x00\x01", CLOSE), PROTOCOL_ERROR),
        (frame(b"\x03\xe8\xff\xfe", CLOSE), INVALID_DATA),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4), TOO_BIG),
        (frame(bytes(60_000), fin=False) + frame(bytes(60_000), CONTINUATION), TOO_BIG),
    ],
)
async def test_a_broken_frame_ends_the_websocket_and_what_was_well_asked_is_taken(
    octets, code, caplog
):
    intake = RecordingIntake()
    async with listening_ws(intake) as source:
        async with websocket(source) as line:
            line.write(frame(POST_T), octets)
            await line.expect_close(code)
        async with websocket(source) as line:
            assert await line.ask(POST_T) == CHANGED
    assert [reason for reason, _ in intake.rejections] == ["message_format"]
    assert len(intake.events) == 2
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_request_before_the_csm_is_aborted():
    intake = RecordingIntake()
    async with listening_ws(intake) as source, connected(source) as line:
        line.write(handshake(), frame(POST_T))
        await line.response()
        assert await line.receive() == SERVER_CSM
        assert (await line.receive())[:2] == bytes((0, ABORT))
        await line.expect_close(NORMAL)
    assert intake.events == []


@pytest.mark.parametrize(
    "octets",
    [frame(POST_T)[:1], frame(POST_T)[:6], frame(POST_T)[:-1], frame(POST_T[:3], fin=False)],
)
@pytest.mark.loop(factory=HurriedLoop)
async def test_a_message_that_does_not_arrive_in_time_is_aborted(octets):
    intake = RecordingIntake()
    async with listening_ws(intake, message_timeout=4) as source, websocket(source) as line:
        assert await line.ask(POST_T) == CHANGED
        line.write(octets)
        assert await line.receive() == bytes((0, ABORT)) + b"\xffnot in time"
        assert await line.receive_frame() == (CLOSE, b"\x03\xe8")


@pytest.mark.loop(factory=HurriedLoop)
async def test_a_websocket_may_be_silent_between_messages():
    intake = RecordingIntake()
    async with listening_ws(intake, message_timeout=10) as source, websocket(source) as line:
        for _ in range(2):
            line.write(frame(b"x", PING))
            assert await line.receive_frame() == (PONG, b"x")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(line.reader.read(1), 15)
        assert await line.ask(POST_T) == CHANGED


async def test_noise_never_disturbs_the_source(caplog):
    intake = RecordingIntake()
    noise = random.Random(8323)
    good = handshake() + frame(CSM) + frame(POST_T) + frame(b"\x03\xe8bye", CLOSE)
    async with listening_ws(intake) as source:
        for _ in range(300):
            octets = bytearray(good)
            for _ in range(noise.choice((1, 1, 2, 8))):
                octets[noise.randrange(len(octets))] = noise.randrange(256)
            async with connected(source) as line:
                line.write(bytes(octets[: noise.randrange(len(octets))]))
                line.writer.write_eof()
                async with asyncio.timeout(5):
                    await line.reader.read()
        async with websocket(source) as line:
            assert await line.ask(POST_T) == CHANGED
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# --- back-pressure and the end ----------------------------------------------------------------


async def test_no_more_is_read_while_too_many_requests_are_under_way():
    intake = RecordingIntake(lambda _: None)
    async with listening_ws(intake, inflight_per_endpoint=2) as source, websocket(source) as line:
        for token in range(6):
            line.send(message(POST, options=b"\xb1t", payload=b"1", token=bytes((token,))))
        await intake.wait_for(lambda intake: len(intake.deliveries) == 2)
        assert await _settle_all(intake, line, 6) == {bytes((token,)) for token in range(6)}


async def _settle_all(intake, line, count):
    tokens = set()
    while len(tokens) < count:
        assert sum(not delivery.settled for delivery in intake.deliveries) <= 2
        for delivery in list(intake.deliveries):
            if not delivery.settled:
                delivery.settle(ACCEPTED)
                tokens.add(fields(await line.receive())["token"])
    return tokens


async def fill(line, octets):
    """Write as often as there is room; returns how often."""
    count = 0
    while True:
        line.write(octets)
        count += 1
        try:
            await asyncio.wait_for(line.writer.drain(), 0.5)
        except TimeoutError:
            return count


async def test_a_peer_that_does_not_read_its_answers_is_not_read_either():
    intake = RecordingIntake()
    receiver = socket.socket()
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with listening_ws(intake) as source, websocket(source, sock=receiver) as line:
        line.writer.transport.set_write_buffer_limits(high=1)
        get = message(1, options=b"\xbb.well-known\x04core", payload=bytes(4096))
        asked = await fill(line, frame(get) * 50) * 50
        answers = [fields(await line.receive())["code"] for _ in range(asked)]
        assert set(answers) == {"2.05"}


async def test_the_peer_s_close_is_answered_and_later_outcomes_are_ignored():
    intake = RecordingIntake(lambda _: None)
    async with listening_ws(intake) as source, websocket(source) as line:
        line.write(frame(POST_T), frame(b"\x03\xe8bye", CLOSE))
        assert await line.receive_frame() == (CLOSE, b"\x03\xe8bye")
        await line.expect_end()
        intake.deliveries[0].settle(ACCEPTED)


async def test_release_is_followed_by_the_answers_that_are_due_and_the_end():
    intake = RecordingIntake(lambda _: None)
    async with listening_ws(intake) as source, websocket(source) as line:
        line.send(POST_T, bytes((0, RELEASE)))
        await intake.wait_for(lambda intake: intake.deliveries)
        intake.deliveries[0].settle(ACCEPTED)
        assert await line.receive() == CHANGED
        await line.expect_close(NORMAL)


@pytest.mark.parametrize("scheme", ["coap+ws", "coaps+ws"])
async def test_at_the_end_every_websocket_is_released_and_closed(scheme, certificates):
    changes = over_tls(certificates) if scheme == "coaps+ws" else {"listen_ws": LOOPBACK}
    options = {}
    if scheme == "coaps+ws":
        options = {"ssl": client_context(certificates), "server_hostname": "localhost"}
    intake = RecordingIntake(lambda _: None)
    source = CoapSource(config(listen=None, **changes))
    await source.open(intake)
    async with (
        connected(source, scheme, **options) as silent,
        websocket(source, scheme=scheme, **options) as line,
    ):
        line.send(POST_T)
        await intake.wait_for(lambda intake: intake.deliveries)
        async with asyncio.timeout(5):
            _, answer, _ = await asyncio.gather(
                source.close(), _leave(line), _leave_silently(silent)
            )
        assert answer == bytes((0, RELEASE))
    intake.deliveries[0].settle(ACCEPTED)


async def _leave(line):
    answer = await line.receive()
    await line.expect_close(NORMAL)
    return answer


async def _leave_silently(line):
    await line.expect_end()
    line.writer.close()


async def test_one_connection_too_many_is_closed():
    intake = RecordingIntake()
    async with (
        listening_ws(intake, max_connections=1) as source,
        websocket(source) as line,
        connected(source) as other,
    ):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await other.response()
        assert await line.ask(POST_T) == CHANGED
    assert intake.rejections[0][0] == "too_many_connections"


# --- foreign clients --------------------------------------------------------------------------


def client_with(certificates=None):
    tls = client_context(certificates) if certificates is not None else None
    return aiocoap_client(["ws"], tls)


@pytest.mark.parametrize("scheme", ["coap+ws", "coaps+ws"])
async def test_aiocoap_sends_events_and_reads_the_resources(scheme, certificates):
    intake = RecordingIntake()
    changes = over_tls(certificates) if scheme == "coaps+ws" else {}
    async with listening_ws(intake, **changes) as source, client_with(certificates) as client:
        at = f"{scheme}://localhost:{source.stream_addresses[scheme].port}"
        answer = await ask(client, f"{at}/ce?t=t.x&i=1&s=/s", content_format=42)
        assert (answer.code, answer.payload) == (Code.CHANGED, b"")
        assert (await ask(client, f"{at}/t?i=2", payload=bytes(51_200))).code == Code.CHANGED
        assert (await ask(client, f"{at}/nowhere")).code == Code.NOT_FOUND
        assert (await ask(client, f"{at}/t", payload=bytes(100_000))).code.dotted == "4.13"
        links = await ask(client, f"{at}/.well-known/core?rt=ce.b*", code=Code.GET, payload=b"")
        assert links.opt.content_format == 40
        assert "</ce/b>" in links.payload.decode()
        assert "</ce/s>" not in links.payload.decode()
    assert [event.id for event in intake.events] == ["1", "2"]


async def test_a_client_certificate_says_which_source_is_its_own(certificates):
    intake = RecordingIntake()
    changes = over_tls(certificates, ca=certificates.ca)
    routes = {"/t": {"type": "t.x"}}
    async with (
        listening_ws(intake, routes=routes, **changes) as source,
        client_with(certificates) as client,
    ):
        at = f"coaps+ws://localhost:{source.stream_addresses['coaps+ws'].port}"
        assert (await ask(client, f"{at}/t")).code == Code.CHANGED
        assert (await ask(client, f"{at}/t?s=/devices/other")).code.dotted == "4.03"
    assert [event.source for event in intake.events] == ["/devices/device-1"]


async def test_the_library_websockets_gets_no_compression_and_closes_cleanly():
    async with listening_ws(RecordingIntake()) as source:
        at = f"ws://{source.stream_addresses['coap+ws']}/.well-known/coap"
        async with websockets.asyncio.client.connect(at, subprotocols=["coap"]) as client:
            assert client.protocol.extensions == []
            assert await client.recv() == SERVER_CSM
            await client.send([CSM[:1], CSM[1:]])
            await client.send(POST_T)
            assert await client.recv() == CHANGED
            pong = await client.ping()
            await pong
        assert client.close_code == NORMAL


def test_frames_are_those_of_the_specification():
    assert frame(b"Hello", TEXT).hex() == "818537fa213d7f9f4d5158"  # RFC 6455 5.7
    assert frame(b"Hello", TEXT, mask=b"").hex() == "810548656c6c6f"
    assert frame(bytes(256), BINARY, mask=b"")[:4].hex() == "827e0100"
