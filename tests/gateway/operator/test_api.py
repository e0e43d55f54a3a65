"""The operator's requests to the API server, here kmock."""

import pytest

from gateway.operator.api import ApiError, connected
from gateway.operator.manifests import children
from tests.gateway.operator.cluster import RESOURCES, cluster, example


@pytest.fixture
async def server(tmp_path, monkeypatch):
    async with cluster(tmp_path, monkeypatch) as emulator:
        yield emulator


async def test_apply_makes_and_changes_and_says_who_it_is(server):
    manifest = children(example())[0]
    async with connected() as api:
        assert await api.get("ConfigMap", "team-a", "greenhouse-gateway") == {}
        await api.apply(manifest)
        await api.apply({**manifest, "data": {"other": "x"}})
        found = await api.get("ConfigMap", "team-a", "greenhouse-gateway")
    assert found["data"] == {**manifest["data"], "other": "x"}
    requests = list(server["patch"])
    assert {request.params["force"] for request in requests} == {"true"}
    assert {request.headers["Authorization"] for request in requests} == {"Bearer t"}


async def test_delete_of_what_is_not_there_is_no_error(server):
    async with connected() as api:
        await api.apply(children(example())[0])
        for _ in range(2):
            await api.delete("ConfigMap", "team-a", "greenhouse-gateway")
    assert server.find("ConfigMap", "greenhouse-gateway") is None


async def test_status_is_written_to_its_subresource_and_none_takes_away(server):
    source = {**example(), "status": {"sinkUri": "old", "sinkAudience": "old"}}
    server.objects[RESOURCES["ProtocolSource"], "team-a", "greenhouse"] = source
    async with connected() as api:
        await api.set_status("team-a", "greenhouse", {"sinkUri": "new", "sinkAudience": None})
    assert server.find("ProtocolSource", "greenhouse")["status"] == {"sinkUri": "new"}
    (request,) = server["patch"]
    assert request.url.path.endswith("/protocolsources/greenhouse/status")


async def test_what_the_server_refuses_is_an_error_with_its_words(server):
    server["patch"] << {"message": "admission webhook denied the request"} << 403
    async with connected() as api:
        with pytest.raises(ApiError, match=r"403 .*admission webhook denied"):
            await api.apply(children(example())[0])


async def test_a_server_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    async with cluster(tmp_path, monkeypatch):
        pass
    async with connected() as api:
        with pytest.raises(ApiError):
            await api.get("Service", "team-a", "x")


async def test_without_credentials_nothing_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ApiError, match="neither a service account nor a KUBECONFIG"):
        async with connected():
            pass
