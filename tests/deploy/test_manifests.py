"""Every manifest under deploy/ is one that an API server takes."""

import copy
import json
import re

import pytest
import yaml

from gateway.config.loader import load
from gateway.metrics import Metrics
from tests.deploy.helm import needs_helm, template
from tests.deploy.pod_security import pod_of, violations
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


KINDS = {(m["apiVersion"], m["kind"]): m for _, m in ALL if isinstance(m.get("spec"), dict)}
KINDS.pop(("networkservicemesh.io/v1", "NetworkService"))  # its CRD takes everything


def misspelt(manifest, path, key):
    """Return a copy of a manifest where a key of what is at `path` has a letter too many."""
    broken = copy.deepcopy(manifest)
    parent = broken
    for step in path:
        parent = parent[step]
    parent[key + "x"] = parent.pop(key)
    return broken


@pytest.mark.parametrize("kind", KINDS, ids="/".join)
def test_a_misspelt_field_is_found(kind):
    for key in KINDS[kind]["spec"]:
        assert problems(misspelt(KINDS[kind], ["spec"], key)), key


@pytest.mark.parametrize(
    ("kind", "path", "key"),
    [
        ("Deployment", "spec.template.spec.containers.0.securityContext", "readOnlyRootFilesystem"),
        ("Deployment", "spec.template.spec.containers.0.lifecycle.preStop.sleep", "seconds"),
        ("Service", "spec.ports.0", "targetPort"),
        ("ScaledObject", "spec.triggers.0", "metricType"),
        ("HTTPRoute", "spec.rules.0.matches.0.path", "value"),
        ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp", "maxConnections"),
        ("EnvoyPatchPolicy", "spec.jsonPatches.0.operation", "path"),
        ("TrafficTarget", "spec.rules.0", "name"),
        ("Trigger", "spec.delivery", "backoffDelay"),
        ("ContainerSource", "spec.template.spec.containers.0", "image"),
    ],
)
def test_a_misspelt_field_is_found_however_deep(kind, path, key):
    manifest = next(one for (_, name), one in KINDS.items() if name == kind)
    assert problems(manifest) == []
    steps = [int(step) if step.isdigit() else step for step in path.split(".")]
    assert problems(misspelt(manifest, steps, key))


def test_an_unserved_version_and_an_unknown_kind_are_found():
    (route,) = documents(
        "{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: UDPRoute, metadata: {name: a}}"
    )
    assert "no schema" in problems(route)[0]
    assert "no schema" in problems({**route, "apiVersion": "apps/v1", "kind": "Deploymint"})[0]


def test_every_schema_says_where_it_is_from():
    sources = json.loads((SCHEMAS / "SOURCES.json").read_text())
    files = {file.relative_to(SCHEMAS).as_posix() for file in SCHEMAS.glob("*.*/*.json")}
    assert {entry["file"] for entry in sources} == files


def test_manifests_are_found_where_they_should_be():
    folders = {file.split("/")[0] for file in BY_FILE}
    assert {"release", "examples"} <= folders
    assert (DEPLOY / "chart/ce-gateway/Chart.yaml").exists()


# --- the examples name what is there --------------------------------------------------------------


ROUTE_KINDS = ("UDPRoute", "TCPRoute", "TLSRoute", "HTTPRoute")


@pytest.fixture(scope="module")
def services():
    """Ports by Service, of the gateway that the examples are about, and of a NATS server."""
    done = template(DEPLOY / "examples/values.yaml")
    assert done.returncode == 0, done.stderr
    found = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in documents(done.stdout)
        if one["kind"] == "Service"
    }
    assert set(found) == {"ce-gateway", "ce-gateway-udp", "ce-gateway-admin"}
    return {**found, "nats": {4222}, "ce-gateway-all": {8080}, "ce-gateway-canary": {8080}}


def of(folder, *kinds):
    found = [
        one for file, one in ALL if file.startswith(f"examples/{folder}/") and one["kind"] in kinds
    ]
    assert found
    return found


@needs_helm
def test_routes_of_gateway_api_lead_to_services_by_listeners(services):
    (gateway,) = of("gateway-api", "Gateway")
    listeners = {listener["name"]: listener for listener in gateway["spec"]["listeners"]}
    routes = of("gateway-api", *ROUTE_KINDS)
    for route in routes:
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == gateway["metadata"]["name"]
        listener = listeners.pop(parent["sectionName"])
        assert listener["allowedRoutes"] == {"kinds": [{"kind": route["kind"]}]}
        assert [listener.get("hostname")] == route["spec"].get("hostnames", [None])
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["port"] in services[backend["name"]]
                is_udp = backend["name"] == "ce-gateway-udp"
                assert is_udp == (listener["protocol"] == "UDP")
    assert listeners == {}


def test_policies_of_envoy_gateway_are_about_routes_and_listeners_that_exist():
    routes = {(one["kind"], one["metadata"]["name"]) for one in of("gateway-api", *ROUTE_KINDS)}
    (gateway,) = of("gateway-api", "Gateway")
    at = f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"
    listeners = {listener["name"] for listener in gateway["spec"]["listeners"]}
    for policy in of("envoy-gateway", "BackendTrafficPolicy", "ClientTrafficPolicy"):
        for target in policy["spec"]["targetRefs"]:
            if target["kind"] == "Gateway":
                assert target["sectionName"] in listeners
            else:
                assert (target["kind"], target["name"]) in routes
    (patch,) = of("envoy-gateway", "EnvoyPatchPolicy")
    named = {one["name"] for one in patch["spec"]["jsonPatches"]}
    assert named == {f"{at}/coap", f"{at}/coaps"}
    (known,) = of("envoy-gateway", "GatewayClass")
    assert gateway["spec"]["gatewayClassName"] == known["metadata"]["name"]


@needs_helm
def test_istio_leads_to_services_and_lets_through_what_it_leads(services):
    (gateway,) = of("istio", "Gateway")
    for service in of("istio", "VirtualService"):
        assert service["spec"]["gateways"] == [gateway["metadata"]["name"]]
        (rule,) = [rule for key in ("tcp", "tls", "http") for rule in service["spec"].get(key, [])]
        (route,) = rule["route"]
        name, namespace = route["destination"]["host"].split(".")[:2]
        assert namespace == "ce-gateway"
        assert route["destination"]["port"]["number"] in services[name]
    (policy,) = of("istio", "AuthorizationPolicy")
    ports = {
        int(port)
        for rule in policy["spec"]["rules"]
        for to in rule["to"]
        for port in to["operation"]["ports"]
    }
    assert ports == services["ce-gateway"] | services["ce-gateway-admin"]


@needs_helm
def test_smi_is_about_the_ports_and_service_accounts_of_the_chart(services):
    (udp,) = of("smi", "UDPRoute")
    assert set(udp["spec"]["matches"]["ports"]) == services["ce-gateway-udp"]
    (tcp,) = of("smi", "TCPRoute")
    assert set(tcp["spec"]["matches"]["ports"]) <= services["ce-gateway"]
    routes = {
        one["metadata"]["name"] for one in of("smi", "UDPRoute", "TCPRoute", "HTTPRouteGroup")
    }
    for target in of("smi", "TrafficTarget"):
        assert target["spec"]["destination"]["name"] == "ce-gateway"
        assert {rule["name"] for rule in target["spec"]["rules"]} <= routes
    (split,) = of("smi", "TrafficSplit")
    assert {split["spec"]["service"]} | {b["service"] for b in split["spec"]["backends"]} <= set(
        services
    )


@needs_helm
def test_nsm_asks_for_the_network_service_by_the_pods_annotation():
    done = template(DEPLOY / "examples/nsm/values.yaml")
    (pod,) = [one for one in documents(done.stdout) if one["kind"] == "Deployment"]
    wanted = pod["spec"]["template"]["metadata"]["annotations"]["networkservicemesh.io"]
    service, interface = re.fullmatch(r"kernel://([a-z0-9-]+)/([a-z0-9-]{1,15})", wanted).groups()
    (offered,) = of("nsm", "NetworkService")
    assert service == offered["spec"]["name"] == offered["metadata"]["name"]
    assert interface


def test_proxies_wait_longer_for_an_answer_than_the_gateway_for_its_sinks():
    (events,) = of("gateway-api", "HTTPRoute")
    waits = [rule["timeouts"]["request"] for rule in events["spec"]["rules"]]
    for service in of("istio", "VirtualService"):
        waits += [rule["timeout"] for rule in service["spec"].get("http", [])]
    listeners = yaml.safe_load((DEPLOY / "examples/envoy/xds/lds.yaml").read_text())["resources"]
    (http,) = [one for one in listeners if one["name"] == "http"]
    hosts = http["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    waits += [route["route"]["timeout"] for host in hosts for route in host["routes"]]
    assert len(waits) == 3
    default = load(
        "{sources: {web: {protocol: http}}, sinks: {l: {protocol: log}}, routes: [{to: [l]}]}", {}
    )
    assert min(float(wait.removesuffix("s")) for wait in waits) > default.sources["web"].ack_timeout


def test_the_scaler_asks_the_stream_and_consumer_that_the_gateway_fetches_from():
    values = yaml.safe_load((DEPLOY / "examples/values.yaml").read_text())
    source = values["config"]["sources"]["nats"]
    (scaler,) = of("keda", "ScaledObject")
    (asked,) = [
        one["metadata"] for one in scaler["spec"]["triggers"] if "consumer" in one["metadata"]
    ]
    assert (asked["stream"], asked["consumer"]) == (source["stream"], source["durable"])
    server = source["url"].removeprefix("nats://").partition(":")[0]
    namespace = scaler["metadata"]["namespace"]
    assert asked["natsServerMonitoringEndpoint"] == f"{server}.{namespace}:8222"


# --- metrics --------------------------------------------------------------------------------------


def test_scalers_ask_for_metrics_that_the_gateway_exports():
    metrics = Metrics()
    metrics.routes["r"].inflight = 1
    exported = set(re.findall(r"^(ce_gateway_\w+)", metrics.exposition().decode(), re.MULTILINE))
    texts = [(DEPLOY / "examples/keda/scaledobject.yaml").read_text()]
    texts += [file.read_text() for file in (DEPLOY / "chart/ce-gateway/templates").glob("*.yaml")]
    asked = {name for text in texts for name in re.findall(r"\bce_gateway_\w+", text)}
    assert asked == {"ce_gateway_inflight"}
    assert asked <= exported


# --- pods -----------------------------------------------------------------------------------------

PODS = {
    f"{file}: {one['kind']} {one['metadata']['name']}": pod
    for file, one in ALL
    if one["kind"] != "CustomResourceDefinition" and (pod := pod_of(one))
}


@pytest.mark.parametrize("who", PODS)
def test_every_pod_meets_the_restricted_standard_with_a_read_only_root(who):
    assert list(violations(PODS[who])) == []
    for container in PODS[who]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_the_restricted_standard_forbids_is_found():
    pod = copy.deepcopy(next(iter(PODS.values())))
    container = pod["containers"][0]
    container["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
    container["securityContext"]["allowPrivilegeEscalation"] = True
    container["securityContext"]["runAsUser"] = 0
    container["ports"][0]["hostPort"] = 80
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    pod["hostNetwork"] = True
    del pod["securityContext"]
    assert len(list(violations(pod))) == 8


# --- configurations -------------------------------------------------------------------------------

CONFIGURATIONS = [
    (file, one["data"]["gateway.yaml"])
    for file, one in ALL
    if one["kind"] == "ConfigMap" and "gateway.yaml" in one.get("data", {})
]


@pytest.mark.parametrize(("file", "text"), CONFIGURATIONS, ids=[file for file, _ in CONFIGURATIONS])
def test_the_gateway_takes_the_configuration_of_every_config_map(file, text):
    text = re.sub(r"\$\{file:[^}]*\}", "secret", text)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "secret")
    config = load(text, {**environ, "K_SINK": "http://sink.example/"})
    assert str(config.admin.listen) == "0.0.0.0:8081"
    keeps_on_disk = config.delivery.spool == "auto"
    kinds = {one["kind"] for at, one in ALL if at == file}
    assert keeps_on_disk == ("StatefulSet" in kinds), "what an emptyDir keeps is lost with its pod"


@needs_helm
@pytest.mark.parametrize(
    "file", sorted(DEPLOY.glob("examples/**/values.yaml")), ids=lambda f: f.parent.name
)
def test_values_of_the_examples_render_what_is_valid(file):
    done = template(file)
    assert done.returncode == 0, done.stderr
    assert [what for one in documents(done.stdout) for what in problems(one)] == []


# --- pages ----------------------------------------------------------------------------------------

EXAMPLES = DEPLOY / "examples"


def test_the_index_names_every_example():
    text = (EXAMPLES / "README.md").read_text()
    named = set(re.findall(r"^\| \[?([a-z-]+)|\), \[([a-z-]+)\]", text, re.MULTILINE))
    named = {name for found in named for name in found}
    assert {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()} <= named


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("**/README.md")), ids=lambda p: p.parent.name)
def test_links_of_a_page_lead_somewhere(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("folder", ["gateway-api", "envoy-gateway", "istio", "smi", "nsm", "keda"])
def test_a_page_says_what_it_gives_and_what_it_can_not(folder):
    text = (EXAMPLES / folder / "README.md").read_text()
    assert "What it can't do:" in text
    if folder != "keda":
        for subject in ("load balancing", "routing", "security", "observability"):
            assert f"\n| {subject} |" in text
    for file in re.findall(r"`([a-z-]+\.yaml)`", text):
        assert (EXAMPLES / folder / file).exists(), file
