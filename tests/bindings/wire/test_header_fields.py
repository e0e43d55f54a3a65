from collections.abc import Sequence

import pytest

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.mqtt import MQTT
from bindings.wire.header_fields import HeaderFields

FIELDS = HeaderFields(("a", "b", "a"), ["1", "", "3"])
PAIRS = [("a", "1"), ("b", ""), ("a", "3")]


def test_header_fields_are_a_sequence_of_pairs():
    assert isinstance(FIELDS, Sequence)
    assert list(FIELDS) == PAIRS
    assert len(FIELDS) == 3
    assert FIELDS[2] == ("a", "3")
    assert (FIELDS[:2], FIELDS[1:]) == (PAIRS[:2], PAIRS[1:])
    assert ("b", "") in FIELDS
    assert list(reversed(FIELDS)) == PAIRS[::-1]
    assert repr(FIELDS) == repr(PAIRS)
    with pytest.raises(IndexError):
        FIELDS[3]


def test_header_fields_equal_pairs_that_say_the_same():
    assert PAIRS == FIELDS
    assert tuple(PAIRS) == FIELDS
    assert HeaderFields(("a", "b", "a"), ["1", "", "3"]) == FIELDS
    assert PAIRS[:2] != FIELDS
    assert HeaderFields(("a", "b", "c"), ["1", "", "3"]) != FIELDS
    assert FIELDS != "a1b"


EVENT = (("specversion", "1.0"), ("id", "7"), ("source", "/s"), ("type", "t"), ("region", "eu"))


@pytest.mark.parametrize(
    "pairs",
    [
        EVENT,
        EVENT[::-1],
        (*EVENT, ("time", "2026-11-22T10:00:00Z"), ("dataschema", "urn:a:b")),
        (*EVENT, ("region", "us")),
        EVENT[1:],
        (("specversion", "0.3"), *EVENT[1:]),
        (*EVENT, ("Not A Name", "x")),
        (("other", "x"),),
    ],
)
def test_a_binding_reads_the_same_of_header_fields_and_of_pairs(pairs):
    def read(headers):
        try:
            return MQTT.decode(Message(b"{}", "application/json", headers))
        except CloudEventError as error:
            return type(error), str(error)

    names, values = zip(*pairs, strict=True)
    expected = read(list(pairs))
    for _ in range(2):  # the first of these names, and one that comes after
        assert read(HeaderFields(names, list(values))) == expected
        assert read(list(pairs)) == expected
    # Between messages of other names, which share nothing.
    assert MQTT.decode(Message(b"", "", list(EVENT)))[0].id == "7"
    assert read(HeaderFields(names, list(values))) == expected
