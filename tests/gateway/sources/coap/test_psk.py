"""Pre-shared keys in the configuration, and as DTLS asks for them."""

import pytest
from pydantic import ValidationError

from bindings.coap import Identity
from gateway.config.records import Address
from gateway.sources.coap.psk import KeyStore, PreSharedKey
from tests.gateway.sources.coap.device import config

ANYWHERE = Address("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("key", "octets"),
    [
        ({"key": "ü"}, b"\xc3\xbc"),
        ({"key": "00ff"}, b"00ff"),
        ({"key_hex": "00fF"}, b"\0\xff"),
        ({"key": "x" * 32}, b"x" * 32),
    ],
)
def test_a_key_is_text_or_hexadecimal(key, octets):
    assert PreSharedKey(**key).secret_bytes == octets


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({}, "either key or key_hex"),
        ({"key": "a", "key_hex": "00"}, "either key or key_hex"),
        ({"key": ""}, "has 0 bytes"),
        ({"key": "x" * 33}, "has 33 bytes"),
        ({"key_hex": "0g"}, "no hexadecimal number"),
        ({"key": "a", "label": ""}, "label"),
    ],
)
def test_a_key_that_cant_be_used_is_refused(key, words):
    with pytest.raises(ValidationError, match=words):
        PreSharedKey(**key)


def test_a_key_is_shown_to_nobody():
    key = PreSharedKey(key="open sesame")
    assert "sesame" not in repr(key)
    assert "sesame" not in key.model_dump_json()


@pytest.mark.parametrize("name", ["", "ü" * 65])
def test_an_identity_that_devices_cant_have_is_refused(name):
    with pytest.raises(ValidationError, match="an identity has 1 to 128 bytes"):
        config(listen_dtls=ANYWHERE, psk={name: {"key": "a"}})


@pytest.mark.parametrize("given", [{"listen_dtls": ANYWHERE}, {"psk": {"dev1": {"key": "a"}}}])
def test_dtls_needs_keys_and_keys_need_dtls(given):
    with pytest.raises(ValidationError, match="need each other"):
        config(**given)


def test_dtls_is_listener_enough():
    assert config(listen=None, listen_dtls=ANYWHERE, psk={"d": {"key": "a"}}).listen is None


def test_the_store_says_whose_key_was_asked_for_last_and_says_it_once():
    keys = KeyStore(
        {
            "dev1": PreSharedKey(key="a", may_speak_for=["/plant"]),
            "4711": PreSharedKey(key="b", label="pump"),
        }
    )
    assert keys.take_asked() is None
    assert (keys["4711"], keys["dev1"]) == (b"b", b"a")
    assert keys.take_asked() == Identity("dev1", ("/plant",))
    assert keys.take_asked() is None
    assert keys["4711"] == b"b"
    assert keys.take_asked() == Identity("pump")
    with pytest.raises(KeyError):
        _ = keys["nobody"]
    assert keys.take_asked() is None
    assert (set(keys), len(keys)) == ({"dev1", "4711"}, 2)
