"""Calls that another thread leaves for the event loop."""

import threading
from collections import deque
from collections.abc import Callable, Iterable

Call = Callable[[], None]


class Mailbox:
    """Calls to be made in the event loop's thread, with one wake-up for all that wait.

    Args:
        wake: has a function called in that thread; may be called from any.
    """

    def __init__(self, wake: Callable[[Call], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque()
        self._is_waking = False

    def put(self, calls: Iterable[Call]) -> None:
        """Leave calls, to be made in order; from any thread."""
        with self._lock:
            self._calls.extend(calls)
            is_first, self._is_waking = not self._is_waking, True
        if is_first:
            self._wake(self.deliver)

    def deliver(self) -> None:
        """Make the calls that wait; in the event loop's thread."""
        with self._lock:
            calls, self._calls = self._calls, deque()
            self._is_waking = False
        try:
            while calls:
                calls.popleft()()
        finally:
            if calls:  # the one that raised doesn't lose the others theirs
                with self._lock:
                    calls.extend(self._calls)
                    self._calls = deque()
                self.put(calls)
