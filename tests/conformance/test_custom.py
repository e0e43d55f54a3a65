"""A binding of one's own: the tutorial's, whole, half written, and with a mistake in it."""

import json
import sys

import pytest
from typer.testing import CliRunner

from conformance.command import app
from conformance.custom import custom_binding
from conformance.new_binding import write_skeleton
from conformance.requirements import registry
from conformance.suite import run
from tests.docs.tutorial import FUNCTIONS, fill_in

PLACE = "meter.binding:BINDING"
NO_ROOM = "it has no room for any of the events that are tried"
REASON = "a codec has no sinks; tests/test_meter.py shows it with the source"


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
    unwritten = {text.split()[0] for text in skipped.values() if text != NO_ROOM}
    assert unwritten == set(FUNCTIONS[count:])
    for name in FUNCTIONS[count:]:
        assert any(
            line.startswith(f"{PLACE}: {name} is not written yet: ") for line in custom.told()
        )


async def test_the_tutorial_s_functions_pass_every_check(package):
    fill_in(package / "binding.py")
    custom = custom_binding(PLACE)
    failed, skipped = await judged(custom)
    assert failed == {}
    assert skipped == {
        f"generic-meter-binary-{name}": NO_ROOM
        for name in ("read-alone", "read-damaged", "read-twice", "same")
    }
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


# --- files of its own ---------------------------------------------------------------------------


def edited(file, edit):
    content = json.loads(file.read_text())
    edit(content, content["vectors"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda file, _: file.pop("vectors"), "there is no 'vectors'"),
        (lambda file, _: file.update(binding="other"), "it is about 'other'"),
        (lambda _, cases: cases[1].pop("note"), "meter-reading-sent: there is no 'note'"),
        (lambda _, cases: cases[3].pop("expect"), "meter-reading-short: there is no 'expect'"),
        (lambda _, cases: cases[0].update(requirements=["METER-NO-001"]), "METER-NO-001"),
        (lambda _, cases: cases[0].update(requirements=[]), "meter-reading: no such requirement"),
        (lambda _, cases: cases.append(cases[5]), "vector meter-neither stands there twice"),
        (lambda _, cases: cases.append("x"), "vector 7: "),
    ],
)
def test_vectors_that_are_wrong_are_told_with_their_place(edit, text, package):
    edited(package / "vectors.json", edit)
    with pytest.raises(ValueError, match=r"vectors\.json: ") as error:
        custom_binding(PLACE)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        ("  section: '1.2'\n", "", "requirement 1 has no field 'section'"),
        ("requirements:\n", "rules:\n", "'requirements'"),
        ("level: MUST NOT", "level: SHALL", "METER-ACK-002: 'SHALL' is no level"),
        ("id: METER-FRM-001", "id: HTTP-DEC-007", "HTTP-DEC-007 is the id of another"),
        ("- id: METER-FRM-001", "- id: [", "while parsing"),
    ],
)
def test_requirements_that_are_wrong_are_told_with_their_place(right, wrong, text, package):
    change(package / "requirements.yaml", right, wrong)
    with pytest.raises(ValueError, match=r"requirements\.yaml: ") as error:
        custom_binding(PLACE)
    assert text in str(error.value)


def test_a_requirement_without_a_vector_is_told(package):
    edited(package / "vectors.json", lambda _, cases: cases.pop())
    assert custom_binding(PLACE).told()[-3:] == [
        "meter: 7 of 9 requirements have checks",
        "meter: METER-DET-001: has no check",
        f"meter: METER-ACK-002: not testable: {REASON}",
    ]


def test_files_of_a_module_in_no_package_are_named(package, monkeypatch):
    fill_in(package / "binding.py")
    (package.parent / "meter_alone.py").write_text((package / "binding.py").read_text())
    place = "meter_alone:BINDING"
    assert {check.family for check in custom_binding(place).checks} == {"generic"}
    custom = custom_binding(place, package / "vectors.json", package / "requirements.yaml")
    assert {check.family for check in custom.checks} == {"generic", "vectors", "framing"}
    assert len(custom.requirements) == 9
    monkeypatch.delitem(sys.modules, "meter_alone")


def test_a_binding_that_the_suite_knows_has_its_checks_and_no_files():
    custom = custom_binding("bindings.kafka:KAFKA")
    assert {check.family for check in custom.checks} >= {"vectors", "data lattice", "generic"}
    assert {check.binding for check in custom.checks} == {"kafka"}
    assert (custom.requirements, custom.told()) == ([], [])
    groups = {line.group for line in custom.covered(custom.checks)}
    assert groups == {"core", "json", "kafka"}


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def conformance(package, monkeypatch):
    """Return a function that calls the command in the skeleton's folder."""
    monkeypatch.chdir(package.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments):
        return CliRunner().invoke(app, ["run", *arguments])

    return call


def test_the_report_has_the_results_and_the_coverage_of_the_binding(conformance, package):
    fill_in(package / "binding.py")
    result = conformance(f"binding:{PLACE}", "--report", "r.json", "--report", "r.md")
    assert result.exit_code == 0, result.output
    report = json.loads((package.parent / "r.json").read_text())
    assert report["summary"]["failed"] == 0
    covered = {one["id"]: one for one in report["coverage"]["meter"]["requirements"]}
    assert len(covered) == 9
    assert covered["METER-ACK-001"]["checks"] == [
        "meter-reading", "meter-reading-frame", "meter-reading-answers",
    ]  # fmt: skip
    assert report["coverage"].keys() == {"core", "json", "meter"}
    assert "| meter | 8 of 8 (100 %) |" in (package.parent / "r.md").read_text()


def test_failures_show_the_requirement_in_the_binding_s_words(conformance, package):
    fill_in(package / "binding.py")
    change(package / "binding.py", "if len(payload) != _READING.size:", "if False:")
    result = conformance(f"binding:{PLACE}", "--only", "meter-reading-short")
    assert result.exit_code == 1
    told = " ".join(result.stdout.split())
    assert "METER-BIN-002: A receiver MUST refuse a message that begins as a reading" in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["binding:no_such_module:BINDING"], "No module named 'no_such_module'"),
        (["binding:meter.binding:NOTHING"], "has no attribute 'NOTHING'"),
        (["binding:meter.binding"], "is not module:NAME"),
        (["http", "--vectors", "meter/vectors.json"], "those of one binding:MODULE:NAME"),
        ([f"binding:{PLACE}", "--vectors", "nowhere.json"], "nowhere.json: "),
        ([f"binding:{PLACE}", "--requirements", "nowhere.yaml"], "nowhere.yaml: "),
    ],
)
def test_what_cannot_be_judged_is_told_in_a_line(arguments, text, conformance):
    result = conformance(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.replace("│", " ").split())
