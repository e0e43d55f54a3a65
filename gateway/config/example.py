"""The annotated example, deploy/gateway.yaml: every key with its default and its meaning."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from gateway import registry
from gateway.config.gateway import (
    AdminConfig,
    DeliveryConfig,
    DrainConfig,
    GatewayConfig,
    RouteConfig,
    StateConfig,
)
from gateway.config.records import LimitsConfig, SinkConfig, SourceConfig
from gateway.config.reference import default_of, records_in
from gateway.config.schema import SchemaGenerator

_WIDTH: Final = 100
_HEAD: Final = """\
# Every key of the configuration with its default, for reference; a file of your own needs few of
# them. What all sources have (tls, username, password, limits, event) is shown once, and so for
# sinks. Made by `ce-gateway schema --example`; `ce-gateway check FILE` tells what is wrong.
"""
_SOURCES: Final = {
    "field": "coap",
    "devices": "mqtt-endpoint",
    "plant": "mqtt",
    "bus": "nats",
    "web": "http",
    "machine": "can",
}
_SINKS: Final = {"knative": "http", "store": "kafka", "stream": "nats", "events": "log"}
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9/_.-]*|\d+[KMG]iB")
_WORDS: Final = frozenset({"true", "false", "null"})
_ROUTES: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "temperatures",
        "from": ["field", "plant"],
        "filter": {"prefix": {"type": "com.acme.temp."}},
        "to": ["knative", "store"],
    },
    {"to": ["stream", "events"]},
)
_CHOSEN: Final[Mapping[str, Any]] = {
    "field.routes": {
        "/ce": {"mode": "auto", "source_policy": "any"},
        "/ce/s": {"mode": "structured"},
        "/ce/b": {"mode": "batch"},
        "/t": {"mode": "auto", "type": "com.acme.temp.v1"},
    },
    "plant.url": "mqtt://broker:1883",
    "plant.client_id": "gateway-1",
    "plant.share": "gateways",
    "plant.subscribe": [{"topic": "plant/+/temp", "qos": 1}],
    "plant.event": {
        "type": "com.acme.temp.v1",
        "source": "/plant/{topic[1]}",
        "subject": "{topic}",
    },
    "bus.url": "nats://nats:4222",
    "bus.subjects": ["events.>"],
    "bus.stream": "EVENTS",
    "bus.durable": "gateway",
    "machine.channel": "can0",
    "knative.url": "${K_SINK}",
    "store.bootstrap_servers": "kafka:9092",
    "store.topic": "events",
    "store.key": "partitionkey",
    "stream.url": "nats://nats:4222",
}
"""What is no default, by adapter and key: what has none, and what shows a feature."""


def example() -> str:
    """Return the text of deploy/gateway.yaml.

    Raises:
        GatewayError: a registered adapter can't be imported.
    """
    return _HEAD + "\n".join(_Example().lines()) + "\n"


class _Example:
    """Writes the tables; a table that is off by default is explained once, in comments."""

    def __init__(self) -> None:
        self._explained: set[str] = set()

    def lines(self) -> Iterator[str]:
        groups: tuple[tuple[registry.Group, Mapping[str, str]], ...] = (
            ("sources", _SOURCES),
            ("sinks", _SINKS),
        )
        for group, adapters in groups:
            yield f"\n{group}:"
            for name, protocol in adapters.items():
                record = registry.load(group, protocol).config_type
                yield from ("", f"  {name}:", f"    protocol: {protocol}")
                yield from self._table(record, 4, name)
        yield "\nroutes:"
        for route in _ROUTES:
            first, *rest = self._route(route)
            yield "  - " + first.removeprefix("    ")
            yield from rest
        tables: dict[str, type[BaseModel]] = {
            "delivery": DeliveryConfig,
            "admin": AdminConfig,
            "state": StateConfig,
            "limits": LimitsConfig,
            "drain": DrainConfig,
        }
        for name, record in tables.items():
            yield f"\n# {(record.__doc__ or '').splitlines()[0]}\n{name}:"
            yield from self._table(record, 2)
        workers = _fields(GatewayConfig)["workers"]
        yield ""
        yield from _comment(workers["description"], 0)
        yield f"workers: {_value(workers['default'])}"

    def _route(self, route: Mapping[str, Any]) -> Iterator[str]:
        fields = _fields(RouteConfig)
        for key, value in route.items():
            if "route" not in self._explained and key != next(iter(route)):
                yield from _comment(fields[key].get("description", ""), 4)
            yield f"    {key}: {_value(value)}"
        if "route" not in self._explained:
            yield from _comment(fields["delivery"].get("description", ""), 4)
            yield "    delivery: {}"
        self._explained.add("route")

    def _table(self, record: type[BaseModel], indent: int, adapter: str = "") -> Iterator[str]:
        for key, field in _fields(record).items():
            if key == "protocol" or self._is_known(record, key, adapter):
                continue
            yield from _comment(field.get("description", ""), indent)
            default = _CHOSEN.get(f"{adapter}.{key}", default_of(record, key, field))
            if isinstance(default, BaseModel):
                yield f"{' ' * indent}{key}:"
                yield from self._table(type(default), indent + 2)
                continue
            yield f"{' ' * indent}{key}: {_value(default, indent)}".replace(": \n", ":\n")
            yield from self._explanation(record, key, indent)

    def _is_known(self, record: type[BaseModel], key: str, adapter: str) -> bool:
        """Whether every source or sink has the key, and another one showed it."""
        common = SourceConfig if issubclass(record, SourceConfig) else SinkConfig
        if not issubclass(record, common) or key not in common.model_fields:
            return False
        known = f"{common.__name__}.{key}" in self._explained
        self._explained.add(f"{common.__name__}.{key}")
        return known and f"{adapter}.{key}" not in _CHOSEN

    def _explanation(self, record: type[BaseModel], key: str, indent: int) -> Iterator[str]:
        """Yield, in comments, what the tables in a value may hold, unless they are above."""
        (annotation,) = (
            field.annotation
            for name, field in record.model_fields.items()
            if key in {name, field.alias}
        )
        for inner in records_in(annotation):
            if inner.__name__ not in self._explained:
                self._explained.add(inner.__name__)
                for line in self._table(inner, 2):
                    yield f"{' ' * indent}# {line}"


def _fields(record: type[BaseModel]) -> dict[str, Mapping[str, Any]]:
    schema = record.model_json_schema(schema_generator=SchemaGenerator)
    return dict(schema.get("properties", {}))


def _comment(text: str, indent: int) -> list[str]:
    start = f"{' ' * indent}# "
    return textwrap.wrap(
        " ".join(text.split()), _WIDTH, initial_indent=start, subsequent_indent=start
    )


def _value(value: object, indent: int = 0) -> str:
    """Return a value as YAML in one line, or a table of tables as one line each."""
    if isinstance(value, dict):
        if value and all(isinstance(one, dict) for one in value.values()) and indent:
            return "".join(
                f"\n{' ' * (indent + 2)}{_value(key)}: {_value(one)}" for key, one in value.items()
            )
        return "{" + ", ".join(f"{_value(k)}: {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
