"""What one of several workers opens of each source."""

import pytest

from gateway import registry
from gateway.config.loader import load
from gateway.config.worker import Place

FIRST, SECOND = Place(0, 2, "gw"), Place(1, 2, "gw")
ALONE, RETIRED = Place(0, 1, "gw"), Place(3, 2, "gw")


def source(text):
    rest = "sinks: {out: {protocol: log}}\nroutes: [{to: [out]}]"
    config = load(f"sources: {{it: {{{text}}}}}\n{rest}", {})
    return config.sources["it"]


def mqtt(**changes):
    fields = {"url": "mqtt://b", "client_id": "gw/1", "subscribe": [{"topic": "a/#"}], **changes}
    record = registry.load("sources", "mqtt").config_type
    return record(name="plant", protocol="mqtt", **fields)


@pytest.mark.parametrize(
    "text",
    ["protocol: http", "protocol: coap, routes: {/: {mode: auto}}", "protocol: mqtt-endpoint"],
)
def test_who_listens_does_so_beside_the_others(text):
    one = source(text)
    assert one.for_worker(FIRST).reuse_port
    assert one.for_worker(SECOND).reuse_port
    assert one.for_worker(ALONE) == one
    assert one.for_worker(RETIRED) is None


def test_what_knows_nothing_of_workers_is_opened_by_the_first():
    can = source("protocol: can, interface: virtual, channel: x")
    assert can.for_worker(FIRST) == can
    assert can.for_worker(SECOND) is None
    assert can.for_worker(RETIRED) is None


def test_keys_that_count_messages_stay_in_one_process():
    oscore = source(
        "protocol: coap, routes: {/: {mode: auto}}, oscore: [{label: a, "
        "sender_id: '01', recipient_id: '02', master_secret: '00112233445566778899aabbccddeeff'}]"
    )
    assert oscore.for_worker(FIRST) == oscore
    assert oscore.for_worker(SECOND) is None


def test_a_durable_consumer_is_shared_and_never_begun_again():
    stream = source("protocol: nats, url: nats://n, stream: S, durable: d")
    assert not stream.for_worker(ALONE).shared
    assert stream.for_worker(FIRST).shared
    assert stream.for_worker(SECOND).shared
    assert stream.for_worker(RETIRED) is None


def test_core_subjects_have_a_queue_group_of_this_gateway_alone():
    core = source("protocol: nats, url: nats://n, subjects: [a]")
    assert core.for_worker(ALONE).queue == ""
    assert core.for_worker(FIRST).queue == core.for_worker(SECOND).queue == "gw-it"
    named = source("protocol: nats, url: nats://n, subjects: [a], queue: mine")
    assert named.for_worker(SECOND).queue == "mine"


def test_each_worker_has_a_session_of_its_own_and_all_have_one_share():
    first, second = mqtt().for_worker(FIRST), mqtt().for_worker(SECOND)
    assert [one.session_id for one in (mqtt(), first, second)] == ["gw/1", "gw/1", "gw/1-1"]
    for one in (first, second):
        assert one.topics(shares=True) == [("$share/gw_1/a/#", 1)]  # no / in it (MQTT 5 4.8.2)
        assert one.left_over(one.topics(shares=True)) == ["a/#"]


def test_where_the_broker_shares_nothing_the_first_worker_takes_all():
    first, second = mqtt().for_worker(FIRST), mqtt().for_worker(SECOND)
    assert first.topics(shares=False) == [("a/#", 1)]
    assert second.topics(shares=False) == []
    assert second.left_over([]) == ["a/#", "$share/gw_1/a/#"]


def test_mqtt_3_1_1_is_the_first_workers_unless_a_share_is_configured():
    old = mqtt(version="3.1.1")
    assert old.for_worker(FIRST).topics(shares=True) == [("a/#", 1)]
    assert old.for_worker(SECOND) is None
    assert old.for_worker(RETIRED) is None
    shared = mqtt(version="3.1.1", share="g").for_worker(SECOND)
    assert shared.topics(shares=True) == [("$share/g/a/#", 1)]


def test_a_share_of_ones_own_is_left_as_it_is():
    second = mqtt(share="mine").for_worker(SECOND)
    assert second.topics(shares=True) == [("$share/mine/a/#", 1)]
    assert second.left_over(second.topics(shares=True)) == []
    written = mqtt(subscribe=[{"topic": "$share/x/a"}]).for_worker(SECOND)
    assert written.topics(shares=True) == [("$share/x/a", 1)]


def test_without_a_client_id_the_share_is_named_by_the_gateway():
    second = mqtt(client_id="", clean=True).for_worker(SECOND)
    assert second.session_id == ""
    assert second.topics(shares=True) == [("$share/gw/a/#", 1)]


def test_a_session_of_an_earlier_run_is_emptied_and_takes_nothing_new():
    retired = mqtt().for_worker(RETIRED)
    assert retired.session_id == "gw/1-3"
    assert retired.topics(shares=True) == []
    assert retired.left_over([]) == ["a/#", "$share/gw_1/a/#"]
    assert mqtt(clean=True).for_worker(RETIRED) is None


def test_alone_again_the_session_gives_up_the_share():
    alone = mqtt().for_worker(ALONE)
    assert alone.session_id == "gw/1"
    assert alone.topics(shares=True) == [("a/#", 1)]
    assert alone.left_over(alone.topics(shares=True)) == ["$share/gw_1/a/#"]
    assert mqtt().left_over(mqtt().topics(shares=True)) == []  # not with workers
