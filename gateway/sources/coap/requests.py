"""From a request to its events: every check, in the order of binding section 3.0.2."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from bindings.coap import (
    Moment,
    Request,
    RequestError,
    assembly_key,
    content_formats,
    decode_request,
    diagnostic,
    read_request,
)
from bindings.coap.protected import is_protected, read_outer
from bindings.errors import (
    CloudEventError,
    TooLargeError,
    TooManyEventsError,
    UnknownEncodingError,
)
from bindings.event import Event
from bindings.wire.coap import Block, Code, Message, Number, from_uint, to_uint
from gateway.sources.coap.assembly import Assemblies
from gateway.sources.coap.config import CoapSourceConfig
from gateway.sources.coap.exchange import NO_ANSWER, Exchange
from gateway.sources.coap.resources import WELL_KNOWN, Resources

if TYPE_CHECKING:
    from gateway.sources.coap.oscore import Oscore

_MAX_BLOCK_EXPONENT: Final = 6
_BLOCK_ANSWER_OVERHEAD: Final = 12
"""What an answer with a block has beside token and block: header, three options, the marker."""

_INSIDE_OVERHEAD: Final = 2048
"""What a protected message may have inside besides an event's payload: its options and the tag."""


class Requests:
    """Judges requests; the only thing it keeps are payloads of which blocks are missing."""

    def __init__(self, config: CoapSourceConfig) -> None:
        self._resources = Resources(config)
        self._oscore: Oscore | None = None
        if config.oscore:
            # Only here, as aiocoap and what it needs for this take 10 MB.
            from gateway.sources.coap import oscore  # noqa: PLC0415 - see above

            self._oscore = oscore.Oscore(config.oscore)
        limits = [route.max_event_bytes or 0 for route in config.routes.values()]
        self._max_protected_bytes = _INSIDE_OVERHEAD + max(config.limits.max_event_bytes, *limits)
        self.assemblies = Assemblies(config.assembly_max_bytes)

    def judge(
        self, message: Message, exchange: Exchange, moment: Moment, now: float
    ) -> Sequence[Event] | bytes:
        """Return the events of a request, or the answer to one that brings none.

        Args:
            message: the request.
            exchange: learns what the options say of the answer.
            moment: when it was received, for events.
            now: monotonic seconds, for blocks.

        Raises:
            CloudEventError: it is refused; `refusal` makes the answer.
        """
        if self._oscore is not None and is_protected(message):
            found = self._open(self._oscore, message, exchange, now)
            if found is None:
                return exchange.answer(Code.CONTINUE)
            message = found
        try:
            request = read_request(message)
        except RequestError:
            exchange.no_response = _no_response(message)
            raise
        exchange.no_response = request.no_response
        exchange.accept = request.accept
        if request.path == WELL_KNOWN:
            return self._discover(request, exchange)
        route = self._resources.find(request.path, exchange.speaker)
        if route is None:
            raise RequestError("no such resource", Code.NOT_FOUND, reason="not_found")
        if message.code != Code.POST:
            raise RequestError("POST it", Code.METHOD_NOT_ALLOWED, reason="method")
        if request.block2 is not None and request.block2.number:
            raise RequestError("no such block", Code.BAD_REQUEST, reason="block")
        payload = self._whole_payload(request, route.max_event_bytes, exchange, now)
        if payload is None:
            return exchange.answer(Code.CONTINUE)
        return decode_request(request, payload, route, exchange.speaker.peer, moment)

    def _whole_payload(
        self, request: Request, limit: int, exchange: Exchange, now: float
    ) -> bytes | None:
        """Return a payload that is complete; None while blocks of it are missing."""
        if request.block1 is not None:
            return self._assemble(request, request.block1, limit, exchange, now)
        payload = request.message.payload
        if len(payload) > limit:
            raise TooLargeError(f"more than {limit} bytes", limit=limit)
        return payload

    def _open(
        self, oscore: "Oscore", message: Message, exchange: Exchange, now: float
    ) -> Message | None:
        """Return the request inside a protected one; None while blocks of it are missing."""
        exchange.no_response = _no_response(message)
        outer = read_outer(message)
        if outer.block1 is not None:  # a client or proxy cut what was protected (4.1.3.4.2)
            request = Request(message)
            whole = self._assemble(request, outer.block1, self._max_protected_bytes, exchange, now)
            if whole is None:
                return None
            message = msgspec.structs.replace(message, payload=whole)
        return oscore.open(message, outer, exchange)

    def _assemble(
        self, request: Request, block: Block, limit: int, exchange: Exchange, now: float
    ) -> bytes | None:
        address = exchange.speaker.address
        options = assembly_key(request.message)
        if request.size1 is not None and request.size1 > limit:
            self.assemblies.drop(address, options)
            raise TooLargeError(f"more than {limit} bytes", limit=limit)
        payload = request.message.payload
        if block.is_bert and not exchange.endpoint.is_stream:
            raise RequestError("wrong block size", Code.BAD_REQUEST, reason="block")
        whole = self.assemblies.add(address, options, block, payload, limit, now)
        exchange.block1 = block.to_bytes()
        return whole

    def _discover(self, request: Request, exchange: Exchange) -> bytes:
        """Answer GET /.well-known/core, in blocks that do not amplify (sections 10.5 and 6.2)."""
        if request.message.code != Code.GET:
            raise RequestError("GET it", Code.METHOD_NOT_ALLOWED, reason="method")
        if request.accept not in {None, content_formats.LINK_FORMAT}:
            raise RequestError("no such answer", Code.NOT_ACCEPTABLE, reason="not_acceptable")
        links = self._resources.links(request.queries)
        room = exchange.max_answer_bytes - _BLOCK_ANSWER_OVERHEAD - len(exchange.token)
        options = [(Number.CONTENT_FORMAT, from_uint(content_formats.LINK_FORMAT))]
        part = links
        if request.block2 is not None or len(links) > room or not exchange.endpoint.is_stream:
            block, part = _block_of(links, request.block2, room)
            if request.block2 is not None or block.more:
                options.append((Number.BLOCK2, block.to_bytes()))
        answer = exchange.answer(Code.CONTENT, options)
        return answer + b"\xff" + part if part else answer


def _block_of(content: bytes, wanted: Block | None, room: int) -> tuple[Block, bytes]:
    """Return the block of an answer that is wanted, or else its first; as large as there is room.

    Raises:
        RequestError: there is no such block.
    """
    wanted = wanted or Block(0, more=False, size_exponent=_MAX_BLOCK_EXPONENT)
    exponent = min(wanted.size_exponent, _MAX_BLOCK_EXPONENT)
    if wanted.number == 0:
        while exponent > 0 and min(16 << exponent, len(content)) > room:
            exponent -= 1
    start = wanted.number << (exponent + 4)
    part = content[start : start + (16 << exponent)]
    if wanted.number and not part:
        raise RequestError("no such block", Code.BAD_REQUEST, reason="block")
    return Block(wanted.number, start + len(part) < len(content), exponent), part


def refusal(exchange: Exchange, error: CloudEventError) -> bytes:
    """Return the answer to a request that is refused, NO_ANSWER where silence is asked for."""
    if isinstance(error, RequestError):
        if error.is_for_confirmable_only and not exchange.confirmable:
            return NO_ANSWER
        return exchange.answer(error.code, error.options, diagnostic(error))
    if isinstance(error, TooLargeError):
        size = (Number.SIZE1, from_uint(error.limit))
        return exchange.answer(Code.REQUEST_ENTITY_TOO_LARGE, (size,))
    if isinstance(error, TooManyEventsError):  # Size1 would be about bytes
        return exchange.answer(Code.REQUEST_ENTITY_TOO_LARGE, (), diagnostic(error))
    if isinstance(error, UnknownEncodingError):
        return exchange.answer(Code.UNSUPPORTED_CONTENT_FORMAT, (), diagnostic(error))
    return exchange.answer(Code.BAD_REQUEST, (), diagnostic(error))


def _no_response(message: Message) -> int:
    """Return what a request that is refused for its options wants to hear (RFC 7967)."""
    for number, value in message.options:
        if number == Number.NO_RESPONSE and len(value) <= 1:
            return to_uint(value)
    return 0
