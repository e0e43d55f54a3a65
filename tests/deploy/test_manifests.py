"""Every manifest under deploy/ is one that an API server takes."""

import copy
import json

import pytest

from tests.deploy.validation import DEPLOY, SCHEMAS, documents, manifests, problems

ALL = list(manifests())
BY_FILE = {
    file: [manifest for at, manifest in ALL if at == file]
    for file in dict.fromkeys(f for f, _ in ALL)
}


@pytest.mark.parametrize("file", BY_FILE)
def test_manifests_are_valid_to_the_last_field(file):
    assert [problem for manifest in BY_FILE[file] for problem in problems(manifest)] == []


@pytest.mark.parametrize("file", BY_FILE)
def test_no_object_stands_twice_in_a_file(file):
    names = [
        (m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"])
        for m in BY_FILE[file]
    ]
    assert len(names) == len(set(names))


def leaves(value, path=()):
    """Yield the path of every field of a manifest's spec."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key)
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for position, below in enumerate(value):
            yield from leaves(below, (*path, position))


# One of each kind that a schema checks; fields below these are the user's own names.
FREE = {
    "matchLabels",
    "labels",
    "annotations",
    "selector",
    "metadata",
    "extensions",
    "exact",
    "prefix",
}
FREE |= {"portLevelMtls", "value", "requests", "limits", "headers", "data", "suffix", "config"}
KINDS = {(m["apiVersion"], m["kind"]): m for _, m in ALL if isinstance(m.get("spec"), dict)}


@pytest.mark.parametrize("kind", KINDS, ids="/".join)
def test_a_misspelt_field_is_found(kind):
    if kind[1] in {"CustomResourceDefinition", "NetworkService"}:
        pytest.skip("free-form: a schema in it, or none")
    found = 0
    for path in leaves(KINDS[kind]["spec"], ("spec",)):
        if FREE & set(path[:-1]) or not isinstance(path[-1], str):
            continue
        broken = copy.deepcopy(KINDS[kind])
        parent = broken
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1] + "x"] = parent[path[-1]]
        assert problems(broken), ".".join(map(str, path))
        found += 1
        if found == 12:
            break
    assert found


def test_an_unserved_version_and_an_unknown_kind_are_found():
    (route,) = documents(
        "{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: UDPRoute, metadata: {name: a}}"
    )
    assert "no schema" in problems(route)[0]
    assert "no schema" in problems({**route, "apiVersion": "apps/v1", "kind": "Deploymint"})[0]


def test_every_schema_says_where_it_is_from():
    sources = json.loads((SCHEMAS / "SOURCES.json").read_text())
    files = {file.relative_to(SCHEMAS).as_posix() for file in SCHEMAS.glob("*/*.json")}
    assert {entry["file"] for entry in sources} == files


def test_manifests_are_found_where_they_should_be():
    folders = {file.split("/")[0] for file in BY_FILE}
    assert {"release", "examples"} <= folders
    assert (DEPLOY / "chart/ce-gateway/Chart.yaml").exists()
