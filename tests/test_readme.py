"""What the README shows works: configurations load, commands exist, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.loader import load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()


def test_the_configuration_loads():
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        load(block, {})


def test_every_command_and_option_it_names_exists():
    commands = set(re.findall(r"ce-gateway ([a-z]+(?:-[a-z]+)*)", README))
    assert {"run", "check", "send", "listen", "schema"} <= commands
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        for option in re.findall(rf"ce-gateway {command}\b[^\n|`]*?(--[a-z-]+)", README):
            assert option in done.stdout, f"{command} {option}"


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES[:2]:
        assert set(re.findall(r"^    make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
