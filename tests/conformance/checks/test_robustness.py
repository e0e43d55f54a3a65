import pytest

from conformance.checks import robustness
from gateway.sources.http import admission
from gateway.sources.mqtt_endpoint.connection import Connection
from tests.conformance.checks.gateways import failures

CHECKS = list(robustness.checks())


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(CHECKS, protocol) == {}


async def test_one_that_takes_a_request_without_host_fails(monkeypatch):
    monkeypatch.setattr(admission, "_refuse_form", lambda _: None)
    found = await failures(CHECKS, "http")
    assert found["http-live-bad-no-host"] == "bytes that are no request were taken"


async def test_one_that_answers_405_without_allow_fails(monkeypatch):
    from gateway.sources.http import answers

    bare = answers.Answer(405, "no")
    monkeypatch.setattr(admission.answers, "METHOD_NOT_ALLOWED", bare)
    found = await failures(CHECKS, "http")
    assert found["http-live-method-put"] == "405 without Allow"


async def test_one_that_keeps_a_broken_connection_fails(monkeypatch):
    monkeypatch.setattr(Connection, "_fail", lambda *_: None)
    only = [check for check in CHECKS if check.id == "mqtt-live-bad-qos-3"]
    assert await failures(only, "mqtt") == {"mqtt-live-bad-qos-3": "no answer came"}


async def test_one_that_cuts_off_the_neighbours_too_fails(monkeypatch):
    fail = Connection._fail

    def cut_all(self, error):
        host = self._host
        fail(self, error)
        for other in list(host.connections):
            other.abort()

    monkeypatch.setattr(Connection, "_fail", cut_all)
    only = [check for check in CHECKS if check.id == "mqtt-live-bad-topic-alias-0"]
    assert await failures(only, "mqtt")
