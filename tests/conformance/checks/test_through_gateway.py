import pytest

from conformance.check import CheckFailed, Unsupported
from conformance.checks import through_gateway
from conformance.forms import WireEvent
from conformance.own.gateway import Arrival, own_gateway
from conformance.suite import run_one

CHECKS = [check for check in through_gateway.checks() if "main" in check.profiles]


async def test_every_way_in_and_out_of_ours_passes():
    async with own_gateway() as gateway:
        results = [await run_one(check, gateway) for check in CHECKS]
    failed = [(one.check.id, one.text) for one in results if one.status == "failed"]
    assert failed == []
    skipped = {one.check.binding for one in results if one.status == "skipped"}
    assert skipped <= {"kafka"}
    assert sum(one.status == "passed" for one in results) > 700


class Relay:
    """What comes out of a gateway that changes events; none goes through a network."""

    def __init__(self, change):
        self._change = change

    async def carry(self, way, mode, name, event):
        self._event = event

    def arrivals(self, sink, source):
        assert self._event.attributes["source"] == source
        return [Arrival(one, b"line-1") for one in self._change(self._event)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda event: [], "it came out 0 times"),
        (lambda event: [event, event], "it came out 2 times"),
        (lambda event: [WireEvent({**event.attributes, "x": "1"}, event.data)], "invented: x"),
        (lambda event: [WireEvent(event.attributes, b"21.50")], "other data"),
        (
            lambda event: [WireEvent({**event.attributes, "subject": "s"}, event.data)],
            "changed: su",
        ),
    ],
)
async def test_what_is_lost_invented_or_changed_is_told(change, text):
    name = "gateway-http-binary-to-kafka-binary-all-attributes"
    (check,) = [check for check in CHECKS if check.id == name]
    with pytest.raises(CheckFailed, match=text):
        await check.run(Relay(change))
    await check.run(Relay(lambda event: [event]))


async def test_a_key_that_is_not_asked_for_is_told():
    name = "gateway-http-binary-to-kafka-structured-all-attributes"
    (check,) = [check for check in CHECKS if check.id == name]
    with pytest.raises(CheckFailed, match="the key is b'line-1', not b''"):
        await check.run(Relay(lambda event: [event]))


async def test_without_a_kafka_broker_its_checks_are_skipped(monkeypatch):
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    async with own_gateway() as gateway:
        with pytest.raises(Unsupported, match="KAFKA_BOOTSTRAP_SERVERS"):
            gateway.arrivals("kafka-binary", "/s")
