"""Reports for machines: JSON, JUnit's XML, and a badge."""

import json
from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

import msgspec

from conformance.check import Check, Result, Summary
from conformance.coverage import Line, groups_of, share
from conformance.report.record import Report
from conformance.requirements import registry
from conformance.suite import verdicts

_ROLES: Final = ("producer", "consumer", "intermediary")


def as_json(report: Report, lines: Sequence[Line]) -> str:
    """Return the report as JSON: `summary`, a record for each case, and the coverage.

    Args:
        report: the run.
        lines: the coverage by the checks that ran.
    """
    return json.dumps(
        {
            "subject": report.subject,
            "profile": report.profile,
            "suite": report.suite,
            "at": report.at,
            "seconds": round(report.seconds, 3),
            "summary": msgspec.to_builtins(report.summary),
            "bindings": {
                binding: msgspec.to_builtins(Summary.of(results))
                for binding, results in report.by_binding().items()
            },
            "cases": [_case(result) for result in report.results],
            "coverage": coverage_record(lines),
        },
        indent=1,
    )


def record_of(check: Check) -> dict[str, Any]:
    """Return what a check is, for JSON."""
    return {
        "id": check.id,
        "title": check.title,
        "binding": check.binding,
        "family": check.family,
        "requirements": list(check.requirements),
        "level": check.level,
        "role": check.role,
        "verdicts": verdicts().get(check.id)
        or dict.fromkeys(sorted(check.profiles), check.verdict),
    }


def _case(result: Result) -> dict[str, Any]:
    record = record_of(result.check)
    record |= {"status": result.status, "seconds": round(result.seconds, 6)}
    told = {"text": result.text, "expected": result.expected, "got": result.got}
    return {**record, **{k: v for k, v in {**told, "reproduce": result.reproduce}.items() if v}}


def coverage_record(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the coverage of each document, for JSON."""
    return {group: _coverage(lines, group) for group in groups_of(lines)}


def _coverage(lines: Sequence[Line], group: str) -> dict[str, Any]:
    table = {
        level: {
            "all": _share(lines, group, level, ""),
            **{role: _share(lines, group, level, role) for role in _ROLES},
        }
        for level in ("MUST", "SHOULD")
    }
    return {
        **table,
        "requirements": [
            {
                "id": line.requirement.id,
                "level": line.requirement.level,
                "state": line.state,
                **({"checks": list(line.checks)} if line.checks else {"reason": line.reason}),
            }
            for line in lines
            if line.group == group
        ],
    }


def _share(lines: Sequence[Line], group: str, level: Any, role: str) -> dict[str, Any]:
    one = share(lines, group, level, role)
    return {**msgspec.to_builtins(one), "percent": round(one.percent, 1)}


def as_junit(report: Report) -> str:
    """Return the report in JUnit's XML: a suite for each binding, a case for each check."""
    one = report.summary
    root = ET.Element(
        "testsuites",
        name=f"CloudEvents conformance of {report.subject}",
        tests=str(len(report.results)),
        failures=str(one.failed),
        skipped=str(one.skipped),
        time=f"{report.seconds:.3f}",
    )
    for binding, results in report.by_binding().items():
        part = Summary.of(results)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=binding,
            tests=str(len(results)),
            failures=str(part.failed),
            errors="0",
            skipped=str(part.skipped),
            time=f"{sum(result.seconds for result in results):.3f}",
        )
        for result in results:
            _junit_case(suite, result)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, result: Result) -> None:
    check = result.check
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"{check.binding}.{check.family.replace(' ', '_')}",
        name=check.id,
        time=f"{result.seconds:.6f}",
    )
    if result.status == "skipped":
        ET.SubElement(case, "skipped", message=_xml_text(result.text))
    elif result.status == "failed":
        failure = ET.SubElement(
            case, "failure", type=check.level, message=_xml_text(result.text or check.title)
        )
        lines = [f"{one}: {registry()[one].text}" for one in check.requirements]
        lines += [f"expected: {result.expected}", f"got: {result.got}"]
        lines.append(f"reproduce: {result.reproduce}")
        failure.text = _xml_text("\n".join(lines))


def _xml_text(text: str) -> str:
    """Return text without what XML 1.0 can't hold; what is judged may say anything."""
    return "".join(
        c
        if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
        else f"\\u{ord(c):04x}"
        for c in text
    )


def as_badge(report: Report) -> str:
    """Return an SVG badge: MUST failures, and how many cases there were."""
    one = report.summary
    left = "CloudEvents conformance"
    right = (
        f"{one.passed}/{one.cases} passed"
        if not one.must_failed
        else f"{one.must_failed} MUST failed"
    )
    colour = "#2e7d32" if not one.failed else "#b26a00" if not one.must_failed else "#c62828"
    # Verdana at 11 px is about 6.6 px a character; textLength makes the renderer keep to it.
    wide, narrow = round(len(left) * 6.6) + 10, round(len(right) * 6.6) + 10
    text = '<text x="{x}" y="14" textLength="{length}">{text}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide + narrow}" height="20" role="img" '
        f'aria-label="{left}: {right}"><title>{left}: {right}</title>'
        f'<rect width="{wide}" height="20" fill="#444"/>'
        f'<rect x="{wide}" width="{narrow}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">'
        + text.format(x=5, length=wide - 10, text=left)
        + text.format(x=wide + 5, length=narrow - 10, text=right)
        + "</g></svg>\n"
    )
