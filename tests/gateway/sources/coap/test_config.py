"""The source's table in the configuration."""

import pytest
from pydantic import ValidationError

from tests.gateway.sources.coap.device import config


@pytest.mark.parametrize(
    "changes",
    [
        {"routes": {"ce": {}}},
        {"routes": {"/ce/": {}}},
        {"routes": {"/.well-known/core": {}}},
        {"routes": {}},
        {"routes": {"/t": {"source": "/{device"}}},
        {"routes": {"/t": {"subject": "{topic}"}}},
        {"routes": {"/t": {"subject": "{path[1]}"}}},
        {"event": {"type": "t", "source": "/{client_id}"}},
        {"ack_after": 2},
        {"ack_after": 1, "sink_timeout": 1},
        {"sink_timeout": 93},
        {"listen": None},
        {"listen_tls": "127.0.0.1:0"},
        {"listen_tls": "127.0.0.1:0", "tls": {"ca": "ca.pem"}},
        {"listen_wss": "127.0.0.1:0"},
        {"listen_wss": "127.0.0.1:0", "tls": {"ca": "ca.pem"}},
        {"message_timeout": 0},
        {"max_connections": 0},
    ],
)
def test_a_wrong_configuration_is_refused(changes):
    with pytest.raises(ValidationError):
        config(**changes)


def test_tls_without_its_listener_says_what_to_do():
    with pytest.raises(ValidationError, match="tls serves listen_tls and listen_wss only"):
        config(tls={"cert": "cert.pem"})


def test_streams_alone_are_enough():
    assert config(listen=None, listen_tcp="127.0.0.1:0").listen is None
    assert config(listen=None, listen_ws="127.0.0.1:0").listen is None


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://App.example.com", "https://"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(ValidationError, match="is no origin such as"):
        config(ws_origins=["*", "http://[::1]:8080", "https://app.example.com", origin])
