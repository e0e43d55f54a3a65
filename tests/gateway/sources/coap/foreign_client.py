"""aiocoap as the client of a source's connections."""

import asyncio
from contextlib import asynccontextmanager

import aiocoap
from aiocoap.numbers.codes import Code


@asynccontextmanager
async def aiocoap_client(transports, tls=None):
    """Open a client that has only these transports; `tls` is its context for secured schemes."""
    client = await aiocoap.Context.create_client_context(transports=transports)
    if tls is not None:
        client.client_credentials.ssl_client_context = lambda scheme, _: (
            tls if scheme.startswith("coaps") else None
        )
    try:
        yield client
    finally:
        await client.shutdown()


async def ask(client, url, *, code=Code.POST, payload=b"1", **options):
    request = aiocoap.Message(code=code, uri=url, payload=payload, **options)
    async with asyncio.timeout(10):
        return await client.request(request).response
