"""mq-bridge, a Rust core with Python bindings: https://github.com/marcomq/mq-bridge."""

import json
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.contender import STREAM, SUBJECT, TOPIC, Addresses, Course, Form
from tests.benchmarks.peers.process import PeerProcess, listens
from tests.e2e.servers import CACHE

VERSION: Final = "1.2.0"
_FOLDER: Final = CACHE / f"mq-bridge-{VERSION}"
_PYTHON: Final = _FOLDER / "bin" / "python"
_READY: Final = "the route has started"
_RUN: Final = f"""
import json, signal, sys, mq_bridge
route = mq_bridge.Route.from_config(json.load(open(sys.argv[1])))
route.start()
print({_READY!r}, flush=True)
signal.sigwait([signal.SIGTERM])
route.stop()
"""

_INFLIGHT: Final = 2000
_REQUESTS: Final = 64
_CONCURRENCY: Final = 1
"""4 costs as much or more per event, and lists then overtake each other."""


class MqBridge:
    """All of its work is done by Rust threads; Python only starts the route."""

    name = "mq-bridge"
    form: Form = "payload"

    def missing(self) -> str | None:
        return None if _PYTHON.exists() else ".ci/peers could not install mq-bridge from PyPI"

    def version(self) -> str:
        return VERSION

    def supports(self, course: Course) -> bool:
        return (
            course.source in ("mqtt", "jetstream", "nats", "http")
            and course.sink in ("kafka", "http")
            and not course.stored
        )

    def settings(self, course: Course) -> str:
        route = f"concurrency {_CONCURRENCY}, batch_size 512"
        source = {
            "mqtt": f"MQTT 5, QoS {course.qos}, queue_capacity and max_inflight {_INFLIGHT}",
            "jetstream": "durable pull consumer, prefetch_count 10000",
            "nats": "core NATS",
            "http": f"concurrency_limit and internal_buffer_size {_INFLIGHT}",
        }[course.source]
        sink = {
            "kafka": "acks=all, enable.idempotence, linger.ms 5",
            "http": f"batch_concurrency {_REQUESTS}, a POST per event",
        }[course.sink]
        return (
            f"{route}; {source}; {sink}; delayed_ack off: it acknowledges after the sink. "
            "No CloudEvents: payload and metadata as they are; an answer of 5xx "
            "restarts the route: MQTT disconnects, HTTP answers 404 meanwhile."
        )

    def start(self, course: Course, addresses: Addresses, folder: Path) -> PeerProcess:
        config = folder / "route.json"
        config.write_text(json.dumps(config_of(course, addresses)))
        port = addresses.source_port if course.source == "http" else None
        return PeerProcess(
            [str(_PYTHON), "-c", _RUN, str(config)],
            folder,
            lambda printed: _READY in printed and (port is None or listens(port)),
        )


def config_of(course: Course, addresses: Addresses) -> dict[str, Any]:
    """Return the configuration of the route."""
    url = addresses.source_url
    inputs: dict[str, dict[str, Any]] = {
        "mqtt": {
            "mqtt": {
                "url": url.replace("mqtt://", "tcp://"),
                "topic": TOPIC,
                "client_id": "mq-bridge",
                "qos": course.qos,
                "queue_capacity": _INFLIGHT,
                "max_inflight": _INFLIGHT,
            }
        },
        "jetstream": {"nats": {"url": url, "subject": SUBJECT, "stream": STREAM}},
        "nats": {"nats": {"url": url, "subject": SUBJECT, "stream": STREAM, "no_jetstream": True}},
        "http": {
            "http": {
                "url": f"127.0.0.1:{addresses.source_port}",
                "concurrency_limit": _INFLIGHT,
                "internal_buffer_size": _INFLIGHT,
            }
        },
    }
    outputs: dict[str, dict[str, Any]] = {
        "http": {"http": {"url": addresses.sink_url, "batch_concurrency": _REQUESTS}},
        "kafka": {
            "kafka": {
                "url": addresses.bootstrap_servers,
                "topic": addresses.kafka_topic,
                "producer_options": [
                    ["acks", "all"],
                    ["enable.idempotence", "true"],
                    ["linger.ms", "5"],
                ],
                "create_topic": False,
                "partition_key": "partitionkey" if course.source == "mqtt" else "ce-partitionkey",
            }
        },
    }
    return {
        "input": inputs[course.source],
        "output": outputs[course.sink],
        "concurrency": _CONCURRENCY,
        "batch_size": 512,
    }
