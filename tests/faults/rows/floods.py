"""Row 13: slow and silent connections by the thousand, and floods, beside good senders.

The attacker has an address of its own, so that limits by address leave room for the others. One of
the good senders makes a connection for each event.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from tests.e2e.servers import HOST, free_port
from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.producers.http import HttpProducer
from tests.faults.row import Context
from tests.faults.storms.process import storm
from tests.faults.storms.routes import ROUTES, SINKS

NUMBER = 13
NAME = "slow and silent connections, floods of connections and datagrams, beside good senders"
BOUND = "1000 slow ones of each kind, 5000 connects, 50000 datagrams"
SHORT_BOUND = "250 slow ones of each kind, 1000 connects, 5000 datagrams"
SECONDS = 300.0
SHORT_SECONDS = 180.0

GROWN_MIB = 30.0
LATE_SECONDS: Final = 4.0
"""How much later than its deadline a connection may be closed, on a machine that is busy."""
LONGEST_WAIT: Final = 3.0
"""For an acknowledgement to a good sender."""
PER_ADDRESS: Final = 2500

Waves = Sequence[Sequence[tuple[str, str, int]]]
"""Kind, port and count of floods that come together, one wave after the other."""


class FreshHttpProducer(HttpProducer):
    """Makes a connection for each event."""

    async def _send(self, key: str, number: int) -> float | None:
        wait = await super()._send(key, number)
        client = self._clients.pop(key, None)
        if client is not None:
            client.close()
        return wait


def _sources(tcp_port: int, timeout: str) -> dict[str, Any]:
    listen = f"{HOST}:0"
    return {
        "http": {
            "protocol": "http", "listen": listen, "header_timeout": timeout,
            "body_timeout": timeout, "keep_alive_timeout": timeout,
            "max_connections_per_address": PER_ADDRESS,
        },
        "endpoint": {"protocol": "mqtt-endpoint", "listen": listen, "connect_timeout": timeout},
        "coap": {
            "protocol": "coap", "listen": listen, "listen_tcp": f"{HOST}:{tcp_port}",
            "message_timeout": timeout, "routes": {"/ce": {"mode": "auto", "source_policy": "any"}},
        },
    }  # fmt: skip


def _waves(slow: int, many: int, datagrams: int) -> Waves:
    return [
        [
            ("slow headers", "http", slow), ("slow body", "http", slow),
            ("half a CONNECT", "endpoint", slow), ("half a CoAP message", "tcp", slow),
            ("half a CoAP CSM", "tcp", slow),
        ],
        [("silent", "http", many), ("silent", "endpoint", slow), ("silent", "tcp", slow)],
        [
            ("come and go", "http", many), ("come and go", "endpoint", many),
            ("vanish", "http", slow), ("vanish", "endpoint", slow), ("vanish", "tcp", slow),
            ("datagrams", "coap", datagrams),
        ],
    ]  # fmt: skip


async def run(context: Context) -> Figures:
    figures = Figures()
    seconds = 1.0 if context.short else 8.0
    waves = _waves(1000, 5000, 50_000)
    if context.short:
        first, second, *others = _waves(250, 1000, 5000)
        waves = [[*first, *second], *others]
    tcp_port = free_port()
    async with bench(
        context.folder, context.seed, inputs=("http", "endpoint", "coap"), rate=150,
        delivery=MODES["sink"], sources=_sources(tcp_port, f"PT{seconds:.0f}S"),
        sinks=SINKS, routes=ROUTES,
    ) as made:  # fmt: skip
        ports = {**made.gateway.ports, "tcp": tcp_port}
        fresh = made.producers["fresh"] = FreshHttpProducer(
            ports["http"], made.sample, made.ledger, name="fresh", rate=50, keys=5
        )
        made.start_load()
        await asyncio.sleep(1)
        memory, descriptors = made.gateway.anonymous_mib(), made.gateway.descriptors()
        for wave in waves:
            await _flood(made, wave, ports, seconds, figures, context.patience)
        await made.stop_load()
        grown = made.gateway.anonymous_mib() - memory
        left = await _descriptors_left(made, descriptors)
        await made.finish(figures, seconds=15 if context.short else 60)
    figures.notes.append(f"at the end: memory {grown:+.1f} MiB, {left:+d} descriptors")
    figures.require(left <= 5, f"{left} descriptors more")
    figures.require(fresh.seconds, "nobody got a new connection")
    return figures


async def _flood(
    made: Bench, wave: Sequence[tuple[str, str, int]], ports: dict[str, int], seconds: float,
    figures: Figures, patience: float,
) -> None:  # fmt: skip
    """Run floods together, and judge what the good senders had of it."""
    made.ledger.remark(", ".join(kind for kind, _, _ in wave))
    marks = {name: len(made.producers[name].seconds) for name in ("http", "coap", "fresh")}
    memory = made.gateway.anonymous_mib()
    peak = _Peak(made)
    limit = seconds + LATE_SECONDS * patience
    reports = await asyncio.gather(
        *(storm(kind, ports[port], count, seconds=limit) for kind, port, count in wave)
    )
    peak.stop()
    grown = peak.memory - memory
    waits = {name: made.producers[name].seconds[mark:] for name, mark in marks.items()}
    for (kind, port, _), report in zip(wave, reports, strict=True):
        figures.notes.append(
            f"{kind} at {port}: " + ", ".join(f"{value:g} {name}" for name, value in report.items())
        )
        left = report.get("still open", 0)
        figures.require(not left, f"{kind} at {port}: {left:g} still open after {limit:.0f} s")
    figures.notes.append(
        f"... meanwhile memory {grown:+.1f} MiB, at most {peak.descriptors} descriptors; "
        "longest wait of "
        + ", ".join(f"{name} {max(values, default=0):.2f} s" for name, values in waits.items())
    )
    figures.require(grown < GROWN_MIB, f"memory grew by {grown:.1f} MiB")
    for name, values in waits.items():
        longest = max(values, default=60.0)
        figures.require(
            longest <= LONGEST_WAIT * patience, f"{name}: a good sender waited {longest:.2f} s"
        )


class _Peak:
    """The most memory and descriptors of the gateway from now on."""

    def __init__(self, made: Bench) -> None:
        self.memory = 0.0
        self.descriptors = 0
        self._gateway = made.gateway
        self._task = asyncio.ensure_future(self._run())

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            self.memory = max(self.memory, self._gateway.anonymous_mib())
            self.descriptors = max(self.descriptors, self._gateway.descriptors())
            await asyncio.sleep(0.1)


async def _descriptors_left(made: Bench, before: int) -> int:
    for _ in range(100):
        left = made.gateway.descriptors() - before
        if left <= 0:
            break
        await asyncio.sleep(0.1)
    return left
