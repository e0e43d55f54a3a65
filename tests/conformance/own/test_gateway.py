from conformance.checks.telling import TELLING, renamed
from conformance.own.gateway import own_gateway, source_of


async def test_an_event_comes_out_of_every_sink_once():
    source = source_of("mqtt", "binary", "json")
    event = renamed(TELLING["json"], source=source)
    async with own_gateway() as gateway:
        for _ in range(2):  # it is sent the first time only
            await gateway.carry("mqtt", "binary", "json", event)
        sinks = ("http-binary", "http-structured", "http-batch", "nats-binary", "nats-structured")
        arrived = [[one.event for one in gateway.arrivals(sink, source)] for sink in sinks]
    assert arrived == [[event]] * 5
    assert event.data == b'{"celsius": 21.5, "unit": "\xc2\xb0C"}'
