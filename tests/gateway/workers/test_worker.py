"""A worker's process; what a whole gateway of them does is in test_workers.py."""

import asyncio
import fcntl
import os
import socket
import struct
import sys
import termios

import msgspec

from gateway.config.loader import load
from gateway.config.worker import Place
from gateway.service import Service
from gateway.tasks import Tasks
from gateway.workers import worker as worker_module
from gateway.workers.letters import RemoteLetters
from gateway.workers.messages import Start, Stop
from gateway.workers.place import placed
from gateway.workers.worker import Worker
from tests.gateway.scripted_http import OK, Script, answer
from tests.gateway.sources.test_mqtt import Broker, publish

TEXT = """
sources: {web: {protocol: http, listen: "127.0.0.1:0"}}
sinks: {out: {protocol: log}}
routes: [{name: way, to: [out]}]
"""

SESSION = """
sources:
  plant:
    {{protocol: mqtt, url: "mqtt://127.0.0.1:{broker}", client_id: gw,
    subscribe: [{{topic: "a/#"}}],
    event: {{type: t, source: /s}}}}
sinks: {{out: {{protocol: http, url: "http://127.0.0.1:{sink}/"}}}}
routes: [{{name: way, to: [out], delivery: {{retry: 0, spool: "off", dead_letters: "off"}}}}]
"""


def unread(sock):
    """Return how much of what was sent the other end has not read yet; 0 is nothing."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


async def test_a_parent_may_take_its_time_to_say_what_a_worker_is_to_be(tmp_path):
    start = msgspec.msgpack.encode(Start(0, 1, "g", TEXT, {}, str(tmp_path), "text", "info"))
    stop = msgspec.msgpack.encode(Stop())
    ours, its = socket.socketpair()
    with ours:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.workers", str(its.fileno()),
            stderr=asyncio.subprocess.PIPE, pass_fds=(its.fileno(),), env=dict(os.environ),
        )  # fmt: skip
        its.close()
        try:
            async with asyncio.timeout(60):
                for byte in len(start).to_bytes(4, "big"):  # each in a turn of the worker's loop
                    ours.send(bytes([byte]))
                    while unread(ours) and process.returncode is None:
                        await asyncio.sleep(0.01)
                assert process.returncode is None
                ours.send(start + len(stop).to_bytes(4, "big") + stop)
                _, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, err.decode()


async def test_a_session_is_not_empty_while_a_message_of_it_waits_for_the_sink(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(worker_module, "QUIET_SECONDS", 0.1)  # the sink asks for more, and may
    monkeypatch.setattr(Tasks, "failed", None)
    script = await Script().start()
    answers = iter([answer(503, b"Retry-After: 2"), OK])
    script.reply = lambda _: next(answers)
    async with Broker() as broker:
        text = SESSION.format(broker=broker.port, sink=script.port)
        config = placed(load(text, {}), Place(1, 1, "g"), listeners={}, state=tmp_path)
        ready = asyncio.Event()
        service = Service(config, lambda _: ready.set(), letters=RemoteLetters(lambda _: True))
        life = asyncio.ensure_future(service.run())
        try:
            async with asyncio.timeout(60):
                connection = await broker.connection()
                await connection.read()
                connection.send(b"\x20\x03\x01\x00\x00")  # CONNACK: the session is there
                await ready.wait()
                connection.send(publish("a/1"))
                while not script.requests:
                    await asyncio.sleep(0.01)
                await Worker()._see_empty(service)
                assert len(script.requests) == 2
        finally:
            service.stop()
            await life
            await script.close()
