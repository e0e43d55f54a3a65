"""docs/delivery.md: its configuration is valid and its figures are those of the code."""

import re
from pathlib import Path

import yaml

from gateway.config.loader import load
from gateway.retry import RetryPolicy

PAGE = (Path(__file__).parent.parent / "docs" / "delivery.md").read_text()
BLOCKS = re.findall(
    r"<!-- tested: tests/test_delivery_page.py -->\n```yaml\n(.*?)```", PAGE, re.DOTALL
)


def test_its_configuration_is_valid_and_means_what_it_says(tmp_path):
    (text,) = BLOCKS
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    delivery = load(path, {}).routes[0].delivery.model_dump(by_alias=True)
    said = yaml.safe_load(text)["routes"][0]["delivery"]
    seconds = {"backoffDelay": 0.5, "timeout": 10.0, "retryAfterMax": 120.0}
    assert {key: delivery[key] for key in said} == {**said, **seconds}


def test_its_waits_are_those_of_the_code():
    row = re.search(r"\*\*this one\*\* \| ([\d, ]+) s \| ([\d, ]+) s \|", PAGE)
    for policy, figures in zip(("linear", "exponential"), row.groups(), strict=True):
        waits = [RetryPolicy(policy=policy, delay=1).wait(n) for n in (1, 2, 3, 4)]
        assert waits == [float(figure) for figure in figures.split(",")]
