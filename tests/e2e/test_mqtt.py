"""MQTT through real parts: Mosquitto as the broker, mosquitto_pub and paho as foreign clients."""

import asyncio
import contextlib
import json
import subprocess

import paho.mqtt.client as paho
import pytest

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.mqtt import MqttSender
from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement
from gateway.sources.mqtt import MqttSource, MqttSourceConfig
from gateway.sources.mqtt_endpoint import MqttEndpointConfig, MqttEndpointSource
from tests.e2e.servers import Gateway, Mosquitto
from tests.e2e.servers.recorder import Answer
from tests.helpers import RecordingIntake

WRAP = {"type": "com.acme.temp.v1", "source": "/plant/{topic[1]}", "subject": "{topic}"}
VERSIONS = ["5", "3.1.1"]
QOS = [0, 1, 2]


def config(broker, **changes):
    fields = {
        "name": "plant",
        "protocol": "mqtt",
        "url": broker.url,
        "client_id": "gw-1",
        "subscribe": [{"topic": "plant/+/temp", "qos": 2}],
        "event": WRAP,
    }
    return MqttSourceConfig(**{**fields, **changes})


async def mosquitto_pub(port, topic, payload, *args, qos=1, version="5"):
    """Publish with the foreign client; return its exit code and output (`-d`)."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-d", "-h", "localhost", "-p", str(port), "-t", topic, "-m", payload,
        "-q", str(qos), "-V", version.replace(".", ""), *map(str, args),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(10):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


def user_properties(**properties):
    return [
        part
        for name, value in properties.items()
        for part in ("-D", "publish", "user-property", name, value)
    ]


@pytest.fixture
async def opened():
    """Open sources; each is closed after the test."""
    sources = []

    async def open_source(source, intake):
        sources.append(source)
        async with asyncio.timeout(15):
            await source.open(intake)
        return source

    yield open_source
    for source in sources:
        await source.close()


@pytest.fixture
def subscribed(opened):
    async def open_source(broker, intake, **changes):
        return await opened(MqttSource(config(broker, **changes)), intake)

    return open_source


@pytest.fixture
def listening(opened):
    async def open_source(intake, **changes):
        fields = {"protocol": "mqtt-endpoint", "listen": "127.0.0.1:0", "event": WRAP}
        return await opened(MqttEndpointSource(MqttEndpointConfig(**{**fields, **changes})), intake)

    return open_source


# A broker between


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", QOS)
async def test_a_plain_payload_from_a_broker_is_wrapped(mosquitto, subscribed, version, qos):
    intake = RecordingIntake()
    changes = {"client_id": f"wrap-{version}-{qos}", "version": version}
    topic = f"plant/{version}-{qos}/temp"
    await subscribed(mosquitto, intake, subscribe=[{"topic": topic, "qos": qos}], **changes)
    await mosquitto_pub(mosquitto.port, topic, '{"t":21.5}', qos=qos, version=version)
    await intake.wait_for(lambda i: i.events)
    (event,) = intake.events
    assert (event.type, event.subject) == ("com.acme.temp.v1", topic)
    assert (event.datacontenttype, event.data) == ("application/json", b'{"t":21.5}')


async def test_a_binary_event_of_mosquitto_pub_is_taken_as_it_is(mosquitto, subscribed):
    intake = RecordingIntake()
    await subscribed(mosquitto, intake, client_id="bin", event=None)
    args = user_properties(specversion="1.0", id="é %20", source="/s", type="t", region="eu")
    args += ["-D", "publish", "content-type", "text/plain"]
    await mosquitto_pub(mosquitto.port, "plant/1/temp", "hi", *args)
    await intake.wait_for(lambda i: i.events)
    (event,) = intake.events
    assert (event.id, event.source, event.type) == ("é %20", "/s", "t")
    assert (event.datacontenttype, event.data) == ("text/plain", b"hi")
    assert event.extensions == {"region": "eu"}


async def test_what_was_not_acknowledged_comes_again_after_a_restart(mosquitto, subscribed):
    first = RecordingIntake(lambda _: None)
    source = await subscribed(mosquitto, first, client_id="again", event=None)
    for number in range(3):
        args = user_properties(specversion="1.0", id=str(number), source="/s", type="t")
        await mosquitto_pub(mosquitto.port, "plant/2/temp", "x", *args, qos=1 + number % 2)
    await first.wait_for(lambda i: len(i.deliveries) == 3)
    first.deliveries[0].settle(ACCEPTED)
    first.deliveries[1].settle(BUSY)
    await source.close()
    second = RecordingIntake()
    await subscribed(mosquitto, second, client_id="again", event=None)
    await second.wait_for(lambda i: {"1", "2"} <= {event.id for event in i.events})


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(start, subscribed, qos):
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake)
    for number in range(5):
        await mosquitto_pub(broker.port, f"plant/{number}/temp", str(number), qos=qos)
    await intake.wait_for(lambda i: len(i.deliveries) == 5)
    before = [event.id for event in intake.events]
    broker.stop()  # it saves its sessions, as power loss would not
    intake.deliveries[0].settle(ACCEPTED)
    broker.start()
    for delivery in intake.deliveries[1:5]:
        delivery.settle(ACCEPTED)
    await mosquitto_pub(broker.port, "plant/last/temp", "last", qos=qos)
    await intake.wait_for(lambda i: any(event.data == b"last" for event in i.events))
    # Redeliveries joined what was under way: no event came twice, none got another id.
    assert [event.id for event in intake.events[:5]] == before
    assert len(intake.events) == 6


async def publish_events(broker, ids, qos):
    """Publish structured events with the foreign client; returns when the broker has them all."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "localhost", "-p", str(broker.port), "-t", "plant/1/temp", "-l",
        "-q", str(qos), "-V", "5", "-D", "publish", "content-type", "application/cloudevents+json",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    lines = [
        json.dumps({"specversion": "1.0", "id": id_, "source": "/s", "type": "t"}) for id_ in ids
    ]
    async with asyncio.timeout(30):
        await process.communicate("\n".join([*lines, ""]).encode())
    assert process.returncode == 0


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_that_is_killed_at_once_loses_nothing_it_acknowledged(
    start, subscribed, qos
):
    """SIGKILL, with messages under way to us and others queued; every second change is saved."""
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake, event=None, receive_maximum=5)
    ids = [str(number) for number in range(40)]
    await publish_events(broker, [*ids, "maybe not saved"], qos)
    await intake.wait_for(lambda i: len(i.deliveries) == 5)
    await asyncio.to_thread(broker.kill)
    intake.deliveries[0].settle(ACCEPTED)
    await asyncio.to_thread(broker.start)
    intake.answer = lambda _: ACCEPTED
    for delivery in intake.deliveries[1:5]:
        delivery.settle(ACCEPTED)
    await intake.wait_for(lambda i: {event.id for event in i.events} >= set(ids), 20)
    assert list(dict.fromkeys(event.id for event in intake.events))[:40] == ids


@pytest.mark.parametrize("spool", ["auto", "off"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_gateway_that_is_killed_loses_nothing(start, http_recorder, tmp_path, qos, spool):
    """SIGKILL, with some events at the sink, some under way and some in the spool or the broker."""
    accepted, bodies, is_down = [], [], True

    def answer(request):
        bodies.append(request.body)
        id_ = json.loads(request.body)["id"]
        if is_down and len(set(accepted)) >= 10:
            return Answer(503)
        accepted.append(id_)
        return Answer(202)

    http_recorder.answer = answer
    broker = start(Mosquitto)
    config = {
        "sources": {
            "plant": {
                "protocol": "mqtt", "url": broker.url, "client_id": "gw", "receive_maximum": 20,
                "subscribe": [{"topic": "plant/#", "qos": qos}],
            }
        },
        "sinks": {"out": {"protocol": "http", "url": http_recorder.url}},
        "routes": [{"from": ["plant"], "to": ["out"]}],
        "delivery": {"spool": spool, "dead_letters": "local" if spool == "auto" else "off"},
        "state": {"path": str(tmp_path / "state")},
    }  # fmt: skip
    first = start(Gateway, config)
    ids = [str(number) for number in range(100)]
    await publish_events(broker, ids, qos)
    async with asyncio.timeout(20):
        while len(accepted) < 10 or len(bodies) <= 10:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(first.kill)
    is_down = False
    start(Gateway, config)
    async with asyncio.timeout(20):
        while len(set(accepted)) < 100:
            await asyncio.sleep(0.01)
    assert list(dict.fromkeys(accepted)) == ids
    # Only what was accepted, or is in the spool, and was not acknowledged comes twice.
    assert len(accepted) <= 100 + 10 + (20 if spool == "auto" else 0)


async def test_a_broker_that_is_killed_is_found_again(start, subscribed, caplog):
    broker = start(Mosquitto)
    intake = RecordingIntake()
    with caplog.at_level("INFO"):
        await subscribed(broker, intake)
        await mosquitto_pub(broker.port, "plant/1/temp", "before", qos=1)
        await intake.wait_for(lambda i: i.events)
        broker.kill()
        broker.start()
        async with asyncio.timeout(10):
            while caplog.text.count("connected to") < 2:
                await asyncio.sleep(0.01)
        await mosquitto_pub(broker.port, "plant/1/temp", "after", qos=2)
        await intake.wait_for(lambda i: i.events[-1].data == b"after")


async def test_a_stream_of_messages_at_every_qos_arrives_once_and_in_order(start, subscribed):
    broker = start(Mosquitto, ["max_inflight_messages 0"])
    intake = RecordingIntake()
    await subscribed(broker, intake, receive_maximum=50)
    senders = []
    for qos in (1, 2):
        options = SendOptions(qos=qos)
        sender = MqttSender(f"{broker.url}/plant/{qos}/temp", options)
        await sender.open()
        senders.append(sender)
    await asyncio.gather(
        *(sender.send(Plain(str(n).encode())) for n in range(200) for sender in senders)
    )
    await intake.wait_for(lambda i: len(i.events) >= 400)
    for qos in (1, 2):
        data = [event.data for event in intake.events if event.subject == f"plant/{qos}/temp"]
        assert data == [str(n).encode() for n in range(200)]
    for sender in senders:
        await sender.close()


async def test_a_shared_subscription_gives_each_message_to_one_gateway(mosquitto, subscribed):
    intakes = [RecordingIntake(), RecordingIntake()]
    for number, intake in enumerate(intakes):
        await subscribed(
            mosquitto, intake, client_id=f"share-{number}", share="gws",
            subscribe=[{"topic": "shared/#"}], event={**WRAP, "source": "/s"},
        )  # fmt: skip
    for number in range(10):
        await mosquitto_pub(mosquitto.port, f"shared/{number}", str(number))
    together = intakes[0].deliveries, intakes[1].deliveries
    await intakes[0].wait_for(lambda _: len(together[0]) >= 5)
    await intakes[1].wait_for(lambda _: len(together[1]) >= 5)
    got = [event.data for intake in intakes for event in intake.events]
    assert sorted(got) == [str(number).encode() for number in range(10)]


async def test_a_broker_with_tls_and_passwords(start, subscribed, certificates):
    broker = start(Mosquitto, certificates=certificates, users={"gw": "secret"})
    intake = RecordingIntake()
    url = f"mqtts://localhost:{broker.port}"
    access = {"username": "gw", "password": "secret"}
    await subscribed(broker, intake, url=url, tls={"ca": certificates.ca}, **access)
    sender = MqttSender(f"{url}/plant/1/temp", SendOptions(ca=certificates.ca, **access))
    await sender.open()
    payload = bytes(60000)  # several TLS records
    answers = await asyncio.gather(*(sender.send(Plain(payload)) for _ in range(20)))
    await sender.close()
    assert answers == ["PUBACK 0x00 Success"] * 20
    await intake.wait_for(lambda i: len(i.events) == 20)
    wrong = MqttSender(f"{url}/t", SendOptions(ca=certificates.ca, username="gw", password="no"))
    with pytest.raises(SendError, match="CONNACK 0x87 Not authorized"):
        await wrong.open()


# Devices that connect to us


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", QOS)
async def test_mosquitto_pub_to_the_endpoint(listening, version, qos):
    intake = RecordingIntake()
    source = await listening(intake)
    code, output = await mosquitto_pub(
        source.address.port, "plant/7/temp", "21.5", qos=qos, version=version
    )
    assert code == 0, output
    await intake.wait_for(lambda i: i.events)
    (event,) = intake.events
    assert (event.source, event.subject, event.data) == ("/plant/7", "plant/7/temp", b"21.5")


@pytest.mark.parametrize("qos", [1, 2])
async def test_mosquitto_pub_is_told_that_its_event_is_refused(listening, qos):
    refused = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="status 400")
    source = await listening(RecordingIntake(lambda _: refused))
    _, output = await mosquitto_pub(source.address.port, "plant/7/temp", "x", qos=qos)
    assert "RC:131" in output or "Implementation specific error" in output, output  # 0x83


async def test_mosquitto_pub_with_tls_a_certificate_and_a_password(listening, certificates):
    intake = RecordingIntake()
    source = await listening(
        intake,
        users={"ann": "pw"},
        tls={
            "cert": certificates.server_cert,
            "key": certificates.server_key,
            "ca": certificates.ca,
        },
        event={"type": "t", "source": "/{device}"},
    )
    args = ["--cafile", certificates.ca, "--cert", certificates.client_cert]
    args += ["--key", certificates.client_key, "-u", "ann"]
    code, output = await mosquitto_pub(source.address.port, "a", "x", *args, "-P", "pw")
    assert code == 0, output
    assert intake.events[0].source == "/device-1"
    code, output = await mosquitto_pub(source.address.port, "a", "x", *args, "-P", "no")
    assert code != 0
    assert "Bad user name or password" in output or "RC:134" in output or "(134)" in output, output
    assert len(intake.events) == 1


async def test_mosquitto_sub_is_told_no(listening):
    source = await listening(RecordingIntake())
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub", "-h", "localhost", "-p", str(source.address.port), "-t", "#", "-V", "5",
        "-W", "5", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(10):
        output, _ = await process.communicate()
    assert b"All subscription requests were denied" in output


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", QOS)
async def test_paho_to_the_endpoint(listening, version, qos):
    intake = RecordingIntake()
    source = await listening(intake)
    protocol = paho.MQTTv5 if version == "5" else paho.MQTTv311

    def publish():
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "dev", protocol=protocol)
        client.connect(*source.address)
        client.loop_start()
        infos = [client.publish("plant/1/temp", str(n), qos) for n in range(50)]
        for info in infos:
            info.wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    await asyncio.to_thread(publish)
    await intake.wait_for(lambda i: len(i.events) == 50)
    assert [event.data for event in intake.events] == [str(n).encode() for n in range(50)]


async def test_pahos_will_is_an_event_when_it_dies(listening):
    intake = RecordingIntake()
    source = await listening(intake)

    def die():
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "dev", protocol=paho.MQTTv5)
        client.will_set("plant/1/gone", "bye", 1)
        client.connect(*source.address)
        client.loop_start()
        client.publish("plant/1/temp", "x", 1).wait_for_publish(10)
        client.loop_stop()
        with contextlib.suppress(OSError):
            client.socket().close()
        client._sock = None

    await asyncio.to_thread(die)
    await intake.wait_for(lambda i: len(i.events) == 2)
    assert (intake.events[1].subject, intake.events[1].data) == ("plant/1/gone", b"bye")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_our_sender_to_the_endpoint(listening, version, mode):
    intake = RecordingIntake()
    source = await listening(intake, event=None)
    event = Event(
        id="1", source="/s", type="t", datacontenttype="application/json", data=b'{"a": 1}',
        subject="é %", extensions={"region": "eu"},
    )  # fmt: skip
    sender = MqttSender(
        f"mqtt://127.0.0.1:{source.address.port}/t",
        SendOptions(mode=mode, version=version, qos=2),
    )
    await sender.open()
    answer = await sender.send(event)
    await sender.close()
    assert answer == ("PUBCOMP 0x00 Success" if version == "5" else "PUBCOMP")
    assert intake.events == [event]
