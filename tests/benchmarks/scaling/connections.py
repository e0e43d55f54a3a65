"""What a connected device costs: resident memory, and CPU time of connecting and one event.

Real connections on loopback, from a process of its own; each device has reported once, waits for
the answer and stays. For CoAP, which has none, a device is a socket of its own: the gateway keeps
the answer for repetitions.
"""

import resource
import signal
import socket
import ssl
import struct
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bindings.binding import Message
from bindings.mqtt import MQTT
from bindings.wire.mqtt import PacketReader, Peer, Publish
from gateway.delivery import Delivery
from tests.benchmarks.process import gateway
from tests.benchmarks.processes import usage
from tests.benchmarks.worker import Worker, options, say
from tests.e2e.servers import HOST, free_port
from tests.helpers import make_certificates
from tests.instructions import inputs

_PATIENCE: Final = 600.0
_SETTLING: Final = 1.0

KINDS: Final[dict[str, Mapping[str, Any]]] = {
    "mqtt": {"protocol": "mqtt-endpoint", "max_connections": 20_000},
    "mqtt-tls": {"protocol": "mqtt-endpoint", "max_connections": 20_000},
    "http": {"protocol": "http", "max_connections": 20_000, "keep_alive_timeout": 3600.0},
    "coap": {"protocol": "coap", "routes": {"/ce": {"source_policy": "any"}}},
}


def measure(kind: str, count: int) -> dict[str, float]:
    """Return KiB per device and CPU microseconds per device, with what it sent."""
    _many_files()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port(socket.SOCK_DGRAM if kind == "coap" else socket.SOCK_STREAM)
        source = {**KINDS[kind], "listen": f"{HOST}:{port}"}
        ca = ""
        if kind == "mqtt-tls":
            made = make_certificates(Path(folder))
            source["tls"] = {"cert": str(made.server_cert), "key": str(made.server_key)}
            ca = str(made.ca)
        config = {"sources": {"in": source}, "sinks": {"out": {"protocol": "log"}}}
        with gateway({**config, "routes": [{"to": ["out"]}]}) as running:
            first = Worker(__name__, kind=kind, port=port, ca=ca, first=0, count=100)
            try:
                first.ready(_PATIENCE)  # what is imported and allocated once
                time.sleep(_SETTLING)
                before = usage([running.pid])
                devices = Worker(__name__, kind=kind, port=port, ca=ca, first=100, count=count)
                try:
                    devices.ready(_PATIENCE)
                    used = usage([running.pid]).cpu - before.cpu
                    time.sleep(_SETTLING)
                    after = usage([running.pid])
                finally:
                    devices.end()
            finally:
                first.end()
    return {
        "devices": count,
        "kib": (after.mib - before.mib) * 1024 / count,
        "connect_us": used / count * 1e6,
        "base_mib": before.mib,
    }


def event_bytes(count: int = 20_000) -> float:
    """Return the bytes that an event takes while it waits in the pipeline."""
    tracemalloc.start()
    deliveries = []
    for number in range(count):
        (packet,) = PacketReader(Peer.SERVER_RAW).feed(inputs.mqtt_publish(number))
        assert isinstance(packet, Publish)
        message = Message(packet.payload, packet.content_type, packet.user_properties, packet.topic)
        deliveries.append(Delivery(MQTT.decode(message), print))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / len(deliveries)


def _many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _mqtt(port: int, number: int, ca: str) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    if ca:
        sock = _context(ca).wrap_socket(sock, server_hostname="localhost")
    name = b"device-%06d" % number
    body = b"\x00\x04MQTT\x05\x02\x0e\x10\x00" + struct.pack(">H", len(name)) + name
    sock.sendall(bytes((0x10, len(body))) + body)
    connack = sock.recv(1024)
    assert (connack[0], connack[3]) == (0x20, 0), connack
    sock.sendall(inputs.mqtt_publish(number))
    puback = sock.recv(1024)
    assert puback[:2] == b"\x40\x02", puback  # without a reason: success
    return sock


def _http(port: int, number: int, _ca: str) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    headers = [*inputs.http_headers(number), ("content-type", "application/json")]
    head = "POST / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    sock.sendall(head.encode() + b"\r\n" + inputs.DATA)
    answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 20"), answer
    return sock


def _coap(port: int, number: int, _ca: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(60)
    sock.connect((HOST, port))
    sock.send(inputs.coap_request(number))
    answer = sock.recv(2048)
    if answer[1] == 0:  # an empty acknowledgement; the answer is separate
        answer = sock.recv(2048)
    assert answer[1] == 0x44, answer
    return sock


_contexts: dict[str, ssl.SSLContext] = {}


def _context(ca: str) -> ssl.SSLContext:
    if ca not in _contexts:
        _contexts[ca] = ssl.create_default_context(cafile=ca)
    return _contexts[ca]


def _connect(kind: str, port: int, ca: str, first: int, count: int) -> None:
    device: Callable[[int, int, str], socket.socket] = {
        "mqtt": _mqtt, "mqtt-tls": _mqtt, "http": _http, "coap": _coap,
    }[kind]  # fmt: skip
    devices = [device(port, number, ca) for number in range(first, first + count)]
    say(connected=len(devices))
    signal.pause()


if __name__ == "__main__":
    _many_files()
    _connect(**options())
