"""JetStream: a durable consumer that is pulled from, and acknowledged when the event is safe.

All requests use one inbox. The answers to a request's end (408, 409, ...) carry its number; the
messages themselves do not, so what is still to come is counted over all requests. `+ACK` goes out
once the events are safe, `+TERM` for what brings no event, once it is kept, or is refused for good.
There is no `-NAK`: it changes the order. A message that is not done after a part of `ack_wait` is
kept ours with `+WPI`, and one that the server gives us again meanwhile only renews the address of
its answer.

An acknowledgement names a place in a stream and nothing else: the server takes one of a stream that
was deleted for the message that has its number in a new one. So a request is always open, of one
message beyond the window if need be, as the server ends it at once when the consumer is deleted;
from then on, or from the loss of a connection, answers are held until it is known whether the
consumer is still the same.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from bindings.errors import CloudEventError
from bindings.wire.nats import (
    NatsMessage,
    encode_publish,
    parse_ack_place,
    parse_headers,
    parse_number,
)
from gateway.delivery import Outcome, Settlement
from gateway.errors import GatewayError
from gateway.interfaces import Intake
from gateway.nats_client import CLIENT_ERRORS
from gateway.nats_connection import BACKOFF_SECONDS, ClientCallbacks, NatsConnection
from gateway.sources.nats.answers import Answers
from gateway.sources.nats.config import NatsSourceConfig
from gateway.sources.nats.consumer import find_consumer
from gateway.sources.nats.feed import Feed, Item, utc_text
from gateway.tasks import Tasks

EXPIRES_SECONDS: Final = 30
HEARTBEAT_SECONDS: Final = 5
_CONFIRM_SECONDS = 1.0  # a source has two for all of its `close`

_log = logging.getLogger(__name__)


class JetStreamConsumer:
    """The durable consumer `durable` of the stream `stream`."""

    def __init__(self, config: NatsSourceConfig) -> None:
        self._config = config
        self._tasks = Tasks(f"nats {config.name}")
        self._connection = NatsConnection(
            config, ClientCallbacks(attach=self._attach, lost=self._lost)
        )
        self._answers = Answers(self._connection)
        self._feed = Feed(config, self, self._tasks)
        self._last_answered = b""
        # By the stream's sequence and time: a stream that is made anew counts from 1 again.
        self._pending: dict[tuple[bytes, bytes], Item] = {}
        self._created: datetime | None = None  # when the consumer was; tokens are its own
        self._window = config.max_ack_pending
        self._ack_wait = config.ack_wait
        self._inbox = ""
        self._sid = 0
        self._outstanding = 0  # messages asked for that have not come
        self._request_number = 0
        self._first_request = 0  # answers to earlier ones are of no interest any more
        self._pulling = False
        self._recovering = False
        self._draining = False
        self._heard = 0.0
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{config.stream}.{config.durable}".encode()

    async def open(self, intake: Intake) -> None:
        self._intake = intake
        self._feed.open(intake)
        await self._connection.open()
        self._tasks.start(self._keep_alive(), "in progress")

    async def drain(self) -> None:
        self._draining = True
        self._stop_pulling()
        self._connection.unsubscribe(self._sid)
        await self._settle_writes()

    async def close(self) -> None:
        self._draining = True
        self._stop_pulling()
        self._feed.close()
        await self._tasks.close()
        self._answers.flush()
        await self._confirm()
        await self._connection.close()

    # What the feed asks for.

    def identify(self, item: Item) -> tuple[str, str]:
        return f"{self._config.stream}-{int(item.number)}", utc_text(int(item.place[1]))

    def refused(self, item: Item, reason: str, text: str) -> None:
        self._feed.keep(item, reason, text, partial(self._done, (item,), b"+TERM"))

    def accepted(self, items: Sequence[Item]) -> None:
        self._done(items, b"+ACK")

    def settled(self, item: Item, settlement: Settlement) -> None:
        if settlement.outcome is Outcome.ACCEPTED:
            self._done((item,), b"+ACK")
        elif settlement.outcome is Outcome.REJECTED:
            self._intake.rejected(settlement.reason.value, settlement.detail)
            self._done((item,), b"+TERM")
        elif self._draining:
            # It stays unacknowledged; the server gives it to somebody after ack_wait.
            self._pending.pop(item.place, None)
        else:
            self._feed.hold(item, settlement.retry_after)

    def _done(self, items: Sequence[Item], answer: bytes) -> None:
        forget = self._pending.pop
        replies = []
        for item in items:
            forget(item.place, None)
            if item.reply:
                replies.append(item.reply)
        if replies:
            self._answers.add_all(replies, answer)
            self._last_answered = replies[-1]
        if not self._outstanding:
            self._request_more()

    # The consumer.

    async def _attach(self) -> None:
        self._answers.hold()
        await self._prepare_consumer()
        self._inbox = self._connection.inbox()
        self._sid = self._connection.subscribe(f"{self._inbox}.*", self._received)
        self._answers.release()
        await self._connection.flush()
        self._start_pulling()

    async def _prepare_consumer(self) -> None:
        client = self._connection.client
        # Once in a life: later we know what is under way, it is with us.
        rewind = self._created is None and not self._config.shared
        consumer = await find_consumer(client, self._config, rewind=rewind)
        if self._created not in {None, consumer.created}:
            self._forget_tokens()
        self._created = consumer.created
        self._ack_wait = consumer.ack_wait
        self._window = consumer.window

    def _forget_tokens(self) -> None:
        """The consumer was made anew, perhaps with its stream, whose sequence begins at 1 again.

        What we owe to the old one would acknowledge other messages of the new one. A message that
        is still the same comes again, with a new token.
        """
        self._answers.clear()
        self._last_answered = b""
        for item in self._pending.values():
            item.reply = b""

    def _start_pulling(self) -> None:
        self._pulling = not self._draining
        self._heard = asyncio.get_running_loop().time()
        self._request_more()

    def _lost(self) -> None:
        self._stop_pulling()
        self._answers.hold()

    def _stop_pulling(self) -> None:
        self._pulling = False
        self._outstanding = 0
        self._first_request = self._request_number + 1

    def _request_more(self) -> None:
        room = self._window - len(self._pending) - self._outstanding
        if room == 0 and not self._outstanding:
            room = 1  # an open request tells of the consumer's end
        count = min(self._config.batch, room)
        # Small requests cost as much as large ones: ask early, but never for crumbs.
        worth = count > 0 and (self._outstanding == 0 or count * 2 >= self._config.batch)
        if not self._pulling or not worth:
            return
        self._request_number += 1
        body = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            count, EXPIRES_SECONDS * 10**9, HEARTBEAT_SECONDS * 10**9,
        )  # fmt: skip
        reply = f"{self._inbox}.{self._request_number}".encode()
        if self._connection.write(encode_publish(self._subject, body, reply=reply)):
            self._outstanding += count

    def _received(self, messages: list[NatsMessage]) -> None:
        now = self._heard = asyncio.get_running_loop().time()
        items = []
        told, pending = self._feed.told, self._pending
        for message in messages:
            reply = message.reply
            place = parse_ack_place(reply)
            if place is None:
                self._take_status(message)
                continue
            if self._outstanding:
                self._outstanding -= 1
            item = Item(
                (),
                told,
                message=message,
                reply=reply,
                number=place[0],
                size=len(message.header) + len(message.payload),
                place=place,
                touched=now,
            )
            known = pending.setdefault(place, item)
            if known is item:
                items.append(item)
            else:
                known.reply = reply
                known.touched = now
        if items:
            self._feed.put(items)
        self._request_more()

    def _take_status(self, message: NatsMessage) -> None:
        try:
            headers = parse_headers(message.header)
        except CloudEventError as error:
            self._intake.rejected(error.reason, str(error))
            return
        number = parse_number(message.subject.rpartition(".")[2])
        if headers.status in {0, 100} or number is None or number < self._first_request:
            return  # a heartbeat, the end of a request that we have forgotten, or not for us
        if headers.status in {404, 408}:
            missing = parse_number(headers.get("nats-pending-messages"))
            self._outstanding -= min(
                self._outstanding, self._outstanding if missing is None else missing
            )
        else:
            self._trouble(f"{headers.status} {headers.description}")

    # When the server does not answer as it should.

    def _trouble(self, text: str) -> None:
        if self._draining:
            return
        self._lost()
        if not self._recovering:
            self._recovering = True
            _log.warning("%s: consumer %s: %s", self._config.name, self._config.durable, text)
            self._tasks.start(self._recover(), "recover")

    async def _recover(self) -> None:
        for attempt in range(1 << 30):
            await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            if self._pulling or not self._connection.is_up:
                break  # a new connection has begun, or will: it attaches anew
            try:
                await self._prepare_consumer()
            except (*CLIENT_ERRORS, GatewayError) as error:
                _log.debug("%s: %s", self._config.name, error)
                continue
            _log.info("%s: consumer %s is back", self._config.name, self._config.durable)
            self._answers.release()
            self._start_pulling()
            break
        self._recovering = False

    async def _keep_alive(self) -> None:
        """Tell the server what we still work on, and notice requests that got lost."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self._ack_wait / 4))
            now = loop.time()
            if not self._connection.is_up or self._answers.is_held:
                continue
            for item in self._pending.values():
                if item.reply and now - item.touched >= self._ack_wait / 4:
                    item.touched = now
                    self._answers.add(item.reply, b"+WPI")
            if self._outstanding and now - self._heard > 3 * HEARTBEAT_SECONDS:
                self._trouble("no heartbeat")

    async def _confirm(self) -> None:
        """Wait until the server has worked off all acknowledgements.

        It does so in their order, so repeating the last one with a reply subject tells of all.
        """
        if not self._last_answered or self._answers.is_held or not self._connection.is_up:
            return
        try:
            await self._connection.client.request(
                self._last_answered.decode(), b"+ACK", timeout=_CONFIRM_SECONDS
            )
        except CLIENT_ERRORS as error:
            _log.info("%s: the last messages may come again: %r", self._config.name, error)

    async def _settle_writes(self) -> None:
        with contextlib.suppress(*CLIENT_ERRORS):  # what can't be acknowledged comes again
            await self._connection.flush(2)
