"""How messages stand on the wire, for a binding of one's own that has `split` and `answer`.

A vector's `frame_hex` is its message as a stream has it, and `answers_hex` the bytes that tell the
sender each outcome. Whatever pieces a stream comes in, it holds the same messages.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.vectors import Vector, bytes_of, message_of, message_text, same_message
from conformance.codec import Codec
from conformance.requirements import profiles_of, strongest
from gateway.delivery import Outcome

FAMILY: Final = "framing"

Split = Callable[[bytes], tuple[list[Message], int]]


def checks_of(vector: Vector, binding: str) -> Iterator[Check]:
    """Return the checks of one vector, none if it does not say how it stands on the wire."""
    for key, judge in (("frame_hex", _judge_split), ("answers_hex", _judge_answers)):
        if key in vector:
            ids = tuple(vector["requirements"])
            yield Check(
                id=f"{vector['id']}-{key.removesuffix('_hex')}",
                title=vector["note"],
                binding=binding,
                family=FAMILY,
                requirements=ids,
                level=strongest(ids),
                role="consumer",
                profiles=profiles_of(ids),
                verdict="taken",
                run=partial(judge, vector, binding),
            )


def _judge_split(vector: Vector, binding: str, codec: Codec) -> None:
    split: Split = _function(codec, binding, "split")
    frame, message = bytes_of(vector, "frame") or b"", message_of(vector["decode"])
    halves = [frame[: len(frame) // 2], frame[len(frame) // 2 :]]
    for name, pieces, count in (
        ("whole", [frame], 1),
        ("three at once", [frame * 3], 3),
        ("byte by byte", [bytes((octet,)) for octet in frame], 1),
        ("one and a half, then the rest", [frame + halves[0], halves[1]], 2),
    ):
        asked = " ".join(piece.hex() for piece in pieces)
        got, rest = _fed(split, pieces, asked)
        wanted = [message] * count
        if rest or len(got) != count or not _are_same(got, wanted, binding):
            text = " ".join(map(message_text, got)) or "no message"
            raise CheckFailed(
                f"{vector['note']}: {name}",
                expected=" ".join(map(message_text, wanted)),
                got=f"{text}, {len(rest)} bytes left",
                reproduce=f"split: {asked}",
            )


def _fed(split: Split, pieces: Iterable[bytes], asked: str) -> tuple[list[Message], bytes]:
    """Return the messages in a stream that comes in pieces, and what is left of it."""
    messages, buffer = [], b""
    for piece in pieces:
        buffer += piece
        taken = 1
        while taken:
            found, taken = split(buffer)
            if not 0 <= taken <= len(buffer):
                text = f"took {taken} bytes of {len(buffer)}"
                raise CheckFailed(text, reproduce=f"split: {asked}")
            messages += found
            buffer = buffer[taken:]
    return messages, buffer


def _are_same(got: Iterable[Message], wanted: Iterable[Message], binding: str) -> bool:
    return all(same_message(*pair, binding) for pair in zip(got, wanted, strict=True))


def _judge_answers(vector: Vector, binding: str, codec: Codec) -> None:
    answer = _function(codec, binding, "answer")
    message = message_of(vector["decode"])
    for name, wanted in vector["answers_hex"].items():
        expected = bytes.fromhex(wanted)
        got = answer(message, Outcome[name.upper()])
        if got != expected:
            raise CheckFailed(
                f"{vector['note']}: answered when it was {name}",
                expected=expected.hex(" "),
                got=got.hex(" "),
                reproduce=f"answer: {name} {message_text(message)}",
            )


def _function(codec: Codec, binding: str, name: str) -> Any:
    """Return a function that a codec's binding may have beside those of every binding.

    Raises:
        Unsupported: it has none.
    """
    find: Callable[[str, str], Any] = getattr(codec, "function", lambda *_: None)
    found = find(binding, name)
    if found is None:
        raise Unsupported(f"the binding has no function {name!r}")
    return found
