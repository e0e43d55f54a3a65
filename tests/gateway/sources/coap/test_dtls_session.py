"""What is read of records before mbedtls gets them; test_dtls has sessions at work."""

import pytest

from gateway.sources.coap.dtls_session import cipher_suites, client_random_of, encrypted_records
from tests.gateway.sources.coap.dtls_device import MANDATORY_SUITE

HELLO = bytes.fromhex("16feff0000000000000000003e010000320000000000000032fefd") + bytes(range(48))
OUTSIDE = bytes.fromhex("14fefd0000000000000003000101")
WITHIN = bytes.fromhex("17fefd00010000000000010003aabbcc")
LATER = bytes.fromhex("17fefd00020000000000010003aabbcc")


def test_the_suites_need_nothing_but_a_key_and_the_mandatory_one_is_among_them():
    suites = cipher_suites()
    assert MANDATORY_SUITE in suites
    assert "TLS-PSK-WITH-AES-128-CBC-SHA256" not in suites
    assert not [suite for suite in suites if "RSA" in suite or "NULL" in suite or "DHE" in suite]


def test_a_client_hello_is_known_by_its_random_bytes():
    assert client_random_of(HELLO) == bytes(range(32))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x16",
        HELLO[:58],
        b"\x17" + HELLO[1:],
        HELLO[:4] + b"\1" + HELLO[5:],
        HELLO[:13] + b"\2" + HELLO[14:],
    ],
)
def test_what_is_no_client_hello_has_no_random_bytes(record):
    assert client_random_of(record) == b""


@pytest.mark.parametrize(
    ("datagram", "kept"),
    [
        (b"", b""),
        (WITHIN, WITHIN),
        (WITHIN + WITHIN, WITHIN + WITHIN),
        (OUTSIDE, b""),
        (HELLO + OUTSIDE + WITHIN, WITHIN),
        (LATER + WITHIN, WITHIN),
        (WITHIN + OUTSIDE[:12], WITHIN),
        (WITHIN[:-1], WITHIN[:-1]),
    ],
)
def test_records_outside_the_session_are_left_out(datagram, kept):
    assert encrypted_records(datagram) == kept
