"""A mutant: an implementation with one mistake, which the suite has to find.

A mutant is wrong in one of two ways. A codec is wrapped: a function stands before the right decoder
or encoder and deals in plain forms, so that it can say what a checked event could not. Or the
product is patched: attributes of its modules are replaced while the subject is opened in this
process. A `Catalogue` collects the mutants of a module; the docstring of the function is what is
wrong, its name is the mutant's id.
"""

import functools
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from bindings.binding import ContentMode, Message
from bindings.memory import Memory
from conformance.check import Check, Needs, Profile
from conformance.codec import Codec, own_codec
from conformance.forms import Refused, WireEvent
from conformance.own.delivering import own_delivering
from conformance.own.filters import own_filters
from conformance.own.gateway import own_gateway
from conformance.own.sending import own_sending
from conformance.own.source import ScriptedIntake, own_source
from conformance.peers.http_server import HttpServer

Decode = Callable[[Message], Sequence[WireEvent]]
Encode = Callable[[WireEvent, ContentMode], Message]
WrongDecode = Callable[[Decode, Message], Sequence[WireEvent]]
"""Decodes with a mistake, given the right decoder of the same binding."""
WrongEncode = Callable[[Encode, WireEvent, ContentMode], Message]
"""Encodes with a mistake, given the right encoder of the same binding."""
WrongProduct = Callable[["Patch"], None]
"""Replaces attributes of the product."""

_PRODUCT: Final = ("bindings", "gateway")
_SECONDS: Final = 1.5
_INHERITED: Final = object()
_Wrong = TypeVar("_Wrong", bound=Callable[..., Any])


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake.

    Attributes:
        id: unique.
        about: one sentence: what is wrong.
        requirements: ids of the registry; only a check that proves one of them can kill it.
        pitfall: its number among the known pitfalls (conformance/mutants/pitfalls.py).
        rule: the family of rules of a binding document that it breaks, if it is of no pitfall.
        needs: what is judged.
        protocol: of the target; a codec's mutant has the names of the bindings that are wrong.
        only: part of the ids of the checks that can kill it; "" is every id.
        families: of the checks that can kill it; none means all.
        profile: under which profile it is judged.
        crash: what it raises where it should refuse or answer, if that is its mistake.
        decode, encode: the wrong halves of a codec.
        apply: replaces attributes of the product.
    """

    id: str
    about: str
    requirements: tuple[str, ...]
    pitfall: int | None = None
    rule: str = ""
    needs: Needs = "codec"
    protocol: str = ""
    bindings: tuple[str, ...] = ()
    only: str = ""
    families: tuple[str, ...] = ()
    profile: Profile = "main"
    crash: type[Exception] | None = None
    decode: WrongDecode | None = None
    encode: WrongEncode | None = None
    apply: WrongProduct | None = None

    def can_be_killed_by(self, check: Check) -> bool:
        """Whether a check is of what it breaks."""
        return (
            check.needs == self.needs
            and self.profile in check.profiles
            and self.only in check.id
            and (not self.families or check.family in self.families)
            and not set(self.requirements).isdisjoint(check.requirements)
            and (check.needs != "target" or (check.protocol or check.binding) == self.protocol)
        )


class Catalogue:
    """The mutants of a module.

    Args:
        bindings: what its codecs are wrong in; none means all.
        needs: what its patches are judged as.
        protocol: that of its targets.
        prefix: what their ids begin with, before the function's name.
    """

    def __init__(
        self, *bindings: str, needs: Needs = "codec", protocol: str = "", prefix: str = ""
    ) -> None:
        self._prefix = prefix
        self._common = {"bindings": bindings, "needs": needs, "protocol": protocol}
        self._mutants: dict[str, Mutant] = {}

    def __iter__(self) -> Iterator[Mutant]:
        return iter(self._mutants.values())

    def decoding(
        self, pitfall: int | str, requirements: str, **more: Any
    ) -> Callable[[WrongDecode], WrongDecode]:
        """Collect a function that decodes with a mistake; see `patching` for the arguments."""
        return self._collect("decode", pitfall, requirements, {**more, "needs": "codec"})

    def encoding(
        self, pitfall: int | str, requirements: str, **more: Any
    ) -> Callable[[WrongEncode], WrongEncode]:
        """Collect a function that encodes with a mistake; see `patching` for the arguments."""
        return self._collect("encode", pitfall, requirements, {**more, "needs": "codec"})

    def patching(
        self, pitfall: int | str, requirements: str, **more: Any
    ) -> Callable[[WrongProduct], WrongProduct]:
        """Collect a function that patches the product with a mistake.

        Args:
            pitfall: its number, or the family of rules it breaks.
            requirements: ids, one of which the check has to prove that kills it.
            more: other fields of the mutant.
        """
        return self._collect("apply", pitfall, requirements, more)

    def _collect(
        self, kind: str, pitfall: int | str, requirements: str, more: Mapping[str, Any]
    ) -> Callable[[_Wrong], _Wrong]:
        def collect(wrong: _Wrong) -> _Wrong:
            name = self._prefix + wrong.__name__.replace("_", "-")
            if name in self._mutants:
                raise ValueError(f"two mutants {name}")
            origin = {"pitfall": pitfall} if isinstance(pitfall, int) else {"rule": pitfall}
            fields: dict[str, Any] = {**self._common, **origin, **more, kind: wrong}
            self._mutants[name] = Mutant(
                id=name,
                about=" ".join((wrong.__doc__ or "").split()),
                requirements=tuple(requirements.split()),
                **fields,
            )
            return wrong

        return collect


class Patch:
    """Replaced attributes of the product, put back at the end of the context.

    What the product remembers is forgotten before and after, so that no mutant shows in the next.
    """

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        forget()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for holder, name, value in reversed(self._before):
            if value is _INHERITED:
                delattr(holder, name)
            else:
                setattr(holder, name, value)
        forget()

    def __call__(self, holder: Any, name: str, value: Any) -> None:
        """Replace one attribute of a module or class, for all who look it up there.

        Raises:
            AttributeError: there is none; the mutant no longer fits the product.
        """
        getattr(holder, name)
        # As it stands there: what a class returns of a static method is no static method.
        self._before.append((holder, name, vars(holder).get(name, _INHERITED)))
        setattr(holder, name, value)

    def everywhere(self, holder: Any, name: str, value: Any) -> None:
        """Replace a module's attribute, in every module of the product that imported it too."""
        right = getattr(holder, name)
        for module_name, module in sorted(sys.modules.items()):
            if module_name.partition(".")[0] in _PRODUCT:
                for key, found in list(vars(module).items()):
                    if found is right:
                        self(module, key, value)


def forget() -> None:
    """Empty every memory of the product."""
    for clear in memories():
        clear()


@functools.cache
def memories() -> Sequence[Callable[[], None]]:
    """Return what empties the memories of the product, as far as imported when first asked."""
    return [
        found.clear if isinstance(found, Memory) else found.cache_clear
        for found in gc.get_objects()
        if isinstance(found, Memory)
        or (
            isinstance(found, functools._lru_cache_wrapper)  # noqa: SLF001 - it has no public name
            and str(found.__module__).startswith(_PRODUCT)
        )
    ]


class MutantCodec:
    """A codec with a wrong half, in some of its bindings."""

    def __init__(self, right: Codec, mutant: Mutant) -> None:
        self.title = mutant.id
        self.bindings = right.bindings
        self._right = right
        self._mutant = mutant

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        right = functools.partial(self._right.decode, binding)
        wrong = self._mutant.decode
        return wrong(right, message) if wrong and self._is_wrong(binding) else right(message)

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        right = functools.partial(self._right.encode, binding)
        wrong = self._mutant.encode
        return (
            wrong(right, event, mode) if wrong and self._is_wrong(binding) else right(event, mode)
        )

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
        events = list(self.decode(binding, message))
        sent = [self.encode(target, event, mode) for event in events]
        try:
            right = list(self._right.decode(binding, message))
            is_right = events == right and sent == [
                self._right.encode(target, event, mode) for event in right
            ]
        except Refused:
            is_right = False
        # What is handed on as bytes is more than what a plain form holds.
        return self._right.relay(binding, message, target, mode) if is_right else sent

    def close(self) -> None:
        self._right.close()

    def _is_wrong(self, binding: str) -> bool:
        return not self._mutant.bindings or binding in self._mutant.bindings


@asynccontextmanager
async def opened(mutant: Mutant) -> AsyncIterator[Any]:
    """Open the subject with the mutant's mistake, while the context lasts."""
    with Patch() as patch:
        if mutant.apply is not None:
            mutant.apply(patch)
        async with unpatched(mutant) as subject:
            is_codec = mutant.decode is not None or mutant.encode is not None
            yield MutantCodec(subject, mutant) if is_codec else subject


@asynccontextmanager
async def unpatched(mutant: Mutant) -> AsyncIterator[Any]:
    """Open what the mutant is a mutant of, while the context lasts.

    Checks wait less long there for what does not come: what comes does so at once.
    """
    with Patch() as patch:
        for holder, name in ((HttpServer, "requests"), (ScriptedIntake, "wait")):
            patch(holder, name, _impatient(getattr(holder, name)))
        async with _subject(mutant) as subject:
            yield subject


def _impatient(wait: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    def wait_less(self: Any, count: int, seconds: float = _SECONDS) -> Awaitable[Any]:
        return wait(self, count, min(seconds, _SECONDS))

    return wait_less


def _subject(mutant: Mutant) -> AbstractAsyncContextManager[Any]:
    if mutant.needs == "target":
        return own_source(mutant.protocol)
    return _SUBJECTS[mutant.needs]()


@asynccontextmanager
async def _codec() -> AsyncIterator[Codec]:
    yield right_codec()


@functools.cache
def right_codec() -> Codec:
    """Return the codec that mutants are made of; it keeps nothing, and takes long to make."""
    return own_codec()


_SUBJECTS: Final[Mapping[Needs, Callable[[], AbstractAsyncContextManager[Any]]]] = {
    "codec": _codec,
    "delivering": own_delivering,
    "filters": own_filters,
    "gateway": own_gateway,
    "sending": own_sending,
}
