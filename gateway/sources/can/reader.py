"""Reads a bus in a thread of its own, and hands over all that was there as one list.

Most drivers of python-can only block or poll, some have no file descriptor, and opening one can
take seconds; a thread is right for all of them. There is never more than one list between the
thread and the event loop: while the loop is busy the driver's queue fills, not our memory.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import can

from gateway.sources.can.config import CanSourceConfig

MAX_LIST: Final = 500
"""Frames handed over at once."""
_WAIT_SECONDS: Final = 0.1  # how soon the thread sees that it shall end
_FIRST_DELAY: Final = 0.2
_LAST_DELAY: Final = 15.0
_EVERY_BIT: Final = 0x1FFFFFFF

# What will be as wrong the next time: arguments that the interface does not know, a driver that is
# not installed.
_FINAL: Final = (ValueError, TypeError, NotImplementedError, ImportError)

# It logs each attempt to open a bus; the source logs each change.
logging.getLogger("can").setLevel(logging.CRITICAL)


class BusReader:
    """One bus, opened again with back-off whenever it is lost.

    Args:
        config: the source's.
        on_open: called when the bus is open.
        on_error: called with what is wrong and whether it is final: the bus can't be opened, or
            is lost.
        on_frames: called with all the frames that were there, at most `MAX_LIST`.

    The callbacks run on the event loop.
    """

    def __init__(
        self,
        config: CanSourceConfig,
        on_open: Callable[[], None],
        on_error: Callable[[str, bool], None],
        on_frames: Callable[[Sequence[can.Message]], None],
    ) -> None:
        self._arguments = _arguments(config)
        self._on_open = on_open
        self._on_error = on_error
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._taken = threading.Event()

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stop.set()

    def run(self) -> None:
        """Read until `stop`; for a thread."""
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            try:
                bus = can.Bus(**self._arguments)
            except (can.CanError, OSError, *_FINAL) as error:
                self._call(self._on_error, _text_of(error), isinstance(error, _FINAL))
            else:
                began = time.monotonic()
                self._stay(bus)
                if time.monotonic() - began > _LAST_DELAY:
                    delay = _FIRST_DELAY  # else one that fails at once is opened again and again
            self._stop.wait(delay * (1 + random.random() / 2))  # noqa: S311 - no secret
            delay = min(delay * 2, _LAST_DELAY)

    def _stay(self, bus: can.BusABC) -> None:
        """Read until the bus is lost."""
        try:
            # A network device that is down can be opened, and says so when it is read.
            first = bus.recv(0)
            self._call(self._on_open)
            self._hand_over([] if first is None else [first])
            while not self._stop.is_set():
                self._read(bus)
        except (can.CanError, OSError) as error:
            self._call(self._on_error, _text_of(error), False)  # noqa: FBT003 - of a callback
        finally:
            _shut_down(bus)

    def _read(self, bus: can.BusABC) -> None:
        frames: list[can.Message] = []
        try:
            frame = bus.recv(_WAIT_SECONDS)
            while frame is not None:
                frames.append(frame)
                frame = bus.recv(0) if len(frames) < MAX_LIST else None
        finally:
            self._hand_over(frames)

    def _hand_over(self, frames: list[can.Message]) -> None:
        if not frames:
            return
        self._taken.clear()
        self._call(self._take, frames)
        while not self._taken.wait(_WAIT_SECONDS) and not self._stop.is_set():
            pass

    def _take(self, frames: list[can.Message]) -> None:
        try:
            self._on_frames(frames)
        finally:
            self._taken.set()

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)


def _arguments(config: CanSourceConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        **config.options,
        "interface": config.interface,
        "channel": config.channel,
        "ignore_config": True,  # python-can has files and variables of its own, which nobody meant
    }
    if config.bitrate is not None:
        arguments["bitrate"] = config.bitrate
    if config.fd:
        arguments["fd"] = True
    if config.filters:
        arguments["can_filters"] = [
            {
                "can_id": one.id,
                "can_mask": _EVERY_BIT if one.mask is None else one.mask,
                "extended": one.extended,
            }
            for one in config.filters
        ]
    return arguments


def _shut_down(bus: can.BusABC) -> None:
    with contextlib.suppress(can.CanError, OSError):  # it was unplugged
        bus.shutdown()


def _text_of(error: Exception) -> str:
    # Some interfaces put a whole traceback into the text.
    return str(error).partition("\n")[0] or type(error).__name__
