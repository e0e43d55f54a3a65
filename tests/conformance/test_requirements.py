"""The registry: every rule with its level, the texts it stands in, and reasons for the rest."""

import pytest

from conformance.requirements import profiles_of, registry, strongest, untestable


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


def test_what_is_untestable_exists_and_has_a_reason():
    for id_, reason in untestable().items():
        assert id_ in registry(), id_
        assert len(reason) > 20, id_
