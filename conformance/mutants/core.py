"""Mistakes about attributes, their types and their values, in every binding at once."""

from bindings.binding import ContentMode, Message
from conformance.forms import WireEvent
from conformance.mutants.mutant import Catalogue, Encode

MUTANTS = Catalogue()


@MUTANTS.encoding(2, "CORE-TYPE-BOOL-001 CORE-TYPE-005")
def booleans_as_python_writes_them(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A Boolean is written True or False."""
    attributes = {
        name: str(value) if isinstance(value, bool) else value
        for name, value in event.attributes.items()
    }
    return encode(WireEvent(attributes, event.data), mode)
