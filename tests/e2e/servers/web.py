"""Servers that answer GET, for whether they are ready among other things."""

import http.client
from pathlib import Path

from tests.e2e.servers.process import HOST, Server


def fetch(port: int, path: str, *, host: str = HOST, seconds: float = 10) -> tuple[int, bytes]:
    """Return status and body of a GET, on a connection of its own.

    Raises:
        OSError: there is no answer.
        http.client.HTTPException: nor is this one.
    """
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class WebServer(Server):
    """A server that tells on `port` whether it is ready.

    Attributes:
        probe: the path that says so, with a 200.
    """

    def __init__(self, folder: Path, probe: str) -> None:
        super().__init__(folder)
        self.probe = probe

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        return fetch(self.port, path)

    def is_ready(self) -> bool:
        try:
            return self.get(self.probe)[0] == 200
        except (OSError, http.client.HTTPException):
            return False
