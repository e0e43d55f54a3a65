"""The state folder: whose it is, what each gets of it, and what is said about it at the start."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway import state as state_module
from gateway.errors import GatewayError
from gateway.router import Route
from gateway.state import LEAST_BYTES, State, default_path

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
    caps = {state.spool_of("way", sink)._room._max_bytes for sink in "ab"}
    assert caps == {35 * LEAST_BYTES}
    assert not (tmp_path / "spool" / "plain").exists()


async def test_without_dead_letters_nothing_is_kept_for_them(states, tmp_path):
    state = states(tmp_path, [Route(name="way", sinks=["a"], spool=True)], max_bytes=LEAST_BYTES)
    assert state.letters is None
    assert state.spool_of("way", "a")._room._max_bytes == LEAST_BYTES


@pytest.mark.parametrize(
    "routes", [[SPOOLED], [Route(name="way", sinks=["a"], keeps_letters=True)]]
)
def test_what_is_said_to_be_enough_is(tmp_path, routes):
    with pytest.raises(GatewayError, match=r"state\.max_bytes is too small") as caught:
        State(tmp_path, LEAST_BYTES, routes)
    enough = int(str(caught.value).split()[-3])
    State(tmp_path, enough, routes)


async def test_two_gateways_never_share_a_folder(states, tmp_path):
    states(tmp_path, [SPOOLED])
    message = f"state.path: .* is in use by process {os.getpid()}; each gateway needs a folder"
    with pytest.raises(GatewayError, match=message):
        states(tmp_path, [SPOOLED])


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


async def test_each_folder_that_no_route_has_any_more_is_named_once(states, tmp_path, caplog):
    state = states(tmp_path, [SPOOLED])
    for sink in "ab":
        await stored(state.spool_of("way", sink), b"1")
    state.close()
    folder = tmp_path / "spool" / "way" / "b"
    for number in (100, 200):  # as if it had grown
        (folder / f"{number:020}.seg").write_bytes(b"")
    caplog.clear()
    states(tmp_path, [Route(name="way", sinks=["a"], spool=True)])
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{folder} holds events of a route and sink")
    assert len(list(folder.glob("*.seg"))) == 3
