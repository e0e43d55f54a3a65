"""What the source answers, byte for byte.

| what became of the message                     | answer                   |
|------------------------------------------------|--------------------------|
| ACCEPTED by every sink, or stored              | 202                      |
| RELEASED: a sink was sent too much             | 429 + Retry-After        |
| RELEASED: the gateway is busy, a sink is down  | 503 + Retry-After        |
| REJECTED by a sink                             | 422                      |
| no answer within `ack_timeout`                 | 504 + Retry-After        |
| an invalid event, malformed HTTP               | 400                      |
| no or wrong credentials, origin not allowed    | 401, 403                 |
| more than `allowed_rate`; `retired`            | 429 + Retry-After; 410   |
| another path, method, expectation              | 404, 405, 417            |
| too slow, too large, unknown encoding          | 408, 413, 431, 415       |

404 is the only one of these that Knative's table repeats without hope; it tells a sender of a wrong
configuration. Bodies are text/plain of at most 768 bytes (Knative's dispatcher can't take more) and
never hold event data.
"""

import math
import time
from typing import Final

from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    TooLargeError,
    TooManyEventsError,
)
from bindings.wire.http1 import format_date, response_head
from gateway.delivery import Outcome, Reason, Settlement

MAX_BODY: Final = 768
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ALLOW: Final = ("Allow", "POST, OPTIONS")
CLOSE: Final = ("Connection", "close")
KEEP_ALIVE: Final = ("Connection", "keep-alive")

_Fields = tuple[tuple[str, str], ...]


class Clock:
    """The Date field, and the plain 202 with it, made once a second (RFC 9110 6.6.1)."""

    def __init__(self) -> None:
        self._second = 0
        self._date: tuple[str, str] = ("Date", "")
        self._accepted = b""

    def date(self) -> tuple[str, str]:
        """Return the field for now."""
        self._refresh()
        return self._date

    def accepted(self) -> bytes:
        """Return the answer to an accepted message on a connection that stays open."""
        self._refresh()
        return self._accepted

    def _refresh(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = ("Date", format_date(second))
            self._accepted = response_head(202, (self._date,), 0)


class Answer:
    """A response but for its Date and Connection fields."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, text: str = "", fields: _Fields = ()) -> None:
        self.status = status
        line = text.replace("\r", " ").replace("\n", " ")
        self.body = (
            (line + "\n").encode("utf-8")[:MAX_BODY].decode("utf-8", "ignore").encode()
            if text
            else b""
        )
        self.fields = fields

    def encode(self, clock: Clock, connection: _Fields, *, bodyless: bool = False) -> bytes:
        """Return the bytes; `bodyless` is for the answer to HEAD (RFC 9110 9.3.2)."""
        fields = (clock.date(), *connection, *self.fields)
        if self.body:
            fields = (*fields, ("Content-Type", "text/plain; charset=utf-8"))
        head = response_head(self.status, fields, len(self.body))
        return head if bodyless else head + self.body


ACCEPTED: Final = Answer(202)
# http-webhook.md 3.2: a 2xx to a request with the token in its query.
ACCEPTED_PRIVATE: Final = Answer(202, fields=(("Cache-Control", "private"),))
MALFORMED: Final = Answer(400, "malformed HTTP request")
FORBIDDEN: Final = Answer(403, "this WebHook-Request-Origin has no consent")
NO_ORIGIN: Final = Answer(403, "deliveries carry WebHook-Request-Origin here")
TWO_TOKENS: Final = Answer(400, "the token is shown in the header or in the query, not in both")
GONE: Final = Answer(410, "this address has been retired")
NOT_FOUND: Final = Answer(404, "events are taken at another path")
METHOD_NOT_ALLOWED: Final = Answer(405, "events are sent by POST", (ALLOW,))
# An OPTIONS that is not supported (http-webhook.md 4.2).
NO_OPTIONS: Final = Answer(405, "events are sent by POST", (("Allow", "POST"),))
TOO_SLOW: Final = Answer(408, "the request did not arrive in time")
CODING: Final = Answer(415, "content codings are not supported", (("Accept-Encoding", "identity"),))
EXPECTATION: Final = Answer(417, "the only expectation known is 100-continue")
HEAD_TOO_LARGE: Final = Answer(431, "the head of the request is larger than 64 KiB")
NO_ANSWER: Final = Answer(504, "not delivered in time; repeat it later", (("Retry-After", "1"),))
VERSION: Final = Answer(505, "HTTP/1.1 is spoken here")


def too_large(limit: int) -> Answer:
    """Return the answer to a body above the limit."""
    return Answer(413, f"larger than the limit of {limit} bytes")


def answer_error(error: CloudEventError) -> Answer:
    """Return the answer to a message that brought no event."""
    if isinstance(error, InvalidEventError):
        return Answer(400, str(error))
    if isinstance(error, TooLargeError):
        return too_large(error.limit)
    if isinstance(error, TooManyEventsError):
        return Answer(413, str(error))
    return Answer(415, str(error))


def answer_settlement(settlement: Settlement) -> Answer:
    """Return the answer to a message by what became of its events."""
    if settlement.outcome is Outcome.ACCEPTED:
        return ACCEPTED
    text = settlement.detail or settlement.reason.value
    if settlement.outcome is Outcome.REJECTED:
        return Answer(422, text)
    seconds = settlement.retry_after
    wait = 1 if seconds is None or seconds < 1 else math.ceil(min(seconds, 86_400.0))
    status = 429 if settlement.reason is Reason.SINK_BUSY else 503
    return Answer(status, text, (("Retry-After", str(wait)),))


def too_many(wait: int) -> Answer:
    """Return the answer to a sender that is faster than it may be, for `wait` seconds."""
    return Answer(429, "more requests than allowed", (("Retry-After", str(wait)),))
