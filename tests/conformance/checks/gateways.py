"""A gateway with one mistake, made of ours, for the tests of the families over the wire."""

from contextlib import asynccontextmanager

from conformance.own.source import own_source
from conformance.suite import run_one


class Mistaken:
    """Our source, and what it says or does wrong.

    Args:
        target: our source.
        sink: what it takes its sink to say.
        events: what it makes of the events that come out.
        settings: what it makes of the settings that it is started with.
        drains: whether it shuts down when it is told to.
        patience: the longest time that an event is waited for.
    """

    is_broker = False

    def __init__(
        self,
        target,
        *,
        sink=lambda answer: answer,
        events=lambda found: found,
        settings=lambda table: table,
        drains=True,
        patience=0.3,
    ):
        self._target = target
        self._sink, self._events, self._settings, self._drains = sink, events, settings, drains
        self._patience = patience
        self.title, self.protocol = target.title, target.protocol
        self.url, self.urls = target.url, target.urls

    def sink_answers(self, answer):
        self._target.sink_answers(self._sink(answer))

    def forget(self):
        self._target.forget()

    async def events(self, count, seconds=5.0):
        return self._events(list(await self._target.events(count, min(seconds, self._patience))))

    async def asked(self, seconds=5.0):
        await self._target.asked(seconds)

    async def drain(self):
        if self._drains:
            await self._target.drain()

    @asynccontextmanager
    async def variant(self, **settings):
        async with self._target.variant(**self._settings(settings)) as other:
            yield Mistaken(
                other, sink=self._sink, events=self._events, settings=self._settings,
                drains=self._drains, patience=self._patience,
            )  # fmt: skip


async def failures(checks, protocol, mistake=None, *, only=()):
    """Return the text of each check of a protocol that fails, by id.

    Args:
        checks: of a family.
        protocol: of the target.
        only: parts of ids; empty means all.
        mistake: the mistake, as arguments of `Mistaken`; None judges ours as it is.
    """
    async with own_source(protocol) as target:
        subject = target if mistake is None else Mistaken(target, **mistake)
        results = [
            await run_one(check, subject)
            for check in checks
            if check.protocol == protocol and (not only or any(part in check.id for part in only))
        ]
    assert results
    return {result.check.id: result.text for result in results if result.status == "failed"}
