"""The lists of values: as long as they have to be, and right by parsers that are not ours."""

import datetime as dt
import email.message
import ipaddress
from urllib.parse import urlsplit

import cbor2
import pytest

from conformance.checks.values import (
    BINARIES,
    CBOR_NO_VALUES,
    CHARACTER_GROUPS,
    INTEGERS,
    JSON_NO_VALUES,
    MEDIA_TYPES,
    NO_NAMES,
    NO_TIMES,
    NO_URIS,
    TIMES,
    URIS,
    VALUES,
)


def test_there_are_sixty_times_and_more():
    assert len(TIMES) + len(NO_TIMES) >= 60
    assert not set(TIMES) & set(NO_TIMES)


@pytest.mark.parametrize("time", [time for time in TIMES if ":60" not in time])
def test_a_right_time_is_one_for_python_too(time):
    assert dt.datetime.fromisoformat(time.upper()).tzinfo is not None


def test_every_noncharacter_and_control_is_in_a_group():
    codes = {code for codes, _ in CHARACTER_GROUPS.values() for code in codes}
    nonchars = {code for code in codes if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE}
    assert len(nonchars) == 66
    assert {*range(0x20), *range(0x7F, 0xA0)} <= codes


@pytest.mark.parametrize("uri", URIS)
def test_a_right_uri_has_a_scheme(uri):
    parts = urlsplit(uri)
    assert parts.scheme
    if parts.netloc.startswith("["):
        ipaddress.ip_address(parts.hostname)


def test_right_and_wrong_values_are_apart():
    right = {(value.attribute, value.kind, str(value.value)) for value in VALUES if value.is_right}
    wrong = {(v.attribute, v.kind, str(v.value)) for v in VALUES if not v.is_right}
    assert not right & wrong
    assert not set(URIS) & set(NO_URIS)


def test_integers_and_bytes_reach_their_borders():
    assert {-(2**31), 2**31 - 1} <= set(INTEGERS)
    assert any(b"\xff" in value for value in BINARIES)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_right_media_type_is_read_by_python_too(media_type):
    message = email.message.Message()
    message["Content-Type"] = media_type
    assert message.get_content_type() == media_type.split(";")[0].strip().lower()


def test_wrong_items_of_cbor_are_not_attribute_values():
    for name, text in CBOR_NO_VALUES.items():
        try:
            value = cbor2.loads(bytes.fromhex(text))
        except (ValueError, cbor2.CBORDecodeError):
            continue
        is_text = isinstance(value, str) and "\n" not in value
        assert not is_text, name
        assert not isinstance(value, bytes), name
        assert not (type(value) is int and -(2**31) <= value < 2**31), name


def test_wrong_json_is_named_by_what_it_is():
    assert len(set(JSON_NO_VALUES.values())) == len(JSON_NO_VALUES)
    assert len(set(NO_NAMES)) == len(NO_NAMES)
