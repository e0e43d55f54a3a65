"""The embedded nats-server: it starts, keeps its store, and leaves nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import nats
import pytest

from gateway.embedded_nats import EmbeddedNats, find_server
from gateway.errors import GatewayError


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_ready_when_start_returns_and_gone_after_stop():
    server = EmbeddedNats()
    await server.start()
    pid = server.pid
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(name="A", subjects=["a"])
    assert (await client.jetstream().publish("a", b"x")).seq == 1
    await client.close()
    await server.stop()
    assert not is_alive(pid)


async def test_it_listens_on_the_given_port_and_keeps_its_store(tmp_path):
    first = EmbeddedNats(tmp_path)
    await first.start()
    port = int(first.url.rpartition(":")[2])
    client = await nats.connect(first.url)
    await client.jetstream().add_stream(name="A", subjects=["a"])
    await client.jetstream().publish("a", b"kept")
    await client.close()
    await first.kill()
    second = EmbeddedNats(tmp_path, port=port)
    await second.start()
    assert second.url == first.url == f"nats://127.0.0.1:{port}"
    client = await nats.connect(second.url)
    assert (await client.jetstream().get_msg("A", 1)).data == b"kept"
    await client.close()
    await second.stop()


async def test_a_temporary_store_is_removed():
    server = EmbeddedNats()
    await server.start()
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
    folder = Path(os.fsdecode(command[command.index(b"--store_dir") + 1]))
    assert folder.is_dir()
    await server.stop()
    assert not folder.exists()


async def test_a_port_that_is_taken_is_an_error_with_the_servers_words():
    first = EmbeddedNats()
    await first.start()
    port = int(first.url.rpartition(":")[2])
    with pytest.raises(GatewayError, match="address already in use") as error:
        await EmbeddedNats(port=port).start()
    assert "JetStream" not in str(error.value)  # the rest of its log stays away
    await first.stop()


async def test_it_ends_when_we_are_killed():
    script = (
        "import asyncio\n"
        "from gateway.embedded_nats import EmbeddedNats\n"
        "async def main():\n"
        "    server = EmbeddedNats()\n"
        "    await server.start()\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(10):
        while is_alive(pid):
            await asyncio.sleep(0.01)


def test_the_wheels_server_is_found():
    assert os.access(find_server(), os.X_OK)
