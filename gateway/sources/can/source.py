"""The source itself: decodes what the reader brings, submits lists, holds what was released.

CAN knows no acknowledgement to a sender but the bit that says that some node has received the
frame, and the controller has set it before we see anything. So delivery is at most once: what
sinks release is held and submitted again as long as there is room, and what is lost is counted.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from bindings.can import FD_BRS, FD_ESI, CanFrame, error_text
from bindings.errors import CloudEventError
from bindings.event import Event
from gateway.delivery import Delivery, Outcome, Settlement
from gateway.errors import GatewayError
from gateway.interfaces import Intake
from gateway.sources.backlog import Backlog, Gate
from gateway.sources.can.config import CanSourceConfig
from gateway.tasks import Tasks

if TYPE_CHECKING:
    import can

    from gateway.sources.can.reader import BusReader

_log = logging.getLogger(__name__)

_YEAR_2000: Final = 946684800.0


class CanSource:
    """Takes the frames of one bus."""

    config_type: ClassVar = CanSourceConfig

    def __init__(self, config: CanSourceConfig) -> None:
        self._config = config
        self._bus = f"{config.interface} {config.channel}"
        self._channel = str(config.channel)
        self._binding = config.binding()
        self._reading = Tasks(f"can {config.name}")
        self._tasks = Tasks(f"can {config.name}")
        self._backlog = Backlog(self._tasks, config.queue)
        self._reader: BusReader | None = None
        self._complaint = ""
        self._lost = False
        self._timestamp = ""
        self._occurrence = 0
        self._at_gate = 0
        self._draining = False

    async def open(self, intake: Intake) -> None:
        """Open the bus; returns when it can be read.

        Raises:
            GatewayError: its driver is not there, or does not know an option.
        """
        from gateway.sources.can.reader import BusReader  # noqa: PLC0415 - python-can is optional

        self._intake = intake
        self._backlog.open(intake)
        self._gate = Gate(intake, self._backlog, self._tasks)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = BusReader(self._config, self._opened, self._failed, self._received)
        self._reading.start(self._read(self._reader), "bus")
        await self._ready

    async def drain(self) -> None:
        """Read no more; what the sinks do not take any more is lost, and counted."""
        self._draining = True
        if self._reader is not None:
            self._reader.stop()
            await self._reading.ended()

    async def close(self) -> None:
        await self.drain()
        held = len(self._backlog)
        self._backlog.close()
        if held:
            self._intake.rejected("draining", "frames that sinks did not take", held)
        await self._tasks.close()

    async def _read(self, reader: "BusReader") -> None:
        """Run the reader in a thread that is nobody else's."""
        executor = ThreadPoolExecutor(1, f"can {self._config.name}")
        try:
            await asyncio.get_running_loop().run_in_executor(executor, reader.run)
        finally:
            executor.shutdown(wait=False)

    def _opened(self) -> None:
        self._complaint = ""
        self._lost = False
        _log.info("source %s: connected to %s", self._config.name, self._bus)
        if not self._ready.done():
            self._ready.set_result(None)

    def _failed(self, text: str, is_final: bool) -> None:  # noqa: FBT001 - the reader's callback
        """Log a state change once, not each attempt."""
        if not self._ready.done():
            if is_final:
                self._ready.set_exception(GatewayError(f"can't open {self._bus}: {text}"))
                return
            what = "can't open"
        else:
            what = "lost"
            if self._lost:
                return  # that it is still away is no news
            self._lost = True
        if self._complaint != text:
            self._complaint = text
            _log.warning("source %s: %s %s: %s", self._config.name, what, self._bus, text)

    def _received(self, frames: "Sequence[can.Message]") -> None:
        room = max(self._config.queue - self._at_gate - len(self._backlog), 0)
        if len(frames) > room:
            self._intake.rejected("busy", "no room for more frames", len(frames) - room)
        deliveries = []
        for frame in frames[:room]:
            event = self._decode(frame)
            if event is None:
                continue
            number = self._backlog.next_number()
            if self._backlog.holds_any and self._backlog.holds(event.key):
                self._backlog.follow(event.key, number, partial(self._delivery, number, event))
            else:
                deliveries.append(self._delivery(number, event))
        self._submit(deliveries)

    def _decode(self, frame: "can.Message") -> Event | None:
        """Return the event, or None after counting what brings none."""
        if frame.is_error_frame:
            self._intake.rejected("error_frame", error_text(frame.arbitration_id))
            return None
        if frame.is_remote_frame:
            self._intake.rejected("remote_frame", f"a remote frame of {frame.arbitration_id:X}")
            return None
        flags = None
        if frame.is_fd:
            flags = FD_BRS * frame.bitrate_switch | FD_ESI * frame.error_state_indicator
        try:
            return self._binding.event(
                CanFrame(frame.arbitration_id, bytes(frame.data), frame.is_extended_id, flags),
                self._channel,
                *self._stamp(frame),
            )
        except CloudEventError as error:
            self._intake.rejected(error.reason, str(error))
            return None

    def _stamp(self, frame: "can.Message") -> tuple[str, int]:
        """Return when it came, and how many came at that time before it."""
        seconds = frame.timestamp
        if seconds < _YEAR_2000:  # some interfaces count from when they were switched on
            seconds = time.time()
        timestamp = f"{seconds:.6f}"
        self._occurrence = self._occurrence + 1 if timestamp == self._timestamp else 0
        self._timestamp = timestamp
        return timestamp, self._occurrence

    def _submit(self, deliveries: list[Delivery]) -> None:
        count = len(deliveries)
        if not count:
            return
        self._at_gate += count
        self._gate.submit(deliveries, partial(self._entered, count))
        if not self._gate.is_shut:
            self._entered(count)

    def _entered(self, count: int) -> None:
        self._at_gate -= count

    def _delivery(self, number: int, event: Event) -> Delivery:
        return Delivery((event,), partial(self._settled, number, event))

    def _settled(self, number: int, event: Event, settlement: Settlement) -> None:
        if (
            settlement.outcome is Outcome.RELEASED
            and not self._draining
            and not self._backlog.is_full
        ):
            again = partial(self._delivery, number, event)
            self._backlog.hold(event.key, number, again, settlement.retry_after)
        elif settlement.outcome is not Outcome.ACCEPTED:
            self._intake.rejected(settlement.reason.value, settlement.detail)
        if self._backlog.holds_any:
            self._backlog.passed(event.key, number)  # of no effect if it is held again
