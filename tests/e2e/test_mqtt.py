"""MQTT through real parts: Mosquitto as the broker, mosquitto_pub and paho as foreign clients."""

import asyncio
import subprocess

import paho.mqtt.client as paho
import paho.mqtt.publish
import pytest

from gateway.delivery import BUSY
from gateway.sources.mqtt import MqttSource, MqttSourceConfig
from tests.e2e.servers import Mosquitto
from tests.helpers import RecordingIntake

WRAP = {"type": "com.acme.temp.v1", "source": "/plant/{topic[1]}", "subject": "{topic}"}


def config(broker, **changes):
    return MqttSourceConfig(
        **{
            "name": "plant",
            "protocol": "mqtt",
            "url": broker.url,
            "client_id": "gw-1",
            "subscribe": [{"topic": "plant/+/temp", "qos": 2}],
            "event": WRAP,
            **changes,
        }
    )


def publish(broker, topic, payload, *args, qos=1, version="5"):
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-m", payload,
         "-q", str(qos), "-V", version.replace(".", ""), *args],
        check=True, timeout=10,
    )  # fmt: skip


@pytest.fixture
async def opened():
    """Open sources; each is closed after the test."""
    sources = []

    async def open_source(config, intake):
        source = MqttSource(config)
        sources.append(source)
        async with asyncio.timeout(15):
            await source.open(intake)
        return source

    yield open_source
    for source in sources:
        await source.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_plain_payload_from_a_broker_is_wrapped(start, opened, version, qos):
    broker = start(Mosquitto)
    intake = RecordingIntake()
    await opened(config(broker, version=version), intake)
    publish(broker, "plant/7/temp", '{"t":21.5}', qos=qos, version=version)
    await intake.wait_for(lambda i: i.events)
    event = intake.events[0]
    assert (event.type, event.source, event.subject) == (
        "com.acme.temp.v1",
        "/plant/7",
        "plant/7/temp",
    )
    assert (event.datacontenttype, event.data) == ("application/json", b'{"t":21.5}')


async def test_a_binary_event_of_mosquitto_pub_is_taken_as_it_is(start, opened):
    broker = start(Mosquitto)
    intake = RecordingIntake()
    await opened(config(broker, event=None), intake)
    properties = ["specversion=1.0", "id=é %20", "source=/s", "type=t", "region=eu"]
    args = [
        part
        for each in properties
        for part in ("-D", "publish", "user-property", *each.split("=", 1))
    ]
    publish(broker, "plant/1/temp", "hi", *args, "-D", "publish", "content-type", "text/plain")
    await intake.wait_for(lambda i: i.events)
    (event,) = intake.events
    assert (event.id, event.source, event.type) == ("é %20", "/s", "t")
    assert (event.datacontenttype, event.data) == ("text/plain", b"hi")
    assert event.extensions == {"region": "eu"}
