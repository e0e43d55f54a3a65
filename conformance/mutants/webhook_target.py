"""Mistakes of a webhook's target: consent, rates, tokens, answers (http-webhook.md)."""

from collections.abc import Callable, Mapping

from bindings.errors import CloudEventError
from bindings.wire.http1 import response_head
from conformance.mutants.mutant import Catalogue, Patch
from gateway.sources.http import answers
from gateway.sources.http.answers import Answer, Clock
from gateway.sources.http.credentials import Credentials
from gateway.sources.http.handshake import Handshake

MUTANTS = Catalogue(needs="target", protocol="http")


def _handshake(patch: Patch, change: Callable[[Answer, Mapping[bytes, bytes]], Answer]) -> None:
    """Answer OPTIONS in another way."""
    right = Handshake.answer

    def answer(self: Handshake, fields: Mapping[bytes, bytes]) -> Answer:
        return change(right(self, fields), fields)

    patch(Handshake, "answer", answer)


def _with_fields(answer: Answer, *fields: tuple[str, str]) -> Answer:
    return Answer(answer.status, fields=(*answer.fields, *fields))


def _without(answer: Answer, name: str) -> Answer:
    fields = tuple(field for field in answer.fields if field[0].lower() != name)
    return Answer(answer.status, answer.body.decode(), fields)


def _allowing(patch: Patch, more: Callable[[str, str], bool]) -> None:
    """Give consent to further origins: `more` is given an origin and one that is listed."""
    right = Handshake.allows

    def allows(self: Handshake, origin: str) -> bool:
        listed = self._config.allowed_origins
        is_alike = listed != "*" and any(more(origin, one) for one in listed)
        return is_alike or right(self, origin)

    patch(Handshake, "allows", allows)


@MUTANTS.patching(87, "WH-ORG-002 WH-VRS-001")
def origins_that_begin_alike_have_consent(patch: Patch) -> None:
    """An origin that begins with one that is listed has consent."""
    _allowing(patch, str.startswith)


@MUTANTS.patching(87, "WH-ORG-002 WH-VRS-001")
def sub_domains_have_consent(patch: Patch) -> None:
    """A sub-domain of an origin that is listed has consent."""
    _allowing(patch, lambda origin, one: origin.endswith(f".{one}"))


@MUTANTS.patching(87, "WH-VRS-001", only="webhook-target-")
def everybody_has_consent(patch: Patch) -> None:
    """Whoever asks is told consent, listed or not."""

    def change(answer: Answer, fields: Mapping[bytes, bytes]) -> Answer:
        origin = fields.get(b"webhook-request-origin", b"").decode("latin-1")
        is_told = any(name == "WebHook-Allowed-Origin" for name, _ in answer.fields)
        return (
            answer
            if is_told or not origin
            else _with_fields(
                answer, ("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "*")
            )
        )

    _handshake(patch, change)


@MUTANTS.patching(87, "WH-VRS-001", only="origin-denied")
def deliveries_need_no_consent(patch: Patch) -> None:
    """A delivery of an origin that has no consent is taken."""
    patch(Handshake, "allows", lambda _self, _origin: True)


@MUTANTS.patching(91, "WH-ORG-001 WH-VRS-001")
def cors_answers_the_handshake(patch: Patch) -> None:
    """OPTIONS is answered for browsers before the handshake sees it."""
    _handshake(
        patch,
        lambda _answer, _fields: Answer(
            204, fields=(answers.ALLOW, ("Access-Control-Allow-Origin", "*"))
        ),
    )


@MUTANTS.patching(91, "WH-VRS-001 WH-ORG-002")
def preflights_are_handshakes(patch: Patch) -> None:
    """A browser's preflight request is told consent."""

    def change(answer: Answer, fields: Mapping[bytes, bytes]) -> Answer:
        if b"webhook-request-origin" in fields:
            return answer
        return _with_fields(answer, ("WebHook-Allowed-Origin", "*"), ("WebHook-Allowed-Rate", "*"))

    _handshake(patch, change)


@MUTANTS.patching("consent", "WH-RAT-001 WH-RAT-002 WH-RAT-005")
def consent_without_a_rate(patch: Patch) -> None:
    """Consent is told without a rate."""
    _handshake(patch, lambda answer, _: _without(answer, "webhook-allowed-rate"))


@MUTANTS.patching("consent", "WH-RAT-005")
def any_rate_is_granted(patch: Patch) -> None:
    """The rate that is asked for is granted as it stands there."""
    right = Handshake._rate  # noqa: SLF001 - the mistake is in there

    def rate(self: Handshake, wanted: bytes) -> str:
        return wanted.decode("latin-1") or right(self, wanted)

    patch(Handshake, "_rate", rate)


@MUTANTS.patching("consent", "WH-VRS-005 KN-004")
def options_without_allow(patch: Patch) -> None:
    """The answer to OPTIONS has no Allow."""
    _handshake(patch, lambda answer, _: _without(answer, "allow"))


@MUTANTS.patching("consent", "WH-VRS-004")
def options_are_taken_that_are_not_supported(patch: Patch) -> None:
    """A target that takes part in no handshake answers OPTIONS with 200."""
    patch.everywhere(answers, "NO_OPTIONS", Answer(200, fields=(answers.ALLOW,)))


@MUTANTS.patching("consent", "WH-VRS-002")
def consent_by_callback_and_at_once(patch: Patch) -> None:
    """Where consent is given by callback, the answer tells it, too."""
    everybody_has_consent(patch)


@MUTANTS.patching(89, "WH-RSP-004 WH-RSP-005 WH-RSP-006")
def an_empty_200_for_success(patch: Patch) -> None:
    """A success is answered by 200 without a body."""
    right = Clock.accepted

    def accepted(self: Clock) -> bytes:
        return right(self).replace(b"202 Accepted", b"200 OK", 1)

    patch(Clock, "accepted", accepted)
    assert response_head(202, (), 0).startswith(b"HTTP/1.1 202 Accepted")


@MUTANTS.patching(90, "WH-RSP-011 WH-RSP-010")
def too_many_without_retry_after(patch: Patch) -> None:
    """A sender that is too fast is answered 429 without Retry-After."""
    patch(answers, "too_many", lambda _wait: Answer(429, "more requests than allowed"))


@MUTANTS.patching(90, "WH-RSP-011", only="busy")
def busy_without_retry_after(patch: Patch) -> None:
    """While a sink is busy, the answer is 429 without Retry-After."""
    right = answers.answer_settlement
    patch(answers, "answer_settlement", lambda found: _without(right(found), "retry-after"))


@MUTANTS.patching("answers", "WH-RSP-008")
def a_retired_target_is_not_found(patch: Patch) -> None:
    """A target that was retired answers 404."""
    patch(answers, "GONE", answers.NOT_FOUND)


@MUTANTS.patching("answers", "WH-RSP-013")
def unknown_formats_are_bad_requests(patch: Patch) -> None:
    """An event format that is not known is answered 400."""

    def answer(error: CloudEventError) -> Answer:
        return Answer(400, str(error))

    patch(answers, "answer_error", answer)


@MUTANTS.patching(88, "WH-RSP-002")
def targets_redirect(patch: Patch) -> None:
    """Another path is answered by a redirect to the right one."""
    patch(answers, "NOT_FOUND", Answer(308, fields=(("Location", "/"),)))


@MUTANTS.patching("tokens", "WH-AUT-002")
def tokens_in_the_query_are_not_read(patch: Patch) -> None:
    """A token in the query is not understood."""
    right = Credentials.accepts
    patch(Credentials, "accepts", lambda self, field, _query: right(self, field, b""))


@MUTANTS.patching("tokens", "WH-AUT-002 WH-AUT-004", only="no-token")
def tokens_that_begin_alike_are_right(patch: Patch) -> None:
    """A part of the token is enough."""
    right = Credentials.accepts

    def accepts(self: Credentials, field: bytes | None, query: bytes) -> bool:
        shown = (field or b"").partition(b" ")[2]
        return right(self, field, query) or bool(shown and (self._token or b"").startswith(shown))

    patch(Credentials, "accepts", accepts)


@MUTANTS.patching("tokens", "WH-AUT-002 WH-AUT-004", only="no-token")
def any_scheme_shows_a_token(patch: Patch) -> None:
    """The token is understood with every scheme."""
    right = Credentials.accepts

    def accepts(self: Credentials, field: bytes | None, query: bytes) -> bool:
        _, space, shown = (field or b"").partition(b" ")
        return right(self, b"Bearer " + shown if space else field, query)

    patch(Credentials, "accepts", accepts)


@MUTANTS.patching("tokens", "WH-AUT-009")
def answers_to_tokens_in_the_query_are_stored(patch: Patch) -> None:
    """The answer to a token in the query has no Cache-Control: private."""
    patch(answers, "ACCEPTED_PRIVATE", answers.ACCEPTED)
