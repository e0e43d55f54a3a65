"""What is in a folder is found without changing it, and while a spool uses it."""

import asyncio
import os

import pytest

from gateway.errors import GatewayError
from gateway.spool import Spool, files
from gateway.spool.inspection import Contents, DamagedPlace, inspect, pending_records


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lane"


@pytest.fixture
async def spool(folder):
    spool = Spool(folder, max_bytes=4000, segment_bytes=200, min_free_share=0.0)
    spool.open()
    yield spool
    spool.close()


async def store(spool, *numbers):
    for number in numbers:
        stored = asyncio.Event()
        spool.append([b"%02d" % number * 20], lambda *_, stored=stored: stored.set())
        await stored.wait()


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damage(folder, first, at):
    path = folder / files.segment_name(first)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def pending_in(folder):
    return [sequence for sequence, _ in pending_records(folder)]


async def test_a_spool_can_be_looked_at_while_it_is_used(spool, folder):
    await store(spool, *range(1, 9))
    before = content_of(folder)
    os.utime(folder / files.segment_name(1), (1_700_000_000, 1_700_000_000))
    assert inspect(folder) == Contents(8, 3 * 16 + 8 * 60, 1_700_000_000.0, [])
    found = list(pending_records(folder))
    assert found == [(number, b"%02d" % number * 20) for number in range(1, 9)]
    assert content_of(folder) == before
    assert spool.read(99, 1 << 20) == found


async def test_what_is_done_is_not_pending(spool, folder):
    await store(spool, *range(1, 9))
    spool.done([1, 2, 5])
    spool.close()
    os.utime(folder / files.segment_name(1), (1_700_000_000, 1_700_000_000))
    found = inspect(folder)
    assert (found.pending, found.last_write) == (5, 1_700_000_000.0)
    assert pending_in(folder) == [3, 4, 6, 7, 8]


async def test_segments_that_are_kept_count_as_bytes_and_are_not_read(folder):
    spool = Spool(folder, max_bytes=4000, segment_bytes=200, min_free_share=0.0, keep_seconds=3600)
    spool.open()
    await store(spool, *range(1, 9))
    spool.done([1, 2, 3, 4, 5, 6])
    spool.close()
    damage(folder, 1, 100)  # nobody's loss
    os.utime(folder / files.segment_name(7), (1_700_000_000, 1_700_000_000))
    assert inspect(folder) == Contents(2, 3 * 16 + 8 * 60, 1_700_000_000.0, [])
    assert pending_in(folder) == [7, 8]


async def test_damaged_places_are_named_where_something_is_lost(spool, folder):
    await store(spool, *range(1, 9))
    spool.done([2])
    spool.close()
    damage(folder, 1, 16 + 60 + 30)  # record 2, which is done
    damage(folder, 4, 16 + 30)  # record 4
    damage(folder, 4, 16 + 120 + 30)  # record 6, the last one there
    with (folder / files.segment_name(7)).open("ab") as newest:
        newest.write(b"torn")
    found = inspect(folder)
    assert found.damaged == [
        DamagedPlace(files.segment_name(4), 16, 60, 1),
        DamagedPlace(files.segment_name(4), 136, 60, 1),
        DamagedPlace(files.segment_name(7), 136, 4, 0),
    ]
    assert found.pending == 5
    assert pending_in(folder) == [1, 3, 5, 7, 8]


async def test_a_last_record_that_is_broken_is_lost_as_the_start_says(spool, folder):
    await store(spool, *range(1, 9))
    spool.close()
    damage(folder, 7, 16 + 60 + 30)
    place = DamagedPlace(files.segment_name(7), 76, 60, 1)
    found = inspect(folder)
    assert (found.pending, found.damaged) == (7, [place])
    start = spool.open()
    assert (start.pending, start.damaged) == (7, 1)


async def test_a_last_record_that_was_done_is_no_loss(spool, folder):
    await store(spool, *range(1, 9))
    spool.done([8])
    spool.close()
    damage(folder, 7, 16 + 60 + 30)
    found = inspect(folder)
    assert (found.pending, found.damaged) == (7, [])


async def test_what_a_crash_left_in_an_older_segment_is_nobodys_loss(spool, folder):
    await store(spool, *range(1, 9))
    spool.close()
    with (folder / files.segment_name(4)).open("ab") as older:
        older.write(b"torn")
    found = inspect(folder)
    assert (found.pending, found.damaged) == (8, [])


async def test_segments_that_went_because_they_were_done_are_no_damage(spool, folder):
    await store(spool, *range(1, 12))
    spool.done(range(2, 10))
    spool.close()
    assert not (folder / files.segment_name(4)).exists()
    assert inspect(folder).damaged == []
    assert pending_in(folder) == [1, 10, 11]


async def test_a_lost_cursor_makes_everything_pending(spool, folder):
    await store(spool, *range(1, 9))
    spool.done([1, 2, 3, 5])
    spool.close()
    for name in (files.CURSOR, files.CURSOR_SYNCED):
        (folder / name).unlink(missing_ok=True)
    assert pending_in(folder) == [4, 5, 6, 7, 8]


async def test_an_unused_spool_is_empty(spool, folder):
    assert inspect(folder) == Contents(0, 0, None, [])
    assert pending_in(folder) == []


def test_what_can_not_be_read_is_said(folder):
    with pytest.raises(GatewayError, match="lane can't be read: No such file or directory"):
        inspect(folder)


async def test_a_newer_format_is_said(spool, folder):
    await store(spool, 1)
    spool.close()
    newer = files.head(files.SEGMENT_MAGIC, files.VERSION + 1)
    path = folder / files.segment_name(1)
    path.write_bytes(newer + path.read_bytes()[16:])
    with pytest.raises(GatewayError, match="of a newer gateway"):
        inspect(folder)
