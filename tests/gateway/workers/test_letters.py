"""Dead letters between a worker and its parent: the bytes as they came, and an answer for each."""

import asyncio

import msgspec
import pytest

from bindings.binding import Message
from gateway.dead_letters import DeadLetter, DeadLetters
from gateway.dead_letters.rows import row_of
from gateway.spool import StoreError
from gateway.workers.letters import RemoteLetters, letters_of, store
from gateway.workers.messages import FromWorker, Store, Stored

TIMES = {"first_time": "2026-01-01T00:00:00.000000Z", "last_time": "2026-01-01T00:00:01.000000Z"}
EVENT = DeadLetter(
    reason="sink_refused", route="way", source="web", sink="out", sequence=7, event=b'{ "id":"1"}',
    detail="no", status=400, attempts=2, error_dest="http://x/", error_code=400, **TIMES,
)  # fmt: skip
MESSAGE = DeadLetter(
    reason="not_an_event",
    protocol="mqtt",
    message=Message(b"\xff\x00", "text/\udcff", [("a", "\udc80"), ("b", "2")], "t/\udcfe"),
    **TIMES,
)


def sent(message):
    """Return a message as it is read from the wire."""
    return msgspec.msgpack.Decoder(FromWorker).decode(msgspec.msgpack.encode(message))


@pytest.mark.parametrize("letter", [EVENT, MESSAGE])
def test_a_letter_comes_as_it_was_put(letter):
    messages = []
    RemoteLetters(lambda message: messages.append(sent(message)) or True).put([letter], print)
    (found,) = letters_of(messages[0].letters)
    if letter.message is not None:
        assert found.message.payload == letter.message.payload
        assert list(found.message.headers) == list(letter.message.headers)
        assert found.message.address == letter.message.address
        assert found.message.content_type == letter.message.content_type
    else:
        assert found == letter


def test_each_letter_gets_the_answer_that_is_its_own():
    messages, answers = [], []
    letters = RemoteLetters(lambda message: messages.append(message) or True)
    letters.put([EVENT], lambda error: answers.append(("first", error)))
    letters.put([MESSAGE], lambda error: answers.append(("second", error)))
    letters.stored(Stored(messages[1].call, "the disk is full"))
    letters.stored(Stored(messages[0].call, ""))
    letters.stored(Stored(99, ""))
    assert [(name, None if error is None else str(error)) for name, error in answers] == [
        ("second", "the disk is full"),
        ("first", None),
    ]
    assert all(error is None or isinstance(error, StoreError) for _, error in answers)


async def test_without_a_parent_nothing_is_said_to_be_stored():
    answers = []
    letters = RemoteLetters(lambda _: True)
    letters.put([EVENT], answers.append)
    letters.lost()
    (error,) = answers
    assert isinstance(error, StoreError)


async def test_what_can_not_be_sent_is_answered_later_and_not_at_once():
    answer = asyncio.get_running_loop().create_future()
    RemoteLetters(lambda _: False).put([EVENT], answer.set_result)
    assert not answer.done()
    async with asyncio.timeout(10):
        assert isinstance(await answer, StoreError)


class Kept:
    def __init__(self, error):
        self.error = error
        self.letters = []

    def put(self, letters, on_stored):
        self.letters += letters
        on_stored(self.error)


@pytest.mark.parametrize(
    ("error", "said"), [(None, ""), (StoreError("full"), "full"), (StoreError(""), "not stored")]
)
def test_the_parent_stores_and_says_what_came_of_it(error, said):
    kept, answers = Kept(error), []
    store(kept, 0, Store(5, []), answers.append)
    assert [(one.call, one.error) for one in answers] == [(5, said)]


async def test_spools_of_several_workers_may_count_alike(tmp_path):
    letters = DeadLetters(tmp_path, max_bytes=2**24)
    letters.open()
    row = row_of(msgspec.structs.replace(EVENT, event=b'{"id":"1","source":"/s","type":"t"}'))
    try:
        loop = asyncio.get_running_loop()
        for worker in (0, 1, 1):  # the last is what a worker puts again that was killed
            stored = loop.create_future()
            store(letters, worker, Store(1, [row]), stored.set_result)
            async with asyncio.timeout(20):
                assert (await stored).error == ""
        assert letters.stored == {"way": 2}
    finally:
        letters.close()


def test_a_parent_that_keeps_none_says_so():
    answers = []
    store(None, 0, Store(5, []), answers.append)
    assert answers[0].error
