"""What the tests of the contract have in common: configurations, devices, sinks."""

import contextlib
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.bad_input.peers import HttpPeer, http_post
from tests.e2e.servers import HOST, Gateway, HttpRecorder, RecordedRequest

STRUCTURED = b"Content-Type: application/cloudevents+json"
QUICK = {"retry": 0, "spool": "off", "dead_letters": "off"}
"""A delivery whose sender is told at once what the sink has said."""


def configuration(
    delivery: Mapping[str, object] = QUICK, *, sink: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return a configuration as a container of Knative has it: HTTP, CoAP and MQTT to K_SINK."""
    return {
        "sources": {
            "http": {
                "protocol": "http",
                "listen": f"{HOST}:0",
                "event": {"type": "t", "source": "/http"},
            },
            "coap": {
                "protocol": "coap",
                "listen": f"{HOST}:0",
                "routes": {"/t": {"type": "t.x", "source_policy": "any"}},
            },
            "mqtt": {
                "protocol": "mqtt-endpoint",
                "listen": f"{HOST}:0",
                "event": {"type": "t.x", "source": "/devices/{client_id}"},
            },
        },
        "sinks": {"knative": {"protocol": "http", "url": "${K_SINK}", **(sink or {})}},
        "routes": [{"to": ["knative"], "delivery": dict(delivery)}],
    }


def event(name: str, **attributes: object) -> bytes:
    """Return an event in the JSON format; each has a key of its own unless `source` is given."""
    required = {"specversion": "1.0", "id": name, "source": f"/{name}".replace(" ", "-")}
    return json.dumps({**required, "type": "t", **attributes}).encode()


def post(gateway: Gateway, name: str, **attributes: object) -> int:
    """Send one event over HTTP and return the status that its sender is told."""
    with HttpPeer(gateway.ports["http"]) as device:
        device.send(http_post(event(name, **attributes), STRUCTURED))
        (status,) = device.statuses(1)
    return status


def received(request: RecordedRequest) -> dict[str, Any]:
    """Return the structured event of a request."""
    assert request.header("Content-Type") == "application/cloudevents+json"
    found = json.loads(request.body)
    assert isinstance(found, dict)
    return found


def attempts(sink: HttpRecorder) -> Counter[str]:
    """Return how often each event was sent, by id."""
    return Counter(str(json.loads(request.body)["id"]) for request in list(sink.requests))


def metric(gateway: Gateway, sample: str) -> float:
    """Return the value of a sample, such as `ce_gateway_sent_total{sink="x"}`; 0 if absent."""
    for line in gateway.get("/metrics")[1].decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name == sample:
            return float(value)
    return 0.0


@dataclass
class Bench:
    """A gateway, and the sink that it sends to."""

    gateway: Gateway
    sink: HttpRecorder


class TlsRecorder(HttpRecorder):
    """A sink over TLS, which shows each new connection the certificate of `present`."""

    def __init__(self) -> None:
        super().__init__()
        self._context: ssl.SSLContext | None = None
        accept = self._server.get_request

        def get_request() -> tuple[socket.socket, Any]:
            connection, address = accept()
            assert self._context is not None
            # The handshake is made by the first read, in the connection's own thread.
            return (
                self._context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                ),
                address,
            )

        self._server.get_request = get_request  # type: ignore[method-assign]

    def present(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._context = context

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@contextlib.contextmanager
def started(gateway: Gateway) -> Iterator[Gateway]:
    """Run a gateway; at the end it has to go as an operator expects."""
    try:
        yield gateway.start()
    finally:
        gateway.stop()
    gateway.finish()
