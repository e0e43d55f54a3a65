"""The way of what a storm brings that is a good event after all: not to the sink that counts."""

from typing import Any, Final

from tests.faults.sample import TYPE

_OURS: Final = {"exact": {"type": TYPE}}
SINKS: Final[dict[str, Any]] = {"others": {"protocol": "log"}}
ROUTES: Final[list[dict[str, Any]]] = [
    {"name": "faults", "filter": _OURS, "to": ["out"]},
    {"name": "others", "filter": {"not": _OURS}, "to": ["others"]},
]
