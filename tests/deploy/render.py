"""Write what is made for and of the chart: its values.schema.json, its alerts, deploy/release.

`make release-manifests`, after a change of the chart or of the gateway's configuration.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.config.schema import json_schema
from tests.deploy.helm import CHART, HELM, template

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMA = CHART / "values.schema.json"
RULES = CHART / "files/rules.yml"


def values_schema() -> str:
    """Return the chart's schema: its own keys, and the gateway's configuration below `config`."""
    own = json.loads((DEPLOY / "chart/values.schema.json").read_text())
    config = json_schema()
    own["$defs"] |= config.pop("$defs")
    config.pop("$schema")
    own["$defs"]["GatewayConfig"] = config
    return json.dumps(own, indent=1) + "\n"


def rules() -> str:
    """Return the alerts, which the chart can read only from a folder of its own."""
    head = "# A copy of deploy/examples/prometheus/rules.yml, made by `make release-manifests`.\n"
    return head + (DEPLOY / "examples/prometheus/rules.yml").read_text()


def releases() -> Iterator[tuple[Path, str]]:
    """Yield each file of release/ with what should stand in it.

    Raises:
        RuntimeError: the chart can't be rendered.
    """
    for values in sorted((DEPLOY / "release/values").glob("*.yaml")):
        done = template(values)
        if done.returncode:
            raise RuntimeError(done.stderr)
        head = f"# Made of values/{values.name} by `make release-manifests`; change the chart.\n"
        yield DEPLOY / "release" / values.name, head + done.stdout


def main() -> None:
    """Write everything."""
    SCHEMA.write_text(values_schema())
    RULES.write_text(rules())
    if not HELM.exists():
        sys.exit("no helm: only what the chart needs is new")
    for file, text in releases():
        file.write_text(text)


if __name__ == "__main__":
    main()
