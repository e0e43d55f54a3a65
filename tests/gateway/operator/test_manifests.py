"""What is made of a ProtocolSource, checked against Kubernetes' and Knative's own schemas."""

import pytest
import yaml

from gateway.config.loader import load
from gateway.operator.manifests import (
    Listener,
    children,
    configuration,
    default_image,
    listeners,
    problem,
    service_ports,
)
from tests.deploy.pod_security import pod_of, violations
from tests.deploy.validation import problems
from tests.gateway.operator.cluster import example

HTTP = {"web": {"protocol": "http", "listen": "0.0.0.0:8080"}}
NATS = {"bus": {"protocol": "nats", "url": "nats://nats:4222", "subjects": ["x.>"]}}


def child(source, kind):
    (found,) = (manifest for manifest in children(source) if manifest["kind"] == kind)
    return found


def test_every_manifest_is_one_that_an_api_server_takes():
    files = {"tls": {"secret": {"secretName": "field-tls"}}}
    source = example(
        files=files,
        secrets=["mqtt"],
        resources={"limits": {"memory": "1Gi"}},
        delivery={"retry": 3, "deadLetterSink": {"uri": "http://dead-letters/"}},
    )
    made = children(source)
    kinds = [manifest["kind"] for manifest in made]
    assert kinds == ["ConfigMap", "SinkBinding", "Deployment", "Service", "Service"]
    assert [found for manifest in made for found in problems(manifest)] == []
    pod = pod_of(child(source, "Deployment"))
    assert list(violations(pod)) == []
    assert pod["automountServiceAccountToken"] is False
    owner = {"kind": "ProtocolSource", "name": "greenhouse", "uid": "u-1", "controller": True}
    for manifest in made:
        (reference,) = manifest["metadata"]["ownerReferences"]
        assert owner.items() <= reference.items()
        assert manifest["metadata"]["namespace"] == "team-a"


def test_the_pod_s_configuration_is_one_that_the_gateway_takes():
    source = example(delivery={"retry": 3, "deadLetterSink": {"uri": "http://dead/"}})
    text = child(source, "ConfigMap")["data"]["gateway.yaml"]
    config = load(text, {"POD_NAME": "p", "K_SINK": "http://broker/x"})
    assert set(config.sources) == {"coap", "plant", "web"}
    (route,) = config.routes
    assert (route.delivery.retry, route.delivery.spool) == (3, "off")
    assert config.sinks[str(route.delivery.dead_letter_sink)].url == "http://dead/"
    assert not config.admin.listen.is_loopback


def test_the_pod_gets_secrets_files_and_resources():
    files = {"tls": {"secret": {"secretName": "field-tls"}}}
    resources = {"limits": {"memory": "1Gi"}}
    source = example(files=files, secrets=["mqtt"], resources=resources, image="other:1")
    pod = child(source, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "mqtt"}}]
    assert container["resources"] == resources
    assert container["image"] == "other:1"
    mount = {"name": "file-tls", "mountPath": "/etc/ce-gateway/files/tls", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert {"name": "file-tls", "secret": {"secretName": "field-tls"}} in pod["volumes"]


def test_another_configuration_asks_for_other_pods():
    def checksum(source):
        template = child(source, "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/config"]

    assert checksum(example()) == checksum(example(replicas=7))
    assert checksum(example()) != checksum(example(sources=HTTP))


def test_listeners_are_found_with_their_protocol():
    sources = {
        "field": {
            "protocol": "coap",
            "listen": "0.0.0.0:5683",
            "listen_dtls": "0.0.0.0:5684",
            "listen_tcp": "[::]:5683",
            "listen_ws": "${WS}",
        },
        **HTTP,
        "secure": {
            "protocol": "http",
            "listen": ":8443",
            "tls": {"cert": "/x"},
        },  # opaque to meshes
        "devices": {"protocol": "mqtt-endpoint", "listen": "0.0.0.0:1883"},
        **NATS,
    }
    found = listeners(sources)
    names = [(port.name, port.protocol) for port in found]
    assert sorted(names) == [
        ("http-8080", "TCP"),
        ("tcp-1883", "TCP"),
        ("tcp-5683", "TCP"),
        ("tcp-8443", "TCP"),
        ("udp-5683", "UDP"),
        ("udp-5684", "UDP"),
    ]
    ports = {suffix: len(some) for suffix, some in service_ports(found).items()}
    assert ports == {"tcp": 4, "udp": 2}


def test_listeners_that_are_not_said_are_found_and_those_of_the_pod_alone_are_not():
    sources = {
        "field": {"protocol": "coap"},
        "web": {"protocol": "http"},
        "other": {"protocol": "coap", "listen": None, "listen_tcp": "0.0.0.0:15683"},
        "devices": {"protocol": "mqtt-endpoint"},  # 127.0.0.1:1883
    }
    names = [port.name for port in listeners(sources)]
    assert sorted(names) == ["http-8080", "tcp-15683", "udp-5683"]


def test_udp_keeps_a_device_with_its_pod_and_tcp_needs_no_such_thing():
    sources = {"field": {"protocol": "coap", "listen_tcp": "0.0.0.0:5683"}}
    services = [each for each in children(example(sources=sources)) if each["kind"] == "Service"]
    affinity = {
        each["metadata"]["name"].rpartition("-")[2]: each["spec"].get("sessionAffinity")
        for each in services
    }
    assert affinity == {"tcp": None, "udp": "ClientIP"}


def test_what_only_fetches_has_no_service():
    kinds = [manifest["kind"] for manifest in children(example(sources=NATS))]
    assert kinds == ["ConfigMap", "SinkBinding", "Deployment"]
    assert service_ports([]) == {"tcp": [], "udp": []}
    assert Listener(80, is_datagram=False, is_http=True).name == "http-80"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"sources": {"web": {"protocol": "http"}}}, ""),
        ({"sources": {"web": {"protocol": "http", "listn": "x"}}}, "sources.web.listn"),
        ({"sources": {"web": {"protocol": "http", "listen": "nowhere"}}}, "sources.web.listen"),
        ({"delivery": {"backoffDelay": "soon"}}, "delivery.backoffDelay"),
        ({"ceOverrides": {"extensions": {"type": "x"}}}, "'type' is a required attribute"),
        ({"ceOverrides": {"extensions": {"Upper": "x"}}}, "'Upper' is no name"),
        # Only the pod knows what these stand for; it must not be read here.
        ({"sources": {"web": {"protocol": "http", "listen": "${file:/etc/hostname}"}}}, ""),
        ({"sources": {"web": {"protocol": "http", "password": "${PASSWORD}"}}}, ""),
        (
            {"sources": {"web": {"protocol": "http", "listen": "nowhere", "password": "${P}"}}},
            "sources.web.listen",
        ),
        # What the pod would refuse at its start.
        ({"ceOverrides": {"extensions": {"data": "x"}}}, "'data' is no name"),
        ({"ceOverrides": {"extensions": {"region": "\x01"}}}, "region"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(spec, said):
    found = problem(example(**spec))
    assert said in found
    assert bool(found) == bool(said)


def test_variables_of_the_pod_itself_do_not_hide_mistakes():
    assert problem(example()) == ""
    plant = {**example()["spec"]["sources"]["plant"], "qos": 3}
    assert "sources.plant.qos" in problem(example(sources={"plant": plant}))


def test_the_file_has_what_the_spec_says_and_k_sink():
    parsed = yaml.safe_load(configuration({"sources": HTTP, "sink": {"uri": "http://x/"}}))
    assert parsed["sources"] == HTTP
    assert parsed["sinks"] == {"knative": {"protocol": "http", "url": "${K_SINK}"}}


@pytest.mark.parametrize(
    "text", ["089", "1e3", "0o17", "0.5e3", "+1", "1_000", "12:30", "off", "Null", "\u00e9", "a: b"]
)
def test_text_stays_text_whatever_a_version_of_yaml_takes_it_for(text):
    plant = {**example()["spec"]["sources"]["plant"], "client_id": text}
    config = load(configuration({"sources": {"plant": plant}}), {})
    assert config.sources["plant"].client_id == text


def test_its_selector_is_not_that_of_a_release_of_the_chart_with_its_name():
    labels = child(example(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "ce-gateway"
    assert "app.kubernetes.io/instance" not in labels


def test_the_image_is_the_environment_s_or_this_release_s(monkeypatch):
    monkeypatch.setenv("GATEWAY_IMAGE", "registry.example/ce-gateway:1")
    assert default_image() == "registry.example/ce-gateway:1"
    monkeypatch.delenv("GATEWAY_IMAGE")
    assert default_image().startswith("ce-gateway:")
