"""A binding of one's own: its codec, its vectors and requirements, and every check of it.

    CUSTOM = custom_binding("meter.binding:BINDING")

takes the vectors and requirements from `vectors.json` and `requirements.yaml` beside the module, if
it is in a package and they are there. The checks are those of the suite for the binding's name, if
it has any, what any binding has to keep to (`conformance.checks.generic`), and the vectors.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bindings.binding import Binding, ContentMode, Message
from bindings.event import Event
from conformance.check import Check, Profile, Unsupported
from conformance.checks import framing, generic, vectors
from conformance.codec import BindingCodec, binding_at
from conformance.coverage import Line, coverage, coverage_of
from conformance.forms import WireEvent
from conformance.requirements import Requirement, add_requirements, registry
from conformance.suite import all_checks, of_profile
from gateway.delivery import Outcome

VECTORS: Final = "vectors.json"
REQUIREMENTS: Final = "requirements.yaml"

_SHARED: Final = ("core", "json")
"""Groups of the suite's requirements that are everybody's."""
_EVENT: Final = Event(id="1", source="/s", type="t")
_FUNCTIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    "split": (b"",),
    "decode": (Message(b""),),
    "encode": (_EVENT, "binary"),
    "answer": (Message(b""), Outcome.ACCEPTED),
}
"""What a skeleton has to be filled in with, and how each is called to see whether it is."""


class CustomBinding(msgspec.Struct, frozen=True, kw_only=True):
    """What is judged, and by what.

    Attributes:
        codec: to be given to each check's `run`.
        checks: those of the suite, and one or more for each vector.
        requirements: the binding's own; empty if it has no such file.
    """

    codec: "CustomCodec"
    checks: Sequence[Check]
    requirements: Sequence[Requirement]

    def covered(self, checks: Iterable[Check]) -> list[Line]:
        """Return which of its requirements, and of the suite's on its behalf, have `checks`."""
        checks = list(checks)
        groups = {*_SHARED, self.codec.name}
        known = [line for line in coverage(checks) if line.group in groups]
        return [*known, *coverage_of(self.codec.name, self.requirements, checks)]

    def told(self) -> list[str]:
        """Return lines for people: what is not written yet, what its requirements lack."""
        codec = self.codec
        lines = [
            f"{codec.title}: {name} is not written yet: {text}"
            for name, text in codec.unwritten.items()
        ]
        covered = coverage_of(codec.name, self.requirements, self.checks)
        if covered:
            count = sum(line.state == "checked" for line in covered)
            lines.append(f"{codec.name}: {count} of {len(covered)} requirements have checks")
        for line in covered:
            if line.state != "checked":
                why = f"not testable: {line.reason}" if line.reason else "has no check"
                lines.append(f"{codec.name}: {line.requirement.id}: {why}")
        return lines


class CustomCodec(BindingCodec):
    """A codec whose functions may not be written yet; what needs them is skipped."""

    def __init__(self, title: str, binding: Binding) -> None:
        super().__init__(title, {binding.name: binding})
        self.name = binding.name
        self._binding = binding
        self.unwritten = dict(_unwritten(binding))
        """What is not written yet, by name, with what it should return."""

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        self._demand("decode")
        return super().decode(binding, message)

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        self._demand("encode")
        return super().encode(binding, event, mode)

    def function(self, binding: str, name: str) -> Callable[..., Any] | None:
        """Return another function of the binding, None if it has none."""
        self._demand(name)
        return getattr(self._binding, name, None) if binding == self.name else None

    def _demand(self, name: str) -> None:
        if name in self.unwritten:
            raise Unsupported(f"{name} is not written yet")


def _unwritten(binding: Binding) -> Iterator[tuple[str, str]]:
    for name, arguments in _FUNCTIONS.items():
        function = getattr(binding, name, None)
        if function is None:
            continue
        try:
            function(*arguments)
        except NotImplementedError as error:
            yield name, str(error)
        except Exception:  # noqa: BLE001, S112 - that is for the checks to judge
            continue


def custom_binding(
    place: str,
    vectors_file: Path | None = None,
    requirements_file: Path | None = None,
    profile: Profile = "main",
) -> CustomBinding:
    """Return the binding at `module:NAME` with its checks.

    Args:
        place: where the Binding is.
        vectors_file: its vectors; None takes those beside the module.
        requirements_file: its requirements; None takes those beside the module.
        profile: by which text the suite judges.

    Raises:
        ValueError: it is no such place, or a file is wrong; the text says where.
        ImportError, AttributeError: nothing is there.
    """
    binding = binding_at(place)
    name = binding.name
    vectors_file = vectors_file or _beside(place, VECTORS)
    requirements_file = requirements_file or _beside(place, REQUIREMENTS)
    requirements = [] if requirements_file is None else add_requirements(requirements_file)
    checks = [check for check in all_checks() if check.needs == "codec" and check.binding == name]
    checks += generic.checks_for(name)
    if vectors_file is not None:
        checks += _vector_checks(vectors_file, name)
    return CustomBinding(
        codec=CustomCodec(place, binding),
        checks=of_profile(checks, profile),
        requirements=requirements,
    )


def _beside(place: str, name: str) -> Path | None:
    """Return a file of the module's package, None if there is none."""
    module = sys.modules[place.partition(":")[0]]
    if not module.__package__ or module.__file__ is None:
        return None
    file = Path(module.__file__).parent / name
    return file if file.is_file() else None


def _vector_checks(file: Path, name: str) -> list[Check]:
    """Return the checks of a file of vectors.

    Raises:
        ValueError: it is none, or is about another binding.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        binding, cases = content["binding"], content["vectors"]
    except KeyError as error:
        raise ValueError(f"{file}: there is no {error}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from None
    if binding != name:
        raise ValueError(f"{file}: it is about {binding!r}, and the binding's name is {name!r}")
    found: dict[str, Check] = {}
    for number, case in enumerate(cases, 1):
        try:
            checks = list(_checks_of(case, name))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            label = case.get("id", number) if isinstance(case, dict) else number
            what = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{file}: vector {label}: {what}") from None
        for check in checks:
            if check.id in found:
                raise ValueError(f"{file}: vector {check.id} stands there twice")
        found.update((check.id, check) for check in checks)
    return list(found.values())


def _checks_of(vector: vectors.Vector, name: str) -> Iterator[Check]:
    unknown = [one for one in vector["requirements"] if one not in registry()]
    if unknown or not vector["requirements"]:
        raise ValueError(f"no such requirement: {', '.join(unknown) or 'none is named'}")
    yield from vectors.checks_of(vector, name)
    yield from framing.checks_of(vector, name)
