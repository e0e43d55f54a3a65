"""Bytes of the OASIS text, and of Mosquitto's clients."""

import asyncio

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers import mqtt

# mosquitto_pub 2.0.11: -V 5 -q 1 -t t/O -m hi -D publish content-type text/plain
#   -D publish user-property id 1
PUBLISH = bytes.fromhex("321f0003742f4f00011503000a746578742f706c61696e26000269640001316869")


def test_publish_is_written_as_other_clients_do():
    message = Message(b"hi", "text/plain", [("id", "1")])
    assert mqtt.publish(5, "t/O", message) == PUBLISH


def test_publish_of_3_1_1_has_no_properties():
    sent = mqtt.publish(4, "t", Message(b"x", "a/b"), qos=2, packet_id=7, dup=True)
    assert sent == b"\x3c\x06\x00\x01t\x00\x07x"
    assert mqtt.publish(4, "t", Message(b"x"), qos=0) == b"\x30\x04\x00\x01tx"


@pytest.mark.parametrize(
    ("number", "raw"), [(0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (16384, "808001")]
)
def test_lengths_are_those_of_section_1_5_5(number, raw):
    assert mqtt.varint(number).hex() == raw


def test_connect_says_version_and_login():
    # MQTT 5 section 3.1: flags 0x02 clean start, 0xC0 name and password
    assert (
        mqtt.connect(5, "a", clean=True).hex() == "100e00044d515454" + "0502003c" + "00" + "000161"
    )
    assert mqtt.connect(4, "a", clean=False, login=("u", "p")).hex() == (
        "101300044d515454" + "04c0003c" + "000161" + "000175" + "000170"
    )
    assert "1100000e10" in mqtt.connect(5, "a", clean=False, expiry=3600).hex()


def test_strings_that_no_packet_holds_are_known():
    assert mqtt.can_be_sent(Message(b"\0", "a/b", [("x", "\u00e9")]))
    assert not mqtt.can_be_sent(Message(b"", "", [("x", "a\0")]))
    assert not mqtt.can_be_sent(Message(b"", "", [("x", "a" * 65536)]))
    assert not mqtt.can_be_sent(Message(b"", "\ud800"))


async def packets(*answers):
    """Return a client of a server that writes bytes, once it has heard something."""

    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"".join(answers))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, mqtt.MqttClient(f"mqtt://127.0.0.1:{port}")


async def test_packets_are_taken_apart():
    server, client = await packets(
        bytes.fromhex("4002 0001"),
        bytes.fromhex("5004 0007 9900"),
        bytes.fromhex("e002 8b00"),
        bytes.fromhex("2003 0100 00"),
    )
    async with server, client:
        client.send(b"x")
        found = [await client.receive() for _ in range(4)]
    assert [(one.name, one.packet_id, one.code) for one in found] == [
        ("PUBACK", 1, 0), ("PUBREC", 7, 0x99), ("DISCONNECT", 0, 0x8B), ("CONNACK", 0, 0),
    ]  # fmt: skip
    assert found[-1].session_present


async def test_what_came_before_the_answers_to_pings_is_known():
    server, client = await packets(bytes.fromhex("d000 40020001 d000"))
    async with server, client:
        assert [one.name for one in await client.answers_so_far()] == ["PUBACK"]


async def test_a_connack_that_says_no_is_a_failure():
    server, client = await packets(bytes.fromhex("2003 0087 00"))
    async with server, client:
        with pytest.raises(CheckFailed, match="may not connect"):
            await client.open("a")
