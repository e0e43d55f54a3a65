"""Codecs under test: ours, and any Binding of an importable module."""

import pytest

from bindings.binding import Message
from conformance.check import Unsupported
from conformance.codec import BindingCodec, binding_at, own_codec
from conformance.forms import Refused, WireEvent
from gateway.registry import names

EVENT = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, b"hi")


def test_ours_has_every_registered_binding_and_the_formats():
    assert set(own_codec().bindings) >= {*names("bindings"), "json", "cbor", "mqtt311"}


@pytest.mark.parametrize("name", ["json", "cbor", "http", "mqtt", "mqtt311", "nats", "kafka"])
def test_what_is_encoded_is_decoded(name):
    codec = own_codec()
    for mode in ("binary", "structured"):
        assert codec.decode(name, codec.encode(name, EVENT, mode)) == [EVENT]


def test_a_relay_hands_on_each_event_of_a_message():
    batch = b"[%b,%b]" % ((b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}',) * 2)
    message = Message(batch, "application/cloudevents-batch+json")
    sent = own_codec().relay("http", message, "kafka", "binary")
    assert [list(one.headers)[1] for one in sent] == [("ce_id", "1")] * 2


def test_our_errors_become_refusals_on_every_way():
    codec = own_codec()
    with pytest.raises(Refused) as caught:
        codec.decode("http", Message(b""))
    assert caught.value.kind == "not_an_event"
    with pytest.raises(Refused):
        codec.relay("http", Message(b""), "kafka", "binary")
    with pytest.raises(Refused):
        codec.encode("http", WireEvent({"id": "1"}), "binary")


def test_a_binding_that_is_not_there_is_unsupported():
    codec = BindingCodec("bindings.http:HTTP", {"http": binding_at("bindings.http:HTTP")})
    assert codec.bindings == ("http",)
    assert codec.title == "bindings.http:HTTP"
    with pytest.raises(Unsupported):
        codec.decode("mqtt", Message(b""))
    with pytest.raises(Unsupported):
        codec.losses("mqtt")


def test_a_binding_declares_what_it_loses():
    losses = own_codec().losses
    assert (losses("http"), losses("kafka"), losses("json")) == ({"empty"}, set(), set())


@pytest.mark.parametrize("place", ["bindings.http", ":HTTP", "bindings.http:", ""])
def test_a_place_is_a_module_and_a_name(place):
    with pytest.raises(ValueError, match="module:NAME"):
        binding_at(place)


def test_a_place_where_nothing_is_says_so():
    with pytest.raises(ImportError):
        binding_at("no_such_module:X")
    with pytest.raises(AttributeError):
        binding_at("bindings.http:NOTHING")


@pytest.mark.parametrize(
    ("name", "text"),
    [("can-dbc", r"pip install 'cloudevents-gateway\[can\]'"), ("x", "no binding")],
)
def test_a_binding_that_is_not_there_is_told_and_how_to_get_it(name, text):
    with pytest.raises(Unsupported, match=text):
        BindingCodec("c", {}).decode(name, Message(b""))
