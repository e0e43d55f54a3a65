"""Mistakes in acknowledgements, response codes and No-Response (sections 4.2, 4.3, 4.4)."""

import secrets
from typing import Any

from pydantic import Field

from bindings.wire.coap import Code, Type
from conformance.mutants.coap.gateways import Gateways, answers, around, codes
from conformance.mutants.mutant import Patch
from gateway.sources.coap import exchange, requests, source
from gateway.sources.coap.config import CoapSourceConfig
from gateway.sources.coap.exchange import BARE_ACK, CHANGED, Exchange, piggybacked
from gateway.sources.coap.separate import SeparateAnswers
from gateway.sources.coap.source import CoapSource

MUTANTS = Gateways()


# --- acknowledgements -----------------------------------------------------------------------------


@MUTANTS.wrong("ACK-001", 83)
def accepts_before_the_sink(patch: Patch) -> None:
    """2.04 is sent when the event has been handed over, and not when it is accepted."""

    def wrong(right: Any, intake: Any, batch: Any, refuse: Any) -> None:
        for one in batch:
            refuse.__self__._finish(one.exchange, CHANGED)  # noqa: SLF001 - the mistake is in there
        right(intake, batch, refuse)

    around(patch, source, "hand_in", wrong)


@MUTANTS.wrong("BAT-006 ACK-001")
def accepts_batches_before_the_sink(patch: Patch) -> None:
    """A batch is answered 2.04 when it has been handed over."""

    def wrong(right: Any, intake: Any, batch: Any, refuse: Any) -> None:
        for one in batch:
            if len(one.events) > 1:
                refuse.__self__._finish(one.exchange, CHANGED)  # noqa: SLF001 - the mistake is in there
        right(intake, batch, refuse)

    around(patch, source, "hand_in", wrong)


@MUTANTS.wrong("ACK-002")
def answers_on_their_own(patch: Patch) -> None:
    """Every CON gets an empty ACK, and its answer in a CON."""

    def wrong(right: Any, self: Any, one: Exchange, answer: bytes) -> None:
        if one.confirmable and not one.acknowledged and one.endpoint.channel is not None:
            one.acknowledged = True
            datagram = piggybacked(one.mid, b"", BARE_ACK)
            one.endpoint.channel.send(datagram, one.endpoint.address)
        right(self, one, answer)

    around(patch, CoapSource, "_finish", wrong)


class _Patient(CoapSourceConfig):
    """Settings without the bounds of section 4.2."""

    ack_after: float = Field(1.0, gt=0)
    sink_timeout: float = Field(20.0)


@MUTANTS.wrong("ACK-006 ACK-008", families=("limits",))
def waits_as_long_as_it_is_told(patch: Patch) -> None:
    """T_ack and T_sink may be longer than devices wait."""
    patch(CoapSource, "config_type", _Patient)


@MUTANTS.wrong("ACK-003", 81)
def sends_no_empty_acknowledgement(patch: Patch) -> None:
    """A CON waits for its answer without an empty ACK."""
    patch(CoapSource, "_wait_for", lambda *_: None)


def _separate(patch: Patch, change: Any) -> None:
    """Change type, message id, token and answer of answers that come after an empty ACK."""

    def wrong(right: Any, kind: Type, *rest: Any) -> Any:
        return right(*(change(kind, *rest) if kind == Type.CON else (kind, *rest)))

    around(patch, source, "separate", wrong)


@MUTANTS.wrong("ACK-004", 81)
def acknowledges_twice(patch: Patch) -> None:
    """After an empty ACK the answer comes in another ACK."""
    _separate(patch, lambda _, *rest: (Type.ACK, *rest))


@MUTANTS.wrong("ACK-004")
def separate_answers_that_may_be_lost(patch: Patch) -> None:
    """After an empty ACK the answer comes in a NON."""
    _separate(patch, lambda _, *rest: (Type.NON, *rest))


@MUTANTS.wrong("ACK-004")
def separate_answers_without_token(patch: Patch) -> None:
    """After an empty ACK the answer comes without the token."""
    _separate(patch, lambda kind, mid, _, answer: (kind, mid, b"", answer))


@MUTANTS.wrong("ACK-005")
def separate_answers_are_sent_once(patch: Patch) -> None:
    """A separate answer that is not acknowledged is not sent again."""
    patch(SeparateAnswers, "add", lambda *_: None)


@MUTANTS.wrong("ACK-005")
def separate_answers_change_their_id(patch: Patch) -> None:
    """A separate answer is sent again with another message ID."""
    around(
        patch,
        SeparateAnswers,
        "take_due",
        lambda right, self, now: [
            (datagram[:2] + secrets.token_bytes(2) + datagram[4:], endpoint)
            for datagram, endpoint in right(self, now)
        ],
    )


@MUTANTS.wrong("ACK-007")
def says_unavailable_when_it_does_not_know(patch: Patch) -> None:
    """When T_sink is over the answer is 5.03, though the event may have been accepted."""
    around(patch, Exchange, "timed_out", lambda _, self: self.unavailable())


@MUTANTS.wrong("ACK-009")
def accepts_every_non(patch: Patch) -> None:
    """The answer to a NON is 2.04, whatever became of the event."""
    around(
        patch,
        Exchange,
        "settled",
        lambda right, self, settlement: right(self, settlement) if self.confirmable else CHANGED,
    )


# --- codes ----------------------------------------------------------------------------------------


@MUTANTS.wrong("CODE-001", 83)
def created(patch: Patch) -> None:
    """2.01 is the answer to an accepted event."""
    codes(patch, {Code.CHANGED: 0x41})


@MUTANTS.wrong("CODE-001 CODE-002", 83)
def content(patch: Patch) -> None:
    """2.05 is the answer to an accepted event."""
    codes(patch, {Code.CHANGED: Code.CONTENT})


@MUTANTS.wrong("CODE-001")
def accepted_with_a_payload(patch: Patch) -> None:
    """2.04 has a payload."""
    answers(patch, lambda _, one: one + b"\xffaccepted" if one[0] == Code.CHANGED else one)


@MUTANTS.wrong("CODE-004", 83)
def internal_error_when_the_sink_is_down(patch: Patch) -> None:
    """5.00 is the answer when the sink can't be reached."""
    codes(patch, {Code.SERVICE_UNAVAILABLE: Code.INTERNAL_SERVER_ERROR})


@MUTANTS.wrong("CODE-003", 83)
def bad_request_when_the_sink_refuses(patch: Patch) -> None:
    """4.00 is the answer when the sink has refused the event."""
    codes(patch, {Code.BAD_GATEWAY: Code.BAD_REQUEST})


@MUTANTS.wrong("CODE-005", 83)
def unavailable_when_the_sink_is_over_its_rate(patch: Patch) -> None:
    """5.03 is the answer when the sink is over its rate."""
    codes(patch, {Code.TOO_MANY_REQUESTS: Code.SERVICE_UNAVAILABLE})


@MUTANTS.wrong("CODE-006", 83)
def without_max_age(patch: Patch) -> None:
    """5.03 and 4.29 come without Max-Age."""
    busy = {Code.SERVICE_UNAVAILABLE, Code.TOO_MANY_REQUESTS}
    answers(patch, lambda _, one: one[:1] if one[0] in busy else one)


@MUTANTS.wrong("CODE-007")
def come_back_at_once(patch: Patch) -> None:
    """Max-Age is 1 s when the sink has not asked for another."""
    patch(exchange, "_MAX_AGE_SECONDS", (1, 1))


@MUTANTS.wrong("CODE-009")
def quotes_what_is_wrong(patch: Patch) -> None:
    """A diagnostic quotes values of the event."""
    around(patch, requests, "diagnostic", lambda _, error: str(error)[:64])


@MUTANTS.wrong("CODE-008")
def long_diagnostics(patch: Patch) -> None:
    """A diagnostic has more than 64 bytes."""
    around(patch, requests, "diagnostic", lambda right, error: right(error).ljust(80, "."))


@MUTANTS.wrong("CODE-010")
def no_problem_details(patch: Patch) -> None:
    """A diagnostic is text, whatever the request accepts."""

    def wrong(right: Any, self: Any, *args: Any) -> Any:
        self.accept = None
        return right(self, *args)

    around(patch, Exchange, "answer", wrong)


# --- No-Response ----------------------------------------------------------------------------------


@MUTANTS.wrong("NORESP-001")
def ignores_no_response(patch: Patch) -> None:
    """No-Response is ignored, as an elective option may be."""
    patch(Exchange, "suppresses", lambda _, __: False)


@MUTANTS.wrong("NORESP-001 NORESP-003")
def no_response_by_the_wrong_bit(patch: Patch) -> None:
    """No-Response 2 is taken for the class 1, 4 for 2, and so on."""
    patch(Exchange, "suppresses", lambda self, code: bool(self.no_response >> (code >> 5) & 1))


@MUTANTS.wrong("NORESP-002")
def silent_to_con(patch: Patch) -> None:
    """A CON whose answer is not wanted gets nothing at all."""

    def wrong(right: Any, self: Any, one: Exchange, answer: bytes) -> None:
        if one.confirmable and one.suppresses(answer[0]):
            one.pending = False
        else:
            right(self, one, answer)

    around(patch, CoapSource, "_finish", wrong)


@MUTANTS.wrong("NORESP-003")
def no_response_means_none(patch: Patch) -> None:
    """No-Response suppresses every answer, whatever its value."""
    patch(Exchange, "suppresses", lambda self, _: bool(self.no_response))


@MUTANTS.wrong("NORESP-004")
def no_response_to_blocks(patch: Patch) -> None:
    """No-Response 2 suppresses 2.31."""
    patch(Exchange, "suppresses", lambda self, code: bool(self.no_response >> (code >> 5) - 1 & 1))
