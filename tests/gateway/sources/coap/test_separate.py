"""Answers that are repeated until they are acknowledged."""

import pytest

from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.separate import SeparateAnswers


def test_a_separate_answer_is_repeated_four_times_in_doubled_steps():
    answers, endpoint = SeparateAnswers(), Endpoint(("192.0.2.1", 1))
    datagram = bytes.fromhex("40447d01")
    answers.add(datagram, endpoint, now=0)
    times, now = [], 0
    while answers.next_due is not None:
        now = answers.next_due
        times += [now] * len(answers.take_due(now))
    first = times[0]
    assert 2 <= first <= 3
    assert times == pytest.approx([first, 3 * first, 7 * first, 15 * first])
    assert now == pytest.approx(31 * first)  # MAX_TRANSMIT_WAIT
    assert len(answers) == 0


def test_a_separate_answer_that_is_acknowledged_is_not_repeated():
    answers, endpoint = SeparateAnswers(), Endpoint(("192.0.2.1", 1))
    answers.add(bytes.fromhex("40447d01"), endpoint, now=0)
    answers.add(bytes.fromhex("40447d02"), endpoint, now=0)
    answers.acknowledged(("192.0.2.2", 1), 0x7D01)
    answers.acknowledged(endpoint.address, 0x7D02)
    assert [datagram.hex() for datagram, _ in answers.take_due(3)] == ["40447d01"]
    answers.acknowledged(endpoint.address, 0x7D01)
    assert answers.next_due is None
