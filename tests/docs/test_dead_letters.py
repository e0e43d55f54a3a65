"""docs/dead-letters.md against the code: the reasons that it lists, and the call that it shows."""

import ast
import asyncio
import json
import re
import shlex
from pathlib import Path

from gateway.delivery import Reason
from tests.gateway.cli.test_dead_letters import Gateway, letter

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/dead-letters.md").read_text()
BROKERS = ("gateway/sources/nats", "gateway/sources/mqtt")
"""The sources whose messages are kept when they can't be decoded; the others answer a sender."""


def listed(heading):
    """Return the words in the first column of the table that follows."""
    rows = TEXT.partition(heading)[2].lstrip().partition("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}


def trees(*folders):
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if "coap" not in path.parts and path.name != "can.py":
                yield ast.parse(path.read_text())


def reason_of(node):
    """Return the expression with which a piece of code says a CloudEventError's reason."""
    if isinstance(node, ast.keyword) and node.arg == "reason":
        return node.value
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    is_default = isinstance(target, ast.Name) and target.id == "default_reason"
    return node.value if is_default else None


def test_the_reasons_of_messages_are_those_that_decoders_give():
    given = {
        word.value
        for tree in trees("bindings", *BROKERS)
        for node in ast.walk(tree)
        if (value := reason_of(node)) is not None
        for word in ast.walk(value)
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }
    assert listed("Of a message that brought no event:") == given


def test_the_reasons_of_events_are_those_that_sinks_give():
    given = {
        Reason[node.attr].value
        for tree in trees("gateway/sinks")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    }
    assert listed("Of an event:") == given


def test_commands_name_reasons_that_there_are():
    known = listed("Of an event:") | listed("Of a message that brought no event:")
    source = (ROOT / "gateway/cli/dead_letters/commands.py").read_text()
    assert set(re.findall(r"--reason (\w+)", TEXT + source)) <= known


async def test_the_curl_command_replays(tmp_path):
    gateway = Gateway(tmp_path)
    await gateway.open()
    try:
        await gateway.put(letter(1), letter(2))
        (command,) = re.findall(r"^    (curl .*)$", TEXT.replace("\\\n", " "), re.MULTILINE)
        arguments = shlex.split(command.replace("http://127.0.0.1:8081", gateway.url))
        process = await asyncio.create_subprocess_exec(
            *arguments, "--silent", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["accepted"] * 2
        assert await gateway.ids() == []
    finally:
        await gateway.close()
