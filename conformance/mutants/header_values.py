"""Mistakes in the values of headers, which HTTP and NATS write alike."""

import re
from collections.abc import Callable, Sequence
from email.header import decode_header, make_header
from urllib.parse import quote, unquote

import bindings.binding
import bindings.percent
from bindings.binding import ContentMode, Message
from bindings.errors import InvalidEventError
from conformance.forms import WireEvent
from conformance.mutants.edits import each_header
from conformance.mutants.mutant import Catalogue, Decode, Encode, Patch

MUTANTS = Catalogue("http", "nats")


def _values(message: Message, change: Callable[[str], str]) -> Message:
    """Change the values of ce- headers."""
    return each_header(
        message,
        lambda name, value: (name, change(value) if name.lower().startswith("ce-") else value),
    )


def _decoding(patch: Patch, decode: Callable[[str], str]) -> None:
    """Decode header values in another way; what that can't decode is refused."""

    def wrong(name: str, text: str) -> str:
        try:
            return decode(text)
        except ValueError as error:
            raise InvalidEventError(str(error), attribute=name, reason="header_encoding") from None

    patch.everywhere(bindings.percent, "percent_decode", wrong)
    patch.everywhere(bindings.percent, "is_plain", lambda _: None)


def _after(change: Callable[[str], str]) -> Callable[[str], str]:
    right = bindings.percent.percent_decode
    return lambda text: change(right("x", text))


def _before(change: Callable[[str], str]) -> Callable[[str], str]:
    right = bindings.percent.percent_decode
    return lambda text: right("x", change(text))


@MUTANTS.encoding(38, "HTTP-ENC-001 NATS-ENC-001")
def values_are_not_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Values are sent as they are, in UTF-8."""
    return _values(encode(event, mode), lambda text: unquote(text).encode().decode("latin-1"))


@MUTANTS.patching(38, "HTTP-DEC-002 NATS-DEC-002")
def values_are_not_decoded(patch: Patch) -> None:
    """Values are read as they are."""
    _decoding(patch, lambda text: text.strip(" \t"))


@MUTANTS.encoding(39, "HTTP-ENC-005 NATS-ENC-001")
def values_are_encoded_as_a_url(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Every character is escaped that has a meaning in URLs."""
    return _values(encode(event, mode), lambda text: quote(unquote(text), safe="/"))


@MUTANTS.patching(39, "HTTP-DEC-009 NATS-DEC-002")
def a_plus_is_a_blank(patch: Patch) -> None:
    """A plus sign is read as a blank, as in forms."""
    _decoding(patch, _before(lambda text: text.replace("+", "%20")))


@MUTANTS.encoding(39, "HTTP-ENC-003 NATS-ENC-003")
def blanks_are_sent_as_they_are(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A blank is not escaped."""
    return _values(encode(event, mode), lambda text: text.replace("%20", " "))


@MUTANTS.encoding(40, "HTTP-ENC-003 NATS-ENC-003")
def percent_signs_are_sent_as_they_are(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """A percent sign is not escaped."""
    return _values(encode(event, mode), lambda text: text.replace("%25", "%"))


@MUTANTS.patching(40, "HTTP-DEC-002 NATS-DEC-002")
def values_are_decoded_twice(patch: Patch) -> None:
    """Values are decoded, and what comes out is decoded again."""
    _decoding(patch, _after(unquote))


@MUTANTS.patching(41, "HTTP-DEC-007 NATS-DEC-006")
def bytes_that_are_no_utf_8_are_replaced(patch: Patch) -> None:
    """Escapes that are no UTF-8 are read as replacement characters."""
    right = bindings.percent.percent_decode

    def decode(text: str) -> str:
        try:
            return right("x", text)
        except InvalidEventError as error:
            if "UTF-8" not in str(error):
                raise
            return unquote(text)

    _decoding(patch, decode)


@MUTANTS.patching(41, "HTTP-DEC-008 NATS-DEC-002")
def half_escapes_vanish(patch: Patch) -> None:
    """A percent sign that starts no escape is left out."""
    _decoding(patch, _before(lambda text: re.sub("%(?![0-9A-Fa-f]{2})", "", text)))


@MUTANTS.patching(42, "HTTP-DEC-001 NATS-DEC-001")
def quoted_strings_keep_their_quotes(patch: Patch) -> None:
    """Quotes around a value belong to it."""
    _decoding(patch, _before(lambda text: text.replace('"', "%22")))


@MUTANTS.patching(42, "HTTP-DEC-001 NATS-DEC-001")
def quoted_strings_keep_their_backslashes(patch: Patch) -> None:
    """Within quotes, a backslash belongs to the value."""
    _decoding(
        patch,
        _before(lambda text: text.replace("\\", "%5C") if text.strip()[:1] == '"' else text),
    )


@MUTANTS.patching(42, "HTTP-DEC-001 NATS-DEC-001")
def quotes_need_no_end(patch: Patch) -> None:
    """A quote at the beginning is taken off, whether there is one at the end or not."""
    _decoding(
        patch,
        _before(lambda text: text[1:] if text[:1] == '"' and text.count('"') == 1 else text),
    )


@MUTANTS.patching(43, "HTTP-DEC-011 CORE-TYPE-STR-001")
def escaped_control_characters_are_dropped(patch: Patch) -> None:
    """Control characters that were escaped are left out of the value."""
    _decoding(patch, _after(lambda text: re.sub("[\x00-\x1f\x7f-\x9f]", "", text)))


@MUTANTS.patching(43, "HTTP-DEC-011")
def escaped_noncharacters_are_replaced(patch: Patch) -> None:
    """Noncharacters that were escaped are read as replacement characters."""
    _decoding(patch, _after(lambda text: re.sub("[\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", text)))


@MUTANTS.decoding(45, "HTTP-DEC-007 HTTP-NAM-002", only="raw-utf-8")
def raw_bytes_are_latin_1(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Bytes of a header outside ASCII are read as Latin-1."""
    return decode(
        _values(message, lambda text: re.sub(r"[^\x00-\x7f]", lambda m: quote(m[0]), text))
    )


@MUTANTS.patching(12, "CORE-NAME-001 HTTP-NAM-003 NATS-BIN-006")
def header_names_are_folded_by_unicode(patch: Patch) -> None:
    """The Kelvin sign in a header's name is a k."""
    patch(
        bindings.binding,
        "_ASCII_LOWER",
        {**bindings.binding._ASCII_LOWER, 0x212A: "k"},  # noqa: SLF001 - the mistake is in there
    )


@MUTANTS.encoding("header values", "HTTP-ENC-009 NATS-ENC-006")
def escapes_in_small_letters(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Escapes are written with small letters."""
    return _values(encode(event, mode), lambda t: re.sub("%..", lambda m: m[0].lower(), t))


@MUTANTS.encoding("header values", "HTTP-ENC-006 NATS-ENC-004")
def halves_of_characters_are_encoded(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """A character beyond U+FFFF is escaped as two surrogates."""
    return _values(encode(event, mode), lambda t: re.sub("%F0(%..){3}", _as_surrogates, t))


def _as_surrogates(escapes: "re.Match[str]") -> str:
    code = ord(unquote(escapes[0])) - 0x10000
    halves = chr(0xD800 | code >> 10) + chr(0xDC00 | code & 0x3FF)
    return quote(halves.encode("utf-8", "surrogatepass"))


@MUTANTS.encoding("header values", "HTTP-ENC-002 NATS-ENC-002")
def values_in_quotes(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A value with an escape is put in quotes too."""
    return _values(encode(event, mode), lambda text: f'"{text}"' if "%" in text else text)


@MUTANTS.patching("header values", "HTTP-DEC-002 NATS-DEC-002")
def encoded_words_are_decoded(patch: Patch) -> None:
    """An encoded word of RFC 2047 is decoded."""
    _decoding(patch, _after(lambda t: str(make_header(decode_header(t))) if "=?" in t else t))


@MUTANTS.patching("header values", "HTTP-DEC-003 NATS-DEC-002")
def comments_are_dropped(patch: Patch) -> None:
    """What stands in parentheses is left out."""
    _decoding(patch, _before(lambda text: re.sub(r"\([^)]*\)", "", text) or text))


@MUTANTS.patching("header values", "HTTP-DEC-010 NATS-WIRE-001")
def blanks_around_values_are_kept(patch: Patch) -> None:
    """Blanks around a value belong to it."""
    _decoding(patch, _before(lambda text: text.replace(" ", "%20").replace("\t", "%20")))


@MUTANTS.patching("header values", "HTTP-DEC-005 NATS-DEC-004")
def escapes_in_capitals_only(patch: Patch) -> None:
    """An escape with small letters is none."""
    _decoding(patch, _before(lambda text: re.sub("%(?=.?[a-f])", "%25", text)))
