"""An HTTP sink that keeps what it was sent."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, TypeVar

from tests.e2e.servers.process import HOST, poll_until

T = TypeVar("T")


@dataclass(frozen=True)
class RecordedRequest:
    """One HTTP request as it stood on the wire; header values are latin-1.

    `client` is the address at the other end of its connection; `at` is when it was read, by the
    monotonic clock.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    client: tuple[str, int] = ("", 0)
    at: float = 0.0

    def header(self, name: str) -> str | None:
        """Return the only header of that name, or None.

        Raises:
            AssertionError: it came more than once.
        """
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass(frozen=True)
class Answer:
    """What the recorder answers; `delay` in seconds."""

    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0


class HttpRecorder:
    """An HTTP/1.1 sink of the standard library, on its own threads, that keeps what it was sent.

    `answer` is called for each request, in the thread of its connection.
    """

    def __init__(
        self,
        answer: Callable[[RecordedRequest], Answer] = lambda _: Answer(),
        host: str = HOST,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.requests: list[RecordedRequest] = []
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                recorder._connections.add(self.connection)

            def finish(self) -> None:
                recorder._connections.discard(self.connection)
                super().finish()

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                recorder._handle(self)

            do_POST = do_OPTIONS = do_PUT = do_GET = _handle  # noqa: N815 - the library's names

        class ThreadedServer(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a connection that was reset is not the recorder's matter

        self._server = ThreadedServer((host, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if "chunked" in (handler.headers.get("Transfer-Encoding") or "").lower():
            body = _read_chunks(handler)
        request = RecordedRequest(
            handler.command,
            handler.path,
            list(handler.headers.items()),
            body,
            handler.client_address,
            time.monotonic(),
        )
        answer = self.answer(request)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if answer.delay:
            time.sleep(answer.delay)
        with contextlib.suppress(OSError):
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)

    def wait_for(self, found: Callable[[list[RecordedRequest]], T], seconds: float = 10) -> T:
        """Wait until `found(requests)` is something true, and return that; asked at each request.

        Raises:
            TimeoutError: it never was.
        """
        with self._changed:
            result: list[T] = []

            def ask() -> bool:
                result[:] = [found(self.requests)]
                return bool(result[0])

            if not self._changed.wait_for(ask, seconds):
                raise TimeoutError(f"{len(self.requests)} requests came, not the one waited for")
            return result[0]

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class GatedRecorder(HttpRecorder):
    """Answers 202, but not before `gate` is open, so a test chooses every moment."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.gate = threading.Event()
        self.asked = threading.Semaphore(0)

    def _answer(self, _request: object) -> Answer:
        self.asked.release()
        assert self.gate.wait(30)
        return Answer(202)

    def wait_asked(self) -> None:
        assert self.asked.acquire(timeout=10)

    def ids(self) -> list[str]:
        return [json.loads(request.body)["id"] for request in self.requests]

    def forget(self) -> None:
        """Forget all that came, once nothing is left that a killed gateway has sent."""
        poll_until(lambda: not self._connections, 10, "connections to end")
        self.requests.clear()

    def close(self) -> None:
        self.gate.set()
        super().close()


def _read_chunks(handler: BaseHTTPRequestHandler) -> bytes:
    body = b""
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body
