from conformance.peers.coap import Device
from conformance.peers.coap_server import CoapServer, changed


async def test_requests_are_kept_and_answered():
    request = bytes.fromhex("4202123401029163ff78")
    async with CoapServer() as server, Device(server.url) as device:
        device.send(request)
        reply = await device.receive()
        assert (reply.type, reply.code, reply.mid, reply.token) == (
            "ACK", "2.04", b"\x12\x34", b"\1\2",
        )  # fmt: skip
        server.script = lambda request: b"\xa3\xff" + request.payload
        device.send(request)
        assert ((again := await device.receive()).code, again.payload) == ("5.03", b"x")
    assert [one.raw for one in server.requests] == [request] * 2


async def test_blocks_are_asked_for_until_the_last():
    async with CoapServer() as server, Device(server.url) as device:
        for value, code in ((b"\x0e", "2.31"), (b"\x16", "2.04")):
            device.send(b"\x40\x02\0\1\xd1\x0e" + value + b"\xffx")
            reply = await device.receive()
            assert (reply.code, reply.options) == (code, {27: value})
    assert changed(server.requests[1]) == b"\x44\xd1\x0e\x16"
