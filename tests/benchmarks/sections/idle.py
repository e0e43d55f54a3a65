"""Resident memory of the MQTT endpoint with many devices that are connected and say nothing."""

import asyncio
import contextlib
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.benchmarks.contender import Addresses, Course
from tests.benchmarks.machine import markdown
from tests.benchmarks.options import Options
from tests.benchmarks.processes import usage
from tests.benchmarks.worker import Worker, options, say, told
from tests.e2e.servers import HOST, free_port
from tests.faults.producers.mqtt import text, varint

TITLE: Final = "Idle devices"
_FILES: Final = 65_536
_AT_ONCE: Final = 200
_KEEP_ALIVE: Final = 3600


def measure(chosen: Options) -> dict[str, Any]:
    """Return resident memory before and with them."""
    _many_files()
    runs = []
    for contender in chosen.gateways():
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            port = free_port()
            addresses = Addresses(f"mqtt://{HOST}:{port}", port, sink_url=f"http://{HOST}:9/")
            course = Course("mqtt-endpoint", "http")
            running = contender.start(course, addresses, Path(folder))
            stack.callback(running.stop)
            while not running.is_ready():
                time.sleep(0.05)
            before = usage(running.pids).mib
            devices = Worker(__name__, port=port, count=chosen.devices)
            stack.callback(devices.end)
            connected = devices.ready(300)["connected"]
            time.sleep(1)
            after = usage(running.pids).mib
            runs.append(
                {"name": contender.name, "devices": connected, "before": before, "after": after}
            )
    return {"runs": runs}


def render(data: dict[str, Any]) -> str:
    """Return the table."""
    rows = [
        (
            run["name"],
            str(run["devices"]),
            f"{run['before']:.1f}",
            f"{run['after']:.1f}",
            f"{(run['after'] - run['before']) * 1024 / max(run['devices'], 1):.1f}",
        )
        for run in data["runs"]
    ]
    header = ("variant", "devices", "MiB without", "MiB with them", "KiB per device")
    return markdown(header, rows)


def draw(data: dict[str, Any], folder: Path) -> None:
    """Nothing to draw."""


class _Device(asyncio.Protocol):
    def __init__(self, name: str) -> None:
        self._name = name
        self.connected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        body = text("MQTT") + b"\x05\x02" + _KEEP_ALIVE.to_bytes(2, "big") + b"\x00"
        body += text(self._name)
        transport.write(b"\x10" + varint(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        if not self.connected.done():
            self.connected.set_result(data[0] == 0x20 and data[3] == 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_result(False)


async def _connect(port: int, count: int) -> None:
    loop, connected = asyncio.get_running_loop(), 0
    end = told()
    for first in range(0, count, _AT_ONCE):
        devices = [_Device(f"device-{n}") for n in range(first, min(first + _AT_ONCE, count))]
        await asyncio.gather(
            *(loop.create_connection(lambda d=device: d, HOST, port) for device in devices)
        )
        connected += sum(await asyncio.gather(*(device.connected for device in devices)))
    say(connected=connected)
    await end


def _many_files() -> None:
    """Raise the limit of open files; the processes that follow inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    _many_files()
    uvloop.run(_connect(**options()))
