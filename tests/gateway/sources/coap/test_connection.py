"""Connections of the CoAP source, byte by byte, and what is used of aiocoap."""

import asyncio
import base64
import logging
import socket
import struct
from importlib.metadata import version

import pytest
from aiocoap.numbers import codes
from aiocoap.transports import rfc8323common, tcp

from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from tests.gateway.sources.coap.device import CountingIntake
from tests.gateway.sources.coap.stream_device import (
    CHANGED,
    CSM,
    PING,
    PONG,
    POST_T,
    SERVER_CSM,
    connection,
    fields,
    listening,
    message,
)
from tests.gateway.stepped import HurriedLoop
from tests.helpers import RecordingIntake

POST, GET, PUT = 2, 1, 3
ABORT, RELEASE = 0xE5, 0xE4


async def test_a_connection_begins_with_csm_and_requests_are_answered():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        assert await line.receive() == SERVER_CSM
        assert await line.ask(CSM, POST_T) == CHANGED
    (event,) = intake.events
    assert (event.type, event.source) == ("com.acme.temp.v1", "coap://127.0.0.1")
    assert (event.datacontenttype, event.data) == ("application/json", b'{"a":1}')


async def test_all_that_one_read_brings_is_one_submit_and_a_bad_request_hurts_no_neighbour():
    intake = CountingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        bad = message(POST, options=b"\xb1t\x11\x32", payload=b"{", token=b"\x08")
        line.send(POST_T, bad, POST_T)
        codes = [fields(await line.receive())["code"] for _ in range(3)]
    assert sorted(codes) == ["2.04", "2.04", "4.00"]
    assert intake.lists == [2]
    assert intake.rejections == [("json", "the payload is no JSON")]


async def test_a_message_may_arrive_byte_by_byte_and_have_each_form_of_length():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.writer.transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        for size in (1, 100, 1000, 65536):
            answer = await line.ask(message(POST, options=b"\xb1t", payload=bytes(size)))
            assert answer == CHANGED
        for octet in message(POST, options=b"\xb1t", payload=bytes(300)):
            line.send(bytes((octet,)))
            await asyncio.sleep(0)
        assert fields(await line.receive())["code"] == "2.04"
    assert [len(event.data) for event in intake.events] == [1, 100, 1000, 65536, 300]


async def test_each_request_without_id_gets_a_random_one():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        for _ in range(3):
            assert await line.ask(POST_T) == CHANGED
    ids = {event.id for event in intake.events}
    assert len(ids) == 3
    assert {len(base64.urlsafe_b64decode(id_)) for id_ in ids} == {12}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (message(POST, options=b"\xb2ce", payload=b"1"), "4.00"),
        (message(POST, options=b"\xb4auth\x45t=t.x", payload=b"1"), "4.01"),
        (message(POST, options=b"\x91\xaa\x21t", payload=b"1"), "4.02"),  # OSCORE
        (message(POST, options=b"\xb2no", payload=b"1"), "4.04"),
        (message(POST, options=b"\xb1\xff", payload=b"1"), "4.04"),  # a path that is no UTF-8
        (message(PUT, options=b"\xb1t", payload=b"1"), "4.05"),
        (message(POST, options=b"\xb1t\x62\x01\x00", payload=b"1"), "4.06"),  # Accept 256
        (message(POST, options=b"\xb1t\x12\x27\x0f", payload=b"1"), "4.15"),
        (message(POST, options=b"\xb1t\x43j=\xff", payload=b"1"), "4.00"),  # a query that is none
        (message(POST, options=b"\xb1t\xd1\x0f\x01", payload=b"1"), "5.05"),  # Proxy-Scheme
    ],
)
async def test_refusals_have_their_code_and_the_connection_lives_on(request_, code):
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        answer = fields(await line.ask(request_))
        assert (answer["code"], answer["token"]) == (code, b"\x07")
        assert await line.ask(POST_T) == CHANGED
    assert len(intake.rejections) == 1


async def test_too_large_is_4_13_with_the_limit():
    async with listening(RecordingIntake()) as source, connection(source) as line:
        await line.greet()
        answer = fields(await line.ask(message(POST, options=b"\xb1t", payload=bytes(65537))))
        assert (answer["code"], answer["options"]) == ("4.13", {60: b"\x01\x00\x00"})
        assert await line.ask(POST_T) == CHANGED


@pytest.mark.parametrize(
    ("octets", "detail"),
    [
        (b"\x09\x02" + bytes(9), "reserved token length"),
        (b"\xf0" + struct.pack(">I", 67585), "message too large"),
        (message(POST, options=b"\xf1t"), "an option delta or length of 15 is reserved"),
        (message(POST, options=b"\xb2t"), "an option is longer than the datagram"),
        (message(POST, options=b"\xb1t\xff"), "a payload marker without payload"),
        (message(0x21), "reserved class of codes"),
        (message(0xC1), "reserved class of codes"),
        (message(0xEA), "Unknown signalling code"),
        (message(0xE1, options=b"\x30"), "Option not supported"),
        (message(0xE1, options=b"\x31\xff"), "malformed signal"),
        (message(0xE4, options=b"\x10"), "Unknown critical option"),
        (message(0xE2, options=b"\x10"), "unknown critical option"),
    ],
)
async def test_a_format_error_is_answered_by_abort_after_what_came_before(octets, detail, caplog):
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T, octets)
        assert await line.receive() == CHANGED
        last = fields(await line.receive())
        assert last["code"] == "7.05"
        assert last["payload"].decode() == detail
        await line.expect_end()
    assert len(intake.events) == 1
    assert intake.rejections == [("message_format", detail)]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_abort_waits_for_the_outcome_of_what_was_well_asked_before():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T, b"\x0f", POST_T)
        await intake.wait_for(lambda intake: intake.deliveries and intake.rejections)
        intake.deliveries[0].settle(ACCEPTED)
        assert await line.receive() == CHANGED
        assert fields(await line.receive())["code"] == "7.05"
        await line.expect_end()
    assert len(intake.deliveries) == 1


async def test_the_first_message_has_to_be_a_csm():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        assert await line.receive() == SERVER_CSM
        assert fields(await line.ask(POST_T))["code"] == "7.05"
        await line.expect_end()
    assert intake.events == []


async def test_ping_is_answered_and_empty_messages_and_stray_responses_are_ignored():
    async with listening(RecordingIntake()) as source, connection(source) as line:
        await line.greet()
        assert await line.ask(b"\x00\x00", b"\x00\x44", PING) == PONG


async def test_after_release_what_was_asked_is_answered_before_the_end():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T, message(RELEASE, token=b""))
        await intake.wait_for(lambda intake: intake.deliveries)
        intake.deliveries[0].settle(ACCEPTED)
        assert await line.receive() == CHANGED
        await line.expect_end()


async def test_a_device_may_close_its_half_and_still_read_its_answer():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T)
        await intake.wait_for(lambda intake: intake.deliveries)
        line.writer.write_eof()
        intake.deliveries[0].settle(ACCEPTED)
        assert await line.receive() == CHANGED
        await line.expect_end()


async def test_what_settles_after_the_connection_is_lost_is_nobody_s():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as source:
        async with connection(source) as line:
            await line.greet()
            line.send(POST_T)
            await intake.wait_for(lambda intake: intake.deliveries)
        async with connection(source) as line:
            await line.greet()
            intake.deliveries[0].settle(ACCEPTED)
            assert await line.ask(PING) == PONG


@pytest.mark.parametrize(
    ("settlement", "code", "max_age"),
    [
        (Settlement(Outcome.REJECTED, Reason.INVALID), "4.00", None),
        (Settlement(Outcome.REJECTED, Reason.SINK_REFUSED), "5.02", None),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5), "4.29", range(3, 4)),
        (Settlement(Outcome.RELEASED, Reason.TIMEOUT), "5.04", None),
    ],
)
async def test_each_outcome_has_its_response_code(settlement, code, max_age):
    intake = RecordingIntake(lambda _: settlement)
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        answer = fields(await line.ask(POST_T))
    assert answer["code"] == code
    assert (14 in answer["options"]) is (max_age is not None)
    if max_age is not None:
        assert int.from_bytes(answer["options"][14], "big") in max_age


async def test_without_room_5_03_is_answered():
    intake = CountingIntake(free=1)
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T, POST_T, POST_T)
        codes = [fields(await line.receive())["code"] for _ in range(3)]
    assert sorted(codes) == ["2.04", "5.03", "5.03"]


async def test_a_connection_with_too_many_requests_under_way_is_read_on_when_half_are_answered():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake, inflight_per_endpoint=4) as source, connection(source) as line:
        await line.greet()
        line.send(*[message(POST, options=b"\xb1t", payload=b"1", token=bytes((n,)))
                    for n in range(6)])  # fmt: skip
        await intake.wait_for(lambda intake: len(intake.deliveries) >= 4)
        intake.deliveries[0].settle(ACCEPTED)
        assert fields(await line.receive())["token"] == b"\x00"
        assert len(intake.deliveries) == 4
        intake.deliveries[1].settle(ACCEPTED)
        await intake.wait_for(lambda intake: len(intake.deliveries) == 6)
        for delivery in intake.deliveries[2:]:
            delivery.settle(ACCEPTED)
        tokens = [fields(await line.receive())["token"][0] for _ in range(5)]
    assert tokens == [1, 2, 3, 4, 5]
    assert intake.rejections == []


async def test_a_device_that_does_not_read_its_answers_is_not_read():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source, limit=2**10) as line:
        await line.greet()
        bad = message(POST, options=b"\xb2no", payload=b"1")
        # The source stops reading, so at some time all buffers between us are full.
        sent = 0
        while sent < 1000:
            line.send(bad * 4096)
            sent += 1
            try:
                await asyncio.wait_for(line.writer.drain(), 1)
            except TimeoutError:
                break
        assert 0 < len(intake.rejections) < sent * 4096
        assert sent < 1000


async def test_no_response_is_honoured():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()
        quiet = message(POST, options=b"\xb1t\xd1\xea\x02", payload=b"1")
        assert await line.ask(quiet, PING) == PONG
    assert len(intake.events) == 1


async def test_bert_blocks_are_put_together_and_block_by_block_checked():
    intake = RecordingIntake()
    async with listening(intake) as source, connection(source) as line:
        await line.greet()

        def block(number, more, payload):
            value = number << 4 | more << 3 | 7
            option = b"\xd1\x03" + bytes((value,))
            return message(POST, options=b"\xb1t" + option, payload=payload)

        answer = fields(await line.ask(block(0, 1, b"a" * 4096)))
        assert (answer["code"], answer["options"][27]) == ("2.31", b"\x0f")
        answer = fields(await line.ask(block(4, 1, b"b" * 1024)))
        assert answer["code"] == "2.31"
        assert fields(await line.ask(block(5, 0, b"c" * 3000)))["code"] == "2.04"
        assert fields(await line.ask(block(0, 1, b"a" * 1000)))["code"] == "4.00"
        assert fields(await line.ask(block(5, 0, b"a")))["code"] == "4.08"
    assert intake.events[0].data == b"a" * 4096 + b"b" * 1024 + b"c" * 3000


async def test_blocks_of_one_connection_are_not_those_of_another():
    async with listening(RecordingIntake()) as source:
        first = message(POST, options=b"\xb1t\xd1\x03\x08", payload=bytes(16))
        second = message(POST, options=b"\xb1t\xd1\x03\x10", payload=bytes(5))
        async with connection(source) as line, connection(source) as other:
            await line.greet()
            await other.greet()
            assert fields(await line.ask(first))["code"] == "2.31"
            assert fields(await other.ask(second))["code"] == "4.08"
            assert fields(await line.ask(second))["code"] == "2.04"
            assert fields(await line.ask(first))["code"] == "2.31"
    assert len(source._requests.assemblies) == 0  # as the connection is


async def test_the_list_of_resources_fits_into_what_the_device_takes():
    async with listening(RecordingIntake()) as source, connection(source) as line:
        await line.greet()
        answer = fields(await line.ask(message(GET, options=b"\xbb.well-known\x04core")))
    assert answer["code"] == "2.05"
    assert answer["payload"].startswith(b'</ce>;rt="ce.bin"')


@pytest.mark.parametrize("begin", [b"", CSM + POST_T[:-1]])
async def test_a_connection_that_says_too_little_is_aborted(begin):
    intake = RecordingIntake()
    async with listening(intake, message_timeout=0.05) as source, connection(source) as line:
        assert await line.receive() == SERVER_CSM
        line.send(begin)
        assert fields(await line.receive())["payload"] == b"not in time"
        await line.expect_end()
    assert intake.rejections == [("message_format", "not in time")]


@pytest.mark.loop(factory=HurriedLoop)
async def test_a_connection_that_has_said_all_may_be_silent():
    intake = RecordingIntake()
    async with listening(intake, message_timeout=10) as source, connection(source) as line:
        await line.greet()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.reader.read(), 20)
        assert await line.ask(PING) == PONG


def test_aiocoap_is_as_expected():
    """What `gateway.sources.coap.connection` uses of aiocoap, some of it private."""
    assert version("aiocoap").startswith("0.4.")
    assert tcp._decode_message(b"\x01\xe2\x09").code == codes.PING
    assert issubclass(tcp.TcpConnection, rfc8323common.RFC8323Remote)
    for name in ("_process_signaling", "_send_initial_csm", "abort", "release"):
        assert name in vars(rfc8323common.RFC8323Remote)
    assert {"_abort_with", "_send_message"} <= vars(tcp.TcpConnection).keys()
