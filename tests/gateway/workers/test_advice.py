"""What is said at the start of workers: what a configuration wants and they can't give."""

import pytest

from gateway.config.loader import load
from gateway.errors import GatewayError
from gateway.workers.advice import advice

MQTT = "{protocol: mqtt, url: 'mqtt://b', client_id: a, subscribe: [{topic: a}]}"
OLD = "{protocol: mqtt, version: 3.1.1, url: 'mqtt://b', client_id: a, subscribe: [{topic: a}]}"
STREAM = "{protocol: nats, url: 'nats://n', stream: S, durable: d}"
WEB = "{protocol: http, listen: '127.0.0.1:0'}"
CAN = "{protocol: can, interface: virtual, channel: x}"
HTTP = "{protocol: http, url: 'http://127.0.0.1:1/'}"
UNORDERED = "{protocol: http, url: 'http://127.0.0.1:1/', ordered: false}"
KAFKA = "{protocol: kafka, bootstrap_servers: 'k:9092', topic: t%s}"


def said(source, sink, route="", count=2, retired=()):
    text = f"sources: {{it: {source}}}\nsinks: {{out: {sink}}}\n"
    config = load(f"{text}routes: [{{name: way, to: [out]{route}}}]", {})
    return list(advice(config, count, retired))


@pytest.mark.parametrize(
    ("source", "sink", "is_warned"),
    [
        (MQTT, HTTP, True),
        (STREAM, HTTP, True),
        (STREAM, KAFKA % ", key: order", True),
        (STREAM, KAFKA % "", False),
        (MQTT, UNORDERED, False),
        (WEB, HTTP, False),
    ],
)
def test_order_that_is_wanted_of_messages_that_are_dealt_out(source, sink, is_warned):
    assert any("order of a key is not kept" in line for line in said(source, sink)) == is_warned


@pytest.mark.parametrize(("source", "is_alone"), [(OLD, True), (CAN, True), (MQTT, False)])
def test_a_source_that_can_not_be_shared_is_the_first_workers(source, is_alone):
    lines = said(source, UNORDERED)
    assert ("source it: only worker 0 opens it, as it can't be shared" in lines) == is_alone


def test_duplicates_may_come_by_another_worker():
    dedup = ", dedup: {window: PT1M}"
    assert any("dedup" in line for line in said(WEB, UNORDERED, dedup))
    assert said(CAN, UNORDERED, dedup) == said(CAN, UNORDERED)
    assert said(WEB, UNORDERED) == []


def test_consent_by_callback_is_one_process_business():
    callback = (
        "{protocol: http, url: 'https://r.example/', token: t, "
        "webhook: {origin: a.example, "
        "callback: {url: 'https://a.example/', listen: '127.0.0.1:0'}}}"
    )
    with pytest.raises(GatewayError, match=r"sinks\.out\.webhook\.callback"):
        said(WEB, callback)
    assert said(WEB, callback, count=1) == []
    with pytest.raises(GatewayError, match=r"sinks\.out\.webhook\.callback.*worker-2, worker-5"):
        said(WEB, callback, count=1, retired=[2, 5])


def test_one_worker_beside_retired_ones_has_all_that_it_wants():
    assert said(MQTT, HTTP, ", dedup: {window: PT1M}", count=1, retired=[1]) == []


def test_one_worker_is_told_nothing():
    assert said(MQTT, HTTP, count=1) == []
