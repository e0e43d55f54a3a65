"""Manifests, checked as strictly as `kubectl apply --validate=strict` does, without a cluster.

Kubernetes' own kinds by kubernetes-validate; other kinds by the schema of their CRD, which is in
deploy/schemas or is itself a manifest under deploy/. Unknown fields are mistakes. Not checked, as
only an API server can: rules in CEL, and what admission webhooks say.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMAS = DEPLOY / "schemas"
KUBERNETES = "1.37"
OLDEST = "1.30"  # that the chart takes

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    """Return the manifests of a YAML text; what is no manifest is left out."""
    found = yaml.load_all(text, yaml.CSafeLoader)
    return [one for one in found if isinstance(one, dict) and {"apiVersion", "kind"} <= one.keys()]


def manifests() -> Iterator[tuple[str, Manifest]]:
    """Yield every manifest under deploy/ with its file; what has no apiVersion and kind is none."""
    for file in sorted(DEPLOY.rglob("*.yaml")):
        if "templates" not in file.parts:
            for document in documents(file.read_text("utf-8")):
                yield file.relative_to(DEPLOY).as_posix(), document


def strict(schema: Any, *, root: bool = False) -> Any:
    """Return a CRD's schema as JSON Schema that refuses fields which it does not name."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    keeps_unknown = result.get("x-kubernetes-preserve-unknown-fields", False)
    if result.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if result.get("x-kubernetes-embedded-resource"):
        keeps_unknown = True
    if result.pop("nullable", False) and "type" in result:
        result["type"] = [result["type"], "null"]
    for key in ("properties", "patternProperties"):
        if key in result:
            result[key] = {name: strict(value) for name, value in result[key].items()}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = strict(result[key])
    if root:
        whole = {"apiVersion": {}, "kind": {}, "metadata": {}}
        result["properties"] = result.get("properties", {}) | whole
    if "properties" in result and "additionalProperties" not in result and not keeps_unknown:
        result["additionalProperties"] = False
    return result  # allOf, anyOf, oneOf and not only narrow, and stay as they are


@functools.cache
def own_definitions() -> dict[tuple[str, str], Any]:
    """Return the schemas of CRDs that are manifests under deploy/, by apiVersion and kind."""
    return {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): version[
            "schema"
        ]["openAPIV3Schema"]
        for _, crd in manifests()
        if crd["kind"] == "CustomResourceDefinition"
        for version in crd["spec"]["versions"]
        if version["served"]
    }


@functools.cache
def custom(api_version: str, kind: str) -> jsonschema.Draft7Validator | None:
    """Return what checks a custom kind; None for Kubernetes' own and for unknown kinds."""
    group, _, version = api_version.partition("/")
    schema = own_definitions().get((api_version, kind))
    file = SCHEMAS / group / f"{kind.lower()}.json"
    if schema is None and file.exists():
        schema = json.loads(file.read_text())["versions"].get(version)
    return None if schema is None else jsonschema.Draft7Validator(strict(schema, root=True))


def problems(manifest: Manifest, kubernetes: str = KUBERNETES) -> list[str]:
    """Return what is wrong with a manifest; nothing if an API server would take it."""
    name = manifest.get("metadata", {}).get("name")
    who = f"{manifest['apiVersion']} {manifest['kind']} {name}"
    return [f"{who}: {problem}" for problem in _problems(manifest, kubernetes)]


def _problems(manifest: Manifest, kubernetes: str) -> Iterable[str]:
    validator = custom(manifest["apiVersion"], manifest["kind"])
    if validator is not None:
        if not manifest.get("metadata", {}).get("name"):
            yield "metadata.name is missing"
        for error in validator.iter_errors(manifest):
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        if manifest["kind"] == "ContainerSource":  # its CRD takes any pod
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}
            yield from _problems(pod | manifest["spec"].get("template", {}), kubernetes)
        return
    try:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield "no schema: is it served, and is it in deploy/schemas?"
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
