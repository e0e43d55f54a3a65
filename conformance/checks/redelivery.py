"""What comes again has the same id; what does not has another."""

from collections.abc import Iterator
from functools import partial
from typing import Final
from uuid import uuid4

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.live import Case, live_check, of_stream, scene, stream
from conformance.peers import mqtt
from conformance.peers.dialogue import WAYS, dialogue, topic_of
from conformance.target import Target

FAMILY: Final = "redelivery"

_TEMPLATE: Final = {"type": "com.example.wrapped", "source": "/conformance/wrapped"}
_PLAIN: Final = Message(b'{"celsius": 21.5}', "")


def checks() -> Iterator[Check]:
    """Return the checks of each way to talk, and those of MQTT's sessions and of streams."""
    for way in WAYS:
        case = Case(
            way,
            "made-up-ids",
            "A hundred equal messages that are no events become events with a hundred ids.",
            ("GW-RED-002", "CORE-ID-001", "CORE-ID-006"),
            partial(_make_up_ids, way),
        )
        yield live_check(FAMILY, case)
    for way, name, title, ids, run in _SESSIONS:
        yield live_check(FAMILY, Case(way, name, title, ids, run))


async def _make_up_ids(way: str, target: Target) -> None:
    async with scene(way, target, event=_TEMPLATE) as at:
        at.send(*[_PLAIN] * 100)
        for _ in range(100):
            await at.expect("yes")
        events = await at.target.events(100)
        ids = {event.attributes["id"] for event in events}
        if len(ids) != 100 or len(events) != 100:
            raise at.failed("ids repeat", "100 ids", f"{len(ids)} in {len(events)} events")
        wrong = [one for one in events if one.data != _PLAIN.payload]
        if wrong:
            raise at.failed("the payload is the data", repr(_PLAIN.payload), repr(wrong[0].data))


class _Session:
    """A device that comes again with its session.

    Args:
        target: the gateway.
        version: 5 or 4 (which is 3.1.1).
        qos: 1 or 2.
    """

    def __init__(self, target: Target, version: int = 5, qos: int = 1) -> None:
        if target.is_broker:
            raise Unsupported("the session is with the broker, not with the gateway")
        self.target = target
        self.version, self.qos = version, qos
        self._name = f"conformance-{uuid4().hex[:12]}"

    def client(self) -> mqtt.MqttClient:
        """Return a connection that is yet to be opened."""
        return mqtt.MqttClient(self.target.url, self.version)

    async def open(self, client: mqtt.MqttClient, *, clean: bool) -> mqtt.Packet:
        """Connect with the session, or with a new one."""
        return await client.open(self._name, clean=clean, expiry=60)

    def publish(self, message: Message, packet_id: int = 1, *, dup: bool = False) -> bytes:
        """Return the PUBLISH."""
        topic = topic_of(self.target.url)
        return mqtt.publish(
            self.version, topic, message, qos=self.qos, packet_id=packet_id, dup=dup
        )


async def _repeat_unanswered(version: int, qos: int, target: Target) -> None:
    """PUBLISH, the connection breaks before the answer, and it comes again with DUP."""
    async with target.variant(event=_TEMPLATE) as other:
        session = _Session(other, version, qos)
        other.sink_answers("hang")
        message = _PLAIN
        async with session.client() as client:
            await session.open(client, clean=version == 5)
            client.send(session.publish(message))
            await other.events(1)
        other.sink_answers("accept")
        async with session.client() as client:
            await session.open(client, clean=False)
            client.send(session.publish(message, dup=True))
            client.send(session.publish(message, 2))
            events = await other.events(2)
        ids = [event.attributes["id"] for event in events]
        # The repetition may have joined its first copy, which the sink has, or come once more.
        if len(set(ids)) != 2 or ids[-1] in ids[:-1]:
            raise CheckFailed(
                "the repetition brought another id",
                expected="one id, and another for the next message",
                got=" ".join(map(str, ids)),
                reproduce=session.publish(message, dup=True).hex(),
            )


async def _repeat_qos2(target: Target) -> None:
    """PUBLISH, PUBREC, PUBLISH again, PUBREC again, PUBREL, PUBCOMP: one event."""
    async with scene("mqtt-qos2", target) as at:
        session = _Session(at.target, qos=2)
        async with session.client() as client:
            await session.open(client, clean=True)
            event, marker = at.event(), at.event()
            await _say(client, session.publish(at.message(event), 7), "PUBREC", 7)
            await _say(client, session.publish(at.message(event), 7, dup=True), "PUBREC", 7)
            await _say(client, mqtt.pubrel(7), "PUBCOMP", 7)
            await _say(client, mqtt.pubrel(7), "PUBCOMP", 7, any_code=True)
            await _say(client, session.publish(at.message(marker), 7), "PUBREC", 7)
            await _say(client, mqtt.pubrel(7), "PUBCOMP", 7)
        await at.expect_events(event, marker)


async def _repeat_qos2_later(target: Target) -> None:
    """The same over two connections: the session remembers the identifier."""
    async with scene("mqtt-qos2", target) as at:
        session = _Session(at.target, qos=2)
        event, marker = at.event(), at.event()
        async with session.client() as client:
            await session.open(client, clean=True)
            await _say(client, session.publish(at.message(event), 7), "PUBREC", 7)
        async with session.client() as client:
            connack = await session.open(client, clean=False)
            if not connack.session_present:
                raise Unsupported("sessions do not outlive their connections here")
            await _say(client, session.publish(at.message(event), 7, dup=True), "PUBREC", 7)
            await _say(client, mqtt.pubrel(7), "PUBCOMP", 7)
            await _say(client, session.publish(at.message(marker), 8), "PUBREC", 8)
        await at.expect_events(event, marker)


async def _say(
    client: mqtt.MqttClient, packet: bytes, name: str, packet_id: int, *, any_code: bool = False
) -> None:
    client.send(packet)
    answer = await client.receive()
    is_right = answer.name == name and answer.packet_id == packet_id
    if not is_right or (answer.code >= 0x80 and not any_code):
        raise CheckFailed(
            f"{name} should follow",
            expected=f"{name} of packet {packet_id}",
            got=str(answer),
            reproduce=packet.hex(),
        )


async def _ack_in_order(target: Target) -> None:
    """The sink is slow, and one of the messages is no event: its answer is known before."""
    async with scene("mqtt", target, "slow") as at:
        session = _Session(at.target)
        order = (5, 3, 9, 1, 8, 2)
        async with session.client() as client:
            await session.open(client, clean=True)
            events = [at.event(source=f"{at.source}/{number}") for number in order]
            packets = [
                session.publish(at.message(event), number)
                for event, number in zip(events, order, strict=True)
            ]
            packets[3] = session.publish(_PLAIN, order[3])
            client.send(b"".join(packets))
            answers = [await client.receive() for _ in order]
        got = [(answer.name, answer.packet_id) for answer in answers]
        if got != [("PUBACK", number) for number in order]:
            raise at.failed("another order", f"PUBACK of {order}", " ".join(map(str, answers)))


async def _again_after_ack(target: Target) -> None:
    """After its PUBACK an identifier means a new message, whatever DUP says."""
    async with scene("mqtt", target) as at:
        session = _Session(at.target)
        async with session.client() as client:
            await session.open(client, clean=True)
            first, second = at.event(), at.event()
            await _say(client, session.publish(at.message(first), 4), "PUBACK", 4)
            await _say(client, session.publish(at.message(second), 4, dup=True), "PUBACK", 4)
        await at.expect_events(first, second)


async def _redeliver_from_stream(target: Target) -> None:
    """The gateway ends before its acknowledgement; the next one brings the same id."""
    async with stream(target) as (name, url), dialogue("jetstream", url) as talk:
        settings = {**of_stream(target, name), "event": _TEMPLATE, "ack_wait": 1}
        async with target.variant(**settings) as first:
            first.sink_answers("hang")
            talk.send(_PLAIN)
            (before,) = await first.events(1)
        async with target.variant(**settings) as second:
            (after,) = await second.events(1, 10)
            answer = await talk.answer()
    if before.attributes["id"] != after.attributes["id"] or answer.word != "yes":
        raise CheckFailed(
            "the redelivery brought another id",
            expected=f"{before.attributes['id']}, +ACK",
            got=f"{after.attributes['id']}, {answer.text}",
        )


_SESSIONS: Final = (
    (
        "mqtt", "repeated-qos1",
        "A QoS 1 message that comes again before its PUBACK brings the same id.",
        ("GW-RED-001", "CORE-ID-002"), partial(_repeat_unanswered, 5, 1),
    ),
    (
        "mqtt311", "repeated-qos1",
        "The same in MQTT 3.1.1.",
        ("GW-RED-001", "CORE-ID-002"), partial(_repeat_unanswered, 4, 1),
    ),
    (
        "mqtt-qos2", "repeated-qos2",
        "A QoS 2 message that comes again before its PUBREC brings the same id.",
        ("GW-RED-001", "CORE-ID-002"), partial(_repeat_unanswered, 5, 2),
    ),
    (
        "mqtt-qos2", "exactly-once",
        "A QoS 2 message that comes again before PUBREL arrives once.",
        ("GW-MQTT-002", "GW-MQTT-003", "GW-MQTT-004"), _repeat_qos2,
    ),
    (
        "mqtt-qos2", "exactly-once-later",
        "The same over two connections.",
        ("GW-MQTT-002",), _repeat_qos2_later,
    ),
    (
        "mqtt", "order-of-answers",
        "PUBACKs leave in the order of the PUBLISHes, not of their identifiers.",
        ("GW-MQTT-001",), _ack_in_order,
    ),
    (
        "mqtt", "after-puback",
        "A QoS 1 message with an identifier that was acknowledged is a new one, with DUP too.",
        ("GW-MQTT-006",), _again_after_ack,
    ),
    (
        "jetstream", "redelivered",
        "A message of a stream that is delivered again brings the same id.",
        ("GW-RED-001", "CORE-ID-002"), _redeliver_from_stream,
    ),
)  # fmt: skip
