"""The gateway as a process: readiness, the way of an event, drain and exit codes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

CONFIG = """
sources:
  web: {protocol: http, listen: "127.0.0.1:0"}
sinks:
  out: %s
routes:
  - to: [out]
    delivery: {retry: 0}
admin: {listen: "127.0.0.1:0"}
drain: {grace: PT2S}
"""
EVENT = b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1.0}}'

MAIN = """
import json, logging, sys
from pathlib import Path
import os
from gateway.config.loader import load
from gateway.service import serve
def on_ready(addresses):
    print(json.dumps({name: list(address) for name, address in addresses.items()}), flush=True)
logging.basicConfig(level="INFO", format="%(message)s")
sys.exit(serve(load(Path(sys.argv[1]), os.environ), on_ready=on_ready))
"""


class Process:
    """A gateway in a process of its own."""

    def __init__(self, process):
        self._process = process
        self.addresses = {}

    async def ready(self):
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line, (await self._process.stderr.read()).decode()
        self.addresses = json.loads(line)

    def signal(self, number):
        self._process.send_signal(number)

    async def ended(self):
        """Return exit code and stderr."""
        async with asyncio.timeout(20):
            _, stderr = await self._process.communicate()
        return self._process.returncode, stderr.decode()

    async def request(self, name, method, target, body=b"", content_type=""):
        """Return status and body of one HTTP request."""
        reader, writer = await asyncio.open_connection(*self.addresses[name])
        try:
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            if content_type:
                head += f"Content-Type: {content_type}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            async with asyncio.timeout(20):
                answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def post(self):
        return self.request("web", "POST", "/", EVENT, "application/cloudevents+json")

    async def says(self, text):
        """Return the line of stderr with `text` in it, when it is there."""
        async with asyncio.timeout(20):
            line = b"..."
            while line and text not in line.decode():
                line = await self._process.stderr.readline()
        assert line, f"it ended and never said {text}"
        return line.decode()


@pytest.fixture
async def start(tmp_path):
    processes = []

    async def start_process(sink, environ=None, config=CONFIG):
        file = tmp_path / "gateway.yaml"
        file.write_text(config % sink)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MAIN,
            str(file),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environ or {})},
            cwd=Path(__file__).parents[2],
        )
        processes.append(process)
        return Process(process)

    yield start_process
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


class SlowSink:
    """A foreign HTTP sink that answers when it is told."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        await self.answer.wait()
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def slow_sink():
    sink = SlowSink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield sink
    sink.answer.set()
    server.close()
    await server.wait_closed()


async def test_an_event_comes_in_is_acknowledged_and_shows_in_the_event_log(start):
    gateway = await start("{protocol: log}")
    await gateway.ready()
    assert (await gateway.request("admin", "GET", "/readyz"))[0] == 200
    assert (await gateway.post())[0] == 202
    status, body = await gateway.request("admin", "GET", "/api/v1/events")
    assert status == 200
    assert json.loads(body) == [json.loads(EVENT)]
    _, body = await gateway.request("admin", "GET", "/api/v1/status")
    assert json.loads(body)["ready"] is True
    gateway.signal(signal.SIGTERM)
    code, stderr = await gateway.ended()
    assert code == 0
    assert "Traceback" not in stderr


async def test_sigterm_lets_what_is_under_way_end_and_exits_with_0(start, slow_sink):
    gateway = await start(f"{{protocol: http, url: '{slow_sink.url}'}}")
    await gateway.ready()
    posting = asyncio.ensure_future(gateway.post())
    await slow_sink.asked.wait()
    gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while (await gateway.request("admin", "GET", "/readyz"))[0] == 200:
            pass
    assert (await gateway.request("admin", "GET", "/readyz")) == (503, b"draining\n")
    slow_sink.answer.set()
    assert (await posting)[0] == 202
    code, stderr = await gateway.ended()
    assert code == 0
    assert "Traceback" not in stderr


async def test_what_a_dead_sink_keeps_is_refused_at_the_end_of_the_grace_period(start, slow_sink):
    gateway = await start(f"{{protocol: http, url: '{slow_sink.url}'}}")
    await gateway.ready()
    posting = asyncio.ensure_future(gateway.post())
    await slow_sink.asked.wait()
    gateway.signal(signal.SIGTERM)
    assert (await posting)[0] == 503
    assert (await gateway.ended())[0] == 0


async def test_a_second_sigterm_exits_at_once(start, slow_sink):
    gateway = await start(f"{{protocol: http, url: '{slow_sink.url}'}}")
    await gateway.ready()
    posting = asyncio.ensure_future(gateway.post())
    await slow_sink.asked.wait()
    gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while (await gateway.request("admin", "GET", "/readyz"))[0] == 200:
            pass
    gateway.signal(signal.SIGTERM)
    assert (await gateway.ended())[0] == 1
    await asyncio.gather(posting, return_exceptions=True)


async def test_a_port_that_is_taken_is_exit_1_and_one_line(start, tmp_path):
    first = await start("{protocol: log}")
    await first.ready()
    host, port = first.addresses["web"]
    file = tmp_path / "taken.yaml"
    text = (CONFIG % "{protocol: log}").replace('"127.0.0.1:0"', f'"{host}:{port}"', 1)
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "run", str(file),
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "another")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert f"{host}:{port}" in stderr.decode()
    assert "Traceback" not in stderr.decode()


async def test_without_k_sink_it_stays_alive_and_unready_and_opens_no_source(start):
    gateway = await start('{protocol: http, url: "${K_SINK}"}', {"K_SINK": ""})
    await gateway.says("no source is opened")
    gateway.signal(signal.SIGTERM)
    assert (await gateway.ended())[0] == 0


ODD = """
import asyncio, sys
from gateway.config.records import SinkConfig, SourceConfig
from gateway.errors import GatewayError
from gateway.tasks import Tasks

def say(text):
    print(text, file=sys.stderr, flush=True)

class OddSourceConfig(SourceConfig):
    behaviour: str

class OddSinkConfig(SinkConfig):
    pass

class OddSource:
    config_type = OddSourceConfig
    opening, closing = [], asyncio.Event()

    def __init__(self, config):
        self.name, self.behaviour = config.name, config.behaviour
        self.tasks = Tasks(f"source {self.name}")

    async def open(self, intake):
        if self.behaviour == "never opens":
            self.opening.append(self.name)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                say(f"{self.name} gave up")
        elif self.behaviour == "can't be opened":
            while not self.opening:
                await asyncio.sleep(0)
            raise GatewayError(f"{self.name} can't be opened")
        elif self.behaviour == "dies":
            self.tasks.start(self.die(), "reader")

    async def die(self):
        raise LookupError("no such topic")

    async def drain(self):
        pass

    async def close(self):
        say(f"{self.name} closes")
        if self.behaviour == "closes after another":
            await self.closing.wait()
        elif self.behaviour == "can't be closed":
            self.closing.set()
            raise LookupError("what connection?")

class OddSink:
    config_type = OddSinkConfig

    def __init__(self, config):
        pass

    async def open(self):
        say("the sink opens")
        await asyncio.Event().wait()

    async def close(self):
        say("the sink closes")
"""
ODD_CONFIG = """
sources: {%s}
sinks: {out: {protocol: log}}
routes: [{to: [out]}]
admin: {listen: "127.0.0.1:0"}
drain: {grace: PT5S}
"""


@pytest.fixture
def odd(tmp_path):
    """A stranger's adapters, installed; returns the environment in which they are found."""
    folder = tmp_path / "odd-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[cloudevents_gateway.sources]\nodd = odd:OddSource\n"
        "[cloudevents_gateway.sinks]\nodd = odd:OddSink\n"
    )
    (tmp_path / "odd.py").write_text(ODD)
    return {"PYTHONPATH": str(tmp_path)}


async def test_a_source_that_cannot_be_opened_ends_the_opening_of_the_others(start, odd):
    sources = (
        "a: {protocol: odd, behaviour: never opens}, b: {protocol: odd, behaviour: can't be opened}"
    )
    gateway = await start(sources, odd, ODD_CONFIG)
    code, stderr = await gateway.ended()
    assert code == 1
    lines = stderr.splitlines()
    assert lines.index("a gave up") < lines.index("a closes")
    assert "b can't be opened" in stderr
    assert "Traceback" not in stderr


async def test_while_it_starts_readyz_says_what_is_not_open_yet(start, odd):
    sources = "b: {protocol: odd, behaviour: never opens}, a: {protocol: odd, behaviour: opens}"
    gateway = await start(sources, odd, ODD_CONFIG)
    line = await gateway.says("health, metrics and console on http://127.0.0.1:")
    gateway.addresses["admin"] = ("127.0.0.1", int(line.rpartition(":")[2]))
    await gateway.says("source a is open")
    status, body = await gateway.request("admin", "GET", "/readyz")
    assert (status, body) == (503, b"starting; not open yet: source b\n")
    gateway.signal(signal.SIGTERM)
    assert (await gateway.ended())[0] == 0


async def test_a_task_that_dies_ends_the_gateway_with_1(start, odd):
    gateway = await start("a: {protocol: odd, behaviour: dies}", odd, ODD_CONFIG)
    code, stderr = await gateway.ended()
    assert code == 1
    assert "no such topic" in stderr
    assert "a closes" in stderr


async def test_an_adapter_that_cannot_be_closed_does_not_keep_the_others_open(start, odd):
    sources = (
        "a: {protocol: odd, behaviour: closes after another},"
        " b: {protocol: odd, behaviour: can't be closed}"
    )
    gateway = await start(sources, odd, ODD_CONFIG)
    await gateway.ready()
    gateway.signal(signal.SIGTERM)
    code, stderr = await gateway.ended()
    assert code == 0
    assert "b failed to close" in stderr
    assert "did not close" not in stderr


async def test_sigterm_ends_a_gateway_whose_sink_never_opens(start, odd):
    gateway = await start("{protocol: odd}", odd)
    await gateway.says("the sink opens")
    gateway.signal(signal.SIGTERM)
    code, stderr = await gateway.ended()
    assert code == 0
    assert "the sink closes" in stderr


async def test_an_open_event_stream_does_not_hold_up_the_end(start):
    gateway = await start("{protocol: log}")
    await gateway.ready()
    reader, writer = await asyncio.open_connection(*gateway.addresses["admin"])
    writer.write(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"connected")
    gateway.signal(signal.SIGTERM)
    code, stderr = await gateway.ended()
    assert code == 0
    assert "Traceback" not in stderr
    await reader.read()
    writer.close()
    await writer.wait_closed()
