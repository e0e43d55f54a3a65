"""Adapter for the official Python SDK: the distribution `cloudevents`, its module `core`.

Each call is what a user would write: JSON data goes in as a value and comes out as one, times as
`datetime`. Run it as `python -m conformance.adapters.python_sdk`.
"""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from cloudevents.core.bindings import http, kafka
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

_REFUSALS = (CloudEventValidationError, ValueError, KeyError)
"""What a receiver can be expected to catch; anything else is a crash, and says so."""

JSON = Mapping[str, Any]


def decode(question: JSON) -> JSON:
    """Read a message as the documentation says: `from_http`, `from_kafka`, `JSONFormat.read`."""
    return {"events": [_to_json(_decode(question))]}


def encode(question: JSON) -> JSON:
    """Write an event that was made with `CloudEvent(attributes, data)`."""
    return {
        "message": _encode(_from_json(question["event"]), question["binding"], question["mode"])
    }


def relay(question: JSON) -> JSON:
    """Read a message and write what came of it."""
    return {"messages": [_encode(_decode(question), question["to"], question["mode"])]}


def _decode(question: JSON) -> Any:
    message = question["message"]
    payload = base64.b64decode(message["payload"] or "")
    headers: dict[str, str] = {}
    if message["content_type"]:
        headers["content-type"] = message["content_type"]
    for name, value in message["headers"]:
        # One value for each name, as web frameworks hand them over (RFC 9110 5.3).
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if question["binding"] == "http":
        return http.from_http(http.HTTPMessage(headers, payload), JSONFormat())
    if question["binding"] == "kafka":
        encoded = {
            name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()
        }
        return kafka.from_kafka(kafka.KafkaMessage(encoded, None, payload), JSONFormat())
    return JSONFormat().read(None, payload)


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


def _to_json(event: Any) -> JSON:
    attributes = {
        name: _attribute(value)
        for name, value in event.get_attributes().items()
        if value is not None
    }
    data = event.get_data()
    if data is None or isinstance(data, bytes):
        return {"attributes": attributes, "data": _base64(data)}
    if isinstance(data, str) and not _is_json(event.get_datacontenttype()):
        return {"attributes": attributes, "data": _base64(data)}
    return {"attributes": attributes, "json": data}


def _attribute(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"instant": value.isoformat()}
    if isinstance(value, bytes):
        return {"base64": _base64(value)}
    return value


def _from_json(form: JSON) -> Any:
    attributes: dict[str, Any] = {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
        for name, value in form["attributes"].items()
    }
    if "time" in attributes:
        attributes["time"] = datetime.fromisoformat(attributes["time"])
    data: Any = None if form["data"] is None else base64.b64decode(form["data"])
    if data is not None and _is_json(attributes.get("datacontenttype")):
        data = json.loads(data)
    return CloudEvent(attributes, data)


def _is_json(content_type: str | None) -> bool:
    media_type = (content_type or "application/json").partition(";")[0].strip().lower()
    return media_type.endswith(("/json", "+json"))


ACTIONS: Mapping[str, Callable[[JSON], JSON]] = {
    "decode": decode,
    "encode": encode,
    "relay": relay,
    "hello": lambda _: {
        "name": "cloudevents (Python SDK)",
        "version": version("cloudevents"),
        "bindings": ["json", "http", "kafka"],
    },
}


def main() -> None:
    """Answer questions until there are no more."""
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = ACTIONS[question["do"]](question)
        except _REFUSALS as error:
            answer = {"error": {"text": f"{type(error).__name__}: {error}"}}
        except Exception as error:  # noqa: BLE001 - a crash of the SDK is a finding, not the end
            answer = {"crash": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - this is the protocol


if __name__ == "__main__":
    main()
