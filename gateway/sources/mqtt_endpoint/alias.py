"""Topic aliases of one connection (section 3.3.2.3.4)."""

from typing import Final

import msgspec

from bindings.wire.mqtt import PacketError, Property, Publish, ReasonCode
from bindings.wire.mqtt.reason import protocol_error

TOPIC_ALIAS_MAXIMUM: Final = 16


class TopicAliases:
    """What numbers stand for which topics; they last as long as the connection."""

    def __init__(self) -> None:
        self._topics: dict[int, str] = {}

    def resolve(self, packet: Publish) -> Publish:
        """Return a PUBLISH with its topic, and remember the alias it defines.

        Raises:
            PacketError: the alias is out of range (0x94), or stands for nothing (0x82).
        """
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if not isinstance(alias, int):
            return packet
        if not 1 <= alias <= TOPIC_ALIAS_MAXIMUM:
            raise PacketError(ReasonCode.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
        if packet.topic:
            self._topics[alias] = packet.topic
            return packet
        topic = self._topics.get(alias)
        if topic is None:
            raise protocol_error(f"topic alias {alias} stands for nothing")
        return msgspec.structs.replace(packet, topic=topic)
