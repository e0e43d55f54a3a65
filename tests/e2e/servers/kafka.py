"""Apache Kafka, and what stands in for it where it can't be had."""

import contextlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.servers.process import (
    CACHE,
    HOST,
    MissingError,
    Server,
    accepts_connections,
    free_port,
    program,
)
from tests.helpers import Certificates


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
            "broker.session.timeout.ms": 2000,  # after a kill it has to wait for its own session
            "broker.heartbeat.interval.ms": 500,
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
    pom = (Path(__file__).parents[1] / "kafka" / "pom.xml").read_text()
    match = re.search(r"<kafka\.version>(.*?)</kafka\.version>", pom)
    assert match is not None
    return match[1]


def make_kafka(folder: Path, certificates: Certificates) -> Kafka:
    """Return Apache Kafka, or what comes nearest here."""
    try:
        return Kafka(folder, certificates)
    except MissingError as missing:
        return NoidaKafka(folder, str(missing))
