"""The cases of the CoAP binding, each on a socket of its own port."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bindings.event import is_json_type
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from tests.gateway.sources.coap.device import Device, fields, routes, running
from tests.helpers import RecordingIntake

CASES = json.loads(Path("conformance/vectors/coap.json").read_text())["cases"]


NEEDS_TRANSPORT = {
    "dtls": "run by coap/test_dtls and tests/e2e/test_coap_dtls",
    "oscore": "run by coap/test_oscore and tests/e2e/test_coap_oscore",
    "observe": "nothing to observe is offered yet",
    "tcp": "run by coap/test_streams_vectors and tests/e2e/test_coap_streams",
    "ws": "run by coap/test_streams_vectors and tests/e2e/test_coap_ws",
    "downlink": "there are no commands to deliver; `w=` is accepted and not waited for",
}


DEFERRED = {
    **{
        case["id"]: NEEDS_TRANSPORT[case["class"]]
        for case in CASES
        if case["class"] in NEEDS_TRANSPORT
    },
    "SEC-12": "a group address needs a test network; the socket joins none",
    "DSC-01": "run by coap/test_resources",
    "LIM-01": "run by coap/test_assembly",
    "LIM-02": "run by coap/test_duplicates",
    "IOP-01": "run by tests/e2e/test_matrix",
    "IOP-02": "run by tests/e2e/test_matrix",
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


ANSWERS = {"ack": b"\x60\x00", "reset": b"\x70\x00"}


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
    check_payload(got["payload"], expected.get("payload", {}))
    if "max_ratio" in expected:
        assert len(reply) <= expected["max_ratio"] * len(request)


def check_payload(payload, expected):
    assert expected.get("contains", "").encode() in payload
    assert payload.startswith(bytes.fromhex(expected.get("hex_prefix", "")))
    assert len(payload) <= expected.get("max_bytes", len(payload))
    if "excludes" in expected:
        assert expected["excludes"].encode() not in payload


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
            due = datetime.now(UTC) + timedelta(seconds=wanted.get("offset_s", 0))
            assert abs(due - time) < timedelta(seconds=20)
        elif wanted["match"] == "sha256-of-bytes":
            data = base64.b64decode(got[name])
            assert hashlib.sha256(data).hexdigest() == wanted["value"]
        elif wanted["match"] in {"nonempty", "unique"}:
            assert got[name]
        elif wanted["match"] == "suffix":
            assert got[name][: -len(wanted["value"])]
            assert got[name].endswith(wanted["value"])
        else:
            assert wanted["match"] == "any"


def check_events(events, expected):
    for event, members in zip(events, expected, strict=False):
        check_event(event, members)
    for name in {name for members in expected for name in members}:
        unique = [
            getattr(event, name)
            for event, members in zip(events, expected, strict=False)
            if members.get(name) == {"match": "unique"}
        ]
        assert len(set(unique)) == len(unique)


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


def changes_for(case):
    """Return how the source of a case is configured."""
    given = case.get("given", {})
    changes = {"routes": routes(given.get("max_event_size", 65536))}
    if "inflight" in given:
        changes["inflight_per_endpoint"] = given["inflight"]
    elif given.get("sink") == "hang":
        changes["sink_timeout"] = 1
    return changes


@pytest.mark.parametrize("case", RUN, ids=lambda case: case["id"])
async def test_the_binding_s_case_holds(case):
    given = case.get("given", {})
    answer = SINKS[given.get("sink", "ok")]
    intake = RecordingIntake(lambda _: answer)
    async with running(intake, **changes_for(case)) as source:
        with Device(source) as device:
            await run_steps(case["steps"], device, intake, is_slow=given.get("sink") == "slow")
            await device.expect_silence()
    if given.get("sink", "ok") in {"ok", "slow"}:
        least = case.get("events_min", len(case["events"]))
        assert least <= len(intake.events) <= case.get("events_max", len(case["events"]))
        check_events(intake.events, case["events"])


async def run_steps(steps, device, intake, *, is_slow):
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
            reply = await device.receive(step.get("within_s", 5))
            check_reply(reply, step["expect"], request)
        else:
            for delivery in intake.deliveries:
                if is_slow and not delivery.settled:  # it comes to its end
                    delivery.settle(ACCEPTED)
            reply = await device.receive(step["within_s"])
            check_reply(reply, step["receive"], request)
            if "reply" in step:
                device.send(ANSWERS[step["reply"]] + reply[2:4])
        position = step.get("identical_to", step.get("expect", {}).get("identical_to"))
        if position is not None:
            assert reply == replies[position]
        replies.append(reply)


def test_every_case_either_runs_or_is_listed_with_its_reason():
    assert set(DEFERRED) <= {case["id"] for case in CASES}
    assert len(RUN) + len(DEFERRED) == len(CASES)
    assert all("steps" in case for case in RUN)
