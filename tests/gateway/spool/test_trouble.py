"""Commits, and what happens when the disk fails, is full, or a power cut comes in between."""

import errno
import random
import re

import pytest

from gateway.spool import StoreError, files
from gateway.throttle import Throttle
from tests.gateway.spool.simulated import Cut, SimulatedDisk, SteppedSpool

FOLDER = SteppedSpool.FOLDER


@pytest.fixture
def disk():
    return SimulatedDisk()


def opened(disk, **options):
    spool = SteppedSpool(disk, **options)
    spool.found = spool.open()
    return spool


def segments_of(disk):
    return sorted(path for path in disk.names if path.name.endswith(".seg"))


class Answers:
    """What `on_stored` said, in order."""

    def __init__(self):
        self.said = []

    def __call__(self, first, error):
        self.said.append(first if error is None else error)


# commits


def test_what_queues_is_one_commit_and_one_wake_up(disk):
    spool, answers = opened(disk), Answers()
    for number in range(100):
        spool.append([b"a%d" % number, b"b%d" % number], answers)
    spool.work(keep=False)
    assert (disk.calls["write"], disk.calls["fdatasync"], spool.wakes) == (2, 1, 1)
    assert answers.said == []
    spool.deliver()
    assert answers.said == list(range(1, 201, 2))
    assert spool.rest()[:3] == [(1, b"a0"), (2, b"b0"), (3, b"a1")]


def test_commits_begin_a_millisecond_apart_and_who_comes_alone_does_not_wait(disk):
    spool = opened(disk)
    pause = spool._writer.pause
    assert pause(0.0) == 0.0
    spool.append([b"a"], Answers())
    assert pause(spool.now) == 0.0
    spool.work()
    assert pause(spool.now) == pytest.approx(0.001)
    assert pause(spool.now + 0.0008) == pytest.approx(0.0002)
    assert pause(spool.now + 0.002) == 0.0
    spool.now += 0.002
    spool.work(keep=False)  # nothing to store
    assert pause(spool.now) == 0.0


def test_a_commit_has_1024_records_at_most(disk):
    spool, answers = opened(disk), Answers()
    for _ in range(5):
        spool.append([b""] * 500, answers)
    for stored in (1000, 2000, 2500):
        spool.work(keep=False)
        assert spool.pending == stored
    assert disk.calls["fdatasync"] == 3


def test_when_much_is_done_the_cursor_does_not_wait_until_it_is_due(disk):
    spool = opened(disk)
    spool.store(*(b"%d" % number for number in range(200)))
    spool.done([1])
    spool.work()  # the next one is due a while later
    spool.done(range(2, 50))
    spool.work(keep=False)
    spool.done(range(50, 70))
    spool.work(keep=False)
    spool.done(range(70, 75))
    spool.work(keep=False)
    disk.kill()
    assert opened(disk).found.pending == 200 - 69


def test_a_commit_has_512_kib_at_most_but_a_list_is_never_split(disk):
    spool, answers = opened(disk, max_bytes=1 << 24, segment_bytes=1 << 22), Answers()
    for size in (300_000, 200_000, 100_000, 900_000, 1):
        spool.append([bytes(size)], answers)
    for stored in (2, 3, 4, 5):
        spool.work(keep=False)
        assert spool.pending == stored
    spool.append([b""] * 3000, answers)
    spool.work(keep=False)
    assert spool.pending == 3005


def test_nothing_is_answered_before_the_sync(disk):
    spool, answers = opened(disk), Answers()
    order = []
    disk.on_call = order.append
    spool.append([b"a"], answers)
    spool.work(keep=False)
    assert order == ["free", "create", "write", "write", "fdatasync", "fsync_dir"]
    del order[:]
    spool.append([b"a"], answers)
    spool.work(keep=False)
    assert order == ["free", "write", "fdatasync"]


def test_a_callback_that_raises_does_not_cost_the_others_theirs(disk):
    spool, answers = opened(disk), Answers()

    def broken(_first, _error):
        raise RuntimeError("broken")

    spool.append([b"a"], answers)
    spool.append([b"b"], broken)
    spool.append([b"c"], answers)
    spool.work()
    with pytest.raises(RuntimeError):
        spool.deliver()
    spool.append([b"d"], answers)
    spool.work()
    spool.deliver()
    assert answers.said == [1, 3, 4]


def test_a_segment_rolls_when_it_is_large_enough(disk):
    spool = opened(disk, segment_bytes=300)
    for _ in range(9):
        spool.store(bytes(80))
    # 16 + 100 each: two fit
    firsts = [files.first_of(path.name) for path in segments_of(disk)]
    assert firsts == [1, 3, 5, 7, 9]
    assert all(len(disk.content(path)) <= 300 for path in segments_of(disk))
    assert spool.store(bytes(1000)) == 10
    assert spool.bytes == sum(len(disk.content(path)) for path in segments_of(disk))


def test_a_segment_is_never_larger_than_a_quarter_of_the_cap(disk):
    spool = opened(disk, max_bytes=1200, segment_bytes=1 << 30)
    for _ in range(8):
        spool.store(bytes(80))
    assert max(len(disk.content(path)) for path in segments_of(disk)) <= 300


def test_done_of_what_was_never_stored_is_a_mistake(disk):
    spool = opened(disk)
    spool.store(b"a", b"b")
    spool.done([1, 2])
    with pytest.raises(ValueError, match="record 3 was never stored"):
        spool.done([3])
    assert spool.pending == 0


def test_done_before_it_is_read_is_not_read(disk):
    spool = opened(disk)
    spool.store(b"a", b"b", b"c")
    spool.done([2])
    assert (spool.pending, spool.unread) == (2, 2)
    assert spool.rest() == [(1, b"a"), (3, b"c")]
    assert (spool.pending, spool.unread) == (2, 0)


# trimming


def test_one_that_hangs_does_not_keep_later_segments(disk):
    spool = opened(disk, segment_bytes=300)
    for _ in range(20):
        spool.store(bytes(80))
    spool.done(number for number, _ in spool.rest() if number != 1)
    spool.work()
    firsts = [files.first_of(path.name) for path in segments_of(disk)]
    assert firsts == [1, 21]  # the newest was begun again
    spool.close()
    spool = opened(disk)
    assert spool.rest() == [(1, bytes(80))]
    assert spool.damaged == 0


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_while_segments_go_makes_no_damage(seed):
    rng = random.Random(seed)
    for calls in range(12):
        disk = SimulatedDisk()
        spool = opened(disk, segment_bytes=300)
        for _ in range(12):
            spool.store(bytes(80))
        pinned = rng.randrange(1, 13)
        spool.done(number for number, _ in spool.rest() if number != pinned)
        disk.cut_in = calls
        try:
            spool.work()
            disk.cut_in = 0
            spool.work()
        except Cut:
            pass
        disk.power_cut(rng)
        spool = opened(disk)
        assert pinned in [number for number, _ in spool.rest()]
        assert spool.damaged == 0


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_long_after_segments_went_makes_no_damage(disk, seed):
    """A later cursor, which isn't synced, must not take with it what the synced one says."""
    spool = opened(disk, segment_bytes=300)
    for _ in range(12):
        spool.store(bytes(80))
    numbers = [number for number, _ in spool.rest()]
    spool.done(numbers[1:-2])
    spool.work()
    spool.done(numbers[-2:-1])
    spool.work()
    disk.power_cut(random.Random(seed))
    spool = opened(disk, segment_bytes=300)
    assert 1 in [number for number, _ in spool.rest()]
    assert spool.damaged == 0


def test_a_reader_does_not_hold_the_room_of_what_has_gone(disk):
    """A file that is removed while it is open takes its room until it is closed."""
    spool = opened(disk, segment_bytes=300)
    for _ in range(4):
        spool.store(bytes(80))
    open_before = len(disk.fds)
    found = spool.read(3, 1 << 20)
    spool.work()
    assert len(disk.fds) == open_before + 1
    spool.done(number for number, _ in found)
    spool.done([4])
    spool.work()
    spool.deliver()
    assert (len(disk.fds), spool.bytes) == (open_before, 16)
    assert spool.rest() == []


def test_everything_done_gives_the_room_back(disk):
    spool = opened(disk, max_bytes=80_000, segment_bytes=20_000)
    for _ in range(14):
        spool.store(bytes(80))
    spool.done(number for number, _ in spool.rest())
    spool.work()
    spool.work()
    assert spool.bytes == 16
    assert spool.store(b"more") == 15
    assert spool.rest() == [(15, b"more")]


def test_everything_done_gives_back_what_an_earlier_life_has_taken(disk):
    spool = opened(disk, max_bytes=80_000, segment_bytes=20_000)
    spool.store(bytes(10_000))
    spool.close()
    spool = opened(disk, max_bytes=80_000, segment_bytes=20_000)
    spool.done(number for number, _ in spool.rest())
    spool.work()
    spool.work()
    assert spool.bytes == 16
    assert spool.store(b"more") == 2


def test_numbers_go_on_when_the_cursor_is_lost(disk):
    spool = opened(disk)
    for _ in range(3):
        spool.store(bytes(20_000))
    spool.done(number for number, _ in spool.rest())
    spool.work()
    spool.work()
    spool.close()
    del disk.names[FOLDER / files.CURSOR]
    assert opened(disk).store(b"more") == 4


def test_the_cursor_is_replaced_before_a_segment_goes(disk):
    spool = opened(disk, segment_bytes=300)
    for _ in range(5):
        spool.store(bytes(80))
    spool.done(number for number, _ in spool.rest())
    order = []
    disk.on_call = order.append
    spool.work()
    kept = order[order.index("rename") - 3 :]
    assert kept == ["create", "write", "fdatasync", "rename", "fsync_dir"] + ["unlink"] * 3


def test_a_checkpoint_without_trimming_syncs_nothing(disk):
    spool = opened(disk)
    spool.store(b"a", b"b")
    spool.read(1, 1)
    spool.done([1])
    order = []
    disk.on_call = order.append
    spool.work()
    assert order == ["create", "write", "rename"]


# failing disks


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync_dir", "create", "free"])
@pytest.mark.parametrize("first", [True, False])
def test_an_error_refuses_the_whole_commit_and_the_next_one_works(disk, call, first, caplog):
    spool, answers = opened(disk), Answers()
    if not first:
        spool.store(b"before")
    if call in ("create", "fsync_dir") and not first:
        spool._writer._tail._segment_bytes = 10
    disk.fail(call, errno.EIO)
    spool.append([b"a", b"b"], answers)
    spool.append([b"c"], answers)
    spool.work()
    spool.deliver()
    assert [str(error) for error in answers.said] == [
        "the spool can't store: Input/output error"
    ] * 2
    assert not any(error.full for error in answers.said)
    assert not spool.is_full
    assert spool.store(b"d") == 2 - first
    assert [record for _, record in spool.rest()] == [b"before", b"d"][first:]
    assert caplog.text.count("can't store") == 1
    assert caplog.text.count("stores again") == 1
    disk.kill()
    assert [record for _, record in opened(disk).rest()] == [b"before", b"d"][first:]


def test_a_file_whose_sync_failed_is_never_synced_again(disk):
    """What a failed fdatasync has dropped, a second one says to have written."""
    spool = opened(disk)
    spool.store(b"before")
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(StoreError):
        spool.store(b"dropped")
    spool.store(b"after")
    assert len(segments_of(disk)) == 2
    disk.power_cut(random.Random(1))
    assert [record for _, record in opened(disk).rest()] == [b"before", b"after"]


def test_short_writes_are_gone_on_with(disk):
    disk.short_writes = True
    spool = opened(disk)
    spool.store(*[b"%d" % number * 50 for number in range(20)])
    spool.close()
    assert [r for _, r in opened(disk).rest()] == [b"%d" % number * 50 for number in range(20)]


def test_a_write_that_ends_half_way_leaves_nothing(disk):
    spool = opened(disk)
    spool.store(b"before")
    disk.short_writes = True
    disk.fail("write", errno.EIO, after=2)
    with pytest.raises(StoreError):
        spool.store(bytes(100))
    disk.kill()
    spool = opened(disk)
    assert (spool.rest(), spool.damaged) == ([(1, b"before")], 0)


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_at_any_call_costs_nothing_that_was_acknowledged(seed):
    rng = random.Random(seed)
    for calls in range(16):
        disk = SimulatedDisk()
        spool, answers = opened(disk, segment_bytes=300), Answers()
        sure = [spool.store(b"sure%d" % number * 9) for number in range(rng.randrange(9))]
        disk.cut_in = calls
        try:
            for number in range(4):
                spool.append([b"perhaps%d" % number * 9], answers)
                spool.work()
                spool.deliver()
        except Cut:
            pass
        sure += answers.said
        disk.power_cut(rng)
        spool = opened(disk)
        assert [n for n, _ in spool.rest() if n in sure] == sure
        assert spool.store(b"fresh") > max(sure, default=0)


def test_a_cursor_that_can_not_be_written_is_tried_again(disk, caplog):
    spool = opened(disk)
    spool.store(b"a")
    spool.done([number for number, _ in spool.rest()])
    disk.fail("rename", errno.EIO, times=3)
    for _ in range(5):
        spool.work()
    assert caplog.text.count("cursor can't be kept") == 1
    disk.kill()
    assert opened(disk).rest() == []


def test_a_folder_that_can_not_be_read_is_said_and_let_go(disk):
    disk.fail("listdir", errno.EIO)
    with pytest.raises(Exception, match="/spool/lane can't be read: Input/output error"):
        opened(disk)
    opened(disk)


# room


def fill(spool, size=80):
    """Store until there is no room; return how many fitted."""
    for count in range(10_000):
        try:
            spool.store(bytes(size))
        except StoreError as error:
            if not error.full:
                raise
            return count
    raise AssertionError("it is never full")


def test_the_cap_is_never_passed_and_room_comes_back(disk):
    rooms = []
    spool = opened(disk, max_bytes=2000, segment_bytes=500)
    spool.on_room = lambda: rooms.append(spool.is_full)
    count = fill(spool)
    assert count >= 16
    assert spool.is_full
    assert 1800 <= spool.bytes <= 2000
    assert spool.bytes == sum(len(disk.content(path)) for path in segments_of(disk))
    found = spool.read(3, 1 << 20)
    spool.done(number for number, _ in found)
    spool.work()
    spool.deliver()
    assert (spool.is_full, rooms) == (True, [])
    spool.done(number for number, _ in spool.read(3, 1 << 20))
    spool.work()
    spool.deliver()
    assert (spool.is_full, rooms) == (False, [False])
    assert spool.store(b"more") == count + 1
    assert len(spool.rest()) == count - 6 + 1


def test_what_queues_counts(disk):
    spool, answers = opened(disk, max_bytes=1000), Answers()
    for _ in range(20):
        spool.append([bytes(80)], answers)
    spool.deliver()
    refused = len(answers.said)
    assert refused > 10
    spool.work()
    assert spool.bytes <= 1000
    spool.done(number for number, _ in spool.rest())
    for _ in range(3):
        spool.work()
    spool.deliver()
    assert not spool.is_full
    # and no longer once it is stored
    assert fill(spool) >= 20 - refused - 3


def test_room_is_the_same_after_each_filling(disk):
    spool = opened(disk, max_bytes=4000, segment_bytes=500)
    counts = []
    for _ in range(5):
        counts.append(fill(spool))
        spool.done(number for number, _ in spool.rest())
        for _ in range(3):
            spool.work()
        assert spool.pending == 0
    assert min(counts) >= counts[0] - 5
    assert disk.used <= 4000 + 100


def test_a_list_larger_than_the_cap_is_refused_alone(disk):
    spool = opened(disk, max_bytes=2000, segment_bytes=500)
    with pytest.raises(StoreError, match=r"state\.max_bytes gives this spool 2000 bytes"):
        spool.store(bytes(2000))
    assert not spool.is_full
    assert spool.store(b"small") == 1


def test_the_share_that_stays_free_is_kept():
    disk = SimulatedDisk(capacity=10_000)
    rooms = []
    spool = opened(disk, max_bytes=1 << 20, segment_bytes=1000, min_free_share=0.3)
    spool.on_room = lambda: rooms.append(1)
    fill(spool)
    assert 6700 <= disk.used <= 7000
    assert spool.is_full
    disk.capacity = 20_000
    spool.work()
    spool.deliver()
    assert (spool.is_full, rooms) == (False, [1])
    spool.store(b"more")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fdatasync", "create"])
def test_a_disk_without_room_is_full_until_it_has_room(disk, call, error):
    spool = opened(disk, segment_bytes=300)
    disk.fail(call, error, times=1)
    with pytest.raises(StoreError) as caught:
        spool.store(b"a")
    assert caught.value.full
    spool.work()
    assert not spool.is_full
    assert spool.store(b"b") == 1


def test_a_disk_filled_by_others_is_left_by_delivering(disk):
    """Removing is all that works on a full disk, and the cursor's file has no room either."""
    spool = opened(disk, segment_bytes=500)
    for _ in range(20):
        spool.store(bytes(80))
    disk.capacity = disk.used
    assert fill(spool) == 0
    found = spool.rest()
    spool.done(number for number, _ in found[:8])
    spool.work()
    assert files.first_of(segments_of(disk)[0].name) == 9
    disk.kill()
    spool = opened(disk)
    assert [number for number, _ in spool.rest()] == list(range(9, 21))
    assert spool.damaged == 0


@pytest.mark.parametrize("seed", range(20))
def test_on_a_full_disk_a_power_cut_while_segments_go_makes_no_damage(seed):
    disk = SimulatedDisk()
    spool = opened(disk, segment_bytes=300)
    for _ in range(20):
        spool.store(bytes(80))
    disk.capacity = disk.used
    spool.done(number for number, _ in spool.rest() if number < 13)
    spool.work()
    assert files.first_of(segments_of(disk)[0].name) == 13
    disk.power_cut(random.Random(seed))
    spool = opened(disk)
    assert [number for number, _ in spool.rest()][-8:] == list(range(13, 21))
    assert spool.damaged == 0


def test_on_a_full_disk_nothing_goes_that_only_the_cursor_could_explain(disk):
    spool = opened(disk, segment_bytes=500)
    for _ in range(20):
        spool.store(bytes(80))
    disk.capacity = disk.used
    spool.done(number for number, _ in spool.rest() if number != 1)
    spool.work()
    disk.kill()
    spool = opened(disk)
    assert 1 in [number for number, _ in spool.rest()]
    assert spool.damaged == 0


def test_close_stores_what_is_queued_and_answers(disk):
    spool, answers = opened(disk), Answers()
    spool.append([b"a"], answers)
    spool.append([b"b"], answers)
    spool.close()
    spool.append([b"c"], answers)
    spool.deliver()
    assert answers.said[:2] == [1, 2]
    assert str(answers.said[2]) == "the spool is closed"
    assert opened(disk).rest() == [(1, b"a"), (2, b"b")]


# what the log says of it


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_full_spool_is_told_once_each_way_with_its_limit(disk, caplog):
    spool = opened(disk, max_bytes=2000, segment_bytes=500)
    fill(spool)
    for _ in range(5):
        assert fill(spool) == 0
    assert lines_of(caplog) == [
        (
            "/spool/lane: the spool is full: state.max_bytes gives this spool 2000 bytes; "
            "nothing is stored until there is room"
        )
    ]
    spool.done(number for number, _ in spool.rest())
    for _ in range(5):
        spool.work()
    assert not spool.is_full
    assert lines_of(caplog)[1:] == ["/spool/lane: the spool has room again"]


def test_a_list_that_finds_no_room_while_others_are_stored_tells_the_limit(disk, caplog):
    spool, answers = opened(disk, max_bytes=1000), Answers()
    for _ in range(20):
        spool.append([bytes(80)], answers)  # refused before anything of it is written
    assert spool.is_full
    assert len(lines_of(caplog)) == 1
    spool.deliver()
    assert {str(error) for error in answers.said} == {
        "the spool is full: state.max_bytes gives this spool 1000 bytes"
    }


def test_a_disk_that_others_have_filled_is_told_once_each_way_with_its_limit(caplog):
    disk = SimulatedDisk(capacity=10_000)
    spool = opened(disk, segment_bytes=1000, min_free_share=0.3)
    disk.capacity = 100_000
    disk.free = lambda _folder: (20_000, 100_000)
    assert fill(spool) == fill(spool) == 0
    assert lines_of(caplog) == [
        (
            "/spool/lane: the spool is full: 30 % of the disk (30000 bytes) have to stay free, "
            "and only 20000 are; nothing is stored until there is room"
        )
    ]
    disk.free = lambda _folder: (50_000, 100_000)
    spool.work()
    assert lines_of(caplog)[1:] == ["/spool/lane: the spool has room again"]


def test_what_would_leave_too_little_free_is_told_with_its_size(caplog):
    disk = SimulatedDisk(capacity=100_000)
    spool = opened(disk, segment_bytes=1000, min_free_share=0.3)
    disk.free = lambda _folder: (30_050, 100_000)
    assert fill(spool) == 0
    (line,) = lines_of(caplog)
    assert re.search(
        r"\(30000 bytes\) have to stay free, and only 30050 are, too few for \d\d+ more;", line
    )


def test_a_spool_on_the_edge_does_not_flap_in_the_log(disk, caplog):
    spool = opened(disk, max_bytes=2000, segment_bytes=500)
    for _ in range(10):
        fill(spool)
        spool.done(number for number, _ in spool.rest())
        for _ in range(3):
            spool.work()
        assert not spool.is_full
    assert len(lines_of(caplog)) == 2


def test_one_that_is_full_for_long_is_told_though_it_was_on_the_edge(disk, caplog):
    spool = opened(disk, max_bytes=2000, segment_bytes=500)
    spool._writer._lines = Throttle(0)  # each time is long after the last one
    spool._writer._lines.pass_on("full")
    for _ in range(2):
        fill(spool)
        spool.done(number for number, _ in spool.rest())
        for _ in range(3):
            spool.work()
    assert len(lines_of(caplog)) == 4
