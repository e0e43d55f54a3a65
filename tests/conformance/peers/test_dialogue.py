import pytest

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.own.source import own_source
from conformance.peers.dialogue import WAYS, dialogue, topic_of

EVENT = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")]
WRITTEN = {
    "http": Message(b"x", "text/plain", [(f"ce-{name}", value) for name, value in EVENT]),
    "mqtt": Message(b"x", "text/plain", EVENT),
    "mqtt-qos2": Message(b"x", "text/plain", EVENT),
    "mqtt311": Message(b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'),
    "nats": Message(b"x", "", [(f"ce-{name}", value) for name, value in EVENT]),
    "coap": Message(b"x", "text/plain", [("i", "1"), ("s", "/s"), ("t", "t")]),
}


@pytest.mark.parametrize("way", WRITTEN)
async def test_an_event_is_taken_and_what_is_none_is_refused(way):
    async with own_source(way.partition("-")[0].removesuffix("311")) as target:
        url = target.url + ("/ce" if way == "coap" else "")
        async with dialogue(way, url) as talk:
            talk.send(WRITTEN[way])
            assert (await talk.answer()).word == "yes"
            talk.send(Message(b"x", "", [("specversion", "1.0"), ("ce-specversion", "1.0")]))
            answer = await talk.answer()
            assert answer.word == ("yes" if way == "mqtt311" else "no"), answer
        (event,) = await target.events(1)
        assert event.attributes["id"] == "1"


@pytest.mark.parametrize("way", ["http", "mqtt", "nats"])
async def test_silence_is_seen_without_waiting(way):
    async with own_source(way) as target, dialogue(way, target.url) as talk:
        target.sink_answers("hang")
        talk.send(WRITTEN[way])
        await target.asked()
        assert await talk.said() is None


async def test_many_messages_in_one_write_are_answered_one_by_one():
    async with own_source("mqtt") as target, dialogue("mqtt-qos2", target.url) as talk:
        talk.send(*[WRITTEN["mqtt"]] * 5)
        assert [(await talk.answer()).word for _ in range(5)] == ["yes"] * 5


def test_a_stream_has_to_be_named():
    with pytest.raises(Unsupported, match=r"\?stream=NAME"):
        dialogue("jetstream", "nats://h")


def test_the_path_is_the_topic():
    assert topic_of("mqtt://h:1/a/b/") == "a/b"
    assert topic_of("mqtt://h") == "conformance/events"


@pytest.mark.parametrize("way", [way for way in WAYS if way != "jetstream"])
async def test_nobody_there_is_told(way):
    scheme = way.partition("-")[0].removesuffix("311")
    with pytest.raises(CheckFailed, match="nobody listens there"):
        async with dialogue(way, f"{scheme}://127.0.0.1:1"):
            pass
