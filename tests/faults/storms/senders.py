"""How malformed frames are sent: each protocol's way to try many in a short time."""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

from tests.e2e.bad_input.peers import CoapPeer, NatsPeer
from tests.e2e.servers import HOST

SECONDS: Final = 20.0
_AT_ONCE: Final = 50

Report = dict[str, int]


def send_connections(port: int, frames: Iterator[bytes]) -> Report:
    """Send each frame on a connection of its own, end that, and read to its end."""
    report = {"sent": 0, "answered": 0, "left open": 0}
    while some := list(islice(frames, _AT_ONCE)):
        peers = [_send(port, frame) for frame in some]
        report["sent"] += len(peers)
        for peer in peers:
            answer = _read_all(peer)
            report["answered"] += bool(answer)
            report["left open"] += answer is None
            peer.close()
    return report


def _send(port: int, frame: bytes) -> socket.socket:
    peer = socket.create_connection((HOST, port), timeout=SECONDS)
    with contextlib.suppress(OSError):  # it may be closed before all is sent
        peer.sendall(frame)
        peer.shutdown(socket.SHUT_WR)
    return peer


def _read_all(peer: socket.socket) -> bytes | None:
    """Return what comes until the end, None if the end doesn't come."""
    parts = []
    try:
        while part := peer.recv(1 << 16):
            parts.append(part)
    except TimeoutError:
        return None
    except OSError:
        pass
    return b"".join(parts)


def send_datagrams(port: int, frames: Iterator[bytes]) -> Report:
    """Send datagrams, and a ping now and then: what its answer is behind has been read."""
    report = {"sent": 0, "answered": 0, "pings lost": 0}
    with CoapPeer(port) as peer:
        peer.socket.settimeout(1)
        while some := list(islice(frames, _AT_ONCE)):
            for frame in some:
                with contextlib.suppress(ConnectionRefusedError):
                    peer.send(frame)
            report["sent"] += len(some)
            try:
                report["answered"] += len(peer.receive_until(peer.ping()))
            except TimeoutError:
                report["pings lost"] += 1
    return report


def send_messages(port: int, frames: Iterator[bytes]) -> Report:
    """Publish at a nats-server, and read what it and the gateway say."""
    report = {"sent": 0, "answered": 0, "reconnected": 0}
    peer = NatsPeer(port)
    try:
        while some := list(islice(frames, _AT_ONCE)):
            report["sent"] += len(some)
            try:
                peer.send(b"".join(some) + b"PING\r\n")
                report["answered"] += _read_to_pong(peer)
            except OSError:
                report["reconnected"] += 1
                peer.close()
                peer = NatsPeer(port)
    finally:
        peer.close()
    return report


def _read_to_pong(peer: NatsPeer) -> int:
    """Return how many messages came before PONG.

    Raises:
        ConnectionError: the server has ended the connection.
    """
    messages = 0
    while (line := peer.line()) != b"PONG\r\n":
        if not line:
            raise ConnectionResetError
        if line.startswith(b"MSG "):
            peer.read(int(line.split()[-1]) + 2)
            messages += 1
        elif line == b"PING\r\n":
            peer.send(b"PONG\r\n")
    while select.select([peer.socket], [], [], 0)[0]:
        data = peer.socket.recv(1 << 16, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError
        break
    return messages


SENDERS: Final[Mapping[str, Callable[[int, Iterator[bytes]], Report]]] = {
    "http": send_connections, "endpoint": send_connections, "coap": send_datagrams,
    "nats": send_messages,
}  # fmt: skip
