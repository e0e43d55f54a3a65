"""Where attributes stand among headers."""

import pytest

from bindings.header_layout import NO_LAYOUT, layout_of

REQUIRED = ["specversion", "id", "source", "type"]


def test_core_attributes_come_in_one_order_whatever_that_of_the_headers():
    layout = layout_of(["time", "type", "", "ext", "source", "id", "specversion", "b"])
    assert layout.core(("t", "y", "?", "e", "s", "i", "1.0", "B", None)) == (
        "1.0", "i", "s", "y", None, None, None, "t",
    )  # fmt: skip
    assert layout.extensions == [("ext", 3), ("b", 7)]


def test_all_that_is_optional_has_its_place():
    layout = layout_of([*REQUIRED, "subject", "dataschema", "datacontenttype", "time"])
    assert layout.core((*"1234", "su", "ds", "ct", "ti", None)) == (*"1234", "ct", "ds", "su", "ti")
    assert layout.extensions == []


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_required_attribute_there_is_no_layout(name):
    assert layout_of([other for other in REQUIRED if other != name]) is NO_LAYOUT


@pytest.mark.parametrize("name", [*REQUIRED, "ext"])
def test_with_an_attribute_that_stands_twice_there_is_no_layout(name):
    assert layout_of([*REQUIRED, "ext", name]) is NO_LAYOUT
    assert layout_of([*REQUIRED, "", ""]) is not NO_LAYOUT
