from gateway.config.schema import json_schema


def test_a_source_is_described_by_its_protocol():
    schema = json_schema()
    sources = schema["properties"]["sources"]["additionalProperties"]["oneOf"]
    assert sources == [
        {"$ref": f"#/$defs/sources.{protocol}"}
        for protocol in ("can", "coap", "http", "mqtt", "mqtt-endpoint", "nats")
    ]
    http = schema["$defs"]["sources.http"]
    assert http["properties"]["protocol"]["const"] == "http"
    assert "protocol" in http["required"]
    assert http["additionalProperties"] is False
    assert http["properties"]["listen"]["default"] == "0.0.0.0:8080"


def test_what_the_loader_sets_is_no_part_of_it():
    schema = json_schema()
    assert "embedded_nats" not in schema["properties"]
    assert "name" not in schema["$defs"]["sinks.http"]["properties"]
    assert "is_k_sink" not in schema["$defs"]["sinks.http"]["properties"]


def test_keys_are_spelled_as_in_the_file():
    schema = json_schema()
    assert "backoffPolicy" in schema["$defs"]["DeliveryConfig"]["properties"]
    assert "from" in schema["$defs"]["RouteConfig"]["properties"]


def test_every_reference_leads_somewhere():
    schema = json_schema()

    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references(schema))
    assert found
    assert found <= {f"#/$defs/{name}" for name in schema["$defs"]}
