"""Routes, their templates, and /.well-known/core."""

from gateway.config.records import EventTemplate
from tests.gateway.sources.coap.device import POST_T, Device, fields, post, running
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
