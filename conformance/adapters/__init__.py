"""Adapters for SDKs in other hands, each one file (docs/conformance/adapters.md)."""

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent

SHIPPED: Final[Mapping[str, Callable[[], list[str]]]] = {
    "python-sdk": lambda: [sys.executable, "-m", "conformance.adapters.python_sdk"],
    "javascript-sdk": lambda: ["node", str(_HERE / "javascript_sdk" / "adapter.mjs")],
}
"""The command line of each adapter that comes along, by name."""

NEEDS: Final[Mapping[str, str]] = {
    "python-sdk": "pip install 'cloudevents-gateway[sdk]'",
    "javascript-sdk": shlex.join(["npm", "ci", "--prefix", str(_HERE / "javascript_sdk")]),
}
"""How the SDK of each is installed."""


def command_of(name: str) -> str:
    """Return the command line of a shipped adapter; any other name is one already."""
    command = SHIPPED.get(name)
    return name if command is None else shlex.join(command())
