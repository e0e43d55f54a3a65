"""The administration listener: health, metrics, the API under /api/v1 and the console at /.

What writes asks for `admin.token` when there is one, and without one is refused beyond loopback.
Health and metrics are for machines and never touch the sinks: a sink that is down makes no pod
restart.
"""

import contextlib
import hmac
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib.resources import files
from typing import Annotated, Any, Final, Protocol

import msgspec
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from bindings.json_format import encode_event
from gateway.build import build
from gateway.config.records import Address
from gateway.dead_letters.api import MayWrite, Shown, add_dead_letters
from gateway.errors import GatewayError
from gateway.sinks.log import LogSink
from gateway.tasks import Tasks

_log = logging.getLogger(__name__)

# A pretty-printed event has line breaks, and those end a server-sent event. In JSON they stand
# between tokens only; to parse the event instead would change its numbers, or fail.
_LINE_BREAKS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")
_LIMIT = Query(ge=1, le=10_000, description="at most this many, the newest")


class View(Shown, Protocol):
    """What the administration shows of the running gateway."""

    @property
    def logs(self) -> Mapping[str, LogSink]:
        """The event logs by sink name."""

    @property
    def unready(self) -> str:
        """Why it is not ready; "" when it is."""

    async def exposition(self) -> bytes:
        """Return every counter in Prometheus' text format."""

    def status(self) -> dict[str, Any]:
        """Return sources, sinks and routes as plain data, without secrets."""


def create_app(view: View, may_write: MayWrite) -> FastAPI:
    """Return the application that shows `view`; `may_write` raises for who may not change it."""
    app = FastAPI(
        title="CloudEvents gateway",
        description="Health, metrics, the event log and the dead letters of a running gateway.",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    _add_health(app, view)
    _add_events(app, view)
    add_dead_letters(app, view, may_write)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def console() -> str:
        return files("gateway").joinpath("console.html").read_text(encoding="utf-8")

    return app


def _add_health(app: FastAPI, view: View) -> None:
    @app.get("/livez", response_class=PlainTextResponse, tags=["health"])
    async def livez() -> str:
        """Tell that the process runs its event loop; no sink or broker changes that."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["health"])
    async def readyz() -> Response:
        """Tell whether listeners are bound, subscriptions granted and sink addresses known."""
        why = view.unready
        return PlainTextResponse(f"{why or 'ok'}\n", status_code=503 if why else 200)

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Return every counter in Prometheus' text format."""
        return Response(await view.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/api/v1/status", tags=["status"])
    async def status() -> dict[str, Any]:
        """Return the build, sources, sinks and routes, secrets masked."""
        return {"build": msgspec.to_builtins(build()), **view.status()}


def _add_events(app: FastAPI, view: View) -> None:
    def log_of(sink: str | None) -> LogSink:
        if sink is None and view.logs:
            return next(iter(view.logs.values()))
        if sink is None or sink not in view.logs:
            raise HTTPException(404, "no such event log; a sink with protocol: log makes one")
        return view.logs[sink]

    @app.get("/api/v1/events", tags=["events"])
    async def events(limit: Annotated[int, _LIMIT] = 100, sink: str | None = None) -> Response:
        """Return the newest events of the built-in event log, oldest first, as a JSON batch."""
        entries = log_of(sink).recent(limit)
        body = b"[" + b",".join(encode_event(entry.event) for entry in entries) + b"]"
        return Response(body, media_type="application/cloudevents-batch+json")

    @app.get("/api/v1/events/stream", tags=["events"])
    async def stream(sink: str | None = None) -> StreamingResponse:
        """Return events as they come, as server-sent events of one JSON event each."""
        log = log_of(sink)

        async def lines() -> AsyncIterator[bytes]:
            yield b": connected\n\n"
            async for entry in log.subscribe():
                data = encode_event(entry.event).translate(_LINE_BREAKS_TO_BLANKS)
                yield b"id: %d\ndata: %s\n\n" % (entry.sequence, data)

        return StreamingResponse(lines(), media_type="text/event-stream")


def writers(listen: Address, token: SecretStr | None) -> MayWrite:
    """Return the dependency of calls that write: it raises 401 or 403 for who may not.

    Args:
        listen: where the administration listens.
        token: what they have to bring, wherever they come from; None: only loopback may write.
    """
    expected = None if token is None else token.get_secret_value().encode()

    async def may_write(
        given: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
    ) -> None:
        if expected is None:
            if not listen.is_loopback:
                raise HTTPException(403, "without admin.token nothing is changed beyond loopback")
            return
        # A header's bytes come as latin-1.
        brought = b"" if given is None else given.credentials.encode("latin-1", "replace")
        if not hmac.compare_digest(brought, expected):
            raise HTTPException(
                401, "this needs admin.token", headers={"WWW-Authenticate": "Bearer"}
            )

    return may_write


class AdminServer:
    """The listener, on the gateway's own event loop."""

    def __init__(self, view: View, listen: Address, token: SecretStr | None = None) -> None:
        self._listen = listen
        self._tasks = Tasks("admin")
        config = uvicorn.Config(
            create_app(view, writers(listen, token)),
            http="httptools",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._socket: socket.socket | None = None

    @property
    def address(self) -> Address:
        """Where it listens; the port is known after `open`."""
        if self._socket is None:
            return self._listen
        return Address(*self._socket.getsockname()[:2])

    async def open(self) -> None:
        """Listen.

        Raises:
            GatewayError: the address is taken or not ours.
        """
        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(self._listen)
            self._socket.listen()  # from here on nobody who connects is refused
        except OSError as error:
            self._socket.close()
            raise GatewayError(f"admin can't listen on {self._listen}: {error.strerror}") from error
        _log.info("health, metrics and console on http://%s", self.address)
        self._tasks.start(self._server.serve(sockets=[self._socket]), "listener")

    async def close(self) -> None:
        """Answer what was asked and stop; streams are cut."""
        self._server.should_exit = True
        self._server.force_exit = True
        await self._tasks.ended()
        if self._socket is not None:
            self._socket.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are the service's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
