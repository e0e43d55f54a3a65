"""Where the attributes stand among the headers of a message, and the event that they make.

Producers send the same header names in the same order again and again. What there is to find out
about the names (which attribute each is, whether one stands twice, whether a required one is
missing) is found out once for all such messages.
"""

from collections.abc import Sequence
from typing import Final

from bindings.event import (
    CORE_ATTRIBUTES,
    KNOWN_DATASCHEMAS,
    KNOWN_MEDIA_TYPES,
    KNOWN_SOURCES,
    KNOWN_TYPES,
    REQUIRED_ATTRIBUTES,
    AttributeValue,
    CheckedEvent,
    Event,
    event_from_attributes,
)
from bindings.percent import is_plain, percent_decode
from bindings.timestamp import is_usual_timestamp

_OPTIONAL: Final = ("datacontenttype", "dataschema", "subject", "time")


class HeaderLayout:
    """Which header is which attribute.

    Attributes:
        headers: the names of the headers.
        names: the attribute that each header is; "" for one that is none.
        core: the positions of the core attributes among the headers, the required ones first and in
            the order of `REQUIRED_ATTRIBUTES`, then content type, schema, subject and time; one
            that is absent stands behind the last header. Empty: names like these are no event, or
            not without a closer look.
        extensions: name and position of each other attribute, in the order of the headers.
        key: the position of what `Event.key` will be.
    """

    __slots__ = ("core", "extensions", "headers", "key", "names")

    def __init__(
        self,
        headers: Sequence[str],
        names: Sequence[str] = (),
        core: Sequence[int] = (),
        extensions: Sequence[tuple[str, int]] = (),
        key: int = 0,
    ) -> None:
        self.headers = headers
        self.names = names
        self.core = [*core]
        self.extensions = [*extensions]
        self.key = key


def layout_of(headers: Sequence[str], names: Sequence[str]) -> HeaderLayout:
    """Return the layout of headers that are these attributes ("" for one that is none).

    It has no positions when an attribute stands there twice or a required one is missing.
    """
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        if name in positions:
            return HeaderLayout(headers)
        if name:
            positions[name] = position
    if not positions.keys() >= set(REQUIRED_ATTRIBUTES):
        return HeaderLayout(headers)
    core = [positions.get(name, len(names)) for name in (*REQUIRED_ATTRIBUTES, *_OPTIONAL)]
    extensions = [entry for entry in positions.items() if entry[0] not in CORE_ATTRIBUTES]
    key = positions.get("partitionkey", positions["source"])
    return HeaderLayout(headers, names, core, extensions, key)


def event_of(
    layout: HeaderLayout,
    values: list[str],
    content_type: str | None,
    payload: bytes | None,
    percent: bool,  # noqa: FBT001 - keywords cost more
    plain: bool = False,  # noqa: FBT001, FBT002 - as above
) -> Event:
    """Return the event of headers.

    Args:
        layout: that of the headers' names; it has positions.
        values: the headers' values.
        content_type: what the protocol says of the payload; None if that is a header.
        payload: the data.
        percent: whether values are percent-encoded.
        plain: whether the values are known to stand for themselves (`HeaderFields.plain`).

    Raises:
        InvalidEventError: a value can't be decoded, or breaks its attribute's rule.
    """
    if percent and not plain:
        plain = is_plain("".join(values))
        if not plain:
            values = _decoded(layout.names, values)
    at_version, at_id, at_source, at_type, at_format, at_schema, at_subject, at_time = layout.core
    texts: list[str | None] = [*values, None]  # the last is what is absent
    id_, source, type_ = values[at_id], values[at_source], values[at_type]
    datacontenttype = texts[at_format] if content_type is None else content_type or None
    dataschema, subject, time = texts[at_schema], texts[at_subject], texts[at_time]
    printable = True
    extensions: dict[str, AttributeValue] = {}
    for name, position in layout.extensions:
        extensions[name] = value = values[position]
        if not (plain or value.isprintable()):
            printable = False
    # What is right at first sight is nearly everything, and need not be looked at again. `Event`
    # judges the rest: no value is taken here that it would not take.
    if (
        printable
        and values[at_version] == "1.0"
        and id_
        and (plain or id_.isprintable())
        and source in KNOWN_SOURCES
        and type_ in KNOWN_TYPES
        and (datacontenttype is None or KNOWN_MEDIA_TYPES.get(datacontenttype))
        and (subject is None or (subject and (plain or subject.isprintable())))
        and (time is None or is_usual_timestamp(time))
        and (dataschema is None or dataschema in KNOWN_DATASCHEMAS)
    ):
        return CheckedEvent(
            id=id_,
            source=source,
            type=type_,
            datacontenttype=datacontenttype,
            dataschema=dataschema,
            subject=subject,
            time=time,
            extensions=extensions,
            data=payload,
            key=values[layout.key],
        )
    return _checked_event(layout.names, values, content_type, payload)


def _checked_event(
    names: Sequence[str], values: Sequence[str], content_type: str | None, payload: bytes | None
) -> Event:
    attributes: dict[str, AttributeValue] = dict(zip(names, values, strict=True))
    attributes.pop("", None)  # headers that are none
    if content_type:
        attributes["datacontenttype"] = content_type
    return event_from_attributes(attributes, payload)


def _decoded(names: Sequence[str], values: Sequence[str]) -> list[str]:
    return [
        percent_decode(name, value) if name else value
        for name, value in zip(names, values, strict=True)
    ]


class Latest:
    """The layout of the message before, which most often is that of the next as well.

    Attributes:
        layout: the layout.
        names: the object that these names came in, if they came as `HeaderFields`.
    """

    __slots__ = ("layout", "names")

    def __init__(self) -> None:
        self.layout = HeaderLayout(())
        self.names: tuple[str, ...] | None = None
