"""The listeners for CoAP over TCP and TLS, with aiocoap as the client."""

import asyncio
import logging
import socket
import ssl
import subprocess
import sys

import pytest
from aiocoap.numbers import Code

from gateway.config.records import Address, TlsConfig
from gateway.delivery import ACCEPTED
from gateway.errors import GatewayError
from gateway.sources.coap import CoapSource
from tests.gateway.sources.coap.device import POST_T as DATAGRAM_T
from tests.gateway.sources.coap.device import Device, config, fields, post, routes, running
from tests.gateway.sources.coap.foreign_client import aiocoap_client, ask
from tests.gateway.sources.coap.stream_device import (
    CHANGED,
    LOOPBACK,
    POST_T,
    connection,
    listening,
    message,
)
from tests.gateway.sources.coap.stream_device import fields as fields_of
from tests.helpers import RecordingIntake, make_certificates

OWN = {"/t": {"type": "t.x"}, "/d": {"type": "t.x", "source": "/plant/{device}"}}
BIG = bytes(range(256)) * 200


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls(certificates, **changes):
    files = {"cert": certificates.server_cert, "key": certificates.server_key}
    return {"listen_tcp": None, "listen_tls": LOOPBACK, "tls": TlsConfig(**files, **changes)}


def client_context(certificates, *, with_certificate=True):
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["coap"])
    if with_certificate:
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return context


def client_with(certificates=None):
    tls = client_context(certificates) if certificates is not None else None
    return aiocoap_client(["tcpclient", "tlsclient"], tls)


@pytest.mark.parametrize("scheme", ["coap+tcp", "coaps+tcp"])
async def test_aiocoap_sends_binary_structured_batched_and_large_events(scheme, certificates):
    intake = RecordingIntake()
    changes = tls(certificates) if scheme == "coaps+tcp" else {}
    async with listening(intake, **changes) as source, client_with(certificates) as client:
        at = f"{scheme}://localhost:{source.stream_addresses[scheme].port}"
        answer = await ask(client, f"{at}/ce?t=t.x&i=1&s=/s", content_format=42)
        assert (answer.code, answer.payload) == (Code.CHANGED, b"")
        one = b'{"specversion":"1.0","id":"2","source":"/s","type":"t.x","data":{"a":1}}'
        assert (
            await ask(client, f"{at}/ce/s", payload=one, content_format=50)
        ).code.is_successful()
        many = b"[" + one + b"," + one.replace(b'"2"', b'"3"') + b"]"
        assert (
            await ask(client, f"{at}/ce/b", payload=many, content_format=50)
        ).code.is_successful()
        assert (await ask(client, f"{at}/t?i=4", payload=BIG)).code == Code.CHANGED
        links = await ask(client, f"{at}/.well-known/core", code=Code.GET, payload=b"")
        assert links.payload.decode().count(";sz=65536") == len(routes())
    assert [event.id for event in intake.events] == ["1", "2", "2", "3", "4"]
    assert intake.events[0].data == b"1"
    assert intake.events[4].data == BIG


async def test_aiocoap_sends_in_bert_blocks_what_one_message_does_not_hold():
    intake = RecordingIntake()
    routes = {"/t": {"type": "t", "max_event_bytes": 200_000}, "/small": {"type": "t"}}
    async with listening(intake, routes=routes) as source, client_with() as client:
        at = f"coap+tcp://{source.stream_addresses['coap+tcp']}"
        assert (await ask(client, f"{at}/t", payload=bytes(200_000))).code == Code.CHANGED
        assert (await ask(client, f"{at}/t", payload=bytes(200_001))).code.dotted == "4.13"
    async with listening(intake) as source, client_with() as client:
        at = f"coap+tcp://{source.stream_addresses['coap+tcp']}"
        # Beyond Max-Message-Size, so that aiocoap sends it in blocks.
        assert (await ask(client, f"{at}/t", payload=bytes(100_000))).code.dotted == "4.13"
    assert [len(event.data) for event in intake.events] == [200_000]


async def test_a_client_certificate_says_which_source_is_its_own(certificates):
    intake = RecordingIntake()
    changes = tls(certificates, ca=certificates.ca)
    async with listening(intake, routes=OWN, **changes) as source:
        context = client_context(certificates)
        async with connection(
            source, "coaps+tcp", ssl=context, server_hostname="localhost"
        ) as line:
            chosen = line.writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen == "coap"
            await line.greet()
            assert await line.ask(POST_T) == CHANGED
            for source_, code in ((b"/devices/device-1/a", "2.04"), (b"/devices/device-2", "4.03")):
                query = b"s=" + source_
                option = bytes((0x4D, len(query) - 13)) + query
                answer = await line.ask(message(2, options=b"\xb1t" + option, payload=b"1"))
                assert fields_of(answer)["code"] == code
            assert await line.ask(message(2, options=b"\xb1d", payload=b"1")) == CHANGED
    assert [event.source for event in intake.events] == [
        "/devices/device-1", "/devices/device-1/a", "/plant/device-1"
    ]  # fmt: skip


async def test_a_route_that_needs_credentials_takes_a_certificate_for_them(certificates):
    routes = {"/t": {"type": "t", "authentication": "required"}}
    intake = RecordingIntake()
    for changes, context, code in (
        (tls(certificates, ca=certificates.ca), client_context(certificates), "2.04"),
        (tls(certificates), client_context(certificates), "4.01"),
    ):
        async with (
            listening(intake, routes=routes, **changes) as source,
            connection(source, "coaps+tcp", ssl=context, server_hostname="localhost") as line,
        ):
            await line.greet()
            assert fields_of(await line.ask(POST_T))["code"] == code


async def greet(source, context):
    async with connection(source, "coaps+tcp", ssl=context, server_hostname="localhost") as line:
        await line.greet()


async def test_who_shows_no_certificate_or_speaks_no_tls_is_turned_away_without_a_word(
    certificates, caplog
):
    intake = RecordingIntake()
    async with listening(intake, **tls(certificates, ca=certificates.ca)) as source:
        async with connection(source, "coaps+tcp") as line:
            line.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await line.reader.read() in (b"", b"\x15\x03\x01\x00\x02\x02\x46")  # an alert
        anonymous = client_context(certificates, with_certificate=False)
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await greet(source, anonymous)
    assert intake.events == []
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_datagrams_and_connections_are_served_side_by_side(certificates):
    intake = RecordingIntake()
    changes = {**tls(certificates), "listen_tcp": LOOPBACK}
    async with running(intake, **changes) as source:
        assert list(source.stream_addresses) == ["coap+tcp", "coaps+tcp"]
        with Device(source) as device:
            assert fields(await device.ask(DATAGRAM_T))["code"] == "2.04"
            async with connection(source) as line:
                await line.greet()
                assert await line.ask(POST_T) == CHANGED
            assert fields(await device.ask(post(2)))["code"] == "2.04"
    assert len(intake.events) == 3


@pytest.mark.parametrize(("host", "claimed"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")])
async def test_an_ipv6_socket_takes_both(host, claimed):
    intake = RecordingIntake()
    async with listening(intake, listen_tcp=Address("::", 0)) as source, client_with() as client:
        url_host = f"[{host}]" if ":" in host else host
        port = source.stream_addresses["coap+tcp"].port
        assert (await ask(client, f"coap+tcp://{url_host}:{port}/t")).code == Code.CHANGED
    assert intake.events[0].source == f"coap://{claimed}"


async def test_what_never_settles_is_answered_5_04_and_a_late_outcome_is_ignored():
    intake = RecordingIntake(lambda _: None)
    timeouts = {"ack_after": 0.01, "sink_timeout": 0.05}
    async with listening(intake, **timeouts) as source, connection(source) as line:
        await line.greet()
        for _ in range(2):
            assert fields_of(await line.ask(POST_T))["code"] == "5.04"
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        assert fields_of(await line.ask(b"\x00\xe2"))["code"] == "7.03"


async def test_while_draining_new_requests_are_refused_and_old_ones_answered():
    intake = RecordingIntake(lambda _: None)
    async with listening(intake, inflight_per_endpoint=1) as source, connection(source) as line:
        await line.greet()
        line.send(POST_T, message(2, options=b"\xb1t", payload=b"2", token=b"\x08"))
        await intake.wait_for(lambda intake: intake.deliveries)
        await source.drain()  # the second waited for the first
        refused = fields_of(await line.receive())
        assert (refused["code"], refused["token"]) == ("5.03", b"\x08")
        assert 30 <= int.from_bytes(refused["options"][14], "big") <= 90
        async with connection(source) as late:
            await late.greet()
            assert fields_of(await late.ask(POST_T))["code"] == "5.03"
        intake.deliveries[0].settle(ACCEPTED)
        assert await line.receive() == CHANGED


@pytest.mark.parametrize("scheme", ["coap+tcp", "coaps+tcp"])
async def test_at_the_end_every_connection_is_released(scheme, certificates):
    changes = tls(certificates) if scheme == "coaps+tcp" else {}
    context = client_context(certificates) if scheme == "coaps+tcp" else None
    options = {"ssl": context, "server_hostname": "localhost"} if context else {}
    intake = RecordingIntake(lambda _: None)
    source = CoapSource(config(listen=None, **{"listen_tcp": LOOPBACK, **changes}))
    await source.open(intake)
    async with connection(source, scheme, **options) as line:
        await line.greet()
        line.send(POST_T)
        await intake.wait_for(lambda intake: intake.deliveries)
        async with asyncio.timeout(5):
            _, answer = await asyncio.gather(source.close(), line.receive())
        assert answer == b"\x00\xe4"
        await line.expect_end()
    intake.deliveries[0].settle(ACCEPTED)


async def test_the_end_does_not_wait_for_who_is_silent(certificates):
    source = CoapSource(config(**tls(certificates)))
    await source.open(RecordingIntake())
    host, port = source.stream_addresses["coaps+tcp"]
    with socket.create_connection((host, port)):
        async with connection(source, "coaps+tcp"):  # as this is, the other is accepted
            async with asyncio.timeout(10):
                await source.close()


async def test_one_connection_too_many_is_closed():
    intake = RecordingIntake()
    async with (
        listening(intake, max_connections=1) as source,
        connection(source) as line,
        connection(source) as other,
    ):
        await line.greet()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await other.receive()
        assert await line.ask(POST_T) == CHANGED
    assert intake.rejections[0][0] == "too_many_connections"


async def test_a_taken_port_or_a_bad_certificate_stops_the_start_and_frees_the_rest(
    certificates, tmp_path
):
    async with listening(RecordingIntake()) as source:
        taken = source.stream_addresses["coap+tcp"]
        second = CoapSource(config(listen_tcp=taken))
        with pytest.raises(GatewayError, match="can't listen"):
            await second.open(RecordingIntake())
        with pytest.raises(RuntimeError):
            second.address  # noqa: B018
    (tmp_path / "bad").write_text("no certificate")
    third = CoapSource(config(listen_tls=LOOPBACK, tls=TlsConfig(cert=tmp_path / "bad")))
    with pytest.raises(GatewayError, match="bad"):
        await third.open(RecordingIntake())


def test_aiocoap_is_loaded_only_for_streams():
    code = (
        "import asyncio, sys\n"
        "from tests.gateway.sources.coap.device import running\n"
        "from tests.helpers import RecordingIntake\n"
        "async def main():\n"
        "    async with running(RecordingIntake()): pass\n"
        "asyncio.run(main())\n"
        "sys.exit('aiocoap' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
