r"""LIKE patterns (cesql/spec.md 3.4.3): `%` is any text, `_` one character, `\` escapes both.

A backslash before anything else is itself. Line ends are characters as all others.
"""

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\\[%_]|[%_]|[^%_\\]+|\\")


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether the whole of a text matches `pattern`."""
    parts: list[list[str | None]] = [[]]  # the pattern, cut at each %; None stands for _
    for piece in _TOKEN.findall(pattern):
        if piece == "%":
            parts.append([])
        elif piece == "_":
            parts[-1].append(None)
        else:
            parts[-1].append(piece[1:] if piece in {r"\%", r"\_"} else piece)
    if not any(None in part for part in parts):
        texts = ["".join(filter(None, part)) for part in parts]
        simple = _compile_simple(texts)
        if simple is not None:
            return simple
    return _compile_general(["".join(map(_expression, part)) for part in parts])


def _compile_simple(texts: list[str]) -> Callable[[str], bool] | None:
    """Return what str can do by itself: equality, prefix, suffix, substring."""
    match texts:
        case [whole]:
            return lambda text: text == whole
        case [prefix, ""]:
            return lambda text: text.startswith(prefix)
        case ["", suffix]:
            return lambda text: text.endswith(suffix)
        case ["", inner, ""]:
            return lambda text: inner in text
        case _:
            return None


def _expression(token: str | None) -> str:
    return "." if token is None else re.escape(token)


def _compile_general(parts: list[str]) -> Callable[[str], bool]:
    # The first place where a part fits is always good enough, because what follows has the more
    # room. Atomic groups keep to it, so that no text makes many % slow by trying all places.
    text = parts[0]
    if len(parts) > 1:
        text += "".join(f"(?>.*?{part})" for part in parts[1:-1] if part) + ".*" + parts[-1]
    expression = re.compile(text, re.DOTALL)
    return lambda text: expression.fullmatch(text) is not None
