"""Malformed frames: what tests/e2e/bad_input has, what is made of chance, and mutations of both."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from tests.e2e import bad_input
from tests.e2e.bad_input.http import HTTP_REQUESTS, JSON_BODIES, MALFORMED_HTTP, structured
from tests.e2e.bad_input.mqtt import FIRST_PACKETS, MQTT3_ERRORS, MQTT5_ERRORS, MQTT_EVENTS, NONE
from tests.e2e.bad_input.nats import GOOD_HEADER, NATS_MESSAGES, NO_EVENTS
from tests.e2e.bad_input.peers import (
    JSON_EVENT,
    coap_options,
    connect,
    event,
    http_post,
    nats_publish,
    packet,
    publish,
    text,
    user,
)

SMALL: Final = 1200
LARGE_SHARE: Final = 0.01
"""How many frames may be larger: they cost bandwidth, and not much else."""
SUBJECTS: Final = (b"core.storm", b"stream.storm", b"core." + b"x" * 3000)


def _json_bodies() -> list[bytes]:
    """Structured events that ask for much: deep, long, huge, no UTF-8."""
    numbers = (b"1" * 60_000, b"-" + b"9" * 400, b"1e999999", b"0." + b"0" * 50_000 + b"1")
    bodies = [body for body, _ in JSON_BODIES.values()]
    bodies += [event("bad", b',"data":' + number) for number in numbers]
    bodies += [event("bad", b',"x":' + number) for number in numbers]
    bodies += [event("bad", b',"' + b"x" * 60_000 + b'":1')]
    bodies += [event("bad", b"".join(b',"a%d":1' % number for number in range(5000)))]
    bodies += [event("bad", b',"x":"' + bytes([byte]) + b'"') for byte in range(0x80, 0x100, 5)]
    bodies += [
        event("\\u0000"),
        event("x" * 60_000),
        event("bad", b',"data_base64":"' + b"A" * 60_001),
    ]
    return bodies


def _mqtt_packets() -> list[bytes]:
    """What a device sends behind its CONNECT."""
    topic = text(b"x/" * 32_000)
    packets = [data for data, _ in MQTT5_ERRORS.values()]
    packets += [publish(body, 1, *props) for body, props, _ in MQTT_EVENTS.values()]
    packets += [publish(body, 1, JSON_EVENT) for body in _json_bodies()]
    packets += [packet(0x32, topic, b"\0\1", NONE, b"x"), packet(0x30, topic, NONE)]
    packets += [publish(b"x", 1, *(user(b"k", b"v") for _ in range(200)))]
    return packets


def _coap_datagrams() -> list[bytes]:
    cases = yaml.safe_load((Path(bad_input.__path__[0]) / "coap.yaml").read_text())
    datagrams = [bytes.fromhex(step[0]) for steps in cases.values() for step in steps]
    head = b"\x42\x02ab\1\1\xb2ce\x12\x01\x2f"  # Content-Format 303
    datagrams += [head + b"\xff" + body for body in _json_bodies() if len(body) < SMALL]
    query = (b"t=t.x", b"i=bad", b"s=/s")
    block = b"\x42\x02ab\1\2" + coap_options(query) + b"\xc3\xff\xff\xfe\xff"  # block 1048575
    return [*datagrams, block + b"x" * 1024, b"\x42\x02ab\1\3" + coap_options(query) + b"\xff{}"]


def _http_requests() -> list[bytes]:
    requests = [request for request, _, _ in HTTP_REQUESTS.values()]
    requests += [data for data, _, _ in MALFORMED_HTTP.values() if len(data) < 70_000]
    requests += [structured(body) for body in _json_bodies()]
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    return [*requests, head % (1 << 62), head % ((1 << 64) + 5), http_post(b"x" * 60_000)]


def _nats_messages() -> list[tuple[bytes, bytes]]:
    """Header blocks and payloads."""
    messages = [(header, payload) for header, payload, _ in NATS_MESSAGES.values()]
    messages += [(b"", payload) for payload in NO_EVENTS.values()]
    return messages + [(GOOD_HEADER, body) for body in _json_bodies()]


class _Deck:
    """Samples to draw from, large ones seldom."""

    def __init__(self, samples: Sequence[bytes]) -> None:
        self._small = [each for each in samples if 0 < len(each) <= SMALL]
        self._large = [each for each in samples if len(each) > SMALL]

    def draw(self, chance: random.Random) -> bytes:
        if self._large and chance.random() < LARGE_SHARE:
            return chance.choice(self._large)
        return chance.choice(self._small)


def mutate(sample: bytes, chance: random.Random) -> bytes:
    """Return a sample as it is, cut off, longer, with wrong bytes, or something else altogether."""
    frame = bytearray(sample)
    match chance.randrange(6):
        case 0:
            return sample
        case 1:
            return chance.randbytes(chance.randrange(64))
        case 2:
            return sample[: chance.randrange(len(sample))]
        case 3:
            return sample + chance.randbytes(chance.randrange(1, 300))
        case _:
            for _ in range(chance.randrange(1, 6)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            return bytes(frame)


def http_frames(chance: random.Random, count: int) -> Iterator[bytes]:
    deck = _Deck(_http_requests())
    return (mutate(deck.draw(chance), chance) for _ in range(count))


def mqtt_frames(chance: random.Random, count: int) -> Iterator[bytes]:
    """Return what connections send: a third begin wrongly, a third speak 3.1.1."""
    first = _Deck([data for data, _, _ in FIRST_PACKETS.values()])
    decks = {4: _Deck(list(MQTT3_ERRORS.values())), 5: _Deck(_mqtt_packets())}
    for number in range(count):
        version = chance.choice((0, 4, 5))
        if version == 0:
            yield mutate(first.draw(chance), chance)
        else:
            yield connect(version, b"storm-%d" % number) + mutate(
                decks[version].draw(chance), chance
            )


def coap_frames(chance: random.Random, count: int) -> Iterator[bytes]:
    """Return datagrams; those that are long enough have a message ID of their own."""
    deck = _Deck(_coap_datagrams())
    for number in range(count):
        datagram = mutate(deck.draw(chance), chance)[:1400]
        if len(datagram) >= 4 and number % 4:
            datagram = datagram[:2] + (number & 0xFFFF).to_bytes(2, "big") + datagram[4:]
        yield datagram


def nats_frames(chance: random.Random, count: int) -> Iterator[bytes]:
    """Return publishes that the server takes, of what the gateway should not."""
    messages = _nats_messages()
    headers = _Deck([header for header, _ in messages])
    payloads = _Deck([payload for _, payload in messages])
    for _ in range(count):
        header = mutate(headers.draw(chance), chance)
        if not header.startswith(b"NATS/1.0\r\n"):
            header = b""  # the server ends a connection that claims to have a header
        payload = mutate(payloads.draw(chance), chance)
        reply = b"peer.1" if chance.random() < 0.5 else b""
        yield nats_publish(chance.choice(SUBJECTS), payload, header, reply)


FRAMES: Final[Mapping[str, Callable[[random.Random, int], Iterator[bytes]]]] = {
    "http": http_frames, "endpoint": mqtt_frames, "coap": coap_frames, "nats": nats_frames,
}  # fmt: skip
