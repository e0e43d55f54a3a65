"""The way to a broker: a connected socket, with TLS if it is wanted, and nothing that blocks."""

import asyncio
import socket
import ssl


async def dial(
    host: str, port: int, context: ssl.SSLContext | None
) -> socket.socket | ssl.SSLSocket:
    """Return a connected, non-blocking socket, the TLS handshake done.

    Raises:
        OSError: nobody listens at any of the addresses, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(0)
            await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                return sock
            sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            await _shake_hands(sock)
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error or OSError(f"{host} has no address")


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            loop.add_reader(sock.fileno(), ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(sock.fileno())
        except ssl.SSLWantWriteError:
            loop.add_writer(sock.fileno(), ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(sock.fileno())
        else:
            return
