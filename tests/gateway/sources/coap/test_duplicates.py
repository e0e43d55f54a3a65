"""What is remembered of answered requests, and for how long."""

import tracemalloc

import pytest

from bindings.coap import Peer
from gateway.sources.coap.duplicates import CON_SECONDS, NON_SECONDS, Duplicates, key_of


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


@pytest.mark.parametrize("size", [1, 4, 60], ids=["2.04", "5.03", "diagnostic"])
def test_a_full_table_takes_no_more_memory_than_it_may(size):
    peer = Peer(b"udp 192.0.2.1 5683", "")
    most = 4 * 2**20
    table = Duplicates(most)
    number, peak = 0, 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100_000):
            key = key_of(peer, number.to_bytes(24, "big"))
            if not table.add(key, None, CON_SECONDS if number % 2 else NON_SECONDS, number * 1e-4):
                break
            table.answered(key, b"\x44" if size == 1 else number.to_bytes(size, "big"))
            if not number % 256:
                peak = max(peak, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert number > 10_000
    assert most <= table.used_bytes < most + 1000
    assert peak <= most
