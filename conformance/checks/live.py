"""What the checks over the wire share: a scene, in which a device talks to a gateway.

Nothing here waits for a time to pass: what should not arrive is proved by something sent after it
that does. Each scene has a `source` of its own, so that what a gateway still repeats of an earlier
one is not taken for this one's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from bindings.binding import ContentMode, Message
from conformance.check import PROFILES, Check, CheckFailed, Profile, Unsupported
from conformance.forms import WireEvent
from conformance.losses import after
from conformance.peers.dialogue import Answer, Dialogue, dialogue
from conformance.peers.nats import NatsClient
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference, shown
from conformance.requirements import strongest
from conformance.target import SinkAnswer, Target

PROTOCOLS: Final[Mapping[str, str]] = {
    "http": "http",
    "mqtt": "mqtt",
    "mqtt-qos2": "mqtt",
    "mqtt311": "mqtt",
    "nats": "nats",
    "jetstream": "nats",
}
"""Ways to talk (`conformance.peers.dialogue`), and the protocol of the target they need."""

_OUT: Final = (Carrier("http", "binary"), Carrier("http", "structured"))


class Case(NamedTuple):
    """A check of one way to talk.

    Attributes:
        way: how a device talks.
        name: the rest of the id.
        title: what should happen.
        requirements: what it proves.
        run: does it.
        verdict: what is expected, in a few words.
        profiles: by which text.
    """

    way: str
    name: str
    title: str
    requirements: Sequence[str]
    run: Callable[[Target], Awaitable[None]]
    verdict: str = ""
    profiles: frozenset[Profile] = frozenset(PROFILES)


def live_check(family: str, case: Case) -> Check:
    """Return the check of a case."""
    protocol = PROTOCOLS[case.way]
    return Check(
        id=f"{case.way}-live-{case.name}",
        title=case.title,
        binding=protocol,
        family=family,
        requirements=tuple(case.requirements),
        level=strongest(case.requirements),
        role="consumer",
        profiles=case.profiles,
        verdict=case.verdict,
        needs="target",
        protocol=protocol,
        run=case.run,
    )


class Scene:
    """A device, the gateway it talks to, and the events that came out of what it sent.

    Attributes:
        target: the gateway.
        way: how they talk.
        url: where the device connects.
        talk: its connection.
        source: of the events that `event` makes.
        sent: what went out, for people.
    """

    def __init__(self, target: Target, way: str, url: str, talk: Dialogue) -> None:
        self.target = target
        self.way = way
        self.url = url
        self.talk = talk
        self.source = f"/conformance/{uuid4().hex}"
        self.sent = ""
        self._count = 0

    def event(self, data: bytes | None = b"21.5", **attributes: Any) -> WireEvent:
        """Return an event of this scene, with an id of its own."""
        self._count += 1
        usual = {"specversion": "1.0", "id": f"e{self._count}", "source": self.source}
        usual |= {"type": "com.example.conformance", "datacontenttype": "text/plain"}
        if data is None:
            del usual["datacontenttype"]
        return WireEvent({**usual, **attributes}, data)

    def message(self, event: WireEvent, mode: ContentMode | None = None) -> Message:
        """Write an event by hand."""
        return self.carrier(mode).write(event)

    def carrier(self, mode: ContentMode | None = None) -> Carrier:
        """Return where an event is on this way."""
        binding = self.talk.binding
        usual: ContentMode = "structured" if binding == "mqtt311" else "binary"
        return Carrier(binding, mode or usual)

    def send(self, *messages: Message) -> None:
        """Send messages in one write."""
        self.sent += self.talk.send(*messages)

    async def answer(self, seconds: float = 5.0) -> Answer:
        """Wait for the next answer; where core NATS gives none, it counts as a broker's yes."""
        if self.target.is_broker and self.way == "nats":
            return Answer(word="yes", text="no reply is given")
        return await self.talk.answer(seconds)

    async def expect(self, *words: str, seconds: float = 5.0) -> Answer:
        """Wait for an answer, which has to be one of some words; a broker says yes to all.

        Raises:
            CheckFailed: it is another.
        """
        answer = await self.answer(seconds)
        if answer.word not in words and not self.target.is_broker:
            raise self.failed("another answer came", " or ".join(words), answer.text)
        return answer

    async def came(self, count: int, seconds: float = 5.0) -> list[WireEvent]:
        """Wait for `count` events of this scene; return all of them, in order.

        Raises:
            CheckFailed: fewer came out in time.
        """
        seen = count
        while True:
            events = await self.target.events(seen, seconds)
            mine = [one for one in events if one.attributes.get("source") == self.source]
            if len(mine) >= count:
                return mine
            seen = len(events) + 1

    async def expect_events(self, *expected: WireEvent, mode: ContentMode | None = None) -> None:
        """Check that just these events of the scene came out, in this order.

        Raises:
            CheckFailed: others did.
        """
        events = await self.came(len(expected))
        wrong = [
            text
            for one, other in zip(expected, events, strict=False)
            if (text := different(one, other, self.carrier(mode)))
        ]
        if wrong or len(events) != len(expected):
            text = "; ".join(wrong) or "too many events came out"
            raise self.failed(text, " ".join(map(shown, expected)), " ".join(map(shown, events)))

    def failed(self, text: str, expected: str, got: str) -> CheckFailed:
        """Return a failure with what was sent so far."""
        return CheckFailed(text, expected=expected, got=got, reproduce=self.sent[:4000])

    @asynccontextmanager
    async def other(self) -> AsyncIterator["Scene"]:
        """Another device of the same scene, while the context lasts."""
        async with dialogue(self.way, self.url) as talk:
            other = Scene(self.target, self.way, self.url, talk)
            other.source = self.source
            other._count = self._count + 1000
            yield other


def different(expected: WireEvent, got: WireEvent, *carriers: Carrier) -> str:
    """Return what differs from what is left of an event after some carriers; "" if nothing does.

    A foreign gateway is seen through HTTP, which loses more than our own intake does.
    """
    kept = after(expected, *carriers)
    exact = all(carrier.is_binary for carrier in carriers)
    first = difference(kept, got, exact=exact)
    others = [difference(after(kept, out), got, exact=exact and out.is_binary) for out in _OUT]
    return first if all(others) else ""


@asynccontextmanager
async def scene(
    way: str, target: Target, sink: SinkAnswer = "accept", **settings: Any
) -> AsyncIterator[Scene]:
    """Connect a device, while the context lasts.

    Args:
        way: how it talks.
        target: the gateway, or with `settings` another one of its kind.
        sink: how its sink answers.
        settings: fields of the source's configuration.

    Raises:
        Unsupported: the gateway does not offer that.
    """
    async with opened(way, target, **settings) as (found, url), dialogue(way, url) as talk:
        found.forget()
        found.sink_answers(sink)
        try:
            yield Scene(found, way, url, talk)
        finally:
            found.sink_answers("accept")


@asynccontextmanager
async def opened(way: str, target: Target, **settings: Any) -> AsyncIterator[tuple[Target, str]]:
    """Return the gateway that a way needs and where a device connects, while the context lasts."""
    if way == "mqtt311" and target.is_broker:
        raise Unsupported("behind a broker nobody sees in which version a message was sent")
    has_stream = "stream=" in urlsplit(target.url).query
    if way == "jetstream" and not has_stream:
        async with (
            stream(target) as (name, url),
            target.variant(**of_stream(target, name), **settings) as other,
        ):
            yield other, url
    elif way == "nats" and has_stream:
        raise Unsupported("what this gateway takes is stored in a stream")
    elif way == "nats" and settings:
        word = f"c{uuid4().hex[:12]}"  # else the first gateway would answer too
        async with target.variant(url=target.url, subjects=[f"{word}.>"], **settings) as other:
            yield other, f"{target.url}/{word}.events"
    elif settings:
        async with target.variant(**settings) as other:
            yield other, other.url
    else:
        yield target, target.url


@asynccontextmanager
async def stream(target: Target) -> AsyncIterator[tuple[str, str]]:
    """Return the name of a new stream and where to publish to it, while the context lasts.

    Raises:
        Unsupported: it is a foreign gateway, which would not know of it.
    """
    target.variant()
    name = f"C{uuid4().hex[:12]}"
    async with NatsClient(target.url) as client:
        settings = {"name": name, "subjects": [f"{name}.>"], "storage": "memory"}
        await client.ask(f"$JS.API.STREAM.CREATE.{name}", settings)
        try:
            yield name, f"{target.url}/{name}.events?stream={name}"
        finally:
            await client.ask(f"$JS.API.STREAM.DELETE.{name}")


def of_stream(target: Target, name: str) -> Mapping[str, Any]:
    """Return the settings of a gateway that reads a stream."""
    return {"url": target.url, "subjects": [], "stream": name, "durable": "conformance"}
