"""The table of losses: what it leaves of an event, and the document that shows it."""

from pathlib import Path

import pytest

from conformance.forms import WireEvent
from conformance.losses import DOCUMENT, LOSSES, after, may_refuse, table
from conformance.reference.carrier import CARRIERS, Carrier

HTTP = Carrier("http", "binary")
KAFKA = Carrier("kafka", "binary")
JSON = Carrier("json", "structured")
CBOR = Carrier("cbor", "structured")
EVENT = WireEvent({"id": "1", "yes": True, "int": 5, "bin": b"Ma"}, b"")


def test_the_document_is_what_the_table_says():
    written = (Path(__file__).parents[2] / DOCUMENT).read_text("utf-8")
    command = 'python -c "from conformance.losses import table; print(table(), end=str())"'
    assert written == table(), f"make it anew: {command} > {DOCUMENT}"


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_every_loss_has_a_reason_and_places_that_exist(loss):
    assert loss.reason.endswith(".")
    assert set(loss.carriers) <= {carrier.name for carrier in CARRIERS}
    assert loss.carriers


def test_headers_keep_text_and_most_of_them_no_empty_data():
    text = {"id": "1", "yes": "true", "int": "5", "bin": "TWE="}
    assert after(EVENT, HTTP) == WireEvent(text, None)
    assert after(EVENT, KAFKA) == WireEvent(text, b"")


def test_json_keeps_all_but_bytes_in_attributes_and_cbor_keeps_all():
    assert after(EVENT, JSON) == WireEvent({**EVENT.attributes, "bin": "TWE="}, b"")
    assert after(EVENT, CBOR) == EVENT


def test_losses_add_up_on_the_way():
    assert after(EVENT, CBOR, JSON, HTTP) == after(EVENT, HTTP)


def test_what_may_be_refused_is_told_by_place():
    assert may_refuse("malformed", HTTP, JSON)
    assert not may_refuse("malformed", HTTP, KAFKA)
