"""One way to talk to a gateway for each protocol: send messages, hear what became of each.

http        a POST and its status
mqtt        MQTT 5, QoS 1: PUBLISH and PUBACK
mqtt-qos2   MQTT 5, QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP
mqtt311     MQTT 3.1.1, QoS 1
nats        core NATS with a reply subject: `+ACK` or `-ERR`
jetstream   a stream, and the acknowledgements that a consumer of it sends
"""

from collections.abc import Callable, Mapping
from typing import Final

from conformance.peers.dialogue.answer import Answer, Dialogue
from conformance.peers.dialogue.coap import CoapDialogue
from conformance.peers.dialogue.http import HttpDialogue
from conformance.peers.dialogue.mqtt import MqttDialogue, topic_of
from conformance.peers.dialogue.nats import CoreDialogue, StreamDialogue

__all__ = ["WAYS", "Answer", "Dialogue", "dialogue", "topic_of"]

WAYS: Final = ("http", "mqtt", "mqtt-qos2", "mqtt311", "nats", "jetstream")
"""Those of the families over the wire; CoAP has families of its own."""

_DIALOGUES: Final[Mapping[str, Callable[[str], Dialogue]]] = {
    "http": HttpDialogue,
    "mqtt": MqttDialogue,
    "nats": CoreDialogue,
    "jetstream": StreamDialogue,
    "coap": CoapDialogue,
}


def dialogue(way: str, url: str) -> Dialogue:
    """Return the dialogue of a way."""
    if way == "mqtt-qos2":
        return MqttDialogue(url, qos=2)
    if way == "mqtt311":
        return MqttDialogue(url, version=4)
    return _DIALOGUES[way](url)
