"""Debian's Prometheus."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.e2e.servers.process import HOST, program
from tests.e2e.servers.web import WebServer


class Prometheus(WebServer):
    """A Prometheus that scrapes every second.

    Args:
        folder: where its files go.
        targets: what it scrapes, host:port by job.
        rules: files of rules, evaluated every second.
    """

    name = "prometheus"

    def __init__(
        self, folder: Path, targets: Mapping[str, Sequence[str]], rules: Sequence[Path] = ()
    ) -> None:
        super().__init__(folder, "/-/ready")
        self._program = program("prometheus", "prometheus")
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in targets.items()
            ],
        }
        self._config = folder / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(config))

    def command(self) -> Sequence[str]:
        return [
            self._program,
            f"--config.file={self._config}",
            f"--web.listen-address={HOST}:{self.port}",
            f"--storage.tsdb.path={self.folder}/data",
            "--log.level=warn",
        ]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query.

        Raises:
            ValueError: it is no query, or can't be evaluated.
        """
        answer = self.api("query", query=expression)
        if answer["status"] != "success":
            raise ValueError(f"{expression}: {answer['error']}")
        return list(answer["data"]["result"])

    def api(self, call: str, **parameters: str) -> dict[str, Any]:
        """Return the answer of `/api/v1/CALL`."""
        return dict(json.loads(self.get(f"/api/v1/{call}?{urlencode(parameters)}")[1]))
