"""A gateway process and CoAP devices while it is killed, stopped and overloaded.

The sink is a server of the standard library that answers when it is told to, so every moment is
chosen and none is waited for.
"""

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator

import aiocoap
import pytest
from aiocoap.numbers import Code

from tests.e2e.bad_input.peers import CoapPeer
from tests.e2e.servers import HOST, Answer, Gateway
from tests.e2e.servers.process import poll_until, program

ROUTES = {"/t": {"type": "t.x", "source_policy": "any"}}


def request(mid: int, query: bytes = b"s=/s") -> bytes:
    """Return a CON POST to /t with the token 07."""
    head = b"\x41\x02" + mid.to_bytes(2, "big") + b"\x07\xb1t"
    return head + bytes((0x40 | len(query),)) + query + b"\xff1"


@contextlib.contextmanager
def running(folder, sink, **changes) -> Iterator[Gateway]:
    delivery = {"spool": "off", "dead_letters": "off", "retry": 0, **changes.pop("delivery", {})}
    route = {"to": ["out"], "delivery": delivery, **changes.pop("route", {})}
    config = {
        "limits": changes.pop("limits", {}),
        "sources": {
            "coap": {
                "protocol": "coap",
                "listen": f"{HOST}:0",
                "ack_after": 0.05,
                "routes": ROUTES,
                **changes,
            }
        },
        "sinks": {"out": {"protocol": "http", "url": sink.url, "mode": "structured"}},
        "routes": [route],
    }
    gateway = Gateway(folder, config).start()
    try:
        yield gateway
    finally:
        gateway.stop()


def terminate(gateway: Gateway) -> None:
    """Send SIGTERM; returns when it has begun to drain."""
    gateway.signal(signal.SIGTERM)
    poll_until(lambda: "draining" in gateway.log, 10, "the gateway to drain")


def wait_end(gateway: Gateway) -> int:
    """Return the exit code; a second SIGTERM would cut it short."""
    assert gateway._process is not None
    return gateway._process.wait(15)


def expect_accepted(device: CoapPeer, mid: int) -> None:
    """What comes next is 2.04 for this request, at once or after it was told to wait."""
    assert device.answer(mid.to_bytes(2, "big"), b"\7")[1] == 0x44


def expect_nothing(device: CoapPeer) -> None:
    device.socket.setblocking(False)
    with pytest.raises((BlockingIOError, ConnectionRefusedError)):
        device.receive()
    device.socket.setblocking(True)
    device.socket.settimeout(10)


def test_an_empty_ack_is_no_acknowledgement(tmp_path, sink):
    """Killed behind it: nobody was told 2.04, and the repetition brings the same id."""
    with running(tmp_path, sink) as gateway, CoapPeer(gateway.ports["coap"]) as device:
        started = time.time()
        device.send(request(1))
        assert device.receive() == b"\x60\0\0\1"
        sink.wait_asked()
        gateway.kill()
        expect_nothing(device)
        sink.gate.set()
        gateway.start()
        device.send(request(1))
        expect_accepted(device, 1)
        sink.wait_for(lambda requests: len(requests) == 2)
        same_window = started // 256 == time.time() // 256
        assert not same_window or len(set(sink.ids())) == 1


@pytest.mark.parametrize("ack", ["stored", "sink"])
def test_what_was_stored_for_a_sink_in_trouble_outlives_a_kill(tmp_path, sink, ack):
    """stored: at once; sink: because the first attempt has failed."""
    sink.answer = lambda _: Answer(503)
    delivery = {"ack": ack, "spool": "auto", "dead_letters": "local", "retry": 10}
    with running(tmp_path, sink, delivery=delivery) as gateway:
        with CoapPeer(gateway.ports["coap"]) as device:
            for mid in range(1, 21):
                device.send(request(mid, query=b"i=%d" % mid))
                expect_accepted(device, mid)
        gateway.kill()
        sink.forget()
        sink.answer = lambda _: Answer(202)
        gateway.start()
        sink.wait_for(lambda requests: len(requests) >= 20, 20)
    first = list(dict.fromkeys(sink.ids()))
    assert first == [str(number) for number in range(1, 21)]


def test_deduplication_knows_a_repetition_by_its_id_also_after_a_kill(tmp_path, sink):
    """The generated id is a function of the datagram; a new message has to bring its own."""
    sink.answer = lambda _: Answer(503)
    delivery = {"ack": "stored", "spool": "auto", "dead_letters": "local", "retry": 10}
    route = {"dedup": {"window": "PT10M"}}
    changes = {"delivery": delivery, "route": route, "ack_after": 1.9}
    started = time.time()
    with (
        running(tmp_path, sink, **changes) as gateway,
        CoapPeer(gateway.ports["coap"]) as device,
    ):
        for mid, query in ((1, b"s=/s"), (2, b"i=2"), (3, b"i=2")):
            device.send(request(mid, query))
            expect_accepted(device, mid)
        sink.wait_for(lambda _: len(set(sink.ids())) == 2)  # no connection is still on its way
        gateway.kill()
        sink.forget()
        sink.answer = lambda _: Answer(202)
        gateway.start()
        for mid, query in ((1, b"s=/s"), (2, b"i=2"), (4, b"i=2"), (5, b"i=last")):
            device.send(request(mid, query))
            expect_accepted(device, mid)
        sink.wait_for(lambda requests: len({request.body for request in requests}) >= 3)
    if started // 256 == time.time() // 256:  # else the first one has another id
        assert len(sink.ids()) == 3
        assert {"2", "last"} < set(sink.ids())


@pytest.mark.parametrize("is_lost", [False, True], ids=["first", "repeated"])
def test_the_end_answers_who_was_told_to_wait(tmp_path, sink, is_lost):
    with running(tmp_path, sink) as gateway, CoapPeer(gateway.ports["coap"]) as device:
        device.send(request(1))
        assert device.receive() == b"\x60\0\0\1"
        sink.wait_asked()
        terminate(gateway)
        device.send(request(2))
        refused = device.receive()
        assert refused[:5] == b"\x61\xa3\0\2\7"
        sink.gate.set()
        answer = device.receive()
        assert answer[:2] + answer[4:] == b"\x41\x44\7"
        if is_lost:
            assert device.receive() == answer
        device.send(b"\x60\0" + answer[2:4])
        assert wait_end(gateway) == 0
    assert len(sink.requests) == 1


async def test_aiocoap_is_answered_at_the_end(tmp_path, sink):
    with running(tmp_path, sink) as gateway:
        context = await aiocoap.Context.create_client_context()
        try:
            url = f"coap://{HOST}:{gateway.ports['coap']}/t?s=/s"
            message = aiocoap.Message(code=Code.POST, uri=url, payload=b"1")
            response = context.request(message).response
            await asyncio.to_thread(sink.wait_asked)
            await asyncio.to_thread(terminate, gateway)
            sink.gate.set()
            assert (await response).code == Code.CHANGED
            assert await asyncio.to_thread(wait_end, gateway) == 0
        finally:
            await context.shutdown()
    assert len(sink.requests) == 1


async def coap_client(port: int, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(program("coap-client-notls", "libcoap3-bin"), "-B", "10", *arguments),
        *("-m", "post", "-e", "1", f"coap://{HOST}:{port}/t?s=/s"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    return output.decode()


async def test_coap_client_that_loses_its_acknowledgement_of_the_answer_makes_one_event(
    tmp_path, sink
):
    """Its second datagram is the ACK of our answer, which we send again."""
    with running(tmp_path, sink) as gateway:
        client = asyncio.ensure_future(coap_client(gateway.ports["coap"], "-l", "2"))
        await asyncio.to_thread(sink.wait_asked)
        # It has been told to wait when another one has been told something that came later.
        with CoapPeer(gateway.ports["coap"]) as device:
            device.send(request(1, query=b"s=/other"))
            assert await asyncio.to_thread(device.receive) == b"\x60\0\0\1"
        sink.gate.set()
        assert await client == ""
    assert len(sink.requests) == 2


def test_without_room_devices_are_told_when_to_come_back_and_nothing_is_lost(tmp_path, sink):
    """What gets 2.04 arrives once; what gets 5.03 has not arrived, and may come again."""
    with running(tmp_path, sink, limits={"inflight": 4}) as gateway:
        with CoapPeer(gateway.ports["coap"]) as device:
            for mid in range(1, 5):
                device.send(request(mid, query=b"i=%d" % mid))
            for _ in range(4):
                assert device.receive()[:2] == b"\x60\0"
            for mid in range(5, 13):
                device.send(request(mid, query=b"i=%d" % mid))
            refused = {}
            while len(refused) < 8:
                datagram = device.receive()
                if datagram[1]:
                    assert datagram[1] == 0xA3
                    assert datagram[5:7] == b"\xd1\x01"  # Max-Age, in one byte
                    assert 30 <= datagram[7] <= 90
                    refused[datagram[2:4]] = datagram
            assert sorted(refused) == [mid.to_bytes(2, "big") for mid in range(5, 13)]
            device.send(request(12, query=b"i=12"))
            device.receive_until(refused[b"\0\x0c"])
            sink.gate.set()
            answers = 0
            while answers < 4:
                datagram = device.receive()
                if datagram[1]:
                    assert datagram[1] == 0x44
                    device.send(b"\x60\0" + datagram[2:4])
                    answers += 1
            for mid in range(5, 13):
                device.send(request(mid + 100, query=b"i=%d" % mid))
                expect_accepted(device, mid + 100)
        assert sorted(sink.ids(), key=int) == [str(number) for number in range(1, 13)]


def test_what_is_acknowledged_under_kills_has_arrived(tmp_path, sink):
    """Devices that do as RFC 7252 says: repeat a message, then take the next one."""
    sink.gate.set()
    acknowledged: list[str] = []
    with running(tmp_path, sink, ack_after=0.02) as gateway:
        stop = threading.Event()

        def device(number: int) -> None:
            with CoapPeer(gateway.ports["coap"]) as peer:
                peer.socket.settimeout(0.2)
                for mid in range(1, 100_000):
                    name = b"%d-%d" % (number, mid)
                    while not stop.is_set():
                        if _is_accepted(peer, mid, name):
                            acknowledged.append(name.decode())
                            break
                    if stop.is_set():
                        return

        devices = [threading.Thread(target=device, args=(number,)) for number in range(4)]
        for thread in devices:
            thread.start()
        for _ in range(3):
            count = len(acknowledged)
            poll_until(lambda count=count: len(acknowledged) > count + 30, 20, "events")
            gateway.kill()
            gateway.start()
        stop.set()
        for thread in devices:
            thread.join()
    arrived = {json.loads(request.body)["id"] for request in sink.requests}
    assert len(acknowledged) > 90
    assert set(acknowledged) <= arrived
    first = list(dict.fromkeys(sink.ids()))
    for number in range(4):
        mine = [int(name.partition("-")[2]) for name in first if name.startswith(f"{number}-")]
        assert mine == sorted(mine)


def _is_accepted(peer: CoapPeer, mid: int, name: bytes) -> bool:
    """Send an event once; returns whether 2.04 came for it, in either way."""
    token = mid.to_bytes(2, "big")
    query = b"i=" + name
    try:
        peer.send(
            b"\x42\x02" + token + token + b"\xb1t\x43s=/" + bytes((len(query),)) + query + b"\xff1"
        )
        while True:
            datagram = peer.receive()
            if datagram[0] >> 4 == 4:
                peer.send(b"\x60\0" + datagram[2:4])
            if datagram[1] == 0x44 and datagram[4:6] == token:
                return True
            if datagram[1] and datagram[4:6] == token:
                return False
    except (TimeoutError, ConnectionRefusedError):
        return False
