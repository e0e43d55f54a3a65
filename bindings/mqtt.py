"""The MQTT protocol binding (mqtt-protocol-binding.md 1.0.2): MQTT 5 and 3.1.1.

Its own, in MQTT 5: attributes are User Properties of the same name, without prefix and without
percent-encoding; `datacontenttype` is the Content Type property, a User Property that repeats it is
accepted. Any lower-case alphanumeric User Property of an event is therefore an extension; a name
that is none (`X-Trace`) is transport metadata and ignored. A message is an event if it has the User
Property `specversion` or a CloudEvents content type.

MQTT 3.1.1 has neither properties nor a content type: a payload that is a JSON object with
`specversion` is an event, and events are always sent in structured mode.
"""

from collections.abc import Sequence

import msgspec

from bindings.binding import ContentMode, HeaderBinding, Message
from bindings.event import Event
from bindings.json_format import decode_bare_event, encode_event

MQTT = HeaderBinding(
    name="mqtt",
    prefix="",
    content_type_copy="accept",
    foreign_names="ignore",
    value_limit=65535,  # MQTT 5.0 section 1.5.4
)

MQTT_BARE_JSON = msgspec.structs.replace(MQTT, bare_json=True)
"""For brokers that pass messages of MQTT 3.1.1 publishers on to us, without a content type."""


class Mqtt311Binding:
    """The mapping to MQTT 3.1.1: JSON in the payload, and nothing else."""

    name = "mqtt311"

    def decode(self, message: Message) -> Sequence[Event]:
        return (decode_bare_event(message.payload or b""),)

    def encode(self, event: Event, mode: ContentMode) -> Message:  # noqa: ARG002 - the Binding interface
        return Message(encode_event(event))


MQTT311 = Mqtt311Binding()
