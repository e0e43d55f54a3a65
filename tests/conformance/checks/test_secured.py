import pytest

from conformance.checks import secured
from tests.conformance.checks.gateways import failures

CHECKS = list(secured.checks())


@pytest.mark.parametrize("protocol", ["http", "mqtt"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


@pytest.mark.parametrize("protocol", ["http", "mqtt"])
async def test_one_that_speaks_no_tls_fails(protocol):
    def without(table):
        return {name: value for name, value in table.items() if name != "tls"}

    found = await failures(CHECKS, protocol, {"settings": without})
    assert found.keys() == {f"{protocol}-live-tls", f"{protocol}-live-no-tls"}
    assert found[f"{protocol}-live-no-tls"] == "it answers without TLS"
