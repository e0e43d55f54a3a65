"""The HTTP sink: lists of events become requests, answers become failures.

A call of `send` is a `Job`: chains of events, one a key, whose heads may be under way at the same
time. The pool takes the next request from the oldest job that has one.

At least once: a request that dies on a reused connection before any answer is repeated once, at
once, on a new one; the receiver may then have read it twice, with the same id.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import msgspec

from bindings.event import Event
from bindings.http import join_batch
from bindings.json_format import encode_event
from gateway.delivery import Failure, Outcome, Reason
from gateway.interfaces import OnAccepted, OnEnded, Sending
from gateway.sinks import prompt
from gateway.sinks.http.config import HttpSinkConfig
from gateway.sinks.http.connection import Answer, Request
from gateway.sinks.http.job import Chain, Job, held
from gateway.sinks.http.pool import Pool
from gateway.sinks.http.target import Target
from gateway.sinks.http.verdict import failure
from gateway.sinks.http.webhook import Webhook
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)


class HttpSink:
    """Delivers events by HTTP POST."""

    config_type: ClassVar[type[HttpSinkConfig]] = HttpSinkConfig

    def __init__(self, config: HttpSinkConfig) -> None:
        self._config = config
        self._batch = config.batch  # asked for each event; a record of pydantic takes its time
        self._target: Target | None = None
        self._pool: Pool | None = None
        self._webhook: Webhook | None = None
        self._on_resumed: list[Callable[[], None]] = []
        self._jobs: deque[Job] = deque()
        self._ready = 0
        self._timeout = config.timeout
        self._down = False
        self._is_failing = False
        self._lines = Throttle()

    async def open(self) -> None:
        config = self._config
        target = self._target = Target(config, os.environ)
        self._timeout = target.timeout
        self._pool = Pool(
            target.endpoint,
            self,
            size=config.connections,
            timeout=self._timeout,
            idle_timeout=config.idle_timeout,
        )
        if config.webhook is not None:
            self._webhook = Webhook(config.name, config.webhook, target, self)
            await self._webhook.open()

    async def send(
        self,
        events: Sequence[Event],
        timeout: float | None = None,
    ) -> Sequence[Failure]:
        return await prompt.send(self, events, timeout)

    def start_sending(
        self,
        events: Sequence[Event],
        timeout: float | None,
        on_ended: OnEnded,
        on_accepted: OnAccepted | None,
    ) -> Sending:
        pool, jobs = self._pool, self._jobs
        assert pool is not None  # noqa: S101 - for the type checker
        seconds = self._timeout if timeout is None else timeout
        job = Job(self, events, seconds, on_ended, on_accepted)
        job.divide(self._chains(events))
        if self._webhook is not None:
            job.deadline = asyncio.get_running_loop().time() + seconds
        # Routes may differ: who waits least long may not wait longer for a connection.
        pool.timeout = min(seconds, *[other.timeout for other in jobs]) if jobs else seconds
        jobs.append(job)
        self._ready += len(job.ready)
        if self._is_failing:
            asyncio.get_running_loop().call_soon(self.wake)
        else:
            pool.wake()
        return job

    def cancel(self, job: Job) -> None:
        """Send nothing more of a job."""
        self._ready -= len(job.ready)
        job.ready.clear()
        if job in self._jobs:
            self._jobs.remove(job)

    def on_resumed(self, callback: Callable[[], None]) -> None:
        self._on_resumed.append(callback)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        if self._webhook is not None:
            await self._webhook.close()

    def _chains(self, events: Sequence[Event]) -> Iterable[Sequence[int]]:
        """Return the positions of each chain."""
        count = len(events)
        if count == 1 or self._config.batch:
            # Batches go one after the other, so order needs no more.
            return (range(count),)
        if not self._config.ordered:
            return [(position,) for position in range(count)]
        by_key: dict[str, list[int]] = {}
        for position, event in enumerate(events):
            key = event.key
            if key in by_key:
                by_key[key].append(position)
            else:
                by_key[key] = [position]
        return by_key.values()

    # What the pool asks for.

    def ready(self) -> int:
        """Return how many requests could be sent now."""
        return self._ready if self._webhook is None else self._allowed(self._webhook)

    def next(self) -> Request | None:
        """Take the next request of the oldest job that has one."""
        webhook, jobs = self._webhook, self._jobs
        if webhook is not None:
            if self._allowed(webhook) == 0:
                return None
            request = webhook.take(jobs[0].timeout)
            if request is not None:
                return request
        while jobs:
            job = jobs[0]
            if job.ready:
                self._ready -= 1
                chain = job.ready.popleft()
                if webhook is not None:
                    chain.consent = webhook.consent
                try:
                    chain.renew(self._encode(job, chain))
                except Exception as error:  # noqa: BLE001 - a bug must not hang all who share this
                    self._skip(job, chain, error)
                    continue
                return chain
            jobs.popleft()  # it comes back when one of its chains goes on
        return None

    def fail(self, answer: Answer) -> None:
        """Fail everything that waits: the receiver can't be reached."""
        first = failure(0, answer, token_may_change=False, now=time.time())
        if first is not None and self._ready:
            self._note(answer)
            self._fail_waiting(first)

    def wake(self) -> None:
        """Send what may be sent, fail what may not: the receiver's consent has changed."""
        if self._ready and self._pool is not None:
            self._pool.wake()

    def resume(self) -> None:
        """Ask for the events that were released for want of consent: it has come."""
        for callback in self._on_resumed:
            callback()

    def _allowed(self, webhook: Webhook) -> int:
        """Return how many requests may go now; fails what the receiver does not want."""
        if not self._ready:
            return 0
        refusal = webhook.refusal()
        if refusal is not None:
            self._fail_waiting(refusal)
            return 0
        room = webhook.room(self._ready)
        if room == 0 and not webhook.asking:
            self._wait_for_turn(webhook)
        return room

    def _wait_for_turn(self, webhook: Webhook) -> None:
        """Release what has waited for its turn as long as an attempt may take."""
        now = asyncio.get_running_loop().time()
        late = [job for job in self._jobs if job.deadline <= now]
        for job in late:  # all are out before one is told, who may start another list and come here
            self._jobs.remove(job)
            self._ready -= len(job.ready)
        for job in late:
            self._fail_job(job, webhook.too_early())
        if self._jobs:
            webhook.wake_by(min(job.deadline for job in self._jobs))

    def _fail_waiting(self, first: Failure) -> None:
        """Fail every chain whose next request could be sent; `first` is of any position."""
        jobs, self._jobs = self._jobs, deque()
        self._ready = 0
        for job in jobs:
            self._fail_job(job, first)

    def _fail_job(self, job: Job, first: Failure) -> None:
        chains = list(job.ready)
        job.ready.clear()
        for chain in chains:
            job.fail(chain.waiting, first)
            self._end_chain(job)

    def _skip(self, job: Job, chain: Chain, error: Exception) -> None:
        """Release an event that can't be encoded."""
        if self._batch and not chain.alone and len(chain.waiting) > 1:
            chain.alone = len(chain.waiting)  # each on its own shows which it is
        else:
            name = type(error).__name__
            more = self._lines.pass_on(name)
            if more is not None:
                what = "sink %s: an event can't be encoded%s"
                _log.error(what, self._config.name, more, exc_info=error)
            chain.first, chain.last = chain.last, chain.last + 1
            position = chain.under_way[0]
            failed = Failure(position, Outcome.RELEASED, Reason.SINK_DOWN, detail=name)
            job.failures.append(failed)
            self._hold(job, chain)
        if chain.last < len(chain.positions):
            self._go_on(job, chain)
        else:
            self._end_chain(job)

    def _end_chain(self, job: Job) -> None:
        """Count the end of a chain of which nothing is under way.

        The pool may be asking for a request: what begins because of it is for the next turn.
        """
        self._is_failing = True
        try:
            job.end_chain()
        finally:
            self._is_failing = False

    # Requests and answers.

    def _encode(self, job: Job, chain: Chain) -> bytes:
        target = self._target
        assert target is not None  # noqa: S101 - for the type checker
        if self._batch:
            return self._encode_batch(target, job, chain)
        first = chain.last
        data = target.deliver(job.events[chain.positions[first]])
        chain.first, chain.last = first, first + 1
        return data

    def _encode_batch(self, target: Target, job: Job, chain: Chain) -> bytes:
        """Take as many events as one batch holds."""
        config = self._config
        payloads: list[bytes] = []
        size = 2
        most = 1 if chain.alone else config.batch_events
        for position in chain.waiting[:most]:
            payload = encode_event(target.prepare(job.events[position]))
            size += len(payload) + 1
            if payloads and size > config.batch_bytes:
                break
            payloads.append(payload)
        data = target.request(join_batch(payloads))
        chain.first, chain.last = chain.last, chain.last + len(payloads)
        if chain.alone:
            chain.alone -= 1
        return data

    def answered(self, job: Job, chain: Chain, answer: Answer) -> None:
        """Judge the answer to what a chain has under way, and let it go on."""
        status = answer.status
        if status is not None and 200 <= status < 300:
            if self._down:
                self._note(answer)
            chain.retried_token = False
            if job.reports:
                job.accepted += chain.under_way
        elif self._is_to_be_repeated(chain, status):
            chain.put_back()
        else:
            self._judge(job, chain, answer)
        if chain.last < len(chain.positions):
            self._go_on(job, chain)
        else:
            job.end_chain()

    def _is_to_be_repeated(self, chain: Chain, status: int | None) -> bool:
        """Whether a refusal is only of the token, or the webhook's consent, of that time."""
        target, webhook = self._target, self._webhook
        assert target is not None  # noqa: S101 - for the type checker
        if status == 401 and not chain.retried_token and target.renew_token():
            chain.retried_token = True
            return True
        chain.retried_token = False
        return status == 403 and webhook is not None and webhook.doubt(chain.consent)

    def _judge(self, job: Job, chain: Chain, answer: Answer) -> None:
        """Note the failure of what is under way."""
        target, positions = self._target, chain.under_way
        assert target is not None  # noqa: S101 - for the type checker
        if self._webhook is not None:
            self._webhook.observe(answer)
        self._note(answer)
        first = failure(
            positions[0], answer, token_may_change=target.token_may_change, now=time.time()
        )
        if first is None:
            job.accepted += positions
            return
        if first.outcome is Outcome.REJECTED and len(positions) > 1:
            # One bad event spoils a batch: each on its own shows which it was.
            chain.alone = len(positions)
            chain.put_back()
            return
        for position in positions:
            job.failures.append(msgspec.structs.replace(first, position=position))
        if first.outcome is Outcome.RELEASED:
            self._hold(job, chain)

    @staticmethod
    def _hold(job: Job, chain: Chain) -> None:
        """Report the later events of the keys that failed as not attempted."""
        failed = {job.events[position].key for position in chain.under_way}
        later: list[int] = []
        for position in chain.waiting:
            if job.events[position].key in failed:
                job.failures.append(held(position))
            else:
                later.append(position)
        chain.positions, chain.first, chain.last = later, 0, 0

    def _go_on(self, job: Job, chain: Chain) -> None:
        if job.is_ended:  # the caller has been cancelled
            return
        if not job.ready and job not in self._jobs:
            self._jobs.append(job)
        job.ready.append(chain)
        self._ready += 1

    def _note(self, answer: Answer) -> None:
        """Log when the receiver stops answering, and when it answers again; not each time."""
        if answer.status is None:
            more = None if self._down else self._lines.pass_on("down")
            if more is not None:
                self._down = True
                extra = {"sink": self._config.name, "reason": answer.error}
                what = "sink %s does not answer: %s%s"
                _log.warning(what, self._config.name, answer.error, more, extra=extra)
        elif self._down:
            self._down = False
            _log.warning(
                "sink %s answers again", self._config.name, extra={"sink": self._config.name}
            )
