"""The MQTT binding, beside the vectors in conformance/."""

import json
from pathlib import Path

from bindings.binding import Binding, Message
from bindings.event import Event
from bindings.mqtt import MQTT, MQTT311, MQTT_BARE_JSON
from bindings.wire.mqtt.decode import decode_publish

VECTORS = Path(__file__).parents[2] / "conformance" / "vectors" / "mqtt.json"


def test_the_packet_on_the_wire_is_the_message_of_the_vector():
    vectors = {vector["id"]: vector for vector in json.loads(VECTORS.read_text())["vectors"]}
    vector = vectors["mqtt-binary"]
    wire = bytes.fromhex(vector["wire_hex"])
    packet = decode_publish(wire[0], wire, 2, len(wire), 5)
    message = Message(packet.payload, packet.content_type, packet.user_properties)
    assert [list(pair) for pair in message.headers] == vector["decode"]["headers"]
    (event,) = MQTT.decode(message)
    assert event.attributes() == vector["expect"]["event"]["attributes"]
    assert event.data == b"hi"


def test_a_value_that_no_user_property_can_hold_goes_in_an_envelope():
    longest = Event(id="1", source="/s", type="t", subject="é" * 32767 + "a")
    assert MQTT.encode(longest, "binary").content_type == ""
    longer = longest.replace(subject="é" * 32768)
    message = MQTT.encode(longer, "binary")
    assert message.content_type == "application/cloudevents+json"
    assert MQTT.decode(message) == (longer,)


def test_mqtt_311_carries_json_and_nothing_else():
    event = Event(id="1", source="/s", type="t", data=b"\xff")
    for mode in ("binary", "structured"):
        message = MQTT311.encode(event, mode)
        assert (message.content_type, message.headers) == ("", ())
        assert json.loads(message.payload)["data_base64"] == "/w=="
        assert MQTT311.decode(message) == (event,)


def test_the_choice_to_read_bare_json_changes_nothing_else():
    event = Event(id="1", source="/s", type="t", datacontenttype="a/b", data=b"x")
    for mode in ("binary", "structured"):
        assert MQTT_BARE_JSON.decode(MQTT.encode(event, mode)) == (event,)
    assert MQTT_BARE_JSON.decode(MQTT311.encode(event, "structured")) == (event,)


def test_all_three_are_bindings():
    bindings: list[Binding] = [MQTT, MQTT_BARE_JSON, MQTT311]
    assert [binding.name for binding in bindings] == ["mqtt", "mqtt", "mqtt311"]
