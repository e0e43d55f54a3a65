import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bindings.binding import Message
from conformance.adapter import AdapterCodec, AdapterError
from conformance.check import CheckFailed, Unsupported
from conformance.command import app
from conformance.forms import Refused, WireEvent

PAGE = Path(__file__).parents[2] / "docs" / "conformance" / "adapters.md"
LEAST = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
MESSAGE = Message(b"question")
HELLO = {"name": "x", "version": "1", "bindings": ["json", "http"]}

# Answers `decode` by what the payload asks for; every other question as if all were well.
ADAPTER = """
import base64, json, sys, time
ANSWERS = {answers!r}
for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "hello":
        print({hello!r}, flush=True)
        continue
    asked = base64.b64decode(question["message"]["payload"]).decode()
    if asked == "hang":
        time.sleep(60)
    elif asked == "die":
        sys.exit("the last words")
    else:
        print(ANSWERS[asked], flush=True)
"""


@pytest.fixture
def make_codec(tmp_path):
    """Start an adapter that answers the payload of each question by a line from a table."""
    started = []

    def make(hello=HELLO, seconds=5.0, **answers):
        file = tmp_path / "adapter.py"
        answers["good"] = json.dumps({"events": [{"attributes": LEAST, "data": None}]})
        text = hello if isinstance(hello, str) else json.dumps(hello)
        file.write_text(ADAPTER.format(answers=answers, hello=text))
        codec = AdapterCodec(shlex.join([sys.executable, str(file)]), seconds)
        started.append(codec)
        return codec

    yield make
    for codec in started:
        codec.close()


def ask(codec, payload):
    return codec.decode("json", Message(payload.encode()))


def test_hello_says_who_it_is(make_codec):
    codec = make_codec({**HELLO, "name": "SDK", "version": "2.1", "invents": ["time"]})
    assert codec.title == "SDK 2.1"
    assert codec.bindings == ("json", "http")
    assert codec.deviations.invents == ("time",)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("hang", "no answer within 1 s"),
        ("die", "the adapter has ended"),
        ("rubbish", "no JSON: b'what?"),
        ("list", "no JSON object"),
        ("form", "wrong form"),
        ("base64", "wrong form"),
    ],
)
def test_what_breaks_the_protocol_fails_its_check_and_the_next_is_answered(
    make_codec, payload, text
):
    codec = make_codec(
        seconds=1.0,
        rubbish="what?",
        list="[]",
        form='{"events": [{"attributes": 5}]}',
        base64='{"events": [{"attributes": {}, "data": "?"}]}',
    )
    with pytest.raises(CheckFailed, match=re.escape(text)) as failed:
        ask(codec, payload)
    assert json.loads(failed.value.reproduce)["do"] == "decode"
    assert list(ask(codec, "good")) == [WireEvent(LEAST)]


def test_the_last_words_of_one_that_dies_are_told(make_codec):
    with pytest.raises(CheckFailed) as failed:
        ask(make_codec(), "die")
    assert failed.value.got == "the last words"


def test_refused_crashed_and_unsupported_are_told_apart(make_codec):
    codec = make_codec(
        refused='{"error": {"text": "no id", "kind": "invalid_event"}}',
        crashed='{"crash": "TypeError: None"}',
        unsupported='{"unsupported": "batches"}',
    )
    with pytest.raises(Refused, match="no id") as refused:
        ask(codec, "refused")
    assert refused.value.kind == "invalid_event"
    with pytest.raises(Refused, match="it crashed: TypeError: None"):
        ask(codec, "crashed")
    with pytest.raises(Unsupported, match="batches"):
        ask(codec, "unsupported")


def test_a_binding_or_format_that_it_has_not_is_not_asked_for(make_codec):
    codec = make_codec()
    with pytest.raises(Unsupported, match="nats"):
        codec.decode("nats", MESSAGE)
    with pytest.raises(Unsupported, match="coap"):
        codec.relay("json", MESSAGE, "coap", "binary")
    with pytest.raises(Unsupported, match="cbor"):
        codec.decode("http", Message(b"good", "application/cloudevents+cbor"))


def test_json_that_is_held_as_a_value_has_the_content_type_that_its_envelope_implies(make_codec):
    codec = make_codec(value=json.dumps({"events": [{"attributes": LEAST, "json": [1]}]}))
    (event,) = ask(codec, "value")
    assert event == WireEvent({**LEAST, "datacontenttype": "application/json"}, b"[ 1.0 ]")
    (event,) = codec.decode("http", Message(b"value"))
    assert "datacontenttype" not in event.attributes


@pytest.mark.parametrize(
    ("hello", "text"),
    [
        ("{}", "missing required field `name`"),
        (json.dumps({**HELLO, "bindings": []}), "bindings"),
        (json.dumps({**HELLO, "invents": ["id"]}), "id"),
        ("hello!", "no JSON"),
    ],
)
def test_a_wrong_answer_to_hello_is_told(make_codec, hello, text):
    with pytest.raises(AdapterError, match=text):
        make_codec(hello)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("/no/such/program", "can't be started: No such file or directory"),
        ("'open", "no command line"),
        (" ", "is empty"),
        (shlex.join([sys.executable, "-c", "raise SystemExit('no SDK')"]), "no SDK"),
    ],
)
def test_a_command_that_is_no_adapter_ends_with_2_and_one_sentence(command, text):
    result = CliRunner().invoke(app, ["run", "--adapter", command], env={"COLUMNS": "500"})
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert text in result.output


def test_a_binding_that_the_adapter_has_not_is_told():
    result = CliRunner().invoke(
        app, ["run", "coap", "--adapter", "python-sdk"], env={"COLUMNS": "500"}
    )
    assert result.exit_code == 2
    assert "the adapter has json, http, kafka, not coap" in result.output


def test_the_adapter_of_the_page_works_as_it_stands(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file, report = tmp_path / "my_adapter.py", tmp_path / "report.json"
    file.write_text(example)
    command = shlex.join([sys.executable, str(file)])
    CliRunner().invoke(
        app, ["run", "--adapter", command, "--family", "vectors", "--report", str(report)]
    )
    found = json.loads(report.read_text())
    assert found["subject"] == "example 1"
    assert found["summary"]["passed"] > 100
    failed = [case for case in found["cases"] if case["status"] == "failed"]
    assert not [case for case in failed if "adapter" in case["text"]]
