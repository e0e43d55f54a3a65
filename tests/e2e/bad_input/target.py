"""The gateway under attack, and what its tests ask of it."""

import contextlib
import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from nats.js.api import ConsumerInfo

from tests.e2e.bad_input.nats import GOOD_HEADER
from tests.e2e.bad_input.peers import NatsPeer, event, nats_publish
from tests.e2e.receivers import NatsReceiver
from tests.e2e.servers import Gateway, HttpRecorder
from tests.e2e.servers.process import poll_until

INTERVAL = timedelta(seconds=9.9)  # between two lines about one cause; 10 s, and a clock's error

_numbers = itertools.count(1)


def new_id() -> str:
    return f"good-{next(_numbers)}"


class Target:
    """The gateway under attack."""

    def __init__(
        self, gateway: Gateway, recorder: HttpRecorder, client: NatsReceiver, ports: dict[str, int]
    ) -> None:
        self.gateway = gateway
        self.ports = {**gateway.ports, **ports}
        self._recorder = recorder
        self._client = client

    def arrived(self, *ids: str) -> None:
        """Wait until these events have reached the sink."""
        wanted = [f'"{event_id}"'.encode() for event_id in ids]
        self._recorder.wait_for(
            lambda requests: all(any(each in r.body for r in requests) for each in wanted)
        )

    def arrivals(self, event_id: str) -> int:
        wanted = f'"{event_id}"'.encode()
        return sum(wanted in request.body for request in self._recorder.requests)

    def rejected(self, source: str) -> Counter[str]:
        """Return what was rejected, by reason."""
        status, body = self.gateway.get("/metrics")
        assert status == 200
        rows = re.findall(
            r'^ce_gateway_rejected_total\{reason="([^"]*)",source="([^"]*)"\} (\S+)$',
            body.decode(),
            re.MULTILINE,
        )
        return Counter({reason: int(float(n)) for reason, name, n in rows if name == source})

    @contextlib.contextmanager
    def rejecting(self, source: str, reasons: dict[str, int]) -> Iterator[None]:
        """Check that what happens inside is counted so, and exactly so."""
        before = self.rejected(source)
        yield
        wanted = Counter(reasons)
        poll_until(
            lambda: (self.rejected(source) - before).total() >= wanted.total(), 10, "the counters"
        )
        assert self.rejected(source) - before == wanted

    def consumer_is_idle(self) -> None:
        """Wait until the consumer has nothing under way; nothing may have come twice."""
        stream = self._client.client.jetstream()

        def info() -> ConsumerInfo:
            return self._client.run(stream.consumer_info("BAD", "bad"))

        poll_until(lambda: not (info().num_ack_pending or info().num_pending), 10, "the consumer")
        assert info().num_redelivered == 0

    @functools.cached_property
    def pull_inbox(self) -> bytes:
        """The inbox of the pull consumer, as anybody in the account can learn it."""
        with NatsPeer(self.ports["nats"]) as spy, NatsPeer(self.ports["nats"]) as peer:
            spy.send(b"SUB $JS.API.CONSUMER.MSG.NEXT.BAD.bad 2\r\nPING\r\n")
            while spy.line() != b"PONG\r\n":
                pass
            # Each answer makes it ask for more, sooner or later.
            while not (line := spy.poll_line()).startswith(b"MSG $JS.API."):
                peer.send(nats_publish(b"bad.js.x", event(new_id()), GOOD_HEADER, b"") * 300)
            return line.split()[3].rpartition(b".")[0]

    def open_files(self) -> int:
        assert self.gateway._process is not None
        return len(list(Path(f"/proc/{self.gateway._process.pid}/fd").iterdir()))

    def log_lines(self) -> list[str]:
        return self.gateway.log.splitlines()

    def check(self) -> None:
        """Check that no attack has left a trace but the lines it should."""
        assert self.gateway.get("/readyz")[0] == 200
        log = self.gateway.log
        for word in ("Traceback", "Exception", "Task exception", "Logging error", " ERROR "):
            assert word not in log, log[-8000:]
        last: dict[tuple[str, str], datetime] = {}
        for line in self.log_lines():
            # Text of a message must not make lines of its own, nor drive a terminal.
            assert re.match(r"\d{4}-\d\d-\d\dT\S+Z [A-Z]+ ", line), line
            assert line.isprintable(), line
            assert len(line) < 1000, line
            if match := re.search(r"source (\S+) rejected a message: (\w+):", line):
                moment = datetime.fromisoformat(line.split()[0])
                key = match[1], match[2]
                assert key not in last or moment - last[key] >= INTERVAL, line
                last[key] = moment
