"""How events are delivered over HTTP: Knative's data plane, and what the bindings leave to it.

statuses   what each answer means: delivered, to be repeated, or neither
waiting    when a delivery is repeated: back-off, Retry-After, how often
requests   what a delivery looks like on the wire, and what its connection does
receiving  what a recipient answers
"""

from collections.abc import Iterator

from conformance.check import Check
from conformance.checks.delivery import receiving, requests, statuses, waiting


def checks() -> Iterator[Check]:
    """Return the checks of delivery."""
    for module in (statuses, waiting, requests, receiving):
        yield from module.checks()
