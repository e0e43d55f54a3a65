"""The errors that a person has to act on."""

from gateway.errors import ConfigError, GatewayError


def test_configuration_error_starts_with_its_place():
    error = ConfigError("expected 0, 1 or 2", path="sources.lab.qos")
    assert str(error) == "sources.lab.qos: expected 0, 1 or 2"
    assert error.path == "sources.lab.qos"


def test_configuration_error_of_the_whole_file_has_no_place():
    error = ConfigError("the file is empty")
    assert str(error) == "the file is empty"
    assert error.path == ""


def test_operators_error_and_gateways_error_are_not_confused():
    assert not issubclass(ConfigError, GatewayError)
    assert not issubclass(GatewayError, ConfigError)
