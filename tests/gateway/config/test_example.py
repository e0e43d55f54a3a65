from pathlib import Path

import yaml

from gateway import registry
from gateway.config.example import example
from gateway.config.gateway import GatewayConfig
from gateway.config.loader import load, remarks

FILE = Path(__file__).parents[3] / "deploy" / "gateway.yaml"


def test_the_example_is_up_to_date():
    assert FILE.read_text() == example(), "stale: ce-gateway schema --example > deploy/gateway.yaml"


def test_the_example_is_right_and_leaves_nothing_unused():
    config = load(FILE, {"K_SINK": "http://broker.example/default"})
    assert remarks(config) == []
    assert {source.protocol for source in config.sources.values()} == set(registry.names("sources"))
    assert {sink.protocol for sink in config.sinks.values()} == set(registry.names("sinks"))


def test_the_rest_of_the_example_is_the_defaults():
    config = load(FILE, {})
    defaults = GatewayConfig()
    for name in ("delivery", "admin", "state", "limits", "drain", "workers"):
        assert getattr(config, name) == getattr(defaults, name), name


def test_the_example_shows_every_key_of_every_adapter():
    raw = yaml.safe_load(FILE.read_text())
    common = {"tls", "username", "password", "limits", "event"}
    for group in ("sources", "sinks"):
        for table in raw[group].values():
            record = registry.load(group, table["protocol"]).config_type
            keys = {name for name, field in record.model_fields.items() if not field.exclude}
            assert keys - common <= set(table), table["protocol"]
