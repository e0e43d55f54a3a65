"""CoAP over DTLS with foreign clients: libcoap on OpenSSL and on GnuTLS."""

import asyncio
import re
import socket
from contextlib import asynccontextmanager

import pytest

from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.coap import CoapSender
from gateway.config.records import Address
from gateway.delivery import Outcome, Reason, Settlement
from gateway.sources.coap import CoapSource, CoapSourceConfig
from tests.e2e.servers.process import free_port, program
from tests.helpers import RecordingIntake

CLIENTS = ("coap-client-openssl", "coap-client-gnutls")
KEYS = {
    "dev1": {"key": "open sesame"},
    "dev2": {"key_hex": "6f70656e"},
    "gw": {"key": "field gateway", "may_speak_for": ["/plant"]},
    "serial-4711": {"key": "labelled", "label": "pump"},
    "a b/ü": {"key": "odd"},
}
ROUTES = {
    "/ce": {},
    "/any": {"source_policy": "any"},
    "/auth": {"authentication": "required"},
}
BODY = '{"a":1}'

pytestmark = pytest.mark.parametrize("client", CLIENTS)


@asynccontextmanager
async def running(intake, **changes):
    changes = {"routes": ROUTES, "ack_after": 0.3, "sink_timeout": 5, "psk": KEYS, **changes}
    config = CoapSourceConfig(
        protocol="coap", listen=None, listen_dtls=Address("127.0.0.1", 0), **changes
    )
    source = CoapSource(config)
    await source.open(intake)
    try:
        yield f"coaps://{source.dtls_address}"
    finally:
        await source.close()


async def coap_client(client, *arguments, user="dev1", key="open sesame", seconds=10):
    """Run libcoap's client; returns what it prints, which for an error is code and diagnostic."""
    process = await asyncio.create_subprocess_exec(
        program(client, "libcoap3-bin"), "-B", str(seconds), "-u", user, "-k", key,
        "-m", "post", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(seconds + 20):
        output, _ = await process.communicate()
    return output.decode()


async def post(client, url, **credentials):
    return await coap_client(client, "-t", "50", "-e", BODY, url, **credentials)


@pytest.mark.parametrize("kind", [(), ("-N",)], ids=["CON", "NON"])
async def test_the_identity_becomes_the_source(client, kind):
    intake = RecordingIntake()
    async with running(intake) as url:
        output = await coap_client(client, *kind, "-t", "50", "-e", BODY, f"{url}/ce?t=t.x&i=1")
    assert output == ""
    (event,) = intake.events
    assert (event.id, event.source, event.type) == ("1", "/devices/dev1", "t.x")
    assert (event.datacontenttype, event.data) == ("application/json", BODY.encode())


async def test_a_label_stands_for_the_identity(client):
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await post(client, f"{url}/ce?t=t.x", user="serial-4711", key="labelled") == ""
    assert intake.events[0].source == "/devices/pump"


async def test_an_identity_with_reserved_characters_is_escaped_in_the_source(client):
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await post(client, f"{url}/ce?t=t.x", user="a b/ü", key="odd") == ""
    assert intake.events[0].source == "/devices/a%20b%2F%C3%BC"


@pytest.mark.parametrize(
    ("source", "user", "allowed"),
    [
        ("/devices/dev1", "dev1", True),
        ("/devices/dev1/sensor3", "dev1", True),
        ("/devices/dev2", "dev1", False),
        ("/plant/line7", "dev1", False),
        ("/plant/line7", "gw", True),
        ("/plantation", "gw", False),
    ],
)
async def test_a_source_has_to_be_ones_own_or_allowed_by_a_rule(client, source, user, allowed):
    intake = RecordingIntake()
    key = KEYS[user]["key"]
    async with running(intake) as url:
        output = await post(client, f"{url}/ce?t=t.x&i=1&s={source}", user=user, key=key)
    assert output.rstrip() == ("" if allowed else "4.03 that source is not yours")
    assert [event.source for event in intake.events] == [source] * allowed


async def test_a_route_that_needs_credentials_takes_them_and_nothing_less(client):
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await post(client, f"{url}/auth?t=t.x") == ""
    assert len(intake.events) == 1


@pytest.mark.parametrize(("user", "key"), [("dev1", "wrong"), ("nobody", "open sesame")])
async def test_without_the_right_key_there_is_no_answer_and_no_event(client, user, key):
    intake = RecordingIntake()
    async with running(intake) as url:
        output = await post(client, f"{url}/ce?t=t.x", user=user, key=key)
        assert "cannot send CoAP pdu" in output
        assert not re.search(r"^\d\.\d\d", output, re.MULTILINE)
        assert await post(client, f"{url}/ce?t=t.x&i=good") == ""
    assert [event.id for event in intake.events] == ["good"]
    assert {reason for reason, _ in intake.rejections} == {"handshake"}


async def test_64_kib_arrive_in_blocks(client, tmp_path):
    file = tmp_path / "big"
    file.write_bytes(bytes(range(32, 127)) * 690)  # 65550
    data = file.read_bytes()[:65536]
    file.write_bytes(data)
    intake = RecordingIntake()
    async with running(intake) as url:
        arguments = ("-b", "1024", "-t", "0", "-f", str(file), f"{url}/ce?t=t.x&i=1")
        assert await coap_client(client, *arguments) == ""
    (event,) = intake.events
    assert event.data == data


async def test_two_identities_speak_at_once(client):
    intake = RecordingIntake()
    other = CLIENTS[1 - CLIENTS.index(client)]
    async with running(intake) as url:
        outputs = await asyncio.gather(
            post(client, f"{url}/ce?t=t.x"),
            post(other, f"{url}/ce?t=t.x", user="dev2", key="open"),
        )
    assert outputs == ["", ""]
    assert {event.source for event in intake.events} == {"/devices/dev1", "/devices/dev2"}


@pytest.mark.parametrize("lost", ["1", "2", "3", "4"])
async def test_a_datagram_that_is_lost_is_sent_again_and_makes_one_event(client, lost):
    intake = RecordingIntake()
    async with running(intake) as url:
        arguments = ("-l", lost, "-t", "50", "-e", BODY, f"{url}/ce?t=t.x")
        output = await coap_client(client, *arguments, seconds=20)
    # The one on GnuTLS says what it makes of our last flight, when that comes twice.
    assert " ERR " not in output
    assert len(intake.events) == 1


async def test_a_slow_sink_is_waited_for(client):
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05) as url:
        asking = asyncio.ensure_future(post(client, f"{url}/ce?t=t.x"))
        await intake.wait_for(lambda intake: intake.deliveries)
        asyncio.get_running_loop().call_later(
            0.3, intake.deliveries[0].settle, Settlement(Outcome.RELEASED, Reason.SINK_DOWN)
        )
        assert (await asking).startswith("5.03")


async def test_one_session_carries_many_events(client):
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await coap_client(client, "-G", "3", "-e", "1", f"{url}/ce?t=t.x") == ""
    assert len(intake.events) == 3


@asynccontextmanager
async def coap_server(client):
    """Run libcoap's server of the same build; it makes the resources that are posted to."""
    port, following = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    while following != port + 1:  # it takes that for DTLS
        port, following = following, free_port(socket.SOCK_DGRAM)
    process = await asyncio.create_subprocess_exec(
        program(client.replace("client", "server"), "libcoap3-bin"),
        "-A", "127.0.0.1", "-p", str(port), "-k", "open sesame", "-d", "10",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"coaps://127.0.0.1:{following}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("size", [10, 3000])
async def test_send_speaks_to_a_foreign_server(client, size):
    options = SendOptions(psk_identity="dev1", psk_key="open sesame")
    async with coap_server(client) as url:
        sender = CoapSender(f"{url}/new", options)
        async with asyncio.timeout(20):
            while True:
                try:
                    await sender.open()
                except SendError:  # it is not up yet
                    await asyncio.sleep(0.05)
                else:
                    break
        try:
            assert await sender.send(Plain(bytes(size), "application/octet-stream")) == "2.01"
        finally:
            await sender.close()
