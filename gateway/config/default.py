"""The embedded default: every protocol on loopback, into the built-in event log or `K_SINK`."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.config.gateway import GatewayConfig
from gateway.config.loader import load

_SOURCES: Final = """\
sources:
  coap:
    protocol: coap
    listen: "127.0.0.1:{ports.coap}"
    routes:
      /ce:
        mode: auto
        source_policy: any
        type: com.example.coap
        source: "/devices/{{device}}"
      /ce/s: {{mode: structured, source_policy: any}}
      /ce/b: {{mode: batch, source_policy: any}}
  mqtt:
    protocol: mqtt-endpoint
    listen: "127.0.0.1:{ports.mqtt}"
    event: {{type: com.example.mqtt, source: "/devices/{{client_id}}", subject: "{{topic}}"}}
  nats:
    protocol: nats
    url: "nats://127.0.0.1:{ports.nats}"
    subjects: ["events.>"]
    event: {{type: com.example.nats, source: /nats, subject: "{{subject}}"}}
  http:
    protocol: http
    listen: "127.0.0.1:{ports.http}"
    event: {{type: com.example.http, source: /http}}
routes:
  - to: [out]
admin: {{listen: "127.0.0.1:{ports.admin}"}}
"""
_LOG: Final = "sinks: {out: {protocol: log}}\n"
_K_SINK: Final = 'sinks: {out: {protocol: http, url: "${K_SINK}"}}\n'


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the embedded default listens; 0 lets the system choose."""

    coap: int = 5683
    mqtt: int = 1883
    nats: int = 4222
    http: int = 8080
    admin: int = 8081

    @classmethod
    def free(cls) -> "Ports":
        """Return ports that are free now; the NATS server has to be told its port beforehand."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(coap=0, mqtt=0, nats=probe.getsockname()[1], http=0, admin=0)


def default_config(environ: Mapping[str, str], ports: Ports | None = None) -> GatewayConfig:
    """Return the embedded default: all sources on loopback, with a NATS server of our own.

    Args:
        environ: `K_SINK`, when set, is where events go instead of the event log.
        ports: where to listen.

    Raises:
        ConfigErrors: `K_SINK` is no http(s) URL.
    """
    text = default_text(environ, ports)
    return load(text, environ).model_copy(update={"embedded_nats": True})


def default_text(environ: Mapping[str, str], ports: Ports | None = None) -> str:
    """Return the embedded default as it would stand in a file; arguments as `default_config`."""
    return _SOURCES.format(ports=ports or Ports()) + (_K_SINK if environ.get("K_SINK") else _LOG)
