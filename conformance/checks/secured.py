"""TLS below a binding: the same messages, and nothing without it (HTTP and MQTT).

CoAP has its own kinds of security (`coap_channels`); NATS leaves TLS to its server.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.live import Case, live_check
from conformance.checks.telling import TELLING
from conformance.peers import mqtt
from conformance.peers.certificate import self_signed
from conformance.peers.http_client import HttpClient, post
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference, shown
from conformance.target import Target

FAMILY: Final = "secured"
_IDS: Final = ("CORE-SEC-004",)
_EVENT: Final = TELLING["unicode"]


def checks() -> Iterator[Check]:
    """Return the checks of TLS."""
    for way in ("http", "mqtt"):
        ids = (*_IDS, "HTTP-SEC-001") if way == "http" else _IDS
        title = "An event arrives over TLS as it does without."
        yield live_check(FAMILY, Case(way, "tls", title, ids, partial(_send, way)))
        title = "A listener with TLS takes nothing without."
        yield live_check(FAMILY, Case(way, "no-tls", title, _IDS, partial(_send_plain, way)))


async def _send(way: str, target: Target) -> None:
    with self_signed() as made:
        async with target.variant(tls={"cert": made.cert, "key": made.key}) as other:
            message = Carrier(way, "binary").write(_EVENT)
            if way == "http":
                async with HttpClient(other.url, made.context) as client:
                    client.send(post(message))
                    await client.receive()
            else:
                async with mqtt.MqttClient(other.url, tls=made.context) as device:
                    await device.open("")
                    device.send(mqtt.publish(5, "a", message))
                    await device.receive()
            (event,) = await other.events(1)
    text = difference(_EVENT, event)
    if text:
        raise CheckFailed(text, expected=shown(_EVENT), got=shown(event))


async def _send_plain(way: str, target: Target) -> None:
    with self_signed() as made:
        async with target.variant(tls={"cert": made.cert, "key": made.key}) as other:
            message = Carrier(way, "binary").write(_EVENT)
            client = HttpClient(other.url) if way == "http" else mqtt.MqttClient(other.url)
            async with client:
                sent = post(message) if way == "http" else mqtt.connect(5, "a", clean=True)
                client.send(sent)
                try:
                    await client.receive()
                except CheckFailed as failed:
                    if failed.expected:  # it keeps the connection
                        raise
                else:
                    raise CheckFailed("it answers without TLS", expected="the end")
