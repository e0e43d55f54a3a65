"""The checker finds each defect: ledgers written by hand, each with one."""

import pytest

from tests.faults.checker import check
from tests.faults.ledger import Ledger
from tests.faults.sample import Sample, read_structured, split_id


def account_of(text):
    return check(line.strip() for line in text.strip().splitlines())


def assert_clean(account, *, but=()):
    found = {
        "lost": account.lost().count,
        "reordered": account.reordered.count,
        "corrupted": account.corrupted.count,
        "groundless": account.groundless.count,
        "own": sum(account.own),
        "provoked": account.provoked,
    }
    assert {name for name, count in found.items() if count} == set(but)


def test_a_run_without_defects_has_none():
    account = account_of("""
        @ 0.000
        # a remark
        I a 0
        S a 0 ok
        A a 0
        I a 1
        I b 0
        S b 0 ok
        S a 1 ok
        A a 1
        A b 0
    """)
    assert_clean(account)
    assert (account.sent, account.acked, account.delivered, account.outstanding) == (3, 3, 3, 0)


def test_what_was_acknowledged_and_is_nowhere_is_lost():
    account = account_of("""
        I a 0
        S a 0 ok
        A a 0
        I a 1
        A a 1
        I a 2
    """)
    assert_clean(account, but=["lost"])
    assert account.lost().examples == ["a-1"]
    assert account.outstanding == 1


def test_what_arrives_after_its_acknowledgement_is_not_lost():
    account = account_of("I a 0\nA a 0\nS a 0 ok")
    assert_clean(account)
    assert account.outstanding == 0


def test_what_was_not_acknowledged_is_not_lost():
    assert_clean(account_of("I a 0\nK\nI a 0"))


def test_what_was_delivered_and_not_acknowledged_is_counted():
    account = account_of("I a 0\nS a 0 ok")
    assert_clean(account)
    assert account.unacknowledged() == 1


def test_a_second_arrival_is_a_duplicate_of_the_gateway():
    account = account_of("I a 0\nS a 0 ok\nS a 0 ok\nA a 0")
    assert_clean(account, but=["own"])
    assert account.own == [1]


def test_duplicates_are_counted_per_kill():
    account = account_of("""
        I a 0
        S a 0 ok
        K
        I a 0
        S a 0 ok
        A a 0
        I a 1
        S a 1 ok
        K
        K
        S a 1 ok
        S a 1 ok
    """)
    assert account.own == [0, 1, 0, 2]


def test_a_duplicate_after_a_spoilt_answer_is_the_sinks():
    account = account_of("I a 0\nS a 0 drop\nS a 0 ok\nA a 0")
    assert_clean(account, but=["provoked"])


def test_each_spoilt_answer_excuses_one_duplicate_only():
    account = account_of("I a 0\nS a 0 drop\nS a 0 ok\nS a 0 ok\nA a 0")
    assert_clean(account, but=["provoked", "own"])
    assert (account.provoked, account.own) == (1, [1])


def test_what_the_sink_took_after_a_long_stop_is_its_own_duplicate():
    account = account_of("I a 0\nS a 0 ok\nA a 0\nS a 0 late")
    assert_clean(account, but=["provoked"])
    account = account_of("I a 0\nS a 0 late\nS a 0 ok\nA a 0\nS a 0 ok")
    assert_clean(account, but=["provoked", "own"])


def test_a_first_arrival_after_a_later_one_of_its_key_is_reordered():
    account = account_of("I a 0\nI a 1\nS a 1 ok\nS a 0 ok\nA a 0\nA a 1")
    assert_clean(account, but=["reordered"])
    assert account.reordered.examples == ["a-0 after a-1"]


def test_order_counts_within_a_key_and_for_first_arrivals_only():
    account = account_of("""
        I a 0
        I a 1
        I b 0
        S a 0 drop
        S a 1 ok
        S a 0 ok
        S b 0 ok
    """)
    assert_clean(account, but=["provoked"])


def test_a_gap_is_no_reordering():
    assert_clean(account_of("I a 0\nX a 0 400\nI a 1\nS a 1 ok\nA a 1"))


def test_a_dead_letter_with_a_cause_is_not_lost():
    account = account_of("I a 0\nP a 0 400\nA a 0\nD a 0 sink_refused")
    assert_clean(account)
    assert (account.outstanding, account.dead_letters) == (0, 1)


def test_what_the_sink_refused_and_nobody_keeps_is_lost():
    account = account_of("I a 0\nP a 0 400\nA a 0\nI a 1\nA a 1\nP a 1 400\nP a 1 400")
    assert_clean(account, but=["lost"])
    assert account.lost().count == 2
    assert account.outstanding == 0  # nothing to wait for


def test_a_dead_letter_without_a_cause_is_a_failure():
    assert_clean(account_of("I a 0\nA a 0\nD a 0 sink_down"), but=["groundless"])


def test_an_acknowledgement_of_what_nobody_sent_is_a_failure():
    assert_clean(account_of("A a 0\nS a 0 ok"), but=["groundless", "corrupted"])


def test_an_arrival_that_nobody_sent_is_corrupt():
    assert_clean(account_of("I a 0\nS a 0 ok\nS a 1 ok\nA a 0"), but=["corrupted"])


def test_what_the_sink_found_different_is_corrupt():
    assert_clean(account_of("I a 0\nS a 0 ok\nC data of a-0\nA a 0"), but=["corrupted"])


def test_a_line_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no line"):
        account_of("Q a 0")


def test_the_ledgers_file_gives_the_account_that_was_kept(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    for number in range(300):
        ledger.intent("a", number)
    ledger.store("a", 1, "ok")
    ledger.store("a", 0, "drop")
    ledger.kill()
    ledger.store("a", 0, "ok")
    ledger.store("a", 0, "ok")
    ledger.ack("a", 0)
    ledger.ack("a", 299)
    ledger.condemn("a", 2, 400)
    ledger.ack("a", 2)
    ledger.dead_letter("a", 2, "sink_refused")
    ledger.refuse("a", 3, 400)
    ledger.corrupt("two\nlines")
    ledger.remark("end")
    ledger.close()
    with ledger.path.open() as lines:
        account = check(lines)
    kept = ledger.account
    for name in ("sent", "acked", "refused", "delivered", "dead_letters", "provoked", "own",
                 "outstanding", "reordered", "corrupted", "groundless"):  # fmt: skip
        assert getattr(account, name) == getattr(kept, name), name
    assert account.lost().examples == kept.lost().examples == ["a-299"]
    assert kept.reordered.count == kept.corrupted.count == 1


SAMPLE = Sample(7)


def test_an_event_is_as_it_was_sent():
    attributes, data = read_structured(SAMPLE.structured("http-03", 17))
    assert SAMPLE.difference(attributes, data) == ""
    assert split_id(attributes["id"]) == ("http-03", 17)


@pytest.mark.parametrize("name", SAMPLE.attributes("a", 0))
def test_each_attribute_that_differs_is_found(name):
    attributes, data = read_structured(SAMPLE.structured("a", 0))
    assert SAMPLE.difference({**attributes, name: "other"}, data)
    del attributes[name]
    assert SAMPLE.difference(attributes, data)


def test_an_attribute_too_much_is_found_and_dead_letters_have_three():
    attributes, data = read_structured(SAMPLE.structured("a", 0))
    more = {**attributes, "knativeerrordest": "x"}
    assert SAMPLE.difference(more, data).startswith("knativeerrordest")
    assert SAMPLE.difference(more, data, dead=True) == ""


def test_each_byte_of_the_data_counts():
    attributes, data = read_structured(SAMPLE.structured("a", 0))
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        assert SAMPLE.difference(attributes, bytes(changed)), position
    assert SAMPLE.difference(attributes, data[:-1])
    assert SAMPLE.difference(attributes, Sample(8).data("a", 0))


def test_events_of_other_seeds_keys_and_numbers_differ():
    assert len({Sample(s).data(k, n) for s in (1, 2) for k in "ab" for n in (1, 2)}) == 8


@pytest.mark.parametrize("text", ["", "a", "a-", "-a", "a-x", "a--"])
def test_an_id_that_is_none_of_ours_has_no_key(text):
    assert split_id(text) is None
