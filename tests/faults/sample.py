"""The events that are sent: everything in one follows from the seed, its key and its number.

So whoever receives one can tell whether a single byte of it is another than the one that was sent.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import msgspec

TYPE: Final = "com.example.fault"
TIME: Final = "2026-01-02T03:04:05Z"
CONTENT_TYPE: Final = "application/json"
_ERROR_EXTENSIONS: Final = {"knativeerrordest", "knativeerrorcode", "knativeerrordata"}
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Sample:
    """The events of one seed; keys are names such as `http-03`, numbers count from 0 per key."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def data(self, key: str, number: int) -> bytes:
        """Return the data: JSON of 100 to 700 bytes."""
        digest = hashlib.sha256(f"{self._seed}/{key}/{number}".encode()).hexdigest()
        filler = digest * (1 + int(digest[0], 16) % 10)
        return f'{{"key":"{key}","n":{number},"filler":"{filler}"}}'.encode()

    def attributes(self, key: str, number: int) -> dict[str, str]:
        """Return all attributes, in no order that matters."""
        return {
            "specversion": "1.0",
            "id": f"{key}-{number}",
            "source": f"/faults/{key}",
            "type": TYPE,
            "subject": key,
            "time": TIME,
            "faultseed": str(self._seed),
            "datacontenttype": CONTENT_TYPE,
        }

    def structured(self, key: str, number: int) -> bytes:
        """Return the event in the JSON event format."""
        head = json.dumps(self.attributes(key, number))
        return b'%b,"data":%b}' % (head[:-1].encode(), self.data(key, number))

    def difference(self, attributes: Mapping[str, str], data: bytes, *, dead: bool = False) -> str:
        """Return what is not as it was sent; "" when all is.

        Args:
            attributes: of the event that arrived.
            data: of the event that arrived.
            dead: it is a dead letter, which has Knative's error extensions.
        """
        name = split_id(attributes.get("id", ""))
        if name is None:
            return f"nobody sent id {attributes.get('id', '')!r}"
        sent = self.attributes(*name)
        for attribute in sent.keys() | attributes.keys():
            if dead and attribute in _ERROR_EXTENSIONS:
                continue
            if sent.get(attribute) != attributes.get(attribute):
                return f"{attribute} is {attributes.get(attribute)!r}, sent {sent.get(attribute)!r}"
        if data != self.data(*name):
            return f"data is {data[:80]!r}, {len(data)} bytes, sent {self.data(*name)[:80]!r}"
        return ""


def split_id(text: str) -> tuple[str, int] | None:
    """Return key and number of an event's id, or None if it is none of ours."""
    key, dash, number = text.rpartition("-")
    return (key, int(number)) if dash and number.isascii() and number.isdigit() else None


def read_structured(body: bytes) -> tuple[dict[str, str], bytes]:
    """Return attributes and data of an event in the JSON event format.

    Raises:
        ValueError: it is none.
    """
    members = _RAW.decode(body)
    data = bytes(members.pop("data", b""))
    return {name: str(msgspec.json.decode(value)) for name, value in members.items()}, data
