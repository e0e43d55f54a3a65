"""The registry: every rule with its level, the texts it stands in, and reasons for the rest."""

import re
from pathlib import Path

import pytest

from conformance.requirements import level_of, profiles_of, registry, strongest, untestable


def test_every_rule_has_a_level():
    assert {rule.level for rule in registry().values()} == {"MUST", "SHOULD", "MAY"}
    assert registry()["HTTP-DEC-007"].level == "MUST"
    assert registry()["HTTP-ENC-002"].keyword == "SHOULD NOT"
    assert registry()["HTTP-ENC-002"].level == "SHOULD"
    assert registry()["HTTP-DEC-003"].keyword == "STATEMENT"
    assert registry()["HTTP-DEC-003"].level == "MUST"


def test_a_rule_holds_in_the_profiles_of_its_texts():
    assert registry()["NATS-DEC-006"].profiles == {"main", "lenient"}
    assert registry()["NATS-MODE-000"].profiles == {"1.0.2"}
    assert registry()["HTTP-DEC-007"].profiles == {"1.0.2", "main", "lenient"}
    assert profiles_of(["NATS-DEC-006", "NATS-MODE-000"]) == {"1.0.2", "main", "lenient"}
    assert profiles_of([]) == set()


def test_the_strongest_of_some_rules_counts():
    assert strongest(["HTTP-ENC-009", "HTTP-DEC-007"]) == "MUST"
    assert strongest(["HTTP-FMT-002", "HTTP-ENC-009"]) == "SHOULD"
    with pytest.raises(KeyError):
        strongest(["NO-SUCH-001"])


@pytest.mark.parametrize(
    ("ids", "role", "verdict", "level"),
    [
        (["CORE-TYPE-STR-001"], "consumer", "refused", "SHOULD"),
        (["CORE-TYPE-STR-001"], "consumer", "refused: invalid_event", "SHOULD"),
        (["CORE-TYPE-STR-001"], "producer", "refused", "MUST"),
        (["CORE-TYPE-STR-001"], "intermediary", "refused", "MUST"),
        (["CORE-TYPE-STR-001"], "consumer", "event", "MUST"),
        (["HTTP-DEC-007", "CORE-TYPE-STR-001"], "consumer", "refused", "MUST"),
        (["COAP-CODE-001", "CORE-TYPE-STR-001"], "consumer", "refused", "MUST"),
        (["CBOR-008"], "consumer", "refused", "MAY"),
    ],
)
def test_a_consumer_has_to_refuse_what_is_no_event_only_where_a_rule_says_so(
    ids, role, verdict, level
):
    assert level_of(ids, role=role, verdict=verdict) == level


def test_what_is_untestable_exists_and_has_a_reason():
    for id_, reason in untestable().items():
        assert id_ in registry(), id_
        assert len(reason) > 20, id_


def test_what_a_gateway_owes_stands_in_its_document_too():
    text = (Path(__file__).parents[2] / "docs/conformance/gateway.md").read_text()
    section, found = "", {}
    for line in text.splitlines():
        if heading := re.match(r"## (\d)", line):
            section = heading[1]
        if rule := re.match(r"- \*\*(GW-[A-Z]+-\d{3})\*\* (.*)", line):
            found[rule[1]] = (section, rule[2])
    rules = [rule for rule in registry().values() if rule.id.startswith("GW-")]
    assert found == {rule.id: (rule.section, rule.text.strip()) for rule in rules}
    assert all(rule.keyword in rule.text for rule in rules)
