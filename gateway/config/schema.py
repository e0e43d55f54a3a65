"""The configuration as JSON Schema, with every registered adapter.

What the file may not hold (fields that the loader sets) is left out.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from gateway import registry
from gateway.config.gateway import GatewayConfig
from gateway.config.records import Address

GROUPS: Final[tuple[registry.Group, ...]] = ("sources", "sinks")
REFERENCE: Final = "#/$defs/"


class SchemaGenerator(GenerateJsonSchema):
    """Leaves out the fields that the loader sets; defaults are written as the file has them."""

    def field_is_present(self, field: core_schema.ModelField) -> bool:  # type: ignore[override]
        return not field.get("serialization_exclude")

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Address) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file; a source or sink is chosen by its `protocol`.

    Raises:
        GatewayError: a registered adapter can't be imported.
    """
    schema = GatewayConfig.model_json_schema(schema_generator=SchemaGenerator)
    definitions = schema["$defs"]
    for group in GROUPS:
        for protocol, record in adapters(group):
            own = record.model_json_schema(
                schema_generator=SchemaGenerator, ref_template=f"{REFERENCE}{{model}}"
            )
            definitions.update(own.pop("$defs", {}))
            own["properties"]["protocol"] = {
                "const": protocol,
                "description": own["properties"]["protocol"].get("description", ""),
            }
            own["required"] = sorted({"protocol", *own.get("required", ())})
            definitions[f"{group}.{protocol}"] = own
        schema["properties"][group] |= {
            "additionalProperties": {
                "oneOf": [
                    {"$ref": f"{REFERENCE}{group}.{protocol}"} for protocol in registry.names(group)
                ]
            },
            "minProperties": 1,
        }
    for name in ("SourceConfig", "SinkConfig"):
        definitions.pop(name, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required": ["sources", "sinks", "routes"],
    }


def adapters(group: registry.Group) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the protocols of a group with their configuration records, sorted.

    Raises:
        GatewayError: a registered adapter can't be imported.
    """
    for protocol in registry.names(group):
        yield protocol, registry.load(group, protocol).config_type
