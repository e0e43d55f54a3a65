"""The binding's cases, run by the conformance suite on sockets of their own."""

import pytest

from conformance.checks import coap
from conformance.own.source import own_source
from conformance.suite import all_checks, run_one

CASES = {case["id"]: case for case in coap.cases()}
CHECKS = list(coap.checks())

WRITTEN_BY_HAND = {
    "SEC-02": "coap-dtls-source-1",
    "SEC-03": "coap-dtls-claim-devices-dev2",
    "SEC-04": "coap-dtls-claim-devices-dev1-sensor3",
    "SEC-05": "coap-dtls-wrong-key",
    "SEC-06": "coap-dtls-source-2",
    "SEC-07": "coap-oscore-event",
    "SEC-08": "coap-oscore-replay",
    "SEC-09": "coap-oscore-unknown-kid",
    "SEC-10": "coap-oscore-outer-query",
    "TRN-01": "coap-tcp-ids",
    "TRN-02": "coap-ws-message",
    "TRN-03": "coap-tcp-whole-event",
    "DSC-01": "coap-limits-discovery",
    "LIM-01": "coap-limits-assemblies",
    "LIM-02": "coap-limits-duplicates-con",
    "IOP-01": "coap-relay-json",
    "IOP-02": "coap-relay-http-subject",
}
"""Cases that no list of datagrams can tell, and the check that each is."""

DEFERRED = {
    **dict.fromkeys(("OBS-01", "OBS-02", "OBS-03", "OBS-04"), "nothing to observe is offered"),
    "SEC-11": "nothing to observe is offered",
    "DWN-01": "there are no commands to deliver; `w=` is accepted and not waited for",
    "DWN-02": "there are no commands to deliver; `w=` is accepted and not waited for",
    "SEC-12": "a group address needs a test network; the socket joins none",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
async def test_the_binding_s_case_holds(check):
    async with own_source("coap") as target:
        result = await run_one(check, target)
    assert result.status == "passed", f"{result.text}\n{result.expected}\n{result.got}"


def test_every_case_either_runs_or_is_listed_with_its_reason():
    as_data = {name for name, case in CASES.items() if "steps" in case}
    assert as_data | set(WRITTEN_BY_HAND) | set(DEFERRED) == set(CASES)
    assert len(as_data) + len(WRITTEN_BY_HAND) + len(DEFERRED) == len(CASES)


def test_a_check_written_by_hand_names_the_rules_of_its_case():
    checks = {check.id: check for check in all_checks()}
    for name, check in WRITTEN_BY_HAND.items():
        assert set(CASES[name]["requirements"]) & set(checks[check].requirements), name
