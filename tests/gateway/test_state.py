"""The state folder: whose it is, what each gets of it, and what is said about it at the start."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway import state as state_module
from gateway.config.gateway import LEAST_BYTES
from gateway.errors import GatewayError
from gateway.router import Route
from gateway.spool import files
from gateway.state import State, default_path

PLAIN = Route(name="plain", sinks=["a"])
SPOOLED = Route(name="way", sinks=["a", "b"], spool=True, keeps_letters=True)


@pytest.fixture
async def states():
    opened = []

    def make(path, routes, max_bytes=2**26):
        opened.append(State(path, max_bytes, routes))
        opened[-1].open()
        return opened[-1]

    yield make
    for state in opened:
        state.close()


async def stored(spool, *records):
    answer = asyncio.get_running_loop().create_future()
    spool.append(list(records), lambda first, error: answer.set_result((first, error)))
    async with asyncio.timeout(10):
        assert (await answer)[1] is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/mine"}, "/var/lib/mine"),
        ({"STATE_DIRECTORY": "/var/lib/mine:/var/lib/other"}, "/var/lib/mine"),
        ({"STATE_DIRECTORY": "/x", "XDG_STATE_HOME": "/home/me/state"}, "/x"),
        ({"XDG_STATE_HOME": "/home/me/state"}, "/home/me/state/ce-gateway"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/ce-gateway"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": ""}, "/home/me/.local/state/ce-gateway"),
    ],
)
def test_the_path_is_the_services_or_the_users(environ, expected, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root, one may write everywhere
    assert default_path(environ) == Path(expected)


def test_the_path_is_the_systems_where_we_may_write_there(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "SYSTEM_PATH", tmp_path / "not" / "yet" / "there")
    assert default_path({"HOME": "/home/me"}) == tmp_path / "not" / "yet" / "there"


async def test_dead_letters_take_an_eighth_and_the_spools_the_rest_in_equal_parts(states, tmp_path):
    state = states(tmp_path, [SPOOLED, PLAIN], max_bytes=80 * LEAST_BYTES)
    assert state.letters._database._connection._max_bytes == 10 * LEAST_BYTES
    caps = {state.spool_of("way", sink)._room.max_bytes for sink in "ab"}
    assert caps == {35 * LEAST_BYTES}
    assert not (tmp_path / "spool" / "plain").exists()


async def test_without_dead_letters_nothing_is_kept_for_them(states, tmp_path):
    state = states(tmp_path, [Route(name="way", sinks=["a"], spool=True)], max_bytes=LEAST_BYTES)
    assert state.letters is None
    assert state.spool_of("way", "a")._room.max_bytes == LEAST_BYTES


@pytest.mark.parametrize(
    "routes", [[SPOOLED], [Route(name="way", sinks=["a"], keeps_letters=True)]]
)
def test_what_is_said_to_be_enough_is(tmp_path, routes):
    with pytest.raises(GatewayError, match=r"state\.max_bytes: \d+ is too little") as caught:
        State(tmp_path, LEAST_BYTES, routes)
    enough = int(str(caught.value).split()[-1])
    State(tmp_path, enough, routes)


async def test_two_gateways_never_share_a_folder(states, tmp_path):
    states(tmp_path, [SPOOLED])
    message = f"state.path: .* is in use by process {os.getpid()}; each gateway needs a folder"
    with pytest.raises(GatewayError, match=message):
        states(tmp_path, [SPOOLED])


async def test_a_folder_that_can_not_be_made_is_not_said_to_be_another_s(states, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GatewayError, match=r"^state\.path: .* can't be used: Not a directory$"):
        states(tmp_path / "file" / "state", [SPOOLED])


async def test_what_one_spool_holds_does_not_keep_the_others_locked(states, tmp_path):
    one = states(tmp_path, [Route(name="way", sinks=["b"], spool=True)])
    with pytest.raises(GatewayError):
        states(tmp_path, [SPOOLED])
    one.close()
    states(tmp_path, [SPOOLED])


async def test_what_an_earlier_life_has_left_is_told(states, tmp_path, caplog):
    caplog.set_level("INFO")
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "a"), b"1", b"22")
    state.close()
    caplog.clear()
    state = states(tmp_path, [SPOOLED])
    (line,) = [record for record in caplog.records if record.name == "gateway.state"]
    size = state.spool_of("way", "a").bytes
    assert line.levelname == "INFO"
    assert line.message == (
        f"spool of route way to sink a: 2 events pending, {size} bytes, 0 damaged"
    )


async def test_damage_is_told_as_a_warning(states, tmp_path, caplog):
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "a"), b"1" * 100)
    await stored(state.spool_of("way", "a"), b"2" * 100)
    state.close()
    (segment,) = tmp_path.glob("spool/way/a/*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"1" * 100)] ^= 1
    segment.write_bytes(data)
    caplog.clear()
    states(tmp_path, [SPOOLED])
    (line,) = [record for record in caplog.records if record.name == "gateway.state"]
    assert line.levelname == "WARNING"
    assert line.message.endswith("1 damaged")


async def test_an_orphaned_spool_is_named_with_its_events_and_what_to_do(states, tmp_path, caplog):
    caplog.set_level("INFO")
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "b"), b"1", b"2", b"3")
    state.close()
    caplog.clear()
    states(tmp_path, [Route(name="way", sinks=["a"], spool=True)])
    folder = tmp_path / "spool" / "way" / "b"
    assert lines_of(caplog) == [
        (
            "WARNING",
            (
                f"{folder}: 3 events wait there, and the configuration has no route way with a "
                "spool for sink b: "
                "bring it back under this name, or remove the folder, and they are lost"
            ),
        )
    ]
    assert len(list(folder.glob("*.seg"))) == 1


async def test_an_orphaned_spool_in_which_nothing_waits_is_no_warning(states, tmp_path, caplog):
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "b"), b"1")
    state.spool_of("way", "b").done([1])
    state.close()
    caplog.clear()
    caplog.set_level("INFO")
    states(tmp_path, [Route(name="way", sinks=["a"], spool=True)])
    assert lines_of(caplog) == []


async def test_an_orphaned_spool_that_cannot_be_read_is_named(states, tmp_path, caplog):
    folder = tmp_path / "spool" / "way" / "b"
    folder.mkdir(parents=True)
    head = files.head(files.SEGMENT_MAGIC, files.VERSION + 1)
    (folder / files.segment_name(1)).write_bytes(head)
    states(tmp_path, [Route(name="way", sinks=["a"], spool=True)])
    ((level, text),) = lines_of(caplog)
    assert level == "WARNING"
    assert "no route way with a spool for sink b" in text
    assert "of a newer gateway" in text


async def test_a_disk_without_the_room_that_has_to_stay_free_is_told_at_the_start(
    states, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(os, "statvfs", disk_of(total=2**34, free=2**20))
    states(tmp_path, [SPOOLED])
    assert lines_of(caplog) == [
        (
            "WARNING",
            (
                f"state.path {tmp_path}: nothing is stored until the disk has room: 5 % of the "
                "disk (858993460 bytes) have to stay free, and only 1048576 are"
            ),
        )
    ]


async def test_more_than_the_disk_can_ever_give_is_told_at_the_start(
    states, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(os, "statvfs", disk_of(total=2**26, free=2**26))
    states(tmp_path, [SPOOLED], max_bytes=2**26)
    assert lines_of(caplog) == [
        (
            "WARNING",
            (
                f"state.max_bytes is {2**26}, and the disk of state.path {tmp_path} can give "
                f"63753420: it has {2**26} bytes, of which 5 % have to stay free"
            ),
        )
    ]


async def test_a_disk_with_room_is_not_told(states, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(os, "statvfs", disk_of(total=2**34, free=2**30))
    states(tmp_path, [SPOOLED])
    assert lines_of(caplog) == []


async def test_without_spools_and_dead_letters_no_disk_is_told(
    states, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(os, "statvfs", disk_of(total=2**20, free=0))
    states(tmp_path, [PLAIN])
    assert lines_of(caplog) == []


async def test_what_waits_for_the_next_start_is_told_at_the_end(states, tmp_path, caplog):
    caplog.set_level("INFO")
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "a"), b"1", b"2")
    await stored(state.spool_of("way", "b"), b"1")
    state.spool_of("way", "a").done([1])
    caplog.clear()
    state.close()
    state.close()
    assert lines_of(caplog) == [("INFO", "2 events wait in the spools for the next start")]


async def test_spools_that_are_empty_at_the_end_are_not_told(states, tmp_path, caplog):
    caplog.set_level("INFO")
    state = states(tmp_path, [SPOOLED])
    await stored(state.spool_of("way", "a"), b"1")
    state.spool_of("way", "a").done([1])
    caplog.clear()
    state.close()
    assert lines_of(caplog) == []


def disk_of(*, total, free):
    def statvfs(_path):
        return os.statvfs_result((1, 1, total, free, free, 0, 0, 0, 0, 255))

    return statvfs


def lines_of(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]
