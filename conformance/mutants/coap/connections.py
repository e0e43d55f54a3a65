"""Mistakes on connections: TCP, TLS and WebSockets (section 11)."""

import secrets
from typing import Any

from msgspec.structs import replace
from websockets.frames import Frame, Opcode

from bindings.coap import Request, RequestError
from bindings.errors import CloudEventError
from bindings.wire.coap import Code, parse_options
from bindings.wire.coap_stream import head
from conformance.mutants.coap.gateways import Gateways, around
from conformance.mutants.mutant import Patch
from gateway.sources.coap import connection, websockets
from gateway.sources.coap.connection import Connection
from gateway.sources.coap.exchange import Exchange
from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.requests import Requests
from gateway.sources.coap.websockets import WebSocket

MUTANTS = Gateways("channels")


@MUTANTS.wrong("TCP-001", families=("same answers",), only="coap-tcp-opt-")
def other_codes_on_connections(patch: Patch) -> None:
    """On a connection everything that is refused is answered 4.00."""

    def wrong(_: Any, one: Exchange, error: CloudEventError) -> bytes:
        return one.answer(Code.BAD_REQUEST, (), str(error)[:20])

    around(patch, connection, "refusal", wrong)


@MUTANTS.wrong("WS-003", families=("same answers",), only="coap-ws-bin-3")
def other_sources_on_connections(patch: Patch) -> None:
    """The default source of a connection has its scheme."""

    def wrong(right: Any, *args: Any) -> Endpoint:
        endpoint: Endpoint = right(*args)
        source = endpoint.peer.source.replace("coap:", "coap+ws:")
        endpoint.peer = replace(endpoint.peer, source=source)
        return endpoint

    around(patch, connection, "_endpoint_of", wrong)


@MUTANTS.wrong("ID-005")
def ids_of_connections(patch: Patch) -> None:
    """On a connection an id is a digest of connection and request."""

    def wrong(right: Any, self: Any, *args: Any) -> None:
        self._count = 0
        right(self, *args)

    around(patch, Connection, "_take_request", wrong)


@MUTANTS.wrong("TCP-002")
def waits_for_the_first_message(patch: Patch) -> None:
    """The first message of the gateway is a Ping."""

    def wrong(right: Any, self: Any, message: Any) -> None:
        if message.code == 0xE1 and self._transport is not None:  # 7.01
            self._transport.write(head(0, 0, 0xE2))
        right(self, message)

    around(patch, Connection, "_send_message", wrong)


@MUTANTS.wrong("TCP-003")
def connections_without_greeting(patch: Patch) -> None:
    """The first message on a connection may be any."""

    def wrong(right: Any, self: Any, *args: Any) -> None:
        if self._remote_settings is None:
            self._remote_settings = {}
        right(self, *args)

    around(patch, Connection, "_receive", wrong)


@MUTANTS.wrong("TCP-004")
def skips_what_is_malformed(patch: Patch) -> None:
    """A malformed message on a connection is answered 4.00, and the next one read."""

    def wrong(right: Any, self: Any, frame: bytes, start: int, body: int, into: Any) -> None:
        try:
            parse_options(frame, body)
        except ValueError:
            self._answers += head(body - start, 0, Code.BAD_REQUEST) + frame[start:body]
        else:
            right(self, frame, start, body, into)

    around(patch, Connection, "_receive", wrong)


@MUTANTS.wrong("TCP-005")
def room_for_little(patch: Patch) -> None:
    """The gateway announces messages of 1152 bytes."""

    def wrong(right: Any, self: Any, owner: Any) -> None:
        right(self, owner)
        self._my_max_message_size = 1152

    around(patch, Connection, "__init__", wrong)


@MUTANTS.wrong("TCP-006")
def room_for_data_only(patch: Patch) -> None:
    """Messages of more than 65536 bytes end a connection."""

    def wrong(right: Any, self: Any, position: int) -> Any:
        frame = right(self, position)
        if frame is not None and len(frame[0]) > 65536:
            self.abort("message too large")
            return None
        return frame

    around(patch, Connection, "_next_frame", wrong)


@MUTANTS.wrong("TCP-007")
def no_bert(patch: Patch) -> None:
    """Blocks of SZX 7 are refused on connections too."""

    def wrong(right: Any, self: Any, request: Request, block: Any, *rest: Any) -> Any:
        if block.is_bert:
            raise RequestError("wrong block size", Code.BAD_REQUEST)
        return right(self, request, block, *rest)

    around(patch, Requests, "_assemble", wrong)


@MUTANTS.wrong("TCP-008")
def pongs_without_token(patch: Patch) -> None:
    """A Ping is answered with a Pong of another token."""

    def wrong(right: Any, self: Any, frame: bytes, start: int, body: int, into: Any) -> None:
        if frame[start - 1] == 0xE2 and self._remote_settings is not None:  # 7.02
            self._answers += head(2, 0, 0xE3) + secrets.token_bytes(2)
        else:
            right(self, frame, start, body, into)

    around(patch, Connection, "_receive", wrong)


@MUTANTS.wrong("TCP-009")
def answers_of_any_size(patch: Patch) -> None:
    """An answer is as large as it is, whatever the peer takes."""
    patch(connection, "_PEER_MAX_MESSAGE_BYTES", 1 << 20)


@MUTANTS.wrong("WS-001")
def websockets_at_every_path(patch: Patch) -> None:
    """CoAP is offered at every path."""

    def wrong(right: Any, self: Any, request: bytes) -> Any:
        _, rest = request.split(b" HTTP/", 1)
        return right(self, b"GET " + websockets.PATH.encode() + b" HTTP/" + rest)

    around(patch, WebSocket, "_answer", wrong)


@MUTANTS.wrong("WS-001")
def websockets_without_subprotocol(patch: Patch) -> None:
    """A WebSocket without the subprotocol coap is opened."""

    def wrong(right: Any, *args: Any, **named: Any) -> Any:
        return right(*args, **{**named, "subprotocols": None})

    around(patch, websockets, "ServerProtocol", wrong)


@MUTANTS.wrong("WS-002")
def websocket_messages_with_length(patch: Patch) -> None:
    """A WebSocket message may say its length as over TCP."""

    def wrong(right: Any, message: bytes) -> Any:
        return bytes(message) if message and message[0] > 15 else right(message)

    around(patch, websockets, "from_websocket", wrong)


@MUTANTS.wrong("WS-004")
def text_is_as_good_as_bytes(patch: Patch) -> None:
    """A WebSocket message of text is taken for one of bytes."""

    def wrong(right: Any, self: Any, frame: Frame, messages: list[bytes]) -> Any:
        if frame.opcode is Opcode.TEXT:
            data = bytes.fromhex(bytes(frame.data).decode())
            frame = Frame(Opcode.BINARY, data, fin=frame.fin)
        return right(self, frame, messages)

    around(patch, WebSocket, "_take", wrong)
