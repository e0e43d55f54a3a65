"""What a test takes step by step: time, dead letters, and a lane with its spool."""

import asyncio
import selectors

from bindings.json_format import decode_event
from gateway.lane import Lane, Way
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.spool import StoreError
from gateway.spooling import SpoolUse
from gateway.target import Target
from tests.gateway.spool.simulated import SimulatedDisk, SteppedSpool


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when there is nothing else to do."""

    class Selector(selectors.DefaultSelector):
        loop = None

        def select(self, timeout=None):
            found = super().select(0)
            if not found:
                assert timeout is not None, "it hangs: nobody will ever wake"
                self.loop.now += timeout
            return found

    def __init__(self, now=1000.0):
        self.now = now
        selector = self.Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self):
        return self.now


class HurriedLoop(VirtualLoop):
    """An event loop whose time flies when there is nothing to do, for tests with sockets.

    What is still in the kernel has a real millisecond for each quarter of a second, and a stall of
    the process or of the machine takes no time at all.
    """

    class Selector(selectors.DefaultSelector):
        loop = None

        def select(self, timeout=None):
            if timeout is None:
                return super().select()
            found = super().select(min(timeout, 0.001))
            if not found:
                self.loop.now += min(timeout, 0.25)
            return found


class SteppedLetters:
    """Dead letters that are stored, or not, when a test says so; `kept` outlives the process."""

    def __init__(self, kept=None):
        self.kept = [] if kept is None else kept  # route, sink, event
        self.waiting = []
        self.fails = False
        self.is_closed = False

    def put(self, letters, on_stored):
        self.waiting.append((letters, on_stored))
        if self.is_closed:
            asyncio.get_running_loop().call_soon(self.work)

    def work(self, *, fails=False):
        """Answer what waits."""
        waiting, self.waiting = self.waiting, []
        for letters, on_stored in waiting:
            if fails or self.fails or self.is_closed:
                on_stored(StoreError("no"))
                continue
            for letter in letters:
                self.kept.append((letter.route, letter.sink, decode_event(letter.event)))
            on_stored(None)

    def close(self):
        self.work()
        self.is_closed = True


class SteppedLane:
    """A lane whose spool and dead letters answer when a test says so."""

    def __init__(self, sink, policy=None, *, disk=None, max_bytes=1 << 20, **use):
        self.disk = SimulatedDisk() if disk is None else disk
        self.spool = SteppedSpool(self.disk, max_bytes=max_bytes)
        self.spool.open()
        self.letters = SteppedLetters()
        self.done = 0
        defaults = {"always": False, "after": 60.0, "rate": None, "window": 1000}
        self.lane = Lane(
            Target(name="out", sink=sink, address="http://sink/"),
            Way(
                route="way",
                policy=policy or RetryPolicy(retry=10, delay=60),
                letters=self.letters,
                spool=SpoolUse(spool=self.spool, **{**defaults, **use}),
            ),
            metrics=(SinkMetrics(), RouteMetrics()),
            on_done=self._on_done,
        )
        self.lane.start()

    def _on_done(self, count):
        self.done += count

    def put(self, *deliveries):
        self.lane.put(deliveries)

    def store(self):
        """Let the writer store what is queued, and give its answers."""
        self.spool.work()
        self.spool.deliver()

    async def settle(self):
        """Take steps until nothing changes any more."""
        for _ in range(30):
            self.store()
            self.letters.work()
            await asyncio.sleep(0)

    async def close(self):
        await self.lane.close()
        self.letters.close()
