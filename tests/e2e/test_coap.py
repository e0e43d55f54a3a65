"""The CoAP source with foreign clients: libcoap's coap-client and aiocoap."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiocoap
import cbor2
import pytest
from aiocoap.numbers import Code

from gateway.cli.senders import Plain, SendOptions
from gateway.cli.senders.coap import CoapSender
from gateway.config.records import Address
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.coap import CoapSource, CoapSourceConfig
from tests.e2e.servers.process import program
from tests.helpers import RecordingIntake

ANY = {"source_policy": "any"}
ROUTES = {
    "/ce": ANY,
    "/ce/s": {"mode": "structured", **ANY},
    "/ce/b": {"mode": "batch", **ANY},
    "/t": {"type": "com.acme.temp.v1"},
}
BIG = "".join(chr(65 + n % 26) for n in range(5000))


@asynccontextmanager
async def running(intake, **changes):
    changes = {"routes": ROUTES, "ack_after": 0.3, "sink_timeout": 5, **changes}
    config = CoapSourceConfig(protocol="coap", listen=Address("127.0.0.1", 0), **changes)
    source = CoapSource(config)
    await source.open(intake)
    try:
        yield f"coap://{source.address}"
    finally:
        await source.close()


async def coap_client(*arguments):
    """Run libcoap's client; returns what it prints, which for an error is code and diagnostic."""
    process = await asyncio.create_subprocess_exec(
        program("coap-client-notls", "libcoap3-bin"), "-B", "10", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    return output.decode()


@pytest.mark.parametrize("kind", [(), ("-N",)], ids=["CON", "NON"])
async def test_coap_client_sends_a_binary_event(kind):
    intake = RecordingIntake()
    async with running(intake) as url:
        output = await coap_client(
            *kind, "-m", "post", "-t", "50", "-e", '{"celsius": 21.5}',
            f"{url}/ce?t=com.acme.temp.v1&i=4711&s=/devices/1&j=a%26b%3Dc%20d&site=K%C3%B6ln",
        )  # fmt: skip
    assert output == ""
    (event,) = intake.events
    assert (event.id, event.source, event.type) == ("4711", "/devices/1", "com.acme.temp.v1")
    assert (event.subject, event.extensions) == ("a&b=c d", {"site": "Köln"})
    assert (event.datacontenttype, event.data) == ("application/json", b'{"celsius": 21.5}')


async def test_coap_client_sends_a_bare_payload_to_a_route_with_a_type():
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await coap_client("-m", "post", "-e", "21.5", f"{url}/t") == ""
    (event,) = intake.events
    assert (event.type, event.source) == ("com.acme.temp.v1", "coap://127.0.0.1")


@pytest.mark.parametrize("kind", [(), ("-N",)], ids=["CON", "NON"])
@pytest.mark.parametrize("size", ["16", "64", "1024"])
async def test_coap_client_sends_a_payload_in_blocks(tmp_path, size, kind):
    file = tmp_path / "big"
    file.write_text(BIG)
    intake = RecordingIntake()
    async with running(intake) as url:
        arguments = ("-m", "post", "-b", size, "-t", "0", "-f", str(file), f"{url}/t?i=1")
        assert await coap_client(*kind, *arguments) == ""
    (event,) = intake.events
    assert event.data == BIG.encode()


async def test_coap_client_sends_structured_events_and_batches():
    one = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
    intake = RecordingIntake()
    async with running(intake) as url:
        for path, body in (("/ce/s", one), ("/ce/b", [one, {**one, "id": "2"}])):
            text = json.dumps(body)
            assert await coap_client("-m", "post", "-t", "50", "-e", text, url + path) == ""
    assert [event.id for event in intake.events] == ["1", "1", "2"]
    assert len(intake.deliveries) == 2


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        (("-m", "post", "-e", "1"), "/ce", "4.00 'type': missing attribute"),
        (("-m", "post", "-e", "1"), "/nowhere", "4.04 no such resource"),
        (("-m", "put", "-e", "1"), "/ce", "4.05 POST it"),
        (("-m", "post", "-t", "9999", "-e", "1"), "/t", "4.15"),
        (("-m", "post", "-O", "1,0xaa", "-e", "1"), "/t", "4.02"),
        (("-m", "post", "-e", "1"), "/t?s=/other", "4.03 that source is not yours"),
    ],
)
async def test_coap_client_is_told_what_is_wrong(arguments, path, words):
    async with running(RecordingIntake()) as url:
        assert (await coap_client(*arguments, url + path)).startswith(words)


async def test_coap_client_waits_for_a_slow_sink():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05) as url:
        client = asyncio.ensure_future(coap_client("-m", "post", "-e", "1", f"{url}/t"))
        await intake.wait_for(lambda intake: intake.deliveries)
        asyncio.get_running_loop().call_later(
            0.3, intake.deliveries[0].settle, Settlement(Outcome.RELEASED, Reason.SINK_DOWN)
        )
        assert (await client).startswith("5.03")


async def test_coap_client_that_loses_its_first_datagram_makes_one_event():
    intake = RecordingIntake()
    async with running(intake) as url:
        assert await coap_client("-l", "1", "-m", "post", "-e", "1", f"{url}/t") == ""
    assert len(intake.events) == 1


async def test_coap_client_lists_the_event_resources():
    async with running(RecordingIntake()) as url:
        output = await coap_client("-m", "get", f"{url}/.well-known/core?rt=ce.*")
    assert [link.partition(";")[0] for link in output.split(",")] == [
        "</ce>", "</ce/s>", "</ce/b>", "</t>"
    ]  # fmt: skip


@pytest.fixture
async def aiocoap_client():
    context = await aiocoap.Context.create_client_context()
    yield context
    await context.shutdown()


@pytest.mark.parametrize("tuning", [aiocoap.Reliable, aiocoap.Unreliable])
async def test_aiocoap_sends_a_binary_event(aiocoap_client, tuning):
    intake = RecordingIntake()
    async with running(intake) as url:
        request = aiocoap.Message(
            code=Code.POST, uri=f"{url}/ce?t=t.x&i=1&s=/s", payload=b"\x00\xff", content_format=42,
            transport_tuning=tuning(),
        )  # fmt: skip
        response = await aiocoap_client.request(request).response
    assert (response.code, response.payload) == (Code.CHANGED, b"")
    assert (intake.events[0].id, intake.events[0].data) == ("1", b"\x00\xff")


@pytest.mark.parametrize("exponent", [2, 6])
async def test_aiocoap_sends_a_payload_in_blocks(aiocoap_client, exponent):
    intake = RecordingIntake()
    async with running(intake) as url:
        request = aiocoap.Message(code=Code.POST, uri=f"{url}/t?i=1", payload=BIG.encode())
        await aiocoap_client.find_remote_and_interface(request)  # sets request.remote
        request.remote.maximum_block_size_exp = exponent
        response = await aiocoap_client.request(request).response
    assert response.code == Code.CHANGED
    assert [event.data for event in intake.events] == [BIG.encode()]


async def test_aiocoap_is_told_that_a_payload_is_too_large(aiocoap_client):
    intake = RecordingIntake()
    async with running(intake, routes={"/t": {"type": "t", "max_event_bytes": 4000}}) as url:
        request = aiocoap.Message(code=Code.POST, uri=f"{url}/t", payload=BIG.encode())
        response = await aiocoap_client.request(request).response
    assert response.code == Code.REQUEST_ENTITY_TOO_LARGE
    assert response.opt.size1 == 4000
    assert intake.events == []


async def test_aiocoap_sends_events_that_cbor2_wrote(aiocoap_client):
    intake = RecordingIntake()
    compact = {1: "t.x", 2: "/s", 3: b"\x0a\xff", 4: 1767323045, 6: 50, 8: {"t": [21.5, None]}}
    readings = [{-1: True, 1: "t.x", 2: "/s", 4: 1000}, *({3: n, 4: n, 8: n} for n in range(200))]
    bodies = [
        ("/ce/s", 60, cbor2.dumps(compact)),
        ("/ce/s", 60, cbor2.dumps({"id": "2", "source": "/s", "type": "t.x", "data": b"x"})),
        ("/ce/b", 60, cbor2.dumps(readings)),
        ("/ce/b", 63, b"".join(map(cbor2.dumps, readings))),
    ]
    async with running(intake) as url:
        for path, content_format, payload in bodies:
            request = aiocoap.Message(
                code=Code.POST, uri=url + path, payload=payload, content_format=content_format
            )
            response = await aiocoap_client.request(request).response
            assert response.code == Code.CHANGED, response.payload
    first, second, *rest = intake.events
    assert (first.id, first.time, first.data) == (
        "0aff", "2026-01-02T03:04:05Z", b'{"t":[21.5,null]}'
    )  # fmt: skip
    assert (second.id, second.datacontenttype) == ("2", "application/octet-stream")
    assert [event.id for event in rest] == [str(n) for n in range(200)] * 2
    assert rest[-1].time == "1970-01-01T00:19:59Z"


async def test_aiocoap_gets_a_separate_answer(aiocoap_client):
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05) as url:
        request = aiocoap.Message(code=Code.POST, uri=f"{url}/t", payload=b"1")
        pending = aiocoap_client.request(request).response
        await intake.wait_for(lambda intake: intake.deliveries)
        asyncio.get_running_loop().call_later(0.3, intake.deliveries[0].settle, ACCEPTED)
        assert (await pending).code == Code.CHANGED


async def test_aiocoap_reads_the_list_of_resources_in_blocks(aiocoap_client):
    async with running(RecordingIntake()) as url:
        request = aiocoap.Message(code=Code.GET, uri=f"{url}/.well-known/core")
        response = await aiocoap_client.request(request).response
    assert response.payload.decode().count(";sz=65536") == 4


async def test_our_own_client_sends_many_at_once_and_large_ones():
    intake = RecordingIntake()
    async with running(intake) as url:
        sender = CoapSender(f"{url}/t", SendOptions())
        await sender.open()
        answers = await asyncio.gather(*(sender.send(Plain(b"%d" % n)) for n in range(200)))
        assert set(answers) == {"2.04 Changed"}
        assert await sender.send(Plain(bytes(65536))) == "2.04 Changed"
        await sender.close()
    assert len(intake.events) == 201
