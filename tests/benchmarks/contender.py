"""The seam between the harness and what it measures: our gateway, and other products beside it.

A contender reads events from a source and writes them to a sink; the harness starts the source, the
sink and the load in processes of their own, and counts the CPU time of the contender's processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Source = Literal["mqtt", "jetstream", "nats", "http", "coap", "mqtt-endpoint"]
Sink = Literal["kafka", "http", "batch", "h2c"]
Form = Literal["event", "payload"]

TOPIC = "load/#"
"""The MQTT topics that the load is on: `load/dev000` .. `load/dev199`."""
SUBJECT = "load.>"
"""The NATS subjects that the load is on, core or in the stream: `load.dev000` .. `load.dev199`."""
STREAM = "LOAD"
"""The JetStream stream of these subjects."""
DURABLE = "bench"
"""The durable consumer of it that a contender makes, with explicit acknowledgement."""


@dataclass(frozen=True)
class Course:
    """The way that events take.

    Attributes:
        source: `mqtt`: the contender subscribes to `TOPIC` at a broker; `jetstream`: it consumes
            `STREAM`; `nats`: it subscribes to `SUBJECT`; `http`, `coap`, `mqtt-endpoint`: it
            listens. Events come in binary mode, 200 B of JSON and eight attributes.
        sink: `kafka`: a record per event, acks=all; `http`: a POST per event over HTTP/1.1;
            `batch`: a POST for many events (application/cloudevents-batch+json); `h2c`: a POST per
            event over HTTP/2 with prior knowledge.
        qos: of the MQTT subscription.
        stored: acknowledge what is on disk, and not what the sink has.
    """

    source: Source
    sink: Sink
    qos: int = 1
    stored: bool = False

    @property
    def name(self) -> str:
        """As `--only` takes it: `mqtt-kafka`, `mqtt-kafka-qos0`, `http-http-stored`."""
        extra = ("-qos0" if self.qos == 0 else "") + ("-stored" if self.stored else "")
        return f"{self.source}-{self.sink}{extra}"


@dataclass(frozen=True)
class Addresses:
    """Where a contender finds its source and its sink; a field that a course has no use for is "".

    Attributes:
        source_url: what to connect to (`mqtt://127.0.0.1:PORT`, `nats://127.0.0.1:PORT`), or what
            to listen on (`http://127.0.0.1:PORT/`, `coap://127.0.0.1:PORT/ce`).
        source_port: the port in it.
        sink_url: `http://127.0.0.1:PORT/`.
        bootstrap_servers: of Kafka.
        kafka_topic: of Kafka; it exists.
    """

    source_url: str
    source_port: int
    sink_url: str = ""
    bootstrap_servers: str = ""
    kafka_topic: str = ""


class Running(Protocol):
    """A contender at work."""

    @property
    def pids(self) -> Sequence[int]:
        """Its processes; what they start in turn is found and counted, too."""

    def is_ready(self) -> bool:
        """Whether it listens, or has subscribed; cheap, it is asked every 50 ms.

        Raises:
            RuntimeError: it has ended, with the end of what it printed.
        """

    def stop(self) -> None:
        """End all its processes and wait for them; called in any case, once."""


class Contender(Protocol):
    """A product, or a variant of one. Constructing it starts nothing.

    Attributes:
        name: short, in tables and in `--contenders`: `gateway`, `mq-bridge`.
        form: what it writes; `event`: CloudEvents in structured mode, which are compared with what
            was sent; `payload`: the data, which is looked for in what arrives.
    """

    name: str
    form: Form

    def missing(self) -> str | None:
        """Say why it can't be run on this machine and how to get it; None when it can."""

    def version(self) -> str:
        """Return its version, as printed beside the figures."""

    def supports(self, course: Course) -> bool:
        """Whether it can do this, with acknowledgement after the sink (but core NATS, QoS 0)."""

    def settings(self, course: Course) -> str:
        """Return the settings that matter, in one line of text: the strongest safe ones."""

    def start(self, course: Course, addresses: Addresses, folder: Path) -> Running:
        """Start it; files and logs go into `folder`, which is empty and removed afterwards."""
