"""Answers, repetitions, room, time and the end of the CoAP source."""

import asyncio
import base64
import time

import pytest

from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from tests.gateway.sources.coap.device import (
    NON_T,
    POST_T,
    CountingIntake,
    Device,
    fields,
    post,
    running,
)
from tests.helpers import RecordingIntake


async def test_what_one_wake_up_finds_is_one_submit_and_bad_datagrams_hurt_no_neighbour():
    intake = CountingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            # Without an await between them: all are in the socket before the source reads.
            device.send(post(1))
            device.send("40021013be01")
            device.send(post(2, payload=b"{"))
            device.send(post(3))
            replies = [await device.receive() for _ in range(4)]
            assert replies[0] == bytes.fromhex("70001013")
            assert [fields(reply)["code"] for reply in replies[1:]] == ["4.00", "2.04", "2.04"]
    assert intake.lists == [2]
    assert [reason for reason, _ in intake.rejections] == ["message_format", "json"]


async def test_a_repeated_con_gets_the_same_bytes_and_makes_no_second_event():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == bytes.fromhex("6144123407")
            assert await device.ask(POST_T) == bytes.fromhex("6144123407")
            bad = POST_T[:-1]
            refused = await device.ask(bad)
            assert await device.ask(bad) == refused
    assert len(intake.events) == 1
    assert len(intake.rejections) == 1


async def test_a_repeated_con_whose_outcome_is_open_gets_an_empty_ack_and_then_a_separate_answer():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=1.9) as source:
        with Device(source) as device:
            device.send(POST_T)
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
            intake.deliveries[0].settle(ACCEPTED)
            answer = await device.receive()
            assert (answer[:2], answer[4:]) == (b"\x41\x44", b"\x07")
            device.send(b"\x60\x00" + answer[2:4])
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
    assert len(intake.events) == 1


async def test_a_message_id_used_again_with_other_content_is_a_new_request():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            for payload in (b"1", b"2"):
                assert await device.ask(post(7, payload=payload)) == bytes.fromhex("6144000707")
    assert [event.data for event in intake.events] == [b"1", b"2"]
    assert intake.events[0].id != intake.events[1].id


async def test_the_generated_id_is_the_same_after_a_restart_and_differs_by_port():
    ids, started = [], time.time()
    with Device() as one, Device() as other:
        for _ in range(2):
            intake = RecordingIntake()
            async with running(intake) as source:
                for device in (one, other):
                    device.turn_to(source)
                    await device.ask(POST_T)
            ids.append([event.id for event in intake.events])
    first, second = ids
    if started // 256 == time.time() // 256:  # else the two runs were in different windows
        assert first == second
    assert first[0] != first[1]
    assert len(base64.urlsafe_b64decode(first[0])) == 12


async def test_what_never_settles_is_answered_5_04_and_a_late_outcome_is_ignored():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05, sink_timeout=0.1) as source:
        with Device(source) as device:
            device.send(POST_T)
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
            # One empty ACK, for the repetition; none when the time for it comes.
            answer = fields(await device.receive())
            assert (answer["type"], answer["code"], answer["token"]) == ("CON", "5.04", b"\x07")
            device.send(b"\x70\x00" + answer["mid"])
            device.send(NON_T)
            assert fields(await device.receive())["code"] == "5.04"
            intake.deliveries[0].settle(ACCEPTED)
            await device.expect_silence()


@pytest.mark.parametrize(
    ("settlement", "code", "max_age"),
    [
        (Settlement(Outcome.REJECTED, Reason.INVALID), "4.00", None),
        (Settlement(Outcome.REJECTED, Reason.SINK_REFUSED), "5.02", None),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN, 0.2), "5.03", range(1, 2)),
        (Settlement(Outcome.RELEASED, Reason.BUSY, 1.0), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.DRAINING, 5.0), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.NOT_STORED, 1.0), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5), "4.29", range(3, 4)),
        (Settlement(Outcome.RELEASED, Reason.TIMEOUT), "5.04", None),
        (Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED), "2.04", None),
    ],
)
async def test_each_outcome_has_its_response_code(settlement, code, max_age):
    async with running(RecordingIntake(lambda _: settlement)) as source:
        with Device(source) as device:
            answer = fields(await device.ask(POST_T))
    assert answer["code"] == code
    if max_age is None:
        assert answer["options"] == {}
    else:
        assert int.from_bytes(answer["options"][14], "big") in max_age


async def test_without_room_con_is_answered_5_03_and_non_is_dropped_and_may_come_again():
    intake = CountingIntake(free=1)
    async with running(intake) as source:
        with Device(source) as device:
            for mid in (1, 2, 3):
                device.send(post(mid))
            device.send(NON_T)
            replies = [fields(await device.receive()) for _ in range(3)]
            await device.expect_silence()
            assert sorted(reply["code"] for reply in replies) == ["2.04", "5.03", "5.03"]
            assert ("busy", "no room for more events") in intake.rejections
            intake.free = 1
            assert fields(await device.ask(NON_T))["code"] == "2.04"
    assert len(intake.events) == 2


async def test_one_endpoint_has_at_most_16_requests_under_way():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device, Device(source) as other:
            for mid in range(17):
                device.send(post(mid))
            assert fields(await device.receive())["code"] == "5.03"
            other.send(post(1))
            await other.expect_silence()
            for delivery in intake.deliveries:
                delivery.settle(ACCEPTED)
            for _ in range(16):
                assert fields(await device.receive())["code"] == "2.04"
            device.send(post(18))
            await device.expect_silence()
    assert len(intake.deliveries) == 18


async def test_while_draining_new_requests_are_refused_and_old_ones_answered():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1))
            await device.expect_silence()
            draining = asyncio.ensure_future(source.drain())
            await asyncio.sleep(0)
            refused = fields(await device.ask(post(2)))
            assert refused["code"] == "5.03"
            assert 30 <= int.from_bytes(refused["options"][14], "big") <= 90
            intake.deliveries[0].settle(ACCEPTED)
            assert await device.receive() == bytes.fromhex("6144000107")
            await draining


async def test_the_outcome_after_the_end_is_nobody_s():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1))
            await device.expect_silence()
    intake.deliveries[0].settle(ACCEPTED)


async def test_when_nothing_more_can_be_remembered_con_is_answered_5_03():
    intake = RecordingIntake()
    async with running(intake, duplicates_max_bytes=1) as source:
        with Device(source) as device:
            assert fields(await device.ask(post(1)))["code"] == "2.04"
            assert fields(await device.ask(post(2)))["code"] == "5.03"
            assert fields(await device.ask(post(1)))["code"] == "2.04"
    assert len(intake.events) == 1
