"""What the tests of checks over the wire share: our source is judged, and who fails."""

from conformance.own.source import own_source
from conformance.suite import run_one


async def failures(checks, subject):
    """Return the id and the text of each check that does not pass."""
    results = [await run_one(check, subject) for check in checks]
    return {result.check.id: result.text for result in results if result.status != "passed"}


async def failures_of_own_source(checks, protocol="coap"):
    """Judge our source, opened as the suite does."""
    async with own_source(protocol) as target:
        return await failures(checks, target)


def named(checks, *names):
    """Return the checks of these ids."""
    found = [check for check in checks if check.id in names]
    assert len(found) == len(names)
    return found
