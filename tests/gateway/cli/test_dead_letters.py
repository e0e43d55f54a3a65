"""`ce-gateway dead-letters` as a user calls it, against a real listener and a real store."""

import asyncio
import base64
import json
import os
import pty
import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from bindings.binding import Message
from bindings.json_format import encode_event
from gateway.admin import AdminServer
from gateway.cli.dead_letters.display import block, table
from gateway.config.records import Address
from gateway.dead_letters import (
    FOLDER,
    DeadLetter,
    DeadLetters,
    Filter,
    IntakeReplayer,
    Replay,
    utc_text,
)
from gateway.dead_letters.connection import FILE, LOCK
from gateway.dead_letters.letter import as_json
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.metrics import Metrics
from tests.gateway.cli.processes import ce_gateway
from tests.helpers import RecordingIntake, make_event

NOW = datetime.now(UTC)
REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="it said no")


def letter(number, *, hours=0, **changes):
    event = make_event(number, data=b'{"celsius":21.5}', datacontenttype="application/json")
    time = utc_text(NOW - timedelta(hours=hours))
    known = {"route": "orders", "source": "web", "sink": "out", "reason": "sink_refused"}
    times = {"first_time": time, "last_time": time}
    return DeadLetter(**{**known, **times, "event": encode_event(event), **changes})


def raw(**changes):
    message = Message(b"\xff\x1b[2J", "text/plain", [("a", "b")], "plant/\x1b/1")
    return letter(0, event=None, message=message, protocol="mqtt", reason="not_an_event", **changes)


class Gateway:
    """An administration listener with dead letters, and nothing else of a gateway."""

    unready = ""

    def __init__(self, state):
        self.logs = {}
        self.state = state
        self.metrics = Metrics()
        self.dead_letters = DeadLetters(state / FOLDER, max_bytes=8 << 20)
        self.intake = RecordingIntake()
        self.replay = Replay(self.dead_letters, IntakeReplayer({"orders": self.intake}.get))
        self.token = None

    def status(self):
        return {}

    async def open(self):
        self.dead_letters.open()
        self.server = AdminServer(self, Address("127.0.0.1", 0), self.token)
        await self.server.open()
        self.url = f"http://{self.server.address}"

    async def close(self):
        await self.server.close()
        await self.replay.close()
        self.dead_letters.close()

    async def put(self, *letters):
        stored = asyncio.get_running_loop().create_future()
        self.dead_letters.put(letters, stored.set_result)
        assert await stored is None

    async def ids(self):
        return [one.id for one in (await self.dead_letters.page(Filter())).letters][::-1]

    async def __call__(self, *arguments, **environ):
        """Run a command against it; returns exit code, stdout and stderr."""
        return await call(*arguments, "--url", self.url, **environ)


async def call(*arguments, **environ):
    async with ce_gateway("dead-letters", *arguments, **environ) as process:
        stdout, stderr = await process.communicate()
        return process.returncode, stdout.decode(), stderr.decode()


@pytest.fixture
async def gateway(tmp_path):
    gateway = Gateway(tmp_path)
    await gateway.open()
    yield gateway
    await gateway.close()


async def test_list_shows_the_newest_first_and_says_that_there_are_more(gateway):
    await gateway.put(letter(1), letter(2, status=422, attempts=3), raw(route=""))
    code, out, err = await gateway("list", "--limit", "2")
    assert code == 0
    heading, first, second = out.splitlines()
    assert heading.split()[:3] == ["ID", "LAST", "TIME"]
    assert re.match(r"3 .* - .*not_an_event .*\(no event\) +mqtt:plant/\\u001b/1$", first)
    assert re.match(r"2 .* orders +out +sink_refused 422 +3 +com.example.test +/devices/", second)
    assert "there are more" in err


async def test_list_takes_filters_and_prints_json_lines(gateway):
    await gateway.put(letter(1, hours=3), letter(2), letter(3, route="other"))
    code, out, err = await gateway("list", "--since", "PT1H", "--route", "orders", "--json")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert json.loads(line)["event_id"] == "2"
    assert "celsius" not in out
    assert (await gateway("list", "--route", "nope"))[1:] == ("", "no dead letters\n")


@pytest.mark.parametrize("command", [("list",), ("purge",), ("replay",)])
async def test_a_reason_that_nothing_has_is_told_with_those_that_there_are(gateway, command):
    await gateway.put(letter(1), letter(2), raw())
    _, _, err = await gateway(*command, "--reason", "invalid_event")
    assert err == (
        "no dead letters with the reason invalid_event; there are not_an_event, sink_refused\n"
    )
    _, _, err = await gateway(*command, "--reason", "sink_refused", "--route", "nope")
    assert "with the reason" not in err
    assert await gateway.ids() == [1, 2, 3]


async def test_show_prints_everything_and_nothing_that_moves_the_cursor(gateway):
    await gateway.put(letter(1, detail="it said no\x1b[2J"), raw())
    code, out, _ = await gateway("show", "1")
    assert code == 0
    assert re.search(r"^detail +it said no\\u001b\[2J$", out, re.MULTILINE)
    assert '"celsius": 21.5' in out
    _, out, _ = await gateway("show", "2")
    assert "payload_base64  /xtbMko=" in out
    assert "\x1b" not in out
    _, out, _ = await gateway("show", "1", "--json")
    assert json.loads(out)["event"]["data"] == {"celsius": 21.5}
    assert await gateway("show", "9") == (1, "", "there is no dead letter 9\n")


async def test_export_prints_all_of_it_the_oldest_first(gateway):
    await gateway.put(*(letter(n) for n in range(250)))
    code, out, _ = await gateway("export", "--reason", "sink_refused")
    assert code == 0
    assert [json.loads(line)["event"]["id"] for line in out.splitlines()] == [
        str(n) for n in range(250)
    ]


async def test_replay_delivers_deletes_and_says_so(gateway):
    await gateway.put(letter(1), letter(2), letter(3))
    assert await gateway("replay", "3", "1") == (
        0,
        "2 of 2 dead letters have arrived or are in the spool\n",
        "",
    )
    assert [event.id for event in gateway.intake.events] == ["1", "3"]
    assert await gateway.ids() == [2]


async def test_replay_says_what_did_not_arrive_and_fails(gateway):
    gateway.intake.answer = lambda one: REFUSED if one.events[0].id == "2" else ACCEPTED
    await gateway.put(letter(1), letter(2), letter(3, route="gone"), letter(4, hours=2))
    code, out, err = await gateway("replay", "--since", "PT1H")
    assert code == 1
    assert out == (
        "1 of 3 dead letters have arrived or are in the spool; 1 was refused again; "
        "1 could not be delivered\n"
    )
    assert "2: sink_refused: it said no\n" in err
    assert "3: invalid: there is no route of that name any more\n" in err
    assert await gateway.ids() == [2, 3, 4]
    code, out, _ = await gateway("replay", "2", "--json")
    assert (code, json.loads(out)["outcome"]) == (1, "rejected")


async def test_what_the_dead_letter_sink_takes_again_has_not_arrived(gateway):
    again = Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED)
    gateway.intake.answer = lambda one: ACCEPTED if one.events[0].id == "1" else again
    await gateway.put(letter(1), letter(2), letter(3))
    code, out, err = await gateway("replay")
    assert code == 1
    assert out == ("1 of 3 dead letters have arrived or are in the spool; 2 were refused again\n")
    assert "2: dead_lettered: refused again; the route's dead-letter sink has it" in err
    assert "3: dead_lettered: " in err


async def test_a_refusal_can_not_move_the_cursor(gateway):
    rude = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="no\x1b[2J")
    gateway.intake.answer = lambda _: rude
    await gateway.put(letter(1))
    _, _, err = await gateway("replay")
    assert "1: sink_refused: no\\u001b[2J\n" in err


async def test_replay_of_what_is_not_there_fails(gateway):
    code, out, err = await gateway("replay", "5")
    assert (code, out) == (1, "0 of 1 dead letters have arrived or are in the spool\n")
    assert "1 not tried" in err
    assert (await gateway("replay"))[0] == 0  # nothing is wanted, and nothing is left


async def test_replay_stops_when_the_sink_is_down(gateway):
    down = Settlement(Outcome.RELEASED, Reason.SINK_DOWN, detail="refused")
    gateway.intake.answer = lambda _: down
    await gateway.put(*(letter(n) for n in range(30)))
    code, _, err = await gateway("replay", "--rate", "100")
    assert code == 1
    assert "20 not tried: a sink is down" in err
    assert len(gateway.intake.events) == 10


async def test_a_terminal_gets_a_progress_bar(gateway):
    await gateway.put(letter(1), letter(2))
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *("python", "-m", "gateway", "dead-letters", "replay", "--url", gateway.url),
            executable=os.sys.executable,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=theirs,
        )
        assert await process.wait() == 0
        assert b"replaying" in os.read(ours, 65536)
        process._transport.close()
    finally:
        os.close(ours)
        os.close(theirs)


async def test_purge_by_id_and_by_filter_asks_nothing(gateway):
    await gateway.put(*(letter(n, hours=n) for n in range(6)))
    assert await gateway("purge", "1", "2") == (0, "2 dead letters deleted\n", "")
    assert (await gateway("purge", "--until", "PT4H", "--json"))[1] == '{"count": 2}\n'
    assert await gateway.ids() == [3, 4]
    code, _, err = await gateway("purge", "3", "99")
    assert (code, err) == (1, "1 of them were not there\n")


async def test_purge_of_everything_asks_first(gateway):
    await gateway.put(letter(1), letter(2))
    code, out, err = await gateway("purge")  # nobody answers
    assert (code, out.strip()) == (1, "")
    assert "Delete all 2 dead letters? [y/N]" in err
    assert await gateway.ids() == [1, 2]
    assert await gateway("purge", "--yes") == (0, "2 dead letters deleted\n", "")


async def test_what_changes_something_brings_the_token(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.token = SecretStr("s3cret")
    await gateway.open()
    try:
        await gateway.put(letter(1))
        code, _, err = await gateway("purge", "1")
        assert (code, "401" in err) == (1, True)
        assert (await gateway("replay", "1"))[0] == 1
        assert (await gateway("list"))[0] == 0
        assert (await gateway("purge", "1", "--token", "wrong"))[0] == 1
        assert (await gateway("purge", "1", CE_GATEWAY_ADMIN_TOKEN="s3cret"))[0] == 0
    finally:
        await gateway.close()


async def test_a_stopped_gateways_letters_are_in_its_state_folder(gateway):
    await gateway.put(letter(1), letter(2), raw())
    state = ("--state", str(gateway.state))
    code, _, err = await call("list", *state)
    assert code == 1
    assert "in use by process" in err
    assert "--url" in err
    gateway.dead_letters.close()
    assert [
        json.loads(line)["id"] for line in (await call("list", *state, "--json"))[1].splitlines()
    ] == [3, 2, 1]
    assert '"celsius": 21.5' in (await call("show", "1", *state))[1]
    assert len((await call("export", *state))[1].splitlines()) == 3
    assert await call("purge", "1", "3", *state) == (0, "2 dead letters deleted\n", "")
    assert (await call("purge", *state, "--yes"))[1] == "1 dead letters deleted\n"


@pytest.mark.parametrize("command", [("list",), ("show", "1"), ("export",), ("purge", "--yes")])
async def test_a_command_leaves_a_damaged_database_as_it_is(tmp_path, command):
    file = tmp_path / FOLDER / FILE
    file.parent.mkdir()
    file.write_bytes(b"no database " * 1000)
    code, out, err = await call(*command, "--state", str(tmp_path))
    assert (code, out) == (1, "")
    assert f"{file} is damaged" in err
    assert len(err.splitlines()) == 1
    assert file.read_bytes() == b"no database " * 1000
    assert {one.name for one in file.parent.iterdir()} <= {FILE, LOCK}


async def test_what_is_not_there_is_a_failure(tmp_path):
    code, _, err = await call("list", "--state", str(tmp_path))
    assert (code, "there are no dead letters in" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
    code, _, err = await call("list", "--url", "http://127.0.0.1:1")
    assert (code, "can't reach the dead letters at http://127.0.0.1:1: " in err) == (1, True)
    assert "--url" in err
    assert "--state" in err


async def test_a_gateway_that_keeps_none_says_how_to(gateway):
    kept, gateway.dead_letters = gateway.dead_letters, None
    try:
        code, _, err = await gateway("show", "1")
        assert code == 1
        assert "delivery.dead_letters" in err
    finally:
        gateway.dead_letters = kept


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--since", "yesterday"),
        ("purge", "1", "--route", "r"),
        ("list", "--url", "http://x", "--state", "y"),
        ("show",),
        ("replay", "--state", "x"),
    ],
)
async def test_wrong_usage_is_told(arguments):
    code, _, err = await call(*arguments)
    assert code == 2
    assert "Error" in err


@pytest.mark.parametrize("name", ["list", "show", "replay", "purge", "export"])
async def test_every_command_has_help_with_an_example(name):
    code, out, _ = await call(name, "--help")
    assert code == 0
    assert f"\n    ce-gateway dead-letters {name}" in out


def test_columns_are_as_wide_as_what_is_in_them():
    one = {
        "id": 1, "last_time": "2026-03-01T12:00:00.000000Z", "route": "", "sink": "",
        "reason": "timeout", "status": None, "attempts": 11, "replays": 2, "event_type": "t",
        "event_source": "/s",
    }  # fmt: skip
    assert table([one, {**one, "id": 1000}]) == [
        "ID    LAST TIME             ROUTE  SINK  REASON   TRIES  TYPE  FROM",
        "1     2026-03-01T12:00:00Z  -      -     timeout  11+2   t     /s",
        "1000  2026-03-01T12:00:00Z  -      -     timeout  11+2   t     /s",
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b'{"error":"no field \x1b"}', r'error_text  {"error":"no field \u001b"}'),
        ("zu groß".encode()[:-1], "error_text  zu gro"),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_what_the_sink_said_is_shown_as_text_if_it_is_one(said, shown):
    lines = block(as_json(letter(1, error_data=base64.b64encode(said).decode()))).splitlines()
    assert [line for line in lines if line.startswith("error_text")] == ([shown] if shown else [])


def test_what_can_not_be_parsed_is_shown_as_it_is():
    assert block(b"[" * 100_000).startswith("[[[")
