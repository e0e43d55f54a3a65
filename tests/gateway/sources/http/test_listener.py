"""Who gets room on a listener, and what those are told who do not."""

import asyncio

import pytest

from bindings.event import Event
from gateway.config.records import LimitsConfig
from gateway.delivery import ACCEPTED, BUSY, Delivery
from gateway.sources.http import HttpSourceConfig, listener
from tests.gateway.raw_http import STRUCTURED, post, structured
from tests.helpers import RecordingIntake


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_a_flood_that_is_refused_takes_nobody_s_room(start, connect, limit):
    source, _ = await start(**{limit: 1})
    first = await connect(source)
    assert (await first.ask(structured())).status == 202
    (admitted,) = source._listener._connections
    flood = [await connect(source) for _ in range(20)]
    for client in flood:
        answer = (await client.read())[0]
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert "retry-after" in answer.fields
    first.writer.close()
    await first.writer.wait_closed()
    while admitted in source._listener._connections:
        await asyncio.sleep(0)
    # The flood still holds its connections open.
    assert (await (await connect(source)).ask(structured())).status == 202


async def test_only_so_many_are_told_at_one_time(start, connect, monkeypatch):
    monkeypatch.setattr(listener, "_MAX_REFUSED", 2)
    source, _ = await start(max_connections=1)
    first = await connect(source)
    assert (await first.ask(structured())).status == 202
    told = [await connect(source) for _ in range(2)]
    for client in told:
        assert (await client.read())[0].status == 503
    assert await (await connect(source)).closed() == b""
    assert (await first.ask(structured())).status == 202


class Lists(RecordingIntake):
    """An intake that notes how it is called, and has room for so many at a time."""

    def __init__(self, room):
        super().__init__()
        self.most = room
        self.sizes = []

    def try_submit(self, deliveries):
        self.sizes.append(len(deliveries))
        return len(deliveries) <= self.most and super().try_submit(deliveries)


def taker_for(intake):
    return listener.Listener(HttpSourceConfig(name="http", listen="127.0.0.1:0"), intake)


async def take_reads(intake, *sizes):
    """Take one read of each size; returns the settlements of each read."""
    taker = taker_for(intake)
    settlements = [[] for _ in sizes]
    for number, size in enumerate(sizes):
        event = Event(id=str(number), source="/s", type="t")
        taker.take([Delivery((event,), settlements[number].append) for _ in range(size)])
    assert intake.sizes == []
    await asyncio.sleep(0)
    return settlements


async def test_what_connections_read_in_one_breath_goes_in_as_one_list_in_their_order():
    intake = Lists(room=10)
    settlements = await take_reads(intake, 1, 2, 1)
    assert intake.sizes == [4]
    assert [event.id for event in intake.events] == ["0", "1", "1", "2"]
    assert settlements == [[ACCEPTED], [ACCEPTED] * 2, [ACCEPTED]]


async def test_reads_that_come_one_by_one_wait_for_no_others_and_more_of_a_turn_go_together():
    intake = Lists(room=10)
    taker, settled = taker_for(intake), []

    def take_one():
        taker.take([Delivery((Event(id="1", source="/s", type="t"),), settled.append)])

    take_one()  # nobody knows yet how they come
    assert intake.sizes == []
    await asyncio.sleep(0)
    assert intake.sizes == [1]
    take_one()
    assert intake.sizes == [1, 1]
    for _ in range(3):
        take_one()
    assert intake.sizes == [1, 1]
    await asyncio.sleep(0)
    assert intake.sizes == [1, 1, 3]
    take_one()  # those before it did not come alone
    assert intake.sizes == [1, 1, 3]
    await asyncio.sleep(0)
    assert settled == [ACCEPTED] * 6


async def test_a_read_that_comes_alone_is_refused_at_once_if_there_is_no_room():
    intake = Lists(room=1)
    taker, settled = taker_for(intake), []

    def take(size):
        taker.take(
            [Delivery((Event(id="1", source="/s", type="t"),), settled.append) for _ in range(size)]
        )

    take(1)
    await asyncio.sleep(0)
    take(2)
    assert settled == [ACCEPTED, BUSY, BUSY]


async def test_where_there_is_no_room_for_all_each_read_is_taken_or_refused_whole():
    intake = Lists(room=2)
    settlements = await take_reads(intake, 1, 3, 2)
    assert settlements == [[ACCEPTED], [BUSY] * 3, [ACCEPTED] * 2]
    assert [event.id for event in intake.events] == ["0", "2", "2"]


class Looked:
    """A connection that notes when it was looked at."""

    peer, is_idle = "", True

    def __init__(self, taker, looks):
        self._taker, self._looks = taker, looks

    def expire(self, now):
        self._looks.append((now, self))

    def abort(self):
        self._taker.disconnected(self)


async def test_deadlines_of_many_are_looked_at_by_turns_and_of_few_at_once(monkeypatch):
    monkeypatch.setattr(listener, "_SWEPT_AT_ONCE", 10)
    config = HttpSourceConfig(name="http", listen="127.0.0.1:0", ack_timeout=0.04)
    for count, turns in ((35, [10, 10, 10, 5]), (10, [10])):
        looks = []
        taker = listener.Listener(config, RecordingIntake())
        for _ in range(count):
            taker.connected(Looked(taker, looks))
        async with asyncio.timeout(10):
            while len(looks) < 2 * count:
                await asyncio.sleep(0)
        whole = looks[: 2 * count]
        for half in (whole[:count], whole[count:]):
            assert len({sender for _, sender in half}) == count
            times = [now for now, _ in half]
            assert [times.count(now) for now in dict.fromkeys(times)] == turns
        await taker.close()


async def test_plain_requests_are_judged_by_credentials_origin_and_draining_as_all_others(
    start, connect
):
    source, intake = await start(token="secret")
    client = await connect(source)
    shown = structured(b"Authorization: Bearer secret")
    for _ in range(3):  # from the second on it needs no parser
        assert (await client.ask(shown)).status == 202
    for wrong in (
        structured(),
        structured(b"Authorization: Bearer secrets"),
        structured(b"Authorization: Basic secret"),
        structured(b"Authorization: Bearer secret", b"Authorization: Bearer secret"),
    ):
        async with asyncio.timeout(10):
            assert (await (await connect(source)).ask(wrong)).status in {400, 401}
    assert len(intake.events) == 3
    source, intake = await start(allowed_origins=["a"])
    client = await connect(source)
    for _ in range(3):
        assert (await client.ask(structured(b"WebHook-Request-Origin: a"))).status == 202
        assert (await client.ask(structured(b"WebHook-Request-Origin: b"))).status == 403
    assert len(intake.events) == 3


async def test_a_plain_request_without_the_origin_that_is_required_is_refused(start, connect):
    source, intake = await start(require_origin=True)
    client = await connect(source)
    for _ in range(3):
        assert (await client.ask(structured(b"WebHook-Request-Origin: a"))).status == 202
        assert (await client.ask(structured())).status == 403
    assert len(intake.events) == 3


async def test_a_plain_request_above_the_limit_is_refused(start, connect):
    limit = len(STRUCTURED) + 10
    source, intake = await start(limits=LimitsConfig(max_event_bytes=limit))

    def padded(length):
        return post(STRUCTURED.ljust(length), content_type=b"application/cloudevents+json")

    client = await connect(source)
    for length in (len(STRUCTURED), len(STRUCTURED), limit):  # the second needs no parser
        assert (await client.ask(padded(length))).status == 202
    assert (await client.ask(padded(limit + 1))).status == 413
    assert len(intake.events) == 3
