"""Foreign programs that collect what the sinks wrote, for as long as a test module runs."""

import asyncio
import re
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.e2e.readers.sdk import Record
from tests.e2e.servers import HttpRecorder, Kafka, RecordedRequest, program


class Receiver(Protocol):
    """What has arrived at one sink."""

    def wait_for(self, wanted: Callable[[Record], bool], seconds: float = 10) -> Record:
        """Return the first record that `wanted` holds for.

        Raises:
            TimeoutError: it did not come.
        """


class _Collector:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self._changed = threading.Condition()

    def add(self, record: Record) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[Record], bool], seconds: float = 10) -> Record:
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for record in self.records[seen:]:
                    if wanted(record):
                        return record
                seen = len(self.records)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{seen} records came, not the one waited for")
                self._changed.wait(left)


class HttpReceiver:
    """The recorder's requests as records."""

    def __init__(self, recorder: HttpRecorder) -> None:
        self._recorder = recorder

    def wait_for(self, wanted: Callable[[Record], bool], seconds: float = 10) -> Record:
        def find(requests: Sequence[RecordedRequest]) -> Record | None:
            records = (Record("HTTP", request.headers, request.body) for request in requests)
            return next((record for record in records if wanted(record)), None)

        return self._recorder.wait_for(find, seconds)


class KcatReceiver(_Collector):
    """kcat, reading a topic from its beginning until it is stopped."""

    # One record: headers, key, length of the value (-1 is null), value. kcat joins headers with
    # commas, so no value in these tests holds one.
    _FORMAT = "%h\n%k\n%S\n%s\n"

    def __init__(self, kafka: Kafka, topic: str) -> None:
        super().__init__()
        self._command = [
            program("kcat", "kcat"), "-b", kafka.bootstrap_servers, "-t", topic, "-C", "-u", "-q",
            "-o", "beginning", "-X", "fetch.wait.max.ms=50", "-f", self._FORMAT,
        ]  # fmt: skip

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None
        while line := output.readline():
            joined = line[:-1].decode()
            pairs = [each.partition("=") for each in re.split(r",(?=ce_|content-type=)", joined)]
            key = output.readline()[:-1].decode() or None
            length = int(output.readline())
            body = None if length < 0 else output.read(length)
            output.read(1)
            self.add(Record("Kafka", [(name, value) for name, _, value in pairs], body, key))


class NatsReceiver(_Collector):
    """nats-py in a thread of its own: subscribes to a subject, and runs what tests ask of it."""

    def __init__(self, url: str, subject: str) -> None:
        super().__init__()
        self._url, self._subject = url, subject
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.client: Client = Client()

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.run(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 10) -> Any:
        """Run a coroutine on the client's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    async def _open(self) -> None:
        self.client = await nats.connect(self._url)
        await self.client.subscribe(self._subject, cb=self._on_message)

    async def _on_message(self, message: Msg) -> None:
        headers = list((message.headers or {}).items())
        self.add(Record("HTTP", headers, message.data))
