"""The webhook validation handshake: OPTIONS (http-webhook.md 4).

Consent is given in the answer or not at all: a `WebHook-Request-Callback` is never called, because
a request to an address of a stranger's choice is what this handshake is there to prevent.
"""

from collections.abc import Mapping

from gateway.sources.http.answers import ALLOW, Answer
from gateway.sources.http.config import HttpSourceConfig

ORIGIN = b"webhook-request-origin"
_RATE = b"webhook-request-rate"


def allows(config: HttpSourceConfig, origin: str) -> bool:
    """Whether a sender has consent; an origin is compared whole (4.2.1), in DNS's sense of case."""
    if config.allowed_origins == "*":
        return True
    return origin.lower() in {allowed.lower() for allowed in config.allowed_origins}


def answer_options(config: HttpSourceConfig, fields: Mapping[bytes, bytes]) -> Answer:
    """Return the answer to OPTIONS; without an origin it only asks for `Allow`."""
    origin = fields.get(ORIGIN, b"").decode("latin-1")
    if not origin or not allows(config, origin):
        return Answer(200, fields=(ALLOW,))
    rate = str(config.allowed_rate)
    wanted = fields.get(_RATE, b"")
    # 4.1.4: a positive integer; anything else is as if it were not there.
    if (
        config.allowed_rate != "*"
        and wanted.isdigit()
        and 0 < int(wanted[:9]) < config.allowed_rate
    ):
        rate = str(int(wanted[:9]))
    granted = "*" if config.allowed_origins == "*" else origin
    return Answer(
        200, fields=(ALLOW, ("WebHook-Allowed-Origin", granted), ("WebHook-Allowed-Rate", rate))
    )
