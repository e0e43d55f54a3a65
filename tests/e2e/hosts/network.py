"""Hosts as network namespaces: each has an address, an end of a cable, and its own loopback.

    devices 10.8.0.2, 10.8.1.* --- router --- bridge 10.9.0.1/24 --- host 10.9.0.11, .12, ...

Nothing leads out of it. Wants root, iproute2 and nftables.
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

from tests.e2e.servers import program

T = TypeVar("T")
P = ParamSpec("P")
_CLONE_NEWNET: Final = 0x40000000
_runs = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


class NotAllowedError(Exception):
    """This machine lets us make no network namespaces; the text says why."""


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        namespace: its name, as `ip netns` knows it.
        address: where the others reach it.
    """

    namespace: str
    address: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be there: its new sockets belong to the host for good."""
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            self.enter()
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def enter(self) -> None:
        """Let this thread, and those that it starts, be there until they end."""
        with Path("/run/netns", self.namespace).open("rb") as namespace:
            _set_namespace(namespace.fileno())

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns that is called there, in this thread."""
        with self.entered():
            return function(*args, **kwargs)

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """Return the command line that runs a program there, as the process that is started."""
        return [program("ip", "iproute2"), "netns", "exec", self.namespace, *command]

    def run(self, *command: str, script: str = "") -> str:
        """Run a program there to its end, and return what it said.

        Raises:
            subprocess.CalledProcessError: it has failed.
        """
        return _run(self.command(command), script)


class Network:
    """Hosts on a bridge, and devices behind a router.

    Args:
        names: of the hosts.
        devices: how many addresses the devices have.

    Attributes:
        hosts: by name.
        router: has the bridge, and forwards between hosts and devices.
        devices: the host of all devices.
        device_addresses: of the devices, each its own.
    """

    def __init__(self, names: Sequence[str], devices: int) -> None:
        self._ip = program("ip", "iproute2")
        self._nft = program("nft", "nftables")
        prefix = f"ce-{os.getpid()}-{next(_runs)}"
        self.router = Host(f"{prefix}-router", "10.9.0.1")
        self.devices = Host(f"{prefix}-devices", "10.8.0.2")
        self.hosts: Mapping[str, Host] = {
            name: Host(f"{prefix}-{name}", f"10.9.0.{number}")
            for number, name in enumerate(names, 11)
        }
        self.device_addresses = [f"10.8.1.{number}" for number in range(1, devices + 1)]
        self._made: list[Host] = []

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NotAllowedError("network namespaces want root")
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._made:
            _run([self._ip, "netns", "del", self._made.pop().namespace])

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Drop everything between these pairs of hosts, and let all others speak again."""
        rules = "".join(
            f"ip saddr {self.hosts[one].address} ip daddr {self.hosts[other].address} drop\n"
            for pair in pairs
            for one, other in (pair, pair[::-1])
        )
        self.router.run(
            self._nft, "-f", "-", script="table bridge cuts\nflush table bridge cuts\n"
            "table bridge cuts {\nchain between {\n"
            f"type filter hook forward priority 0;\n{rules}}}\n}}\n",
        )  # fmt: skip

    def unplug(self, name: str) -> None:
        """Take a host's cable out of the bridge."""
        _run([self._ip, "-n", self.router.namespace, "link", "set", f"to-{name}", "down"])

    def plug(self, name: str) -> None:
        _run([self._ip, "-n", self.router.namespace, "link", "set", f"to-{name}", "up"])

    def _make(self) -> None:
        for host in (self.router, self.devices, *self.hosts.values()):
            try:
                _run([self._ip, "netns", "add", host.namespace])
            except subprocess.CalledProcessError as error:
                raise NotAllowedError(
                    f"no network namespaces here: {error.stderr.strip()}"
                ) from error
            self._made.append(host)
        self._batch(
            self.router, "link set lo up", "link add name bridge type bridge",
            "address add 10.9.0.1/24 dev bridge", "link set bridge up",
            *self._cable("devices", self.devices), "address add 10.8.0.1/16 dev to-devices",
            *(
                line
                for name, host in self.hosts.items()
                for line in (*self._cable(name, host), f"link set to-{name} master bridge")
            ),
        )  # fmt: skip
        self._plug_in(self.devices, "10.8.0.1", 16, self.device_addresses)
        for host in self.hosts.values():
            self._plug_in(host, "10.9.0.1", 24)
        self.router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    @staticmethod
    def _cable(name: str, host: Host) -> Sequence[str]:
        return (
            f"link add name to-{name} type veth peer name eth0 netns {host.namespace}",
            f"link set to-{name} up",
        )

    def _plug_in(self, host: Host, router: str, bits: int, more: Sequence[str] = ()) -> None:
        addresses = [f"address add {one}/{bits} dev eth0" for one in (host.address, *more)]
        lines = ("link set lo up", *addresses, "link set eth0 up")
        self._batch(host, *lines, f"route add default via {router}")

    def _batch(self, host: Host, *lines: str) -> None:
        _run([self._ip, "-n", host.namespace, "-batch", "-"], "\n".join(lines))


def _run(command: Sequence[str], script: str = "") -> str:
    try:
        return subprocess.run(
            command, input=script, capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
