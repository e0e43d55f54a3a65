"""What an answer means: delivered, never will be, or not now.

| answer                                     | outcome  |
|--------------------------------------------|----------|
| 2xx                                        | ACCEPTED |
| 404, 408, 409, 429, 5xx                    | RELEASED |
| 401, where a token is read from a file     | RELEASED |
| 1xx, 3xx, other 4xx                        | REJECTED |
| none: no connection, reset, TLS, timeout   | RELEASED |
| a status outside 100 to 599                | RELEASED |

Knative's table (data-plane.md, "Event Acknowledgement and Delivery Retry").
"""

from typing import Final

from bindings.wire.http1 import parse_retry_after, reason_phrase
from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks.http.connection import Answer

_RETRIED: Final = frozenset({404, 408, 409, 429})


def failure(position: int, answer: Answer, *, token_may_change: bool, now: float) -> Failure | None:
    """Return what an answer means for the event at `position`; None if it is delivered.

    Args:
        position: index into the list that was sent.
        answer: the sink's answer, or why there is none.
        token_may_change: a 401 may be over when the token has been replaced.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    status = answer.status
    if status is None:
        reason = Reason.TIMEOUT if answer.timed_out else Reason.SINK_DOWN
        return Failure(position, Outcome.RELEASED, reason, detail=answer.error)
    if 200 <= status < 300:
        return None
    outcome, reason = _judge(status, token_may_change=token_may_change)
    retry_after = None
    if status in (429, 503) and answer.retry_after:
        retry_after = parse_retry_after(answer.retry_after, now)
    detail = f"{status} {reason_phrase(status)}".rstrip()
    return Failure(position, outcome, reason, status, retry_after, detail, answer.body)


def _judge(status: int, *, token_may_change: bool) -> tuple[Outcome, Reason]:
    if status == 429:
        return Outcome.RELEASED, Reason.SINK_BUSY
    if status in _RETRIED or not 100 <= status < 500 or (status == 401 and token_may_change):
        return Outcome.RELEASED, Reason.SINK_DOWN
    return Outcome.REJECTED, Reason.SINK_REFUSED
