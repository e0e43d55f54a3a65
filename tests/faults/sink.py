"""An HTTP receiver that stores events in the ledger, and misbehaves as it is told.

It writes the ledger's line before it answers. What it stores and answers wrongly, it will be sent
again: such duplicates are its own fault, and the ledger says so.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import httptools

from tests.e2e.servers import HOST, free_port
from tests.faults.ledger import Ledger
from tests.faults.sample import Sample, read_structured, split_id

_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
_PERMANENT: Final = {400, 401, 403, 410, 413, 422}


@dataclass(frozen=True)
class Fault:
    """What the sink does instead of storing an event and saying so.

    Attributes:
        kind: `status` (answers it), `stall` (never answers), `drop` (closes instead of answering),
            `reset` (RST instead of an answer), `truncate` (closes within the status line), `slow`
            (answers after `seconds`).
        status: of kind `status`.
        retry_after: its header of that name.
        seconds: of kind `slow`.
        stores: whether the event is stored before; always so with `slow`.
        is_final: the event may end as a dead letter; always so with a status such as 400.
    """

    kind: str
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.0
    stores: bool = False
    is_final: bool = False


Choose = Callable[[str, int], Fault | None]
"""Key and number of an event to what goes wrong this time."""


def no_fault(key: str, number: int) -> Fault | None:
    return None


class RandomFaults:
    """Faults by chance.

    Args:
        chance: from the seed.
        shares: how often each of `FAULTS` happens, 0 to 1.
    """

    FAULTS: Final = {
        "503": Fault("status", 503),
        "429": Fault("status", 429, retry_after="1"),
        "404": Fault("status", 404),
        "stall": Fault("stall"),
        "stored stall": Fault("stall", stores=True),
        "stored 503": Fault("status", 503, stores=True),
        "drop": Fault("drop", stores=True),
        "reset": Fault("reset", stores=True),
        "unstored reset": Fault("reset"),
        "truncate": Fault("truncate", stores=True),
        "slow": Fault("slow", seconds=0.3, stores=True),
    }

    def __init__(self, chance: random.Random, shares: Mapping[str, float]) -> None:
        self._chance = chance
        self._shares = [(share, self.FAULTS[name]) for name, share in shares.items()]

    def __call__(self, key: str, number: int) -> Fault | None:
        point = self._chance.random()
        for share, fault in self._shares:
            if point < share:
                return fault
            point -= share
        return None


class FaultySink:
    """The receiver.

    Attributes:
        choose: what goes wrong with which event; may be replaced at any time.
        arrived: events stored since the start, with repetitions.
        is_frozen: whether it reads nothing.
    """

    def __init__(self, sample: Sample, ledger: Ledger, choose: Choose = no_fault) -> None:
        self.port = free_port()
        self.choose = choose
        self.arrived = 0
        self._sample = sample
        self._ledger = ledger
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self.is_frozen = False

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    async def open(self, listener: socket.socket | None = None) -> None:
        """Listen; always on the same port, if not on a socket that is given."""
        address = {"sock": listener} if listener else {"host": HOST, "port": self.port}
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), **address, backlog=1000
        )

    async def close(self) -> None:
        """Stop to listen and reset all connections, as if the process were killed."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.reset()
        if server is not None:
            await server.wait_closed()

    def freeze(self) -> None:
        """Stop to read, while connections stay and new ones are accepted: a stopped process."""
        self.is_frozen = True
        for connection in self._connections:
            connection.stop_reading()

    def thaw(self) -> None:
        """Read on; who sent what has waited may have given up."""
        self.is_frozen = False
        for connection in list(self._connections):
            connection.read_on()

    # for its connections

    def joined(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def left(self, connection: "_Connection") -> None:
        self._connections.discard(connection)

    def take(self, attributes: dict[str, str], data: bytes, *, late: bool = False) -> Fault | None:
        """Judge and store an event; returns how to answer.

        Args:
            attributes: of the event.
            data: of the event.
            late: it waited while the sink was frozen.
        """
        name = split_id(attributes.get("id", ""))
        if name is None:
            self._ledger.corrupt(f"nobody sent {attributes}")
            return None
        key, number = name
        difference = self._sample.difference(attributes, data)
        if difference:
            self._ledger.corrupt(f"{key}-{number}: {difference}")
        fault = self.choose(key, number)
        if fault is None or fault.kind == "slow":
            self.arrived += 1
            self._ledger.store(key, number, "late" if late else "ok")
        elif fault.stores:
            self.arrived += 1
            self._ledger.store(key, number, fault.kind)
        elif fault.is_final or (fault.kind == "status" and fault.status in _PERMANENT):
            self._ledger.condemn(key, number, fault.status)
        return fault

    def unreadable(self, text: str) -> None:
        self._ledger.corrupt(text)


class _Connection(asyncio.Protocol):
    def __init__(self, sink: FaultySink) -> None:
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._mute = False
        self._late = False
        self._unread = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._sink.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.left(self)

    def data_received(self, data: bytes) -> None:
        if self._sink.is_frozen:  # the first of a new connection, which is not paused at once
            self._unread += data
            self.stop_reading()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._sink.unreadable(f"no HTTP: {error}")
            self.transport.abort()
        self._late = False

    def stop_reading(self) -> None:
        self._late = True
        self.transport.pause_reading()

    def read_on(self) -> None:
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        unread, self._unread = self._unread, b""
        if unread:
            self.data_received(unread)
            self._late = True  # the rest may still be in the socket

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        headers, body = self._headers, b"".join(self._body)
        self._headers, self._body = {}, []
        if self._mute:
            return
        try:
            attributes, data = _read(headers, body)
        except ValueError as error:
            self._sink.unreadable(f"no event: {error}: {body[:80]!r}")
            self.transport.write(_ACCEPTED)
            return
        self._answer(self._sink.take(attributes, data, late=self._late))

    def reset(self) -> None:
        """Close with RST, so that nothing unsent is sent."""
        peer: socket.socket | None = self.transport.get_extra_info("socket")
        if peer is not None and not self.transport.is_closing():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _accept(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_ACCEPTED)

    def _answer(self, fault: Fault | None) -> None:
        if fault is None:
            self._accept()
            return
        match fault.kind:
            case "status":
                lines = [f"HTTP/1.1 {fault.status} Fault", "Content-Length: 5"]
                if fault.retry_after:
                    lines.append(f"Retry-After: {fault.retry_after}")
                self.transport.write("\r\n".join([*lines, "", "fault"]).encode())
            case "stall":
                self._mute = True
            case "drop":
                self.transport.close()
            case "reset":
                self.reset()
            case "truncate":
                self.transport.write(b"HTTP/1.1 20")
                self.transport.close()
            case "slow":
                asyncio.get_running_loop().call_later(fault.seconds, self._accept)
            case other:
                raise AssertionError(f"no fault {other}")


def _read(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Return attributes and data of a request in structured or binary mode."""
    content_type = headers.get("content-type", "")
    if content_type.startswith("application/cloudevents"):
        return read_structured(body)
    attributes = {
        name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")
    }
    if content_type:
        attributes["datacontenttype"] = content_type
    return attributes, body
