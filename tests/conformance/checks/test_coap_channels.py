"""Our source passes the checks on secured channels and connections; with a mistake it does not."""

import pytest

from bindings.coap import Identity
from conformance.checks import coap
from conformance.checks.coap_channels import checks, connections, dtls, oscore, same_answers
from conformance.own.source import own_source
from conformance.suite import run_one
from gateway.sources.coap import connection, dtls_session, peers, psk, websockets
from gateway.sources.coap import dtls as own_dtls
from gateway.sources.coap import oscore as own_oscore
from tests.conformance.checks.live import Late, failures, failures_of_own_source, named

CHECKS = list(checks())
MODULES = {
    "dtls": dtls,
    "oscore": oscore,
    "connections": connections,
}


@pytest.mark.parametrize("name", MODULES)
async def test_our_source_passes(name):
    assert await failures_of_own_source(MODULES[name].checks()) == {}


@pytest.mark.parametrize("channel", ["dtls", "tcp", "ws"])
async def test_our_source_gives_the_same_answers(channel):
    of_channel = [
        check for check in same_answers.checks() if check.id.startswith(f"coap-{channel}-")
    ]
    assert len(of_channel) > 300
    async with own_source("coap") as target:
        assert await failures(of_channel, Late(target)) == {}


def test_every_case_runs_over_dtls_or_has_its_reason():
    cases = {case["id"]: case for case in coap.cases() if "steps" in case}
    run = {check.id for check in CHECKS}
    left_out = {
        name
        for name, case in cases.items()
        if f"coap-dtls-{name.lower()}" not in run and not same_answers.is_slow(case)
    }
    assert left_out == set(same_answers.IDENTITY)
    assert "coap-dtls-slow-sinks" in run


def test_every_case_of_plain_requests_runs_on_connections_or_has_its_reason():
    cases = [case for case in coap.cases() if "steps" in case]
    plain = {case["id"] for case in cases if same_answers.is_for_connections(case)}
    run = {check.id for check in CHECKS}
    for channel in ("tcp", "ws"):
        left_out = {name for name in plain if f"coap-{channel}-{name.lower()}" not in run}
        assert left_out == set(same_answers.ADDRESS)
    single = [case for case in cases if len(case["steps"]) == 1 and "send" in case["steps"][0]]
    assert len(plain) > 0.8 * len(single)


async def test_what_is_not_listened_for_is_skipped():
    async with own_source("coap") as target:
        target.urls = {"coap": target.url}
        (first, *_) = dtls.checks()
        assert (await run_one(first, target)).status == "skipped"
        for check in named(CHECKS, "coap-tcp-bin-30", "coap-dtls-bin-30"):
            assert (await run_one(check, target)).status == "skipped"


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["tcp", "ws"])
async def test_another_code_on_a_connection_is_found(monkeypatch, channel):
    finish = connection.Connection.finish

    def changed(self, exchange, answer):
        finish(self, exchange, b"\x41" + answer[1:] if answer[0] == 0x44 else answer)

    monkeypatch.setattr(connection.Connection, "finish", changed)
    chosen = {f"coap-{channel}-bin-30", f"coap-{channel}-id-kept"}
    assert set(await failures_of_own_source(named(CHECKS, *chosen))) == chosen


async def test_another_diagnostic_in_a_session_is_found(monkeypatch):
    send = dtls_session.Session.send

    def changed(self, datagram, address):
        send(self, datagram.replace(b"source", b"SOURCE"), address)

    monkeypatch.setattr(dtls_session.Session, "send", changed)
    wrong = await failures_of_own_source(same_answers.checks())
    assert wrong
    assert all(name.startswith("coap-dtls-") for name in wrong)
    assert all("over UDP" in text for text in wrong.values())


WRONG = [
    (peers, "default_source", lambda *_: "/devices/all", "coap-dtls-source-1"),
    (peers, "default_source", lambda *_: "/devices/dev1", "coap-dtls-source-2"),
    (psk.KeyStore, "__getitem__", lambda self, _: self._keys["dev1"], "coap-dtls-source-2"),
    (own_oscore.Context, "accept", lambda *_: True, "coap-oscore-first"),
    (own_oscore.Context, "accept", lambda *_: True, "coap-oscore-wrong-echo"),
    (own_oscore.Protection, "protect", lambda _, answer: answer, "coap-oscore-event"),
    (connection, "_PEER_MAX_MESSAGE_BYTES", 1 << 20, "coap-tcp-small-peer"),
    (connection, "PONG", 0xE4, "coap-tcp-ping"),
    (connection, "PONG", 0xE4, "coap-ws-ping"),
    (websockets, "PATH", "/ce", "coap-ws-other-path"),
    (own_dtls.KeyStore, "take_asked", lambda _: Identity("dev1"), "coap-dtls-source-2"),
]


@pytest.mark.parametrize(("place", "name", "wrong", "found"), WRONG)
async def test_a_mistake_is_found(monkeypatch, place, name, wrong, found):
    monkeypatch.setattr(place, name, wrong)
    assert set(await failures_of_own_source(named(CHECKS, found))) == {found}
