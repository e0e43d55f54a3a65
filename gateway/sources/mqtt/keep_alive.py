"""When a client has to say PINGREQ, and when it concludes that the broker is gone."""

from enum import Enum, auto
from typing import Final

_LONGEST_PAUSE: Final = 1.0
_PAUSES: Final = 4
"""In one keep-alive interval, at least: what is due is found early, and a late look is harmless."""


class Due(Enum):
    """What has to be done now."""

    NOTHING = auto()
    PING = auto()
    GIVE_UP = auto()


class KeepAlive:
    """One connection's keep-alive, for who looks at it again after `pause` at the latest.

    Between two packets of ours passes no more than the interval (MQTT 5 3.1.2.10), so a ping
    leaves before the interval ends if the next look would come after it: brokers wait for one and
    a half intervals, and some count whole seconds. The broker has as long again to be heard: any
    byte of its will do, as PINGRESP may stand behind a long backlog.

    Args:
        interval: seconds, as agreed with the broker; 0 means that nobody pings.

    Attributes:
        pause: seconds until the next look.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._asked: float | None = None
        self._looked: float | None = None
        self.pause = min(_LONGEST_PAUSE, interval / _PAUSES) or _LONGEST_PAUSE

    def look(self, now: float, sent: float, heard: float) -> Due:
        """Say what is due; for `PING` it takes it that one is written.

        Args:
            now: the time, of any clock, in seconds.
            sent: when the last packet left.
            heard: when the last byte came.
        """
        if not self._interval:
            return Due.NOTHING
        was_away = self._looked is not None and now - self._looked > self._interval
        self._looked = now
        if self._asked is not None:
            if heard >= self._asked:
                self._asked = None
            elif was_away:
                self._asked = now  # we were suspended: what it said meanwhile has yet to be read
            elif now - self._asked >= self._interval:
                return Due.GIVE_UP
        quiet = sent if self._asked is not None else min(sent, heard)
        if now + self.pause < quiet + self._interval:
            return Due.NOTHING
        if self._asked is None:
            self._asked = now
        return Due.PING
