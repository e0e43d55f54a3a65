"""Web hooks for event delivery (http-webhook.md), of both sides.

handshake   a delivery target's answers to OPTIONS
answers     a delivery target's answers to deliveries
consent     what a sender takes for consent
requests    what a sender sends, and what it makes of the answers
"""

from collections.abc import Iterator

from conformance.check import Check
from conformance.checks.webhook import answers, consent, handshake, requests


def checks() -> Iterator[Check]:
    """Return the checks of webhooks."""
    for module in (handshake, answers, consent, requests):
        yield from module.checks()
