"""The device over DTLS, with a session of mbedtls at the other end: the source's own."""

import pytest

from conformance.check import CheckFailed
from conformance.own.source import own_source
from conformance.peers.coap_dtls import DtlsDevice

PING, RESET = bytes.fromhex("4000fffe"), bytes.fromhex("7000fffe")


async def test_a_session_carries_datagrams_until_it_is_left():
    async with own_source("coap") as target, DtlsDevice(target.urls["coaps"]) as device:
        assert not device.is_established
        await device.connect()
        assert device.is_established
        device.send(PING)
        assert (await device.receive()).raw == RESET


async def test_a_wrong_key_is_told():
    async with (
        own_source("coap") as target,
        DtlsDevice(target.urls["coaps"], key=b"wrong") as device,
    ):
        with pytest.raises(CheckFailed, match="handshake"):
            await device.connect()
        assert not device.is_established


async def test_a_gateway_that_ends_is_noticed():
    async with own_source("coap") as target:
        device = DtlsDevice(target.urls["coaps"])
        await device.__aenter__()
        await device.connect()
    with pytest.raises(CheckFailed, match="ended"):
        await device.receive()
    await device.__aexit__(None, None, None)
