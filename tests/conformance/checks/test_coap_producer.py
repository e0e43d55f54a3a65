"""Our codec and producer pass; those with a mistake are found."""

import pytest
from msgspec.structs import replace

from bindings.binding import Message
from bindings.wire.coap import serialise
from conformance.checks.coap_producer import checks
from conformance.own.sending import OwnSending
from conformance.suite import run_one
from gateway.cli.senders import coap as sender
from tests.conformance.checks.harness import OWN, Mistaken, failed, with_attributes
from tests.conformance.checks.live import failures

CHECKS = list(checks())
OF_CODEC = [check for check in CHECKS if check.needs == "codec"]
OF_SENDING = [check for check in CHECKS if check.needs == "sending"]


def test_our_codec_passes():
    assert failed(OF_CODEC, OWN) == {}


async def test_our_producer_passes():
    assert await failures(OF_SENDING, OwnSending()) == {}


async def test_a_codec_without_the_binding_is_not_judged():
    class Nothing(Mistaken):
        def encode(self, binding, event, mode):
            return OWN.encode("nothing", event, mode)

    results = [await run_one(check, Nothing()) for check in OF_CODEC if "encode" in check.id]
    assert {result.status for result in results} == {"skipped"}


def renamed(_, message):
    """Write the long names."""
    names = {"i": "id", "s": "source", "t": "type", "j": "subject"}
    return replace(message, headers=[(names.get(n, n), v) for n, v in message.headers])


def escaped(_, message):
    return replace(message, headers=[(n, v.replace(" ", "%20")) for n, v in message.headers])


def as_attribute(_, message):
    return Message(message.payload, "", [*message.headers, ("c", message.content_type)])


def reversed_map(binding, message):
    """Write the first two members of a map the other way round."""
    if binding != "cbor":
        return message
    payload = message.payload
    return replace(message, payload=payload[:1] + payload[6:11] + payload[1:6] + payload[11:])


def without_subject(attributes):
    return {name: value for name, value in attributes.items() if name != "subject"}


def shortened(_, message):
    return replace(message, headers=[(n, v[:200]) for n, v in message.headers])


@pytest.mark.parametrize(
    ("codec", "found"),
    [
        (Mistaken(sent=renamed), {"coap-encode-letters", "coap-encode-least-letters"}),
        (Mistaken(sent=escaped), {"coap-encode-value-0"}),
        (Mistaken(sent=as_attribute), {"coap-encode-format-json", "coap-encode-format-cbor"}),
        (Mistaken(sent=reversed_map), {"coap-encode-cbor-plain", "coap-encode-cbor-numbers"}),
        (Mistaken(sent=shortened), {"coap-encode-longest"}),
        (
            Mistaken(event=with_attributes(without_subject)),
            {"coap-relay-json", "coap-relay-http-subject", "coap-relay-kafka-subject"},
        ),
        (
            Mistaken(event=with_attributes(lambda a: a | {"time": "2026-01-01T00:00:00Z"})),
            {"coap-relay-json-least"},
        ),
    ],
)  # fmt: skip
def test_a_codec_with_a_mistake_is_found(codec, found):
    assert found <= set(failed(OF_CODEC, codec))


def test_a_codec_that_writes_what_is_too_long_is_found(monkeypatch):
    monkeypatch.setattr("bindings.coap.attributes.MAX_QUERY_BYTES", 300)
    assert set(failed(OF_CODEC, OWN)) == {"coap-encode-too-long", "coap-encode-too-long-utf-8"}


def with_put(message):
    return serialise(replace(message, code=3))


@pytest.mark.parametrize(
    ("name", "wrong", "found", "text"),
    [
        ("serialise", with_put, "coap-send-binary", "the method is another"),
        ("serialise", with_put, "coap-send-blocks", "the method is another"),
        ("request_options", lambda _: [], "coap-send-binary", "other queries"),
        ("request_options", lambda _: [], "coap-send-format-50", "the Content-Format is another"),
        ("request_options", lambda _: [], "coap-send-values", "the value was changed"),
    ],
)
async def test_a_producer_with_a_mistake_is_found(monkeypatch, name, wrong, found, text):
    monkeypatch.setattr(sender, name, wrong)
    assert (await failures(OF_SENDING, OwnSending()))[found] == text
