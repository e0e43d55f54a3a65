import asyncio
import gc
import re

from bindings.event import Event
from gateway.sinks.log import LISTENER_EVENTS, LogSink, LogSinkConfig


def make(**options):
    return LogSink(LogSinkConfig(name="log", protocol="log", **options))


def event(number, **attributes):
    return Event(**{"id": str(number), "source": "/s", "type": "t"} | attributes)


async def test_the_newest_events_are_kept_in_order_and_numbered():
    log = make(capacity=3)
    assert list(await log.send([event(1), event(2)])) == []
    assert list(await log.send([event(3), event(4)])) == []
    assert [(entry.sequence, entry.event.id) for entry in log.recent()] == [
        (2, "2"),
        (3, "3"),
        (4, "4"),
    ]
    assert [entry.event.id for entry in log.recent(2)] == ["3", "4"]
    assert log.recent(0) == []


async def test_the_time_of_arrival_is_rfc_3339_in_utc():
    log = make()
    await log.send([event(1)])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", log.recent()[0].received)


async def test_bytes_are_bounded_whatever_the_number():
    log = make(max_bytes=10_000)
    await log.send([event(number, data=b"x" * 3000) for number in range(5)])
    assert [entry.event.id for entry in log.recent()] == ["3", "4"]
    await log.send([event(9, data=b"x" * 20_000)])
    assert log.recent() == []
    await log.send([event(10)])
    assert [entry.event.id for entry in log.recent()] == ["10"]


async def test_extensions_count_as_bytes():
    log = make(max_bytes=10_000)
    await log.send([event(1, extensions={"big": "x" * 20_000})])
    assert log.recent() == []


async def test_a_list_longer_than_the_capacity_leaves_its_end():
    log = make(capacity=2)
    await log.send([event(number) for number in range(10)])
    assert [entry.event.id for entry in log.recent()] == ["8", "9"]


async def test_a_listener_gets_what_comes_after_it_subscribed():
    log = make()
    await log.send([event(1)])
    listener = log.subscribe()
    await log.send([event(2), event(3)])
    waiting = asyncio.ensure_future(anext(listener))
    assert (await waiting).event.id == "2"
    assert (await anext(listener)).event.id == "3"
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.send([event(4)])
    assert (await waiting).event.id == "4"
    assert listener.missed == 0


async def test_a_slow_listener_misses_the_oldest_and_is_told_how_many():
    log = make()
    listener = log.subscribe()
    await log.send([event(number) for number in range(LISTENER_EVENTS)])
    await log.send([event(number) for number in range(LISTENER_EVENTS, LISTENER_EVENTS + 5)])
    assert listener.missed == 5
    assert (await anext(listener)).event.id == "5"


async def test_a_listener_that_is_dropped_is_served_no_more():
    log = make()
    listener = log.subscribe()
    await log.send([event(1)])
    del listener
    gc.collect()
    assert len(log._listeners) == 0


async def test_closing_ends_the_listeners_after_what_waits():
    log = make()
    listener = log.subscribe()
    await log.send([event(1)])
    await log.close()
    assert [entry.event.id async for entry in listener] == ["1"]


async def test_all_that_waits_can_be_taken_at_once():
    log = make()
    listener = log.subscribe()
    taking = asyncio.ensure_future(listener.take())
    log.add([event(1), event(2)])
    log.add([event(3)])
    async with asyncio.timeout(10):
        assert [entry.event.id for entry in await taking] == ["1", "2", "3"]
    log.add([event(4)])
    await log.close()
    assert [entry.event.id for entry in await listener.take()] == ["4"]
    assert await listener.take() == []
