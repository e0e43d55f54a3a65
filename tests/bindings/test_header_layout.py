"""Where attributes stand among headers."""

import pytest

from bindings.header_layout import layout_of

REQUIRED = ["specversion", "id", "source", "type"]
HEADERS = ["the", "names", "of", "headers"]


def test_core_attributes_come_in_one_order_whatever_that_of_the_headers():
    layout = layout_of(HEADERS, ["time", "type", "", "ext", "source", "id", "specversion", "b"])
    assert layout.core == [6, 5, 4, 1, -1, -1, -1, 0]
    assert layout.extensions == [("ext", 3), ("b", 7)]
    assert layout.headers == HEADERS


def test_all_that_is_optional_has_its_place():
    layout = layout_of(HEADERS, [*REQUIRED, "subject", "dataschema", "datacontenttype", "time"])
    assert layout.core == [0, 1, 2, 3, 6, 5, 4, 7]
    assert layout.extensions == []


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_required_attribute_there_are_no_positions(name):
    layout = layout_of(HEADERS, [other for other in REQUIRED if other != name])
    assert not layout.core
    assert layout.headers == HEADERS


@pytest.mark.parametrize("name", [*REQUIRED, "ext"])
def test_with_an_attribute_that_stands_twice_there_are_no_positions(name):
    assert not layout_of(HEADERS, [*REQUIRED, "ext", name]).core
    assert layout_of(HEADERS, [*REQUIRED, "", ""]).core
