"""Parent and workers as processes: what an operator sees and does; the rest is in tests/e2e."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.servers import fetch
from tests.gateway.cli.processes import ce_gateway, read_until

TEXT = """
sources: {web: {protocol: http, listen: "127.0.0.1:0"}}
sinks: {out: {protocol: log}}
routes: [{name: way, to: [out]}]
admin: {listen: "127.0.0.1:0"}
"""
JSON_LOG = ("--log-format", "json")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(f"{TEXT}state: {{path: {tmp_path / 'state'}}}\n")
    return path


def console_of(log):
    """Return the port of the administration, which the log names."""
    text = "health, metrics and console on "
    (line,) = (entry["message"] for entry in log if entry["message"].startswith(text))
    return int(line.rpartition(":")[2])


async def entries(stream, until):
    """Return the log's entries up to the one whose message begins so."""
    found = []
    while line := await stream.readline():
        found.append(json.loads(line))
        if found[-1]["message"].startswith(until):
            return found
    raise AssertionError(f"ended without {until!r}: {found}")


async def ready(process):
    """Return the log's entries up to the parent's own "ready"."""
    found = []
    while not found or "worker" in found[-1]:
        found += await entries(process.stderr, "ready")
    return found


def pids(log):
    words = [entry["message"].split() for entry in log]
    return {int(one[1]): int(one[5]) for one in words if one[:1] == ["worker"] and "is" in one}


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def gone(numbers):
    async with asyncio.timeout(30):
        while not all(map(is_gone, numbers)):
            await asyncio.sleep(0.02)


async def test_lines_say_which_worker_and_the_parent_when_all_are_ready(file):
    async with ce_gateway("run", str(file), "--workers", "2", *JSON_LOG) as gateway:
        log = await ready(gateway)
        assert {entry.get("worker") for entry in log} == {None, 0, 1}
        assert [entry["message"] for entry in log if "worker" not in entry][-1] == "ready"
        assert set(pids(log)) == {0, 1}
        gateway.send_signal(signal.SIGTERM)
        _, err = await gateway.communicate()
        assert gateway.returncode == 0
        levels = {json.loads(line)["level"] for line in err.splitlines()}
        assert levels == {"info"}
    assert all(map(is_gone, pids(log).values()))


@pytest.mark.parametrize(
    ("option", "environment", "in_file", "expected"),
    [
        (["--workers", "2"], "3", "4", 2),
        ([], "3", "2", 3),
        ([], "", "2", 2),
    ],
)
async def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    file, option, environment, in_file, expected
):
    file.write_text(f"{file.read_text()}workers: {in_file}\n")
    arguments = ("run", str(file), *option, *JSON_LOG)
    async with ce_gateway(*arguments, CE_GATEWAY_WORKERS=environment) as gateway:
        log = await entries(gateway.stderr, "workers: ")
        assert log[-1]["message"] == f"workers: {expected}"


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "many", "99999"])
async def test_a_number_that_is_none_is_wrong_usage(file, wrong):
    async with ce_gateway("run", str(file), "--workers", wrong) as gateway:
        _, err = await gateway.communicate()
        assert gateway.returncode == 2
        assert "expected 1 to 1024, or auto" in " ".join(err.decode().split())


async def test_one_worker_is_the_process_itself(file):
    async with ce_gateway("run", str(file), "--workers", "1", *JSON_LOG) as gateway:
        log = await entries(gateway.stderr, "ready")
        assert not any("worker" in entry for entry in log)
        assert not any(entry["message"].startswith("worker") for entry in log)
        children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text()
        assert children == ""


@pytest.mark.parametrize("count", [1, 2])
async def test_the_status_says_how_many_workers_there_are(file, count):
    file.write_text(f"{file.read_text()}workers: 3\n")
    async with ce_gateway("run", str(file), "--workers", str(count), *JSON_LOG) as gateway:
        port = console_of(await entries(gateway.stderr, "ready"))
        status = json.loads(await asyncio.to_thread(get, port, "/api/v1/status"))
        assert status["configuration"]["workers"] == count
        assert len(status.get("workers", "1")) == count


async def test_consent_by_callback_waits_until_earlier_workers_have_left_nothing(file):
    folder = file.parent / "state/worker-1"
    folder.mkdir(parents=True)
    callback = "{url: 'https://a.example/', listen: '127.0.0.1:0'}"
    webhook = f"{{origin: a.example, callback: {callback}}}"
    sink = f"{{protocol: http, url: 'https://r.example/', token: t, webhook: {webhook}}}"
    file.write_text(file.read_text().replace("{protocol: log}", sink))
    async with ce_gateway("run", str(file), *JSON_LOG) as gateway:
        _, err = await gateway.communicate()
        assert gateway.returncode == 1
        assert "sinks.out.webhook.callback" in err.decode()
        assert "worker-1" in err.decode()


async def test_ctrl_c_drains_once_and_a_second_time_ends_at_once(file):
    async with ce_gateway("run", str(file), "--workers", "2", *JSON_LOG) as gateway:
        log = await ready(gateway)
        gateway.send_signal(signal.SIGINT)
        await gateway.communicate()
        assert gateway.returncode == 0
    await gone(pids(log).values())


async def test_a_second_signal_kills_workers_that_do_not_end(file):
    async with ce_gateway("run", str(file), "--workers", "2", *JSON_LOG) as gateway:
        log = await ready(gateway)
        stopped = pids(log)[1]
        os.kill(stopped, signal.SIGSTOP)
        gateway.send_signal(signal.SIGTERM)
        await entries(gateway.stderr, "draining")
        gateway.send_signal(signal.SIGTERM)
        await gateway.communicate()
        assert gateway.returncode == 1
    await gone(pids(log).values())


async def test_the_console_needs_no_answer_of_a_worker_that_hangs(file):
    async with ce_gateway("run", str(file), "--workers", "2", *JSON_LOG) as gateway:
        log = await ready(gateway)
        port = console_of(log)
        os.kill(pids(log)[1], signal.SIGSTOP)
        try:
            text = await asyncio.to_thread(get, port, "/metrics")
            assert b'ce_gateway_worker_up{worker="1"} 1.0' in text
        finally:
            os.kill(pids(log)[1], signal.SIGCONT)
        os.kill(pids(log)[1], signal.SIGKILL)
        lines = await entries(gateway.stderr, "worker 1 has ended")
        assert lines[-1]["message"].startswith(
            "worker 1 has ended: killed by SIGKILL; it is started again in 0.1 s"
        )
        while (await asyncio.to_thread(status_of, port, "/readyz")) == 200:
            await asyncio.sleep(0.02)  # its end is known by now, its successor not yet ready
        assert await asyncio.to_thread(status_of, port, "/livez") == 200
        await entries(gateway.stderr, "worker 1 is ready")
        assert await asyncio.to_thread(status_of, port, "/readyz") == 200
        assert b'restarts_total{worker="1"} 1.0' in await asyncio.to_thread(get, port, "/metrics")


def get(port, path):
    return fetch(port, path, seconds=30)[1]


def status_of(port, path):
    return fetch(port, path, seconds=30)[0]


async def test_a_worker_that_is_asked_to_end_is_replaced(file):
    async with ce_gateway("run", str(file), "--workers", "2", *JSON_LOG) as gateway:
        log = await ready(gateway)
        os.kill(pids(log)[0], signal.SIGTERM)
        lines = await entries(gateway.stderr, "worker 0 has ended")
        assert "exit code 0" in lines[-1]["message"]
        await entries(gateway.stderr, "worker 0 is ready")


async def test_the_embedded_default_has_one_nats_server_for_all_workers(tmp_path):
    arguments = ("run", "--ports", "auto", "--workers", "2")
    async with ce_gateway(*arguments, K_SINK="", STATE_DIRECTORY=str(tmp_path)) as gateway:
        assert "Ready with 2 workers." in await read_until(gateway.stdout, "Ready")
        nats = (await read_until(gateway.stdout, " nats://")).split()[2]
        async with ce_gateway("send", nats, "--data", "1", "--type", "t") as sender:
            _, err = await sender.communicate()
            assert sender.returncode == 0, err
        log = (await read_until(gateway.stdout, " listen ")).split()[-1]
        async with ce_gateway("listen", log, "-n", "1", "--last", "1", "--json") as listener:
            assert json.loads(await listener.stdout.readline())["data"] == 1
        gateway.send_signal(signal.SIGTERM)
        await gateway.communicate()
        assert gateway.returncode == 0


async def test_without_k_sink_the_gateway_lives_and_is_not_ready(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"""
sources: {{web: {{protocol: http, listen: "127.0.0.1:0"}}}}
sinks: {{out: {{protocol: http, url: "${{K_SINK}}"}}}}
routes: [{{to: [out]}}]
admin: {{listen: "127.0.0.1:0"}}
state: {{path: {tmp_path / "state"}}}
"""
    )
    environ = {"K_SINK": ""}
    async with ce_gateway("run", str(path), "--workers", "2", *JSON_LOG, **environ) as gateway:
        port = console_of(await entries(gateway.stderr, "the address of a sink is not known"))
        await entries(gateway.stderr, "the address of a sink is not known")
        async with asyncio.timeout(30):
            while b"K_SINK" not in await asyncio.to_thread(get, port, "/readyz"):
                await asyncio.sleep(0.05)
        assert await asyncio.to_thread(status_of, port, "/livez") == 200
