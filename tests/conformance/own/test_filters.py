"""Our filters as a thing to be judged."""

import pytest

from conformance.engine import Evaluation
from conformance.forms import Refused, WireEvent
from conformance.own.filters import own_filters

EVENT = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})


async def test_filters_and_expressions_are_answered():
    async with own_filters() as engine:
        assert engine.passes({"exact": {"id": "1"}}, EVENT) is True
        assert engine.passes([{"sql": "id = 2"}], EVENT) is False
        found = engine.evaluate("1 / 0", EVENT, fail_fast=False)
        assert found == Evaluation(0, ["math"])


async def test_what_is_wrong_is_refused():
    async with own_filters() as engine:
        with pytest.raises(Refused):
            engine.passes({"exakt": {}}, EVENT)
        with pytest.raises(Refused):
            engine.evaluate("(", EVENT, fail_fast=True)


async def test_the_same_event_is_the_same_object_inside():
    async with own_filters() as engine:
        assert engine._checked(EVENT) is engine._checked(EVENT)
        assert engine._checked(WireEvent(EVENT.attributes)) is not engine._checked(EVENT)
