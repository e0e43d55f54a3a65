"""Events as records: their topic, key, value and headers, handed to librdkafka one by one."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import Producer

from bindings.binding import EVENT_MEDIA_TYPE, Message
from bindings.event import Event, canonical_text
from bindings.json_format import encode_event
from bindings.kafka import KAFKA
from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks.kafka.batch import REFUSED, Batch
from gateway.sinks.kafka.config import KafkaSinkConfig, TopicTemplate

_Headers = list[tuple[str, str | bytes | None]]

_STRUCTURED: Final[_Headers] = [("content-type", EVENT_MEDIA_TYPE.encode())]
"""The headers of nearly every record."""
_ANY_PARTITION: Final = -1  # RD_KAFKA_PARTITION_UA of librdkafka's rdkafka.h


class Records:
    """How a sink writes events.

    Args:
        config: the sink's.
    """

    def __init__(self, config: KafkaSinkConfig) -> None:
        self._topic = TopicTemplate(config.topic)
        self._fixed_topic = self._topic.fixed
        self._is_structured = config.mode == "structured"
        self._key_name = config.key
        self._has_key = config.key != "none"

    def produce(
        self,
        events: Sequence[Event],
        positions: Sequence[int],
        held: dict[str, int],
        producer: Producer,
        batch: Batch,
    ) -> None:
        """Hand the events at these positions over, from `batch.produced` on.

        Args:
            events: all of a list.
            positions: of those that the batch is made of.
            held: by key, a position whose event has to be repeated; no later one is sent before.
            producer: takes them.
            batch: knows their callbacks, and gets what fails here.

        Raises:
            BufferError: there is no room for the one at `batch.produced`.
            KafkaException: that one can't be sent.
        """
        produce, reports = producer.produce, batch.reports
        fixed_topic, has_key, is_structured = self._fixed_topic, self._has_key, self._is_structured
        headers = _STRUCTURED
        key: bytes | None = None
        value: bytes | None
        index = batch.produced
        try:
            for index in range(index, batch.size):  # noqa: B020 - where it got to, if one raises
                position = positions[index]
                event = events[position]
                if held and held.get(event.key, position) < position:
                    batch.fail(index, Failure(index, Outcome.RELEASED, Reason.HELD))
                    continue
                topic = fixed_topic
                if topic is None:
                    try:
                        topic = self._topic.fill(event)
                    except ValueError as error:
                        batch.fail(index, Failure(index, *REFUSED, detail=str(error)))
                        continue
                if is_structured:  # as KAFKA.encode does it
                    value = encode_event(event)
                else:
                    value, headers = _record_of(KAFKA.encode(event, "binary"))
                if has_key:
                    key = self._key(event)
                # By position, as the client takes half a microsecond to read keywords.
                produce(topic, value, key, _ANY_PARTITION, reports[index], None, 0, headers)
            index = batch.size
        finally:
            batch.produced = index

    def _key(self, event: Event) -> bytes | None:
        if self._key_name == "order":
            return event.key.encode()
        value = event.attributes().get(self._key_name)
        return None if value is None else canonical_text(value).encode()


def _record_of(message: Message) -> tuple[bytes | None, _Headers]:
    """Return a message's value and headers."""
    headers: _Headers = [*message.headers]
    if message.content_type:
        headers.append(("content-type", message.content_type))
    return message.payload, headers
