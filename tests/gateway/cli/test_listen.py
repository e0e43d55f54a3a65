import json

import pytest

from bindings.event import Event
from gateway.admin import AdminServer
from gateway.cli.listen import Printer, as_block
from gateway.config.records import Address
from gateway.metrics import Metrics
from gateway.sinks.log import LogSink, LogSinkConfig
from tests.gateway.cli.processes import ce_gateway, read_until


class Gateway:
    """An administration listener with an event log, and nothing else of a gateway."""

    unready = ""

    def __init__(self):
        self.metrics = Metrics()
        self.log = LogSink(LogSinkConfig(name="out", protocol="log"))
        self.logs = {"out": self.log}

    def status(self):
        return {}


def event(event_id, **attributes):
    return Event(id=event_id, source="/s", type="t", **attributes)


@pytest.fixture
async def gateway():
    view = Gateway()
    await view.log.open()
    server = AdminServer(view, Address("127.0.0.1", 0))
    await server.open()
    view.url = f"http://{server.address}"
    yield view
    await view.log.close()
    await server.close()


async def test_past_events_come_first_and_new_ones_follow_without_a_repetition(gateway):
    await gateway.log.send([event("1"), event("2"), event("3")])
    async with ce_gateway("listen", gateway.url, "--last", "2", "-n", "3", "--json") as process:
        ids = [json.loads(await process.stdout.readline())["id"] for _ in range(2)]
        await gateway.log.send([event("4", data=b'{"a":1}', datacontenttype="application/json")])
        last = json.loads(await process.stdout.readline())
        assert [*ids, last["id"]] == ["2", "3", "4"]
        assert last["data"] == {"a": 1}
        assert await process.wait() == 0


async def test_events_are_shown_in_lines_for_people(gateway):
    await gateway.log.send([event("1", data=b"hello", datacontenttype="text/plain")])
    async with ce_gateway("listen", gateway.url, "--last", "1", "-n", "1") as process:
        text = (await process.stdout.read()).decode()
        assert "id               1\n" in text
        assert "\nhello\n" in text


async def test_a_gateway_that_is_not_there_is_a_failure():
    async with ce_gateway("listen", "http://127.0.0.1:1") as process:
        assert await process.wait() == 1
        assert "can't follow http://127.0.0.1:1: " in (await process.stderr.read()).decode()


async def test_an_event_log_that_is_not_there_is_a_failure(gateway):
    async with ce_gateway("listen", gateway.url, "--sink", "none") as process:
        assert await process.wait() == 1
        assert "404" in (await process.stderr.read()).decode()


async def test_the_end_of_the_gateway_ends_it_with_a_failure(gateway):
    await gateway.log.send([event("1")])
    async with ce_gateway("listen", gateway.url, "--last", "1", "--json") as process:
        await process.stdout.readline()
        await gateway.log.close()
        await read_until(process.stderr, "has ended the stream")
        assert await process.wait() == 1


def test_a_block_shows_binary_data_as_base64_and_json_indented():
    assert as_block({"id": "1", "data_base64": "AA=="}).splitlines()[-2] == "data_base64  AA=="
    assert '  "a": 1' in as_block({"id": "1", "data": {"a": 1}})


def test_what_a_device_sends_can_not_steer_the_terminal():
    block = as_block({"id": "\x1b[2J", "data": "a\x1b[31mb\nc"})
    assert "\x1b" not in block
    assert "\\u001b[2J" in block


def test_a_pretty_printed_event_is_one_line_of_json(capsys):
    Printer(None, as_json=True).show(b'{\n "id": "1"\n}')
    assert capsys.readouterr().out == '{  "id": "1" }\n'


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("data", ["1" * 5000, "[" * 990 + "]" * 990])
def test_data_that_python_can_not_read_is_shown_as_it_came(capsys, as_json, data):
    Printer(None, as_json=as_json).show(f'{{"id": "1",\n"data": {data}}}'.encode())
    assert capsys.readouterr().out == f'{{"id": "1", "data": {data}}}\n'


async def test_past_events_keep_their_bytes(gateway):
    encoded = b'{"id":"9","source":"/s","type":"t","specversion":"1.0","data":[1e999,1.10]}'
    await gateway.log.send([event("9").replace(encoded=encoded)])
    async with ce_gateway("listen", gateway.url, "--last", "1", "-n", "1", "--json") as process:
        assert await process.stdout.readline() == encoded + b"\n"
