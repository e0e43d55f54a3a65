"""Requests that are protected with OSCORE, byte by byte (RFC 8613, binding section 10.3)."""

import asyncio
import base64
import subprocess
import sys

import pytest
from aiocoap import oscore as aiocoap_oscore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.coap.oscore import Context
from tests.gateway.sources.coap import stream_device
from tests.gateway.sources.coap.device import Device, fields, post, routes, running
from tests.gateway.sources.coap.oscore_device import (
    CHANGED,
    POST_CE,
    context,
    echo_in,
    introduce,
    opened,
    protected,
    with_echo,
)
from tests.helpers import RecordingIntake, examples

OWN = {"/ce": {}, "/t": {"type": "com.acme.temp.v1"}}
POST_T = bytes.fromhex("02b1741132ff7b2261223a317d")  # POST /t, Content-Format 50, {"a":1}


def secured(intake, *contexts, **changes):
    changes.setdefault("routes", OWN)
    return running(intake, oscore=list(contexts) or [context()], **changes)


# --- the RFC's test vectors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sender_key", "recipient_key", "common_iv"),
    [
        (
            {},  # C.1.2
            "ffb14e093c94c9cac9471648b4f98710",
            "f0910ed7295e6ad4b54fc793154302ff",
            "4622d4dd6d944168eefb54987c",
        ),
        (
            {"recipient_id": "00", "master_salt": ""},  # C.2.2
            "e57b5635815177cd679ab4bcec9d7dda",
            "321b26943253c7ffb6003b0b64d74041",
            "be35ae297d2dace910c52e99f9",
        ),
        (
            {"id_context": "37cbf3210017a2d3"},  # C.3.2
            "e39a0c7c77b43f03b4b39ab9a268699f",
            "af2a1300a5e95788b356336eeecd2b92",
            "2ca58fb85ff1b81c0b7181b85e",
        ),
    ],
)
def test_keys_are_derived_as_in_appendix_c(changes, sender_key, recipient_key, common_iv):
    keys = Context(context(**changes), 0)._keys
    assert keys.sender_key.hex() == sender_key
    assert keys.recipient_key.hex() == recipient_key
    assert keys.common_iv.hex() == common_iv


@pytest.mark.parametrize(
    ("changes", "ciphertext"),
    [
        ({}, "612f1092f1776f1c1668b3825e"),  # C.4
        ({"recipient_id": "00", "master_salt": ""}, "4ed339a5a379b0b8bc731fffb0"),  # C.5
        ({"id_context": "37cbf3210017a2d3"}, "72cd7273fd331ac45cffbe55c3"),  # C.6
    ],
)
def test_requests_of_appendix_c_are_decrypted(changes, ciphertext):
    device = Context(context(**changes), 0)
    plaintext, _ = device.decrypt(2, b"\x14", bytes.fromhex(ciphertext))
    assert plaintext.hex() == "01b3747631"


def test_answers_are_protected_as_in_appendix_c():
    device = Context(context(), 0)
    _, protection = device.decrypt(2, b"\x14", bytes.fromhex("612f1092f1776f1c1668b3825e"))
    answer = b"\x45\xffHello World!"
    assert (
        protection.protect(answer).hex()  # C.7, but for type, message id and token
        == "4490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"
    )
    protection.use_own(b"\0", device._keys.nonce_of(b"\0", b"\x01"))
    assert (
        protection.protect(answer).hex()  # C.8
        == "44920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"
    )


def test_what_is_used_of_aiocoap_is_there():
    keys = aiocoap_oscore.SecurityContextUtils
    assert {"_construct_nonce", "_extract_external_aad", "derive_keys"} <= set(dir(keys))
    window = aiocoap_oscore.ReplayWindow(32, lambda: None)
    assert not window.is_initialized()
    window.initialize_from_freshlyseen(5)
    window.strike_out(7)
    assert [window.is_valid(number) for number in (4, 5, 6, 7, 8)] == [
        False,
        False,
        True,
        False,
        True,
    ]


# --- after a start --------------------------------------------------------------------------------


async def test_the_first_request_is_challenged_and_the_repetition_with_echo_is_accepted():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            challenge = opened(await device.ask(protected(POST_CE, 20, 1)), 20)
            assert intake.events == []
            again = with_echo(POST_CE, echo_in(challenge))
            assert opened(await device.ask(protected(again, 21, 2)), 21) == CHANGED
            assert opened(await device.ask(protected(POST_T, 22, 3)), 22) == CHANGED
    assert [event.type for event in intake.events] == ["t.x", "com.acme.temp.v1"]
    assert {event.source for event in intake.events} == {"/devices/oscdev"}
    assert [reason for reason, _ in intake.rejections] == ["echo"]


async def test_what_an_earlier_process_was_sent_brings_no_second_event():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            first = protected(POST_CE, 20, 1)
            challenge = opened(await device.ask(first), 20)
            again = protected(with_echo(POST_CE, echo_in(challenge)), 21, 2)
            assert opened(await device.ask(again), 21) == CHANGED
            third = protected(POST_T, 22, 3)
            assert opened(await device.ask(third), 22) == CHANGED
    assert len(intake.events) == 2
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as attacker:
            for number, datagram in ((20, first), (21, again), (22, third)):
                answer = opened(await attacker.ask(datagram), number)
                assert echo_in(answer) != echo_in(challenge)
    assert intake.events == []


def test_no_challenge_of_any_process_has_a_partial_iv_of_an_earlier_one():
    used = []
    for start in (1_800_000_000.0, 1_800_000_000.25, 1_800_000_000.5):
        device = Context(context(), 0)
        _, protection = device.decrypt(2, b"\x14", bytes.fromhex("612f1092f1776f1c1668b3825e"))
        while device.challenge(protection, start):
            option = protection._options[0][1]
            assert len(option) == 1 + option[0] == 6
            used.append(int.from_bytes(option[1:], "big"))
        assert len(used) % 64 == 0
    assert len(used) == 3 * 64
    assert used == sorted(set(used))


async def test_a_flood_of_requests_that_may_be_old_is_not_challenged_without_end():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            for mid in range(200):
                device.send(protected(POST_CE, 20, mid))
            answers = [fields(await device.receive()) for _ in range(200)]
    codes = [answer["code"] for answer in answers]
    assert codes.count("2.04") >= 64
    assert codes.count("5.03") == 200 - codes.count("2.04") > 0
    assert len({answer["options"].get(9) for answer in answers}) == codes.count("2.04") + 1
    refused = [answer["options"] for answer in answers if answer["code"] == "5.03"]
    assert all(options == {14: b"\x01"} for options in refused)  # Max-Age, and nothing protects it
    assert intake.events == []


def test_without_a_clock_that_is_set_there_is_no_challenge():
    device = Context(context(), 0)
    _, protection = device.decrypt(2, b"\x14", bytes.fromhex("612f1092f1776f1c1668b3825e"))
    assert not device.challenge(protection, 1000.0)
    assert device.challenge(protection, 1_800_000_000.0)
    assert not device.challenge(protection, float(1 << 32))  # 2106: Partial IVs have 5 bytes


async def test_a_wrong_echo_is_challenged_again():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            answer = await device.ask(protected(with_echo(POST_CE, bytes(8)), 20, 1))
            echo_in(opened(answer, 20))
    assert intake.events == []


# --- what is refused ------------------------------------------------------------------------------


async def test_a_replay_is_unauthorized_and_brings_no_second_event():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            assert opened(await device.ask(protected(POST_T, 2, 1)), 2) == CHANGED
            answer = fields(await device.ask(protected(POST_T, 2, 2)))  # SEC-08
    assert (answer["code"], answer["payload"]) == ("4.01", b"Replay detected")
    assert answer["options"] == {14: b""}  # Max-Age 0
    assert len(intake.events) == 2
    assert intake.rejections[-1][0] == "replay"


async def test_requests_may_overtake_each_other_within_the_window():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            codes = {}
            for number in (40, 39, 9, 8, 39):
                answer = await device.ask(protected(POST_T, number, number + len(codes)))
                codes[number] = fields(answer)["code"]
    assert codes == {40: "2.04", 39: "4.01", 9: "2.04", 8: "4.01"}


async def test_an_unknown_context_is_unauthorized():
    intake = RecordingIntake()
    async with secured(intake, context(recipient_id="05")) as source:
        with Device(source) as device:
            answer = fields(await device.ask(protected(POST_CE, 0, 1)))  # SEC-09
    assert (answer["code"], answer["payload"]) == ("4.01", b"Security context not found")
    assert (intake.events, intake.rejections[0][0]) == ([], "unknown_context")


@pytest.mark.parametrize(
    "damage",
    [
        lambda datagram: datagram[:-1] + bytes((datagram[-1] ^ 1,)),
        lambda datagram: datagram[:-20],
        lambda datagram: datagram[: datagram.index(b"\xff")],
        lambda datagram: datagram[: datagram.index(b"\xff") + 2],
    ],
)
async def test_what_can_t_be_decrypted_is_a_bad_request(damage):
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            answer = fields(await device.ask(damage(protected(POST_CE, 0, 1))))
    assert answer["code"] == "4.00"
    assert answer["payload"] in {b"Decryption failed", b""}
    assert (intake.events, intake.rejections[0][0]) == ([], "decryption")


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("90", "4.02"),  # empty: an answer's
        ("9100", "4.02"),
        ("9108", "4.02"),  # no Partial IV
        ("920114", "4.02"),  # no kid
        ("920a14", "4.02"),  # cut off
        ("970e010203040506", "4.02"),  # a Partial IV of six bytes
        ("922914", "4.02"),  # reserved bits
        ("928914", "4.02"),
        ("921914", "4.02"),  # no kid context where there should be one
        ("93191405", "4.02"),
        ("94191401aa", "4.01"),  # a kid context that nobody has
        ("920914020914", "4.02"),  # twice
        ("920914d10d61", "5.05"),  # Proxy-Uri
        ("920914d405000000a8", "4.02"),  # Block1 of four bytes
        ("920914c0", "4.02"),  # EDHOC
    ],
)
async def test_malformed_options_are_refused(option, code):
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            answer = fields(await device.ask(post(1, options=bytes.fromhex(option))))
    assert (answer["code"], answer["options"].get(9)) == (code, None)  # nothing protects it
    assert len(intake.rejections) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60))
@given(option=st.binary(max_size=12), payload=st.binary(max_size=40))
def test_any_option_and_ciphertext_are_answered_and_counted(option, payload):
    async def ask():
        intake = RecordingIntake()
        async with secured(intake) as source:
            with Device(source) as device:
                head = bytes((0x90 | len(option),)) + option
                return fields(await device.ask(post(1, options=head, payload=payload))), intake

    answer, intake = asyncio.run(ask())
    assert answer["code"] in {"4.00", "4.01", "4.02"}
    assert len(intake.rejections) == 1


@settings(max_examples=examples(60))
@given(inner=st.binary(max_size=40))
def test_anything_inside_is_answered_protected(inner):
    async def ask():
        async with secured(RecordingIntake()) as source:
            with Device(source) as device:
                await introduce(device)
                return opened(await device.ask(protected(inner, 2, 1)), 2)

    assert asyncio.run(ask())[0] >> 5 in {2, 4, 5}


async def test_without_contexts_the_option_is_a_bad_one():
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            assert fields(await device.ask(protected(POST_CE, 0, 1)))["code"] == "4.02"


# --- what counts ----------------------------------------------------------------------------------


async def test_outer_options_say_nothing():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            # SEC-10: Uri-Path x, Content-Format 9999, Uri-Query i=99 and an unknown critical option
            outer = b"\x21x\x12\x27\x0f\x34i=99\xd1\x31\xaa"
            answer = await device.ask(protected(POST_CE, 2, 1, block=outer))
    assert opened(answer, 2) == CHANGED
    assert (intake.events[-1].id, intake.events[-1].datacontenttype) == ("1", "application/json")


async def test_ids_are_made_of_context_kid_and_partial_iv_alone():
    async def ids(payload, mid, **changes):
        request = bytes.fromhex("02b17445743d742e78ff") + payload  # POST /t?t=t.x
        intake = RecordingIntake()
        async with secured(intake, context(**changes)) as source:
            with Device(source) as device:
                challenge = opened(await device.ask(protected(request, 1, 1)), 1)
                await device.ask(protected(with_echo(request, echo_in(challenge)), 2, mid))
                await device.ask(protected(request, 3, mid + 1))
        return [event.id for event in intake.events]

    first, second = await ids(b"1", 7)
    assert len(base64.urlsafe_b64decode(first)) == 12
    assert first != second
    assert await ids(b"2", 77, label="other") == [first, second]


@pytest.mark.parametrize(
    ("query", "code"), [(b"s=/devices/oscdev/a", 0x44), (b"s=/plant", 0x44), (b"s=/other", 0x83)]
)
async def test_a_context_speaks_for_its_own_source_and_those_it_may(query, code):
    async with secured(RecordingIntake(), context(may_speak_for=["/plant"])) as source:
        with Device(source) as device:
            await introduce(device)
            length = (
                bytes((0x30 | len(query),)) if len(query) < 13 else bytes((0x3D, len(query) - 13))
            )
            inner = b"\x02\xb1t\x11\x32" + length + query + b"\xff1"
            assert opened(await device.ask(protected(inner, 2, 1)), 2)[0] == code


async def test_a_context_is_enough_where_credentials_are_required():
    async with secured(RecordingIntake(), routes=routes()) as source:
        with Device(source) as device:
            await introduce(device)
            inner = b"\x02\xb4auth\x45t=t.x\xff1"
            assert opened(await device.ask(protected(inner, 2, 1)), 2) == CHANGED
            plain = post(9, options=b"\xb4auth\x45t=t.x")
            assert fields(await device.ask(plain))["code"] == "4.01"


@pytest.mark.parametrize(
    ("others", "option", "code"),
    [
        ([], "19140837cbf3210017a2d3", "2.04"),
        ([], "0914", "2.04"),  # one context only has this kid
        (["aa"], "0914", "4.01"),
        (["aa"], "19140837cbf3210017a2d3", "2.04"),
        ([None], "0914", "4.00"),
    ],
)
async def test_the_kid_context_may_be_left_out_where_the_kid_says_enough(others, option, code):
    contexts = [context(id_context="37cbf3210017a2d3")]
    contexts += [context(id_context=other, master_secret="ab" * 16) for other in others]
    async with secured(RecordingIntake(), *contexts) as source:
        with Device(source) as device:
            value = bytes.fromhex(option)
            request = post(
                1,
                options=bytes((0x90 | len(value),)) + value,
                payload=bytes.fromhex("72cd7273fd331ac45cffbe55c3"),  # C.6
            )
            assert fields(await device.ask(request))["code"] == code


# --- the message layer ----------------------------------------------------------------------------


async def test_a_repeated_datagram_gets_the_same_answer_and_makes_one_event():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            datagram = protected(POST_T, 2, 1)
            assert await device.ask(datagram) == await device.ask(datagram)
    assert len(intake.events) == 2


async def test_a_separate_answer_is_protected():
    intake = RecordingIntake()
    async with secured(intake, ack_after=0.05) as source:
        with Device(source) as device:
            await introduce(device)
            intake.answer = lambda _: None
            assert await device.ask(protected(POST_T, 2, 1)) == b"\x60\x00\x00\x01"
            intake.deliveries[-1].settle(ACCEPTED)
            answer = await device.receive()
            assert fields(answer)["type"] == "CON"
            assert opened(answer, 2) == CHANGED
            device.send(b"\x60\x00" + answer[2:4])


async def test_a_request_that_is_not_settled_in_time_gets_one_answer_only():
    intake = RecordingIntake()
    async with secured(intake, ack_after=0.05, sink_timeout=0.1) as source:
        with Device(source) as device:
            await introduce(device)
            intake.answer = lambda _: None
            assert await device.ask(protected(POST_T, 2, 1)) == b"\x60\x00\x00\x01"
            answer = await device.receive()
            assert opened(answer, 2)[0] == 0xA4
            device.send(b"\x60\x00" + answer[2:4])
            intake.deliveries[-1].settle(ACCEPTED)
            await device.expect_silence()


async def test_a_non_is_answered_protected():
    async with secured(RecordingIntake()) as source:
        with Device(source) as device:
            await introduce(device)
            answer = await device.ask(protected(POST_T, 2, 1, kind=0x51))
            assert fields(answer)["type"] == "NON"
            assert opened(answer, 2) == CHANGED


async def test_no_response_counts_when_it_is_inside():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            inner = b"\x02\xb1t\xd1\xea\x1a\xff1"  # 258, all classes
            assert await device.ask(protected(inner, 2, 1)) == b"\x60\x00\x00\x01"
    assert len(intake.events) == 2


async def test_an_outer_fetch_is_answered_with_content():
    async with secured(RecordingIntake()) as source:
        with Device(source) as device:
            await introduce(device)
            answer = await device.ask(protected(POST_T, 2, 1, code=5))
    assert fields(answer)["code"] == "2.05"
    assert opened(answer, 2) == CHANGED


async def test_no_response_outside_counts_for_what_is_not_protected():
    async with secured(RecordingIntake(), context(recipient_id="05")) as source:
        with Device(source) as device:
            request = protected(POST_T, 2, 1, block=b"\xd1\xec\x1a")
            assert await device.ask(request) == b"\x60\x00\x00\x01"


async def test_no_answer_is_longer_than_three_times_its_request():
    many = {"/ce": {}, **{f"/{number}": {} for number in range(30)}}
    async with secured(RecordingIntake(), routes=many) as source:
        with Device(source) as device:
            await introduce(device)
            for size in range(13, 140):
                elective = b"\xed\xfc\xd0" + bytes((size - 13,)) + bytes(size)  # 65000
                request = protected(b"\x01\xbb.well-known\x04core" + elective, size, size)
                answer = await device.ask(request)
                assert opened(answer, size)[0] == 0x45
                assert len(answer) <= 3 * len(request)


async def test_errors_are_protected_and_say_why():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            intake.answer = lambda _: Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5)
            busy = opened(await device.ask(protected(POST_T, 2, 1)), 2)
            nowhere = opened(await device.ask(protected(b"\x02\xb1x\xff1", 3, 2)), 3)
            inside = opened(await device.ask(protected(b"\x02\x92\x09\x14\xff1", 4, 3)), 4)
            no_request = opened(await device.ask(protected(b"\x45\xff1", 5, 4)), 5)
    assert busy == b"\x9d\xd1\x01\x03"  # 4.29, Max-Age 3
    assert nowhere == b"\x84\xffno such resource"
    assert inside[:1] == b"\x82"
    assert no_request[:1] == b"\x80"


async def test_discovery_works_inside():
    async with secured(RecordingIntake()) as source:
        with Device(source) as device:
            await introduce(device)
            request = b"\x01\xbb.well-known\x04core\x47rt=ce.*"
            inner = opened(await device.ask(protected(request, 2, 1)), 2)
    assert inner[0] == 0x45
    assert b"</ce>" in inner


# --- blocks ---------------------------------------------------------------------------------------


def block_of(number, payload, size=16, more=True):
    """POST /t with Block1 (SZX 0), its Content-Format 42."""
    value = bytes((number << 4 | more << 3,))
    return b"\x02\xb1t\x11\x2a\xd1\x02" + value + b"\xff" + payload[number * size :][:size]


async def test_blocks_inside_are_put_together():
    intake = RecordingIntake()
    payload = bytes(range(40))
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            for number in (0, 1):
                inner = block_of(number, payload)
                answer = opened(await device.ask(protected(inner, 2 + number, number)), 2 + number)
                assert answer == bytes((0x5F, 0xD1, 0x0E, number << 4 | 8))
            last = opened(await device.ask(protected(block_of(2, payload, more=False), 4, 2)), 4)
    assert last == b"\x44\xd1\x0e\x20"
    assert intake.events[-1].data == payload


async def test_nobody_can_put_a_plain_block_among_protected_ones():
    intake = RecordingIntake()
    payload = bytes(range(32))
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            await device.ask(protected(block_of(0, payload), 2, 1))
            foreign = block_of(1, bytes(32), more=False)
            plain = b"\x41\x02\x00\x02\x07" + foreign[1:]
            assert fields(await device.ask(plain))["code"] == "4.08"
            last = protected(block_of(1, payload, more=False), 3, 3)
            assert opened(await device.ask(last), 3)[0] == 0x44
    assert intake.events[-1].data == payload


async def test_a_protected_request_that_comes_in_blocks_is_put_together():
    intake = RecordingIntake()
    async with secured(intake) as source:
        with Device(source) as device:
            await introduce(device)
            whole = protected(POST_CE, 2, 1)
            head, _, ciphertext = whole.partition(b"\xff")
            for number, more in ((0, True), (1, False)):
                block1 = b"\xd1\x05" + bytes((number << 4 | more << 3,))  # 27 = 9 + 13 + 5
                part = ciphertext[16 * number :][:16]
                mid = bytes((0, 10 + number))
                answer = await device.ask(head[:2] + mid + head[4:] + block1 + b"\xff" + part)
                assert fields(answer)["options"][27] == block1[2:]
                if more:
                    assert fields(answer)["code"] == "2.31"
            assert opened(answer, 2) == CHANGED
    assert len(intake.events) == 2


async def test_a_protected_request_in_blocks_has_a_limit():
    intake = RecordingIntake()
    async with secured(
        intake, routes={"/t": {"type": "t", "max_event_bytes": 10}}, limits={"max_event_bytes": 10}
    ) as source:
        with Device(source) as device:
            for number in range(3):
                options = b"\x92\x09\x14\xd1\x05" + bytes((number << 4 | 8 | 6,))
                answer = fields(
                    await device.ask(post(number, options=options, payload=bytes(1024)))
                )
    assert answer["code"] == "4.13"


# --- connections, and what is loaded --------------------------------------------------------------


async def test_oscore_works_over_tcp():
    intake = RecordingIntake()

    async def ask(line, inner, number):
        datagram = protected(inner, number, 0)
        answer = await line.ask(stream_device.message(2, options=datagram[5:]))
        code_at = 2 if answer[0] >> 4 == 13 else 1
        as_datagram = b"\x41" + answer[code_at : code_at + 1] + b"\0\0" + answer[code_at + 1 :]
        return opened(as_datagram, number)

    async with (
        stream_device.listening(intake, oscore=[context()], routes=OWN) as source,
        stream_device.connection(source) as line,
    ):
        await line.greet()
        challenge = await ask(line, POST_CE, 0)
        assert await ask(line, with_echo(POST_CE, echo_in(challenge)), 1) == CHANGED
    assert [event.source for event in intake.events] == ["/devices/oscdev"]


def test_the_library_is_loaded_for_a_context_only():
    program = """
import sys
from gateway.sources.coap import CoapSource, CoapSourceConfig
CoapSource(CoapSourceConfig(name="field", protocol="coap"))
assert "aiocoap.oscore" not in sys.modules and "cryptography" not in sys.modules
agreed = dict(label="a", sender_id="01", recipient_id="", master_secret="00" * 16)
CoapSource(CoapSourceConfig(name="field", protocol="coap", oscore=[agreed]))
assert "aiocoap.oscore" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
