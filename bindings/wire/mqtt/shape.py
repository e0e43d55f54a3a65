"""Property blocks whose bytes differ in the values of their user properties only.

A producer's messages have the same properties in the same order, and values that are as long as
those of the message before: identifiers, times, sources. One regular expression then compares all
that is alike and cuts all values out, in a fraction of the time that reading one property after the
other takes. It matches nothing but what such reading would take for the same: what is alike stands
in it to the letter, and each value has its length and no U+0000.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bindings.memory import Memory

_FIRST_PAUSE: Final = 16
_LONGEST_PAUSE: Final = 1024
"""Blocks without a shape from one that is learned to the next: learning takes 0.3 ms."""
_MOST_ALIKE: Final = 4
"""Shapes of one length that are kept."""
_MOST_CHARACTERS: Final = 2048
"""The longest block whose shape is learned: it takes 8 bytes a character, so that the shapes of 256
lengths take at most 20 MiB, and a few as a rule."""
_VALUE_CHARACTERS: Final = 16
"""What a value adds to that: its group and its name take as much as these characters."""

Match = Callable[[str], re.Match[str] | None]
Shape = tuple[Match, Mapping[Any, Any], tuple[str, ...]]
"""Matches a block, with a group for each value; the other properties; the names."""


class Shapes:
    """The shapes of property blocks that came often enough.

    Attributes:
        by_length: the shapes, by the length of the block.
    """

    __slots__ = ("_left", "_pause", "by_length")

    def __init__(self) -> None:
        self.by_length: Memory[int, list[Shape]] = Memory(256, _MOST_CHARACTERS)
        self._pause = self._left = _FIRST_PAUSE

    def is_due(self) -> bool:
        """Take note of a block that has no shape; return whether its shape should be learned."""
        self._left -= 1
        if self._left:
            return False
        self._pause = self._left = min(self._pause * 2, _LONGEST_PAUSE)
        return True

    def learn(
        self,
        text: str,
        values: Sequence[slice],
        found: Mapping[Any, Any],
        names: tuple[str, ...],
    ) -> None:
        """Learn the shape of a block.

        Args:
            text: the block, of ASCII and without any fault.
            values: where the values of the user properties stand.
            found: the other properties.
            names: those of the user properties.
        """
        if len(text) + _VALUE_CHARACTERS * len(values) > _MOST_CHARACTERS:
            return
        pieces, end = [], 0
        for value in values:
            pieces.append(re.escape(text[end : value.start]))
            pieces.append(f"([^\0]{{{value.stop - value.start}}})")
            end = value.stop
        match: Match = re.compile("".join(pieces) + re.escape(text[end:])).fullmatch
        alike = self.by_length.get(len(text), [])
        self.by_length.remember(len(text), [(match, found, names), *alike][:_MOST_ALIKE], len(text))
