"""When the operator does what, with kmock for an API server."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import kopf
import pytest
import yaml
from kmock import resource

from gateway.operator import handlers
from gateway.operator.manifests import INSTANCE
from tests.gateway.operator.cluster import (
    AVAILABLE,
    BOUND,
    RESOURCES,
    UNBOUND,
    Cluster,
    cluster,
    example,
)

SECONDS = 100  # under the 120 of a test
ROOT = Path(__file__).parents[3]
CHILD = "greenhouse-gateway"
VALID = "ConfigurationValid"
WHOLE = {"name": "greenhouse", "namespace": "team-a"}
LABELS = {INSTANCE: "greenhouse"}


@pytest.fixture
async def server(tmp_path, monkeypatch):
    async with cluster(tmp_path, monkeypatch) as emulator:
        put(emulator, "ProtocolSource", "greenhouse", example())
        yield emulator


@pytest.fixture
def memo():
    return SimpleNamespace(turn=asyncio.Lock())


def put(server: Cluster, kind: str, name: str, manifest) -> None:
    server.objects[resource(RESOURCES[kind]), "team-a", name] = manifest


def change(server: Cluster, kind: str, name: str, patch) -> None:
    server.objects[resource(RESOURCES[kind]), "team-a", name].patch(patch)


def status(server: Cluster):
    return (server.find("ProtocolSource", "greenhouse") or {}).get("status") or {}


def ready(server: Cluster) -> str:
    found = {one["type"]: one for one in status(server).get("conditions", ())}
    return found["Ready"]["status"] if found else ""


async def child_changed(memo, kind: str = "MODIFIED") -> None:
    event = {"type": kind, "object": {}}
    await handlers.child_changed(event=event, namespace="team-a", labels=LABELS, memo=memo)


async def test_all_of_it_is_made_and_the_status_says_what_is_missing(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    for kind in ("ConfigMap", "Deployment", "SinkBinding"):
        assert server.find(kind, CHILD), kind
    for suffix in ("tcp", "udp"):
        assert server.find("Service", f"{CHILD}-{suffix}")
    assert ready(server) == "Unknown"


async def test_the_status_follows_the_children(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    change(server, "SinkBinding", CHILD, {"status": BOUND})
    await child_changed(memo)
    assert ready(server) == "Unknown"
    change(server, "Deployment", CHILD, {"status": AVAILABLE})
    await child_changed(memo)
    assert ready(server) == "True"
    assert (status(server)["sinkUri"], status(server)["replicas"]) == (BOUND["sinkUri"], 2)
    change(server, "SinkBinding", CHILD, {"status": {**UNBOUND, "sinkUri": None}})
    await child_changed(memo)
    assert ready(server) == "False"
    assert "sinkUri" not in status(server)


async def test_a_status_that_stays_is_not_written_again(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    written = len([r for r in server["patch"] if r.url.path.endswith("/status")])
    await child_changed(memo)
    assert len([r for r in server["patch"] if r.url.path.endswith("/status")]) == written == 1


async def test_the_service_of_listeners_that_are_gone_goes(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    change(server, "ProtocolSource", "greenhouse", {"spec": {"sources": {"coap": None}}})
    await handlers.changed(**WHOLE, memo=memo)
    assert server.find("Service", f"{CHILD}-udp") is None
    assert server.find("Service", f"{CHILD}-tcp")


async def test_what_somebody_deletes_is_made_again(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    server.objects[resource(RESOURCES["Deployment"]), "team-a", CHILD].delete()
    await child_changed(memo, "DELETED")
    assert server.find("Deployment", CHILD)


async def test_what_belongs_to_nobody_any_more_is_left_to_the_garbage_collector(server, memo):
    deleted = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    change(server, "ProtocolSource", "greenhouse", deleted)
    await child_changed(memo, "DELETED")
    await handlers.changed(**WHOLE, memo=memo)
    server.objects[resource(RESOURCES["ProtocolSource"]), "team-a", "greenhouse"].delete()
    await child_changed(memo, "DELETED")
    assert list(server["patch"]) == []


async def test_a_wrong_configuration_is_told_and_what_ran_goes_on(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    before = server.find("ConfigMap", CHILD)
    wrong = {"spec": {"sources": {"web": {"listen": "nowhere"}}}}
    change(server, "ProtocolSource", "greenhouse", wrong)
    await handlers.changed(**WHOLE, memo=memo)
    found = {one["type"]: one for one in status(server)["conditions"]}
    assert "sources.web.listen" in found["ConfigurationValid"]["message"]
    assert ready(server) == "False"
    assert server.find("ConfigMap", CHILD) == before


async def test_what_the_server_refuses_is_tried_again_later(server, memo):
    server["patch", resource(RESOURCES["ConfigMap"])] << 500
    with pytest.raises(kopf.TemporaryError, match="500"):
        await handlers.changed(**WHOLE, memo=memo)
    assert server.find("Deployment", CHILD) is None


async def test_a_refusal_is_told_until_the_server_takes_it(server, memo):
    server["patch", resource(RESOURCES["Deployment"])] << {"message": "quota exceeded"} << 403
    with pytest.raises(kopf.TemporaryError):
        await handlers.changed(**WHOLE, memo=memo)
    for _ in range(2):  # a word about a child does not hide it
        (valid,) = (one for one in status(server)["conditions"] if one["type"] == VALID)
        assert (valid["status"], valid["reason"]) == ("False", "Refused")
        assert "quota exceeded" in valid["message"]
        await child_changed(memo)


async def test_the_status_of_a_child_is_not_told_of_a_spec_that_was_not_applied(server, memo):
    await handlers.changed(**WHOLE, memo=memo)
    new = {"metadata": {"generation": 2}, "spec": {"replicas": 5}}
    change(server, "ProtocolSource", "greenhouse", new)
    await child_changed(memo)
    assert status(server)["observedGeneration"] == 2
    assert server.find("Deployment", CHILD)["spec"]["replicas"] == 5


async def test_what_a_child_has_become_is_told_even_if_the_server_fails_once(
    server, memo, monkeypatch
):
    monkeypatch.setattr(handlers, "_AGAIN_SECONDS", 0)
    await handlers.changed(**WHOLE, memo=memo)
    change(server, "SinkBinding", CHILD, {"status": BOUND})
    asked_for = server["get", resource(RESOURCES["SinkBinding"])]
    failing = asked_for[: len(list(asked_for)) + 1] << 500
    await child_changed(memo)
    assert len(list(failing)) == 1
    assert status(server)["sinkUri"] == BOUND["sinkUri"]


@pytest.mark.parametrize("kind", ["ConfigMap", "SinkBinding", "Deployment"])
async def test_what_is_somebody_else_s_is_left_alone(server, memo, kind):
    theirs = {"metadata": {"name": CHILD, "namespace": "team-a"}, "spec": {"x": 1}}
    put(server, kind, CHILD, theirs)
    with pytest.raises(kopf.TemporaryError, match=f"{kind} {CHILD} .* somebody else"):
        await handlers.changed(**WHOLE, memo=memo)
    found = server.find(kind, CHILD)
    assert "ownerReferences" not in found["metadata"]
    assert found["spec"] == {"x": 1}


async def test_a_service_of_somebody_else_is_not_deleted(server, memo):
    change(server, "ProtocolSource", "greenhouse", {"spec": {"sources": {"coap": None}}})
    theirs = {"metadata": {"name": f"{CHILD}-udp", "namespace": "team-a"}}
    put(server, "Service", f"{CHILD}-udp", theirs)
    await handlers.changed(**WHOLE, memo=memo)
    assert server.find("Service", f"{CHILD}-udp")


def url(kind: str, name: str) -> str:
    group, _, plural = RESOURCES[kind].rpartition("/")
    return f"/apis/{group}/namespaces/team-a/{plural}/{name}"


def asked(request) -> tuple[str, str, str]:
    """Return group, resource and verb of a request, as RBAC calls them; empty for discovery."""
    parts = request.url.path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" and len(parts) > 1 else ""
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    if not rest:
        return "", "", ""
    verb = {"PATCH": "patch", "DELETE": "delete"}.get(request.method.value, "get")
    if verb == "get" and len(rest) == 1:
        verb = "watch" if "watch" in request.url.query else "list"
    return group, "/".join([rest[0], *rest[2:]]), verb


async def test_kopf_runs_it_as_the_manifest_says_and_the_role_allows_what_it_asks_for(server):
    documents = list(yaml.safe_load_all((ROOT / "deploy/operator/operator.yaml").read_text()))
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    (role,) = (each for each in documents if each["kind"] == "ClusterRole")
    program, *arguments = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    arguments = [each for each in arguments if not each.startswith("--liveness")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, *arguments, cwd=ROOT
    )
    try:
        async with asyncio.timeout(SECONDS):
            while ready(server) != "Unknown":
                await asyncio.sleep(0.05)
            # Knative and Kubernetes do their part, as the API server tells.
            for kind, done in (("SinkBinding", BOUND), ("Deployment", AVAILABLE)):
                await server.patch(url(kind, CHILD), json={"status": done})
            while ready(server) != "True":
                await asyncio.sleep(0.05)
            assert status(server)["sinkUri"] == BOUND["sinkUri"]
            await server.patch(url("ProtocolSource", "greenhouse"), json={"spec": {"replicas": 5}})
            while server.find("Deployment", CHILD)["spec"]["replicas"] != 5:
                await asyncio.sleep(0.05)
            await server.delete(url("Deployment", CHILD))
            while ready(server) != "Unknown":  # it is there again, and new
                await asyncio.sleep(0.05)
    finally:
        process.terminate()
        await process.wait()
    assert "finalizers" not in server.find("ProtocolSource", "greenhouse")["metadata"]
    allowed = {
        (group, kind, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    ours = [r for r in server if "kmock" not in r.headers["User-Agent"]]
    requests = {asked(request) for request in ours} - {("", "", "")}
    assert ("sources.ce-gateway.dev", "protocolsources", "watch") in requests
    assert ("sources.ce-gateway.dev", "protocolsources/status", "patch") in requests
    assert requests - allowed == set()
    assert allowed - requests == {
        *((group, kind, "create") for group, kind, verb in requests if verb == "patch"
          and kind in ("configmaps", "services", "deployments", "sinkbindings")),
        ("", "services", "delete"),
        ("sources.ce-gateway.dev", "protocolsources/finalizers", "update"),
    }  # fmt: skip
