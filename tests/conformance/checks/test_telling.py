from conformance.checks.telling import TELLING, renamed
from conformance.losses import LOSSES, after
from conformance.reference.carrier import Carrier


def test_every_event_is_one():
    for name, event in TELLING.items():
        assert event.checked().id == "e1", name


def test_what_bindings_may_lose_is_told_by_some_event():
    carriers = [Carrier("mqtt", "binary"), Carrier("mqtt", "structured")]
    for carrier in carriers:
        assert any(after(event, carrier) != event for event in TELLING.values())
    assert {loss.name for loss in LOSSES} >= {"types", "binary-type"}


def test_another_attribute_leaves_the_rest_as_it_is():
    event = renamed(TELLING["bytes"], id="2")
    assert event.data == bytes(range(256))
    assert {**event.attributes, "id": "e1"} == TELLING["bytes"].attributes
