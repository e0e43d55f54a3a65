"""What came of a row, and whether that is a pass."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.faults.checker import Account

HEADER: Final = (
    "row", "fault", "bound", "events", "kills", "LOST", "CORRUPTED", "REORDERED",
    "own duplicates (max per kill / window)", "sink-provoked", "ready again p50 / max, s",
    "RSS, MiB", "verdict", "s",
)  # fmt: skip


@dataclass
class Figures:
    """The figures of a row, or of a part of it.

    Attributes:
        events: sent, each counted once.
        kills: of the gateway.
        lost: acknowledged, and neither at the sink nor a dead letter.
        corrupted: arrivals that are not what was sent.
        reordered: first arrivals after a later event of their key.
        own_duplicates: arrivals repeated without the sink's fault.
        own_duplicates_max: most of them between two kills.
        window: how many there may be per kill.
        provoked: arrivals repeated because the sink had stored and not said so.
        unacknowledged: delivered though the sender doesn't know; allowed.
        dead_letters: kept by the gateway.
        ready: seconds of each start until it was ready.
        rss_mib: most resident memory of the gateway.
        notes: further figures, for the report.
        problems: why it is no pass; empty is a pass.
        skipped: why it can't be done on this machine.
        seconds: how long it took.
    """

    events: int = 0
    kills: int = 0
    lost: int = 0
    corrupted: int = 0
    reordered: int = 0
    own_duplicates: int = 0
    own_duplicates_max: int = 0
    window: int = 0
    provoked: int = 0
    unacknowledged: int = 0
    dead_letters: int = 0
    ready: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        if self.problems:
            return "FAIL"
        return "SKIP" if self.skipped else "PASS"

    def require(self, condition: object, problem: str) -> None:
        """Fail the row with this text unless the condition holds."""
        if not condition:
            self.problems.append(problem)

    def take(self, account: Account) -> None:
        """Add what an account says; what must never be is a problem."""
        lost = account.lost()
        self.events += account.sent
        self.lost += lost.count
        self.corrupted += account.corrupted.count
        self.reordered += account.reordered.count
        self.own_duplicates += sum(account.own)
        self.own_duplicates_max = max(self.own_duplicates_max, *account.own)
        self.provoked += account.provoked
        self.unacknowledged += account.unacknowledged()
        self.dead_letters += account.dead_letters
        self.require(account.sent, "nothing was sent")
        self.require(account.acked, "nothing was acknowledged")
        for name, finding in (
            ("LOST", lost),
            ("CORRUPTED", account.corrupted),
            ("REORDERED", account.reordered),
            ("GROUNDLESS", account.groundless),
        ):
            self.require(not finding.count, f"{name} {finding}")

    def cells(self, number: int, name: str, bound: str) -> Sequence[str]:
        """Return the cells under `HEADER`."""
        window = f" / {self.window}" if self.window else ""
        ready = (
            f"{statistics.median(self.ready):.2f} / {max(self.ready):.2f}" if self.ready else "-"
        )
        return [
            str(number), name, bound, str(self.events), str(self.kills), str(self.lost),
            str(self.corrupted), str(self.reordered),
            f"{self.own_duplicates} ({self.own_duplicates_max}{window})", str(self.provoked), ready,
            f"{self.rss_mib:.0f}" if self.rss_mib else "-", self.verdict, f"{self.seconds:.0f}",
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}
