from itertools import count

import pytest

from conformance.checks import redelivery
from conformance.forms import WireEvent
from gateway.sources.mqtt_exchange import Receiver
from tests.conformance.checks.gateways import failures

CHECKS = list(redelivery.checks())


def renumbered():
    """Return a mistake: each time that events are looked at they have ids that never were."""
    numbers = count()

    def change(events):
        return [WireEvent({**e.attributes, "id": f"n{next(numbers)}"}, e.data) for e in events]

    return change


def test_every_way_has_its_checks():
    assert {check.id for check in CHECKS} >= {
        "http-live-made-up-ids", "mqtt-live-repeated-qos1", "mqtt311-live-repeated-qos1",
        "mqtt-qos2-live-exactly-once", "jetstream-live-redelivered", "mqtt-live-order-of-answers",
    }  # fmt: skip


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


async def test_one_that_makes_up_the_same_id_twice_fails():
    def same(events):
        return [WireEvent({**event.attributes, "id": "1"}, event.data) for event in events]

    found = await failures(CHECKS, "http", {"events": same})
    assert found == {"http-live-made-up-ids": "ids repeat"}


async def test_one_that_makes_up_another_id_for_a_redelivery_fails():
    found = await failures(CHECKS, "nats", {"events": renumbered(), "patience": 5})
    assert found == {"jetstream-live-redelivered": "the redelivery brought another id"}


async def test_one_that_takes_each_repetition_for_a_new_message_fails(monkeypatch):
    monkeypatch.setattr(Receiver, "_is_repetition", lambda *_: False)
    found = await failures(CHECKS, "mqtt")
    assert found.keys() >= {
        "mqtt-live-repeated-qos1", "mqtt311-live-repeated-qos1", "mqtt-qos2-live-repeated-qos2",
        "mqtt-qos2-live-exactly-once", "mqtt-qos2-live-exactly-once-later",
    }  # fmt: skip


async def test_one_that_answers_in_another_order_fails(monkeypatch):
    collect = Receiver._collect

    def collect_backwards(self):
        collect(self)
        self._out.reverse()

    monkeypatch.setattr(Receiver, "_collect", collect_backwards)
    found = await failures(CHECKS, "mqtt")
    assert found["mqtt-live-order-of-answers"] == "another order"


async def test_one_that_knows_an_identifier_for_ever_fails(monkeypatch):
    monkeypatch.setattr(Receiver, "_is_repetition", lambda *_: True)
    collect = Receiver._collect

    def keep_open(self):
        opened = self._open
        self._open = dict(opened)
        try:
            collect(self)
        finally:
            self._open = opened

    monkeypatch.setattr(Receiver, "_collect", keep_open)
    found = await failures(
        [check for check in CHECKS if check.id == "mqtt-live-after-puback"], "mqtt"
    )
    assert found
