"""Real programs for the end-to-end tests: started on free ports, stopped by whoever started them.

Everything listens on loopback and keeps its files in the folder it is given. `start` returns when
the program answers on its port. A program that is not there raises `MissingError`, which the
fixtures turn into a skip, or into a failure when REQUIRE_SERVERS=1.
"""

from tests.e2e.servers.brokers import Mosquitto, NatsServer
from tests.e2e.servers.gateway import Gateway
from tests.e2e.servers.kafka import Kafka, make_kafka
from tests.e2e.servers.process import (
    CACHE,
    HOST,
    MissingError,
    Server,
    free_port,
    poll_until,
    program,
)
from tests.e2e.servers.recorder import Answer, GatedRecorder, HttpRecorder, RecordedRequest
from tests.e2e.servers.web import fetch

__all__ = [
    "CACHE",
    "HOST",
    "Answer",
    "GatedRecorder",
    "Gateway",
    "HttpRecorder",
    "Kafka",
    "MissingError",
    "Mosquitto",
    "NatsServer",
    "RecordedRequest",
    "Server",
    "fetch",
    "free_port",
    "make_kafka",
    "poll_until",
    "program",
]
