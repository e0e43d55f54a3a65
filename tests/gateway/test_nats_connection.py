import asyncio
import contextlib
import logging

import nats.errors
import pytest
from pydantic import ValidationError

from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.nats_connection import ClientCallbacks, NatsConnection, NatsServerConfig
from tests.gateway.scripted_nats import ScriptedNats

# Of the bytes 0 to 31.
SEED = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y"


async def nothing():
    pass


def make(url, attach=nothing, **options):
    lost: list[None] = []
    config = NatsServerConfig(name="bus", protocol="nats", url=url, **options)
    connection = NatsConnection(config, ClientCallbacks(attach, lost=lambda: lost.append(None)))
    return connection, lost


async def test_each_connection_is_attached_and_each_loss_is_told_once(caplog):
    caplog.set_level(logging.INFO)
    attached = asyncio.Queue()

    async def attach():
        attached.put_nowait(None)

    async with ScriptedNats() as server, asyncio.timeout(10):
        connection, lost = make(server.url, attach)
        await connection.open()
        await attached.get()
        assert connection.write(b"PUB a 0\r\n\r\n")
        await server.heard(b"PUB a")
        for number in (1, 2):
            server.hang_up()
            await attached.get()
            assert len(lost) == number
        await connection.close()
    words = [record.getMessage().split(": ")[1].split()[0] for record in caplog.records]
    assert words == ["connected", "lost", "connected", "lost", "connected"]


async def test_an_attach_that_fails_is_tried_again_and_logged_once(caplog):
    attempts = []

    async def attach():
        attempts.append(None)
        if len(attempts) < 4:
            raise OSError("not yet")

    async with ScriptedNats() as server:
        connection, _ = make(server.url, attach)
        async with asyncio.timeout(10):
            await connection.open()
        await connection.close()
    assert len(attempts) == 4
    assert len([r for r in caplog.records if "not yet" in r.getMessage()]) == 1


async def test_a_connection_lost_while_it_is_attached_is_made_again_at_once():
    """nats-py waits for the answer to a request, though there is nobody left to give it."""
    attempts = asyncio.Queue()
    second = asyncio.Event()

    async def attach():
        attempts.put_nowait(None)
        if not second.is_set():
            await asyncio.Event().wait()

    async with ScriptedNats() as server, asyncio.timeout(10):
        connection, lost = make(server.url, attach)
        connection.start()
        await attempts.get()
        second.set()
        server.hang_up()
        await attempts.get()
        await connection.opened()
        assert connection.is_up
        assert not lost
        await connection.close()


async def test_closing_ends_though_a_cancellation_was_swallowed():
    """As nats-py does while it writes a request, or closes."""
    attaching = asyncio.Event()

    async def attach():
        attaching.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async with ScriptedNats() as server, asyncio.timeout(10):
        connection, _ = make(server.url, attach)
        connection.start()
        await attaching.wait()
        await connection.close()
        assert not connection.is_up


async def test_a_connection_that_never_lasts_is_made_less_and_less_often():
    moments = []

    async def attach():
        moments.append(asyncio.get_running_loop().time())
        server.hang_up()

    async with ScriptedNats() as server, asyncio.timeout(10):
        connection, _ = make(server.url, attach)
        connection.start()
        while len(moments) < 4:
            await asyncio.sleep(0.01)
        await connection.close()
    assert moments[3] - moments[2] > 0.45  # the third of the back-off's steps


async def test_a_seed_that_is_replaced_by_a_wrong_one_is_no_connection(tmp_path, caplog):
    """A mounted secret changes while we run, and is read at each connection."""
    path = tmp_path / "user.creds"
    text = "-----BEGIN NATS USER JWT-----\njwt\n------END NATS USER JWT------\n"
    text += "-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n"
    path.write_text(text.format(SEED))
    async with ScriptedNats(nonce="n", auth_required=True) as server, asyncio.timeout(10):
        connection, _ = make(server.url, credentials=path)
        await connection.open()
        path.write_text(text.format("SUwrong"))
        server.hang_up()
        while "no connection" not in caplog.text:
            await asyncio.sleep(0.01)
        path.write_text(text.format(SEED))
        await server.heard(b"CONNECT", 2)
        await connection.close()
    assert "died" not in caplog.text
    assert "SUwrong" not in caplog.text


async def test_an_attach_that_never_can_fails_open():
    async def attach():
        raise GatewayError("never")

    async with ScriptedNats() as server:
        connection, _ = make(server.url, attach)
        with pytest.raises(GatewayError, match="never"):
            await connection.open()
        await connection.close()


async def test_a_server_that_does_not_speak_nats_is_no_connection(caplog):
    async def answer(_, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    connection, _ = make(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connection.start()
    async with asyncio.timeout(10):
        while not caplog.records:
            await asyncio.sleep(0.01)
    assert not connection.is_up
    assert not connection.write(b"PUB a 0\r\n\r\n")
    await connection.close()
    server.close()
    await server.wait_closed()
    assert "no connection to 127.0.0.1" in caplog.text


async def test_the_second_server_is_tried_when_the_first_is_down():
    async with ScriptedNats() as down, ScriptedNats() as server:
        port = down.port
        await down.__aexit__()
        connection, _ = make([f"nats://127.0.0.1:{port}", server.url])
        async with asyncio.timeout(10):
            await connection.open()
        await connection.close()
        assert server.connections == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"credentials": "none.creds"}, "can't read none.creds"),
        ({"nkey": "none.nk"}, "can't read none.nk"),
        ({"tls": TlsConfig(ca="none.pem")}, "none.pem"),
    ],
)
async def test_a_secret_that_can_not_be_read_fails_open(options, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connection, _ = make("nats://127.0.0.1:1", **options)
    with pytest.raises(GatewayError, match=text):
        await connection.open()


async def test_a_secret_that_is_none_fails_open(tmp_path):
    path = tmp_path / "secret"
    path.write_text("nonsense\n")
    for options in ({"credentials": path}, {"nkey": path}):
        connection, _ = make("nats://127.0.0.1:1", **options)
        with pytest.raises(GatewayError, match="holds no"):
            await connection.open()


@pytest.mark.parametrize(
    "url", ["http://a", "a:4222", "nats://", "nats://u:p@a:4222", [], ["nats://a", "b"]]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValidationError):
        NatsServerConfig(name="bus", protocol="nats", url=url)


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_server_that_is_away_is_asked_every_second_and_one_that_refuses_less_often(
    is_there, monkeypatch
):
    """So a gateway is back within two seconds, and does not hammer who does not want it."""
    pauses = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def pause(seconds):
        if seconds in {0, 20}:  # of nats-py: it yields, and pings
            await sleep(seconds)
            return
        pauses.append(seconds)
        if len(pauses) == 8:
            enough.set()
        await sleep(0)

    async with ScriptedNats() as server, asyncio.timeout(20):
        if is_there:
            server.refusal = b"-ERR 'Authorization Violation'\r\n"
        else:
            server._server.close()
        connection, _ = make(server.url)
        monkeypatch.setattr("gateway.nats_connection.asyncio.sleep", pause)
        connection.start()
        await enough.wait()
        await connection.close()
    assert pauses[:4] == [0.1, 0.2, 0.5, 1.0]
    assert set(pauses[4:8]) == ({2.0, 5.0, 10.0} if is_there else {1.0})


async def test_a_server_that_has_come_back_is_not_waited_for_as_one_that_was_away(monkeypatch):
    """It may need a moment more, until JetStream is ready for one: that is no reason for 10 s."""
    pauses = []
    sleep = asyncio.sleep
    attaching = iter([nats.errors.Error("not ready"), None])

    async def attach():
        if (error := next(attaching, None)) is not None:
            raise error

    async def pause(seconds):
        if seconds in {0, 20}:  # of nats-py: it yields, and pings
            await sleep(seconds)
            return
        pauses.append(seconds)
        if len(pauses) == 7 and not server._server.is_serving():
            server._server = await asyncio.start_server(server._serve, "127.0.0.1", server.port)
        await sleep(0)

    async with ScriptedNats() as server, asyncio.timeout(20):
        server._server.close()
        connection, _ = make(server.url, attach)
        monkeypatch.setattr("gateway.nats_connection.asyncio.sleep", pause)
        await connection.open()
        await connection.close()
    assert pauses == [0.1, 0.2, 0.5, 1.0, 1.0, 1.0, 1.0, 0.1]
