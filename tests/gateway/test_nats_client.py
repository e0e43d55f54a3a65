"""The seam between nats-py and our parser: if a new version moves it, this fails first."""

import asyncio

import nats.aio.client
import nats.errors
import pytest

from gateway.nats_client import ListClient
from tests.gateway.scripted_nats import ScriptedNats

OPTIONS = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}


@pytest.fixture
async def server():
    async with ScriptedNats() as scripted:
        yield scripted


@pytest.fixture
async def connected(server):
    refusals: list[str] = []
    client = ListClient(wants_tls=False, refused=refusals.append, pause=None)
    await client.connect(server.url, error_cb=client.on_error, **OPTIONS)
    yield client, refusals
    await client.discard()


def test_the_version_of_the_client_is_the_one_the_seam_was_made_for():
    assert nats.aio.client.__version__.startswith("2.16.")


async def test_the_private_names_that_we_rely_on_exist():
    plain = nats.aio.client.Client()
    for name in (
        "_ps", "_sid", "_transport", "_pongs", "_pending", "_pending_data_size", "_flush_queue",
        "_process_msg", "_process_pong", "_process_info", "_process_op_err", "_connect_command",
    ):  # fmt: skip
        assert hasattr(plain, name), name


async def test_one_read_brings_one_list(server, connected):
    client, _ = connected
    lists = []
    sid = client.add_handler(lists.append)
    other: list = []
    other_sid = client.add_handler(other.append)
    server.say(b"MSG a %d 1\r\n1\r\nMSG a %d 1\r\n2\r\nMSG b %d 1\r\n3\r\n" % (sid, sid, other_sid))
    server.say(b"MSG a 999 1\r\nx\r\n")  # nobody's
    await _ping(client)
    assert [[m.payload for m in messages] for messages in lists] == [[b"1", b"2"]]
    assert [[m.payload for m in messages] for messages in other] == [[b"3"]]


async def _ping(client):
    async with asyncio.timeout(5):
        await client.send_ping()


async def test_requests_of_nats_py_itself_still_work(server, connected):
    client, _ = connected
    request = asyncio.ensure_future(client.request("svc", b"", timeout=5))
    line = await server.heard(b"PUB svc ")
    sid = (await server.heard(b"SUB ")).split()[-1]
    server.say(b"MSG %b %b 2\r\nhi\r\n" % (line.split()[2], sid))
    assert (await request).data == b"hi"


@pytest.mark.parametrize(
    "header", [b"\xff", b"NATS/1.0 \xff\r\n\r\n", b"NATS/1.0 503 \xff\r\n\r\n", b"x" * 50]
)
async def test_an_answer_with_a_strange_header_does_not_stop_the_reading(server, connected, header):
    client, _ = connected
    request = asyncio.ensure_future(client.request("svc", b"", timeout=5))
    line = await server.heard(b"PUB svc ")
    sid, reply = (await server.heard(b"SUB ")).split()[-1], line.split()[2]
    size = len(header)
    server.say(b"HMSG %b.x %b %d %d\r\n%b\r\n" % (reply[:-1], sid, size, size, header))
    server.say(b"MSG %b %b 2\r\nhi\r\n" % (reply, sid))
    assert (await request).data == b"hi"


async def test_a_ping_is_answered(server, connected):
    server.say(b"PING\r\n")
    assert await server.heard(b"PONG")


async def test_a_permission_that_lacks_leaves_the_connection_up(server, connected):
    client, refusals = connected
    server.say(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n")
    await _ping(client)
    assert refusals == ['Permissions Violation for Publish to "a"']
    assert client.is_usable


@pytest.mark.parametrize(
    "data",
    [
        b"-ERR 'Stale Connection'\r\n",
        b"-ERR 'User Authentication Expired'\r\n",
        b"nonsense\r\n",
        b"INFO {]\r\n",
    ],
)
async def test_any_other_error_ends_the_connection(server, connected, data, caplog):
    client, _ = connected
    server.say(data)
    async with asyncio.timeout(5):
        await client.gone
    assert not client.is_usable
    assert not caplog.records


async def test_what_stood_before_the_fault_is_delivered(server, connected):
    client, _ = connected
    lists: list = []
    sid = client.add_handler(lists.append)
    server.say(b"MSG a %d 1\r\n1\r\nnonsense\r\n" % sid)
    async with asyncio.timeout(5):
        await client.gone
    assert lists[0][0].payload == b"1"


async def test_a_socket_that_broke_while_nobody_read_is_not_written_to(server):
    """The loss shows when we read again; until then uvloop's transport raises for each write."""
    may_read = asyncio.Event()
    is_paused = asyncio.Event()

    async def pause():
        is_paused.set()
        await may_read.wait()

    client = ListClient(wants_tls=False, refused=lambda _: None, pause=pause)
    await client.connect(server.url, error_cb=client.on_error, **OPTIONS)
    server.say(b"+OK\r\n")
    async with asyncio.timeout(10):
        await is_paused.wait()
        server.hang_up()
        while client.is_usable:
            client.write(b"PUB a 1\r\nx\r\n")
            await asyncio.sleep(0)
        client.write(b"PUB a 1\r\nx\r\n")
        assert not client.gone.done()
        may_read.set()
        await client.gone
    await client.discard()


async def test_reading_stops_while_paused(server):
    resume = asyncio.Event()
    paused = asyncio.Event()

    async def pause():
        paused.set()
        await resume.wait()

    client = ListClient(wants_tls=False, refused=lambda _: None, pause=pause)
    await client.connect(server.url, error_cb=client.on_error, **OPTIONS)
    lists: list = []
    sid = client.add_handler(lists.append)
    server.say(b"MSG a %d 1\r\n1\r\n" % sid)
    async with asyncio.timeout(5):
        await paused.wait()
    server.say(b"MSG a %d 1\r\n2\r\n" % sid)
    pong = client.send_ping()
    await server.heard(b"PING", 2)
    assert len(lists) == 1
    resume.set()
    async with asyncio.timeout(5):
        await pong
    assert len(lists) == 2
    await client.discard()


async def test_without_tls_no_credentials_are_sent(server):
    client = ListClient(wants_tls=True, refused=lambda _: None, pause=None)
    with pytest.raises(nats.errors.Error, match="offers no TLS"):
        await client.connect(
            server.url, error_cb=client.on_error, user="u", password="secret", **OPTIONS
        )
    await client.discard()
    assert not any(b"secret" in line for line in server.lines)
