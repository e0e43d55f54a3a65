"""Row 5: a file system of its own that really gets full, by the spool and by somebody else."""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tests.e2e.servers import HOST
from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.gateway_process import GatewayProcess
from tests.faults.launched import LaunchedGateway
from tests.faults.producers.coap import ask
from tests.faults.producers.producer import OneAtATime
from tests.faults.row import Context
from tests.faults.sink import Fault, no_fault

NUMBER = 5
NAME = "full disk: by the spool to its floor, by another process to 0 bytes"
BOUND = "tmpfs of 32 MiB, both acknowledgement modes, kill -9 on the full disk"
SHORT_BOUND = "tmpfs of 16 MiB with 1 MiB of room, ack: stored"
SECONDS = 600.0
SHORT_SECONDS = 180.0

DELIVERY = {
    "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S", "retry": 1000,
}  # fmt: skip
FLOOR_SHARE = 0.05
"""The gateway leaves as much of the disk alone."""
AGAIN_SECONDS = 1.0
FEW = 60
"""Events that wait for room among the dead letters."""
DIRECT = ("http", "coap")
_MIB = 1 << 20
_REFUSAL = Fault("status", 400)


def choose(key: str, number: int) -> Fault | None:
    """Refuse a few for good: dead letters share the disk."""
    return _REFUSAL if zlib.crc32(f"{key}/{number}".encode()) % 200 == 0 else None


class SmallSegments(LaunchedGateway):
    """Room comes back soon; with the product's own size it comes when all is delivered."""

    segment_bytes = 1 << 20
    has_attic = False


async def run(context: Context) -> Figures:
    figures = Figures()
    modes = ["stored"] if context.short else list(MODES)
    for offset, mode in enumerate(modes):
        place = context.folder / f"disk-{mode}"
        place.mkdir(parents=True)
        async with _mounted(place, 16 if context.short else 32) as error:
            if error:
                figures.skipped = f"no tmpfs can be mounted here: {error}"
                return figures
            await _run_mode(context, mode, offset, place, figures)
    return figures


@contextlib.asynccontextmanager
async def _mounted(place: Path, mebibytes: int) -> AsyncIterator[str]:
    """Mount an empty file system; yields why it can't be done, or ""."""
    options = f"size={mebibytes}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        made = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    except OSError as error:
        yield str(error)
        return
    if made.returncode:
        yield made.stderr.strip()
        return
    try:
        yield ""
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(place)], check=False)


async def _run_mode(
    context: Context, mode: str, offset: int, place: Path, figures: Figures
) -> None:
    async with bench(
        context.folder / mode, context.seed + offset, inputs=("http", "endpoint", "coap", "mqtt"),
        rate=1200, keys=40, delivery=MODES[mode] | DELIVERY,
        process=GatewayProcess if offset else SmallSegments,
        state={"path": str(place / "state"), "max_bytes": "1GiB"},
    ) as made:  # fmt: skip
        made.sink.choose = choose
        ballast = Ballast(place / "ballast")
        if context.short:
            total = os.statvfs(place)
            free = total.f_bavail * total.f_frsize
            ballast.write(free - int(16 * _MIB * FLOOR_SHARE) - _MIB)
        made.start_load()
        await asyncio.sleep(0.5)
        await made.sink.close()
        await _until(lambda: _is(made, "ce_gateway_spool_full"), 90)
        left = _free(place)
        figures.require(left > 0, "the spool has filled the disk to the last byte")
        figures.require(
            "have to stay free, and only" in made.gateway.log, "the log does not say why it is full"
        )
        await _see_refusals(made, figures)
        ballast.fill()
        figures.require(_free(place) == 0, f"{_free(place)} bytes are still free")
        await _see_refusals(made, figures)
        if not context.short:
            await made.kill()
            await made.restart()
            await _see_refusals(made, figures)
        waiting, loop = await _spooled(made), asyncio.get_running_loop()
        # What is refused now can become no dead letter until there is room: keys wait behind it.
        made.sink.choose = no_fault
        await made.sink.open()
        began = loop.time()
        await _until(lambda: _has_drained(made), 60)
        drained = loop.time() - began
        figures.require(await _has_drained(made), "it does not drain while the disk is full")
        took = await _accepts_again(made)
        figures.require(
            took < AGAIN_SECONDS * context.patience,
            f"it accepts again {took:.1f} s after it has drained",
        )
        ballast.remove()
        made.sink.choose = choose
        await _until(lambda: _is(made, "ce_gateway_spool_full", 0), 10)
        figures.require(
            await _is(made, "ce_gateway_spool_full", 0), "still full when there is room again"
        )
        await asyncio.sleep(0.5)
        await made.finish(figures)
    figures.notes.append(
        f"ack: {mode}: full with {left} bytes free; {waiting:.0f} waiting drained in "
        f"{drained:.1f} s at 0 bytes free, accepted again after {took:.2f} s more"
    )


class Ballast:
    """What another process has on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, size: int) -> None:
        with self._path.open("ab", buffering=0) as file:
            while size > 0:
                size -= file.write(bytes(min(size, _MIB)))

    def fill(self) -> None:
        """Take the last byte."""
        step = _MIB
        while step:
            try:
                self.write(step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2

    def remove(self) -> None:
        self._path.unlink()


def _free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


async def _see_refusals(made: Bench, figures: Figures) -> None:
    """See for a second that nobody is acknowledged, and that each is told so."""
    await asyncio.sleep(0.3)
    before = _answered(made)
    status, retry_after = await asyncio.to_thread(_post, made)
    figures.require(
        status == 503 and retry_after, f"HTTP is answered {status}, Retry-After {retry_after}"
    )
    code = await ask(made.gateway.ports["coap"])
    figures.require(code == "5.03", f"CoAP is answered {code}")
    await asyncio.sleep(0.7)
    more = _answered(made) - before
    figures.require(not more, f"{more} acknowledged while the disk is full and the sink down")


def _answered(made: Bench) -> int:
    senders = [made.producers[name] for name in DIRECT]
    return sum(len(sender.seconds) for sender in senders if isinstance(sender, OneAtATime))


def _post(made: Bench) -> tuple[int, str | None]:
    """Post an event that must not be taken; returns status and Retry-After."""
    event = {"specversion": "1.0", "id": "refused", "source": "/probe", "type": "probe"}
    connection = http.client.HTTPConnection(HOST, made.gateway.ports["http"], timeout=10)
    with contextlib.closing(connection):
        connection.request(
            "POST", "/", json.dumps(event), {"Content-Type": "application/cloudevents+json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.getheader("Retry-After")


async def _until(is_so: Callable[[], Awaitable[bool]], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await is_so() and loop.time() < deadline:
        await asyncio.sleep(0.05)


async def _is(made: Bench, metric: str, value: float = 1) -> bool:
    metrics = await made.gateway.metrics()
    return all(found == value for name, found in metrics.items() if name.startswith(metric))


async def _has_drained(made: Bench) -> bool:
    """Whether the spool is empty but for what has to become a dead letter."""
    return await _spooled(made) < FEW


async def _spooled(made: Bench) -> float:
    metrics = await made.gateway.metrics()
    return sum(value for name, value in metrics.items() if name.startswith("ce_gateway_spool_ev"))


async def _accepts_again(made: Bench) -> float:
    loop = asyncio.get_running_loop()
    before, began = _answered(made), loop.time()
    while _answered(made) == before and loop.time() < began + 10:
        await asyncio.sleep(0.01)
    return loop.time() - began
