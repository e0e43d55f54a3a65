"""Routes, their templates, and /.well-known/core."""

import json
import re
from pathlib import Path

import aiocoap
import pytest
from aiocoap.numbers import Code

from gateway.config.records import EventTemplate
from tests.gateway.sources.coap.device import POST_T, Device, config, fields, post, running
from tests.gateway.sources.coap.stream_device import LOOPBACK, connection, listening, message
from tests.gateway.sources.coap.stream_device import fields as fields_of
from tests.helpers import RecordingIntake


async def links(device, query=b""):
    """Read /.well-known/core as a client does, in blocks of the size that the server chose."""
    result, value, number = b"", 8, 0
    head = b"\xbb.well-known\x04core" + query
    while value & 8:
        block = b""
        if number:
            octets = (number << 4 | value & 7).to_bytes(2, "big").lstrip(b"\0")
            block = bytes(((0x80 if query else 0xC0) | len(octets),)) + octets
        request = b"\x41\x01" + (0x100 + number).to_bytes(2, "big") + b"\x07" + head + block
        reply = await device.ask(request)
        assert len(reply) <= 3 * len(request)
        answer = fields(reply)
        assert (answer["code"], answer["options"][12]) == ("2.05", b"\x28")
        result += answer["payload"]
        value = int.from_bytes(answer["options"].get(23, b""), "big")
        number += 1
    return result.decode()


async def test_the_event_resources_are_listed():
    three = {"/ce": {}, "/ce/s": {"mode": "structured"}, "/ce/b": {"mode": "batch"}}
    async with running(RecordingIntake(), routes=three) as source:
        with Device(source) as device:
            assert await links(device) == (
                '</ce>;rt="ce.bin";ct="0 42 50 60 110 112";sz=65536,'
                '</ce/s>;rt="ce.str";ct="50 60";sz=65536,'
                '</ce/b>;rt="ce.bat";ct="50 60 63";sz=65536'
            )
            chosen = '</ce/s>;rt="ce.str";ct="50 60";sz=65536'
            assert await links(device, b"\x49rt=ce.st*") == chosen
            assert await links(device, b"\x47rt=ce.s") == ""
            assert (
                fields(await device.ask(post(1, options=b"\xbb.well-known\x04core")))["code"]
                == "4.05"
            )


async def test_a_route_s_templates_give_source_and_subject():
    route = {"type": "t", "source": "/devices/{device}", "subject": "{path[0]}"}
    intake = RecordingIntake()
    async with running(intake, routes={"/t": route}) as source:
        with Device(source) as device:
            assert fields(await device.ask(POST_T))["code"] == "2.04"
    assert (intake.events[0].source, intake.events[0].subject) == ("/devices/127.0.0.1", "t")


async def test_the_event_table_completes_a_bare_payload():
    table = EventTemplate(type="com.acme.raw", source="/devices/{device}", extensions={"site": "k"})
    intake = RecordingIntake()
    async with running(
        intake, event=table, routes={"/ce": {}, "/ce/s": {"mode": "structured"}}
    ) as source:
        with Device(source) as device:
            assert fields(await device.ask(post(1, options=b"\xb2ce\x10")))["code"] == "2.04"
            structured = post(2, options=b"\xb2ce\x01s\x11\x32", payload=b"{}")
            assert fields(await device.ask(structured))["code"] == "4.00"
    event = intake.events[0]
    assert (event.type, event.source) == ("com.acme.raw", "/devices/127.0.0.1")
    assert event.extensions == {"site": "k"}


THREE = {"/ce": {}, "/ce/s": {"mode": "structured"}, "/ce/b": {"mode": "batch"}}
MANY = {f"/sensors/{number:03}": {"type": "t"} for number in range(100)}


async def discover(source, scheme, query="", **options):
    """Ask aiocoap, which puts blocks together."""
    address = source.address if scheme == "coap" else source.stream_addresses[scheme]
    url = f"{scheme}://{address}/.well-known/core{query}"
    request = aiocoap.Message(code=Code.GET, uri=url, **options)
    kinds = ["simple6", "tcpclient", "ws"]
    client = await aiocoap.Context.create_client_context(transports=kinds)
    try:
        return await client.request(request).response
    finally:
        await client.shutdown()


def everywhere(**changes):
    return running(RecordingIntake(), listen_tcp=LOOPBACK, listen_ws=LOOPBACK, **changes)


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp", "coap+ws"])
async def test_the_binding_s_case_of_discovery_holds(scheme):
    cases = json.loads(Path("conformance/vectors/coap.json").read_text())["cases"]
    (case,) = (case for case in cases if case["id"] == "DSC-01")
    _, path = case["description"].split(" ")
    async with everywhere(routes=THREE) as source:
        answer = await discover(source, scheme, path.removeprefix("/.well-known/core"))
    assert answer.code == Code.CONTENT
    assert re.sub(r";sz=\d+", "", answer.payload.decode()) == case["expected"]


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp", "coap+ws"])
async def test_a_long_listing_comes_in_blocks_or_in_one_message_where_that_fits(scheme):
    async with everywhere(routes=MANY) as source:
        answer = await discover(source, scheme)
    links = answer.payload.decode().split(",")
    assert [link.partition(";")[0] for link in links] == [f"<{path}>" for path in MANY]
    assert (answer.opt.block2 is None) is (scheme != "coap")


async def test_a_datagram_has_one_block_however_large_the_request_was():
    padding = b"\xed\x06\xc4\xf2" + bytes(255) + (b"\x0d\xf2" + bytes(255)) * 15  # option 2012
    async with running(RecordingIntake(), routes=MANY) as source:
        with Device(source) as device:
            request = b"\x41\x01\x01\x00\x07\xbb.well-known\x04core" + padding
            answer = fields(await device.ask(request))
    assert (answer["code"], len(answer["payload"])) == ("2.05", 1024)
    assert answer["options"][23] == b"\x0e"


async def test_a_peer_of_small_messages_gets_blocks_over_a_connection():
    async with listening(RecordingIntake(), routes=MANY) as source, connection(source) as line:
        line.send(b"\x00\xe1")  # 1152 bytes at most, as it says nothing else (RFC 8323 5.3.1)
        await line.receive()
        answer = await line.ask(message(1, options=b"\xbb.well-known\x04core"))
        assert len(answer) <= 1152
        assert fields_of(answer)["options"][23] == b"\x0e"  # block 0 of 1024 bytes, more to come
        second = await line.ask(message(1, options=b"\xbb.well-known\x04core\xc1\x1e"))
        assert fields_of(second)["payload"][:1] != b"<"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["/ce", "/ce/s", "/ce/b", "/k%C3%BC%20che/%22"]),
        ("?rt=ce.str", ["/ce/s"]),
        ("?rt=ce.s", []),
        ("?rt=ce.*", ["/ce", "/ce/s", "/ce/b", "/k%C3%BC%20che/%22"]),
        ("?rt=*", ["/ce", "/ce/s", "/ce/b", "/k%C3%BC%20che/%22"]),
        ("?ct=60", ["/ce", "/ce/s", "/ce/b", "/k%C3%BC%20che/%22"]),
        ("?ct=63", ["/ce/b"]),
        ("?ct=6", []),
        ("?sz=100", ["/k%C3%BC%20che/%22"]),
        ("?href=/ce/b", ["/ce/b"]),
        ("?href=/ce/*", ["/ce/s", "/ce/b"]),
        ("?href=/k%C3%BC%20che/%22", ["/k%C3%BC%20che/%22"]),
        ("?title=say%20%22hi%22", ["/k%C3%BC%20che/%22"]),
        ("?title=sa*", ["/k%C3%BC%20che/%22"]),
        ("?title=*", ["/k%C3%BC%20che/%22"]),
        ("?obs=*", []),
        ("?rt", []),
        ("?rt=ce.bin&sz=100", ["/k%C3%BC%20che/%22"]),
    ],
)
async def test_a_query_chooses_among_the_resources(query, found):
    kitchen = {"type": "t", "title": 'say "hi"', "max_event_bytes": 100}
    routes = {**THREE, '/kü che/"': kitchen, "/secret": {"type": "t", "hidden": True}}
    async with listening(RecordingIntake(), routes=routes) as source:
        answer = await discover(source, "coap+tcp", query)
    assert answer.code == Code.CONTENT
    assert answer.opt.content_format == 40
    links = answer.payload.decode()
    assert re.findall("<([^>]*)>", links) == found
    if found and found[-1].startswith("/k"):
        assert links.endswith(';sz=100;title="say \\"hi\\""')


async def test_a_hidden_resource_takes_events():
    intake = RecordingIntake()
    async with running(intake, routes={"/t": {"type": "t", "hidden": True}}) as source:
        with Device(source) as device:
            assert await links(device) == ""
            assert fields(await device.ask(POST_T))["code"] == "2.04"


@pytest.mark.parametrize(
    ("accept", "code"), [(40, "2.05"), (None, "2.05"), (50, "4.06"), (0, "4.06"), (64, "4.06")]
)
async def test_the_listing_has_one_format(accept, code):
    async with everywhere() as source:
        for scheme in ("coap", "coap+tcp", "coap+ws"):
            assert (await discover(source, scheme, accept=accept)).code.dotted == code


def test_a_title_is_one_line():
    with pytest.raises(ValueError, match="one line"):
        config(routes={"/t": {"title": "a\nb"}})
