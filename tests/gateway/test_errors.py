"""The errors that a person has to act on."""

import errno
import socket

import pytest

from gateway.errors import ConfigError, GatewayError, ListenError


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


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EADDRINUSE, "error while attempting to bind"), "Address already in use"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not"),
        (OSError("no address"), "no address"),
    ],
)
def test_an_address_that_can_t_be_listened_on_is_told_in_the_systems_words(error, why):
    assert str(ListenError("127.0.0.1:1", error)).startswith(f"can't listen on 127.0.0.1:1: {why}")
