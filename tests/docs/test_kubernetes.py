"""docs/kubernetes.md and its part of docs/scaling.md: what can be tried without a cluster."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from gateway.config.loader import load
from tests.deploy.helm import CHART, helm, needs_helm, template
from tests.deploy.validation import documents, problems

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/kubernetes.md").read_text("utf-8")
SCALING = (ROOT / "docs/scaling.md").read_text("utf-8")
VALUES = re.findall(r"^```yaml\n(.*?)^```$", PAGE + SCALING, re.MULTILINE | re.DOTALL)
FIRST = PAGE.split("## The first event")[1].split("\n## ")[0]
ENVIRON = {"DEV1_KEY": "k", "DEV1_PASSWORD": "p", "POD_NAME": "ce-gateway-0"}


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=["devices", "brokers", "keda"])
def test_values_on_the_page_are_right(values, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(values)
    done = template(file)
    assert done.returncode == 0, done.stderr
    found = documents(done.stdout)
    assert [problem for one in found for problem in problems(one)] == []
    (text,) = [one["data"]["gateway.yaml"] for one in found if one["kind"] == "ConfigMap"]
    assert load(text, ENVIRON).sources


@needs_helm
def test_helm_takes_the_commands_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    values = tmp_path / "values.yaml"
    values.write_text("{}")
    commands = re.findall(r"helm (?:install|upgrade) [^\n`|]+", PAGE)
    assert len(commands) == 2
    for command in commands:
        arguments = [str(values) if a == "values.yaml" else a for a in shlex.split(command)[2:]]
        done = helm("template", *arguments)
        assert done.returncode == 0, done.stderr


def test_files_and_links_of_the_page_exist():
    files = re.findall(r"-f (deploy/[\w./-]+)", PAGE)
    assert files
    for file in {*files} - {"deploy/Dockerfile"}:
        assert documents((ROOT / file).read_text()), file
    for link in re.findall(r"\]\(([\w./-]+\.md)", PAGE + SCALING):
        assert (ROOT / "docs" / link).resolve().exists(), link


def test_the_way_into_a_broker_names_what_the_manifests_make():
    made = documents((ROOT / "deploy/release/knative.yaml").read_text())
    made += documents((ROOT / "deploy/examples/knative/broker.yaml").read_text())
    names = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in made}
    commands = PAGE.split("Into a Broker")[1].split("\n## ")[0]
    named = re.findall(r"\b(?:deployment|broker|sinkbinding)/[\w-]+", commands)
    assert len(named) == 5
    assert set(named) <= names
    (binding,) = [one["spec"] for one in made if one["kind"] == "SinkBinding"]
    assert f"broker/{binding['sink']['ref']['name']}" in names
    (trigger,) = [one["spec"] for one in made if one["kind"] == "Trigger"]
    wanted = {
        key: value for one in trigger["filters"] for key, value in one.get("exact", {}).items()
    }
    assert wanted == binding["ceOverrides"]["extensions"]


def test_values_of_the_table_are_those_of_the_chart():
    rows = PAGE.split("## Values")[1].split("\n## ")[0]
    named = {
        name.split(".")[0]
        for row in re.findall(r"^\| (`[^|]*) \|", rows, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", row)
    }
    own = set(yaml.safe_load((CHART / "values.yaml").read_text()))
    assert named <= own
    assert own - named == {
        "admin",
        "imagePullSecrets",
        "logFormat",
        "logLevel",
        "nameOverride",
        "namespace",
    }


def test_values_that_the_text_names_are_those_of_the_chart():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # `admin` and `config` hold keys of the gateway's own.
    dotted = [name.split(".") for name in re.findall(r"`(\w+\.[\w.]+)`", PAGE)]
    named = [path for path in dotted if path[0] in values.keys() - {"admin", "config"}]
    assert len(named) >= 5
    for path in named:
        found = values
        for key in path:
            assert key in found, ".".join(path)
            found = found[key]


def test_the_three_commands_name_what_the_manifest_makes():
    made = documents((ROOT / "deploy/release/ce-gateway.yaml").read_text())
    (pod,) = [one for one in made if one["kind"] == "Deployment"]
    lines = [line[4:] for line in FIRST.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    namespace, kind, name, *ports = re.fullmatch(
        r"kubectl -n (\S+) port-forward (\w+)/(\S+) (\d+) (\d+) & sleep 1", lines[1]
    ).groups()
    assert (namespace, name) == (pod["metadata"]["namespace"], pod["metadata"]["name"])
    assert kind == pod["kind"].lower()
    has = {
        port["containerPort"] for port in pod["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert {int(port) for port in ports} <= has
    assert set(re.findall(r"http://127.0.0.1:(\d+)", lines[2])) == set(ports)
