"""OSCORE (RFC 8613) with aiocoap's client, which has an implementation of its own of both sides."""

import asyncio
from contextlib import asynccontextmanager

import aiocoap
import pytest
from aiocoap import oscore
from aiocoap.numbers.codes import Code

from bindings.wire.coap import Message, Type, serialise
from gateway.config.records import Address
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.coap import CoapSource, CoapSourceConfig
from tests.gateway.sources.coap.device import Device, fields
from tests.helpers import RecordingIntake

SECRET = "00112233445566778899aabbccddeeff"
BIG = bytes(n % 251 for n in range(10_000))
ROUTES = {
    "/ce": {},
    "/t": {"type": "com.acme.temp.v1"},
    "/small": {"type": "t", "max_event_bytes": 2000},
}
ALGORITHMS = (
    "AES-CCM-16-64-128", "AES-CCM-16-64-256", "AES-CCM-16-128-128", "AES-CCM-16-128-256",
    "A128GCM", "A192GCM", "A256GCM", "ChaCha20/Poly1305",
)  # fmt: skip


class ClientContext(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):
    """What aiocoap keeps in files, in memory."""

    echo_recovery = None

    def __init__(self, *, algorithm=oscore.DEFAULT_ALGORITHM, id_context=None, sender_id=b"\x02"):
        self.alg_aead = oscore.algorithms[algorithm]
        self.hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
        self.sender_id, self.recipient_id = sender_id, b"\x01"
        self.id_context = id_context
        self.sender_sequence_number = 0
        self.derive_keys(b"salt", bytes.fromhex(SECRET))
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self):
        pass


def gateway_context(**changes):
    return {
        "label": "oscdev", "sender_id": "01", "recipient_id": "02", "master_secret": SECRET,
        "master_salt": b"salt".hex(), **changes,
    }  # fmt: skip


@asynccontextmanager
async def running(intake, context=None, **changes):
    changes = {"routes": ROUTES, "sink_timeout": 5, **changes}
    contexts = [gateway_context(**(context or {}))]
    listen = Address("127.0.0.1", 0)
    source = CoapSource(
        CoapSourceConfig(protocol="coap", listen=listen, oscore=contexts, **changes)
    )
    await source.open(intake)
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def client(source, credentials):
    """A function that sends a request with aiocoap and returns the response."""
    context = await aiocoap.Context.create_client_context()
    base = f"coap://{source.address}"
    context.client_credentials[f"{base}/*"] = credentials

    async def ask(path, payload=b"", code=Code.POST, **options):
        request = aiocoap.Message(code=code, uri=base + path, payload=payload, **options)
        async with asyncio.timeout(20):
            return await context.request(request).response

    try:
        yield ask
    finally:
        await context.shutdown()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_aiocoap_sends_a_protected_event(algorithm):
    intake = RecordingIntake()
    async with (
        running(intake, {"algorithm": algorithm}) as source,
        client(source, ClientContext(algorithm=algorithm)) as ask,
    ):
        response = await ask("/ce?t=t.x&i=1", b'{"a":1}', content_format=50)  # SEC-07
        assert (response.code, response.payload) == (Code.CHANGED, b"")
        assert (await ask("/ce?t=t.x&i=2", b"2", content_format=0)).code == Code.CHANGED
    assert [(event.id, event.source) for event in intake.events] == [
        ("1", "/devices/oscdev"), ("2", "/devices/oscdev")
    ]  # fmt: skip
    assert [reason for reason, _ in intake.rejections] == ["echo"]


async def test_aiocoap_with_a_kid_context_sends_a_protected_event():
    intake = RecordingIntake()
    async with (
        running(intake, {"id_context": "aabb"}) as source,
        client(source, ClientContext(id_context=b"\xaa\xbb")) as ask,
    ):
        assert (await ask("/t", b"1")).code == Code.CHANGED
    assert len(intake.events) == 1


async def test_aiocoap_with_an_unknown_id_is_told_so_without_protection():
    intake = RecordingIntake()
    async with running(intake) as source, client(source, ClientContext(sender_id=b"\x07")) as ask:
        with pytest.raises(oscore.NotAProtectedMessage) as caught:  # SEC-09
            await ask("/t", b"1")
    assert caught.value.plain_message.code == Code.UNAUTHORIZED
    assert caught.value.plain_message.payload == b"Security context not found"
    assert intake.events == []


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        ("/ce", {}, Code.BAD_REQUEST),
        ("/nowhere", {}, Code.NOT_FOUND),
        ("/t?s=/other", {}, Code.FORBIDDEN),
        ("/t", {"content_format": 9999}, Code.UNSUPPORTED_CONTENT_FORMAT),
        ("/t", {"accept": 41}, Code.NOT_ACCEPTABLE),
        ("/t", {"code": Code.PUT}, Code.METHOD_NOT_ALLOWED),
    ],
)
async def test_aiocoap_is_told_what_is_wrong_with_protection(path, options, code):
    async with running(RecordingIntake()) as source, client(source, ClientContext()) as ask:
        assert (await ask(path, b"1", **options)).code == code


@pytest.mark.parametrize("size", [1000, 1024, 1025, 10_000])
async def test_aiocoap_sends_a_payload_in_blocks_inside_and_outside(size):
    intake = RecordingIntake()
    async with running(intake) as source, client(source, ClientContext()) as ask:
        assert (await ask("/t?i=1", BIG[:size], content_format=42)).code == Code.CHANGED
    assert [event.data for event in intake.events] == [BIG[:size]]


async def test_aiocoap_is_told_that_a_payload_is_too_large():
    intake = RecordingIntake()
    async with running(intake) as source, client(source, ClientContext()) as ask:
        response = await ask("/small", BIG, content_format=42)
    assert (response.code, response.opt.size1) == (Code.REQUEST_ENTITY_TOO_LARGE, 2000)
    assert intake.events == []


@pytest.mark.parametrize(
    ("settlement", "code"),
    [
        (ACCEPTED, Code.CHANGED),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), Code.SERVICE_UNAVAILABLE),
    ],
)
async def test_aiocoap_gets_a_separate_answer(settlement, code):
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05) as source, client(source, ClientContext()) as ask:
        pending = asyncio.ensure_future(ask("/t", b"1"))
        await intake.wait_for(lambda intake: intake.deliveries)
        asyncio.get_running_loop().call_later(0.3, intake.deliveries[0].settle, settlement)
        assert (await pending).code == code


async def test_aiocoap_reads_the_list_of_resources():
    async with running(RecordingIntake()) as source, client(source, ClientContext()) as ask:
        response = await ask("/.well-known/core", code=Code.GET)
    assert response.payload.count(b"</") == 3


async def test_a_restart_costs_aiocoap_one_round_trip_and_no_event():
    credentials = ClientContext()
    intake = RecordingIntake()
    for number in range(3):
        async with running(intake) as source, client(source, credentials) as ask:
            for part in (1, 2):
                response = await ask(f"/ce?t=t&i={number}.{part}", b"1", content_format=0)
                assert response.code == Code.CHANGED
    assert [event.id for event in intake.events] == ["0.1", "0.2", "1.1", "1.2", "2.1", "2.2"]
    assert [reason for reason, _ in intake.rejections] == ["echo"] * 3
    assert credentials.sender_sequence_number == 9


async def test_aiocoap_s_request_replayed_with_another_message_id_is_unauthorized():
    intake = RecordingIntake()
    credentials = ClientContext()
    async with running(intake) as source:
        async with client(source, credentials) as ask:
            await ask("/t", b"1")
        inner = aiocoap.Message(code=Code.POST, uri_path=["t"], payload=b"2", _token=b"1")
        outer, _ = credentials.protect(inner)
        with Device(source) as device:
            codes = []
            for mid in (1, 2):
                options = [(9, outer.opt.oscore)]
                message = Message(Type.CON, outer.code, mid, b"1", options, outer.payload)
                codes.append(fields(await device.ask(serialise(message)))["code"])
    assert codes == ["2.04", "4.01"]  # SEC-08; the first is protected, the second is not
    assert [event.data for event in intake.events] == [b"1", b"2"]
