"""A webhook's sender: asks the receiver for consent, and keeps to it (http-webhook.md 4).

| the receiver                                     | events                                      |
|--------------------------------------------------|---------------------------------------------|
| consents in its answer to OPTIONS, or by callback| are sent, no faster than it allows          |
| answers otherwise                                | HELD; it is asked again in `ask_again`      |
| does not answer, or 408, 429, 5xx                | RELEASED; it is asked again with the next   |
| 410 Gone                                         | REJECTED; it is asked again in `valid_for`  |
| 429 + Retry-After                                | RELEASED, those after it HELD until then    |
| allows so few that an attempt's time is over     | HELD, until the rate has room again         |

HELD is RELEASED with that reason and `retry_after`: the event was not sent, and has used up none of
its retries.

Consent is a 2xx answer with `WebHook-Allowed-Origin`, equal to our origin or `*`, and with
`WebHook-Allowed-Rate`; the latter may be missing if no rate was asked for.
"""

import asyncio
import logging
import time
from typing import Final, Protocol

import msgspec

from bindings.wire.http1 import parse_retry_after
from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks.http.callback import CallbackListener
from gateway.sinks.http.connection import Answer, Request
from gateway.sinks.http.pace import Pace
from gateway.sinks.http.target import Target
from gateway.sinks.http.verdict import failure
from gateway.sinks.http.webhook_config import WebhookConfig

_log = logging.getLogger(__name__)

_ORIGIN: Final = b"webhook-allowed-origin"
_RATE: Final = b"webhook-allowed-rate"
_NEVER: Final = float("-inf")


class Owner(Protocol):
    """The sink, as its webhook sees it."""

    def wake(self) -> None:
        """Send what may be sent, fail what may not."""

    def fail(self, answer: Answer) -> None:
        """Fail all that waits: the receiver does not answer."""

    def resume(self) -> None:
        """Ask for what was released for want of consent."""


def parse_rate(text: str) -> int | None:
    """Return the requests per minute of `WebHook-Allowed-Rate`; None is no limit.

    Raises:
        ValueError: it is neither `*` nor a positive integer (4.2.2).
    """
    if text == "*":
        return None
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 18) or int(text) == 0:
        raise ValueError(f"{text[:50]!r} is no rate")
    return int(text)


class Webhook:
    """What the receiver allows, as far as it is known.

    Args:
        name: the sink's.
        config: its `webhook:` table.
        target: where requests go.
        owner: the sink.

    Attributes:
        asking: a validation request is under way.
        consent: how many times there was consent.
    """

    def __init__(self, name: str, config: WebhookConfig, target: Target, owner: Owner) -> None:
        self._name = name
        self._config = config
        self._target = target
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        self._timer: asyncio.TimerHandle | None = None
        self.asking = False
        self.consent = 0
        self._granted_at = self._granted_until = _NEVER
        self._refusal: Failure | None = None
        self._refused_until = _NEVER
        self._said = ""
        callback = config.callback
        self._callback = None if callback is None else CallbackListener(name, callback, self)

    async def open(self) -> None:
        """Listen for consent by callback.

        Raises:
            GatewayError: the address is taken or the certificate is wrong.
        """
        if self._callback is not None:
            await self._callback.open()

    async def close(self) -> None:
        """Give up the timer and the listener."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._callback is not None:
            await self._callback.close()

    # What the sink asks before it sends.

    def refusal(self) -> Failure | None:
        """Return what becomes of every event now, unsent; None if some may go, now or soon."""
        refusal, now = self._refusal, self._loop.time()
        if refusal is None or now >= self._refused_until:
            return None
        if refusal.outcome is Outcome.REJECTED:
            return refusal
        return msgspec.structs.replace(
            refusal, reason=Reason.HELD, retry_after=self._refused_until - now
        )

    def room(self, wanted: int) -> int:
        """Return how many of `wanted` requests may go now."""
        now = self._loop.time()
        if now >= self._granted_until:
            return 0 if self.asking else 1
        return self._pace.room(wanted, now)

    def wake_by(self, latest: float) -> None:
        """Wake the owner when the next request may go, or at `latest` of the loop's time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._pace.due, latest), self._go_on)

    def too_early(self) -> Failure:
        """Return what becomes of an event whose turn does not come in time."""
        wait = max(0.0, self._pace.due - self._loop.time())
        detail = "the webhook's rate is used up"
        return Failure(0, Outcome.RELEASED, Reason.HELD, retry_after=wait, detail=detail)

    def take(self, timeout: float) -> Request | None:
        """Return the request that has to go first, or None and count a delivery.

        Args:
            timeout: seconds from sending to the end of the answer.
        """
        now = self._loop.time()
        if now < self._granted_until:
            self._pace.take(now)
            return None
        self.asking = True
        config = self._config
        fields = []
        if self._callback is not None:
            fields.append(("WebHook-Request-Callback", self._callback.url()))
        if config.rate is not None:
            fields.append(("WebHook-Request-Rate", str(config.rate)))
        return Request(self._target.options(fields), timeout, self._validated)

    def _go_on(self) -> None:
        self._timer = None
        self._owner.wake()

    # What the receiver says.

    def _validated(self, answer: Answer) -> None:
        """Judge the answer to OPTIONS."""
        self.asking = False
        if self._loop.time() < self._granted_until:  # the callback was faster than the answer
            self._owner.wake()
            return
        status = answer.status
        if status is None or status >= 500 or status in (408, 429):
            self.observe(answer)
            self._owner.fail(answer)
            return
        if status == 410:
            self.observe(answer)
        else:
            self._judge(answer, status)
        self._owner.wake()

    def _judge(self, answer: Answer, status: int) -> None:
        origin, rate = answer.fields.get(_ORIGIN), answer.fields.get(_RATE)
        if not 200 <= status < 300:
            why = f"OPTIONS was answered {status}"
        elif origin is None:
            why = "the answer to OPTIONS has no WebHook-Allowed-Origin"
        elif origin != "*" and origin.lower() != self._config.origin.lower():
            why = f"WebHook-Allowed-Origin is {origin[:100]!r}, not {self._config.origin!r}"
        elif rate is None and self._config.rate is not None:
            why = "the answer to OPTIONS has no WebHook-Allowed-Rate"
        else:
            try:
                self._grant(None if rate is None else parse_rate(rate))
            except ValueError:
                why = f"WebHook-Allowed-Rate is {rate!r:.100}, neither * nor a positive integer"
            else:
                return
        if self._callback is not None and origin is None:
            why += "; it may still come by callback"
        self._refuse(
            Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status, detail=f"no consent: {why}"),
            self._config.ask_again,
        )
        self._say(f"has no consent: {why}")

    def granted_by_callback(self, rate: str | None) -> bool:
        """Take consent that was given by callback (4.1.3); returns whether `rate` is one.

        Args:
            rate: `WebHook-Allowed-Rate`; without it the rate that was asked for is meant.
        """
        try:
            self._grant(self._config.rate if rate is None else parse_rate(rate))
        except ValueError:
            return False
        self._owner.wake()
        return True

    def _grant(self, rate: int | None) -> None:
        now = self._loop.time()
        # One of several workers has its part of it.
        self._pace.limit(None if rate is None else max(rate // self._config.workers, 1))
        self._granted_at = now
        self.consent += 1
        self._granted_until = now + self._config.valid_for
        self._say(f"has consent to {'any number of' if rate is None else rate} requests a minute")
        # Consent says nothing of Retry-After.
        if self._refusal is not None and self._refusal.reason is not Reason.SINK_BUSY:
            self._refusal, self._refused_until = None, _NEVER
            self._owner.resume()

    def observe(self, answer: Answer) -> None:
        """Note what the answer to a delivery says about those to come."""
        first = failure(0, answer, token_may_change=False, now=time.time())
        if first is None:
            return
        if answer.status == 410:
            self._granted_until = _NEVER
            self._refuse(first, self._config.valid_for)
            self._say("is retired (410 Gone): nothing more is sent")
        elif answer.status == 429:
            wait = parse_retry_after(answer.retry_after, time.time()) or 0.0
            wait = min(wait, self._config.valid_for)
            if wait and self._loop.time() + wait > self._refused_until:
                self._refuse(first, wait)

    def doubt(self, consent: int) -> bool:
        """Note that a delivery was refused with 403; returns whether to ask and send it again.

        Args:
            consent: the number of the consent that the delivery relied on.
        """
        now = self._loop.time()
        if consent != self.consent:
            return True
        if now - self._granted_at < self._config.ask_again:
            return False
        self._granted_until = _NEVER
        return True

    def _refuse(self, refusal: Failure, seconds: float) -> None:
        self._refusal = refusal
        self._refused_until = self._loop.time() + seconds

    def _say(self, what: str) -> None:
        """Log a change of state."""
        if what != self._said:
            self._said = what
            level = logging.INFO if what.startswith("has consent") else logging.WARNING
            _log.log(level, "sink %s %s", self._name, what, extra={"sink": self._name})
