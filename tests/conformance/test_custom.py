"""A binding of one's own: the tutorial's, whole, half written, and with a mistake in it."""

import sys

import pytest

from conformance.custom import custom_binding
from conformance.new_binding import write_skeleton
from conformance.requirements import registry
from conformance.suite import run
from tests.docs.tutorial import FUNCTIONS, fill_in

PLACE = "meter.binding:BINDING"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the skeleton's package, which can be imported; what it adds is taken away again."""
    write_skeleton("meter", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = dict(registry())
    yield tmp_path / "meter"
    registry().clear()
    registry().update(known)
    for name in [name for name in sys.modules if name.partition(".")[0] == "meter"]:
        del sys.modules[name]


async def judged(custom):
    """Return the ids of the checks that fail and of those that are skipped, with their text."""
    results = [result async for result in run(custom.checks, custom.codec)]
    return tuple(
        {result.check.id: result.text for result in results if result.status == status}
        for status in ("failed", "skipped")
    )


def change(file, right, wrong):
    text = file.read_text()
    assert text.count(right) == 1
    file.write_text(text.replace(right, wrong))


@pytest.mark.parametrize("count", range(len(FUNCTIONS)))
async def test_what_is_not_written_yet_is_told_and_skipped_and_the_rest_judged(count, package):
    fill_in(package / "binding.py", FUNCTIONS[:count])
    custom = custom_binding(PLACE)
    assert tuple(custom.codec.unwritten) == FUNCTIONS[count:]
    failed, skipped = await judged(custom)
    assert failed == {}
    assert {text.split()[0] for text in skipped.values()} == set(FUNCTIONS[count:])
    for name in FUNCTIONS[count:]:
        assert any(
            line.startswith(f"{PLACE}: {name} is not written yet: ") for line in custom.told()
        )


async def test_the_tutorial_s_functions_pass_every_check(package):
    fill_in(package / "binding.py")
    custom = custom_binding(PLACE)
    assert await judged(custom) == ({}, {})
    assert {check.family for check in custom.checks} == {"generic", "vectors", "framing"}


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        ("len(buffer) - start < length", "len(buffer) == start", "meter-reading-frame"),
        ("taken = start + length", "taken = len(buffer)", "meter-structured-frame"),
        ("taken = start + length", "taken = len(buffer) + 1", "meter-reading-frame"),
        ('headers=[("number", str(number))]', "", "meter-reading-frame"),
        ("if len(payload) != _READING.size:", "if len(payload) < 9:", "meter-reading-short"),
        ('payload[:1] != b"R"', "not payload", "meter-neither"),
        ('f"/stations/{station}"', 'f"/station/{station}"', "meter-reading"),
        ("self.decode(reading) != [event]", "False", "meter-reading-not-representable"),
        ("round(celsius * 100)", "round(abs(celsius) * 100)", "meter-reading-sent"),
        ('">IB", number, outcome', '">IB", number, 0', "meter-reading-answers"),
        ('Message(b"J" + encode_event(event))', 'Message(b"R" + encode_event(event))',
         "generic-meter-structured-types-Timestamp-time"),
    ],
)  # fmt: skip
async def test_a_mistake_in_any_function_is_found(right, wrong, check, package):
    fill_in(package / "binding.py")
    change(package / "binding.py", right, wrong)
    failed, _ = await judged(custom_binding(PLACE))
    assert check in failed
