"""Knative's contract, section A: what the container gets. docs/knative.md has the numbers."""

import contextlib
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.knative.bench import (
    QUICK,
    TlsRecorder,
    attempts,
    configuration,
    event,
    metric,
    post,
    received,
    started,
)
from tests.e2e.knative.container import Container
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder, RecordedRequest, poll_until
from tests.helpers import make_certificates

OVERRIDES = json.dumps({"extensions": {"ceregion": "eu", "gateway": "coap-devices"}})
CLOSE = Answer(202, {"Connection": "close"})


@pytest.fixture(scope="module")
def sink():
    with HttpRecorder() as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def _forget(sink):
    sink.requests.clear()
    sink.answer = lambda _: CLOSE


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, sink):
    """The gateway that most points are shown with."""
    env = {
        "K_SINK": f"{sink.url}/team-a/devices?x=1%202",
        "K_CE_OVERRIDES": OVERRIDES,
        "K_SINK_TIMEOUT": "20",
        "NAMESPACE": "team-a",
        # Those of other adapters say nothing to this one.
        "K_AUDIENCE": "",
        "K_COMPONENT": "x",
        "K_LEADER_ELECTION_CONFIG": "{",
        "K_LOGGING_CONFIG": "no JSON",
        "K_OBSERVABILITY_CONFIG": "no JSON",
        "NAME": "x",
    }
    delivery = {**QUICK, "retry": 4, "backoffDelay": "PT0.1S"}
    config = configuration()
    quick = {"to": ["knative"], "filter": {"exact": {"type": "t"}}, "delivery": QUICK}
    patient = {"to": ["knative"], "filter": {"exact": {"type": "patient"}}, "delivery": delivery}
    config["routes"] = [quick, patient]
    with started(Container(tmp_path_factory.mktemp("a"), config, env)) as process:
        yield process


def test_point_01_events_are_posted_to_k_sink_with_its_path_and_query(gateway, sink):
    assert post(gateway, "one") == 202
    (request,) = sink.requests
    assert (request.method, request.target) == ("POST", "/team-a/devices?x=1%202")
    assert request.header("Host") == f"{HOST}:{sink.port}"


def test_point_02_without_k_sink_it_stays_alive_and_is_not_ready(tmp_path):
    process = Gateway(tmp_path, configuration(), ready=False)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as running:
        patch.delenv("K_SINK", raising=False)
        running.enter_context(started(process))
        poll_until(lambda: "K_SINK" in process.log, 20, "it to say what is missing")
        status, why = process.get("/readyz")
        assert (status, b"K_SINK" in why) == (503, True)
        assert process.get("/livez")[0] == 200
        for name in ("http", "mqtt"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, process.ports[name]), timeout=5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.settimeout(5)
            device.connect((HOST, process.ports["coap"]))
            device.send(b"\x40\x00\x00\x01")  # an empty CON: a CoAP ping
            with pytest.raises(ConnectionRefusedError):
                device.recv(64)


def test_point_03_overrides_are_set_on_every_event_and_replace_its_own(gateway, sink):
    assert [post(gateway, "has none"), post(gateway, "has one", ceregion="us", other="x")] == [
        202,
        202,
    ]
    for found, other in zip(map(received, sink.requests), (None, "x"), strict=True):
        assert (found["ceregion"], found["gateway"]) == ("eu", "coap-devices")
        assert found.get("other") == other


def test_point_03_empty_overrides_change_nothing(tmp_path, sink):
    env = {"K_SINK": sink.url, "K_CE_OVERRIDES": ""}
    with started(Gateway(tmp_path, configuration(), env)) as process:
        assert post(process, "as it is", ceregion="us") == 202
    assert sink.requests[0].body == event("as it is", ceregion="us")


def refused_at_start(tmp_path, overrides: str) -> str:
    """Return what a gateway says that does not start."""
    env = {"K_SINK": "http://127.0.0.1:1/", "K_CE_OVERRIDES": overrides}
    process = Gateway(tmp_path, configuration(), env)
    with pytest.raises(RuntimeError, match="ended with 1:"):
        process.start()
    assert "Traceback" not in process.log
    return process.log


def test_point_04_an_override_of_a_required_attribute_is_refused_by_name(tmp_path):
    said = refused_at_start(tmp_path, json.dumps({"extensions": {"ok": "x", "source": "/x"}}))
    assert "K_CE_OVERRIDES: 'source' is a required attribute" in said


def test_point_05_overrides_that_are_no_json_fail_the_start(tmp_path):
    assert "K_CE_OVERRIDES is no JSON" in refused_at_start(tmp_path, '{"extensions":')


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Certificates of four authorities that don't know each other."""
    names = ("system", "given", "mounted", "unknown")
    return {name: make_certificates(tmp_path_factory.mktemp(name), name) for name in names}


@pytest.fixture(scope="module")
def secure(tmp_path_factory, authorities):
    """A sink over TLS and the gateway that sends to it."""
    with TlsRecorder() as recorder:
        env = {
            "K_SINK": f"{recorder.url}/events",
            "K_CA_CERTS": authorities["given"].ca.read_text(),
            "SSL_CERT_FILE": str(authorities["system"].ca),  # the system's roots, to OpenSSL
        }
        recorder.answer = lambda _: CLOSE  # each event comes on a new connection
        with started(Container(tmp_path_factory.mktemp("tls"), configuration(), env)) as process:
            yield recorder, process


def deliver(secure, certificates, name: str) -> int:
    recorder, process = secure
    recorder.present(certificates.server_cert, certificates.server_key)
    return post(process, name)


def test_point_06_trust_is_the_system_s_roots_and_k_ca_certs_and_the_mounted_files(
    secure, authorities
):
    (secure[1].certs / "bundle.pem").write_bytes(authorities["mounted"].ca.read_bytes())
    for name in ("system", "given", "mounted"):
        assert deliver(secure, authorities[name], name) == 202, name
    assert deliver(secure, authorities["unknown"], "unknown") == 503
    assert attempts(secure[0]) == {"system": 1, "given": 1, "mounted": 1}


def test_point_07_mounted_certificates_are_read_again_for_a_new_connection(secure, authorities):
    folder = secure[1].certs
    assert deliver(secure, authorities["unknown"], "too early") == 503
    # As a ConfigMap is mounted: a link to a link, and a new folder behind it when it changes.
    for version in ("..1", "..2"):
        (folder / version / "team").mkdir(parents=True)
    (folder / "..1/team/ca.crt").write_text("")
    (folder / "..2/team/ca.crt").write_bytes(authorities["unknown"].ca.read_bytes())
    (folder / "..data").symlink_to("..1")
    (folder / "team").symlink_to("..data/team")
    assert deliver(secure, authorities["unknown"], "still too early") == 503
    (folder / "..new").symlink_to("..2")
    (folder / "..new").rename(folder / "..data")
    assert deliver(secure, authorities["unknown"], "trusted") == 202
    (folder / "team").unlink()
    assert deliver(secure, authorities["unknown"], "no longer") == 503


def write_token(process: Container, token: str) -> None:
    """Replace the token as a volume does: at once."""
    new = process.oidc / "..new"
    new.write_text(token)
    new.rename(process.oidc / "token")


def test_point_08_each_request_carries_the_token_of_the_file(gateway, sink):
    def post_and_look(name):
        assert post(gateway, name) == 202
        return sink.requests[-1].header("Authorization")

    (gateway.oidc / "token").unlink(missing_ok=True)
    poll_until(lambda: post_and_look("without") is None, 10, "no token to be sent")
    write_token(gateway, "first.token.x\n")
    poll_until(lambda: post_and_look("with") == "Bearer first.token.x", 10, "the token to be sent")
    assert [post_and_look(f"again {n}") for n in range(3)] == ["Bearer first.token.x"] * 3


def test_point_09_a_token_that_was_rewritten_is_sent_without_a_restart(gateway, sink):
    for token in ("second.token", "third.token"):
        write_token(gateway, token)

        def is_sent(token=token):
            assert post(gateway, "x") == 202
            return sink.requests[-1].header("Authorization") == f"Bearer {token}"

        poll_until(is_sent, 10, "the new token to be sent")


def test_point_10_after_401_the_token_is_read_again_and_the_event_sent_again(gateway, sink):
    write_token(gateway, "expired")

    def answer(request: RecordedRequest) -> Answer:
        if request.header("Authorization") == "Bearer fresh":
            return CLOSE
        if len(sink.requests) == 1:  # this is the second attempt
            write_token(gateway, "fresh")
        return replace(CLOSE, status=401)

    sink.answer = answer
    assert post(gateway, "rollout", type="patient") == 202
    assert attempts(sink)["rollout"] >= 3


def test_point_10_a_token_that_is_there_already_is_taken_at_once_even_without_retries(
    gateway, sink
):
    write_token(gateway, "old")
    poll_until(
        lambda: (
            post(gateway, "x") == 202 and sink.requests[-1].header("Authorization") == "Bearer old"
        ),
        10,
        "the old token to be sent",
    )

    def answer(request: RecordedRequest) -> Answer:
        if request.header("Authorization") == "Bearer new":
            return CLOSE
        write_token(gateway, "new")
        return replace(CLOSE, status=401)

    sink.answer = answer
    assert post(gateway, "at once") == 202  # on a route with `retry: 0`
    assert attempts(sink)["at once"] == 2


def test_point_11_k_sink_timeout_limits_an_attempt(tmp_path, sink):
    config = configuration({**QUICK, "retry": 3, "backoffDelay": "PT0.01S"})
    with started(Gateway(tmp_path, config, {"K_SINK": sink.url, "K_SINK_TIMEOUT": "2"})) as process:
        # The gateway's own limit is 30 s, for which the sender does not wait here.
        sink.answer = lambda _: Answer(202, delay=0 if sink.requests else 15)
        assert post(process, "slow") == 202
    assert attempts(sink)["slow"] >= 2


def test_point_11_namespace_is_sent_and_other_adapters_variables_change_nothing(gateway, sink):
    assert post(gateway, "x") == 202
    assert sink.requests[0].header("Kn-Namespace") == "team-a"


def test_point_12_mounts_are_read_only_and_the_process_has_no_wish_to_change_them(gateway):
    assert post(gateway, "x") == 202
    mounts = Path(f"/proc/{gateway.pid}/mounts").read_text().splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    assert "ro" in options["/oidc"]
    assert "ro" in options["/knative-custom-certs"]
    assert metric(gateway, 'ce_gateway_sent_total{sink="knative"}') > 0
