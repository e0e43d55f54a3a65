"""The header codec's checks: ours passes, and each known mistake of others is found."""

import re
from urllib.parse import quote, unquote

import pytest

from bindings.binding import Message
from conformance.check import PROFILES
from conformance.checks.header_codec import MALFORMED, UNTERMINATED, checks
from conformance.forms import WireEvent
from conformance.suite import of_profile
from tests.conformance.checks.harness import OWN, Mistaken, failed

EVERY = list(checks())


def decoded(change):
    """Change what stands in headers before it is decoded."""
    return lambda _, message: Message(
        message.payload,
        message.content_type,
        [(name, change(value)) for name, value in message.headers],
    )


def again(text):
    """Percent-decode once more than is right, as far as that is possible."""
    return quote(unquote(unquote(text)), safe="!#$&'()*+,/:;=?@[]^`{|}~\\")


@pytest.mark.parametrize("profile", PROFILES)
def test_our_codec_passes_in_every_profile(profile):
    assert failed(of_profile(EVERY, profile), OWN) == {}


def test_every_ascii_code_point_is_judged_both_ways_in_both_bindings():
    names = {check.id for check in EVERY}
    for code in range(128):
        for binding in ("http", "nats"):
            assert f"header-codec-{binding}-ascii-{code:02x}" in names
            assert f"header-codec-{binding}-write-ascii-{code:02x}" in names


def test_nats_is_not_judged_by_a_release_without_headers():
    assert {check.binding for check in of_profile(EVERY, "1.0.2")} == {"http"}


def test_what_the_text_leaves_open_is_refused_or_taken_as_it_stands():
    for kind, texts in (("malformed", MALFORMED), ("quoted", UNTERMINATED)):
        for number in range(len(texts)):
            (one,) = [c for c in EVERY if c.id == f"header-codec-http-no-{kind}-{number}"]
            assert (one.verdict, one.profiles) == ("either", frozenset(PROFILES))


@pytest.mark.parametrize(("instead", "count"), [("%25", 0), ("", 2 * len(MALFORMED))])
def test_malformed_escapes_may_be_kept_but_not_be_left_out(instead, count):
    keep = re.compile("%(?![0-9A-Fa-f]{2})")
    forgiving = Mistaken(message=decoded(lambda text: keep.sub(instead, text)))
    malformed = [check for check in EVERY if "no-malformed" in check.id]
    for profile in ("lenient", "main"):
        assert len(failed(of_profile(malformed, profile), forgiving)) == count


@pytest.mark.parametrize(
    ("change", "example"),
    [
        (again, "http-once-0"),
        (lambda text: text.replace("+", "%20"), "nats-as-it-is-0"),
        (lambda text: text.replace('"', "%22"), "http-quoted-0"),
        (lambda text: quote(unquote(text, errors="replace")), "http-no-utf-8-ff"),
        (lambda text: re.sub(r"\(.*\)", "", text) or "a", "http-as-it-is-1"),
        (lambda text: text.split(",")[0], "nats-as-it-is-3"),
        (lambda text: text.replace("%e", "%25e"), "http-character-lower-20ac"),
        (lambda text: re.sub("%[01].", "%20", text, flags=re.IGNORECASE), "http-ascii-0a"),
    ],
)
def test_a_mistake_in_reading_is_found(change, example):
    found = failed(EVERY, Mistaken(message=decoded(change)), example)
    assert f"header-codec-{example}" in found


@pytest.mark.parametrize(
    ("change", "example"),
    [
        (lambda text: quote(unquote(text)), "http-write-ascii-3a"),
        (lambda text: re.sub("%..", lambda found: found[0].lower(), text), "nats-write-20ac"),
        (lambda text: f'"{text}"', "http-write-ascii-41"),
        (lambda text: text.replace("%25", "%"), "http-write-ascii-25"),
        (unquote, "nats-write-1f600"),
        (lambda text: text.replace("%F0%9F%98%80", "%ED%A0%BD%ED%B8%80"), "http-write-1f600"),
        (lambda text: text.replace("%20", " "), "http-write-ascii-20"),
    ],
)
def test_a_mistake_in_writing_is_found(change, example):
    found = failed(EVERY, Mistaken(sent=decoded(change)), example)
    assert f"header-codec-{example}" in found


def test_a_control_character_in_a_header_is_found():
    def injected(_, message):
        headers = [(name, value.replace("X", "\n")) for name, value in message.headers]
        return Message(message.payload, message.content_type, headers)

    def hidden(_, event):
        texts = {name: value.replace("\n", "X") for name, value in event.attributes.items()}
        return WireEvent(texts, event.data)

    found = failed(EVERY, Mistaken(given=hidden, sent=injected), "write-ascii-0a")
    assert "header-codec-http-write-ascii-0a" in found


def test_a_control_character_that_is_left_out_is_found():
    def left_out(_, event):
        value = event.attributes.get("ext")
        shown = "".join(c for c in value if c >= " ") if isinstance(value, str) else value
        return WireEvent({**event.attributes, "ext": shown}, event.data)

    name = "header-codec-http-write-ascii-0a"
    assert "neither refused nor escaped" in str(failed(EVERY, Mistaken(given=left_out), name)[name])
