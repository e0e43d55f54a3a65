"""Wrong CoAP gateways and codecs, by the section of docs/bindings/coap.md that they break.

gateways    how a mistake is put into a gateway
messages    the message layer: format, duplicates, generated ids
answers     acknowledgements, response codes, No-Response
requests    options, resources, order of checks, discovery
blocks      block-wise transfer, limits
modes       content type, data, content modes, what is filled in
attributes  names and values in the query
envelopes   JSON and CBOR
compact     compact CBOR
batches     batches and base records
channels    identities, DTLS, OSCORE
connections TCP and WebSockets
producers   what is sent, and what becomes of an event behind a gateway
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Final

from conformance.mutants.mutant import Mutant

_MODULES: Final = (
    "messages",
    "answers",
    "requests",
    "blocks",
    "modes",
    "attributes",
    "envelopes",
    "compact",
    "batches",
    "channels",
    "connections",
    "producers",
)


def _all() -> Iterator[Mutant]:
    for name in _MODULES:
        yield from import_module(f"{__name__}.{name}").MUTANTS


MUTANTS: Final = tuple(_all())
