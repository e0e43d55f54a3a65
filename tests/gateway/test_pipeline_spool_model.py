"""The pipeline with spools against a model: what was accepted arrives, in order, whatever happens.

Hypothesis submits messages, scripts the sinks, takes the steps of the spools' writers and of the
dead letters one by one, breaks the disk, kills the process or the machine, and starts it again. In
the end everything heals, and each message that was ever accepted must be at its sinks or with the
dead letters. Time is virtual: a wait costs nothing, and a hang is seen at once.
"""

import asyncio
import contextlib
import errno
import itertools
import random
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bindings.event import Event
from gateway import allowance, dedup_gate, dispatcher, intake, spooling, stored_event
from gateway.delivery import Delivery, Failure, Outcome, Reason
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.target import Target
from gateway.tasks import Tasks
from tests.gateway.spool.simulated import Cut, SimulatedDisk, SteppedSpool
from tests.gateway.stepped import SteppedLetters, VirtualLoop
from tests.helpers import examples

MAX_BYTES = 6000
SINKS = ("a", "b", "dead")
OK, NO, DOWN, BUSY, GONE, HELD, RAISE, DEAF = (
    "ok", "no", "down", "busy", "gone", "held", "raise", "deaf",
)  # fmt: skip
FAILURES = {
    NO: Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400),
    DOWN: Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503),
    BUSY: Failure(0, Outcome.RELEASED, Reason.SINK_BUSY, status=429, retry_after=3.0),
    GONE: Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=404),
    HELD: Failure(0, Outcome.RELEASED, Reason.HELD, retry_after=0.5),
    DEAF: Failure(0, Outcome.RELEASED, Reason.TIMEOUT),  # it took the event, and nobody heard it
}
TROUBLE = [
    ("write", errno.EIO),
    ("write", errno.ENOSPC),
    ("fdatasync", errno.EIO),
    ("create", errno.ENOSPC),
    ("rename", errno.EIO),
    ("unlink", errno.EIO),
    ("open", errno.EMFILE),
    ("read", errno.ENOMEM),
]

routes = st.builds(
    dict,
    sinks=st.sampled_from([["a"], ["a"], ["b"], ["a", "b"]]),
    stored=st.booleans(),
    spool=st.sampled_from([True, True, True, False]),
    dead_letter_sink=st.sampled_from([None, None, "dead"]),
    dedup_window=st.sampled_from([0.0, 1e6]),
    inflight=st.sampled_from([1, 4, 4, 30]),
    drain_rate=st.sampled_from([None, None, 5.0]),
    policy=st.builds(RetryPolicy, retry=st.integers(0, 3), delay=st.sampled_from([0.0, 0.1, 40.0])),
)
THEN = st.sampled_from([0, 0, 1, 2, 5, "tick", "tick"])  # what happens after a step
SINK = st.sampled_from(["a", "a", "b", "dead"])
messages = st.lists(  # the keys and sizes of a message's events
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200)), min_size=1, max_size=2),
    min_size=1,
    max_size=6,
)


class LaneSpool(SteppedSpool):
    def __init__(self, folder, disk, keep_seconds):
        self.FOLDER = folder
        super().__init__(disk, max_bytes=MAX_BYTES, segment_bytes=1500, keep_seconds=keep_seconds)


class Sink:
    """Answers as it is told; `script` goes before `mode`."""

    def __init__(self, life, name, before):
        self.world, self.name, self.life = life.world, name, life
        self.mode = before.mode if before else OK
        self.script = before.script if before else []
        self.gate = asyncio.Event()
        if not before or before.gate.is_set():
            self.gate.set()
        self.under_way = defaultdict(set)
        self.calls = Counter()  # by time

    async def open(self): ...

    async def close(self): ...

    async def send(self, events, timeout=None):
        way = (int(timeout), *{"knativeerrordest" in event.extensions for event in events})
        keys = {event.key for event in events}
        self.world.check(not keys & self.under_way[way], "a key twice under way")
        self.under_way[way] |= keys
        self.calls[self.life.loop.now] += 1
        if self.calls[self.life.loop.now] > 1000:
            self.world.errors.append("it spins")
            await asyncio.sleep(1)
        try:
            await self.gate.wait()
            return self.answer(int(timeout), events)
        finally:
            self.under_way[way] -= keys

    def answer(self, route, events):
        failures, held = [], set()
        for position, event in enumerate(events):
            if event.key in held:
                failures.append(Failure(position, Outcome.RELEASED, Reason.HELD))
                continue
            verdict = self.script.pop(0) if self.script else self.mode
            if verdict == RAISE:  # of the whole list
                self.world.provoked.update(one.id for one in events)
                self.world.failed.update((route, self.name, one.id) for one in events)
                raise RuntimeError("a bug")
            if verdict in (OK, DEAF) and not self.life.is_over:
                self.world.arrived[route, self.name].append(event)
            if verdict == DEAF:
                self.world.provoked.add(event.id)
            if verdict == OK:
                continue
            failure = FAILURES[verdict]
            if verdict != HELD:
                more = 1000 if verdict == NO else 1
                self.world.failed[route, self.name, event.id] += more
            if failure.outcome is Outcome.RELEASED:
                held.add(event.key)
            failures.append(
                Failure(
                    position, failure.outcome, failure.reason, failure.status, failure.retry_after
                )
            )
        return failures


class Message:
    def __init__(self, events):
        self.events = events
        self.answers = []
        self.given = 0
        self.lives = set()
        self.turn = 0


class Life:
    """One process."""

    def __init__(self, world, before=None):
        self.world = world
        self.is_over = False
        self.unanswered = 0  # messages
        self.loop = VirtualLoop(world.now)
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda _, context: self.world.errors.append(str(context)))
        try:
            self.run(self._start(before))
        except BaseException:
            self.close_loop()
            raise

    async def _start(self, before):
        world = self.world
        Tasks.failed = self.failed = asyncio.Event()
        self.letters = SteppedLetters(world.kept)
        self.spools = {
            (route.name, sink): LaneSpool(
                Path(f"/spool/{route.name}/{sink}"), world.disk, route.dedup_window
            )
            for route in world.routes
            if route.spool
            for sink in route.sinks
        }
        for spool in self.spools.values():
            spool.open()
        self.sinks = {name: Sink(self, name, before and before.sinks[name]) for name in SINKS}
        targets = {
            name: Target(name=name, sink=sink, address=name) for name, sink in self.sinks.items()
        }
        state = SimpleNamespace(
            letters=self.letters, spool_of=lambda route, sink: self.spools[route, sink]
        )
        self.pipeline = Pipeline(world.routes, targets, Metrics(), state)
        self.pipeline.start()
        self.intake = self.pipeline.intake("field")
        self.submitting = None

    def run(self, work):
        return self.loop.run_until_complete(work)

    def submit(self, messages, *, waits):
        deliveries = [Delivery(m.events, self._answer(m)) for m in messages]

        async def submit():
            if not waits:
                return self.intake.try_submit(deliveries)
            self.submitting = asyncio.ensure_future(self.intake.submit(deliveries))
            await asyncio.sleep(0)
            return True

        is_taken = self.run(submit())
        for message in messages:
            message.given += is_taken
            message.lives.add(self)
            message.turn = next(self.world.turns)
        self.unanswered += len(messages) if is_taken else 0

    def _answer(self, message):
        answered = []

        def on_settled(settlement):
            if not self.is_over:
                self.world.check(not answered, "settled twice")
                answered.append(settlement)
                self.unanswered -= 1
                message.answers.append(settlement)

        return on_settled

    @property
    def is_waiting(self):
        """Whether the source may not submit: its last list was not taken yet."""
        return self.submitting is not None and not self.submitting.done()

    async def tick(self, seconds=0.0):
        """Let everybody do his work once."""
        for spool in self.spools.values():
            spool.work()
            spool.deliver()
        self.letters.work()
        await asyncio.sleep(seconds)

    async def settle(self):
        """Heal, and return when everything has come to its end."""
        for sink in self.sinks.values():
            sink.mode, sink.script = OK, []
            sink.gate.set()
        self.letters.fails = False
        async with asyncio.timeout(20_000):
            while not self.is_settled():
                await self.tick(0.05)

    def is_settled(self):
        return (
            self.pipeline.inflight == 0
            and not self.unanswered
            and not self.is_waiting
            and not any(spool.pending for spool in self.spools.values())
            and not self.letters.waiting
        )

    async def end(self, grace):
        """Shut down as the service does."""

        async def work():
            while True:
                await self.tick(0.05)

        working = asyncio.ensure_future(work())
        if grace is not None:
            await self.pipeline.drain(grace)
        await self.pipeline.close()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        for spool in self.spools.values():
            spool.close()
        self.letters.close()
        if self.submitting is not None:
            await self.submitting
        await asyncio.sleep(0)
        self.world.check(self.pipeline.inflight == 0, "closed, and the window is not empty")

    def close_loop(self):
        """Take the process away, at any moment."""
        self.is_over = True

        async def cancel():
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.world.check(not self.failed.is_set(), "a task died")
        self.world.now = self.loop.now
        try:
            self.run(cancel())
        finally:
            self.loop.close()
            asyncio.set_event_loop(None)


class PipelineMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        clock = SimpleNamespace(
            monotonic=lambda: asyncio.get_running_loop().time(), time=lambda: 1e9
        )
        for module in (spooling, dispatcher, intake, dedup_gate, allowance, stored_event):
            self.patch.setattr(module, "time", clock)
        self.disk = SimulatedDisk()
        self.now = 1000.0
        self.errors = []
        self.messages = []
        self.kept = []
        self.arrived = defaultdict(list)  # (route, sink) -> events
        self.provoked = set()
        self.failed = Counter()  # (route, sink, event) -> attempts
        self.is_excused = False  # a kill or a disk's fault makes duplicates
        self.numbers = itertools.count(1)
        self.turns = itertools.count(1)
        self.life = None
        self.steps = 0  # since everything was well

    @initialize(configs=st.lists(routes, min_size=1, max_size=2))
    def configure(self, configs):
        self.routes = [
            Route(
                name=f"r{number}",
                timeout=float(number),  # tells the sinks which route a list comes by
                keeps_letters=True,
                **{**config, "stored": config["stored"] and config["spool"]},
            )
            for number, config in enumerate(configs)
        ]
        self.life = Life(self)

    def check(self, holds, text):
        if not holds:
            self.errors.append(text)

    # the sources

    def submit(self, shapes, *, waits, mode, then):
        if mode is not None:
            self.life.sinks["a"].mode = mode
        if not self.life.is_waiting:
            made = [Message([self.event(*shape) for shape in events]) for events in shapes]
            self.messages += made
            self.life.submit(made, waits=waits)
            self.go_on(then)

    @rule(
        shapes=messages,
        waits=st.sampled_from([False, False, False, True]),
        mode=st.sampled_from([None, None, None, OK, NO, DOWN, DOWN, HELD]),
        then=THEN,
    )
    def submit_some(self, shapes, waits, mode, then):
        self.submit(shapes, waits=waits, mode=mode, then=then)

    @rule(key=st.integers(0, 2), size=st.integers(0, 200), then=THEN)
    def submit_one(self, key, size, then):
        self.submit([[(key, size)]], waits=False, mode=None, then=then)

    def event(self, key, size):
        number = next(self.numbers)
        return Event(
            id=str(number),
            source=f"/{key}",
            type="t",
            data=random.Random(number).randbytes(size),
        )

    @precondition(lambda self: self.messages)
    @rule(at=st.integers(0, 10), count=st.sampled_from([1, 1, 6]), then=THEN)
    def submit_again(self, at, count, then):
        """A sender that knows no better, or was told to."""
        if not self.life.is_waiting:
            at %= len(self.messages)
            self.life.submit(self.messages[-1 - at :][:count], waits=True)
            self.go_on(then)

    # the sinks

    @rule(name=SINK, mode=st.sampled_from([OK, OK, OK, NO, DOWN, DOWN, BUSY, HELD]), then=THEN)
    def change(self, name, mode, then):
        self.life.sinks[name].mode = mode
        self.life.sinks[name].gate.set()
        self.go_on(then)

    @rule(
        name=SINK,
        script=st.lists(
            st.sampled_from([OK, OK, NO, DOWN, BUSY, GONE, HELD, RAISE, DEAF]), max_size=8
        ),
        then=THEN,
    )
    def tell(self, name, script, then):
        self.life.sinks[name].script = script
        self.life.sinks[name].gate.set()
        self.go_on(then)

    @rule(name=SINK)
    def hang(self, name):
        self.life.sinks[name].gate.clear()

    # time

    def go_on(self, then):
        self.steps += 1
        if then == "tick":
            self.life.run(self.life.tick())
        self.turn(5 if then == "tick" else then)

    @rule(turns=st.integers(1, 5))
    def turn(self, turns):
        async def turn():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.life.run(turn())

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0, 50.0]))
    def wait(self, seconds):
        self.life.run(asyncio.sleep(seconds))

    # the disk

    @rule(at=st.integers(0, 3), keep=st.booleans())
    def work(self, at, keep):
        if spool := self.spool(at):
            spool.work(keep=keep)

    @rule(at=st.integers(0, 3), then=THEN)
    def deliver(self, at, then):
        if spool := self.spool(at):
            self.life.run(_call(spool.deliver))
            self.go_on(then)

    def spool(self, at):
        spools = list(self.life.spools.values())
        return spools[at % len(spools)] if spools else None

    @rule(fails=st.booleans())
    def letters(self, fails):
        self.life.letters.fails = fails
        self.life.run(_call(self.life.letters.work))

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.1, 3.0]))
    def tick(self, seconds):
        self.life.run(self.life.tick(seconds))

    @rule(which=st.sampled_from(TROUBLE), after=st.integers(0, 3), times=st.integers(1, 3))
    def break_disk(self, which, after, times):
        self.disk.fail(*which, after=after, times=times)
        self.is_excused = True

    # the end of a life

    @precondition(lambda self: self.steps > 6)
    @rule(
        how=st.sampled_from(["kill", "cut", "power", "close", "drain", "hurry"]),
        at=st.integers(0, 3),
        calls=st.integers(0, 12),
        seed=st.integers(0, 1 << 32),
    )
    def end(self, how, at, calls, seed):
        if how == "cut" and (spool := self.spool(at)):
            self.disk.cut_in = calls
            with contextlib.suppress(Cut):
                spool.work()
        if how in ("kill", "cut", "power"):
            self.is_excused = True
        else:
            self.life.run(self.life.end({"close": None, "hurry": 0.3, "drain": 100.0}[how]))
            self.check(not self.life.unanswered, "closed, and somebody waits")
        self.life.close_loop()
        if how == "power":
            self.disk.power_cut(random.Random(seed))
        elif how in ("kill", "cut"):
            self.disk.kill()
        self.disk.faults.clear()
        self.life = Life(self, self.life)

    @precondition(lambda self: self.steps > 12)
    @rule()
    def heal(self):
        self.steps = 0
        self.disk.faults.clear()
        try:
            self.life.run(self.life.settle())
        except TimeoutError:
            pending = {lane: spool.pending for lane, spool in self.life.spools.items()}
            self.errors.append(f"stuck: {self.life.pipeline.inflight} under way, {pending}")

    # always

    @invariant()
    def nothing_is_wrong(self):
        assert self.errors == [], self.errors

    def teardown(self):
        try:
            if self.life is not None:
                self.heal()
                self.verify()
                self.end("drain", 0, 0, 0)
                assert not any(spool.pending for spool in self.life.spools.values())
                assert self.errors == [], self.errors
                self.life.run(self.life.end(None))
                assert self.disk.fds == {}
        finally:
            if self.life is not None and not self.life.is_over:
                self.life.close_loop()
            self.patch.undo()

    def verify(self):
        assert self.errors == [], self.errors
        for place, events in self.arrived.items():
            for event in events:
                assert self.same(event), f"corrupted at {place}: {event}"
        assert all(self.same(event) for *_, event in self.kept)
        for number, route in enumerate(self.routes):
            dead = Counter(event.id for event in self.arrived[number, "dead"])
            for sink in route.sinks:
                self.verify_lane(route, sink, self.arrived[number, sink], dead)

    def same(self, event):
        original = self.originals.get(event.id)
        return original is not None and event.data == original.data and event.key == original.key

    @property
    def originals(self):
        return {event.id: event for message in self.messages for event in message.events}

    def verify_lane(self, route, sink, arrived, dead):
        letters = {event.id for name, of, event in self.kept if (name, of) == (route.name, sink)}
        counts = Counter(event.id for event in arrived)
        once = defaultdict(list)  # by key: what was submitted once and accepted
        for message in sorted(self.messages, key=lambda message: message.turn):
            is_accepted = any(answer.outcome is Outcome.ACCEPTED for answer in message.answers)
            for event in message.events:
                if is_accepted:
                    assert counts[event.id] or event.id in letters or dead[event.id], (
                        f"lost: {event.id} at {sink} of {route.name}"
                    )
                # What the sink would not have may come later, if a kill took its dead letter.
                tries = self.failed[self.routes.index(route), sink, event.id]
                if message.given == 1 and is_accepted and tries <= route.policy.retry:
                    once[event.key].append(event.id)
                if not self.is_excused and event.id not in self.provoked:
                    # With dedup once in a life, unless it was told to come again.
                    told = sum(answer.outcome > 0 for answer in message.answers)
                    again = len(message.lives) + told if route.dedup_window else message.given
                    most = max(1, again)
                    assert counts[event.id] <= most, f"{event.id} is there twice"
        for ids in once.values():
            first = list(dict.fromkeys(event.id for event in arrived if event.id in ids))
            assert first == [id_ for id_ in ids if id_ in first], f"out of order at {sink}: {first}"


async def _call(function):
    function()


PipelineMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=50)
TestPipelineAgainstItsModel = PipelineMachine.TestCase
