"""The spool on real disks, with its thread: two processes, kills, a full file system."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.spool import Found, Spool, StoreError, files
from gateway.spool.disk import Disk

ROOT = Path(__file__).parents[3]


@pytest.fixture
def make(tmp_path):
    """Make opened spools, which are closed in the end."""
    made = []

    def make(folder=tmp_path / "lane", **options):
        options = {"max_bytes": 1 << 26, "min_free_share": 0.0} | options
        spool = Spool(folder, **options)
        made.append(spool)
        spool.found = spool.open()
        return spool

    yield make
    for spool in made:
        spool.close()


async def store(spool, *records):
    """Append, and wait for the first number."""
    answer = asyncio.get_running_loop().create_future()

    def on_stored(first, error):
        assert threading.current_thread() is threading.main_thread()
        if error is None:
            answer.set_result(first)
        else:
            answer.set_exception(error)

    spool.append(list(records), on_stored)
    return await answer


async def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_what_is_stored_is_there_in_the_next_life(make, tmp_path):
    spool = make()
    assert spool.found == Found(0, 0, 0, upgraded=False)
    assert await store(spool, b"a", b"b") == 1
    assert await store(spool, b"c") == 3
    assert spool.read(9, 1 << 20) == [(1, b"a"), (2, b"b"), (3, b"c")]
    spool.done([1, 3])
    spool.close()
    spool = make()
    assert spool.found == Found(1, 16 + 3 * 21, 0, upgraded=False)
    assert spool.read(9, 1 << 20) == [(2, b"b")]
    assert (tmp_path / "lane").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "lane").iterdir()} == {0o600}


async def test_many_lists_come_back_in_order(make):
    spool = make(segment_bytes=1 << 16)
    firsts = await asyncio.gather(*(store(spool, *[b"%d" % n * 40] * 3) for n in range(1000)))
    assert firsts == list(range(1, 3001, 3))
    found = []
    while some := spool.read(100, 1 << 14):
        found += some
    assert [sequence for sequence, _ in found] == list(range(1, 3001))
    assert [record for _, record in found[::3]] == [b"%d" % n * 40 for n in range(1000)]
    spool.done(range(1, 3001))
    await until(lambda: spool.bytes == 16)


async def test_the_cursor_is_there_within_a_moment_and_without_closing(make, tmp_path):
    spool = make()
    await store(spool, *[b"x"] * 10)
    spool.done(number for number, _ in spool.read(4, 1 << 20))
    await until((tmp_path / "lane" / files.CURSOR).exists)
    spool.done(number for number, _ in spool.read(5, 1 << 20))
    copy = tmp_path / "copy"

    def is_kept():
        subprocess.run(["cp", "-rT", tmp_path / "lane", copy], check=True)
        other = make(copy)
        other.close()
        return other.found.pending == 1

    await until(is_kept)


class TimedDisk(Disk):
    """A disk whose clock is put forward by hand."""

    now = 0.0

    def clock(self):
        return self.now


async def test_what_is_kept_goes_in_time_though_nothing_happens(make, tmp_path):
    disk = TimedDisk()
    spool = make(segment_bytes=1 << 12, keep_seconds=0.3, disk=disk)
    for _ in range(9):
        await store(spool, bytes(1000))
    spool.done(number for number, _ in spool.read(100, 1 << 20))
    await until((tmp_path / "lane" / files.CURSOR_SYNCED).exists)  # all that there was to do
    assert sum(map(len, spool.retained())) == 9
    assert spool.retained_bytes > 6000
    disk.now = 0.3
    await until(lambda: spool.bytes == 16)
    assert list(spool.retained()) == []


async def test_the_next_life_knows_how_old_the_kept_segments_are(make, tmp_path):
    spool = make(segment_bytes=1 << 12, keep_seconds=3600)
    for _ in range(9):
        await store(spool, bytes(1000))
    spool.done(number for number, _ in spool.read(100, 1 << 20))
    spool.close()
    oldest, *_ = sorted((tmp_path / "lane").glob("*.seg"))
    hour_ago = time.time() - 3601
    os.utime(oldest, (hour_ago, hour_ago))
    spool = make(segment_bytes=1 << 12, keep_seconds=3600)
    assert (spool.found.pending, sum(map(len, spool.retained()))) == (0, 5)


async def test_two_spools_never_share_a_folder(make, tmp_path):
    make()
    with pytest.raises(GatewayError, match=f"lane is in use by process {os.getpid()}$"):
        make()
    script = (
        "import sys; from pathlib import Path; from gateway.spool import Spool; "
        "Spool(Path(sys.argv[1]), max_bytes=1 << 20).open()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lane")]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.stderr.strip().endswith(f"lane is in use by process {os.getpid()}")


async def test_a_closed_spool_lets_its_folder_go(make):
    spool = make()
    spool.close()
    spool.close()
    make()


async def test_a_folder_that_can_not_be_made_is_said(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GatewayError, match="file/lane can't be used: Not a directory"):
        make(tmp_path / "file" / "lane")


async def test_close_gives_every_answer_before_it_returns(make):
    spool = make()
    answers = []
    for _ in range(50):
        spool.append([b"x" * 1000], lambda first, error: answers.append((first, error)))
    spool.close()
    assert answers == [(number, None) for number in range(1, 51)]


async def test_nobody_waits_for_a_thread_that_a_bug_has_ended(make, monkeypatch):
    spool = make()
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    monkeypatch.setattr(spool._writer._tail, "append", None)
    answers = []
    spool.append([b"a"], lambda first, error: answers.append(error))
    await until(lambda: spool._writer._is_stopped)
    spool.append([b"b"], lambda first, error: answers.append(error))
    await until(lambda: len(answers) == 2)
    assert {str(error) for error in answers} == {"the spool is closed"}
    assert len(seen) == 1


def run_victim(folder, ledger, seed, growth):
    """Run a victim, and kill it wherever it is when it has written so much into its ledger."""
    command = [sys.executable, "-m", "tests.gateway.spool.victim", folder, ledger, str(seed)]
    enough = ledger.stat().st_size + growth
    victim = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        while ledger.stat().st_size < enough:
            assert victim.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()


async def test_a_killed_process_has_lost_nothing_that_it_acknowledged(make, tmp_path):
    rng = random.Random(7)
    ledger, folder = tmp_path / "ledger", tmp_path / "lane"
    ledger.touch()
    for life in range(1, 9):
        run_victim(folder, ledger, life, rng.randrange(1, 400_000))
    stored, done, reads, lives = set(), set(), [], 0
    for line in ledger.read_text().splitlines():
        if not line.endswith("."):
            continue
        word, number = line[:-1].split()
        if word == "open":
            lives += 1
            reads.append([])
        elif word == "stored":
            stored.add(int(number))
        elif word == "done":
            done.add(int(number))
        else:
            reads[-1].append(int(number))
    spool = make(folder)
    found = []
    while some := spool.read(1000, 1 << 20):
        found += some
    rest = [int(record.partition(b":")[0]) for _, record in found]
    assert all(set(record.partition(b":")[2]) <= {ord("x")} for _, record in found)
    assert lives == 8
    assert len(stored) > 5000
    assert len(done) > 1000
    assert stored - done - set(rest) == set()
    # Numbers ascend over the lives, so order is order; each comes once a life.
    assert all(life == sorted(set(life)) for life in [*reads, rest])
    assert spool.damaged == 0
    assert len(rest) < len(stored)


@pytest.fixture
def small(tmp_path):
    """A real file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("can't mount here; test_trouble.py has the simulated disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def fill(spool):
    """Store until there is no room; return how many records fitted."""
    for count in range(0, 10_000, 20):
        try:
            await store(spool, *[bytes(1000)] * 20)
        except StoreError as error:
            if not error.full:
                raise
            return count
    raise AssertionError("it is never full")


async def test_a_really_full_disk_is_survived_without_a_restart(make, small):
    spool = make(small / "lane", max_bytes=1 << 30, segment_bytes=1 << 18)
    room = asyncio.Event()
    spool.on_room = room.set
    count = await fill(spool)
    assert count * 1020 > 1_500_000
    # And now somebody else takes the rest.
    with (small / "other").open("wb", 0) as other, contextlib.suppress(OSError):
        while other.write(bytes(4096)):
            pass
    assert os.statvfs(small).f_bavail == 0
    assert spool.is_full
    found = spool.read(10_000, 1 << 30)
    assert [number for number, _ in found] == list(range(1, count + 1))
    spool.done(number for number, _ in found)
    await asyncio.wait_for(room.wait(), 5)
    assert not spool.is_full
    assert await store(spool, b"more") == count + 1
    assert spool.read(9, 1 << 20) == [(count + 1, b"more")]
    spool.close()
    spool = make(small / "lane")
    assert spool.read(9, 1 << 20) == [(count + 1, b"more")]


async def test_the_share_that_others_need_stays_free(make, small):
    spool = make(small / "lane", max_bytes=1 << 30, segment_bytes=1 << 18, min_free_share=0.25)
    await fill(spool)
    free = os.statvfs(small)
    assert 0.25 <= free.f_bavail / free.f_blocks < 0.28
