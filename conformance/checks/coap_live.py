"""How checks of the CoAP binding that are written by hand are made, and what they share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from conformance.check import Check, CheckFailed, Unsupported
from conformance.forms import WireEvent
from conformance.peers.coap import Reply
from conformance.requirements import strongest
from conformance.target import Target

POST: Final = 2
GET: Final = 1

Run = Callable[[Target], Awaitable[None]]


def check(
    name: str, title: str, requirements: str, verdict: str, run: Run, family: str = "channels"
) -> Check:
    """Return a check of a gateway.

    Args:
        name: its id without `coap-`.
        title: what should happen.
        requirements: their ids without `COAP-`, with blanks between.
        verdict: what is expected, in a few words.
        run: raises when it is not so.
        family: what kind of check it is.
    """
    ids = tuple(f"COAP-{one}" for one in requirements.split())
    return Check(
        id=f"coap-{name}",
        title=title,
        binding="coap",
        family=family,
        requirements=ids,
        level=strongest(ids),
        role="consumer",
        verdict=verdict,
        needs="target",
        run=run,
    )


def url_of(target: Target, scheme: str) -> str:
    """Return where a target listens for a scheme.

    Raises:
        Unsupported: it does not, or nobody has told.
    """
    url = target.urls.get(scheme)
    if url is None:
        raise Unsupported(f"no {scheme}:// URL of the target is known")
    return url


def expect_code(reply: Reply, code: str, sent: bytes) -> Reply:
    """Compare the code of an answer; return the answer.

    Raises:
        CheckFailed: it is another.
    """
    if reply.code != code:
        raise CheckFailed(
            "the code is another",
            expected=code,
            got=f"{reply.code} {reply.payload.decode('utf-8', 'replace')}",
            reproduce=sent.hex(),
        )
    return reply


def expect(condition: object, text: str, *, expected: str = "", got: object = "") -> None:
    """Fail unless a condition holds.

    Raises:
        CheckFailed: it doesn't.
    """
    if not condition:
        raise CheckFailed(text, expected=expected, got=str(got))


async def expect_events(target: Target, *expected: Mapping[str, object]) -> Sequence[WireEvent]:
    """Wait for events, and compare those attributes and data members that are named.

    Raises:
        CheckFailed: there are more or fewer, or they differ.
    """
    events = await target.events(len(expected))
    expect(len(events) == len(expected), "too many events", got=[e.attributes for e in events])
    for event, members in zip(events, expected, strict=True):
        got = {name: event.attributes.get(name) for name in members if name != "data"}
        if "data" in members:
            got["data"] = event.data
        expect(got == members, "the event differs", expected=str(dict(members)), got=got)
    return events
