"""Row 3: the power goes; what was not synced is gone, zero or garbage. And a bit that flips."""

import asyncio
import logging
import re
import shutil
import struct
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random

from gateway import stored_event
from gateway.spool import Spool
from tests.faults import platter
from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.launched import LaunchedGateway, count_kill, launched
from tests.faults.row import Context
from tests.faults.sample import Sample, split_id
from tests.faults.sink import RandomFaults

logging.getLogger("gateway").addHandler(logging.NullHandler())  # torn ends are what we make here

NUMBER = 3
NAME = "power cut at any call of the disk, and one bit flipped"
BOUND = "200 cuts of a running gateway, 400 more of copies of its folder; 20 bits"
SHORT_BOUND = "3 cuts of a running gateway, 9 more of copies; 1 bit"
SECONDS = 1500.0
SHORT_SECONDS = 180.0

DELIVERY = {
    "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S", "retry": 1000,
}  # fmt: skip
MAX_CALLS = 120
"""Calls of the disk, counted before and after each, until the power goes."""
_HEAD = struct.Struct("<4sIIQ")
_FILE_HEAD_BYTES = 16
_EVENT_ID = re.compile(rb"(?:http|endpoint)-\d\d-\d+")


async def run(context: Context) -> Figures:
    figures = Figures()
    cuts, copies, bits = (3, 3, 1) if context.short else (200, 2, 20)
    tried = 0
    for number, mode in enumerate(MODES):
        part = cuts * (number + 1) // len(MODES) - cuts * number // len(MODES)
        async with _bench(context, mode, mode, number) as made:
            made.start_load()
            for _ in range(part):
                tried += await _cut(made, copies, figures)
            made.sink.choose = RandomFaults(made.chance, {})
            await made.finish(figures, seconds=20)
        if figures.problems and context.short:
            break
    figures.notes.append(f"{tried} power-cut points: {figures.lost} lost of {figures.events} sent")
    await _flip_bits(context, bits, figures)
    return figures


def _bench(
    context: Context, name: str, mode: str, offset: int
) -> AbstractAsyncContextManager[Bench]:
    return bench(
        context.folder / name, context.seed + offset, inputs=("http", "endpoint"), rate=500,
        delivery=MODES[mode] | DELIVERY, process=LaunchedGateway, state={"max_bytes": "16MiB"},
    )  # fmt: skip


async def _cut(made: Bench, copies: int, figures: Figures) -> int:
    """Cut the power once; go on with one of the folders that may be left, and try others."""
    gateway, chance = launched(made), made.chance
    made.sink.choose = RandomFaults(chance, {"503": chance.choice((0.05, 0.5, 1.0))})
    gateway.order(crash={"point": "any", "hit": chance.randint(1, MAX_CALLS)})
    if not await gateway.has_ended(20):
        figures.problems.append("the power did not go")
        return 0
    count_kill(made)
    gateway.order(crash=None)
    left = platter.read(gateway.journal(), gateway.lane)
    await asyncio.sleep(0.05)  # for acknowledgements that are in sockets
    place = gateway.folder / "cut"
    for number in range(copies):
        platter.leave(left, gateway.attic, place, None if number == 0 else chance)
        await _check(made, place, figures)
        shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(gateway.lane)
    platter.leave(left, gateway.attic, gateway.lane, chance)
    await made.restart()
    return copies + 1


async def _check(made: Bench, folder: Path, figures: Figures) -> None:
    """Open a folder that a cut has left, and look for all that was acknowledged."""
    found, newest, spoilt = set(), {}, []
    for key, number, difference in await _recovered(folder, made.sample):
        if difference:
            spoilt.append(difference)
        if (key, number) not in found and number < newest.get(key, -1):
            spoilt.append(f"{key}-{number} after {newest[key]}")
        found.add((key, number))
        newest[key] = max(number, newest.get(key, -1))
    account = made.ledger.account
    missing = [event for event in account.missing() if event not in found]
    figures.lost += len(missing)
    figures.require(not missing, f"LOST in a copy: {missing[:5]}")
    figures.require(not spoilt, f"wrong in a copy: {spoilt[:3]}")


async def _recovered(folder: Path, sample: Sample) -> list[tuple[str, int, str]]:
    """Return key and number of each pending event, and how it differs from what was sent."""
    spool = Spool(folder, max_bytes=1 << 24, min_free_share=0.0)
    spool.open()
    found = []
    try:
        while records := spool.read(1000, 1 << 22):
            for _, record in records:
                event = stored_event.decode(record).event
                attributes = {name: str(value) for name, value in event.attributes().items()}
                difference = sample.difference(attributes, event.data or b"")
                key, number = split_id(event.id) or ("", 0)
                found.append((key, number, difference))
    finally:
        spool.close()
    return found


async def _flip_bits(context: Context, bits: int, figures: Figures) -> None:
    """Flip a bit of what waits, and see that only the event it belongs to is missed."""
    async with _bench(context, "bits", "stored", len(MODES)) as made:
        made.start_load()
        for _ in range(bits):
            await made.sink.close()
            await asyncio.sleep(1)
            for producer in made.producers.values():
                producer.pause()
            await asyncio.sleep(0.2)  # for answers that are under way
            await made.kill()
            waiting = set(made.ledger.account.missing())
            key, number, where = _flip(launched(made), waiting, made.chance)
            await made.sink.open()
            began = len(made.gateway.log)
            await made.restart()
            await _settle_but_one(made)
            missing = list(made.ledger.account.missing())
            figures.require(
                missing == [(key, number)],
                f"{key}-{number} was damaged at {where}, and these are missing: {missing[:5]}",
            )
            metrics = await made.gateway.metrics()
            damaged = sum(
                value
                for name, value in metrics.items()
                if name.startswith("ce_gateway_spool_damaged_total")
            )
            figures.require(damaged == 1, f"{damaged:.0f} damaged events counted, not 1")
            said = made.gateway.log[began:].count(f"{where} is damaged: 1 records lost")
            figures.require(said == 1, f"the log says {said} times that {where} is damaged")
            # It was reported: nobody looks for it any more.
            made.ledger.condemn(key, number, 0)
            made.ledger.dead_letter(key, number, "damaged")
            for producer in made.producers.values():
                producer.resume()
        await made.finish(figures, seconds=20)
    figures.notes.append(f"{bits} bits flipped in stored events: each cost the event it was in")


def _flip(
    gateway: LaunchedGateway, missing: set[tuple[str, int]], chance: Random
) -> tuple[str, int, str]:
    """Flip a bit of an event that waits; returns its key, its number and the file's name."""
    found = [
        (path, start, end, event)
        for path in sorted(gateway.lane.glob("*.seg"))
        for start, end, event in _records(path)
        if event in missing
    ][:-1]  # damage in the last one can't be told from the torn end of a write
    path, start, end, (key, number) = chance.choice(found)
    data = bytearray(path.read_bytes())
    data[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return key, number, path.name


def _records(path: Path) -> Iterable[tuple[int, int, tuple[str, int] | None]]:
    """Yield where each record of a segment begins and ends, and its event (docs/reliability.md)."""
    data = path.read_bytes()
    at = _FILE_HEAD_BYTES
    while at < len(data):
        marker, _, length, _ = _HEAD.unpack_from(data, at)
        assert marker == b"\xf1CEr", f"no record at {at} of {path}"
        end = at + _HEAD.size + length
        event = _EVENT_ID.search(data, at, end)
        yield at, end, split_id(event[0].decode()) if event else None
        at = end


async def _settle_but_one(made: Bench) -> None:
    """Wait until the gateway holds nothing any more, and one event is missing or none."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while loop.time() < deadline:
        if made.ledger.account.outstanding <= 1 and not await made.held():
            return
        await asyncio.sleep(0.02)
