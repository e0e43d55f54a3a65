"""The skeleton's source, with the functions of the tutorial filled in, as a station sees it."""

import asyncio
import contextlib
import importlib
import logging
import socket
import struct
import sys

import pytest

from conformance.new_binding import write_skeleton
from gateway.config.records import Address, EventTemplate, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import ListenError
from gateway.tls import client_context
from tests.docs.tutorial import fill_in
from tests.helpers import RecordingIntake

DOWN = Settlement(Outcome.RELEASED, Reason.SINK_DOWN)
REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)


@pytest.fixture(scope="module")
def meter(tmp_path_factory):
    """Return the module `meter.source`."""
    folder = tmp_path_factory.mktemp("skeleton")
    write_skeleton("meter", folder)
    fill_in(folder / "meter/binding.py")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("meter.source")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "meter"]:
            del sys.modules[name]


@pytest.fixture
def running(meter):
    @contextlib.asynccontextmanager
    async def run(intake, **config):
        config.setdefault("listen", Address("127.0.0.1", 0))
        source = meter.MeterSource(meter.MeterSourceConfig(name="roof", **config))
        await source.open(intake)
        try:
            yield source
        finally:
            await source.close()

    return run


@contextlib.asynccontextmanager
async def station(source, **options):
    reader, writer = await asyncio.open_connection(*source.address, **options)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def reading(number, station=7, seconds=1700000000):
    return struct.pack(">IIcIIh", 11, number, b"R", station, seconds, 2150)


def frame(number, message):
    return struct.pack(">II", len(message), number) + message


def answer(number, outcome):
    return struct.pack(">IB", number, outcome)


async def test_what_one_read_brought_is_one_list_and_one_write(running):
    intake = RecordingIntake()
    lists = []
    submit = intake.submit

    async def counted(deliveries):
        lists.append(len(deliveries))
        await submit(deliveries)

    intake.submit = counted
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(b"".join(reading(number, seconds=number) for number in range(50)))
        got = await reader.readexactly(250)
    assert got == b"".join(answer(number, 0) for number in range(50))
    assert [event.id for event in intake.events] == [f"7-{number}" for number in range(50)]
    assert lists == [50]


async def test_a_bad_message_is_answered_and_its_neighbours_arrive(running, caplog):
    intake = RecordingIntake()
    async with running(intake) as source, station(source) as (reader, writer):
        short, unknown = frame(2, b"R1234"), frame(3, b"X")
        writer.write(reading(1) + short + unknown + frame(4, b"") + reading(5))
        got = await reader.readexactly(25)
    answers = {got[at : at + 5] for at in range(0, 25, 5)}
    assert answers == {answer(number, number in {2, 3, 4}) for number in range(1, 6)}
    assert [reason for reason, _ in intake.rejections] == [
        "invalid_event", "not_an_event", "not_an_event",
    ]  # fmt: skip
    assert len(intake.events) == 2
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("settlement", "code"), [(ACCEPTED, 0), (REFUSED, 1), (DOWN, 2)])
async def test_an_answer_waits_for_the_settlement_and_tells_it(settlement, code, running):
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1) + reading(2))
        await intake.wait_for(lambda one: len(one.deliveries) == 2)
        first, second = intake.deliveries
        second.settle(settlement)
        assert await reader.readexactly(5) == answer(2, code)
        first.settle(ACCEPTED)
        assert await reader.readexactly(5) == answer(1, 0)


async def send_much(writer):
    """Send far more than what the system's buffers hold, as long as somebody takes it."""
    large = frame(2, b'J{"specversion":"1.0","id":"1","source":"/s","type":"t"}'.ljust(65536))
    for _ in range(1000):
        writer.write(large)
        await asyncio.wait_for(writer.drain(), 0.5)


async def test_nothing_is_read_while_the_gateway_has_no_room(running):
    intake = RecordingIntake()
    intake.room.clear()
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1))
        with pytest.raises(TimeoutError):
            await send_much(writer)
        assert intake.deliveries == []
        intake.room.set()
        assert await reader.readexactly(5) == answer(1, 0)


async def test_a_station_that_sends_no_more_still_has_its_answers(running):
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1))
        writer.write_eof()
        await intake.wait_for(lambda one: one.deliveries)
        intake.deliveries[0].settle(ACCEPTED)
        assert await reader.read() == answer(1, 0)


async def test_a_station_that_is_gone_is_no_trouble(running, caplog):
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        async with station(source) as (_, writer):
            writer.write(reading(1))
            await intake.wait_for(lambda one: one.deliveries)
            # Close with a reset, as a device does that loses power and comes back.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        intake.deliveries[0].settle(ACCEPTED)
        async with station(source) as (_, writer):
            writer.write(reading(2))
            await intake.wait_for(lambda one: len(one.deliveries) == 2)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("size", [65536, 65537])
async def test_the_largest_message_is_taken_and_no_larger_one(size, running):
    intake = RecordingIntake()
    event = b'J{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(frame(1, event.ljust(size)))
        assert await reader.readexactly(5) == answer(1, size > 65536)
    assert len(intake.events) == (size == 65536)
    assert [reason for reason, _ in intake.rejections] == ["too_large"] * (size > 65536)


async def test_a_message_without_end_closes_the_connection(running):
    intake = RecordingIntake()
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1) + struct.pack(">II", 2**32 - 1, 2) + b"x" * 70_000)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == answer(1, 0)
        await intake.wait_for(lambda one: one.rejections)
    assert [reason for reason, _ in intake.rejections] == ["too_large"]


async def test_drain_answers_what_is_under_way_and_sends_the_rest_back(running):
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1))
        await intake.wait_for(lambda one: one.deliveries)
        address = source.address
        await source.drain()
        writer.write(reading(2))
        assert await reader.readexactly(5) == answer(2, 2)
        with pytest.raises(OSError, match="refused"):
            await asyncio.open_connection(*address)
        intake.deliveries[0].settle(ACCEPTED)
        assert await reader.readexactly(5) == answer(1, 0)


async def test_close_leaves_nothing_open_and_sends_what_was_settled(running):
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source, station(source) as (reader, writer):
        writer.write(reading(1) + reading(2))
        await intake.wait_for(lambda one: len(one.deliveries) == 2)
        intake.deliveries[0].settle(ACCEPTED)
        await source.close()
        assert await reader.read() == answer(1, 0)


async def test_tls_is_by_configuration(running, certificates):
    tls = TlsConfig(cert=certificates.server_cert, key=certificates.server_key)
    context = client_context(TlsConfig(ca=certificates.ca))
    async with (
        running(RecordingIntake(), tls=tls) as source,
        station(source, ssl=context, server_hostname="localhost") as (reader, writer),
    ):
        writer.write(reading(1))
        assert await reader.readexactly(5) == answer(1, 0)


async def test_a_port_that_is_taken_is_told(running):
    async with running(RecordingIntake()) as source:
        with pytest.raises(ListenError, match=str(source.address.port)):
            async with running(RecordingIntake(), listen=source.address):
                pass


def test_there_is_nothing_to_wrap(meter):
    template = EventTemplate(type="t", source="/s")
    with pytest.raises(ValueError, match="no `event` table"):
        meter.MeterSourceConfig(listen="127.0.0.1:0", event=template)
