"""Where the attributes stand among the headers of a message.

Producers send the same header names in the same order again and again. What there is to find out
about the names (which attribute each is, whether one stands twice, whether a required one is
missing) is found out once for all such messages.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from bindings.event import CORE_ATTRIBUTES, REQUIRED_ATTRIBUTES

_OPTIONAL: Final = ("datacontenttype", "dataschema", "subject", "time")


class HeaderLayout(msgspec.Struct, frozen=True):
    """Which header is which attribute.

    Attributes:
        headers: the names of the headers.
        names: the attribute that each header is; "" for one that is none.
        core: the positions of the core attributes among the headers, the required ones first and in
            the order of `REQUIRED_ATTRIBUTES`, then content type, schema, subject and time; -1 for
            one that is absent. Empty: names like these are no event, or not without a closer look.
        extensions: name and position of each other attribute, in the order of the headers.
    """

    headers: Sequence[str] = ()
    names: Sequence[str] = ()
    core: Sequence[int] = ()
    extensions: Sequence[tuple[str, int]] = ()


def layout_of(headers: Sequence[str], names: Sequence[str]) -> HeaderLayout:
    """Return the layout of headers that are these attributes ("" for one that is none).

    It has no positions when an attribute stands there twice or a required one is missing.
    """
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        if name in positions:
            return HeaderLayout(headers)
        if name:
            positions[name] = position
    if not positions.keys() >= set(REQUIRED_ATTRIBUTES):
        return HeaderLayout(headers)
    core = [positions.get(name, -1) for name in (*REQUIRED_ATTRIBUTES, *_OPTIONAL)]
    extensions = [entry for entry in positions.items() if entry[0] not in CORE_ATTRIBUTES]
    return HeaderLayout(headers, names, core, extensions)


class Latest(msgspec.Struct):
    """The layout of the message before, which most often is that of the next as well.

    Attributes:
        layout: the layout.
        names: the object that these names came in, if they came as `HeaderFields`.
    """

    layout: HeaderLayout = HeaderLayout()
    names: tuple[str, ...] | None = None
