"""The Pod Security Standard `restricted`, as Kubernetes documents it."""

from collections.abc import Iterator
from typing import Any

from tests.deploy.validation import Manifest

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_of(manifest: Manifest) -> Manifest | None:
    """Return the pod that a manifest makes; None if it makes none."""
    if manifest["kind"] == "Pod":
        return manifest["spec"]
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)  # CronJob
    found = spec.get("template", {}).get("spec")
    return found if isinstance(found, dict) and "containers" in found else None


def violations(pod: Manifest) -> Iterator[str]:
    """Yield what the standard forbids of a pod."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if not volume.keys() - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    whole = pod.get("securityContext", {})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        for what in _of_container(container, whole):
            yield f"{container['name']}: {what}"


def _of_container(container: Manifest, whole: Manifest) -> Iterator[str]:
    own: dict[str, Any] = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if own.get("runAsUser", whole.get("runAsUser")) == 0:
        yield "runAsUser"
    seccomp = own.get("seccompProfile", whole.get("seccompProfile", {}))
    if seccomp.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {
        "NET_BIND_SERVICE"
    }:
        yield "capabilities"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']}"
