"""The frame: what counts as killed, what survives, what is broken, and that nothing leaks."""

import json
import logging
from pathlib import Path
from types import ModuleType

import pytest
from typer import Typer
from typer.testing import CliRunner

import bindings.binding
import bindings.event
from conformance.check import Check, CheckFailed, Unsupported
from conformance.forms import WireEvent
from conformance.mutants import __main__ as command
from conformance.mutants import report, runner
from conformance.mutants.mutant import Catalogue, Mutant, Patch, unpatched
from conformance.mutants.pitfalls import NOT_OURS, PITFALLS
from conformance.mutants.processes import Lost, run_each
from conformance.mutants.runner import all_mutants, try_all
from conformance.mutants.trial import passing, try_mutant
from conformance.requirements import registry
from conformance.suite import all_checks

ROOT = Path(__file__).parents[3]
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
ID = "CORE-ID-005"


def mutant(**fields):
    return Mutant(**{"id": "m", "about": "It is wrong.", "requirements": (ID,), **fields})


def check(run, **fields):
    known = {
        "id": "c", "title": "t", "binding": "http", "family": "f", "requirements": (ID,),
        "level": "MUST", "role": "consumer", "run": run,
    }  # fmt: skip
    return Check(**{**known, **fields})


def fails(_):
    raise CheckFailed("it is wrong")


def raises(_):
    raise KeyError("subject")


def skips(_):
    raise Unsupported("no such thing")


def test_a_mutant_that_fails_a_check_is_killed_by_it():
    checks = [check(skips, id="skips"), check(lambda _: None, id="ok"), check(fails, id="finds")]
    verdict = try_mutant(mutant(), checks)
    assert (verdict.outcome, verdict.check, verdict.text) == ("killed", "finds", "it is wrong")
    assert verdict.tried == 3


def test_a_mutant_that_every_check_takes_for_right_survives():
    verdict = try_mutant(mutant(), [check(lambda _: None), check(skips)])
    assert (verdict.outcome, verdict.tried) == ("survived", 2)


def test_a_mutant_is_not_killed_by_a_check_of_something_else():
    others = [
        check(fails, requirements=("CORE-ID-001",)),
        check(fails, needs="target"),
        check(fails, profiles=frozenset({"1.0.2"})),
        check(fails, id="no-part"),
    ]
    verdict = try_mutant(mutant(only="-part-"), others)
    assert (verdict.outcome, verdict.tried) == ("survived", 0)
    target = mutant(needs="target", protocol="coap")
    assert target.can_be_killed_by(check(fails, needs="target", binding="coap"))
    assert target.can_be_killed_by(check(fails, needs="target", protocol="coap"))
    assert not target.can_be_killed_by(check(fails, needs="target", protocol="http"))


def test_a_mutant_that_crashes_is_broken_unless_that_is_its_mistake():
    assert try_mutant(mutant(), [check(raises)]).outcome == "broken"
    assert try_mutant(mutant(crash=KeyError), [check(raises)]).outcome == "killed"


def logs(_):
    try:
        raises(_)
    except KeyError:
        logging.getLogger("gateway").exception("a connection ended")


def test_a_mutant_whose_product_logs_a_traceback_is_broken():
    verdict = try_mutant(mutant(), [check(logs)])
    assert (verdict.outcome, verdict.text) == ("broken", "KeyError: 'subject'")


def test_a_mutant_that_can_not_be_opened_is_broken():
    def misfits(patch):
        patch(bindings.event, "gone", None)

    verdict = try_mutant(mutant(apply=misfits), [check(fails)])
    assert verdict.outcome == "broken"
    assert "gone" in verdict.text


def test_a_codec_that_is_wrapped_without_a_mistake_survives():
    nothing = mutant(
        requirements=tuple(registry()),
        decode=lambda decode, message: decode(message),
        encode=lambda encode, event, mode: encode(event, mode),
    )
    checks = [check for check in all_checks() if nothing.can_be_killed_by(check)]
    vectors = [check for check in checks if check.family == "vectors"]
    checks = [*vectors, *checks[len(vectors) :: 7]]
    right = set(passing(nothing, checks))
    verdict = try_mutant(nothing, [check for check in checks if check.id in right])
    assert verdict.outcome == "survived", verdict
    assert verdict.tried > 1500


def test_a_wrapped_codec_is_wrong_in_its_bindings_both_alone_and_in_a_relay():
    catalogue = Catalogue("mqtt")

    @catalogue.decoding(1, ID)
    def adds(decode, message):
        """It adds."""
        return [WireEvent({**event.attributes, "more": "x"}) for event in decode(message)]

    @catalogue.encoding(1, ID)
    def drops(encode, event, mode):
        """It drops."""
        return encode(WireEvent(MINIMAL), mode)

    asked = []

    def asks(codec):
        headers = [*MINIMAL.items(), ("subject", "s")]
        message = codec.encode("mqtt", WireEvent(dict(headers)), "binary")
        asked.append(sorted(message.headers))
        asked.append(codec.decode("mqtt", message)[0].attributes.get("more"))
        (relayed,) = codec.relay("mqtt", message, "mqtt", "binary")
        asked.append(("more", "x") in relayed.headers)
        http = codec.encode("http", WireEvent(MINIMAL), "binary")
        asked.append(codec.decode("http", http)[0].attributes.get("more"))

    for one in catalogue:
        assert try_mutant(one, [check(asks)]).outcome == "survived"
    assert [one.id for one in catalogue] == ["adds", "drops"]
    assert asked == [
        sorted([*MINIMAL.items(), ("subject", "s")]), "x", True, None,
        sorted(MINIMAL.items()), None, False, None,
    ]  # fmt: skip


def test_a_patch_is_taken_back_and_leaves_nothing_in_memory():
    right = bindings.event.is_valid_name
    assert not right("Name")
    with Patch() as patch:
        patch.everywhere(bindings.event, "is_valid_name", lambda _: True)
        assert bindings.binding.is_valid_name("Name")
        assert bindings.binding._known_name("ce-Name", "ce-", False, False) == "Name"
    assert bindings.event.is_valid_name is bindings.binding.is_valid_name is right
    assert bindings.binding._known_name.cache_info().currsize == 0


class Parent:
    def inherited(self):
        return "right"


class Holder(Parent):
    @staticmethod
    def static():
        return "right"


def test_a_patch_of_a_class_is_taken_back_as_it_stood_there():
    with Patch() as patch:
        patch(Holder, "static", lambda _: "wrong")
        patch(Holder, "inherited", lambda _: "wrong")
        assert Holder().static() == Holder().inherited() == "wrong"
    assert Holder().static() == Holder().inherited() == "right"
    assert "inherited" not in vars(Holder)
    with pytest.raises(AttributeError), Patch() as patch:
        patch(Holder, "absent", None)


def test_a_module_that_is_not_of_the_product_is_not_patched(monkeypatch):
    import sys

    stranger = ModuleType("stranger")
    stranger.is_valid_name = bindings.event.is_valid_name
    monkeypatch.setitem(sys.modules, "stranger", stranger)
    with Patch() as patch:
        patch.everywhere(bindings.event, "is_valid_name", None)
        assert stranger.is_valid_name is not None


@pytest.mark.parametrize("needs", ["codec", "target", "delivering"])
async def test_each_subject_can_be_opened(needs):
    async with unpatched(mutant(needs=needs, protocol="http")) as subject:
        assert subject.title


def test_jobs_run_in_processes_of_their_own_and_may_die():
    import os

    jobs = [os.getpid, lambda: os._exit(3), os.getpid]
    results = dict(run_each(jobs, 2))
    assert isinstance(results[1], Lost)
    assert len({results[0], results[2], os.getpid()}) == 3


def silent(_):
    return None


def test_only_checks_that_the_right_implementation_passes_count(monkeypatch):
    told = []
    checks = [check(fails, id="always"), check(silent, id="never")]
    monkeypatch.setattr(runner, "all_checks", lambda: checks)
    ((_, verdict),) = try_all([mutant()], 1, told.append)
    assert (verdict.outcome, verdict.tried) == ("survived", 1)
    assert told == ["codec main: 1 checks count; 1 that it fails or skips do not"]


def run_command(monkeypatch, mutants, *arguments):
    monkeypatch.setattr(command, "all_mutants", lambda: mutants)
    app = Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, arguments)


def test_the_command_fails_for_a_survivor_and_reports_it(monkeypatch, tmp_path):
    def drops(decode, message):
        return [WireEvent(MINIMAL) for _ in decode(message)]

    good = mutant(id="found", decode=drops, requirements=("CORE-SUB-001",), pitfall=10)
    nothing = mutant(id="hidden", requirements=("CORE-TERM-001",), rule="terms")
    result = run_command(monkeypatch, [good], "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)[0]
    assert (record["mutant"], record["outcome"], record["pitfall"]) == ("found", "killed", 10)
    file = tmp_path / "killed.md"
    result = run_command(monkeypatch, [good, nothing], "--report", str(file))
    assert result.exit_code == 1
    assert "2 mutants: 1 killed, 1 survived, 0 broken" in result.stderr
    assert "| `hidden` | terms | survived |" in file.read_text()
    assert run_command(monkeypatch, [good, nothing], "--only", "found").exit_code == 0


def test_the_catalogue_names_no_requirement_that_does_not_exist():
    mutants = all_mutants()
    unknown = {one for each in mutants for one in each.requirements} - registry().keys()
    assert unknown == set()
    assert all(each.about.endswith(".") and each.requirements for each in mutants)
    assert all(each.pitfall in PITFALLS or each.rule for each in mutants)


def test_two_mutants_of_one_name_are_an_error(monkeypatch):
    monkeypatch.setattr(runner, "CATALOGUES", ("core", "core"))
    with pytest.raises(ValueError, match="two mutants"):
        all_mutants()
    catalogue = Catalogue()
    catalogue.patching(1, ID)(fails)
    with pytest.raises(ValueError, match="two mutants fails"):
        catalogue.patching(1, ID)(fails)


def test_every_pitfall_has_a_mutant_or_a_reason():
    assert list(PITFALLS) == list(range(1, 102))
    covered = {each.pitfall for each in all_mutants()} - {None}
    assert covered.isdisjoint(NOT_OURS)
    assert covered | NOT_OURS.keys() == PITFALLS.keys()


def test_every_mutant_has_a_check_that_can_kill_it():
    checks = list(all_checks())
    alone = [
        each.id for each in all_mutants() if not any(each.can_be_killed_by(one) for one in checks)
    ]
    assert alone == []


def test_every_patch_fits_the_product():
    misfits = {}
    for each in all_mutants():
        if each.apply is not None:
            try:
                with Patch() as patch:
                    each.apply(patch)
            except AttributeError as error:
                misfits[each.id] = str(error)
    assert misfits == {}


# A few of each kind; all of them: make conformance-mutants.
FAST = {
    "makes-up-an-id", "times-by-iso-8601", "json-data-as-a-string-of-json", "nan-is-read",
    "headers-tell-the-mode", "a-batch-crashes", "values-are-decoded-twice",
    "two-headers-are-joined", "mqtt-names-are-written-with-a-prefix",
    "mqtt-properties-of-any-length",
    "nats-names-by-case",
    "nats-envelopes-of-1-0-2-are-refused", "kafka-tombstones-crash", "cbor-integers-of-64-bits",
    "can-long-data-is-cut", "connectives-from-right-to-left", "filters-of-no-text",
    "redirects-are-repeated", "deliveries-without-an-origin", "sub-domains-have-consent",
    "http-never-is-not-now", "mqtt-puback-for-what-is-refused",
}  # fmt: skip


def test_some_mutants_of_each_kind_are_killed():
    some = [each for each in all_mutants() if each.id in FAST]
    assert {each.id for each in some} == FAST
    tried = list(try_all(some, 2, lambda _: None))
    assert {each.id: verdict.text for each, verdict in tried if verdict.outcome != "killed"} == {}


def test_the_document_lists_the_mutants_as_they_are():
    text = (ROOT / report.DOCUMENT).read_text("utf-8")
    command = f"python -m conformance.mutants --catalogue > {report.DOCUMENT}"
    assert text == report.catalogue(all_mutants()), command


def test_the_catalogue_as_a_document_has_every_mutant():
    text = report.catalogue([mutant(pitfall=3), mutant(id="n", about="a | b.", rule="r")])
    assert "| `m` | 3 | It is wrong. | CORE-ID-005 |" in text
    assert "| `n` | r | a \\| b. | CORE-ID-005 |" in text
