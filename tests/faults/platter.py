"""What a power cut leaves of a lane's folder, by the journal of the disk that was watched.

What was synced is there. What was not may be there, or in part, or be something else; names that
were made, changed or removed since their folder was synced may be as before. Metadata of one folder
need not reach the disk in order: that is more than most file systems allow themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

PAGE = 512
"""Of what is torn apart at a power cut."""
WAYS = ("none", "all", "begin", "zeros", "garbage", "hole")
"""What is there of what was written and not synced."""


@dataclass
class File:
    """What is certain of a file.

    Attributes:
        durable: so many of its bytes are synced.
        failed: a sync has failed: no later one makes more of it durable.
        cut_to: it was cut to this size, which may not have reached the disk; None if it was not.
    """

    durable: int = 0
    failed: bool = False
    cut_to: int | None = None


@dataclass
class Platter:
    """What is certain, and what is pending.

    Attributes:
        names: durable names of the lane's folder, with the files' numbers.
        pending: changes of names since the folder was last synced, in order.
        folders: those whose names are not durable.
    """

    names: dict[str, int] = field(default_factory=dict)
    pending: list[list[Any]] = field(default_factory=list)
    files: dict[int, File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


def read(journal: Sequence[Sequence[Any]], lane: Path) -> Platter:
    """Return what a journal says of a lane's folder."""
    found = Platter()
    for kind, *rest in journal:
        match kind:
            case "folder":
                found.folders.add(rest[0])
            case "base":
                number, name, size = rest
                found.names[name] = number
                found.files[number] = File(size)
            case "create":
                found.files[rest[0]] = File()
                found.pending.append([kind, *rest])
            case "move" | "remove":
                found.pending.append([kind, *rest])
            case "synced" if rest[0] in found.files:
                file = found.files[rest[0]]
                if not file.failed:
                    file.durable = max(file.durable, rest[1])
            case "unsynced" if rest[0] in found.files:
                found.files[rest[0]].failed = True
            case "cut":
                found.files[rest[0]].cut_to = rest[1]
            case "names":
                folder = Path(rest[0])
                found.folders -= {name for name in found.folders if Path(name).parent == folder}
                if folder == lane:
                    for change in found.pending:
                        _apply(found.names, change)
                    found.pending.clear()
    return found


def leave(platter: Platter, attic: Path, to: Path, chance: Random | None) -> None:
    """Make a folder as a power cut leaves it.

    Args:
        platter: what is certain.
        attic: what the files held.
        to: the folder; must not be there.
        chance: of what happens to the rest; None: nothing has reached the disk but what is synced.
    """
    if any(chance is None or chance.random() < 0.5 for _ in platter.folders):
        return
    to.mkdir(parents=True)
    names = dict(platter.names)
    if chance is not None:
        kept = platter.pending
        if chance.random() < 0.5:
            kept = kept[: chance.randint(0, len(kept))]
        else:
            kept = [change for change in kept if chance.random() < 0.5]
        for change in kept:
            _apply(names, change)
    for name, number in sorted(names.items()):
        if name != "lock":
            (to / name).write_bytes(_content(platter.files[number], attic, number, chance))


def _apply(names: dict[str, int], change: Sequence[Any]) -> None:
    match change:
        case ["create", number, name]:
            names[name] = number
        case ["move", number, old, new]:
            if names.get(old) == number:
                del names[old]
            names[new] = number
        case ["remove", _, name]:
            names.pop(name, None)


def _content(file: File, attic: Path, number: int, chance: Random | None) -> bytes:
    seen = (attic / str(number)).read_bytes()
    if chance is None:
        return seen[: file.durable]
    tail = attic / f"{number}.tail"
    if file.cut_to is not None and tail.exists() and chance.random() < 0.5:
        seen = seen[: file.cut_to] + tail.read_bytes()
    kept, fresh = seen[: file.durable], bytearray(seen[file.durable :])
    at = chance.randrange(len(fresh) + 1)
    match chance.choice(WAYS):
        case "none":
            fresh.clear()
        case "begin":
            del fresh[at:]
        case "zeros":
            fresh[at:] = bytes(len(fresh) - at)
        case "garbage":
            fresh[at:] = chance.randbytes(len(fresh) - at)
        case "hole":
            fresh[at : at + PAGE] = bytes(len(fresh[at : at + PAGE]))
    return bytes(kept + fresh)
