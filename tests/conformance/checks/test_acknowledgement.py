import pytest

from conformance.checks import acknowledgement
from tests.conformance.checks.gateways import failures

CHECKS = list(acknowledgement.checks())


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


@pytest.mark.parametrize(
    ("protocol", "ways"),
    [("http", ["http"]), ("mqtt", ["mqtt", "mqtt-qos2"]), ("nats", ["nats", "jetstream"])],
)
async def test_one_that_acknowledges_whatever_its_sink_says_fails(protocol, ways):
    found = await failures(CHECKS, protocol, {"sink": lambda _: "accept"})
    assert found.keys() >= {
        f"{way}-live-sink-{sink}" for way in ways for sink in ("slow", "hang", "reject")
    }
    # Without a session it may have stored what it acknowledges, and this one delivers it.
    held = {f"{way}-live-sink-down" for way in ways if way not in {"http", "nats"}}
    assert found.keys() >= held
    assert not [name for name in found if name.endswith("sink-accept")]


async def test_one_that_gives_up_what_can_come_later_fails():
    def refuse(answer):
        return "reject" if answer in {"down", "busy"} else answer

    found = await failures(CHECKS, "mqtt", {"sink": refuse})
    assert found.keys() >= {"mqtt-live-sink-down", "mqtt-qos2-live-sink-busy"}
    assert found["mqtt-live-sink-down"] == "a negative answer is the end of it"


async def test_one_that_does_not_say_when_to_come_again_fails():
    def refuse(answer):
        return "reject" if answer == "busy" else answer

    found = await failures(CHECKS, "http", {"sink": refuse})
    assert found == {"http-live-sink-busy": "the sender is not told when to come again"}


async def test_one_that_acknowledges_nothing_fails():
    only = [check for check in CHECKS if check.id == "http-live-sink-accept"]
    found = await failures(only, "http", {"sink": lambda _: "down"})
    assert found == {"http-live-sink-accept": "another answer came"}
