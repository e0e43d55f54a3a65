"""A codec in any language, judged through an adapter: a program that answers questions.

One JSON object per line on its standard input is a question, one per line on its standard output
the answer, in the same order (docs/conformance/adapters.md). An adapter that ends or hangs fails
the check that it was asked by, and is started again for the next.
"""

import json
import os
import select
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Annotated, Any, Final, Self, TypeVar, cast

import msgspec

from bindings.binding import ContentMode, Message
from conformance.check import CheckFailed, Unsupported
from conformance.deviations import Deviations
from conformance.forms import (
    Refused,
    WireEvent,
    event_to_json,
    events_from_json,
    message_from_json,
    message_to_json,
)
from conformance.reference.carrier import CBOR_TYPE

_T = TypeVar("_T")

_FORMATS: Final = "application/cloudevents"
_SECONDS: Final = 20.0
"""How long an answer may take; the first one includes the program's start."""


class AdapterError(Exception):
    """The adapter can't be started or does not speak the protocol."""


class _Hello(Deviations, frozen=True, kw_only=True):
    """How an adapter introduces itself."""

    name: str
    version: str
    bindings: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class AdapterCodec:
    """A codec behind an adapter (a `conformance.codec.Codec`).

    Args:
        command: the command line of the adapter.
        seconds: how long an answer may take; the first one includes the program's start.

    Attributes:
        title: what the adapter calls itself, with the version.
        bindings: the bindings it has.
        deviations: what it is known to do otherwise.
        rewrites_json: SDKs hold JSON as values, so that its layout is their own.

    Raises:
        AdapterError: it can't be started, or does not introduce itself; one sentence says why.
    """

    rewrites_json = True

    def __init__(self, command: str, seconds: float = _SECONDS) -> None:
        self._command = _split(command)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            hello = msgspec.convert(self._ask({"do": "hello"}), _Hello)
        except AdapterError:
            self.close()
            raise
        except CheckFailed as error:
            words = f": {error.got}" if error.got else ""
            self.close()
            raise AdapterError(f"{command}: no answer to hello: {error}{words}") from error
        except msgspec.ValidationError as error:
            self.close()
            raise AdapterError(f"{command}: a wrong answer to hello: {error}") from error
        self.title = f"{hello.name} {hello.version}"
        self.bindings: Sequence[str] = hello.bindings
        self.deviations: Deviations = hello

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        self._demand(binding, *_format_of(message))
        question = {"do": "decode", "binding": binding, "message": message_to_json(message)}
        events = _read(lambda: events_from_json(self._answer(question)["events"]), question)
        return [_explicit(binding, message, event) for event in events]

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        self._demand(binding)
        question = {
            "do": "encode", "binding": binding, "mode": mode, "event": event_to_json(event),
        }  # fmt: skip
        return _read(lambda: message_from_json(self._answer(question)["message"]), question)

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
        self._demand(binding, target, *_format_of(message))
        question = {
            "do": "relay", "binding": binding, "message": message_to_json(message),
            "to": target, "mode": mode,
        }  # fmt: skip
        return _read(
            lambda: [message_from_json(form) for form in self._answer(question)["messages"]],
            question,
        )

    def close(self) -> None:
        """End the adapter; it has seen the end of its input and should end by itself."""
        process, self._process = self._process, None
        if process is not None:
            cast("IO[bytes]", process.stdin).close()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            cast("IO[bytes]", process.stdout).close()
        self._errors.close()

    def _demand(self, *bindings: str) -> None:
        for binding in bindings:
            if binding not in self.bindings:
                raise Unsupported(f"the adapter has no binding {binding}")

    def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer if it is neither a refusal nor 'unsupported'."""
        answer = self._ask(question)
        if "unsupported" in answer:
            raise Unsupported(str(answer["unsupported"]))
        if "crash" in answer:  # to an event that is none, this is an answer too
            raise Refused(f"it crashed: {answer['crash']}")
        if "error" in answer:
            error = answer["error"]
            raise Refused(str(error.get("text", "")), str(error.get("kind", "")))
        return answer

    def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        process = self._process or self._start()
        line = json.dumps(question).encode() + b"\n"
        try:
            stdin = cast("IO[bytes]", process.stdin)
            stdin.write(line)
            stdin.flush()
        except OSError:
            raise self._broken("the adapter has ended", question) from None
        answer = self._read_line(process, question)
        try:
            found = json.loads(answer)
        except ValueError:
            raise self._broken(f"no JSON: {answer[:200]!r}", question) from None
        if not isinstance(found, dict):
            raise self._broken(f"no JSON object: {answer[:200]!r}", question)
        return found

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
            )
        except OSError as error:
            raise AdapterError(
                f"{shlex.join(self._command)}: can't be started: {error.strerror}"
            ) from error
        return self._process

    def _read_line(self, process: "subprocess.Popen[bytes]", question: Mapping[str, Any]) -> bytes:
        stdout = cast("IO[bytes]", process.stdout).fileno()
        received = bytearray()
        while not received.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], self._seconds)
            if not ready:
                raise self._broken(f"no answer within {self._seconds:g} s", question)
            chunk = os.read(stdout, 1 << 16)
            if not chunk:
                raise self._broken("the adapter has ended", question)
            received += chunk
        return bytes(received)

    def _broken(self, text: str, question: Mapping[str, Any]) -> CheckFailed:
        """End the adapter, so that the next question meets a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            cast("IO[bytes]", process.stdin).close()
            cast("IO[bytes]", process.stdout).close()
        return CheckFailed(text, got=self._last_words(), reproduce=json.dumps(question))

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(size - 500, 0))
        return self._errors.read().decode("utf-8", "replace").strip()


def _format_of(message: Message) -> list[str]:
    """Return the event format that a message needs beyond JSON."""
    return ["cbor"] if message.content_type.lower().startswith(CBOR_TYPE) else []


def _explicit(binding: str, message: Message, event: WireEvent) -> WireEvent:
    """Return an event that says what an envelope implies: JSON, of data that is held as a value."""
    is_envelope = binding == "json" or message.content_type.lower().startswith(_FORMATS)
    if not (event.parsed and is_envelope) or "datacontenttype" in event.attributes:
        return event
    attributes = {**event.attributes, "datacontenttype": "application/json"}
    return msgspec.structs.replace(event, attributes=attributes)


def _split(command: str) -> list[str]:
    """Return the words of a command line.

    Raises:
        AdapterError: it is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise AdapterError(f"{command}: no command line: {error}") from error
    if not words:
        raise AdapterError("the command line of the adapter is empty")
    return words


def _read(form: Callable[[], _T], question: Mapping[str, Any]) -> _T:
    """Return what an answer stands for; one of a wrong form fails the check."""
    try:
        return form()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckFailed(
            f"the adapter's answer has a wrong form: {error!r}", reproduce=json.dumps(question)
        ) from error
