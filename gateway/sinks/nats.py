"""NATS sink: JetStream publish, acknowledged by the stream.

A list goes out in one write; the acknowledgements come back on one inbox whose last word is call
and position. `Nats-Msg-Id` is `source|id`, percent-encoded, so that what is sent twice within the
stream's duplicate window is stored once; that makes a retry after a timeout harmless.

All events of a list are sent at once. If one of them is RELEASED, later events of its key may
already be stored: the answer says so truthfully, and order for that key is lost, which takes a
stream that refuses one message and takes the next (a change of leader, a full stream).
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from pydantic import Field, field_validator

from bindings.binding import ContentMode, percent_encode
from bindings.errors import CloudEventError
from bindings.event import CORE_ATTRIBUTES, Event, canonical_text, is_valid_name
from bindings.nats import NATS
from bindings.wire.nats import (
    NatsMessage,
    encode_headers,
    encode_publish,
    parse_headers,
    parse_number,
)
from gateway.config.records import Duration, SinkConfig
from gateway.delivery import Failure, Outcome, Reason
from gateway.nats_connection import ClientCallbacks, NatsConnection, NatsServerConfig

MAX_SUBJECT_BYTES: Final = 1024
"""The server takes lines of 4096 bytes by default, and closes the connection of who sends more."""

_OPEN_SECONDS = 2
_PLACE = re.compile(r"\{([a-z0-9]+)\}")
_UNSAFE = re.compile(r"[^!-)+-=?-~]")  # blanks, controls, non-ASCII and the wildcards * and >
_SUBJECT = re.compile(r"[^\s.*>]+(?:\.[^\s.*>]+)*")

# By the `code` of a JetStream error; what is not listed is RELEASED, since the stream may recover.
# 400 is the message's fault: too large for the stream, not the expected stream, sealed.
_OUTCOMES: Final[Mapping[int, tuple[Outcome, Reason]]] = {
    400: (Outcome.REJECTED, Reason.SINK_REFUSED),
    401: (Outcome.REJECTED, Reason.SINK_REFUSED),
    403: (Outcome.REJECTED, Reason.SINK_REFUSED),
    408: (Outcome.RELEASED, Reason.TIMEOUT),
    429: (Outcome.RELEASED, Reason.SINK_BUSY),
}
_RELEASED: Final = (Outcome.RELEASED, Reason.SINK_DOWN)


class NatsSinkConfig(NatsServerConfig, SinkConfig):
    """A JetStream stream to publish to."""

    subject: str = Field(
        "events.{type}",
        description="subject, one that the stream listens on; {attribute} stands for an attribute, "
        "`_` for one that is missing",
    )
    mode: ContentMode = Field("structured", description="structured (JSON) or binary (headers)")
    stream: str = Field(
        "", description="refuse to store in any other stream (Nats-Expected-Stream)"
    )
    timeout: Duration = Field(
        5.0, gt=0, description="wait this long for the stream's acknowledgement"
    )

    @field_validator("subject")
    @classmethod
    def _check_subject(cls, value: str) -> str:
        for name in _PLACE.findall(value):
            if not (name in CORE_ATTRIBUTES or is_valid_name(name)):
                raise ValueError(f"{{{name}}} is no attribute")
        sample = _PLACE.sub("x", value)
        if not _SUBJECT.fullmatch(sample) or "{" in sample or "}" in sample:
            raise ValueError("expected words with dots between, such as events.{type}")
        return value


class _PubError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: _PubError | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


class _Call:
    """One `send`: who is still to be acknowledged."""

    def __init__(self, count: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failures: list[Failure] = []
        self.waiting: dict[int, str] = {}  # subject by position
        self.count = count

    def fail(
        self, position: int, kind: tuple[Outcome, Reason], detail: str, status: int = 0
    ) -> None:
        outcome, reason = kind
        self.failures.append(
            Failure(position, outcome, reason, status=status or None, detail=detail[:200])
        )

    def end(self, position: int) -> bool:
        """Take an answer; returns False if it was not waited for."""
        if self.waiting.pop(position, None) is None:
            return False
        if not self.waiting and not self.done.done():
            self.done.set_result(None)
        return True

    def fail_all(self, kind: tuple[Outcome, Reason], detail: str) -> None:
        for position in list(self.waiting):
            self.fail(position, kind, detail)
            self.end(position)


class NatsSink:
    """Publishes to JetStream."""

    config_type = NatsSinkConfig

    def __init__(self, config: NatsSinkConfig) -> None:
        self._config = config
        self._connection = NatsConnection(
            config,
            ClientCallbacks(attach=self._attach, lost=self._lost, refused=self._refused),
        )
        self._calls: dict[int, _Call] = {}
        self._call_number = 0
        self._inbox = ""
        self._subject = _Subject(config.subject)

    async def open(self) -> None:
        self._connection.start()
        # The address is known; a server that is down is no reason to wait, one that is up is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._connection.opened()

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        call = _Call(len(events))
        if not self._connection.is_up:
            return [_down(position) for position in range(len(events))]
        self._call_number += 1
        number = self._call_number
        data = self._encode(events, number, call)
        if not data:
            return call.failures
        self._calls[number] = call
        try:
            if not self._connection.write(b"".join(data)):
                call.fail_all(_RELEASED, "connection lost")
            async with asyncio.timeout(self._config.timeout if timeout is None else timeout):
                await self._connection.drain()
                await call.done
        except TimeoutError:
            call.fail_all((Outcome.RELEASED, Reason.TIMEOUT), "no acknowledgement in time")
        except ConnectionError as error:
            call.fail_all(_RELEASED, str(error) or "connection lost")
        finally:
            del self._calls[number]
        call.failures.sort(key=_position)
        return call.failures

    async def close(self) -> None:
        await self._connection.close()
        self._lost()

    def _encode(self, events: Sequence[Event], number: int, call: _Call) -> list[bytes]:
        data = []
        limit = self._connection.max_payload
        for position, event in enumerate(events):
            subject = self._subject.of(event)
            try:
                header, payload = self._message(event)
            except CloudEventError as error:
                call.fail(position, (Outcome.REJECTED, Reason.SINK_REFUSED), str(error))
                continue
            size = len(header) + len(payload)
            if size > limit or len(subject) > MAX_SUBJECT_BYTES:
                text = f"{size} bytes, and {limit} is the server's limit"
                if size <= limit:
                    text = f"a subject of {len(subject)} bytes"
                call.fail(position, (Outcome.REJECTED, Reason.SINK_REFUSED), text)
                continue
            reply = f"{self._inbox}.{number}.{position}".encode()
            data.append(encode_publish(subject.encode(), payload, reply=reply, header=header))
            call.waiting[position] = subject
        return data

    def _message(self, event: Event) -> tuple[bytes, bytes]:
        message = NATS.encode(event, self._config.mode)
        pairs = [("Nats-Msg-Id", percent_encode(f"{event.source}|{event.id}"))]
        if self._config.stream:
            pairs.append(("Nats-Expected-Stream", self._config.stream))
        if message.content_type:
            pairs.append(("Content-Type", message.content_type))
        pairs.extend(message.headers)
        return encode_headers(pairs), message.payload or b""

    async def _attach(self) -> None:
        self._inbox = self._connection.inbox()
        self._connection.subscribe(f"{self._inbox}.*.*", self._received)
        await self._connection.flush()

    def _received(self, messages: list[NatsMessage]) -> None:
        for message in messages:
            _, *words = message.subject.rsplit(".", 2)
            number, position = map(parse_number, words)
            call = None if number is None else self._calls.get(number)
            if call is not None and position is not None:
                self._take_answer(call, position, message)

    def _take_answer(self, call: _Call, position: int, message: NatsMessage) -> None:
        if position not in call.waiting:
            return
        kind, status, detail = _read_answer(message)
        if kind is not None:
            call.fail(position, kind, detail, status)
        call.end(position)

    def _lost(self) -> None:
        for call in list(self._calls.values()):
            call.fail_all(_RELEASED, "connection lost")

    def _refused(self, text: str) -> None:
        """Take `permissions violation for publish to "subject"`: no other answer will come."""
        found = re.search(r'publish to "([^"]*)"', text, re.IGNORECASE)
        if found is None:
            return
        for call in list(self._calls.values()):
            for position, subject in list(call.waiting.items()):
                if subject == found[1]:
                    call.fail(position, (Outcome.REJECTED, Reason.SINK_REFUSED), text)
                    call.end(position)


class _Subject:
    """The subject's template; values are made safe, so that no event chooses a subject freely."""

    def __init__(self, template: str) -> None:
        parts = _PLACE.split(template)
        self._names = parts[1::2]
        self._texts = parts[::2]
        self._fill = lru_cache(maxsize=4096)(self._uncached)

    def of(self, event: Event) -> str:
        if not self._names:
            return self._texts[0]
        return self._fill(*[_attribute(event, name) for name in self._names])

    def _uncached(self, *values: str) -> str:
        subject = self._texts[0]
        for value, text in zip(values, self._texts[1:], strict=True):
            subject += _UNSAFE.sub("_", value) + text
        words = [word or "_" for word in subject.split(".")]
        if not self._texts[0] and words[0].startswith(("$", "_INBOX", "_R_")):
            # $JS.API and $SYS are commands to the server, _INBOX is somebody's private address.
            words[0] = "_" + words[0]
        return ".".join(words)


def _attribute(event: Event, name: str) -> str:
    core = name in CORE_ATTRIBUTES
    value = getattr(event, name) if core else event.extensions.get(name)
    return "_" if value is None else canonical_text(value)


def _read_answer(message: NatsMessage) -> tuple[tuple[Outcome, Reason] | None, int, str]:
    """Return (None, 0, "") for a PubAck, else the outcome, the code and the words of the error."""
    try:
        if message.header:
            headers = parse_headers(message.header)
            if headers.status:
                text = headers.description or "nobody listens: no stream has this subject"
                return _RELEASED, headers.status, text
        answer = _decode_ack(message.payload)
    except (CloudEventError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        return _RELEASED, 0, f"no JetStream acknowledgement: {error}"
    if answer.error is not None:
        kind = _OUTCOMES.get(answer.error.code, _RELEASED)
        return kind, answer.error.err_code or answer.error.code, answer.error.description
    if not answer.stream or answer.seq < 1:
        return _RELEASED, 0, "no JetStream acknowledgement"
    return None, 0, ""


def _down(position: int) -> Failure:
    return Failure(position, Outcome.RELEASED, Reason.SINK_DOWN, detail="no connection")


def _position(failure: Failure) -> int:
    return failure.position
