"""What any binding has to keep to: ours do, a stranger's is judged, its losses have to be told."""

import pytest

from bindings.binding import HeaderBinding, Message
from bindings.http import HTTP
from conformance.check import CheckFailed, Unsupported
from conformance.checks.generic import LOSSES, checks_for, losses_of
from conformance.codec import BindingCodec
from conformance.forms import Refused, WireEvent
from tests.conformance.checks.harness import OWN, failed


@pytest.mark.parametrize("name", OWN.bindings)
def test_every_binding_of_ours_passes(name):
    assert failed(checks_for(name), OWN) == {}


def failures(binding):
    codec = BindingCodec("a stranger's", {"pigeon": binding})
    return {name.removeprefix("generic-pigeon-") for name in failed(checks_for("pigeon"), codec)}


class Pigeon:
    """A binding of a stranger: HTTP's with other letters, and a mistake or none."""

    name = "pigeon"
    losses = frozenset({"empty"})
    inner = HeaderBinding(name="pigeon", prefix="p-", percent=True)

    def decode(self, message):
        return self.inner.decode(message)

    def encode(self, event, mode):
        return self.inner.encode(event, mode)


def test_a_stranger_s_binding_passes():
    assert failures(Pigeon()) == set()


def test_a_loss_that_is_not_declared_is_found():
    class Silent(Pigeon):
        losses = frozenset()

    assert failures(Silent()) >= {"binary-data-json", "binary-data-no-type"}


def test_a_loss_of_an_unknown_name_is_told():
    class Odd(Pigeon):
        losses = frozenset({"everything"})

    with pytest.raises(CheckFailed, match="unknown losses: everything"):
        losses_of(BindingCodec("odd", {"pigeon": Odd()}), "pigeon")
    assert "empty" in LOSSES
    assert losses_of(BindingCodec("http", {"http": HTTP}), "http") == {"empty"}


def test_an_exception_that_is_no_refusal_is_found():
    class Crashing(Pigeon):
        def decode(self, message):
            if message.content_type == ";":
                raise IndexError("oops")
            return super().decode(message)

    assert "binary-read-bytes" in failures(Crashing())


def test_an_invented_id_is_found():
    class Inventing(Pigeon):
        def decode(self, message):
            names = [name for name, _ in message.headers]
            if names and "p-id" not in names and not message.content_type:
                headers = [*message.headers, ("p-id", "fresh")]
                message = Message(message.payload, message.content_type, headers)
            return super().decode(message)

    assert "binary-read-lacking" in failures(Inventing())


def test_the_last_of_two_headers_winning_is_found():
    class Last(Pigeon):
        def decode(self, message):
            headers = list(dict(message.headers).items())
            return super().decode(Message(message.payload, message.content_type, headers))

    assert "binary-read-twice" in failures(Last())


def test_what_one_message_leaves_for_the_next_is_found():
    class Sticky(Pigeon):
        subject = None

        def decode(self, message):
            (event,) = super().decode(message)
            if event.subject is None and self.subject is not None:
                return (event.replace(subject=self.subject),)
            self.subject = event.subject
            return (event,)

    assert "binary-read-alone" in failures(Sticky())


def test_messages_that_differ_each_time_are_found():
    class Counting(Pigeon):
        count = 0

        def encode(self, event, mode):
            self.count += 1
            sent = super().encode(event, mode)
            return Message(sent.payload, sent.content_type, [*sent.headers, ("x", str(self.count))])

    assert "binary-same" in failures(Counting())


def test_a_binding_that_drops_what_it_does_not_know_is_found():
    class Core(Pigeon):
        def encode(self, event, mode):
            return super().encode(event.replace(extensions={}), mode)

    found = failures(Core())
    assert {"binary-attributes-documented", "structured-types-Integer-ext"} <= found
    assert "binary-types-Timestamp-time" not in found


def test_a_binding_that_says_nothing_passes_no_check_of_what_it_says():
    class Mute(BindingCodec):
        def encode(self, binding, event, mode):
            raise Refused("no")

    class Deaf(Pigeon):
        def decode(self, message):
            return ()

    mute = failed(checks_for("pigeon"), Mute("mute", {"pigeon": Pigeon()}))
    names = {f"generic-pigeon-binary-{name}" for name in ("same", "read-alone", "read-damaged")}
    assert names <= mute.keys()
    assert "binary-read-alone" in failures(Deaf())


def test_a_binding_without_room_for_what_is_tried_is_not_judged_by_it():
    class Full(BindingCodec):
        def encode(self, binding, event, mode):
            raise Refused("no room")

        def losses(self, binding):
            return frozenset({"subset"})

    (same, *_) = [one for one in checks_for("pigeon") if one.id == "generic-pigeon-binary-same"]
    with pytest.raises(Unsupported, match="no room"):
        same.run(Full("full", {"pigeon": Pigeon()}))


def test_a_binding_without_room_has_to_say_so():
    class Small(Pigeon):
        def encode(self, event, mode):
            if event.data:
                return super().encode(event.replace(source="?? not a reference"), mode)
            return super().encode(event, mode)

    class Honest(Small):
        losses = frozenset({"empty", "subset"})

    assert "binary-data-text" in failures(Small())
    assert "binary-data-text" not in failures(Honest())


def test_events_that_are_none_never_reach_a_binding():
    seen = []

    class Watching(Pigeon):
        def encode(self, event, mode):
            seen.append(event)
            return super().encode(event, mode)

    codec = BindingCodec("watching", {"pigeon": Watching()})
    refused = [check for check in checks_for("pigeon") if "-refused-" in check.id]
    assert failed(refused, codec) == {}
    assert seen == []
    assert WireEvent({}) == WireEvent({})
