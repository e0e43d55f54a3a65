"""One line when a sink stops taking events, and one when it goes on."""

from gateway.delivery import Failure, Outcome, Reason
from gateway.sink_health import SinkHealth

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503, detail="503")
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400)


def test_a_change_is_told_once(caplog):
    caplog.set_level("INFO")
    health = SinkHealth("out")
    for failures in ([], [DOWN, DOWN], [DOWN, DOWN], [DOWN], [], []):
        health.note(2, failures)
    assert [record.message for record in caplog.records] == [
        "sink out takes no events: sink_down: 503",
        "sink out takes events again",
    ]


def test_what_is_refused_for_good_is_no_sink_that_is_down(caplog):
    health = SinkHealth("out")
    health.note(1, [REFUSED])
    assert caplog.records == []


def test_a_sink_that_comes_and_goes_is_told_now_and_then(caplog):
    caplog.set_level("INFO")
    health = SinkHealth("out")
    for _ in range(5):
        health.note(1, [DOWN])
        health.note(1, [])
    assert len(caplog.records) == 2
