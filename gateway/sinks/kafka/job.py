"""One call of the Kafka sink: a list of events, and what has become of it.

Nearly always the list is one batch of records. If the broker refuses some for the fault of one of
them or for the size of all, these suspects go one by one, and then what was not sent because of it.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from confluent_kafka import Producer

from bindings.event import Event
from gateway.delivery import Failure, Outcome, Reason
from gateway.errors import GatewayError
from gateway.interfaces import OnEnded
from gateway.sinks.kafka.batch import Batch
from gateway.sinks.kafka.producer import Client
from gateway.sinks.kafka.records import Records


class Owner(Protocol):
    """The sink, as a job sees it."""

    def client(self, timeout: float, *, one_by_one: bool = False) -> Client:
        """Return the producer whose records time out after `timeout` seconds.

        Raises:
            GatewayError: there is none yet and it can't be made.
        """

    def note_suspects(self, count: int) -> None:
        """Say that so many records are sent one by one."""

    def note_outcome(self, size: int, failures: Sequence[Failure]) -> None:
        """Note what has become of a list of this size."""


class Job:
    """One list of events (see the module).

    Args:
        owner: the sink.
        records: how it writes them.
        events: the list.
        timeout: seconds for a record to be confirmed.
        on_ended: called once with the failures, never before `start` has returned.
    """

    def __init__(
        self,
        owner: Owner,
        records: Records,
        events: Sequence[Event],
        timeout: float,
        on_ended: OnEnded,
    ) -> None:
        self._owner = owner
        self._records = records
        self._events = events
        self._timeout = timeout
        self._on_ended = on_ended
        self._failures: dict[int, Failure] = {}
        self._positions: Sequence[int] = ()  # of what is under way
        self._rest: Sequence[int] = ()  # what is sent after the suspects
        self._one_by_one = False  # the suspects are under way
        self._held: dict[str, int] = {}  # by key: a position that has to be repeated
        self._client: Client | None = None
        self._batch: Batch | None = None

    def start(self) -> None:
        """Send the list; to be called once.

        Raises:
            GatewayError: there can be no producer.
        """
        self._send(self._owner.client(self._timeout), range(len(self._events)))

    def cancel(self) -> None:
        """Tell nobody what becomes of it; what was handed over may arrive."""
        if self._client is not None and self._batch is not None:
            self._client.cancel(self._batch)
            self._batch = None  # as below

    def _send(self, client: Client, positions: Sequence[int]) -> None:
        self._positions, self._client = positions, client
        self._batch = client.start(len(positions), self._produce, self._batch_ended)

    def _produce(self, producer: Producer, batch: Batch) -> None:
        if batch.produced:  # it goes on after a failure, or when there is room again
            self._hold(batch.failures, self._positions)
        self._records.produce(self._events, self._positions, self._held, producer, batch)

    def _hold(self, failures: dict[int, Failure], positions: Sequence[int]) -> None:
        """Let later events of the keys that failed wait."""
        for index in sorted(failures):
            if failures[index].outcome is Outcome.RELEASED:
                position = positions[index]
                self._held.setdefault(self._events[position].key, position)

    def _batch_ended(self, batch: Batch) -> None:
        self._batch = None  # which refers to this job: both would wait for the collector
        positions, failures = self._positions, self._failures
        for index, failure in batch.failures.items():
            position = positions[index]
            failures[position] = msgspec.structs.replace(failure, position=position)
        if self._one_by_one:
            self._one_by_one = False
            rest, self._rest = self._rest, ()
            self._go_on(rest)
        elif batch.suspects:
            # Whose fault was it? And then on with what was not sent because of it.
            suspects = [positions[index] for index in sorted(batch.suspects)]
            self._rest = [positions[index] for index in sorted(batch.swept)]
            self._owner.note_suspects(len(suspects))
            self._one_by_one = True
            self._go_on(suspects)
        else:
            self._end()

    def _go_on(self, positions: Sequence[int]) -> None:
        """Send these, of which nothing was stored."""
        if not positions:
            self._end()
            return
        unsent = (*positions, *self._rest)
        for position in unsent:
            self._failures.pop(position, None)
        self._held.clear()
        self._hold(self._failures, range(len(self._events)))
        try:
            client = self._owner.client(self._timeout, one_by_one=self._one_by_one)
        except GatewayError as error:
            for position in unsent:
                self._failures[position] = Failure(
                    position, Outcome.RELEASED, Reason.SINK_DOWN, detail=str(error)
                )
            self._end()
        else:
            self._send(client, positions)

    def _end(self) -> None:
        failures = [self._failures[position] for position in sorted(self._failures)]
        self._owner.note_outcome(len(self._events), failures)
        self._on_ended(failures)
