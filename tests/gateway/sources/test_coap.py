"""The CoAP source on a loopback socket, by the cases of the binding and by what they leave out."""

import asyncio
import base64
import hashlib
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bindings.coap import RequestError
from bindings.event import is_json_type
from bindings.wire.coap import Block
from gateway.config.records import Address, EventTemplate, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.coap import CoapSource, CoapSourceConfig
from gateway.sources.coap.assembly import Assemblies
from gateway.sources.coap.duplicates import CON_SECONDS, NON_SECONDS, Duplicates
from gateway.sources.coap.separate import SeparateAnswers
from tests.helpers import RecordingIntake

CASES = json.loads(Path("conformance/vectors/coap.json").read_text())["cases"]
TYPES = ("CON", "NON", "ACK", "RST")
PING = bytes.fromhex("4000fffe")
RESET = bytes.fromhex("7000fffe")

NO_CBOR = "CBOR events are not decoded yet; answered 4.15"
NEEDS_TRANSPORT = {
    "dtls": "DTLS is not there yet; `tls:` on the source is refused at the start",
    "oscore": "OSCORE is not there yet; answered 4.02",
    "observe": "nothing to observe is offered yet",
    "tcp": "CoAP over TCP is not there yet",
    "ws": "CoAP over WebSockets is not there yet",
    "downlink": "there are no commands to deliver; `w=` is accepted and not waited for",
}
# Every case that does not run here, and why.
DEFERRED = {
    **{
        case["id"]: NO_CBOR
        for case in CASES
        if case["id"].startswith("CBR-") and case["id"] != "CBR-21"
    },
    "CBR-21": NO_CBOR,
    "BAT-06": NO_CBOR,
    "BAT-07": NO_CBOR,
    "BAT-08": NO_CBOR,
    "BAT-09": NO_CBOR,
    **{
        case["id"]: NEEDS_TRANSPORT[case["class"]]
        for case in CASES
        if case["class"] in NEEDS_TRANSPORT
    },
    "SEC-12": "a group address needs a test network; the socket joins none",
    "DSC-01": "run by test_the_event_resources_are_listed",
    "LIM-01": "run by test_first_blocks_from_many_ports_are_bounded",
    "LIM-02": "run by test_answers_leave_after_their_lifetime_and_are_bounded_in_bytes",
    "IOP-01": "needs the HTTP sink; tests/e2e",
    "IOP-02": "needs the HTTP sink; tests/e2e",
}
DEFERRED["SEC-11"] = NEEDS_TRANSPORT["observe"]
RUN = [case for case in CASES if case["id"] not in DEFERRED]

SINKS = {
    "ok": ACCEPTED,
    "slow": None,
    "down": Settlement(Outcome.RELEASED, Reason.SINK_DOWN),
    "reject": Settlement(Outcome.REJECTED, Reason.SINK_REFUSED),
    "busy": Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5),
    "hang": None,
}


def config(**changes):
    changes.setdefault("listen", Address("127.0.0.1", 0))
    changes.setdefault("ack_after", 0.3)
    changes.setdefault("sink_timeout", 5)
    changes.setdefault("routes", routes())
    return CoapSourceConfig(name="field", protocol="coap", **changes)


def routes(max_event_bytes=65536):
    any_source = {"source_policy": "any"}
    return {
        "/ce": {"mode": "auto", "max_event_bytes": max_event_bytes, **any_source},
        "/ce/s": {"mode": "structured", **any_source},
        "/ce/b": {"mode": "batch", **any_source},
        "/t": {"mode": "auto", "type": "com.acme.temp.v1", **any_source},
        "/lab": {"mode": "auto", "lab_formats": True, **any_source},
        "/auth": {"mode": "auto", "authentication": "required", **any_source},
    }


@asynccontextmanager
async def running(intake, **changes):
    source = CoapSource(config(**changes))
    await source.open(intake)
    try:
        yield source
    finally:
        await source.close()


class Device:
    """A UDP socket of its own port that talks to the source."""

    def __init__(self, source):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(source.address)

    def send(self, datagram):
        self.socket.send(bytes.fromhex(datagram) if isinstance(datagram, str) else datagram)

    async def receive(self, seconds=5):
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().sock_recv(self.socket, 2048)

    async def ask(self, datagram):
        self.send(datagram)
        return await self.receive()

    async def expect_silence(self):
        """A ping overtakes nothing: if its reset comes first, there was no answer before."""
        assert await self.ask(PING) == RESET

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def fields(datagram):
    """Take a message apart without our codec."""
    token_length = datagram[0] & 15
    options, number, position = {}, 0, 4 + token_length
    while position < len(datagram) and datagram[position] != 0xFF:
        delta, length = datagram[position] >> 4, datagram[position] & 15
        position += 1
        for name in ("delta", "length"):
            value = delta if name == "delta" else length
            if value == 13:
                value, position = datagram[position] + 13, position + 1
            elif value == 14:
                value = int.from_bytes(datagram[position : position + 2], "big") + 269
                position += 2
            delta, length = (value, length) if name == "delta" else (delta, value)
        number += delta
        options[number] = datagram[position : position + length]
        position += length
    return {
        "type": TYPES[datagram[0] >> 4 & 3],
        "code": f"{datagram[1] >> 5}.{datagram[1] & 31:02}",
        "mid": datagram[2:4],
        "token": datagram[4 : 4 + token_length],
        "options": options,
        "payload": datagram[position + 1 :],
    }


def check_reply(reply, expected, request):
    got = fields(reply)
    for name in ("type", "code"):
        if name in expected:
            allowed = expected[name]
            assert got[name] in (allowed if isinstance(allowed, list) else [allowed]), got
    if expected.get("mid") == "same":
        assert got["mid"] == request[2:4]
    if "token" in expected:
        sent = request[4 : 4 + (request[0] & 15)]
        assert got["token"] == (sent if expected["token"] == "same" else b"")
    for number, wanted in expected.get("options", {}).items():
        value = got["options"][int(number)]
        if "uint" in wanted:
            assert int.from_bytes(value, "big") == wanted["uint"]
        if "uint_range" in wanted:
            assert (
                wanted["uint_range"][0] <= int.from_bytes(value, "big") <= wanted["uint_range"][1]
            )
        if "hex" in wanted:
            assert value.hex() == wanted["hex"]
    if "payload" in expected:
        assert expected["payload"]["contains"].encode() in got["payload"]


def as_json(event):
    """Return the JSON format's members, from the event's own fields."""
    members = dict(event.attributes())
    if event.data is not None:
        content_type = event.datacontenttype or ""
        if is_json_type(content_type):
            members["data"] = json.loads(event.data)
        elif content_type.startswith("text/"):
            members["data"] = event.data.decode()
        else:
            members["data_base64"] = base64.b64encode(event.data).decode()
    return members


def check_event(event, expected):
    got = as_json(event)
    assert got.keys() == expected.keys()
    for name, wanted in expected.items():
        if not isinstance(wanted, dict) or "match" not in wanted:
            assert got[name] == wanted
        elif wanted["match"] == "rfc3339-now":
            time = datetime.fromisoformat(got[name])
            assert abs(datetime.now(UTC) - time) < timedelta(seconds=20)
        elif wanted["match"] == "sha256-of-bytes":
            data = base64.b64decode(got[name])
            assert hashlib.sha256(data).hexdigest() == wanted["value"]
        elif wanted["match"] == "nonempty":
            assert got[name]
        else:
            assert wanted["match"] == "any"


def make_block(number, payload):
    """Write one block of BLK-17 by hand: CON POST /ce, CF 42, Block1, three queries."""
    chunk = payload[number * 1024 : number * 1024 + 1024]
    more = (number + 1) * 1024 < len(payload)
    value = number << 4 | more << 3 | 6
    encoded = value.to_bytes((value.bit_length() + 7) // 8, "big")
    head = bytes.fromhex("4102") + (0x2000 + number).to_bytes(2, "big") + b"\xab"
    options = b"\xb2ce\x11\x2a\x35t=t.x\x03i=1\x04s=/s"
    return head + options + bytes((0xC0 | len(encoded),)) + encoded + b"\xff" + chunk


async def run_blockwise(device, expected):
    payload = bytes(7 * n % 256 for n in range(65536))
    for number in range(63):
        reply = fields(await device.ask(make_block(number, payload)))
        assert reply["code"] == "2.31"
    last = make_block(63, payload)
    check_reply(await device.ask(last), expected, last)


@pytest.mark.parametrize("case", RUN, ids=lambda case: case["id"])
async def test_the_binding_s_case_holds(case):
    given = case.get("given", {})
    answer = SINKS[given.get("sink", "ok")]
    intake = RecordingIntake(lambda _: answer)
    limits = routes(given.get("max_event_size", 65536))
    async with running(intake, routes=limits) as source:
        with Device(source) as device:
            await run_steps(case["steps"], device, intake)
            await device.expect_silence()
    if given.get("sink", "ok") in {"ok", "slow"}:
        least = case.get("events_min", len(case["events"]))
        assert least <= len(intake.events) <= case.get("events_max", len(case["events"]))
        for event, expected in zip(intake.events, case["events"], strict=False):
            check_event(event, expected)


async def run_steps(steps, device, intake):
    replies, request = [], b""
    for step in steps:
        if "send_blockwise" in step:
            await run_blockwise(device, step["expect"])
            continue
        if "send" in step:
            request = bytes.fromhex(step["send"])
            device.send(request)
            if step["expect"] == "none":
                await device.expect_silence()
                replies.append(b"")
                continue
            reply = await device.receive()
            check_reply(reply, step["expect"], request)
        else:
            for delivery in intake.deliveries:
                if not delivery.settled:  # the slow sink comes to its end
                    delivery.settle(ACCEPTED)
            reply = await device.receive(step["within_s"])
            check_reply(reply, step["receive"], request)
            if step.get("reply") == "ack":
                device.send(b"\x60\x00" + reply[2:4])
        position = step.get("identical_to", step.get("expect", {}).get("identical_to"))
        if position is not None:
            assert reply == replies[position]
        replies.append(reply)


def test_every_case_either_runs_or_is_listed_with_its_reason():
    assert set(DEFERRED) <= {case["id"] for case in CASES}
    assert len(RUN) + len(DEFERRED) == 152
    assert all("steps" in case for case in RUN)


# --- what the cases leave out ---------------------------------------------------------------------

POST_T = bytes.fromhex("4102123407b1741132ff7b2261223a317d")  # CON POST /t, CF 50, {"a":1}
NON_T = bytes.fromhex("5102123407b1741132ff7b2261223a317d")


def post(mid, *, options=b"\xb1t\x11\x32", payload=b"1", kind=0x41):
    return (
        bytes((kind, 2))
        + mid.to_bytes(2, "big")
        + b"\x07"
        + options
        + (b"\xff" + payload if payload else b"")
    )


class CountingIntake(RecordingIntake):
    """Remembers how large each list was; has room for `free` deliveries."""

    def __init__(self, *arguments, free=10**9):
        super().__init__(*arguments)
        self.lists = []
        self.free = free

    def try_submit(self, deliveries):
        if len(deliveries) > self.free:
            return False
        self.free -= len(deliveries)
        self.lists.append(len(deliveries))
        return super().try_submit(deliveries)


async def test_what_one_wake_up_finds_is_one_submit_and_bad_datagrams_hurt_no_neighbour():
    intake = CountingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            # Without an await between them: all are in the socket before the source reads.
            device.send(post(1))
            device.send("40021013be01")
            device.send(post(2, payload=b"{"))
            device.send(post(3))
            replies = [await device.receive() for _ in range(4)]
            assert replies[0] == bytes.fromhex("70001013")
            assert [fields(reply)["code"] for reply in replies[1:]] == ["4.00", "2.04", "2.04"]
    assert intake.lists == [2]
    assert [reason for reason, _ in intake.rejections] == ["message_format", "json"]


async def test_a_repeated_con_gets_the_same_bytes_and_makes_no_second_event():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            assert await device.ask(POST_T) == bytes.fromhex("6144123407")
            assert await device.ask(POST_T) == bytes.fromhex("6144123407")
            bad = POST_T[:-1]
            refused = await device.ask(bad)
            assert await device.ask(bad) == refused
    assert len(intake.events) == 1
    assert len(intake.rejections) == 1


async def test_a_repeated_con_whose_outcome_is_open_gets_an_empty_ack_and_then_a_separate_answer():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=1.9) as source:
        with Device(source) as device:
            device.send(POST_T)
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
            intake.deliveries[0].settle(ACCEPTED)
            answer = await device.receive()
            assert (answer[:2], answer[4:]) == (b"\x41\x44", b"\x07")
            device.send(b"\x60\x00" + answer[2:4])
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
    assert len(intake.events) == 1


async def test_a_message_id_used_again_with_other_content_is_a_new_request():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            for payload in (b"1", b"2"):
                assert await device.ask(post(7, payload=payload)) == bytes.fromhex("6144000707")
    assert [event.data for event in intake.events] == [b"1", b"2"]
    assert intake.events[0].id != intake.events[1].id


async def test_the_generated_id_is_the_same_from_another_process_and_differs_by_port():
    ids = []
    for _ in range(2):
        intake = RecordingIntake()
        async with running(intake) as source:
            with Device(source) as device:
                first = device.socket.getsockname()
                await device.ask(POST_T)
            with Device(source) as other:
                await other.ask(POST_T)
        ids.append((first, intake.events[0].id, intake.events[1].id))
        assert intake.events[0].id != intake.events[1].id
        assert len(base64.urlsafe_b64decode(intake.events[0].id)) == 12


async def test_what_never_settles_is_answered_5_04_and_a_late_outcome_is_ignored():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, ack_after=0.05, sink_timeout=0.1) as source:
        with Device(source) as device:
            device.send(POST_T)
            assert await device.ask(POST_T) == bytes.fromhex("60001234")
            # One empty ACK, for the repetition; none when the time for it comes.
            answer = fields(await device.receive())
            assert (answer["type"], answer["code"], answer["token"]) == ("CON", "5.04", b"\x07")
            device.send(b"\x70\x00" + answer["mid"])
            device.send(NON_T)
            assert fields(await device.receive())["code"] == "5.04"
            intake.deliveries[0].settle(ACCEPTED)
            await device.expect_silence()


@pytest.mark.parametrize(
    ("settlement", "code", "max_age"),
    [
        (Settlement(Outcome.REJECTED, Reason.INVALID), "4.00", None),
        (Settlement(Outcome.REJECTED, Reason.SINK_REFUSED), "5.02", None),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), "5.03", range(30, 91)),
        (Settlement(Outcome.RELEASED, Reason.BUSY, 0.2), "5.03", range(1, 2)),
        (Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5), "4.29", range(3, 4)),
        (Settlement(Outcome.RELEASED, Reason.TIMEOUT), "5.04", None),
        (Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED), "2.04", None),
    ],
)
async def test_each_outcome_has_its_response_code(settlement, code, max_age):
    async with running(RecordingIntake(lambda _: settlement)) as source:
        with Device(source) as device:
            answer = fields(await device.ask(POST_T))
    assert answer["code"] == code
    if max_age is None:
        assert answer["options"] == {}
    else:
        assert int.from_bytes(answer["options"][14], "big") in max_age


async def test_without_room_con_is_answered_5_03_and_non_is_dropped_and_may_come_again():
    intake = CountingIntake(free=1)
    async with running(intake) as source:
        with Device(source) as device:
            for mid in (1, 2, 3):
                device.send(post(mid))
            device.send(NON_T)
            replies = [fields(await device.receive()) for _ in range(3)]
            await device.expect_silence()
            assert sorted(reply["code"] for reply in replies) == ["2.04", "5.03", "5.03"]
            assert ("busy", "no room for more events") in intake.rejections
            intake.free = 1
            assert fields(await device.ask(NON_T))["code"] == "2.04"
    assert len(intake.events) == 2


async def test_one_endpoint_has_at_most_16_requests_under_way():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device, Device(source) as other:
            for mid in range(17):
                device.send(post(mid))
            assert fields(await device.receive())["code"] == "5.03"
            other.send(post(1))
            await other.expect_silence()
            for delivery in intake.deliveries:
                delivery.settle(ACCEPTED)
            for _ in range(16):
                assert fields(await device.receive())["code"] == "2.04"
            device.send(post(18))
            await device.expect_silence()
    assert len(intake.deliveries) == 18


async def test_while_draining_new_requests_are_refused_and_old_ones_answered():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1))
            await device.expect_silence()
            await source.drain()
            refused = fields(await device.ask(post(2)))
            assert refused["code"] == "5.03"
            assert 30 <= int.from_bytes(refused["options"][14], "big") <= 90
            intake.deliveries[0].settle(ACCEPTED)
            assert await device.receive() == bytes.fromhex("6144000107")


async def test_the_outcome_after_the_end_is_nobody_s():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1))
            await device.expect_silence()
    intake.deliveries[0].settle(ACCEPTED)


@pytest.mark.parametrize(
    ("claimed", "code"),
    [
        (b"coap://127.0.0.1", "2.04"),
        (b"coap://127.0.0.1/a", "2.04"),
        (b"coap://127.0.0.1#a", "2.04"),
        (b"coap://127.0.0.11", "4.03"),
        (b"/s", "4.03"),
    ],
)
async def test_a_peer_may_claim_its_own_source_and_what_is_below_it(claimed, code):
    query = b"s=" + claimed
    length = bytes((0x30 | len(query),)) if len(query) < 13 else bytes((0x3D, len(query) - 13))
    async with running(RecordingIntake(), routes={"/t": {"type": "t"}}) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=b"\xb1t\x11\x32" + length + query))
    assert fields(answer)["code"] == code


async def test_a_route_s_templates_give_source_and_subject():
    route = {"type": "t", "source": "/devices/{device}", "subject": "{path[0]}"}
    intake = RecordingIntake()
    async with running(intake, routes={"/t": route}) as source:
        with Device(source) as device:
            assert fields(await device.ask(POST_T))["code"] == "2.04"
    assert (intake.events[0].source, intake.events[0].subject) == ("/devices/127.0.0.1", "t")


async def test_the_event_table_completes_a_bare_payload():
    table = EventTemplate(type="com.acme.raw", source="/devices/{device}", extensions={"site": "k"})
    intake = RecordingIntake()
    async with running(
        intake, event=table, routes={"/ce": {}, "/ce/s": {"mode": "structured"}}
    ) as source:
        with Device(source) as device:
            assert fields(await device.ask(post(1, options=b"\xb2ce\x10")))["code"] == "2.04"
            structured = post(2, options=b"\xb2ce\x01s\x11\x32", payload=b"{}")
            assert fields(await device.ask(structured))["code"] == "4.00"
    event = intake.events[0]
    assert (event.type, event.source) == ("com.acme.raw", "/devices/127.0.0.1")
    assert event.extensions == {"site": "k"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("91aa2174", "4.02"),  # OSCORE, where there is none
        ("b174d003", "2.04"),  # Block1: number 0, no more, 16 bytes
        ("b174c110", "4.00"),  # Block2: number 1 of an answer that has none
        ("b174113251320132", "4.02"),  # Accept twice is critical
        ("b17400", "4.04"),  # /t/ is not /t
        ("", "4.04"),
    ],
)
async def test_options_are_judged(options, code):
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=bytes.fromhex(options)))
    assert fields(answer)["code"] == code


async def test_a_non_with_an_option_that_is_not_understood_is_dropped():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            device.send(post(1, options=bytes.fromhex("91aa2174"), kind=0x51))
            await device.expect_silence()
    assert intake.events == []
    assert intake.rejections[0][0] == "bad_option"


async def test_problem_details_are_given_to_those_who_accept_them():
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            # Accept 257; the queries make the request long enough for an answer of that size.
            options = b"\xb1t\x11\x32" + b"\x35t=t.x" + b"\x22\x01\x01"
            answer = fields(await device.ask(post(1, options=options, payload=b"{" * 30)))
    assert answer["code"] == "4.00"
    assert answer["options"][12] == b"\x01\x01"
    assert answer["payload"] == b"\xa1\x20\x64json"


async def test_an_answer_is_at_most_three_times_as_long_as_its_request():
    async with running(RecordingIntake()) as source:
        with Device(source) as device:
            assert await device.ask("40020001") == bytes.fromhex("60840001")


async def test_an_empty_batch_is_accepted():
    intake = RecordingIntake()
    async with running(intake) as source:
        with Device(source) as device:
            answer = await device.ask(post(1, options=b"\xb2ce\x01b\x11\x32", payload=b"[]"))
            assert fields(answer)["code"] == "2.04"
    assert intake.deliveries == []


async def test_events_of_a_batch_get_numbered_ids_and_ignore_id_and_time_of_the_query():
    intake = RecordingIntake()
    options = b"\xb2ce\x01b\x11\x32\x35t=t.x\x03i=1"
    async with running(intake) as source:
        with Device(source) as device:
            batch = b'[{"data":1},{"id":"x","data":2},{"data":3}]'
            assert (
                fields(await device.ask(post(1, options=options, payload=batch)))["code"] == "2.04"
            )
    first, second, third = intake.events
    assert len(intake.deliveries) == 1
    assert first.id.endswith(".0")
    assert second.id == "x"
    assert third.id == first.id[:-1] + "2"


async def links(device, query=b""):
    """Read /.well-known/core as a client does, in blocks of the size that the server chose."""
    result, value, number = b"", 8, 0
    head = b"\xbb.well-known\x04core" + query
    while value & 8:
        block = b""
        if number:
            octets = (number << 4 | value & 7).to_bytes(2, "big").lstrip(b"\0")
            block = bytes(((0x80 if query else 0xC0) | len(octets),)) + octets
        request = b"\x41\x01" + (0x100 + number).to_bytes(2, "big") + b"\x07" + head + block
        reply = await device.ask(request)
        assert len(reply) <= 3 * len(request)
        answer = fields(reply)
        assert (answer["code"], answer["options"][12]) == ("2.05", b"\x28")
        result += answer["payload"]
        value = int.from_bytes(answer["options"].get(23, b""), "big")
        number += 1
    return result.decode()


async def test_the_event_resources_are_listed():
    three = {"/ce": {}, "/ce/s": {"mode": "structured"}, "/ce/b": {"mode": "batch"}}
    async with running(RecordingIntake(), routes=three) as source:
        with Device(source) as device:
            assert await links(device) == (
                '</ce>;rt="ce.bin";ct="0 42 50 60 110 112";sz=65536,'
                '</ce/s>;rt="ce.str";ct="50";sz=65536,'
                '</ce/b>;rt="ce.bat";ct="50";sz=65536'
            )
            chosen = '</ce/s>;rt="ce.str";ct="50";sz=65536'
            assert await links(device, b"\x49rt=ce.st*") == chosen
            assert await links(device, b"\x47rt=ce.s") == ""
            assert (
                fields(await device.ask(post(1, options=b"\xbb.well-known\x04core")))["code"]
                == "4.05"
            )


def test_answers_leave_after_their_lifetime_and_are_bounded_in_bytes():
    table = Duplicates(max_bytes=170 * 100)
    for number in range(100):
        assert table.add(number.to_bytes(16, "big"), object(), CON_SECONDS, now=0)
        table.answered(number.to_bytes(16, "big"), b"")
    assert not table.add(b"one more", object(), CON_SECONDS, now=40)
    assert table.add(b"one more", object(), NON_SECONDS, now=48.1)
    assert len(table) == 1
    table.expire(48.1 + 145)
    assert len(table) == 1
    table.expire(48.1 + 147)
    assert (len(table), table.used_bytes) == (0, 0)


def test_a_separate_answer_is_repeated_four_times_in_doubled_steps():
    answers, address = SeparateAnswers(), ("192.0.2.1", 1)
    datagram = bytes.fromhex("40447d01")
    answers.add(datagram, address, now=0)
    times, now = [], 0
    while answers.next_due is not None:
        now = answers.next_due
        times += [now] * len(answers.take_due(now))
    first = times[0]
    assert 2 <= first <= 3
    assert times == pytest.approx([first, 3 * first, 7 * first, 15 * first])
    assert now == pytest.approx(31 * first)  # MAX_TRANSMIT_WAIT
    assert len(answers) == 0


def test_a_separate_answer_that_is_acknowledged_is_not_repeated():
    answers, address = SeparateAnswers(), ("192.0.2.1", 1)
    answers.add(bytes.fromhex("40447d01"), address, now=0)
    answers.add(bytes.fromhex("40447d02"), address, now=0)
    answers.acknowledged(("192.0.2.2", 1), 0x7D01)
    answers.acknowledged(address, 0x7D02)
    assert [datagram.hex() for datagram, _ in answers.take_due(3)] == ["40447d01"]
    answers.acknowledged(address, 0x7D01)
    assert answers.next_due is None


def test_first_blocks_from_many_ports_are_bounded():
    assemblies = Assemblies(max_bytes=2**20)
    block, more = Block(0, more=True, size_exponent=6), Block(1, more=False, size_exponent=6)
    for port in range(10_000):
        assemblies.add(("192.0.2.1", port), b"", block, bytes(1024), 65536, now=0)
        assert assemblies.used_bytes <= 2**20
    assert assemblies.add(("192.0.2.1", 9999), b"", more, b"x", 65536, now=0) == bytes(1024) + b"x"
    with pytest.raises(RequestError) as error:
        assemblies.add(("192.0.2.1", 0), b"", more, b"x", 65536, now=0)
    assert error.value.code == 0x88
    assemblies.expire(now=61)
    assert (len(assemblies), assemblies.used_bytes) == (0, 0)


def test_one_endpoint_has_at_most_four_assemblies_and_the_oldest_goes():
    assemblies = Assemblies(max_bytes=2**20)
    block, last = Block(0, more=True, size_exponent=0), Block(1, more=False, size_exponent=0)
    address = ("192.0.2.1", 1)
    for name in b"12345":
        assemblies.add(address, bytes((name,)), block, bytes(16), 65536, now=0)
    assert len(assemblies) == 4
    with pytest.raises(RequestError):
        assemblies.add(address, b"1", last, b"x", 65536, now=0)
    assert assemblies.add(address, b"2", last, b"x", 65536, now=0) is not None


async def test_dtls_is_refused_at_the_start():
    source = CoapSource(config(tls=TlsConfig()))
    with pytest.raises(GatewayError, match="DTLS"):
        await source.open(RecordingIntake())
    await source.close()


async def test_a_taken_port_stops_the_start():
    async with running(RecordingIntake()) as source:
        second = CoapSource(config(listen=source.address))
        with pytest.raises(GatewayError, match="can't listen"):
            await second.open(RecordingIntake())
        await second.close()


@pytest.mark.parametrize(
    ("host", "claimed"), [("::1", "coap://[::1]"), ("127.0.0.1", "coap://127.0.0.1")]
)
async def test_an_ipv6_socket_takes_both(host, claimed):
    intake = RecordingIntake()
    async with running(intake, listen=Address("::", 0)) as source:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as device:
            device.setblocking(False)
            device.connect((host, source.address.port))
            device.send(POST_T)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(device, 100)
    assert intake.events[0].source == claimed


@pytest.mark.parametrize(
    "changes",
    [
        {"routes": {"ce": {}}},
        {"routes": {"/ce/": {}}},
        {"routes": {"/.well-known/core": {}}},
        {"routes": {}},
        {"routes": {"/t": {"source": "/{device"}}},
        {"ack_after": 2},
        {"ack_after": 1, "sink_timeout": 1},
        {"sink_timeout": 93},
    ],
)
def test_a_wrong_configuration_is_refused(changes):
    with pytest.raises(ValidationError):
        config(**changes)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_datagram_stops_the_source(data):
    known = st.sampled_from(
        [
            bytes.fromhex(step["send"])
            for case in CASES
            for step in case.get("steps", [])
            if "send" in step
        ]
    )

    def damaged(datagram, position, octet):
        at = position % max(1, len(datagram))
        return datagram[:at] + bytes((octet,)) + datagram[at + 1 :]

    one = st.one_of(
        st.binary(max_size=60),
        st.builds(damaged, known, st.integers(0, 200), st.integers(0, 255)),
        st.builds(lambda datagram, size: datagram[:size], known, st.integers(0, 80)),
        st.builds(lambda rest: b"\x40\x02\x00\x01\xb2ce" + rest, st.binary(max_size=40)),
    )
    datagrams = data.draw(st.lists(one, min_size=30, max_size=60))

    async def send_all():
        async with running(RecordingIntake()) as source:
            with Device(source) as device:
                for datagram in datagrams:
                    device.send(datagram)
                device.send(PING)
                while await device.receive() != RESET:
                    pass

    asyncio.run(send_all())
