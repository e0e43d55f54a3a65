"""CoAP over DTLS as `send` speaks it, against our source; tests/e2e has a foreign server."""

import socket
from contextlib import asynccontextmanager

import pytest

from bindings.event import Event
from gateway.cli.senders import SendError, SendOptions
from gateway.cli.senders.coap import CoapSender
from tests.gateway.sources.coap.dtls_device import listening
from tests.helpers import RecordingIntake

EVENT = Event(id="1", source="/devices/dev1", type="t", data=b"{}")
DEV1 = {"psk_identity": "dev1", "psk_key": "open sesame"}
DEV2 = {"psk_identity": "dev2", "psk_key": "hex:ff00fe01"}


@asynccontextmanager
async def sending(address, path="/ce", **options):
    sender = CoapSender(f"coaps://{address}{path}", SendOptions(**options))
    await sender.open()
    try:
        yield sender
    finally:
        await sender.close()


@pytest.mark.parametrize("confirmable", [True, False])
@pytest.mark.parametrize("credentials", [DEV1, DEV2], ids=["text", "hex"])
async def test_events_go_through_a_session(credentials, confirmable):
    intake = RecordingIntake()
    options = {"confirmable": confirmable, **credentials}
    async with listening(intake) as source, sending(source.address, **options) as sender:
        for _ in range(3):
            assert await sender.send(EVENT) == "2.04 Changed"
    assert [event.id for event in intake.events] == ["1"] * 3


async def test_what_is_large_goes_in_blocks():
    intake = RecordingIntake()
    async with listening(intake) as source, sending(source.address, **DEV1) as sender:
        large = Event(id="1", source="/s", type="t", data=bytes(60000))
        assert await sender.send(large) == "2.04 Changed"
    assert intake.events[0].data == bytes(60000)


async def test_the_wrong_key_is_told_from_no_answer():
    async with listening(RecordingIntake()) as source:
        for wrong in ({**DEV1, "psk_key": "x"}, {**DEV1, "psk_identity": "nobody"}):
            sender = CoapSender(f"coaps://{source.address}/", SendOptions(**wrong))
            with pytest.raises(SendError, match="are identity and key right"):
                await sender.open()


async def test_nobody_there_is_told():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        sender = CoapSender(f"coaps://127.0.0.1:{port}", SendOptions(**DEV1, timeout=0.1))
        with pytest.raises(SendError, match=r"no DTLS handshake within 0.1 s"):
            await sender.open()
    sender = CoapSender(f"coaps://127.0.0.1:{port}", SendOptions(**DEV1))
    with pytest.raises(SendError, match="does anything listen there"):
        await sender.open()


async def test_a_first_flight_that_is_lost_is_sent_again():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        sender = CoapSender(
            f"coaps://127.0.0.1:{silent.getsockname()[1]}", SendOptions(**DEV1, timeout=1.6)
        )
        with pytest.raises(SendError, match="no DTLS handshake"):
            await sender.open()
        first, again = silent.recv(2048), silent.recv(2048)
        assert first[13:] == again[13:]  # but for the sequence number of the record


async def test_a_session_that_the_other_side_closes_fails_what_waits():
    intake = RecordingIntake(lambda _: None)
    closing = listening(intake, session_timeout=0.1)
    async with closing as source, sending(source.address, **DEV1) as sender:
        with pytest.raises(SendError, match="the DTLS session was closed"):
            await sender.send(EVENT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs --psk-identity and --psk-key"),
        ({"psk_identity": "dev1"}, "needs --psk-identity and --psk-key"),
    ],
)
def test_credentials_are_needed(options, words):
    with pytest.raises(SendError, match=words):
        CoapSender("coaps://127.0.0.1/", SendOptions(**options))


@pytest.mark.parametrize(
    ("key", "words"), [("hex:0g", "no hexadecimal number"), ("x" * 33, "1 to 32 bytes")]
)
async def test_a_key_that_cant_be_used_is_told(key, words):
    sender = CoapSender("coaps://127.0.0.1/", SendOptions(psk_identity="d", psk_key=key))
    with pytest.raises(SendError, match=words):
        await sender.open()
