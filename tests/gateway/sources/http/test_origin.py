"""Where a callback may go."""

import pytest

from gateway.sources.http import HttpSourceConfig
from gateway.sources.http.origin import parse_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://a.example", ("https", "a.example", 443)),
        ("https://A.Example:443/x?y=z@w#f", ("https", "a.example", 443)),
        ("https://a.example:8443/", ("https", "a.example", 8443)),
        ("https://[2001:db8::1]/", ("https", "2001:db8::1", 443)),
        ("http://127.0.0.1:80/", ("http", "127.0.0.1", 80)),
        ("http://localhost/", ("http", "localhost", 80)),
    ],
)
def test_https_and_loopback_have_an_origin(text, origin):
    assert parse_origin(text) == origin


# WH-VAL-008
@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://a.example/",
        "http://127.0.0.1.evil.example/",
        "http://10.0.0.1/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "https://",
        "https:///x",
        "https://a.example@evil.example/",
        "https://a.example:x@evil.example/",
        "https://evil.example\\@a.example/",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://a.example:x/",
        "https://[::1/",
        "https://a.example/ b",
        "https://a.example/\r\nX: y",
        "https://ä.example/",
    ],
)
def test_anything_else_has_none(text):
    assert parse_origin(text) is None


@pytest.mark.parametrize("text", ["https://a.example/", "http://a.example", "a.example", "*"])
def test_the_configuration_names_servers_and_nothing_else(text):
    with pytest.raises(ValueError, match="expected https://host"):
        HttpSourceConfig(callbacks=[text])
