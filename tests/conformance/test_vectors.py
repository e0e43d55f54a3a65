"""Runs the test vectors of the bindings, and checks that none of the known mistakes lacks one."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from bindings import cbor_format
from bindings.binding import Message
from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    NotAnEventError,
    UnknownEncodingError,
)
from bindings.event import event_from_attributes
from bindings.http import HTTP
from bindings.json_format import decode_event
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT, MQTT311, MQTT_BARE_JSON
from bindings.nats import NATS
from bindings.wrap import Wrapper

ROOT = Path(__file__).parents[2]
CONFORMANCE = ROOT / "conformance"
FILES = ("core", "json", "cbor", "http", "mqtt", "nats", "kafka", "wrap")
EVENT_TYPE = "application/cloudevents+json"


class JsonFormat:
    """The JSON format under the interface of a binding."""

    def decode(self, message):
        return (decode_event(message.payload),)

    def encode(self, event, mode):
        return HTTP.encode(event, mode)


class CborFormat:
    """The CBOR format under the interface of a binding."""

    def decode(self, message):
        return (cbor_format.decode_event(message.payload),)

    def encode(self, event, mode):
        return Message(cbor_format.encode_event(event), cbor_format.MEDIA_TYPE)


BINDINGS = {
    "json": JsonFormat(),
    "cbor": CborFormat(),
    "http": HTTP,
    "kafka": KAFKA,
    "mqtt": MQTT,
    "mqtt311": MQTT311,
    "mqtt-bare-json": MQTT_BARE_JSON,
    "nats": NATS,
}
ERRORS = {
    "invalid_event": InvalidEventError,
    "unknown_encoding": UnknownEncodingError,
    "not_an_event": NotAnEventError,
    "not_valid": CloudEventError,
}

HTTP_SOURCE = "tests/gateway/sources/http/test_http.py"
HTTP_HANDSHAKE = "tests/gateway/sources/http/test_handshake.py"
HTTP_SINK = "tests/gateway/sinks/test_http.py"
COAP_SOURCE = "tests/gateway/sources/coap/test_source.py"
BAD_INPUT = "tests/e2e/test_bad_input.py"

# Mistakes of the catalogue's sections A to F and I, and of CBOR, that a pure codec can't make, and
# the tests that show that they are not made. 33 is a schema that is not used anywhere.
NOT_IN_A_CODEC = {
    17: {  # 64 KiB on the wire, and one byte more, at each listener
        BAD_INPUT: [
            "test_http_body_at_the_limit_is_taken_and_one_byte_more_is_not",
            "test_topic_at_its_longest_and_payload_at_the_limit_are_taken",
            "test_bad_event_from_a_broker_is_counted_and_its_neighbours_arrive",
            "test_coap_payload_in_blocks_at_the_limit_is_taken_and_one_byte_more_is_not",
        ],
        "tests/gateway/sources/test_mqtt_message.py": [
            "test_the_limit_is_exact_and_has_its_own_code"
        ],
        "tests/e2e/test_nats.py": ["test_a_message_beyond_the_limit_is_rejected"],
        "tests/bindings/test_binding.py": ["test_an_event_of_64_kib_survives_both_modes"],
    },
    33: {},
    49: {
        "tests/e2e/test_http.py": [
            "test_http_server_receives_every_event_once_and_the_sdk_reads_it"
        ]
    },
    57: {
        "tests/gateway/sources/test_mqtt.py": ["test_a_redelivery_joins_what_is_under_way"],
        "tests/gateway/sources/test_mqtt_endpoint.py": [
            "test_a_repetition_on_a_new_connection_joins_what_is_under_way",
            "test_a_released_event_is_held_and_submitted_again",
        ],
        "tests/e2e/test_nats.py": [
            "test_what_was_not_acknowledged_is_redelivered_with_the_same_id"
        ],
        COAP_SOURCE: [
            "test_a_repeated_con_gets_the_same_bytes_and_makes_no_second_event",
            "test_the_generated_id_is_the_same_after_a_restart_and_differs_by_port",
        ],
    },
    87: {
        HTTP_HANDSHAKE: [
            "test_origin_is_compared_whole",
            "test_delivery_with_an_origin_without_consent_is_refused",
        ]
    },
    88: {HTTP_SINK: ["test_redirect_is_not_followed"]},
    89: {HTTP_SOURCE: ["test_binary_event_is_delivered_and_answered_202_without_a_body"]},
    90: {
        HTTP_SOURCE: ["test_settlement_decides_the_answer"],
        HTTP_SINK: ["test_retry_after_is_read_on_429_and_503"],
    },
    91: {HTTP_HANDSHAKE: ["test_options_without_an_origin_is_no_handshake"]},
    92: {
        HTTP_SINK: ["test_status_decides_the_outcome"],
        "tests/e2e/test_outcomes.py": [
            "test_the_sink_s_answer_reaches_http_coap_and_nats_in_their_words"
        ],
    },
    93: {
        HTTP_SINK: [
            "test_status_decides_the_outcome",
            "test_structured_request_is_this_to_the_byte",
        ]
    },
    94: {HTTP_SINK: ["test_structured_request_is_this_to_the_byte"]},
}


def load(name):
    return json.loads((CONFORMANCE / "vectors" / f"{name}.json").read_text("utf-8"))


def vectors(kind):
    found = []
    for name in FILES:
        content = load(name)
        for vector in content["vectors"]:
            if kind in vector:
                binding = vector.get("binding", content["binding"])
                found.append(pytest.param(binding, vector, id=vector["id"]))
    return found


def bytes_of(item, key):
    if f"{key}_hex" in item:
        return bytes.fromhex(item[f"{key}_hex"])
    text = item.get(key)
    return None if text is None else text.encode("utf-8", "surrogatepass")


def message_of(item):
    headers = [tuple(header) for header in item["headers"]]
    return Message(bytes_of(item, "payload"), item["content_type"], headers)


def event_of(item):
    attributes = {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in item["attributes"].items()
    }
    return event_from_attributes(attributes, bytes_of(item, "data"))


def assert_same_message(made, expected):
    assert made.payload == expected.payload
    assert made.content_type == expected.content_type
    assert list(made.headers) == list(expected.headers)


def assert_refused(call, expect):
    kind = ERRORS[expect["error"]]
    with pytest.raises(kind) as caught:
        call()
    if expect["error"] != "not_valid":
        assert type(caught.value) is kind
    if "reason" in expect:
        assert caught.value.reason == expect["reason"]
    if "attribute" in expect:
        assert caught.value.attribute == expect["attribute"]


@pytest.mark.parametrize(("binding", "vector"), vectors("decode"))
def test_a_message_brings_the_event_or_the_error_that_the_vector_names(binding, vector):
    codec, message, expect = BINDINGS[binding], message_of(vector["decode"]), vector["expect"]
    if "error" in expect:
        assert_refused(lambda: codec.decode(message), expect)
        return
    expected = expect["events"] if "events" in expect else [expect["event"]]
    events = list(codec.decode(message))
    assert events == [event_of(item) for item in expected]
    if "relay" in vector:
        relay = vector["relay"]
        sent = BINDINGS[relay["binding"]].encode(events[0], relay["mode"])
        assert_same_message(sent, message_of(relay["message"]))


@pytest.mark.parametrize(("binding", "vector"), vectors("encode"))
def test_an_event_makes_the_message_that_the_vector_names(binding, vector):
    codec, case = BINDINGS[binding], vector["encode"]
    event = event_of(case["event"])
    sent = codec.encode(event, case["mode"])
    assert_same_message(sent, message_of(vector["message"]))
    (back,) = codec.decode(sent)
    assert {name: str(value) for name, value in back.attributes().items()}.keys() == (
        event.attributes().keys()
    )
    assert (back.data or b"") == (event.data or b"")


def as_messages(attributes):
    """Write attributes in every binding, without the code under test."""
    yield "json", Message(json.dumps(attributes).encode())
    if not all(isinstance(value, str) for value in attributes.values()):
        return
    attributes = dict(attributes)
    nats = [
        (f"ce-{name}", quote(value, safe="!#$&'()*+,/:;=?@[]\\^`{|}~"))
        for name, value in attributes.items()
    ]
    yield "nats", Message(b"", "", nats)
    content_type = attributes.pop("datacontenttype", "")
    rest = [pair for pair in nats if pair[0] != "ce-datacontenttype"]
    yield "http", Message(b"", content_type, rest)
    yield "mqtt", Message(b"", content_type, list(attributes.items()))
    kafka = [(f"ce_{name}", value) for name, value in attributes.items()]
    yield "kafka", Message(None, content_type, kafka)


@pytest.mark.parametrize(("binding", "vector"), vectors("attributes"))
def test_attributes_are_judged_alike_in_every_binding(binding, vector):
    assert binding == "all"
    expect, tried = vector["expect"], set()
    for name, message in as_messages(vector["attributes"]):
        if name not in vector.get("only", BINDINGS):
            continue
        tried.add(name)
        decode = BINDINGS[name].decode
        if "error" in expect:
            assert_refused(lambda decode=decode, message=message: decode(message), expect)
        else:
            (event,) = decode(message)
            assert event.attributes() == vector["attributes"]
            assert event.data is None
    assert tried >= set(vector.get("only", {"json"}))


@pytest.mark.parametrize(("binding", "vector"), vectors("wrap"))
def test_a_plain_payload_becomes_the_event_that_the_vector_names(binding, vector):
    assert binding == "wrap"
    message, expect = vector["message"], vector["expect"]

    def wrap():
        return Wrapper(**vector["wrap"]).wrap(
            bytes_of(message, "payload"),
            message["facts"],
            id=message["id"],
            time=message.get("time"),
            content_type=message["content_type"],
        )

    if "error" in expect:
        assert_refused(wrap, expect)
    else:
        assert wrap() == event_of(expect["event"])


def test_every_vector_is_run_and_has_a_name_of_its_own():
    names = [vector["id"] for name in FILES for vector in load(name)["vectors"]]
    run = [
        param.id for kind in ("decode", "encode", "attributes", "wrap") for param in vectors(kind)
    ]
    assert sorted(run) == sorted(names)
    assert len(set(names)) == len(names)


def test_every_vector_names_requirements_that_exist():
    registry = yaml.safe_load(
        (CONFORMANCE / "requirements" / "cloudevents.yaml").read_text("utf-8")
    )
    known = {requirement["id"] for requirement in registry["requirements"]}
    for name in FILES:
        for vector in load(name)["vectors"]:
            assert vector["requirements"], vector["id"]
            assert set(vector["requirements"]) <= known, vector["id"]


def test_every_known_mistake_of_sections_a_to_f_and_i_and_of_cbor_has_a_vector_or_a_test():
    covered = {vector.get("pitfall") for name in FILES for vector in load(name)["vectors"]}
    covered.discard(None)
    assert covered.isdisjoint(NOT_IN_A_CODEC)
    assert covered | set(NOT_IN_A_CODEC) == {*range(1, 71), *range(84, 95)}


@pytest.mark.parametrize("number", NOT_IN_A_CODEC)
def test_a_mistake_that_no_codec_can_make_is_shown_by_tests_that_exist(number):
    for path, names in NOT_IN_A_CODEC[number].items():
        text = (ROOT / path).read_text("utf-8")
        assert [name for name in names if f"def {name}(" not in text] == []


# The public data of cloudevents/conformance, read with parsers of a few lines.


def table(lines):
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return dict(rows[1:])


def block(text, title):
    """Return the docstring after the step that contains `title`, without its indentation."""
    match = re.search(rf'{title}.*?"""\n(.*?)\n *"""', text, re.DOTALL)
    lines = match[1].split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


def rows_after(text, title):
    match = re.search(rf"{title}.*?\n((?: *\|.*(?:\n|$))+)", text)
    return match[1].rstrip("\n").split("\n")


def scenarios(name):
    text = (CONFORMANCE / "data" / "features" / f"{name}-protocol-binding.feature").read_text(
        "utf-8"
    )
    for part in re.split(r"\n *Scenario[^\n]*: ", text)[1:]:
        types = [""]
        if "Examples:" in part:
            examples = part.split("Examples:")[1]
            types = [line.strip(" |") for line in examples.strip().split("\n")[1:]]
        for media_type in types:
            filled = part.split("Examples:")[0].replace("<contentType>", media_type)
            title = filled.split("\n")[0]
            yield pytest.param(filled, id=f"{name}: {title}")


def http_message(scenario):
    head, _, body = block(scenario, "an HTTP request").partition("\n\n")
    headers = [tuple(line.split(": ", 1)) for line in head.split("\n")[1:]]
    content_type = dict(headers).pop("Content-Type")
    length = int(dict(headers)["Content-Length"])
    assert len(body.encode()) == length
    rest = [pair for pair in headers if pair[0] != "Content-Type"]
    return Message(body.encode(), content_type, rest)


def kafka_message(scenario):
    headers = table(rows_after(scenario, "Kafka headers"))
    content_type = headers.pop("content-type")
    payload = block(scenario, "a Kafka message with payload").encode()
    return Message(payload, content_type, list(headers.items()))


def assert_scenario(event, scenario):
    assert event.attributes() == table(rows_after(scenario, "the attributes are"))
    assert json.loads(event.data) == json.loads(block(scenario, "equal to the following JSON"))


@pytest.mark.parametrize("scenario", list(scenarios("http")))
def test_official_http_scenario(scenario):
    (event,) = HTTP.decode(http_message(scenario))
    assert_scenario(event, scenario)


@pytest.mark.parametrize("scenario", list(scenarios("kafka")))
def test_official_kafka_scenario(scenario):
    (event,) = KAFKA.decode(kafka_message(scenario))
    assert_scenario(event, scenario)


def official_events():
    for path in sorted((CONFORMANCE / "data" / "events").glob("*.yaml")):
        text = path.read_text("utf-8-sig")
        # The base loader keeps `1.0` and times as they stand there.
        documents = yaml.load_all(text, yaml.BaseLoader)
        for number, document in enumerate(documents):
            yield pytest.param(document, id=f"{path.stem}-{number}")


@pytest.mark.parametrize("document", list(official_events()))
@pytest.mark.parametrize("name", ["http", "kafka", "mqtt", "nats"])
@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_official_event_survives_every_binding(document, name, mode):
    attributes = dict(document["ContextAttributes"])
    # A block scalar ends in a line feed, which no attribute may hold; upstream's tool trims it.
    extensions = {key: text.strip() for key, text in attributes.pop("Extensions", {}).items()}
    event = event_from_attributes({**attributes, **extensions}, document["Data"].encode())
    binding = BINDINGS[name]
    (back,) = binding.decode(binding.encode(event, mode))
    assert back.attributes() == event.attributes()
    if mode == "structured" and event.has_json_data:
        assert back.data == event.data.strip()
    else:
        assert back.data == event.data
