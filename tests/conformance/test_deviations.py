import json

import msgspec
import pytest

from bindings.binding import Message
from conformance.adapter import AdapterCodec
from conformance.adapters import command_of
from conformance.check import CheckFailed
from conformance.codec import own_codec
from conformance.deviations import Deviations, NetCodec, checks_of
from conformance.forms import Refused, WireEvent

LEAST = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
NOW = "2026-01-02T03:04:05Z"
JSON = "application/cloudevents+json"
HEADERS = [(f"ce-{name}", value) for name, value in LEAST.items()]
INVENTS = Deviations(invents=("time", "datacontenttype"))
NO_NULL = Deviations(no_null=("kafka",))


class Wrong:
    """Our codec, but for the deviations that an SDK may have."""

    title = "wrong"
    bindings = ("json", "http", "kafka")

    def __init__(self):
        self.own = own_codec()

    def decode(self, binding, message):
        if binding == "kafka" and message.payload is None:
            raise Refused("no value")
        return [self._dated(event) for event in self.own.decode(binding, message)]

    def encode(self, binding, event, mode):
        sent = self.own.encode(binding, self._dated(event), mode)
        payload = sent.payload or b""
        return msgspec.structs.replace(
            sent, payload=payload, content_type=sent.content_type or "text/plain"
        )

    def relay(self, binding, message, target, mode):
        return [self.encode(target, event, mode) for event in self.decode(binding, message)]

    def close(self):
        pass

    def _dated(self, event):
        return WireEvent({"time": NOW, **event.attributes}, event.data)


def test_an_attribute_that_the_message_did_not_carry_is_dropped():
    codec = NetCodec(Wrong(), INVENTS)
    assert codec.decode("http", Message(b"", "", HEADERS)) == [WireEvent(LEAST)]
    assert codec.decode("json", Message(json.dumps(LEAST).encode())) == [WireEvent(LEAST)]


@pytest.mark.parametrize("name", ["ce-time", "CE-Time"])
def test_an_attribute_that_the_message_carried_is_judged(name):
    codec = NetCodec(Wrong(), INVENTS)
    (event,) = codec.decode("http", Message(b"", "", [*HEADERS, (name, "2001-01-01T00:00:00Z")]))
    assert event.attributes["time"] == "2001-01-01T00:00:00Z"


def test_each_event_of_a_batch_is_judged_by_its_own_members():
    batch = json.dumps([LEAST, {**LEAST, "time": "2001-01-01T00:00:00Z"}]).encode()
    events = NetCodec(Wrong(), INVENTS).decode(
        "http", Message(batch, "application/cloudevents-batch+json")
    )
    assert ["time" in event.attributes for event in events] == [False, True]


def test_a_member_that_is_null_was_not_carried():
    payload = json.dumps({**LEAST, "time": None}).encode()
    assert NetCodec(Wrong(), INVENTS).decode("json", Message(payload)) == [WireEvent(LEAST)]


def test_data_is_no_place_to_carry_an_attribute():
    message = Message(b'{"time": 1}', "application/json", HEADERS)
    (event,) = NetCodec(Wrong(), INVENTS).decode("http", message)
    assert event.attributes == {**LEAST, "datacontenttype": "application/json"}


def test_the_content_type_that_an_envelope_implies_was_carried():
    payload = json.dumps({**LEAST, "data": 5}).encode()
    (event,) = NetCodec(Wrong(), INVENTS).decode("json", Message(payload))
    assert event.attributes["datacontenttype"] == "application/json"
    (sent,) = NetCodec(Wrong(), INVENTS).relay("json", Message(payload), "http", "binary")
    assert sent.content_type == "application/json"


def test_what_is_written_is_freed_too_in_headers_and_in_envelopes():
    codec = NetCodec(Wrong(), INVENTS)
    sent = codec.encode("http", WireEvent(LEAST), "binary")
    assert (sorted(sent.headers), sent.content_type) == (sorted(HEADERS), "")
    sent = codec.encode("http", WireEvent({**LEAST, "time": NOW}), "binary")
    assert ("ce-time", NOW) in sent.headers
    (sent,) = codec.relay("http", Message(b"", "", HEADERS), "http", "structured")
    assert json.loads(sent.payload) == LEAST
    assert sent.content_type == JSON


def test_without_a_declaration_nothing_is_dropped():
    codec = NetCodec(Wrong(), Deviations())
    (event,) = codec.decode("http", Message(b"", "", HEADERS))
    assert event.attributes["time"] == NOW


def test_absent_data_is_told_from_empty_data_in_place_of_the_codec():
    codec = NetCodec(Wrong(), Deviations(invents=INVENTS.invents, no_null=("kafka",)))
    headers = [(f"ce_{name}", value) for name, value in LEAST.items()]
    assert codec.decode("kafka", Message(None, "", headers)) == [WireEvent(LEAST)]
    assert codec.decode("kafka", Message(b"", "", headers)) == [WireEvent(LEAST, b"")]
    assert codec.encode("kafka", WireEvent(LEAST), "binary").payload is None
    assert codec.encode("kafka", WireEvent(LEAST, b""), "binary").payload == b""
    (sent,) = codec.relay("http", Message(b"", "", HEADERS), "kafka", "binary")
    assert sent.payload is None


@pytest.mark.parametrize(
    ("known", "ids"),
    [
        (INVENTS, ["deviation-invents-time", "deviation-invents-datacontenttype"]),
        (NO_NULL, ["deviation-no-null-kafka"]),
    ],
)
def test_each_declared_deviation_is_one_failed_check_of_the_codec_itself(known, ids):
    codec = Wrong()
    checks = list(checks_of(codec, known))
    assert [check.id for check in checks] == ids
    for check in checks:
        with pytest.raises(CheckFailed, match="net of this") as failed:
            check.run(NetCodec(codec, known))
        assert json.loads(failed.value.reproduce)["do"] in {"decode", "encode"}


def test_a_deviation_that_is_none_passes_its_check():
    codec = own_codec()
    known = Deviations(invents=INVENTS.invents, no_null=("kafka",))
    for check in checks_of(codec, known):
        check.run(codec)


def test_the_python_sdk_invents_a_time_and_is_judged_net_of_it():
    with AdapterCodec(command_of("python-sdk")) as codec:
        net = NetCodec(codec, codec.deviations)
        (event,) = codec.decode("http", Message(b"", "", HEADERS))
        assert "time" in event.attributes
        assert net.decode("http", Message(b"", "", HEADERS)) == [WireEvent(LEAST)]
