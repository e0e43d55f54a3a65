"""Bytes to ask about: messages as they should be, damaged in every way, and bytes at random."""

import random
import struct
from collections.abc import Sequence
from typing import Final

from tests.instructions import inputs


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _mqtt5_connect() -> bytes:
    properties = _hex("11 00000e10 21 0014 22 000a 19 01 17 00 26 0001 61 0001 62")
    will = _hex("02 01 01") + b"\0\4will\0\4gone"
    body = b"\0\4MQTT\5\xee\0\x3c" + bytes([len(properties)]) + properties
    body += b"\0\3dev" + will + b"\0\4user\0\4pass"
    return bytes([0x10, len(body)]) + body


MQTT: Final[Sequence[bytes]] = (
    inputs.mqtt_publish(1),
    inputs.mqtt_publish(2) * 2,
    b"\x30\x07\0\2a/b\0hi",
    b"\x3d\x0d\0\3a/b\0\1\0\xff\xfe\0\0",
    b"\x30\x22\0\3a/b\x16\x01\1\x02\0\0\0\x3c\x08\0\1r\x09\0\2\1\2\x0b\x81\1\x23\0\4\x03\0\1t{}",
    "\x30\x1a\0\4t/\xfc\x0f\x26\0\3n\xe4me\0\4w\xe9rt...".encode(),
    _mqtt5_connect(),
    b"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3dev",
    b"\x20\x0b\0\0\x08\x21\0\x14\x27\0\1\0\0",
    b"\x20\2\1\0",
    b"\x40\2\0\1\x40\3\0\2\x10\x50\4\0\3\x97\0\x62\2\0\4\x70\2\0\5",
    b"\x40\x0c\0\1\x87\x08\x1f\0\5nope!",
    b"\x82\x0d\0\1\2\x0b\5\0\3a/#\x2e\0\1",
    b"\x82\x08\0\2\0\3a/+\1",
    b"\x90\4\0\1\0\2\xb0\3\0\1\0\xa2\x06\0\1\0\2a/",
    b"\xc0\0\xd0\0\xe0\0",
    b"\xe0\x0a\x8e\x08\x1f\0\5moved",
    b"\xf0\x02\0\0",
)
NATS: Final[Sequence[bytes]] = (
    inputs.nats_message(1),
    inputs.nats_message(2) * 2,
    b"INFO {}\r\nPING\r\nMSG a.b 9 11\r\nhello world\r\n+OK\r\n",
    b"MSG  a  1\t_INBOX.1  0\r\n\r\nPONG\r\n-ERR 'x'\r\n",
    b"HMSG s 1 r 30 30\r\nNATS/1.0 503 No Responders\r\n\r\n\r\n",
    b"HMSG \xff\xfe 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
)
HEADERS: Final[Sequence[bytes]] = (
    *(message[message.find(b"NATS/1.0") : message.find(b"\r\n\r\n") + 4] for message in NATS[:2]),
    b"NATS/1.0 503 No Responders\r\n\r\n",
    b"NATS/1.0 100\r\nNats-Last-Consumer:8 \t\r\nA:\r\n\r\n",
    b"NATS/1.0\r\nce-id: \xc3\xa4\r\nCE-ID:b\r\n\r\n",
)
COAP: Final[Sequence[bytes]] = (
    inputs.coap_request(1),
    inputs.coap_request(2),
    b"\x40\0\x12\x34",
    b"\x60\x44\0\1",
    b"\x44\2\0\1abcd\xb4path\x4d\2" + b"q" * 15 + b"\xd1\x06\x1a\xff{}",
    b"\x50\1\0\2\xe1\xfe\xf0x\x0e\0\1" + b"v" * 270,
)
CBOR: Final[Sequence[bytes]] = (
    _hex("a4 6269646131 6673797465 6d 1a00010000 64 64617461 43010203 62 6e75 f6"),
    _hex("83 01 20 3bffffffffffffffff"),
    _hex("9f f4 f5 f6 f7 f97e00 fa47c35000 fb3ff199999999999a ff"),
    _hex("bf 6161 01 6162 9f0203ff ff"),
    _hex("5f 420102 43030405 ff 7f 6573747265 61646d 69 6e67 ff"),
    _hex("c1 1a514b67b0 c2 49 010000000000000000 d818 45 6449455446 f818"),
    _hex("1b 7fffffffffffffff 1bffffffffffffffff 3b8000000000000000"),
    b"\x81" * 40,
)
ANSWERS: Final[Sequence[bytes]] = (
    b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nOK",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 400 Bad\r\n\r\nno",
)
_POST: Final = b"POST /ce HTTP/1.1\r\nHost: h:1\r\n"
_CE: Final = b"ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /s\r\nce-type: t\r\n"
REQUESTS: Final[Sequence[bytes]] = (
    _POST + _CE + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
    (_POST + _CE + b"Content-Length: 0\r\n\r\n") * 3,
    _POST + _CE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    _POST + _CE + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    _POST + _CE + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
    b"POST /ce HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n" + _CE + b"\r\n",
    _POST
    + b"Content-Type: application/cloudevents-batch+json\r\nContent-Length: 106\r\n\r\n"
    + b'[{"specversion":"1.0","id":"1","source":"/s","type":"t"},'
    + b'{"specversion":"1.0","id":"2","source":"/s","ty":1}]'[:49],
    b"OPTIONS / HTTP/1.1\r\nHost: h\r\nWebHook-Request-Origin: o\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
)
_COMMANDS: Final = (
    bytes((7, 4, 3, 130, 2, 145, 128, 250, 128, 128)),
    bytes((3, 16, 9, 128, 129, 33, 112, 137, 154, 128, 80, 131, 255, 139, 128)),
)
CORPUS: Final = {
    "pipeline_lists": _COMMANDS,
    "http_answers": ANSWERS,
    "http_requests": REQUESTS,
    "http_heads": REQUESTS,
    "mqtt": MQTT,
    "nats": NATS,
    "nats_headers": HEADERS,
    "header_bindings": HEADERS,
    "coap": COAP,
    "cbor": CBOR,
}
_BYTES: Final = (0, 1, 2, 0x0D, 0x0A, 0x20, 0x26, 0x7F, 0x80, 0x81, 0xC0, 0xED, 0xF8, 0xFE, 0xFF)


def corpus_of(target: str) -> Sequence[bytes]:
    """Return the well-formed messages that are nearest to a target."""
    family = target.replace("_", " ").split(" ", maxsplit=1)[0]
    return CORPUS.get(target) or CORPUS[family]


def damaged(corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the messages with some changes, or now and then bytes at random."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(60))
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 16)))
        match chance.randrange(7):
            case 0:
                del data[at:]
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = chance.randbytes(end - at)
            case 3:
                data[at:end] = bytes(chance.choice(_BYTES) for _ in range(end - at))
            case 4:
                data[at:at] = data[at:end] * chance.randrange(1, 4)
            case 5:
                data[at:] = chance.choice(corpus)[at:]
            case _:
                data[at:end] = struct.pack(">Q", chance.getrandbits(64))[: end - at]
    return bytes(data)
