"""A plain payload becomes an event: attributes are made by templates over protocol facts.

A template is text with `{fact}` and `{fact[n]}` in it; `{{` and `}}` stand for braces. `topic` and
`path` are cut at "/", `subject` at ".", and parts are counted from 0 (a path's leading "/" is no
part). In `source` and `dataschema`, what is inserted is percent-encoded where it would end or
change the part of the URI it stands in. Id and time come from the caller, as only the protocol
knows what makes a redelivery the same message.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from bindings.errors import InvalidEventError, excerpt
from bindings.event import Event, is_media_type
from bindings.json_format import is_json

FACTS: Final[Mapping[str, str]] = {
    "topic": "/",
    "path": "/",
    "subject": ".",
    "client_id": "",
    "device": "",
    "channel": "",
    "canid": "",
    "message": "",
}
"""What a template can name, and where it is cut into parts; "" is not at all."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}\[\]]*)(?:\[([^{}\[\]]*)\])?\}|([{}])|[^{}]+")
_PART = re.compile(r"[0-9]{1,4}")
_URI_SAFE: Final = "/-._~!$&'()*+,;="
# Where a colon would end a scheme (the first segment) or start a port (the authority): a value such
# as a MAC address must do neither.
_BEFORE_A_COLON = re.compile(r"[^:/?#]*|(?:[^:/?#]+:)?//[^/?#]*")


class _Insertion:
    """One `{fact}` or `{fact[n]}`."""

    __slots__ = ("_cut", "_fact", "_index", "_safe", "_text")

    def __init__(self, text: str, fact: str, index: int | None, safe: str | None) -> None:
        self._text = text
        self._fact = fact
        self._index = index
        self._safe = safe
        self._cut = FACTS[fact]

    def fill(self, facts: Mapping[str, str]) -> str:
        """Return what stands in its place.

        Raises:
            InvalidEventError: the message has no such fact, or not as many parts.
        """
        value = facts.get(self._fact)
        if value is not None and self._index is not None:
            if self._fact == "path":
                value = value.removeprefix("/")
            parts = value.split(self._cut)
            value = parts[self._index] if self._index < len(parts) else None
        if value is None:
            raise InvalidEventError(f"the message has no {self._text}", reason="template")
        if self._safe is None:
            return value
        try:
            return quote(value, safe=self._safe)
        except UnicodeEncodeError:
            raise InvalidEventError(
                f"{self._text} is no UTF-8: {excerpt(value)}", reason="forbidden_character"
            ) from None


class Template:
    """One attribute's template, compiled.

    Args:
        text: the template.
        uri: whether the attribute is a URI, so that inserted values have to be encoded.

    Raises:
        ValueError: a brace without its other half, or a fact that does not exist.
    """

    def __init__(self, text: str, *, uri: bool = False) -> None:
        pieces: list[str | _Insertion] = []
        before = ""  # the text so far, with a letter for each insertion
        for match in _PIECE.finditer(text):
            piece, fact, index, brace = match[0], match[1], match[2], match[3]
            if brace:
                raise ValueError(
                    f"{text!r}: the {brace!r} at {match.start()} has no other half; "
                    f"write {brace * 2!r} for a brace"
                )
            if fact is None:
                pieces.append(piece[0] if piece in ("{{", "}}") else piece)
                before += piece
            else:
                _check_fact(text, fact, index)
                colon = "" if _BEFORE_A_COLON.fullmatch(before) else ":@"
                number = None if index is None else int(index)
                pieces.append(_Insertion(piece, fact, number, _URI_SAFE + colon if uri else None))
                before += "x"
        self._pieces: Sequence[str | _Insertion] = pieces
        self._constant = "".join(piece for piece in pieces if isinstance(piece, str))
        self._is_constant = not any(isinstance(piece, _Insertion) for piece in pieces)
        self.sample = "".join(piece if isinstance(piece, str) else "x" for piece in pieces)

    def fill(self, facts: Mapping[str, str]) -> str:
        """Return the attribute's value for one message.

        Raises:
            InvalidEventError: the message lacks a fact or a part (reason `template`).
        """
        if self._is_constant:
            return self._constant
        return "".join(
            [piece if isinstance(piece, str) else piece.fill(facts) for piece in self._pieces]
        )


class Wrapper:
    """Makes events of plain payloads, by one source's `event:` table.

    Args:
        type: template of the attribute, as are those below.
        source: its inserted values are percent-encoded where a URI-reference demands it.
        subject: none by default.
        datacontenttype: a media type; or `auto`: what the protocol says, else `application/json` if
            the payload parses as JSON, else `text/plain` if it is UTF-8, else
            `application/octet-stream`.
        dataschema: an absolute URI.
        extensions: templates by attribute name.

    Raises:
        ValueError: a template is malformed, or no message could make a valid event by it.
    """

    def __init__(
        self,
        *,
        type: str,  # noqa: A002 - the attribute's name
        source: str,
        subject: str | None = None,
        datacontenttype: str = "auto",
        dataschema: str | None = None,
        extensions: Mapping[str, str] | None = None,
    ) -> None:
        self._type = Template(type)
        self._source = Template(source, uri=True)
        self._subject = None if subject is None else Template(subject)
        self._datacontenttype = None if datacontenttype == "auto" else datacontenttype
        self._dataschema = None if dataschema is None else Template(dataschema, uri=True)
        self._extensions = [(name, Template(text)) for name, text in (extensions or {}).items()]
        try:
            Event(
                id="x",
                type=self._type.sample,
                source=self._source.sample,
                subject=self._subject.sample if self._subject else None,
                datacontenttype=self._datacontenttype,
                dataschema=self._dataschema.sample if self._dataschema else None,
                extensions={name: template.sample for name, template in self._extensions},
            )
        except InvalidEventError as error:
            raise ValueError(str(error)) from None

    def wrap(
        self,
        payload: bytes,
        facts: Mapping[str, str],
        *,
        id: str,  # noqa: A002 - the attribute's name
        time: str | None,
        content_type: str = "",
    ) -> Event:
        """Return the event that one message becomes.

        Args:
            payload: the data as it came; empty is no data.
            facts: what the protocol knows of the message, by the names in `FACTS`.
            id: the same for a redelivery of this message, different for every other.
            time: when it arrived or happened, RFC 3339; None for no `time`.
            content_type: what the protocol says of the payload; "" when it is silent.

        Raises:
            InvalidEventError: a template names what the message lacks (reason `template`), or a
                fact has characters that the attribute can't hold.
        """
        media_type = self._datacontenttype
        if media_type is None and payload:
            known = content_type and is_media_type(content_type)
            media_type = content_type if known else _media_type_of(payload)
        return Event(
            id=id,
            type=self._type.fill(facts),
            source=self._source.fill(facts),
            subject=self._subject.fill(facts) if self._subject else None,
            time=time,
            datacontenttype=media_type,
            dataschema=self._dataschema.fill(facts) if self._dataschema else None,
            extensions={name: template.fill(facts) for name, template in self._extensions},
            data=payload or None,
        )


def _media_type_of(payload: bytes) -> str:
    if is_json(payload):
        return "application/json"
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def _check_fact(text: str, fact: str, index: str | None) -> None:
    if fact not in FACTS:
        near = difflib.get_close_matches(fact, FACTS, n=1, cutoff=0.0)[0]
        raise ValueError(f"{text!r}: there is no {excerpt(fact)}; did you mean {{{near}}}?")
    if index is None:
        return
    if not FACTS[fact]:
        raise ValueError(f"{text!r}: {fact} has no parts; write {{{fact}}}")
    if not _PART.fullmatch(index):
        raise ValueError(f"{text!r}: parts are numbered from 0, as in {{{fact}[1]}}")
