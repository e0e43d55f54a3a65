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
from gateway.errors import ListenError


async def found(config: GatewayConfig) -> dict[str, dict[str, str]]:
    """Return where each source is to listen, by source and key.

    Raises:
        ListenError: an address is taken, or not ours.
    """
    result: dict[str, dict[str, str]] = {}
    with contextlib.ExitStack() as probes:  # all at once, so that no port is chosen twice
        for name, source in config.sources.items():
            for key, value in source:
                if isinstance(value, Address):
                    kind = (
                        socket.SOCK_DGRAM
                        if key in source.datagram_listeners
                        else socket.SOCK_STREAM
                    )
                    probe = probes.enter_context(await _probe(value, kind))
                    port = probe.getsockname()[1]
                    result.setdefault(name, {})[key] = str(Address(value.host, port))
    return result


async def _probe(listen: Address, kind: socket.SocketKind) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        family, _, protocol, _, address = (
            await loop.getaddrinfo(listen.host, listen.port, type=kind)
        )[0]
    except OSError as error:
        raise ListenError(listen, error) from error
    probe = socket.socket(family, kind, protocol)
    try:
        if kind == socket.SOCK_STREAM:  # connections that are just gone are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
    except OSError as error:
        probe.close()
        raise ListenError(listen, error) from error
    return probe
