"""A worker's process; what a whole gateway of them does is in test_workers.py."""

import asyncio
import fcntl
import os
import socket
import struct
import sys
import termios

import msgspec

from gateway.workers.messages import Start, Stop

TEXT = """
sources: {web: {protocol: http, listen: "127.0.0.1:0"}}
sinks: {out: {protocol: log}}
routes: [{name: way, to: [out]}]
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
