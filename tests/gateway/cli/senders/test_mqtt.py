"""The MQTT client of `send`, against a scripted server that is no code of ours."""

import asyncio
import contextlib

import pytest

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.mqtt import MqttSender
from tests.gateway.stepped import HurriedLoop

EVENT = Event(
    id="1", source="/s", type="t", datacontenttype="text/plain", subject="é %", data=b"hi"
)
CONNACK = bytes.fromhex("20 03 00 00 00")
CONNACK_311 = bytes.fromhex("20 02 00 00")


class Broker:
    """Answers packet by packet: the script maps a first byte to the answer."""

    def __init__(self, script):
        self.script = script
        self.received = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(2)
                assert head[1] < 128
                packet = head + await reader.readexactly(head[1])
                self.received.append(packet)
                answer = self.script.get(packet[0] & 0xF0, b"")
                if answer is None:
                    break
                writer.write(answer(packet) if callable(answer) else answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def sending(script, topic="/t", **options):
    async with Broker(script) as broker:
        sender = MqttSender(f"mqtt://127.0.0.1:{broker.port}{topic}", SendOptions(**options))
        try:
            await sender.open()
            yield sender, broker
        finally:
            await sender.close()


async def test_a_binary_event_is_written_as_the_specification_has_it():
    """Pitfall 50: no prefix, no percent-encoding, Content Type for datacontenttype."""
    async with sending({0x10: CONNACK}, qos=0) as (sender, broker):
        assert await sender.send(EVENT) == "sent (QoS 0)"
    publish = broker.received[1]
    assert publish[:6] == bytes.fromhex("30 55 0001 74 4f")
    for part in (
        "03 000a 746578742f706c61696e",
        "26 000b 7370656376657273696f6e 0003 312e30",
        "26 0002 6964 0001 31",
        "26 0006 736f75726365 0002 2f73",
        "26 0004 74797065 0001 74",
        "26 0007 7375626a656374 0004 c3a92025",
    ):
        assert bytes.fromhex(part) in publish
    assert publish.endswith(b"hi")
    assert broker.received[2] == bytes.fromhex("e000")


async def test_connect_of_mqtt_3_1_1_is_byte_for_byte_the_standard():
    async with sending({0x10: CONNACK_311}, version="3.1.1", username="u", password="p") as (
        _,
        broker,
    ):
        pass
    # section 3.1: user name, password, clean session; keep alive 30 s; no client identifier
    assert broker.received[0] == bytes.fromhex(
        "10 12 0004 4d515454 04 c2 001e 0000 0001 75 0001 70"
    )


async def test_mqtt_3_1_1_carries_json():
    script = {0x10: CONNACK_311, 0x30: lambda _: bytes.fromhex("40 02 0001")}
    event = Event(id="1", source="/s", type="t")
    async with sending(script, version="3.1.1") as (sender, broker):
        assert await sender.send(event) == "PUBACK"
    assert broker.received[1][:8] == bytes.fromhex("32 3c 0001 74 0001") + b"{"


async def test_qos_1_ends_with_puback():
    script = {0x10: CONNACK, 0x30: bytes.fromhex("40 02 0001")}
    async with sending(script) as (sender, _):
        assert await sender.send(Plain(b"x")) == "PUBACK 0x00 Success"


async def test_qos_2_ends_with_pubcomp():
    script = {0x10: CONNACK, 0x30: bytes.fromhex("50 02 0001"), 0x60: bytes.fromhex("70 02 0001")}
    async with sending(script, qos=2) as (sender, broker):
        assert await sender.send(Plain(b"x")) == "PUBCOMP 0x00 Success"
    assert broker.received[2] == bytes.fromhex("62 02 0001")


async def test_a_refusal_is_an_error_in_the_servers_words():
    script = {0x10: CONNACK, 0x30: bytes.fromhex("40 0a 0001 99 06 1f 0003 626164")}
    async with sending(script) as (sender, _):
        with pytest.raises(SendError, match="PUBACK 0x99 Payload format invalid: bad"):
            await sender.send(Plain(b"x"))


async def test_a_refused_pubrec_ends_the_exchange():
    script = {0x10: CONNACK, 0x30: bytes.fromhex("50 03 0001 87")}
    async with sending(script, qos=2) as (sender, broker):
        with pytest.raises(SendError, match="PUBREC 0x87 Not authorized"):
            await sender.send(Plain(b"x"))
    assert [packet[0] >> 4 for packet in broker.received] == [1, 3, 14]


@pytest.mark.parametrize(
    ("version", "connack", "text"),
    [
        ("5", "20 03 00 86 00", "CONNACK 0x86 Bad user name"),
        ("3.1.1", "20 02 00 05", "CONNACK 5 not auth"),
    ],
)
async def test_a_refused_connection_is_an_error(version, connack, text):
    with pytest.raises(SendError, match=text):
        async with sending({0x10: bytes.fromhex(connack)}, version=version):
            pass


async def test_many_are_under_way_at_once_and_no_more_than_the_server_takes():
    def answer_pairs(packet):
        held.append(packet[5:7])
        if len(held) < 2:
            return b""
        answers = b"".join(b"\x40\x02" + mid for mid in held)
        held.clear()
        return answers

    held = []
    script = {0x10: bytes.fromhex("20 06 00 00 03 21 0002"), 0x30: answer_pairs}
    async with sending(script) as (sender, _):
        answers = await asyncio.gather(*(sender.send(Plain(b"x")) for _ in range(6)))
    assert answers == ["PUBACK 0x00 Success"] * 6


@pytest.mark.loop(factory=HurriedLoop)
async def test_no_answer_in_time_is_an_error():
    async with sending({0x10: CONNACK}, timeout=10) as (sender, _):
        with pytest.raises(SendError, match="no answer within 10 s"):
            await sender.send(Plain(b"x"))


async def test_a_lost_connection_is_an_error_of_all_that_wait():
    async with sending({0x10: CONNACK, 0x30: None}) as (sender, _):
        results = await asyncio.gather(
            *(sender.send(Plain(b"x")) for _ in range(2)), return_exceptions=True
        )
        assert all(isinstance(each, SendError) for each in results)
        with pytest.raises(SendError):
            await sender.send(Plain(b"x"))


async def test_an_answer_counts_though_nonsense_follows_it():
    script = {0x10: CONNACK, 0x30: bytes.fromhex("40 02 0001 00 00")}
    async with sending(script) as (sender, _):
        assert await sender.send(EVENT) == "PUBACK 0x00 Success"
        with pytest.raises(SendError, match="broke the protocol"):
            await sender.send(EVENT)


async def test_a_second_connack_breaks_the_protocol(caplog):
    async with sending({0x10: CONNACK, 0x30: CONNACK}) as (sender, _):
        with pytest.raises(SendError, match="CONNACK, which nobody asked for"):
            await sender.send(EVENT)
    assert not caplog.records


async def test_the_servers_disconnect_is_told():
    async with sending({0x10: CONNACK, 0x30: bytes.fromhex("e0 01 8b")}) as (sender, _):
        with pytest.raises(SendError, match="DISCONNECT 0x8B Server shutting down"):
            await sender.send(Plain(b"x"))


async def test_nobody_there_is_an_error(unused_tcp_port):
    sender = MqttSender(f"mqtt://127.0.0.1:{unused_tcp_port}/t", SendOptions())
    with pytest.raises(SendError, match="no connection to"):
        await sender.open()


@pytest.mark.parametrize("url", ["mqtt://h", "mqtt://h/", "mqtt://h/a/%2B/b", "mqtt://h/%23"])
def test_a_topic_is_needed_in_the_path(url):
    with pytest.raises(SendError, match="no topic"):
        MqttSender(url, SendOptions())
