"""Requirement coverage: which rule has which checks, and which has none, and why."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from conformance.check import Check, Level
from conformance.requirements import Requirement, registry, untestable

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "core": ("CORE",),
    "json": ("JSON",),
    "cbor": ("CBOR",),
    "http": ("HTTP",),
    "webhook": ("WH",),
    "mqtt": ("MQTT",),
    "nats": ("NATS",),
    "kafka": ("KAFKA",),
    "coap": ("COAP",),
    "can": ("CAN",),
    "knative": ("KN",),
    "subscriptions": ("SUB",),
    "cesql": ("CESQL",),
}
"""What is covered, and the prefixes of its requirement ids. The other documents of the registry
(AMQP, Avro, Protobuf, WebSockets, XML, extensions, SDK) are not implemented here."""

State = Literal["checked", "untestable", "missing"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One requirement and what proves it."""

    group: str
    requirement: Requirement
    checks: Sequence[str]
    reason: str = ""

    @property
    def state(self) -> State:
        """Whether checks name it, a reason says why none can, or neither."""
        if self.checks:
            return "checked"
        return "untestable" if self.reason else "missing"


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a group's requirements of one level is covered."""

    checked: int
    untestable: int
    missing: int

    @property
    def percent(self) -> float:
        """Checked among those that can be; 100 when there are none."""
        testable = self.checked + self.missing
        return 100.0 * self.checked / testable if testable else 100.0


def coverage(checks: Iterable[Check]) -> list[Line]:
    """Return a line for each requirement of every group, in the registry's order."""
    by_requirement: dict[str, list[str]] = {}
    for check in checks:
        for one in check.requirements:
            by_requirement.setdefault(one, []).append(check.id)
    reasons = untestable()
    prefixes = {prefix: group for group, found in GROUPS.items() for prefix in found}
    return [
        Line(
            group=prefixes[prefix],
            requirement=requirement,
            checks=list(dict.fromkeys(by_requirement.get(requirement.id, ()))),
            reason=reasons.get(requirement.id, ""),
        )
        for requirement in registry().values()
        for prefix in (requirement.id.partition("-")[0],)
        if prefix in prefixes
    ]


def share(lines: Iterable[Line], group: str, level: Level, role: str = "") -> Share:
    """Count a group's requirements of a level; `role` restricts it to those that bind that role."""
    found = [
        line.state
        for line in lines
        if line.group == group
        and line.requirement.level == level
        and (not role or role in line.requirement.binds)
    ]
    return Share(
        checked=found.count("checked"),
        untestable=found.count("untestable"),
        missing=found.count("missing"),
    )
