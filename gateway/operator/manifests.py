"""What is made of a ProtocolSource: plain manifests, ready to be applied."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

from gateway import registry
from gateway.build import build
from gateway.config.loader import load
from gateway.config.problems import ConfigErrors
from gateway.config.records import SourceConfig, parse_address
from gateway.errors import GatewayError
from gateway.sinks.http.knative import overrides

GROUP: Final = "sources.ce-gateway.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "protocolsources"
INSTANCE: Final = f"{GROUP}/name"
"""The label that names the ProtocolSource of an object.

It is ours: Services of a release of the chart select by app.kubernetes.io/instance.
"""
MANAGED: Final = {"app.kubernetes.io/managed-by": "ce-gateway-operator"}

Manifest = dict[str, Any]

_ADMIN_PORT: Final = 8081
_USER: Final = 65532
_CONFIGURATION: Final = "/etc/ce-gateway"
_VARIABLE: Final = re.compile(r"\$\{([^}]*)")


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that is a number in YAML 1.2, which the gateway reads, not just in 1.1.

    Such as 089 and 1e3; it is what any number begins with.
    """


_Dumper.add_implicit_resolver("!number", re.compile(r"[-+.0-9]"), list("-+.0123456789"))


class Listener(NamedTuple):
    """A port that a source listens on; `is_http` is about HTTP without TLS."""

    port: int
    is_datagram: bool
    is_http: bool

    @property
    def name(self) -> str:
        """The port's name; meshes read the protocol from its beginning."""
        kind = "udp" if self.is_datagram else "http" if self.is_http else "tcp"
        return f"{kind}-{self.port}"

    @property
    def protocol(self) -> str:
        """UDP or TCP."""
        return "UDP" if self.is_datagram else "TCP"


def child_name(source: Mapping[str, Any]) -> str:
    """Return the name that the Deployment, SinkBinding and ConfigMap of a ProtocolSource have."""
    return f"{source['metadata']['name']}-gateway"


def selector(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that the pods of a ProtocolSource have, and no other ones."""
    return {"app.kubernetes.io/name": "ce-gateway", INSTANCE: source["metadata"]["name"]}


def problem(source: Mapping[str, Any]) -> str:
    """Return what is wrong with a ProtocolSource and its schema does not tell; "" if nothing is.

    What Secrets and files put into it is known only where it runs, and is left to the pod.
    """
    spec = source["spec"]
    text = configuration(spec)
    environ = {"NAMESPACE": source["metadata"]["namespace"], "POD_NAME": source["metadata"]["name"]}
    try:
        overrides(json.dumps(spec.get("ceOverrides") or {}))
        if not set(_VARIABLE.findall(text)) - {"K_SINK", *environ}:
            load(text, environ)
        listeners(spec["sources"])
    except ConfigErrors as errors:
        return "; ".join(f"{problem.path}: {problem.text}" for problem in errors.problems)
    except (GatewayError, ValueError) as error:
        return str(error)
    return ""


def configuration(spec: Mapping[str, Any]) -> str:
    """Return the gateway's configuration as it stands in the file of the pod."""
    delivery = dict(spec.get("delivery") or {})
    dead_letters = delivery.pop("deadLetterSink", None)
    if dead_letters is not None:
        delivery["deadLetterSink"] = dead_letters["uri"]
    return yaml.dump(
        {
            "sources": spec["sources"],
            "sinks": {"knative": {"protocol": "http", "url": "${K_SINK}"}},
            "routes": [{"to": ["knative"]}],
            # The pods have no volume that outlives them: a sender keeps what no sink has taken.
            "delivery": {**delivery, "spool": "off", "dead_letters": "off"},
            "admin": {"listen": f"0.0.0.0:{_ADMIN_PORT}"},
        },
        Dumper=_Dumper,
        sort_keys=True,
    )


def listeners(sources: Mapping[str, Mapping[str, Any]]) -> list[Listener]:
    """Return the ports that sources listen on, each once; those of the pod alone are left out.

    Raises:
        ValueError: an address is none; says where.
        GatewayError: a protocol is not known.
    """
    found = set()
    for name, source in sources.items():
        record = registry.load("sources", source["protocol"]).config_type
        datagrams = record.datagram_listeners if issubclass(record, SourceConfig) else frozenset()
        is_http = source["protocol"] == "http" and not source.get("tls")
        for key, field in record.model_fields.items():
            value = source.get(key, field.default)
            if not key.startswith("listen") or value is None or "${" in str(value):
                continue
            try:
                address = parse_address(value)
            except ValueError as error:
                raise ValueError(f"sources.{name}.{key}: {error}") from error
            if not address.is_loopback:
                found.add(Listener(address.port, key in datagrams, is_http))
    return sorted(found)


def children(source: Mapping[str, Any]) -> list[Manifest]:
    """Return all that belongs to a ProtocolSource, in the order of its making.

    The SinkBinding comes before the Deployment, so that the first pod has its K_SINK already.
    """
    ports = listeners(source["spec"]["sources"])
    text = configuration(source["spec"])
    services = [
        _service(source, suffix, some) for suffix, some in service_ports(ports).items() if some
    ]
    name = child_name(source)
    config_map = _object(source, "v1", "ConfigMap", name, data={"gateway.yaml": text})
    return [config_map, _sink_binding(source), _deployment(source, text, ports), *services]


def service_ports(ports: list[Listener]) -> dict[str, list[Listener]]:
    """Return the ports by the suffix of their Service.

    UDP has its own: few load balancers take both in one.
    """
    return {
        "tcp": [port for port in ports if not port.is_datagram],
        "udp": [port for port in ports if port.is_datagram],
    }


def _object(
    source: Mapping[str, Any], api_version: str, kind: str, name: str, **content: Any
) -> Manifest:
    metadata = source["metadata"]
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ProtocolSource",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**selector(source), **MANAGED},
            "ownerReferences": [owner],
        },
        **content,
    }


def _sink_binding(source: Mapping[str, Any]) -> Manifest:
    spec = source["spec"]
    subject = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": child_name(source),
        "namespace": source["metadata"]["namespace"],
    }
    content = {"subject": subject, "sink": spec["sink"]}
    if spec.get("ceOverrides"):
        content["ceOverrides"] = spec["ceOverrides"]
    name = child_name(source)
    return _object(source, "sources.knative.dev/v1", "SinkBinding", name, spec=content)


def _service(source: Mapping[str, Any], suffix: str, ports: list[Listener]) -> Manifest:
    spec: Manifest = {
        "selector": selector(source),
        "ports": [
            {
                "name": port.name,
                "port": port.port,
                "targetPort": port.name,
                "protocol": port.protocol,
            }
            for port in ports
        ],
    }
    if suffix == "udp":  # CoAP: repeats and blocks of a device are for the pod that knows it
        spec["sessionAffinity"] = "ClientIP"
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    return _object(source, "v1", "Service", f"{child_name(source)}-{suffix}", spec=spec)


def _deployment(source: Mapping[str, Any], text: str, ports: list[Listener]) -> Manifest:
    labels = {**selector(source), **MANAGED}
    # A pod reads its configuration once: another one asks for another pod.
    annotations = {"checksum/config": hashlib.sha256(text.encode()).hexdigest()}
    spec = {
        "replicas": source["spec"].get("replicas", 1),
        "selector": {"matchLabels": selector(source)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod(source, ports),
        },
    }
    manifest = _object(source, "apps/v1", "Deployment", child_name(source), spec=spec)
    # For clusters where only what says so is bound (SINK_BINDING_SELECTION_MODE=inclusion).
    manifest["metadata"]["labels"]["bindings.knative.dev/include"] = "true"
    return manifest


def _pod(source: Mapping[str, Any], ports: list[Listener]) -> Manifest:
    spec = source["spec"]
    files = spec.get("files") or {}
    config = {"name": "config", "configMap": {"name": child_name(source)}}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 40,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, ports, list(files))],
        "volumes": [
            config,
            {"name": "tmp", "emptyDir": {}},
            *({"name": f"file-{name}", **volume} for name, volume in files.items()),
        ],
    }


def _container(spec: Mapping[str, Any], ports: list[Listener], files: list[str]) -> Manifest:
    fields = {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    probe = {"httpGet": {"path": "/livez", "port": "admin"}}
    folder = f"{_CONFIGURATION}/files"
    return {
        "name": "gateway",
        "image": spec.get("image") or default_image(),
        "args": ["run", f"{_CONFIGURATION}/config/gateway.yaml", "--log-format", "json"],
        # K_SINK, K_CE_OVERRIDES and K_CA_CERTS come from the SinkBinding, and never stand here.
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in fields.items()
        ],
        "envFrom": [{"secretRef": {"name": name}} for name in spec.get("secrets") or []],
        "ports": [
            *(
                {"name": port.name, "containerPort": port.port, "protocol": port.protocol}
                for port in ports
            ),
            {"name": "admin", "containerPort": _ADMIN_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "admin"},
            "periodSeconds": 2,
            "failureThreshold": 2,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": spec.get("resources") or {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": f"{_CONFIGURATION}/config", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            *(
                {"name": f"file-{name}", "mountPath": f"{folder}/{name}", "readOnly": True}
                for name in files
            ),
        ],
    }


def default_image() -> str:
    """Return the image where a ProtocolSource names none: GATEWAY_IMAGE, else this release."""
    return os.environ.get("GATEWAY_IMAGE") or f"ce-gateway:{build().version}"
