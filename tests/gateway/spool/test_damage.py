"""Whatever is damaged: that is skipped, counted and reported, and everything else comes back."""

import errno
import random

import pytest

from gateway.errors import GatewayError
from gateway.spool import cursor, files
from gateway.spool.reader import READ_TRIES
from gateway.spool.record import MARKER, encode
from tests.gateway.spool.simulated import SimulatedDisk, SteppedSpool

FOLDER = SteppedSpool.FOLDER


def opened(disk, **options):
    spool = SteppedSpool(disk, **options)
    spool.reports = []
    spool.on_damage = lambda *report: spool.reports.append(report)
    spool.found = spool.open()
    return spool


def segments_of(disk):
    return sorted(path for path in disk.names if path.name.endswith(".seg"))


def filled(records=24, size=40, **options):
    """A closed spool's disk with some segments, of which the first records are done."""
    disk = SimulatedDisk()
    spool = opened(disk, segment_bytes=500, **options)
    for number in range(1, records + 1):
        spool.store(f"{number}:".encode().ljust(size, b"x"))
    spool.read(2, 1 << 20)
    spool.done([1, 2])
    spool.close()
    assert len(segments_of(disk)) >= 3
    return disk


def give_up(spool):
    """Try to read until it is no longer tried."""
    for _ in range(READ_TRIES):
        assert spool.damaged == 0
        assert spool.read(9, 1 << 20) == []


def numbers_of(found):
    for sequence, record in found:
        assert record.startswith(f"{sequence}:".encode())
    return [sequence for sequence, _ in found]


def test_any_flipped_bit_costs_at_most_the_record_it_is_in():
    disk = filled()
    everything = list(range(3, 25))
    rng = random.Random(1)
    for path in segments_of(disk):
        first = files.first_of(path.name)
        content = disk.content(path)
        for at in range(len(content)):
            content[at] ^= (bit := 1 << rng.randrange(8))
            spool = opened(disk, segment_bytes=500)
            got = numbers_of(spool.rest())
            # 60 bytes each behind a head of 16
            hit = first + (at - 16) // 60 if at >= 16 else None
            assert got == [n for n in everything if n != hit], (path.name, at)
            lost = int(hit in everything)
            assert spool.damaged == lost
            assert [name for name, _, _ in spool.reports] == [path.name] * lost
            assert all(offset <= at < offset + size for _, offset, size in spool.reports)
            assert (spool.pending, spool.unread) == (len(got), 0)
            disk.kill()
            content[at] ^= bit


def test_a_damaged_cursor_costs_duplicates_and_nothing_else(caplog):
    disk = filled()
    content = disk.content(FOLDER / files.CURSOR)
    for at in range(len(content)):
        content[at] ^= 1
        spool = opened(disk)
        assert numbers_of(spool.rest()) == list(range(1, 25)), at
        assert spool.damaged == 0
        disk.kill()
        content[at] ^= 1
    assert "delivered twice" in caplog.text


@pytest.mark.parametrize("length", [0, 15, 16, 20, 27])
def test_a_cut_cursor_costs_duplicates_and_nothing_else(length):
    disk = filled()
    del disk.content(FOLDER / files.CURSOR)[length:]
    assert numbers_of(opened(disk).rest()) == list(range(1, 25))


def test_damage_found_stays_found():
    disk = filled()
    disk.content(segments_of(disk)[1])[30] ^= 1
    spool = opened(disk)
    got = numbers_of(spool.rest())
    assert (len(got), spool.damaged) == (21, 1)
    spool.done(got[:3])
    spool.close()
    spool = opened(disk)
    assert numbers_of(spool.rest()) == got[3:]
    assert (spool.found.pending, spool.damaged, spool.reports) == (18, 0, [])


def test_damage_does_not_keep_a_segment_from_going():
    disk = filled()
    for path in segments_of(disk):
        disk.content(path)[30] ^= 1
    spool = opened(disk, segment_bytes=500)
    spool.done(numbers_of(spool.rest()))
    assert spool.pending == 0
    spool.store(b"fresh")
    spool.work()
    assert len(segments_of(disk)) == 1


def test_a_hole_over_several_records_is_counted_by_their_numbers():
    disk = filled()
    path = segments_of(disk)[1]
    disk.content(path)[100:200] = bytes(100)
    spool = opened(disk)
    first = files.first_of(path.name)
    lost = {first + 1, first + 2, first + 3}
    assert numbers_of(spool.rest()) == [n for n in range(3, 25) if n not in lost]
    assert spool.reports == [(path.name, 76, 180)]
    assert spool.damaged == 3


def test_a_segment_that_is_gone_is_counted():
    disk = filled()
    path = segments_of(disk)[1]
    del disk.names[path]
    spool = opened(disk)
    lost = set(range(files.first_of(path.name), files.first_of(segments_of(disk)[1].name)))
    assert numbers_of(spool.rest()) == [n for n in range(3, 25) if n not in lost]
    assert spool.damaged == len(lost)


def test_segments_that_are_all_gone_leave_an_empty_spool_that_counts_on():
    disk = filled()
    for path in segments_of(disk):
        del disk.names[path]
    spool = opened(disk)
    assert (spool.found.pending, spool.rest()) == (0, [])
    assert spool.store(b"fresh") == 25


def test_the_later_one_of_both_cursors_says_how_to_count_on():
    disk = filled()
    spool = opened(disk)
    spool.done(range(1, 10))
    spool.work()
    for number in range(25, 30):
        spool.store(f"{number}:".encode())
    spool.done([25])
    spool.close()
    assert {files.CURSOR, files.CURSOR_SYNCED} <= {path.name for path in disk.names}
    for path in segments_of(disk):
        del disk.names[path]
    assert opened(disk).store(b"fresh") == 30


def test_a_segment_that_goes_while_it_is_to_be_read_is_counted():
    disk = filled()
    spool = opened(disk)
    path = segments_of(disk)[1]
    del disk.names[path]
    got = spool.rest()
    assert len(got) + spool.damaged == 22
    assert spool.reports[0][0] == path.name


def test_the_end_of_the_newest_segment_is_missed_when_the_cursor_knows_of_it():
    disk = filled()
    path = segments_of(disk)[-1]
    del disk.content(path)[-70:]
    spool = opened(disk)
    assert (spool.found.pending, spool.found.damaged) == (20, 2)
    assert numbers_of(spool.rest()) == list(range(3, 23))
    assert spool.damaged == 2
    # A number that somebody has seen is not used again, though nothing on the disk has it.
    assert spool.store(b"fresh") == 25


@pytest.mark.parametrize(
    "tail", [b"", b"\0" * 50, b"garbage" * 9, MARKER * 9, encode([b"x"], 25)[:-1]]
)
def test_a_torn_end_that_nobody_was_told_of_is_left_out(tail, caplog):
    disk = filled()
    path = segments_of(disk)[-1]
    disk.content(path).extend(tail)
    spool = opened(disk)
    assert numbers_of(spool.rest()) == list(range(3, 25))
    assert (spool.damaged, spool.reports) == (0, [])
    assert ("as after a crash" in caplog.text) is bool(tail)
    assert spool.store(b"25:") == 25
    assert numbers_of(spool.rest()) == [25]
    spool.close()
    spool = opened(disk)
    assert len(spool.rest()) == 23
    assert spool.damaged == 0


def test_a_last_record_that_is_broken_is_told_as_lost_once_and_not_as_a_crash(caplog):
    disk = filled()
    disk.content(segments_of(disk)[-1])[-1] ^= 1
    spool = opened(disk)
    assert (spool.found.pending, spool.found.damaged) == (21, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is damaged: 1 records lost in" in line
    spool.rest()
    assert len(spool.reports) == 1
    for _ in range(2):
        spool.close()
        caplog.clear()
        spool = opened(disk)
        assert (spool.found.damaged, caplog.text) == (0, "")


def test_a_last_record_that_was_delivered_may_break(caplog):
    disk = filled()
    spool = opened(disk)
    spool.done([24])
    spool.close()
    disk.content(segments_of(disk)[-1])[-1] ^= 1
    spool = opened(disk)
    assert (spool.found.pending, spool.found.damaged, caplog.text) == (21, 0, "")


def test_a_torn_end_is_told_by_the_start_that_finds_it_and_by_no_later_one(caplog):
    disk = filled()
    disk.now = 1.0  # the cursor is older
    path = segments_of(disk)[-1]
    disk.names[path].written_at = disk.now
    disk.content(path).extend(encode([b"x"], 25)[:-1])
    opened(disk)
    disk.kill()  # it has kept nothing that would tell that it was told
    caplog.clear()
    disk.now = 1.5
    opened(disk).close()
    assert caplog.text.count("as after a crash") == 1
    for disk.now in (2.0, 3.0):
        caplog.clear()
        opened(disk).close()
        assert caplog.text == ""


def test_the_newest_segment_without_a_whole_record_is_begun_again():
    disk = filled()
    last = FOLDER / files.segment_name(25)
    disk.create(last)
    disk.content(last).extend(b"\0garbage")
    spool = opened(disk)
    assert len(spool.rest()) == 22
    assert spool.store(b"25:") == 25
    assert numbers_of(spool.rest()) == [25]
    assert bytes(disk.content(last)[:8]) == files.SEGMENT_MAGIC
    assert spool.bytes == sum(len(disk.content(path)) for path in segments_of(disk))


def test_a_record_inside_an_events_data_is_not_taken_for_one():
    disk = SimulatedDisk()
    spool = opened(disk)
    forged = encode([b"forged"], 900)
    spool.store(b"1:" + forged, b"2:", b"3:")
    spool.close()
    (path,) = segments_of(disk)
    disk.content(path)[17] ^= 1
    spool = opened(disk)
    assert numbers_of(spool.rest()) == [2, 3]
    assert spool.damaged == 1


def test_what_failed_behind_the_end_of_a_segment_is_not_read(caplog):
    disk = SimulatedDisk()
    spool = opened(disk)
    spool.store(b"1:")
    disk.fail("fdatasync", errno.EIO)
    disk.fail("truncate", errno.EIO)
    with pytest.raises(Exception, match="Input/output error"):
        spool.store(b"refused", b"refused")
    assert "can't be cut" in caplog.text
    assert spool.store(b"2:") == 2
    assert numbers_of(spool.rest()) == [1, 2]
    disk.kill()
    spool = opened(disk)
    assert numbers_of(spool.rest()) == [1, 2]
    assert spool.damaged == 0


def test_a_place_that_the_disk_can_not_read_is_damage_and_the_rest_is_not():
    disk = filled()
    bad = segments_of(disk)[0]
    read = disk.read

    def unreadable(fd, offset, length):
        if disk.fds[fd] is disk.names[bad] and offset < 300 < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, offset, length)

    disk.read = unreadable
    spool = opened(disk)
    give_up(spool)
    got = numbers_of(spool.rest())
    # The page is all of this small file.
    assert got == [n for n in range(3, 25) if n >= files.first_of(segments_of(disk)[1].name)]
    assert spool.damaged == 22 - len(got)


def test_an_error_that_passes_is_no_damage(caplog):
    disk = filled()
    spool = opened(disk)
    disk.fail("open", errno.EMFILE, times=2)
    assert spool.read(9, 1 << 20) == []
    assert spool.read(9, 1 << 20) == []
    assert spool.unread == 22
    assert numbers_of(spool.rest()) == list(range(3, 25))
    assert spool.damaged == 0
    assert caplog.text.count("can't be read at the moment") == 1


@pytest.mark.parametrize("call", ["open", "read"])
def test_a_disk_that_can_not_be_read_for_a_while_costs_nothing(call):
    disk = filled()
    spool = opened(disk)
    disk.fail(call, errno.EIO, times=READ_TRIES - 1)
    for _ in range(READ_TRIES - 1):
        assert spool.read(9, 1 << 20) == []
    assert numbers_of(spool.rest()) == list(range(3, 25))
    assert spool.damaged == 0


def test_a_segment_that_can_not_be_opened_is_given_up_and_the_next_one_is_read():
    disk = filled()
    bad = segments_of(disk)[0]
    spool = opened(disk)
    real = disk.open

    def unreadable(path):
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    disk.open = unreadable
    give_up(spool)
    got = numbers_of(spool.rest())
    assert got == [n for n in range(3, 25) if n >= files.first_of(segments_of(disk)[1].name)]
    assert spool.damaged == 22 - len(got)


def test_damage_in_large_records_is_stepped_over():
    disk = SimulatedDisk()
    spool = opened(disk, max_bytes=1 << 22)
    sizes = [10, 300_000, 700_000, 10, 600_000, 10]
    for number, size in enumerate(sizes, 1):
        spool.store(f"{number}:".encode().ljust(size, b"x"))
    spool.close()
    content = disk.content(segments_of(disk)[2])
    content[400_000] ^= 1
    spool = opened(disk)
    assert numbers_of(spool.rest()) == [1, 2, 4, 5, 6]


# versions


def test_a_newer_version_is_refused_in_one_sentence_and_left_alone():
    for name, magic in (
        (files.CURSOR, files.CURSOR_MAGIC),
        (files.segment_name(1), files.SEGMENT_MAGIC),
        (files.segment_name(17), files.SEGMENT_MAGIC),
    ):
        disk = filled()
        path = FOLDER / name
        if path not in disk.names:
            disk.create(path)
        disk.content(path)[:16] = files.head(magic, 2)
        before = {path: bytes(inode.seen) for path, inode in disk.names.items()}
        with pytest.raises(GatewayError, match=rf"^{path} has format 2 of a newer gateway"):
            opened(disk)
        assert before == {path: bytes(inode.seen) for path, inode in disk.names.items()}
        with pytest.raises(GatewayError):  # and not for the lock
            opened(disk)


def test_an_older_version_is_read_and_what_is_new_gets_the_current_one(monkeypatch):
    disk = filled()
    assert opened(disk).found.upgraded is False
    disk.kill()
    monkeypatch.setattr(files, "VERSION", 2)
    spool = opened(disk)
    assert spool.found.upgraded
    spool.store(b"25:")
    assert numbers_of(spool.rest()) == list(range(3, 26))
    spool.close()
    versions = [disk.content(path)[8] for path in segments_of(disk)]
    assert versions == [1] * (len(versions) - 1) + [2]
    assert cursor.read(disk, FOLDER).version == 2
    monkeypatch.setattr(files, "VERSION", 1)
    with pytest.raises(GatewayError, match="newer"):
        opened(disk)


def test_other_files_in_the_folder_are_left_alone():
    disk = filled()
    for name in ("README", "1.seg", "00000000000000000003.seg.bak", files.CURSOR_NEW):
        disk.create(FOLDER / name)
    assert numbers_of(opened(disk).rest()) == list(range(3, 25))
