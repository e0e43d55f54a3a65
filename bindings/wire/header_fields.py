"""Header names and values of a message, each in a sequence of its own.

To readers they are pairs, as headers are. Who makes events of many messages alike gains by two
sequences: all messages with the same names share one tuple of them, and what there is to know about
the names is looked up by that tuple, not by each name.
"""

from collections.abc import Iterator, Sequence
from typing import overload

import msgspec


class HeaderFields(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A sequence of (name, value) in the order of the wire, duplicates included.

    Attributes:
        names: the names; as a rule one object for all messages that have these.
        values: as many values.
        plain: whether it is known that each value is visible ASCII without percent and quote signs,
            and not empty: percent-encoded or not, such a value stands for itself.
    """

    names: tuple[str, ...]
    values: list[str]
    plain: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.names, self.values, strict=True)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(index, slice):
            return list(self)[index]
        return self.names[index], self.values[index]

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence of pairs."""
        if isinstance(other, HeaderFields | list | tuple):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a list of pairs has none either

    def __repr__(self) -> str:
        return repr(list(self))


Sequence.register(HeaderFields)
