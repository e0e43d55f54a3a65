"""The datagram cases as checks: all of them run, and a source with a mistake is found.

That our source passes each is shown by tests/gateway/sources/test_coap.py.
"""

from collections import defaultdict

import pytest

from bindings.coap import filling
from conformance.check import CheckFailed
from conformance.checks.coap import cases, checks, converse
from conformance.own.source import own_source
from conformance.peers.coap import read
from conformance.requirements import registry, untestable
from conformance.suite import all_checks
from gateway.sources.coap import assembly, peers, source
from gateway.sources.coap.duplicates import Duplicates
from tests.conformance.checks.live import Late, failures_of_own_source, named

CHECKS = list(checks())
FEWER_THAN_TWO: dict[str, str] = {}
"""Requirements that can be tested, have fewer than two cases, and why."""


def test_every_case_with_steps_is_a_check():
    with_steps = [f"coap-{case['id'].lower()}" for case in cases() if "steps" in case]
    assert [check.id for check in CHECKS] == with_steps
    assert len(with_steps) >= 403


def test_each_rule_of_an_implemented_class_has_two_cases_or_a_reason():
    cases_of = defaultdict(set)
    for check in all_checks():
        if check.family != "same answers":  # those are the same cases again
            for one in check.requirements:
                cases_of[one].add(check.id)
    short = {
        one
        for one in registry()
        if one.startswith("COAP-") and one not in untestable() and len(cases_of[one]) < 2
    }
    assert short == set(FEWER_THAN_TWO)


def test_only_classes_that_are_not_implemented_go_without_proof():
    reasons = {one: why for one, why in untestable().items() if one.startswith("COAP-")}
    for one, why in reasons.items():
        requirement = registry()[one]
        if requirement.class_ in {"observe", "downlink"} and requirement.binds == ("gateway",):
            assert why == f"class {requirement.class_} is not implemented"
    assert len(reasons) < 30


@pytest.mark.parametrize(
    ("place", "name", "wrong", "found"),
    [
        (
            source,
            "piggybacked",
            lambda mid, *_: b"\x60\x41" + mid.to_bytes(2, "big"),
            "coap-id-100",
        ),
        (Duplicates, "get", lambda *_: None, "coap-ack-03"),
        (filling, "generate_id", lambda *_: "always", "coap-id-100"),
        (peers, "default_source", lambda *_: "/s", "coap-bin-30"),
        (assembly.Assemblies, "add", lambda *_, **__: b"", "coap-blk-17"),
    ],
)
async def test_a_mistake_is_found(monkeypatch, place, name, wrong, found):
    monkeypatch.setattr(place, name, wrong)
    assert set(await failures_of_own_source(named(CHECKS, found))) == {found}


async def test_where_a_case_names_no_type_the_answer_may_follow_an_empty_ack():
    (check,) = named(CHECKS, "coap-lim-109")
    (case,) = (case for case in cases() if case["id"] == "LIM-109")
    async with own_source("coap") as target:
        await check.run.func({**case, "given": {"sink": "slow"}}, target)


async def test_a_case_whose_sink_takes_nothing_ends_no_earlier_than_its_sink_was_asked():
    class Impatient(Late):
        async def asked(self, seconds=5.0):
            await self._target.asked(seconds / 100)

    (check,) = named(CHECKS, "coap-ack-65")
    ping = {"send": "40001004", "expect": {"type": "RST", "code": "0.00"}}
    case = {"given": {"sink": "down"}, "steps": [ping], "events": []}
    async with own_source("coap") as target:
        with pytest.raises(CheckFailed, match="nothing was handed on"):
            await check.run.func(case, Impatient(target))


class Answered:
    """A device whose gateway says what a test wants."""

    def __init__(self, *datagrams):
        self.left = list(map(bytes.fromhex, datagrams))
        self.sent = []

    def send(self, datagram):
        self.sent.append(datagram.hex())

    async def receive(self, seconds=5.0):
        return read(self.left.pop(0))

    async def expect_silence(self):
        assert self.left == []


WITHOUT_TYPE = {"steps": [{"send": "41021234ab", "expect": {"code": "2.04", "token": "same"}}]}


async def test_a_case_without_type_takes_both_ways_to_answer_a_request():
    device = Answered("61441234ab")
    await converse(WITHOUT_TYPE, device)
    assert device.sent == ["41021234ab"]
    device = Answered("60001234", "41447777ab")
    await converse(WITHOUT_TYPE, device)
    assert device.sent == ["41021234ab", "60007777"]


@pytest.mark.parametrize(
    "datagrams",
    [
        ["61441235ab"],  # an ACK of something else
        ["41447777ab"],  # a CON before any ACK
        ["51447777ab"],
        ["60001234", "61441234ab"],  # a second ACK
        ["60001234", "51447777ab"],  # COAP-ACK-004 wants a CON
        ["60001234", "41807777ab"],
        ["60001234", "41447777ac"],
    ],
)
async def test_a_case_without_type_takes_no_other_way(datagrams):
    with pytest.raises(CheckFailed):
        await converse(WITHOUT_TYPE, Answered(*datagrams))
