"""What each worker gets of the configuration and of the state folder."""

import asyncio

import pytest

from gateway import assembly
from gateway.config.loader import load
from gateway.config.worker import Place
from gateway.errors import GatewayError
from gateway.spool import Spool
from gateway.state import State
from gateway.workers.place import check_room, folder_of, folders, placed, remove_emptied

TEXT = """
sources:
  web: {protocol: http, listen: "[::1]:0"}
  bus: {protocol: can, interface: virtual, channel: x}
sinks:
  out: {protocol: http, url: "http://127.0.0.1:1/", webhook: {origin: a.example}}
routes: [{name: way, to: [out]}]
state: {path: /somewhere, max_bytes: 800MiB}
drain: {rate: 100}
"""
MIB = 1 << 20


def place(number, count=4):
    config = load(TEXT, {})
    listeners = {"web": {"listen": "[::1]:4711"}}
    return placed(config, Place(number, count, "g"), listeners=listeners, state=config.state.path)


def test_the_first_worker_has_the_state_of_a_gateway_without_workers():
    assert str(place(0).state.path) == "/somewhere"
    assert str(place(3).state.path) == "/somewhere/worker-3"


def test_each_has_its_part_of_what_is_for_all():
    one = place(1)
    assert one.state.max_bytes == 700 * MIB // 4  # an eighth is the dead letters'
    assert one.drain.rate == 25
    assert one.sinks["out"].webhook.workers == 4
    assert load(TEXT, {}).drain.rate == 100


def test_each_has_the_sources_that_are_for_it_at_the_addresses_that_were_found():
    assert set(place(0).sources) == {"web", "bus"}
    assert set(place(1).sources) == {"web"}
    assert place(5).sources == {}
    listen = place(1).sources["web"].listen
    assert (listen.host, listen.port) == ("::1", 4711)


def test_too_little_room_for_the_spools_of_all_is_an_error():
    config = load(TEXT, {})
    routes = assembly.make_routes(config)
    check_room(config, routes, 100)
    with pytest.raises(GatewayError, match=r"state\.max_bytes: .*\(800 workers\)"):
        check_room(config, routes, 800)


def test_the_folders_of_an_earlier_run_are_found(tmp_path):
    assert folders(tmp_path / "none") == []
    for name in ("worker-2", "worker-10", "worker-0", "worker-x", "spool", "worker-01"):
        (tmp_path / name).mkdir()
    assert folders(tmp_path) == [2, 10]
    assert folder_of(tmp_path, 10) == tmp_path / "worker-10"


async def stored(folder, count):
    """Have a spool in a folder, with so many records and one that is done."""
    spool = Spool(folder / "spool" / "way" / "out", max_bytes=MIB)
    spool.open()
    answer = asyncio.get_running_loop().create_future()
    spool.append([b"x"] * (count + 1), lambda first, _: answer.set_result(first))
    spool.done([await answer])
    spool.close()


async def test_a_folder_goes_when_nothing_is_left_in_it(tmp_path):
    folder = tmp_path / "worker-1"
    await stored(folder, 0)
    assert remove_emptied(folder)
    assert not folder.exists()
    assert not remove_emptied(folder)


async def test_a_folder_with_an_event_stays(tmp_path):
    folder = tmp_path / "worker-1"
    await stored(folder, 1)
    assert not remove_emptied(folder)
    assert list(folder.glob("spool/way/out/*.seg"))


async def test_a_folder_with_anything_else_stays(tmp_path):
    folder = tmp_path / "worker-1"
    await stored(folder, 0)
    (folder / "notes").touch()
    assert not remove_emptied(folder)


async def test_dead_letters_may_be_elsewhere(tmp_path):
    class Box:
        def put(self, letters, on_stored):
            """Not asked here."""

    box = Box()
    state = State(tmp_path, MIB, assembly.make_routes(load(TEXT, {})), box)
    state.open()
    try:
        assert state.letters is box
        assert state.dead_letters is None
        assert not (tmp_path / "dead-letters").exists()
    finally:
        state.close()
