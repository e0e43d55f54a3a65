"""What requests are judged by, on a socket."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.sources.coap.device import PING, RESET, Device, fields, post, running
from tests.helpers import RecordingIntake, examples


@pytest.mark.parametrize(
    ("claimed", "code"),
    [
        (b"coap://127.0.0.1", "2.04"),
        (b"coap://127.0.0.1/a", "2.04"),
        (b"coap://127.0.0.1#a", "2.04"),
        (b"coap://127.0.0.11", "4.03"),
        (b"/s", "4.03"),
    ],
)
async def test_a_peer_may_claim_its_own_source_and_what_is_below_it(claimed, code):
    query = b"s=" + claimed
    length = bytes((0x30 | len(query),)) if len(query) < 13 else bytes((0x3D, len(query) - 13))
    async with running(RecordingIntake(), routes={"/t": {"type": "t"}}) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=b"\xb1t\x11\x32" + length + query))
    assert fields(answer)["code"] == code


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("91aa2174", "4.02"),  # OSCORE, where there is none
        ("b174d003", "2.04"),  # Block1: number 0, no more, 16 bytes
        ("b174c110", "4.00"),  # Block2: number 1 of an answer that has none
        ("b174113251320132", "4.02"),  # Accept twice is critical
        ("b17400", "4.04"),  # /t/ is not /t
        ("", "4.04"),
    ],
)
async def test_options_are_judged(options, code):
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=bytes.fromhex(options)))
    assert fields(answer)["code"] == code


async def test_a_non_with_an_option_that_is_not_understood_is_dropped():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1, options=bytes.fromhex("91aa2174"), kind=0x51))
            await device.expect_silence()
    assert intake.events == []
    assert intake.rejections[0][0] == "bad_option"


async def test_problem_details_are_given_to_those_who_accept_them():
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            # Accept 257; the queries make the request long enough for an answer of that size.
            options = b"\xb1t\x11\x32" + b"\x35t=t.x" + b"\x22\x01\x01"
            answer = fields(await device.ask(post(1, options=options, payload=b"{" * 30)))
    assert answer["code"] == "4.00"
    assert answer["options"][12] == b"\x01\x01"
    assert answer["payload"] == b"\xa1\x20\x64json"


async def test_an_answer_is_at_most_three_times_as_long_as_its_request():
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            assert await device.ask("40020001") == bytes.fromhex("60840001")


async def test_an_empty_batch_is_accepted():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=b"\xb2ce\x01b\x11\x32", payload=b"[]"))
            assert fields(answer)["code"] == "2.04"
    assert intake.deliveries == []


async def test_events_of_a_batch_get_numbered_ids_and_ignore_id_and_time_of_the_query():
    intake = RecordingIntake()
    options = b"\xb2ce\x01b\x11\x32\x35t=t.x\x03i=1"
    async with running(intake) as source:
        with Device(source) as device:
            batch = b'[{"data":1},{"id":"x","data":2},{"data":3}]'
            assert (
                fields(await device.ask(post(1, options=options, payload=batch)))["code"] == "2.04"
            )
    first, second, third = intake.events
    assert len(intake.deliveries) == 1
    assert first.id.endswith(".0")
    assert second.id == "x"
    assert third.id == first.id[:-1] + "2"


CASES = json.loads(Path("conformance/vectors/coap.json").read_text())["cases"]


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_datagram_stops_the_source(data):
    known = st.sampled_from(
        [
            bytes.fromhex(step["send"])
            for case in CASES
            for step in case.get("steps", [])
            if "send" in step
        ]
    )

    def damaged(datagram, position, octet):
        at = position % max(1, len(datagram))
        return datagram[:at] + bytes((octet,)) + datagram[at + 1 :]

    one = st.one_of(
        st.binary(max_size=60),
        st.builds(damaged, known, st.integers(0, 200), st.integers(0, 255)),
        st.builds(lambda datagram, size: datagram[:size], known, st.integers(0, 80)),
        st.builds(lambda rest: b"\x40\x02\x00\x01\xb2ce" + rest, st.binary(max_size=40)),
    )
    datagrams = data.draw(st.lists(one, min_size=30, max_size=60))

    async def send_all():
        async with running(RecordingIntake()) as source:
            with Device(source) as device:
                for datagram in datagrams:
                    device.send(datagram)
                device.send(PING)
                while await device.receive() != RESET:
                    pass

    asyncio.run(send_all())


async def test_blocks_that_together_are_too_large_are_refused_and_forgotten():
    intake = RecordingIntake()
    async with running(intake, routes={"/t": {"type": "t", "max_event_bytes": 20}}) as source:
        with Device(source) as device:
            # Block1 0/1/16, then 1/0/16: 21 bytes.
            first = post(1, options=b"\xb1t\xd1\x03\x08", payload=bytes(16))
            assert fields(await device.ask(first))["code"] == "2.31"
            answer = fields(
                await device.ask(post(2, options=b"\xb1t\xd1\x03\x10", payload=bytes(5)))
            )
            assert (answer["code"], answer["options"][60]) == ("4.13", b"\x14")
            again = post(3, options=b"\xb1t\xd1\x03\x10", payload=bytes(4))
            assert fields(await device.ask(again))["code"] == "4.08"
    assert intake.events == []


async def test_a_batch_of_too_many_events_is_refused_with_the_limit_and_no_size():
    intake = RecordingIntake()
    routes = {"/b": {"mode": "batch", "type": "t"}}
    async with running(intake, routes=routes, limits={"max_batch_events": 3}) as source:
        with Device(source) as device:
            request = post(1, options=b"\xb1b\x11\x3f", payload=b"\xa0" * 4)
            answer = fields(await device.ask(request))
            assert (answer["code"], answer["payload"]) == ("4.13", b"more than 3 events in a batch")
            assert 60 not in answer["options"]  # fewer bytes would not do
            request = post(2, options=b"\xb1b\x11\x3f", payload=b"\xa0" * 3)
            assert fields(await device.ask(request))["code"] == "2.04"
    assert intake.rejections == [("too_large", "more than 3 events in a batch")]
    assert len(intake.events) == 3
