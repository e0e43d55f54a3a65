"""The addresses that all workers listen at: free, and with the ports that the system chooses.

Who asks for SO_REUSEPORT is not told that another gateway of the same user listens there already,
and would share its events with it. So the parent asks for each address alone, before all workers
do, and gives it back.
"""

import asyncio
import contextlib
import socket

from gateway.config.gateway import GatewayConfig
from gateway.config.records import Address
from gateway.errors import GatewayError, ListenError


async def found(config: GatewayConfig) -> dict[str, dict[str, str]]:
    """Return where each source is to listen, by source and key.

    Raises:
        GatewayError: an address is taken, or not ours.
    """
    result: dict[str, dict[str, str]] = {}
    with contextlib.ExitStack() as probes:  # all at once, so that no port is chosen twice
        for name, source in config.sources.items():
            for key, value in source:
                if isinstance(value, Address):
                    is_datagram = key in source.datagram_listeners
                    try:
                        probe = await _probe(value, is_datagram=is_datagram)
                    except ListenError as error:
                        raise GatewayError(f"source {name}: {error}") from error
                    port = probes.enter_context(probe).getsockname()[1]
                    result.setdefault(name, {})[key] = str(Address(value.host, port))
    return result


async def _probe(listen: Address, *, is_datagram: bool) -> socket.socket:
    kind = socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM
    loop = asyncio.get_running_loop()
    try:
        family, _, protocol, _, address = (
            await loop.getaddrinfo(listen.host, listen.port, type=kind)
        )[0]
    except OSError as error:
        raise ListenError(listen, error) from error
    probe = socket.socket(family, kind, protocol)
    try:
        if not is_datagram:  # connections that are just gone are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
    except OSError as error:
        probe.close()
        raise ListenError(listen, error) from error
    return probe
