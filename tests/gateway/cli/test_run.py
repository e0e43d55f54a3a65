"""`ce-gateway run` as a process: the embedded default with every protocol, and wrong files."""

import json
import re
import signal
import socket

import pytest

from gateway.cli.run import say_hello
from gateway.config.records import Address
from tests.gateway.cli.processes import ce_gateway, read_until


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    command = tmp_path / "ce-gateway"
    command.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("on_path")
def test_each_line_to_copy_names_the_address(capsys):
    ports = {"coap": 1, "mqtt": 2, "nats": 3, "http": 4, "admin": 5}
    say_hello({name: Address("127.0.0.1", port) for name, port in ports.items()})
    out = capsys.readouterr().out
    for text in (
        "coap-client-notls -m post",
        "coap://127.0.0.1:1/ce",
        "mosquitto_pub -h 127.0.0.1 -p 2 ",
        "nats://127.0.0.1:3/events.demo",
        "http://127.0.0.1:4/",
        "ce-gateway listen http://127.0.0.1:5",
    ):
        assert text in out


@pytest.mark.usefixtures("on_path")
def test_the_usual_port_of_the_administration_need_not_be_said(capsys):
    say_hello({"admin": Address("127.0.0.1", 8081)})
    assert "  ce-gateway listen   or" in capsys.readouterr().out


def test_a_command_that_the_shell_would_not_find_is_named_by_its_path(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [".venv/bin/ce-gateway", "run"])
    say_hello({"nats": Address("127.0.0.1", 4222), "admin": Address("127.0.0.1", 8081)})
    assert capsys.readouterr().out.count(" .venv/bin/ce-gateway ") == 2


async def test_the_embedded_default_takes_every_protocol_and_ends_cleanly():
    async with ce_gateway("run", "--ports", "auto", "--log-format", "json", K_SINK="") as gateway:
        urls = await printed_urls(gateway.stdout)
        assert set(urls) == {"coap", "mqtt", "nats", "http", "admin"}
        async with ce_gateway("listen", urls["admin"], "-n", "4", "--last", "4", "--json") as log:
            for protocol in ("coap", "mqtt", "nats", "http"):
                arguments = ["--type", f"native.{protocol}", "--data", '{"a": 1}']
                async with ce_gateway("send", urls[protocol], *arguments) as sender:
                    _, err = await sender.communicate()
                    assert sender.returncode == 0, (protocol, err)
                event = json.loads(await log.stdout.readline())
                assert (event["type"], event["data"]) == (f"native.{protocol}", {"a": 1})
            assert await log.wait() == 0
        gateway.send_signal(signal.SIGTERM)
        _, err = await gateway.communicate()
        assert gateway.returncode == 0
        lines = [json.loads(line) for line in err.splitlines()]
        assert {line["level"] for line in lines} == {"info"}


async def test_a_plain_payload_becomes_an_event_over_every_protocol():
    async with ce_gateway("run", "--ports", "auto", K_SINK="") as gateway:
        urls = await printed_urls(gateway.stdout)
        async with ce_gateway("listen", urls["admin"], "--last", "4", "--json") as log:
            for protocol in ("coap", "mqtt", "nats", "http"):
                async with ce_gateway(
                    "send", urls[protocol], "--plain", "--data", "21.5"
                ) as sender:
                    _, err = await sender.communicate()
                    assert sender.returncode == 0, (protocol, err)
                event = json.loads(await log.stdout.readline())
                assert event["type"] == f"com.example.{protocol}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sources: [", "no YAML"),
        ("sources: {}\n", "the required key 'sinks' is missing"),
    ],
)
async def test_a_wrong_file_is_exit_78(tmp_path, text, problem):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    async with ce_gateway("run", str(path)) as gateway:
        out, err = await gateway.communicate()
        assert (gateway.returncode, out) == (78, b"")
        assert problem in err.decode()


async def test_a_file_chooses_its_own_ports(tmp_path):
    async with ce_gateway("run", str(tmp_path / "x.yaml"), "--ports", "auto") as gateway:
        await gateway.communicate()
        assert gateway.returncode == 2


@pytest.mark.parametrize("protocol", ["http", "mqtt-endpoint", "coap"])
async def test_a_port_that_is_taken_is_exit_1_with_one_line(tmp_path, protocol):
    path = tmp_path / "gateway.yaml"
    with socket.socket(
        type=socket.SOCK_DGRAM if protocol == "coap" else socket.SOCK_STREAM
    ) as taken:
        taken.bind(("127.0.0.1", 0))
        if protocol != "coap":
            taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path.write_text(
            f'sources: {{web: {{protocol: {protocol}, listen: "{address}"}}}}\n'
            "sinks: {out: {protocol: log}}\n"
            "routes: [{to: [out]}]\n"
            'admin: {listen: "127.0.0.1:0"}\n'
        )
        async with ce_gateway("run", str(path)) as gateway:
            _, err = await gateway.communicate()
    assert gateway.returncode == 1
    (error,) = [line for line in err.decode().splitlines() if " ERROR " in line]
    said = f"source web: can't listen on {address}: Address already in use"
    assert error.endswith(said)
    assert "Traceback" not in err.decode()


async def test_with_k_sink_the_lines_to_copy_do_not_name_an_event_log():
    async with ce_gateway(
        "run", "--ports", "auto", K_SINK="http://u:pass@127.0.0.1:1/x"
    ) as gateway:
        await read_until(gateway.stdout, "Ready.")
        said = await read_until(gateway.stdout, "K_SINK")
        assert said.strip() == "Events go to K_SINK, http://127.0.0.1:1/x"
        assert "http://127.0.0.1:" in await read_until(gateway.stdout, "Console")


async def printed_urls(stream) -> dict[str, str]:
    """Return the addresses in the lines to copy, as URLs that `send` takes."""
    await read_until(stream, "Ready.")
    text = ""
    while "listen" not in text:
        text += (await stream.readline()).decode()
    urls = dict(re.findall(r"((?:coap|nats))(://\S+)", text))
    urls = {scheme: scheme + rest for scheme, rest in urls.items()}
    port = re.search(r"mosquitto_pub -h 127.0.0.1 -p (\d+)", text)[1]
    urls["mqtt"] = f"mqtt://127.0.0.1:{port}/sensors/1"
    urls["http"] = re.search(r"curl .* (http://\S+)", text)[1]
    urls["admin"] = re.search(r"listen (http://\S+)", text)[1]
    return urls
