"""A Service's address, dealt out by nftables in the router to the gateways that are ready.

It does what Kubernetes does: asks each gateway's `/readyz`, and writes the rules anew when that
has changed; the rule is DNAT by a hash of the source address. And as kube-proxy does, it forgets
the UDP flows to a gateway that was taken out (conntrack), which else would go on to it.
"""

import asyncio
import collections
import contextlib
import http.client
import subprocess
from collections.abc import Mapping
from typing import Final

from tests.e2e.hosts.network import Host, Network
from tests.e2e.servers import fetch, program

ADDRESS: Final = "10.96.0.10"
ADMIN_PORT: Final = 8081
_SLOTS: Final = 60
_PROBE_SECONDS: Final = 2.0
_FAILURES: Final = 2
"""So many probes without any answer take a gateway out (`failureThreshold`)."""


class Service:
    """The address, and who stands behind it.

    Attributes:
        ready: who gets what comes, by name; set by the probes.
        cordoned: who is left out though ready.
        statuses: what the probes have got from each, in order, repetitions left out; 0 is nothing.

    Args:
        network: whose router gets the rules.
        gateways: by name.
    """

    def __init__(self, network: Network, gateways: Mapping[str, Host]) -> None:
        self._nft = program("nft", "nftables")
        self._conntrack = program("conntrack", "conntrack")
        self._router = network.router
        self._gateways = gateways
        self._silent: collections.Counter[str] = collections.Counter()
        self._written: frozenset[str] | None = None
        self.ready: frozenset[str] = frozenset()
        self.cordoned: set[str] = set()
        self.statuses: dict[str, list[int]] = {name: [] for name in gateways}

    def owners(self, ready: frozenset[str]) -> list[str]:
        """Return who gets each slot of the hash.

        A gateway that is ready has always its own slots, so only the devices of the others move.
        """
        names, spare = list(self._gateways), sorted(ready)
        return [
            names[slot % len(names)]
            if names[slot % len(names)] in ready
            else spare[slot // len(names) % len(spare)]
            for slot in range(_SLOTS)
        ]

    async def run(self) -> None:
        """Probe and write until cancelled."""
        while True:
            await asyncio.gather(*(self._probe(name) for name in self._gateways))
            wanted = self.ready - self.cordoned
            if wanted != self._written:
                await asyncio.to_thread(self._write, wanted)
            await asyncio.sleep(0.05)

    async def wait_for(self, *names: str, seconds: float = 40) -> None:
        """Wait until the rules name just these gateways."""
        async with asyncio.timeout(seconds):
            while self._written != frozenset(names):
                await asyncio.sleep(0.02)

    async def _probe(self, name: str) -> None:
        status = await asyncio.to_thread(
            self._router.call, _status_of, self._gateways[name].address, "/readyz"
        )
        if status != (self.statuses[name] or [None])[-1]:
            self.statuses[name].append(status)
        self._silent[name] = 0 if status else self._silent[name] + 1
        if status == 200:
            self.ready |= {name}
        elif status or self._silent[name] >= _FAILURES:
            self.ready -= {name}

    def _write(self, ready: frozenset[str]) -> None:
        gone = (self._written or frozenset()) - ready
        rule = ""
        if ready:
            slots = ", ".join(
                f"{slot} : {self._gateways[name].address}"
                for slot, name in enumerate(self.owners(ready))
            )
            # Without a seed each rule would have its own, and every device would move.
            rule = (
                f"ip daddr {ADDRESS} dnat ip to jhash ip saddr mod {_SLOTS} seed 0x1 "
                f"map {{ {slots} }}\n"
            )
        self._router.run(
            self._nft, "-f", "-", script="table ip services\nflush table ip services\n"
            "table ip services {\nchain incoming {\n"
            f"type nat hook prerouting priority dstnat;\n{rule}}}\n}}\n",
        )  # fmt: skip
        for name in gone:
            with contextlib.suppress(subprocess.CalledProcessError):  # it had none
                self._router.run(
                    self._conntrack, "-D", "-p", "udp", "--reply-src", self._gateways[name].address
                )
        self._written = ready


def _status_of(address: str, path: str) -> int:
    """Return the status of a GET, 0 if there is no answer."""
    try:
        return fetch(ADMIN_PORT, path, host=address, seconds=_PROBE_SECONDS)[0]
    except (OSError, http.client.HTTPException):
        return 0
