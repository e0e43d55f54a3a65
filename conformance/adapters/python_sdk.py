"""Adapter for the official Python SDK: the distribution `cloudevents`, its module `core`.

Each call is what a user would write: JSON data goes in as a value and comes out as one, times as
`datetime`. Run it as `python -m conformance.adapters.python_sdk`.
"""

import base64
import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from cloudevents.core.bindings import http, kafka
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent


class Unsupported(Exception):  # noqa: N818 - it is no error
    """The SDK has no way to say this."""


_REFUSALS = (CloudEventValidationError, ValueError, KeyError)
"""What a receiver can be expected to catch; anything else is a crash, and says so."""

JSON = Mapping[str, Any]

_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?P<fraction>\.\d+)?(Z|[+-][0-2]\d:[0-5]\d)",
    re.IGNORECASE | re.ASCII,
)
_ASCII_BASED = ("utf-8", "us-ascii")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def decode(question: JSON) -> JSON:
    """Read a message as the documentation says: `from_http`, `from_kafka`, `JSONFormat.read`."""
    message = question["message"]
    media_type = message["content_type"].lower()
    in_envelope = question["binding"] == "json" or media_type.startswith("application/cloudevents")
    # Without a content type, a `str` is JSON's value in an envelope, and text in a payload.
    return {"events": [_to_json(_decode(question), "application/json" if in_envelope else "")]}


def encode(question: JSON) -> JSON:
    """Write an event that was made with `CloudEvent(attributes, data)`."""
    return {
        "message": _encode(
            _from_json(question["event"], question["mode"]), question["binding"], question["mode"]
        )
    }


def relay(question: JSON) -> JSON:
    """Read a message and write what came of it."""
    return {"messages": [_encode(_decode(question), question["to"], question["mode"])]}


def _decode(question: JSON) -> Any:
    event = _read(question)
    if event.get_specversion() == "0.3":
        raise Unsupported("specversion 0.3, which it reads as such")
    return event


def _read(question: JSON) -> Any:
    message = question["message"]
    payload = base64.b64decode(message["payload"] or "")
    if message["content_type"].lower().startswith("application/cloudevents-batch"):
        raise Unsupported("batches")
    headers: dict[str, str] = dict(message["headers"])
    if len({name.lower() for name in headers}) < len(message["headers"]):
        raise Unsupported("a header that stands there twice: messages hold a dict")
    if message["content_type"]:
        headers["content-type"] = message["content_type"]
    if question["binding"] == "http":
        headers = _from_the_wire(headers)
    if question["binding"] == "http":
        return http.from_http(http.HTTPMessage(headers, payload), JSONFormat())
    if question["binding"] == "kafka":
        encoded = {
            name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()
        }
        return kafka.from_kafka(kafka.KafkaMessage(encoded, None, payload), JSONFormat())
    return JSONFormat().read(None, payload)


def _from_the_wire(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as every web framework hands them over: without the blanks around a value."""
    if any(not _TOKEN.fullmatch(name) for name in headers):
        raise Unsupported("a name that no header has")
    if not all(value.isascii() for value in headers.values()):
        raise Unsupported("bytes outside ASCII: the web framework says what they stand for")
    return {name: value.strip(" \t") for name, value in headers.items()}


def _encode(event: Any, binding: str, mode: str) -> JSON:
    if binding == "json":
        body = JSONFormat().write(event)
        return {"payload": _base64(body), "content_type": "application/cloudevents+json"}
    if binding == "http":
        to_http = http.to_binary if mode == "binary" else http.to_structured
        sent = to_http(event, JSONFormat())
        return _message(sent.body, sent.headers)
    to_kafka = kafka.to_binary if mode == "binary" else kafka.to_structured
    record = to_kafka(event, JSONFormat())
    return _message(record.value, {name: value.decode() for name, value in record.headers.items()})


def _message(body: bytes | None, headers: Mapping[str, str]) -> JSON:
    return {
        "payload": _base64(body),
        "content_type": headers.get("content-type", ""),
        "headers": [[name, value] for name, value in headers.items() if name != "content-type"],
    }


def _base64(value: bytes | str | None) -> str | None:
    if isinstance(value, str):
        value = value.encode()
    return None if value is None else base64.b64encode(value).decode()


def _to_json(event: Any, implied: str) -> JSON:
    attributes = {
        name: _attribute(value)
        for name, value in event.get_attributes().items()
        if value is not None
    }
    data = event.get_data()
    if data is None or isinstance(data, bytes):
        return {"attributes": attributes, "data": _base64(data)}
    content_type = event.get_datacontenttype() or implied
    if isinstance(data, str) and not _is_json(content_type):
        return {"attributes": attributes, "data": _base64(_text(data, content_type))}
    return {"attributes": attributes, "json": data}


def _text(data: str, content_type: str) -> bytes:
    """Return the bytes of a `str`, which the application is given without its charset."""
    try:
        return data.encode(_charset(content_type))
    except (LookupError, UnicodeError):
        raise Unsupported(f"text is held as str, whatever its charset: {content_type}") from None


def _attribute(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"instant": value.isoformat()}
    if isinstance(value, bytes):
        return {"base64": _base64(value)}
    return value


def _from_json(form: JSON, mode: str) -> Any:
    attributes: dict[str, Any] = {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
        for name, value in form["attributes"].items()
    }
    if not attributes.keys() >= {"id", "specversion"}:
        raise Unsupported("an event without id or specversion: the constructor fills them in")
    if "time" in attributes:
        attributes["time"] = _time(attributes["time"])
    data = None if form["data"] is None else base64.b64decode(form["data"])
    return CloudEvent(attributes, _data(data, attributes.get("datacontenttype", ""), mode))


def _time(text: str) -> datetime | str:
    """Return a timestamp as the SDK wants it; what is none goes in as it is."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return text
    try:
        if len(found["fraction"] or "") <= len(".123456"):
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise Unsupported(f"{text} is no datetime of Python's")


def _data(data: bytes | None, content_type: str, mode: str) -> Any:
    """Return data as an application has it: the value of JSON, text as `str`, else bytes."""
    if data is None:
        return None
    try:
        if _is_json(content_type):
            return json.loads(data, parse_constant=_no_constant)
        charset = _charset(content_type)
        # An envelope holds text, a payload the bytes of its charset.
        is_str = _is_text(content_type) and (mode == "structured" or charset in _ASCII_BASED)
        return data.decode(charset) if is_str else data
    except (ValueError, LookupError):
        return data  # not what its content type says


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _is_json(content_type: str) -> bool:
    return _media_type(content_type).endswith(("/json", "+json"))


def _is_text(content_type: str) -> bool:
    media_type = _media_type(content_type)
    return media_type.startswith("text/") or media_type.endswith(("/xml", "+xml"))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _charset(content_type: str) -> str:
    found = re.search(r';\s*charset="?([^";]+)', content_type, re.IGNORECASE)
    return found[1].lower() if found else "utf-8"


ACTIONS: Mapping[str, Callable[[JSON], JSON]] = {
    "decode": decode,
    "encode": encode,
    "relay": relay,
    "hello": lambda _: {
        "name": "cloudevents (Python SDK)",
        "version": version("cloudevents"),
        "bindings": ["json", "http", "kafka"],
        "invents": ["time"],
        "no_null": ["kafka"],
    },
}


def main() -> None:
    """Answer questions until there are no more."""
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = ACTIONS[question["do"]](question)
        except Unsupported as unsupported:
            answer = {"unsupported": str(unsupported)}
        except _REFUSALS as error:
            answer = {"error": {"text": f"{type(error).__name__}: {error}"}}
        except Exception as error:  # noqa: BLE001 - a crash of the SDK is a finding, not the end
            answer = {"crash": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - this is the protocol


if __name__ == "__main__":
    main()
