"""Core NATS: plain subscriptions, with an answer to those who ask for one.

A message with a reply subject is answered `+ACK` once its events are safe, else `-ERR reason`.
One without is at most once: if it is released, it is held and submitted again as long as there is
room, and one that brings no event goes to the dead letters, since nobody is told of it.

Back-pressure: NATS cannot tell a publisher to wait, and a server drops a client that does not read
for 10 s (its `write_deadline`), with all that it had for it. So reading stops when
`max_pending_bytes` wait here, for 5 s at most, which is also short enough for PING and PONG;
after that messages are refused, with `-ERR busy` where an answer is wanted, and counted.
"""

import contextlib
import uuid
from collections.abc import Sequence
from typing import Final

from bindings.wire.nats import NatsMessage
from gateway.delivery import Outcome, Settlement
from gateway.interfaces import Intake
from gateway.nats_client import CLIENT_ERRORS
from gateway.nats_connection import ClientCallbacks, NatsConnection
from gateway.sources.nats.answers import Answers
from gateway.sources.nats.config import NatsSourceConfig
from gateway.sources.nats.feed import Feed, Item, utc_text
from gateway.tasks import Tasks

PAUSE_SECONDS: Final = 5.0
_DETAIL_CHARACTERS = 300
_MAX_UNKEPT = 250  # undecodable messages that wait here; no more than 16 MiB


class CoreSubscriber:
    """Subscriptions to `subjects`."""

    def __init__(self, config: NatsSourceConfig) -> None:
        self._config = config
        self._tasks = Tasks(f"nats {config.name}")
        self._connection = NatsConnection(
            config, ClientCallbacks(attach=self._attach, pause=self._pause)
        )
        self._answers = Answers(self._connection)
        self._feed = Feed(config, self, self._tasks)
        self._draining = False
        self._refusing = False
        self._sids: list[int] = []
        self._count = 0

    async def open(self, intake: Intake) -> None:
        self._intake = intake
        self._feed.open(intake)
        await self._connection.open()

    async def drain(self) -> None:
        self._draining = True
        for sid in self._sids:
            self._connection.unsubscribe(sid)
        await self._settle_writes()

    async def close(self) -> None:
        self._feed.close()
        await self._tasks.close()
        self._answers.flush()
        await self._settle_writes()
        await self._connection.close()

    def identify(self, item: Item) -> tuple[str, str]:  # noqa: ARG002 - nothing in it would do
        return str(uuid.uuid4()), utc_text()

    def refused(self, item: Item, reason: str, text: str) -> None:
        if item.reply:
            self._intake.rejected(reason, text)
            self._answer(item, reason, text)
        elif self._feed.unkept < _MAX_UNKEPT:
            self._feed.keep(item, reason, text, lambda: None)
        else:
            self._intake.rejected(reason, text)

    def accepted(self, items: Sequence[Item]) -> None:
        replies = [item.reply for item in items if item.reply]
        if replies:
            self._answers.add_all(replies, b"+ACK")

    def settled(self, item: Item, settlement: Settlement) -> None:
        if settlement.outcome is Outcome.ACCEPTED:
            self.accepted((item,))
        elif item.reply:
            self._answer(item, settlement.reason.value, settlement.detail)
        elif (
            settlement.outcome is Outcome.RELEASED and not self._draining and not self._feed.is_full
        ):
            self._feed.hold(item, settlement.retry_after)
        else:
            self._intake.rejected(settlement.reason.value, settlement.detail)

    async def _attach(self) -> None:
        self._sids = []
        if not self._draining:
            for subject in self._config.subjects:
                self._sids.append(
                    self._connection.subscribe(subject, self._received, self._config.queue)
                )
        self._answers.flush()
        await self._connection.flush()

    def _received(self, messages: list[NatsMessage]) -> None:
        self._count += len(messages)
        first = self._count - len(messages)
        told = self._feed.told
        items = [
            Item(
                (),
                told,
                message=message,
                reply=message.reply,
                number=number,
                size=len(message.header) + len(message.payload),
            )
            for number, message in enumerate(messages, first)
        ]
        if not self._feed.is_full:
            self._refusing = False
            self._feed.put(items)
            return
        for item in items:
            self._answer(item, "busy", "no room for more messages")
        self._intake.rejected("busy", "no room for more messages", len(items))

    async def _pause(self) -> None:
        """Stop reading while it is full; once that has not helped, read on and refuse."""
        if self._feed.is_full and not self._refusing:
            await self._feed.wait_for_room(PAUSE_SECONDS)
            self._refusing = self._feed.is_full

    def _answer(self, item: Item, reason: str, text: str) -> None:
        if item.reply:
            detail = text[:_DETAIL_CHARACTERS].encode("utf-8", "replace")
            self._answers.add(item.reply, b"-ERR %b: %b" % (reason.encode(), detail))

    async def _settle_writes(self) -> None:
        with contextlib.suppress(*CLIENT_ERRORS):  # gone, and with it all who wait for an answer
            await self._connection.flush(2)
