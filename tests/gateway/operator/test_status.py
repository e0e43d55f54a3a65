"""The status of a ProtocolSource: Knative's duck type of a source."""

import pytest

from gateway.operator.status import VALID, attributes, invalid, status_of
from tests.deploy.validation import problems
from tests.gateway.operator.cluster import AVAILABLE, BOUND, UNBOUND, example

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def status(source=None, deployment=AVAILABLE, binding=BOUND, valid=VALID, now=NOW):
    children = [{"metadata": {"generation": 0}, "status": each} for each in (deployment, binding)]
    return status_of(source or example(), *children, valid, now)


def conditions(found):
    return {one["type"]: one for one in found["conditions"]}


def test_it_is_ready_when_everything_is_and_valid_by_the_schema():
    found = status()
    assert {one["status"] for one in found["conditions"]} == {"True"}
    assert found["observedGeneration"] == 1
    assert problems({**example(), "status": {k: v for k, v in found.items() if v}}) == []


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"binding": UNBOUND}, "SinkProvided", "NotFound"),
        ({"binding": {}}, "SinkProvided", "Pending"),
        ({"deployment": {}}, "DeploymentAvailable", "Pending"),
        ({"valid": invalid("Refused", "no")}, "ConfigurationValid", "Refused"),
    ],
)
def test_one_thing_that_is_missing_is_the_reason_of_not_being_ready(change, kind, reason):
    found = conditions(status(**change))
    assert found[kind]["status"] != "True"
    assert found["Ready"]["status"] == found[kind]["status"]
    assert found["Ready"]["reason"] == found[kind]["reason"] == reason


def test_what_is_about_an_older_generation_counts_as_unknown():
    children = [{"metadata": {"generation": 2}, "status": each} for each in (AVAILABLE, BOUND)]
    found = conditions(status_of(example(), *children, VALID, NOW))
    assert found["Ready"]["status"] == found["SinkProvided"]["status"] == "Unknown"


def test_what_the_binding_resolved_is_copied_and_what_it_lost_is_taken_away():
    found = status()
    names = ("sinkUri", "sinkAudience", "auth", "sinkCACerts")
    assert {name: found[name] for name in names} == {
        **{name: BOUND[name] for name in names[:3]},
        "sinkCACerts": None,
    }
    assert status(binding=UNBOUND)["sinkUri"] is None


def test_a_condition_keeps_its_time_until_it_changes():
    source = {**example(), "status": status(binding=UNBOUND)}
    found = conditions(status(source, binding=UNBOUND, now=LATER))
    assert {one["lastTransitionTime"] for one in found.values()} == {NOW}
    found = conditions(status(source, now=LATER))
    times = {kind: one["lastTransitionTime"] for kind, one in found.items()}
    changed = {"Ready", "SinkProvided", "SinkBound"}
    assert {kind for kind, time in times.items() if time == LATER} == changed


def test_ce_attributes_are_what_messages_are_wrapped_in():
    assert attributes(example()) == [
        {"type": "com.example.coap", "source": "/devices/"},
        {"type": "com.example.mqtt", "source": "/plant"},
        {"type": "com.example.http", "source": "/web"},
    ]


def test_what_is_not_fixed_has_no_attributes_or_the_object_s_own_path():
    sources = {
        "a": {"protocol": "http"},
        "b": {"protocol": "http", "event": {"type": "com.{x}"}},
        "c": {"protocol": "http", "event": {"type": "t", "source": "{device}"}},
        "d": {"protocol": "http", "event": {"type": "t", "source": "{device}/other"}},
        "e": {"protocol": "http", "event": {"type": "t", "source": "${PLACE}/{device}"}},
    }
    path = "/apis/v1/namespaces/team-a/protocolsources/greenhouse"
    assert attributes(example(sources=sources)) == [{"type": "t", "source": path}]
