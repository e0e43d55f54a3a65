"""The account of a run: what was sent, acknowledged, stored and stored again, and what that means.

It is kept while the run goes on, in a few bytes per event, and can be made again from the ledger's
file, line by line (`check`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

SENT: Final = 1
ACKED: Final = 2
REFUSED: Final = 4
"""The sender was told that it never will be."""
CONDEMNED: Final = 8
"""The sink refused it for good, so that a dead letter has a cause."""
DEAD: Final = 16
EXAMPLES: Final = 5


class _Key:
    """All events of one key, by number."""

    __slots__ = ("arrivals", "flags", "newest", "spoilt")

    def __init__(self) -> None:
        self.flags = bytearray()
        self.arrivals = bytearray()
        self.spoilt = bytearray()  # arrivals whose answer the sink spoilt, not yet repeated
        self.newest = -1  # of those that have arrived

    def reach(self, number: int) -> None:
        missing = number + 1 - len(self.flags)
        if missing > 0:
            more = bytes(max(missing, 256))
            self.flags += more
            self.arrivals += more
            self.spoilt += more


@dataclass
class Finding:
    """Something that must not be: how often, and the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} ({', '.join(self.examples)}{more})" if self.count else "0"


class Account:
    """What happened to each event."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self.sent = 0
        self.sent_again = 0
        self.acked = 0
        self.refused = 0
        self.delivered = 0
        self.dead_letters = 0
        self.provoked = 0
        """Arrivals repeated because the sink had stored the event and spoilt its answer."""
        self.own = [0]
        """Other repeated arrivals: before the first kill, then after each."""
        self.outstanding = 0
        """Acknowledged and neither at the sink nor condemned by it: they have yet to arrive."""
        self.reordered = Finding()
        self.corrupted = Finding()
        self.groundless = Finding()
        """Dead letters that the sink has not refused, and acknowledgements of what nobody sent."""

    def intent(self, key: str, number: int) -> None:
        """Note that a sender is about to send, maybe again."""
        state = self._of(key, number)
        if state.flags[number] & SENT:
            self.sent_again += 1
            return
        state.flags[number] |= SENT
        self.sent += 1

    def ack(self, key: str, number: int) -> None:
        """Note that the sender was told that the event is safe."""
        state = self._of(key, number)
        if not state.flags[number] & SENT:
            self.groundless.add(f"acknowledged without being sent: {key}-{number}")
        if not state.flags[number] & ACKED:
            state.flags[number] |= ACKED
            self.acked += 1
            if not state.arrivals[number] and not state.flags[number] & CONDEMNED:
                self.outstanding += 1

    def refuse(self, key: str, number: int) -> None:
        """Note that the sender was told that the event never will be taken."""
        self._of(key, number).flags[number] |= REFUSED
        self.refused += 1

    def condemn(self, key: str, number: int) -> None:
        """Note that the sink will refuse the event for good: it may become a dead letter."""
        state = self._of(key, number)
        if not state.flags[number] & CONDEMNED:
            state.flags[number] |= CONDEMNED
            if state.flags[number] & ACKED and not state.arrivals[number]:
                self.outstanding -= 1

    def store(self, key: str, number: int, answer: str) -> None:
        """Note an arrival at the sink.

        Args:
            key: of the event.
            number: of the event.
            answer: `ok`: the sink says that it has the event. `late`: it took the request after
                a long stop, when the event may have been sent again. Anything else: it will not
                say so, and the event has to be sent again.
        """
        state = self._of(key, number)
        if not state.flags[number] & SENT:
            self.corrupted.add(f"nobody sent {key}-{number}")
        if not state.arrivals[number]:
            self.delivered += 1
            if number < state.newest:
                self.reordered.add(f"{key}-{number} after {key}-{state.newest}")
            state.newest = max(state.newest, number)
            if state.flags[number] & ACKED and not state.flags[number] & CONDEMNED:
                self.outstanding -= 1
        elif answer == "late":
            self.provoked += 1
        elif state.spoilt[number]:
            state.spoilt[number] -= 1
            self.provoked += 1
        else:
            self.own[-1] += 1
        if state.arrivals[number] < 255:
            state.arrivals[number] += 1
        if answer != "ok" and state.spoilt[number] < 255:
            state.spoilt[number] += 1

    def corrupt(self, text: str) -> None:
        """Note that the sink got what is not as it was sent."""
        self.corrupted.add(text)

    def dead_letter(self, key: str, number: int) -> None:
        """Note that the gateway keeps the event as a dead letter."""
        state = self._of(key, number)
        if not state.flags[number] & CONDEMNED:
            self.groundless.add(f"dead letter without a cause: {key}-{number}")
        if not state.flags[number] & DEAD:
            state.flags[number] |= DEAD
            self.dead_letters += 1

    def kill(self) -> None:
        """Note that the gateway was killed: another window for duplicates begins."""
        self.own.append(0)

    def lost(self) -> Finding:
        """Return what was acknowledged and is nowhere."""
        finding = Finding()
        for key, number in self.missing():
            finding.add(f"{key}-{number}")
        return finding

    def missing(self) -> Iterator[tuple[str, int]]:
        """Yield key and number of what was acknowledged and has not been seen yet."""
        for key, state in self._keys.items():
            for number, flags in enumerate(state.flags):
                if flags & ACKED and not flags & DEAD and not state.arrivals[number]:
                    yield key, number

    def unacknowledged(self) -> int:
        """Return how many were delivered without their sender knowing: allowed, and counted."""
        return sum(
            1
            for state in self._keys.values()
            for flags, arrivals in zip(state.flags, state.arrivals, strict=True)
            if arrivals and flags & SENT and not flags & ACKED
        )

    def arrivals(self, key: str, number: int) -> int:
        """Return how often an event has arrived."""
        return self._of(key, number).arrivals[number]

    def _of(self, key: str, number: int) -> _Key:
        state = self._keys.get(key)
        if state is None:
            state = self._keys[key] = _Key()
        if number >= len(state.flags):
            state.reach(number)
        return state


def check(lines: Iterable[str]) -> Account:
    """Return the account of a ledger.

    Raises:
        ValueError: a line is none of a ledger's.
    """
    account = Account()
    for line in lines:
        code, _, rest = line.rstrip("\n").partition(" ")
        if code == "C":
            account.corrupt(rest)
        elif code == "K":
            account.kill()
        elif code in "IAXPSD" and code:
            key, number, *words = rest.split(" ")
            match code:
                case "I":
                    account.intent(key, int(number))
                case "A":
                    account.ack(key, int(number))
                case "X":
                    account.refuse(key, int(number))
                case "P":
                    account.condemn(key, int(number))
                case "S":
                    account.store(key, int(number), *words)
                case "D":
                    account.dead_letter(key, int(number))
        elif code not in ("#", "@"):
            raise ValueError(f"no line of a ledger: {line!r}")
    return account
