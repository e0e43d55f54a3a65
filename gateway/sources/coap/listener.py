"""The sockets of the CoAP source."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from gateway.config.records import Address
from gateway.errors import ListenError

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""What `recvfrom` says of a sender, IPv4 or IPv6."""

# Linux; the socket module of 3.11 does not name them.
_SO_RCVBUFFORCE: Final = 33
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29

_KEEPALIVE_SECONDS: Final = 120


async def open_socket(
    listen: Address, receive_buffer_bytes: int, *, reuse_port: bool = False
) -> socket.socket:
    """Return a bound, non-blocking UDP socket; `[::]` takes IPv4 too.

    Args:
        listen: the address.
        receive_buffer_bytes: what the system keeps until it is read.
        reuse_port: whether other workers listen there, too.

    Raises:
        ListenError: the host is unknown or the port is taken.
    """

    def prepare(listener: socket.socket) -> None:
        _ignore_multicast(listener)
        _grow_buffer(listener, receive_buffer_bytes)

    return await _bind(listen, socket.SOCK_DGRAM, prepare, reuse_port=reuse_port)


async def open_stream_socket(listen: Address, *, reuse_port: bool = False) -> socket.socket:
    """Return a bound TCP socket that finds out dead peers; `[::]` takes IPv4 too.

    Args:
        listen: the address.
        reuse_port: whether other workers listen there, too.

    Raises:
        ListenError: the host is unknown or the port is taken.
    """
    return await _bind(listen, socket.SOCK_STREAM, _prepare_stream, reuse_port=reuse_port)


async def _bind(
    listen: Address,
    kind: socket.SocketKind,
    prepare: Callable[[socket.socket], None],
    *,
    reuse_port: bool,
) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(listen.host, listen.port, type=kind)
    except OSError as error:
        raise ListenError(listen, error) from error
    family, _, protocol, _, address = found[0]
    result = socket.socket(family, kind, protocol)
    try:
        result.settimeout(0)
        if family == socket.AF_INET6:
            result.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if reuse_port:
            result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        prepare(result)
        result.bind(address)
    except OSError as error:
        result.close()
        raise ListenError(listen, error) from error
    return result


def _prepare_stream(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What it accepts inherits these; a device that lost its power says no goodbye.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS // 4)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def bound_address(listener: socket.socket) -> Address:
    """Return where the socket is bound, with the port that the system chose."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def ip_of(address: SocketAddress) -> str:
    """Return a sender's IP address: IPv4 as such also on an IPv6 socket, and without a zone."""
    return address[0].removeprefix("::ffff:").partition("%")[0]


def _ignore_multicast(listener: socket.socket) -> None:
    """Receive nothing of groups that another program on this host has joined (binding 3.0.3)."""
    with contextlib.suppress(OSError):  # not Linux
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        listener.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)


def _grow_buffer(listener: socket.socket, size: int) -> None:
    """Make room for a burst: the usual 208 KiB overflow with 500 datagrams."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)  # needs CAP_NET_ADMIN
    except OSError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
