"""The JSON event format (json-format.md): one event to text and back, data as its own slice."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from conformance.forms import WireEvent
from conformance.reference.headers import Misread

_JSON_TYPE = re.compile(r"[^/;]+/(?:[^/;]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(r';[ \t]*charset="?([^";]+)', re.IGNORECASE)
_BLANKS: Final = " \t\r\n"


class Raw(str):
    """JSON text that stands in an attribute's place as it is: a number with a fraction, a list."""

    __slots__ = ()


def write(event: WireEvent, *, implied: bool = False) -> bytes:
    """Return the event as JSON.

    Args:
        event: the event.
        implied: data is written as JSON although no content type says so.
    """
    members = [f"{_dump(name)}:{_value(value)}" for name, value in event.attributes.items()]
    if event.data is not None:
        members.append(_data(event.data, event.attributes.get("datacontenttype"), implied))
    return _encode("{" + ",".join(members) + "}")


def _value(value: object) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bytes):
        return _dump(base64.b64encode(value).decode("ascii"))
    return _dump(value)


def _data(data: bytes, content_type: str | None, implied: bool) -> str:  # noqa: FBT001 - private
    if implied or (content_type and is_json_type(content_type)):
        if parse(data) is not None:
            return '"data":' + data.decode()
    elif content_type and content_type.lower().startswith("text/"):
        try:
            return '"data":' + _dump(data.decode(charset(content_type)))
        except UnicodeError:
            pass
    return '"data_base64":' + _dump(base64.b64encode(data).decode("ascii"))


def read(payload: bytes) -> WireEvent:
    """Return the event that JSON text says; data without a content type makes JSON explicit.

    Raises:
        Misread: it is no JSON object, or one that is no event in form.
    """
    attributes: dict[str, Any] = {}
    data: bytes | None = None
    slices = members(payload)
    for name, text in slices.items():
        if name not in {"data", "data_base64"}:
            value = _load(text)
            if not isinstance(value, str | int | bool | None):
                raise Misread(f"{name} is no attribute value: {text}")
            if value is not None:
                attributes[name] = value
    if "data" in slices and "data_base64" in slices:
        raise Misread("both data and data_base64")
    if "data_base64" in slices:
        data = base64.b64decode(_text(slices["data_base64"]), validate=True)
    elif "data" in slices:
        content_type = attributes.setdefault("datacontenttype", "application/json")
        if is_json_type(content_type):
            data = slices["data"].encode()
        else:
            data = _text(slices["data"]).encode(charset(content_type))
    return WireEvent(attributes, data)


def members(payload: bytes) -> Mapping[str, str]:
    """Return the members of a JSON object, each with the text of its value.

    Raises:
        Misread: it is none, or a member stands there twice.
    """
    try:
        pairs = json.loads(payload.decode("utf-8"), object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError) as error:
        raise Misread(f"no JSON: {error}") from None
    text = payload.decode("utf-8")
    place = text.find("{") + 1
    if not text.strip(_BLANKS).startswith("{"):
        raise Misread("no JSON object")
    found: dict[str, str] = {}
    for _ in pairs:
        name, place = _scan(text, place)
        value, place = _scan(text, place)
        if _text(name) in found:
            raise Misread(f"member {name} stands there twice")
        found[_text(name)] = value
    return found


def _scan(text: str, place: int) -> tuple[str, int]:
    while text[place] in _BLANKS + ",:":
        place += 1
    _, end = _DECODER.raw_decode(text, place)
    return text[place:end], end


def parse(data: bytes) -> Any:
    """Return JSON as values that keep every digit, in a list of one; None if it is no JSON."""
    try:
        return [_DECODER.decode(data.decode("utf-8"))]
    except (ValueError, RecursionError):
        return None


class Number(str):
    """A JSON number, equal to another if they are the same digits at the same place."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and _normal(self) == _normal(other)

    def __hash__(self) -> int:
        return hash(_normal(self))


def _normal(number: str) -> tuple[str, str, int]:
    mantissa, _, exponent = number.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    return (sign, digits, power) if digits else ("", "", 0)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=_no_constant
)


def is_json_type(content_type: str) -> bool:
    """Whether data of a media type is JSON (json-format.md 3.1)."""
    return _JSON_TYPE.fullmatch(content_type) is not None


def charset(content_type: str) -> str:
    """Return the charset of a media type, UTF-8 if it names none."""
    named = _CHARSET.search(content_type)
    return named[1] if named else "utf-8"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _load(text: str) -> Any:
    return json.loads(text)


def _text(text: str) -> str:
    value = _load(text)
    if not isinstance(value, str):
        raise Misread(f"no string: {text}")
    return value


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        return "".join(
            f"\\u{ord(character):04x}" if "\ud800" <= character <= "\udfff" else character
            for character in text
        ).encode("utf-8")
