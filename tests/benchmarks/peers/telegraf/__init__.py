"""Telegraf, in Go: https://www.influxdata.com/time-series-platform/telegraf."""

import re
from pathlib import Path
from typing import Final

from tests.benchmarks.contender import DURABLE, STREAM, SUBJECT, TOPIC, Addresses, Course, Form
from tests.benchmarks.peers.process import PeerProcess, listens
from tests.e2e.servers import CACHE

_REQUIRED: Final = re.search(
    r"github.com/influxdata/telegraf v(\S+)", (Path(__file__).parent / "go.mod").read_text()
)
assert _REQUIRED is not None
VERSION: Final = _REQUIRED[1]
_PROGRAM: Final = CACHE / f"telegraf-{VERSION}" / "telegraf"
_UNDELIVERED: Final = 2000

_AGENT: Final = """
[agent]
  interval = "10s"
  flush_interval = "50ms"
  metric_batch_size = 1000
  metric_buffer_limit = 1000000
  omit_hostname = true
"""
_VALUE: Final = 'data_format = "value"\n  data_type = "string"'
_TEMPLATE: Final = """data_format = "template"\n  template = '{{ .Field "value" }}'"""


class Telegraf:
    """Built with the plugins of the courses only.

    Args:
        early: the one of the courses on which it acknowledges before the sink has the event.
    """

    form: Form = "payload"

    def __init__(self, *, early: bool = False) -> None:
        self.name = "telegraf-early" if early else "telegraf"
        self._early = early

    def missing(self) -> str | None:
        return None if _PROGRAM.exists() else ".ci/peers could not build Telegraf with Go"

    def version(self) -> str:
        return VERSION

    def supports(self, course: Course) -> bool:
        return (
            course.source in (("http",) if self._early else ("mqtt", "jetstream", "nats"))
            and course.sink in ("kafka", "http")
            and not course.stored
        )

    def settings(self, course: Course) -> str:
        source = {
            "mqtt": f"MQTT 3.1.1, QoS {course.qos}, persistent session, "
            f"{_UNDELIVERED} undelivered; it acknowledges after the sink",
            "jetstream": f"{_UNDELIVERED} undelivered; it acknowledges after the sink",
            "nats": f"core NATS, {_UNDELIVERED} undelivered",
            "http": "204 on receipt, before the sink has the event; it can't do otherwise",
        }[course.source]
        sink = {
            "kafka": "acks=all, idempotent_writes",
            "http": "use_batch_format = false: a POST per event, one at a time",
        }[course.sink]
        return (
            f"metric_batch_size 1000, flush_interval 50ms; {source}; {sink}. No CloudEvents: "
            "payload as a string; a full buffer drops the oldest."
        )

    def start(self, course: Course, addresses: Addresses, folder: Path) -> PeerProcess:
        config = folder / "telegraf.conf"
        config.write_text(config_of(course, addresses))
        signs = {
            "mqtt": ["Connected [tcp://"],
            "jetstream": ["Started the NATS consumer service"],
            "nats": ["Started the NATS consumer service"],
            "http": ["Listening on"],
        }[course.source]
        port = addresses.source_port if course.source == "http" else None
        return PeerProcess(
            [str(_PROGRAM), "--config", str(config)],
            folder,
            lambda printed: (
                all(sign in printed for sign in signs) and (port is None or listens(port))
            ),
        )


def config_of(course: Course, addresses: Addresses) -> str:
    """Return its configuration file."""
    nats = f"""
[[inputs.nats_consumer]]
  servers = ["{addresses.source_url}"]
  max_undelivered_messages = {_UNDELIVERED}
  {_VALUE}
"""
    inputs = {
        "mqtt": f"""
[[inputs.mqtt_consumer]]
  servers = ["{addresses.source_url.replace("mqtt://", "tcp://")}"]
  topics = ["{TOPIC}"]
  qos = {course.qos}
  client_id = "telegraf"
  persistent_session = {str(course.qos > 0).lower()}
  max_undelivered_messages = {_UNDELIVERED}
  {_VALUE}
""",
        "jetstream": f"""{nats}
  subjects = []
  queue_group = "{DURABLE}"
  jetstream_stream = "{STREAM}"
  jetstream_subjects = ["{SUBJECT}"]
""",
        "nats": f'{nats}\n  subjects = ["{SUBJECT}"]\n  queue_group = "{DURABLE}"\n',
        "http": f"""
[[inputs.http_listener_v2]]
  service_address = "tcp://127.0.0.1:{addresses.source_port}"
  paths = ["/"]
  methods = ["POST"]
  {_VALUE}
""",
    }
    outputs = {
        "http": f"""
[[outputs.http]]
  url = "{addresses.sink_url}"
  method = "POST"
  use_batch_format = false
  {_TEMPLATE}
  [outputs.http.headers]
    Content-Type = "application/json"
""",
        "kafka": f"""
[[outputs.kafka]]
  brokers = ["{addresses.bootstrap_servers}"]
  topic = "{addresses.kafka_topic}"
  required_acks = -1
  idempotent_writes = true
  {_TEMPLATE}
""",
    }
    return _AGENT + inputs[course.source] + outputs[course.sink]
