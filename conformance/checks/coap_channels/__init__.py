"""The CoAP binding on channels that are more than datagrams.

same_answers   the cases of `coap`, over DTLS, TCP and WebSockets
dtls           identities and handshakes
oscore         protected requests
connections    what only TCP and WebSockets have
"""

from collections.abc import Iterator

from conformance.check import Check
from conformance.checks.coap_channels import connections, dtls, oscore, same_answers


def checks() -> Iterator[Check]:
    """Return the checks of all channels."""
    for module in (same_answers, dtls, oscore, connections):
        yield from module.checks()
