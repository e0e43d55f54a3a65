import os
import pty
import subprocess
import sys

CODE = """
from gateway.cli.send import _progress
with _progress(3) as advance:
    for _ in range(3):
        advance()
"""


def test_a_terminal_gets_a_bar_and_a_pipe_does_not():
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", CODE], stderr=theirs, check=True)
        assert b"3/3" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    piped = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert (piped.stdout, piped.stderr) == (b"", b"")
