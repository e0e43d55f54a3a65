"""An API server for the operator: kmock, which also makes what is applied and is not there."""

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kmock import KubernetesEmulator, Server, resource

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/knative/protocolsource.yaml"
GROUP = "sources.ce-gateway.dev/v1alpha1"
RESOURCES = {
    "ProtocolSource": f"{GROUP}/protocolsources",
    "SinkBinding": "sources.knative.dev/v1/sinkbindings",
    "Deployment": "apps/v1/deployments",
    "ConfigMap": "v1/configmaps",
    "Service": "v1/services",
    "Namespace": "v1/namespaces",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1/customresourcedefinitions",
}
APPLY = "application/apply-patch+yaml"
# The two outcomes of a SinkBinding, as Knative's controller writes them.
BOUND = {
    "sinkUri": "http://broker-ingress.knative-eventing.svc.cluster.local/team-a/devices",
    "sinkAudience": "eventing.knative.dev/broker/team-a/devices",
    "auth": {"serviceAccountName": "devices-oidc"},
    "observedGeneration": 0,
    "conditions": [
        {"type": "Ready", "status": "True"},
        {"type": "SinkProvided", "status": "True"},
    ],
}
UNBOUND = {
    "observedGeneration": 0,
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "NotFound", "message": "no such broker"},
        {"type": "SinkProvided", "status": "False", "reason": "NotFound"},
    ],
}
AVAILABLE = {
    "observedGeneration": 0,
    "replicas": 2,
    "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
}


def example(**spec: Any) -> dict[str, Any]:
    """Return the ProtocolSource of the examples, as an API server has it."""
    source: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    source["metadata"] |= {"namespace": "team-a", "uid": "u-1", "generation": 1}
    source["spec"] |= spec
    return source


class Cluster(KubernetesEmulator):
    """kmock with server-side apply."""

    async def _handle(self, request):
        if request.headers.get("Content-Type") == APPLY and request.resource is not None:
            assert request.params["fieldManager"] == "ce-gateway-operator"
            key = (request.resource, request.namespace, request.name)
            if key not in self.objects or self.objects[key].deleted:
                new = {"metadata": {"name": request.name, "namespace": request.namespace}}
                await self._put(key, new, "ADDED")
        return await super()._handle(request)

    async def _put(self, key: Any, manifest: Mapping[str, Any], kind: str) -> None:
        async with self._lock:
            if key in self.objects:
                self.objects[key].create(dict(manifest))
            else:
                self.objects[key] = dict(manifest)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object of the namespace team-a, None if there is none."""
        key = (resource(RESOURCES[kind]), "team-a", name)
        if key not in self.objects or self.objects[key].deleted:
            return None
        return copy.deepcopy(dict(self.objects[key].raw))


@contextlib.asynccontextmanager
async def cluster(folder: Path, monkeypatch):
    """Run an API server, and have KUBECONFIG lead to it."""
    async with Cluster() as emulator, Server(emulator) as server:
        for kind, each in RESOURCES.items():
            emulator.resources[each] = {
                "kind": kind,
                "singular": kind.lower(),
                "namespaced": kind not in ("Namespace", "CustomResourceDefinition"),
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
                "shortnames": [],
                "categories": [],
                "subresources": ["status"],
            }
        file = folder / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": str(server.url).rstrip("/")}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(file))
        yield emulator
