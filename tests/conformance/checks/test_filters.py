"""The checks of filters: ours passes them, and mistakes fail those that are about them."""

import pytest

from conformance.checks import filters
from conformance.forms import Refused, WireEvent
from conformance.own.filters import OwnFilters
from tests.conformance.checks.harness import failed

CHECKS = list(filters.checks())


class Mistaken(OwnFilters):
    """Our filters with a mistake.

    Args:
        spec: what it takes a filter for.
        event: what it takes an event for.
        answer: what it answers.
    """

    def __init__(self, *, spec=lambda spec: spec, event=lambda event: event, answer=lambda it: it):
        super().__init__()
        self._spec, self._event, self._answer = spec, event, answer

    def passes(self, spec, event):
        return self._answer(super().passes(self._spec(spec), self._event(event)))


class Lenient(OwnFilters):
    """Lets every event pass a filter that it does not understand."""

    def passes(self, spec, event):
        try:
            return super().passes(spec, event)
        except Refused:
            return True


class Strict(OwnFilters):
    def passes(self, spec, event):
        raise Refused("no filters here")


def lower(event):
    return WireEvent(
        {
            name: value.lower() if isinstance(value, str) else value
            for name, value in event.attributes.items()
        }
    )


def test_ours_passes():
    assert failed(CHECKS, OwnFilters()) == {}
    assert len(CHECKS) >= 90


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (Lenient(), {"filter-all-of-nothing", "filter-any-of-nothing"}),
        (Strict(), {"filter-no-filter-lets-every-event-pass", "filter-exact-on-specversion"}),
        (Mistaken(answer=lambda passes: not passes), {"filter-exact-passes-the-same-text"}),
        (
            Mistaken(spec=lambda spec: spec[:1] if isinstance(spec, list) else spec),
            {"filter-a-list-holds-back-when-one-of-it-does"},
        ),
        (Mistaken(answer=int), {"filter-exact-passes-the-same-text"}),
    ],
)
def test_a_mistake_fails_the_checks_that_are_about_it(engine, expected):
    assert expected <= failed(CHECKS, engine).keys()


def test_a_failure_says_how_to_see_it_again():
    found = failed(CHECKS, Strict(), "filter-exact-minds-the-case")
    assert '"exact"' in found["filter-exact-minds-the-case"].reproduce


def test_case_is_minded():
    assert "filter-exact-minds-the-case" in failed(CHECKS, Mistaken(event=lower, spec=_lower))


def _lower(spec):
    if isinstance(spec, dict):
        return {name: _lower(value) for name, value in spec.items()}
    if isinstance(spec, list):
        return [_lower(item) for item in spec]
    return spec.lower() if isinstance(spec, str) else spec
