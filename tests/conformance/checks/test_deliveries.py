"""Events put into a sender: what came of each is told apart, and what did not come is said."""

import pytest

from conformance.check import CheckFailed
from conformance.checks.deliveries import DOWN, Deliveries, Family, ids_of, phrase, shown
from conformance.own.delivering import own_delivering
from conformance.target import Request, Response


def request(body=b"", *headers):
    return Request(method="POST", target="/x", headers=headers, body=body, at=0.0, connection=0)


def test_a_family_gives_its_checks_their_level_and_profiles():
    family = Family("f", "prefix", "webhook", role="producer", needs="delivering")
    check = family.check("name", "title", "WH-RAT-004 WH-VAL-005", None, "x")
    assert (check.id, check.level, check.needs) == ("prefix-name", "MUST", "delivering")
    assert check.profiles == {"main", "lenient"}


async def test_each_event_has_its_own_answers_and_requests():
    async with own_delivering() as sender:
        deliveries = Deliveries(sender, {"one": [DOWN, DOWN], "two": Response(status=400)})
        await deliveries.send("one", "two")
        assert len(await deliveries.wait("one", 3)) == 3
        await deliveries.wait("two")
        await deliveries.pass_marker()
        await deliveries.expect_count("one", 3, "")
        await deliveries.expect_count("two", 1, "")
        with pytest.raises(CheckFailed, match="too often") as caught:
            await deliveries.expect_count("one", 2, "it came too often")
    assert caught.value.reproduce == (
        "the sink answers the delivery of 'one': 503, then 503, then 202"
    )


async def test_an_event_that_does_not_come_is_said():
    async with own_delivering() as sender:
        deliveries = Deliveries(sender)
        with pytest.raises(CheckFailed, match="too rarely") as caught:
            await deliveries.wait("one", 2, seconds=0.05)
    assert (caught.value.expected, caught.value.got) == ("2 times within 0.05 s", "0 times")


async def test_what_is_left_of_another_check_does_not_count():
    async with own_delivering() as sender:
        before = Deliveries(sender)
        await before.send("one")
        await before.wait("one")
        after = Deliveries(sender)
        assert after.of("one") == []
        assert after.event("one").attributes["id"] != before.event("one").attributes["id"]


def test_ids_are_read_in_every_mode_and_from_nothing_else():
    assert ids_of(request(b"", ("CE-Id", "a%20b"))) == ["a b"]
    json_type = ("content-type", "application/cloudevents+json")
    assert ids_of(request(b'{"id": "1"}', json_type)) == ["1"]
    assert ids_of(request(b"{", json_type)) == []
    batch_type = ("content-type", "application/cloudevents-batch+json")
    assert ids_of(request(b'[{"id": "1"}, {"id": "2"}]', batch_type)) == ["1", "2"]


def test_people_see_requests_and_statuses():
    assert shown(request(b"body", ("A", "b"))) == "POST /x HTTP/1.1\nA: b\n\nbody"
    assert (phrase(404), phrase(599)) == ("404 Not Found", "599")
