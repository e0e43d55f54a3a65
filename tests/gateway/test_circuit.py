"""One circuit per sink: when it opens, who may probe and when, and what closes it."""

import asyncio
import logging

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.circuit import PROBE_CAP, RETRY_AFTER_MAX, THRESHOLD, Circuit
from gateway.delivery import Failure, Outcome, Reason
from tests.helpers import examples

RELEASED, REJECTED = Outcome.RELEASED, Outcome.REJECTED


def down(reason=Reason.SINK_DOWN, outcome=RELEASED, **details):
    return Failure(0, outcome, reason, **details)


DOWN = [down()]


class Clock:
    """The timers of an event loop whose time goes on only when a test says so."""

    class Timer:
        def __init__(self, when, callback):
            self.when = when
            self.callback = callback
            self.cancelled = False

        def cancel(self):
            self.cancelled = True

    def __init__(self):
        self.now = 100.0
        self.timers = []

    def call_at(self, when, callback):
        timer = self.Timer(when, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self):
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        return self.timers

    def go_to(self, time):
        """Let the time pass and run what is due by then."""
        while due := [timer for timer in self.pending if timer.when <= time]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = max(self.now, time)


class Lane:
    """Takes the probe whenever it may."""

    def __init__(self, circuit, clock, *, wants=True):
        self.circuit = circuit
        self.clock = clock
        self.wants = wants
        self.called = 0
        self.probes = []
        self.unsubscribe = circuit.subscribe(self.look)

    def look(self):
        self.called += 1
        if self.wants and self.circuit.take_probe(self.clock.now):
            self.probes.append(self.clock.now)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit("broker", clock.call_at)


def open_it(circuit, clock, **details):
    circuit.failed([down(**details)] * THRESHOLD, clock.now)
    assert circuit.is_open


def test_a_new_circuit_is_closed_and_gives_no_probe(circuit, clock):
    assert not circuit.is_open
    assert circuit.opened_since is None
    assert not circuit.take_probe(clock.now)
    assert not clock.pending


def test_five_failed_attempts_in_a_row_open_it(circuit, clock):
    for _ in range(4):
        circuit.failed(DOWN, clock.now)
    assert not circuit.is_open
    circuit.failed(DOWN, 101.0)
    assert circuit.is_open
    assert circuit.opened_since == 101.0
    assert circuit.probe_at == 101.5


def test_five_failures_of_one_list_open_it(circuit, clock):
    circuit.failed(DOWN * 5, clock.now)
    assert circuit.is_open


def test_a_success_in_between_starts_the_count_again(circuit, clock):
    for _ in range(3):
        circuit.failed(DOWN * 4, clock.now)
        assert not circuit.is_open
        circuit.succeeded()


@pytest.mark.parametrize(
    "failure",
    [
        down(Reason.SINK_DOWN, status=503),
        down(Reason.SINK_DOWN, status=408),
        down(Reason.TIMEOUT),
        down(Reason.SINK_BUSY, status=429),
    ],
)
def test_what_speaks_of_the_sink_opens_it(circuit, clock, failure):
    circuit.failed([failure] * 5, clock.now)
    assert circuit.is_open


@pytest.mark.parametrize(
    "failure",
    [
        down(Reason.SINK_DOWN, status=404),
        down(Reason.SINK_DOWN, status=409),
        down(Reason.SINK_REFUSED, REJECTED, status=400),
        down(Reason.SINK_DOWN, REJECTED),
        down(Reason.HELD),
    ],
)
def test_what_speaks_of_one_event_never_opens_it(circuit, clock, failure):
    circuit.failed([failure] * 50, clock.now)
    assert not circuit.is_open
    circuit.failed([*DOWN * 4, failure], clock.now)
    assert not circuit.is_open


def test_the_waits_double_up_to_the_cap(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    waits = []
    for _ in range(9):
        before = clock.now
        clock.go_to(before + 1000)
        waits.append(lane.probes[-1] - before)
        circuit.failed(DOWN, clock.now)
    assert waits == [0.5, 1, 2, 4, 8, 16, PROBE_CAP, PROBE_CAP, PROBE_CAP]
    assert len(clock.pending) == 1


def test_after_a_success_the_waits_begin_anew(circuit, clock):
    Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    circuit.failed(DOWN, clock.now)
    clock.go_to(circuit.probe_at)
    circuit.succeeded()
    open_it(circuit, clock)
    assert circuit.probe_at == clock.now + 0.5


def test_a_longer_retry_after_is_honoured_up_to_its_ceiling(circuit, clock):
    Lane(circuit, clock)
    open_it(circuit, clock, retry_after=20.0)
    assert circuit.probe_at == clock.now + 20
    clock.go_to(circuit.probe_at)
    circuit.failed([down(retry_after=0.1)], clock.now)
    assert circuit.probe_at == clock.now + 1
    clock.go_to(circuit.probe_at)
    circuit.failed([down(retry_after=86_400.0)], clock.now)
    assert circuit.probe_at == clock.now + RETRY_AFTER_MAX


def test_exactly_one_caller_gets_the_probe_and_not_too_early(circuit, clock):
    open_it(circuit, clock)
    assert not circuit.take_probe(clock.now + 0.4)
    assert circuit.take_probe(clock.now + 0.5)
    assert not circuit.take_probe(clock.now + 0.5)
    assert not circuit.take_probe(clock.now + 1000)


def test_a_timer_that_comes_a_little_early_is_right(circuit, clock):
    lane = Lane(circuit, clock, wants=False)
    open_it(circuit, clock)
    clock.pending[0].callback()
    assert lane.called == 1
    assert circuit.take_probe(circuit.probe_at - 0.001)


def test_a_probe_that_nobody_wanted_stays_for_events_that_come_later(circuit, clock):
    lane = Lane(circuit, clock, wants=False)
    open_it(circuit, clock)
    clock.go_to(clock.now + 60)
    assert (lane.called, clock.pending) == (1, [])
    assert circuit.take_probe(clock.now)


def test_a_probe_that_succeeds_closes_it_and_calls_everybody(circuit, clock):
    lanes = [Lane(circuit, clock) for _ in range(3)]
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    assert [len(lane.probes) for lane in lanes] == [1, 0, 0]
    before = [lane.called for lane in lanes]
    circuit.succeeded()
    assert not circuit.is_open
    assert circuit.opened_since is None
    assert [lane.called for lane in lanes] == [count + 1 for count in before]
    assert not clock.pending


def test_lanes_take_turns_with_the_probe(circuit, clock):
    lanes = [Lane(circuit, clock) for _ in range(3)]
    open_it(circuit, clock)
    for _ in range(6):
        clock.go_to(circuit.probe_at)
        circuit.failed(DOWN, clock.now)
    assert [len(lane.probes) for lane in lanes] == [2, 2, 2]


def test_lanes_take_turns_though_each_takes_the_probe_a_moment_later(circuit, clock):
    called = []
    for name in "abc":
        circuit.subscribe(lambda name=name: called.append(name))
    open_it(circuit, clock)
    first = []
    for _ in range(6):
        called.clear()
        clock.go_to(circuit.probe_at)
        first += called[:1]
        assert circuit.take_probe(clock.now)
        circuit.failed(DOWN, clock.now)
    assert first == [*"abcabc"]


def test_a_probe_that_was_lost_goes_to_the_next_at_once(circuit, clock):
    first, second = Lane(circuit, clock), Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    assert first.probes
    first.unsubscribe()
    first.unsubscribe()
    circuit.return_probe()
    assert not second.probes  # not from within the call
    clock.go_to(clock.now)
    assert second.probes == [clock.now]
    assert len(first.probes) == 1


def test_returning_a_probe_that_nobody_has_changes_nothing(circuit, clock):
    circuit.return_probe()
    assert not clock.pending
    open_it(circuit, clock)
    circuit.return_probe()
    assert len(clock.pending) == 1
    assert not circuit.take_probe(clock.now)


def test_a_sink_that_answers_a_probe_with_a_refusal_is_up(circuit, clock):
    Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    circuit.failed([down(Reason.SINK_REFUSED, REJECTED, status=400)], clock.now)
    assert not circuit.is_open


def test_a_probe_that_never_left_the_gateway_is_followed_by_another(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    circuit.failed([down(Reason.SINK_REFUSED, REJECTED)], clock.now)
    assert circuit.is_open
    clock.go_to(clock.now)
    assert len(lane.probes) == 2


@pytest.mark.parametrize(
    ("retry_after", "wait"), [(None, 0.5), (0.0, 0.5), (7.0, 7.0), (1e9, RETRY_AFTER_MAX)]
)
def test_a_probe_that_the_sink_held_back_is_followed_by_another_when_it_may_go(
    circuit, clock, retry_after, wait
):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    # The status is that of the answer which made the sink hold it back.
    circuit.failed([down(Reason.HELD, status=429, retry_after=retry_after)], clock.now)
    assert circuit.is_open
    clock.go_to(clock.now)
    assert len(lane.probes) == 1
    assert circuit.probe_at == clock.now + wait
    clock.go_to(circuit.probe_at)
    assert len(lane.probes) == 2


def test_lists_that_were_under_way_when_it_opened_do_not_lengthen_the_wait(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    for _ in range(10):
        circuit.failed(DOWN * 100, clock.now + 0.1)
    clock.go_to(100.5)
    assert lane.probes == [100.5]
    circuit.failed(DOWN, clock.now)
    assert circuit.probe_at == 101.5


def test_but_the_retry_after_of_such_a_list_counts(circuit, clock):
    open_it(circuit, clock)
    circuit.failed([down(retry_after=7.0)], clock.now)
    assert circuit.probe_at == 107
    assert [timer.when for timer in clock.pending] == [107]
    circuit.failed([down(retry_after=3.0)], clock.now)
    assert circuit.probe_at == 107
    circuit.failed([down(retry_after=1e9)], clock.now)
    assert circuit.probe_at == clock.now + RETRY_AFTER_MAX


def test_a_success_that_was_under_way_when_it_opened_closes_it(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    circuit.succeeded()
    assert not circuit.is_open
    assert lane.called == 1
    assert not clock.pending


def test_a_sink_that_says_it_is_back_is_probed_at_once(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock, retry_after=300.0)
    circuit.resume(clock.now + 1)
    assert len(lane.probes) == 1
    assert not clock.pending
    circuit.failed(DOWN, clock.now + 1)
    assert circuit.probe_at == clock.now + 1 + 1


def test_a_probe_that_fails_after_the_sink_came_back_is_repeated_once(circuit, clock):
    lane = Lane(circuit, clock)
    open_it(circuit, clock)
    clock.go_to(circuit.probe_at)
    circuit.resume(clock.now)
    assert len(lane.probes) == 1
    circuit.failed([down(retry_after=300.0)], clock.now)
    clock.go_to(clock.now)
    assert len(lane.probes) == 2
    circuit.failed(DOWN, clock.now)
    clock.go_to(clock.now)
    assert len(lane.probes) == 2


def test_a_closed_circuit_has_no_use_for_a_sink_that_is_back(circuit, clock):
    lane = Lane(circuit, clock)
    circuit.resume(clock.now)
    assert lane.called == 0
    assert not clock.pending


def test_closing_gives_up_the_timer(circuit, clock):
    Lane(circuit, clock)
    open_it(circuit, clock)
    circuit.close()
    assert not clock.pending


def test_one_line_says_that_it_opened_and_one_that_it_closed(circuit, clock, caplog):
    caplog.set_level(logging.INFO)
    Lane(circuit, clock)
    open_it(circuit, clock)
    for _ in range(3):
        clock.go_to(circuit.probe_at)
        circuit.failed(DOWN, clock.now)
    circuit.succeeded()
    circuit.succeeded()
    assert caplog.messages == [
        "sink broker: 5 attempts failed, asked again in 0.5 s, one event at a time",
        "sink broker answers again",
    ]


def test_a_sink_that_goes_up_and_down_does_not_fill_the_log(circuit, clock, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(50):
        open_it(circuit, clock)
        circuit.succeeded()
    assert len(caplog.messages) == 2


async def test_the_event_loop_sets_the_timer_by_default():
    loop = asyncio.get_running_loop()
    circuit = Circuit("broker")
    probed = loop.create_future()
    circuit.subscribe(lambda: circuit.take_probe(loop.time()) and probed.set_result(loop.time()))
    open_it(circuit, clock=loop_clock(loop))
    await asyncio.wait_for(probed, 10)
    assert circuit.is_open


def loop_clock(loop):
    clock = Clock()
    clock.now = loop.time()
    return clock


class AnyHistory(RuleBasedStateMachine):
    """Lanes that come, go, lose probes and report late, in any order."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.circuit = Circuit("broker", self.clock.call_at)
        self.lanes = []

    @rule(wants=st.booleans())
    def subscribe(self, wants):
        self.lanes.append(Lane(self.circuit, self.clock, wants=wants))

    @precondition(lambda self: self.lanes)
    @rule()
    def unsubscribe(self):
        self.lanes.pop(0).unsubscribe()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 3.0, 700.0]))
    def wait(self, seconds):
        self.clock.go_to(self.clock.now + seconds)

    @rule(count=st.integers(1, 6), retry_after=st.sampled_from([None, 2.0, 1e9]))
    def fail(self, count, retry_after):
        self.circuit.failed([down(retry_after=retry_after)] * count, self.clock.now)

    @rule(status=st.sampled_from([None, 404]), outcome=st.sampled_from([RELEASED, REJECTED]))
    def refuse(self, status, outcome):
        reason = Reason.HELD if status is None else Reason.SINK_REFUSED
        self.circuit.failed([down(reason, outcome, status=status)], self.clock.now)

    @rule()
    def succeed(self):
        self.circuit.succeeded()
        assert not self.circuit.is_open

    @rule()
    def lose_the_probe(self):
        self.circuit.return_probe()

    @rule()
    def resume(self):
        self.circuit.resume(self.clock.now)

    @invariant()
    def an_open_circuit_never_sleeps_for_good(self):
        timers = self.clock.pending
        if not self.circuit.is_open:
            assert not timers
            assert self.circuit.opened_since is None
        elif timers:
            assert [timer.when for timer in timers] == [self.circuit.probe_at]
            assert self.circuit.probe_at <= self.clock.now + RETRY_AFTER_MAX
        else:  # a probe is out, or nobody wanted it
            assert self.circuit._probing or self.circuit._due
            assert not (self.circuit._probing and self.circuit.take_probe(self.clock.now + 1e9))


AnyHistory.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
TestAnyHistory = AnyHistory.TestCase
