import re

from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.cli.senders import SendOptions


def test_every_option_of_the_senders_can_be_given():
    text = CliRunner().invoke(app, ["send", "--help"]).output
    options = set(re.findall(r"--([a-z-]+)", text))
    spelled = {"version": "mqtt-version", "confirmable": "non"}
    wanted = {
        spelled.get(name, name.replace("_", "-")) for name in SendOptions.__dataclass_fields__
    }
    assert wanted <= options
