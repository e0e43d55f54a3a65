"""The Helm chart: what it renders, what it refuses, and that what is committed is what it makes."""

import json
import re
import signal
import tomllib
from pathlib import Path

import pytest
import yaml

from gateway.config.loader import load
from tests.deploy.helm import CHART, helm, needs_helm, template
from tests.deploy.pod_security import violations
from tests.deploy.render import RULES, SCHEMA, releases, rules, values_schema
from tests.deploy.validation import KUBERNETES, OLDEST, documents, problems

VALUES = [CHART / "values.yaml", *sorted((Path(__file__).parent / "values").glob("*.yaml"))]
VALUES += sorted((CHART.parents[1] / "release/values").glob("*.yaml"))
HTTP = {
    "sources": {"web": {"protocol": "http"}},
    "sinks": {"log": {"protocol": "log"}},
    "routes": [{"to": ["log"]}],
}


def write(tmp_path, values):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def objects(*values):
    """Return what is rendered, by kind and name."""
    done = template(*values)
    assert done.returncode == 0, done.stderr
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents(done.stdout)}
    assert len(found) == len(documents(done.stdout))
    return found


def workload(found):
    (one,) = [one for (kind, _), one in found.items() if kind in {"Deployment", "StatefulSet"}]
    return one


def pod(found):
    return workload(found)["spec"]["template"]["spec"]


def config(found):
    return found["ConfigMap", "ce-gateway"]["data"]["gateway.yaml"]


# --- what is committed ----------------------------------------------------------------------------


def test_the_schema_of_the_values_holds_the_gateways_own_configuration():
    assert SCHEMA.read_text() == values_schema(), "run make release-manifests"


def test_the_alerts_are_those_of_the_examples():
    assert RULES.read_text() == rules(), "run make release-manifests"


@needs_helm
def test_the_committed_manifests_are_what_the_chart_renders():
    for file, text in releases():
        assert file.read_text() == text, f"{file.name}: run make release-manifests"


# --- what is rendered -----------------------------------------------------------------------------


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_the_chart_lints(values):
    done = helm("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_what_is_rendered_is_valid(values):
    found = objects(values)
    for kubernetes in (KUBERNETES, OLDEST):
        assert [what for one in found.values() for what in problems(one, kubernetes)] == []
    assert {one["metadata"].get("namespace") for one in found.values()} <= {"ce-gateway", None}


def test_the_oldest_kubernetes_that_the_chart_names_is_the_one_that_is_tested():
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}.0-0"


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_the_gateway_takes_the_configuration_as_it_is_in_the_pod(values, monkeypatch, tmp_path):
    given = dict.fromkeys(("PSK_DEV1", "MQTT_PASSWORD", "HTTP_TOKEN"), "secret")
    secret = tmp_path / "password"
    secret.write_text("secret")
    text = config(objects(values)).replace("/etc/ce-gateway/files/mqtt/password", str(secret))
    read = load(text, {**given, "POD_NAME": "ce-gateway-0", "NAMESPACE": "ce-gateway"})
    assert str(read.admin.listen) == "0.0.0.0:8081"
    assert str(read.state.path) == "/var/lib/ce-gateway"


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_pods_meet_the_restricted_pod_security_standard(values):
    spec = pod(objects(values))
    assert list(violations(spec)) == []
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert all(port["containerPort"] >= 1024 for port in container["ports"])


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_every_mount_has_its_volume_and_none_lies_in_another(values):
    found = objects(values)
    mounts = {
        mount["name"]: mount["mountPath"] for mount in pod(found)["containers"][0]["volumeMounts"]
    }
    volumes = {volume["name"] for volume in pod(found)["volumes"]}
    claims = workload(found)["spec"].get("volumeClaimTemplates", [])
    assert set(mounts) == volumes | {claim["metadata"]["name"] for claim in claims}
    for path in mounts.values():  # a mount point can't be made in a volume that is read-only
        assert not any(path.startswith(other + "/") for other in mounts.values())


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_services_and_policies_select_the_pods_and_name_their_ports(values):
    found = objects(values)
    labels = workload(found)["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port for port in pod(found)["containers"][0]["ports"]}
    offered = []
    for (kind, _), one in found.items():
        if kind == "Service":
            assert one["spec"]["selector"].items() <= labels.items()
            assert len({port["protocol"] for port in one["spec"]["ports"]}) == 1, (
                "UDP apart from TCP"
            )
            for port in one["spec"]["ports"]:
                offered.append(port["targetPort"])
                at = ports[port["targetPort"]]
                assert (at["containerPort"], at["protocol"]) == (port["port"], port["protocol"])
        elif kind in {"PodDisruptionBudget", "NetworkPolicy"}:
            key = "podSelector" if kind == "NetworkPolicy" else "selector"
            assert one["spec"][key]["matchLabels"].items() <= labels.items()
        elif kind == "ServiceMonitor":
            chosen = one["spec"]["selector"]["matchLabels"]
            services = [o for (k, _), o in found.items() if k == "Service"]
            (service,) = [o for o in services if chosen.items() <= o["metadata"]["labels"].items()]
            assert service["metadata"]["name"].endswith("-admin")
    assert sorted(offered) == sorted(ports)
    rules = found["NetworkPolicy", "ce-gateway"]["spec"]["ingress"]
    open_to = {(p["port"], p["protocol"]) for rule in rules for p in rule["ports"]}
    assert open_to == {(port["containerPort"], port["protocol"]) for port in ports.values()}


@needs_helm
def test_listeners_become_ports_and_udp_keeps_a_device_with_its_pod():
    found = objects(CHART.parents[2] / "tests/deploy/values/devices.yaml")
    tcp, udp = found["Service", "ce-gateway"]["spec"], found["Service", "ce-gateway-udp"]["spec"]
    assert {(p["name"], p["port"]) for p in tcp["ports"]} == {
        ("coaps-tcp-5684", 5684),
        ("coaps-ws-8443", 8443),
        ("http-8080", 8080),
        ("mqtts-8883", 8883),
    }
    assert [(p["name"], p["port"]) for p in udp["ports"]] == [("coaps-5684", 5684)]
    assert udp["sessionAffinity"] == "ClientIP"
    assert udp["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 86400}}
    assert udp["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in tcp


@needs_helm
def test_without_listeners_there_is_a_service_for_the_administration_only():
    found = objects(CHART.parents[2] / "tests/deploy/values/brokers.yaml")
    assert [name for kind, name in found if kind == "Service"] == ["ce-gateway-admin"]
    assert workload(found)["spec"]["serviceName"] == "ce-gateway-admin"


@needs_helm
def test_a_pod_without_a_volume_keeps_no_event_on_its_disk(tmp_path):
    assert load(config(objects()), {}).delivery.spool == "off"
    assert load(config(objects()), {}).delivery.dead_letters == "off"
    stateful = config(objects(write(tmp_path, {"kind": "StatefulSet"})))
    assert load(stateful, {}).delivery.spool == "auto"
    assert load(stateful, {}).delivery.dead_letters == "local"


@needs_helm
@pytest.mark.parametrize(
    ("drain", "seconds"),
    [({}, 40), ({"grace": "PT1M2.5S"}, 83), ({"grace": 30}, 50), ({"grace": "PT2M"}, 140)],
)
def test_the_grace_period_holds_prestop_and_drain(tmp_path, drain, seconds):
    spec = pod(objects(write(tmp_path, {"config": HTTP | {"drain": drain}})))
    assert spec["terminationGracePeriodSeconds"] == seconds
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


@needs_helm
def test_probes_ask_the_administration_listener():
    found = objects()
    container = pod(found)["containers"][0]
    asked = {
        kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }
    assert asked == {
        "startup": {"path": "/livez", "port": "admin"},
        "liveness": {"path": "/livez", "port": "admin"},
        "readiness": {"path": "/readyz", "port": "admin"},
    }
    assert container["args"][:2] == ["run", "/etc/ce-gateway/config/gateway.yaml"]


@needs_helm
def test_a_change_of_the_configuration_is_a_new_pod(tmp_path):
    def checksum(values):
        template_ = workload(objects(write(tmp_path, values)))["spec"]["template"]
        return template_["metadata"]["annotations"]["checksum/config"]

    assert checksum({"config": HTTP}) != checksum({"config": HTTP | {"limits": {"inflight": 5}}})


@needs_helm
def test_sizes_and_nulls_reach_the_gateway_as_they_were_written(tmp_path):
    given = HTTP | {"state": {"max_bytes": 10737418240}, "drain": {"rate": None}}
    read = load(config(objects(write(tmp_path, {"kind": "StatefulSet", "config": given}))), {})
    assert read.state.max_bytes == 10 * 2**30
    assert read.drain.rate is None


@needs_helm
def test_every_key_of_the_configuration_reaches_the_gateway_unchanged(tmp_path):
    every = yaml.safe_load((CHART.parents[1] / "gateway.yaml").read_text())
    every["sources"]["devices"]["listen"] = "0.0.0.0:1883"
    found = objects(write(tmp_path, {"kind": "StatefulSet", "replicas": 1, "config": every}))
    every["admin"]["listen"] = "0.0.0.0:8081"
    every["state"]["path"] = "/var/lib/ce-gateway"
    assert yaml.safe_load(config(found)) == every


@needs_helm
@pytest.mark.parametrize(
    ("webhook", "ports"),
    [
        (None, {"http-8080", "admin"}),
        ({"origin": "a.example", "callback": None}, {"http-8080", "admin"}),
        (
            {"origin": "a.example", "callback": {"url": "https://a/", "listen": "0.0.0.0:8090"}},
            {"http-8080", "admin", "webhook-8090"},
        ),
    ],
    ids=["none", "no callback", "callback"],
)
def test_a_sink_that_waits_for_consent_has_a_port_too(tmp_path, webhook, ports):
    sinks = {"log": {"protocol": "http", "url": "http://a/", "webhook": webhook}}
    found = objects(write(tmp_path, {"config": HTTP | {"sinks": sinks}}))
    assert {port["name"] for port in pod(found)["containers"][0]["ports"]} == ports


@needs_helm
def test_with_a_sink_binding_events_go_to_k_sink_and_the_manifest_does_not_set_it(tmp_path):
    sink = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "events"}}
    found = objects(write(tmp_path, {"sinkBinding": {"enabled": True, "sink": sink}}))
    read = load(config(found), {"K_SINK": "http://events.default.svc/"})
    assert str(read.sinks["out"].url) == "http://events.default.svc/"
    binding = found["SinkBinding", "ce-gateway"]["spec"]
    assert binding["sink"] == sink
    assert workload(found)["metadata"]["labels"]["bindings.knative.dev/include"] == "true"
    subject = binding["subject"]
    assert (subject["kind"], subject["name"]) == ("Deployment", "ce-gateway")
    assert {one["name"] for one in pod(found)["containers"][0]["env"]} == {"POD_NAME", "NAMESPACE"}


@needs_helm
def test_the_prometheus_operator_gets_the_alerts_and_the_job_that_they_ask_for(tmp_path):
    # The job is the same whatever the release is called.
    found = objects(VALUES[2], write(tmp_path, {"nameOverride": "edge"}))
    assert found["PrometheusRule", "edge"]["spec"] == yaml.safe_load(rules())
    label = found["ServiceMonitor", "edge"]["spec"]["jobLabel"]
    assert found["Service", "edge-admin"]["metadata"]["labels"][label] == "ce-gateway"
    assert set(re.findall(r'job="([^"]*)"', rules())) <= {"ce-gateway"}


@needs_helm
def test_two_releases_in_one_namespace_share_nothing(tmp_path):
    one, other = objects(), objects(write(tmp_path, {"nameOverride": "edge"}))
    assert {name.replace("ce-gateway", "edge") for _, name in one} == {name for _, name in other}
    chosen = [workload(found)["spec"]["selector"]["matchLabels"] for found in (one, other)]
    assert chosen[0] != chosen[1]
    assert chosen[0].keys() == chosen[1].keys()


@needs_helm
def test_a_scaler_alone_sets_the_number_of_pods(tmp_path):
    assert workload(objects())["spec"]["replicas"] == 2
    for scaler in ("autoscaling", "keda"):
        found = objects(write(tmp_path, {scaler: {"enabled": True}}))
        assert "replicas" not in workload(found)["spec"]


@needs_helm
@pytest.mark.parametrize("scaler", ["autoscaling", "keda"])
def test_no_scaler_takes_a_pod_from_its_volume(tmp_path, scaler):
    def scale_down(kind):
        found = objects(write(tmp_path, {"kind": kind, scaler: {"enabled": True}}))
        (spec,) = [
            one["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", one["spec"])
            for (kind, _), one in found.items()
            if kind in {"HorizontalPodAutoscaler", "ScaledObject"}
        ]
        assert [what for one in found.values() for what in problems(one)] == []
        return spec["behavior"]["scaleDown"]

    assert scale_down("Deployment")["policies"] == [
        {"type": "Pods", "value": 1, "periodSeconds": 60}
    ]
    assert scale_down("StatefulSet") == {"selectPolicy": "Disabled"}


async def test_the_default_takes_an_event_and_shows_it(start):
    (made,) = [
        one
        for one in documents((CHART.parents[1] / "release/ce-gateway.yaml").read_text())
        if one["kind"] == "ConfigMap"
    ]
    text = re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", made["data"]["gateway.yaml"])
    gateway = await start("", config=text.replace("%", "%%") + "%s")
    await gateway.ready()
    status, _ = await gateway.request("http", "POST", "/", b'{"celsius": 21.5}', "application/json")
    assert status == 202
    status, body = await gateway.request("admin", "GET", "/api/v1/events")
    assert status == 200
    (event,) = json.loads(body)
    assert (event["type"], event["data"]) == ("com.example.http", {"celsius": 21.5})
    gateway.signal(signal.SIGTERM)
    code, _ = await gateway.ended()
    assert code == 0


@needs_helm
@pytest.mark.parametrize(
    ("values", "says"),
    [
        (CHART / "values.yaml", "UDP 5683  coap-5683\n  TCP 8080  http-8080\n\nSend an event"),
        (VALUES[1], "The gateway ce-gateway listens nowhere: it fetches from brokers.\n"),
    ],
    ids=["values", "brokers"],
)
def test_the_notes_say_where_it_listens(values, says):
    done = helm("install", "ce-gateway", CHART, "--dry-run=client", "--values", values)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout.split("NOTES:\n")[1]


# --- what is refused ------------------------------------------------------------------------------

PLANT = {"protocol": "mqtt", "url": "mqtt://broker", "subscribe": [{"topic": "plant/#"}]}
OSCORE = {"label": "a", "sender_id": "01", "recipient_id": "02", "master_secret": "00" * 16}
SHARED = {
    "MQTT with one client id": (PLANT | {"client_id": "a", "share": "g"}, "client_id: each pod"),
    "MQTT without a group": (PLANT | {"clean": True, "client_id": "${POD_NAME}"}, "share: without"),
    "core NATS without a queue": ({"protocol": "nats", "subjects": ["a"]}, "queue: without it"),
    "JetStream that is not shared": (
        {"protocol": "nats", "stream": "A", "durable": "d"},
        "shared: without it",
    ),
    "OSCORE": ({"protocol": "coap", "oscore": [OSCORE]}, "oscore: its contexts"),
}
"""Sources that more than one pod can't have."""

REFUSED = {
    "an unknown value": ({"replica": 2}, "replica"),
    "an unknown key of the gateway": ({"config": HTTP | {"adminn": {}}}, "adminn"),
    "a wrong value of the gateway": ({"config": HTTP | {"workers": 0}}, "workers"),
    "loopback": (
        {"config": HTTP | {"sources": {"web": {"protocol": "http", "listen": "127.0.0.1:80"}}}},
        "sources.web: nobody reaches 127.0.0.1:80",
    ),
    "mqtt-endpoint on its default": (
        {"config": HTTP | {"sources": {"m": {"protocol": "mqtt-endpoint"}}}},
        "sources.m: nobody reaches 127.0.0.1:1883",
    ),
    "a spool without a volume": (
        {"config": HTTP | {"delivery": {"spool": "auto"}}},
        "delivery.spool: auto needs a volume",
    ),
    "dead letters of a route without a volume": (
        {"config": HTTP | {"routes": [{"to": ["log"], "delivery": {"dead_letters": "local"}}]}},
        "delivery.dead_letters: local needs a volume",
    ),
    "ack: stored without a volume": (
        {"config": HTTP | {"delivery": {"ack": "stored"}}},
        "delivery.ack: stored needs a volume",
    ),
    "two scalers": ({"autoscaling": {"enabled": True}, "keda": {"enabled": True}}, "enable one"),
    "a scaler by nothing": (
        {"autoscaling": {"enabled": True, "cpuUtilization": None}},
        "set cpuUtilization, inflight or both",
    ),
    "a binding to nothing": ({"sinkBinding": {"enabled": True}}, "say where events go"),
    "an override of a required attribute": (
        {"sinkBinding": {"ceOverrides": {"extensions": {"type": "x"}}}},
        "/sinkBinding/ceOverrides/extensions/type",
    ),
    "a name that no Service can have": ({"nameOverride": "My gateway"}, "/nameOverride"),
    "a grace period in hours": ({"config": HTTP | {"drain": {"grace": "PT1H"}}}, "drain.grace"),
}


@needs_helm
@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_work_is_refused(what, tmp_path):
    values, message = REFUSED[what]
    done = template(write(tmp_path, values))
    assert done.returncode != 0
    assert message in done.stderr


@needs_helm
@pytest.mark.parametrize("what", SHARED)
def test_what_several_pods_would_take_from_each_other_is_refused(what, tmp_path):
    source, message = SHARED[what]
    config = HTTP | {"sources": {"one": source}}
    for several in ({}, {"replicas": 1, "keda": {"enabled": True}}):
        done = template(write(tmp_path, several | {"config": config}))
        assert done.returncode != 0
        assert f"sources.one.{message}" in done.stderr
    assert template(write(tmp_path, {"replicas": 1, "config": config})).returncode == 0


@needs_helm
def test_pods_that_keep_their_names_may_share_a_group_that_stands_in_the_topic(tmp_path):
    plant = PLANT | {"client_id": "${POD_NAME}", "subscribe": [{"topic": "$share/g/plant/#"}]}
    values = {"kind": "StatefulSet", "config": HTTP | {"sources": {"plant": plant}}}
    objects(write(tmp_path, values))
    done = template(write(tmp_path, values | {"kind": "Deployment", "replicas": 1}))
    assert "sources.plant.client_id: no pod comes back under its name" in done.stderr


def test_the_chart_is_for_the_image_that_the_dockerfile_makes():
    dockerfile = (CHART.parents[1] / "Dockerfile").read_text()
    release = documents((CHART.parents[1] / "release/ce-gateway.yaml").read_text())
    (spec,) = [o["spec"]["template"]["spec"] for o in release if o["kind"] == "Deployment"]
    security = spec["securityContext"]
    assert f"\nUSER {security['runAsUser']}:{security['runAsGroup']}\n" in dockerfile
    assert '\nENTRYPOINT ["ce-gateway"]\n' in dockerfile
    project = tomllib.loads((CHART.parents[2] / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]
