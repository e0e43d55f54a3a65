"""Events that follow from their number: 200 B of JSON and eight attributes, 200 devices in turn.

So a sender makes one by filling in a template, and a sink can tell which one arrived, whether it is
as it was sent, and whether the order of its key was kept. All of them have the same length.
"""

import json
import re
from typing import Any, Final

KEYS: Final = 200
NUMBER: Final = re.compile(rb'"number\\*":\s?\\*"(\d{8})')
"""An event's number in its data; a product may have quoted that, as a text within JSON."""
TYPE: Final = "com.example.temperature.v1"
_DATA: Final = b'{"number":"%08d","unit":"C","pad":"' + b"x" * 159 + b'"}'
assert len(_DATA % 0) == 200


def attributes(number: int) -> dict[str, str]:
    """Return all attributes of an event but `specversion` and `datacontenttype`."""
    key = number % KEYS
    return {
        "id": f"load-{number:08d}",
        "source": f"/devices/dev{key:03d}",
        "type": TYPE,
        "subject": f"room-{key % 50:02d}",
        "time": time(number),
        "partitionkey": f"dev{key:03d}",
    }


def time(number: int) -> str:
    """Return an event's time, a millisecond after the one before."""
    return f"2026-11-22T10:00:{number // 1000 % 60:02d}.{number % 1000:03d}Z"


def data(number: int) -> bytes:
    """Return an event's data."""
    return _DATA % number


def structured(number: int) -> bytes:
    """Return an event in the JSON event format."""
    fields = {"specversion": "1.0", **attributes(number), "datacontenttype": "application/json"}
    head = json.dumps(fields, separators=(",", ":"))
    return b'%b,"data":%b}' % (head[:-1].encode(), data(number))


def is_as_sent(event: dict[str, Any]) -> bool:
    """Whether an event that was read as JSON is the one that its id names."""
    number = int(event["id"].rpartition("-")[2])
    return event == json.loads(structured(number))
