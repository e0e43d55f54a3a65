"""Checks of `split` and `answer`, shown to bite with a protocol of lines."""

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.checks.framing import checks_of
from gateway.delivery import Outcome

VECTOR = {
    "id": "hello",
    "note": "a line",
    "requirements": ["CORE-GEN-005"],
    "decode": {"payload": "hello"},
    "frame_hex": "68656c6c6f 0a",
    "answers_hex": {"accepted": "2b", "rejected": "2d", "released": "3f"},
}


class Lines:
    """A line is a message; the answer is a plus, a minus or a question mark."""

    def split(self, buffer):
        taken = buffer.rfind(b"\n") + 1
        return [Message(line) for line in buffer[:taken].split(b"\n")[:-1]], taken

    def answer(self, message, outcome):
        return {Outcome.ACCEPTED: b"+", Outcome.REJECTED: b"-", Outcome.RELEASED: b"?"}[outcome]


class OneByOne(Lines):
    def split(self, buffer):
        line, end, _ = buffer.partition(b"\n")
        return ([Message(line)], len(line) + 1) if end else ([], 0)


class WithoutEnd(Lines):
    def split(self, buffer):
        return [Message(buffer.rstrip(b"\n"))], len(buffer)


class FirstOnly(Lines):
    def split(self, buffer):
        messages, taken = super().split(buffer)
        return messages[:1], taken


class Counting(Lines):
    """It expects to see each byte once, and keeps what is not taken."""

    kept = b""

    def split(self, buffer):
        self.kept += buffer
        messages, taken = super().split(self.kept)
        self.kept = self.kept[taken:]
        return messages, taken


class TakesNothing(Lines):
    def split(self, buffer):
        return [], 0


class TakesTooMuch(Lines):
    def split(self, buffer):
        return [], len(buffer) + 1


class OtherText(Lines):
    def split(self, buffer):
        messages, taken = super().split(buffer)
        return [Message(message.payload + b"\r") for message in messages], taken


class AlwaysRight(Lines):
    def answer(self, message, outcome):
        return b"+"


class Codec:
    def __init__(self, binding):
        self._binding = binding

    def function(self, binding, name):
        return getattr(self._binding, name, None)


SPLIT, ANSWERS = checks_of(VECTOR, "lines")


def test_a_vector_has_a_check_for_each_thing_it_says_of_the_wire():
    assert (SPLIT.id, ANSWERS.id) == ("hello-frame", "hello-answers")
    assert list(checks_of({"id": "silent"}, "lines")) == []


@pytest.mark.parametrize("binding", [Lines, OneByOne])
def test_what_finds_the_messages_of_a_stream_passes(binding):
    SPLIT.run(Codec(binding()))
    ANSWERS.run(Codec(binding()))


@pytest.mark.parametrize(
    "binding", [WithoutEnd, FirstOnly, Counting, TakesNothing, TakesTooMuch, OtherText]
)
def test_what_does_not_fails(binding):
    with pytest.raises(CheckFailed) as failure:
        SPLIT.run(Codec(binding()))
    assert "68656c6c6f0a" in failure.value.reproduce.replace(" ", "")


def test_an_answer_that_says_nothing_of_the_outcome_fails():
    with pytest.raises(CheckFailed, match="rejected") as failure:
        ANSWERS.run(Codec(AlwaysRight()))
    assert (failure.value.expected, failure.value.got) == ("2d", "2b")


@pytest.mark.parametrize("codec", [Codec(object()), object()])
@pytest.mark.parametrize("check", [SPLIT, ANSWERS])
def test_a_binding_without_these_functions_is_not_judged(check, codec):
    with pytest.raises(Unsupported, match="has no function"):
        check.run(codec)
