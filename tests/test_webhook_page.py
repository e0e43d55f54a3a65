"""docs/webhook.md: its configurations are valid."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.sinks.http import HttpSinkConfig
from gateway.sources.http import HttpSourceConfig

PAGE = (Path(__file__).parent.parent / "docs" / "webhook.md").read_text()
BLOCKS = re.findall(
    r"<!-- tested: tests/test_webhook_page.py -->\n```yaml\n(.*?)```", PAGE, re.DOTALL
)
RECORDS = {"sources": HttpSourceConfig, "sinks": HttpSinkConfig}


@pytest.mark.parametrize("text", BLOCKS)
def test_configurations_are_valid(text):
    for kind, adapters in yaml.safe_load(text).items():
        for adapter in adapters.values():
            assert RECORDS[kind].model_validate(adapter).protocol == "http"


def test_every_configuration_on_the_page_is_tested():
    assert len(BLOCKS) == PAGE.count("```yaml") == 3
