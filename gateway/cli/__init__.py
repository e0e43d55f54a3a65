"""The commands of `ce-gateway`: one module each, with a function `command`.

A command's module is imported when that command is called, so that each starts fast.
"""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
BAD_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits.h: a supervisor need not try again."""
