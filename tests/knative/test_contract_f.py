"""Knative's contract, section F: SinkBinding, ContainerSource and what is around them."""

import asyncio
import json

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from bindings.event import Event
from gateway.config.loader import load
from gateway.delivery import Outcome
from gateway.operator.manifests import children
from gateway.sinks.http.connection import Answer
from gateway.sinks.http.verdict import failure
from gateway.sinks.kafka import KafkaSink, KafkaSinkConfig
from tests.deploy.validation import manifests, problems
from tests.gateway.operator.cluster import example
from tests.mock_kafka import MockCluster

SHIPPED = [*manifests(), *(("operator", manifest) for manifest in children(example()))]
EXAMPLES = [manifest for file, manifest in SHIPPED if file.startswith("examples/knative/")]
INJECTED = {"K_SINK", "K_CE_OVERRIDES", "K_CA_CERTS"}


def of_kind(kind, among=None):
    found = [manifest for _, manifest in SHIPPED] if among is None else among
    return [manifest for manifest in found if manifest["kind"] == kind]


def pods(manifest):
    """Yield the pod specs of a manifest."""
    template = manifest.get("spec", {}).get("template") if manifest.get("spec") else None
    if isinstance(template, dict) and "containers" in template.get("spec", {}):
        yield template["spec"]


def configurations(among):
    for manifest in of_kind("ConfigMap", among):
        if "gateway.yaml" in manifest["data"]:
            yield load(manifest["data"]["gateway.yaml"], {"K_SINK": "http://b/", "POD_NAME": "p"})


def test_point_45_subjects_are_bound_where_only_labelled_ones_are_and_excluded_nowhere():
    label = "bindings.knative.dev/include"
    bound = {binding["spec"]["subject"]["name"] for binding in of_kind("SinkBinding", EXAMPLES)}
    subjects = [
        each for each in of_kind("Deployment", EXAMPLES) if each["metadata"]["name"] in bound
    ]
    subjects += of_kind("Deployment", children(example()))
    assert len(subjects) == 2
    for subject in subjects:
        assert subject["metadata"]["labels"][label] == "true"
    for _, manifest in SHIPPED:
        assert "bindings.knative.dev/exclude" not in manifest["metadata"].get("labels", {})


def test_point_46_no_manifest_lists_what_the_binding_sets():
    found = [
        (manifest["metadata"]["name"], env["name"])
        for _, manifest in SHIPPED
        for pod in pods(manifest)
        for container in [*pod["containers"], *pod.get("initContainers", [])]
        for env in container.get("env", [])
        if env["name"] in INJECTED
    ]
    assert found == []


def test_point_47_the_container_source_only_fetches_and_its_readiness_is_the_gateway_s():
    (source,) = of_kind("ContainerSource", EXAMPLES)
    assert problems(source) == []
    (pod,) = pods(source)
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    name = pod["volumes"][0]["configMap"]["name"]
    (config_map,) = (e for e in of_kind("ConfigMap", EXAMPLES) if e["metadata"]["name"] == name)
    (config,) = configurations([config_map])
    assert {each.protocol for each in config.sources.values()} <= {"mqtt", "nats"}


def test_point_48_its_types_are_its_own():
    types = {
        each["event"]["type"]
        for manifest in of_kind("ConfigMap", EXAMPLES)
        for each in yaml.safe_load(manifest["data"]["gateway.yaml"])["sources"].values()
        if "event" in each
    }
    assert types
    assert not any(name.startswith(("dev.knative.", "org.apache.camel.")) for name in types)


async def test_point_49_a_record_is_that_of_a_kafka_sink():
    event = Event(
        id="1", source="/devices/d1", type="t", data=b"x", extensions={"partitionkey": "d1"}
    )
    with MockCluster() as cluster:
        cluster.create_topic("t", 1)
        servers = cluster.bootstrap_servers
        config = {"bootstrap_servers": servers, "topic": "t", "mode": "binary"}
        sink = KafkaSink(KafkaSinkConfig(protocol="kafka", key="partitionkey", **config))
        await sink.open()
        try:
            assert await sink.send([event]) == []
        finally:
            await sink.close()
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "g"})
        try:
            consumer.assign([TopicPartition("t", 0, 0)])
            message = await asyncio.to_thread(consumer.poll, 30)
        finally:
            consumer.close()
    assert (message.key(), message.value()) == (b"d1", b"x")
    assert dict(message.headers()) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_source": b"/devices/d1",
        "ce_type": b"t",
        "ce_partitionkey": b"d1",
    }


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(202, None), (400, Outcome.REJECTED), (403, Outcome.REJECTED), (404, Outcome.RELEASED),
     (405, Outcome.REJECTED), (401, Outcome.RELEASED), (500, Outcome.RELEASED)],
)  # fmt: skip
def test_point_50_the_ingress_s_answers_are_understood(status, outcome):
    found = failure(0, Answer(status), token_may_change=True, now=0)
    assert (None if found is None else found.outcome) == outcome


def test_point_50_the_broker_of_the_example_has_a_delivery():
    (broker,) = of_kind("Broker", EXAMPLES)
    assert problems(broker) == []
    names = {"retry", "backoffPolicy", "backoffDelay", "deadLetterSink"}
    assert set(broker["spec"]["delivery"]) == names


def test_point_51_the_trigger_filters_on_what_the_overrides_set():
    (trigger,) = of_kind("Trigger", EXAMPLES)
    assert problems(trigger) == []
    exact = [each["exact"] for each in trigger["spec"]["filters"] if "exact" in each]
    sources = [*of_kind("SinkBinding", EXAMPLES), *of_kind("ContainerSource", EXAMPLES)]
    sources += of_kind("ProtocolSource", EXAMPLES)
    assert len(sources) == 3
    for source in sources:
        extensions = source["spec"]["ceOverrides"]["extensions"]
        assert all(wanted.items() <= extensions.items() for wanted in exact), json.dumps(source)
        assert source["spec"]["sink"]["ref"]["name"] == trigger["spec"]["broker"]


def test_point_52_no_event_policy_is_installed():
    assert of_kind("EventPolicy") == []


def test_point_53_knative_s_objects_stand_apart_or_last():
    knative = ("eventing.knative.dev/", "sources.knative.dev/")
    for file in {file for file, _ in SHIPPED if file.startswith(("release/", "operator/"))}:
        kinds = [m["apiVersion"].startswith(knative) for f, m in SHIPPED if f == file]
        assert kinds == sorted(kinds), file
