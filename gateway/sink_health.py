"""What the log says of a sink: one line when it stops taking events, and one when it goes on."""

import logging
from collections.abc import Sequence

from gateway.delivery import Failure, Outcome
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)


class SinkHealth:
    """Tells when a sink stops taking events, and when it takes them again.

    Args:
        name: the sink's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._healthy = True
        self._lines = Throttle()

    def note(self, count: int, failures: Sequence[Failure]) -> None:
        """Note what became of a list of `count` events.

        A sink that goes up and down all the time is logged now and then.
        """
        if not failures and self._healthy:
            return
        down = [failure for failure in failures if failure.outcome is Outcome.RELEASED]
        if self._healthy and len(down) == count:
            more = self._lines.pass_on("down")
            if more is None:
                return
            self._healthy = False
            _log.warning(
                "sink %s takes no events: %s%s",
                self._name,
                down[0].cause,
                more,
                extra={"sink": self._name, "reason": down[0].reason.value},
            )
        elif not self._healthy and len(failures) < count:
            self._healthy = True
            _log.info("sink %s takes events again", self._name, extra={"sink": self._name})
