"""Answers that a parser has read before: receivers say 202 in the same bytes again and again.

How long an answer is and whether its connection stays open follow from the bytes of its head alone,
so a head that is known byte for byte needs no parser. `Date` changes once a second; a head that is
never the same twice (a request id) is parsed each time.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

_MAX_BYTES: Final = 1024
_MAX_ANSWERS: Final = 64

Answer = TypeVar("Answer")


class KnownAnswers(Generic[Answer]):
    """Answers after which a connection stays open, by their bytes.

    Attributes:
        get: returns what bytes say if they are one whole answer that is known, else None.
    """

    def __init__(self) -> None:
        self._whole: dict[bytes, Answer] = {}
        self._heads: dict[bytes, int] = {}
        self.get: Callable[[bytes], Answer | None] = self._whole.get

    def split(self, data: bytes, start: int) -> int:
        """Return where the answer that begins at `start` ends; 0 if its head is not known."""
        body = data.find(b"\r\n\r\n", start, start + _MAX_BYTES) + 4
        length = self._heads.get(data[start:body])
        return 0 if length is None else body + length

    def learn(self, data: bytes, body_bytes: int, answer: Answer) -> None:
        """Remember an answer.

        Args:
            data: the bytes that were read of it.
            body_bytes: how long its body is, as a parser has found.
            answer: what it says.
        """
        end = len(data) - body_bytes
        # Not so where the body was chunked, or an interim answer came first.
        if len(data) <= _MAX_BYTES and data.find(b"\r\n\r\n") + 4 == end:
            if len(self._whole) >= _MAX_ANSWERS:
                self._whole.clear()
                self._heads.clear()
            self._whole[data] = answer
            self._heads[data[:end]] = body_bytes
