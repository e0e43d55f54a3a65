"""Binary mode: attributes in headers, data in the payload, as each binding's document has it."""

import base64
import re
from typing import Any, Final, NamedTuple

from bindings.binding import Message
from conformance.forms import WireEvent


class Misread(ValueError):  # noqa: N818 - it is a verdict
    """A message that says no event by the document's text."""


class Rule(NamedTuple):
    """How a binding writes attributes.

    Attributes:
        prefix: what stands before each name.
        escapes: whether values are percent-encoded (http-protocol-binding.md 3.1.3.2).
        folds: whether names are compared without case.
        own_content_type: whether `datacontenttype` is the protocol's own content type.
        tells_empty: whether a payload that is absent differs from one that is empty.
        spellings: other names of attributes.
    """

    prefix: str
    escapes: bool = False
    folds: bool = False
    own_content_type: bool = True
    tells_empty: bool = False
    spellings: tuple[tuple[str, str], ...] = ()


_LETTERS: Final = (
    ("t", "type"), ("i", "id"), ("s", "source"), ("j", "subject"), ("m", "time"),
    ("d", "dataschema"), ("c", "datacontenttype"), ("v", "specversion"),
)  # fmt: skip

RULES: Final = {
    "http": Rule("ce-", escapes=True, folds=True),
    "nats": Rule("ce-", escapes=True, folds=True, own_content_type=False),
    "mqtt": Rule(""),
    "kafka": Rule("ce_", tells_empty=True),
    "coap": Rule("", spellings=_LETTERS),
}

_NAME = re.compile("[a-z0-9]+")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")


def write(binding: str, event: WireEvent) -> Message:
    """Return the message in binary mode."""
    rule = RULES[binding]
    content_type = ""
    headers = []
    for name, value in event.attributes.items():
        text = canonical(value)
        if name == "datacontenttype" and rule.own_content_type:
            content_type = text
        else:
            header = f"ce-{name}" if rule.spellings and len(name) == 1 else rule.prefix + name
            headers.append((header, escape(text) if rule.escapes else text))
    payload = event.data if rule.tells_empty else event.data or b""
    return Message(payload, content_type, headers)


def read(binding: str, message: Message) -> WireEvent:
    """Return the event that a message in binary mode says.

    Raises:
        Misread: a name twice, or a value that can't be read.
    """
    rule = RULES[binding]
    attributes: dict[str, Any] = {}
    for header, value in message.headers:
        name = _attribute(rule, header)
        if name is None:
            continue
        if name in attributes:
            raise Misread(f"{name} stands there twice")
        attributes[name] = unescape(value) if rule.escapes else value
    if rule.own_content_type and message.content_type:
        repeated = attributes.get("datacontenttype", message.content_type)
        is_forbidden = rule.escapes and "datacontenttype" in attributes
        if is_forbidden or (repeated != message.content_type and not rule.spellings):
            # HTTP forbids it (3.1.3.1); MQTT's example has it and Kafka's text excepts data only.
            raise Misread("datacontenttype stands beside the content type")
        attributes["datacontenttype"] = message.content_type
    if rule.spellings:
        attributes.setdefault("specversion", "1.0")
    if not rule.own_content_type and message.content_type:
        raise Misread(f"a Content-Type in binary mode: {message.content_type}")
    data = message.payload
    return WireEvent(attributes, data if rule.tells_empty or data else None)


def _attribute(rule: Rule, header: str) -> str | None:
    name = header.lower() if rule.folds else header
    if rule.spellings:
        return dict(rule.spellings).get(name) or name.removeprefix("ce-")
    if not name.startswith(rule.prefix):
        return None
    name = name[len(rule.prefix) :]
    if rule.prefix and not _NAME.fullmatch(name):
        raise Misread(f"{header!r} names no attribute")
    return name if _NAME.fullmatch(name) else None


def canonical(value: object) -> str:
    """Return a value's canonical string (spec.md "Type System")."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def escape(text: str) -> str:
    """Percent-encode space, double quote, percent and all but printable ASCII, and nothing else."""
    return "".join(
        character
        if "!" <= character <= "~" and character not in '"%'
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in text
    )


def unescape(text: str) -> str:
    """Undo `escape`.

    Raises:
        Misread: characters that have to be escaped and are not, or no UTF-8.
    """
    if re.search("[^!#-~]|%(?![0-9A-Fa-f]{2})", text):
        raise Misread(f"not percent-encoded: {text!r}")
    try:
        raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise Misread(f"no UTF-8: {text!r}") from None
