"""Where the attributes stand among the headers of a message.

Producers send the same header names in the same order again and again. What there is to find out
about the names (which attribute each is, whether one stands twice, whether a required one is
missing) is found out once for all such messages.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from bindings.event import CORE_ATTRIBUTES, REQUIRED_ATTRIBUTES

_OPTIONAL: Final = ("datacontenttype", "dataschema", "subject", "time")


class HeaderLayout(msgspec.Struct, frozen=True):
    """Which header is which attribute.

    Attributes:
        names: the attribute that each header is; "" for one that is none.
        core: gets the values of the core attributes, the required ones first and in the order of
            `REQUIRED_ATTRIBUTES`, then content type, schema, subject and time. It is given the
            values of the headers and a None behind them, which stands for all that are absent.
            None: names like these are no event, or not without a closer look.
        extensions: name and position of each other attribute, in the order of the headers.
    """

    names: Sequence[str] = ()
    core: Callable[[Sequence[str | None]], tuple[Any, ...]] | None = None
    extensions: Sequence[tuple[str, int]] = ()


NO_LAYOUT: Final = HeaderLayout()


def layout_of(names: Sequence[str]) -> HeaderLayout:
    """Return the layout of headers that are these attributes ("" for one that is none).

    It is `NO_LAYOUT` when an attribute stands there twice or a required one is missing.
    """
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        if name in positions:
            return NO_LAYOUT
        if name:
            positions[name] = position
    if not positions.keys() >= set(REQUIRED_ATTRIBUTES):
        return NO_LAYOUT
    core = itemgetter(*[positions.get(name, -1) for name in (*REQUIRED_ATTRIBUTES, *_OPTIONAL)])
    extensions = [entry for entry in positions.items() if entry[0] not in CORE_ATTRIBUTES]
    return HeaderLayout(names, core, extensions)
