"""What is remembered of answered requests, and for how long."""

from gateway.sources.coap.duplicates import CON_SECONDS, NON_SECONDS, Duplicates


def test_answers_leave_after_their_lifetime_and_are_bounded_in_bytes():
    table = Duplicates(max_bytes=170 * 100)
    for number in range(100):
        assert table.add(number.to_bytes(16, "big"), object(), CON_SECONDS, now=0)
        table.answered(number.to_bytes(16, "big"), b"")
    assert not table.add(b"one more", object(), CON_SECONDS, now=40)
    assert table.add(b"one more", object(), NON_SECONDS, now=48.1)
    assert len(table) == 1
    table.expire(48.1 + 145)
    assert len(table) == 1
    table.expire(48.1 + 147)
    assert (len(table), table.used_bytes) == (0, 0)
