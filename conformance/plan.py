"""What a run consists of: parts, each with the checks that one subject is given.

Ours are judged whole: the codec of every binding, the sources that devices send to, delivery over
HTTP, and the producer `ce-gateway send`. A foreign codec is judged by the checks of the bindings
that it has, a foreign gateway by those of its protocol.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from conformance.check import Check, Level, Profile
from conformance.checks.generic import checks_for
from conformance.codec import Codec, own_codec
from conformance.foreign import foreign_target, protocol_of
from conformance.foreign_delivering import foreign_delivering
from conformance.own.delivering import own_delivering
from conformance.own.filters import own_filters
from conformance.own.gateway import own_gateway
from conformance.own.sending import own_sending
from conformance.own.source import own_source
from conformance.suite import all_checks, of_profile


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Checks that are given the same subject.

    Attributes:
        title: what is judged, for people.
        checks: in the order in which they run.
        open: returns the context in which the subject exists.
        waits: it waits more than it works, and runs beside other such parts.
    """

    title: str
    checks: Sequence[Check]
    open: Callable[[], AbstractAsyncContextManager[Any]]
    waits: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which checks run.

    Attributes:
        profile: by which text they judge.
        bindings: rows of the table; empty means all.
        families: empty means all.
        levels: empty means all.
        only: parts of ids, or whole ids of requirements; empty means all.
    """

    profile: Profile = "main"
    bindings: Collection[str] = ()
    families: Collection[str] = ()
    levels: Collection[Level] = ()
    only: Collection[str] = ()

    def of(self, checks: Iterable[Check]) -> list[Check]:
        """Return those of `checks` that are chosen."""
        return [
            check
            for check in of_profile(checks, self.profile)
            if (not self.bindings or check.binding in self.bindings)
            and (not self.families or check.family in self.families)
            and (not self.levels or check.level in self.levels)
            and (not self.only or any(_is_about(check, part) for part in self.only))
        ]


def _is_about(check: Check, part: str) -> bool:
    return part in check.id or part in check.requirements


def own_plan(choice: Choice) -> list[Part]:
    """Return the parts that judge what is installed here."""
    checks = choice.of(all_checks())
    codec = own_codec()
    of_codec = [check for check in checks if check.needs == "codec"]
    parts = [codec_part(codec, [*of_codec, *choice.of(generic_checks(codec))])]
    by_protocol: dict[str, list[Check]] = {}
    for check in checks:
        if check.needs == "target":
            by_protocol.setdefault(check.protocol or check.binding, []).append(check)
    parts += [
        Part(
            title=f"source {protocol}",
            checks=found,
            open=partial(own_source, protocol),
            waits=True,
        )
        for protocol, found in by_protocol.items()
    ]
    delivering = [check for check in checks if check.needs == "delivering"]
    title = "delivery over HTTP"
    parts.append(Part(title=title, checks=delivering, open=own_delivering, waits=True))
    gateway = [check for check in checks if check.needs == "gateway"]
    parts.append(Part(title="a whole gateway", checks=gateway, open=own_gateway))
    sending = [check for check in checks if check.needs == "sending"]
    parts.append(Part(title="ce-gateway send", checks=sending, open=own_sending))
    filters = [check for check in checks if check.needs == "filters"]
    parts.append(Part(title="filters", checks=filters, open=own_filters))
    return [part for part in parts if part.checks]


def codec_plan(codec: Codec, choice: Choice, more: Sequence[Check] = ()) -> list[Part]:
    """Return the part that judges a foreign codec by the checks of the bindings that it has."""
    checks = [
        check
        for check in choice.of(all_checks())
        if check.needs == "codec" and check.binding in codec.bindings
    ]
    return [codec_part(codec, [*checks, *choice.of(more)])]


def generic_checks(codec: Codec) -> Iterator[Check]:
    """Yield what each binding of a codec has to keep to, whatever its protocol is."""
    for name in codec.bindings:
        yield from checks_for(name)


def target_plan(
    urls: Sequence[str], observe: str, choice: Choice, *, is_broker: bool
) -> list[Part]:
    """Return the parts that judge a foreign gateway by what comes out of it.

    One that takes events over HTTP is judged by how it delivers them where `delivery` is chosen by
    its name: then it has to repeat deliveries, and for all the others it had better not.
    """
    checks = choice.of(all_checks())
    protocols: dict[str, list[str]] = {}
    for url in urls:
        protocols.setdefault(protocol_of(url), []).append(url)
    of_target = [check for check in checks if check.needs == "target"]
    parts = [
        Part(
            title=found[0],
            checks=[one for one in of_target if (one.protocol or one.binding) == protocol],
            open=partial(foreign_target, found, observe, is_broker=is_broker),
        )
        for protocol, found in protocols.items()
    ]
    for http in protocols.get("http", ())[:1] if "delivery" in choice.bindings else ():
        delivering = [check for check in checks if check.needs == "delivering"]
        through = partial(foreign_delivering, http, observe)
        parts.append(Part(title=f"delivery of {http}", checks=delivering, open=through))
    return [part for part in parts if part.checks]


def codec_part(codec: Codec, checks: Sequence[Check]) -> Part:
    """Return the part in which a codec is given its checks."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Codec]:
        try:
            yield codec
        finally:
            codec.close()

    return Part(title=codec.title, checks=checks, open=opened)
