import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.build import build

COMMANDS = ["run", "check", "schema", "send", "listen", "dead-letters", "spool"]


def ce_gateway(*arguments):
    return CliRunner().invoke(app, arguments, prog_name="ce-gateway")


def test_help_names_every_command_and_the_exit_codes():
    result = ce_gateway("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    assert "78 wrong configuration" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = ce_gateway(name, "--help")
    assert result.exit_code == 0
    assert f"\n    ce-gateway {name}" in result.output


def test_an_unknown_command_is_wrong_usage():
    result = ce_gateway("chek")
    assert result.exit_code == 2
    assert "check" in result.output


def test_the_version_is_that_of_the_package_and_says_whether_it_is_compiled():
    assert ce_gateway("--version").output == f"ce-gateway {build()}\n"


def test_importing_run_loads_neither_the_screen_nor_protocol_libraries():
    heavy = ("rich", "lark", "fastapi", "paho", "aiocoap", "nats", "confluent_kafka", "cloudevents")
    heavy = (*heavy, "kopf", "aiohttp")
    code = (
        "import sys, gateway.__main__, gateway.cli.run\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout == b"[]\n", result.stderr


def test_an_installed_package_adds_its_command(tmp_path):
    (tmp_path / "hello_command.py").write_text(
        "import typer\n"
        "app = typer.Typer(add_completion=False)\n"
        "@app.command()\n"
        "def hello(name: str) -> None:\n"
        "    typer.echo(f'hello {name}')\n"
    )
    info = tmp_path / "hello_command-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello-command\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[cloudevents_gateway.commands]\nhello = hello_command:app\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "hello", "you"],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, b"hello you\n"), result.stderr
