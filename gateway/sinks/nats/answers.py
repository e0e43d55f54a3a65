"""What JetStream answers to a publish, and who waits for it."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from bindings.errors import CloudEventError
from bindings.wire.nats import NatsMessage, parse_headers
from gateway.delivery import Failure, Outcome, Reason

Kind = tuple[Outcome, Reason]

DOWN: Final[Kind] = (Outcome.RELEASED, Reason.SINK_DOWN)
LATE: Final[Kind] = (Outcome.RELEASED, Reason.TIMEOUT)
REFUSED: Final[Kind] = (Outcome.REJECTED, Reason.SINK_REFUSED)

BATCHES_DISABLED: Final = 10174
"""Error number of a stream without `allow_atomic`."""
_MESSAGE_FAULT: Final = 400
"""Error code of what lies in a message: of a batch, any of its messages."""
NO_RESPONDERS: Final = 503
"""Status in a header: nobody has the subject."""

# By the `code` of a JetStream error; what is not listed is RELEASED, since the stream may recover.
# 400 is the message's fault: too large for the stream, not the expected stream, sealed.
_OUTCOMES: Final[Mapping[int, Kind]] = {
    _MESSAGE_FAULT: REFUSED,
    401: REFUSED,
    403: REFUSED,
    408: LATE,
    429: (Outcome.RELEASED, Reason.SINK_BUSY),
}


class _PubError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    batch: str = ""
    count: int = 0
    error: _PubError | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class Answer(msgspec.Struct, frozen=True):
    """An answer, read.

    Attributes:
        kind: None for an acknowledgement, else what became of the message.
        status: JetStream's error number, or the code of a header line; 0 when there is none.
        detail: the error's words.
        count: of an acknowledged batch, its messages; else 0.
        is_refusal_of_one: of a batch: it failed by one of its messages, and nobody says which.
    """

    kind: Kind | None = None
    status: int = 0
    detail: str = ""
    count: int = 0
    is_refusal_of_one: bool = False


_ACKNOWLEDGED: Final = Answer()


def read_answer(message: NatsMessage) -> Answer:
    """Read what came back for a publish."""
    try:
        if message.header:
            headers = parse_headers(message.header)
            if headers.status:
                text = headers.description or "nobody listens: no stream has this subject"
                return Answer(
                    DOWN,
                    headers.status,
                    text,
                    is_refusal_of_one=headers.status == NO_RESPONDERS,
                )
        ack = _decode_ack(message.payload)
    except (CloudEventError, ValueError, RecursionError) as fault:  # msgspec's are ValueErrors
        return Answer(DOWN, 0, f"no JetStream acknowledgement: {fault}")
    error = ack.error
    if error is not None:
        return Answer(
            _OUTCOMES.get(error.code, DOWN),
            error.err_code or error.code,
            error.description,
            is_refusal_of_one=error.code == _MESSAGE_FAULT,
        )
    if not ack.stream or ack.seq < 1:
        return Answer(DOWN, 0, "no JetStream acknowledgement")
    return Answer(count=ack.count) if ack.batch else _ACKNOWLEDGED


class Call(Protocol):
    """Somebody who waits for answers; each has a position."""

    def take(self, position: int, message: NatsMessage) -> None:
        """Take an answer; one that is not waited for is forgotten."""

    def refuse(self, subject: str, text: str) -> None:
        """Take the server's word that it passes nothing on to `subject`: no answer will come."""

    def fail_all(self, kind: Kind, detail: str) -> None:
        """End the waiting."""


class SingleCall:
    """A list of messages, each of which is answered by itself."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failures: list[Failure] = []
        self.waiting: dict[int, str] = {}  # subject by position

    def take(self, position: int, message: NatsMessage) -> None:
        """Take the answer to one message."""
        if position not in self.waiting:
            return
        answer = read_answer(message)
        if answer.kind is not None:
            self._fail(position, answer.kind, answer.detail, answer.status)
        self._end(position)

    def refuse(self, subject: str, text: str) -> None:
        """Reject the messages of a subject."""
        for position in [p for p, waiting in self.waiting.items() if waiting == subject]:
            self._fail(position, REFUSED, text)
            self._end(position)

    def fail_all(self, kind: Kind, detail: str) -> None:
        """End the waiting for whatever has no answer yet."""
        for position in list(self.waiting):
            self._fail(position, kind, detail)
            self._end(position)

    def _fail(self, position: int, kind: Kind, detail: str, status: int = 0) -> None:
        self.failures.append(failure(position, kind, detail, status))

    def _end(self, position: int) -> None:
        del self.waiting[position]
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


class BatchCall:
    """One atomic batch; only its first and its last message are answered.

    Args:
        subjects: of its messages.

    Attributes:
        answer: what became of the batch; None while that is not known.
    """

    def __init__(self, subjects: Sequence[str]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer: Answer | None = None
        self._subjects = subjects

    def take(self, position: int, message: NatsMessage) -> None:
        """Take the answer to the first message, which is empty if all is well, or to the last."""
        if position == 0 and not message.payload and not message.header:
            return
        answer = read_answer(message)
        if answer.kind is None and answer.count != len(self._subjects):
            # A server before 2.12 takes the messages of a batch for single ones.
            answer = Answer(DOWN, 0, "the server does not know atomic batches")
        self._end(answer)

    def refuse(self, subject: str, text: str) -> None:
        """Note that the batch has a hole."""
        if subject in self._subjects:
            self._end(Answer(REFUSED, 0, text, is_refusal_of_one=True))

    def fail_all(self, kind: Kind, detail: str) -> None:
        """End the waiting."""
        self._end(Answer(kind, 0, detail))

    def _end(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            if not self.done.done():  # a timeout cancels it
                self.done.set_result(None)


def failure(position: int, kind: Kind, detail: str, status: int = 0) -> Failure:
    """Return what a sink says of one event."""
    outcome, reason = kind
    return Failure(position, outcome, reason, status=status or None, detail=detail[:200])


def refused_subject(text: str) -> str | None:
    """Return the subject in the server's `Permissions Violation for Publish to "subject"`."""
    found = re.search(r'publish to "([^"]*)"', text, re.IGNORECASE)
    return None if found is None else found[1]
