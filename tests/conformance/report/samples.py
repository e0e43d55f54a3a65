"""A run with one of each: passed, failed twice, skipped."""

from conformance.check import Check, Result
from conformance.report.record import Report

NASTY = 'a|b `c` <i>&"\x1b[2J\ud800\x00 d'


def check(name, binding="http", level="MUST", requirements=("HTTP-DEC-001",)):
    return Check(
        id=name,
        title=f"{name} should work",
        binding=binding,
        family="vectors",
        requirements=requirements,
        level=level,
        role="consumer",
        verdict="taken",
        run=lambda _: None,
    )


def result(name, status, text="", **more):
    told = {key: more.pop(key) for key in ("expected", "got", "reproduce") if key in more}
    return Result(check=check(name, **more), status=status, seconds=0.25, text=text, **told)


RESULTS = (
    result("good", "passed"),
    result("grave", "failed", "it broke", expected="an event", got=NASTY, reproduce='{"do": 1}'),
    result("mild", "failed", "so so", binding="kafka", level="SHOULD", got="x"),
    result("away", "skipped", "has no batches", binding="kafka", requirements=("KAFKA-BIN-001",)),
)
REPORT = Report(
    subject="a <subject>", profile="main", results=RESULTS, seconds=1.5, at="2026-01-01T00:00:00Z"
)
EMPTY = Report(subject="nothing", profile="1.0.2", results=(), seconds=0.0)
