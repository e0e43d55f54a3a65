"""Wrong CoAP gateways: each rule and pitfall has one, and a gateway without a mistake survives."""

import pytest

from conformance.mutants.coap import MUTANTS
from conformance.mutants.coap.gateways import (
    Gateways,
    answers,
    arriving,
    codes,
    decoding,
    entries,
    events,
    options,
    parsed,
    routed,
    understood,
    without,
)
from conformance.mutants.runner import all_mutants
from conformance.mutants.trial import try_mutant
from conformance.requirements import registry, untestable
from conformance.suite import all_checks

IMPLEMENTED = {"core", "batch-base", "dtls", "oscore", "tcp", "ws"}
FAMILIES_WITHOUT = {"CLS": "what an implementation says of itself"}
RULES_WITHOUT: dict[str, str] = {}
"""Rules that can be tested and have no mutant, and why."""

CHECKS = list(all_checks())
BY_ID = {mutant.id: mutant for mutant in MUTANTS}


def rules():
    return [one for one in registry().values() if one.id.startswith("COAP-")]


def test_every_family_of_rules_that_is_implemented_has_a_mutant():
    families = {one.id.split("-")[1] for one in rules() if one.class_ in IMPLEMENTED}
    assert families - {mutant.rule for mutant in MUTANTS} == set(FAMILIES_WITHOUT)


def test_every_rule_that_can_be_tested_has_a_mutant():
    tested = {one.id for one in rules() if one.class_ in IMPLEMENTED and one.id not in untestable()}
    broken = {rule for mutant in MUTANTS for rule in mutant.requirements}
    assert tested - broken == set(RULES_WITHOUT)


def test_every_pitfall_of_coap_and_cbor_has_a_mutant():
    assert {mutant.pitfall for mutant in MUTANTS} >= set(range(75, 87))


def test_the_mutants_are_tried_with_all_others():
    assert len(MUTANTS) > 300
    assert {mutant.id for mutant in MUTANTS} <= {mutant.id for mutant in all_mutants()}
    assert all(mutant.id.startswith("coap-") for mutant in MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_only_checks_of_what_it_breaks_can_kill_a_mutant(mutant):
    candidates = [check for check in CHECKS if mutant.can_be_killed_by(check)]
    assert candidates
    for check in candidates:
        assert check.family in mutant.families
        assert set(mutant.requirements) & set(check.requirements)


RIGHT = Gateways()


@RIGHT.wrong("MSG-016 DUP-003 BIN-001 ATTR-004 VAL-013 CMP-018 BAT-010 OPT-003 PATH-004 BLK-003")
def nothing(patch):
    """Everything is put in, and nothing is changed."""
    arriving(patch, lambda datagram: datagram)
    parsed(patch, lambda message: message)
    options(patch, lambda found: found)
    without(patch)
    understood(patch, lambda _: None)
    decoding(patch, lambda right, *args: right(*args))
    routed(patch)
    events(patch, lambda event: event)
    answers(patch, lambda _, answer: answer)
    codes(patch, {})
    entries(patch, lambda found: found)


def test_a_gateway_without_a_mistake_survives():
    (mutant,) = RIGHT
    verdict = try_mutant(mutant, CHECKS)
    assert verdict.outcome == "survived", verdict
    assert verdict.tried > 30


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("content-format-0-is-none", "coap-bin-35"),
        ("content-codings-are-ignored", "coap-bin-79"),
        ("numbers-that-nobody-has-registered", "coap-str-16"),
        ("critical-by-another-bit", "coap-opt-01"),
        ("no-option-for-extensions", "coap-attr-101"),
        ("values-are-cut-at-the-second-sign", "coap-bin-12"),
        ("knows-no-duplicates", "coap-ack-02"),
        ("blocks-out-of-order", "coap-blk-02"),
        ("without-max-age", "coap-ack-09"),
        ("epochs-are-times", "coap-cbr-115"),
        ("the-last-of-two-keys", "coap-cbr-09"),
        ("bytes-become-base64", "coap-cmp-113"),
        ("ids-of-this-process", "coap-endpoints-two-gateways"),
        ("slashes-of-identities", "coap-dtls-source-2"),
        ("no-replay-window", "coap-oscore-replay"),
        ("connections-without-greeting", "coap-tcp-post-first"),
        ("websockets-at-every-path", "coap-ws-other-path"),
        ("values-as-they-are-in-http", "coap-relay-http-subject"),
        ("events-are-put", "coap-send-binary"),
    ],
)
def test_a_mistake_is_found_by_a_check_of_the_rule(name, check):
    verdict = try_mutant(BY_ID[f"coap-{name}"], CHECKS)
    assert (verdict.outcome, verdict.check) == ("killed", check), verdict
