"""How much of it to run."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.contender import Contender, Course
from tests.benchmarks.contenders import contenders, named


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        only: names of courses; empty: those of the section.
        names: of contenders; empty: all that are there.
        pairs: runs of each.
        events: in a run.
        seconds: longest time of a run, and the time of one at a fixed rate.
        minutes: of the memory section.
        devices: of the idle section.
        cluster: what Kafka is: `mock`, `noida` or `apache`.
        quick: everything small, to see whether it works.
    """

    only: Sequence[str] = ()
    names: Sequence[str] = ()
    pairs: int = 3
    events: int = 60_000
    seconds: float = 3.0
    minutes: float = 1.0
    devices: int = 10_000
    cluster: str = "mock"
    quick: bool = False

    def sink(self, course: Course) -> dict[str, str]:
        """Return options of the sink."""
        return {"cluster": self.cluster} if course.sink == "kafka" else {}

    def contenders(self) -> Sequence[Contender]:
        """Return those that were asked for and are not missing."""
        found = named(self.names) if self.names else contenders()
        there = [contender for contender in found if contender.missing() is None]
        if self.quick and not self.names:
            return [*there[:1], *[other for other in there if other.form == "payload"][:1]]
        return there

    def gateways(self) -> Sequence[Contender]:
        """Return the variants of ours."""
        return [contender for contender in self.contenders() if contender.form == "event"]

    def best(self) -> Sequence[Contender]:
        """Return those that were asked for; else our fastest variant, and the fastest other one."""
        found = self.contenders()
        if self.names:
            return found
        ours = self.gateways()[-1:]
        return [*ours, *[other for other in found if other.form == "payload"][:1]]

    def missing(self) -> Sequence[str]:
        """Return who is not there, and why."""
        found = named(self.names) if self.names else contenders()
        return [f"{c.name}: {c.missing()}" for c in found if c.missing() is not None]

    def courses(self, known: Sequence[Course]) -> Sequence[Course]:
        """Return those that were asked for."""
        return [course for course in known if not self.only or course.name in self.only]
