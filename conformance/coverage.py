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
    "gateway": ("GW",),
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
    def why(self) -> str:
        """Return why it has no check, for people."""
        permission = "a permission; nobody can break it"
        return self.reason or (permission if self.requirement.level == "MAY" else "MISSING")

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
    by_requirement = _by_requirement(checks)
    reasons = untestable()
    prefixes = {prefix: group for group, found in GROUPS.items() for prefix in found}
    return [
        Line(
            group=prefixes[prefix],
            requirement=requirement,
            checks=by_requirement.get(requirement.id, ()),
            reason=reasons.get(requirement.id, ""),
        )
        for requirement in registry().values()
        for prefix in (requirement.id.partition("-")[0],)
        if prefix in prefixes
    ]


def _by_requirement(checks: Iterable[Check]) -> dict[str, list[str]]:
    """Return the ids of each requirement's checks, each once."""
    found: dict[str, dict[str, None]] = {}
    for check in checks:
        for one in check.requirements:
            found.setdefault(one, {})[check.id] = None
    return {requirement: list(ids) for requirement, ids in found.items()}


def coverage_of(group: str, own: Iterable[Requirement], checks: Iterable[Check]) -> list[Line]:
    """Return a line for each of a stranger's requirements.

    One whose `test` begins with `none:` is not testable, for the reason that stands there.
    """
    by_requirement = _by_requirement(checks)
    return [
        Line(
            group=group,
            requirement=one,
            checks=by_requirement.get(one.id, ()),
            reason=one.test.removeprefix("none:").strip() if one.test.startswith("none:") else "",
        )
        for one in own
    ]


def groups_of(lines: Iterable[Line]) -> list[str]:
    """Return the groups that lines are of: those of `GROUPS` in its order, then others."""
    found = dict.fromkeys(line.group for line in lines)
    return [*(group for group in GROUPS if group in found), *(found.keys() - GROUPS.keys())]


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
