"""A mailbox makes a thread's calls in the event loop's thread."""

import threading
from functools import partial

import pytest

from gateway.mailbox import Mailbox


class Loop:
    """Keeps what it was woken for."""

    def __init__(self):
        self.woken = []

    def __call__(self, call):
        self.woken.append(call)

    def run(self):
        woken, self.woken = self.woken, []
        for call in woken:
            call()


def test_all_that_waits_is_one_wake_up_and_comes_in_order():
    loop, seen = Loop(), []
    mailbox = Mailbox(loop)
    mailbox.put([partial(seen.append, 1), partial(seen.append, 2)])
    mailbox.put([partial(seen.append, 3)])
    assert len(loop.woken) == 1
    assert seen == []
    loop.run()
    assert seen == [1, 2, 3]
    mailbox.put([partial(seen.append, 4)])
    assert len(loop.woken) == 1
    loop.run()
    assert seen == [1, 2, 3, 4]


def test_one_that_raises_does_not_lose_the_others_theirs():
    loop, seen = Loop(), []
    mailbox = Mailbox(loop)

    def fail():
        mailbox.put([partial(seen.append, "late")])
        raise ValueError("mine")

    mailbox.put([fail, partial(seen.append, "next")])
    with pytest.raises(ValueError, match="mine"):
        loop.run()
    loop.run()
    assert seen == ["next", "late"]


def test_many_threads_lose_nothing():
    loop, seen = Loop(), []
    mailbox = Mailbox(loop)
    threads = [
        threading.Thread(
            target=lambda first: [
                mailbox.put([partial(seen.append, first + number)]) for number in range(200)
            ],
            args=(1000 * index,),
        )
        for index in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        loop.run()
    for thread in threads:
        thread.join()
    loop.run()
    assert sorted(seen) == [1000 * index + number for index in range(4) for number in range(200)]
    for index in range(4):
        own = [each for each in seen if each // 1000 == index]
        assert own == sorted(own)
