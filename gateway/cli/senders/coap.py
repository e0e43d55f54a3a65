"""`ce-gateway send coap://...`: a small CoAP client over UDP (RFC 7252, RFC 7959).

CON by default, repeated until it is acknowledged; the answer may come with the ACK or on its own.
What is larger than one block goes block by block. DTLS is in `coap_dtls`, connections
are in `coap_stream`.
"""

import asyncio
import random
import secrets
from collections import deque
from typing import Final, Protocol, cast
from urllib.parse import unquote_to_bytes, urlsplit

from bindings.binding import Message as Encoded
from bindings.coap import COAP, request_options
from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.wire.coap import (
    Block,
    Code,
    Message,
    MessageFormatError,
    Number,
    Option,
    Type,
    acknowledgement,
    code_text,
    from_uint,
    parse,
    reset,
    serialise,
    to_uint,
)
from gateway.cli.senders import Plain, SendError, SendOptions

PORTS: Final = {"coap": 5683, "coaps": 5684}
"""Default ports by URL scheme (RFC 7252 6); those of connections are in `coap_stream`."""
_BLOCK_BYTES: Final = {"coaps": 512}
_DEFAULT_BLOCK_BYTES: Final = 1024
"""Over DTLS a message with long attributes has no room for the usual block: libcoap takes 1115
bytes."""

MAX_UNDER_WAY: Final = 16
"""Requests at once: what a gateway takes from one port (binding section 5.3)."""
ACK_TIMEOUT: Final = 2.0
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
_TICK_SECONDS: Final = 0.1
_REMEMBERED_ANSWERS: Final = 1024


class Client(Protocol):
    """Sends requests to one server, over whatever transport."""

    def fits(self, options: list[Option], payload: bytes) -> bool:
        """Whether a request goes as one message."""

    async def post(self, options: list[Option], payload: bytes) -> Message:
        """Send one POST and return its answer.

        Raises:
            SendError: there was none.
        """

    async def close(self) -> None:
        """End; what waits for an answer fails."""


class _Request:
    """A request without an answer yet."""

    __slots__ = ("answer", "datagram", "deadline", "due", "interval", "mid", "repetitions")

    def __init__(
        self, mid: int, datagram: bytes, answer: "asyncio.Future[Message]", deadline: float
    ) -> None:
        self.mid = mid
        self.datagram = datagram
        self.answer = answer
        self.deadline = deadline
        self.interval = ACK_TIMEOUT * random.uniform(1, ACK_RANDOM_FACTOR)  # noqa: S311 - no secret
        self.due = 0.0
        self.repetitions = 0


class _DatagramClient(asyncio.DatagramProtocol):
    """Requests and their answers on one socket; one timer for all of them."""

    def __init__(self, options: SendOptions, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._timeout = options.timeout
        self._type = Type.CON if options.confirmable else Type.NON
        self._loop = asyncio.get_running_loop()
        self._by_token: dict[bytes, _Request] = {}
        self._by_mid: dict[int, _Request] = {}
        self._acknowledged: deque[int] = deque(maxlen=_REMEMBERED_ANSWERS)
        self._next = secrets.randbelow(2**32)
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.DatagramTransport | None = None

    async def post(self, options: list[Option], payload: bytes) -> Message:
        """Send one POST and return its answer.

        Raises:
            SendError: it was reset, or there was no answer in time.
        """
        self._next = (self._next + 1) & 0xFFFFFFFF
        mid, token = self._next & 0xFFFF, self._next.to_bytes(4, "big")
        datagram = serialise(Message(self._type, Code.POST, mid, token, options, payload))
        now = self._loop.time()
        request = _Request(mid, datagram, self._loop.create_future(), now + self._timeout)
        request.due = now + request.interval if self._type == Type.CON else request.deadline
        self._by_token[token] = self._by_mid[mid] = request
        self._send(datagram)
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        try:
            return await request.answer
        finally:
            del self._by_token[token], self._by_mid[mid]

    def fits(self, options: list[Option], payload: bytes) -> bool:
        del options
        return len(payload) <= self._block_bytes

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        for request in self._by_token.values():
            _fail(request, "closed before the answer came")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    def error_received(self, exc: Exception) -> None:
        for request in self._by_token.values():
            _fail(request, f"{exc}; does anything listen there?")

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr  # the socket is connected
        try:
            message = parse(data)
        except MessageFormatError as error:
            if error.reply:
                self._send(error.reply)
            return
        if message.type in {Type.ACK, Type.RST}:
            self._take_acknowledgement(message)
            return
        request = self._by_token.get(message.token) if message.code else None
        if message.type == Type.CON:
            # An answer that is repeated because our ACK was lost wants the same ACK again.
            is_known = request is not None or message.mid in self._acknowledged
            self._send(acknowledgement(message.mid) if is_known else reset(message.mid))
            self._acknowledged.append(message.mid)
        if request is not None and not request.answer.done():
            request.answer.set_result(message)

    def _take_acknowledgement(self, message: Message) -> None:
        request = self._by_mid.get(message.mid)
        if request is None or request.answer.done():
            return
        if message.type == Type.RST:
            _fail(request, "reset: the server could not process the message")
        elif message.code == 0:
            request.due = request.deadline  # the answer comes on its own
        elif self._by_token.get(message.token) is request:
            request.answer.set_result(message)

    def _tick(self) -> None:
        """Repeat what is due and give up what has waited too long; there are few at a time."""
        now = self._loop.time()
        for request in self._by_token.values():
            if now >= request.deadline:
                _fail(request, f"no answer within {self._timeout:g} s")
            elif now >= request.due and request.repetitions < MAX_RETRANSMIT:
                request.repetitions += 1
                request.interval *= 2
                request.due = now + request.interval
                self._send(request.datagram)
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick) if self._by_token else None

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(datagram)


class CoapSender:
    """Sends to `coap://host:port/path?query`, or coaps, coap+tcp, coaps+tcp, coap+ws, coaps+ws.

    Without a path, or with the default resource `/ce`, a structured event goes to `/ce/s`: in
    CoAP the path selects the mode. Options of the query are added to those of the event.
    """

    def __init__(self, url: str, options: SendOptions) -> None:
        parts = urlsplit(url)
        self._parts = parts
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or PORTS.get(parts.scheme, 0)
        if parts.scheme == "coaps" and not (options.psk_identity and options.psk_key):
            raise SendError("coaps:// needs --psk-identity and --psk-key")
        path = parts.path if parts.path not in {"", "/"} else "/ce"
        self._path = path
        self._queries = [unquote_to_bytes(query) for query in parts.query.split("&") if query]
        self._block_bytes = _BLOCK_BYTES.get(parts.scheme, _DEFAULT_BLOCK_BYTES)
        self._options = options
        self._client: Client | None = None
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)

    async def open(self) -> None:
        if self._parts.scheme not in PORTS:
            # Only here, as the library for WebSockets is slow to import.
            from gateway.cli.senders.coap_stream import connect_stream  # noqa: PLC0415 - see above

            self._client = await connect_stream(self._parts, self._options)
            return
        client = _DatagramClient(self._options, self._block_bytes)
        try:
            await self._connect(client)
        except OSError as error:
            raise SendError(f"{self._host}:{self._port}: {error}") from error
        self._client = client

    async def _connect(self, client: _DatagramClient) -> None:
        loop = asyncio.get_running_loop()
        address = (self._host, self._port)
        if self._parts.scheme == "coap":
            await loop.create_datagram_endpoint(lambda: client, remote_addr=address)
            return
        from gateway.cli.senders.coap_dtls import DtlsTransport  # noqa: PLC0415 - as above

        session = DtlsTransport(client, self._options)
        await loop.create_datagram_endpoint(lambda: session, remote_addr=address)
        try:
            await session.shake_hands()
        except SendError:
            session.close()
            raise

    async def send(self, message: Event | Plain) -> str:
        if self._client is None:
            raise SendError("not open")
        options, payload = self._encode(message)
        async with self._room:
            if self._client.fits(options, payload):
                answer = await self._client.post(options, payload)
            else:
                answer = await self._send_blocks(self._client, options, payload)
        return _words(answer)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _encode(self, message: Event | Plain) -> tuple[list[Option], bytes]:
        path = self._path
        try:
            if isinstance(message, Plain):
                encoded = Encoded(message.payload, message.content_type)
            else:
                encoded = COAP.encode(message, self._options.mode)
                if self._options.mode == "structured" and path == "/ce":
                    path = "/ce/s"
            options = request_options(encoded)
        except CloudEventError as error:
            raise SendError(str(error)) from error
        segments = path.split("/")[1:]
        options += [(Number.URI_PATH, unquote_to_bytes(segment)) for segment in segments]
        options += [(Number.URI_QUERY, query) for query in self._queries]
        return options, encoded.payload or b""

    async def _send_blocks(self, client: Client, options: list[Option], payload: bytes) -> Message:
        # Tells the blocks of this payload from those of another one under way (RFC 9175 3.2).
        tag = (Number.REQUEST_TAG, secrets.token_bytes(4))
        size = (Number.SIZE1, from_uint(len(payload)))
        exponent = self._block_bytes.bit_length() - 5
        number, start = 0, 0
        while True:
            end = start + self._block_bytes
            block = Block(number, end < len(payload), exponent)
            extra = [tag, (Number.BLOCK1, block.to_bytes())]
            if number == 0:
                extra.append(size)
            answer = await client.post([*options, *extra], payload[start:end])
            if answer.code != Code.CONTINUE or not block.more:
                return answer
            number, start = number + 1, end


def _fail(request: _Request, text: str) -> None:
    if not request.answer.done():
        request.answer.set_exception(SendError(text))


def _words(answer: Message) -> str:
    """Return what an answer says.

    Raises:
        SendError: it is not of class 2.
    """
    try:
        name = Code(answer.code).name.replace("_", " ").title()
    except ValueError:
        name = ""
    words = f"{code_text(answer.code)} {name}".rstrip()
    if answer.code >> 5 == 2:
        return words
    if answer.payload:
        words += f": {answer.payload[:200].decode('utf-8', 'replace')}"
    for number, value in answer.options:
        if number == Number.MAX_AGE:
            words += f" (try again in {to_uint(value)} s)"
        elif number == Number.SIZE1:
            words += f" (at most {to_uint(value)} bytes)"
    raise SendError(words)
