"""docker-compose.yml and deploy/Dockerfile, as far as it takes no other program to judge them."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import typer
import yaml

from gateway.__main__ import app

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "deploy/compose/schema/compose-spec.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
PAGE = (ROOT / "docs/desk.md").read_text()
WELL_KNOWN = {"coap": 5683, "mqtt": 1883, "nats": 4222}
OURS = {name: one for name, one in SERVICES.items() if "build" in one}


def interpolated(text):
    """Return a text with the defaults of its variables, as Compose does when none is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


def mounts():
    """Yield service, source and target of each mounted path."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            yield name, source, target


def published():
    """Yield service, address and port on the host, port of the container, protocol."""
    for name, service in SERVICES.items():
        for text in service.get("ports", ()):
            ports, _, protocol = text.partition("/")
            address, host, container = ports.split(":")
            yield name, address, int(host), int(container), protocol or "tcp"


# --- docker-compose.yml ---------------------------------------------------------------------------


def test_it_is_what_the_compose_specification_says():
    jsonschema.Draft7Validator(SCHEMA).validate(COMPOSE)


def test_the_schema_finds_a_misspelt_key():
    wrong = {"services": {"a": {"image": "b", "depend_on": ["c"]}}}
    with pytest.raises(jsonschema.ValidationError, match="depend_on"):
        jsonschema.Draft7Validator(SCHEMA).validate(wrong)


def test_every_path_that_is_mounted_exists():
    paths = [source for _, source, _ in mounts() if source.startswith(".")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_volume_is_declared_and_used():
    used = {source for _, source, _ in mounts() if not source.startswith(".")}
    assert used == set(COMPOSE["volumes"])


def test_ports_do_not_collide():
    taken = [(host, protocol) for _, _, host, _, protocol in published()]
    assert len(set(taken)) == len(taken)


def test_everything_is_on_this_machine_only():
    assert {address for _, address, *_ in published()} == {"127.0.0.1"}


def test_services_depend_on_services_that_tell_how_they_are():
    needed = [one["depends_on"] for one in SERVICES.values() if "depends_on" in one]
    assert {name for names in needed for name in names} <= set(SERVICES)
    waits = {
        (name, how["condition"])
        for names in needed
        if isinstance(names, dict)
        for name, how in names.items()
    }
    healthy = {name for name, condition in waits if condition == "service_healthy"}
    started = {name for name, condition in waits if condition == "service_started"}
    assert healthy
    assert [name for name in healthy if "healthcheck" not in SERVICES[name]] == []
    assert [name for name in started if "healthcheck" in SERVICES[name]] == []


def test_the_two_gateways_share_what_brokers_have():
    config = yaml.safe_load((ROOT / "deploy/compose/gateway/gateway.yaml").read_text())
    fetching = {
        source["protocol"]: source
        for source in config["sources"].values()
        if source["protocol"] in {"mqtt", "nats"}
    }
    assert fetching["mqtt"]["share"]
    assert fetching["mqtt"]["client_id"] == "${GATEWAY}"  # a session for each
    assert fetching["nats"]["queue"]
    names = [SERVICES[f"gateway-{number}"]["environment"]["GATEWAY"] for number in (1, 2)]
    assert len(set(names)) == 2


def test_every_foreign_image_has_a_version():
    images = [one["image"] for name, one in SERVICES.items() if name not in OURS]
    assert [image for image in images if not re.search(r":v?\d", image)] == []


@pytest.mark.parametrize("name", OURS)
def test_our_image_runs_without_root_and_without_rights(name):
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", [name for name, one in OURS.items() if "entrypoint" not in one])
def test_commands_and_options_are_those_of_the_program(name):
    understood([interpolated(text) for text in OURS[name]["command"]])


def understood(words):
    """Parse a command line of ours; raises for what is not known."""
    command, *arguments = words
    group = typer.main.get_command(app)
    with group.make_context("ce-gateway", [command]) as context:
        parsed = group.get_command(context, command).make_context(command, arguments)
    assert parsed.args == []  # all of them were understood, else it raises


def test_the_page_names_commands_services_and_ports_that_are_there():
    sends = re.findall(r"^    \S*ce-gateway (send .*)$", PAGE, re.MULTILINE)
    protocols = set()
    for text in sends:
        understood(shlex.split(text))
        url = urlsplit(shlex.split(text)[1])
        protocols.add(url.scheme)
        assert (url.port or WELL_KNOWN[url.scheme]) in {host for _, _, host, *_ in published()}
    assert protocols == {"coap", "mqtt", "nats", "http"}
    named = re.findall(r"docker compose (?:kill|start|stop|logs --follow|run --rm) (\S+)", PAGE)
    assert len(named) >= 5
    assert set(named) <= set(SERVICES)
    ports = set(map(int, re.findall(r"(?:127\.0\.0\.1|localhost):(\d+)", PAGE)))
    assert ports <= {host for _, _, host, *_ in published()}


def test_devices_reach_envoy_where_the_protocols_ports_are():
    of_envoy = {
        (host, inside, proto) for name, _, host, inside, proto in published() if name == "envoy"
    }
    assert {(5683, 5683, "udp"), (1883, 1883, "tcp"), (8080, 8080, "tcp")} <= of_envoy
    listeners = yaml.safe_load((ROOT / "deploy/examples/envoy/xds/lds.yaml").read_text())[
        "resources"
    ]
    addresses = [listener["address"]["socket_address"] for listener in listeners]
    assert {(one["port_value"], one.get("protocol", "TCP").lower()) for one in addresses} <= {
        (inside, proto) for _, inside, proto in of_envoy
    }


def test_envoy_has_the_clusters_of_the_example_with_the_services_as_endpoints():
    def clusters(path):
        return {one["name"]: one for one in yaml.safe_load((ROOT / path).read_text())["resources"]}

    here = clusters("deploy/compose/envoy/cds.yaml")
    example = clusters("deploy/examples/envoy/xds/cds.yaml")
    for name, cluster in here.items():
        (group,) = cluster.pop("load_assignment")["endpoints"]
        addresses = [
            endpoint["endpoint"]["address"]["socket_address"]["address"]
            for endpoint in group["lb_endpoints"]
        ]
        assert addresses == ["gateway-1", "gateway-2"]
        assert cluster.pop("type") == "STRICT_DNS"
        del example[name]["eds_cluster_config"], example[name]["type"]
    assert here == example


# --- deploy/Dockerfile ----------------------------------------------------------------------------

DOCKERFILE = ROOT / "deploy/Dockerfile"


def stages():
    """Return the instructions of each stage, as (instruction, rest of the line)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, rest = line.split(maxsplit=1)
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest))
    return found


def ignored(path):
    """Whether Dockerfile.dockerignore leaves a path out: the last pattern that fits decides."""
    result = False
    for pattern in (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().split():
        if fnmatch.fnmatch(path, pattern.removeprefix("!").removeprefix("**/")):
            result = not pattern.startswith("!")
    return result


def test_every_source_that_is_copied_exists_and_is_not_ignored():
    copied = [
        path
        for stage in stages()
        for instruction, rest in stage
        if instruction == "COPY" and not rest.startswith("--from")
        for path in shlex.split(rest)[:-1]
    ]
    assert {"bindings", "gateway", "conformance", "requirements.lock"} <= set(copied)
    assert [path for path in copied if not (ROOT / path).exists() or ignored(path)] == []
    assert ignored(".git")
    assert ignored("tests")


def test_the_last_stage_has_no_compiler_and_no_root():
    build, last = stages()
    assert any("gcc" in rest for instruction, rest in build if instruction == "RUN")
    assert not any(
        "apt-get" in rest or "pip" in rest for instruction, rest in last if instruction == "RUN"
    )
    users = [rest for instruction, rest in last if instruction == "USER"]
    assert users == ["65532:65532"]
    after = [instruction for instruction, _ in last][[i for i, _ in last].index("USER") :]
    assert "RUN" not in after


def test_the_image_and_the_chart_agree_on_user_and_arguments():
    workload = (ROOT / "deploy/chart/ce-gateway/templates/workload.yaml").read_text()
    assert "runAsUser: 65532" in workload
    (_, last) = stages()
    assert ("ENTRYPOINT", '["ce-gateway"]') in last


def test_the_image_is_built_with_locked_versions():
    text = DOCKERFILE.read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert "CE_GATEWAY_COMPILED=1" in text


def test_buildah_takes_the_instructions(tmp_path):
    """Builds the image, where buildah and the base image are; else says which is missing."""
    buildah = shutil.which("buildah")
    if buildah is None:
        pytest.skip("buildah is missing: the instructions were only read")
    base = stages()[0][0][1].split()[0]
    here = subprocess.run(
        [buildah, "inspect", "--type", "image", base], capture_output=True, check=False
    )
    if here.returncode:
        pytest.skip(f"buildah has no image {base}: the instructions were only read")
    command = [
        buildah,
        "build",
        "--isolation=chroot",
        "--pull=never",
        "-f",
        str(DOCKERFILE),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
