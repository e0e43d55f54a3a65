"""`ce-gateway spool` as a user calls it, beside spools that are in use."""

import asyncio
import json
import os
import re

import pytest
from typer.testing import CliRunner

from bindings.event import Event
from bindings.json_format import decode_event
from gateway.__main__ import app
from gateway.spool import Spool, files
from gateway.stored_event import encode

NOON = 1_700_049_600  # 2023-11-15T12:00:00Z


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
async def fill(state):
    """Store records in a lane's spool, which stays open."""
    spools = []

    async def fill(route, sink, *records):
        spool = Spool(state / "spool" / route / sink, max_bytes=1 << 20, min_free_share=0.0)
        spools.append(spool)
        spool.open()
        stored = asyncio.Event()
        spool.append(records, lambda *_: stored.set())
        await stored.wait()
        os.utime(segment_of(spool), (NOON, NOON))
        return spool

    yield fill
    for spool in spools:
        spool.close()


def segment_of(spool):
    return spool.folder / files.segment_name(1)


def show(*arguments):
    return CliRunner().invoke(app, ["spool", "show", *map(str, arguments)])


def event(number, **attributes):
    return Event(id=str(number), source="/plant", type="reading", **attributes)


async def test_each_spool_is_a_line(fill, state):
    orders = await fill("orders", "kafka", *[bytes(100)] * 3)
    readings = await fill("readings", "out", b"x")
    orders.done([2])
    orders.close()
    readings.done([1])
    readings.close()
    result = show("--state", state)
    assert result.exit_code == 0
    assert result.stdout == (
        "ROUTE     SINK   PENDING  BYTES  LAST WRITE            DAMAGED\n"
        "orders    kafka  2        376    2023-11-15T12:00:00Z  0\n"
        "readings  out    0        37     -                     0\n"
    )
    assert result.stderr == ""


async def test_the_spools_of_every_worker_are_shown_with_its_number(fill, state):
    (await fill("orders", "out", b"x")).close()
    (state / "spool").rename(state / "first")
    (await fill("orders", "out", b"y", b"z")).close()
    (state / "worker-2").mkdir()
    (state / "spool").rename(state / "worker-2" / "spool")
    (state / "first").rename(state / "spool")
    lines = show("--state", state).stdout.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["WORKER", "ROUTE", "SINK", "PENDING"],
        ["0", "orders", "out", "1"],
        ["2", "orders", "out", "2"],
    ]
    found = show("--state", state, "--json").stdout.splitlines()
    assert [json.loads(line)["worker"] for line in found] == [0, 2]


async def test_json_is_an_object_per_spool_and_line(fill, state):
    await fill("orders", "kafka", *[bytes(100)] * 3)
    await fill("orders", "out", b"x")
    result = show("--state", state, "--json", "--sink", "kafka")
    assert json.loads(result.stdout) == {
        "route": "orders",
        "sink": "kafka",
        "pending": 3,
        "bytes": 376,
        "last_write": "2023-11-15T12:00:00Z",
        "has_route": None,
        "worker": 0,
        "damaged": [],
    }


async def test_nothing_is_changed(fill, state):
    spool = await fill("orders", "kafka", b"x")
    before = {path: path.read_bytes() for path in spool.folder.iterdir()}
    show("--state", state)
    assert {path: path.read_bytes() for path in spool.folder.iterdir()} == before


async def test_a_configuration_says_where_the_state_is(fill, state, tmp_path):
    await fill("orders", "kafka", b"x")
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "sources: {web: {protocol: http, listen: 127.0.0.1:0}}\n"
        "sinks: {out: {protocol: log}}\nroutes: [{to: [out]}]\n"
        f"state: {{path: {state}}}\n"
    )
    result = show(file)
    assert (result.exit_code, result.stdout.count("orders")) == (0, 1)


async def test_without_either_it_looks_where_a_gateway_does(fill, state, monkeypatch):
    await fill("orders", "kafka", b"x")
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert "orders" in show().stdout


async def test_damaged_places_are_named(fill, state):
    spool = await fill("orders", "kafka", *[bytes(100)] * 3)
    spool.close()
    content = bytearray(segment_of(spool).read_bytes())
    content[50] ^= 1
    segment_of(spool).write_bytes(content)
    result = show("--state", state)
    assert result.exit_code == 0
    assert re.search(r"^orders +kafka +2 .* 1$", result.stdout, re.MULTILINE)
    assert result.stderr == f"{segment_of(spool)} is damaged: 1 records lost in 120 bytes at 16\n"
    (place,) = json.loads(show("--state", state, "--json").stdout)["damaged"]
    assert place == {"segment": segment_of(spool).name, "offset": 16, "size": 120, "records": 1}


async def test_what_a_crash_left_is_no_damage(fill, state):
    spool = await fill("orders", "kafka", *[bytes(100)] * 3)
    spool.close()
    with segment_of(spool).open("ab") as segment:
        segment.write(b"torn")
    result = show("--state", state)
    assert re.search(r"^orders +kafka +3 .* 0$", result.stdout, re.MULTILINE)
    assert result.stderr == (
        f"{segment_of(spool)} ends in the middle of a record, as after a crash: "
        "4 bytes at 376 are left out\n"
    )


async def test_pending_events_are_printed(fill, state):
    events = [
        event(1, data=b"hot", datacontenttype="text/plain"),
        event(2, data=b"\x00\xff"),
        event(3),
    ]
    spool = await fill("orders", "kafka", *(encode(one, "web") for one in events))
    spool.done([3])
    spool.close()
    lines = show("--state", state, "--events", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [(one["sequence"], one["from"]) for one in found] == [(1, "web"), (2, "web")]
    assert [decode_event(json.dumps(one["event"]).encode()) for one in found] == events[:2]
    text = show("--state", state, "--events").stdout
    assert "route orders, sink kafka, sequence 1, from web\n" in text
    assert "\nhot\n" in text


async def test_an_event_that_came_in_several_lines_is_one_line_of_json(fill, state):
    pretty = (
        b'{"specversion":"1.0",\r\n"id":"1","source":"/p","type":"t","data":\n1'
        + b"0" * 5000
        + b"}"
    )
    await fill("orders", "kafka", encode(decode_event(pretty), "web"))
    result = show("--state", state, "--events", "--json")
    assert len(result.stdout.splitlines()) == 1
    assert b"0" * 5000 in result.stdout_bytes
    assert "0" * 5000 in show("--state", state, "--events").stdout


async def test_what_a_device_sent_does_not_move_the_cursor_of_a_terminal(fill, state):
    await fill(
        "orders", "kafka", encode(event(1, data=b"\x1b[2J", datacontenttype="text/plain"), "web")
    )
    shown = show("--state", state, "--events").stdout
    assert "\\u001b[2J" in shown
    assert "\x1b" not in shown


async def test_a_record_that_is_no_event_fails_and_the_others_are_printed(fill, state):
    await fill("orders", "kafka", b"\x09later", encode(event(2), "web"))
    result = show("--state", state, "--events", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["sequence"] == 2
    assert "record 1: record of unknown form 9" in result.stderr


async def test_no_spools_are_said(fill, state):
    result = show("--state", state)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"no spools in {state / 'spool'}\n"


async def test_a_choice_that_no_spool_meets_fails(fill, state):
    await fill("orders", "kafka", b"x")
    for options, text in [
        (("--route", "other"), "route other"),
        (("--sink", "nope"), "sink nope"),
        (("--route", "orders", "--sink", "nope"), "route orders and sink nope"),
    ]:
        result = show("--state", state, *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"no spool of {text} in {state / 'spool'}\n"


ROUTES = """
routes:
- {name: orders, to: [kafka]}
- {to: [kafka, log]}
- {name: route-2, to: [log]}
- {to: [log]}
"""


async def test_what_has_no_route_in_the_configuration_is_noted(fill, state, tmp_path):
    lanes = [("orders", "kafka"), ("orders", "log"), ("route-1", "log"), ("route-2", "kafka")]
    lanes += [("route-3", "log"), ("route-4", "log")]
    for lane in lanes:
        await fill(*lane, b"x")
    file = tmp_path / "gateway.yaml"
    file.write_text(f"state: {{path: {state}}}\n{ROUTES}")
    head, *rows = show(file).stdout.splitlines()
    assert head.endswith("  DAMAGED  NOTE")
    noted = [tuple(row.split()[:2]) for row in rows if row.endswith("0        no such route")]
    assert noted == [("orders", "log"), ("route-2", "kafka"), ("route-4", "log")]
    shown = show(file, "--json").stdout.splitlines()
    assert [json.loads(line)["has_route"] for line in shown] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]
    assert "NOTE" not in show("--state", state).stdout
    assert "NOTE" not in show(file, "--sink", "log", "--route", "route-1").stdout


async def test_what_the_gateway_is_started_with_need_not_be_there(fill, state, tmp_path):
    await fill("orders", "kafka", b"x")
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "sinks: {kafka: {protocol: http, url: '${SINK_URL}', password: '${file:/none}'}}\n"
        f"routes: [{{name: orders, to: [kafka]}}]\nstate: {{path: {state}}}\n"
    )
    result = show(file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "orders  kafka  1" in result.stdout


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sinks: {a: {url: '${SINK_URL}'}}\nstate: {path: '${THE_STATE}'}", "2:15: state.path: "),
        ("state: {path: [a]}", "1:15: state.path: expected a folder"),
        ("state: a", "1:8: state: expected a table"),
        ("a", "1:1: expected a table"),
        ("{", "no YAML"),
    ],
)
def test_a_file_that_does_not_say_where_the_state_is_fails(tmp_path, text, line):
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    result = show(file)
    assert (result.exit_code, result.stdout) == (78, "")
    assert line in result.stderr
    assert "SINK_URL" not in result.stderr


async def test_a_newer_format_fails(fill, state):
    spool = await fill("orders", "kafka", b"x")
    spool.close()
    segment_of(spool).write_bytes(files.head(files.SEGMENT_MAGIC, files.VERSION + 1))
    result = show("--state", state)
    assert result.exit_code == 1
    assert "of a newer gateway" in result.stderr


def test_wrong_usage_and_wrong_configuration_have_their_exit_codes(tmp_path):
    assert show("gateway.yaml", "--state", tmp_path).exit_code == 2
    assert show("--stat", tmp_path).exit_code == 2
    result = show(tmp_path / "none.yaml")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "none.yaml" in result.stderr


def test_its_help_has_an_example():
    result = CliRunner().invoke(app, ["spool", "show", "--help"], prog_name="ce-gateway")
    assert "\n    ce-gateway spool show --state /var/lib/ce-gateway --json" in result.output
