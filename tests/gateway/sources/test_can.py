"""The CAN source; python-can's virtual bus is the foreign sender."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from pathlib import Path

import can
import pytest
from can.interfaces.virtual import VirtualBus, channels

from gateway.config.loader import load
from gateway.config.problems import ConfigErrors
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.can import CanSource, CanSourceConfig, reader
from tests.helpers import RecordingIntake

DBC = Path(__file__).parents[3] / "docs/examples/can/engine.dbc"
RELEASED = Settlement(Outcome.RELEASED, Reason.SINK_DOWN, detail="the sink is down")
REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="the sink said no")
STAMP = 1700000000.123456
_numbers = itertools.count()


class Bench:
    """A source and a node on the same virtual bus."""

    def __init__(self, intake, **config):
        self.intake = intake
        self.channel = f"test-{next(_numbers)}"
        self.source = CanSource(
            CanSourceConfig(
                name="machine",
                protocol="can",
                interface="virtual",
                channel=self.channel,
                **config,
            )
        )
        self.node = VirtualBus(self.channel, preserve_timestamps=True)

    async def __aenter__(self):
        async with asyncio.timeout(10):
            await self.source.open(self.intake)
        return self

    async def __aexit__(self, *_):
        async with asyncio.timeout(10):
            await self.source.drain()
            await self.source.close()
        self.node.shutdown()
        assert self.channel not in channels, "the bus was not shut down"

    def send(self, arbitration_id, data=b"", timestamp=STAMP, **fields):
        fields.setdefault("is_extended_id", arbitration_id > 0x7FF)
        self.node.send(
            can.Message(arbitration_id=arbitration_id, data=data, timestamp=timestamp, **fields)
        )


async def arrived(intake, count):
    await intake.wait_for(lambda seen: len(seen.events) >= count)
    return intake.events


async def rejected(intake, count):
    await intake.wait_for(lambda seen: len(seen.rejections) >= count)
    return intake.rejections


# --- frames ---------------------------------------------------------------------------------------


async def test_a_frame_becomes_an_event():
    intake = RecordingIntake()
    async with Bench(intake) as bench:
        bench.send(0x123, b"\xde\xad\xbe\xef")
        (event,) = await arrived(intake, 1)
    assert event.attributes() == {
        "specversion": "1.0",
        "id": "1700000000.123456-123",
        "source": f"/can/{bench.channel}",
        "type": "can.frame.v1",
        "subject": "123",
        "time": "2023-11-14T22:13:20.123456Z",
        "datacontenttype": "application/octet-stream",
        "canid": "123",
    }
    assert event.data == b"\xde\xad\xbe\xef"


async def test_extended_and_fd_frames_keep_their_marks():
    intake = RecordingIntake()
    async with Bench(intake, fd=True) as bench:
        bench.send(0x18FEF100, b"\1")
        bench.send(0x1, bytes(64), is_extended_id=True, is_fd=True, bitrate_switch=True)
        bench.send(0x1, bytes(12), is_fd=True, error_state_indicator=True)
        events = await arrived(intake, 3)
    assert [(e.subject, e.extensions.get("canfdflags"), len(e.data)) for e in events] == [
        ("18FEF100", None, 1),
        ("00000001", "1", 64),
        ("001", "2", 12),
    ]


async def test_a_burst_arrives_in_order_and_in_lists():
    intake = RecordingIntake()
    lists = []
    taken = intake.try_submit
    intake.try_submit = lambda deliveries: lists.append(len(deliveries)) or taken(deliveries)
    async with Bench(intake) as bench:
        numbers = range(1000)
        for number in numbers:
            bench.send(number, number.to_bytes(2, "big"), STAMP + number)
        events = await arrived(intake, 1000)
    assert [int.from_bytes(event.data, "big") for event in events] == list(numbers)
    assert len({event.id for event in events}) == 1000
    assert max(lists) > 10


async def test_frames_of_one_microsecond_have_ids_of_their_own():
    intake = RecordingIntake()
    async with Bench(intake) as bench:
        for stamp in (STAMP, STAMP, STAMP, STAMP + 1):
            bench.send(0x123, timestamp=stamp)
        events = await arrived(intake, 4)
    assert [event.id for event in events] == [
        "1700000000.123456-123",
        "1700000000.123456-123-1",
        "1700000000.123456-123-2",
        "1700000001.123456-123",
    ]


async def test_a_timestamp_that_counts_from_switching_on_is_replaced():
    intake = RecordingIntake()
    before = time.time()
    async with Bench(intake) as bench:
        bench.send(0x123, timestamp=12.5)
        (event,) = await arrived(intake, 1)
    assert before - 1 < float(event.id.partition("-")[0]) < time.time() + 1


async def test_remote_and_error_frames_are_counted_and_their_neighbours_arrive():
    intake = RecordingIntake()
    async with Bench(intake) as bench:
        bench.send(0x1, b"\1")
        bench.send(0x2, is_remote_frame=True, dlc=4)
        bench.send(0x40, bytes(8), is_error_frame=True)
        bench.send(0x3, b"\3")
        events = await arrived(intake, 2)
        assert [event.subject for event in events] == ["001", "003"]
        assert await rejected(intake, 2) == [
            ("remote_frame", "a remote frame of 2"),
            ("error_frame", "error frame: bus off"),
        ]


async def test_signals_come_from_the_database_and_a_frame_that_it_can_not_decode_is_counted():
    intake = RecordingIntake()
    async with Bench(intake, dbc=[DBC]) as bench:
        bench.send(0x100, b"\1")
        bench.send(0x100, bytes.fromhex("A00F5A0290010000"))
        bench.send(0x101, b"\1")
        engine, other = await arrived(intake, 2)
        ((reason, text),) = await rejected(intake, 1)
    assert (engine.subject, engine.type) == ("EngineData", "can.message.v1")
    assert json.loads(engine.data) == {
        "EngineSpeed": 1000,
        "CoolantTemp": 50,
        "EngineState": "running",
        "OilPressure": 200,
    }
    assert (other.subject, other.data) == ("101", b"\1")
    assert reason == "dbc"
    assert text.startswith("1 bytes are no EngineData: ")


async def test_filters_let_pass_what_agrees_in_the_bits_of_the_mask():
    intake = RecordingIntake()
    filters = [{"id": 0x120, "mask": 0x7F0}, {"id": 0x18FEF100, "extended": True}]
    async with Bench(intake, filters=filters) as bench:
        for number in (0x12F, 0x130, 0x18FEF100, 0x18FEF101, 0x120):
            bench.send(number)
        bench.send(0x120, is_extended_id=True)
        bench.send(0x121)
        events = await arrived(intake, 4)
    assert [event.subject for event in events] == ["12F", "18FEF100", "120", "121"]


async def test_the_event_table_makes_the_attributes():
    intake = RecordingIntake()
    table = {"type": "com.acme.{message}", "source": "//car-1/{channel}", "subject": "{canid}"}
    async with Bench(intake, event=table, dbc=[DBC]) as bench:
        bench.send(0x100, bytes(8))
        (event,) = await arrived(intake, 1)
    assert (event.type, event.source, event.subject, dict(event.extensions)) == (
        "com.acme.EngineData",
        f"//car-1/{bench.channel}",
        "100",
        {},
    )


# --- what becomes of the events -------------------------------------------------------------------


async def test_beyond_the_queue_new_frames_are_dropped_and_counted():
    intake = RecordingIntake()
    intake.room.clear()
    async with Bench(intake, queue=5) as bench:
        for number in range(3):
            bench.send(number, timestamp=STAMP + number)
        bench.send(0x40, is_error_frame=True)
        await rejected(intake, 1)  # the three are there now, and wait
        for number in range(3, 20):
            bench.send(number, timestamp=STAMP + number)
        await rejected(intake, 16)
        assert intake.rejections[1:] == [("busy", "no room for more frames")] * 15
        intake.room.set()
        events = await arrived(intake, 5)
        assert [event.subject for event in events] == ["000", "001", "002", "003", "004"]
        bench.send(0x7FF)
        assert (await arrived(intake, 6))[5].subject == "7FF"
    assert len(intake.rejections) == 16


async def test_frames_that_sinks_took_make_room_again():
    intake = RecordingIntake()
    async with Bench(intake, queue=2) as bench:
        for number in range(10):
            bench.send(number)
            await arrived(intake, number + 1)
    assert intake.rejections == []


async def test_a_released_frame_is_submitted_again_and_later_ones_wait_behind_it():
    attempts = []

    def answer(delivery):
        (event,) = delivery.events
        attempts.append(event.id)
        return RELEASED if attempts.count(event.id) == 1 and event.subject == "001" else ACCEPTED

    intake = RecordingIntake(answer)
    async with Bench(intake) as bench:
        bench.send(1)
        await arrived(intake, 1)
        for number in (2, 3):
            bench.send(number)
        events = await arrived(intake, 4)
    assert [event.subject for event in events] == ["001", "001", "002", "003"]
    assert attempts[0] == attempts[1]
    assert intake.rejections == []


async def test_what_a_sink_refuses_for_good_is_counted():
    intake = RecordingIntake(lambda _: REFUSED)
    async with Bench(intake) as bench:
        bench.send(1)
        assert await rejected(intake, 1) == [("sink_refused", "the sink said no")]


async def test_what_is_held_when_the_source_closes_is_counted():
    intake = RecordingIntake(lambda _: RELEASED)
    async with Bench(intake) as bench:
        bench.send(1)
        bench.send(2)
        await arrived(intake, 2)
    assert intake.rejections == [("draining", "frames that sinks did not take")] * 2


async def test_a_frame_released_while_draining_is_counted_and_not_held():
    intake = RecordingIntake(lambda _: None)
    async with Bench(intake) as bench:
        bench.send(1)
        await arrived(intake, 1)
        await bench.source.drain()
        intake.deliveries[0].settle(RELEASED)
        assert await rejected(intake, 1) == [("sink_down", "the sink is down")]
        bench.send(2)  # nobody reads any more
    assert len(intake.deliveries) == 1


# --- the bus --------------------------------------------------------------------------------------


class Cable:
    """What the virtual bus does when it is pulled out: it fails as a network device does."""

    def __init__(self, monkeypatch):
        self.plugged = True
        self.attempts = 0
        self.openings = 0
        receive, connect = VirtualBus._recv_internal, VirtualBus.__init__

        def recv_internal(bus, timeout):
            if not self.plugged:
                raise can.CanOperationError("Failed to receive: Network is down", 100)
            return receive(bus, timeout)

        def init(bus, *args, **kwargs):
            bus._is_shutdown = True  # or python-can warns of what was never open
            self.attempts += 1
            if not self.plugged:
                raise OSError(19, "No such device")
            bus._is_shutdown = False
            connect(bus, *args, **kwargs)
            self.openings += 1

        monkeypatch.setattr(reader, "_FIRST_DELAY", 0.01)
        monkeypatch.setattr(VirtualBus, "_recv_internal", recv_internal)
        monkeypatch.setattr(VirtualBus, "__init__", init)

    async def tried(self, count):
        """Return when the bus was to be opened `count` times."""
        async with asyncio.timeout(10):
            while self.attempts < count:
                await asyncio.sleep(0.01)

    async def opened(self, count):
        """Return when the source's bus was opened `count` times."""
        async with asyncio.timeout(10):
            while self.openings < count + 1:  # the node's was first
                await asyncio.sleep(0.01)


def changes(caplog, bench):
    return [
        record.getMessage().replace(bench.channel, "X")
        for record in caplog.records
        if record.name == "gateway.sources.can.source"
    ]


async def test_a_lost_bus_is_opened_again_with_one_line_for_each_change(monkeypatch, caplog):
    caplog.set_level("INFO")
    cable = Cable(monkeypatch)
    intake = RecordingIntake()
    async with Bench(intake) as bench:
        for number in (1, 2):
            bench.send(number)
            await arrived(intake, number)
            cable.plugged = False
            await cable.tried(cable.attempts + 2)
            cable.plugged = True
            await cable.opened(number + 1)
        bench.send(3)
        await arrived(intake, 3)
    lost = "source machine: lost virtual X: Failed to receive: Network is down [Error Code 100]"
    connected = "source machine: connected to virtual X"
    assert changes(caplog, bench) == [connected, lost, connected, lost, connected]


async def test_a_frame_that_came_with_the_bus_is_not_forgotten(monkeypatch):
    connect = VirtualBus.__init__

    def init(bus, *args, **kwargs):
        connect(bus, *args, **kwargs)
        bus.queue.put(can.Message(arbitration_id=7, is_extended_id=False, timestamp=STAMP))

    intake = RecordingIntake()
    bench = Bench(intake)
    monkeypatch.setattr(VirtualBus, "__init__", init)
    async with bench:
        (event,) = await arrived(intake, 1)
    assert event.subject == "007"


async def test_a_bus_that_is_not_there_yet_is_waited_for(monkeypatch, caplog):
    caplog.set_level("INFO")
    cable = Cable(monkeypatch)
    bench = Bench(RecordingIntake())
    cable.plugged = False
    opening = asyncio.ensure_future(bench.source.open(bench.intake))
    await cable.tried(4)
    assert not opening.done()
    cable.plugged = True
    async with asyncio.timeout(10):
        await opening
    await bench.source.close()
    bench.node.shutdown()
    assert changes(caplog, bench) == [
        "source machine: can't open virtual X: [Errno 19] No such device",
        "source machine: connected to virtual X",
    ]


async def test_a_source_that_waits_for_its_bus_can_be_closed(monkeypatch):
    cable = Cable(monkeypatch)
    bench = Bench(RecordingIntake())
    cable.plugged = False
    opening = asyncio.ensure_future(bench.source.open(bench.intake))
    await cable.tried(3)
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        await bench.source.close()
    bench.node.shutdown()


async def test_an_option_that_the_interface_does_not_know_ends_the_start(monkeypatch):
    def init(bus, *_, **__):
        bus._is_shutdown = True
        raise TypeError("unexpected keyword argument 'colour'")

    bench = Bench(RecordingIntake(), options={"colour": 1})
    monkeypatch.setattr(VirtualBus, "__init__", init)
    with pytest.raises(GatewayError, match=r"can't open virtual .*: unexpected keyword"):
        await bench.source.open(bench.intake)
    await bench.source.close()
    bench.node.shutdown()


async def test_options_and_bitrate_reach_the_bus(monkeypatch):
    seen = {}
    connect = VirtualBus.__init__

    def init(bus, channel=None, **kwargs):
        seen.update(kwargs)
        connect(bus, channel, **kwargs)

    bench = Bench(
        RecordingIntake(), bitrate=500_000, fd=True, options={"rx_queue_size": 7, "state": "x"}
    )
    monkeypatch.setattr(VirtualBus, "__init__", init)
    async with bench:
        pass
    assert seen == {"bitrate": 500_000, "fd": True, "rx_queue_size": 7, "state": "x"}


# --- configuration --------------------------------------------------------------------------------


def problems(**table):
    config = {
        "sources": {"machine": {"protocol": "can", **table}},
        "sinks": {"out": {"protocol": "log"}},
        "routes": [{"to": ["out"]}],
    }
    try:
        load(json.dumps(config), {})
    except ConfigErrors as errors:
        return [problem.text for problem in errors.problems]
    return []


def test_a_channel_is_enough():
    assert problems(channel="can0") == []
    assert problems(channel=0, interface="virtual", bitrate=250_000) == []


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"channel": ""}, "expected the name of a channel"),
        ({"channel": "can0", "interface": "socketcam"}, "did you mean 'socketcan'?"),
        ({"channel": "can0", "filters": [{"id": 0x800}]}, "is `extended: true` missing?"),
        ({"channel": "can0", "options": {"can_filters": "x"}}, "is the key 'filters' of this"),
        ({"channel": "can0", "dbc": ["/none.dbc"]}, "dbc /none.dbc can't be read: No such file"),
        ({"channel": "can0", "dbc": [__file__]}, "no DBC database: DBC: "),
        ({"channel": "can0", "dbc": [str(DBC), str(DBC)]}, "is described twice"),
        (
            {"channel": "can0", "event": {"type": "t", "source": "/{topic}{chanel}"}},
            "did you mean {channel}?",
        ),
    ],
)
def test_what_is_wrong_is_said(table, text):
    (problem,) = problems(**table)
    assert text in problem


def test_the_example_is_right(monkeypatch):
    monkeypatch.chdir(DBC.parents[3])
    machine = load(DBC.with_name("gateway.yaml"), {}).sources["machine"]
    event = machine.binding().event(_engine_frame(2), "can0", "1700000000.123456")
    assert (event.type, event.source) == ("com.acme.engine.EngineData", "//machine-17/can/can0")


@pytest.mark.parametrize("package", ["can", "cantools"])
def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    (problem,) = problems(channel="can0")
    assert "CAN needs python-can and cantools: pip install 'cloudevents-gateway[can]'" in problem


def test_a_database_in_the_code_page_of_windows_is_read(tmp_path):
    file = tmp_path / "engine.dbc"
    file.write_bytes(
        DBC.read_bytes().replace(b'"degC"', b'"\xb0C"').replace(b"fault", b"gest\xf6rt")
    )
    config = CanSourceConfig(name="m", protocol="can", channel="can0", dbc=[file])
    (event,) = [
        config.binding().event(frame, "can0", "1700000000.123456")
        for frame in [_engine_frame(state=3)]
    ]
    assert json.loads(event.data)["EngineState"] == "gestört"


def _engine_frame(state):
    from bindings.can import CanFrame

    return CanFrame(0x100, bytes([0, 0, 0, state, 0, 0, 0, 0]))
