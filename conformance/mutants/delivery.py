"""Mistakes of a sender: what it makes of answers, when it tries again, what it sends."""

from collections.abc import Callable
from typing import Any

import msgspec

from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.json_format import decode_event
from bindings.wire import http1
from conformance.mutants.mutant import Catalogue, Patch
from gateway.delivery import Outcome, Reason
from gateway.retry import RetryPolicy
from gateway.sinks.http import verdict
from gateway.sinks.http.connection import Answer, Connection
from gateway.sinks.http.job import Chain, Job
from gateway.sinks.http.pool import Pool
from gateway.sinks.http.sink import HttpSink
from gateway.sinks.http.target import Target

MUTANTS = Catalogue(needs="delivering")

_AGAIN = Outcome.RELEASED, Reason.SINK_DOWN
_NEVER = Outcome.REJECTED, Reason.SINK_REFUSED


def _judging(patch: Patch, fits: Callable[[int], bool], judgement: Any) -> None:
    """Judge the statuses that fit in another way."""
    right = verdict._judge  # noqa: SLF001 - the mistake is in there

    def judge(status: int, **more: Any) -> Any:
        return judgement if fits(status) else right(status, **more)

    patch(verdict, "_judge", judge)


def _answering(patch: Patch, change: Callable[[Answer], Answer]) -> None:
    """Read answers in another way."""
    right = verdict.failure

    def failure(position: int, answer: Answer, **more: Any) -> Any:
        return right(position, change(answer), **more)

    patch.everywhere(verdict, "failure", failure)


def _as_status(fits: Callable[[int], bool], status: int) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        if answer.status is None or not fits(answer.status):
            return answer
        return msgspec.structs.replace(answer, status=status)

    return change


@MUTANTS.patching(88, "WH-RSP-003 KN-006", only="knative-status-30")
def redirects_are_followed(patch: Patch) -> None:
    """The event is sent again to where a redirect points."""
    right = HttpSink.answered

    def answered(self: HttpSink, job: Job, chain: Chain, answer: Answer) -> None:
        target = self._target
        if answer.status in range(300, 400) and target is not None:
            method, _, rest = target._head.split(b" ", 2)  # noqa: SLF001 - the same
            target._head = method + b" /elsewhere " + rest  # noqa: SLF001 - the same
            target._is_plain = False  # noqa: SLF001 - the same
            chain.put_back()
            self._go_on(job, chain)
        else:
            right(self, job, chain, answer)

    patch(HttpSink, "answered", answered)


@MUTANTS.patching(88, "WH-RSP-003 KN-006", only="knative-status-30")
def redirects_are_repeated(patch: Patch) -> None:
    """An event that was answered by a redirect is sent again."""
    _judging(patch, lambda status: 300 <= status < 400, _AGAIN)


@MUTANTS.patching(92, "KN-006", only="knative-interim-answer")
def interim_answers_are_final(patch: Patch) -> None:
    """A 103 is the answer, and what follows it is not read."""
    right = Connection.on_headers_complete

    def on_headers_complete(self: Connection) -> None:
        if not self._answered:
            right(self)
            self._head_done = True

    patch(Connection, "on_headers_complete", on_headers_complete)


@MUTANTS.patching(92, "KN-006", only="knative-status-20")
def only_some_successes_are_known(patch: Patch) -> None:
    """Of the successes, only 200, 202 and 204 count."""
    right = HttpSink.answered
    change = _as_status(lambda s: 200 <= s < 300 and s not in {200, 202, 204}, 500)

    def answered(self: HttpSink, job: Job, chain: Chain, answer: Answer) -> None:
        right(self, job, chain, change(answer))

    patch(HttpSink, "answered", answered)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def not_found_is_final(patch: Patch) -> None:
    """After 404 the event is given up."""
    _judging(patch, lambda status: status == 404, _NEVER)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def conflict_is_final(patch: Patch) -> None:
    """After 409 the event is given up."""
    _judging(patch, lambda status: status == 409, _NEVER)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def too_late_is_final(patch: Patch) -> None:
    """After 408 the event is given up."""
    _judging(patch, lambda status: status == 408, _NEVER)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def bad_requests_are_repeated(patch: Patch) -> None:
    """After 400 the event is sent again."""
    _judging(patch, lambda status: status == 400, _AGAIN)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def refusals_are_repeated(patch: Patch) -> None:
    """After 401 and 403 the event is sent again."""
    _judging(patch, lambda status: status in {401, 403}, _AGAIN)


@MUTANTS.patching(92, "KN-006", only="knative-status-4")
def every_client_error_is_repeated(patch: Patch) -> None:
    """After every 4xx the event is sent again."""
    _judging(patch, lambda status: 410 <= status < 500 and status != 429, _AGAIN)


@MUTANTS.patching(92, "KN-006", only="knative-status-5")
def not_implemented_is_final(patch: Patch) -> None:
    """After 501 the event is given up."""
    _judging(patch, lambda status: status == 501, _NEVER)


@MUTANTS.patching(92, "KN-006", only="knative-status-5")
def unknown_server_errors_are_final(patch: Patch) -> None:
    """After a 5xx that has no name the event is given up."""
    _judging(patch, lambda status: status > 511, _NEVER)


@MUTANTS.patching(92, "KN-006", only="knative-no-answer")
def no_answer_is_final(patch: Patch) -> None:
    """An event whose connection breaks off is given up."""
    refused = Answer(400)
    _answering(patch, lambda answer: answer if answer.status else refused)


def _retry_after(patch: Patch, parse: Callable[[str, float], float | None]) -> None:
    patch.everywhere(http1, "parse_retry_after", parse)


@MUTANTS.patching(90, "KN-008", only="retry-after-date")
def retry_after_is_no_date(patch: Patch) -> None:
    """A Retry-After that is a date is ignored."""
    right = http1.parse_retry_after
    _retry_after(patch, lambda text, now: right(text, now) if text.isdigit() else None)


@MUTANTS.patching(90, "KN-008", only="retry-after-seconds")
def retry_after_is_ignored(patch: Patch) -> None:
    """A Retry-After is ignored."""
    _retry_after(patch, lambda _text, _now: None)


@MUTANTS.patching(90, "KN-008", only="retry-after-unreadable")
def retry_after_is_guessed(patch: Patch) -> None:
    """A Retry-After that can't be read holds an event back for long."""
    right = http1.parse_retry_after

    def parse(text: str, now: float) -> float | None:
        seconds = right(text, now)
        return 120.0 if seconds is None else seconds

    _retry_after(patch, parse)


@MUTANTS.patching(90, "KN-008", only="retry-after-capped")
def retry_after_without_a_limit(patch: Patch) -> None:
    """A Retry-After is kept to, however long it is."""
    right = RetryPolicy.wait

    def wait(self: RetryPolicy, n: int, retry_after: float | None = None) -> float:
        return max(right(self, n), retry_after or 0.0)

    patch(RetryPolicy, "wait", wait)


@MUTANTS.patching(90, "KN-008", only="retry-after-elsewhere")
def retry_after_with_every_status(patch: Patch) -> None:
    """A Retry-After holds events back with whatever status it comes."""
    right = verdict.failure

    def failure(position: int, answer: Answer, **more: Any) -> Any:
        found = right(position, answer, **more)
        if found is None or not answer.retry_after:
            return found
        seconds = http1.parse_retry_after(answer.retry_after, more["now"])
        return msgspec.structs.replace(found, retry_after=seconds)

    patch.everywhere(verdict, "failure", failure)


def _waiting(patch: Patch, wait: Callable[[RetryPolicy, int], float]) -> None:
    right = RetryPolicy.wait

    def wrong(self: RetryPolicy, n: int, retry_after: float | None = None) -> float:
        return wait(self, n) if retry_after is None else right(self, n, retry_after)

    patch(RetryPolicy, "wait", wrong)


@MUTANTS.patching("back-off", "KN-008", only="backoff-")
def repetitions_without_a_wait(patch: Patch) -> None:
    """An event is sent again at once."""
    _waiting(patch, lambda _policy, _n: 0.0)


@MUTANTS.patching("back-off", "KN-008", only="backoff-exponential")
def waits_do_not_grow(patch: Patch) -> None:
    """Waits that should double are always the same."""
    _waiting(patch, lambda policy, _n: policy.delay)


@MUTANTS.patching("back-off", "KN-008", only="knative-retry-")
def repetitions_without_an_end(patch: Patch) -> None:
    """An event is sent again more often than was allowed."""
    right = RetryPolicy.__init__

    def init(self: RetryPolicy, **settings: Any) -> None:
        right(self, **{**settings, "retry": settings.get("retry", 10) + 1})

    patch(RetryPolicy, "__init__", init)


@MUTANTS.patching("back-off", "KN-008", only="backoff-order")
def later_events_overtake(patch: Patch) -> None:
    """While an event waits, later ones of its key are sent."""
    patch(HttpSink, "_hold", staticmethod(lambda _job, _chain: None))
    patch(Event, "key", property(lambda self: self.id, lambda *_: None))


@MUTANTS.patching(93, "KN-010")
def a_reply_is_asked_for(patch: Patch) -> None:
    """Deliveries ask for a reply that nobody reads."""
    right = Target._common_fields  # noqa: SLF001 - the mistake is in there

    def common_fields(self: Target, *arguments: Any) -> bytes:
        return right(self, *arguments) + b"Prefer: reply\r\n"

    patch(Target, "_common_fields", common_fields)


@MUTANTS.patching(93, "KN-010")
def a_body_is_taken_for_a_reply(patch: Patch) -> None:
    """An event in the body of a success is sent on."""
    right = HttpSink.answered

    def answered(self: HttpSink, job: Job, chain: Chain, answer: Answer) -> None:
        right(self, job, chain, answer)
        try:
            reply = decode_event(answer.body)
        except CloudEventError:
            return
        if self._pool is not None:
            self.start_sending([reply], 5.0, lambda _: None, lambda _: None)

    patch(HttpSink, "answered", answered)


def _delivering(patch: Patch, change: Callable[[Event], Event]) -> None:
    right = Target.prepare
    patch(Target, "prepare", lambda self, event: change(right(self, event)))
    # Else an event that needs no preparation would go past it.
    patch(Target, "_sends_plain_events", lambda _: False)


@MUTANTS.patching(94, "HTTP-MET-003 KN-009")
def traceparent_is_made_anew(patch: Patch) -> None:
    """The attribute traceparent is replaced by the trace of this hop."""
    trace = "00-11111111111111111111111111111111-2222222222222222-01"

    def change(event: Event) -> Event:
        if "traceparent" not in event.extensions:
            return event
        return event.replace(extensions={**event.extensions, "traceparent": trace})

    _delivering(patch, change)


@MUTANTS.patching(94, "HTTP-MET-003 KN-009")
def traceparent_moves_to_its_own_header(patch: Patch) -> None:
    """The attribute traceparent is sent in the header traceparent only."""
    right = Target.request

    def request(self: Target, message: Any) -> bytes:
        return right(self, message).replace(b"ce-traceparent:", b"traceparent:")

    patch(Target, "request", request)


@MUTANTS.patching("deliveries", "KN-006 KN-009", only="same-identity")
def each_attempt_has_its_own_id(patch: Patch) -> None:
    """An event that is sent again has a new id."""
    count = iter(range(1 << 30))
    _delivering(patch, lambda event: event.replace(id=f"{event.id}-{next(count)}"))


@MUTANTS.patching(49, "HTTP-BAT-001", only="no-batch")
def batches_that_nobody_asked_for(patch: Patch) -> None:
    """Events are sent as batches to a sink that did not ask."""
    right = HttpSink._encode_batch  # noqa: SLF001 - the mistake is in there

    def encode(self: HttpSink, job: Job, chain: Chain) -> bytes:
        target = self._target
        assert target is not None
        return right(self, target, job, chain)

    patch(HttpSink, "_encode", encode)


@MUTANTS.patching("deliveries", "KN-003")
def deliveries_by_put(patch: Patch) -> None:
    """Events are delivered by PUT."""
    right = Target._head_of  # noqa: SLF001 - the mistake is in there

    def head_of(self: Target, method: str) -> bytes:
        return right(self, "PUT" if method == "POST" else method)

    patch(Target, "_head_of", head_of)


@MUTANTS.patching("deliveries", "KN-006", only="knative-closed-unanswered")
def dead_connections_lose_events(patch: Patch) -> None:
    """An event that was sent on a connection that turned out to be dead is given up."""
    patch(Pool, "repeat", lambda _pool, request: request.on_answer(Answer(400)))
    # The first event may still be under way, so that the second has a connection of its own.
    right = Connection._finish_early  # noqa: SLF001 - the mistake is in there

    def finish_early(self: Connection, answer: Answer) -> None:
        right(self, answer if answer.timed_out else Answer(400))

    patch(Connection, "_finish_early", finish_early)


@MUTANTS.patching(17, "CORE-SIZE-001 CORE-SIZE-003", only="largest")
def deliveries_up_to_32_kib(patch: Patch) -> None:
    """An event of 64 KiB is cut."""
    right = Target.deliver

    def deliver(self: Target, event: Event) -> bytes:
        data = event.data
        return right(self, event.replace(data=data[:32768]) if data else event)

    patch(Target, "deliver", deliver)
