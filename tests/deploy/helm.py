"""The helm that `.ci/helm` fetched."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.servers import CACHE

ROOT = Path(__file__).parents[2]
VERSION = (ROOT / ".ci/helm").read_text().partition("\nversion=")[2].split()[0]
HELM = CACHE / f"helm-{VERSION}/helm"
CHART = ROOT / "deploy/chart/ce-gateway"

needs_helm = pytest.mark.skipif(not HELM.exists(), reason="no helm; .ci/helm fetches it")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm without a cluster and without the user's settings."""
    nowhere = dict.fromkeys(("HOME", "KUBECONFIG", "HELM_CONFIG_HOME"), "/nonexistent")
    return subprocess.run(
        [str(HELM), *map(str, arguments)],
        env=nowhere,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_rendered: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}


def template(*values: str | Path) -> subprocess.CompletedProcess[str]:
    """Render the chart with files of values, one over the other; each once in a test run."""
    key = tuple(Path(file).read_text() for file in values)
    if key not in _rendered:
        files = [part for file in values for part in ("--values", file)]
        _rendered[key] = helm("template", "ce-gateway", CHART, "--namespace", "ce-gateway", *files)
    return _rendered[key]
