"""Bad input, over real sockets: it is answered, counted and logged, and nothing else happens.

One gateway with every kind of source is attacked by all tests. Good messages stand around the bad
ones, and have to arrive. After each test the gateway is ready, its log holds no exception, and one
line for each cause and interval at most.
"""

import contextlib
import http.client
import itertools
import random
import re
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from nats.js.api import ConsumerInfo

from tests.e2e.bad_input.peers import (
    JSON_EVENT,
    CoapPeer,
    HttpPeer,
    MqttPeer,
    NatsPeer,
    TcpPeer,
    coap_options,
    connect,
    http_post,
    nats_header,
    nats_publish,
    packet,
    properties,
    publish,
    text,
    user,
    varint,
)
from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.receivers import NatsReceiver
from tests.e2e.servers import HOST, Gateway, HttpRecorder, program
from tests.e2e.servers.process import poll_until

LIMIT = 65536  # DESIGN: limits.max_event_bytes
FLOOD = 1000
INTERVAL = timedelta(seconds=9.9)  # between two lines about one cause; 10 s, and a clock's error

_numbers = itertools.count(1)


def new_id() -> str:
    return f"good-{next(_numbers)}"


def event(event_id: str, members: bytes = b"") -> bytes:
    """Return the JSON format of an event; `members` goes in as it is, with its comma in front."""
    return (
        b'{"specversion":"1.0","id":"%b","source":"/s","type":"t.x"' % event_id.encode()
        + members
        + b"}"
    )


def mutations(samples: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Return messages that are random, or nearly one of the samples; the same in each run."""
    chance = random.Random(20260923)
    for _ in range(count):
        message = bytearray(chance.choice(samples))
        kind = chance.randrange(5)
        if kind == 0:
            message = bytearray(chance.randbytes(chance.randrange(64)))
        elif kind == 1:
            message = message[: chance.randrange(len(message))]
        elif kind == 2:
            message += chance.randbytes(chance.randrange(1, 1200))
        else:
            for _ in range(chance.randrange(1, 6)):
                message[chance.randrange(len(message))] = chance.randrange(256)
        yield bytes(message)


class Target:
    """The gateway under attack."""

    def __init__(
        self, gateway: Gateway, recorder: HttpRecorder, client: NatsReceiver, ports: dict[str, int]
    ) -> None:
        self.gateway = gateway
        self.ports = {**gateway.ports, **ports}
        self._recorder = recorder
        self._client = client

    def arrived(self, *ids: str) -> None:
        """Wait until these events have reached the sink."""
        wanted = [f'"{event_id}"'.encode() for event_id in ids]
        self._recorder.wait_for(
            lambda requests: all(any(each in r.body for r in requests) for each in wanted)
        )

    def arrivals(self, event_id: str) -> int:
        wanted = f'"{event_id}"'.encode()
        return sum(wanted in request.body for request in self._recorder.requests)

    def rejected(self, source: str) -> Counter[str]:
        """Return what was rejected, by reason."""
        status, body = self.gateway.get("/metrics")
        assert status == 200
        rows = re.findall(
            r'^ce_gateway_rejected_total\{reason="([^"]*)",source="([^"]*)"\} (\S+)$',
            body.decode(),
            re.MULTILINE,
        )
        return Counter({reason: int(float(n)) for reason, name, n in rows if name == source})

    @contextlib.contextmanager
    def rejecting(self, source: str, reasons: dict[str, int]) -> Iterator[None]:
        """Check that what happens inside is counted so, and exactly so."""
        before = self.rejected(source)
        yield
        wanted = Counter(reasons)
        poll_until(
            lambda: (self.rejected(source) - before).total() >= wanted.total(), 10, "the counters"
        )
        assert self.rejected(source) - before == wanted

    def consumer_is_idle(self) -> None:
        """Wait until the consumer has nothing under way; nothing may have come twice."""
        stream = self._client.client.jetstream()

        def info() -> ConsumerInfo:
            return self._client.run(stream.consumer_info("BAD", "bad"))

        poll_until(lambda: not (info().num_ack_pending or info().num_pending), 10, "the consumer")
        assert info().num_redelivered == 0

    def open_files(self) -> int:
        assert self.gateway._process is not None
        return len(list(Path(f"/proc/{self.gateway._process.pid}/fd").iterdir()))

    def log_lines(self) -> list[str]:
        return self.gateway.log.splitlines()

    def check(self) -> None:
        """Check that no attack has left a trace but the lines it should."""
        assert self.gateway.get("/readyz")[0] == 200
        log = self.gateway.log
        for word in ("Traceback", "Exception", "Task exception", "Logging error", " ERROR "):
            assert word not in log, log[-8000:]
        last: dict[tuple[str, str], datetime] = {}
        for line in self.log_lines():
            # Text of a message must not make lines of its own, nor drive a terminal.
            assert re.match(r"\d{4}-\d\d-\d\dT\S+Z [A-Z]+ ", line), line
            assert line.isprintable(), line
            assert len(line) < 1000, line
            if match := re.search(r"source (\S+) rejected a message: (\w+):", line):
                moment = datetime.fromisoformat(line.split()[0])
                key = match[1], match[2]
                assert key not in last or moment - last[key] >= INTERVAL, line
                last[key] = moment


def configuration(mosquitto: str, nats: str, recorder: str) -> dict[str, object]:
    listen = f"{HOST}:0"
    broker = {
        "protocol": "mqtt",
        "url": mosquitto,
        "subscribe": [{"topic": "bad/t", "qos": 1}],
    }
    core = {"protocol": "nats", "url": nats}
    return {
        "sources": {
            "coap": {
                "protocol": "coap",
                "listen": listen,
                "routes": {
                    "/ce": {"source_policy": "any"},
                    "/ce/s": {"mode": "structured", "source_policy": "any"},
                    "/ce/b": {"mode": "batch", "source_policy": "any"},
                    "/auth": {"authentication": "required"},
                },
            },
            "devices": {
                "protocol": "mqtt-endpoint",
                "listen": listen,
                "connect_timeout": "PT2S",
            },
            "broker5": {**broker, "client_id": "bad-5"},
            "broker3": {**broker, "client_id": "bad-3", "version": "3.1.1"},
            "core": {**core, "subjects": ["bad.core.>"]},
            "wrapping": {
                **core,
                "subjects": ["bad.wrap.>"],
                "event": {"type": "t.wrapped", "source": "/{subject}"},
            },
            "stream": {**core, "stream": "BAD", "durable": "bad"},
            "http": {"protocol": "http", "listen": listen, "header_timeout": "PT2S"},
            "http-large": {
                "protocol": "http",
                "listen": listen,
                "limits": {"max_event_bytes": 1 << 20},
            },
        },
        "sinks": {"log": {"protocol": "log"}, "recorder": {"protocol": "http", "url": recorder}},
        "routes": [
            {"to": ["log", "recorder"], "delivery": {"spool": "off", "dead_letters": "off"}}
        ],
    }


@pytest.fixture(scope="module")
def target(tmp_path_factory, mosquitto, nats_server) -> Iterator[Target]:
    with contextlib.ExitStack() as running, skipping_what_is_missing():
        recorder = running.enter_context(HttpRecorder())
        client = running.enter_context(NatsReceiver(nats_server.url, "bad.answers"))
        stream = client.client.jetstream()
        client.run(stream.add_stream(name="BAD", subjects=["bad.js.>"]))
        running.callback(lambda: client.run(stream.delete_stream("BAD")))
        config = configuration(mosquitto.url, nats_server.url, recorder.url)
        gateway = Gateway(tmp_path_factory.mktemp("bad"), config).start()
        running.callback(gateway.stop)
        ports = {"mosquitto": mosquitto.port, "nats": nats_server.port}
        yield Target(gateway, recorder, client, ports)
        gateway.finish()


@pytest.fixture(autouse=True)
def unharmed(target) -> Iterator[None]:
    yield
    target.check()


# HTTP

ATTRIBUTES = {b"specversion": b"1.0", b"id": b"bad", b"source": b"/s", b"type": b"t.x"}
STRUCTURED = b"Content-Type: application/cloudevents+json"
BATCH = b"Content-Type: application/cloudevents-batch+json"


def binary(*fields: bytes, without: bytes = b"", body: bytes = b"{}") -> bytes:
    """Return a POST of the attributes in headers; `fields` come after them, or in their place."""
    replaced = {field.partition(b":")[0].lower() for field in fields}
    attributes = [
        b"ce-%b: %b" % pair
        for pair in ATTRIBUTES.items()
        if pair[0] != without and b"ce-%b" % pair[0] not in replaced
    ]
    return http_post(body, *attributes, *fields)


def structured(body: bytes) -> bytes:
    return http_post(body, STRUCTURED)


# What a request that is complete is answered, and why; the connection stays.
HTTP_REQUESTS: dict[str, tuple[bytes, int, str]] = {
    **{
        f"without {name.decode()}": (binary(without=name), 400, "missing_attribute")
        for name in ATTRIBUTES
    },
    "id twice": (binary(b"ce-id: a", b"Ce-Id: b"), 400, "duplicate_attribute"),
    "the same id twice": (binary(b"ce-id: a", b"ce-id: a"), 400, "duplicate_attribute"),
    "empty id": (binary(b"ce-id:"), 400, "empty_attribute"),
    "specversion 0.3": (binary(b"ce-specversion: 0.3"), 400, "specversion"),
    "attribute data": (binary(b"ce-data: x"), 400, "attribute_name"),
    "name with underscore": (binary(b"ce-my_name: x"), 400, "attribute_name"),
    "name with dash": (binary(b"ce-my-name: x"), 400, "attribute_name"),
    "no name": (binary(b"ce-: x"), 400, "attribute_name"),
    "content type twice": (
        binary(b"Content-Type: a/b", b"ce-datacontenttype: a/b"), 400, "duplicate_attribute",
    ),
    "no media type": (binary(b"Content-Type: ;;;"), 400, "attribute_type"),
    "source no URI": (binary(b"ce-source: a%20b"), 400, "attribute_type"),
    "relative schema": (binary(b"ce-dataschema: x"), 400, "attribute_type"),
    "time": (binary(b"ce-time: 2026-02-30T00:00:00Z"), 400, "attribute_type"),
    "escape %zz": (binary(b"ce-x: %zz"), 400, "header_encoding"),
    "escape at the end": (binary(b"ce-x: 100%"), 400, "header_encoding"),
    "half an escape": (binary(b"ce-x: a%2"), 400, "header_encoding"),
    "escaped bytes no UTF-8": (binary(b"ce-x: %C3%28"), 400, "header_encoding"),
    "overlong escape": (binary(b"ce-x: %C0%AF"), 400, "header_encoding"),
    "surrogate escape": (binary(b"ce-x: %ED%A0%80"), 400, "header_encoding"),
    "bytes no UTF-8": (binary(b"ce-x: \xff\xfe"), 400, "header_encoding"),
    "open quote": (binary(b'ce-x: "abc'), 400, "header_encoding"),
    "escaped NUL": (binary(b"ce-x: %00"), 400, "forbidden_character"),
    "escaped line break": (binary(b"ce-x: a%0D%0Ab"), 400, "forbidden_character"),
    "escaped ESC in id": (binary(b"ce-id: %1B[2J"), 400, "forbidden_character"),
    "noncharacter": (binary(b"ce-x: %EF%BF%BE"), 400, "forbidden_character"),
    "plain text": (http_post(b"x", b"Content-Type: text/plain"), 415, "not_an_event"),
    "nothing at all": (http_post(), 415, "not_an_event"),
    "avro": (http_post(b"x", b"Content-Type: application/cloudevents+avro"), 415,
             "unknown_encoding"),
    "avro batch": (http_post(b"x", b"Content-Type: application/cloudevents-batch+avro"), 415,
                   "unknown_encoding"),
    "no suffix": (http_post(b"{}", b"Content-Type: application/cloudevents"), 415,
                  "unknown_encoding"),
    "cloudeventsfoo": (http_post(b"{}", b"Content-Type: application/cloudeventsfoo"), 415,
                       "unknown_encoding"),
    "gzip": (http_post(b"x", STRUCTURED, b"Content-Encoding: gzip"), 415, "unknown_encoding"),
    "another path": (http_post(b"x", path=b"/other"), 404, "not_found"),
    "climbing path": (http_post(b"x", path=b"/../../etc/passwd"), 404, "not_found"),
    "GET": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    "PUT": (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405, "method_not_allowed"),
    "content type field twice": (
        http_post(b"{}", STRUCTURED, b"Content-Type: text/plain"), 400, "malformed",
    ),
    "no Host": (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, "malformed"),
    "Host twice": (http_post(b"x", b"Host: y"), 400, "malformed"),
}  # fmt: skip

DEEP = 30_000
# A payload of application/cloudevents+json, and the reason for 400.
JSON_BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "json"),
    "no JSON": (b"hello", "json"),
    "cut off": (event("bad")[:-1], "json"),
    "more behind it": (event("bad") + b"x", "json"),
    "array": (b"[" + event("bad") + b"]", "json"),
    "null": (b"null", "json"),
    "string": (b'"x"', "json"),
    "NaN": (event("bad", b',"data":NaN'), "json"),
    "Infinity": (event("bad", b',"x":-Infinity'), "json"),
    "trailing comma": (event("bad", b","), "json"),
    "comment": (event("bad", b"/**/"), "json"),
    "single quotes": (b"{'specversion':'1.0'}", "json"),
    "leading zero": (event("bad", b',"x":01'), "json"),
    "byte order mark": (b"\xef\xbb\xbf" + event("bad"), "json"),
    "UTF-16": (event("bad").decode().encode("utf-16"), "json"),
    "no UTF-8": (event("bad", b',"x":"\xff"'), "json"),
    "encoded surrogate": (event("bad", b',"x":"\xed\xa0\x80"'), "json"),
    "overlong": (event("bad", b',"data":"\xc0\x80"'), "json"),
    "raw control character": (event("bad", b',"x":"\x01"'), "json"),
    "unknown escape": (event("bad", b',"x":"\\q"'), "json"),
    "lone surrogate in a value": (event("bad", b',"x":"\\ud800"'), "json"),
    "lone surrogate in id": (event("\\ud800"), "json"),
    "lone surrogate in a name": (event("bad", b',"\\udc00":"x"'), "json"),
    "half a surrogate pair": (event("bad", b',"x":"\\ud83dx"'), "json"),
    "lone surrogate in text": (
        event("bad", b',"datacontenttype":"text/plain","data":"\\ud800"'), "json",
    ),
    "deep data": (event("bad", b',"data":' + b"[" * DEEP + b"]" * DEEP), "json"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "json"),
    "deep and open": (b"[" * 60_000, "json"),
    "deep attribute": (event("bad", b',"x":' + b"[" * DEEP + b"]" * DEEP), "json"),
    "member twice": (event("bad", b',"id":"other"'), "duplicate_attribute"),
    "member twice, escaped": (event("bad", b',"i\\u0064":"other"'), "duplicate_attribute"),
    "data twice": (event("bad", b',"data":1,"data":2'), "duplicate_attribute"),
    "data and data_base64": (event("bad", b',"data":1,"data_base64":"AA=="'), "data_twice"),
    "no Base64": (event("bad", b',"data_base64":"A"'), "base64"),
    "spare bits": (event("bad", b',"data_base64":"AB=="'), "base64"),
    "Base64 a number": (event("bad", b',"data_base64":1'), "base64"),
    "float attribute": (event("bad", b',"x":1.5'), "attribute_type"),
    "big integer": (event("bad", b',"x":2147483648'), "attribute_type"),
    "huge integer": (event("bad", b',"x":' + b"1" * 5000), "attribute_type"),
    "exponent": (event("bad", b',"x":1e999999999'), "attribute_type"),
    "object attribute": (event("bad", b',"x":{}'), "attribute_type"),
    "number for id": (b'{"specversion":"1.0","id":1,"source":"/s","type":"t"}', "attribute_type"),
    "null for id": (b'{"specversion":"1.0","id":null,"source":"/s","type":"t"}',
                    "missing_attribute"),
    "empty object": (b"{}", "missing_attribute"),
    "empty name": (event("bad", b',"":"x"'), "attribute_name"),
    "name in upper case": (event("bad", b',"Name":"x"'), "attribute_name"),
    "name with line break": (event("bad", b',"a\\nb\\u001b[2J\\r":"x"'), "attribute_name"),
    "object with a name of controls": (event("bad", b',"a\\nb\\u001b\\r\\u2028":{}'),
                                       "attribute_type"),
    "long name": (event("bad", b',"' + b"\\u001b" * 9000 + b'":"x"'), "attribute_name"),
    "unknown charset": (
        event("bad", b',"datacontenttype":"text/plain;charset=nope","data":"x"'), "charset",
    ),
    "charset that is none": (
        event("bad", b',"datacontenttype":"text/plain;charset=base64","data":"x"'), "charset",
    ),
    "charset lacks it": (
        event("bad", b',"datacontenttype":"text/plain;charset=ascii","data":"\xc3\xa9"'), "charset",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HTTP_REQUESTS)
def test_bad_http_request_between_good_ones_in_one_write(target, name):
    request, status, reason = HTTP_REQUESTS[name]
    check_http_between_good(target, request, status, reason)


@pytest.mark.parametrize("name", JSON_BODIES)
def test_bad_json_between_good_events_in_one_write(target, name):
    body, reason = JSON_BODIES[name]
    check_http_between_good(target, structured(body), 400, reason)


@pytest.mark.parametrize("name", JSON_BODIES)
def test_one_bad_event_makes_the_batch_bad(target, name):
    body, _ = JSON_BODIES[name]
    lost = new_id()
    batch = http_post(b"[" + event(lost) + b"," + body + b"]", BATCH)
    with HttpPeer(target.ports["http"]) as peer:
        peer.send(batch)
        assert peer.statuses(1) == [400]
        last = new_id()
        peer.send(structured(event(last)))
        assert peer.statuses(1) == [202]
    target.arrived(last)
    assert not target.arrivals(lost)


def check_http_between_good(target: Target, request: bytes, status: int, reason: str) -> None:
    first, last = new_id(), new_id()
    with target.rejecting("http", {reason: 1}), HttpPeer(target.ports["http"]) as peer:
        peer.send(structured(event(first)) + request + structured(event(last)))
        assert peer.statuses(3) == [202, status, 202]
    target.arrived(first, last)


ENDLESS = 1_000_000
# What ends the connection, and its last answer; what stood before it is not lost.
MALFORMED_HTTP: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    "NULs": (b"\0" * 100, 400, "malformed"),
    "no version": (b"POST /\r\n\r\n", 505, "malformed"),
    "version 9.9": (b"POST / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed"),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "blank in the target": (b"POST /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "NUL in the target": (b"POST /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "blank before the colon": (b"POST / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "malformed"),
    "no colon": (b"POST / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400, "malformed"),
    "folded line": (b"POST / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "malformed"),
    "NUL in a value": (binary(b"ce-x: a\0b"), 400, "malformed"),
    "CR in a value": (binary(b"ce-x: a\rb"), 400, "malformed"),
    "name outside ASCII": (binary(b"ce-\xc3\xa9: x"), 400, "malformed"),
    "length no number": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400,
                         "malformed"),
    "length negative": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400,
                        "malformed"),
    "length empty": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400, "malformed"),
    "length overflows": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400,
        "malformed",
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400,
        "malformed",
    ),
    "length and chunks": (http_post(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400, "malformed"),
    "chunk size no number": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed",
    ),
    "chunk size negative": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "malformed",
    ),
    "chunk size overflows": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        400, "malformed",
    ),
    "chunk longer than it said": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400,
        "malformed",
    ),
    "chunk larger than the limit": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"
        + b"x" * 65537, 413, "too_large",
    ),
    "length larger than the limit": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, "too_large",
    ),
    "endless header": (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * ENDLESS, 431, "too_large"),
    "endless target": (b"POST /" + b"a" * ENDLESS, 431, "too_large"),
    "endless headers": (b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * (ENDLESS // 6), 431, "too_large"),
    "endless chunk extension": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * ENDLESS, 413,
        "too_large",
    ),
    "unknown expectation": (
        http_post(b"x", b"Expect: 200-maybe"), 417, "malformed",
    ),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED_HTTP)
def test_malformed_http_ends_its_connection_after_the_answers_before_it(target, name):
    data, status, reason = MALFORMED_HTTP[name]
    good, other = new_id(), new_id()
    with (
        HttpPeer(target.ports["http"]) as neighbour,
        target.rejecting("http", {reason: 1}),
        HttpPeer(target.ports["http"]) as peer,
    ):
        after = b"" if name.startswith("endless") else structured(event("after"))
        peer.send(structured(event(good)) + data + after)
        answers = [peer.answer(), peer.answer()]
        assert [answer and answer.status for answer in answers] == [202, status]
        assert answers[1].fields["connection"] == "close"
        assert peer.is_closed
        neighbour.send(structured(event(other)))
        assert neighbour.statuses(1) == [202]
    target.arrived(good, other)
    assert not target.arrivals("after")


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_http_body_at_the_limit_is_taken_and_one_byte_more_is_not(target, framing):
    good = new_id()
    head = [b"ce-specversion: 1.0", b"ce-source: /s", b"ce-type: t", b"ce-id: " + good.encode()]
    for size, status in ((LIMIT, 202), (LIMIT + 1, 413)):
        body = b"x" * size
        request = http_post(body, *head)
        if framing == "chunks":
            chunks = b"%x\r\n" % (size - 1) + body[1:] + b"\r\n1\r\nx\r\n0\r\n\r\n"
            lines = (b"POST / HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", *head)
            request = b"\r\n".join(lines) + b"\r\n\r\n" + chunks
        with HttpPeer(target.ports["http"]) as peer:
            peer.send(request)
            assert peer.statuses(1) == [status]
    target.arrived(good)


def test_hundred_thousand_levels_of_json_are_an_answer(target):
    deep = 100_000
    with target.rejecting("http-large", {"json": 2}), HttpPeer(target.ports["http-large"]) as peer:
        for bomb in (b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep):
            peer.send(structured(event("bad", b',"data":' + bomb)))
        assert peer.statuses(2) == [400, 400]


def test_http_flood_is_one_line_in_the_log(target):
    good = new_id()
    lines = len(target.log_lines())
    with (
        target.rejecting("http", {"missing_attribute": FLOOD}),
        HttpPeer(target.ports["http"]) as peer,
    ):
        peer.send(binary(without=b"id") * FLOOD + structured(event(good)))
        assert peer.statuses(FLOOD + 1) == [400] * FLOOD + [202]
    assert len(target.log_lines()) - lines <= 3
    target.arrived(good)


def test_mutated_requests_are_answered_or_closed_and_good_ones_arrive(target):
    samples = [request for request, _, _ in HTTP_REQUESTS.values()]
    samples += [structured(event("bad")), *(data for data, _, _ in MALFORMED_HTTP.values())]
    check_mutations(target, HttpPeer, "http", [each for each in samples if len(each) < 2000])


def check_mutations(
    target: Target, peer_type: Callable[[int], TcpPeer], source: str, samples: Sequence[bytes]
) -> None:
    """Send each mutation on a connection of its own, and then the end of it."""
    good = []
    for number, data in enumerate(mutations(samples, 400)):
        with peer_type(target.ports[source]) as peer:
            peer.send(data)
            with contextlib.suppress(OSError):  # it has closed it already
                peer.socket.shutdown(socket.SHUT_WR)
            peer.read(1 << 20)
        if number % 50 == 49:
            good.append(new_id())
            with HttpPeer(target.ports["http"]) as neighbour:
                neighbour.send(structured(event(good[-1])))
                assert neighbour.statuses(1) == [202]
    target.arrived(*good)


# The MQTT endpoint


def topic_publish(first: int, topic: bytes, *rest: bytes) -> bytes:
    return packet(first, text(topic), *rest)


NONE = properties()
# What breaks MQTT 5, and the reason code of DISCONNECT (MQTT 5 sections 2, 3 and 4.13).
MQTT5_ERRORS: dict[str, tuple[bytes, int]] = {
    "packet type 0": (b"\x00\x00", 0x81),
    "AUTH without a method": (b"\xf0\x00", 0x82),
    "a server's CONNACK": (b"\x20\x02\x00\x00", 0x82),
    "a server's SUBACK": (b"\x90\x04\x00\x01\x00\x00", 0x82),
    "second CONNECT": (connect(5, b"again"), 0x82),
    "QoS 3": (topic_publish(0x36, b"t", b"\0\1", NONE), 0x81),
    "DUP with QoS 0": (topic_publish(0x38, b"t", NONE), 0x81),
    "PUBREL without its flags": (b"\x60\x02\x00\x01", 0x81),
    "SUBSCRIBE without its flags": (packet(0x80, b"\0\1", NONE, text(b"a"), b"\0"), 0x81),
    "flags in PINGREQ": (b"\xc1\x00", 0x81),
    "PINGREQ with a body": (b"\xc0\x01\x00", 0x81),
    "flags in DISCONNECT": (b"\xe1\x00", 0x81),
    "unknown DISCONNECT code": (b"\xe0\x01\x01", 0x82),
    "length of five bytes": (b"\x30\xff\xff\xff\xff\x01", 0x81),
    "length longer than needed": (b"\x30\x85\x00\x00\x01t\x00", 0x81),
    "topic no UTF-8": (topic_publish(0x32, b"\xff\xfe", b"\0\1", NONE), 0x81),
    "topic with a surrogate": (topic_publish(0x32, b"\xed\xa0\x80", b"\0\1", NONE), 0x81),
    "topic overlong": (topic_publish(0x32, b"\xc0\xaf", b"\0\1", NONE), 0x81),
    "topic with U+0000": (topic_publish(0x32, b"a\0b", b"\0\1", NONE), 0x81),
    "topic longer than the packet": (packet(0x30, b"\xff\xff", b"t", NONE), 0x81),
    "topic with +": (topic_publish(0x32, b"a/+", b"\0\1", NONE), 0x90),
    "topic with #": (topic_publish(0x30, b"#", NONE), 0x90),
    "no topic": (topic_publish(0x30, b"", NONE), 0x82),
    "packet identifier 0": (topic_publish(0x32, b"t", b"\0\0", NONE), 0x82),
    "no packet identifier": (topic_publish(0x32, b"t"), 0x81),
    "empty PUBLISH": (b"\x30\x00", 0x81),
    "properties longer than the packet": (topic_publish(0x30, b"t", b"\x7f"), 0x81),
    "properties' length of five bytes": (
        topic_publish(0x30, b"t", b"\xff\xff\xff\xff\x01"), 0x81,
    ),
    "property cut off": (topic_publish(0x30, b"t", properties(b"\x03\x00\x09ab")), 0x81),
    "unknown property": (topic_publish(0x30, b"t", properties(b"\x7f\x00")), 0x81),
    # Section 2.2.2.2: an identifier that is not valid for its packet type is malformed.
    "property of CONNECT": (topic_publish(0x30, b"t", properties(b"\x11\0\0\0\1")), 0x81),
    "property of a will": (topic_publish(0x30, b"t", properties(b"\x18\0\0\0\1")), 0x81),
    "content type twice": (
        topic_publish(0x30, b"t", properties(b"\x03\0\1a", b"\x03\0\1a")), 0x82,
    ),
    "content type no UTF-8": (topic_publish(0x30, b"t", properties(b"\x03\0\1\xff")), 0x81),
    "user property no UTF-8": (
        topic_publish(0x30, b"t", properties(user(b"id", b"\xff"))), 0x81,
    ),
    "user property with U+0000": (
        topic_publish(0x30, b"t", properties(user(b"id", b"\0"))), 0x81,
    ),
    "response topic with a wildcard": (
        topic_publish(0x30, b"t", properties(b"\x08\0\1#")), 0x82,
    ),
    "subscription identifier": (topic_publish(0x30, b"t", properties(b"\x0b\1")), 0x82),
    "topic alias 0": (topic_publish(0x30, b"t", properties(b"\x23\0\0")), 0x94),
    "topic alias too large": (topic_publish(0x30, b"t", properties(b"\x23\xff\xff")), 0x94),
    "topic alias twice": (
        topic_publish(0x30, b"t", properties(b"\x23\0\1", b"\x23\0\1")), 0x82,
    ),
    "topic alias of nothing": (topic_publish(0x30, b"", properties(b"\x23\0\1")), 0x82),
    "retained": (topic_publish(0x31, b"t", NONE), 0x9A),
    "packet too large": (b"\x30" + varint(200_000), 0x95),
    "largest packet": (b"\x30\xff\xff\xff\x7f", 0x95),
    "SUBSCRIBE without a filter": (packet(0x82, b"\0\1", NONE), 0x82),
    "SUBSCRIBE with packet identifier 0": (
        packet(0x82, b"\0\0", NONE, text(b"a"), b"\0"), 0x82,
    ),
    "SUBSCRIBE with reserved options": (
        packet(0x82, b"\0\1", NONE, text(b"a"), b"\xc0"), 0x81,
    ),
    "SUBSCRIBE cut off": (packet(0x82, b"\0\1", NONE, text(b"a")), 0x81),
    "UNSUBSCRIBE without a filter": (packet(0xA2, b"\0\1", NONE), 0x82),
    "more than the receive maximum": (
        b"".join(topic_publish(0x34, b"t", bytes((1, n)), NONE, b"x") for n in range(101)), 0x93,
    ),
}  # fmt: skip
# In MQTT 3.1.1 the server has no such word: it closes (section 4.8).
MQTT3_ERRORS: dict[str, bytes] = {
    "packet type 0": b"\x00\x00",
    "packet type 15": b"\xf0\x00",
    "second CONNECT": connect(4, b"again"),
    "QoS 3": topic_publish(0x36, b"t", b"\0\1"),
    "DUP with QoS 0": topic_publish(0x38, b"t"),
    "flags in PINGREQ": b"\xc1\x00",
    "length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "topic no UTF-8": topic_publish(0x30, b"\xff"),
    "topic with a wildcard": topic_publish(0x30, b"a/#"),
    "no topic": topic_publish(0x30, b""),
    "packet identifier 0": topic_publish(0x32, b"t", b"\0\0"),
    "packet too large": b"\x30" + varint(200_000),
    "DISCONNECT with a body": b"\xe0\x01\x00",
}


@pytest.mark.parametrize("name", MQTT5_ERRORS)
def test_mqtt_5_error_is_a_disconnect_with_its_reason(target, name):
    data, code = MQTT5_ERRORS[name]
    first = new_id()
    reasons = {"mqtt_protocol": 1}
    if code == 0x93:
        reasons["not_an_event"] = 101
    with (
        MqttPeer(target.ports["devices"]) as neighbour,
        target.rejecting("devices", reasons),
        MqttPeer(target.ports["devices"]) as peer,
    ):
        # What follows must not be read any more.
        good = publish(event(first), 9, JSON_EVENT)
        peer.send(good + data + publish(event("after"), 10, JSON_EVENT))
        packets = []
        while (received := peer.packet())[0]:
            packets.append(received)
        assert packets[-1] == (0xE0, bytes((code,))), packets
        assert all(kind in {0x40, 0x50} for kind, _ in packets[:-1])
        other = new_id()
        neighbour.send(publish(event(other), 1, JSON_EVENT))
        assert neighbour.acknowledgements(1) == [(1, 0)]
    target.arrived(first, other)
    if code != 0x93:  # a message too many is not answered, and may all the same be taken
        assert not target.arrivals("after")


@pytest.mark.parametrize("name", MQTT3_ERRORS)
def test_mqtt_3_error_closes_the_connection(target, name):
    first, other = new_id(), new_id()
    with (
        MqttPeer(target.ports["devices"], 4) as neighbour,
        target.rejecting("devices", {"mqtt_protocol": 1}),
        MqttPeer(target.ports["devices"], 4) as peer,
    ):
        peer.send(publish(event(first), version=4) + MQTT3_ERRORS[name])
        assert peer.is_closed
        neighbour.send(publish(event(other), 1, version=4))
        assert neighbour.acknowledgements(1) == [(1, 0)]
    target.arrived(first, other)


def connect_with(level: bytes, *rest: bytes, name: bytes = b"MQTT") -> bytes:
    return packet(0x10, text(name), level, b"\0\x3c", *rest)


OLD_REFUSAL = b"\x20\x02\x00\x01"  # CONNACK of 3.1 and 3.1.1: unacceptable protocol version
# What is sent in the place of CONNECT, what it is answered, and how it is counted.
FIRST_PACKETS: dict[str, tuple[bytes, bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", b"", "mqtt_protocol"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", "mqtt_protocol"),
    "NULs": (b"\0" * 64, b"", "mqtt_protocol"),
    "PUBLISH": (publish(b"x", 1), b"", "mqtt_protocol"),
    "PINGREQ": (b"\xc0\x00", b"", "mqtt_protocol"),
    "empty CONNECT": (b"\x10\x00", b"", "mqtt_protocol"),
    "huge CONNECT": (b"\x10\xff\xff\xff\x7f", b"", "mqtt_protocol"),
    "length of five bytes": (b"\x10\xff\xff\xff\xff\x01", b"", "mqtt_protocol"),
    "another name": (
        connect_with(b"\5\2", NONE, text(b""), name=b"MQTX"), OLD_REFUSAL, "mqtt_protocol",
    ),
    "3.1": (connect_with(b"\3\2", text(b"a"), name=b"MQIsdp"), OLD_REFUSAL, "mqtt_protocol"),
    "version 6": (connect_with(b"\6\2", NONE, text(b"")), OLD_REFUSAL, "mqtt_protocol"),
    "name no UTF-8": (connect_with(b"\5\2", name=b"\xff\xff"), b"", "mqtt_protocol"),
    "reserved flag": (connect_with(b"\5\3", NONE, text(b"")), b"", "mqtt_protocol"),
    "flags of CONNECT": (b"\x11" + connect(5)[1:], b"", "mqtt_protocol"),
    "will QoS 3": (
        connect_with(b"\5\x1e", NONE, text(b""), NONE, text(b"t"), text(b"")), b"",
        "mqtt_protocol",
    ),
    "will QoS without a will": (connect_with(b"\5\x0a", NONE, text(b"")), b"", "mqtt_protocol"),
    "will cut off": (connect_with(b"\5\6", NONE, text(b""), NONE, text(b"t")), b"",
                     "mqtt_protocol"),
    "receive maximum 0": (
        connect_with(b"\5\2", properties(b"\x21\0\0"), text(b"")), b"", "mqtt_protocol",
    ),
    "bytes behind it": (connect(5, b"a", 2, b"x"), b"", "mqtt_protocol"),
    "client id with U+0000": (connect(5, b"a\0"), b"", "mqtt_protocol"),
    "client id no UTF-8": (connect(4, b"\xff"), b"", "mqtt_protocol"),
    "password without user, 3.1.1": (
        connect(4, b"a", 0x42, text(b"p")), b"", "mqtt_protocol",
    ),
    "no client id and no clean session, 3.1.1": (
        connect(4, b"", 0), b"\x20\x02\x00\x02", "refused_connection",
    ),
    "authentication method": (
        connect_with(b"\5\2", properties(b"\x15" + text(b"X")), text(b"")),
        b"\x20\x03\x00\x8c\x00", "refused_connection",
    ),
    "retained will": (
        connect_with(b"\5\x26", NONE, text(b""), NONE, text(b"t"), text(b"")),
        b"\x20\x03\x00\x9a\x00", "refused_connection",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST_PACKETS)
def test_connection_that_begins_wrong_is_closed_and_only_that(target, name):
    data, answer, reason = FIRST_PACKETS[name]
    with MqttPeer(target.ports["devices"]) as neighbour:
        count = int(reason == "mqtt_protocol")  # a refusal brought no message, so it counts none
        with (
            target.rejecting("devices", {reason: count}),
            MqttPeer(target.ports["devices"], None) as peer,
        ):
            peer.send(data)
            assert peer.read(len(answer) + 1) == answer
        assert neighbour.is_alive


# Bad events in PUBLISH: payload, properties, reason. MQTT 5: PUBACK 0x99 (or 0x97), 3.1.1: PUBACK.
MQTT_EVENTS: dict[str, tuple[bytes, Sequence[bytes], str]] = {
    "no id": (b"{}", [user(b"specversion", b"1.0"), user(b"source", b"/s"), user(b"type", b"t")],
              "missing_attribute"),
    "id twice": (b"{}", [user(b"specversion", b"1.0"), user(b"id", b"1"), user(b"id", b"2")],
                 "duplicate_attribute"),
    "no JSON": (b"hello", [JSON_EVENT], "json"),
    "deep": (b"[" * 60_000, [JSON_EVENT], "json"),
    "batch": (b"[]", [b"\x03" + text(b"application/cloudevents-batch+json")], "unknown_encoding"),
    "avro": (b"x", [b"\x03" + text(b"application/cloudevents+avro")], "unknown_encoding"),
    "plain": (b"hello", [], "not_an_event"),
    "text that is none": (b"\xff", [b"\x01\x01", JSON_EVENT], "payload_format"),
    "too large": (b"x" * (LIMIT + 1), [JSON_EVENT], "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("name", MQTT_EVENTS)
def test_bad_event_between_good_ones_gets_its_own_reason_code(target, name, qos):
    payload, props, reason = MQTT_EVENTS[name]
    first, last = new_id(), new_id()
    messages = [
        publish(event(first), 1, JSON_EVENT),
        publish(payload, 2, *props),
        publish(event(last), 3, JSON_EVENT),
    ]
    if qos == 2:
        messages = [b"\x34" + each[1:] for each in messages]
    code = 0x97 if reason == "too_large" else 0x99
    with target.rejecting("devices", {reason: 1}), MqttPeer(target.ports["devices"]) as peer:
        peer.send(b"".join(messages))
        answers = peer.acknowledgements(3, {1: 0x40, 2: 0x50}[qos])
        assert answers == [(1, 0), (2, code), (3, 0)]
        assert peer.is_alive
    target.arrived(first, last)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"hello", "not_an_event"),
        (b'{"specversion":"1.0"}', "missing_attribute"),
        (event("bad", b',"x":"\\ud800"'), "not_an_event"),
        (event("bad", b',"data":NaN'), "not_an_event"),
        (b"x" * (LIMIT + 1), "too_large"),
    ],
    ids=["plain", "no id", "lone surrogate", "NaN", "too large"],
)
def test_bad_event_of_mqtt_3_is_acknowledged_and_counted(target, payload, reason):
    first, last = new_id(), new_id()
    with target.rejecting("devices", {reason: 1}), MqttPeer(target.ports["devices"], 4) as peer:
        messages = (event(first), payload, event(last))
        peer.send(b"".join(publish(each, n, version=4) for n, each in enumerate(messages, 1)))
        assert peer.acknowledgements(3) == [(1, 0), (2, 0), (3, 0)]
    target.arrived(first, last)


def test_topic_at_its_longest_and_payload_at_the_limit_are_taken(target):
    good = new_id()
    padding = LIMIT - len(event(good, b',"data":""'))
    body = event(good, b',"data":"' + b"x" * padding + b'"')
    assert len(body) == LIMIT
    with MqttPeer(target.ports["devices"]) as peer:
        peer.send(topic_publish(0x32, b"t" * 60_000, b"\0\1", properties(JSON_EVENT), body))
        assert peer.acknowledgements(1) == [(1, 0)]
    target.arrived(good)


def test_bad_will_is_counted(target):
    will = (NONE, text(b"t"), text(b"no event"))
    with (
        target.rejecting("devices", {"not_an_event": 1}),
        MqttPeer(target.ports["devices"], None) as peer,
    ):
        peer.send(connect_with(b"\5\6", NONE, text(b"will"), *will))
        assert peer.packet()[0] == 0x20


@pytest.mark.parametrize("version", [None, 4, 5])
def test_mutated_packets_are_answered_or_closed_and_good_ones_arrive(target, version):
    if version is None:
        samples = [data for data, _, _ in FIRST_PACKETS.values()] + [connect(5), connect(4)]
    elif version == 5:
        samples = [data for data, _ in MQTT5_ERRORS.values()]
        samples += [publish(event("bad"), 1, JSON_EVENT, user(b"a", b"b"))]
    else:
        samples = [*MQTT3_ERRORS.values(), publish(event("bad"), 1, version=4)]
    short = [each for each in samples if len(each) < 2000]
    check_mutations(target, lambda port: MqttPeer(port, version), "devices", short)


def test_mqtt_flood_is_one_line_in_the_log(target):
    good = new_id()
    lines = len(target.log_lines())
    with (
        target.rejecting("devices", {"not_an_event": FLOOD}),
        MqttPeer(target.ports["devices"]) as peer,
    ):
        peer.send(publish(b"hello") * FLOOD + publish(event(good), 1, JSON_EVENT))
        assert peer.acknowledgements(1) == [(1, 0)]
    assert len(target.log_lines()) - lines <= 3
    target.arrived(good)


# CoAP

COAP_CASES = yaml.safe_load(Path(__file__).with_name("bad_input").joinpath("coap.yaml").read_text())


@pytest.mark.parametrize("name", COAP_CASES)
def test_bad_datagram_is_answered_in_words_of_coap(target, name):
    good = new_id()
    with CoapPeer(target.ports["coap"]) as peer:
        for hex_text, answer in COAP_CASES[name]:
            datagram = bytes.fromhex(hex_text)
            peer.send(datagram)
            assert [coap_answer(datagram, each) for each in peer.receive_until(peer.ping())] == (
                [] if answer == "silence" else [answer]
            )
        assert peer.receive_until(peer.post(good)) == []
    target.arrived(good)


def coap_answer(request: bytes, answer: bytes) -> str:
    """Return the code of an answer to a request, whose message id and token it has to have."""
    assert answer[2:4] == request[2:4]
    if answer[0] == 0x70:
        assert len(answer) == 4
        return "RST"
    token = request[4 : 4 + (request[0] & 15)]
    assert answer[0] == 0x60 | len(token)
    assert answer[4 : 4 + len(token)] == token
    return f"{answer[1] >> 5}.{answer[1] & 31:02}"


def test_three_thousand_mutated_datagrams_do_not_stop_good_ones(target):
    good = []
    with CoapPeer(target.ports["coap"]) as attacker, CoapPeer(target.ports["coap"]) as peer:
        samples = [bytes.fromhex(step[0]) for steps in COAP_CASES.values() for step in steps]
        for number, datagram in enumerate(mutations(samples, 3000)):
            attacker.send(datagram)
            if number % 100 == 99:
                good.append(new_id())
                assert peer.receive_until(peer.post(good[-1])) == []
    target.arrived(*good)


@pytest.mark.parametrize(
    ("datagrams", "reason"),
    [
        # CON without type: 4.00 each. NON whose option is cut off: silence.
        ([b"\x42\2" + n.to_bytes(2, "big") + b"ab\xb2ce\x43i=1" for n in range(FLOOD)],
         "missing_attribute"),
        ([b"\x50\2" + n.to_bytes(2, "big") + b"\xd1" for n in range(FLOOD)], "message_format"),
    ],
    ids=["invalid", "malformed"],
)  # fmt: skip
def test_coap_flood_is_one_line_in_the_log(target, datagrams, reason):
    good = new_id()
    lines = len(target.log_lines())
    with (
        CoapPeer(target.ports["coap"]) as attacker,
        CoapPeer(target.ports["coap"]) as peer,
        target.rejecting("coap", {reason: FLOOD}),
    ):
        for number, datagram in enumerate(datagrams):
            attacker.send(datagram)
            if number % 50 == 49:  # the socket's buffer holds that many
                assert peer.receive_until(peer.ping()) == []
        assert peer.receive_until(peer.post(good)) == []
    assert len(target.log_lines()) - lines <= 3
    target.arrived(good)


@pytest.mark.parametrize(("size", "code"), [(LIMIT, "2.04"), (LIMIT + 1, "4.13")])
def test_coap_payload_in_blocks_at_the_limit_is_taken_and_one_byte_more_is_not(target, size, code):
    good = new_id()
    query = (b"t=t.x", b"i=" + good.encode(), b"s=/s")
    payload = b'"' + b"x" * (size - 2) + b'"'
    blocks = [payload[start : start + 1024] for start in range(0, size, 1024)]
    with CoapPeer(target.ports["coap"]) as peer:
        for number, block in enumerate(blocks):
            value = number << 4 | (number + 1 < len(blocks)) << 3 | 6
            block1 = bytes((0xC0 | 2,)) + value.to_bytes(2, "big")  # option 27, after 15
            mid = (0x2000 + number).to_bytes(2, "big")
            request = b"\x42\2" + mid + b"ab" + coap_options(query) + block1 + b"\xff" + block
            peer.send(request)
            answer = coap_answer(request, peer.receive())
            if answer != "2.31":
                break
    assert answer == code
    if code == "2.04":
        target.arrived(good)


# The MQTT client, through Mosquitto


@pytest.mark.parametrize("name", ["no id", "id twice", "no JSON", "deep", "avro", "too large"])
def test_bad_event_from_a_broker_is_counted_and_its_neighbours_arrive(target, name):
    payload, props, reason = MQTT_EVENTS[name]
    # Mosquitto strips the properties for the 3.1.1 session.
    reason3 = reason if reason == "too_large" else "not_an_event"
    first, last = new_id(), new_id()
    with (
        target.rejecting("broker5", {reason: 1}),
        target.rejecting("broker3", {reason3: 1}),
        MqttPeer(target.ports["mosquitto"]) as peer,
    ):
        peer.send(
            publish(event(first), 1, JSON_EVENT)
            + publish(payload, 2, *props)
            + publish(event(last), 3, JSON_EVENT)
        )
        assert peer.acknowledgements(3) == [(1, 0), (2, 0), (3, 0)]
    target.arrived(first, last)
    poll_until(lambda: target.arrivals(first) == target.arrivals(last) == 2, 10, "both sessions")


def test_bad_event_from_mosquitto_pub_is_counted_and_its_neighbours_arrive(target, mosquitto):
    good = [new_id(), new_id()]
    where = f"-h {HOST} -p {mosquitto.port} -V 5 -q 1 -t bad/t"
    command = [program("mosquitto_pub", "mosquitto-clients"), *where.split()]
    structured_mode = ["-D", "publish", "content-type", "application/cloudevents+json"]
    binary_mode = ["-D", "publish", "user-property", "specversion", "1.0"]

    def run(*arguments: str) -> None:
        subprocess.run([*command, *arguments], check=True, timeout=10)

    with target.rejecting("broker5", {"json": 1, "missing_attribute": 1}):
        run(*structured_mode, "-m", event(good[0]).decode())
        run(*structured_mode, "-m", "no JSON")
        run(*binary_mode, "-m", "{}")
        run(*structured_mode, "-m", event(good[1]).decode())
    target.arrived(*good)


def test_flood_from_a_broker_is_one_line_in_the_log(target):
    good = new_id()
    lines = len(target.log_lines())
    with (
        target.rejecting("broker5", {"not_an_event": FLOOD}),
        target.rejecting("broker3", {"not_an_event": FLOOD}),
        MqttPeer(target.ports["mosquitto"]) as peer,
    ):
        peer.send(b"".join(publish(b"hello", n) for n in range(1, FLOOD + 1)))
        peer.send(publish(event(good), FLOOD + 1, JSON_EVENT))
        peer.acknowledgements(FLOOD + 1)
    assert len(target.log_lines()) - lines <= 3
    target.arrived(good)


# NATS

GOOD_HEADER = nats_header(b"Content-Type: application/cloudevents+json")
CE = (b"ce-specversion: 1.0", b"ce-source: /s", b"ce-type: t.x")
# Header block, payload, and the reason.
NATS_MESSAGES: dict[str, tuple[bytes, bytes, str]] = {
    "no id": (nats_header(*CE), b"{}", "missing_attribute"),
    "id twice": (nats_header(*CE, b"ce-id: a", b"ce-id: b"), b"{}", "duplicate_attribute"),
    "id twice by case": (nats_header(*CE, b"ce-id: a", b"CE-ID: b"), b"{}", "duplicate_attribute"),
    "bad escape": (nats_header(*CE, b"ce-id: %zz"), b"{}", "header_encoding"),
    "escaped bytes no UTF-8": (nats_header(*CE, b"ce-id: %ff"), b"{}", "header_encoding"),
    "bytes no UTF-8": (nats_header(*CE, b"ce-id: \xff\xfe"), b"{}", "header_encoding"),
    "escaped NUL": (nats_header(*CE, b"ce-id: a%00b"), b"{}", "forbidden_character"),
    "NUL": (nats_header(*CE, b"ce-id: a\0b"), b"{}", "forbidden_character"),
    "ESC": (nats_header(*CE, b"ce-id: \x1b[2J"), b"{}", "forbidden_character"),
    "attribute data": (nats_header(*CE, b"ce-id: a", b"ce-data: x"), b"{}", "attribute_name"),
    "another version": (b"NATS/2.0\r\na: b\r\n\r\n", b"{}", "malformed_headers"),
    "no end": (b"NATS/1.0\r\nce-id: a\r\n", b"{}", "malformed_headers"),
    "no colon": (b"NATS/1.0\r\nnonsense\r\n\r\n", b"{}", "malformed_headers"),
    "bare line feeds": (b"NATS/1.0\nce-id: a\n\n", b"{}", "malformed_headers"),
    "name outside ASCII": (nats_header(b"ce-\xc3\xa9: x"), b"{}", "malformed_headers"),
    "no header block": (b"\x00\xff\xfe", b"{}", "malformed_headers"),
    "bad JSON": (GOOD_HEADER, b"{", "json"),
    "lone surrogate": (GOOD_HEADER, event("\\ud800"), "json"),
    "deep": (GOOD_HEADER, b"[" * 60_000, "json"),
    "avro": (nats_header(b"Content-Type: application/cloudevents+avro"), b"x", "unknown_encoding"),
    "too large": (GOOD_HEADER, b"x" * (LIMIT + 1), "too_large"),
    "attribute missing, no headers": (b"", b'{"specversion":"1.0"}', "missing_attribute"),
}  # fmt: skip
NO_EVENTS = {
    "bytes": b"\x00\xff\xfe\r\n",
    "text": b"hello",
    "JSON": b'{"t":1}',
    "empty": b"",
    "NaN": b'{"specversion":NaN}',
    "deep": b'{"specversion":' + b"[" * 60_000,
    "lone surrogate": event("\\ud800"),
}


@pytest.mark.parametrize("name", NATS_MESSAGES)
def test_bad_nats_message_is_answered_err_and_its_neighbours_arrive(target, name):
    header, payload, reason = NATS_MESSAGES[name]
    first, last = new_id(), new_id()
    with target.rejecting("core", {reason: 1}), NatsPeer(target.ports["nats"]) as peer:
        peer.send(
            nats_publish(b"bad.core.x", event(first), GOOD_HEADER)
            + nats_publish(b"bad.core.x", payload, header)
            + nats_publish(b"bad.core.x", event(last), GOOD_HEADER)
        )
        answers = sorted(peer.answer() for _ in range(3))
    assert answers[0:2] == [b"+ACK", b"+ACK"]
    assert answers[2].startswith(b"-ERR " + reason.encode() + b": ")
    target.arrived(first, last)


@pytest.mark.parametrize("name", NO_EVENTS)
def test_garbage_is_wrapped_where_there_is_a_template_and_refused_where_there_is_none(target, name):
    payload = NO_EVENTS[name]
    with (
        target.rejecting("core", {"not_an_event": 1}),
        target.rejecting("wrapping", {}),
        NatsPeer(target.ports["nats"]) as peer,
    ):
        peer.send(nats_publish(b"bad.core.x", payload))
        assert peer.answer().startswith(b"-ERR not_an_event: ")
        peer.send(nats_publish(b"bad.wrap.x", payload))
        assert peer.answer() == b"+ACK"


def test_subject_that_is_no_utf_8_is_refused_where_it_would_become_an_attribute(target):
    with target.rejecting("wrapping", {"template": 1}), NatsPeer(target.ports["nats"]) as peer:
        peer.send(nats_publish(b"bad.wrap.\xff\xfe", b"x"))
        assert peer.answer().startswith(b"-ERR template: ")


def test_nats_flood_is_one_line_in_the_log(target):
    good = new_id()
    lines = len(target.log_lines())
    with target.rejecting("core", {"not_an_event": FLOOD}), NatsPeer(target.ports["nats"]) as peer:
        peer.send(nats_publish(b"bad.core.x", b"hello", reply=b"") * FLOOD)
        peer.send(nats_publish(b"bad.core.x", event(good), GOOD_HEADER))
        assert peer.answer() == b"+ACK"
    assert len(target.log_lines()) - lines <= 3
    target.arrived(good)


def test_jetstream_poison_is_terminated_and_its_neighbours_arrive(target):
    first, last = new_id(), new_id()
    poison = [
        *NATS_MESSAGES.values(),
        *((b"", body, "not_an_event") for body in NO_EVENTS.values()),
    ]
    reasons = Counter(reason for _, _, reason in poison)
    with target.rejecting("stream", dict(reasons)), NatsPeer(target.ports["nats"]) as peer:
        peer.send(nats_publish(b"bad.js.x", event(first), GOOD_HEADER, b""))
        peer.send(b"".join(nats_publish(b"bad.js.x", b, h, b"") for h, b, _ in poison))
        peer.send(nats_publish(b"bad.js.x", event(last), GOOD_HEADER, b""))
        target.arrived(first, last)
    target.consumer_is_idle()
    assert target.arrivals(first) == target.arrivals(last) == 1


def test_jetstream_flood_of_poison_is_one_line_in_the_log(target):
    good = new_id()
    lines = len(target.log_lines())
    with (
        target.rejecting("stream", {"not_an_event": FLOOD}),
        NatsPeer(target.ports["nats"]) as peer,
    ):
        peer.send(nats_publish(b"bad.js.x", b"hello", reply=b"") * FLOOD)
        peer.send(nats_publish(b"bad.js.x", event(good), GOOD_HEADER, b""))
        target.arrived(good)
    target.consumer_is_idle()
    assert len(target.log_lines()) - lines <= 3


# Slow and half


@pytest.mark.parametrize("beginning", [b"", b"POST / HTTP/1.1\r\nHo"], ids=["silent", "half"])
def test_two_hundred_half_open_http_connections_disturb_nobody(target, beginning):
    good = new_id()
    with (
        contextlib.ExitStack() as held,
        target.rejecting("http", {"timeout": 200} if beginning else {}),
    ):
        peers = [held.enter_context(HttpPeer(target.ports["http"])) for _ in range(200)]
        for peer in peers:
            peer.send(beginning)
        with HttpPeer(target.ports["http"]) as neighbour:
            neighbour.send(structured(event(good)))
            assert neighbour.statuses(1) == [202]
        target.arrived(good)
        # Those that are in the middle of something are told why they are closed.
        assert [peer.statuses(2) for peer in peers] == [[408] if beginning else []] * 200


@pytest.mark.parametrize("beginning", [b"", b"\x10\x20\x00\x04MQ"], ids=["silent", "half"])
def test_two_hundred_half_open_mqtt_connections_disturb_nobody(target, beginning):
    good = new_id()
    with contextlib.ExitStack() as held:
        devices = target.ports["devices"]
        peers = [held.enter_context(MqttPeer(devices, None)) for _ in range(200)]
        for peer in peers:
            peer.send(beginning)
        with MqttPeer(devices) as neighbour:
            neighbour.send(publish(event(good), 1, JSON_EVENT))
            assert neighbour.acknowledgements(1) == [(1, 0)]
        target.arrived(good)
        assert all(peer.is_closed for peer in peers)


def test_bytes_one_at_a_time_are_a_request_and_a_packet(target):
    good = [new_id(), new_id()]
    with HttpPeer(target.ports["http"]) as http, MqttPeer(target.ports["devices"]) as mqtt:
        for byte in structured(event(good[0])):
            http.send(bytes((byte,)))
        for byte in publish(event(good[1]), 1, JSON_EVENT):
            mqtt.send(bytes((byte,)))
        assert http.statuses(1) == [202]
        assert mqtt.acknowledgements(1) == [(1, 0)]
    target.arrived(*good)


def test_connections_that_are_reset_leave_nothing_behind(target):
    before = target.open_files()
    for port, data in ((target.ports["http"], b"POST /"), (target.ports["devices"], connect(5))):
        for _ in range(100):
            with HttpPeer(port) as peer:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.send(data)
    poll_until(lambda: target.open_files() <= before, 10, "the gateway to close its side")


# What comes out again


AWKWARD = {
    "a number of 5000 digits": b"1" * 5000,
    "a number beyond floats": b"1e999",
    "levels": b"[" * 900 + b"]" * 900,
    "more levels": b"[" * 960 + b"]" * 960,
    "still more levels": b"[" * 985 + b"]" * 985,
    "lone surrogate escape": b'"\\ud83d\\ude00"',
    "line separator": "\u2028\u2029\x85".encode().join((b'"', b'"')),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_data_reaches_those_who_listen_as_it_came(target, name):
    good = new_id()
    body = event(good, b',\n\r\n\t"data":\n' + AWKWARD[name])
    stream = http.client.HTTPConnection(HOST, target.gateway.port, timeout=10)
    try:
        stream.request("GET", "/api/v1/events/stream?sink=log")
        answer = stream.getresponse()
        with HttpPeer(target.ports["http"]) as peer:
            peer.send(structured(body))
            status = peer.statuses(1)
            if "levels" in name and status == [400]:
                return  # too deep to be taken is a good answer too
            assert status == [202]
        line = b""
        while not line.startswith(b"data: "):
            line = answer.readline()
            assert line, "the stream ended"
    finally:
        stream.close()
    assert line[6:-1] == body.replace(b"\n", b" ").replace(b"\r", b" ")
    target.arrived(good)
