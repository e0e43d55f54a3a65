"""What a real nats-server makes of our acknowledgements: each test sets a trap that lost messages.

What a server says too rarely is in tests/gateway/sources/test_nats_acknowledgement.py.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
import threading

import nats
import nats.js.errors
import pytest
from nats.js.api import ConsumerConfig

from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.nats import NatsSource, NatsSourceConfig
from gateway.spool import StoreError
from tests.e2e.servers import Answer, Gateway, NatsServer
from tests.e2e.servers.process import HOST
from tests.e2e.test_nats import HEADERS, source, until_settled
from tests.helpers import RecordingIntake

RELEASED = Settlement(Outcome.RELEASED, Reason.SINK_DOWN, 0.05)
_numbers = itertools.count(1)


@pytest.fixture
async def client(nats_server):
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


@pytest.fixture
async def stream(client):
    """A stream of its own: its name, which is also the first word of its subjects."""
    name = f"A{next(_numbers)}"
    await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    return name


@pytest.fixture
async def link(nats_server):
    relay = Link(nats_server.port)
    await relay.open()
    yield relay
    await relay.close()


class Link:
    """A way to the server that can be cut and mended while the server runs."""

    def __init__(self, port):
        self._target = port
        self._tasks = set()
        self._writers = []
        self._is_cut = False

    async def open(self):
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.url = f"nats://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self):
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self):
        self._is_cut = False

    async def close(self):
        self.cut()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        if self._is_cut:
            self.cut()
            return
        far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        self._writers.append(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def publish(client, stream, *names):
    for name in names:
        await client.jetstream().publish(
            f"{stream}.a", b"", headers={**HEADERS, "ce-id": str(name)}
        )


async def until(condition, seconds=10):
    """Wait until an awaited condition is something true, and return that."""
    async with asyncio.timeout(seconds):
        while not (result := await condition()):
            await asyncio.sleep(0.01)
        return result


def ids(intake):
    return [event.id for event in intake.events]


async def take_one(client, stream):
    """Take what the consumer gives next, as another process would; don't acknowledge it.

    In one request: what the server gives to one that has just been given up is lost for a while.
    """
    subscription = await client.jetstream().pull_subscribe_bind("gw", stream)
    (message,) = await subscription.fetch(1, timeout=10)
    return message


# The consumer.


async def test_the_consumer_is_pulled_from_explicit_and_never_gives_up(nats_server, client, stream):
    options = {"ack_wait": 240, "max_ack_pending": 77}
    async with source(nats_server, RecordingIntake(), stream=stream, durable="gw", **options):
        made = (await client.jetstream().consumer_info(stream, "gw")).config
    assert (made.ack_policy, made.deliver_subject, made.max_deliver) == ("explicit", None, -1)
    assert (made.ack_wait, made.max_ack_pending) == (240, 77)
    assert made.deliver_policy == "all"


async def test_a_consumer_that_gives_up_is_refused_and_taken_once_it_is_mended(
    nats_server, client, stream
):
    js = client.jetstream()
    config = ConsumerConfig(durable_name="gw", ack_policy="explicit", max_deliver=2, ack_wait=0.1)
    await js.add_consumer(stream, config)
    await publish(client, stream, "stuck")
    # The trap: two deliveries, and then it is stuck in the stream and nobody is told.
    for delivery in (1, 2):
        message = await take_one(client, stream)
        assert message.metadata.num_delivered == delivery

    subscription = await js.pull_subscribe_bind("gw", stream)
    with pytest.raises(nats.errors.TimeoutError):
        await subscription.fetch(1, timeout=0.5)
    assert (await js.stream_info(stream)).state.messages == 1

    adapter = NatsSource(
        NatsSourceConfig(
            name="bus", protocol="nats", url=nats_server.url, stream=stream, durable="gw"
        )
    )
    with pytest.raises(GatewayError, match="--max-deliver=-1"):
        await adapter.open(RecordingIntake())
    await adapter.close()
    config.max_deliver = -1
    await js.add_consumer(stream, config)  # what `nats consumer edit` does
    intake = RecordingIntake()
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await publish(client, stream, "next")
        await intake.wait_for(lambda i: "next" in ids(i))


async def test_asking_beyond_the_window_is_no_trouble(
    nats_server, client, stream, monkeypatch, caplog
):
    monkeypatch.setattr("gateway.sources.nats.jetstream.EXPIRES_SECONDS", 1)
    monkeypatch.setattr("gateway.sources.nats.jetstream.HEARTBEAT_SECONDS", 0.5)
    busy, idle = RecordingIntake(lambda _: None), RecordingIntake()
    options = {"stream": stream, "durable": "gw", "max_ack_pending": 5}
    async with source(nats_server, busy, **options):
        await publish(client, stream, *range(5))
        await busy.wait_for(lambda i: len(i.events) == 5)
        async with source(nats_server, idle, **options) as adapter:
            await publish(client, stream, *range(5, 8))
            # Its requests end with nothing, one after the other.
            while adapter._way._request_number < 3:
                await asyncio.sleep(0.01)
            busy.answer = lambda _: ACCEPTED
            for delivery in busy.deliveries[:5]:
                delivery.settle(ACCEPTED)
            await until_settled(client, stream)
    assert sorted(ids(busy) + ids(idle)) == [str(number) for number in range(8)]
    assert not [r for r in caplog.records if r.levelname in {"WARNING", "ERROR"}]


# Late, lost and repeated.


async def test_the_first_delivery_s_acknowledgement_counts_after_a_redelivery(
    nats_server, client, stream, link
):
    intake = RecordingIntake(lambda _: None)
    async with source(
        nats_server, intake, url=link.url, stream=stream, durable="gw", ack_wait=2
    ) as adapter:
        await publish(client, stream, 1)
        await intake.wait_for(lambda i: i.deliveries)
        link.cut()
        while adapter._way._connection.is_up:
            await asyncio.sleep(0)
        again = await take_one(client, stream)  # another process has it now
        assert again.metadata.num_delivered == 2
        config = (await client.jetstream().consumer_info(stream, "gw")).config
        config.ack_wait = 30  # and keeps it, however long the way back takes
        await client.jetstream().add_consumer(stream, config)
        intake.deliveries[0].settle(ACCEPTED)  # with the address of the first delivery
        link.mend()
        info = await until_settled(client, stream)
    assert (info.ack_floor.stream_seq, info.delivered.consumer_seq) == (1, 2)


async def test_what_is_under_way_is_delivered_once_though_it_comes_again(
    nats_server, client, stream, link
):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, url=link.url, stream=stream, durable="gw", ack_wait=1):
        await publish(client, stream, 1, 2)
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        link.cut()
        await asyncio.sleep(1.2)  # longer than ack_wait: no sign of life goes through
        link.mend()

        async def came_again():
            return (await client.jetstream().consumer_info(stream, "gw")).delivered.consumer_seq > 3

        await until(came_again)
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        await until_settled(client, stream)
    assert ids(intake) == ["1", "2"]


async def test_acknowledgements_made_while_there_is_no_connection_all_arrive(
    nats_server, client, stream, link
):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, url=link.url, stream=stream, durable="gw") as adapter:
        await publish(client, stream, *range(50))
        await intake.wait_for(lambda i: len(i.deliveries) == 50)
        link.cut()
        while adapter._way._connection.is_up:
            await asyncio.sleep(0)
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        await asyncio.sleep(0)
        link.mend()
        info = await until_settled(client, stream)
    assert info.delivered.consumer_seq == 50  # none came again


async def test_what_was_released_keeps_its_place(nats_server, client, stream, monkeypatch):
    """The trap: `-NAK` has the server give it later, behind those after it."""
    monkeypatch.setattr("gateway.sources.backlog.FIRST_DELAY", 0.05)
    refusals = iter([RELEASED] * 4)
    intake = RecordingIntake(lambda _: next(refusals, ACCEPTED))
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await publish(client, stream, *range(10))
        info = await until_settled(client, stream)
    accepted = list(dict.fromkeys(reversed(ids(intake))))
    assert accepted[::-1] == [str(number) for number in range(10)]
    assert info.delivered.consumer_seq == 10


async def test_what_brings_no_event_stays_in_the_stream_until_it_is_kept(
    nats_server, client, stream, monkeypatch
):
    monkeypatch.setattr("gateway.sources.keeper.FIRST_DELAY", 0.05)
    intake = RecordingIntake()
    intake.keep_error = StoreError("no room", full=True)
    options = {"stream": stream, "durable": "gw", "ack_wait": 1}
    async with source(nats_server, intake, **options):
        await publish(client, stream, "good")
        await until_settled(client, stream)
        await client.jetstream().publish(f"{stream}.b", b"poison")
        await intake.wait_for(lambda i: len(i.rejections) > 2)
        assert (await client.jetstream().consumer_info(stream, "gw")).num_ack_pending == 1
    second = RecordingIntake()
    async with source(nats_server, second, **options):  # the next process
        await second.wait_for(lambda i: i.kept)
        await until_settled(client, stream)
    assert (intake.kept, ids(intake), ids(second)) == ([], ["good"], [])
    assert [message.payload for message in second.kept] == [b"poison"]


# The server is killed.


async def test_a_server_killed_again_and_again_loses_nothing(start):
    """With deliveries under way, acknowledgements on their way, and new messages coming."""
    server = start(NatsServer)
    chance = random.Random(4)
    intake = RecordingIntake(lambda _: ACCEPTED if chance.random() < 0.5 else None)
    settled = set()
    setup = await nats.connect(server.url)
    await setup.jetstream().add_stream(name="K", subjects=["k.>"])
    await setup.close()
    async with source(server, intake, stream="K", durable="gw", ack_wait=2, max_ack_pending=50):
        for round_number in range(3):
            publisher = await nats.connect(server.url)
            first = round_number * 200
            names = [str(number) for number in range(first, first + 200)]
            await publish(publisher, "k", *names)
            await publisher.close()
            async with asyncio.timeout(20):
                while not settled.intersection(names):
                    settled.update(_settle_pending(intake))
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(server.kill)
            settled.update(_settle_pending(intake))  # there is no connection
            await asyncio.to_thread(server.start)
        intake.answer = lambda _: ACCEPTED
        _settle_pending(intake)
        check = await nats.connect(server.url)
        await until_settled(check, "K")
        await check.close()
    assert {int(name) for name in ids(intake)} == set(range(600))


def _settle_pending(intake):
    """Accept what is pending; return the ids."""
    pending = [delivery for delivery in intake.deliveries if not delivery.settled]
    for delivery in pending:
        delivery.settle(ACCEPTED)
    return {delivery.events[0].id for delivery in pending}


# Streams and consumers that end.


async def test_the_end_of_a_stream_is_noticed_though_the_window_is_full(nats_server, client):
    """The trap: an acknowledgement of the old stream ends a message of the new one."""
    js = client.jetstream()
    intake = RecordingIntake(lambda _: None)
    name = f"NEW{next(_numbers)}"
    consumer = ConsumerConfig(durable_name="gw", ack_policy="explicit", max_ack_pending=3)
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    async with source(nats_server, intake, stream=name, durable="gw", max_ack_pending=3) as adapter:
        await publish(client, name, "old 0", "old 1", "old 2")
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        old = list(intake.deliveries)

        async def watches():
            return (await js.consumer_info(name, "gw")).num_waiting == 1

        await until(watches)
        await js.delete_stream(name)
        # All of it made anew by somebody else, who has the first messages.
        await js.add_stream(name=name, subjects=[f"{name}.>"])
        await js.add_consumer(name, consumer)
        await publish(client, name, "new 0", "new 1", "new 2")
        for delivery in old:
            delivery.settle(ACCEPTED)
        await intake.wait_for(lambda i: len(i.deliveries) == 6)
        await adapter._way._connection.flush()
        assert (await js.consumer_info(name, "gw")).num_ack_pending == 3
        for delivery in intake.deliveries[3:]:
            delivery.settle(ACCEPTED)
        await until_settled(client, name)
    assert ids(intake)[3:] == ["new 0", "new 1", "new 2"]


async def test_a_server_accepts_an_acknowledgement_of_a_stream_that_is_gone(client):
    """Why all this has to be: what the server does, with no gateway at all."""
    js = client.jetstream()
    name = f"GONE{next(_numbers)}"
    tokens = []
    for _ in range(2):
        await js.add_stream(name=name, subjects=[f"{name}.>"])
        await js.add_consumer(name, ConsumerConfig(durable_name="gw", ack_policy="explicit"))
        await publish(client, name, "x")
        message = await take_one(client, name)
        tokens.append(message.reply)
        if len(tokens) == 1:
            await js.delete_stream(name)
    await client.request(tokens[0], b"+ACK", timeout=10)
    assert (await js.consumer_info(name, "gw")).num_ack_pending == 0


async def test_a_consumer_deleted_under_us_loses_and_repeats_nothing_under_way(
    nats_server, client, stream
):
    js = client.jetstream()
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await publish(client, stream, 1, 2)
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        await js.delete_consumer(stream, "gw")
        await publish(client, stream, 3)
        await intake.wait_for(lambda i: len(i.deliveries) == 3)  # of a new consumer

        async def under_way():
            return (await js.consumer_info(stream, "gw")).num_ack_pending == 3

        await until(under_way)
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        await until_settled(client, stream)
    assert ids(intake) == ["1", "2", "3"]


# The end of the process.


class Valve:
    """What a sink answers: nothing until `open`, but for the ids in `passing`."""

    def __init__(self, *passing):
        self._passing = passing
        self._opened = threading.Event()
        self.accepted = []

    def __call__(self, request):
        name = request.header("ce-id") or json.loads(request.body)["id"]
        if name not in self._passing and not self._opened.wait(30):
            return Answer(503)
        self.accepted.append(name)
        return Answer(202)

    def open(self):
        self._opened.set()


def gateway_config(server, sink, grace="PT20S", *, state=None, delivery=None, **options):
    return {
        **({"state": {"path": state}} if state else {}),
        "sources": {"bus": {"protocol": "nats", "url": server.url, **options}},
        "sinks": {"out": {"protocol": "http", "url": sink.url}},
        "routes": [{"from": ["bus"], "to": ["out"], "delivery": delivery or {"spool": "off"}}],
        "drain": {"grace": grace},
    }


async def test_what_settles_while_it_ends_is_acknowledged_and_the_rest_goes_to_the_next(
    nats_server, client, stream, http_recorder, start
):
    valve = http_recorder.answer = Valve()
    options = {"stream": stream, "durable": "gw", "ack_wait": 2}
    first = start(Gateway, gateway_config(nats_server, http_recorder, **options))
    for number in range(20):
        await client.jetstream().publish(
            f"{stream}.a",
            b"",
            headers={**HEADERS, "ce-id": str(number), "ce-source": f"/{number}"},
        )

    async def all_under_way():
        return (await client.jetstream().consumer_info(stream, "gw")).num_ack_pending == 20

    await until(all_under_way)
    first.signal(signal.SIGTERM)

    async def takes_nothing_new():
        return (await client.jetstream().consumer_info(stream, "gw")).num_waiting == 0

    await until(takes_nothing_new)
    await publish(client, stream, "too late")
    valve.open()
    assert await ended(first) == 0, first.log
    info = await client.jetstream().consumer_info(stream, "gw")
    accepted = set(valve.accepted)
    assert info.num_ack_pending == 20 - len(accepted)
    assert (info.num_pending, info.num_redelivered) == (1, 0)
    start(Gateway, gateway_config(nats_server, http_recorder, **options))
    await until_settled(client, stream)
    assert len(valve.accepted) == len(set(valve.accepted)) == 21
    assert set(valve.accepted) == accepted | {"too late"} | {str(number) for number in range(20)}


async def ended(process):
    """Return the exit code; a second SIGTERM would have it end at once."""
    return await asyncio.to_thread(process._process.wait, 30)


async def test_a_stuck_sink_acknowledges_nothing_at_the_end(
    nats_server, client, stream, http_recorder, start
):
    valve = http_recorder.answer = Valve("passes")
    options = {"stream": stream, "durable": "gw", "ack_wait": 1}
    first = start(Gateway, gateway_config(nats_server, http_recorder, "PT1S", **options))
    await publish(client, stream, "passes")
    await until_settled(client, stream)
    await publish(client, stream, "stuck")
    await asyncio.to_thread(http_recorder_waits, http_recorder, valve)
    await asyncio.to_thread(first.stop)
    info = await client.jetstream().consumer_info(stream, "gw")
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (1, 1)
    valve.open()
    start(Gateway, gateway_config(nats_server, http_recorder, "PT1S", **options))
    await until_settled(client, stream)
    assert "stuck" in valve.accepted


def http_recorder_waits(recorder, valve):
    """Return when a request is in the valve: it was read and has no answer."""
    while not recorder._connections or "passes" not in valve.accepted:
        threading.Event().wait(0.01)


# What is acknowledged outlives a kill -9 of the gateway.


@pytest.mark.parametrize("ack", ["sink", "stored"])
async def test_what_is_acknowledged_while_the_sink_is_down_outlives_a_kill(
    nats_server, client, stream, http_recorder, start, ack
):
    is_down = True
    http_recorder.answer = lambda _: Answer(503 if is_down else 202)
    options = {"stream": stream, "durable": "gw"}
    process = start(
        Gateway, gateway_config(nats_server, http_recorder, delivery={"ack": ack}, **options)
    )
    await publish(client, stream, *range(30))
    info = await until_settled(client, stream)
    await asyncio.to_thread(process.kill)
    assert info.num_redelivered == 0
    is_down, before = False, len(http_recorder.requests)
    await asyncio.to_thread(process.start)
    names = {str(number) for number in range(30)}

    def arrived(requests):
        return names <= {json.loads(each.body)["id"] for each in requests[before:]}

    await asyncio.to_thread(http_recorder.wait_for, arrived, 20)


@pytest.mark.parametrize("ack", ["sink", "stored"])
async def test_a_request_confirmed_while_the_sink_is_down_outlives_a_kill(
    nats_server, client, http_recorder, start, ack
):
    is_down = True
    http_recorder.answer = lambda _: Answer(503 if is_down else 202)
    options = {"subjects": [f"kill{next(_numbers)}"]}
    process = start(
        Gateway, gateway_config(nats_server, http_recorder, delivery={"ack": ack}, **options)
    )
    (subject,) = options["subjects"]
    assert (await client.request(subject, b"", timeout=10, headers=HEADERS)).data == b"+ACK"
    await asyncio.to_thread(process.kill)
    is_down, before = False, len(http_recorder.requests)
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(http_recorder.wait_for, lambda requests: requests[before:], 20)
    assert json.loads(http_recorder.requests[-1].body)["id"] == HEADERS["ce-id"]


async def dead_letters(state):
    """Return the reasons of what the command line lists, the gateway having ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "dead-letters", "list", "--state", state, "--json",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return sorted(json.loads(line)["reason"] for line in output.splitlines())


async def test_what_is_ended_in_the_stream_is_a_dead_letter_by_then(
    nats_server, client, stream, http_recorder, start, tmp_path
):
    http_recorder.answer = lambda _: Answer(400)
    state = str(tmp_path)
    options = {"stream": stream, "durable": "gw"}
    process = start(Gateway, gateway_config(nats_server, http_recorder, state=state, **options))
    await client.jetstream().publish(f"{stream}.a", b"no event")
    await publish(client, stream, "refused")
    await until_settled(client, stream)
    await asyncio.to_thread(process.kill)
    assert await dead_letters(state) == ["not_an_event", "sink_refused"]


async def test_of_core_messages_those_that_nobody_is_told_of_are_dead_letters(
    nats_server, client, http_recorder, start, tmp_path
):
    subject = f"core{next(_numbers)}"
    process = start(
        Gateway,
        gateway_config(nats_server, http_recorder, state=str(tmp_path), subjects=[subject]),
    )
    told = await client.request(subject, b"told", timeout=10)
    assert told.data.startswith(b"-ERR not_an_event")
    await client.publish(subject, b"{}", headers={"ce-id": "not told"})
    good = await client.request(subject, b"", timeout=10, headers=HEADERS)
    assert good.data == b"+ACK"
    process.signal(signal.SIGTERM)
    assert await ended(process) == 0, process.log
    assert await dead_letters(str(tmp_path)) == ["missing_attribute"]


# Core NATS.


async def test_a_request_is_confirmed_only_if_it_settles_before_the_end(
    nats_server, client, http_recorder, start
):
    subject = f"drain{next(_numbers)}"
    valve = http_recorder.answer = Valve("passes")
    options = {"subjects": [subject]}
    process = start(Gateway, gateway_config(nats_server, http_recorder, "PT1S", **options))

    def ask(name):
        headers = {**HEADERS, "ce-id": name, "ce-source": f"/{name}"}
        return asyncio.ensure_future(client.request(subject, b"", timeout=20, headers=headers))

    assert (await ask("passes")).data == b"+ACK"
    stuck = ask("stuck")
    await client.flush()
    process.signal(signal.SIGTERM)
    assert await ended(process) == 0, process.log
    valve.open()
    with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
        assert (await stuck).data.startswith(b"-ERR ")


async def test_a_slow_consumer_confirms_nothing_that_was_dropped(start, monkeypatch):
    """The server drops who does not read, and with it all that it had for it."""
    monkeypatch.setattr("gateway.sources.nats.core.PAUSE_SECONDS", 30)
    server = start(NatsServer, 'write_deadline: "100ms"\nmax_payload: 60KB\nmax_pending: 64KB')
    intake = RecordingIntake()
    intake.room.clear()
    client = await nats.connect(server.url)
    sent, confirmed = set(), []

    async def confirm(message):
        if message.data == b"+ACK":
            confirmed.append(message.subject.rpartition(".")[2])

    await client.subscribe("inbox.*", cb=confirm)
    async with source(server, intake, subjects=["a"], max_pending_bytes=40_000):

        async def flood():
            for number in itertools.islice(_numbers, 100):
                sent.add(str(number))
                headers = {**HEADERS, "ce-id": str(number)}
                await client.publish("a", b"x" * 50_000, f"inbox.{number}", headers)
            await client.flush()
            return "Slow Consumer" in server.log

        await until(flood, 30)
        assert confirmed == []
        intake.room.set()
        last = {**HEADERS, "ce-id": "last"}
        await until(lambda: _accepted(client, "a", last))  # and before it all that was not dropped
    await client.close()
    # What was dropped has no answer; an answer itself may be lost, which is no false one.
    assert len(ids(intake)) < len(sent)
    assert confirmed
    assert set(confirmed) <= set(ids(intake)) < sent | {"last"}


async def _accepted(client, subject, headers):
    with contextlib.suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return (await client.request(subject, b"", headers=headers)).data == b"+ACK"


async def test_a_queue_group_confirms_each_request_once_and_outlives_a_member(nats_server, client):
    one, two = RecordingIntake(), RecordingIntake(lambda _: RELEASED)
    replies = []

    async def take(message):
        replies.append(message.data.partition(b" ")[0])

    subject = f"group{next(_numbers)}"
    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=take)
    options = {"subjects": [subject], "queue": "q"}
    async with source(nats_server, one, **options):
        async with source(nats_server, two, **options):
            for number in range(100):
                await client.publish(subject, b"", inbox, headers={**HEADERS, "ce-id": str(number)})
            async with asyncio.timeout(10):
                while len(replies) < 100:
                    await asyncio.sleep(0.01)
        assert replies.count(b"+ACK") == len(one.events) < 100
        assert replies.count(b"-ERR") == len(two.events) < 100
        # Its member is gone: all go to the other.
        for number in range(20):
            headers = {**HEADERS, "ce-id": f"b{number}"}
            reply = await client.request(subject, b"", timeout=10, headers=headers)
            assert reply.data == b"+ACK"
    assert len(replies) == 100
