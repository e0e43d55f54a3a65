"""The spool against a model, on a disk that is cut, torn and in trouble, in every interleaving."""

import errno
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.spool import segment
from tests.gateway.spool.simulated import Cut, SimulatedDisk, SteppedSpool
from tests.helpers import examples

TROUBLE = [
    ("write", errno.EIO),
    ("write", errno.ENOSPC),
    ("fdatasync", errno.EIO),
    ("fsync_dir", errno.EIO),
    ("create", errno.EMFILE),
    ("create", errno.ENOSPC),
    ("truncate", errno.EIO),
    ("rename", errno.EIO),
    ("unlink", errno.EIO),
    ("free", errno.EIO),
    ("open", errno.EMFILE),
    ("read", errno.ENOMEM),
]


MAX_BYTES = 2400
SIZES = st.lists(st.integers(0, 150), min_size=1, max_size=5)


class Appended:
    """One call of `append`, and what came of it."""

    def __init__(self, records):
        self.records = records
        self.answered = False
        self.error = None
        self.first = None
        self.excused = False  # for coming back though it was refused


class SpoolMachine(RuleBasedStateMachine):
    """What is stored and not done comes back once in each life, in order; nothing else does."""

    def __init__(self):
        super().__init__()
        # So small that a reader loads and passes over in several steps.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(segment, "CHUNK", 150)
        self.patch.setattr(segment, "MARK_BYTES", 100)
        self.disk = SimulatedDisk()
        self.number = 0
        self.appended = []  # of this life
        self.may_not_cut = False  # what has failed off the file it is in, in this life
        self.origin = {}  # record -> Appended
        self.known = {}  # sequence -> record, of what was acknowledged or read in any life
        self.acked = set()
        self.said_done = set()  # in any life
        self.kept_done = set()  # and a checkpoint has it: doesn't come back
        self.room_calls = 0
        self.spool = None

    @initialize(keep_seconds=st.sampled_from([0.0, 10.0]))
    def first_life(self, keep_seconds):
        self.keep_seconds = keep_seconds
        self.begin()

    def begin(self):
        self.spool = self.make()
        self.spool.on_damage = lambda *_: self.may_be_damaged()
        self.spool.on_room = self.has_room
        self.last_read = 0
        self.in_flight = []
        self.appended = []
        self.trouble = self.may_not_cut = False
        self.done_now = set()
        self.checkpointed = set(self.kept_done)
        found = self.spool.open()
        assert found.pending == self.spool.pending == self.spool.unread
        assert not found.upgraded
        assert len(self.acked - self.said_done) <= found.pending + self.spool.damaged
        self.check_retained()

    def make(self):
        return SteppedSpool(
            self.disk, max_bytes=MAX_BYTES, segment_bytes=500, keep_seconds=self.keep_seconds
        )

    def check_retained(self):
        records = [record for part in self.spool.retained() for record in part]
        numbers = [int(record.partition(b":")[0]) for record in records]
        assert numbers == sorted(set(numbers)), "out of order, or twice"
        assert {self.known[n] for n in self.acked - self.said_done} <= set(records)

    @rule(seconds=st.sampled_from([1.0, 4.0, 20.0]))
    def time_goes_by(self, seconds):
        self.disk.now += seconds

    def may_be_damaged(self):
        # Only where a power cut has left a hole, which nobody was told to be stored.
        assert self.disk.holes, "damage where there was none"

    def has_room(self):
        self.room_calls += 1

    # ordinary life

    @rule(sizes=SIZES, keep=st.booleans())
    def store(self, sizes, keep):
        self.append(sizes)
        self.work(keep)
        self.deliver()

    @rule(sizes=SIZES)
    def append(self, sizes):
        records = []
        for size in sizes:
            self.number += 1
            records.append(f"{self.number}:".encode().ljust(size, b"."))
        entry = Appended(records)
        self.appended.append(entry)
        self.origin.update(dict.fromkeys(records, entry))

        def on_stored(first, error):
            assert not entry.answered
            entry.answered = True
            entry.first, entry.error = first, error
            assert (first is None) is (error is not None)
            if error is None:
                for sequence, record in enumerate(records, first):
                    self.learn(sequence, record)
                    self.acked.add(sequence)

        self.spool.append(records, on_stored)

    def learn(self, sequence, record):
        # No number is ever used for two records.
        assert self.known.setdefault(sequence, record) == record

    @rule(keep=st.booleans())
    def work(self, keep):
        self.spool.work(keep=keep)
        self.note_checkpoint()

    def note_checkpoint(self):
        if not self.spool._log.changed:
            self.checkpointed |= self.done_now

    @rule()
    def deliver(self):
        order = len(self.acked)
        self.spool.deliver()
        firsts = [entry.first for entry in self.appended if entry.first is not None]
        assert firsts == sorted(firsts)
        assert len(self.acked) >= order

    @rule(limit=st.integers(1, 9), max_bytes=st.sampled_from([1, 200, 10_000]))
    def read(self, limit, max_bytes):
        unread = self.spool.unread
        found = self.spool.read(limit, max_bytes)
        assert len(found) <= limit
        if len(found) > 1:
            assert sum(len(record) for _, record in found[:-1]) < max_bytes
        for sequence, record in found:
            self.check_read(sequence, record)
        if not found and not self.trouble:
            assert self.spool.unread == 0
            self.check_nothing_missing(self.last_read, max(self.acked, default=0) + 1)
        elif not self.disk.holes:
            assert self.spool.unread == unread - len(found)

    def check_read(self, sequence, record):
        assert sequence > self.last_read, "out of order, or twice"
        self.check_nothing_missing(self.last_read, sequence)
        assert sequence not in self.kept_done, "done, checkpointed, and back"
        entry = self.origin[record]
        assert entry.error is None or entry.excused, "was refused, and is stored"
        self.learn(sequence, record)
        self.last_read = sequence
        self.in_flight.append(sequence)

    @rule(share=st.floats(0, 1))
    def skip(self, share):
        stored, position, unread = (
            self.spool._log.next_sequence,
            self.spool.position,
            self.spool.unread,
        )
        end = round(share * stored)
        self.spool.skip(end)
        assert self.spool.position == max(position, end)
        if end > position:
            self.in_flight += range(position, end)
            self.last_read = end - 1
            assert unread - (end - position) <= self.spool.unread <= unread
            assert self.spool.unread <= stored - end

    def check_nothing_missing(self, after, before):
        missing = {number for number in self.acked - self.said_done if after < number < before}
        assert not missing, f"lost {sorted(missing)}"

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def done(self, data):
        chosen = data.draw(st.lists(st.sampled_from(self.in_flight), min_size=1, unique=True))
        self.spool.done(chosen)
        self.note_done(chosen)
        self.in_flight = [number for number in self.in_flight if number not in chosen]

    def note_done(self, numbers):
        self.said_done |= set(numbers)
        self.done_now |= set(numbers)

    @precondition(lambda self: self.in_flight)
    @rule()
    def all_done(self):
        self.spool.done(self.in_flight)
        self.note_done(self.in_flight)
        self.in_flight = []

    @rule(limit=st.integers(1, 4), keep=st.booleans())
    def read_between_the_writers_calls(self, limit, keep):
        def on_call(_name):
            self.disk.on_call = None  # its own calls are no place for another
            self.read(limit, 10_000)
            if self.in_flight:
                self.all_done()
            self.disk.on_call = on_call

        self.disk.on_call = on_call
        try:
            self.spool.work(keep=keep)
        finally:
            self.disk.on_call = None

    # trouble

    @rule(which=st.sampled_from(TROUBLE), after=st.integers(0, 3), times=st.integers(1, 3))
    def arm(self, which, after, times):
        self.disk.fail(*which, after=after, times=times)
        self.trouble = self.disk.short_writes = True
        # A file that can't be cut keeps what had failed, and the next life may find it there.
        self.may_not_cut = self.may_not_cut or which[0] == "truncate"

    @precondition(lambda self: self.trouble)
    @rule()
    def disarm(self):
        self.disk.faults.clear()
        self.disk.short_writes = False
        self.trouble = False

    @rule(room=st.integers(0, 2000) | st.just(1 << 30))
    def disk_fills_up(self, room):
        self.disk.capacity = self.disk.used + room

    # the end of a life

    @rule(calls=st.integers(0, 12), seed=st.none() | st.integers(0, 1 << 32), keep=st.booleans())
    def crash_at_a_call(self, calls, seed, keep):
        self.disk.cut_in = calls
        try:
            self.spool.work(keep=keep)
            self.note_checkpoint()
        except Cut:
            pass
        self.crash(seed)

    @rule(seed=st.none() | st.integers(0, 1 << 32))
    def crash(self, seed):
        for entry in self.appended:
            entry.excused = seed is not None or self.may_not_cut
        if seed is None:
            self.disk.kill()
            self.kept_done = self.checkpointed
        else:
            self.disk.power_cut(random.Random(seed))
            self.kept_done = set()
        self.begin()

    @rule()
    def restart(self):
        self.disarm()
        self.disk.capacity = 1 << 30
        self.spool.close()
        assert all(entry.answered for entry in self.appended)
        for entry in self.appended:
            entry.excused = self.may_not_cut
        self.kept_done |= self.done_now
        self.begin()

    # always

    @invariant()
    def cap_is_kept(self):
        if self.spool is not None:
            assert self.spool.bytes <= MAX_BYTES + 16
            assert 0 <= self.spool.unread <= self.spool.pending

    def teardown(self):
        try:
            if self.spool is not None:
                self.check_the_end()
        finally:
            self.patch.undo()

    def check_the_end(self):
        self.restart()
        for sequence, record in self.spool.rest():
            self.check_read(sequence, record)
        self.check_nothing_missing(self.last_read, max(self.acked, default=0) + 1)
        self.spool.done(self.in_flight)
        self.spool.close()
        self.spool = self.make()
        assert self.spool.open().pending == 0
        assert self.spool.rest() == []
        self.spool.close()
        assert self.disk.fds == {}


SpoolMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=50)
TestSpoolAgainstItsModel = SpoolMachine.TestCase
