"""librdkafka's producer on the event loop: lists in, one wait for all of their reports.

Reports are fetched by a timer: first when they are usually there, then often while records are
under way, and once a second otherwise. No thread, no lock, and a report is an ordinary call.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from gateway.delivery import Failure
from gateway.sinks.kafka.batch import DOWN, Batch, OnEnded, failure_of
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_POLL_MIN: Final = 0.001
"""Seconds to the next poll after reports came: others of the same request are near."""
_SOONER: Final = 0.95
"""Share of the time to a list's first poll that we wait next time, if that poll was enough."""
_LATER_MAX: Final = 0.01
"""Seconds after the linger time that we wait at most before the first poll."""
_POLL_MAX: Final = 0.05
"""Seconds between polls of a broker that keeps us waiting."""
_POLL_IDLE: Final = 1.0
"""Seconds between polls with nothing under way, when only connection errors can come."""
_CLOSE_SECONDS: Final = 5.0
"""Seconds for what is under way at `close`; the drain before it had its own time."""

Produce = Callable[[Producer, Batch], None]
"""Hands the records of a list over, from `produced` on; it moves `produced` before it raises."""


class Client:
    """One producer of librdkafka, made anew after a fatal error; all on the event loop's thread.

    Args:
        settings: librdkafka's.
        linger: seconds before the first report can come.
        tasks: for the end of producers, which blocks.
    """

    def __init__(self, settings: dict[str, Any], linger: float, tasks: Tasks) -> None:
        self._settings = settings
        self._linger = linger
        self._tasks = tasks
        self._lines = Throttle()
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(settings)
        self._batches: list[Batch] = []  # whose end nobody was told of
        self._waiting: deque[tuple[Produce, Batch]] = deque()  # for room
        self._delay = _POLL_MIN
        self._usual = linger  # seconds until a list is done that finds nothing under way
        self._awaited: Batch | None = None  # such a list
        self._closing: asyncio.Future[None] | None = None  # done when all were told
        self._polls = 0
        self._next_poll = inf  # uvloop's handles may have no `when`
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer = self._loop.call_later(_POLL_IDLE, self._poll_idle)

    def start(self, size: int, produce: Produce, on_ended: OnEnded) -> Batch:
        """Have a list of records produced.

        What `Producer.produce` raises may come out of `produce`: after a `BufferError` it is called
        again when there is room, any other error is the failure of position `produced`.

        Args:
            size: of the list.
            produce: hands them over.
            on_ended: called when all outcomes are known, never before this returns. The batch's
                failures are its to read, the callbacks have gone.
        """
        batch = Batch(size, on_ended)
        self._batches.append(batch)
        self._produce(produce, batch)
        if batch.produced < size and not batch.is_ended:
            self._waiting.append((produce, batch))
            self._expect(_POLL_MIN)
            return batch
        batch.look()  # there may be nothing to wait for
        if batch.is_ended:
            self._loop.call_soon(self._tell)
        elif self._expect(self._usual):
            self._awaited, self._polls = batch, 0
        return batch

    async def run(self, size: int, produce: Produce) -> Batch:
        """Do as `start` does, and return the list when all outcomes are known."""
        ended: asyncio.Future[None] = self._loop.create_future()

        def on_ended(_: Batch) -> None:
            if not ended.done():  # else the caller has been cancelled, and does not know it yet
                ended.set_result(None)

        batch = self.start(size, produce, on_ended)
        try:
            await ended
        finally:
            self.cancel(batch)
        return batch

    def cancel(self, batch: Batch) -> None:
        """Tell nobody of a list's end; what was handed over may arrive, and nothing else."""
        if batch in self._batches:
            self._batches.remove(batch)
            batch.reports.clear()  # they refer to the batch
            self._waiting = deque(pair for pair in self._waiting if pair[1] is not batch)

    def _produce(self, produce: Produce, batch: Batch) -> None:
        """Call `produce` until all is handed over, or there is no room for more."""
        while batch.produced < batch.size and not batch.is_ended:
            try:
                produce(self._producer, batch)
            except BufferError:
                return
            except KafkaException as exception:
                error = exception.args[0]
                if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - as above
                    self._renew(str(error))  # it gives the list up
                    continue
                batch.fail(batch.produced, failure_of(batch.produced, error))
                batch.produced += 1
            except Exception as error:  # noqa: BLE001 - a bug must not hang the list, nor others
                self._skip(batch, error)

    def _skip(self, batch: Batch, error: Exception) -> None:
        """Release a record that can't be written."""
        name = type(error).__name__
        more = self._lines.pass_on(name)
        if more is not None:
            _log.error("an event can't be made a Kafka record%s", more, exc_info=error)
        batch.fail(batch.produced, Failure(batch.produced, *DOWN, detail=name))
        batch.produced += 1

    def _expect(self, delay: float) -> bool:
        """See to it that reports are fetched after `delay`; return whether none were to be."""
        self._delay = _POLL_MIN
        if self._next_poll <= self._loop.time() + delay:
            return False
        self._poll_in(delay)
        return True

    def release(self, detail: str, retry_after: float | None) -> None:
        """Release what is under way, as nobody is there to have it.

        Args:
            detail: why, in one line.
            retry_after: seconds that it had better wait; None leaves that to the route.
        """
        if not self._batches:
            return
        with contextlib.suppress(KafkaException, MemoryError):  # `produce` meets a fatal one, too
            self._serve(self._producer)
        for batch in self._batches:
            batch.give_up(detail, retry_after)
        self._producer.purge(blocking=False)
        self._loop.call_soon(self._tell)

    async def close(self) -> None:
        """Wait a little for what is under way, then release it."""
        if self._batches:
            self._closing = self._loop.create_future()
            await asyncio.wait((self._closing,), timeout=_CLOSE_SECONDS)
        self._idle_timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._abandon(self._producer, "shutting down")
        self._tell()
        await asyncio.to_thread(self._producer.close)

    def _poll_in(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_poll = self._loop.time() + delay
        self._timer = self._loop.call_later(delay, self._poll)

    def _poll_idle(self) -> None:
        """Hear of connection errors, though nothing is under way."""
        self._idle_timer = self._loop.call_later(_POLL_IDLE, self._poll_idle)
        if self._timer is None:
            self._poll()

    def _poll(self) -> None:
        self._timer, self._next_poll = None, inf
        served = 0
        try:
            served = self._serve(self._producer)
        except KafkaException as error:
            self._renew(str(error))
        finally:  # what a report raises comes out of `poll` too, and must not end the polling
            if served:
                self._use_room()
            if self._look():
                self._poll_in(self._delay)
                self._delay = _POLL_MIN if served else min(self._delay * 1.5, _POLL_MAX)
            self._tell()

    def _serve(self, producer: Producer) -> int:
        """Have reports delivered; return how many."""
        try:
            return producer.poll(0)
        except (KafkaException, MemoryError) as error:
            # No memory to call with: the record is dropped, and perhaps nobody was told of it.
            if isinstance(error, MemoryError) or not error.args[0].fatal():
                for batch in self._batches:
                    batch.doubt()
            raise

    def _look(self) -> bool:
        """Look at each list; return whether something is under way."""
        waits = False
        for batch in self._batches:
            batch.look()
            waits = waits or not batch.is_ended
        self._polls += 1
        if self._awaited is not None and self._awaited.is_ended:
            self._learn()
        return waits

    def _learn(self) -> None:
        """Choose when to look at the next list that finds nothing under way."""
        # One poll may have been late. More are too many; but a single slow list says little, and
        # after many of them the next quick one must not wait for long.
        usual = self._usual * _SOONER if self._polls == 1 else self._usual + _POLL_MIN
        self._usual = min(max(usual, self._linger), self._linger + _LATER_MAX)
        self._awaited = None

    def _tell(self) -> None:
        """Tell of the lists that have ended; what is told may start others."""
        ended = [batch for batch in self._batches if batch.is_ended]
        for batch in ended:
            if batch not in self._batches:
                continue  # it was cancelled because of another
            self._batches.remove(batch)
            batch.reports.clear()  # they refer to the batch
            batch.on_ended(batch)
        if self._closing is not None and not self._batches and not self._closing.done():
            self._closing.set_result(None)

    def _use_room(self) -> None:
        """Hand over what waits for room, in order."""
        while self._waiting:
            produce, batch = self._waiting[0]
            self._produce(produce, batch)
            if batch.produced < batch.size and not batch.is_ended:
                return
            self._waiting.popleft()

    def _renew(self, detail: str) -> None:
        """Replace a producer that has lost count of its records, and release what it held."""
        more = self._lines.pass_on("renewed")
        if more is not None:
            _log.warning("the Kafka producer can't go on and is made anew: %s%s", detail, more)
        old, self._producer = self._producer, Producer(self._settings)
        self._abandon(old, detail)
        self._loop.call_soon(self._tell)
        self._tasks.start(asyncio.to_thread(old.close), "end of a failed producer")

    def _abandon(self, producer: Producer, detail: str) -> None:
        producer.purge(blocking=False)
        for _ in range(3):  # each fatal error comes out of one `poll`, and reports out of the next
            with contextlib.suppress(KafkaException, MemoryError):
                self._serve(producer)
        for batch in self._batches:
            batch.give_up(detail)
