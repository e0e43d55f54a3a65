# noqa: INP001 - a script, for docker-compose.yml
"""Make a JetStream stream unless it is there: make_stream.py URL FILE; FILE has the request."""

import asyncio
import json
import sys
from pathlib import Path

import nats


async def ask(url: str, subject: str, request: bytes) -> str:
    """Send a request of the JetStream API; return its error, or nothing."""
    client = await nats.connect(url)
    answer = json.loads((await client.request(subject, request, timeout=10)).data)
    await client.close()
    return json.dumps(answer["error"]) if "error" in answer else ""


if __name__ == "__main__":
    wanted = Path(sys.argv[2]).read_bytes()
    create = f"$JS.API.STREAM.CREATE.{json.loads(wanted)['name']}"
    sys.exit(asyncio.run(ask(sys.argv[1], create, wanted)) or 0)
