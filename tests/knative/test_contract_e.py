"""Knative's contract, section E: being a source type. docs/knative.md has the numbers."""

import copy
import json
import re

import pytest
import yaml

from gateway.operator.manifests import children, problem
from gateway.operator.status import VALID, status_of
from tests.deploy.validation import DEPLOY, documents, problems
from tests.gateway.operator.cluster import AVAILABLE, BOUND, example

FILE = DEPLOY / "operator/protocolsource.yaml"
CLUSTER_ROLE, CRD = documents(FILE.read_text())
SPEC = CRD["spec"]
(VERSION,) = SPEC["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]
STATUS = SCHEMA["status"]["properties"]
SOURCE_LABEL = {"duck.knative.dev/source": "true"}


def status():
    """Return the status of a ProtocolSource of which everything is there."""
    made = [{"metadata": {"generation": 0}, "status": each} for each in (AVAILABLE, BOUND)]
    return status_of(example(), *made, VALID, "2026-01-01T00:00:00Z")


def test_the_crd_and_its_example_are_valid():
    assert problems(CRD) == []
    assert problems(example()) == []
    assert problem(example()) == ""


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [("a" * 50, True), ("a-1", True), ("a" * 51, False), ("1a", False), ("a.b", False)],
)
def test_names_are_taken_if_a_service_can_have_them(name, is_taken):
    """Names of Services and labels have 63 characters at most (RFC 1035), and no digit first."""
    (rule,) = VERSION["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    most, pattern = re.fullmatch(
        r"self.metadata.name.size\(\) <= (\d+) && !self.metadata.name.matches\('(.*)'\)",
        rule["rule"],
    ).groups()
    assert (len(name) <= int(most) and not re.search(pattern, name)) == is_taken
    source = example()
    source["metadata"]["name"] = name
    label = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
    made = [manifest["metadata"]["name"] for manifest in children(source)]
    assert all(map(label.fullmatch, made)) or not is_taken


def nodes(schema, path=""):
    """Yield every schema in a schema, with its path."""
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}.{key}")


def test_the_schema_is_structural():
    """What apiextensions asks of v1: types everywhere, and nothing that it does not know."""
    known = {
        "additionalProperties", "anyOf", "default", "description", "enum", "format", "items",
        "maxLength", "maxProperties", "minItems", "minLength", "minProperties", "minimum",
        "pattern", "properties", "required", "type", "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    }  # fmt: skip
    for path, schema in nodes(VERSION["schema"]["openAPIV3Schema"]):
        assert set(schema) <= known, path
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert set(schema.get("required", ())) <= set(schema.get("properties", ())), path


def test_point_34_the_crd_has_the_label_of_sources():
    assert SOURCE_LABEL.items() <= CRD["metadata"]["labels"].items()


def test_point_35_kubectl_get_sources_lists_it():
    assert {"sources", "knative", "all"} <= set(SPEC["names"]["categories"])


def test_point_36_columns_show_ready_reason_age_and_sink():
    columns = {each["name"]: each["jsonPath"] for each in VERSION["additionalPrinterColumns"]}
    assert columns == {
        "Sink": ".status.sinkUri",
        "Age": ".metadata.creationTimestamp",
        "Ready": '.status.conditions[?(@.type=="Ready")].status',
        "Reason": '.status.conditions[?(@.type=="Ready")].reason',
    }


def test_point_37_a_cluster_role_lets_knative_watch_it_and_comes_first():
    assert [each["kind"] for each in documents(FILE.read_text())] == [
        "ClusterRole",
        "CustomResourceDefinition",
    ]
    assert SOURCE_LABEL.items() <= CLUSTER_ROLE["metadata"]["labels"].items()
    (rule,) = CLUSTER_ROLE["rules"]
    assert (rule["apiGroups"], rule["resources"]) == ([SPEC["group"]], [SPEC["names"]["plural"]])
    assert set(rule["verbs"]) == {"get", "list", "watch"}


def test_point_38_event_types_are_a_json_array_of_types():
    types = json.loads(CRD["metadata"]["annotations"]["registry.knative.dev/eventTypes"])
    assert types
    for each in types:
        assert each["type"]
        assert set(each) <= {"type", "schema", "description"}


@pytest.mark.parametrize(
    "sink",
    [
        {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}},
        {
            "ref": {"apiVersion": "v1", "kind": "Service", "name": "s", "namespace": "n"},
            "uri": "/x",
        },
        {"uri": "https://sink.example/", "CACerts": "PEM", "audience": "a"},
    ],
)
def test_point_39_the_sink_is_a_destination_and_goes_to_the_binding_unchanged(sink):
    source = example(sink=sink)
    assert problems(source) == []
    (binding,) = (each for each in children(source) if each["kind"] == "SinkBinding")
    assert binding["spec"]["sink"] == sink
    assert problems(binding) == []


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_point_39_overrides_are_text_and_never_of_required_attributes(name):
    extensions = SCHEMA["spec"]["properties"]["ceOverrides"]["properties"]["extensions"]
    (rule,) = extensions["x-kubernetes-validations"]
    assert f"'{name}'" in rule["rule"]
    assert name in problem(example(ceOverrides={"extensions": {name: "x"}}))
    assert problems(example(ceOverrides={"extensions": {"region": 1}}))
    assert problem(example(ceOverrides={"extensions": {"region": "eu"}})) == ""


def test_point_40_conditions_have_ready_and_sink_provided():
    one = STATUS["conditions"]["items"]
    assert set(one["required"]) == {"type", "status"}
    others = {"reason", "message", "severity", "lastTransitionTime"}
    assert set(one["properties"]) == {"type", "status", *others}
    found = {each["type"]: each["status"] for each in status()["conditions"]}
    assert {"Ready": "True", "SinkProvided": "True"}.items() <= found.items()


def test_point_41_the_resolved_sink_is_in_the_status():
    names = ("sinkUri", "sinkCACerts", "sinkAudience", "auth", "observedGeneration")
    assert set(names) <= set(STATUS)
    assert "serviceAccountName" in STATUS["auth"]["properties"]
    found = status()
    assert (found["sinkUri"], found["sinkAudience"], found["auth"]) == (
        BOUND["sinkUri"],
        BOUND["sinkAudience"],
        BOUND["auth"],
    )
    assert found["observedGeneration"] == 1


def test_point_42_ce_attributes_say_what_it_emits():
    one = STATUS["ceAttributes"]["items"]
    assert set(one["properties"]) == set(one["required"]) == {"type", "source"}
    annotated = json.loads(CRD["metadata"]["annotations"]["registry.knative.dev/eventTypes"])
    emitted = {each["type"] for each in status()["ceAttributes"]}
    assert emitted
    assert emitted <= {each["type"] for each in annotated}


def test_point_43_it_can_be_scaled():
    scale = VERSION["subresources"]["scale"]
    assert scale["specReplicasPath"] == ".spec.replicas"
    assert scale["statusReplicasPath"] == ".status.replicas"
    assert scale["labelSelectorPath"] == ".status.selector"
    found = status()
    assert found["replicas"] == AVAILABLE["replicas"]
    (deployment,) = (e for e in children(example(replicas=5)) if e["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 5
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for part in found["selector"].split(","):
        name, _, value = part.partition("=")
        assert labels[name] == value


def test_point_44_it_makes_a_deployment_and_a_binding_for_it_and_resolves_nothing():
    made = {each["kind"]: each for each in children(example())}
    subject = made["SinkBinding"]["spec"]["subject"]
    deployment = made["Deployment"]
    assert (subject["kind"], subject["name"], subject["namespace"]) == (
        "Deployment",
        deployment["metadata"]["name"],
        deployment["metadata"]["namespace"],
    )
    roles = documents((DEPLOY / "operator/operator.yaml").read_text())
    (role,) = (each for each in roles if each["kind"] == "ClusterRole")
    kinds = {kind for rule in role["rules"] for kind in rule["resources"]}
    assert not kinds & {"brokers", "channels", "services/status", "secrets", "pods"}


def test_a_misspelt_field_is_refused():
    broken = copy.deepcopy(example())
    broken["spec"]["sinks"] = broken["spec"].pop("sink")
    assert len(problems(broken)) >= 2
    assert yaml.safe_dump(broken)
