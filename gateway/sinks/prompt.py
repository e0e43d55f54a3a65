"""What sinks have in common that tell of the end of a list by themselves (`PromptSink`)."""

import asyncio
from collections.abc import Sequence

from bindings.event import Event
from gateway.delivery import Failure
from gateway.interfaces import PromptSink


async def send(
    sink: PromptSink, events: Sequence[Event], timeout: float | None
) -> Sequence[Failure]:
    """Do as `Sink.send` does: start sending, and wait for the end."""
    ended: asyncio.Future[Sequence[Failure]] = asyncio.get_running_loop().create_future()

    def on_ended(failures: Sequence[Failure]) -> None:
        if not ended.done():  # else the caller has been cancelled, and does not know it yet
            ended.set_result(failures)

    sending = sink.start_sending(events, timeout, on_ended, None)
    try:
        return await ended
    except asyncio.CancelledError:
        sending.cancel()
        raise
