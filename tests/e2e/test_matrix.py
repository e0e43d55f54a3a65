"""Every protocol in, every sink out: foreign senders, one gateway, foreign receivers.

Four messages are sent over each source: an event in binary and in structured mode, and JSON and
bytes that are no events and get wrapped. Each goes to all sinks, since one route fans out. What
arrives is compared byte for byte, and then read with both official SDKs.
"""

import asyncio
import base64
import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors
import pytest

from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.readers.sdk import ReadEvent, Record, read_with_python
from tests.e2e.receivers import HttpReceiver, KcatReceiver, NatsReceiver, Receiver
from tests.e2e.servers import HOST, Gateway, HttpRecorder, program

SOURCES = ("coap", "mqtt-endpoint", "mqtt-broker", "nats-core", "nats-jetstream", "http")
KINDS = ("binary", "structured", "wrapped-json", "wrapped-bytes")
SINKS = ("http-structured", "http-binary", "kafka-structured", "kafka-binary", "jetstream")

JSON = b'{"t": 21.5, "u": "\xc2\xb0C"}'  # the blanks have to survive
BYTES = b"\x00\xff\xfe\x01 \r\n"
SUBJECT = "line \u00e9 1%20"  # decoding once too often or too rarely changes it
ATTRIBUTES = {
    "specversion": "1.0",
    "source": "/plant/1?x=y",
    "subject": SUBJECT,
    "time": "2026-11-22T10:00:00.123456789+01:00",
    "datacontenttype": "application/json",
    "partitionkey": "line-1",
    "comacmelevel": "3",
}
ESCAPED_SUBJECT = "line%20%C3%A9%201%2520"  # http-protocol-binding.md 3.1.3.2


@dataclass(frozen=True)
class Sent:
    """A message, and the event that it has to become; an attribute of None may be anything."""

    attributes: Mapping[str, str | None]
    data: bytes

    def is_in(self, record: Record) -> bool:
        found, _ = parse(record)
        return all(
            found.get(name) == self.attributes[name]
            for name in ("type", "datacontenttype", "source")
        )


def parse(record: Record) -> tuple[dict[str, Any], bytes | None]:
    """Return attributes and data of a record, by the letter of the bindings."""
    headers = record.header_table
    if headers.get("content-type", "").startswith("application/cloudevents+json"):
        envelope = json.loads(record.body or b"")
        data = envelope.pop("data", None)
        encoded = envelope.pop("data_base64", None)
        if encoded is not None:
            return envelope, base64.b64decode(encoded, validate=True)
        return envelope, None if data is None else json.dumps(data).encode()
    prefix = "ce-" if record.binding == "HTTP" else "ce_"
    attributes = {
        name.removeprefix(prefix): value
        for name, value in headers.items()
        if name.startswith(prefix)
    }
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return attributes, record.body


def native(source: str, kind: str) -> dict[str, str]:
    return {**ATTRIBUTES, "id": f"{source}-{kind}", "type": f"com.acme.{source}.{kind}"}


def expected(source: str, kind: str) -> Sent:
    if kind in {"binary", "structured"}:
        return Sent(native(source, kind), JSON)
    wrapped: dict[str, str | None] = {
        "specversion": "1.0",
        "id": None,
        "time": None,
        "source": f"/matrix/{source}",
        "type": f"com.acme.{source}.wrapped",
        "datacontenttype": "application/json",
    }
    if kind == "wrapped-bytes":
        return Sent({**wrapped, "datacontenttype": "application/octet-stream"}, BYTES)
    return Sent(wrapped, JSON)


def envelope(source: str) -> bytes:
    """Return the JSON format of an event, written by hand."""
    members = json.dumps(native(source, "structured"))
    return members[:-1].encode() + b', "data": ' + JSON + b"}"


def escape(value: str) -> str:
    """Escape the values of this test for HTTP and NATS headers."""
    return value.replace(SUBJECT, ESCAPED_SUBJECT)


def run(command: list[str], payload: bytes = b"") -> bytes:
    done = subprocess.run(command, input=payload, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done
    return done.stdout


def send_coap(gateway: Gateway, kind: str) -> None:
    path, content_format = {
        "binary": ("/ce", 50),
        "structured": ("/ce/s", 50),
        "wrapped-json": ("/t", 50),
        "wrapped-bytes": ("/t", 42),
    }[kind]
    client = program("coap-client-notls", "libcoap3-bin")
    command = [client, "-m", "post", "-t", str(content_format)]
    if kind == "binary":
        # Uri-Query options by number: coap-client 4.3.1 silently cuts a long query in a URL.
        for name, value in native("coap", kind).items():
            if name != "datacontenttype":  # the Content-Format says it
                command += ["-O", f"15,{name}={value}"]
    url = f"coap://{HOST}:{gateway.ports['coap']}{path}"
    answer = run([*command, "-B", "15", "-v", "6", "-f", "-", url], payload_of("coap", kind))
    assert b"c:2.04" in answer


def send_mqtt(port: int, source: str, kind: str) -> None:
    where = f"-h {HOST} -p {port} -V 5 -q 1 -t matrix/{source} -i {source}-{kind} -s"
    command = [program("mosquitto_pub", "mosquitto-clients"), *where.split()]
    if kind == "binary":
        for name, value in native(source, kind).items():
            if name != "datacontenttype":
                command += ["-D", "publish", "user-property", name, value]
        command += ["-D", "publish", "content-type", "application/json"]
    if kind == "structured":
        command += ["-D", "publish", "content-type", "application/cloudevents+json; charset=utf-8"]
    run(command, payload_of(source, kind))


def payload_of(source: str, kind: str) -> bytes:
    return {"structured": envelope(source), "wrapped-bytes": BYTES}.get(kind, JSON)


def nats_headers(source: str, kind: str) -> dict[str, str] | None:
    if kind == "binary":
        return {f"ce-{name}": escape(value) for name, value in native(source, kind).items()}
    if kind == "structured":
        return {"Content-Type": "application/cloudevents+json"}
    return None


def send_nats_core(client: NatsReceiver, kind: str) -> None:
    headers, payload = nats_headers("nats-core", kind), payload_of("nats-core", kind)
    reply = client.run(client.client.request("core.matrix", payload, timeout=10, headers=headers))
    assert reply.data == b"+ACK"


def send_nats_jetstream(client: NatsReceiver, kind: str) -> None:
    async def publish() -> None:
        headers = nats_headers("nats-jetstream", kind)
        payload = payload_of("nats-jetstream", kind)
        stream = client.client.jetstream()
        ack = await stream.publish("in.matrix", payload, headers=headers)
        async with asyncio.timeout(10):  # a work queue forgets a message when it is acknowledged
            while (await stream.stream_info("IN")).state.messages:
                await asyncio.sleep(0.02)
        assert ack.stream == "IN"

    client.run(publish(), 20)


def send_http(gateway: Gateway, kind: str) -> None:
    content_type = {
        "structured": "application/cloudevents+json",
        "wrapped-bytes": "application/octet-stream",
    }.get(kind, "application/json")
    options = "-sS --fail-with-body --max-time 10 -w %{http_code} --data-binary @-"
    command = [program("curl", "curl"), *options.split(), "-H", f"Content-Type: {content_type}"]
    if kind == "binary":
        for name, value in native("http", kind).items():
            if name != "datacontenttype":
                command += ["-H", f"ce-{name}: {escape(value)}"]
    answer = run([*command, f"http://{HOST}:{gateway.ports['http']}/"], payload_of("http", kind))
    assert answer in {b"202", b"204"}


class Matrix:
    """The gateway and what stands around it; a message is sent when it is first asked for."""

    def __init__(
        self, senders: Mapping[str, Callable[[str], None]], receivers: Mapping[str, Receiver]
    ):
        self._senders = senders
        self._receivers = receivers
        self._sent: dict[tuple[str, str], Exception | None] = {}
        self._silent: set[str] = set()

    def sent(self, source: str, kind: str) -> Sent:
        if (source, kind) not in self._sent:
            self._sent[source, kind] = None
            try:
                self._senders[source](kind)
            except (AssertionError, OSError, nats.errors.Error, TimeoutError) as error:
                self._sent[source, kind] = error
        failed = self._sent[source, kind]
        if failed is not None:
            raise failed
        return expected(source, kind)

    def received(self, sink: str, sent: Sent) -> Record:
        seconds = 0.1 if sink in self._silent else 10  # a broken sink makes nobody wait for long
        try:
            return self._receivers[sink].wait_for(sent.is_in, seconds)
        except TimeoutError:
            self._silent.add(sink)
            raise


def configuration(urls: Mapping[str, str]) -> dict[str, Any]:
    def wrap(source: str) -> dict[str, str]:
        return {"type": f"com.acme.{source}.wrapped", "source": f"/matrix/{source}"}

    return {
        "sources": {
            "coap": {
                "protocol": "coap",
                "listen": f"{HOST}:0",
                "routes": {
                    "/ce": {"source_policy": "any"},
                    "/ce/s": {"mode": "structured", "source_policy": "any"},
                    "/t": {**wrap("coap"), "source_policy": "any"},
                },
            },
            "mqtt-endpoint": {
                "protocol": "mqtt-endpoint",
                "listen": f"{HOST}:0",
                "event": wrap("mqtt-endpoint"),
            },
            "mqtt-broker": {
                "protocol": "mqtt",
                "url": urls["mosquitto"],
                "client_id": "matrix",
                "subscribe": [{"topic": "matrix/#", "qos": 1}],
                "event": wrap("mqtt-broker"),
            },
            "nats-core": {
                "protocol": "nats",
                "url": urls["nats"],
                "subjects": ["core.>"],
                "event": wrap("nats-core"),
            },
            "nats-jetstream": {
                "protocol": "nats",
                "url": urls["nats"],
                "stream": "IN",
                "durable": "matrix",
                "event": wrap("nats-jetstream"),
            },
            "http": {"protocol": "http", "listen": f"{HOST}:0", "event": wrap("http")},
        },
        "sinks": {
            "http-structured": {"protocol": "http", "url": urls["http-structured"]},
            "http-binary": {"protocol": "http", "url": urls["http-binary"], "mode": "binary"},
            "kafka-structured": {
                "protocol": "kafka",
                "bootstrap_servers": urls["kafka"],
                "topic": "matrix-structured",
                "key": "partitionkey",
            },
            "kafka-binary": {
                "protocol": "kafka",
                "bootstrap_servers": urls["kafka"],
                "topic": "matrix-binary",
                "mode": "binary",
                "key": "partitionkey",
            },
            "jetstream": {"protocol": "nats", "url": urls["nats"], "subject": "out.matrix"},
        },
        "routes": [
            {
                "to": list(SINKS),
                "delivery": {"spool": "off", "dead_letters": "off", "timeout": "PT10S"},
            }
        ],
    }


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, mosquitto, nats_server, kafka) -> Iterator[Matrix]:
    for topic in ("matrix-structured", "matrix-binary"):
        kafka.create_topic(topic)
    with contextlib.ExitStack() as running, skipping_what_is_missing():
        structured = running.enter_context(HttpRecorder())
        binary = running.enter_context(HttpRecorder())
        client = running.enter_context(NatsReceiver(nats_server.url, "out.>"))

        async def add_streams() -> None:
            jetstream = client.client.jetstream()
            await jetstream.add_stream(name="IN", subjects=["in.>"], retention="workqueue")
            await jetstream.add_stream(name="OUT", subjects=["out.>"])

        client.run(add_streams())
        receivers = {
            "http-structured": HttpReceiver(structured),
            "http-binary": HttpReceiver(binary),
            "kafka-structured": running.enter_context(KcatReceiver(kafka, "matrix-structured")),
            "kafka-binary": running.enter_context(KcatReceiver(kafka, "matrix-binary")),
            "jetstream": client,
        }
        urls = {
            "mosquitto": mosquitto.url,
            "nats": nats_server.url,
            "kafka": kafka.bootstrap_servers,
            "http-structured": structured.url,
            "http-binary": binary.url,
        }
        gateway = Gateway(tmp_path_factory.mktemp("matrix"), configuration(urls)).start()
        running.callback(gateway.stop)
        senders = {
            "coap": lambda kind: send_coap(gateway, kind),
            "mqtt-endpoint": lambda kind: send_mqtt(
                gateway.ports["mqtt-endpoint"], "mqtt-endpoint", kind
            ),
            "mqtt-broker": lambda kind: send_mqtt(mosquitto.port, "mqtt-broker", kind),
            "nats-core": lambda kind: send_nats_core(client, kind),
            "nats-jetstream": lambda kind: send_nats_jetstream(client, kind),
            "http": lambda kind: send_http(gateway, kind),
        }
        yield Matrix(senders, receivers)
        gateway.finish()


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_event_arrives_as_it_was_sent(matrix, npm_reader, source, kind, sink):
    sent = matrix.sent(source, kind)
    record = matrix.received(sink, sent)
    check_bytes(record, sent, sink)
    for reader, read in (("python", read_with_python), ("npm", npm_reader.read)):
        check_reading(reader, read, record, sent, sink)


def check_bytes(record: Record, sent: Sent, sink: str) -> None:
    """Compare the record itself, by the letter of the bindings."""
    attributes, data = parse(record)
    wanted = dict(sent.attributes)
    if sink == "http-binary":
        wanted = {name: value and escape(value) for name, value in wanted.items()}
    assert attributes.keys() == wanted.keys()
    for name, value in wanted.items():
        assert attributes[name] if value is None else attributes[name] == value, name
    if sink.endswith("binary"):
        assert data == sent.data
    elif sent.data is JSON:
        assert JSON in (record.body or b"")  # the same bytes, blanks included
    else:
        assert data == sent.data
    if sink.startswith("kafka"):
        assert record.key == sent.attributes.get("partitionkey")


# What the SDKs do to an attribute that arrived unharmed, as `check_bytes` has seen; by reader, sink
# (None is all) and attribute.
ALTERED: Mapping[tuple[str, str | None, str], str] = {
    # `cloudevents` 2.2.0 parses time into datetime, which ends at microseconds.
    ("python", None, "time"): "2026-11-22T10:00:00.123456+01:00",
    # npm `cloudevents` 10.0.0 makes a Date of time: milliseconds, in UTC.
    ("npm", None, "time"): "2026-11-22T09:00:00.123Z",
    # It takes no percent-encoding off HTTP headers (http-protocol-binding.md 3.1.3.2).
    ("npm", "http-binary", "subject"): ESCAPED_SUBJECT,
}


def check_reading(
    reader: str, read: Callable[[Record], ReadEvent], record: Record, sent: Sent, sink: str
) -> None:
    """Compare what an SDK makes of the record."""
    event = read(record)
    for name, value in sent.attributes.items():
        if value is not None:
            altered = ALTERED.get((reader, sink, name), ALTERED.get((reader, None, name), value))
            assert event.attributes[name] == altered, (reader, name)
    wanted = json.loads(sent.data) if sent.data is JSON else sent.data
    assert event.data == wanted, reader
