import pytest

from conformance.forms import Refused, WireEvent
from conformance.own.sending import own_sending
from conformance.peers.coap_server import CoapServer

EVENT = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, b"x")


async def test_our_producer_sends_an_event_and_tells_the_answer():
    async with own_sending() as sending, CoapServer() as server:
        assert await sending.send(server.url, EVENT, "binary") == "2.04 Changed"
    (request,) = server.requests
    assert (request.code, request.payload) == ("0.02", b"x")


async def test_what_the_server_refuses_is_refused():
    async with own_sending() as sending, CoapServer() as server:
        server.script = lambda _: b"\x80\xffno"
        with pytest.raises(Refused, match=r"4\.00"):
            await sending.send(server.url, EVENT, "binary")
