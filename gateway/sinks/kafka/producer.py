"""librdkafka's producer on the event loop: lists in, one wait for all of their reports.

Reports are fetched by a timer: first when they are usually there, then often while records are
under way, and once a second otherwise. No thread, no lock, and a report is an ordinary call.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from itertools import repeat
from sys import getrefcount
from types import MethodType
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from gateway.delivery import Failure, Outcome, Reason
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_POLL_MIN: Final = 0.001
"""Seconds to the next poll after reports came: others of the same request are near."""
_SOONER: Final = 0.95
"""Share of the time to a list's first poll that we wait next time, if that poll was enough."""
_POLL_MAX: Final = 0.05
"""Seconds between polls of a broker that keeps us waiting."""
_POLL_IDLE: Final = 1.0
"""Seconds between polls with nothing under way, when only connection errors can come."""
_CLOSE_SECONDS: Final = 5.0
"""Seconds for what is under way at `close`; the drain before it had its own time."""

# What `getrefcount` says of an object that only the list refers to where it is looked up.
_DROPPED: Final = getrefcount([object()][0]) + 1

Verdict = tuple[Outcome, Reason]
Produce = Callable[[Producer, "Batch"], None]
"""Hands the records of a list over, from `produced` on; it moves `produced` before it raises."""
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
    """One list of records: takes the reports of failures, and sees which records are done.

    A report of each success would cost more than all else that is done here for a record. So only
    failures are reported (`delivery.report.only.error`), and that a record is done shows by its
    callback: librdkafka's client drops it when it has nothing more to say of the record.

    Attributes:
        size: of the list.
        reports: by position, the record's callback.
        produced: records before this position were handed over, or have an outcome already.
        failures: those known by now, by position.
        suspects: positions that were refused with a whole batch of librdkafka's.
        swept: positions that failed only because the producer came to its end.
        finished: done when every outcome is known.
    """

    __slots__ = (
        "_done",
        "failures",
        "finished",
        "produced",
        "reports",
        "size",
        "suspects",
        "swept",
    )

    def __init__(self, size: int) -> None:
        self.size = size
        self.suspects: set[int] = set()
        self.swept: set[int] = set()
        self.failures: dict[int, Failure] = {}
        self.reports: list[MethodType] = list(map(MethodType, repeat(self._report), range(size)))
        self.produced = 0
        self._done = 0  # no record before this position is with librdkafka any more
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _report(self, position: int, error: KafkaError | None, _: object) -> None:
        """Take a delivery report; must not raise, for it would come out of some `poll`."""
        if error is None:
            return
        if not self.finished.done():
            code = error.code()
            if code in _FAULT_OF_ONE:
                self.suspects.add(position)
            elif code in _SWEPT:
                self.swept.add(position)
        self.fail(position, failure_of(position, error))

    def fail(self, position: int, failure: Failure) -> None:
        """Note a failure; the first that comes of a position counts."""
        if not self.finished.done():
            self.failures.setdefault(position, failure)

    def look(self) -> None:
        """Note which records are done, up to the first that is not."""
        done, produced, reports = self._done, self.produced, self.reports
        while done < produced and getrefcount(reports[done]) == _DROPPED:
            done += 1
        self._done = done
        if done == self.size:
            self._finish()

    def doubt(self) -> None:
        """Release what may have been dropped without its report."""
        for position in range(self._done, self.produced):
            self.fail(position, Failure(position, *_DOWN, detail="a report was lost"))

    def give_up(self, detail: str) -> None:
        """Release whatever has no outcome yet."""
        if self.finished.done():
            return
        for position in range(self._done, self.size):
            if position >= self.produced or getrefcount(self.reports[position]) > _DROPPED:
                self.swept.add(position)
                self.fail(position, Failure(position, *_DOWN, detail=detail))
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


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
        self._usual = linger  # seconds until a list is done that finds nothing under way
        self._awaited: Batch | None = None  # such a list
        self._polls = 0
        self._next_poll = self._loop.time() + _POLL_IDLE  # uvloop's handles may have no `when`
        self._timer = self._loop.call_later(_POLL_IDLE, self._poll)

    async def run(self, size: int, produce: Produce) -> Batch:
        """Have a list of records produced, and return it when all outcomes are known.

        What `Producer.produce` raises may come out of `produce`: after a `BufferError` it is called
        again when there is room, an error of the record is the failure of position `produced`.
        """
        batch = Batch(size)
        self._batches.add(batch)
        try:
            self._produce(produce, batch)
            while batch.produced < size and not batch.finished.done():
                await self._wait_for_room()
                self._produce(produce, batch)
            batch.look()  # there may be nothing to wait for
            if not batch.finished.done():
                self._expect(batch)
                await batch.finished
        finally:
            self._batches.discard(batch)
            batch.reports.clear()  # they refer to the batch
        return batch

    def _produce(self, produce: Produce, batch: Batch) -> None:
        """Call `produce` until all is handed over, or there is no room for more."""
        while batch.produced < batch.size and not batch.finished.done():
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

    def _expect(self, batch: Batch) -> None:
        """See to it that somebody looks when the list is likely to be done."""
        self._delay = _POLL_MIN
        if self._next_poll > self._loop.time() + self._usual:
            self._awaited, self._polls = batch, 0
            self._poll_in(self._usual)

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
            served = self._serve(self._producer)
        except KafkaException as error:
            self._renew(str(error))
        finally:  # what a report raises comes out of `poll` too, and must not end the polling
            if served:
                self._make_room()
            if self._look():
                self._poll_in(self._delay)
                self._delay = _POLL_MIN if served else min(self._delay * 1.5, _POLL_MAX)
            else:
                self._poll_in(_POLL_IDLE)

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
            waits = waits or not batch.finished.done()
        self._polls += 1
        if self._awaited is not None and self._awaited.finished.done():
            # One poll may have been late. More are too many; but a single slow list says little.
            self._usual = max(
                self._usual * _SOONER if self._polls == 1 else self._usual + _POLL_MIN,
                self._linger,
            )
            self._awaited = None
        return waits

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
            with contextlib.suppress(KafkaException, MemoryError):
                self._serve(producer)
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
