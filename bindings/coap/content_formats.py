"""Content-Format numbers and media types (binding sections 2.1 and 3.0.5)."""

from typing import Final

JSON: Final = 50
CBOR: Final = 60
CBOR_SEQUENCE: Final = 63
LINK_FORMAT: Final = 40
PROBLEM_DETAILS: Final = 257
"""application/concise-problem-details+cbor (RFC 9290)."""

MEDIA_TYPES: Final[dict[int, str]] = {
    0: "text/plain;charset=utf-8",
    LINK_FORMAT: "application/link-format",
    41: "application/xml",
    42: "application/octet-stream",
    47: "application/exi",
    JSON: "application/json",
    51: "application/json-patch+json",
    52: "application/merge-patch+json",
    CBOR: "application/cbor",
    61: "application/cwt",
    62: "application/multipart-core",
    CBOR_SEQUENCE: "application/cbor-seq",
    110: "application/senml+json",
    111: "application/sensml+json",
    112: "application/senml+cbor",
    113: "application/sensml+cbor",
    310: "application/senml+xml",
    432: "application/td+json",
}
"""What a Content-Format says the data is; a number that is not here is refused with 4.15."""

LAB_EVENT_JSON: Final = 65060
LAB_BATCH_JSON: Final = 65061
LAB_EVENT_CBOR: Final = 65062
LAB_BATCH_CBOR: Final = 65063
LAB: Final = frozenset({LAB_EVENT_JSON, LAB_BATCH_JSON, LAB_EVENT_CBOR, LAB_BATCH_CBOR})
"""Experimental numbers of the CloudEvents media types; no use in production (RFC 7252 12.3)."""

ACCEPTED_ANSWERS: Final = frozenset({0, JSON, CBOR, PROBLEM_DETAILS})
"""What an Accept option may ask for (binding section 3.0.4); anything else is 4.06."""


def comparable(media_type: str) -> str:
    """Return a media type without blanks and case, for comparison (binding section 2.1)."""
    return media_type.replace(" ", "").replace("\t", "").lower()


def number_of(media_type: str) -> int | None:
    """Return the Content-Format that stands for a media type, parameters included."""
    return _NUMBERS.get(comparable(media_type))


_NUMBERS: Final = {comparable(name): number for number, name in MEDIA_TYPES.items()}
