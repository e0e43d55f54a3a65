"""An MQTT client, 5 and 3.1.1, written from the OASIS text; it checks nothing and repeats nothing.

Packets are made by functions, so that wrong ones can be made too; `MqttClient` sends bytes and
takes answers apart.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers.connection import Connection

PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
NAMES: Final = (
    "reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip
_CONTENT_TYPE: Final = 0x03
_SESSION_EXPIRY: Final = 0x11
_USER_PROPERTY: Final = 0x26


class Packet(msgspec.Struct, frozen=True):
    """A packet that a server sends.

    Attributes:
        name: as `PUBACK`.
        packet_id: 0 where there is none.
        code: the reason code, or 3.1.1's return code; 0 where it is left out.
        session_present: of a CONNACK.
        raw: all bytes of it.
    """

    name: str
    packet_id: int
    code: int
    session_present: bool
    raw: bytes

    def __str__(self) -> str:
        return f"{self.name} {self.code:#04x} ({self.raw.hex()})"


def text(value: str) -> bytes:
    """Return a UTF-8 string with its length (section 1.5.4)."""
    raw = value.encode("utf-8")
    return len(raw).to_bytes(2, "big") + raw


def varint(number: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def frame(first: int, body: bytes) -> bytes:
    """Return a packet of its first byte and what follows the length."""
    return bytes([first]) + varint(len(body)) + body


def connect(
    version: int, client_id: str, *, clean: bool, expiry: int = 0, login: Sequence[str] = ()
) -> bytes:
    """Return CONNECT (section 3.1).

    Args:
        version: 5 or 4 (which is 3.1.1).
        client_id: who it is.
        clean: begin anew.
        expiry: seconds the session is kept, in MQTT 5.
        login: name and password, or nothing.
    """
    flags = (2 if clean else 0) | (0xC0 if login else 0)
    head = text("MQTT") + bytes([version, flags]) + b"\x00\x3c"
    if version == 5:
        properties = bytes([_SESSION_EXPIRY]) + expiry.to_bytes(4, "big") if expiry else b""
        head += varint(len(properties)) + properties
    return frame(0x10, head + b"".join(map(text, (client_id, *login))))


def publish(
    version: int,
    topic: str,
    message: Message,
    *,
    qos: int = 1,
    packet_id: int = 1,
    dup: bool = False,
) -> bytes:
    """Return PUBLISH (section 3.3)."""
    head = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"")
    if version == 5:
        properties = b""
        if message.content_type:
            properties += bytes([_CONTENT_TYPE]) + text(message.content_type)
        for name, value in message.headers:
            properties += bytes([_USER_PROPERTY]) + text(name) + text(value)
        head += varint(len(properties)) + properties
    return frame(0x30 | dup << 3 | qos << 1, head + (message.payload or b""))


def pubrel(packet_id: int) -> bytes:
    """Return PUBREL (section 3.6)."""
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


class MqttClient(Connection):
    """One connection, as an asynchronous context manager that sends no CONNECT by itself.

    Args:
        url: `mqtt://user:password@host:port`.
        version: 5 or 4 (which is 3.1.1).
        tls: how `mqtts` is spoken.
    """

    def __init__(self, url: str, version: int = 5, tls: ssl.SSLContext | None = None) -> None:
        at = urlsplit(url)
        tls = tls or (ssl.create_default_context() if at.scheme == "mqtts" else None)
        super().__init__(at.hostname or "127.0.0.1", at.port or (8883 if tls else 1883), tls)
        self._login: tuple[str, ...] = ()
        if at.username is not None:
            self._login = (unquote(at.username), unquote(at.password or ""))
        self.version = version

    async def open(self, client_id: str, *, clean: bool = True, expiry: int = 0) -> Packet:
        """Send CONNECT and return the CONNACK.

        Raises:
            CheckFailed: it says no, or something else came.
        """
        self.send(connect(self.version, client_id, clean=clean, expiry=expiry, login=self._login))
        packet = await self.receive()
        if packet.name != "CONNACK" or packet.code:
            raise CheckFailed("may not connect", expected="CONNACK 0x00", got=str(packet))
        return packet

    async def receive(self, seconds: float = 5.0) -> Packet:
        """Wait for the next packet.

        Raises:
            CheckFailed: none came in time.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._packet()
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except (EOFError, OSError) as error:
            raise CheckFailed("the connection was closed without an answer") from error

    async def answers_so_far(self) -> Sequence[Packet]:
        """Return what came before the answers to two PINGREQ, one after the other.

        A server may answer the first sooner than what it read with it.
        """
        found = []
        for _ in range(2):
            self.send(PINGREQ)
            while (packet := await self.receive()).name != "PINGRESP":
                found.append(packet)
        return found

    async def _packet(self) -> Packet:
        first = await self._reader.readexactly(1)
        length, shift, head = 0, 0, first
        while True:
            byte = await self._reader.readexactly(1)
            head += byte
            length |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                break
        body = await self._reader.readexactly(length)
        return _read(NAMES[first[0] >> 4], body, head + body)


def _read(name: str, body: bytes, raw: bytes) -> Packet:
    packet_id = code = 0
    session_present = False
    if name == "CONNACK":
        session_present, code = bool(body[0] & 1), body[1]
    elif name == "DISCONNECT":
        code = body[0] if body else 0
    elif name in {"PUBACK", "PUBREC", "PUBREL", "PUBCOMP"}:
        packet_id = int.from_bytes(body[:2], "big")
        code = body[2] if len(body) > 2 else 0
    elif name in {"SUBACK", "UNSUBACK"}:
        packet_id = int.from_bytes(body[:2], "big")
        code = body[-1]
    return Packet(name, packet_id, code, session_present, raw)


def can_be_sent(message: Message) -> bool:
    """Whether the strings of a message can stand in a packet at all (section 1.5.4)."""
    strings = [message.content_type]
    for pair in message.headers:
        strings += pair
    try:
        return all("\0" not in part and len(part.encode("utf-8")) < 65536 for part in strings)
    except UnicodeEncodeError:
        return False
