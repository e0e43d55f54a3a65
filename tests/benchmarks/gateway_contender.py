"""Our gateway as a contender: plain, compiled, with workers. Settings are its defaults."""

import http.client
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from tests.benchmarks.contender import (
    DURABLE,
    STREAM,
    SUBJECT,
    TOPIC,
    Addresses,
    Course,
    Form,
)
from tests.e2e.servers import HOST, fetch, free_port

ROOT: Final = Path(__file__).parents[2]
COMPILED: Final = ROOT / ".cache" / "compiled"
_GRACE: Final = 30.0


class RunningGateway:
    """`ce-gateway run`."""

    def __init__(self, command: Sequence[str], env: dict[str, str], folder: Path, admin: int):
        self._log = folder / "gateway.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=os.environ | env, stdout=log, stderr=log
            )
        self._admin = admin

    @property
    def pids(self) -> Sequence[int]:
        return [self._process.pid]

    def is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(self._log.read_text()[-4000:])
        try:
            return fetch(self._admin, "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class GatewayContender:
    """A variant.

    Args:
        name: `gateway`, or with what the variant is.
        first: a folder whose modules are taken before those of this tree: the compiled ones, or
            another checkout.
        workers: processes; 1 is the gateway alone.
        more: configuration besides the defaults, merged into `sinks.out` or another table.
    """

    form: Form = "event"

    def __init__(
        self,
        name: str = "gateway",
        *,
        first: Path | None = None,
        workers: int = 1,
        more: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self._first = first
        self._workers = workers
        self._more = more or {}

    def missing(self) -> str | None:
        if self._first is not None and not self._first.is_dir():
            return f"there is no {self._first.name}" + (
                ": make compiled" if self._first == COMPILED else ""
            )
        return None

    def version(self) -> str:
        kind = "compiled" if self._first == COMPILED else "plain Python"
        return f"{version('cloudevents-gateway')}, {kind}"

    def supports(self, course: Course) -> bool:
        return True

    def settings(self, course: Course) -> str:
        source, sink = _source(course, Addresses("", 0)), _sink(course, Addresses("", 0))
        config = self._config(source, sink, course, 0, Path())
        del config["admin"], config["state"]
        plain = yaml.safe_dump(config, default_flow_style=True, sort_keys=False, width=1000)
        return f"{plain.strip()}; what is not named has its default"

    def start(self, course: Course, addresses: Addresses, folder: Path) -> RunningGateway:
        admin, file = free_port(), folder / "gateway.yaml"
        source, sink = _source(course, addresses), _sink(course, addresses)
        file.write_text(yaml.safe_dump(self._config(source, sink, course, admin, folder)))
        command = [sys.executable, "-m", "gateway", "run", str(file), "--log-level", "warning"]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        path = [str(self._first)] if self._first else []
        env = {"PYTHONPATH": os.pathsep.join([*path, str(ROOT)])}
        return RunningGateway(command, env, folder, admin)

    def _config(
        self, source: dict[str, Any], sink: dict[str, Any], course: Course, admin: int, folder: Path
    ) -> dict[str, Any]:
        config: dict[str, Any] = {
            "sources": {"in": source | self._more.get("source", {})},
            "sinks": {"out": sink | self._more.get("sink", {})},
            "routes": [{"name": "bench", "to": ["out"]}],
            "admin": {"listen": f"{HOST}:{admin}"},
            "state": {"path": str(folder / "state")},
        }
        if course.stored:
            config["delivery"] = {"ack": "stored"}
        for table in ("delivery", "limits"):
            if table in self._more:
                config[table] = config.get(table, {}) | self._more[table]
        return config


def _source(course: Course, addresses: Addresses) -> dict[str, Any]:
    listen = {"listen": f"{HOST}:{addresses.source_port}"}
    url = {"url": addresses.source_url}
    match course.source:
        case "mqtt":
            subscribe = [{"topic": TOPIC, "qos": course.qos}]
            return {"protocol": "mqtt", **url, "client_id": "bench", "subscribe": subscribe}
        case "jetstream":
            return {"protocol": "nats", **url, "stream": STREAM, "durable": DURABLE}
        case "nats":
            return {"protocol": "nats", **url, "subjects": [SUBJECT]}
        case "coap":
            routes = {"/ce": {"mode": "auto", "source_policy": "any"}}
            return {"protocol": "coap", **listen, "routes": routes}
    return {"protocol": course.source, **listen}


def _sink(course: Course, addresses: Addresses) -> dict[str, Any]:
    if course.sink == "kafka":
        servers, topic = addresses.bootstrap_servers, addresses.kafka_topic
        return {"protocol": "kafka", "bootstrap_servers": servers, "topic": topic}
    sink: dict[str, Any] = {"protocol": "http", "url": addresses.sink_url}
    if course.sink == "batch":
        sink["batch"] = True
    if course.sink == "h2c":
        sink["http_version"] = "2"
    return sink
