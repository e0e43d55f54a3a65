"""Dead letters as lines for people."""

import base64
import codecs
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.cli.listen import as_block, printable

_HEADINGS: Final = ("ID", "LAST TIME", "ROUTE", "SINK", "REASON", "TRIES", "TYPE", "FROM")


def table(letters: Iterable[dict[str, Any]]) -> list[str]:
    """Return a heading and a line for each summary, in columns."""
    rows = [_HEADINGS, *map(_row, letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(letter: dict[str, Any]) -> Sequence[str]:
    reason = letter["reason"]
    if letter["status"] is not None:
        reason += f" {letter['status']}"
    tries = str(letter["attempts"])
    if letter["replays"]:
        tries += f"+{letter['replays']}"
    where = letter["event_source"] or f"{letter['protocol']}:{letter['address']}"
    cells = (
        str(letter["id"]),
        f"{letter['last_time'][:19]}Z",
        letter["route"] or "-",
        letter["sink"] or "-",
        reason,
        tries,
        letter["event_type"] or "(no event)",
        where,
    )
    return [printable(cell) for cell in cells]


def kind_of(result: dict[str, Any]) -> str:
    """Return what became of a replayed letter: `arrived`, `refused` or `missed`."""
    reason = result["reason"]
    if reason == "dead_lettered" or (result["outcome"], reason) == ("rejected", "sink_refused"):
        return "refused"
    return "arrived" if result["outcome"] == "accepted" else "missed"


def summary(tally: Counter[str], total: int) -> str:
    """Return what became of all, by how many there were of each `kind_of`."""
    parts = [f"{tally['arrived']} of {total} dead letters have arrived or are in the spool"]
    if refused := tally["refused"]:
        parts.append(f"{refused} {'was' if refused == 1 else 'were'} refused again")
    if missed := tally["missed"]:
        parts.append(f"{missed} could not be delivered")
    return "; ".join(parts)


def block(encoded: bytes) -> str:
    """Return everything of a letter: what is known of it, then the event or the message."""
    try:
        letter = json.loads(encoded)
    except (ValueError, RecursionError):  # a number of 5000 digits, a thousand levels
        return printable(encoded.decode())
    event, message = letter.pop("event", None), letter.pop("message", None)
    facts = {name: value for name, value in letter.items() if value not in (None, "")}
    if text := _decoded(facts.get("error_data", "")):
        facts["error_text"] = text
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {printable(str(value))}" for name, value in facts.items()]
    lines.append("")
    if event is not None:
        lines.append(as_block(event))
    elif message is not None:
        lines += [f"{name}  {_shown(value)}" for name, value in message.items()]
    return "\n".join(lines)


def _decoded(error_data: str) -> str:
    """Return what the sink said; "" if it is no text. The end may be cut off in a character."""
    try:
        said = base64.b64decode(error_data, validate=True)
        return codecs.getincrementaldecoder("utf-8")().decode(said)
    except ValueError:
        return ""


def _shown(value: object) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value)
