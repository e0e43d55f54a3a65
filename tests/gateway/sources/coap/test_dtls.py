"""CoAP over DTLS with pre-shared keys, with mbedtls as the device."""

import asyncio
import random
from contextlib import ExitStack

import pytest

from gateway.delivery import ACCEPTED
from gateway.sources.coap import dtls
from gateway.sources.coap.dtls import DtlsListener
from gateway.sources.coap.dtls_session import cipher_suites
from tests.gateway.sources.coap.device import POST_T, config, fields, post
from tests.gateway.sources.coap.dtls_device import (
    ALERT,
    HANDSHAKE,
    KEYS,
    LOOPBACK,
    DtlsDevice,
    connected,
    listening,
)
from tests.helpers import RecordingIntake

HELLO_VERIFY_REQUEST, SERVER_HELLO = 3, 2
OWN = {"/t": {"type": "t.x"}}
PATH_T = b"\xb1t"


def queries(text):
    """POST /t with one query."""
    length = bytes((0x4D, len(text) - 13)) if len(text) > 12 else bytes((0x40 | len(text),))
    return PATH_T + length + text.encode()


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "source"),
    [("dev1", "/devices/dev1"), ("dev2", "/devices/dev2"), ("gw", "/devices/line%207")],
)
async def test_the_identity_says_what_the_source_is(identity, source):
    intake = RecordingIntake()
    async with listening(intake, routes=OWN) as gateway, connected(gateway, identity) as device:
        assert fields(await device.ask(POST_T))["code"] == "2.04"
    assert [event.source for event in intake.events] == [source]


@pytest.mark.parametrize(
    ("identity", "claimed", "code"),
    [
        ("dev1", "/devices/dev1#a", "2.04"),
        ("dev1", "/devices/dev2", "4.03"),
        ("dev1", "/plant/a", "4.03"),
        ("gw", "/plant/a", "2.04"),
        ("gw", "/plants", "4.03"),
    ],
)
async def test_an_identity_claims_its_own_sources_and_those_of_its_rule(identity, claimed, code):
    intake = RecordingIntake()
    async with listening(intake, routes=OWN) as gateway, connected(gateway, identity) as device:
        reply = await device.ask(post(1, options=queries(f"s={claimed}")))
    assert fields(reply)["code"] == code
    assert [event.source for event in intake.events] == [claimed] * (code == "2.04")


async def test_a_route_that_needs_credentials_takes_those_of_the_session():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        reply = await device.ask(post(1, options=b"\xb4auth\x45t=t.x"))
    assert fields(reply)["code"] == "2.04"


async def test_a_repeated_request_is_answered_again_and_makes_one_event():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        first = await device.ask(POST_T)
        assert await device.ask(POST_T) == first
    assert len(intake.events) == 1


async def test_the_same_request_in_another_session_is_another_one():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        await device.ask(POST_T)
        device.begin()
        await device.connect()
        assert fields(await device.ask(POST_T))["code"] == "2.04"
    first, second = intake.events
    assert first.id != second.id


async def test_blocks_do_not_go_on_in_another_session():
    async with listening(RecordingIntake()) as gateway, connected(gateway) as device:
        begun = await device.ask(post(1, options=PATH_T + b"\xd1\x03\x08", payload=bytes(16)))
        assert fields(begun)["code"] == "2.31"
        device.begin()
        await device.connect()
        reply = await device.ask(post(2, options=PATH_T + b"\xd1\x03\x10", payload=bytes(16)))
        assert fields(reply)["code"] == "4.08"


async def test_what_many_records_of_one_datagram_bring_is_taken():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        device.send_raw(device.encrypted(post(1)) + device.encrypted(post(2)))
        replies = {(await device.receive())[2:4] for _ in range(2)}
    assert replies == {b"\0\1", b"\0\2"}
    assert len(intake.events) == 2


async def test_a_session_outlives_many_times_its_buffers():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        for mid in range(200):
            reply = await device.ask(post(mid, payload=b'"' + bytes([97]) * 1000 + b'"'))
            assert fields(reply)["code"] == "2.04"
    assert len(intake.events) == 200


async def test_a_separate_answer_is_repeated_within_the_session():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake, ack_after=0.05) as gateway, connected(gateway) as device:
        assert fields(await device.ask(POST_T))["code"] == "0.00"
        intake.deliveries[0].settle(ACCEPTED)
        answer = await device.receive()
        assert fields(answer)["type"] == "CON"
        assert await device.receive() == answer
        device.send(b"\x60\0" + answer[2:4])
        await device.expect_silence()


# --- handshakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", cipher_suites())
async def test_every_suite_that_is_offered_works(suite):
    async with (
        listening(RecordingIntake()) as gateway,
        connected(gateway, suites=(suite,)) as device,
    ):
        assert fields(await device.ask(POST_T))["code"] == "2.04"
        assert device.session.cipher() == suite


async def test_a_first_hello_costs_nothing_and_is_not_amplified():
    async with listening(RecordingIntake()) as gateway:
        for _ in range(3):
            with DtlsDevice(gateway) as device:
                hello = device.flight()
                answer = await device.ask_raw(hello)
                assert (answer[0], answer[13]) == (HANDSHAKE, HELLO_VERIFY_REQUEST)
                assert len(answer) <= len(hello)


async def test_a_cookie_is_good_for_its_own_address_only():
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway) as device, DtlsDevice(gateway) as forger:
            with_cookie = await device.hello()
            answer = await forger.ask_raw(with_cookie)
            assert answer[13] == HELLO_VERIFY_REQUEST
            assert (await device.ask_raw(with_cookie))[13] == SERVER_HELLO


@pytest.mark.parametrize(("identity", "key"), [("dev1", b"wrong"), ("nobody", b"open sesame")])
async def test_without_the_right_key_the_handshake_fails_and_others_go_on(identity, key):
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as other:
        with DtlsDevice(gateway, identity, key) as device:
            device.session.receive_from_network(await device.ask_raw(await device.hello()))
            assert (await device.ask_raw(device.flight()))[0] == ALERT
        assert fields(await other.ask(POST_T))["code"] == "2.04"
    assert [reason for reason, _ in intake.rejections] == ["handshake"]


def key_exchange(identity):
    """A ClientKeyExchange as it follows a hello with a cookie (RFC 4279 2, RFC 6347 4.2.2)."""
    body = len(identity).to_bytes(2, "big") + identity
    length = len(body).to_bytes(3, "big")
    message = b"\x10" + length + b"\0\x02" + bytes(3) + length + body
    head = bytes((HANDSHAKE, 0xFE, 0xFD)) + bytes(7) + b"\x09"
    return head + len(message).to_bytes(2, "big") + message


async def test_nobody_gets_the_identity_that_another_handshake_has_named():
    intake = RecordingIntake()
    async with listening(intake, routes=OWN) as gateway:
        with DtlsDevice(gateway, "dev1") as thief, DtlsDevice(gateway, "dev2") as helper:
            hello = await thief.hello()
            thief.session.receive_from_network(await thief.ask_raw(hello))
            await helper.ask_raw(await helper.hello() + key_exchange(b"gw"))
            thief.send_raw(hello[:40])  # nothing of the handshake, but it is looked at
            thief.session.receive_from_network(await thief.ask_raw(thief.flight()))
            thief.flight()
            assert fields(await thief.ask(POST_T))["code"] == "2.04"
    assert [event.source for event in intake.events] == ["/devices/dev1"]


async def test_what_follows_a_hello_without_cookie_hurts_nobody():
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway, "dev1") as stranger, DtlsDevice(gateway, "dev2") as device:
            answer = await stranger.ask_raw(stranger.flight() + key_exchange(b"gw"))
            assert answer[13] == HELLO_VERIFY_REQUEST
            assert fields(await (await device.connect()).ask(POST_T))["code"] == "2.04"


async def test_a_flight_of_ours_that_is_lost_is_sent_again(monkeypatch):
    monkeypatch.setattr(dtls, "FLIGHT_SECONDS", 0.1)
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway) as device:
            lost = await device.ask_raw(await device.hello())
            again = await device.receive_raw(3)
            assert again[13] == SERVER_HELLO
            assert len(again) == len(lost)
            device.session.receive_from_network(again)
            await device.finish()
            assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_the_last_flight_is_sent_again_when_the_device_asks_for_it():
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway) as device:
            device.session.receive_from_network(await device.ask_raw(await device.hello()))
            await device.ask_raw(device.flight())  # lost
            while not (repeated := device.flight()):
                await asyncio.sleep(0.05)  # a second, by the clock of mbedtls
            device.session.receive_from_network(await device.ask_raw(repeated))
            device.flight()
            assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_a_late_copy_of_the_hello_neither_ends_the_session_nor_begins_another():
    async with listening(RecordingIntake()) as gateway, connected(gateway) as other:
        with DtlsDevice(gateway) as device:
            hello = await device.hello()
            device.session.receive_from_network(await device.ask_raw(hello))
            device.session.receive_from_network(await device.ask_raw(device.flight()))
            device.flight()
            device.send_raw(hello)
            await other.expect_silence()  # it has been read
            expect_nothing(device)
            assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_a_session_ends_when_the_next_one_of_its_device_is_there_and_not_before():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as device:
        old = device.session
        device.begin()
        new = device.session
        new.receive_from_network(await device.ask_raw(await device.hello()))
        device.session = old
        assert fields(await device.ask(POST_T))["code"] == "2.04"
        late = device.encrypted(post(1))
        device.session = new
        new.receive_from_network(await device.ask_raw(device.flight()))
        device.flight()
        device.send_raw(late)
        assert fields(await device.ask(post(2)))["code"] == "2.04"
    assert len(intake.events) == 2


async def test_an_answer_of_the_session_before_is_not_sent():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as gateway, connected(gateway) as device:
        device.send(POST_T)
        await intake.wait_for(lambda intake: intake.deliveries)
        device.begin()
        await device.connect()
        intake.deliveries[0].settle(ACCEPTED)
        await device.expect_silence()
        expect_nothing(device)


async def test_a_session_is_forgotten_when_the_next_one_is_there_and_when_it_ends():
    received, forgotten = [], []
    settings = config(listen_dtls=LOOPBACK, psk=KEYS)
    listener = DtlsListener(settings, RecordingIntake(), received.extend, forgotten.append)
    await listener.open(LOOPBACK)
    with DtlsDevice(Listening(listener.address)) as device:
        for _ in range(2):
            device.begin()
            await device.connect()
            device.send(POST_T)
        device.close()
        async with asyncio.timeout(5):
            while len(forgotten) < 2:
                await asyncio.sleep(0)
    listener.close()
    assert [datagram for datagram, _ in received] == [POST_T] * 2
    assert forgotten == [endpoint for _, endpoint in received]
    assert len({endpoint.address for endpoint in forgotten}) == 2


async def test_what_arrives_when_a_flight_is_due_again_is_read_at_once(monkeypatch):
    monkeypatch.setattr(dtls, "FLIGHT_SECONDS", 0.02)
    monkeypatch.setattr(dtls, "_TICK_SECONDS", 60)
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway) as device:
            device.session.receive_from_network(await device.ask_raw(await device.hello()))
            await asyncio.sleep(0.05)  # by the clock of mbedtls
            assert (await device.ask_raw(device.flight()))[13] == SERVER_HELLO
            device.session.receive_from_network(await device.receive_raw())
            device.flight()
            assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_a_hello_that_is_dropped_has_no_handshake(monkeypatch):
    monkeypatch.setattr(dtls, "MAX_HANDSHAKES", 1)
    async with listening(RecordingIntake()) as gateway:
        with DtlsDevice(gateway) as device, DtlsDevice(gateway) as stranger:
            device.session.receive_from_network(await device.ask_raw(await device.hello()))
            stranger.send_raw(stranger.flight()[:-1])
            device.session.receive_from_network(await device.ask_raw(device.flight()))
            device.flight()
            assert fields(await device.ask(POST_T))["code"] == "2.04"
            expect_nothing(stranger)


async def test_coap_without_dtls_gets_no_answer():
    intake = RecordingIntake()
    async with listening(intake) as gateway, connected(gateway) as other:
        with DtlsDevice(gateway) as device:
            device.send_raw(POST_T)
            await other.expect_silence()  # it has been read
            expect_nothing(device)
    assert intake.events == []


async def test_a_handshake_that_takes_too_long_is_given_up():
    intake = RecordingIntake()
    async with listening(intake, message_timeout=0.1) as gateway:
        with DtlsDevice(gateway) as device:
            await device.ask_raw(await device.hello())
            await intake.wait_for(lambda intake: intake.rejections)
    assert intake.rejections == [("handshake", "not in time")]


async def test_of_too_many_handshakes_the_oldest_is_given_up(monkeypatch):
    monkeypatch.setattr(dtls, "MAX_HANDSHAKES", 1)
    intake = RecordingIntake()
    async with listening(intake) as gateway:
        with DtlsDevice(gateway) as first, DtlsDevice(gateway) as second:
            first.session.receive_from_network(await first.ask_raw(await first.hello()))
            await second.connect()
            assert intake.rejections == [("handshake", "too many at once")]
            first.send_raw(first.flight())
            assert fields(await second.ask(POST_T))["code"] == "2.04"
            expect_nothing(first)


# --- the end of sessions --------------------------------------------------------------------------


async def test_one_session_more_ends_the_one_that_was_used_least():
    async with (
        listening(RecordingIntake(), max_sessions=2) as gateway,
        connected(gateway) as first,
        connected(gateway) as second,
    ):
        await first.ask(POST_T)
        async with connected(gateway, "dev2") as third:
            await second.expect_end()
            for device in (first, third):
                assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_no_identity_ends_the_sessions_of_others_by_beginning_too_many():
    async with (
        listening(RecordingIntake(), max_sessions=3) as gateway,
        connected(gateway, "dev2") as quiet,
        connected(gateway) as first,
        connected(gateway) as second,
        connected(gateway) as third,
    ):
        await first.expect_end()
        async with connected(gateway) as fourth:
            await second.expect_end()
            for device in (quiet, third, fourth):
                assert fields(await device.ask(POST_T))["code"] == "2.04"


async def test_a_silent_session_is_ended():
    async with (
        listening(RecordingIntake(), session_timeout=0.1) as gateway,
        connected(gateway) as device,
    ):
        await device.expect_end()


async def test_sessions_are_ended_with_the_source():
    async with listening(RecordingIntake()) as gateway:
        device = DtlsDevice(gateway)
        await device.connect()
    with device:
        await device.expect_end()


async def test_a_device_that_says_goodbye_is_forgotten_and_its_answer_too():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake) as gateway, connected(gateway) as device:
        device.send(POST_T)
        device.close()
        await intake.wait_for(lambda intake: intake.deliveries)
        async with connected(gateway) as other:  # what came before it has been read
            intake.deliveries[0].settle(ACCEPTED)
            await other.expect_silence()
            expect_nothing(device)


# --- what is malformed ----------------------------------------------------------------------------


async def test_malformed_records_stop_neither_the_source_nor_a_session(caplog):
    """Every octet of what a device sends is changed once, for the greeter and for its session."""
    rng = random.Random(1)
    intake = RecordingIntake()
    async with listening(intake, routes=OWN) as gateway, connected(gateway) as other:
        with DtlsDevice(gateway) as device, ExitStack() as closing:
            hello = device.flight()
            device.session.receive_from_network(await device.ask_raw(hello))
            with_cookie = device.flight()
            device.session.receive_from_network(await device.ask_raw(with_cookie))
            finish = device.flight()
            device.session.receive_from_network(await device.ask_raw(finish))
            device.flight()
            request = device.encrypted(POST_T)
            stranger = closing.enter_context(DtlsDevice(gateway))
            for record in (hello, with_cookie, finish, request):
                for position in range(len(record)):
                    wrong = bytearray(record)
                    wrong[position] ^= rng.randrange(1, 256)
                    for sender in (device, stranger):
                        sender.send_raw(bytes(wrong[: rng.choice((None, position))]))
                await other.expect_silence()  # all of it has been read
            for sender in (device, stranger):
                sender.send_raw(request[:11] + b"\xea\x60" + bytes(60000))
            for size in range(80):
                stranger.send_raw(rng.randbytes(size))
            await other.expect_silence()
            assert intake.events == []
            drain(device.socket)
            assert fields(await device.ask(POST_T))["code"] == "2.04"
    assert len(intake.events) == 1
    assert not caplog.records
    assert {reason for reason, _ in intake.rejections} <= {"handshake"}


class Listening:
    """A listener, as a device wants to know it."""

    def __init__(self, dtls_address):
        self.dtls_address = dtls_address


def expect_nothing(device):
    with pytest.raises(BlockingIOError):
        device.socket.recv(2048)


def drain(socket):
    """Read what has arrived."""
    try:
        while True:
            socket.recv(2048)
    except BlockingIOError:
        pass
