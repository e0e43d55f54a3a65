"""From one PUBLISH to its events, for both MQTT sources."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from bindings.binding import Binding, Message
from bindings.errors import CloudEventError, InvalidEventError, NotAnEventError, TooLargeError
from bindings.event import Event
from bindings.mqtt import MQTT, MQTT311, MQTT_BARE_JSON
from bindings.wire.mqtt import V5, Property, Publish, ReasonCode, Version, Will
from gateway.config.records import EventTemplate

# Members of an Enum are slow to look up.
_FORMAT_INDICATOR: Final = Property.PAYLOAD_FORMAT_INDICATOR


class MessageDecoder:
    """Decodes what PUBLISH carries, and wraps what is no event if there is a template.

    Args:
        template: the source's `event:` table.
        limit: the largest payload taken, in bytes.
        bare_json: in MQTT 5, take a JSON event without content type and properties for an event.
    """

    def __init__(
        self, template: EventTemplate | None, limit: int, *, bare_json: bool = False
    ) -> None:
        self._limit = limit
        self._bindings: Mapping[int, Binding] = {
            V5: MQTT_BARE_JSON if bare_json else MQTT,
            4: MQTT311,
        }
        self._wrapper = None if template is None else template.wrapper()

    def decode(
        self, message: Publish | Will, version: Version, facts: Mapping[str, str]
    ) -> Sequence[Event]:
        """Return the events of a message.

        A wrapped event gets a fresh id: call this once for a message, not for its repetitions.

        Args:
            message: what arrived.
            version: the connection's.
            facts: what templates may refer to, besides the topic.

        Raises:
            CloudEventError: it brings no event; `refusal_code` has the answer.
        """
        payload = message.payload
        if len(payload) > self._limit:
            raise TooLargeError(
                f"a payload of {len(payload)} bytes; the limit is {self._limit}", limit=self._limit
            )
        if message.properties and message.properties.get(_FORMAT_INDICATOR):
            _check_text(payload)
        content_type = message.content_type
        try:
            return self._bindings[version].decode(
                Message(payload, content_type, message.user_properties, message.topic)
            )
        except NotAnEventError:
            if self._wrapper is None:
                raise
            event = self._wrapper.wrap(
                payload,
                {**facts, "topic": message.topic},
                id=str(uuid.uuid4()),
                time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                content_type=content_type,
            )
            return (event,)


def refusal_code(error: CloudEventError) -> ReasonCode:
    """Return what PUBACK or PUBREC says of a message that brought no event."""
    if isinstance(error, TooLargeError):
        return ReasonCode.QUOTA_EXCEEDED
    return ReasonCode.PAYLOAD_FORMAT_INVALID


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        # MQTT 5 section 3.3.2.3.2
        raise InvalidEventError(
            "the payload is no UTF-8, and its format indicator says so", reason="payload_format"
        ) from error
