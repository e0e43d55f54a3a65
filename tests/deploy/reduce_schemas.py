"""Write deploy/schemas from CustomResourceDefinitions: python -m tests.deploy.reduce_schemas CRDS.

CRDS is a folder with the projects' own YAML, and a SOURCES.json that says where each file is from.
Kept are the kinds of `KINDS`, the served versions, and of each schema what checks something:
descriptions and examples go, which are nine tenths of it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parents[2] / "deploy/schemas"
KINDS = {
    "eventing.knative.dev": ["Broker", "EventPolicy", "EventType", "KafkaSink", "Trigger"],
    "gateway.envoyproxy.io": [
        "BackendTrafficPolicy",
        "ClientTrafficPolicy",
        "EnvoyPatchPolicy",
    ],
    "gateway.networking.k8s.io": [
        "Gateway",
        "GatewayClass",
        "HTTPRoute",
        "TCPRoute",
        "TLSRoute",
        "UDPRoute",
    ],
    "access.smi-spec.io": ["TrafficTarget"],
    "split.smi-spec.io": ["TrafficSplit"],
    "specs.smi-spec.io": ["HTTPRouteGroup", "TCPRoute", "UDPRoute"],
    "keda.sh": ["ScaledObject"],
    "monitoring.coreos.com": ["PrometheusRule", "ServiceMonitor"],
    "networking.istio.io": ["DestinationRule", "Gateway", "VirtualService"],
    "networkservicemesh.io": ["NetworkService"],
    "security.istio.io": ["AuthorizationPolicy", "PeerAuthentication"],
    "sources.knative.dev": ["ContainerSource", "KafkaSource", "SinkBinding"],
}
SKIPPED = ("experimental", "compose")


def without_prose(schema: Any) -> Any:
    """Return a schema without what only people read."""
    if isinstance(schema, list):
        return [without_prose(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_prose(part) for name, part in value.items()}
        if key in {"properties", "patternProperties"}
        else without_prose(value)
        for key, value in schema.items()
        if key not in {"description", "example", "x-kubernetes-validations"}
    }


def without_gaps(schema: Any) -> Any:
    """Return a schema of Knative that refuses unknown fields, as Knative's webhook does.

    The CRDs keep what they do not name, and leave out three fields of a delivery.
    """
    if not isinstance(schema, dict):
        return schema
    result = {key: without_gaps(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict):
        result.pop("x-kubernetes-preserve-unknown-fields", None)
        if "backoffPolicy" in result["properties"]:
            for name in ("timeout", "retryAfterMax", "format"):
                result["properties"].setdefault(name, {"type": "string"})
    return result


def main(crds: Path) -> None:
    """Write one file for each kind, and SOURCES.json."""
    origins = {entry["file"]: entry for entry in json.loads((crds / "SOURCES.json").read_text())}
    sources = []
    for file in sorted(crds.rglob("*.yaml")):
        if any(word in file.parts[-2] for word in SKIPPED):
            continue
        for crd in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            group, kind = spec["group"], spec["names"]["kind"]
            if kind not in KINDS.get(group, []):
                continue
            versions = {
                version["name"]: without_prose(version["schema"]["openAPIV3Schema"])
                for version in spec["versions"]
                if version["served"]
            }
            if group.endswith("knative.dev"):
                versions = {name: without_gaps(schema) for name, schema in versions.items()}
            target = SCHEMAS / group / f"{kind.lower()}.json"
            target.parent.mkdir(exist_ok=True)
            target.write_text(
                json.dumps(
                    {"group": group, "kind": kind, "scope": spec["scope"], "versions": versions},
                    separators=(",", ":"),
                )
                + "\n"
            )
            origin = origins[file.relative_to(crds).as_posix()]
            sources.append(
                {
                    "file": target.relative_to(SCHEMAS).as_posix(),
                    **{key: origin[key] for key in ("repository", "ref", "commit", "path")},
                    "license": "Apache-2.0",
                }
            )
    sources.sort(key=lambda entry: entry["file"])
    (SCHEMAS / "SOURCES.json").write_text(json.dumps(sources, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
