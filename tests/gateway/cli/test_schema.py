import json

from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.config.example import example
from gateway.config.reference import markdown


def schema(*options):
    return CliRunner().invoke(app, ["schema", *options])


def test_it_prints_json_by_default():
    result = schema()
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "GatewayConfig"


def test_it_prints_the_reference_and_the_example():
    assert schema("--markdown").stdout == markdown()
    assert schema("--example").stdout == example()


def test_it_prints_one_of_them_at_a_time():
    assert schema("--markdown", "--example").exit_code == 2
