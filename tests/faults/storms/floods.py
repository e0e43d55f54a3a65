"""Floods, and connections that say less than they should, slowly or never."""

import contextlib
import errno
import os
import random
import select
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.e2e.bad_input.peers import coap_options, connect
from tests.e2e.servers import HOST

ATTACKER: Final = "127.0.0.66"
"""Another address than the good senders', for limits by address."""
_TCP_REPAIR: Final = 19  # linux/tcp.h
_SILENT: Final = b""

Report = dict[str, float]


class _Crowd:
    """Connections that are opened together and watched until they are closed.

    Args:
        port: of the gateway.
        beginning: what each sends at once.
        drip: what each sends of it once a second from then on, byte by byte.
    """

    def __init__(self, port: int, beginning: bytes, drip: bytes) -> None:
        self._port = port
        self._beginning = beginning
        self._drip = drip
        self._poll = select.poll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self.report: Report = {"opened": 0, "refused": 0, "longest open": 0.0}

    def gather(self, count: int) -> None:
        for _ in range(count):
            peer = socket.socket()
            peer.bind((ATTACKER, 0))
            peer.setblocking(False)
            if peer.connect_ex((HOST, self._port)) not in {0, errno.EINPROGRESS}:
                self.report["refused"] += 1
                peer.close()
                continue
            self.report["opened"] += 1
            self._open[peer.fileno()] = peer, time.monotonic()
            self._poll.register(peer, select.POLLIN | select.POLLOUT)

    def watch(self, seconds: float) -> None:
        """Watch until all are closed, or for so long."""
        end = time.monotonic() + seconds
        next_drip, position = time.monotonic() + 1, 0
        while self._open and time.monotonic() < end:
            for fd, events in self._poll.poll(100):
                self._take(fd, events)
            if self._drip and time.monotonic() > next_drip:
                next_drip += 1
                byte = self._drip[position % len(self._drip) :][:1]
                position += 1
                for peer, _ in self._open.values():
                    with contextlib.suppress(OSError):
                        peer.send(byte)
        accepted = _accepted(self._port)
        ports = {peer.getsockname()[1] for peer, _ in self._open.values()}
        self.report["still open"] = len(ports & accepted)
        self.report["never accepted"] = len(ports - accepted)
        for peer, _ in self._open.values():
            peer.close()

    def _take(self, fd: int, events: int) -> None:
        peer, opened = self._open[fd]
        if events & (select.POLLIN | select.POLLERR | select.POLLHUP):
            try:
                if peer.recv(1 << 16):
                    return  # an answer; the end follows
            except BlockingIOError:
                return
            except OSError:
                pass
            waited = time.monotonic() - opened
            self.report["longest open"] = max(self.report["longest open"], round(waited, 2))
            self._poll.unregister(fd)
            del self._open[fd]
            peer.close()
        else:  # connected
            with contextlib.suppress(OSError):
                if self._beginning:
                    peer.send(self._beginning)
            self._poll.modify(fd, select.POLLIN)


def _accepted(port: int) -> set[int]:
    """Return the ports of the attacker whose connections the gateway has.

    When the kernel's queue of new connections overflows, some only exist for those who made them.
    """
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if int(local.partition(":")[2], 16) == port and state == "01" and inode != "0":
            ports.add(int(remote.partition(":")[2], 16))
    return ports


def _crowd(beginning: bytes, drip: bytes = _SILENT) -> Callable[[int, int, float], Report]:
    def flood(port: int, count: int, seconds: float) -> Report:
        crowd = _Crowd(port, beginning, drip)
        crowd.gather(count)
        crowd.watch(seconds)
        return crowd.report

    return flood


def come_and_go(port: int, count: int, seconds: float) -> Report:
    """Connect and close again, as fast as it goes."""
    report: Report = {"opened": 0, "refused": 0, "still open": 0}
    end = time.monotonic() + seconds
    for number in range(count):
        if time.monotonic() > end:
            break
        with socket.socket() as peer:
            peer.bind((ATTACKER, 0))
            peer.settimeout(1)
            try:
                peer.connect((HOST, port))
                report["opened"] += 1
                if number % 2:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                report["refused"] += 1
    return report


def vanish(port: int, count: int, seconds: float) -> Report:
    """Connect and be gone without FIN or RST, as a device that loses its power.

    Who may not do that keeps the connections, without reading or writing.
    """
    report: Report = {"opened": 0, "refused": 0, "still open": 0, "gone": 0}
    kept = []
    for _ in range(count):
        peer = socket.socket()
        peer.bind((ATTACKER, 0))
        peer.settimeout(2)
        try:
            peer.connect((HOST, port))
        except OSError:
            report["refused"] += 1
            peer.close()
            continue
        report["opened"] += 1
        try:
            peer.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        except OSError:
            kept.append(peer)
        else:
            peer.close()
            report["gone"] += 1
    if kept:
        time.sleep(seconds)
    for peer in kept:
        peer.close()
    return report


def datagrams(port: int, count: int, seconds: float) -> Report:
    """Send datagrams from many ports as fast as it goes: pings, requests and what is none."""
    chance = random.Random(port)
    query = (b"t=t.x", b"i=flood", b"s=/s")
    request = coap_options(query) + b"\xff{}"
    peers = []
    for _ in range(100):
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind((ATTACKER, 0))
        peer.connect((HOST, port))
        peer.setblocking(False)
        peers.append(peer)
    sent = 0
    end = time.monotonic() + seconds
    while sent < count and time.monotonic() < end:
        mid = os.urandom(2)
        kind = chance.randrange(3)
        datagram = (b"\x40\0" + mid, b"\x42\2" + mid + b"ab" + request, os.urandom(40))[kind]
        peer = chance.choice(peers)
        with contextlib.suppress(OSError):
            peer.send(datagram)
            sent += 1
        with contextlib.suppress(OSError):
            peer.recv(2048)
    for peer in peers:
        peer.close()
    return {"sent": sent}


_HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
_CONNECT: Final = connect(5, b"device-that-never-comes-to-its-end")
FLOODS: Final[Mapping[str, Callable[[int, int, float], Report]]] = {
    "slow headers": _crowd(_HEAD, b"X: y\r\n"),
    "slow body": _crowd(_HEAD + b"Content-Type: application/json\r\n\r\n{", b" "),
    "half a CONNECT": _crowd(_CONNECT[:10], _CONNECT[10:-1]),
    "half a CoAP message": _crowd(b"\0\xe1\xd1\2", _SILENT),
    "half a CoAP CSM": _crowd(b"\x30", _SILENT),
    "silent": _crowd(_SILENT),
    "come and go": come_and_go,
    "vanish": vanish,
    "datagrams": datagrams,
}
