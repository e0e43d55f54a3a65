"""Our delivery as a thing to be judged: what goes in comes out, and settings are judged at once."""

import pytest

from conformance.forms import Refused, WireEvent
from conformance.own.delivering import own_delivering
from conformance.target import Response

EVENT = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})


async def test_events_come_out_as_requests():
    async with own_delivering() as sender:
        await sender.send(EVENT, EVENT)
        requests = await sender.requests(2)
        sender.forget()
        assert await sender.requests(0) == []
    assert [request.method for request in requests] == ["POST", "POST"]


async def test_the_script_answers_and_waits_are_short():
    async with own_delivering() as sender:
        answers = iter([Response(status=503), Response(status=204)])
        sender.answer(lambda _: next(answers))
        await sender.send(EVENT)
        first, second = await sender.requests(2)
    assert 0.009 < second.at - first.at < 1


async def test_a_variant_has_settings_of_sink_and_delivery():
    async with (
        own_delivering() as sender,
        sender.variant(sink={"mode": "binary"}, delivery={"retry": 0}) as other,
    ):
        await other.send(EVENT)
        (request,) = await other.requests(1)
        assert request.header("ce-id") == "1"
        assert await sender.requests(0) == []


@pytest.mark.parametrize("settings", [{"sink": {"mode": "x"}}, {"delivery": {"retry": -1}}])
async def test_settings_that_are_not_allowed_are_refused(settings):
    with pytest.raises(Refused):
        async with own_delivering(**settings):
            pytest.fail("it was opened")
