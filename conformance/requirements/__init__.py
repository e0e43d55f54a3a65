"""The registry of requirements: every rule of the specifications with an id, and who has to obey.

`cloudevents.yaml` holds the rules of the CloudEvents documents; each binding document of our own
has a file beside it. `untestable.yaml` says of each rule that no check can prove, why.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from conformance.check import LEVELS, Level, Profile, Role

_STRENGTH: Final[dict[str, Level]] = {
    "MUST": "MUST",
    "MUST NOT": "MUST",
    "REQUIRED": "MUST",
    "STATEMENT": "MUST",
    "SHOULD": "SHOULD",
    "SHOULD NOT": "SHOULD",
    "RECOMMENDED": "SHOULD",
    "MAY": "MAY",
    "OPTIONAL": "MAY",
}

_DEMAND_REFUSAL: Final = frozenset({"HTTP-DEC-007", "NATS-DEC-006"})
"""Where the CloudEvents documents have a receiver refuse a message ("MUST be rejected")."""


# libyaml reads them ten times as fast, in every process of the suite; a PyYAML may be without it.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Requirement(msgspec.Struct, frozen=True, kw_only=True, rename={"class_": "class"}):
    """One rule.

    Attributes:
        id: such as `HTTP-DEC-007`.
        spec: the document.
        section: where in it.
        keyword: its RFC 2119 keyword, or STATEMENT for a rule without one.
        binds: who has to obey: `producer`, `consumer`, `intermediary`, `spec-author`, ...
        versions: in which texts it stands.
        text: what it demands.
        test: how it can be tested.
        class_: the optional class of a binding document it belongs to, "" if it has none.
    """

    id: str
    spec: str
    section: str
    keyword: str
    binds: tuple[str, ...]
    versions: str
    text: str
    test: str = ""
    class_: str = ""

    @property
    def level(self) -> Level:
        """How strong it is; a rule without a keyword counts as MUST."""
        return _STRENGTH[self.keyword]

    @property
    def profiles(self) -> frozenset[Profile]:
        """The profiles whose text holds it."""
        if self.versions.startswith("main only"):
            return frozenset({"main", "lenient"})
        if self.versions.startswith("1.0.2 only"):
            return frozenset({"1.0.2"})
        return frozenset({"1.0.2", "main", "lenient"})


@cache
def registry() -> dict[str, Requirement]:
    """Return every requirement by its id."""
    found: dict[str, Requirement] = {}
    for file in sorted(files("conformance.requirements").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml") and file.name != "untestable.yaml":
            for entry in _load(file.read_text("utf-8"))["requirements"]:
                requirement = _requirement(entry)
                found[requirement.id] = requirement
    return found


def add_requirements(file: Path) -> list[Requirement]:
    """Take a binding's own requirements into the registry, and return them.

    Raises:
        ValueError: the file is no such registry, or an id is somebody else's.
    """
    found = []
    try:
        for entry in _load(file.read_text("utf-8"))["requirements"]:
            found.append(_requirement(entry))  # noqa: PERF401 - the error tells which one
    except KeyError as error:
        raise ValueError(f"{file}: requirement {len(found) + 1} has no field {error}") from None
    except (yaml.YAMLError, msgspec.ValidationError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"{file}: requirement {len(found) + 1}: {error}") from None
    for one in found:
        if one.keyword not in _STRENGTH:
            raise ValueError(f"{file}: {one.id}: {one.keyword!r} is no level; MUST is one")
        if registry().setdefault(one.id, one) != one:
            raise ValueError(f"{file}: {one.id} is the id of another requirement already")
    return found


def _load(text: str) -> Any:
    return yaml.load(text, _LOADER)  # noqa: S506 - both are safe loaders


def _requirement(entry: dict[str, object]) -> Requirement:
    known = {
        "id": entry["id"],
        "spec": entry["spec"],
        "section": str(entry["section"]),
        "keyword": entry["level"],
        "binds": entry["binds"],
        "versions": entry["versions"],
        "text": entry["requirement"],
        "test": entry.get("test", ""),
        "class": entry.get("class", ""),
    }
    return msgspec.convert(known, Requirement)


@cache
def untestable() -> dict[str, str]:
    """Return why each requirement that no check proves has none, by its id."""
    text = files("conformance.requirements").joinpath("untestable.yaml").read_text("utf-8")
    return dict(_load(text) or {})


def strongest(ids: Iterable[str]) -> Level:
    """Return the strongest level of some requirements."""
    return min((registry()[one].level for one in ids), key=LEVELS.index)


def level_of(ids: Iterable[str], *, role: Role, verdict: str) -> Level:
    """Return how strong the verdict of a check is: as strong as its strongest requirement.

    The CloudEvents documents say what an event is, and seldom what its consumer has to do with
    a message that is none: that it refuses such a message is no more than SHOULD, unless a rule
    demands it. Documents of one's own say it themselves, and count as they stand.
    """
    ids = tuple(ids)
    level = strongest(ids)
    if role != "consumer" or not verdict.startswith("refused"):
        return level
    demands = any(
        one in _DEMAND_REFUSAL or not registry()[one].spec.startswith("cloudevents/")
        for one in ids
        if registry()[one].level == level
    )
    return level if demands else max(level, "SHOULD", key=LEVELS.index)


def profiles_of(ids: Iterable[str]) -> frozenset[Profile]:
    """Return the profiles in which at least one of some requirements stands."""
    return frozenset[Profile]().union(*(registry()[one].profiles for one in ids))
