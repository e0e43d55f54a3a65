"""CoAP over TCP and TLS with libcoap's coap-client (RFC 8323)."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from gateway.config.records import Address, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.coap import CoapSource, CoapSourceConfig
from tests.e2e.servers.process import program
from tests.helpers import RecordingIntake, make_certificates

ANY = {"source_policy": "any"}
ROUTES = {
    "/ce": ANY,
    "/ce/s": {"mode": "structured", **ANY},
    "/ce/b": {"mode": "batch", **ANY},
    "/t": {"type": "com.acme.temp.v1"},
    "/small": {"type": "t", "max_event_bytes": 100},
}
SCHEMES = pytest.mark.parametrize("scheme", ["coap+tcp", "coaps+tcp"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def running(intake, certificates, scheme, **changes):
    """A source, and a function that runs coap-client with arguments and a path."""
    files = {"cert": certificates.server_cert, "key": certificates.server_key}
    tls = TlsConfig(**files, ca=certificates.ca)
    own = ("-c", certificates.client_cert, "-j", certificates.client_key, "-C", certificates.ca)
    at = Address("127.0.0.1", 0)
    where = {"listen_tls": at, "tls": tls} if scheme == "coaps+tcp" else {"listen_tcp": at}
    changes = {"routes": ROUTES, "sink_timeout": 5, **where, **changes}
    source = CoapSource(CoapSourceConfig(protocol="coap", listen=None, **changes))
    await source.open(intake)
    port = source.stream_addresses[scheme].port

    async def client(*arguments, credentials=own):
        *options, path = arguments
        if scheme == "coap+tcp":
            credentials = ()
        process = await asyncio.create_subprocess_exec(
            program("coap-client-openssl", "libcoap3-bin"),
            "-B", "10", *map(str, credentials), *options, f"{scheme}://localhost:{port}{path}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
        return output.decode()

    try:
        yield client
    finally:
        await source.close()


@SCHEMES
async def test_coap_client_sends_a_binary_event(certificates, scheme):
    intake = RecordingIntake()
    async with running(intake, certificates, scheme) as client:
        output = await client(
            "-m", "post", "-t", "50", "-e", '{"celsius": 21.5}',
            "/ce?t=com.acme.temp.v1&i=4711&s=/devices/1&j=a%26b%3Dc%20d&site=K%C3%B6ln",
        )  # fmt: skip
    assert output == ""
    (event,) = intake.events
    assert (event.id, event.source, event.type) == ("4711", "/devices/1", "com.acme.temp.v1")
    assert (event.subject, event.extensions) == ("a&b=c d", {"site": "Köln"})
    assert (event.datacontenttype, event.data) == ("application/json", b'{"celsius": 21.5}')


@SCHEMES
async def test_coap_client_sends_structured_events_and_batches(certificates, scheme):
    one = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
    intake = RecordingIntake()
    async with running(intake, certificates, scheme) as client:
        for path, body in (("/ce/s", one), ("/ce/b", [one, {**one, "id": "2"}])):
            assert await client("-m", "post", "-t", "50", "-e", json.dumps(body), path) == ""
    assert [event.id for event in intake.events] == ["1", "1", "2"]
    assert len(intake.deliveries) == 2


@pytest.mark.parametrize(
    ("scheme", "source"), [("coap+tcp", "coap://127.0.0.1"), ("coaps+tcp", "/devices/device-1")]
)
async def test_the_source_of_a_bare_payload_is_what_the_device_has_shown(
    certificates, scheme, source
):
    intake = RecordingIntake()
    async with running(intake, certificates, scheme) as client:
        assert await client("-m", "post", "-e", "21.5", "/t") == ""
        assert await client("-m", "post", "-e", "21.5", "/t") == ""
    assert {event.source for event in intake.events} == {source}
    assert len({event.id for event in intake.events}) == 2


@SCHEMES
@pytest.mark.parametrize("blocks", [(), ("-b", "1024"), ("-b", "64")], ids=["whole", "1024", "64"])
async def test_coap_client_sends_a_large_payload(certificates, scheme, blocks, tmp_path):
    size = 65536 if blocks != ("-b", "64") else 5000
    (tmp_path / "big").write_bytes(bytes(n * 7 & 0x7F for n in range(size)))
    intake = RecordingIntake()
    async with running(intake, certificates, scheme) as client:
        arguments = ("-m", "post", "-t", "42", "-f", str(tmp_path / "big"), "/t")
        assert await client(*blocks, *arguments) == ""
    (event,) = intake.events
    assert event.data == (tmp_path / "big").read_bytes()


@SCHEMES
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "post", "-e", "1", "/ce"), "4.00 'type': missing attribute"),
        (("-m", "post", "-O", "1,0xaa", "-e", "1", "/t"), "4.02"),
        (("-m", "post", "-e", "1", "/t?s=/other"), "4.03 that source is not yours"),
        (("-m", "post", "-e", "1", "/nowhere"), "4.04 no such resource"),
        (("-m", "put", "-e", "1", "/ce"), "4.05 POST it"),
        (("-m", "post", "-A", "41", "-e", "1", "/t"), "4.06 no such answer"),
        (("-m", "post", "-e", "1" * 101, "/small"), "4.13"),
        (("-m", "post", "-t", "9999", "-e", "1", "/t"), "4.15"),
    ],
)
async def test_coap_client_is_told_what_is_wrong(certificates, scheme, arguments, words):
    async with running(RecordingIntake(), certificates, scheme) as client:
        assert (await client(*arguments)).startswith(words)


@SCHEMES
async def test_coap_client_waits_for_a_slow_sink(certificates, scheme):
    intake = RecordingIntake(lambda _: None)
    async with running(intake, certificates, scheme) as client:
        answers = []
        for settlement in (ACCEPTED, Settlement(Outcome.RELEASED, Reason.SINK_DOWN)):
            pending = asyncio.ensure_future(client("-m", "post", "-e", "1", "/t"))
            count = len(intake.deliveries)
            await intake.wait_for(lambda intake, count=count: len(intake.deliveries) > count)
            asyncio.get_running_loop().call_later(0.2, intake.deliveries[-1].settle, settlement)
            answers.append((await pending)[:4])
    assert answers == ["", "5.03"]


@SCHEMES
async def test_coap_client_lists_the_event_resources(certificates, scheme):
    async with running(RecordingIntake(), certificates, scheme) as client:
        output = await client("-m", "get", "/.well-known/core?rt=ce.*")
    assert [link.partition(";")[0] for link in output.split(",")] == [
        "</ce>", "</ce/s>", "</ce/b>", "</t>", "</small>"
    ]  # fmt: skip


async def test_coap_client_without_certificate_is_turned_away(certificates):
    intake = RecordingIntake()
    async with running(intake, certificates, "coaps+tcp") as client:
        anonymous = ("-R", certificates.ca)
        arguments = ("-B", "1", "-m", "post", "-e", "1", "/t")
        await client(*arguments, credentials=anonymous)
        assert intake.events == []
        await client(*arguments)
    assert len(intake.events) == 1
