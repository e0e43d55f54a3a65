"""Publishing to JetStream: lists out in one write, acknowledgements back on one inbox.

The inbox's last words are call and position. `Nats-Msg-Id` is source and id, so that what is sent
twice within the stream's duplicate window is stored once; that makes a retry after a timeout, as
when the server was killed and will never answer, harmless.

Atomic batches (ADR-50): a list is stored whole or not at all, and one acknowledgement stands for
all of it. A batch that fails by one of its messages, which may also be one that is stored already,
goes out again message by message, so that each event has its own outcome.

Without batches all events of a list are sent at once. If one of them is RELEASED, later events of
its key may already be stored: the answer says so truthfully, and order for that key is lost, which
takes a stream that refuses one message and takes the next (a change of leader, a full stream).
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from nats.aio.client import Client

from bindings.binding import EVENT_MEDIA_TYPE
from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.json_format import encode_event
from bindings.nats import NATS
from bindings.percent import percent_encode
from bindings.wire.nats import NatsMessage, encode_headers, encode_publish, parse_number
from gateway.delivery import Failure
from gateway.nats_connection import ClientCallbacks, NatsConnection
from gateway.sinks.nats.answers import (
    BATCHES_DISABLED,
    DOWN,
    LATE,
    REFUSED,
    BatchCall,
    Call,
    SingleCall,
    failure,
    refused_subject,
)
from gateway.sinks.nats.config import NatsSinkConfig
from gateway.sinks.nats.stream import NoStreamError, find_stream, weaknesses
from gateway.sinks.nats.subject import MAX_SUBJECT_BYTES, SubjectTemplate
from gateway.tasks import Tasks

_log = logging.getLogger(__name__)

MAX_BATCH: Final = 1000
"""Messages in one atomic batch, by the server's default."""
_BATCH_HEADER_BYTES: Final = 160
"""At most; they count for the server's limit."""
_OPEN_SECONDS = 2
_LOOK_SECONDS = 30.0
"""Between two looks at a stream that is not known yet; a new connection looks at once."""


class _Publish(msgspec.Struct, gc=False):
    """One message to be sent; `header` ends with the block's empty line."""

    position: int
    subject: str
    header: bytes
    payload: bytes


class NatsSink:
    """Publishes to JetStream (see the module)."""

    config_type = NatsSinkConfig

    def __init__(self, config: NatsSinkConfig) -> None:
        self._config = config
        self._connection = NatsConnection(
            config,
            ClientCallbacks(attach=self._attach, lost=self._lost, refused=self._refused),
        )
        self._tasks = Tasks(f"sink {config.name}")
        self._calls: dict[int, Call] = {}
        self._call_number = 0
        self._inbox = ""
        self._subject = SubjectTemplate(config.subject)
        constant = [("Nats-Expected-Stream", config.stream)] if config.stream else []
        constant.append(("Content-Type", EVENT_MEDIA_TYPE))
        self._structured_headers = encode_headers(constant).partition(b"\r\n")[2]
        self._batches = config.batch == "atomic"
        self._next_look = float("inf")  # while no stream is known, by the loop's clock
        self._looked = asyncio.Event()
        self._said: set[str] = set()
        self._is_missing = False  # the stream, and the log says so

    async def open(self) -> None:
        self._connection.start()
        # The address is known; a server that is down is no reason to wait, one that is up is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._connection.opened()
                await self._looked.wait()

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        if not self._connection.is_up:
            return [failure(position, DOWN, "no connection") for position in range(len(events))]
        messages, failures = self._encode(events)
        now = asyncio.get_running_loop().time()
        deadline = now + (self._config.timeout if timeout is None else timeout)
        if self._batches and len(messages) > 1:
            failures += await self._send_batches(messages, deadline)
        elif messages:
            failures += await self._send_singly(messages, deadline)
        if now > self._next_look and len(failures) < len(events) and self._connection.is_up:
            self._look_soon()
        failures.sort(key=_position)
        return failures

    async def close(self) -> None:
        await self._tasks.close()
        await self._connection.close()
        self._lost()

    # Messages.

    def _encode(self, events: Sequence[Event]) -> tuple[list[_Publish], list[Failure]]:
        messages = []
        failures = []
        limit = self._connection.max_payload
        subject_of, message_of = self._subject.of, self._message
        for position, event in enumerate(events):
            subject = subject_of(event)
            try:
                header, payload = message_of(event)
            except CloudEventError as error:
                failures.append(failure(position, REFUSED, str(error)))
                continue
            size = len(header) + len(payload)
            if size > limit or len(subject) > MAX_SUBJECT_BYTES:
                text = f"{size} bytes, and {limit} is the server's limit"
                if size <= limit:
                    text = f"a subject of {len(subject)} bytes"
                failures.append(failure(position, REFUSED, text))
                continue
            messages.append(_Publish(position, subject, header, payload))
        return messages, failures

    def _message(self, event: Event) -> tuple[bytes, bytes]:
        if self._config.mode == "structured":  # as NATS.encode does it; only the id differs
            header = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n%b" % (
                message_id(event).encode("ascii"),
                self._structured_headers,
            )
            return header, encode_event(event)
        message = NATS.encode(event, self._config.mode)
        pairs = [("Nats-Msg-Id", message_id(event))]
        if self._config.stream:
            pairs.append(("Nats-Expected-Stream", self._config.stream))
        if message.content_type:
            pairs.append(("Content-Type", message.content_type))
        pairs.extend(message.headers)
        return encode_headers(pairs), message.payload or b""

    # Each by itself.

    async def _send_singly(self, messages: Sequence[_Publish], deadline: float) -> list[Failure]:
        call = SingleCall()
        number = self._next_number()
        data = []
        for message in messages:
            reply = f"{self._inbox}.{number}.{message.position}".encode()
            data.append(
                encode_publish(
                    message.subject.encode(), message.payload, reply=reply, header=message.header
                )
            )
            call.waiting[message.position] = message.subject
        await self._exchange(number, call, b"".join(data), deadline)
        return call.failures

    # Batches.

    async def _send_batches(self, messages: Sequence[_Publish], deadline: float) -> list[Failure]:
        """Send one batch after the other; what follows one that is released is released too."""
        failures: list[Failure] = []
        limit = self._connection.max_payload - _BATCH_HEADER_BYTES
        for start in range(0, len(messages), MAX_BATCH):
            part = messages[start : start + MAX_BATCH]
            if any(len(message.header) + len(message.payload) > limit for message in part):
                failures += await self._send_singly(part, deadline)
                continue
            call = BatchCall([message.subject for message in part])
            number = self._next_number()
            await self._exchange(number, call, self._batch(part, number), deadline)
            answer = call.answer
            assert answer is not None  # noqa: S101 - `_exchange` ends with an answer
            if answer.kind is None:
                continue
            kind = answer.kind
            if answer.status == BATCHES_DISABLED and self._config.batch == "atomic":
                kind = DOWN  # the stream's fault, not the events': somebody may allow it yet
            elif answer.is_refusal_of_one:
                self._batches = self._batches and answer.status != BATCHES_DISABLED
                failures += await self._send_singly(part, deadline)
                continue
            failures += [
                failure(message.position, kind, answer.detail, answer.status)
                for message in messages[start:]
            ]
            break
        return failures

    def _batch(self, messages: Sequence[_Publish], number: int) -> bytes:
        data = []
        token = self._inbox.rpartition(".")[2]
        batch = f"Nats-Batch-Id: {token}-{number}\r\nNats-Batch-Sequence: ".encode()
        last = len(messages) - 1
        for index, message in enumerate(messages):
            end = b"Nats-Batch-Commit: 1\r\n\r\n" if index == last else b"\r\n"
            header = b"%b%b%d\r\n%b" % (message.header[:-2], batch, index + 1, end)
            reply = b""
            if index in {0, last}:
                reply = f"{self._inbox}.{number}.{index}".encode()
            subject = message.subject.encode()
            data.append(encode_publish(subject, message.payload, reply=reply, header=header))
        return b"".join(data)

    # Calls.

    def _next_number(self) -> int:
        self._call_number += 1
        return self._call_number

    async def _exchange(
        self, number: int, call: SingleCall | BatchCall, data: bytes, deadline: float
    ) -> None:
        """Write, and return when all that was waited for is known or given up."""
        self._calls[number] = call
        try:
            if not self._connection.write(data):
                call.fail_all(DOWN, "connection lost")
            async with asyncio.timeout_at(deadline):
                await self._connection.drain()
                await call.done
        except TimeoutError:
            call.fail_all(LATE, "no acknowledgement in time")
        except ConnectionError as error:
            call.fail_all(DOWN, str(error) or "connection lost")
        finally:
            del self._calls[number]

    async def _attach(self) -> None:
        self._inbox = self._connection.inbox()
        self._connection.subscribe(f"{self._inbox}.*.*", self._received)
        await self._connection.flush()
        self._look_soon()

    def _received(self, messages: list[NatsMessage]) -> None:
        for message in messages:
            _, *words = message.subject.rsplit(".", 2)
            number, position = map(parse_number, words)
            call = None if number is None else self._calls.get(number)
            if call is not None and position is not None:
                call.take(position, message)

    def _lost(self) -> None:
        for call in list(self._calls.values()):
            call.fail_all(DOWN, "connection lost")

    def _refused(self, text: str) -> None:
        subject = refused_subject(text)
        if subject is not None:
            for call in list(self._calls.values()):
                call.refuse(subject, text)

    # The stream.

    def _look_soon(self) -> None:
        """Look in the background: who may not ask gets no answer, and must not wait for it."""
        self._next_look = asyncio.get_running_loop().time() + _LOOK_SECONDS
        self._tasks.start(self._look(self._connection.client), "look at the stream")

    async def _look(self, client: Client) -> None:
        name = self._config.name
        try:
            stream = await find_stream(client, self._config.stream, self._subject.pattern)
        except NoStreamError as error:
            if not self._is_missing:
                _log.warning(
                    "sink %s: %s; events wait until then", name, error, extra={"sink": name}
                )
            self._is_missing = True
            return
        finally:
            self._looked.set()
        if stream is None:
            return
        self._is_missing = False
        self._next_look = float("inf")
        if self._config.batch == "auto":
            self._batches = stream.allow_atomic
        for text in weaknesses(stream):
            if text not in self._said:
                self._said.add(text)
                _log.warning("sink %s: stream %s %s", name, stream.name, text, extra={"sink": name})


def message_id(event: Event) -> str:
    """Return `source|id`, percent-encoded: no two pairs give the same, as no URI holds a `|`."""
    return percent_encode(f"{event.source}|{event.id}")


def _position(failure: Failure) -> int:
    return failure.position
