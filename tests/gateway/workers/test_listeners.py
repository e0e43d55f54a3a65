"""The addresses of all workers, asked of the system beforehand."""

import socket

import pytest

from gateway.config.loader import load
from gateway.errors import GatewayError
from gateway.workers.listeners import found


def config(http, coap):
    return load(
        f"""
sources:
  web: {{protocol: http, listen: "{http}"}}
  field:
    protocol: coap
    listen: "{coap}"
    listen_tcp: "127.0.0.1:0"
    routes: {{/: {{mode: auto}}}}
sinks: {{out: {{protocol: log}}}}
routes: [{{to: [out]}}]
""",
        {},
    )


async def test_ports_are_chosen_once_for_all_workers():
    addresses = await found(config("127.0.0.1:0", "[::1]:0"))
    assert set(addresses) == {"web", "field"}
    assert set(addresses["field"]) == {"listen", "listen_tcp"}
    assert addresses["field"]["listen"].startswith("[::1]:")
    ports = [int(text.rpartition(":")[2]) for one in addresses.values() for text in one.values()]
    assert all(ports)
    with socket.create_server(("127.0.0.1", int(addresses["web"]["listen"].rpartition(":")[2]))):
        pass  # it was given back


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_an_address_that_somebody_shares_is_taken_nevertheless(kind):
    """Another gateway with workers: it would let us in, and get half of our events."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        addresses = (taken, "127.0.0.1:0") if kind == socket.SOCK_STREAM else ("127.0.0.1:0", taken)
        with pytest.raises(GatewayError, match=taken):
            await found(config(*addresses))


async def test_a_host_that_is_not_there_is_an_error():
    with pytest.raises(GatewayError, match=r"no\.such\.host\.invalid"):
        await found(config("no.such.host.invalid:1", "127.0.0.1:0"))
