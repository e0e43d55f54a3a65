"""The adapter of the JavaScript SDK, its findings, and its published page."""

import subprocess

import pytest

from bindings.binding import Message
from conformance import adapters
from conformance.adapter import AdapterCodec
from conformance.adapters import command_of
from conformance.adapters.publish import PAGES, findings_of, page
from conformance.check import Unsupported
from conformance.forms import Refused, WireEvent
from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.servers import MissingError, program

FOLDER = PAGES.parents[1] / "conformance" / "adapters" / "javascript_sdk"
FINDINGS = findings_of("javascript-sdk")
LEAST = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
DATED = {**LEAST, "time": "2018-04-05T17:31:00Z"}
HEADERS = [(f"ce-{name}", value) for name, value in DATED.items()]


@pytest.fixture(scope="module")
def node():
    with skipping_what_is_missing():
        found = program("node", "nodejs")
        if not (FOLDER / "node_modules" / "cloudevents").is_dir():
            raise MissingError("the npm package cloudevents is missing: run .ci/servers")
    return found


@pytest.fixture(scope="module")
def codec(node):
    with AdapterCodec(command_of("javascript-sdk")) as codec:
        yield codec


def test_it_has_four_bindings(codec):
    assert codec.title == "cloudevents (JavaScript SDK) 10.0.0"
    assert codec.bindings == ("json", "http", "kafka", "mqtt")
    assert "javascript-sdk" in adapters.SHIPPED


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/plain", "é".encode()),
        ("text/plain; charset=iso-8859-1", b"\xe9"),
        ("application/json", b'{"a": [1, "b"]}'),
        ("application/octet-stream", b"\x00\xff"),
    ],
)
def test_data_comes_back_as_it_went_in(codec, content_type, data):
    event = WireEvent({**DATED, "datacontenttype": content_type}, data)
    for binding in ("http", "kafka"):
        message = codec.encode(binding, event, "binary")
        assert codec.decode(binding, message) == [event]


def test_an_envelope_is_read_and_written(codec):
    event = WireEvent({**DATED, "datacontenttype": "application/json"}, b'{"a":1}')
    for binding in ("http", "kafka", "mqtt"):
        message = codec.encode(binding, event, "structured")
        assert message.content_type.startswith("application/cloudevents+json")
        assert codec.decode(binding, message) == [event]


def test_a_batch_is_read(codec):
    batch = b'[{"specversion":"1.0","id":"1","source":"/s","type":"t"}]'
    (event,) = codec.decode("http", Message(batch, "application/cloudevents-batch+json"))
    assert event.attributes["id"] == "1"


def test_what_the_sdk_refuses_is_refused(codec):
    with pytest.raises(Refused, match="must have required property"):
        codec.decode("http", Message(b"", "", HEADERS[:2]))
    with pytest.raises(Unsupported, match="twice"):
        codec.decode("http", Message(b"", "", [*HEADERS, HEADERS[0]]))


@pytest.mark.parametrize("finding", FINDINGS.findings, ids=lambda finding: finding.title)
def test_a_finding_happens_in_a_plain_interpreter(node, finding):
    done = subprocess.run(
        [node, "--input-type=module", "-"],
        input=FINDINGS.prelude + finding.code,
        capture_output=True,
        text=True,
        cwd=FOLDER,  # where the package is installed
        check=False,
    )
    assert finding.prints in (done.stdout or done.stderr).splitlines()


def test_the_page_is_current(node):
    committed = (PAGES / "javascript-sdk.md").read_text("utf-8")
    assert committed == page("javascript-sdk"), (
        "run `python -m conformance.adapters.publish javascript-sdk` and read what changed"
    )
