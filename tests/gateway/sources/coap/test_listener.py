"""The socket of the CoAP source."""

import asyncio
import socket

import pytest

from gateway.config.records import Address
from gateway.errors import GatewayError
from gateway.sources.coap import CoapSource
from tests.gateway.sources.coap.device import POST_T, config, running
from tests.helpers import RecordingIntake


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
