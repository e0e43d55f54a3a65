"""Row 17: no fault but load: how long a sender waits with `ack: stored`.

Sender and sink are processes of their own, for a ledger of so many events a second would be the
limit. What was acknowledged is compared with what arrived, event by event, all the same.
"""

import asyncio
import contextlib
from pathlib import Path

from tests.benchmarks.counting_sink import counting_sink
from tests.benchmarks.load import run_load
from tests.benchmarks.process import cpu_seconds
from tests.benchmarks.stored import RATE, WAYS, Way, config_of
from tests.faults.figures import Figures
from tests.faults.gateway_process import GatewayProcess
from tests.faults.row import Context

NUMBER = 17
NAME = "ack: stored at 5000 events/s"
BOUND = "30 s over HTTP, 30 s over MQTT"
SHORT_BOUND = None
SECONDS = 180.0
SHORT_SECONDS = 180.0

P99_MS = 20.0


async def run(context: Context) -> Figures:
    figures = Figures()
    for way in WAYS[:2]:  # an event at a time
        folder = context.folder / way.kind
        folder.mkdir()
        await _run_way(way, folder, 3.0 if context.short else 30.0, figures)
    return figures


async def _run_way(way: Way, folder: Path, seconds: float, figures: Figures) -> None:
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(counting_sink(folder))
        gateway = GatewayProcess(folder / "gateway", config_of(way, "stored", 0, sink.port))
        stack.callback(gateway.kill_if_running)
        await gateway.up()
        before = cpu_seconds(gateway.pid)
        report = await asyncio.to_thread(
            run_load, way.kind, gateway.ports["in"], rate=RATE, seconds=seconds,
            connections=way.connections, acked=folder / "acked",
        )  # fmt: skip
        await _until_empty(gateway)
        cpu = (cpu_seconds(gateway.pid) - before) / report["sent"] * 1e6
        figures.rss_mib = max(figures.rss_mib, gateway.memory_mib())
        await gateway.terminate()
        figures.require(gateway.returncode == 0, f"exit code {gateway.returncode} at the end")
        for traceback in gateway.complaints()[:3]:
            figures.problems.append(f"traceback in the gateway's log:\n{traceback}")
        arrivals, counts = sink.stop()
    acked = (folder / "acked").read_bytes()
    arrived = counts.ljust(len(acked), b"\0")
    lost = [number for number, one in enumerate(acked) if one and not arrived[number]]
    figures.events += report["sent"]
    figures.lost += len(lost)
    figures.corrupted += arrivals["corrupted"]
    figures.reordered += arrivals["reordered"]
    figures.own_duplicates += arrivals["duplicates"]
    name = way.name
    figures.notes.append(
        f"{name}: {report['rate']:.0f} events/s, acknowledged within {report['p50']:.1f} ms (p50), "
        f"{report['p99']:.1f} ms (p99), {report['p999']:.1f} ms (p99.9), "
        f"{report['longest']:.0f} ms (most); {cpu:.0f} us CPU per event; "
        f"the sender itself was up to {report['late']:.1f} ms late (p99)"
    )
    figures.require(not lost, f"{name}: LOST {len(lost)}, first {lost[:3]}")
    for what in ("corrupted", "reordered", "duplicates"):
        count = arrivals[what]
        figures.require(not count, f"{name}: {count} {what}")
    figures.require(report["acked"] == report["sent"], f"{name}: {report['acked']} acknowledged")
    figures.require(
        report["rate"] >= 0.95 * RATE, f"{name}: only {report['rate']:.0f} events/s were taken"
    )
    figures.require(
        report["p99"] <= P99_MS, f"{name}: p99 {report['p99']:.1f} ms, at most {P99_MS:.0f} ms"
    )


async def _until_empty(gateway: GatewayProcess) -> None:
    """Wait until the sink has everything; what is missing after a minute is counted as lost."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 60
    while loop.time() < deadline:
        metrics = await gateway.metrics()
        held = ("ce_gateway_inflight{", "ce_gateway_spool_events{")
        if not any(value for name, value in metrics.items() if name.startswith(held)):
            return
        await asyncio.sleep(0.05)
