"""`ce-gateway dead-letters`: list, show, replay, purge and export what could not be delivered.

`commands.py` are the commands; `access.py` reaches the letters of a running gateway, `local.py`
those of a stopped one; `display.py` shows them to people.
"""

from gateway.cli.dead_letters.commands import app

__all__ = ["app"]
