"""What the CoAP source acknowledges and when: datagrams by hand, as clients hide repetitions."""

import asyncio
import random
import time

import pytest

from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.coap import duplicates, separate
from gateway.sources.coap import source as coap_source
from tests.gateway.sources.coap.device import (
    NON_T,
    POST_T,
    CountingIntake,
    Device,
    fields,
    post,
    running,
    running_untimed,
)
from tests.helpers import RecordingIntake

EMPTY_ACK = bytes.fromhex("60001234")  # of POST_T


def pending():
    """An intake that leaves every delivery to the test."""
    return RecordingIntake(lambda _: None)


def acknowledge(device, answer):
    device.send(b"\x60\x00" + answer[2:4])


async def test_before_the_settlement_there_is_no_answer_but_the_empty_ack():
    intake = pending()
    async with running(intake, ack_after=0.05) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == EMPTY_ACK
            await device.expect_silence()
            intake.deliveries[0].settle(ACCEPTED)
            answer = fields(await device.receive())
            assert (answer["type"], answer["code"], answer["token"]) == ("CON", "2.04", b"\x07")
            assert answer["mid"] != b"\x12\x34"


async def test_what_is_due_already_when_the_loop_was_busy_is_no_matter(caplog):
    """uvloop's handle of a time that has passed is another one, and has no `when`."""
    loop = asyncio.get_running_loop()

    def answer(delivery):
        if len(intake.deliveries) == 2:
            loop.call_soon(intake.deliveries[0].settle, ACCEPTED)
            time.sleep(0.1)  # the time to acknowledge this one passes

    intake = RecordingIntake(answer)
    async with running(intake, ack_after=0.05) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == EMPTY_ACK
            device.send(post(2))
            answers = [fields(await device.receive()) for _ in range(2)]
    assert [(each["type"], each["code"]) for each in answers] == [("CON", "2.04"), ("ACK", "0.00")]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_separate_answer_is_repeated_with_the_same_bytes_until_it_is_acknowledged(
    monkeypatch,
):
    monkeypatch.setattr(separate, "ACK_TIMEOUT", 0.02)
    intake = pending()
    async with running(intake, ack_after=0.02) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == EMPTY_ACK
            intake.deliveries[0].settle(ACCEPTED)
            first = await device.receive()
            assert await device.receive() == first
            assert await device.receive() == first
            acknowledge(device, first)
            await device.expect_silence()
            assert len(source._separate) == 0
            # A repetition that was on its way meanwhile is not handled again.
            assert await device.ask(POST_T) == EMPTY_ACK
            await device.expect_silence()
    assert len(intake.deliveries) == 1


async def test_a_separate_answer_that_nobody_acknowledges_is_given_up(monkeypatch):
    monkeypatch.setattr(separate, "ACK_TIMEOUT", 0.005)
    intake = pending()
    async with running(intake, ack_after=0.01) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == EMPTY_ACK
            intake.deliveries[0].settle(ACCEPTED)
            answers = {await device.receive() for _ in range(5)}
            assert len(answers) == 1
            while len(source._separate):
                await asyncio.sleep(0.01)
            await device.expect_silence()


@pytest.mark.parametrize("settled", [True, False], ids=["answered", "under way"])
@pytest.mark.parametrize(
    "again",
    [
        bytes.fromhex("4102123409b1741132ff7b2261223a317d"),  # another token
        bytes.fromhex("4102123407b1741132ff7b2261223a327d"),  # another payload
        bytes.fromhex("4002 1234 b1741132ff7b2261223a317d"),  # none at all
        bytes.fromhex("4102123407b17411 2a ff7b2261223a317d"),  # another option
    ],
    ids=["token", "payload", "no token", "option"],
)
async def test_a_message_id_that_is_used_again_is_handled_and_not_answered_from_memory(
    again, settled
):
    """At more than 265 messages a second an endpoint has used all ids within 247 s."""
    intake = RecordingIntake(lambda _: ACCEPTED if settled else None)
    async with running_untimed(intake) as source:
        with Device(source) as device:
            device.send(POST_T)
            device.send(again)
            await intake.wait_for(lambda i: len(i.deliveries) == 2)
            if not settled:
                await device.expect_silence()
                intake.deliveries[1].settle(Settlement(Outcome.REJECTED, Reason.SINK_REFUSED))
                answer = fields(await device.receive())
                token_length = again[0] & 15
                assert (answer["code"], answer["token"]) == ("5.02", again[4 : 4 + token_length])
                intake.deliveries[0].settle(ACCEPTED)
                assert await device.receive() == bytes.fromhex("6144123407")
            else:
                codes = [fields(await device.receive())["code"] for _ in range(2)]
                assert codes == ["2.04", "2.04"]
    first, second = intake.events
    assert first.id != second.id


async def test_a_sender_that_goes_through_all_its_message_ids_loses_nothing():
    intake = RecordingIntake()
    ids = range(0xFF80, 0x10080)  # past the end and on from zero, twice
    async with running(intake) as source:
        with Device(source) as device:
            for turn in range(2):
                for number in ids:
                    answer = await device.ask(post(number & 0xFFFF, payload=b"%d" % turn))
                    assert answer[1] == 0x44
    assert len(intake.events) == len({event.id for event in intake.events}) == 2 * len(ids)


@pytest.mark.parametrize("settled", [True, False], ids=["answered", "under way"])
async def test_in_a_storm_of_repetitions_each_request_is_handled_once(settled):
    """Four copies of each request (MAX_RETRANSMIT), in any order."""
    intake = RecordingIntake(lambda _: ACCEPTED if settled else None)
    copies = [post(mid) for mid in range(50)] * 4
    random.Random(7).shuffle(copies)
    async with running_untimed(intake, inflight_per_endpoint=50) as source:
        with Device(source) as device:
            answers = []
            for start in range(0, len(copies), 20):  # no more than the socket of a device holds
                for datagram in copies[start : start + 20]:
                    device.send(datagram)
                await device.expect_silence_but(answers)
            assert len(intake.deliveries) == 50
            if settled:
                # A copy that is read together with the first one is told to wait.
                waiting = {answer[2:4] for answer in answers if answer[:2] == b"\x60\x00"}
                at_once = {answer[2:4] for answer in answers if answer[:2] == b"\x61\x44"}
                separately = {answer for answer in answers if answer[:2] == b"\x41\x44"}
                assert waiting | at_once == {datagram[2:4] for datagram in copies}
                assert not waiting & at_once
                assert len(separately) == len({answer[2:4] for answer in separately})
                assert len(separately) == len(waiting)
                return
            assert len(answers) == 150  # to each repetition, and to none of the first copies
            assert {answer[:2] for answer in answers} == {b"\x60\x00"}
            for delivery in intake.deliveries:
                delivery.settle(ACCEPTED)
            codes = [fields(await device.receive()) for _ in range(50)]
            assert {(answer["type"], answer["code"]) for answer in codes} == {("CON", "2.04")}


async def test_a_repetition_of_what_was_refused_is_refused_with_the_same_bytes():
    intake = CountingIntake(free=0)
    async with running(intake) as source:
        with Device(source) as device:
            refused = await device.ask(POST_T)
            assert fields(refused)["code"] == "5.03"
            intake.free = 1
            assert await device.ask(POST_T) == refused
            # In a new message it is a new request, as the binding wants it repeated.
            assert fields(await device.ask(post(9)))["code"] == "2.04"


async def test_what_left_the_full_table_and_comes_again_is_handled_with_the_same_id(monkeypatch):
    """Better twice than never: memory is bounded, and who removes duplicates knows the id."""
    monkeypatch.setattr(duplicates, "CROWDED_SECONDS", -1.0)
    intake = RecordingIntake()
    async with running(intake, duplicates_max_bytes=1) as source:
        with Device(source) as device:
            for datagram in (POST_T, post(2), POST_T):
                assert fields(await device.ask(datagram))["code"] == "2.04"
            assert len(source._duplicates) == 1
    assert [event.id for event in intake.events].count(intake.events[0].id) == 2


async def test_a_request_that_ends_the_process_is_new_to_the_next_and_has_the_same_id():
    """It was told to wait and never answered; only its id tells that it came before."""
    ids, started = [], time.time()
    with Device() as device:
        for _ in range(2):
            intake = pending()
            async with running(intake, ack_after=0.02) as source:
                device.turn_to(source)
                assert await device.ask(POST_T) == EMPTY_ACK
            ids += [event.id for event in intake.events]
    assert len(ids) == 2
    if started // 256 == time.time() // 256:  # else the two runs were in different windows
        assert ids[0] == ids[1]


class TestNon:
    async def test_it_is_answered_by_what_became_of_it_and_its_repetition_is_not(self):
        intake = pending()
        async with running(intake) as source:
            with Device(source) as device:
                device.send(NON_T)
                await device.expect_silence()
                intake.deliveries[0].settle(ACCEPTED)
                answer = fields(await device.receive())
                assert (answer["type"], answer["code"], answer["token"]) == ("NON", "2.04", b"\x07")
                device.send(NON_T)
                await device.expect_silence()
        assert len(intake.deliveries) == 1


class TestBlocks:
    """RFC 7959: 2.31 means a block, and only the last answer means the event."""

    FIRST, LAST = (
        post(mid, options=b"\xb1t\x11\x2a\xd1\x02" + block, payload=payload)
        for mid, block, payload in ((1, b"\x08", b"a" * 16), (2, b"\x10", b"b" * 4))
    )

    async def test_2_31_is_no_acknowledgement_of_the_event(self):
        intake = pending()
        async with running(intake, ack_after=0.05) as source:
            with Device(source) as device:
                assert fields(await device.ask(self.FIRST))["code"] == "2.31"
                assert intake.deliveries == []
                assert await device.ask(self.LAST) == bytes.fromhex("60000002")
                intake.deliveries[0].settle(ACCEPTED)
                answer = fields(await device.receive())
                assert (answer["type"], answer["code"]) == ("CON", "2.04")
                assert answer["options"] == {27: b"\x10"}
        assert intake.events[0].data == b"a" * 16 + b"b" * 4

    async def test_repeated_blocks_make_no_second_event_and_begin_none(self):
        intake = RecordingIntake()
        async with running(intake) as source:
            with Device(source) as device:
                blocks = [self.FIRST, self.FIRST, self.LAST, self.LAST, self.FIRST, self.LAST]
                answers = [await device.ask(block) for block in blocks]
            assert len(source._requests.assemblies) == 0
        assert [fields(answer)["code"] for answer in answers] == [
            "2.31", "2.31", "2.04", "2.04", "2.31", "2.04",
        ]  # fmt: skip
        assert answers[2] == answers[3] == answers[5]
        assert len(intake.events) == 1

    async def test_the_next_process_has_not_the_blocks_of_the_last_one(self):
        intake = RecordingIntake()
        with Device() as device:
            for block, code in ((self.FIRST, "2.31"), (self.LAST, "4.08")):
                async with running(intake) as source:
                    device.turn_to(source)
                    assert fields(await device.ask(block))["code"] == code
        assert intake.events == []

    async def test_what_finds_no_room_with_its_last_block_is_sent_again_whole(self):
        intake = CountingIntake(free=0)
        async with running(intake) as source:
            with Device(source) as device:
                await device.ask(self.FIRST)
                refused = fields(await device.ask(self.LAST))
                assert refused["code"] == "5.03"
                assert 30 <= refused["options"][14][0] <= 90
                intake.free = 1
                again = [
                    block[:2] + mid + block[4:]
                    for mid, block in ((b"\0\3", self.FIRST), (b"\0\4", self.LAST))
                ]
                codes = [fields(await device.ask(block))["code"] for block in again]
                assert codes == ["2.31", "2.04"]


class TestEnd:
    async def test_closing_without_a_settlement_answers_nothing(self):
        intake = pending()
        async with running_untimed(intake) as source:
            with Device(source) as waiting, Device(source) as told:
                told.send(POST_T)
                assert await told.ask(POST_T) == EMPTY_ACK  # the repetition is
                waiting.send(POST_T)
                await waiting.expect_silence()
                await source.close()
                for delivery in intake.deliveries:
                    delivery.settle(ACCEPTED)  # nobody hears it any more
                for device in (waiting, told):
                    with pytest.raises(BlockingIOError):
                        device.socket.recv(2048)

    async def test_who_was_told_to_wait_is_answered_and_has_said_so_before_the_end(
        self, monkeypatch
    ):
        monkeypatch.setattr(separate, "ACK_TIMEOUT", 0.05)
        intake = pending()
        async with running(intake, ack_after=0.02) as source:
            with Device(source) as device:
                assert await device.ask(POST_T) == EMPTY_ACK
                draining = asyncio.ensure_future(source.drain())
                await device.expect_silence()
                assert not draining.done()
                intake.deliveries[0].settle(ACCEPTED)
                lost = await device.receive()
                assert not draining.done()
                again = await device.receive()  # the first is taken for lost
                assert again == lost
                assert fields(again)["code"] == "2.04"
                acknowledge(device, again)
                await draining

    async def test_the_end_does_not_wait_long_for_a_device_that_is_gone(self, monkeypatch):
        monkeypatch.setattr(coap_source, "_LAST_WORDS_SECONDS", 0.05)
        intake = pending()
        async with running(intake, ack_after=0.02) as source:
            with Device(source) as device:
                assert await device.ask(POST_T) == EMPTY_ACK
                intake.deliveries[0].settle(ACCEPTED)
                await device.receive()
                await source.drain()
                assert len(source._separate) == 1

    async def test_nothing_under_way_is_the_end_at_once(self):
        async with running(RecordingIntake()) as source:
            with Device(source) as device:
                assert fields(await device.ask(POST_T))["code"] == "2.04"
                await source.drain()

    async def test_what_the_pipeline_releases_at_the_end_is_answered_5_03(self):
        intake = pending()
        async with running(intake, ack_after=0.02) as source:
            with Device(source) as device:
                assert await device.ask(POST_T) == EMPTY_ACK
                draining = asyncio.ensure_future(source.drain())
                await asyncio.sleep(0)
                intake.deliveries[0].settle(Settlement(Outcome.RELEASED, Reason.DRAINING, 5.0))
                answer = await device.receive()
                assert fields(answer)["code"] == "5.03"
                assert 30 <= fields(answer)["options"][14][0] <= 90
                acknowledge(device, answer)
                await draining
