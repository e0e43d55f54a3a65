import pytest

from conformance.check import CheckFailed, Unsupported
from conformance.checks.coap_live import check, expect, expect_code, expect_events, url_of
from conformance.forms import WireEvent
from conformance.peers.coap import read


class Outcome:
    """A target that brought events."""

    def __init__(self, *events):
        self.urls = {"coap": "coap://127.0.0.1:5683"}
        self.brought = [WireEvent(*event) for event in events]

    async def events(self, count):
        assert count <= len(self.brought)
        return self.brought


def test_a_check_is_as_strong_as_its_strongest_requirement():
    made = check("x", "title", "SEC-007 SEC-008", "2.04", None)
    assert (made.id, made.requirements) == ("coap-x", ("COAP-SEC-007", "COAP-SEC-008"))
    assert (made.level, made.binding, made.needs) == ("MUST", "coap", "target")


def test_a_listener_that_nobody_has_told_of_skips_the_check():
    assert url_of(Outcome(), "coap") == "coap://127.0.0.1:5683"
    with pytest.raises(Unsupported):
        url_of(Outcome(), "coaps")


def test_another_code_fails_with_the_request():
    reply = read(bytes.fromhex("618400010aff6e6f"))
    assert expect_code(reply, "4.04", b"") is reply
    with pytest.raises(CheckFailed) as failure:
        expect_code(reply, "2.04", b"\x40")
    assert (failure.value.got, failure.value.reproduce) == ("4.04 no", "40")


def test_a_condition_fails_with_what_was_expected():
    expect(1, "fine")
    with pytest.raises(CheckFailed, match="wrong") as failure:
        expect([], "wrong", expected="more", got=[])
    assert (failure.value.expected, failure.value.got) == ("more", "[]")


@pytest.mark.parametrize(
    ("expected", "fails"),
    [
        ([{"id": "1"}], False),
        ([{"id": "1", "data": b"x"}], False),
        ([{"id": "1", "subject": None}], False),
        ([{"id": "2"}], True),
        ([{"data": b"y"}], True),
        ([], True),
    ],
)
async def test_the_named_members_of_events_are_compared(expected, fails):
    outcome = Outcome(({"id": "1", "type": "t"}, b"x"))
    if not fails:
        await expect_events(outcome, *expected)
        return
    with pytest.raises(CheckFailed):
        await expect_events(outcome, *expected)
