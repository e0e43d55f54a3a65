"""The CoAP binding on channels that are more than datagrams.

same_answers   the cases of `coap`, over DTLS, TCP and WebSockets
dtls           identities and handshakes
"""

from collections.abc import Iterator

from conformance.check import Check
from conformance.checks.coap_channels import dtls, same_answers


def checks() -> Iterator[Check]:
    """Return the checks of all channels."""
    for module in (same_answers, dtls):
        yield from module.checks()
