import pytest

from conformance.checks import limits
from tests.conformance.checks.gateways import failures

CHECKS = [check for check in limits.checks() if check.protocol]


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_one_without_a_limit_fails(protocol):
    found = await failures(CHECKS, protocol, {"settings": without_limits})
    names = {check.id for check in CHECKS if check.protocol == protocol}
    expected = {name for name in names if name.endswith("above-limit")}
    assert found.keys() == expected


def without_limits(table):
    return {**table, "limits": {"max_event_bytes": 1_000_000}}


async def test_one_that_cuts_data_off_fails():
    from conformance.forms import WireEvent

    def cut(events):
        return [WireEvent(e.attributes, e.data and e.data[:65_000]) for e in events]

    found = await failures(CHECKS, "http", {"events": cut})
    assert found == {"http-live-64-kib": "other data", "http-live-64-kib-base64": "other data"}
