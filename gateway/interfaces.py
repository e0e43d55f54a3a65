"""What an adapter implements and what it is given; three methods each, lists everywhere.

A source never sees a sink and a sink never sees a delivery. Both are made from their configuration
record (`config_type`, a subclass of `gateway.config.SourceConfig` or `SinkConfig`), found through
the entry-point groups `cloudevents_gateway.sources` and `cloudevents_gateway.sinks`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from bindings.binding import Message
from bindings.event import Event
from gateway.config.records import SinkConfig, SourceConfig
from gateway.delivery import Delivery, Failure
from gateway.spool.room import StoreError

OnKept = Callable[[StoreError | None], None]


class Intake(Protocol):
    """What a source sees of the gateway."""

    async def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Hand deliveries in, in order; returns when there was room for all of them.

        While it waits the source must not read on: that is its back-pressure. Each delivery is
        settled exactly once, before or after this returns, from the event loop's thread.
        """

    def try_submit(self, deliveries: Sequence[Delivery]) -> bool:
        """Hand deliveries in if there is room for all; else take none and return False."""

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        """Count messages that brought no event, by reason; logs once per reason and interval.

        Args:
            reason: `CloudEventError.reason` or another word of a small set.
            detail: what was wrong, for the log line; never event data beyond an excerpt.
            count: how many messages.
        """

    def undecodable(self, message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        """Count a broker's message that brought no event, and keep it with the dead letters.

        For messages that nobody is told of otherwise: a broker would forget them.

        Args:
            message: as it came.
            reason: as of `rejected`.
            detail: as of `rejected`.
            on_kept: called once in the event loop's thread, maybe before this returns. None: it is
                durable, or no route of this source keeps dead letters; acknowledge it. An error:
                it must stay unacknowledged, and may be handed in again later.
        """


class Source(Protocol):
    """Where messages come from."""

    @property
    def config_type(self) -> type[SourceConfig]:
        """The record of its table in the configuration; a class attribute."""

    def __init__(self, config: Any) -> None: ...

    async def open(self, intake: Intake) -> None:
        """Start; returns when the listener is bound or the subscription granted.

        A broker that is down is waited for, with back-off and one log line per state change.

        Raises:
            GatewayError: it can't start and never will (the port is taken, the certificate is bad).
        """

    async def drain(self) -> None:
        """Take nothing new, refusing it in the protocol's words; pending answers still go out."""

    async def close(self) -> None:
        """Give up every resource. What was not settled stays unacknowledged."""


class Sink(Protocol):
    """Where events go."""

    @property
    def config_type(self) -> type[SinkConfig]:
        """The record of its table in the configuration; a class attribute."""

    def __init__(self, config: Any) -> None: ...

    async def open(self) -> None:
        """Prepare; returns when the address is known. A sink that is down is no reason to fail."""

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        """Deliver the events; returns the failures, when all have an outcome.

        Events of one `Event.key` arrive in the order of the list. When one of them fails RELEASED,
        the later ones of its key are not attempted and reported with reason HELD; the JetStream
        sink, which writes a list at once, may have stored them already and says so. HELD with a
        `retry_after`, for an event whose key has not failed before it in the list, means that the
        sink itself holds it back (a rate, a pause that the receiver asked for, missing consent): it
        was not attempted, is to come again after that time, and has used up no retry. It may be
        called again while an earlier call runs; a route never does that with a key that is still
        under way. Routes that share a sink know nothing of each other, nor does a route's dead
        letter.

        Args:
            events: at least one.
            timeout: seconds for one attempt of one event; None is the sink's own default.
        """

    async def close(self) -> None:
        """Give up every resource."""


OnAccepted = Callable[[Sequence[int]], None]
OnEnded = Callable[[Sequence[Failure]], None]


class Sending(Protocol):
    """A list that a `PromptSink` was given."""

    def cancel(self) -> None:
        """Cut it off; nobody is told of it any more."""


@runtime_checkable
class PromptSink(Protocol):
    """A sink that can be given a list without anybody who waits.

    Then a list goes out in the very call that brought it, and its end is told in the call that
    read the answer: neither costs a turn of the event loop.
    """

    def start_sending(
        self,
        events: Sequence[Event],
        timeout: float | None,
        on_ended: OnEnded,
        on_accepted: OnAccepted | None,
    ) -> Sending:
        """Do as `Sink.send` does, and return at once.

        It may be called while `on_ended` of another list is.

        Args:
            events: as there.
            timeout: as there.
            on_ended: called once, in the event loop's thread, with what `send` would return.
            on_accepted: may be called before that, in the event loop's thread, with positions that
                were accepted since the last call: they then need not wait for the slowest of their
                list. All others it has to be silent about. None: nobody asks.
        """


@runtime_checkable
class ResumingSink(Protocol):
    """A sink that may learn by itself that it can take events again."""

    def on_resumed(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time: what was released goes now, whatever `retry_after` said."""


@runtime_checkable
class HurryingSink(Protocol):
    """A sink that may wait long for a receiver whom nobody reaches."""

    def hurry(self, deadline: float) -> None:
        """Before a shutdown: release soon what can't arrive, as there is nobody to have it.

        It is HELD with a `retry_after` that ends after `deadline` (the loop's clock), so that it is
        not tried again and has used up no retry.
        What may still be answered is waited for, and new lists may come.
        """
