"""When Mosquitto is told that a message is safe: the traps, each against the real broker.

Mosquitto's log is the witness of what was acknowledged: `Sending PUBLISH to gw-1 (d0, q1, r0, m3,`
and `Received PUBACK from gw-1 (Mid: 3, RC:0)`.
"""

import asyncio
import json
import re
import subprocess
import sys
import threading

import paho.mqtt.client as paho
import pytest

from bindings.binding import Message
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sources.mqtt import MqttSource, MqttSourceConfig
from gateway.spool import StoreError
from tests.e2e.servers import HOST, Gateway, Mosquitto
from tests.e2e.servers.process import poll_until
from tests.e2e.servers.recorder import Answer
from tests.helpers import RecordingIntake

TOPIC = "plant/1/temp"
REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="status 400")
ANSWERS = {1: "PUBACK", 2: "PUBREC"}


@pytest.fixture
async def subscribed():
    """Open sources of one session; each is closed after the test."""
    sources = []

    async def open_source(broker, intake, **changes):
        fields = {
            "name": "plant",
            "protocol": "mqtt",
            "url": broker.url,
            "client_id": "gw-1",
            "subscribe": [{"topic": "plant/#", "qos": 2}],
        }
        source = MqttSource(MqttSourceConfig(**{**fields, **changes}))
        sources.append(source)
        async with asyncio.timeout(15):
            await source.open(intake)
        return source

    yield open_source
    for source in sources:
        await source.close()


def event(event_id, padding=0):
    members = {"specversion": "1.0", "id": event_id, "source": f"/s/{event_id}", "type": "t"}
    return json.dumps({**members, "data": "x" * padding} if padding else members)


async def publish(broker, lines, qos=1, *, content_type="application/cloudevents+json"):
    """Publish with the foreign client; returns when the broker has acknowledged every line."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", HOST, "-p", str(broker.port), "-t", TOPIC, "-l",
        "-q", str(qos), "-V", "5", "-D", "publish", "content-type", content_type,
        stdin=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        await process.communicate("\n".join([*lines, ""]).encode())
    assert process.returncode == 0


def acknowledged(broker, packet="PUBACK", client="gw-1"):
    """Return the packet identifiers that the broker had acknowledged, in the order it read them."""
    pattern = rf"Received {packet} from {client} \(Mid: (\d+)"
    return [int(mid) for mid in re.findall(pattern, broker.log)]


def sent(broker, client="gw-1"):
    """Return the packet identifiers of what the broker sent, in its order."""
    pattern = rf"Sending PUBLISH to {client} \(d\d, q[12], r\d, m(\d+)"
    return [int(mid) for mid in re.findall(pattern, broker.log)]


async def until(condition, what):
    await asyncio.to_thread(poll_until, condition, 60, what)


@pytest.mark.parametrize("qos", [1, 2])
async def test_acknowledgements_leave_in_the_order_of_receipt(start, subscribed, qos):
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake)
    await publish(broker, map(event, "abcdef"), qos)
    await intake.wait_for(lambda i: len(i.deliveries) == 6)
    for delivery in reversed(intake.deliveries):
        delivery.settle(ACCEPTED)
        await asyncio.sleep(0)  # else all of them leave together, whatever the order
        await asyncio.sleep(0)
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 6, "six answers")
    assert acknowledged(broker, ANSWERS[qos]) == sent(broker)


@pytest.mark.parametrize("qos", [1, 2])
async def test_an_old_message_acknowledges_no_new_one_of_a_broker_that_lost_the_session(
    start, subscribed, qos
):
    """Packet identifiers begin at 1 again: the answers to the old are those of the new."""
    broker = start(Mosquitto)
    old, new = ["old-0", "old-1", "old-2"], ["new-0", "new-1", "new-2"]
    first = RecordingIntake(lambda _: None)
    source = await subscribed(broker, first)
    await publish(broker, map(event, old), qos)
    await first.wait_for(lambda i: len(i.deliveries) == 3)
    await asyncio.to_thread(broker.kill)
    for file in broker.folder.glob("mosquitto.db*"):
        file.unlink()  # as if it had no persistence
    broker.log_path.unlink()
    await asyncio.to_thread(broker.start)
    await until(lambda: "Sending SUBACK to gw-1" in broker.log, "the source to come back")
    await publish(broker, map(event, new), qos)
    await first.wait_for(lambda i: len(i.deliveries) == 6)
    assert sent(broker) == [1, 2, 3]
    for delivery in first.deliveries[:4]:
        delivery.settle(ACCEPTED)
    await until(lambda: acknowledged(broker, ANSWERS[qos]), "one answer")
    await source.close()
    assert acknowledged(broker, ANSWERS[qos]) == [1]  # that of new-0
    second = RecordingIntake()
    await subscribed(broker, second)
    await second.wait_for(lambda i: len(i.deliveries) == 2)
    assert [each.id for each in second.events] == new[1:]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_settled_while_the_broker_restarts_is_answered_after_connect(
    start, subscribed, qos
):
    """The broker kept the session; it sends all again, and none becomes a second delivery."""
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake)
    await publish(broker, map(event, "abc"), qos)
    await intake.wait_for(lambda i: len(i.deliveries) == 3)
    await asyncio.to_thread(broker.stop)
    broker.log_path.unlink()
    intake.deliveries[2].settle(ACCEPTED)
    intake.deliveries[0].settle(ACCEPTED)
    await asyncio.to_thread(broker.start)
    await until(lambda: sent(broker)[2:], "all to come again")
    intake.deliveries[1].settle(ACCEPTED)
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 3, "three answers")
    assert acknowledged(broker, ANSWERS[qos]) == sent(broker)
    assert [each.id for each in intake.events] == ["a", "b", "c"]
    # An answer before CONNECT would have ended a connection, and brought another.
    assert broker.log.count("New client connected") == 1
    assert "protocol error" not in broker.log


async def test_a_refusal_is_success_to_the_broker_and_only_when_the_pipeline_has_refused(
    start, subscribed
):
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda d: REFUSED if d.events[0].id == "refused" else None)
    await subscribed(broker, intake)
    await publish(broker, map(event, ["refused", "waiting", "refused"]))
    await intake.wait_for(lambda i: len(i.deliveries) == 3)
    await until(lambda: acknowledged(broker), "the first answer")
    assert acknowledged(broker) == sent(broker)[:1]
    intake.deliveries[1].settle(ACCEPTED)
    await until(lambda: len(acknowledged(broker)) == 3, "the others")
    assert broker.log.count("RC:0)") == 3
    assert intake.rejections == [("sink_refused", "status 400")] * 2


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_no_event_stays_at_the_broker_until_it_is_kept(
    start, subscribed, version, qos
):
    broker = start(Mosquitto)
    first, second, third = RecordingIntake(), RecordingIntake(), RecordingIntake()
    first.keep_error = StoreError("no room", full=True)
    source = await subscribed(broker, first, version=version)
    await publish(broker, ["no event"], qos, content_type="text/plain")
    await first.wait_for(lambda i: i.rejections)
    await source.close()
    assert acknowledged(broker, ANSWERS[qos]) == []
    source = await subscribed(broker, second, version=version)
    await second.wait_for(lambda i: i.kept)
    content_type = "text/plain" if version == "5" else ""
    assert second.kept == [Message(b"no event", content_type, (), TOPIC)]
    done = {1: "PUBACK", 2: "PUBREC"}[qos]
    await until(lambda: acknowledged(broker, done), "the answer")
    await source.close()
    await subscribed(broker, third, version=version)
    await publish(broker, [event("last")], qos)
    await third.wait_for(lambda i: i.deliveries or i.rejections)
    assert third.kept == []


async def test_more_than_the_receive_maximum_stays_in_the_socket_and_the_keep_alive_goes_on(
    start, subscribed
):
    """Mosquitto 2.0.11 sends up to as many again for each acknowledgement."""
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake, receive_maximum=10, keep_alive=6)
    size = 20_000
    ids = [str(number) for number in range(500)]
    await publish(broker, [event(each, size) for each in ids])
    await intake.wait_for(lambda i: len(i.deliveries) >= 10)
    most = 0
    for settled in range(60):
        await intake.wait_for(lambda i, settled=settled: len(i.deliveries) > settled)
        intake.deliveries[settled].settle(ACCEPTED)
        await until(lambda settled=settled: len(acknowledged(broker)) > settled, "the answer")
        most = max(most, len(intake.deliveries) - settled - 1)
    # One read of 256 KiB, and what stood before it.
    assert most <= 10 + 256 * 1024 // size + 1
    before = broker.log.count("Received PINGREQ from gw-1")
    await until(lambda: broker.log.count("Received PINGREQ from gw-1") > before + 1, "keep-alive")
    assert broker.log.count("New client connected") == 2  # we, and who published
    intake.answer = lambda _: ACCEPTED
    for delivery in intake.deliveries[60:]:
        delivery.settle(ACCEPTED)
    await intake.wait_for(lambda i: len(i.deliveries) == 500, 20)
    assert [each.id for each in intake.events] == ids


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_source_that_takes_nothing_stays_connected_behind_a_backlog(start, subscribed, qos):
    """SUBACK stands behind all that was not acknowledged."""
    broker = start(Mosquitto)
    source = await subscribed(broker, RecordingIntake())
    await source.close()
    ids = [str(number) for number in range(200)]
    await publish(broker, [event(each, 10_000) for each in ids], qos)
    broker.log_path.write_text("")
    intake = RecordingIntake()
    intake.room.clear()
    await subscribed(broker, intake, keep_alive=6)
    log = broker.log
    assert log.index("Sending SUBACK to gw-1") > log.rindex("Sending PUBLISH to gw-1")
    await until(lambda: broker.log.count("Received PINGREQ from gw-1") > 1, "the keep-alive")
    assert acknowledged(broker, ANSWERS[qos]) == []
    intake.room.set()
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 200, "all answers")
    assert acknowledged(broker, ANSWERS[qos]) == sent(broker)
    assert [each.id for each in intake.events] == ids
    assert broker.log.count("New client connected") == 1


async def test_who_is_taken_over_acknowledges_nothing_until_it_has_the_session_again(
    start, subscribed, caplog
):
    broker = start(Mosquitto)
    intake = RecordingIntake(lambda _: None)
    await subscribed(broker, intake)
    await publish(broker, [event("a")])
    await intake.wait_for(lambda i: i.deliveries)
    other = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "gw-1", protocol=paho.MQTTv5, manual_ack=True,
        reconnect_on_failure=False,
    )  # fmt: skip
    properties = paho.Properties(paho.PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    got = threading.Event()
    other.on_message = lambda *_: got.set()
    other.connect(HOST, broker.port, clean_start=False, properties=properties)
    other.loop_start()
    try:
        assert await asyncio.to_thread(got.wait, 10)
        intake.answer = lambda _: ACCEPTED
        intake.deliveries[0].settle(ACCEPTED)
        await until(lambda: acknowledged(broker), "the answer")
    finally:
        other.loop_stop()
    assert "source plant: lost mqtt:" in caplog.text
    assert acknowledged(broker) == sent(broker)[:1]
    assert broker.log.count("already connected") == 2  # it was taken, and taken back
    assert broker.log.index("Received PUBACK") > broker.log.rindex("already connected")
    # Mosquitto 2.0.11 does not say that it was a takeover. Who hears of it takes the message anew.
    assert len(intake.events) == 1 + ("another client has the client_id" in caplog.text)
    assert {each.id for each in intake.events} == {"a"}


# The gateway as a process


def gateway_config(port, sink, qos=2, **changes):
    return {
        "sources": {
            "plant": {
                "protocol": "mqtt", "url": f"mqtt://{HOST}:{port}", "client_id": "gw-1",
                "subscribe": [{"topic": "plant/#", "qos": qos}],
            }
        },
        "sinks": {"out": {"protocol": "http", "url": sink.url}},
        "routes": [{"from": ["plant"], "to": ["out"]}],
        **changes,
    }  # fmt: skip


def ids_of(requests):
    return [json.loads(request.body)["id"] for request in requests]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_settled_while_it_drains_is_acknowledged_and_the_rest_comes_again(
    start, http_recorder, qos
):
    while_draining, never = threading.Event(), threading.Event()

    def answer(request):
        event_id = json.loads(request.body)["id"]
        if event_id in ("3", "4"):
            assert while_draining.wait(20)
        if event_id == "5" and not never.is_set():
            assert never.wait(20)
        return Answer(202)

    http_recorder.answer = answer
    broker = start(Mosquitto)
    config = gateway_config(
        broker.port, http_recorder, qos, drain={"grace": "PT2S"},
        delivery={"spool": "off", "dead_letters": "off"},
    )  # fmt: skip
    gateway = start(Gateway, config)
    await publish(broker, map(event, "01234"), qos)
    await until(lambda: {"0", "1", "2"} <= set(ids_of(http_recorder.requests)), "the first")
    await publish(broker, map(event, "567"), qos)  # 6 and 7 arrive, and wait for the answer to 5
    await until(lambda: {"6", "7"} <= set(ids_of(http_recorder.requests)), "the others")
    stopping = asyncio.ensure_future(asyncio.to_thread(gateway.stop))
    await until(lambda: "draining" in gateway.log, "SIGTERM to be seen")
    while_draining.set()
    assert await stopping == 0
    assert acknowledged(broker, ANSWERS[qos]) == sent(broker)[:5]
    never.set()
    before = len(http_recorder.requests)
    start(Gateway, config)
    await until(lambda: len(http_recorder.requests) >= before + 3, "the rest")
    await publish(broker, [event("last")], qos)
    await until(lambda: "last" in ids_of(http_recorder.requests), "the last")
    # 6 and 7 reached the sink before, and their answers had to wait for that to 5.
    assert set(ids_of(http_recorder.requests[before:])) == {"5", "6", "7", "last"}


@pytest.mark.parametrize("ack", ["sink", "stored"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_acknowledged_while_the_sink_is_down_outlives_a_kill(
    start, http_recorder, tmp_path, qos, ack
):
    is_down = True
    http_recorder.answer = lambda _: Answer(503 if is_down else 202)
    broker = start(Mosquitto)
    config = gateway_config(
        broker.port, http_recorder, qos, delivery={"ack": ack},
        state={"path": str(tmp_path / "state")},
    )  # fmt: skip
    gateway = start(Gateway, config)
    ids = [str(number) for number in range(30)]
    await publish(broker, map(event, ids), qos)
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 30, "all answers")
    await asyncio.to_thread(gateway.kill)
    is_down, before = False, len(http_recorder.requests)
    start(Gateway, config)
    await until(lambda: set(ids) <= set(ids_of(http_recorder.requests[before:])), "all events")
    assert acknowledged(broker, ANSWERS[qos]) == sent(broker)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_gateway_whose_sink_is_down_is_ready_and_stays_connected_behind_a_backlog(
    start, http_recorder, qos
):
    is_down = True
    http_recorder.answer = lambda _: Answer(503 if is_down else 202)
    broker = start(Mosquitto)
    config = gateway_config(
        broker.port, http_recorder, qos, delivery={"spool": "off", "dead_letters": "off"}
    )
    config["sources"]["plant"]["keep_alive"] = "PT6S"
    config["limits"] = {"inflight": 5}
    gateway = start(Gateway, config)
    ids = [str(number) for number in range(200)]
    await publish(broker, [event(each, 10_000) for each in ids], qos)
    await asyncio.to_thread(gateway.kill)
    broker.log_path.write_text("")
    start(Gateway, config)  # returns when it is ready
    await until(lambda: broker.log.count("Received PINGREQ from gw-1") > 1, "the keep-alive")
    assert acknowledged(broker, ANSWERS[qos]) == []
    is_down, before = False, len(http_recorder.requests)
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 200, "all answers")
    assert set(ids_of(http_recorder.requests[before:])) == set(ids)
    assert broker.log.count("New client connected") == 1


async def dead_letters(state):
    """Return what the command line says of a state folder whose gateway has ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "dead-letters", "list", "--state", state, "--json",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_refused_or_is_no_event_is_a_dead_letter_when_it_is_acknowledged(
    start, http_recorder, tmp_path, qos
):
    http_recorder.answer = lambda _: Answer(400)
    broker, state = start(Mosquitto), str(tmp_path / "state")
    config = gateway_config(broker.port, http_recorder, qos, state={"path": state})
    gateway = start(Gateway, config)
    await publish(broker, [event("refused")], qos)
    await publish(broker, ["no event"], qos, content_type="text/plain")
    await until(lambda: len(acknowledged(broker, ANSWERS[qos])) == 2, "both answers")
    await asyncio.to_thread(gateway.kill)
    assert sorted(each["reason"] for each in await dead_letters(state)) == [
        "not_an_event", "sink_refused",
    ]  # fmt: skip


class Between:
    """Stands between the gateway and the broker, and may keep a packet to itself.

    It looks at the first two bytes of what each side writes, which is enough for one message.
    """

    def __init__(self, broker):
        self._broker = broker
        self._held = b""
        self.held = asyncio.Event()
        self._tasks = []
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._take, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info):
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def hold(self, packet):
        """Let nothing that begins like this pass, nor anything after it on its connection."""
        self._held = packet

    async def _take(self, reader, writer):
        their_reader, their_writer = await asyncio.open_connection(HOST, self._broker.port)
        self._writers += [writer, their_writer]
        self._tasks += [
            asyncio.ensure_future(self._copy(reader, their_writer)),
            asyncio.ensure_future(self._copy(their_reader, writer)),
        ]

    async def _copy(self, reader, writer):
        is_held = False
        try:
            while data := await reader.read(65536):
                if self._held and data.startswith(self._held):
                    is_held = True
                    self.held.set()
                if not is_held:
                    writer.write(data)
        except ConnectionError:
            pass
        writer.close()


@pytest.mark.parametrize(
    ("packet", "times"),
    [
        pytest.param(b"\x50", 2, id="PUBREC is lost"),  # the broker knows nothing: at least once
        pytest.param(b"\x62", 1, id="PUBREL is lost"),
        pytest.param(b"\x70", 1, id="PUBCOMP is lost"),
    ],
)
async def test_qos_2_of_a_gateway_that_is_killed_comes_again_only_without_pubrec(
    start, http_recorder, packet, times
):
    broker = start(Mosquitto)
    async with Between(broker) as between:
        config = gateway_config(between.port, http_recorder)
        gateway = await asyncio.to_thread(start, Gateway, config)
        between.hold(packet)
        await publish(broker, [event("a")], 2)
        async with asyncio.timeout(15):
            await between.held.wait()
        await asyncio.to_thread(gateway.kill)
    config = gateway_config(broker.port, http_recorder)
    await asyncio.to_thread(start, Gateway, config)
    await until(lambda: acknowledged(broker, "PUBCOMP"), "the end of the message")
    await publish(broker, [event("last")], 2)
    await until(lambda: "last" in ids_of(http_recorder.requests), "the last")
    assert ids_of(http_recorder.requests) == ["a"] * times + ["last"]
    await until(lambda: len(acknowledged(broker, "PUBCOMP")) == 2, "the end of the last")
