"""Our source keeps its bounds; one that does not is found."""

from contextlib import asynccontextmanager

import pytest

from conformance.checks.coap_limits import checks
from gateway.sources.coap import resources
from gateway.sources.coap.assembly import Assemblies
from gateway.sources.coap.duplicates import Duplicates
from tests.conformance.checks.live import failures, failures_of_own_source, named

CHECKS = list(checks())


async def test_our_source_passes():
    assert await failures_of_own_source(CHECKS) == {}


def without_bound(self, max_bytes, begin=Assemblies.__init__):
    begin(self, 1000 * max_bytes)


def forgetful(self, now):
    """Forget everything rather than refuse a request."""
    for buckets in self._buckets.values():
        while buckets:
            self._drop_bucket(buckets)
    return True


NO_FORMATS = dict.fromkeys(("auto", "structured", "batch"), "0")


@pytest.mark.parametrize(
    ("place", "name", "wrong", "found"),
    [
        (Duplicates, "used_bytes", 0, {"coap-limits-duplicates-con", "coap-limits-duplicates-non"}),
        (Duplicates, "get", lambda *_: None, {"coap-limits-duplicates-kept"}),
        (Duplicates, "_make_room", forgetful, {"coap-limits-duplicates-non-kept"}),
        (Assemblies, "__init__", without_bound, {"coap-limits-assemblies"}),
        (resources, "_FORMATS", NO_FORMATS, {"coap-limits-discovery", "coap-limits-discovery-tcp"}),
        (resources, "_matches", lambda *_: True, {"coap-limits-discovery-chosen"}),
    ],
)
async def test_a_mistake_is_found(monkeypatch, place, name, wrong, found):
    monkeypatch.setattr(place, name, wrong)
    assert set(await failures_of_own_source(named(CHECKS, *found))) == found


async def test_a_gateway_that_takes_any_time_is_found():
    """A stranger's settings are not refused."""

    class Patient:
        @asynccontextmanager
        async def variant(self, **_):
            yield self

    chosen = named(CHECKS, "coap-limits-ack-after", "coap-limits-sink-timeout")
    wrong = await failures(chosen, Patient())
    assert set(wrong.values()) == {"these settings are taken"}
    assert len(wrong) == 2
