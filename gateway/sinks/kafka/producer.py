"""librdkafka's producer on the event loop: lists in, one wait for all of their reports.

Reports are fetched by a timer that runs often while records are under way and once a second
otherwise: no thread, no lock, and a report is an ordinary call.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from gateway.delivery import Failure, Outcome, Reason
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_POLL_MIN: Final = 0.001
"""Seconds to the next poll after reports came: others of the same request are near."""
_POLL_MAX: Final = 0.05
"""Seconds between polls of a broker that keeps us waiting."""
_POLL_IDLE: Final = 1.0
"""Seconds between polls with nothing under way, when only connection errors can come."""
_CLOSE_SECONDS: Final = 5.0
"""Seconds for what is under way at `close`; the drain before it had its own time."""

Verdict = tuple[Outcome, Reason]
REFUSED: Final[Verdict] = (Outcome.REJECTED, Reason.SINK_REFUSED)
_DOWN: Final[Verdict] = (Outcome.RELEASED, Reason.SINK_DOWN)
_TIMED_OUT: Final[Verdict] = (Outcome.RELEASED, Reason.TIMEOUT)
_BUSY: Final[Verdict] = (Outcome.RELEASED, Reason.SINK_BUSY)

# A batch of librdkafka's is answered as a whole: of one of these the fault is in one of its
# records, or in their sum, which only shows when each is sent by itself.
_FAULT_OF_ONE: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
    }
)
# A record that was never the matter: its producer came to an end by another one.
_SWEPT: Final = frozenset(
    {
        KafkaError._PURGE_QUEUE,  # noqa: SLF001 - the library's public names for local errors
        KafkaError._PURGE_INFLIGHT,  # noqa: SLF001 - as above
        KafkaError._FATAL,  # noqa: SLF001 - as above
        KafkaError._GAPLESS_GUARANTEE,  # noqa: SLF001 - as above
    }
)

# Only what lies in the record itself is refused for good. One denied or lost batch makes librdkafka
# fail everything queued behind it with the same error, so all else goes back to be tried again.
_VERDICTS: Final[Mapping[int, Verdict]] = {
    KafkaError.MSG_SIZE_TOO_LARGE: REFUSED,
    KafkaError.RECORD_LIST_TOO_LARGE: REFUSED,
    KafkaError.INVALID_RECORD: REFUSED,
    KafkaError.TOPIC_EXCEPTION: REFUSED,
    KafkaError._INVALID_ARG: REFUSED,  # noqa: SLF001 - the library's public name for a local error
    KafkaError._MSG_TIMED_OUT: _TIMED_OUT,  # noqa: SLF001 - as above
    KafkaError.REQUEST_TIMED_OUT: _TIMED_OUT,
    KafkaError.THROTTLING_QUOTA_EXCEEDED: _BUSY,
}


class Batch:
    """One list of records: takes its reports, gathers its failures.

    Attributes:
        failures: those known by now, in no order.
        suspects: positions that were refused with a whole batch of librdkafka's.
        swept: positions that failed only because the producer came to its end.
        finished: done when every outcome is known.
    """

    __slots__ = ("_known", "_open", "failures", "finished", "suspects", "swept")

    def __init__(self, size: int) -> None:
        self.suspects: set[int] = set()
        self.swept: set[int] = set()
        self._known = bytearray(size)  # by position: 1 when the outcome is known
        self._open = size
        self.failures: list[Failure] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def report(self, position: int, error: KafkaError | None, _: object) -> None:
        """Take a delivery report; must not raise, for it would come out of some `poll`."""
        if error is None:  # as `settle` does, without the call
            if not self._known[position]:
                self._known[position] = 1
                self._open -= 1
                if not self._open:
                    self._finish()
            return
        code = error.code()
        if code in _FAULT_OF_ONE:
            self.suspects.add(position)
        elif code in _SWEPT:
            self.swept.add(position)
        self.settle(position, failure_of(position, error))

    def settle(self, position: int, failure: Failure | None = None) -> None:
        """Note an outcome, the first that comes; None is success."""
        if self._known[position]:
            return
        self._known[position] = 1
        if failure is not None:
            self.failures.append(failure)
        self._open -= 1
        if not self._open:
            self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def give_up(self, detail: str) -> None:
        """Release whatever has no outcome yet."""
        for position, known in enumerate(self._known):
            if not known:
                self.swept.add(position)
                self.settle(position, Failure(position, *_DOWN, detail=detail))


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
        self._batches: set[Batch] = set()
        self._room: asyncio.Future[None] | None = None
        self._delay = _POLL_MIN
        self._next_poll = self._loop.time() + _POLL_IDLE  # uvloop's handles may have no `when`
        self._timer = self._loop.call_later(_POLL_IDLE, self._poll)

    async def send(
        self, size: int, produce: Callable[[Producer, Batch, int], None]
    ) -> Sequence[Failure]:
        """Call `produce` for each position, wait for all reports, return the failures in order.

        What `Producer.produce` raises may come out of it: after a `BufferError` it is called again
        when there is room, an error of the record is that position's failure.
        """
        batch = await self.run(size, produce)
        return sorted(batch.failures, key=lambda failure: failure.position)

    async def run(self, size: int, produce: Callable[[Producer, Batch, int], None]) -> Batch:
        """Do as `send` does, and return all that is known of the list."""
        batch = Batch(size)
        self._batches.add(batch)
        try:
            position = self._produce(produce, batch, 0, size)
            while position < size:
                await self._wait_for_room()
                position = self._produce(produce, batch, position, size)
            self._delay = _POLL_MIN
            if self._next_poll > self._loop.time() + self._linger:
                self._poll_in(self._linger)
            await batch.finished
        finally:
            self._batches.discard(batch)
        return batch

    def _produce(
        self, produce: Callable[[Producer, Batch, int], None], batch: Batch, start: int, size: int
    ) -> int:
        """Call `produce` for each position from `start` on.

        Returns:
            The first position that there is no room for, or `size`.
        """
        position = start
        while position < size and not batch.finished.done():
            try:
                produce(self._producer, batch, position)
            except BufferError:
                return position
            except KafkaException as exception:
                error = exception.args[0]
                if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - as above
                    self._renew(str(error))  # it gives the list up
                    continue
                batch.settle(position, failure_of(position, error))
            position += 1
        return size

    async def close(self) -> None:
        """Wait a little for what is under way, then release it."""
        if self._batches:
            await asyncio.wait([b.finished for b in self._batches], timeout=_CLOSE_SECONDS)
        self._timer.cancel()
        self._abandon(self._producer, "shutting down")
        await asyncio.to_thread(self._producer.close)

    def _poll_in(self, delay: float) -> None:
        self._timer.cancel()
        self._next_poll = self._loop.time() + delay
        self._timer = self._loop.call_later(delay, self._poll)

    def _poll(self) -> None:
        served = 0
        try:
            served = self._producer.poll(0)
        except KafkaException as error:
            self._renew(str(error))
        finally:  # what a report raises comes out of `poll` too, and must not end the polling
            if served:
                self._make_room()
            if self._batches:
                self._poll_in(self._delay)
                self._delay = _POLL_MIN if served else min(self._delay * 1.5, _POLL_MAX)
            else:
                self._poll_in(_POLL_IDLE)

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()
            self._poll_in(_POLL_MIN)
        await asyncio.shield(self._room)  # others may wait for it too

    def _renew(self, detail: str) -> None:
        """Replace a producer that has lost count of its records, and release what it held."""
        more = self._lines.pass_on("renewed")
        if more is not None:
            _log.warning("the Kafka producer can't go on and is made anew: %s%s", detail, more)
        old, self._producer = self._producer, Producer(self._settings)
        self._abandon(old, detail)
        self._tasks.start(asyncio.to_thread(old.close), "end of a failed producer")

    def _abandon(self, producer: Producer, detail: str) -> None:
        producer.purge(blocking=False)
        for _ in range(3):  # each fatal error comes out of one `poll`, and reports out of the next
            with contextlib.suppress(KafkaException):
                producer.poll(0)
        for batch in self._batches:
            batch.give_up(detail)
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None


def failure_of(position: int, error: KafkaError) -> Failure:
    """Judge an error of one record."""
    code = error.code()
    outcome, reason = _VERDICTS.get(code, _DOWN)
    # Codes below 0 are librdkafka's own: there was no answer.
    return Failure(position, outcome, reason, status=code if code > 0 else None, detail=error.str())
