"""Our filters and our CESQL as things to be judged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bindings.event import Event
from conformance.engine import Evaluation
from conformance.forms import Refused, WireEvent
from gateway.cesql import ParseError, compile_expression
from gateway.filters import FilterError, compile_filter


class OwnFilters:
    """An engine under test (a `FilterEngine`)."""

    title = "filters of cloudevents-gateway"

    def __init__(self) -> None:
        self._last: tuple[WireEvent, Event] | None = None

    def passes(self, spec: Any, event: WireEvent) -> bool:
        try:
            compiled = compile_filter(spec)
        except FilterError as error:
            raise Refused(str(error)) from error
        return compiled(self._checked(event))

    def evaluate(self, expression: str, event: WireEvent, *, fail_fast: bool) -> Evaluation:
        try:
            compiled = compile_expression(expression)
        except ParseError as error:
            raise Refused(str(error)) from error
        value, errors = compiled.evaluate(self._checked(event), fail_fast=fail_fast)
        return Evaluation(value, [error.kind.value for error in errors])

    def _checked(self, event: WireEvent) -> Event:
        """Return the same object for the same event, so that a change of it shows."""
        if self._last is None or self._last[0] is not event:
            self._last = (event, event.checked())
        return self._last[1]


@asynccontextmanager
async def own_filters() -> AsyncIterator[OwnFilters]:
    """Yield our engine."""
    yield OwnFilters()
