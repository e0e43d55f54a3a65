"""A list of records with librdkafka: what was handed over, what is done, and what has failed."""

from collections.abc import Callable, Mapping
from itertools import repeat
from sys import getrefcount
from types import MethodType
from typing import Final

from confluent_kafka import KafkaError

from gateway.delivery import Failure, Outcome, Reason


def _count_of_dropped() -> int:
    """Return what `getrefcount` says of an object in a list that nothing else refers to."""
    reports = [object()]
    return getrefcount(reports[0])


_DROPPED: Final = _count_of_dropped()

Verdict = tuple[Outcome, Reason]
OnEnded = Callable[["Batch"], None]
REFUSED: Final[Verdict] = (Outcome.REJECTED, Reason.SINK_REFUSED)
DOWN: Final[Verdict] = (Outcome.RELEASED, Reason.SINK_DOWN)
_HELD: Final[Verdict] = (Outcome.RELEASED, Reason.HELD)
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
        is_ended: whether every outcome is known.
        on_ended: told when that is so; it need not be told at once.
    """

    __slots__ = (
        "_done",
        "failures",
        "is_ended",
        "on_ended",
        "produced",
        "reports",
        "size",
        "suspects",
        "swept",
    )

    def __init__(self, size: int, on_ended: OnEnded) -> None:
        self.size = size
        self.on_ended = on_ended
        self.is_ended = False
        self.suspects: set[int] = set()
        self.swept: set[int] = set()
        self.failures: dict[int, Failure] = {}
        self.reports: list[MethodType] = list(map(MethodType, repeat(self._report), range(size)))
        self.produced = 0
        self._done = 0  # no record before this position is with librdkafka any more

    def _report(self, position: int, error: KafkaError | None, _: object) -> None:
        """Take a delivery report; must not raise, for it would come out of some `poll`."""
        if error is None:
            return
        if not self.is_ended:
            code = error.code()
            if code in _FAULT_OF_ONE:
                self.suspects.add(position)
            elif code in _SWEPT:
                self.swept.add(position)
        self.fail(position, failure_of(position, error))

    def fail(self, position: int, failure: Failure) -> None:
        """Note a failure; the first that comes of a position counts."""
        if not self.is_ended:
            self.failures.setdefault(position, failure)

    def look(self) -> None:
        """Note which records are done, up to the first that is not."""
        done, produced, reports = self._done, self.produced, self.reports
        while done < produced and getrefcount(reports[done]) == _DROPPED:
            done += 1
        self._done = done
        if done == self.size and not self.is_ended:
            self._finish()

    def doubt(self) -> None:
        """Release what may have been dropped without its report."""
        for position in range(self._done, self.produced):
            self.fail(position, Failure(position, *DOWN, detail="a report was lost"))

    def give_up(self, detail: str, retry_after: float | None = None) -> None:
        """Release whatever has no outcome yet; for so many seconds it is held back."""
        if self.is_ended:
            return
        verdict = DOWN if retry_after is None else _HELD
        for position in range(self._done, self.size):
            if position >= self.produced or getrefcount(self.reports[position]) > _DROPPED:
                self.swept.add(position)
                failure = Failure(position, *verdict, retry_after=retry_after, detail=detail)
                self.fail(position, failure)
        self._finish()

    def _finish(self) -> None:
        self.is_ended = True


def failure_of(position: int, error: KafkaError) -> Failure:
    """Judge an error of one record."""
    code = error.code()
    outcome, reason = _VERDICTS.get(code, DOWN)
    # Codes below 0 are librdkafka's own: there was no answer.
    return Failure(position, outcome, reason, status=code if code > 0 else None, detail=error.str())
