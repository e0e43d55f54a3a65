"""The whole process on loopback: start-up, memory, CPU per event.

Only the gateway's own CPU time is counted (user and system time of its process, all threads). The
load comes from `ce-gateway send` in a process of its own, with acknowledgements; brokers and sinks
are processes of their own too. With two cores shared by all of them, events per second say less
than CPU per event.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nats
import yaml

from tests.benchmarks.machine import spread, table
from tests.e2e.servers import MissingError, Mosquitto, NatsServer, free_port, make_kafka
from tests.helpers import make_certificates

ROUNDS = 3
COUNT = 10_000
TICKS = os.sysconf("SC_CLK_TCK")
GATEWAY = (sys.executable, "-m", "gateway")
SENT = re.compile(rb"^ce_gateway_sent_total\{.*\} (\d+)", re.MULTILINE)

SINK = r"""
import asyncio, sys, httptools, uvloop

class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data):
        self.parser.feed_data(data)
    def on_message_complete(self):
        self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

async def main():
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

uvloop.run(main())
"""


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> float:
    """Return resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def get(port: int, target: str) -> tuple[int, bytes]:
    """Return status and body; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=5) as answer:
            return answer.status, answer.read()
    except OSError:
        return 0, b""


class Running:
    """A gateway process."""

    def __init__(self, pid: int, admin: int, ready_seconds: float) -> None:
        self.pid = pid
        self.admin = admin
        self.ready_seconds = ready_seconds

    def sent(self) -> int:
        """Return how many events sinks have taken since the start."""
        return sum(int(count) for count in SENT.findall(get(self.admin, "/metrics")[1]))

    def until_sent(self, count: int) -> None:
        """Wait until sinks have taken so many events.

        Raises:
            RuntimeError: they did not within a minute.
        """
        deadline = time.monotonic() + 60
        while (sent := self.sent()) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {sent} of {count} events arrived")
            time.sleep(0.02)


@contextlib.contextmanager
def gateway(config: Mapping[str, object]) -> Iterator[Running]:
    """Run a gateway until the end of the block."""
    admin = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gateway.yaml")
        own = {"admin": {"listen": f"127.0.0.1:{admin}"}, "state": {"path": f"{folder}/state"}}
        file.write_text(yaml.safe_dump({**own, **config}))
        command = [*GATEWAY, "run", str(file), "--log-level", "warning"]
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                while get(admin, "/readyz")[0] != 200:
                    if process.poll() is not None or time.monotonic() > started + 30:
                        raise RuntimeError("the gateway did not become ready")
                    time.sleep(0.01)
                yield Running(process.pid, admin, time.monotonic() - started)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@contextlib.contextmanager
def http_sink() -> Iterator[int]:
    """Run a sink that answers 202 to everything; yields its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", SINK, str(port)]) as process:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()


def load(url: str, *options: str) -> dict[str, float]:
    """Send COUNT events and return what `ce-gateway send --json` says of it."""
    command = [*GATEWAY, "send", url, "-n", str(COUNT), "--size", "200", "--devices", "200"]
    command += ["--subject", "room-1", "-e", "partitionkey=dev1", "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def run() -> None:
    """Print the tables."""
    _memory()
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        sink = stack.enter_context(http_sink())
        sinks: dict[str, Mapping[str, object]] = {
            "event log": {"protocol": "log"},
            "HTTP, structured": {"protocol": "http", "url": f"http://127.0.0.1:{sink}/"},
        }
        servers: dict[str, int] = {}
        for server_class in (Mosquitto, NatsServer):
            path = Path(folder, server_class.name)
            path.mkdir()
            servers[server_class.name] = stack.enter_context(server_class(path)).port
        asyncio.run(_make_streams(servers["nats-server"]))
        sinks["JetStream, structured"] = {
            "protocol": "nats",
            "url": f"nats://127.0.0.1:{servers['nats-server']}",
            "subject": "out.events",
        }
        try:
            path = Path(folder, "kafka")
            path.mkdir()
            kafka = stack.enter_context(make_kafka(path, make_certificates(path)))
            print(f"\nKafka: {kafka.kind}.")
            sinks["Kafka, structured"] = {
                "protocol": "kafka",
                "bootstrap_servers": kafka.bootstrap_servers,
                "topic": kafka.create_topic("bench"),
            }
        except MissingError as missing:
            print(f"\nWithout Kafka: {missing}")
        _paths(servers, sinks)


async def _make_streams(port: int) -> None:
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    streams = connection.jetstream()
    for name in ("IN", "OUT"):
        await streams.add_stream(name=name, subjects=[f"{name.lower()}.>"], storage="memory")
    await connection.close()


def _memory() -> None:
    web = {"protocol": "http", "listen": f"127.0.0.1:{free_port()}"}
    base: dict[str, object] = {
        "sources": {"web": web},
        "sinks": {"log": {"protocol": "log"}},
        "routes": [{"to": ["log"]}],
    }
    everything = {
        **base,
        "sources": {
            "web": web,
            "field": {"protocol": "coap", "listen": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"},
            "devices": {"protocol": "mqtt-endpoint", "listen": f"127.0.0.1:{free_port()}"},
        },
        "sinks": {
            "log": {"protocol": "log"},
            "http": {"protocol": "http", "url": "http://127.0.0.1:9/"},
        },
    }
    rows = []
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        brokers = {}
        for server_class in (Mosquitto, NatsServer):
            path = Path(folder, server_class.name)
            path.mkdir()
            brokers[server_class.name] = stack.enter_context(server_class(path)).port
        everything["sources"] = {
            **everything["sources"],  # type: ignore[dict-item]
            "plant": {
                "protocol": "mqtt",
                "url": f"mqtt://127.0.0.1:{brokers['mosquitto']}",
                "client_id": "bench",
                "subscribe": [{"topic": "plant/#", "qos": 1}],
            },
            "bus": {
                "protocol": "nats",
                "url": f"nats://127.0.0.1:{brokers['nats-server']}",
                "subjects": ["events.>"],
            },
        }
        everything["sinks"] = {
            **everything["sinks"],  # type: ignore[dict-item]
            "kafka": {"protocol": "kafka", "bootstrap_servers": "127.0.0.1:9", "topic": "t"},
            "nats": {
                "protocol": "nats",
                "url": f"nats://127.0.0.1:{brokers['nats-server']}",
                "subject": "out",
            },
        }
        configs = {"HTTP source, event log": base, "every source and every sink": everything}
        for name, config in configs.items():
            idle, ready, busy = [], [], []
            for _ in range(ROUNDS):
                with gateway(config) as running:
                    ready.append(running.ready_seconds)
                    idle.append(memory_mib(running.pid))
                    load(f"http://{web['listen']}/", "--concurrency", "64")
                    busy.append(memory_mib(running.pid))
            rows.append((name, spread(ready, 2), spread(idle), spread(busy)))
    header = ("configuration", "ready, s", "idle, MiB resident", f"after {COUNT} events, MiB")
    table(header, rows)


def _paths(servers: Mapping[str, int], sinks: Mapping[str, Mapping[str, object]]) -> None:
    http, mqtt, coap = free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    broker, bus = servers["mosquitto"], servers["nats-server"]
    ways: dict[str, tuple[Mapping[str, object], Sequence[str]]] = {
        "HTTP": (
            {"protocol": "http", "listen": f"127.0.0.1:{http}"},
            (f"http://127.0.0.1:{http}/", "--concurrency", "64"),
        ),
        "MQTT 5 endpoint, QoS 1": (
            {"protocol": "mqtt-endpoint", "listen": f"127.0.0.1:{mqtt}"},
            (f"mqtt://127.0.0.1:{mqtt}/plant/temp", "--concurrency", "256"),
        ),
        "MQTT 5 from mosquitto, QoS 1": (
            {
                "protocol": "mqtt",
                "url": f"mqtt://127.0.0.1:{broker}",
                "client_id": "bench",
                "subscribe": [{"topic": "plant/#", "qos": 1}],
            },
            (f"mqtt://127.0.0.1:{broker}/plant/temp", "--concurrency", "20"),
        ),
        "CoAP, CON": (
            {
                "protocol": "coap",
                "listen": f"127.0.0.1:{coap}",
                "routes": {"/ce": {"mode": "auto", "source_policy": "any"}},
            },
            (f"coap://127.0.0.1:{coap}/ce", "--concurrency", "14"),
        ),
        "NATS core with reply": (
            {
                "protocol": "nats",
                "url": f"nats://127.0.0.1:{bus}",
                "subjects": ["events.>"],
                "queue": "bench",
            },
            (f"nats://127.0.0.1:{bus}/events.temp", "--concurrency", "256"),
        ),
        "JetStream pull consumer": (
            {
                "protocol": "nats",
                "url": f"nats://127.0.0.1:{bus}",
                "subjects": ["in.>"],
                "stream": "IN",
                "durable": "bench",
            },
            (f"nats://127.0.0.1:{bus}/in.temp", "--jetstream", "--concurrency", "256"),
        ),
    }
    rows = []
    for sink_name, sink in sinks.items():
        for source_name, (source, target) in ways.items():
            config = {
                "sources": {"in": source},
                "sinks": {"out": sink},
                "routes": [{"to": ["out"]}],
            }
            cpu, rate, resident = [], [], []
            with gateway(config) as running:
                for number in range(1, ROUNDS + 1):
                    before = cpu_seconds(running.pid)
                    rate.append(load(*target)["rate"])
                    running.until_sent(number * COUNT)
                    cpu.append((cpu_seconds(running.pid) - before) / COUNT * 1e6)
                    resident.append(memory_mib(running.pid))
            rows.append((source_name, sink_name, spread(cpu), spread(rate, 0), spread(resident)))
            print(f"  {source_name} -> {sink_name}", file=sys.stderr)
    print(f"\n{COUNT} binary events of 200 B of JSON and eight attributes, {ROUNDS} rounds.")
    header = ("source", "sink", "CPU us per event", "events per second", "resident, MiB")
    table(header, rows)
