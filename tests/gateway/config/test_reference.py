import re
from pathlib import Path

from gateway.config.reference import markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_reference_is_up_to_date():
    assert DOCUMENT.read_text() == markdown(), (
        "stale: ce-gateway schema --markdown > docs/configuration.md"
    )


def test_every_key_has_a_meaning():
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_link_leads_to_a_heading():
    text = markdown()
    headings = {
        "#" + re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\((#[^)]+)\)", text)) <= headings


def test_values_are_written_as_in_a_file():
    rows = markdown()
    assert "| `backoffCap` | duration | `PT10M` |" in rows
    assert "| `max_event_bytes` | size | `64KiB` |" in rows
    assert "| `listen` | address | `127.0.0.1:8081` |" in rows
    assert "| `retry` | integer, at least 0 | `10` |" in rows
