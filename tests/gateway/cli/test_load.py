import asyncio
import math

import pytest

from gateway.cli.load import Plan, Tally, run_load
from gateway.cli.messages import Template
from gateway.cli.senders import SendError


class ScriptedSender:
    """Answers as a function of the event's id says, after `pause` seconds."""

    def __init__(self, answer=lambda _: "ok", pause=0.0):
        self.answer, self.pause = answer, pause
        self.under_way = self.most_under_way = 0
        self.ids = []

    async def open(self): ...

    async def close(self): ...

    async def send(self, message):
        self.ids.append(message.id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.pause)
        self.under_way -= 1
        return self.answer(message.id)


def message(position):
    return Template(id=str(position)).message(position)


async def test_every_message_is_sent_once_with_no_more_under_way_than_allowed():
    sender = ScriptedSender()
    tally = await run_load(sender, message, Plan(count=100, concurrency=8))
    assert sorted(map(int, sender.ids)) == list(range(100))
    assert sender.most_under_way == 8
    assert (len(tally.latencies), tally.failed, tally.answers) == (100, 0, {"ok": 100})


async def test_failures_are_counted_by_text_and_the_rest_goes_on():
    def answer(event_id):
        if event_id in {"1", "3"}:
            raise SendError("4.00 no")
        return "2.04 Changed"

    tally = await run_load(ScriptedSender(answer), message, Plan(count=5))
    assert tally.failures == {"4.00 no": 2}
    figures = tally.as_dict()
    assert (figures["sent"], figures["acknowledged"], figures["failed"]) == (5, 3, 2)
    assert "2 x failure: 4.00 no" in tally.as_text()


async def test_answers_that_differ_in_their_position_alone_are_counted_together():
    sender = ScriptedSender(lambda event_id: f"events [0] offset {event_id}")
    tally = await run_load(sender, message, Plan(count=5))
    assert tally.answers == {"events [0] offset": 5}
    assert (await run_load(sender, message, Plan(count=1))).answers == {"events [0] offset 0": 1}


async def test_a_rate_is_not_exceeded():
    tally = await run_load(ScriptedSender(), message, Plan(count=21, rate=200, concurrency=4))
    assert tally.seconds >= 20 / 200 - 0.002  # timers of uvloop are exact to a millisecond


async def test_what_was_measured_before_an_interruption_is_kept():
    answered = asyncio.Event()
    sender = ScriptedSender()
    running = asyncio.ensure_future(
        run_load(sender, message, Plan(count=1000, rate=50), answered.set)
    )
    await answered.wait()
    running.cancel()
    assert 0 < len((await running).latencies) < 1000


def test_percentiles_are_those_of_the_nearest_rank():
    tally = Tally(latencies=[0.004, 0.001, 0.003, 0.002])
    assert [tally.percentile(p) for p in (1, 50, 75, 99, 100)] == [
        0.001,
        0.002,
        0.003,
        0.004,
        0.004,
    ]
    assert math.isnan(Tally().percentile(50))
    assert Tally().as_dict()["latency_ms"] is None


def test_figures_as_text_name_rate_and_percentiles():
    tally = Tally(seconds=2.0, latencies=[0.01, 0.03])
    tally.answers["202"] = 2
    assert tally.as_text().splitlines() == [
        "2 of 2 acknowledged in 2.000 s, 1.0 a second",
        "acknowledged after (ms): p50 10.00, p90 30.00, p99 30.00, max 30.00",
        "2 x answer: 202",
    ]


@pytest.mark.parametrize("concurrency", [1, 50])
async def test_more_workers_than_messages_do_no_harm(concurrency):
    tally = await run_load(ScriptedSender(), message, Plan(count=3, concurrency=concurrency))
    assert len(tally.latencies) == 3
