"""What the pipeline does with lists and answers that bytes ask for, one command each."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from bindings.event import Event
from gateway.config.records import SinkConfig
from gateway.delivery import Delivery, Failure, ListedDelivery, Outcome, Reason, Settlement
from gateway.interfaces import OnAccepted, OnEnded
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.target import Target

LATER: Final = 1000.0
"""Seconds: no wait ends by itself, so that only the commands say when."""


class Sink:
    """Keeps what it is given until it is told how to answer."""

    config_type: ClassVar = SinkConfig

    def __init__(self) -> None:
        self.resume: Callable[[], None] = lambda: None
        self.lists: list[tuple[int, OnEnded, OnAccepted]] = []
        self.said: list[object] = []

    def on_resumed(self, callback: Callable[[], None]) -> None:
        self.resume = callback

    def start_sending(
        self,
        events: Sequence[Event],
        timeout: float | None,
        on_ended: OnEnded,
        on_accepted: OnAccepted,
    ) -> "Sink":
        self.said.append(("sent", [event.id for event in events], timeout))
        self.lists.append((len(events), on_ended, on_accepted))
        return self

    def cancel(self) -> None:
        self.said.append("cut off")

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, events: Sequence[Event], timeout: float | None = None) -> list[Failure]:
        raise NotImplementedError

    def answer(self, command: int) -> None:
        """Say of a list what became of it."""
        if not self.lists:
            return
        size, on_ended, on_accepted = self.lists[command % len(self.lists)]
        if command & 16:
            on_accepted(range(command & 1, size, 2))
            return
        del self.lists[command % len(self.lists)]
        outcome = Outcome.REJECTED if command & 8 else Outcome.RELEASED
        step = command & 7
        failed = range(0, size, step) if step else ()
        on_ended([Failure(position, outcome, Reason.SINK_DOWN, status=500) for position in failed])


async def told(data: bytes, routes: int) -> object:
    """Do what the bytes say; return what sink and sources were told, in order."""
    sink, number = Sink(), 0
    names = [f"route {index}" for index in range(routes)]
    policy = RetryPolicy(delay=LATER, cap=LATER, retry=2)
    pipeline = Pipeline(
        [Route(name=name, sinks=["sink"], policy=policy, inflight=20) for name in names],
        {"sink": Target(name="sink", sink=sink, address="")},
        Metrics(),
    )
    pipeline.start()
    intake = pipeline.intake("source")

    def settled(which: Sequence[Delivery], settlement: Settlement) -> None:
        ids = [[event.id for event in delivery.events] for delivery in which]
        sink.said.append(("settled", ids, settlement.outcome, settlement.reason))

    for command in data[:60]:
        if command < 112:
            taken = list[Delivery]()
            for place in range(1 + command % 5):
                count = 1 + (command % 16 == 0)
                events = [
                    Event(
                        id=f"{number}.{part}", source=f"/{(command >> place & 3) + part}", type="t"
                    )
                    for part in range(count)
                ]
                taken.append(ListedDelivery(events, settled))
                number += 1
            sink.said.append(intake.try_submit(taken))
        elif command < 128:
            if pipeline.inflight < 20:
                await intake.submit([ListedDelivery((), settled)])
            await asyncio.sleep(0)
        elif command < 240:
            sink.answer(command & 31)
        else:
            sink.resume()
        sink.said.append(pipeline.inflight)
    await asyncio.sleep(0)
    await pipeline.close()
    return sink.said, pipeline.inflight


def pipeline_lists(data: bytes) -> object:
    return [asyncio.run(told(data, routes)) for routes in (1, 2)]
