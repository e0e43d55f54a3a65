"""Two gateways behind Envoy, with the files of deploy/examples/envoy."""

import asyncio
import collections
import hashlib
import http.client
import json
import socket
import threading
import time

import paho.mqtt.client as paho
import pytest
import yaml

from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder, poll_until, program
from tests.e2e.servers.envoy import CLUSTERS, EXAMPLE, Envoy

CE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
CONNECT = bytes.fromhex("102000044d51545404c2000a0000000b656e766f792d636865636b0005636865636b")
"""MQTT 3.1.1 section 3.1: the health check's, of which the example's gateways know the user."""


class Front:
    """Envoy, the gateways "a" and "b" behind it, and their sink, which learns who has sent."""

    def __init__(self, folder, sink):
        self.sink = sink
        self.gateways = {name: self._gateway(folder, name) for name in ("a", "b")}
        self.endpoints = {
            cluster: [(one.ports[name], one.port) for one in self.gateways.values()]
            for cluster, name in zip(CLUSTERS, ("field", "devices", "web"), strict=True)
        }
        (folder / "envoy").mkdir()
        self.envoy = Envoy(folder / "envoy", self.endpoints)

    def _gateway(self, folder, name):
        config = yaml.safe_load((EXAMPLE / "gateway.yaml").read_text())
        for source in config["sources"].values():
            source["listen"] = f"{HOST}:0"
        del config["admin"]
        config["sinks"]["broker"]["url"] = f"{self.sink.url}/{name}"
        (folder / name).mkdir()
        return Gateway(folder / name, config, {"SENSOR_PASSWORD": "secret"})

    def port_of(self, cluster, name):
        return self.endpoints[cluster]["ab".index(name)][0]

    def wait_until_all_are_healthy(self):
        for cluster in CLUSTERS:
            wanted = {port: True for port, _ in self.endpoints[cluster]}
            poll_until(lambda c=cluster, w=wanted: self.envoy.hosts(c) == w, 20, "healthy gateways")

    def taken(self):
        """Return the gateways that took events, by the event's source, in their order."""
        found = collections.defaultdict(list)
        for request in list(self.sink.requests):
            event = json.loads(request.body)
            found[event["source"]].append((request.target.strip("/"), event["id"]))
        return found

    def whereabouts(self):
        return {source: {who for who, _ in events} for source, events in self.taken().items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with HttpRecorder() as sink:
        with skipping_what_is_missing():
            front = Front(tmp_path_factory.mktemp("front"), sink)
        with front.gateways["a"], front.gateways["b"], front.envoy:
            yield front


@pytest.fixture
def front(running):
    """Return Envoy and its gateways, all well, with their first endpoints and an empty sink."""
    for cluster in CLUSTERS:
        running.envoy.set_endpoints(cluster, running.endpoints[cluster])
    running.wait_until_all_are_healthy()
    poll_until(
        lambda: not running.envoy.stat("cluster.mqtt.upstream_cx_active"), 20, "no connections"
    )
    running.sink.answer = lambda _: Answer()
    running.sink.requests.clear()
    return running


class CoapDevice:
    """A device with an address of its own, by RFC 7252; it repeats what is unanswered."""

    def __init__(self, front, number):
        self.source = f"/d/{number}"
        self.acknowledged = []
        self._address = f"127.0.1.{number}"
        self._envoy = (HOST, front.envoy.ports["coap"])
        self._message_id = 0
        self._open()

    def restart(self):
        """Speak from another port from now on."""
        self.close()
        self._open()

    def _open(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self._address, 0))
        self._socket.connect(self._envoy)
        self._socket.settimeout(0.3)

    def close(self):
        self._socket.close()

    def send(self, seconds=40):
        """Send the next event until it is acknowledged (2.04)."""
        event_id = str(len(self.acknowledged))
        query = ["t=t", f"i={event_id}", f"s={self.source}"]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._message_id += 1
            head = b"\x41\x02" + self._message_id.to_bytes(2, "big") + b"\x07"  # CON POST, token 7
            options = b"\xb2ce" + b"\x11\x32"  # Uri-Path, Content-Format 50
            options += bytes([0x30 | len(query[0])]) + query[0].encode()  # Uri-Query, three times
            options += b"".join(bytes([len(one)]) + one.encode() for one in query[1:])
            if self._exchange(head + options + b"\xff" + event_id.encode(), deadline):
                self.acknowledged.append(event_id)
                return
        raise TimeoutError(f"{self.source}: event {event_id} was not acknowledged")

    def _exchange(self, request, deadline):
        """Whether the answer is 2.04; False when it is another, and wants a new request."""
        self._send(request)
        while time.monotonic() < deadline:
            try:
                answer = self._socket.recv(2048)
            except TimeoutError:
                self._send(request)
                continue
            except ConnectionRefusedError:
                continue
            kind, code = answer[0] & 0x30, answer[1]
            if kind == 0x00:  # a separate response, CON: the message layer wants an ACK
                self._send(b"\x60\x00" + answer[2:4])
            if code and (kind != 0x20 or answer[2:4] == request[2:4]):
                return code == 0x44
        return False

    def _send(self, datagram):
        try:
            self._socket.send(datagram)
        except ConnectionRefusedError:
            self._socket.send(datagram)  # the error was of an earlier one


class MqttDevice:
    """A foreign client, paho, that connects again by itself and repeats what is unanswered."""

    def __init__(self, front, number):
        self.source = f"/m/{number}"
        self.acknowledged = []
        self._changed = threading.Condition()
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, f"m-{number}", protocol=paho.MQTTv5
        )
        self._client.username_pw_set("sensor", "secret")
        self._client.reconnect_delay_set(0.2, 0.5)
        self._client.on_publish = self._on_publish
        self._client.connect(HOST, front.envoy.ports["mqtt"], clean_start=False)
        self._client.loop_start()

    def _on_publish(self, _client, _data, mid, reason, _properties):
        with self._changed:
            if not reason.is_failure:
                self.acknowledged.append(str(mid - 1))
            self._changed.notify_all()

    def send(self, seconds=40):
        """Publish the next event, and wait for its PUBACK."""
        count = len(self.acknowledged)
        event = {"specversion": "1.0", "id": str(count), "source": self.source, "type": "t"}
        properties = paho.Properties(paho.PacketTypes.PUBLISH)
        properties.ContentType = "application/cloudevents+json"
        self._client.publish("t", json.dumps(event), 1, properties=properties)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.acknowledged) > count, seconds):
                raise TimeoutError(f"{self.source}: event {count} was not acknowledged")

    def close(self):
        self._client.on_publish = None
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # it closes its sockets as it goes, and a cycle would end in any order


@pytest.fixture
def devices(front):
    """Make devices: `devices(CoapDevice, 24)`."""
    made = []

    def make(kind, count):
        new = [kind(front, number) for number in range(1, count + 1)]
        made.extend(new)
        return new

    yield make
    for device in made:
        device.close()


class Traffic:
    """Each device sends one event after the other, in a thread of its own."""

    def __init__(self, devices):
        self._devices = devices
        self._stop = threading.Event()
        self._errors = []
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in devices]

    def _run(self, device):
        try:
            while not self._stop.is_set():
                device.send()
        except Exception as error:
            self._errors.append(error)

    def wait_for_more(self, count, seconds=60):
        """Wait until every device has sent `count` more events."""
        wanted = [len(device.acknowledged) + count for device in self._devices]
        poll_until(
            lambda: (
                self._errors
                or all(len(d.acknowledged) >= w for d, w in zip(self._devices, wanted, strict=True))
            ),
            seconds,
            "acknowledgements",
        )
        assert self._errors == []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []


def post(front, headers, body=b"1"):
    connection = http.client.HTTPConnection(HOST, front.envoy.ports["http"], timeout=20)
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def connect(front):
    return socket.create_connection((HOST, front.envoy.ports["mqtt"]), timeout=20)


# --- CoAP -----------------------------------------------------------------------------------------


async def test_a_device_keeps_its_gateway_whatever_its_port(front):
    envoy = f"coap://{HOST}:{front.envoy.ports['coap']}"
    client = program("coap-client-notls", "libcoap3-bin")

    async def send(number, event_id):
        process = await asyncio.create_subprocess_exec(
            client, "-B", "20", "-a", f"127.0.1.{number}", "-m", "post", "-t", "50", "-e", "1",
            f"{envoy}/ce?t=t&i={event_id}&s=/d/{number}", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(40):
            assert (await process.communicate())[0] == b""

    numbers = range(1, 26)  # an odd number: who takes turns gives a device the other gateway next
    for event_id in range(3):
        await asyncio.gather(*(send(number, event_id) for number in numbers))
    where = front.whereabouts()
    assert {source: len(gateways) for source, gateways in where.items()} == {
        f"/d/{number}": 1 for number in numbers
    }
    assert set.union(*where.values()) == {"a", "b"}


# --- a gateway that is killed ---------------------------------------------------------------------


def test_devices_of_a_killed_gateway_move_and_no_acknowledged_event_is_lost(front, devices):
    coap, mqtt = devices(CoapDevice, 24), devices(MqttDevice, 6)
    front.sink.answer = lambda _: Answer(delay=0.005)  # so that much is under way at the kill
    killed, other = front.gateways["a"], front.port_of("coap", "b")
    try:
        with Traffic([*coap, *mqtt]) as traffic:
            traffic.wait_for_more(5)
            before = front.whereabouts()
            killed.kill()
            poll_until(
                lambda: (
                    [port for port, well in front.envoy.hosts("coap").items() if well] == [other]
                ),
                20,
                "Envoy to see it",
            )
            traffic.wait_for_more(3)
            moved = len(front.sink.requests)
            traffic.wait_for_more(3)
        assert {request.target for request in front.sink.requests[moved:]} == {"/b"}
        taken = front.taken()
        for device in [*coap, *mqtt]:
            arrived = {event_id for _, event_id in taken[device.source]}
            assert set(device.acknowledged) - arrived == set(), device.source
        stayed = [device for device in coap if before[device.source] == {"b"}]
        assert 0 < len(stayed) < len(coap)
        assert all({who for who, _ in taken[device.source]} == {"b"} for device in stayed)
    finally:
        killed.start()
    front.wait_until_all_are_healthy()
    front.sink.requests.clear()
    for device in coap:
        device.restart()
        device.send()
    after = front.whereabouts()
    assert {d.source: after[d.source] for d in coap} == {d.source: before[d.source] for d in coap}


# --- MQTT -----------------------------------------------------------------------------------------


def test_devices_of_mqtt_that_connect_all_at_once_are_spread_over_the_gateways(front, devices):
    for device in devices(MqttDevice, 32):
        device.send()
    count = collections.Counter(min(gateways) for gateways in front.whereabouts().values())
    assert min(count["a"], count["b"]) >= 5  # each has an even chance: once in 50,000 runs it fails


def test_the_health_check_speaks_mqtt_and_never_fails_while_gateways_are_well(front):
    attempts = front.envoy.stat("cluster.mqtt.health_check.attempt")
    failures = front.envoy.stat("cluster.mqtt.health_check.failure")
    poll_until(
        lambda: front.envoy.stat("cluster.mqtt.health_check.success") >= attempts + 4,
        30,
        "health checks",
    )
    assert front.envoy.stat("cluster.mqtt.health_check.failure") == failures
    metrics = front.gateways["a"].get("/metrics")[1].decode()
    assert "ce_gateway_rejected_total{" not in metrics


# --- the filter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", sorted(CE))
def test_the_filter_refuses_an_event_without_a_required_attribute(front, missing):
    refused = front.envoy.stat("wasmcustom.ce_guard_http_rejected")
    status, body = post(front, {name: value for name, value in CE.items() if name != missing})
    assert (status, body.split(":")[0]) == (400, "not a CloudEvent")
    assert front.sink.requests == []
    assert front.envoy.stat("wasmcustom.ce_guard_http_rejected") == refused + 1
    logged = poll_until(
        lambda: [one for one in front.envoy.access_log if one.get("status") == 400], 10, "the log"
    )
    assert logged[-1]["detail"] == "ce_guard"
    assert logged[-1]["gateway"] is None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (CE, b"1"),
        (
            {"content-type": "application/cloudevents+json"},
            b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}',
        ),
    ],
    ids=["binary", "structured"],
)
def test_the_filter_lets_an_event_through(front, headers, body):
    assert post(front, headers, body)[0] == 202
    assert set(front.whereabouts()) == {"/s"}


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc0\x00",
        bytes.fromhex("1010 0006 4d5149736470 03 02 003c 0000".replace(" ", "")),
        bytes.fromhex("100c 0004 4d515455 04 02 003c 0000".replace(" ", "")),
        bytes.fromhex("10ffffffff0f00044d515454"),
    ],
    ids=["HTTP", "PINGREQ", "MQTT 3.1", "another name", "length of five bytes"],
)
def test_the_filter_closes_what_does_not_begin_with_a_connect(front, beginning):
    refused = front.envoy.stat("wasmcustom.ce_guard_mqtt_rejected")
    with connect(front) as peer:
        peer.sendall(beginning)
        assert peer.recv(100) == b""
    assert front.envoy.stat("wasmcustom.ce_guard_mqtt_rejected") == refused + 1


def test_the_filter_waits_for_a_connect_that_comes_byte_by_byte(front):
    with connect(front) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for one in CONNECT:
            peer.sendall(bytes([one]))
        assert peer.recv(100) == bytes.fromhex("20020000")
        name = "{}:{}".format(*peer.getsockname())
    (logged,) = poll_until(
        lambda: [one for one in front.envoy.access_log if one["peer"] == name], 20, "the log"
    )
    assert (logged["protocol"], logged["bytes_out"]) == ("mqtt", 4)


def test_the_filter_is_built_from_its_source():
    sums = (EXAMPLE / "wasm/SHA256SUMS").read_text().split()
    assert sums[1::2] == ["ce_guard.c", "ce_guard.wasm"]
    found = [hashlib.sha256((EXAMPLE / "wasm" / name).read_bytes()) for name in sums[1::2]]
    assert [one.hexdigest() for one in found] == sums[::2], "build it, as ce_guard.c says"


def test_the_filter_judges_no_connection_twice(front):
    with connect(front) as peer:
        peer.sendall(CONNECT)
        assert peer.recv(100) == bytes.fromhex("20020000")
        waiting = [connect(front) for _ in range(20)]  # some share their place in its table
        connection = http.client.HTTPConnection(HOST, front.envoy.ports["http"], timeout=20)
        for _ in range(1100):
            connection.request("POST", "/", b"", {"ce-id": "1"})
            response = connection.getresponse()
            assert response.status == 400
            response.read()
        connection.close()
        peer.sendall(b"\xc0\x00")
        assert peer.recv(100) == b"\xd0\x00"
        for one in waiting:
            one.close()


# --- endpoints that change ------------------------------------------------------------------------


def test_endpoints_change_without_a_restart(front, devices):
    pid = front.envoy.pid
    coap, mqtt = devices(CoapDevice, 16), devices(MqttDevice, 4)
    for device in [*coap, *mqtt]:
        device.send()
    first = front.whereabouts()
    front.sink.requests.clear()
    for cluster in CLUSTERS:
        front.envoy.set_endpoints(cluster, front.endpoints[cluster][1:])
        only = {front.port_of(cluster, "b"): True}
        poll_until(lambda c=cluster, o=only: front.envoy.hosts(c) == o, 20, "new endpoints")
    for device in [*coap, *mqtt]:
        device.send()
    where = front.whereabouts()
    assert {device.source: where[device.source] for device in coap} == {
        device.source: {"b"} for device in coap
    }
    # Who is connected stays until the gateway closes the connection, as it does at its drain.
    assert {device.source: where[device.source] for device in mqtt} == {
        device.source: first[device.source] for device in mqtt
    }
    assert {post(front, {**CE, "ce-id": str(n)})[0] for n in range(10)} == {202}
    assert front.whereabouts()["/s"] == {"b"}
    left = f"{HOST}:{front.port_of('coap', 'a')}"
    ended = poll_until(
        lambda: [one for one in front.envoy.access_log if one.get("gateway") == left], 20, "the log"
    )
    assert ended[0]["protocol"] == "coap"
    assert str(ended[0]["peer"]).startswith("127.0.1.")
    assert int(ended[0]["datagrams_in"]) >= 1
    assert front.envoy.pid == pid


def test_a_broken_file_is_refused_and_the_endpoints_stay(front):
    (loaded,) = yaml.safe_load((EXAMPLE / "xds/eds-http.yaml").read_text())["resources"]
    refused = front.envoy.stat("cluster.http.update_rejected")
    front.envoy.replace("eds-http.yaml", {"resources": [{**loaded, "endpoint": []}]})
    poll_until(
        lambda: front.envoy.stat("cluster.http.update_rejected") > refused, 20, "the refusal"
    )
    assert front.envoy.hosts("http") == {port: True for port, _ in front.endpoints["http"]}
    assert post(front, CE)[0] == 202
