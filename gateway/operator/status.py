"""The status of a ProtocolSource, as Knative's duck type for sources has it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.operator.manifests import PLURAL, selector

Condition = dict[str, str]

CONFIGURATION_VALID: Final = "ConfigurationValid"
READY: Final = "Ready"
VALID: Final = {"status": "True"}
_PLACE: Final = re.compile(r"\$?\{")


def invalid(reason: str, message: str) -> Condition:
    """Return what ConfigurationValid says when the children can't be made."""
    return {"status": "False", "reason": reason, "message": message}


def status_of(
    source: Mapping[str, Any],
    deployment: Mapping[str, Any],
    binding: Mapping[str, Any],
    valid: Condition,
    now: str,
) -> dict[str, Any]:
    """Return the whole status; None stands for what is not known, and takes an older value away.

    Args:
        source: the ProtocolSource.
        deployment: its Deployment; empty if there is none.
        binding: its SinkBinding; empty if there is none.
        valid: its condition ConfigurationValid.
        now: the time, as RFC 3339 writes it.
    """
    bound, deployed = binding.get("status") or {}, deployment.get("status") or {}
    conditions = {
        CONFIGURATION_VALID: valid,
        "SinkProvided": condition(binding, "SinkProvided"),
        "SinkBound": condition(binding, "Ready"),
        "DeploymentAvailable": condition(deployment, "Available"),
    }
    return {
        "observedGeneration": source["metadata"].get("generation"),
        "conditions": _dated(conditions, source, now),
        "sinkUri": bound.get("sinkUri"),
        "sinkCACerts": bound.get("sinkCACerts"),
        "sinkAudience": bound.get("sinkAudience"),
        "auth": bound.get("auth"),
        "ceAttributes": attributes(source),
        "replicas": deployed.get("replicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in selector(source).items()),
    }


def attributes(source: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return type and source of the events that messages are wrapped in, as far as they are fixed.

    Of a source with places such as {topic} in it, what stands before the first one is told; of a
    type nothing. Events that come whole bring their own.
    """
    found = []
    for table in source["spec"]["sources"].values():
        routes = table.get("routes")
        templates = [table.get("event"), *(routes.values() if isinstance(routes, dict) else ())]
        for template in templates:
            kind = template.get("type") if isinstance(template, dict) else None
            if isinstance(kind, str) and "{" not in kind:
                prefix = _PLACE.split(str(template.get("source") or ""), maxsplit=1)[0]
                found.append({"type": kind, "source": prefix or _path(source)})
    return [each for n, each in enumerate(found) if each not in found[:n]]


def _path(source: Mapping[str, Any]) -> str:
    metadata = source["metadata"]
    return f"/apis/v1/namespaces/{metadata['namespace']}/{PLURAL}/{metadata['name']}"


def condition(owner: Mapping[str, Any], kind: str) -> Condition:
    """Return the condition of an object, Unknown while it is not about what the object now is."""
    status = owner.get("status") or {}
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
    found = next((one for one in conditions if one["type"] == kind), None)
    generation = owner.get("metadata", {}).get("generation", 0)
    if found is None or status.get("observedGeneration", 0) < generation:
        return {"status": "Unknown", "reason": "Pending"}
    return {key: found[key] for key in ("status", "reason", "message") if found.get(key)}


def _dated(
    conditions: Mapping[str, Condition], source: Mapping[str, Any], now: str
) -> list[dict[str, str]]:
    """Return the conditions with Ready, which sums them up, each with the time it last changed."""
    worst = [one for status in ("False", "Unknown") for one in conditions.values()
             if one["status"] == status]  # fmt: skip
    ready = {"reason": "Unknown", **worst[0]} if worst else {"status": "True"}
    before = {one["type"]: one for one in (source.get("status") or {}).get("conditions") or ()}
    dated = []
    for kind, one in sorted({**conditions, READY: ready}.items()):
        old = before.get(kind, {})
        is_same = old.get("status") == one["status"]
        since = old.get("lastTransitionTime", now) if is_same else now
        dated.append({"type": kind, **one, "lastTransitionTime": since})
    return dated
