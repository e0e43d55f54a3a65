"""The gateway as a process."""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.e2e.servers.process import HOST, free_port
from tests.e2e.servers.web import WebServer

ROOT = Path(__file__).parents[3]


class Gateway(WebServer):
    """`ce-gateway run` with a configuration, from the command line as an operator would.

    Args:
        folder: where the configuration and the state go.
        config: the tables; a `listen` with port 0 gets a free one (see `ports`), `admin` and
            `state` are filled in.
        env: further environment.
        ready: what `/readyz` has to answer before `start` returns; None waits for `/livez` only.
    """

    name = "gateway"

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, object],
        env: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
    ) -> None:
        super().__init__(folder, "/readyz" if ready else "/livez")
        self.env = dict(env or {})
        self.ports: dict[str, int] = {}
        self.config = json.loads(json.dumps(config))
        for name, source in self.config.get("sources", {}).items():
            if str(source.get("listen", "")).endswith(":0"):
                kind = socket.SOCK_DGRAM if source.get("protocol") == "coap" else socket.SOCK_STREAM
                self.ports[name] = free_port(kind)
                source["listen"] = source["listen"][:-1] + str(self.ports[name])
        self.config.setdefault("admin", {}).setdefault("listen", f"{HOST}:{self.port}")
        self.config.setdefault("state", {}).setdefault("path", str(folder / "state"))
        self._file = folder / "gateway.yaml"
        self._file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        self.env.setdefault("PYTHONPATH", os.environ.get("PYTHONPATH", str(ROOT)))
        return [sys.executable, "-m", "gateway", "run", str(self._file)]

    def finish(self) -> None:
        """Stop it and check that it went as an operator expects."""
        code = self.stop()
        assert "Traceback" not in self.log, self.log[-8000:]
        assert code == 0, f"exit code {code}\n{self.log[-4000:]}"
