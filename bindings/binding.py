"""What a binding is, and the one algorithm that maps attributes to headers and back.

HTTP, MQTT 5, NATS and Kafka carry a binary-mode event in the same way: data in the payload,
attributes in headers, the content type in a place of its own. They differ in the prefix, in case,
in percent-encoding and in where `datacontenttype` goes; `HeaderBinding` is the algorithm and those
differences are its fields. A protocol without headers implements `Binding` itself.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from bindings.errors import InvalidEventError, NotAnEventError, UnknownEncodingError, excerpt
from bindings.event import Event, canonical_text, event_from_attributes, is_valid_name
from bindings.json_format import decode_batch, decode_event, encode_event

ContentMode = Literal["binary", "structured"]

EVENT_MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"

# http-protocol-binding.md 3.1.3.2: space, double quote, percent and all outside U+0021-7E.
_TO_ESCAPE = re.compile(r'[^!#$&-~]')
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Message(msgspec.Struct, frozen=True):
    """One protocol message, freed of its protocol.

    Attributes:
        payload: the body; `None` where the protocol tells "none" from "empty" (a Kafka tombstone).
        content_type: what the protocol says of the payload, as it stood there; "" when it is silent.
        headers: names and values in the order of the wire, duplicates included; without the
            content type. Bytes that are no text in the protocol's charset come as latin-1.
        address: where it was sent: topic, subject, path.
    """

    payload: bytes | None
    content_type: str = ""
    headers: Sequence[tuple[str, str]] = ()
    address: str = ""


class Binding(Protocol):
    """A protocol's pure codec."""

    @property
    def name(self) -> str:
        """The name it is registered under: `http`, `mqtt`, ..."""

    def decode(self, message: Message) -> Sequence[Event]:
        """Return the events in one message, in order (more than one in batched mode).

        Raises:
            InvalidEventError: it claims to be a CloudEvent and is not; answer REJECTED.
            NotAnEventError: it makes no such claim; wrap it or answer REJECTED.
            UnknownEncodingError: it is in a format we lack; answer REJECTED.
        """

    def encode(self, event: Event, mode: ContentMode) -> Message:
        """Return the message that carries `event` in the given content mode."""


def media_type_of(content_type: str) -> str:
    """Return type/subtype in lower case, parameters and blanks removed."""
    return content_type.partition(";")[0].strip(" \t").translate(_ASCII_LOWER)


def claims_structured(content_type: str) -> bool:
    """Whether a content type starts the CloudEvents family: structured, batched, or unknown to us."""
    return media_type_of(content_type).startswith("application/cloudevents")


def decode_structured(message: Message) -> Sequence[Event]:
    """Decode a message whose content type is of the CloudEvents family.

    Raises:
        InvalidEventError: the payload breaks the JSON format.
        UnknownEncodingError: a format other than JSON, or one that only looks like the family.
    """
    media_type = media_type_of(message.content_type)
    payload = message.payload or b""
    if media_type == EVENT_MEDIA_TYPE:
        return (decode_event(payload),)
    if media_type == BATCH_MEDIA_TYPE:
        return decode_batch(payload)
    raise UnknownEncodingError(f"no event format {excerpt(media_type)}; {EVENT_MEDIA_TYPE} is one")


class HeaderBinding(msgspec.Struct, frozen=True, kw_only=True):
    """The mapping of binary mode to headers, for every protocol that has them.

    Attributes:
        name: the name it is registered under.
        prefix: what stands before each attribute name.
        fold_case: header names are compared without (ASCII) case.
        percent: values are percent-encoded (http-protocol-binding.md 3.1.3.2).
        content_type_header: the header that holds `datacontenttype` where it is not the
            protocol's own content type; "" where it is.
        foreign_names: "reject" or "ignore" a prefixed header whose name is no attribute name.
        empty_is_absent: an empty payload means that there is no data, as nothing else can say so.
    """

    name: str
    prefix: str
    fold_case: bool = False
    percent: bool = False
    content_type_header: str = ""
    foreign_names: Literal["reject", "ignore"] = "reject"
    empty_is_absent: bool = True

    def decode(self, message: Message) -> Sequence[Event]:
        """Return the events in `message`; the content type alone decides the mode."""
        if claims_structured(message.content_type):
            return decode_structured(message)
        attributes = self.read_attributes(message.headers)
        if "specversion" not in attributes:
            if not self.prefix or not attributes:
                raise NotAnEventError("no specversion among the headers, no CloudEvents content type")
            raise InvalidEventError(
                "required attribute 'specversion' is missing",
                attribute="specversion",
                reason="missing_attribute",
            )
        if not self.content_type_header and message.content_type:
            self._set_content_type(attributes, message.content_type)
        payload = message.payload
        if self.empty_is_absent and not payload:
            payload = None
        return (event_from_attributes(attributes, payload),)

    def encode(self, event: Event, mode: ContentMode) -> Message:
        if mode == "structured":
            return Message(encode_event(event), EVENT_MEDIA_TYPE)
        content_type = event.datacontenttype or ""
        if claims_structured(content_type):
            # A reader could not tell it from structured mode, so the envelope has to.
            return Message(encode_event(event), EVENT_MEDIA_TYPE)
        headers = [
            (self.prefix + name, self._to_wire(canonical_text(value)))
            for name, value in event.attributes().items()
            if name != "datacontenttype"
        ]
        if self.content_type_header and content_type:
            headers.append((self.content_type_header, self._to_wire(content_type)))
            content_type = ""
        payload = event.data
        if payload is None and self.empty_is_absent:
            payload = b""
        return Message(payload, content_type, headers)

    def read_attributes(self, headers: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Return the attributes among `headers`, decoded but not yet checked by type.

        Raises:
            InvalidEventError: a name twice, a name that is none, a value that can't be decoded.
        """
        attributes: dict[str, str] = {}
        prefix, length = self.prefix, len(self.prefix)
        for raw_name, raw_value in headers:
            header = raw_name.translate(_ASCII_LOWER) if self.fold_case else raw_name
            if not header.startswith(prefix):
                continue
            name = header[length:]
            if not is_valid_name(name):
                if self.foreign_names == "ignore" and name != "data":
                    continue
                raise InvalidEventError(
                    f"header {excerpt(raw_name)} names no attribute",
                    attribute=name[:50],
                    reason="attribute_name",
                )
            if name in attributes:
                raise InvalidEventError(
                    f"{name} stands in the headers twice", attribute=name, reason="duplicate_attribute"
                )
            attributes[name] = self._from_wire(name, raw_value)
        if not self.content_type_header and "datacontenttype" in attributes and prefix:
            # http-protocol-binding.md 3.1.1: it is the Content-Type, and nowhere else.
            raise InvalidEventError(
                f"{prefix}datacontenttype stands beside the content type",
                attribute="datacontenttype",
                reason="duplicate_attribute",
            )
        return attributes

    def _set_content_type(self, attributes: dict[str, str], content_type: str) -> None:
        if attributes.setdefault("datacontenttype", content_type) != content_type:
            raise InvalidEventError(
                "datacontenttype differs from the message's content type",
                attribute="datacontenttype",
                reason="duplicate_attribute",
            )

    def _to_wire(self, text: str) -> str:
        return percent_encode(text) if self.percent else text

    def _from_wire(self, name: str, text: str) -> str:
        return percent_decode(name, text) if self.percent else text


def percent_encode(text: str) -> str:
    """Encode a header value as http-protocol-binding.md 3.1.3.2 demands, and no character more."""
    return _TO_ESCAPE.sub(_escape, text)


def _escape(match: "re.Match[str]") -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))


def percent_decode(name: str, text: str) -> str:
    """Decode a header value: unquote, then percent-decode once, then UTF-8, strictly.

    Args:
        name: the attribute, for the error.
        text: the value as it stood there, bytes as latin-1.

    Raises:
        InvalidEventError: a malformed escape or quoted string, or bytes that are no UTF-8.
    """
    if "%" not in text and '"' not in text and text.isascii():
        return text
    raise NotImplementedError(name)
