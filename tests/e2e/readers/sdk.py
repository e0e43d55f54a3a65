"""The official SDKs as readers of what the sinks wrote: both return the same record."""

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tests.e2e.servers import MissingError, program

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Record:
    """A message as it stood in the protocol; header values are what the protocol's client gave."""

    binding: Literal["HTTP", "Kafka"]
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    key: str | None = None

    @property
    def header_table(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers}


@dataclass(frozen=True)
class ReadEvent:
    """What an SDK made of it. `data` is JSON's value for JSON, else bytes; None when absent."""

    attributes: Mapping[str, Any]
    data: Any


class ReadError(Exception):
    """The SDK refused the message; the text is its own."""


def read_with_python(record: Record) -> ReadEvent:
    """Read a message with the `cloudevents` distribution."""
    from cloudevents.core.bindings import http, kafka
    from cloudevents.core.exceptions import CloudEventValidationError
    from cloudevents.core.formats.json import JSONFormat

    body = record.body or b""
    try:
        if record.binding == "HTTP":
            event = http.from_http(http.HTTPMessage(record.header_table, body), JSONFormat())
        else:
            headers = {name: value.encode() for name, value in record.headers}
            event = kafka.from_kafka(kafka.KafkaMessage(headers, record.key, body), JSONFormat())
    except (CloudEventValidationError, ValueError) as error:
        raise ReadError(str(error)) from error
    attributes = {
        name: value.isoformat() if name == "time" else value
        for name, value in event.get_attributes().items()
    }
    data = event.get_data()
    return ReadEvent(attributes, data.encode() if isinstance(data, str) else data)


class NpmReader:
    """The npm package `cloudevents`, in a Node process that answers line by line."""

    def __init__(self) -> None:
        self._node = program("node", "nodejs")
        if not (HERE / "node_modules" / "cloudevents").is_dir():
            raise MissingError("the npm package cloudevents is missing: run .ci/servers")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._node, HERE / "npm_reader.mjs"],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=10)

    def read(self, record: Record) -> ReadEvent:
        """Read a message.

        Raises:
            ReadError: the SDK refused it.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        body = None if record.body is None else base64.b64encode(record.body).decode()
        question = {
            "binding": record.binding,
            "headers": record.header_table,
            "body": body,
            "key": record.key,
        }
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ReadError(answer["error"])
        if "json" in answer:
            return ReadEvent(answer["attributes"], answer["json"])
        data = answer["data"]
        return ReadEvent(answer["attributes"], None if data is None else base64.b64decode(data))
