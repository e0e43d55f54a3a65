"""Storms as processes, so that the good senders' waits are the gateway's doing."""

import asyncio
import json
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]


class StormError(Exception):
    """A storm came to no end of its own; the text is what it said."""


async def storm(
    kind: str, port: int, count: int, *, seed: int = 0, seconds: float = 0
) -> dict[str, float]:
    """Run a storm to its end and return its report; it is killed if this is cancelled.

    Args:
        kind: of `frames.FRAMES` or of `floods.FLOODS`.
        port: where to.
        count: of frames, datagrams or connections.
        seed: of the frames.
        seconds: how long a flood may take.

    Raises:
        StormError: it failed.
    """
    words = [kind, *map(str, (port, count, seed, seconds))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.storms", *words, cwd=_ROOT, env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StormError(f"{kind}: {error.decode()[-2000:]}")
    report: dict[str, float] = json.loads(out)
    return report
