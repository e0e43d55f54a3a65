"""The tutorial of docs/bindings/writing-a-binding.md, done as it stands there.

Its blocks are those below `<!-- no example: tutorial NAME -->`. Commands run in an environment of
their own, in which the gateway is installed and no registry can be reached.
"""

import json
import os
import re
import subprocess
import sysconfig
import venv

import pytest

from tests.docs.tutorial import BLOCKS, fill_in
from tests.e2e.servers.gateway import Gateway
from tests.e2e.servers.process import free_port
from tests.e2e.servers.recorder import HttpRecorder


@pytest.fixture
def environment(tmp_path):
    """Return the environment variables of a virtual environment that has what this one has."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # Unlike a path alone this reads the .pth files there too, such as that of the gateway.
    ours = sysconfig.get_path("purelib")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name, module in (("ce-gateway", "gateway"), ("pip", "pip"), ("pytest", "pytest")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {folder}/bin/python -m {module} "$@"\n')
        script.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", "PIP_NO_INPUT": "1", "COLUMNS": "200"}


@pytest.fixture
def shell(environment):
    def run(commands, folder):
        """Run the lines of a block as a user does; return the exit code and what was printed."""
        done = subprocess.run(
            ["/bin/sh", "-ec", commands],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    return run


class TutorialGateway(Gateway):
    """The gateway by the page's command line."""

    shell_line = ""

    def command(self):
        return ["/bin/sh", "-c", f"exec {self.shell_line}"]


def test_the_tutorial_ends_with_an_event_at_the_sink(shell, environment, tmp_path):
    code, printed = shell(BLOCKS["make"], tmp_path)
    assert code == 0, printed
    project = tmp_path / "meter-binding"

    code, printed = shell(BLOCKS["judge"], project)
    assert code == 1
    assert BLOCKS["missing"] in printed

    fill_in(project / "meter/binding.py")
    code, printed = shell(BLOCKS["judge again"], project)
    assert code == 0, printed
    assert re.search(r"(?m)^(\d+) cases in .*: \1 passed, 0 failed .*, 4 skipped$", printed)
    assert printed.endswith(BLOCKS["judged"])

    code, printed = shell(BLOCKS["install"], project)
    assert code == 0, printed
    code, printed = shell("pytest -q -p no:cacheprovider", project)
    assert code == 0, printed

    run_the_gateway(project, shell, environment)


def run_the_gateway(project, shell, environment):
    """Do section 5 from the configuration on, with ports that are free."""
    port = free_port()
    with HttpRecorder() as recorder:
        ports = {"7117": str(port), "9000": str(recorder.port)}
        written = re.sub("7117|9000", lambda one: ports[one[0]], BLOCKS["gateway.yaml"])
        gateway = TutorialGateway(project, {}, environment)
        more = f"admin: {{listen: '127.0.0.1:{gateway.port}'}}\nstate: {{path: {project}/state}}\n"
        (project / "gateway.yaml").write_text(written + more)
        check, gateway.shell_line = BLOCKS["run"].splitlines()
        code, printed = shell(check, project)
        assert code == 0, printed
        assert f"source roof: meter 127.0.0.1:{port}" in printed
        gateway.start()
        try:
            (project / "station.py").write_text(BLOCKS["station.py"].replace("7117", str(port)))
            assert shell("python station.py", project) == (0, BLOCKS["answered"])
            (request,) = recorder.requests  # nothing to wait for: the answer comes after the event
        finally:
            gateway.finish()
    headers = {name.lower(): value for name, value in request.headers}
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert json.loads(request.body) == json.loads(BLOCKS["event"])
