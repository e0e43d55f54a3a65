"""Answers that were read before are known by their bytes, and by nothing less."""

from gateway.sinks.http.known_answers import KnownAnswers

HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n"
WHOLE = HEAD + b"OK"


def learned():
    known = KnownAnswers()
    known.learn(WHOLE, 2, "202")
    return known


def test_whole_answer_is_known_by_all_its_bytes():
    known = learned()
    assert known.get(WHOLE) == "202"
    for other in (HEAD, WHOLE[:-1], WHOLE + b" ", WHOLE.replace(b"202", b"503"), HEAD + b"NO"):
        assert known.get(other) is None


def test_answers_behind_each_other_are_split_by_their_heads_whatever_their_bodies():
    data = WHOLE + HEAD + b"NO" + b"HTTP/1.1 500 \r\n\r\n"
    known = learned()
    assert known.split(data, 0) == len(WHOLE)
    assert known.split(data, len(WHOLE)) == 2 * len(WHOLE)
    assert known.split(data, 2 * len(WHOLE)) == 0
    assert known.split(HEAD[:-1], 0) == 0


def test_answer_that_is_not_all_there_ends_behind_what_was_read():
    assert learned().split(HEAD + b"O", 0) == len(HEAD) + 2


def test_what_is_no_head_and_body_is_not_learned():
    known = KnownAnswers()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"
    interim = b"HTTP/1.1 103 Early\r\n\r\n" + WHOLE
    long = WHOLE.replace(b"Length: 2", b"Length: 2\r\nX: " + b"x" * 1024)
    for data, length in ((chunked, 2), (interim, 2), (long, 2), (WHOLE, 3), (HEAD, 2)):
        known.learn(data, length, "202")
        assert known.get(data) is None
        assert known.split(data, 0) == 0


def test_memory_is_bounded_and_begins_anew():
    known = learned()
    for number in range(1000):
        known.learn(b"HTTP/1.1 202 %d\r\n\r\n" % number, 0, "202")
    assert len(known._whole) <= 64
    assert len(known._heads) <= 64
    assert known.get(WHOLE) is None
    known.learn(WHOLE, 2, "202")
    assert known.get(WHOLE) == "202"
