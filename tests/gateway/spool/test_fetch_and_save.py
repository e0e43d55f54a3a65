"""Records by number once more, and the disk told at once what is done."""

import asyncio

import pytest

from gateway.spool import Spool


@pytest.fixture
async def spool(tmp_path):
    spool = Spool(tmp_path / "spool", max_bytes=64 * 1024)
    spool.open()
    yield spool
    spool.close()


async def append(spool, records):
    stored = asyncio.get_running_loop().create_future()
    spool.append(records, lambda first, _error: stored.set_result(first))
    return await stored


async def test_records_are_fetched_over_segments_but_for_those_that_are_done(spool):
    for number in range(1, 41):
        assert await append(spool, [b"%d" % number + bytes(1000)]) == number
    assert len(list(spool.folder.glob("*.seg"))) > 1
    spool.skip(41)
    spool.done([7])
    found = spool.fetch([3, 7, 20, 39])
    assert [(number, data.rstrip(b"\0")) for number, data in found] == [
        (3, b"3"),
        (20, b"20"),
        (39, b"39"),
    ]
    assert spool.read(10, 2**20) == []


async def test_what_is_damaged_is_left_out_and_counted_once(spool):
    for number in range(1, 4):
        await append(spool, [b"%d" % number * 100])
    spool.skip(4)
    (segment,) = spool.folder.glob("*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"2" * 100, b"x" * 100))
    for _ in range(2):
        assert [number for number, _ in spool.fetch([1, 2, 3])] == [1, 3]
    assert spool.damaged == 1


async def test_what_is_done_is_unsaved_until_the_cursor_says_so(spool):
    await append(spool, [b"a", b"b"])
    spool.skip(3)
    spool.done([1])
    saved = asyncio.Event()
    spool.save(saved.set)
    async with asyncio.timeout(10):
        await saved.wait()
    assert spool.unsaved == 0
    cursor = (spool.folder / "cursor").read_bytes()
    spool.done([2])
    assert spool.unsaved == 1
    saved.clear()
    spool.save(saved.set)
    async with asyncio.timeout(10):
        await saved.wait()
    assert spool.unsaved == 0
    assert [path.name for path in spool.folder.glob("cursor*") if path.read_bytes() != cursor]


async def test_a_save_is_answered_though_nothing_is_done(spool):
    saved = asyncio.Event()
    spool.save(saved.set)
    async with asyncio.timeout(10):
        await saved.wait()
