"""NATS sink: JetStream publish, acknowledged by the stream, in atomic batches where it has them."""

from gateway.sinks.nats.config import NatsSinkConfig
from gateway.sinks.nats.sink import NatsSink

__all__ = ["NatsSink", "NatsSinkConfig"]
