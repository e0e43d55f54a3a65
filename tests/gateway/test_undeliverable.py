"""An event that its sink will not have finds another place, or its sender is told."""

import asyncio

import pytest

from bindings.json_format import decode_event
from gateway import undeliverable
from gateway.delivery import ACCEPTED, Delivery, Failure, Outcome, Reason, Settlement
from gateway.metrics import RouteMetrics
from gateway.target import Target
from gateway.undeliverable import Undeliverable, letter_of, with_error
from tests.gateway.stepped import SteppedLetters
from tests.helpers import ScriptedSink, make_event

REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400, detail="no", body=b"b")
GONE = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN)
DEAD_LETTERED = (Outcome.ACCEPTED, Reason.DEAD_LETTERED)
TARGET = Target(name="out", sink=ScriptedSink(), address="http://sink/")


class Owner:
    """Settles what has ended, and lists what was given up."""

    def __init__(self):
        self.is_diverting = False
        self.left = []

    def ended(self, delivery, settlement):
        if not delivery.settled:
            delivery.settle(settlement)

    def given_up(self, deliveries):
        self.left += deliveries


class DeadLetterLane:
    """The lane to a dead-letter sink; the test settles."""

    def __init__(self):
        self.parts = []

    def put(self, deliveries):
        self.parts += deliveries


class Rig:
    def __init__(self, *, sink=None, letters=None):
        self.owner = Owner()
        self.letters = letters
        self.metrics = RouteMetrics()
        self.answers = []
        self.undeliverable = Undeliverable(
            "way", TARGET, sink=sink, letters=letters, metrics=self.metrics, owner=self.owner
        )

    def take(self, failure=REFUSED, *, is_stored=False):
        delivery = Delivery(
            (make_event(1),), lambda answer: self.answers.append((answer.outcome, answer.reason))
        )
        if is_stored:
            delivery.settle(ACCEPTED)
            delivery.sequence = 7
            self.answers.clear()
        self.undeliverable.take(delivery, failure)
        return delivery


@pytest.mark.parametrize("failure", [REFUSED, GONE])
def test_without_a_place_the_sender_is_told_what_the_sink_said(failure):
    rig = Rig()
    rig.take(failure)
    assert rig.answers == [(failure.outcome, failure.reason)]
    assert (rig.undeliverable.pending, rig.metrics.dead_lettered) == (0, 0)


def test_the_sender_is_answered_when_the_letter_is_durable():
    rig = Rig(letters=SteppedLetters())
    rig.take()
    assert (rig.answers, rig.undeliverable.pending) == ([], 1)
    rig.letters.work()
    assert rig.answers == [DEAD_LETTERED]
    assert (rig.undeliverable.pending, rig.metrics.dead_lettered) == (0, 1)


def test_the_dead_letter_sink_is_asked_first_and_the_letters_then():
    lane = DeadLetterLane()
    rig = Rig(sink=lane, letters=SteppedLetters())
    rig.take()
    rig.take()
    assert rig.letters.waiting == []
    lane.parts[0].settle(ACCEPTED)
    assert rig.answers == [DEAD_LETTERED]
    lane.parts[1].settle(Settlement(Outcome.RELEASED, Reason.SINK_DOWN))
    rig.letters.work()
    assert rig.answers == [DEAD_LETTERED] * 2
    (kept,) = rig.letters.kept
    assert kept == ("way", "out", make_event(1))  # as it came, without error extensions


def test_a_letter_that_cannot_be_stored_is_the_senders_again():
    rig = Rig(letters=SteppedLetters())
    rig.take()
    rig.letters.work(fails=True)
    assert rig.answers == [(Outcome.RELEASED, Reason.NOT_STORED)]
    assert rig.undeliverable.pending == 0


@pytest.mark.parametrize("case", ["stored", "being stored"])
async def test_what_its_sender_has_forgotten_is_tried_until_it_is_stored(case, monkeypatch):
    monkeypatch.setattr(undeliverable, "STORE_AGAIN_SECONDS", 0.001)
    rig = Rig(letters=SteppedLetters())
    rig.owner.is_diverting = case == "being stored"
    rig.take(is_stored=case == "stored")
    for _ in range(3):
        rig.letters.work(fails=True)
        async with asyncio.timeout(10):
            while not rig.letters.waiting:
                await asyncio.sleep(0)
        assert (rig.answers, rig.undeliverable.pending) == ([], 1)
    rig.letters.work()
    assert (len(rig.letters.kept), rig.undeliverable.pending) == (1, 0)


async def test_a_shutdown_leaves_it_to_the_spool():
    rig = Rig(letters=SteppedLetters())
    early, late = rig.take(is_stored=True), rig.take(is_stored=True)
    rig.letters.waiting, second = rig.letters.waiting[:1], rig.letters.waiting[1:]
    rig.letters.work(fails=True)
    rig.undeliverable.hurry()
    assert rig.owner.left == [early]
    rig.letters.waiting = second
    rig.letters.work(fails=True)
    assert rig.owner.left == [early, late]
    assert rig.undeliverable.pending == 0


def test_a_letter_says_what_became_of_its_event_and_where():
    delivery = Delivery((make_event(3),), lambda _: None)
    delivery.source, delivery.sequence, delivery.attempts = "web", 12, 4
    delivery.failed_first_at = 1_700_000_000.25
    letter = letter_of(delivery, REFUSED, "way", TARGET)
    assert (letter.route, letter.sink, letter.source, letter.sequence) == ("way", "out", "web", 12)
    assert decode_event(letter.event) == make_event(3)
    assert (letter.reason, letter.detail, letter.status) == ("sink_refused", "no", 400)
    assert letter.attempts == 4
    assert letter.first_time == "2023-11-14T22:13:20.250000Z"
    assert letter.first_time < letter.last_time
    assert (letter.error_dest, letter.error_code) == ("http://sink/", 400)
    assert letter.error_data == "Yg=="


def test_knatives_extensions_of_an_earlier_failure_are_replaced():
    old = {"knativeerrordest": "x", "knativeerrorcode": 1, "knativeerrordata": "eA==", "mine": "1"}
    event = with_error(make_event(1, extensions=old), GONE, "http://sink/")
    assert event.extensions == {
        "knativeerrordest": "http://sink/",
        "knativeerrorcode": 500,
        "mine": "1",
    }
