"""Our source tells endpoints apart; one that does not is found."""

import secrets

import pytest

from bindings.coap import Peer, filling
from conformance.checks.coap_endpoints import checks
from gateway.sources.coap import source
from gateway.sources.coap.assembly import Assemblies
from gateway.sources.coap.duplicates import key_of
from tests.conformance.checks.live import failures_of_own_source, named

CHECKS = list(checks())


async def test_our_source_passes():
    assert await failures_of_own_source(CHECKS) == {}


def of_anybody(self, _, *args, add=Assemblies.add):
    return add(self, ("", 0), *args)


@pytest.mark.parametrize(
    ("place", "name", "wrong", "found"),
    [
        (source, "key_of", lambda _, datagram: key_of(Peer(b"", ""), datagram), "same-bytes"),
        (filling, "generate_id", lambda *_: "always-the-same", "same-bytes"),
        (filling, "generate_id", lambda *_: secrets.token_hex(), "two-gateways"),
        (Assemblies, "add", of_anybody, "blocks"),
    ],
)
async def test_a_mistake_is_found(monkeypatch, place, name, wrong, found):
    monkeypatch.setattr(place, name, wrong)
    chosen = named(CHECKS, f"coap-endpoints-{found}")
    assert len(await failures_of_own_source(chosen)) == 1
