"""`ce-gateway send`: the producer that comes along."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bindings.binding import ContentMode
from conformance.forms import Refused, WireEvent
from gateway.cli.senders import SendError, SendOptions
from gateway.cli.senders.coap import CoapSender


class OwnSending:
    """A producer under test (a `Sending`)."""

    title = "ce-gateway send"

    async def send(self, url: str, event: WireEvent, mode: ContentMode) -> str:
        sender = CoapSender(url, SendOptions(mode=mode))
        await sender.open()
        try:
            return await sender.send(event.checked())
        except SendError as error:
            raise Refused(str(error)) from error
        finally:
            await sender.close()


@asynccontextmanager
async def own_sending() -> AsyncIterator[OwnSending]:
    """Return the producer, while the context lasts."""
    yield OwnSending()
