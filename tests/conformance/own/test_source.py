"""Our sources as things to be judged: events out, the sink's answers, other settings."""

import socket
from urllib.parse import urlsplit

import pytest

from conformance.check import CheckFailed
from conformance.forms import Refused
from conformance.own.source import own_source
from conformance.peers.coap import Device

# CON POST /ce?t=t.x&i=1 with Content-Format 50 and {"a":1}
EVENT = bytes.fromhex("4102200107b26365113235743d742e7803693d31ff7b2261223a317d")


async def test_a_coap_source_tells_all_its_listeners():
    async with own_source("coap") as target:
        assert (target.protocol, target.url) == ("coap", target.urls["coap"])
        assert set(target.urls) == {"coap", "coaps", "coap+tcp", "coap+ws"}
        for scheme, url in target.urls.items():
            at = urlsplit(url)
            assert at.scheme == scheme
            kind = socket.SOCK_STREAM if "+" in scheme else socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, kind) as stream:
                stream.connect((at.hostname, at.port))


@pytest.mark.parametrize("protocol", ["http", "mqtt"])
async def test_other_sources_have_one(protocol):
    async with own_source(protocol) as target:
        assert target.urls == {protocol: target.url}


async def test_events_come_out_until_they_are_forgotten():
    async with own_source("coap") as target, Device(target.url) as device:
        device.send(EVENT)
        (event,) = await target.events(1)
        assert (event.attributes["id"], event.data) == ("1", b'{"a":1}')
        target.forget()
        assert await target.events(0) == []
        with pytest.raises(CheckFailed, match="too few"):
            await target.events(1, seconds=0.01)


@pytest.mark.parametrize(
    ("answer", "code", "count"),
    [
        ("accept", "2.04", 1),
        ("reject", "5.02", 0),
        ("busy", "4.29", 0),
        ("down", "5.03", 0),
    ],
)
async def test_the_sink_answers_as_it_is_told(answer, code, count):
    async with own_source("coap") as target, Device(target.url) as device:
        target.sink_answers(answer)
        device.send(EVENT)
        reply = await device.receive()
        events = await target.events(count)
    assert len(events) == count
    assert reply.code == code


async def test_a_variant_has_settings_of_its_own_and_leaves_the_other_alone():
    async with own_source("coap") as target:
        async with target.variant(routes={"/x": {"type": "t.y"}}) as other:
            assert other.url != target.url
            async with Device(other.url) as device:
                device.send(EVENT)
                assert (await device.receive()).code == "4.04"
        async with Device(target.url) as device:
            device.send(EVENT)
            assert (await device.receive()).code == "2.04"


async def test_settings_that_the_record_does_not_allow_are_refused():
    async with own_source("coap") as target:
        with pytest.raises(Refused, match="ack_after"):
            async with target.variant(ack_after=2):
                pass
