"""MQTT: PUBLISH and PUBACK, or all four packets of QoS 2."""

from urllib.parse import urlsplit
from uuid import uuid4

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers import mqtt
from conformance.peers.dialogue.answer import Answer, Connected


def topic_of(url: str) -> str:
    """Return the topic that the path of an MQTT URL names."""
    return urlsplit(url).path.strip("/") or "conformance/events"


class MqttDialogue(Connected):
    """MQTT at QoS 1 or 2; packet identifiers are counted from 1."""

    def __init__(self, url: str, version: int = 5, qos: int = 1) -> None:
        self.client = mqtt.MqttClient(url, version)
        self.binding = "mqtt" if version == 5 else "mqtt311"
        self.topic = topic_of(url)
        self._qos = qos
        self._sent = 0
        self._heard: list[mqtt.Packet] = []
        super().__init__(self.client)

    async def _begin(self) -> None:
        await self.client.open(f"conformance-{uuid4().hex[:12]}")

    def send(self, *messages: Message) -> str:
        sent = b""
        for message in messages:
            self._sent += 1
            sent += mqtt.publish(
                self.client.version, self.topic, message, qos=self._qos, packet_id=self._sent
            )
        self.client.send(sent)
        return sent.hex()

    async def answer(self, seconds: float = 5.0) -> Answer:
        packet = self._heard.pop(0) if self._heard else await self.client.receive(seconds)
        if packet.name == "PUBREC" and packet.code < 0x80:
            self.client.send(mqtt.pubrel(packet.packet_id))
            await self._completed(packet.packet_id, seconds)
        elif packet.name not in {"PUBACK", "PUBREC", "DISCONNECT"}:
            raise CheckFailed("another packet came", expected="PUBACK", got=str(packet))
        is_yes = packet.code < 0x80 and packet.name != "DISCONNECT"
        return Answer(word="yes" if is_yes else "no", text=str(packet), code=packet.code)

    async def _completed(self, packet_id: int, seconds: float) -> None:
        while True:
            packet = await self.client.receive(seconds)
            if packet.name == "DISCONNECT" or packet.packet_id == packet_id:
                return  # what PUBREC said holds, whatever becomes of the rest
            self._heard.append(packet)

    async def said(self) -> Answer | None:
        self._heard += await self.client.answers_so_far()
        return await self.answer() if self._heard else None
