"""Records that were handed over from memory: `read` goes on behind them, and at little cost."""

import errno

import pytest

from gateway.spool import files, segment
from tests.gateway.spool.simulated import SimulatedDisk, SteppedSpool

FOLDER = SteppedSpool.FOLDER


@pytest.fixture
def disk():
    return SimulatedDisk()


def opened(disk, **options):
    spool = SteppedSpool(disk, **options)
    spool.reports = []
    spool.on_damage = lambda *report: spool.reports.append(report)
    spool.open()
    return spool


def filled(disk, records=10, **options):
    """A spool with records of 40 bytes, 60 with their heads, each its own commit."""
    spool = opened(disk, **options)
    for number in range(1, records + 1):
        spool.store(b"%02d" % number * 20)
    return spool


def content_of(disk, first=1):
    return disk.content(FOLDER / files.segment_name(first))


def numbers_of(found):
    assert all(record == b"%02d" % number * 20 for number, record in found)
    return [number for number, _ in found]


def bytes_read(disk, monkeypatch):
    """A list of how much each call has read from now on."""
    lengths, read = [], disk.read
    monkeypatch.setattr(
        disk, "read", lambda fd, at, length: (lengths.append(length), read(fd, at, length))[1]
    )
    return lengths


def test_read_goes_on_behind_what_was_skipped(disk):
    spool = filled(disk)
    assert (spool.position, spool.unread) == (1, 10)
    spool.skip(4)
    assert (spool.position, spool.unread, spool.pending) == (4, 7, 10)
    assert numbers_of(spool.read(2, 1 << 20)) == [4, 5]
    spool.skip(9)
    assert (spool.position, spool.unread) == (9, 2)
    assert numbers_of(spool.rest()) == [9, 10]
    assert spool.position == 11
    spool.done(range(1, 11))
    assert spool.pending == 0


def test_what_is_skipped_and_not_done_comes_back_in_the_next_life(disk):
    spool = filled(disk)
    spool.skip(11)
    assert spool.rest() == []
    spool.done([1, 2, 7])
    spool.close()
    assert numbers_of(opened(disk).rest()) == [3, 4, 5, 6, 8, 9, 10]


def test_skipping_to_an_earlier_place_does_nothing(disk):
    spool = filled(disk)
    spool.read(5, 1 << 20)
    for end in (0, 1, 5, 6):
        spool.skip(end)
        assert (spool.position, spool.unread) == (6, 5)
    assert numbers_of(spool.rest()) == [6, 7, 8, 9, 10]


def test_skipping_what_was_never_stored_is_a_mistake(disk):
    spool = filled(disk)
    with pytest.raises(ValueError, match="record 11 was never stored"):
        spool.skip(12)
    assert spool.position == 1
    spool.skip(11)
    assert spool.unread == 0


def test_a_limit_counts_only_what_is_returned(disk):
    spool = filled(disk)
    spool.skip(7)
    assert numbers_of(spool.read(1, 1 << 20)) == [7]
    assert numbers_of(spool.read(9, 1)) == [8]


def test_skipping_goes_over_segments_that_have_gone(disk):
    spool = filled(disk, segment_bytes=200)
    spool.read(1, 1)
    spool.skip(8)
    spool.done(range(1, 8))
    spool.work()
    assert files.segment_name(1) not in disk.listdir(FOLDER)
    assert numbers_of(spool.rest()) == [8, 9, 10]
    assert spool.damaged == 0


def test_a_reader_behind_segments_that_have_gone_begins_at_the_next_ones_beginning(
    disk, monkeypatch
):
    monkeypatch.setattr(segment, "MARK_BYTES", 60)
    spool = filled(disk, segment_bytes=200)
    spool.done([1, 2, 3])
    spool.work()
    assert files.segment_name(1) not in disk.listdir(FOLDER)
    assert numbers_of(spool.rest()) == [4, 5, 6, 7, 8, 9, 10]


def test_skipping_lets_go_of_the_file_so_that_its_room_can_come_back(disk):
    spool = filled(disk)
    open_before = len(disk.fds)
    spool.read(1, 1)
    assert len(disk.fds) == open_before + 1
    spool.skip(3)
    assert len(disk.fds) == open_before


def test_a_reader_that_begins_late_reads_little(disk, monkeypatch):
    monkeypatch.setattr(segment, "MARK_BYTES", 300)
    monkeypatch.setattr(segment, "CHUNK", 200)
    spool = filled(disk, 99, segment_bytes=1 << 17)
    assert len(disk.listdir(FOLDER)) == 1
    for end in (50, 99):
        spool.skip(end)
        lengths = bytes_read(disk, monkeypatch)
        assert numbers_of(spool.read(1, 1)) == [end]
        assert sum(lengths) <= 300 + 60 + 200
        monkeypatch.undo()
        monkeypatch.setattr(segment, "MARK_BYTES", 300)
        monkeypatch.setattr(segment, "CHUNK", 200)


@pytest.mark.parametrize("end", range(1, 101))
def test_every_place_is_found_from_its_mark(disk, monkeypatch, end):
    monkeypatch.setattr(segment, "MARK_BYTES", 130)
    monkeypatch.setattr(segment, "CHUNK", 100)
    spool = filled(disk, 99, segment_bytes=2000)
    spool.skip(end)
    assert numbers_of(spool.rest()) == list(range(end, 100))
    assert spool.damaged == 0


# damage


def test_damage_before_the_place_is_nobodys_loss(disk):
    spool = filled(disk)
    content_of(disk)[16 + 60 * 2 + 30] ^= 1
    spool.skip(6)
    assert numbers_of(spool.rest()) == [6, 7, 8, 9, 10]
    assert (spool.damaged, spool.reports, spool.pending) == (0, [], 10)


def test_damage_around_the_place_costs_only_what_is_behind_it(disk):
    spool = filled(disk)
    content_of(disk)[16 + 60 * 3 : 16 + 60 * 7] = bytes(240)  # records 4 to 7
    spool.skip(6)
    assert numbers_of(spool.rest()) == [8, 9, 10]
    assert (spool.damaged, spool.pending) == (2, 8)  # 4 and 5 are in somebody's hands
    assert spool.reports == [(files.segment_name(1), 16 + 60 * 3, 240)]


def test_damage_up_to_the_place_costs_nothing(disk):
    spool = filled(disk)
    content_of(disk)[16 + 60 * 3 : 16 + 60 * 5] = bytes(120)  # records 4 and 5
    spool.skip(6)
    assert numbers_of(spool.rest()) == [6, 7, 8, 9, 10]
    assert (spool.damaged, spool.reports, spool.pending) == (0, [], 10)


def test_damage_up_to_the_end_costs_only_what_is_behind_the_place(disk):
    spool = filled(disk, segment_bytes=200)
    content_of(disk, 4)[16 + 60 :] = bytes(120)  # records 5 and 6
    spool.skip(6)
    assert numbers_of(spool.rest()) == [7, 8, 9, 10]
    assert (spool.damaged, spool.pending) == (1, 9)


def test_a_segment_that_is_gone_costs_only_what_is_behind_the_place(disk):
    spool = filled(disk, segment_bytes=200)
    del disk.names[FOLDER / files.segment_name(4)]
    spool.skip(6)
    assert numbers_of(spool.rest()) == [7, 8, 9, 10]
    assert (spool.damaged, spool.pending) == (1, 9)


def test_a_damaged_place_at_a_mark_costs_no_more_than_elsewhere(disk, monkeypatch):
    monkeypatch.setattr(segment, "MARK_BYTES", 60)
    spool = filled(disk)
    content_of(disk)[16 + 60 * 5] ^= 1
    spool.skip(6)
    assert numbers_of(spool.rest()) == [7, 8, 9, 10]
    assert (spool.damaged, spool.pending) == (1, 9)


# a disk that fails for a moment


def test_what_was_read_when_the_disk_failed_is_read_again(disk, monkeypatch):
    """The first part of a list was in hand, and the second one couldn't be loaded."""
    monkeypatch.setattr(segment, "CHUNK", 200)
    spool = filled(disk)
    for after in range(1, 4):
        disk.fail("read", errno.ENOMEM, after=after)
        assert spool.read(10, 1 << 20) == []
    assert spool.unread == 10
    assert numbers_of(spool.rest()) == list(range(1, 11))
