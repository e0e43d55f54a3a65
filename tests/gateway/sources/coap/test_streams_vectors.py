"""The binding's cases over TCP and WebSockets: a message is answered as a datagram (COAP-TCP-001).

Each request of a case is taken out of its datagram and sent on a connection; the answer is judged
as the datagram's would be. Left out is what is about datagrams.
"""

import pytest

from tests.gateway.sources.coap.device import routes
from tests.gateway.sources.coap.stream_device import connection, listening, message
from tests.gateway.sources.coap.websocket_device import listening_ws, websocket
from tests.gateway.sources.test_coap import CASES, RUN, SINKS, check_event, check_reply
from tests.helpers import RecordingIntake

ABOUT_DATAGRAMS = {
    "ACK-03": "a repeated datagram; over connections nothing is repeated",
    "ACK-05": "may be one event or two; over connections it is two",
    "BLK-06": "SZX 7 is reserved over UDP; over connections it means BERT",
    "BLK-103": "SZX 7 is reserved over UDP; over connections it means BERT",
}
CASES_BY_ID = {case["id"]: case for case in CASES}


def is_request(step):
    """Whether a step is a confirmable request that is answered at once."""
    datagram = bytes.fromhex(step.get("send", ""))
    expected = step.get("expect", "none")
    return (
        len(datagram) > 4
        and datagram[0] & 0xF0 == 0x40
        and 0 < datagram[1] < 0x20
        and isinstance(expected, dict)
        and expected.get("type") == "ACK"
        and "code" in expected
        and expected["code"] != "0.00"
    )


def is_for_any_transport(case):
    return (
        case["id"] not in ABOUT_DATAGRAMS
        and case.get("given", {}).get("sink", "ok") not in {"slow", "hang"}
        and all(is_request(step) and "identical_to" not in step["expect"] for step in case["steps"])
    )


ANYWHERE = [case for case in RUN if is_for_any_transport(case)]


def request_of(datagram):
    """Return code, token, and the options and payload of a datagram."""
    body = 4 + (datagram[0] & 15)
    return datagram[1], datagram[4:body], datagram[body:]


def as_datagram(answer, request):
    """Return an answer as the ACK that would carry it; its length has at most 2 more bytes."""
    start = {13: 3, 14: 4}.get(answer[0] >> 4, 2)
    head = bytes((0x60 | answer[0] & 15, answer[start - 1]))
    return head + request[2:4] + answer[start:]


async def run(case, line, frame):
    for step in case["steps"]:
        request = bytes.fromhex(step["send"])
        code, token, rest = request_of(request)
        reply = await line.ask(frame(code, options=rest, token=token))
        expected = {name: value for name, value in step["expect"].items() if name != "max_ratio"}
        check_reply(as_datagram(reply, request), expected, request)


@pytest.mark.parametrize("case", ANYWHERE, ids=lambda case: case["id"])
async def test_the_binding_s_case_holds_over_tcp_and_websockets(case):
    given = case.get("given", {})
    changes = {"routes": routes(given.get("max_event_size", 65536))}
    over_tcp, over_ws = (RecordingIntake(lambda _: SINKS[given.get("sink", "ok")]) for _ in "12")
    async with listening(over_tcp, **changes) as source, connection(source) as line:
        await run(case, await line.greet(), message)
    async with listening_ws(over_ws, **changes) as source, websocket(source) as line:
        await run(
            case, line, lambda code, options, token: bytes((len(token), code)) + token + options
        )
    if given.get("sink", "ok") != "ok":
        return
    for intake in (over_tcp, over_ws):
        for event, expected in zip(intake.events, case["events"], strict=True):
            check_event(event, expected)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
async def test_the_transport_s_own_cases_hold(transport):
    first = CASES_BY_ID["TRN-01" if transport == "tcp" else "TRN-02"]
    intake = RecordingIntake()
    if transport == "tcp":
        async with listening(intake) as source, connection(source) as line:
            await line.greet()
            assert (await line.ask(message(2, options=b"\xb2ce\x45t=t.x")))[1] == 0x44
            big = message(2, options=b"\xb2ce\x45t=t.x", payload=bytes(65536))  # TRN-03
            assert (await line.ask(big))[1] == 0x44
    else:
        async with listening_ws(intake) as source, websocket(source) as line:
            options = b"\xb2ce\x45t=t.x\x03i=1\x04s=/s"
            assert (await line.ask(b"\x01\x02\x07" + options))[1] == 0x44
    check_event(intake.events[0], first["events"][0])


def test_most_cases_are_for_any_transport():
    assert len(ANYWHERE) > 200
    assert set(ABOUT_DATAGRAMS) <= set(CASES_BY_ID)
