"""Starts `ce-gateway` as a user does, and reads what it prints as it comes."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def ce_gateway(*arguments, **environ) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.terminate()  # not killed: it has a server of its own to stop
            await process.communicate()
        # The transports' pipes are closed a moment after the end.
        process._transport.close()


async def read_until(stream, word) -> str:
    """Return the first line with `word` in it."""
    while line := (await stream.readline()).decode():
        if word in line:
            return line
    raise AssertionError(f"ended without {word!r}")
