"""When a client has to say PINGREQ, and when it concludes that the broker is gone."""

from enum import Enum, auto
from typing import Final

_LONGEST_PAUSE: Final = 1.0
_PAUSES: Final = 4
"""In one keep-alive interval, at least."""


class Due(Enum):
    """What has to be done now."""

    NOTHING = auto()
    PING = auto()
    GIVE_UP = auto()


class KeepAlive:
    """One connection's keep-alive, for who looks at it again after about `pause`.

    Between two packets of ours passes no more than the interval (MQTT 5 3.1.2.10), so a ping
    leaves as soon as the interval could end before the next look but one: any look may come late
    by a whole pause. Brokers wait for one and a half intervals, but some count whole seconds. The
    broker has an interval to be heard then: any byte from it will do, as PINGRESP may stand behind
    a long backlog.

    Args:
        interval: seconds, as agreed with the broker; above 0.

    Attributes:
        pause: seconds until the next look.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._asked: float | None = None
        self.pause = min(_LONGEST_PAUSE, interval / _PAUSES)

    def look(self, now: float, sent: float, heard: float) -> Due:
        """Say what is due; after `PING` it assumes that one was written.

        Args:
            now: the time, of any clock, in seconds.
            sent: when the last packet left.
            heard: when the last byte came.
        """
        if self._asked is not None:
            if heard >= self._asked:
                self._asked = None
            elif now - self._asked >= self._interval:
                return Due.GIVE_UP
        quiet = sent if self._asked is not None else min(sent, heard)
        if now + 2 * self.pause < quiet + self._interval:
            return Due.NOTHING
        if self._asked is None:
            self._asked = now
        return Due.PING
