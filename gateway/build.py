"""Which build this is: the version, and whether the codecs are compiled (`hatch_build.py`)."""

from functools import cache
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from importlib.metadata import version
from typing import Final

import msgspec

_COMPILED: Final = "bindings.wire.nats"
"""A wheel has all of the compiled modules or none, so that one of them tells."""


class Build(msgspec.Struct, frozen=True):
    """What is running here.

    Attributes:
        version: of the package.
        is_compiled: whether the wire codecs are machine code.
    """

    version: str
    is_compiled: bool

    def __str__(self) -> str:
        return f"{self.version} ({'compiled' if self.is_compiled else 'plain Python'})"


@cache
def build() -> Build:
    """Return what is running here."""
    spec = import_module(_COMPILED).__spec__
    is_compiled = spec is not None and isinstance(spec.loader, ExtensionFileLoader)
    return Build(version("cloudevents-gateway"), is_compiled)
