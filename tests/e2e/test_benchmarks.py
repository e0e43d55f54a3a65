"""The bench harness: its figures are complete, and it tells when events are lost or come twice."""

import asyncio
import json

import pytest

from tests.benchmarks import numbered
from tests.benchmarks.__main__ import main
from tests.benchmarks.board import make_board
from tests.benchmarks.contender import Course
from tests.benchmarks.contenders import contenders
from tests.benchmarks.counting_sink import is_as_sent
from tests.benchmarks.frames import (
    Frames,
    MqttFrames,
    coap_options,
    http_request,
    nats_publication,
    structured_request,
)
from tests.benchmarks.gateway_contender import GatewayContender
from tests.benchmarks.measuring import Plan, measure
from tests.benchmarks.report import put_into, text_of
from tests.benchmarks.worker import Worker

GATEWAY = GatewayContender()
SMALL = Plan(count=2000, seconds=60, whole=True)


@pytest.mark.parametrize(
    "course",
    [
        Course("mqtt", "kafka"),
        Course("jetstream", "http"),
        Course("nats", "kafka"),
        Course("http", "batch"),
        Course("coap", "http"),
        Course("mqtt", "h2c"),
        Course("mqtt", "http", qos=0),
        Course("http", "kafka", stored=True),
    ],
    ids=lambda course: course.name,
)
def test_every_event_of_a_run_arrives_once_as_it_was_sent(course):
    measured = measure(GATEWAY, course, SMALL)
    assert measured.faults == ""
    assert not measured.cut
    assert measured.sampled == SMALL.count // 1000
    assert 0 < measured.events <= SMALL.count
    assert measured.cpu > 0
    assert measured.rate > 0
    assert measured.mib > 20
    assert measured.processes == 1
    assert measured.load_cpu > 0
    assert measured.sink_cpu > 0


@pytest.mark.parametrize("sink", ["http", "kafka"])
def test_a_sink_that_loses_one_event_and_gets_another_one_twice_is_reported(sink):
    broken = Plan(count=2000, seconds=60, sink={"every": 500})
    measured = measure(GATEWAY, Course("http", sink), broken)
    assert measured.lost == 4
    assert measured.twice == 4
    assert measured.faults.startswith("4 lost, 4 twice")


def looked_into(change=lambda event: event, content_type="application/cloudevents+json"):
    event = change(json.loads(numbered.structured(1234)))
    return is_as_sent("event", 1234, content_type, json.dumps(event).encode())


def test_an_event_that_is_not_as_it_was_sent_is_found():
    assert looked_into()
    assert looked_into(content_type="application/cloudevents+json; charset=utf-8")
    assert looked_into(lambda event: [event], "application/cloudevents-batch+json")
    assert not looked_into(content_type="application/json")
    assert not looked_into(lambda event: [event])
    assert not looked_into(lambda event: event | {"time": numbered.time(1235)})
    assert not looked_into(lambda event: event | {"id": "load-00001235"})
    assert not looked_into(lambda event: event | {"more": "than was sent"})
    assert not looked_into(lambda event: [], "application/cloudevents-batch+json")
    assert not looked_into(lambda event: event | {"data": {}})


def test_a_payload_is_found_as_it_is_and_quoted_in_json():
    data = numbered.data(1234)
    assert is_as_sent("payload", 1234, "", b"before " + data)
    assert is_as_sent("payload", 1234, "", json.dumps({"payload": data.decode()}).encode())
    assert not is_as_sent("payload", 1235, "", data)


def frames():
    yield MqttFrames(5, 1), None
    yield MqttFrames(4, 0), None
    for make in (nats_publication, http_request, structured_request, coap_options):
        yield Frames(make), make


def test_prebuilt_messages_are_what_would_be_built_for_their_numbers():
    numbers = [*range(997, 1003), *range(59_998, 60_003), 12_345, 7]
    for block, make in frames():
        seen = {number: block.take(number, 1) for number in numbers}
        assert len(set(seen.values())) == len(numbers)
        for number, one in seen.items():
            assert len(one) == block.length
            assert b"%08d" % number in one
            assert numbered.time(number).encode() in one
            assert make is None or one == make(number)
        assert block.take(998, 9) == seen[998] + seen[999]


async def test_the_broker_keeps_to_receive_maximum(tmp_path):
    make_board(tmp_path / "board")
    broker = Worker(
        "tests.benchmarks.generators.mqtt",
        board=tmp_path / "board",
        acked=tmp_path / "acked",
        count=10,
    )
    try:
        port = broker.ready()["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connect = b"\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x04\x00\x01c"
        writer.write(b"\x10" + bytes([len(connect)]) + connect)
        assert await reader.readexactly(5) == b"\x20\x03\x00\x00\x00"
        writer.write(b"\x82\x09\x00\x07\x00\x00\x03a/#\x01")
        assert await reader.readexactly(6) == b"\x90\x04\x00\x07\x00\x01"
        broker.go()
        length = MqttFrames(5, 1).length
        first = await reader.readexactly(4 * length)
        writer.write(b"\x40\x02\x00\x01\x40\x02\x00\x02\xc0\x00")
        second = await reader.readexactly(2 * length + 2)
        assert second.endswith(b"\xd0\x00") or second.startswith(b"\xd0\x00")
        for packet_id in (4, 3, 6, 5):  # not in order, one with a reason
            writer.write(b"\x40\x03" + packet_id.to_bytes(2, "big") + b"\x00")
        third = await reader.readexactly(4 * length)
        for packet_id in (7, 8, 9, 10):
            writer.write(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        writer.write(b"\xc0\x00")
        assert await reader.readexactly(2) == b"\xd0\x00"
        whole = first + second + third
        assert [b"%08d" % number in whole for number in range(11)] == [True] * 10 + [False]
        broker.go()
        report = broker.report()
        assert (report["sent"], report["acked"], report["refused"]) == (10, 10, 0)
        assert (tmp_path / "acked").read_bytes() == b"\x01" * 10
        writer.close()
        await writer.wait_closed()
    finally:
        broker.end()


def test_latencies_count_from_when_an_event_was_due():
    measured = measure(GATEWAY, Course("mqtt", "http"), Plan(600, 60, rate=300))
    assert measured.faults == ""
    waits = measured.latency
    assert 0 < waits["p50"] <= waits["p99"] <= waits["p999"] <= waits["longest"]


def test_a_quick_run_reports_and_writes_into_a_page(tmp_path, capsys):
    out = tmp_path / "results.json"
    main(
        ["paths", "--quick", "--events", "2000", "--pairs", "2", "--only", "mqtt-http",
         "--contenders", "gateway", "--json", str(out)]
    )  # fmt: skip
    results = json.loads(out.read_text())
    (course,) = results["sections"]["paths"]["courses"]
    (entry,) = course["entries"]
    assert len(entry["runs"]) == 2
    assert not entry["errors"]
    parts = text_of(results)
    assert "| mqtt-http | gateway | " in parts["paths"]
    assert "Machine: " in parts["machine"]
    page = "a\n<!-- bench:paths -->\nold\n<!-- /bench:paths -->\nb\n"
    filled = put_into(page, {"paths": parts["paths"]})
    assert "old" not in filled
    assert filled.startswith("a\n")
    assert filled.endswith("-->\nb\n")
    assert put_into(filled, {"paths": parts["paths"]}) == filled
    assert parts["paths"] in capsys.readouterr().out


def test_contenders_say_who_they_are_without_being_there():
    found = contenders()
    assert [contender.name for contender in found][:2] == ["gateway", "gateway-compiled"]
    for contender in found:
        if contender.missing() is None:
            assert contender.version()
            for course in (Course("mqtt", "kafka"), Course("http", "http")):
                if contender.supports(course):
                    assert contender.settings(course)
