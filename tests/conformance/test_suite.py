"""All checks, and how they are run: whatever a check raises becomes a result."""

import asyncio
import re
import time
from collections import Counter

import pytest

from conformance import suite
from conformance.check import PROFILES, Check, CheckFailed, Unsupported
from conformance.requirements import registry, untestable

EVERY = list(suite.all_checks())


def check(run, profiles=frozenset(PROFILES)):
    return Check(
        id="a", title="t", binding="http", family="f", requirements=("HTTP-DEC-007",),
        level="MUST", role="consumer", profiles=profiles, run=run,
    )  # fmt: skip


def raising(error):
    def run(_):
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "text"),
    [
        (lambda _: None, "passed", ""),
        (raising(CheckFailed("wrong", got="x")), "failed", "wrong"),
        (raising(Unsupported("not here")), "skipped", "not here"),
        (raising(KeyError("x")), "failed", "KeyError: 'x'"),
    ],
)
async def test_what_a_check_raises_becomes_its_result(run, status, text):
    result = await suite.run_one(check(run), None)
    assert (result.status, result.text) == (status, text)
    assert result.seconds >= 0


async def test_an_error_of_what_is_judged_is_told_with_its_place():
    result = await suite.run_one(check(raising(KeyError("x"))), None)
    assert re.fullmatch(r"conformance/test_suite\.py, line \d+: raise error", result.got)


async def test_a_check_may_wait_and_may_not_wait_for_ever(monkeypatch):
    async def waits(subject):
        await asyncio.sleep(0)
        raise CheckFailed(subject)

    async def hangs(_):
        await asyncio.Event().wait()

    assert (await suite.run_one(check(waits), "later")).text == "later"
    monkeypatch.setattr(suite, "_SECONDS", 0.01)
    result = await suite.run_one(check(hangs), None)
    assert result.status == "failed"
    assert "no result within" in result.text


async def test_results_come_in_the_order_of_the_checks_and_the_subject_is_handed_on():
    seen = []
    results = [result async for result in suite.run([check(seen.append)] * 2, "subject")]
    assert [result.status for result in results] == ["passed"] * 2
    assert seen == ["subject"] * 2


async def test_what_a_failed_check_has_left_under_way_is_waited_for():
    class Busy:
        said = ()

        async def calm(self):
            self.said += ("calm",)

    def fails(subject):
        subject.said += ("failed",)
        raise CheckFailed("wrong")

    def passes(subject):
        subject.said += ("passed",)

    subject = Busy()
    async for _ in suite.run([check(fails), check(passes), check(passes)], subject):
        pass
    assert subject.said == ("failed", "calm", "passed", "passed")


def test_a_profile_has_its_checks_only():
    lenient = check(None, frozenset({"lenient"}))
    assert suite.of_profile([lenient], "main") == []
    assert suite.of_profile([lenient], "lenient") == [lenient]


def test_ids_are_unique_in_each_profile():
    counted = Counter((check.id, profile) for check in EVERY for profile in check.profiles)
    assert [key for key, count in counted.items() if count > 1] == []


def test_every_check_names_requirements_that_exist_and_a_profile():
    for one in EVERY:
        assert one.requirements, one.id
        assert set(one.requirements) <= registry().keys(), one.id
        assert one.profiles, one.id
        assert one.title, one.id


def test_nothing_is_both_proved_and_untestable():
    named = {id_ for check in EVERY for id_ in check.requirements}
    assert named & untestable().keys() == set()


async def test_checks_of_codecs_take_seconds():
    from conformance.codec import own_codec

    codec, started = own_codec(), time.process_time()
    checks = [check for check in EVERY if check.needs == "codec"]
    results = [result async for result in suite.run(checks, codec)]
    assert len(results) >= 1200
    assert [result.check.id for result in results if result.status != "passed"] == []
    assert time.process_time() - started < 30  # ten times what it takes
