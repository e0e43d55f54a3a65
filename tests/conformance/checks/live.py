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


class Late:
    """A target whose events come out no earlier than somebody waits for them.

    Those that a check leaves under way are the next one's, as with a gateway that takes its time.
    """

    def __init__(self, target):
        self._target = target
        self._forgotten = self._seen = 0

    def __getattr__(self, name):
        return getattr(self._target, name)

    def forget(self):
        self._forgotten = self._seen
        self._target._intake.asked = 0

    async def events(self, count, seconds=5.0):
        events = await self._target.events(self._forgotten + count, seconds)
        self._seen = len(events)
        return events[self._forgotten :]


def named(checks, *names):
    """Return the checks of these ids."""
    found = [check for check in checks if check.id in names]
    assert len(found) == len(names)
    return found
