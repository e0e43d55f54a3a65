"""What the options of a request say, judged by the rules of binding section 3.0.4."""

from collections.abc import Sequence
from typing import Final

import msgspec

from bindings.errors import CloudEventError
from bindings.wire.coap import Block, Code, Message, Number, Option, to_block, to_uint


class RequestError(CloudEventError):
    """A request that is refused with a response code of its own (binding section 4.3).

    Attributes:
        code: the response code.
        options: of the answer.
    """

    default_reason = "refused_request"

    def __init__(
        self,
        text: str,
        code: Code,
        *,
        reason: str | None = None,
        options: Sequence[Option] = (),
    ) -> None:
        super().__init__(text, reason=reason)
        self.code = code
        self.options = options

    @property
    def is_for_confirmable_only(self) -> bool:
        """Whether a non-confirmable request is dropped instead (RFC 7252 5.4.1)."""
        return self.code == Code.BAD_OPTION


class Request(msgspec.Struct):
    """A request whose options are all understood or may be ignored.

    Attributes:
        message: the message it came in.
        path: the Uri-Path segments.
        queries: the Uri-Query options, in order.
        content_format: the number; None when the option is absent, which is not 0.
        accept: the Content-Format asked for.
        block1: which block of the payload this is.
        block2: which block of the answer is wanted.
        size1: how large the whole payload is said to be.
        no_response: which classes of answers are not wanted (RFC 7967), as a bit field.
    """

    message: Message
    path: tuple[bytes, ...] = ()
    queries: Sequence[bytes] = ()
    content_format: int | None = None
    accept: int | None = None
    block1: Block | None = None
    block2: Block | None = None
    size1: int | None = None
    no_response: int = 0


_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    Number.URI_HOST: (1, 255),
    Number.URI_PORT: (0, 2),
    Number.URI_PATH: (0, 255),
    Number.CONTENT_FORMAT: (0, 2),
    Number.URI_QUERY: (0, 255),
    Number.ACCEPT: (0, 2),
    Number.BLOCK2: (0, 3),
    Number.BLOCK1: (0, 3),
    Number.SIZE1: (0, 4),
    Number.NO_RESPONSE: (0, 1),
}
"""Options with a rule, and how many bytes each may have; an event resource knows no others."""

_REPEATABLE: Final = frozenset({Number.URI_PATH, Number.URI_QUERY})
_PROXY: Final = frozenset({Number.PROXY_URI, Number.PROXY_SCHEME})


def read_request(message: Message) -> Request:
    """Return what the options of a request say.

    Raises:
        RequestError: 5.05 for a proxy request, 4.02 for a critical option that is unknown,
            repeated or out of range (RFC 7252 5.4.1, 5.4.3, 5.4.5).
    """
    path: list[bytes] = []
    queries: list[bytes] = []
    content_format: int | None = None
    rest: list[Option] | None = None
    for option in message.options:
        number, value = option
        # Nearly all options are these three; their length is checked here for that reason.
        if number == 15 and len(value) <= 255:
            queries.append(value)
        elif number == 11 and len(value) <= 255:
            path.append(value)
        elif number == 12 and rest is None and content_format is None and len(value) <= 2:
            content_format = to_uint(value)
        elif rest is None:
            rest = [option]
        else:
            rest.append(option)
    request = Request(message, tuple(path), queries, content_format)
    if rest is not None:
        _read_rest(request, rest, -1 if content_format is None else Number.CONTENT_FORMAT)
    return request


def _read_rest(request: Request, options: list[Option], previous: int) -> None:
    """Read what `read_request` has not; `previous` is the number of an option that it has."""
    for number, _ in options:
        if number in _PROXY:
            raise RequestError("no proxy", Code.PROXYING_NOT_SUPPORTED, reason="proxy")
    for number, value in options:
        lengths = _LENGTHS.get(number)
        if (
            lengths is None
            or not lengths[0] <= len(value) <= lengths[1]
            or (number == previous and number not in _REPEATABLE)
        ):
            # An odd number is a critical option: what can't be obeyed must not be ignored.
            if number & 1:
                text = f"option {number} unknown, repeated or out of range"
                raise RequestError(text, Code.BAD_OPTION, reason="bad_option")
        elif number == Number.CONTENT_FORMAT:
            request.content_format = to_uint(value)
        elif number >= Number.ACCEPT:
            _read_extra(request, number, value)
        previous = number


def _read_extra(request: Request, number: int, value: bytes) -> None:
    if number == Number.ACCEPT:
        request.accept = to_uint(value)
    elif number == Number.BLOCK1:
        request.block1 = to_block(value)
    elif number == Number.BLOCK2:
        request.block2 = to_block(value)
    elif number == Number.SIZE1:
        request.size1 = to_uint(value)
    else:
        request.no_response = to_uint(value)
