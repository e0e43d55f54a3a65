"""The nearest right name, for messages about a wrong one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that `word` was most likely meant to be, or None.

    Case, `-` and `_` count for nothing, so that `backoff_delay` finds `backoffDelay`.
    """
    plain = {_plain(name): name for name in names}
    matches = get_close_matches(_plain(word), list(plain), n=1, cutoff=0.6)
    return plain[matches[0]] if matches else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return the end of a message, `; did you mean 'X'?`, or nothing."""
    name = nearest(word, names)
    return f"; did you mean {name!r}?" if name is not None else ""


def one_of(names: Iterable[str]) -> str:
    """Return `'a', 'b' or 'c'`."""
    shown = [repr(name) for name in names]
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
