"""The Kafka sink: events as records, through librdkafka's idempotent producer (acks=all)."""

import asyncio
import logging
from collections.abc import Sequence
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException

from bindings.event import Event
from gateway.config.records import SinkConfig
from gateway.delivery import Failure, Reason
from gateway.errors import GatewayError
from gateway.interfaces import OnAccepted, OnEnded, Sending
from gateway.sinks import prompt
from gateway.sinks.kafka.config import ONE_BY_ONE, KafkaSinkConfig, librdkafka_settings
from gateway.sinks.kafka.job import Job
from gateway.sinks.kafka.producer import Client
from gateway.sinks.kafka.records import Records
from gateway.tasks import Tasks
from gateway.throttle import Throttle
from gateway.tls import client_context

__all__ = ["KafkaSink", "KafkaSinkConfig"]

_log = logging.getLogger(__name__)

_UNREACHED_SECONDS: Final = 10.0
"""Until what waits for brokers is released, none of which has been reached before."""
_HURRY_SECONDS: Final = 2.0
"""The same before a shutdown, and if they have; librdkafka tries again within this time."""
_MAX_TROUBLES: Final = 3
_UNANSWERED: Final = {Reason.TIMEOUT, Reason.SINK_DOWN}

# Errors of a connection that another attempt does not mend.
_HOPELESS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the library's public name for a local error
        KafkaError._SSL,  # noqa: SLF001 - as above
    }
)


class KafkaSink:
    """A sink of records (see the module)."""

    config_type: ClassVar[type[SinkConfig]] = KafkaSinkConfig

    def __init__(self, config: KafkaSinkConfig) -> None:
        self._config = config
        self._records = Records(config)
        self._tasks = Tasks(f"sink {config.name}")
        self._closed = False
        self._clients: dict[tuple[float, bool], Client] = {}
        self._connected: bool | None = None  # None: not known yet
        self._is_down = False  # no broker could be reached, and nothing got through since
        self._deadline: float | None = None  # of the shutdown that has begun
        self._releasing: asyncio.TimerHandle | None = None
        self._troubles: dict[str, str] = {}  # by broker, what was said last
        self._lines = Throttle()

    async def open(self) -> None:
        if self._config.tls is not None:
            client_context(self._config.tls)  # says which file is wrong; librdkafka does not
        self.client(self._config.timeout)

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        return await prompt.send(self, events, timeout)

    def start_sending(
        self,
        events: Sequence[Event],
        timeout: float | None,
        on_ended: OnEnded,
        on_accepted: OnAccepted | None,  # noqa: ARG002 - records are confirmed together
    ) -> Sending:
        seconds = self._config.timeout if timeout is None else timeout
        job = Job(self, self._records, events, seconds, on_ended)
        job.start()
        return job

    async def close(self) -> None:
        self._closed = True
        if self._releasing is not None:
            self._releasing.cancel()
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()
        await self._tasks.close()

    def client(self, timeout: float, *, one_by_one: bool = False) -> Client:
        """Return the producer whose records time out after `timeout`: it has one time for all.

        Raises:
            GatewayError: there is none yet, and librdkafka does not take the settings; or the sink
                is closed.
        """
        if self._closed:
            raise GatewayError("the sink is closed")
        client = self._clients.get((timeout, one_by_one))
        if client is None:
            settings = librdkafka_settings(self._config, timeout)
            settings |= {
                "error_cb": self._on_error,
                "delivery.report.only.error": True,
                **(ONE_BY_ONE if one_by_one else {}),
            }
            try:
                client = Client(settings, self._config.linger, self._tasks)
            except KafkaException as exception:
                raise GatewayError(exception.args[0].str()) from exception
            self._clients[timeout, one_by_one] = client
        return client

    def hurry(self, deadline: float) -> None:
        self._deadline = deadline
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        self._release_in(_HURRY_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # on the thread of a producer's end, whose troubles are over
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - as above
            self._is_down = True
            if not self._connected:  # of one that was connected its lists tell
                self._note_connection(connected=False)
                self._release_in(_UNREACHED_SECONDS)
            return
        broker, _, _ = (text := error.str()).partition(": ")
        self._troubles[broker] = text
        if len(self._troubles) > _MAX_TROUBLES:
            del self._troubles[next(iter(self._troubles))]
        if code in _HOPELESS:
            self._note_connection(connected=False)

    @property
    def _trouble(self) -> str:
        return "; ".join(self._troubles.values()) or "no answer in time"

    def _release_in(self, seconds: float) -> None:
        if self._releasing is None:
            loop = asyncio.get_running_loop()
            self._releasing = loop.call_later(seconds, self._release)

    def _release(self) -> None:
        """Release what is under way, if there is still nobody to have it."""
        self._releasing = None
        deadline, now = self._deadline, asyncio.get_running_loop().time()
        if self._is_down:
            # Before a shutdown it is not tried again: that would be after the deadline.
            retry_after = None if deadline is None else max(deadline - now, 0.0) + 1.0
            for client in self._clients.values():
                client.release(self._trouble, retry_after)
        if deadline is not None and not self._closed:
            self._release_in(_HURRY_SECONDS)

    def note_outcome(self, size: int, failures: Sequence[Failure]) -> None:
        """Note what has become of a list of this size."""
        if len(failures) < size:
            if self._is_down or not self._connected:
                self._is_down = False
                self._troubles.clear()
                self._note_connection(connected=True)
        elif any(f.status is None and (f.reason in _UNANSWERED or f.retry_after) for f in failures):
            self._note_connection(connected=False)

    def note_suspects(self, count: int) -> None:
        """Say that so many records are sent one by one."""
        more = self._lines.pass_on("suspects", count)
        if more is not None:
            _log.warning(
                "sink %s: Kafka refused %d records of one batch, for one of them or for the size "
                "of all; they are sent one by one. If that comes often, set `batch.size` in "
                "`properties` to less than the topic's max.message.bytes%s",
                self._config.name,
                count,
                more,
                extra={"sink": self._config.name},
            )

    def _note_connection(self, *, connected: bool) -> None:
        """Log a change, once. Brokers close idle connections: what counts is what gets through."""
        if connected is self._connected:
            return
        self._connected = connected
        name, servers = self._config.name, self._config.bootstrap_servers
        extra = {"sink": name}
        if connected:
            _log.info("sink %s is connected to Kafka at %s", name, servers, extra=extra)
        else:
            _log.warning(
                "sink %s has no connection to Kafka at %s: %s",
                name,
                servers,
                self._trouble,
                extra=extra,
            )
