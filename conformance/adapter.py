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
from typing import IO, Any, Final, Self, TypeVar, cast

from bindings.binding import ContentMode, Message
from conformance.check import CheckFailed, Unsupported
from conformance.forms import (
    Refused,
    WireEvent,
    event_to_json,
    events_from_json,
    message_from_json,
    message_to_json,
)

_T = TypeVar("_T")

_SECONDS: Final = 20.0
"""How long an answer may take; the first one includes the program's start."""


class AdapterError(Exception):
    """The adapter can't be started or does not speak the protocol."""


class AdapterCodec:
    """A codec behind an adapter (a `conformance.codec.Codec`).

    Args:
        command: the command line of the adapter.

    Raises:
        AdapterError: it can't be started, or does not introduce itself.
    """

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            hello = self._ask({"do": "hello"})
            self.title = f"{hello['name']} {hello['version']}"
            self.bindings: Sequence[str] = tuple(hello["bindings"])
        except (CheckFailed, KeyError, TypeError) as error:
            self.close()
            raise AdapterError(f"{command}: no proper answer to hello: {error!r}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        question = {"do": "decode", "binding": binding, "message": message_to_json(message)}
        return _read(lambda: events_from_json(self._answer(question)["events"]), question)

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        question = {
            "do": "encode", "binding": binding, "mode": mode, "event": event_to_json(event),
        }  # fmt: skip
        return _read(lambda: message_from_json(self._answer(question)["message"]), question)

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
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

    def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer if it is neither a refusal nor 'unsupported'."""
        answer = self._ask(question)
        if "unsupported" in answer:
            raise Unsupported(str(answer["unsupported"]))
        if "crash" in answer:
            raise CheckFailed(f"it crashed: {answer['crash']}", reproduce=json.dumps(question))
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
            raise AdapterError(f"{shlex.join(self._command)}: {error.strerror}") from error
        return self._process

    def _read_line(self, process: "subprocess.Popen[bytes]", question: Mapping[str, Any]) -> bytes:
        stdout = cast("IO[bytes]", process.stdout).fileno()
        received = bytearray()
        while not received.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], _SECONDS)
            if not ready:
                raise self._broken(f"no answer within {_SECONDS:.0f} s", question)
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


def _read(form: Callable[[], _T], question: Mapping[str, Any]) -> _T:
    """Return what an answer stands for; one of a wrong form fails the check."""
    try:
        return form()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckFailed(
            f"the adapter's answer has a wrong form: {error!r}", reproduce=json.dumps(question)
        ) from error
