import pytest

from conformance.checks import drain
from tests.conformance.checks.gateways import failures

CHECKS = list(drain.checks())


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_one_that_goes_on_fails(protocol):
    found = await failures(CHECKS, protocol, {"drains": False})
    assert found.keys() == {check.id for check in CHECKS if check.protocol == protocol}
    assert set(found.values()) == {"a message was taken while shutting down"}


async def test_one_that_gives_up_what_is_under_way_fails():
    def refuse(answer):
        return "reject" if answer == "slow" else answer

    assert (await failures(CHECKS, "http", {"sink": refuse})).keys() == {"http-live-drain"}
