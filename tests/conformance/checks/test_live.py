import pytest

from conformance.check import CheckFailed, Unsupported
from conformance.checks.live import Case, different, live_check, scene
from conformance.forms import WireEvent
from conformance.own.source import own_source
from conformance.reference.carrier import Carrier


def test_a_case_becomes_a_check_of_its_protocol():
    check = live_check("f", Case("mqtt-qos2", "x", "t", ("GW-ACK-005",), None))
    assert (check.id, check.binding, check.protocol) == ("mqtt-qos2-live-x", "mqtt", "mqtt")
    assert (check.needs, check.level) == ("target", "SHOULD")


def test_what_http_loses_may_be_lost_where_a_gateway_delivers_by_http():
    event = WireEvent({"id": "1", "n": 1, "datacontenttype": "application/json"}, b'{"a": 1} ')
    text = WireEvent({**event.attributes, "n": "1"}, event.data)
    trimmed = WireEvent(event.attributes, b'{"a":1}')
    carrier = Carrier("http", "structured")
    assert different(event, event, carrier) == ""
    assert different(event, text, carrier) == ""
    assert different(event, trimmed, Carrier("mqtt", "structured")) == ""
    assert different(event, WireEvent({"id": "1"}, None), carrier)
    assert different(event, WireEvent(event.attributes, b'{"a":2}'), carrier) == "other data"


async def test_only_what_came_from_the_scene_counts():
    async with own_source("http") as target, scene("http", target) as one:
        async with scene("http", target) as two:
            two.send(two.message(two.event()))
            await two.expect("yes")
        event = one.event()
        one.send(one.message(event))
        await one.expect("yes")
        await one.expect_events(event)
        assert len(await target.events(2)) == 2
        with pytest.raises(CheckFailed, match="too few"):
            await one.came(2, 0.01)


async def test_another_answer_is_a_failure_with_what_was_sent():
    async with own_source("http") as target, scene("http", target, "down") as at:
        at.send(at.message(at.event()))
        with pytest.raises(CheckFailed, match="another answer") as failed:
            await at.expect("yes")
    assert "503" in failed.value.got
    assert f"ce-source: {at.source}" in failed.value.reproduce


async def test_a_broker_says_yes_to_everything():
    class Broker:
        is_broker = True
        url = "mqtt://h"

    with pytest.raises(Unsupported, match="in which version"):
        async with scene("mqtt311", Broker()):
            pass
