"""What the CoAP binding demands of producers, and of gateways that hand events on.

A codec shows attributes, data and their types; what only a datagram shows (the method, option
numbers) is taken from a producer that sends to a server of ours.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

from bindings.binding import EVENT_MEDIA_TYPE, Message
from conformance.check import Check, CheckFailed, Needs
from conformance.checks.coap_live import expect
from conformance.checks.vectors import encoded, question
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent, event_to_json, message_to_json
from conformance.peers.coap import Reply, read_all_options
from conformance.peers.coap_server import CoapServer
from conformance.requirements import strongest
from conformance.target import Sending

_BASE: Final = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t.x"}
_FULL: Final = {
    **_BASE,
    "subject": "a b%20\u00fc \u20ac \U0001f600",
    "time": "2026-01-02T03:04:05Z",
    "dataschema": "https://example.com/s?a=b&c=d",
    "datacontenttype": "application/json",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
_LETTERS: Final = {
    "id": "i", "source": "s", "type": "t", "subject": "j", "time": "m", "dataschema": "d",
}  # fmt: skip
_MEDIA_TYPES: Final = {  # of Table 1
    "text/plain;charset=utf-8": 0,
    "application/octet-stream": 42,
    "application/json": 50,
    "application/cbor": 60,
    "application/senml+cbor": 112,
}
_CONTENT_FORMAT, _URI_QUERY = 12, 15

# RFC 8949 4.2.1, by hand: keys in the order of their bytes, every length and integer the shortest.
_CBOR: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "plain": (
        {"data": b"hi", "datacontenttype": "text/plain"},
        ("a6"
        "626964" "6131"  # id: 1
        "6464617461" "626869"  # data: hi
        "6474797065" "63742e78"  # type: t.x
        "66736f75726365" "622f73"  # source: /s
        "6b7370656376657273696f6e" "63312e30"  # specversion: 1.0
        "6f64617461636f6e74656e7474797065" "6a746578742f706c61696e"),  # datacontenttype
    ),
    "numbers": (
        {"a": 23, "b": 24, "c": 255, "e": 256, "f": 65535, "g": 65536, "h": -1, "k": 2**31 - 1,
         "n": True},
        ("ad"
        "616117" "61621818" "616318ff" "6165190100" "616619ffff" "61671a00010000" "616820"
        "616b1a7fffffff" "616ef5"
        "626964" "6131" "6474797065" "63742e78" "66736f75726365" "622f73"
        "6b7370656376657273696f6e" "63312e30"),
    ),
}  # fmt: skip


def checks() -> Iterator[Check]:
    """Return the checks of producers and of what becomes of an event behind a gateway."""
    yield from _encode_checks()
    yield from _relay_checks()
    yield from _sending_checks()


def _check(
    name: str, title: str, rules: str, run: Callable[[Any], Awaitable[None] | None], **more: Any
) -> Check:
    ids = tuple(f"COAP-{rule}" for rule in rules.split())
    return Check(
        id=f"coap-{name}",
        title=title,
        binding="coap",
        family="producer",
        requirements=ids,
        level=strongest(ids),
        run=run,
        **{"role": "producer", **more},
    )


# --- codec ----------------------------------------------------------------------------------------


def _encode_checks() -> Iterator[Check]:
    for media_type in _MEDIA_TYPES:
        name = media_type.partition(";")[0].rpartition("/")[2].replace("+", "-")
        yield _check(
            f"encode-format-{name}", f"{media_type} has a Content-Format and so is no attribute",
            "BIN-009", partial(_content_type, media_type),
        )  # fmt: skip
    yield _check("encode-letters", "Core attributes have one letter", "ATTR-011", _letters)
    yield _check("encode-least-letters", "Also when there are no others", "ATTR-011",
                 _least_letters)  # fmt: skip
    yield _check("encode-longest", "A value that fits into 255 bytes with its name is written",
                 "ATTR-012", _longest_value)  # fmt: skip
    yield _check("encode-too-long", "A longer one is not written into a query", "ATTR-012",
                 partial(_too_long, "x" * 254))  # fmt: skip
    yield _check("encode-too-long-utf-8", "Bytes count, not characters", "ATTR-012",
                 partial(_too_long, "\u00fc" * 127))  # fmt: skip
    yield _check("encode-long-structured", "Structured mode carries it", "ATTR-012",
                 _long_structured)  # fmt: skip
    for number, value in enumerate(("a b", "100%", "\u00fc\u20ac\U0001f600", "a=b&c", "%20")):
        yield _check(f"encode-value-{number}", f"{value!r} is written as it is", "VAL-003",
                     partial(_verbatim, value))  # fmt: skip
    for name, (more, expected) in _CBOR.items():
        yield _check(f"encode-cbor-{name}", "What is written in CBOR is deterministic", "CBOR-013",
                     partial(_cbor, more, expected))  # fmt: skip


def _sent(codec: Codec, event: WireEvent, mode: str = "binary", binding: str = "coap") -> Message:
    asked = question("encode", binding, mode=mode, event=event_to_json(event))
    return encoded(codec, binding, event, mode, asked)


def _content_type(media_type: str, codec: Codec) -> None:
    sent = _sent(codec, WireEvent({**_BASE, "datacontenttype": media_type}, b"1"))
    names = [name for name, _ in sent.headers]
    expect(sent.content_type == media_type, "the content type is another", got=sent.content_type)
    expect(not {"c", "datacontenttype", "ce-datacontenttype"} & {*names}, "it is twice", got=names)


def _letters(codec: Codec) -> None:
    sent = dict(_sent(codec, WireEvent(_FULL, b"{}")).headers)
    expected = {letter: _FULL[name] for name, letter in _LETTERS.items()}
    expected["traceparent"] = _FULL["traceparent"]
    sent = {name: value for name, value in sent.items() if name != "v"}
    expect(sent == expected, "other names or values", expected=str(expected), got=sent)


def _least_letters(codec: Codec) -> None:
    names = sorted(name for name, _ in _sent(codec, WireEvent(_BASE)).headers if name != "v")
    expect(names == ["i", "s", "t"], "other names", expected="i s t", got=names)


def _longest_value(codec: Codec) -> None:
    value = "x" * 253  # and j= makes 255
    sent = dict(_sent(codec, WireEvent({**_BASE, "subject": value})).headers)
    expect(sent.get("j") == value, "the value is another", got=sent)


def _too_long(value: str, codec: Codec) -> None:
    event = WireEvent({**_BASE, "subject": value})
    try:
        sent = codec.encode("coap", event, "binary")
    except Refused:
        return
    is_structured = sent.content_type == EVENT_MEDIA_TYPE and not sent.headers
    expect(is_structured, "it stands in a query", got=message_to_json(sent))


def _long_structured(codec: Codec) -> None:
    attributes = {**_BASE, "subject": "x" * 254}
    sent = _sent(codec, WireEvent(attributes), "structured")
    got = json.loads(sent.payload or b"null")
    expect(got == attributes, "the event differs", expected=str(attributes), got=got)


def _verbatim(value: str, codec: Codec) -> None:
    sent = dict(_sent(codec, WireEvent({**_BASE, "subject": value, "ext": value})).headers)
    got = (sent.get("j"), sent.get("ext"))
    expect(got == (value, value), "the value was changed", expected=value, got=got)


def _cbor(more: dict[str, Any], expected: str, codec: Codec) -> None:
    attributes = {**_BASE, **{name: value for name, value in more.items() if name != "data"}}
    sent = _sent(codec, WireEvent(attributes, more.get("data")), "structured", "cbor")
    got = (sent.payload or b"").hex()
    expect(got == expected, "the bytes are others", expected=expected, got=got)


# --- relays ---------------------------------------------------------------------------------------


def _relay_checks() -> Iterator[Check]:
    role = {"role": "intermediary"}
    yield _check("relay-json", "Every attribute goes on into JSON", "IOP-001",
                 partial(_relayed_json, _FULL), **role)  # fmt: skip
    yield _check("relay-json-least", "Nothing is added to an event with few", "IOP-001",
                 partial(_relayed_json, _BASE), **role)  # fmt: skip
    rows = (
        ("http", "ce-", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("nats", "ce-", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("kafka", "ce_", "Euro \u20ac \U0001f600"),
        ("mqtt", "", "Euro \u20ac \U0001f600"),
    )
    for binding, prefix, value in rows:
        run = partial(_relayed_subject, binding, prefix, value)
        title = f"In {binding} a subject is written by its own rules, once"
        yield _check(f"relay-{binding}-subject", title, "IOP-001 IOP-002", run, **role)


def _as_coap(attributes: dict[str, str], data: bytes | None) -> Message:
    """Write a message of this binding without the code under test."""
    names = {name: value for name, value in attributes.items() if name in _LETTERS}
    headers = [(_LETTERS[name], value) for name, value in names.items()]
    if "traceparent" in attributes:
        headers.append(("traceparent", attributes["traceparent"]))
    return Message(data, attributes.get("datacontenttype", ""), headers)


def _relay(codec: Codec, message: Message, binding: str, mode: Any) -> Message:
    asked = question("relay", "coap", message=message_to_json(message), to=binding, mode=mode)
    try:
        (sent,) = codec.relay("coap", message, binding, mode)
    except Refused as refusal:
        raise CheckFailed("refused what is right", got=str(refusal), reproduce=asked) from refusal
    return sent


def _relayed_json(attributes: dict[str, str], codec: Codec) -> None:
    data = b'{"a":1}' if "datacontenttype" in attributes else None
    sent = _relay(codec, _as_coap(attributes, data), "http", "structured")
    expected = {**attributes, **({"data": {"a": 1}} if data else {})}
    got = json.loads(sent.payload or b"null")
    expect(got == expected, "the event differs", expected=str(expected), got=got)


def _relayed_subject(binding: str, prefix: str, value: str, codec: Codec) -> None:
    message = _as_coap({**_BASE, "subject": "Euro \u20ac \U0001f600"}, None)
    sent = dict(_relay(codec, message, binding, "binary").headers)
    got = {name.lower(): text for name, text in sent.items()}.get(f"{prefix}subject")
    expect(got == value, "the subject is written in another way", expected=value, got=got)


# --- on the wire ----------------------------------------------------------------------------------


def _sending_checks() -> Iterator[Check]:
    needs: dict[str, Needs] = {"needs": "sending"}
    rows: tuple[tuple[str, str, str, Callable[[Sending], Awaitable[None]]], ...] = (
        ("binary", "An event is sent with POST, its attributes as queries", "PATH-001 ATTR-011",
         _send_binary),
        ("structured", "An event in structured mode is sent with POST to its own resource",
         "PATH-001", _send_structured),
        ("blocks", "Every block of an event is sent with POST", "PATH-001", _send_blocks),
        ("long", "An event that does not fit into queries is not sent in binary mode", "ATTR-012",
         _send_too_long),
        ("values", "Values are bytes of UTF-8 in options", "VAL-003", _send_values),
        ("other-format", "A media type without number goes into the query", "BIN-009",
         partial(_send_format, "image/png", None)),
        *(
            (f"format-{number}", f"{media_type} is sent as Content-Format {number}", "BIN-009",
             partial(_send_format, media_type, number))
            for media_type, number in _MEDIA_TYPES.items()
        ),
    )  # fmt: skip
    for name, title, rules, run in rows:
        yield _check(f"send-{name}", title, rules, run, **needs)


async def _requests(
    sending: Sending, attributes: dict[str, Any], data: bytes | None, mode: Any = "binary"
) -> list[Reply]:
    async with CoapServer() as server:
        await sending.send(server.url, WireEvent(attributes, data), mode)
        for request in server.requests:
            got = f"{request.type} {request.code}"
            expect(request.code == "0.02", "the method is another", expected="0.02", got=got)
        return server.requests


def _queries(request: Reply) -> list[bytes]:
    """Return the Uri-Query options, of which a `Reply` keeps only the last."""
    options, _ = read_all_options(request.body, 0)
    return [value for number, value in options if number == _URI_QUERY]


async def _send_binary(sending: Sending) -> None:
    (request,) = await _requests(sending, _BASE, b"x")
    expected = [b"i=1", b"s=/s", b"t=t.x"]
    got = sorted(query for query in _queries(request) if query != b"v=1.0")
    expect(got == expected, "other queries", expected=str(expected), got=request.raw.hex())
    expect(request.payload == b"x", "other data", got=request.raw.hex())


async def _send_structured(sending: Sending) -> None:
    attributes = {**_BASE, "datacontenttype": "application/json"}
    (request,) = await _requests(sending, attributes, b'{"a":1}', "structured")
    expected = {**attributes, "data": {"a": 1}}
    got = json.loads(request.payload)
    expect(got == expected, "the event differs", expected=str(expected), got=got)
    expect(request.options.get(_CONTENT_FORMAT) == b"\x32", "it is no JSON", got=request.raw.hex())


async def _send_blocks(sending: Sending) -> None:
    data = bytes(n % 251 for n in range(3000))
    requests = await _requests(sending, _BASE, data)
    got = b"".join(request.payload for request in requests)
    expect(len(requests) > 1, "it came in one datagram")
    expect(got == data, "the data differ", expected="3000 bytes", got=f"{len(got)} bytes")


async def _send_too_long(sending: Sending) -> None:
    attributes = {**_BASE, "subject": "x" * 254}
    try:
        requests = await _requests(sending, attributes, None)
    except Refused:
        return
    for request in requests:
        expect(not _queries(request), "it stands in a query", got=request.raw.hex())


async def _send_values(sending: Sending) -> None:
    (request,) = await _requests(sending, {**_BASE, "subject": _FULL["subject"]}, None)
    expected = b"j=" + bytes.fromhex("612062253230c3bc20e282ac20f09f9880")
    got = _queries(request)
    expect(expected in got, "the value was changed", expected=repr(expected), got=got)


async def _send_format(media_type: str, number: int | None, sending: Sending) -> None:
    (request,) = await _requests(sending, {**_BASE, "datacontenttype": media_type}, b"1")
    option, queries = request.options.get(_CONTENT_FORMAT), _queries(request)
    got = f"{option!r} {queries}"
    if number is None:
        expect(option is None, "there is a Content-Format", got=got)
        expect(f"c={media_type}".encode() in queries, "the media type is lost", got=got)
        return
    same = option is not None and int.from_bytes(option, "big") == number
    expect(same, "the Content-Format is another", expected=str(number), got=got)
    expect(not any(query.startswith(b"c=") for query in queries), "it is there twice", got=got)
