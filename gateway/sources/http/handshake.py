"""The webhook validation handshake: OPTIONS (http-webhook.md 4).

Consent is given in the answer, or by a call to `WebHook-Request-Callback` where the operator allows
it, and in no other way: neither by a status nor to a preflight request of a browser.
"""

import logging
from collections.abc import Mapping
from typing import Final

from gateway.sources.http.answers import ALLOW, NO_OPTIONS, Answer
from gateway.sources.http.callback import Callbacks
from gateway.sources.http.config import HttpSourceConfig
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

ORIGIN: Final = b"webhook-request-origin"
RATE: Final = b"webhook-request-rate"
CALLBACK: Final = b"webhook-request-callback"


class Handshake:
    """Answers the validation requests of one source, and knows who has consent."""

    def __init__(self, config: HttpSourceConfig) -> None:
        self._config = config
        origins = config.allowed_origins
        self._allowed = None if origins == "*" else frozenset(map(str.lower, origins))
        self._callbacks = Callbacks(config.name, config.callbacks)
        self._lines = Throttle()

    async def close(self) -> None:
        """Give up calls under way."""
        await self._callbacks.close()

    def allows(self, origin: str) -> bool:
        """Whether a sender has consent; it is compared whole (4.2.1), in DNS's sense of case."""
        return self._allowed is None or origin.lower() in self._allowed

    def answer(self, fields: Mapping[bytes, bytes]) -> Answer:
        """Return the answer to OPTIONS; without an origin it only asks for `Allow`."""
        config = self._config
        if config.allowed_origins == []:
            return NO_OPTIONS
        origin = fields.get(ORIGIN, b"").decode("latin-1")
        if not origin:
            return Answer(200, fields=(ALLOW,))
        if not self.allows(origin):
            self._note_refusal(origin)
            return Answer(200, fields=(ALLOW,))
        rate = self._rate(fields.get(RATE, b""))
        granted = "*" if config.allowed_origins == "*" else origin
        callback = fields.get(CALLBACK, b"").decode("latin-1")
        if callback and self._callbacks.call(callback, origin, rate):
            return Answer(200, fields=(ALLOW,))  # 4.2: the headers are withheld
        return Answer(
            200, fields=(ALLOW, ("WebHook-Allowed-Origin", granted), ("WebHook-Allowed-Rate", rate))
        )

    def _rate(self, wanted: bytes) -> str:
        """Return what is granted of the rate that is asked for."""
        allowed = self._config.allowed_rate
        # 4.1.4: a positive integer; anything else is as if it were not there.
        if allowed != "*" and wanted.isdigit() and 0 < int(wanted[:9]) < allowed:
            return str(int(wanted[:9]))
        return str(allowed)

    def _note_refusal(self, origin: str) -> None:
        more = self._lines.pass_on("refused")
        if more is not None:
            _log.warning(
                "webhook sender %.100r asks for consent that allowed_origins does not give%s",
                origin,
                more,
                extra={"source": self._config.name},
            )
