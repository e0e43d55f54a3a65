"""Adapters by name: ours, a stranger's, and one that can't be imported."""

import sys
from importlib.metadata import entry_points

import pytest

from gateway import registry
from gateway.errors import GatewayError


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A distribution of somebody else's: one source that works, one whose library is not there."""
    (tmp_path / "stranger_gateway.py").write_text("class SerialSource:\n    pass\n")
    (tmp_path / "stranger_broken.py").write_text("import no_such_library\n")
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cloudevents_gateway.sources]\n"
        "serial = stranger_gateway:SerialSource\n"
        "broken = stranger_broken:Source\n"
        "absent = stranger_gateway:NoSuchSource\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._group.cache_clear()
    yield "stranger_gateway"
    registry._group.cache_clear()
    for module in ("stranger_gateway", "stranger_broken"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("bindings", {"coap", "http", "kafka", "mqtt", "nats"}),
        ("sources", {"coap", "http", "mqtt", "mqtt-endpoint", "nats"}),
        ("sinks", {"http", "kafka", "log", "nats"}),
    ],
)
def test_groups_name_the_adapters_of_this_package(group, expected):
    assert expected <= set(registry.names(group))
    assert registry.names(group) == sorted(registry.names(group))


def test_binding_is_found_by_its_name():
    assert registry.load("bindings", "http").name == "http"


def test_adapter_of_a_stranger_is_found_and_imported_only_when_named(stranger):
    assert "serial" in registry.names("sources")
    assert stranger not in sys.modules
    assert registry.load("sources", "serial").__name__ == "SerialSource"
    assert stranger in sys.modules


def test_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        registry.load("sinks", "no-such-sink")


@pytest.mark.usefixtures("stranger")
def test_adapter_whose_library_is_missing_says_which():
    with pytest.raises(GatewayError, match=r"source 'broken' .*stranger_broken.*no_such_library"):
        registry.load("sources", "broken")


def test_names_are_looked_up_once():
    assert registry._group("sinks") is registry._group("sinks")
    assert len(registry.names("sinks")) <= len(entry_points(group="cloudevents_gateway.sinks"))
