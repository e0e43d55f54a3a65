"""What a binding is, and the one algorithm that maps attributes to headers and back.

HTTP, MQTT 5, NATS and Kafka carry a binary-mode event in the same way: data in the payload,
attributes in headers, the content type in a place of its own. They differ in the prefix, in case,
in percent-encoding and in where `datacontenttype` goes; `HeaderBinding` is the algorithm and those
differences are its fields. A protocol without headers implements `Binding` itself.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec

from bindings import cbor_format
from bindings.errors import InvalidEventError, NotAnEventError, UnknownEncodingError, excerpt
from bindings.event import (
    AttributeValue,
    Event,
    canonical_text,
    event_from_attributes,
    is_valid_name,
)
from bindings.header_layout import HeaderLayout, Latest, event_of, layout_of
from bindings.json_format import decode_bare_event, decode_batch, decode_event, encode_event
from bindings.memory import Memory
from bindings.percent import is_plain, percent_decode, percent_encode
from bindings.wire.header_fields import HeaderFields

ContentMode = Literal["binary", "structured"]

EVENT_MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"

# Content types that are none of the CloudEvents family, and so mean binary mode.
_BINARY_TYPES: Final = Memory[str, None]()
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Message(msgspec.Struct, frozen=True, gc=False):
    """One protocol message, freed of its protocol.

    Attributes:
        payload: the body; `None` where the protocol tells "none" from "empty" (a Kafka tombstone).
        content_type: what the protocol says of the payload, verbatim; "" when it is silent.
        headers: names and values in the order of the wire, duplicates included; without the
            content type. HTTP and NATS bytes come as latin-1; where the protocol says UTF-8 (MQTT,
            Kafka), bytes that are none come with `surrogateescape`, which no attribute accepts.
        address: where it was sent: topic, subject, path.
    """

    payload: bytes | None
    content_type: str = ""
    headers: Sequence[tuple[str, str]] = ()
    address: str = ""


class Binding(Protocol):
    """A protocol's pure codec.

    What its messages can't say it may declare in an attribute `losses: frozenset[str]`, by the
    names of conformance/checks/generic.py; the conformance suite takes all else for a mistake.
    """

    @property
    def name(self) -> str:
        """The name it is registered under: `http`, `mqtt`, ..."""

    def decode(self, message: Message) -> Sequence[Event]:
        """Return the events in one message, in order (more than one in batched mode).

        Raises:
            InvalidEventError: it claims to be a CloudEvent and is not; answer REJECTED.
            NotAnEventError: it makes no such claim; wrap it or answer REJECTED.
            UnknownEncodingError: it is in a format we lack; answer REJECTED.
            TooManyEventsError: a batch of more events than it takes; answer REJECTED.
        """

    def encode(self, event: Event, mode: ContentMode) -> Message:
        """Return the message that carries `event` in the given content mode."""


def media_type_of(content_type: str) -> str:
    """Return type/subtype in lower case, parameters and blanks removed."""
    return content_type.partition(";")[0].strip(" \t").translate(_ASCII_LOWER)


def claims_structured(content_type: str) -> bool:
    """Whether a content type is of the CloudEvents family: structured, batched or unknown here."""
    return media_type_of(content_type).startswith("application/cloudevents")


def decode_structured(
    message: Message,
    *,
    batched: bool = True,
    json_only: bool = False,
    max_batch_events: int = 0,
) -> Sequence[Event]:
    """Decode a message whose content type is of the CloudEvents family.

    Args:
        message: the message.
        batched: whether the protocol has a batched mode.
        json_only: whether the protocol has no other event format.
        max_batch_events: the most events of a batch; 0 is no limit.

    Raises:
        InvalidEventError: the payload breaks the rules of its format.
        TooManyEventsError: the batch holds more.
        UnknownEncodingError: a format other than JSON and CBOR, or a batch of CBOR, which no
            specification has.
    """
    payload = message.payload or b""
    if message.content_type == EVENT_MEDIA_TYPE:  # nearly always, and to the letter
        return (decode_event(payload),)
    media_type = media_type_of(message.content_type)
    if media_type == EVENT_MEDIA_TYPE:
        return (decode_event(payload),)
    if media_type == BATCH_MEDIA_TYPE and batched:
        return decode_batch(payload, max_events=max_batch_events)
    if media_type == cbor_format.MEDIA_TYPE and not json_only:
        return (cbor_format.decode_event(payload),)
    raise UnknownEncodingError(f"no event format {excerpt(media_type)}; {EVENT_MEDIA_TYPE} is one")


def _no_layouts() -> Memory[tuple[str, ...], HeaderLayout]:
    # 50 characters stand for what a string costs: at most 2 MiB.
    return Memory(entries=512, characters=2048)


class HeaderBinding(msgspec.Struct, frozen=True, kw_only=True):
    """The mapping of binary mode to headers, for every protocol that has them.

    Attributes:
        name: the name it is registered under.
        prefix: what stands before each attribute name.
        fold_case: header names are compared without (ASCII) case.
        percent: values are percent-encoded (http-protocol-binding.md 3.1.3.2).
        content_type_header: the header that holds `datacontenttype` where it is not the
            protocol's own content type; "" where it is.
        content_type_copy: "accept" or "reject" a header `datacontenttype` that says the same as
            the protocol's content type, as examples in the specifications have it.
        foreign_names: "reject" or "ignore" a prefixed header whose name is no attribute name.
        empty_is_absent: an empty payload means that there is no data, as nothing else can say so.
        batched: the protocol has a batched mode.
        json_only: the protocol has no event format but JSON.
        bare_json: a message without content type and attributes is read as structured if its
            payload is a JSON object with a `specversion`.
        value_limit: the most bytes a header value can hold; an event with a longer one is sent
            in structured mode. 0 is no limit.
        max_batch_events: the most events taken in batched mode. 0 is no limit.
    """

    name: str
    prefix: str
    fold_case: bool = False
    percent: bool = False
    content_type_header: str = ""
    content_type_copy: Literal["accept", "reject"] = "reject"
    foreign_names: Literal["reject", "ignore"] = "reject"
    empty_is_absent: bool = True
    batched: bool = False
    json_only: bool = False
    bare_json: bool = False
    value_limit: int = 0
    max_batch_events: int = 0
    _layouts: Memory[tuple[str, ...], HeaderLayout] = msgspec.field(default_factory=_no_layouts)
    _latest: Latest = msgspec.field(default_factory=Latest)

    def __post_init__(self) -> None:
        # A copy with other fields (`replace`) reads other names.
        msgspec.structs.force_setattr(self, "_layouts", _no_layouts())
        msgspec.structs.force_setattr(self, "_latest", Latest())

    @property
    def losses(self) -> frozenset[str]:
        """What its messages can't say (see `Binding`)."""
        return frozenset({"empty"} if self.empty_is_absent else ())

    def decode(self, message: Message) -> Sequence[Event]:
        """Return the events in `message`; the content type alone decides the mode."""
        content_type = message.content_type
        if content_type not in _BINARY_TYPES:
            if content_type == EVENT_MEDIA_TYPE or claims_structured(content_type):
                return decode_structured(
                    message,
                    batched=self.batched,
                    json_only=self.json_only,
                    max_batch_events=self.max_batch_events,
                )
            _BINARY_TYPES.remember(content_type, None, len(content_type))
        payload = message.payload
        if self.empty_is_absent and not payload:
            payload = None
        own_type = None if self.content_type_header else content_type
        headers: Any = message.headers
        latest: Latest = self._latest
        layout = latest.layout
        if type(headers) is HeaderFields:
            shared = headers.names
            if shared is not latest.names:
                layout = self._layouts.get(shared) or self._layout(list(shared))
                latest.layout, latest.names = layout, shared
            if layout.core:
                values, plain = headers.values, headers.plain
                return (event_of(layout, values, own_type, payload, self.percent, plain),)
        elif headers:
            names = [name for name, _ in headers]
            if layout.headers != names:
                layout = self._layouts.get(tuple(names)) or self._layout(names)
                latest.layout, latest.names = layout, None
            if layout.core:
                values = [value for _, value in headers]
                return (event_of(layout, values, own_type, payload, self.percent),)
        return (self._event_by_steps(message, payload),)

    def _layout(self, names: list[str]) -> HeaderLayout:
        """Find out the layout of headers of these names, and remember it."""
        ignore_foreign = self.foreign_names == "ignore"
        try:
            attributes = [
                _read_name(name, self.prefix, self.fold_case, ignore_foreign) or ""
                for name in names
            ]
        except InvalidEventError:
            layout = HeaderLayout(names)
        else:
            layout = layout_of(names, attributes)
            if not self.content_type_header and "datacontenttype" in attributes:
                layout = HeaderLayout(names)  # it stands beside the content type
        self._layouts.remember(tuple(names), layout, 50 * len(names) + len("".join(names)))
        return layout

    def _event_by_steps(self, message: Message, payload: bytes | None) -> Event:
        """Return the event of headers that have no layout, or say what is wrong with them."""
        content_type = message.content_type
        headers = message.headers
        if self.prefix or any(name == "specversion" for name, _ in headers):
            attributes = self.read_attributes(headers)
        else:
            # Without a prefix any property could be an attribute, and only this one says so.
            attributes = {}
        if not attributes:
            if self.bare_json and not content_type:
                return decode_bare_event(message.payload or b"")
            raise NotAnEventError("no attributes among the headers, no CloudEvents content type")
        if not self.content_type_header:
            self._set_content_type(attributes, content_type)
        return event_from_attributes(attributes, payload)

    def encode(self, event: Event, mode: ContentMode) -> Message:
        content_type = event.datacontenttype or ""
        # A reader could not tell a nested event from structured mode, so the envelope has to.
        if mode == "structured" or claims_structured(content_type):
            return Message(encode_event(event), EVENT_MEDIA_TYPE)
        attributes = event.attributes()
        if content_type and not self.content_type_header:
            del attributes["datacontenttype"]
        prefix, percent = self.prefix, self.percent
        headers: list[tuple[str, str]] = []
        for name, value in attributes.items():
            text = value if isinstance(value, str) else canonical_text(value)
            if percent and not is_plain(text):
                text = percent_encode(text)
            headers.append((prefix + name, text))
        if self.value_limit and self._is_too_long(content_type, headers):
            return Message(encode_event(event), EVENT_MEDIA_TYPE)
        payload = event.data
        if payload is None and self.empty_is_absent:
            payload = b""
        return Message(payload, "" if self.content_type_header else content_type, headers)

    def read_attributes(self, headers: Sequence[tuple[str, str]]) -> dict[str, AttributeValue]:
        """Return the attributes among `headers`, decoded but not yet checked by type.

        Raises:
            InvalidEventError: a name twice, a name that is none, a value that can't be decoded.
        """
        attributes: dict[str, AttributeValue] = {}
        prefix, fold_case, percent = self.prefix, self.fold_case, self.percent
        ignore_foreign = self.foreign_names == "ignore"
        for header, value in headers:
            read_name = _known_name if len(header) <= 128 else _read_name
            name = read_name(header, prefix, fold_case, ignore_foreign)
            if name is None:
                continue
            if name in attributes:
                raise InvalidEventError(
                    f"{name} stands in the headers twice",
                    attribute=name,
                    reason="duplicate_attribute",
                )
            attributes[name] = percent_decode(name, value) if percent else value
        return attributes

    def _set_content_type(self, attributes: dict[str, AttributeValue], content_type: str) -> None:
        copy = attributes.get("datacontenttype")
        if copy is not None and (self.content_type_copy == "reject" or copy != content_type):
            raise InvalidEventError(
                f"{self.prefix}datacontenttype stands beside the content type",
                attribute="datacontenttype",
                reason="duplicate_attribute",
            )
        if content_type:
            attributes["datacontenttype"] = content_type

    def _is_too_long(self, content_type: str, headers: list[tuple[str, str]]) -> bool:
        limit = self.value_limit
        texts = [content_type, *[text for _, text in headers]]
        if len("".join(texts)) * 4 <= limit:  # too little for one of them to be
            return False
        return any(len(text) * 4 > limit and len(text.encode("utf-8")) > limit for text in texts)


def _read_name(header: str, prefix: str, fold_case: bool, ignore_foreign: bool) -> str | None:  # noqa: FBT001 - positional arguments halve the cost of the cache
    """Return the attribute that a header names, or None if it names none and need not.

    Raises:
        InvalidEventError: it has the prefix and names none.
    """
    folded = header.translate(_ASCII_LOWER) if fold_case else header
    if not folded.startswith(prefix):
        return None
    name = folded[len(prefix) :]
    if is_valid_name(name):
        return name
    if ignore_foreign and name != "data":
        return None
    raise InvalidEventError(
        f"header {excerpt(header)} names no attribute",
        attribute=name[:50],
        reason="attribute_name",
    )


# The same few names come with every message; what raises is not remembered.
_known_name = lru_cache(maxsize=4096)(_read_name)
