"""The binding documents: their numbered requirements, and every example that they show.

Each fenced block of a page in docs/bindings/ stands below a comment, `<!-- example NAME: ROLE -->`
or `<!-- no example: REASON -->`. Blocks of one name belong together, in their order; the roles are
those of docs/bindings/writing-a-binding.md.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from bindings.binding import Message
from bindings.errors import CloudEventError
from conformance.checks.coap import members_of
from conformance.forms import WireEvent
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.registry import load
from tests.gateway.sources.coap.device import Device, fields, running
from tests.helpers import RecordingIntake

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/bindings").glob("*.md"))
COAP_PAGE = ROOT / "docs/bindings/coap.md"

MARKED = re.compile(
    r"^<!-- (example (?P<name>\S+): (?P<role>[^\n]*?)|no example: [^\n]+) -->\n"
    r"(?:```(?P<language>\w*)\n(?P<body>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
KEYWORD = re.compile(r"\b(?:MUST NOT|SHOULD NOT|MUST|SHOULD|MAY)\b")
NUMBERED = re.compile(r"^- \*\*([A-Z]+-[A-Z]+-\d{3})\*\* (.*(?:\n  \S.*)*)", re.MULTILINE)
HEADING = re.compile(r"^#+ (\d+(?:\.\d+)*)\.? ", re.MULTILINE)


class Block(NamedTuple):
    """One marked place of a page: what it is, and what stands in it."""

    role: str
    language: str
    body: str


def examples_of(page):
    """Return the blocks of each example, by name."""
    examples = {}
    for found in MARKED.finditer(page.read_text("utf-8")):
        if found["name"]:
            block = Block(found["role"], found["language"] or "", found["body"] or "")
            examples.setdefault(found["name"], []).append(block)
    return examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    text = page.read_text("utf-8")
    marked = {found.start("body") for found in MARKED.finditer(text) if found["body"]}
    fences = re.finditer(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [fence[0] for fence in fences if fence.start(1) not in marked] == []


# --- requirements ---------------------------------------------------------------------------------


def sentences_of(page):
    """Return section and text of each numbered requirement, by number."""
    text = page.read_text("utf-8")
    headings = [(found.start(), found[1]) for found in HEADING.finditer(text)]
    found = {}
    for sentence in NUMBERED.finditer(text):
        section = [number for start, number in headings if start < sentence.start()][-1]
        assert sentence[1] not in found, f"{sentence[1]} stands twice"
        found[sentence[1]] = (section, " ".join(sentence[2].split()).replace("`", ""))
    return found


REGISTRIES = {page: ROOT / f"conformance/requirements/{page.stem}.yaml" for page in PAGES}
NUMBERED_PAGES = [page for page in PAGES if REGISTRIES[page].exists()]


@pytest.mark.parametrize("page", NUMBERED_PAGES, ids=lambda page: page.name)
def test_document_and_registry_hold_the_same_requirements(page):
    sentences = sentences_of(page)
    entries = yaml.safe_load(REGISTRIES[page].read_text("utf-8"))["requirements"]
    assert {entry["id"]: (entry["section"], entry["requirement"]) for entry in entries} == sentences
    assert len(entries) == len(sentences)
    for entry in entries:
        assert entry["spec"] == f"docs/bindings/{page.name}"
        assert KEYWORD.findall(entry["requirement"]) == [entry["level"]], entry["id"]


@pytest.mark.parametrize("page", NUMBERED_PAGES, ids=lambda page: page.name)
def test_no_rule_stands_outside_a_numbered_sentence(page):
    rest = NUMBERED.sub("", page.read_text("utf-8"))
    lines = [line for line in rest.splitlines() if KEYWORD.search(line)]
    assert [line for line in lines if not line.startswith("The key words MUST, MUST NOT")] == []


def test_every_section_that_the_code_names_exists():
    sections = set(HEADING.findall(COAP_PAGE.read_text("utf-8")))
    for folder in ("bindings/coap", "gateway/sources/coap"):
        for file in sorted((ROOT / folder).glob("*.py")):
            for named in re.findall(r"binding (?:sections? )?(\d+(?:\.\d+)*)", file.read_text()):
                assert named in sections, f"{file.name}: binding section {named}"


def test_every_coap_case_names_requirements_that_exist():
    known = sentences_of(COAP_PAGE)
    cases = json.loads((ROOT / "conformance/vectors/coap.json").read_text())["cases"]
    assert len({case["id"] for case in cases}) == len(cases)
    for case in cases:
        assert case["requirements"], case["id"]
        assert set(case["requirements"]) <= known.keys(), case["id"]
        assert case["section"] == known[case["requirements"][0]][0], case["id"]


# --- examples of CoAP -----------------------------------------------------------------------------

ROUTES = {
    "/ce": {"mode": "auto", "source_policy": "any"},
    "/ce/s": {"mode": "structured", "source_policy": "any"},
    "/ce/b": {"mode": "batch", "source_policy": "any"},
    "/t": {"type": "com.acme.temp.v1", "source": "/devices/dev1", "source_policy": "any"},
}
SINKS = {
    "": ACCEPTED,
    "sink down": Settlement(Outcome.RELEASED, Reason.SINK_DOWN, 45.0),
    "sink slow": None,
}


def messages_of(dump):
    """Return the messages of a hex dump, one for each offset 0000, as lists of bytes.

    `..` becomes None: any byte. The text beside the bytes, if any, has to show them.
    """
    messages = []
    for line in dump.splitlines():
        offset, octets, text = re.fullmatch(
            r"([0-9a-f]{4})  ((?:[0-9a-f]{2}|\.\.)(?: (?:[0-9a-f]{2}|\.\.))*)(?:  +(.*))?", line
        ).groups()
        row = [None if octet == ".." else int(octet, 16) for octet in octets.split(" ")]
        if int(offset, 16) == 0:
            messages.append([])
        assert int(offset, 16) == len(messages[-1]), line
        messages[-1] += row
        if text is not None:
            assert text == "".join(chr(o) if o and 0x20 <= o < 0x7F else "." for o in row), line
    return messages


def message_of(dump):
    (message,) = messages_of(dump)
    return bytes(message)


def check_bytes(got, expected):
    assert len(got) == len(expected), got.hex(" ")
    assert [octet for octet, any_ in zip(got, expected, strict=True) if any_ is not None] == [
        octet for octet in expected if octet is not None
    ], got.hex(" ")


def check_event(got, expected):
    assert got.keys() == expected.keys()
    assert {name: value for name, value in got.items() if expected[name] != "*"} == {
        name: value for name, value in expected.items() if value != "*"
    }


async def check_outcome(block, device, intake):
    """Check one block that says what becomes of a request."""
    if block.role == "no answer":
        await device.expect_silence()
    elif block.role.startswith("refused "):
        assert fields(await device.receive())["code"] == block.role.split()[1]
        assert intake.events == []
    else:
        for position, expected in enumerate(messages_of(block.body)):
            if position:  # the slow sink comes to its end
                for delivery in intake.deliveries:
                    delivery.settle(ACCEPTED)
            check_bytes(await device.receive(), expected)


async def check_example(blocks, sink):
    """Send an example's requests to a gateway whose sink is so, and check what it shows."""
    answer = SINKS[sink]
    intake = RecordingIntake(lambda _: answer)
    async with running(intake, routes=ROUTES) as source:
        with Device(source) as device:
            await check_blocks(blocks, sink, device, intake)


async def check_blocks(blocks, sink, device, intake):
    request, asked = b"", False
    for block in [*blocks, Block("request", "", "")]:
        outcome, _, condition = block.role.partition(", ")
        if outcome == "request":
            if request and not asked:
                assert fields(await device.receive())["code"] == "2.04"
            request, asked = block.body and message_of(block.body), False
            if request:
                device.send(request)
        elif outcome in {"event", "events"}:
            continue
        elif condition == sink:
            await check_outcome(block, device, intake)
            asked = True
    shown = [json.loads(block.body) for block in blocks if block.role in {"event", "events"}]
    expected = [event for one in shown for event in (one if isinstance(one, list) else [one])]
    assert len(intake.events) == len(expected)
    for event, members in zip(intake.events, expected, strict=True):
        check_event(members_of(WireEvent.of(event)), members)


def conditions_of(blocks):
    found = {block.role.partition(", ")[2] for block in blocks if block.role.startswith("answer, ")}
    return ["", *sorted(found)]


COAP_EXAMPLES = [
    pytest.param(blocks, sink, id=f"{name}-{sink}" if sink else name)
    for name, blocks in examples_of(COAP_PAGE).items()
    for sink in conditions_of(blocks)
]


@pytest.mark.parametrize(("blocks", "sink"), COAP_EXAMPLES)
async def test_an_example_of_coap_is_what_the_gateway_does(blocks, sink):
    await check_example(blocks, sink)


# --- examples of any binding --------------------------------------------------------------------


def decode_message(block):
    """Return what the binding that a block is named after makes of the message in it."""
    head, _, dump = block.body.partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    content_type, address = headers.pop("content-type", ""), headers.pop("address", "")
    payload = message_of(dump) if dump else b""
    message = Message(payload, content_type, tuple(headers.items()), address)
    return load("bindings", block.language).decode(message)


MESSAGE_EXAMPLES = [
    pytest.param(blocks, id=f"{page.stem}-{name}")
    for page in PAGES
    for name, blocks in examples_of(page).items()
    if blocks[0].role == "message"
]


@pytest.mark.parametrize("blocks", MESSAGE_EXAMPLES)
def test_an_example_of_a_message_is_what_its_binding_makes_of_it(blocks):
    message, outcome = blocks
    if outcome.role.startswith("refused"):
        with pytest.raises(CloudEventError) as refusal:
            decode_message(message)
        assert outcome.role == f"refused {refusal.value.reason}"
        return
    shown = json.loads(outcome.body)
    expected = shown if isinstance(shown, list) else [shown]
    for event, members in zip(decode_message(message), expected, strict=True):
        check_event(members_of(WireEvent.of(event)), members)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_has_a_request_and_says_what_becomes_of_it(page):
    for name, blocks in examples_of(page).items():
        roles = [block.role.partition(" ")[0].rstrip(",") for block in blocks]
        assert roles[0] in {"request", "message"}, name
        assert set(roles) & {"event", "events", "refused"}, name
