"""The pipeline against a model: whatever sources and sinks do, every message gets the right answer.

Hypothesis writes a configuration, a script for each sink and a program of steps. While it runs, the
sinks check what they are promised; after it, each answer is compared with what became of its
events. A run ends with open gates (then nothing may stay unanswered) or in the middle of things.
"""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.event import Event
from gateway import dispatcher
from gateway.delivery import Delivery, Failure, Outcome, Reason
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.target import Target
from gateway.tasks import Tasks
from tests.helpers import examples

SINKS = ("a", "b", "c")
SOURCES = ("field", "plant")
TYPES = ("x", "y", "z")
OK, NO, LATER, RAISE, CANCEL = "ok", "no", "later", "raise", "cancel"
VERDICTS = {OK: Outcome.ACCEPTED, NO: Outcome.REJECTED, LATER: Outcome.RELEASED}
SECONDS = 5.0

outcomes = st.lists(st.sampled_from([OK, OK, OK, NO, LATER, RAISE, CANCEL]), max_size=12)
routes = st.builds(
    dict,
    sinks=st.lists(st.sampled_from(SINKS), min_size=1, max_size=3, unique=True),
    sources=st.sampled_from([None, None, frozenset({"field"})]),
    types=st.sampled_from([None, None, ("x",), ("x", "y")]),
    retry=st.integers(0, 2),
    delay=st.sampled_from([0.0, 0.001]),
    dead_letter_sink=st.sampled_from([None, None, *SINKS]),
    inflight=st.sampled_from([1, 2, 5, 30]),
)
messages = st.lists(  # events of a message: key and type
    st.tuples(st.sampled_from([0, 0, 1, 2]), st.sampled_from(TYPES)), max_size=3
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["submit", "submit", "try"]),
            st.sampled_from(SOURCES),
            st.lists(messages, min_size=1, max_size=6),
        ),
        st.tuples(st.sampled_from(["shut", "open"]), st.sampled_from(SINKS), st.none()),
        st.tuples(st.just("turn"), st.integers(1, 6), st.none()),
    ),
    max_size=14,
)
ends = st.sampled_from(["settle", "settle", "drain", "give up", "close"])


@dataclass
class Sent:
    """What became of one event at one sink of one route, or at its dead-letter sink."""

    attempts: int = 0
    last: Outcome | None = None


@dataclass
class Message:
    source: str
    events: list[Event]
    answer: object = None
    while_ending: bool = False


class Sink:
    """A sink that does what the script says and checks what it is promised."""

    def __init__(self, world, name, script, turns):
        self.world, self.name, self.turns = world, name, turns
        self.script = itertools.chain(script, itertools.repeat(OK))
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = defaultdict(set)

    async def open(self): ...

    async def close(self): ...

    def take(self, route, events):
        """Check a list, whose keys are under way from here on; return those of its lane."""
        dead = {event.extensions.get("knativeerrordest") is not None for event in events}
        # The lane that this list comes by; a route's dead letters have one of their own.
        way = (route, *dead)
        keys = {event.key for event in events}
        self.world.check(len(dead) == 1, "an empty list, or dead letters among events")
        self.world.check_window(route)
        self.world.check(not keys & self.under_way[way], "a key twice under way")
        self.under_way[way] |= keys
        return self.under_way[way], keys

    async def send(self, events, timeout=None):
        route = int(timeout)
        under_way, keys = self.take(route, events)
        try:
            try:
                await self.gate.wait()
                for _ in range(self.turns):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.world.on_cancel == "pass":
                    raise
                for event in events:  # it says, or it means, that it has none of them
                    self.note(route, event, Outcome.RELEASED)
                if self.world.on_cancel == "raise":
                    raise RuntimeError("cancelled") from None
                return [Failure(n, Outcome.RELEASED, Reason.SINK_DOWN) for n in range(len(events))]
            return self.answer(route, events)
        finally:
            under_way -= keys

    def answer(self, route, events):
        outcomes, failed, error = [], set(), None
        for event in events:
            verdict = None if event.key in failed else next(self.script)
            if verdict in (RAISE, CANCEL):
                error = RuntimeError("a bug") if verdict == RAISE else asyncio.CancelledError()
                break
            if verdict == LATER:
                failed.add(event.key)
            outcomes.append(None if verdict is None else VERDICTS[verdict])
        if error is not None:  # that is RELEASED for all
            outcomes = [Outcome.RELEASED] * len(events)
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome is not None:
                self.note(route, event, outcome)
        if error is not None:
            raise error
        return [
            Failure(position, Outcome.RELEASED, Reason.HELD)
            if outcome is None
            else Failure(position, outcome, Reason.SINK_REFUSED)
            for position, outcome in enumerate(outcomes)
            if outcome is not Outcome.ACCEPTED
        ]

    def note(self, route, event, outcome):
        way = route, self.name, event.extensions.get("knativeerrordest")
        sent = self.world.sent[*way, event.id]
        sent.attempts += 1
        sent.last = outcome
        if outcome is Outcome.ACCEPTED:
            self.world.arrived[*way, event.key].append(int(event.id))


class PromptSink(Sink):
    """Is given a list without anybody who waits, and may answer in that very call."""

    def start_sending(self, events, timeout, on_ended, on_accepted):
        return Sending(self, int(timeout), events, on_ended)


class Sending:
    def __init__(self, sink, route, events, on_ended):
        self.sink, self.route, self.events, self.on_ended = sink, route, events, on_ended
        self.under_way, self.keys = sink.take(route, events)
        self.is_cancelled = False
        self.turns = sink.turns
        if sink.gate.is_set() and not self.turns:
            self.end()
        else:
            self.wait()

    def wait(self):
        loop = asyncio.get_running_loop()
        if self.is_cancelled:
            return
        if not self.sink.gate.is_set():
            loop.call_later(0.001, self.wait)
        elif self.turns:
            self.turns -= 1
            loop.call_soon(self.wait)
        else:
            try:
                self.end()
            except RuntimeError:
                self.on_ended(
                    [
                        Failure(position, Outcome.RELEASED, Reason.SINK_DOWN)
                        for position in range(len(self.events))
                    ]
                )

    def end(self):
        self.under_way -= self.keys
        try:
            failures = self.sink.answer(self.route, self.events)
        except asyncio.CancelledError:
            raise RuntimeError("cancelled") from None
        self.on_ended(failures)

    def cancel(self):
        self.is_cancelled = True
        self.under_way -= self.keys


@dataclass
class World:
    """One run."""

    configs: list[dict]
    scripts: list[list[str]]
    turns: list[int]
    on_cancel: str
    prompt: list[bool]
    errors: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    sent: dict = field(default_factory=lambda: defaultdict(Sent))
    arrived: dict = field(default_factory=lambda: defaultdict(list))
    ending: bool = False
    largest: int = 0

    def start(self):
        self.failed = Tasks.failed = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: self.errors.append(f"in a callback: {context}")
        )
        self.numbers = itertools.count(1)
        self.changed = asyncio.Event()
        self.sinks = {
            name: (PromptSink if prompt else Sink)(self, name, script, turns)
            for name, script, turns, prompt in zip(
                SINKS, self.scripts, self.turns, self.prompt, strict=True
            )
        }
        self.routes = [
            Route(
                name=f"r{number}",
                sinks=config["sinks"],
                sources=config["sources"],
                matches=_of_types(config["types"]),
                policy=RetryPolicy(retry=config["retry"], delay=config["delay"], policy="linear"),
                timeout=float(number),  # tells the sinks which route a list comes by
                dead_letter_sink=config["dead_letter_sink"],
                inflight=config["inflight"],
            )
            for number, config in enumerate(self.configs)
        ]
        targets = {
            name: Target(name=name, sink=sink, address=name) for name, sink in self.sinks.items()
        }
        self.metrics = Metrics()
        self.pipeline = Pipeline(self.routes, targets, self.metrics)
        self.pipeline.start()
        self.intakes = {name: self.pipeline.intake(name) for name in SOURCES}
        self.submitting = dict.fromkeys(SOURCES)

    def check(self, holds, text):
        if not holds:
            self.errors.append(text)

    def check_window(self, number):
        """Check that no more is under way than the window holds, or one message alone."""
        route = self.routes[number]
        largest = max((len(message.events) for message in self.messages), default=0)
        inflight = self.metrics.routes[route.name].inflight
        self.check(inflight <= max(route.inflight, largest, self.largest), f"{inflight} under way")

    def delivery(self, source, shapes):
        events = [
            Event(id=str(next(self.numbers)), source=f"/{source}/{key}", type=type_)
            for key, type_ in shapes
        ]
        message = Message(source, events)

        def on_settled(settlement):
            self.check(message.answer is None, "settled twice")
            message.answer = settlement
            message.while_ending = self.ending
            self.changed.set()

        return message, Delivery(events, on_settled)

    async def step(self, verb, subject, argument):
        if verb in ("shut", "open"):
            gate = self.sinks[subject].gate
            gate.clear() if verb == "shut" else gate.set()
        elif verb == "turn":
            for _ in range(subject):
                await asyncio.sleep(0)
        else:
            waiting = self.submitting[subject]
            if waiting is not None and not waiting.done():
                return  # it must not read on while it waits
            made = [self.delivery(subject, shapes) for shapes in argument]
            self.hand_in(verb, subject, made)

    def hand_in(self, verb, source, made):
        intake, deliveries = self.intakes[source], [delivery for _, delivery in made]
        before, largest = self.pipeline.inflight, self.largest
        if verb == "submit":
            self.messages += [message for message, _ in made]
            self.submitting[source] = asyncio.ensure_future(intake.submit(deliveries))
            return
        # A list is one whole to try_submit, and goes in alone if it is larger than the window.
        events = [event for message, _ in made for event in message.events]
        self.largest = max(largest, len(events))
        if intake.try_submit(deliveries):
            self.messages += [message for message, _ in made]
        else:
            self.largest = largest
            self.check(self.pipeline.inflight == before, "refused, and taken in part")
            self.check(not any(message.answer for message, _ in made), "refused, and answered")

    async def end(self, how):
        if how == "settle":
            await self.settle()
        self.ending = how != "settle"
        if how == "drain":
            for sink in self.sinks.values():
                sink.gate.set()
            await self.pipeline.drain(SECONDS)
            self.check(self.pipeline.inflight == 0, "drained, and events are left")
        elif how == "give up":
            await self.pipeline.drain(0.002)
        await self.pipeline.close()
        for waiting in self.submitting.values():
            if waiting is not None:
                await waiting

    async def settle(self):
        for sink in self.sinks.values():
            sink.gate.set()
        while any(message.answer is None for message in self.messages):
            self.changed.clear()
            await self.changed.wait()

    # The model.

    def places(self, message, event):
        """Return route number and sink of every place where the event belongs."""
        return [
            (number, sink)
            for number, route in enumerate(self.routes)
            if route.sources is None or message.source in route.sources
            if route.matches is None or route.matches(event)
            for sink in route.sinks
        ]

    def fate(self, number, sink, event):
        """Return the outcome of an event at one place; None when it was never asked for."""
        route = self.routes[number]
        outcome = self.sent[number, sink, None, event.id].last
        if outcome is Outcome.ACCEPTED or outcome is None or route.dead_letter_sink is None:
            return outcome
        dead = self.sent[number, route.dead_letter_sink, sink, event.id].last
        return None if dead is None else dead if dead is Outcome.ACCEPTED else max(dead, outcome)

    def verify(self):
        for message in self.messages:
            self.verify_message(message)
        for (number, sink, dead, event_id), sent in self.sent.items():
            most = self.routes[number].policy.retry + 1
            place = f"{event_id} at {number} {sink} {dead}: {sent}"
            self.check(sent.attempts <= most, f"too many attempts: {place}")
            given_up = sent.last is Outcome.RELEASED and not self.ending
            self.check(not given_up or sent.attempts == most, f"too few attempts: {place}")
        for place, numbers in self.arrived.items():
            self.check(numbers == sorted(numbers), f"out of order at {place}: {numbers}")
        self.check(self.pipeline.inflight == 0, "the window is not empty")
        self.check(not self.failed.is_set(), "a task died")
        received = sum(source.received for source in self.metrics.sources.values())
        settled = sum(sum(source.settled) for source in self.metrics.sources.values())
        self.check(received == settled, f"received {received}, settled {settled}")

    def verify_message(self, message):
        if message.answer is None:
            self.errors.append(f"never answered: {message.events}")
            return
        places = [
            (number, sink, event)
            for event in message.events
            for number, sink in self.places(message, event)
        ]
        fates = [self.fate(*place) for place in places]
        outcome = message.answer.outcome
        if message.while_ending and message.answer.outcome is Outcome.RELEASED:
            return
        self.check(None not in fates, f"answered {outcome!r} before it was known: {fates}")
        worst = max((fate for fate in fates if fate is not None), default=Outcome.ACCEPTED)
        self.check(outcome is worst, f"answered {outcome!r}, and it is {worst!r}: {fates}")
        filtered = message.answer.reason is Reason.FILTERED
        self.check(filtered == (bool(message.events) and not places), "filtered or not")


def _of_types(types):
    return None if types is None else lambda event: event.type in types


@settings(max_examples=examples(400))
@given(
    configs=st.lists(routes, min_size=1, max_size=3),
    scripts=st.tuples(outcomes, outcomes, outcomes),
    turns=st.tuples(*[st.sampled_from([0, 1, 4])] * 3),
    longest_list=st.sampled_from([2, 512]),
    on_cancel=st.sampled_from(["pass", "swallow", "raise"]),
    prompt=st.tuples(*[st.booleans()] * 3),
    program=steps,
    end=ends,
)
def test_every_message_is_answered_once_and_as_its_events_fared(
    *, configs, scripts, turns, longest_list, on_cancel, prompt, program, end
):
    world = World(configs, scripts, turns, on_cancel, prompt)

    async def run():
        world.start()
        try:
            async with asyncio.timeout(SECONDS):
                for step in program:
                    await world.step(*step)
                await world.end(end)
        except TimeoutError:
            world.errors.append("it hangs")

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dispatcher, "MAX_LIST", longest_list)
            uvloop.run(run())
    finally:
        Tasks.failed = None
    world.verify()
    assert not world.errors
