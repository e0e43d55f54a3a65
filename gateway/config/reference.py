"""The reference of the configuration for people: docs/configuration.md, made from the records."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.config.explain import alternatives
from gateway.config.gateway import GatewayConfig
from gateway.config.records import AdapterConfig
from gateway.config.schema import GROUPS, REFERENCE, SchemaGenerator, adapters


def markdown() -> str:
    """Return the reference of the configuration, the text of docs/configuration.md.

    Raises:
        GatewayError: a registered adapter can't be imported.
    """
    return _INTRODUCTION + "".join(_Reference().sections())


_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `ce-gateway schema --markdown`; edit the descriptions in the code. -->

One YAML file, `ce-gateway run FILE`. [deploy/gateway.yaml](../deploy/gateway.yaml) shows every key
with its default. `ce-gateway check FILE` reports everything that is wrong with a file, with line
and column, and opens nothing. `ce-gateway schema` prints a JSON Schema for editors.

- Unknown keys and keys that stand twice are errors. YAML is read by version 1.2: only `true` and
  `false` are booleans.
- A duration is ISO 8601 (`PT0.2S`, `PT5M`) or a number of seconds. A size is a number of bytes or
  a text such as `64KiB`. An address is `host:port` or `[ipv6]:port`; port 0 lets the system choose.
- `${NAME}` is replaced by the environment's value, `${file:PATH}` by the content of a file without
  the white space around it; `$${` stands for `${` itself. A variable that is not set is an error
  (exit code 78). One exception: a sink whose `url` is `${K_SINK}`, as Knative sets it, leaves the
  gateway alive and not ready.
- Relative paths start at the working directory.
"""

_KINDS: Final = {
    '["PT0.2S", 5]': "duration",
    '["64KiB", 65536]': "size",
    '["0.0.0.0:5683"]': "address",
}
"""By the examples in the schemas of `records.Duration`, `Size` and `Listen`."""


class _Reference:
    """Writes a section per table; tables that several sections use are described once."""

    def __init__(self) -> None:
        self._shared: dict[str, type[BaseModel]] = {}

    def sections(self) -> Iterator[str]:
        yield "\n## The file\n\n" + self._table(GatewayConfig)
        for group in GROUPS:
            for protocol, record in adapters(group):
                title = f"{group[:-1].capitalize()} `{protocol}`"
                yield f"\n## {title}\n\n{_summary(record)}{self._table(record, protocol)}"
        done: set[str] = set()
        while names := sorted(set(self._shared) - done):
            for name in names:
                done.add(name)
                record = self._shared[name]
                yield f"\n## {_title(record)}\n\n{_summary(record)}{self._table(record)}"

    def _table(self, record: type[BaseModel], protocol: str = "") -> str:
        schema = record.model_json_schema(schema_generator=SchemaGenerator)
        rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
        required = schema.get("required", ())
        for key, field in schema.get("properties", {}).items():
            value = (
                f"`{protocol}`" if protocol and key == "protocol" else self._value(field, schema)
            )
            must = key in required or (protocol and key == "protocol")
            default = "required" if must else _default(record, key, field)
            rows.append(
                f"| `{key}` | {value} | {default} | {_cell(field.get('description', ''))} |"
            )
        for name, inner in _records(record):
            self._shared.setdefault(name, inner)
        return "\n".join(rows) + "\n"

    def _value(self, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
        """Return what may stand there, in a few words."""
        if "$ref" in field:
            return self._link(str(field["$ref"]).removeprefix(REFERENCE), schema)
        union = field.get("anyOf") or field.get("oneOf") or field.get("allOf")
        if union:
            options = [self._value(one, schema) for one in union if one != {"type": "null"}]
            return " or ".join(dict.fromkeys(options))
        words = field.get("enum") or ([field["const"]] if "const" in field else [])
        if words:
            return ", ".join(f"`{_plain(word)}`" for word in words)
        kind = kind_of(field)
        if kind:
            return kind
        return self._container(field, schema)

    def _container(self, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
        if field.get("type") == "array":
            return f"list of {self._value(field.get('items', {}), schema)}"
        if field.get("type") == "object":
            inner = field.get("additionalProperties")
            values = self._value(inner, schema) if isinstance(inner, dict) and inner else ""
            return f"table of {values}" if values else "table"
        return _bounded(field)

    @staticmethod
    def _link(name: str, schema: Mapping[str, Any]) -> str:
        if name in {"SourceConfig", "SinkConfig"}:
            return f"{name.removesuffix('Config').lower()}, see below"
        definition = schema.get("$defs", {}).get(name, {})
        if "enum" in definition:
            return ", ".join(f"`{word}`" for word in definition["enum"])
        title = name.removesuffix("Config")
        return f"[{title}](#table-{title.lower()})"


def _title(record: type[BaseModel]) -> str:
    return f"Table {record.__name__.removesuffix('Config')}"


def _summary(record: type[BaseModel]) -> str:
    text = (record.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split()) + "\n\n" if text else ""


def _records(record: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the records that a record's fields hold, adapters' own apart."""
    for field in record.model_fields.values():
        if field.exclude:
            continue
        for inner in records_in(field.annotation):
            if not issubclass(inner, AdapterConfig):
                yield inner.__name__, inner


def records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the records that a value of a type may hold, in tables and lists too."""
    for one in alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one
        else:
            for argument in get_args(one):
                yield from records_in(argument)


def kind_of(field: Mapping[str, Any]) -> str:
    """Return `duration`, `size` or `address` if a field's schema is that of one, else nothing."""
    return _KINDS.get(json.dumps(field.get("examples")), "")


def default_of(record: type[BaseModel], key: str, field: Mapping[str, Any]) -> object:
    """Return a field's default as the file would have it; None if it has none.

    Args:
        record: the table's record.
        key: the field's key in the file.
        field: its schema.
    """
    for name, info in record.model_fields.items():
        if key in {name, info.alias} and info.default is not PydanticUndefined:
            if isinstance(info.default, BaseModel) or info.default is None:
                return info.default
            if kind_of(field) == "duration":
                return _duration(info.default)
            if kind_of(field) == "size":
                return _size(info.default)
            values = record.model_construct(**{name: info.default})
            return values.model_dump(mode="json", include={name}, warnings=False)[name]
    return None


def _default(record: type[BaseModel], key: str, field: Mapping[str, Any]) -> str:
    default = default_of(record, key, field)
    if isinstance(default, BaseModel):
        return "its own"
    if default in (None, "", [], {}) or (isinstance(default, dict) and len(str(default)) > 60):
        return ""
    return f"`{_plain(default)}`"


def _duration(seconds: float) -> str:
    for unit, length in (("H", 3600), ("M", 60)):
        if seconds >= length and seconds % length == 0:
            return f"PT{seconds / length:g}{unit}"
    return f"PT{seconds:g}S"


def _size(number: int) -> str | int:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number and number % length == 0:
            return f"{number // length}{unit}"
    return number


def _bounded(field: Mapping[str, Any]) -> str:
    words = {
        "integer": "integer",
        "number": "number",
        "boolean": "`true` or `false`",
        "string": "text",
    }
    kind = field.get("type", "")
    text = (
        " or ".join(words[k] for k in kind if k in words)
        if isinstance(kind, list)
        else words.get(kind, "any")
    )
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f"{text}, {low} to {high}"
    return f"{text}, at least {low}" if low is not None else text


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
