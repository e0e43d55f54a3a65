"""The subject of an event, from a template."""

import re
from functools import lru_cache
from typing import Final

from bindings.event import CORE_ATTRIBUTES, AttributeValue, Event, canonical_text, is_valid_name

MAX_SUBJECT_BYTES: Final = 1024
"""The server takes lines of 4096 bytes by default, and closes the connection of who sends more."""

_PLACE = re.compile(r"\{([a-z0-9]+)\}")
_UNSAFE = re.compile(r"[^!-)+-=?-~]")  # blanks, controls, non-ASCII and the wildcards * and >
_SUBJECT = re.compile(r"[^\s.*>]+(?:\.[^\s.*>]+)*")


class SubjectTemplate:
    """A subject, or one with attributes of the event in it: `events.{type}`.

    Values are made safe, so that no event chooses a subject freely.

    Raises:
        ValueError: it can't become a subject.
    """

    def __init__(self, template: str) -> None:
        parts = _PLACE.split(template)
        self._names = parts[1::2]
        self._texts = parts[::2]
        for name in self._names:
            if not (name in CORE_ATTRIBUTES or is_valid_name(name)):
                raise ValueError(f"{{{name}}} is no attribute")
        sample = "x".join(self._texts)
        if not _SUBJECT.fullmatch(sample) or "{" in sample or "}" in sample:
            raise ValueError("expected words with dots between, such as events.{type}")
        self._fill = lru_cache(maxsize=4096)(self._uncached)

    @property
    def pattern(self) -> str:
        """A subject with wildcards that matches whatever this makes: `events.>`."""
        if not self._names:
            return self._texts[0]
        return self._texts[0].rpartition(".")[0] + ".>" if "." in self._texts[0] else ">"

    def of(self, event: Event) -> str:
        """Return the subject of an event; `_` stands for an attribute that it lacks."""
        if not self._names:
            return self._texts[0]
        return self._fill(*[_attribute(event, name) for name in self._names])

    def _uncached(self, *values: str) -> str:
        subject = self._texts[0]
        for value, text in zip(values, self._texts[1:], strict=True):
            subject += _UNSAFE.sub("_", value) + text
        words = [word or "_" for word in subject.split(".")]
        if not self._texts[0] and words[0].startswith(("$", "_INBOX", "_R_")):
            # $JS.API and $SYS are commands to the server, _INBOX is somebody's private address.
            words[0] = "_" + words[0]
        return ".".join(words)


def _attribute(event: Event, name: str) -> str:
    value: AttributeValue | None
    value = getattr(event, name) if name in CORE_ATTRIBUTES else event.extensions.get(name)
    if type(value) is str:
        return value
    return "_" if value is None else canonical_text(value)
