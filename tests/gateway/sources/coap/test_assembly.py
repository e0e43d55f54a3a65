"""Payloads in blocks are bounded in number and bytes."""

import pytest

from bindings.coap import RequestError
from bindings.wire.coap import Block
from gateway.sources.coap.assembly import Assemblies


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


def test_a_sender_that_is_gone_leaves_nothing():
    assemblies = Assemblies(max_bytes=2**20)
    block = Block(0, more=True, size_exponent=0)
    for port in (1, 2):
        for options in (b"1", b"2"):
            assemblies.add(("192.0.2.1", port), options, block, bytes(16), 65536, now=0)
    assemblies.drop_all(("192.0.2.1", 1))
    assert len(assemblies) == 2
    assemblies.drop_all(("192.0.2.1", 2))
    assemblies.drop_all(("192.0.2.1", 2))
    assert (len(assemblies), assemblies.used_bytes) == (0, 0)
