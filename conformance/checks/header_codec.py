"""Percent-encoding of header values (http-protocol-binding.md 3.1.3.2), shared by HTTP and NATS.

Where the text is silent, on escapes that are none and on strings that don't end, a value may be
refused, as nobody can tell what was meant, or be taken as it stands there. Nothing else may be
made of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote

from bindings.binding import Message
from conformance.check import Check
from conformance.checks.judging import (
    BASE,
    Case,
    Verdict,
    check,
    encoding,
    failed,
    judge_decode,
    judge_encode,
)
from conformance.checks.vectors import message_text
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent
from conformance.reference.carrier import HEADER_CARRIERS, Carrier
from conformance.reference.headers import escape

FAMILY: Final = "header codec"
CARRIERS: Final = tuple(
    carrier for carrier in HEADER_CARRIERS if carrier.binding in {"http", "nats"}
)

_RULES: Final[Mapping[str, Mapping[str, str]]] = {
    "http": {
        "escape": "HTTP-ENC-001 HTTP-ENC-003 HTTP-ENC-004 HTTP-ENC-008 HTTP-VAL-002",
        "plain": "HTTP-ENC-001 HTTP-ENC-005",
        "once": "HTTP-ENC-002",
        "control": "HTTP-ENC-007 HTTP-VAL-002 HTTP-DEC-011 CORE-TYPE-STR-001",
        "pair": "HTTP-ENC-006 HTTP-ENC-008 HTTP-ENC-009",
        "example": "HTTP-ENC-010 HTTP-ENC-009 HTTP-ENC-001",
        "decode": "HTTP-DEC-002 HTTP-DEC-005 HTTP-DEC-006",
        "raw": "HTTP-DEC-002 HTTP-DEC-003 HTTP-DEC-009 HTTP-DEC-010",
        "utf-8": "HTTP-DEC-007",
        "forbidden": "HTTP-DEC-011 CORE-TYPE-STR-001",
        "quoted": "HTTP-DEC-001 HTTP-DEC-004",
        "malformed": "HTTP-DEC-008",
    },
    "nats": {
        "escape": "NATS-ENC-001 NATS-ENC-003 NATS-VAL-002",
        "plain": "NATS-ENC-001",
        "once": "NATS-ENC-002",
        "control": "NATS-ENC-005 NATS-VAL-002 CORE-TYPE-STR-001",
        "pair": "NATS-ENC-004 NATS-ENC-006",
        "example": "NATS-ENC-007 NATS-ENC-006 NATS-ENC-001",
        "decode": "NATS-DEC-002 NATS-DEC-004 NATS-DEC-005",
        "raw": "NATS-DEC-002 NATS-WIRE-001",
        "utf-8": "NATS-DEC-006",
        "forbidden": "CORE-TYPE-STR-001 NATS-DEC-002",
        "quoted": "NATS-DEC-001 NATS-DEC-003",
        "malformed": "NATS-DEC-002",
    },
}

CHARACTERS: Final = (
    0xA0, 0xE9, 0x7FF, 0x800, 0x20AC, 0xD7FF, 0xE000, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0x1F600,
    0x1FFFD, 0x20000, 0xFFFFD, 0x100000, 0x10FFFD,
)  # fmt: skip
"""The borders of UTF-8's lengths, as far as a String has them."""

NO_CHARACTERS: Final = (0x80, 0x9F, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x1FFFF, 0x10FFFF)
"""The same borders and others where a String has none."""

NO_UTF_8: Final = {
    "overlong-2": "C080", "overlong-2-space": "C0A0", "overlong-2-last": "C1BF",
    "overlong-3": "E08080", "overlong-3-last": "E09FBF", "overlong-4": "F0808080",
    "overlong-4-last": "F08FBFBF", "overlong-slash": "C0AF", "surrogate-first": "EDA080",
    "surrogate-last": "EDBFBF", "surrogate-pair": "EDA0BDEDB880", "beyond-last": "F4908080",
    "f5": "F5808080", "f8": "F888808080", "fc": "FC8480808080", "fe": "FE", "ff": "FF",
    "continuation": "80", "continuation-last": "BF", "truncated-2": "C3", "truncated-3": "E282",
    "truncated-3-first": "E2", "truncated-4": "F09F98", "truncated-4-first": "F0",
    "broken-2": "C328", "broken-3": "E28261", "broken-4": "F09F9861", "latin-1": "E9",
    "bom-16": "FEFF", "two-good-one-bad": "C3A9E282ACE9",
}  # fmt: skip

QUOTED: Final = (
    ('"a b"', "a b"), ('"hello world"', "hello world"), (r'"a \"b\" c"', 'a "b" c'),
    (r'"\\"', "\\"), (r'"a\\\"b"', 'a\\"b'), (r'"\a\b"', "ab"), ('"a%20b"', "a b"),
    ('"%22"', '"'), ('"%5C"', "\\"), ('"a"', "a"), (' "a" ', "a"),
    ('"a,b"', "a,b"), ('"(a)"', "(a)"), ('"a%2520b"', "a%20b"), (r'"\%41"', "A"),
    ("%22a%22", '"a"'),
)  # fmt: skip
"""Values that older senders quote (RFC 7230 3.2.6), and what they say."""

UNTERMINATED: Final = ('"', '"a', '"a\\"', '"a\\', '"%22')

MALFORMED: Final = (
    "100%", "%", "%%", "%z", "%zz", "%4", "%4z", "%z4", "a%2", "%%41", "%u20AC", "% 20", "%-1",
    "%+1", "%1_", "%0x", "a%", "%2%30", "%25%",
)  # fmt: skip
"""A percent sign and no two hexadecimal digits, some of which a language's own parser takes."""

ONCE: Final = (
    ("a%2520b", "a%20b"), ("%2525", "%25"), ("%252541", "%2541"), ("%25%32%30", "%20"),
    ("%2522", "%22"), ("100%25", "100%"), ("%25C3%25A9", "%C3%A9"), ("%257E", "%7E"),
)  # fmt: skip
"""Values that are decoded once and no more."""

AS_THEY_ARE: Final = (
    ("a+b", "a+b"), ("(a)", "(a)"), ("a(b)c", "a(b)c"), ("a, b", "a, b"), ("a;b=c", "a;b=c"),
    ("=?utf-8?Q?a?=", "=?utf-8?Q?a?="), ("utf-8''a%2520", "utf-8''a%20"), ("\\", "\\"),
    ("  a  ", "a"), ("\ta\t", "a"), ("%20a%20", " a "), ("https://a/b?c=d&e=f#g",) * 2,
    ("&amp;", "&amp;"), ("\\u0041", "\\u0041"), ("%41%42", "AB"), ("%2F", "/"), ("%7e", "~"),
    ("%e2%82%ac", "\u20ac"), ("%E2%82%aC", "\u20ac"),
)  # fmt: skip
"""Nothing but percent-encoding and outer quotes is special."""

WRITTEN: Final = (
    ("Euro \u20ac \U0001f600", "Euro%20%E2%82%AC%20%F0%9F%98%80", "example"),
    ("100%", "100%25", "escape"), ("a%20b", "a%2520b", "escape"), (" a ", "%20a%20", "escape"),
    ('"a"', "%22a%22", "once"), ("=?utf-8?B?YQ==?=",) * 2 + ("once",),
    ("https://a/b?c=d&e=f#g",) * 2 + ("plain",), ("a+b",) * 2 + ("plain",),
    ("utf-8''a", "utf-8''a", "once"), ("\u00e9", "%C3%A9", "once"), ('\\"', "\\%22", "escape"),
    ("!#$&'()*+,/:;=?@[]\\^`{|}~",) * 2 + ("plain",), ("-._~",) * 2 + ("plain",),
)  # fmt: skip
"""Values, what a sender writes to the letter, and by which rule."""


def checks() -> Iterator[Check]:
    """Return the checks of both bindings."""
    for carrier in CARRIERS:
        for code in range(128):
            yield _reads_ascii(carrier, code)
            yield _writes_ascii(carrier, code)
        for code in CHARACTERS:
            yield from _beyond_ascii(carrier, code)
        yield from _refused_bytes(carrier)
        for number, (text, value) in enumerate(QUOTED):
            yield _reads(carrier, f"quoted-{number}", "quoted", text, value)
        for number, (text, value) in enumerate(ONCE):
            yield _reads(carrier, f"once-{number}", "decode", text, value)
        for number, (text, value) in enumerate(AS_THEY_ARE):
            yield _reads(carrier, f"as-it-is-{number}", "raw", text, value)
        for kind, texts in (("quoted", UNTERMINATED), ("malformed", MALFORMED)):
            for number, text in enumerate(texts):
                yield _either(carrier, f"no-{kind}-{number}", kind, text)
        for number, (value, text, rule) in enumerate(WRITTEN):
            yield _writes(carrier, f"write-{number}", rule, value, text)
        yield from _every_attribute(carrier)
        long = "\u20ac " * 900
        yield _reads(carrier, "long", "decode", escape(long), long)
        yield _writes(carrier, "write-long", "escape", long, escape(long))


def _case(carrier: Carrier, name: str, rule: str, title: str, verdict: str = "event") -> Case:
    return Case(
        name=f"{carrier.binding}-{name}",
        title=title,
        requirements=_RULES[carrier.binding][rule].split(),
        role="producer" if "write" in name else "consumer",
        verdict=verdict,
    )


def _message(texts: Sequence[tuple[str, str]]) -> Message:
    """A message whose extension `ext0`, `ext1`, ... or other attributes stand there as `texts`."""
    least = [(f"ce-{name}", value) for name, value in BASE.items()]
    return Message(b"", "", [*least, *((f"ce-{name}", text) for name, text in texts)])


def _reads(carrier: Carrier, name: str, rule: str, text: str, value: str) -> Check:
    case = _case(carrier, name, rule, f"{text[:60]!r} says {value[:60]!r}")
    expected = WireEvent({**BASE, "ext": value})
    run = partial(_judge, carrier, _message([("ext", text)]), expected, "event")
    return check(FAMILY, [carrier], case, run)


def _refuses(carrier: Carrier, name: str, rule: str, texts: Sequence[str]) -> Check:
    case = _case(carrier, name, rule, f"{' or '.join(map(repr, texts))} is refused", "refused")
    return check(FAMILY, [carrier], case, partial(_judge_refused, carrier, texts))


def _judge(
    carrier: Carrier, message: Message, expected: WireEvent, verdict: Verdict, codec: Codec
) -> None:
    judge_decode(codec, carrier.binding, message, expected, verdict=verdict)


def _judge_refused(carrier: Carrier, texts: Sequence[str], codec: Codec) -> None:
    for text in texts:
        message = _message([("ext", text)])
        judge_decode(codec, carrier.binding, message, None, verdict="refused")


def _reads_ascii(carrier: Carrier, code: int) -> Check:
    character = chr(code)
    escapes = [f"a%{code:02X}b", f"a%{code:02x}b"]
    name = f"ascii-{code:02x}"
    if not " " <= character <= "~":
        return _refuses(carrier, name, "forbidden", escapes)
    texts = escapes if character in '%"' else [*escapes, f"a{character}b"]
    case = _case(carrier, name, "decode", f"{' and '.join(texts)} say {character!r}")
    message = _message([(f"ext{number}", text) for number, text in enumerate(texts)])
    values = {f"ext{number}": f"a{character}b" for number in range(len(texts))}
    run = partial(_judge, carrier, message, WireEvent({**BASE, **values}), "event")
    return check(FAMILY, [carrier], case, run)


def _writes_ascii(carrier: Carrier, code: int) -> Check:
    character, name = chr(code), f"write-ascii-{code:02x}"
    if not " " <= character <= "~":
        title = f"U+{code:04X} is refused or escaped, never written as it is"
        case = _case(carrier, name, "control", title, "refused or escaped")
        return check(FAMILY, [carrier], case, partial(_judge_control, carrier, character))
    if character in ' "%':
        return _writes(carrier, name, "escape", f"a{character}b", f"a%{code:02X}b")
    return _writes(carrier, name, "plain", f"a{character}b", f"a{character}b")


def _judge_control(carrier: Carrier, character: str, codec: Codec) -> None:
    event = WireEvent({**BASE, "ext": f"a{character}b"})
    try:
        message = codec.encode(carrier.binding, event, carrier.mode)
    except Refused:
        return
    asked = encoding(carrier, event)
    if any(character in text for header in message.headers for text in header):
        raise failed("a control character in a header", None, message_text(message), asked)
    written = [text.upper() for name, text in message.headers if name.lower() == "ce-ext"]
    if written != [f"A%{ord(character):02X}B"]:
        raise failed("neither refused nor escaped", event, message_text(message), asked)


def _writes(carrier: Carrier, name: str, rule: str, value: str, text: str) -> Check:
    case = _case(carrier, name, rule, f"{value[:60]!r} is written {text[:60]}")
    return check(FAMILY, [carrier], case, partial(_judge_written, carrier, "ext", value, text))


def _judge_written(carrier: Carrier, name: str, value: str, text: str, codec: Codec) -> None:
    event = WireEvent({**BASE, name: value})
    message = judge_encode(codec, carrier, event, event)
    written = [got for header, got in message.headers if header.lower() == f"ce-{name}"]
    if written != [text]:
        asked = encoding(carrier, event)
        raise failed(f"{name} is not written {text!r}", event, message_text(message), asked)


def _beyond_ascii(carrier: Carrier, code: int) -> Iterator[Check]:
    value = f"a{chr(code)}b"
    text = "a" + "".join(f"%{byte:02X}" for byte in chr(code).encode()) + "b"
    name = f"{code:04x}"
    yield _reads(carrier, f"character-{name}", "decode", text, value)
    yield _reads(carrier, f"character-lower-{name}", "decode", text.lower(), value)
    yield _writes(carrier, f"write-{name}", "pair" if code > 0xFFFF else "escape", value, text)


def _refused_bytes(carrier: Carrier) -> Iterator[Check]:
    for code in NO_CHARACTERS:
        text = "".join(f"%{byte:02X}" for byte in chr(code).encode())
        yield _refuses(carrier, f"no-character-{code:04x}", "forbidden", [text])
    for name, digits in NO_UTF_8.items():
        escapes = "".join(f"%{digits[at : at + 2]}" for at in range(0, len(digits), 2))
        texts = [escapes, f"a{escapes}b", escapes.lower()]
        yield _refuses(carrier, f"no-utf-8-{name}", "utf-8", texts)


def _either(carrier: Carrier, name: str, rule: str, text: str) -> Check:
    message = _message([("ext", text)])
    kept = WireEvent({**BASE, "ext": unquote(text)})  # what is no escape stays as it is
    case = _case(carrier, name, rule, f"{text!r} is refused or taken as it stands", "either")
    return check(FAMILY, [carrier], case, partial(_judge, carrier, message, kept, "either"))


def _every_attribute(carrier: Carrier) -> Iterator[Check]:
    """No attribute is left out of the rule, but for HTTP's Content-Type, which is none of them."""
    values = {
        "id": ("a b\u00e9%", "a%20b%C3%A9%25"), "source": ("/%7Ea", "/%257Ea"),
        "type": ("t \u20ac", "t%20%E2%82%AC"), "subject": ('"%41"', "%22%2541%22"),
        "dataschema": ("x:%41", "x:%2541"), "comexample": ("\u00e9", "%C3%A9"),
    }  # fmt: skip
    if carrier.binding == "nats":
        values["datacontenttype"] = ('a/b; c="d%41"', "a/b;%20c=%22d%2541%22")
    for name, (value, text) in values.items():
        message = _message([]).headers
        headers = [header for header in message if header[0] != f"ce-{name}"]
        made = Message(b"", "", [*headers, (f"ce-{name}", text)])
        expected = WireEvent({**BASE, name: value})
        case = _case(carrier, f"attribute-{name}", "decode", f"{name} is decoded, once")
        yield check(FAMILY, [carrier], case, partial(_judge, carrier, made, expected, "event"))
        case = _case(carrier, f"write-attribute-{name}", "escape", f"{name} is escaped, once")
        yield check(FAMILY, [carrier], case, partial(_judge_written, carrier, name, value, text))
