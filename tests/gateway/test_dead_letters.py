"""Dead letters on a real SQLite: durability, room, damage, upgrade, filters, replay."""

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.json_format import decode_event, encode_event
from gateway.dead_letters import DeadLetter, DeadLetters, Filter, event_of, utc_text
from gateway.dead_letters.connection import FILE, LOCK
from gateway.dead_letters.database import STEP_ROWS, Database
from gateway.dead_letters.letter import as_json
from gateway.dead_letters.query import parse_moment
from gateway.dead_letters.replay import IntakeReplayer, Replay
from gateway.dead_letters.schema import APPLICATION_ID, STEPS, migrate, version_of
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.spool import Disk, StoreError
from tests.helpers import RecordingIntake, examples, make_event

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
PRETTY = b'{\n"specversion": "1.0", "id": "9", "source": "/s", "type": "t", "data": 1.10}'
RAW = Message(
    b"\xff\x00", "text/plain", [("\udcffname", "v"), ("\udcffname", "w")], "plant/\udcfe/temp"
)


def minute(number):
    return utc_text(datetime(2026, 3, 1, 12, number, tzinfo=UTC))


def letter(number=1, **changes):
    event = encode_event(make_event(number, data=b'{"n": 1}', datacontenttype="application/json"))
    return DeadLetter(
        **{
            "route": "r",
            "source": "web",
            "sink": "out",
            "event": event,
            "reason": "sink_refused",
            "first_time": minute(0),
            "last_time": minute(1),
            **changes,
        }
    )


def raw(**changes):
    return letter(event=None, message=RAW, protocol="mqtt", sink="", route="", **changes)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "dead-letters"


@pytest.fixture
async def store(folder):
    store = DeadLetters(folder, max_bytes=8 * MIB)
    store.open()
    yield store
    store.close()


async def put(store, *letters):
    """Put letters as one list and wait; raises what `on_stored` was told."""
    answered = asyncio.get_running_loop().create_future()
    store.put(letters, answered.set_result)
    error = await answered
    if error is not None:
        raise error


async def everything(store, wanted=None):
    return [one async for some in store.export(wanted or Filter()) for one in some]


def damage(folder, offset, what=b"\xa5" * 64):
    with (folder / FILE).open("r+b") as file:
        file.seek(offset)
        file.write(what)


# What is kept


async def test_an_event_is_kept_to_the_byte_with_all_that_is_known_of_it(store):
    full = letter(
        event=PRETTY,
        sequence=7,
        detail="it said no",
        status=422,
        attempts=11,
        error_dest="http://sink/",
        error_code=422,
        error_data="bm8=",
    )
    await put(store, full)
    shown = await store.show(1)
    assert shown.event == PRETTY
    assert {name: getattr(shown, name) for name in full.__struct_fields__ if name != "id"} == {
        name: getattr(full, name) for name in full.__struct_fields__ if name != "id"
    }


async def test_a_message_that_is_no_event_is_kept_as_it_came(store):
    await put(store, raw(reason="not_an_event"))
    shown = await store.show(1)
    assert (shown.message, shown.protocol, shown.event) == (RAW, "mqtt", None)
    (summary,) = (await store.page()).letters
    assert (summary.address, summary.size) == ("plant/\\udcfe/temp", 2)


@pytest.mark.parametrize("payload", [None, b""])
async def test_no_payload_and_an_empty_one_are_told_apart(store, payload):
    await put(store, letter(event=None, message=Message(payload), protocol="kafka"))
    assert (await store.show(1)).message.payload == payload


def test_a_letter_has_an_event_or_a_message():
    with pytest.raises(ValueError, match="event or a message"):
        letter(message=RAW)
    with pytest.raises(ValueError, match="event or a message"):
        letter(event=None)


def test_the_json_form_is_one_line_with_the_event_as_it_stands():
    line = as_json(letter(event=PRETTY))
    assert b"\n" not in line
    assert b'"data": 1.10' in line
    assert json.loads(line)["event"]["id"] == "9"
    message = json.loads(as_json(raw()))["message"]
    assert message["payload_base64"] == "/wA="
    assert message["headers"][0] == ["\udcffname", "v"]
    assert json.loads(as_json(letter(event=b"\xff")))["event_base64"] == "/w=="


async def test_what_a_library_says_need_not_be_utf_8(store):
    await put(store, letter(detail="broken: \udcff"))
    assert (await store.show(1)).detail == "broken: \\udcff"


async def test_the_same_event_of_a_spool_is_stored_once(store):
    await put(store, letter(1, sequence=5))
    await put(store, letter(1, sequence=5, attempts=9), letter(2, sequence=6))
    await put(store, letter(1, sequence=5, sink="other"))
    await put(store, letter(3, sequence=5))  # the spool was deleted, and counts from 1 again
    await put(store, letter(1), letter(1))  # without a number all are stored
    assert len((await store.page()).letters) == 6
    assert (await store.show(1)).attempts == 0
    assert store.stored == {"r": 6}


async def test_a_row_that_is_wrong_is_no_silent_success(store, caplog):
    with pytest.raises(StoreError, match="can't be stored"):
        await put(store, letter(sequence=1, attempts=None))
    assert (await store.page()).letters == []
    assert "NOT NULL" in caplog.text


# Commits and the thread


async def test_answers_come_in_the_loops_thread_in_order_and_many_in_one_commit(store, folder):
    answers = []
    done = asyncio.Event()

    def answer(number):
        def on_stored(error):
            assert asyncio.get_running_loop()
            answers.append((number, error))
            if number == 999:
                done.set()

        return on_stored

    for number in range(1000):
        store.put([letter(number)], answer(number))
    await done.wait()
    assert answers == [(number, None) for number in range(1000)]
    assert store.stored == {"r": 1000}


async def test_one_that_raises_does_not_lose_the_others_their_answers(store):
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    answered = asyncio.Event()

    def broken(_):
        raise RuntimeError("a bug")

    store.put([letter(1)], broken)
    store.put([letter(2)], lambda _: answered.set())
    await answered.wait()
    assert len(errors) == 1


async def test_a_list_is_stored_whole_or_not_at_all_and_loses_its_neighbours_nothing(store):
    answers = []
    done = asyncio.Event()
    store.put([letter(1)], answers.append)
    store.put([letter(2), letter(3, attempts=None)], answers.append)
    store.put([letter(4)], lambda error: (answers.append(error), done.set()))
    await done.wait()
    assert [error is None for error in answers] == [True, False, True]
    assert [decode_event(one.event).id for one in await everything(store)] == ["1", "4"]


async def test_puts_and_questions_at_the_same_time(store):
    async def ask():
        for _ in range(30):
            await store.page(limit=5)
            await everything(store, Filter(route="r"))

    async def write(first):
        for number in range(first, first + 100):
            await put(store, letter(number))

    await asyncio.gather(write(0), write(100), write(200), ask(), ask())
    assert len(await everything(store)) == 300


async def test_close_stores_what_is_queued_and_gives_every_answer(folder):
    store = DeadLetters(folder, max_bytes=8 * MIB)
    store.open()
    answers = []
    for number in range(50):
        store.put([letter(number)], answers.append)
    asking = asyncio.ensure_future(store.page())
    await asyncio.sleep(0)
    store.close()
    assert answers == [None] * 50
    assert len((await asking).letters) == 50
    store.close()
    store.put([letter(1)], answers.append)
    await asyncio.sleep(0)
    assert isinstance(answers[-1], StoreError)
    with pytest.raises(StoreError, match="closed"):
        await store.page()
    assert not (folder / f"{FILE}-wal").exists()


async def test_the_database_syncs_every_commit_and_has_a_log(store, folder):
    # synchronous = FULL and journal_mode = WAL, as the connection itself says.
    await put(store, letter())
    assert (folder / f"{FILE}-wal").exists()
    connection = store._database._connection._connection

    def settings():
        return [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode")
        ]

    assert await store._ask(settings) == ["wal", 2, "exclusive"]


async def test_files_are_their_owners_only(store, folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


KILLED = """
import asyncio, os, sys
from pathlib import Path
from gateway.dead_letters import DeadLetters
from tests.gateway.test_dead_letters import letter

async def main():
    store = DeadLetters(Path(sys.argv[1]), max_bytes=8 << 20)
    store.open()
    count = 0
    def on_stored(error):
        assert error is None
        nonlocal count
        count += 1
        os.write(1, b"%d\\n" % number_of[count])
        store.put([letter(count + 16, sequence=count + 16)], on_stored)
    number_of = range(1 << 30)
    for number in range(1, 17):
        store.put([letter(number, sequence=number)], on_stored)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(folder):
    for life in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(folder), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        acknowledged = [int(await process.stdout.readline()) for _ in range(150 + 70 * life)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in (await process.stdout.read()).splitlines()]
        await process.wait()
        process._transport.close()
        store = DeadLetters(folder, max_bytes=8 * MIB)
        store.open()
        found = {one.sequence for one in await everything(store)}
        store.close()
        assert set(acknowledged) <= found
        # What was stored and not yet acknowledged came again with the same numbers: once each.
        assert len(found) == max(found)


# Room


async def fill(store):
    """Put letters until one does not fit; return how many did."""
    for count in range(2000):
        try:
            await put(store, letter(count, detail="x" * 4000))
        except StoreError as error:
            if not error.full:
                raise
            assert store.is_full
            return count
    raise AssertionError("it is never full")


async def test_a_full_store_takes_nothing_and_can_be_emptied_and_filled_again(folder, caplog):
    store = DeadLetters(folder, max_bytes=MIB)
    store.open()
    assert not store.is_full
    first = await fill(store)
    with pytest.raises(StoreError, match=r"^the dead letters can't be stored$") as refused:
        await put(store, letter(detail="x" * 4000))
    assert refused.value.full
    assert len([r for r in caplog.records if "full" in r.message]) == 1
    assert (await store.page(limit=1)).letters[0].id == first
    used = sum(file.stat().st_size for file in folder.iterdir())
    assert used <= MIB + 4096
    assert await store.purge(Filter()) == first
    assert not store.is_full
    assert store.bytes < MIB // 8  # and the disk has its room back
    assert await fill(store) > first * 0.9
    assert "stores again" in caplog.text
    # One by one as well.
    taken, _ = await store.take_for_replay(Filter(), after=0, until=1 << 40, limit=4)
    await store.mark_replayed([one.id for one in taken[:2]], [one.id for one in taken[2:]])
    await put(store, letter())
    store.close()


async def test_less_room_than_before_still_opens(folder):
    store = DeadLetters(folder, max_bytes=2 * MIB)
    store.open()
    count = await fill(store)
    store.close()
    store = DeadLetters(folder, max_bytes=MIB)
    store.open()
    with pytest.raises(StoreError, match="can't be stored"):
        await put(store, letter(detail="x" * 4000))
    assert await store.purge(Filter()) == count
    await put(store, letter())
    store.close()


async def test_a_disk_that_fails_loses_nothing_and_is_used_again_when_it_works(store, folder):
    """The system refuses to let files grow (EFBIG), which SQLite reports as an I/O error."""
    await put(store, letter(1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, ((folder / f"{FILE}-wal").stat().st_size + 5000, hard)
    )
    try:
        for number in (2, 3):
            with pytest.raises(StoreError) as failed:
                await put(store, letter(number, detail="x" * 50_000))
            assert not failed.value.full
            assert store.is_full
        assert [decode_event(one.event).id for one in await everything(store)] == ["1"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await put(store, letter(4))
    assert [decode_event(one.event).id for one in await everything(store)] == ["1", "4"]
    assert store.stored == {"r": 2}
    assert not store.is_full


class NearlyFull(Disk):
    def free(self, folder):
        return 6_250_496, 1 << 30


async def test_a_disk_that_is_nearly_full_is_told_to_the_operator_and_not_to_the_sender(
    folder, caplog
):
    store = DeadLetters(folder, max_bytes=64 * MIB, disk=NearlyFull())
    store.open()
    one = letter()
    with pytest.raises(StoreError, match=r"^the dead letters can't be stored$"):
        await put(store, one)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{folder}: dead letters can't be stored; their events stay with the sender or in the"
        " spool: the disk has only 6250496 bytes free, and 8388608 must stay free beside the"
        f" {one.size} to be stored"
    )
    metrics = Metrics()
    metrics.dead_letters = store
    assert b"\nce_gateway_dead_letters_full 1.0\n" in metrics.exposition()
    store.close()


async def test_what_they_take_is_everything_that_is_in_the_folder(store, folder):
    await put(store, *(letter(n) for n in range(100)))
    files = [file for file in folder.iterdir() if file.name != LOCK]
    assert {file.name for file in files} == {FILE, f"{FILE}-wal"}
    assert store.bytes == sum(file.stat().st_size for file in files)


# One process, versions, damage


async def test_two_never_open_one_folder(store, folder):
    second = DeadLetters(folder, max_bytes=MIB)
    with pytest.raises(GatewayError, match=f"in use by process {os.getpid()}"):
        second.open()
    shell = sqlite3.connect(folder / FILE, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        shell.execute("SELECT count(*) FROM letters")
    shell.close()
    await put(store, letter())


async def test_a_folder_that_cannot_be_made_is_a_gateway_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GatewayError, match="can't be used"):
        DeadLetters(tmp_path / "file" / "x", max_bytes=MIB).open()


def make(folder, *letters):
    database = Database(folder, max_bytes=8 * MIB)
    database.open()
    if letters:
        database.insert(letters)
    database.close()


async def test_a_newer_format_is_refused_in_one_sentence_and_left_alone(folder):
    make(folder, letter())
    with sqlite3.connect(folder / FILE) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    before = (folder / FILE).read_bytes()
    with pytest.raises(GatewayError, match=r"format 99 of a newer gateway.*up to 1") as refused:
        DeadLetters(folder, max_bytes=MIB).open()
    assert "\n" not in str(refused.value)
    assert (folder / FILE).read_bytes() == before
    assert sorted(file.name for file in folder.iterdir()) == [FILE, LOCK]


def test_an_older_format_is_brought_up_step_by_step(folder):
    make(folder, letter())
    steps = [
        *STEPS,
        ["ALTER TABLE letters ADD COLUMN colour TEXT", "UPDATE letters SET colour = 'red'"],
        ["CREATE TABLE more (x) STRICT"],
    ]
    connection = sqlite3.connect(folder / FILE, isolation_level=None)
    # The last step fails: what was before it stays, and nothing half done does.
    with pytest.raises(sqlite3.Error):
        migrate(connection, version_of(connection, folder / FILE, len(steps)), steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    steps[2] = ["CREATE TABLE more (x TEXT) STRICT"]
    migrate(connection, version_of(connection, folder / FILE, len(steps)), steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("SELECT colour FROM letters").fetchall() == [("red",)]
    connection.close()


def aside(folder):
    return [file for file in folder.iterdir() if ".damaged-" in file.name]


@pytest.mark.parametrize(
    "how",
    ["head", "no database", "foreign", "schema", "column", "root", "short"],
)
async def test_a_damaged_database_is_moved_aside_and_a_new_one_begun(folder, how, caplog):
    make(folder, *(letter(n, detail="x" * 500) for n in range(100)))
    file = folder / FILE
    if how == "head":
        damage(folder, 0, b"\0" * 100)
    elif how == "no database":
        file.write_bytes(b"hello" * 5000)
    elif how == "foreign":
        file.unlink()
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE letters (id)")
        other.close()
    elif how == "schema":
        with sqlite3.connect(file) as other:
            other.execute("ALTER TABLE letters DROP COLUMN payload")
        other.close()
    elif how == "column":  # a bit has flipped in its name; only lists and new letters use it
        with sqlite3.connect(file) as other:
            other.execute("ALTER TABLE letters RENAME COLUMN event_type TO event_uype")
        other.close()
    elif how == "root":
        with sqlite3.connect(file) as other:
            (page,) = other.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'letters'"
            ).fetchone()
        other.close()
        damage(folder, (page - 1) * 4096)
    else:
        os.truncate(file, 4096)
    damaged = file.read_bytes()
    store = DeadLetters(folder, max_bytes=8 * MIB)
    store.open()
    await put(store, letter(7))
    assert [one.id for one in await everything(store)] == [1]
    (moved,) = aside(folder)
    assert re.fullmatch(rf"{FILE}\.damaged-\d{{8}}T\d{{6}}Z", moved.name)
    assert moved.read_bytes() == damaged
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
    store.close()


@pytest.mark.parametrize("how", ["no database", "foreign", "page"])
async def test_who_only_looks_leaves_a_damaged_database_and_its_log_as_they_are(
    tmp_path, folder, how, caplog
):
    running = tmp_path / "running"
    make(running, *(letter(n) for n in range(3000)))  # more than the log has pages of
    database = Database(running, max_bytes=8 * MIB)
    database.open()
    database.insert([letter(200)])
    shutil.copytree(running, folder)  # as `kill -9` leaves it: with a log
    database.close()
    if how == "no database":
        (folder / FILE).write_bytes(b"hello" * 5000)
    elif how == "foreign":
        (folder / FILE).unlink()
        (folder / f"{FILE}-wal").unlink()
        with sqlite3.connect(folder / FILE) as other:
            other.execute("CREATE TABLE letters (id)")
        other.close()
    else:
        size = (folder / FILE).stat().st_size
        damage(folder, 4096, b"\xa5" * (size - 4096))
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != LOCK}
    store = DeadLetters(folder, max_bytes=MIB, replaces_damaged=False)
    with pytest.raises(GatewayError, match=r"is damaged .* and is left as it is; a gateway"):
        store.open()
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != LOCK}
    assert after == before
    assert not caplog.records


async def test_who_only_looks_leaves_damage_that_shows_later_as_it_is(folder):
    make(folder, *(letter(n, detail="x" * 3000) for n in range(1000)))
    store = DeadLetters(folder, max_bytes=8 * MIB, replaces_damaged=False)
    store.open()
    size = (folder / FILE).stat().st_size
    damage(folder, 64 * 4096, b"\xa5" * (size - 64 * 4096))
    before = (folder / FILE).read_bytes()
    with pytest.raises(StoreError, match="is left as it is"):
        await everything(store)
    store.close()
    assert (folder / FILE).read_bytes() == before
    assert aside(folder) == []


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [(18, 3, "readonly"), (19, 5, "not a database"), (47, 5, "unsupported file format")],
)
async def test_a_header_of_formats_that_sqlite_does_not_write_is_damage(
    folder, caplog, offset, value, why
):
    """SQLite, database file format, section 1.3: it only says "readonly" or "unsupported"."""
    make(folder, letter(1))
    damage(folder, offset, bytes([value]))
    store = DeadLetters(folder, max_bytes=MIB)
    store.open()
    await put(store, letter(5))
    assert [decode_event(one.event).id for one in await everything(store)] == ["5"]
    store.close()
    assert why in caplog.text
    assert len(aside(folder)) == 1


async def test_damage_that_shows_later_loses_no_letter_that_comes(folder, caplog):
    make(folder, *(letter(n, detail="x" * 3000) for n in range(1000)))
    store = DeadLetters(folder, max_bytes=8 * MIB)
    store.open()
    # Every page but the first few, under its feet.
    size = (folder / FILE).stat().st_size
    damage(folder, 64 * 4096, b"\xa5" * (size - 64 * 4096))
    with pytest.raises(StoreError, match="moved aside"):
        await everything(store)
    await put(store, letter(5))
    assert [decode_event(one.event).id for one in await everything(store)] == ["5"]
    assert len(aside(folder)) == 1
    assert store.stored == {"r": 1}
    store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a database with letters of both kinds."""
    folder = tmp_path_factory.mktemp("sound")
    make(folder, *(letter(n, sequence=n) for n in range(15)), *(raw() for _ in range(5)))
    return (folder / FILE).read_bytes()


@settings(max_examples=examples(100))
@given(place=st.integers(0, (1 << 24) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_keeps_it_from_opening_storing_or_showing(
    tmp_path_factory, sound, place, bit
):
    content = bytearray(sound)
    offset = place % len(content)
    assume(not 60 <= offset < 64)  # user_version may become a newer one's, which is refused
    content[offset] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flip")
    (folder / FILE).write_bytes(content)
    database = Database(folder, max_bytes=8 * MIB)
    database.open()
    database.insert([letter(99, sequence=99)])
    try:
        for one in database.letters(Filter(), 0, 1 << 40, 99)[0]:
            json.loads(as_json(one))
        database.summaries(Filter(), None, 99)
    except StoreError:
        pass
    database.close()


# Which letters

WORDS = st.sampled_from(["a", "b"])
MINUTES = st.integers(0, 3).map(minute)
FIELDS = st.fixed_dictionaries(
    {
        "route": WORDS,
        "source": WORDS,
        "sink": WORDS,
        "reason": WORDS,
        "last_time": MINUTES,
        "type": WORDS,
        "is_raw": st.booleans(),
    }
)
TERMS = {
    "ids": st.lists(st.integers(0, 14), max_size=6).map(tuple),
    "route": WORDS,
    "source": WORDS,
    "sink": WORDS,
    "reason": WORDS,
    "type": WORDS,
    "since": MINUTES,
    "until": MINUTES,
}
# With every term at once nothing would ever be found.
FILTERS = st.lists(st.sampled_from(sorted(TERMS)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: TERMS[name] for name in names})
)


def wants(wanted, number, fields):
    """Say what a filter means, in Python."""
    kind = None if fields["is_raw"] else fields["type"]
    return (
        ("ids" not in wanted or number in wanted["ids"])
        and all(
            wanted.get(k, fields[k]) == fields[k] for k in ("route", "source", "sink", "reason")
        )
        and ("type" not in wanted or wanted["type"] == kind)
        and wanted.get("since", "") <= fields["last_time"] < wanted.get("until", "~")
    )


def made(fields):
    fields = dict(fields)
    kind, is_raw = fields.pop("type"), fields.pop("is_raw")
    if is_raw:
        return letter(event=None, message=RAW, protocol="mqtt", **fields)
    return letter(event=encode_event(make_event(1, type=kind)), **fields)


@settings(max_examples=examples(50))
@given(st.lists(FIELDS, max_size=12), FILTERS, st.integers(1, 5))
def test_filters_mean_the_same_in_lists_counts_exports_and_purges(
    tmp_path_factory, fields, wanted, limit
):
    expected = [n for n, one in enumerate(fields, 1) if wants(wanted, n, one)]

    async def look():
        store = DeadLetters(tmp_path_factory.mktemp("f") / "x", max_bytes=MIB)
        store.open()
        if fields:
            await put(store, *map(made, fields))
        choice = Filter(**wanted)
        listed, cursor = [], None
        while True:
            page = await store.page(choice, limit=limit, cursor=cursor)
            assert len(page.letters) <= limit
            listed += [one.id for one in page.letters]
            cursor = page.cursor
            if cursor is None:
                break
        assert listed == expected[::-1]
        assert await store.count(choice) == len(expected)
        assert [one.id for one in await everything(store, choice)] == expected
        taken, _ = await store.take_for_replay(choice, after=0, until=99, limit=99)
        assert [one.id for one in taken] == expected
        assert await store.purge(choice) == len(expected)
        assert {one.id for one in await everything(store)} == set(range(1, len(fields) + 1)) - set(
            expected
        )
        assert sum(store.stored.values()) == len(fields) - len(expected)
        store.close()

    asyncio.run(look())


async def test_lists_longer_than_one_step_are_complete(store):
    count = STEP_ROWS * 2 + 10
    await put(store, *(letter(n, reason="few" if n % 1500 == 7 else "many") for n in range(count)))
    few = Filter(reason="few")
    assert [one.id for one in (await store.page(few)).letters] == [3008, 1508, 8]
    assert await store.count(few) == 3
    assert [one.id for one in await everything(store, few)] == [8, 1508, 3008]
    assert await store.purge(few) == 3
    assert await store.count(Filter()) == count - 3


async def test_what_comes_during_a_purge_stays(store):
    await put(store, *(letter(n) for n in range(2000)))
    purging = asyncio.ensure_future(store.purge(Filter()))
    while await store.count(Filter()) == 2000:  # it has not looked what there is
        pass
    count = 2000
    while count == 2000 or not purging.done():
        await put(store, letter(count))
        count += 1
    left = await everything(store)
    assert left
    assert purging.result() + len(left) == count
    assert purging.result() == 2000
    assert [decode_event(one.event).id for one in left][-1] == str(count - 1)


async def test_a_name_that_is_no_utf_8_is_nobodys(store):
    await put(store, letter())
    assert (await store.page(Filter(route="\udcff"))).letters == []


async def test_an_id_is_never_used_again(store):
    await put(store, letter(1), letter(2))
    await store.purge(Filter())
    await put(store, letter(3))
    assert [one.id for one in await everything(store)] == [3]


def test_moments_are_rfc_3339_or_durations_back():
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parse_moment("PT1H", now) == "2026-03-01T11:00:00.000000Z"
    assert parse_moment("2026-03-01T12:00:00+02:00", now) == "2026-03-01T10:00:00.000000Z"
    assert parse_moment("2026-03-01T12:00:00.5Z", now) == "2026-03-01T12:00:00.500000Z"
    for wrong in ("", "yesterday", "2026-03-01T12:00:00", "2026-03-01", "P1M", "P9999999W"):
        with pytest.raises(ValueError, match="is no moment"):
            parse_moment(wrong, now)


@given(st.datetimes(), st.datetimes(), st.integers(-720, 720))
def test_texts_of_moments_sort_as_moments_do(first, second, minutes):
    try:
        zone = timezone(timedelta(minutes=minutes))
        moments = [first.replace(tzinfo=zone), second.replace(tzinfo=UTC)]
        texts = [utc_text(moment) for moment in moments]
    except OverflowError:
        return
    assert (texts[0] < texts[1]) == (moments[0] < moments[1])


# Replay


def replay_of(store, intakes):
    return Replay(store, IntakeReplayer(intakes.get))


async def run(replay, wanted=None, rate=1e6):
    return [one async for some in replay.run(wanted or Filter(), rate) for one in some]


def test_a_replayed_event_keeps_its_id_and_loses_what_was_said_of_earlier_errors():
    event = make_event(
        5, extensions={"knativeerrordest": "http://x", "knativeerrorcode": 500, "other": "kept"}
    )
    again = event_of(letter(event=encode_event(event)))
    assert again == make_event(5, extensions={"other": "kept"})
    assert event_of(letter(event=PRETTY)).encoded == PRETTY


async def test_a_letter_goes_to_its_route_and_is_deleted_once_it_is_accepted(store):
    await put(store, letter(1, route="r"), letter(2, route="s"), letter(3, route="r"))
    intakes = {"r": RecordingIntake(), "s": RecordingIntake()}
    replay = replay_of(store, intakes)
    results = await run(replay)
    assert [(one.id, one.outcome) for one in results] == [(n, Outcome.ACCEPTED) for n in (1, 2, 3)]
    assert [event.id for event in intakes["r"].events] == ["1", "3"]
    assert [event.id for event in intakes["s"].events] == ["2"]
    assert await everything(store) == []
    assert store.replayed == {("r", "accepted"): 2, ("s", "accepted"): 1}
    await replay.close()


@pytest.mark.parametrize(
    ("settlement", "stays"),
    [
        (ACCEPTED, False),
        (Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED), False),
        (Settlement(Outcome.ACCEPTED, Reason.FILTERED), True),
        (Settlement(Outcome.REJECTED, Reason.SINK_REFUSED), True),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), True),
    ],
)
async def test_a_letter_stays_until_somebody_has_the_event(store, settlement, stays):
    await put(store, letter(1))
    await run(replay_of(store, {"r": RecordingIntake(lambda _: settlement)}))
    left = await everything(store)
    assert bool(left) is stays
    if stays:
        assert left[0].replays == 1
        assert left[0].replayed_at <= utc_text(datetime.now(UTC))


async def test_the_counter_tells_what_was_refused_again_from_what_arrived(store):
    await put(store, *(letter(n) for n in range(1, 5)))
    answers = {
        "1": ACCEPTED,
        "2": Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED),
        "3": Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="no"),
        "4": Settlement(Outcome.RELEASED, Reason.SINK_DOWN),
    }
    results = await run(
        replay_of(store, {"r": RecordingIntake(lambda one: answers[one.events[0].id])})
    )
    assert [one.has_arrived for one in results] == [True, False, False, False]
    assert results[1].detail.startswith("refused again")
    assert store.replayed == {
        ("r", "accepted"): 1, ("r", "dead_lettered"): 1, ("r", "rejected"): 1, ("r", "released"): 1
    }  # fmt: skip
    assert [one.id for one in await everything(store)] == [3, 4]


async def test_what_has_no_route_or_no_event_stays_with_the_reason(store):
    await put(store, letter(1, route="gone"), raw(), letter(3, event=b"[]"))
    results = await run(replay_of(store, {}))
    assert [one.outcome for one in results] == [Outcome.REJECTED] * 3
    assert [bool(one.detail) for one in results] == [True] * 3
    assert len(await everything(store)) == 3


async def test_it_stops_when_nothing_can_be_delivered_now(store):
    await put(store, *(letter(n) for n in range(30)))
    down = RecordingIntake(lambda _: Settlement(Outcome.RELEASED, Reason.SINK_DOWN))
    results = await run(replay_of(store, {"r": down}), rate=100)
    assert len(results) == 10
    assert len(await everything(store)) == 30


async def test_a_refusal_does_not_keep_the_others_from_it(store):
    await put(store, *(letter(n) for n in range(30)))
    refused = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)
    picky = RecordingIntake(lambda one: refused if int(one.events[0].id) < 15 else ACCEPTED)
    await run(replay_of(store, {"r": picky}), rate=1000)
    assert [one.id for one in await everything(store)] == list(range(1, 16))


async def test_the_rate_is_kept(store):
    await put(store, *(letter(n) for n in range(30)))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert len(await run(replay_of(store, {"r": RecordingIntake()}), rate=100)) == 30
    assert loop.time() - started >= 0.2  # the third list goes 0.2 s after the first


async def test_two_replays_never_send_the_same_letter(store):
    await put(store, *(letter(n) for n in range(200)))
    intake = RecordingIntake()
    replay = replay_of(store, {"r": intake})
    await asyncio.gather(*(run(replay, rate=500) for _ in range(3)))
    assert sorted(int(event.id) for event in intake.events) == list(range(200))


async def test_what_comes_during_a_replay_is_not_replayed(store):
    await put(store, letter(1))
    adding = []

    def answer(_):
        adding.append(asyncio.ensure_future(put(store, letter(2))))
        return ACCEPTED

    intake = RecordingIntake(answer)
    await run(replay_of(store, {"r": intake}), rate=1)
    await asyncio.gather(*adding)
    assert [event.id for event in intake.events] == ["1"]
    assert [one.id for one in await everything(store)] == [2]


async def test_a_list_under_way_is_marked_although_nobody_listens_any_more(store):
    await put(store, letter(1))
    intake = RecordingIntake(lambda _: None)
    replay = replay_of(store, {"r": intake})
    running = asyncio.ensure_future(run(replay))
    await intake.wait_for(lambda one: one.deliveries)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    closing = asyncio.ensure_future(replay.close())
    await asyncio.sleep(0)
    assert not closing.done()
    intake.deliveries[0].settle(ACCEPTED)
    await closing
    assert await everything(store) == []


async def test_a_store_that_fails_ends_the_replay_with_its_error(store):
    await put(store, letter(1))
    intake = RecordingIntake(lambda _: None)
    running = asyncio.ensure_future(run(replay_of(store, {"r": intake})))
    await intake.wait_for(lambda one: one.deliveries)
    store.close()
    intake.deliveries[0].settle(ACCEPTED)
    with pytest.raises(StoreError):
        await running


async def test_metrics_show_what_is_kept_and_replayed(store):
    metrics = Metrics()
    assert b"ce_gateway_dead_letters" not in metrics.exposition().replace(b"dead_lettered", b"")
    metrics.dead_letters = store
    await put(store, letter(1), letter(2, route="s"))
    await run(replay_of(store, {"r": RecordingIntake()}))
    text = metrics.exposition().decode()
    assert 'ce_gateway_dead_letters{route="r"} 0.0' in text
    assert 'ce_gateway_dead_letters{route="s"} 1.0' in text
    assert 'ce_gateway_replayed_total{outcome="accepted",route="r"} 1.0' in text
    assert re.search(r"ce_gateway_dead_letters_bytes \d{4,}", text)
    assert "\nce_gateway_dead_letters_full 0.0\n" in text
