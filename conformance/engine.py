"""What is judged by checks of filters and expressions: an engine, without I/O."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from conformance.forms import WireEvent


class Evaluation(NamedTuple):
    """What an expression says of an event.

    Attributes:
        value: a Boolean, an Integer or a String.
        errors: their kinds in the TCK's words: `math`, `cast`, `missingAttribute`, ...
    """

    value: object
    errors: Sequence[str] = ()


class FilterEngine(Protocol):
    """An engine under test."""

    @property
    def title(self) -> str:
        """What it is, for reports."""

    def passes(self, spec: Any, event: WireEvent) -> bool:
        """Return whether an event passes a filter of the Subscriptions API, or a list of them.

        Raises:
            Refused: the filter is none.
            Unsupported: it has no such filters.
        """

    def evaluate(self, expression: str, event: WireEvent, *, fail_fast: bool) -> Evaluation:
        """Return what a CESQL expression says of an event.

        Raises:
            Refused: the text is no expression.
            Unsupported: it has no such mode.
        """
