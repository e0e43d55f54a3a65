"""Replay: dead letters go to their routes again, slowly, and are deleted once they have arrived."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

import msgspec

from bindings.errors import CloudEventError
from bindings.event import Event
from gateway.dead_letters.letter import DeadLetter, event_of
from gateway.dead_letters.query import Filter
from gateway.dead_letters.store import DeadLetters
from gateway.delivery import Delivery, Outcome, Reason, Settlement
from gateway.interfaces import Intake
from gateway.spool import StoreError
from gateway.tasks import Tasks

DEFAULT_RATE: Final = 100.0
"""Events per second: enough for a backlog, and no flood for a sink that has just come back."""
_LISTS_PER_SECOND: Final = 10
_NO_ROUTE: Final = Settlement(
    Outcome.REJECTED, Reason.INVALID, detail="there is no route of that name any more"
)
_NOT_AN_EVENT: Final = Settlement(
    Outcome.REJECTED, Reason.INVALID, detail="it is a message that could not be decoded"
)
_LOST: Final = Settlement(
    Outcome.REJECTED, Reason.FILTERED, detail="the route's filter does not want it any more"
)

_ELSEWHERE: Final = Settlement(
    Outcome.ACCEPTED,
    Reason.DEAD_LETTERED,
    detail="refused again; the route's dead-letter sink has it, or it is a new dead letter",
)


class Replayer(Protocol):
    """What hands events to their routes once more."""

    async def replay(self, letters: Sequence[DeadLetter]) -> Sequence[Settlement]:
        """Deliver each letter's event to the route it came from; returns when all are settled.

        A letter is deleted when its settlement is ACCEPTED, so that must not be said of an event
        that no sink, no spool and no dead letter has.
        """


class Replayed(msgspec.Struct, frozen=True):
    """What became of one letter.

    Attributes:
        id: the letter's.
        outcome: ACCEPTED: it has arrived, and is no dead letter any more.
        reason: why it is not so; with ACCEPTED, DEAD_LETTERED: it was refused again, and this
            letter is deleted because the route's dead-letter sink or a new letter has the event.
        detail: one line for people.
    """

    id: int
    outcome: Outcome
    reason: Reason
    detail: str = ""

    @property
    def has_arrived(self) -> bool:
        """Whether the route's sinks have it, or a spool has that leads to them."""
        return self.outcome is Outcome.ACCEPTED and self.reason is not Reason.DEAD_LETTERED

    @property
    def word(self) -> str:
        """What it is counted as: the outcome, or `dead_lettered`."""
        if self.outcome is Outcome.ACCEPTED and not self.has_arrived:
            return self.reason.value
        return self.outcome.name.lower()


class IntakeReplayer:
    """Replays through an intake for each route.

    Args:
        intake_of: returns the intake that leads to the route of that name alone, and None if there
            is no such route.
    """

    def __init__(self, intake_of: Callable[[str], Intake | None]) -> None:
        self._intake_of = intake_of

    async def replay(self, letters: Sequence[DeadLetter]) -> Sequence[Settlement]:
        settlements: dict[int, Settlement] = {}
        routes: dict[str, list[tuple[int, Event]]] = {}
        for position, letter in enumerate(letters):
            event = _readable(letter)
            if isinstance(event, Event):
                routes.setdefault(letter.route, []).append((position, event))
            else:
                settlements[position] = event
        async with asyncio.TaskGroup() as group:
            for route, events in routes.items():
                intake = self._intake_of(route)
                if intake is None:
                    settlements.update((position, _NO_ROUTE) for position, _ in events)
                else:
                    group.create_task(_hand_in(intake, events, settlements))
        return [settlements[position] for position in range(len(letters))]


class Replay:
    """Takes letters from the store and has them replayed, at a rate."""

    def __init__(self, store: DeadLetters, replayer: Replayer) -> None:
        self._store = store
        self._replayer = replayer
        self._tasks = Tasks("replay")
        self._is_closed = False

    async def run(
        self, wanted: Filter, rate: float = DEFAULT_RATE
    ) -> AsyncIterator[Sequence[Replayed]]:
        """Replay letters, oldest first, but none that come meanwhile; yields what became of them.

        It stops early when nothing of a list can be delivered now: then the sink is down. Whoever
        stops to iterate leaves the list that is under way to end by itself.

        Args:
            wanted: which ones; those that another replay has at the moment are left out.
            rate: events per second, above 0.

        Raises:
            StoreError: the letters can't be read or changed.
        """
        loop = asyncio.get_running_loop()
        size = max(1, int(rate / _LISTS_PER_SECOND))
        until = await self._store.newest()
        cursor: int | None = 0
        due = loop.time()
        while cursor is not None and not self._is_closed:
            await asyncio.sleep(due - loop.time())
            done: asyncio.Future[tuple[Sequence[Replayed], int | None]] = loop.create_future()
            self._tasks.start(self._list(wanted, (cursor, until), size, done), "list")
            replayed, cursor = await asyncio.shield(done)
            if not replayed:
                continue
            due = max(due + len(replayed) / rate, loop.time())
            yield replayed
            if all(result.outcome is Outcome.RELEASED for result in replayed):
                return

    async def close(self) -> None:
        """Take nothing more, and wait until what is under way has been marked.

        Call it when the pipeline has settled everything, and before the store is closed.
        """
        self._is_closed = True
        await self._tasks.ended()

    async def _list(
        self,
        wanted: Filter,
        span: tuple[int, int],
        size: int,
        done: "asyncio.Future[tuple[Sequence[Replayed], int | None]]",
    ) -> None:
        """Replay one list. It is a task of its own: what was begun is marked in any case."""
        try:
            letters, cursor = await self._store.take_for_replay(
                wanted, after=span[0], until=span[1], limit=size
            )
            replayed = await self._replay(letters) if letters else []
        except StoreError as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result((replayed, cursor))
        finally:
            done.cancel()  # does nothing unless a bug in the replayer has come here

    async def _replay(self, letters: Sequence[DeadLetter]) -> Sequence[Replayed]:
        delivered: list[int] = []
        failed = [letter.id for letter in letters]
        try:
            settlements = await self._replayer.replay(letters)
            results = [
                _judged(letter, settlement)
                for letter, settlement in zip(letters, settlements, strict=True)
            ]
            delivered = [one.id for one in results if one.outcome is Outcome.ACCEPTED]
            failed = [one.id for one in results if one.outcome is not Outcome.ACCEPTED]
        finally:
            await self._store.mark_replayed(delivered, failed)
        for letter, result in zip(letters, results, strict=True):
            self._store.replayed[letter.route, result.word] += 1
        return results


async def _hand_in(
    intake: Intake, events: Sequence[tuple[int, Event]], settlements: dict[int, Settlement]
) -> None:
    """Submit events and return when each has its settlement."""
    left = len(events)
    settled = asyncio.Event()

    def delivery(position: int, event: Event) -> Delivery:
        def on_settled(settlement: Settlement) -> None:
            nonlocal left
            settlements[position] = settlement
            left -= 1
            if left == 0:
                settled.set()

        return Delivery((event,), on_settled)

    await intake.submit([delivery(position, event) for position, event in events])
    await settled.wait()


def _readable(letter: DeadLetter) -> Event | Settlement:
    """Return the event to send, or why there is none."""
    if letter.event is None:
        return _NOT_AN_EVENT
    try:
        return event_of(letter)
    except CloudEventError as error:
        return Settlement(Outcome.REJECTED, Reason.INVALID, detail=str(error))


def _judged(letter: DeadLetter, settlement: Settlement) -> Replayed:
    if settlement.reason is Reason.FILTERED:
        settlement = _LOST  # accepted, for a source; but nobody has it
    elif settlement.reason is Reason.DEAD_LETTERED and not settlement.detail:
        settlement = _ELSEWHERE
    return Replayed(letter.id, settlement.outcome, settlement.reason, settlement.detail)
