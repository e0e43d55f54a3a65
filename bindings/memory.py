"""What a codec has found out already: a dict that can't grow beyond its bounds.

Producers send few sources, types, media types and sets of header names, and send them again with
every event; a lookup costs 0.04 us where a check costs 1 to 4. A sender who makes up new values all
the time makes us forget the others now and then, which costs each of them one more check.
"""

from typing import Final, Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

MAX_ENTRIES: Final = 2048
MAX_CHARACTERS: Final = 128
"""Of a key, unless the memory was made with another limit: with the entries, at most 1 MiB."""


class Memory(dict[_Key, _Value], Generic[_Key, _Value]):
    """A dict to look up in, and `remember` to write with.

    Args:
        entries: when it holds as many, it is emptied before the next.
        characters: the longest key taken, in characters.
    """

    __slots__ = ("_characters", "_entries")

    def __init__(self, entries: int = MAX_ENTRIES, characters: int = MAX_CHARACTERS) -> None:
        super().__init__()
        self._entries = entries
        self._characters = characters

    def remember(self, key: _Key, value: _Value, size: int) -> None:
        """Keep `value`; a key of too many characters (`size`) is not kept."""
        if size <= self._characters:
            if len(self) >= self._entries:
                self.clear()
            self[key] = value
