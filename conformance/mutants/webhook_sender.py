"""Mistakes of a webhook's sender: consent, rates, tokens (http-webhook.md)."""

from collections.abc import Callable
from typing import Any

import msgspec

from bindings.event import Event
from bindings.http import HTTP
from conformance.mutants.mutant import Catalogue, Patch
from gateway.sinks.http import webhook as sender
from gateway.sinks.http.callback import CallbackListener
from gateway.sinks.http.connection import Answer as SinkAnswer
from gateway.sinks.http.pace import Pace
from gateway.sinks.http.target import Target
from gateway.sinks.http.webhook import Webhook

MUTANTS = Catalogue(needs="delivering")
_ORIGIN = b"webhook-allowed-origin"
_RATE = b"webhook-allowed-rate"


def _consent(patch: Patch, change: Callable[[Webhook, dict[bytes, str]], None]) -> None:
    """Read the fields of the answer to OPTIONS in another way."""
    right = Webhook._judge  # noqa: SLF001 - the mistake is in there

    def judge(self: Webhook, answer: SinkAnswer, status: int) -> None:
        fields = dict(answer.fields)
        change(self, fields)
        right(self, msgspec.structs.replace(answer, fields=fields), status)

    patch(Webhook, "_judge", judge)


@MUTANTS.patching(87, "WH-VRS-003")
def a_status_is_consent(patch: Patch) -> None:
    """A 2xx to OPTIONS is consent, with or without a header."""
    _consent(patch, lambda _, fields: fields.update({_ORIGIN: "*", _RATE: "*"}))


@MUTANTS.patching(87, "WH-ORG-002")
def a_longer_origin_is_consent(patch: Patch) -> None:
    """An allowed origin that begins with ours is consent."""

    def change(self: Webhook, fields: dict[bytes, str]) -> None:
        if fields.get(_ORIGIN, "").startswith(self._config.origin):
            fields[_ORIGIN] = "*"

    _consent(patch, change)


@MUTANTS.patching(87, "WH-ORG-002")
def a_part_of_the_origin_is_consent(patch: Patch) -> None:
    """An allowed origin that is a part of ours is consent."""

    def change(self: Webhook, fields: dict[bytes, str]) -> None:
        if fields.get(_ORIGIN, "-") in self._config.origin:
            fields[_ORIGIN] = "*"

    _consent(patch, change)


@MUTANTS.patching(87, "WH-ORG-002")
def only_an_asterisk_is_consent(patch: Patch) -> None:
    """Our own origin in the answer is no consent."""

    def change(_: Webhook, fields: dict[bytes, str]) -> None:
        if fields.get(_ORIGIN) != "*":
            fields.pop(_ORIGIN, None)

    _consent(patch, change)


@MUTANTS.patching(87, "WH-RAT-005")
def any_rate_is_one(patch: Patch) -> None:
    """A rate of zero, or one that can't be read, is no limit."""
    right = sender.parse_rate

    def parse(text: str) -> int | None:
        try:
            return right(text)
        except ValueError:
            return None

    patch.everywhere(sender, "parse_rate", parse)


@MUTANTS.patching(87, "WH-RAT-006")
def rates_are_not_kept(patch: Patch) -> None:
    """A rate that was granted limits nothing."""
    patch(Pace, "limit", lambda _self, _per_minute: None)


@MUTANTS.patching("consent", "WH-VAL-001")
def deliveries_before_consent(patch: Patch) -> None:
    """Nobody is asked before the first delivery."""
    patch(Webhook, "take", lambda _self, _timeout: None)
    patch(Webhook, "room", lambda _self, wanted: wanted)


@MUTANTS.patching("consent", "WH-VAL-001")
def another_address_is_asked(patch: Patch) -> None:
    """Consent is asked for at the root of the server, not at the address of deliveries."""
    right = Target.options

    def options(self: Target, fields: Any) -> bytes:
        line, rest = right(self, fields).split(b"\r\n", 1)
        return b"OPTIONS / " + line.rsplit(b" ", 1)[1] + b"\r\n" + rest

    patch(Target, "options", options)


@MUTANTS.patching("consent", "WH-VAL-003 WH-DLV-004")
def deliveries_without_an_origin(patch: Patch) -> None:
    """The origin is told to OPTIONS only."""
    right = Target.request

    def request(self: Target, message: Any) -> bytes:
        head, rest = right(self, message).split(b"\r\n\r\n", 1)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"WebHook-Request-O")]
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest

    patch(Target, "request", request)


@MUTANTS.patching("consent", "WH-VAL-007")
def any_callback_grants(patch: Patch) -> None:
    """A callback grants without the secret of its address."""
    right = CallbackListener.answer

    def answer(self: CallbackListener, method: bytes, _: bytes, rate: str | None) -> Any:
        self.url()
        return right(self, method, b"/?key=" + self._key.encode(), rate)

    patch(CallbackListener, "answer", answer)


@MUTANTS.patching("consent", "WH-VAL-005")
def callbacks_by_post_only(patch: Patch) -> None:
    """A callback by GET is refused."""
    right = CallbackListener.answer

    def answer(self: CallbackListener, method: bytes, target: bytes, rate: str | None) -> Any:
        return right(self, b"HEAD" if method == b"GET" else method, target, rate)

    patch(CallbackListener, "answer", answer)


@MUTANTS.patching("consent", "WH-RSP-009")
def retired_receivers_are_sent_to(patch: Patch) -> None:
    """After 410 Gone the next event is sent."""
    _observing(patch, 410)


@MUTANTS.patching(90, "WH-RSP-012")
def busy_receivers_are_sent_to(patch: Patch) -> None:
    """After 429 with Retry-After other events are sent at once."""
    _observing(patch, 429)


def _observing(patch: Patch, ignored: int) -> None:
    right = Webhook.observe

    def observe(self: Webhook, answer: SinkAnswer) -> None:
        if answer.status != ignored:
            right(self, answer)

    patch(Webhook, "observe", observe)


@MUTANTS.patching(47, "WH-DLV-003")
def webhooks_without_payload(patch: Patch) -> None:
    """An event without data is sent to a webhook in binary mode."""

    def deliver(self: Target, event: Event) -> bytes:
        return self.request(HTTP.encode(self.prepare(event), self._config.mode))

    patch(Target, "deliver", deliver)


@MUTANTS.patching("tokens", "WH-AUT-005")
def tokens_of_another_scheme(patch: Patch) -> None:
    """The token is shown with the scheme Token."""
    right = Target.request

    def request(self: Target, message: Any) -> bytes:
        return right(self, message).replace(b"Authorization: Bearer ", b"Authorization: Token ")

    patch(Target, "request", request)


@MUTANTS.patching("tokens", "WH-AUT-008")
def tokens_in_the_query_that_are_stored(patch: Patch) -> None:
    """A token in the query goes without Cache-Control: no-store."""
    right = Target.request

    def request(self: Target, message: Any) -> bytes:
        return right(self, message).replace(b"Cache-Control: no-store\r\n", b"")

    patch(Target, "request", request)
