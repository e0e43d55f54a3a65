"""The source itself: one session, kept up from `open` to `close`."""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Sequence
from typing import ClassVar, Final

from bindings.event import Event
from bindings.wire.mqtt import V5, V311, Ack, Publish, Version
from bindings.wire.mqtt.reason import describe
from gateway.interfaces import Intake
from gateway.sources.backlog import Backlog, Gate
from gateway.sources.mqtt.client import BrokerClient, BrokerRefusedError
from gateway.sources.mqtt.config import MqttSourceConfig
from gateway.sources.mqtt.dial import dial
from gateway.sources.mqtt_exchange import Receiver
from gateway.sources.mqtt_message import MessageDecoder
from gateway.tasks import Tasks
from gateway.tls import client_context

_log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10.0
"""For the connection, and then for each silence until SUBACK."""
_MOST_AHEAD: Final = 8 * 2**20
"""What is read on the way to SUBACK although there is no room for it, in the unit of `load`."""
_FIRST_DELAY: Final = 0.2
_LAST_DELAY: Final = 15.0
_ABSENT_DELAY: Final = 1.0
"""Longest pause while nobody is there, so that we are back soon after the broker is."""
_SUBSCRIBE_AGAIN_SECONDS: Final = 30.0


class MqttSource:
    """Takes messages from a broker and acknowledges what is safe."""

    config_type: ClassVar = MqttSourceConfig

    def __init__(self, config: MqttSourceConfig) -> None:
        self._config = config
        self._version: Version = V5 if config.version == "5" else V311
        self._decoder = MessageDecoder(
            config.event, config.limits.max_event_bytes, bare_json=config.bare_json
        )
        self._facts = {"client_id": config.client_id} if config.client_id else {}
        self._tasks = Tasks(f"mqtt {config.name}")
        self._backlog = Backlog(self._tasks, config.limits.inflight)
        self._context: ssl.SSLContext | None = None
        self._client: BrokerClient | None = None
        self._receiver: Receiver | None = None
        self._gate: Gate | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._complaint = ""
        self._lost = False
        self._draining = False

    async def open(self, intake: Intake) -> None:
        """Connect and subscribe; returns when every subscription is granted.

        Raises:
            GatewayError: a certificate can't be read.
        """
        if self._config.wants_tls:
            self._context = client_context(self._config.tls)
        self._backlog.open(intake)
        self._gate = Gate(intake, self._backlog, self._tasks)
        self._receiver = Receiver(
            self._decode, intake, self._backlog, self._on_progress, of_broker=True
        )
        self._tasks.start(self._run(), "connection")
        await self._ready.wait()

    async def drain(self) -> None:
        """Stop reading, answer what is under way, then disconnect; the broker keeps the rest."""
        self._draining = True
        self._backlog.close()
        if self._client is not None:
            self._client.pause()
        if self._receiver is not None and not self._receiver.is_idle:
            self._idle.clear()
            await self._idle.wait()
        if self._client is not None:
            self._client.leave()

    async def close(self) -> None:
        self._draining = True
        self._backlog.close()
        await self._tasks.close()
        if self._client is not None:
            self._client.leave()

    @property
    def owes(self) -> bool:
        """Whether the session has messages without an answer, or nobody knows: it is not there."""
        client, receiver = self._client, self._receiver
        if client is None or receiver is None or not client.granted.done():
            return True
        return receiver.unanswered > 0

    async def _run(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        delay = _FIRST_DELAY
        is_absent = False
        loop = asyncio.get_running_loop()
        while not self._draining:
            was_absent, is_absent = is_absent, False
            try:
                client = await self._connect()
            except (OSError, UnicodeError, BrokerRefusedError) as error:
                is_absent = isinstance(error, OSError)
                # That a lost broker is still away is no news; what it says when it is back is.
                is_news = not (self._lost and isinstance(error, OSError))
                if is_news and not self._draining:
                    self._complain(str(error) or "no answer in time")
            else:
                began = loop.time()
                await self._stay(client)
                if loop.time() - began > _LAST_DELAY:
                    delay = _FIRST_DELAY  # else two with one client_id take turns for ever
            if self._draining:
                return
            if is_absent:
                delay = min(delay, _ABSENT_DELAY)
            elif was_absent:
                delay = _FIRST_DELAY  # it has come back, and may need a moment
            await asyncio.sleep(delay * (1 + random.random() / 2))  # noqa: S311 - no secret
            delay = min(delay * 2, _LAST_DELAY)
            assert self._gate is not None  # noqa: S101 - set by `open`
            # What came last is still waiting for room; more would overtake it.
            await self._gate.opened()

    async def _connect(self) -> BrokerClient:
        """Return a client whose SUBACK has come.

        Raises:
            OSError: nobody there, TLS failed, or no answer in time.
            BrokerRefusedError: the broker said no.
        """
        host, port = self._config.address
        async with asyncio.timeout(_CONNECT_SECONDS):
            sock = await dial(host, port, self._context)
        client = BrokerClient(
            self._config, sock, self._on_session, self._on_packets, self._disconnected
        )
        self._client = client
        try:
            client.start()
            await self._see_suback(client)
        except BaseException:
            client.abort()
            raise
        if self._draining and not client.lost.done():
            client.leave()
        if client.lost.done():
            client.abort()
            raise BrokerRefusedError(client.lost.result())
        return client

    async def _see_suback(self, client: BrokerClient) -> None:
        """Return when SUBACK has come, or the connection has ended.

        A broker that kept the session sends its backlog before SUBACK. As long as it sends, or
        nothing is read since there is no room, it is not to blame that SUBACK has yet to come.

        Raises:
            TimeoutError: the broker is silent.
        """
        ends = (client.granted, client.lost)
        while not any(end.done() for end in ends):
            left = _CONNECT_SECONDS
            if not client.paused:
                left += client.heard - asyncio.get_running_loop().time()
                if left <= 0:
                    raise TimeoutError
            await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        self._pause_if_full(client)

    async def _stay(self, client: BrokerClient) -> None:
        """See the subscriptions granted, then wait for the end of the connection."""
        while not client.lost.done():
            if self._are_granted(client):
                self._ready.set()
                self._complaint = ""
                self._lost = False
                _log.info("source %s: connected to %s", self._config.name, self._config.url)
                self._tell_share(client)
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_AGAIN_SECONDS):
                    await asyncio.shield(client.lost)
            if not client.lost.done():
                client.subscribe_all()
                await asyncio.wait(
                    (client.granted, client.lost), return_when=asyncio.FIRST_COMPLETED
                )
        reason = await client.lost
        client.abort()
        if not self._draining:
            self._lost = True
            self._complain(reason, "lost")

    def _tell_share(self, client: BrokerClient) -> None:
        """Say so if the broker has no shared subscriptions, which several workers asked for."""
        if client.topics == self._config.topics(shares=True):
            return
        _log.warning(
            "source %s: the broker has no shared subscriptions: %s",
            self._config.name,
            "this worker takes all messages" if client.topics else "worker 0 takes all messages",
        )

    def _are_granted(self, client: BrokerClient) -> bool:
        codes = client.granted.result()
        refused = []
        for (name, qos), code in zip(client.topics, codes, strict=False):
            if code >= 0x80:
                refused.append(f"{name!r} ({describe(code)})")
            elif code < qos:
                _log.warning(
                    "source %s: %r is granted with QoS %d, not %d",
                    self._config.name, name, code, qos,
                )  # fmt: skip
        if not refused and len(codes) == len(client.topics):
            return True
        text = ", ".join(refused) or "SUBACK does not fit SUBSCRIBE"
        if self._complaint != text:
            self._complaint = text
            _log.error("source %s: the broker refused to subscribe %s", self._config.name, text)
        return False

    def _complain(self, text: str, what: str = "no connection to") -> None:
        """Log a state change once, not each attempt."""
        if self._complaint != text:
            self._complaint = text
            _log.warning("source %s: %s %s: %s", self._config.name, what, self._config.url, text)

    def _disconnected(self) -> None:
        client, self._client = self._client, None
        if self._receiver is not None:
            self._receiver.disconnect()
            if client is not None and client.is_taken_over:
                # Who has the session acknowledges there, and the identifiers go to new messages.
                self._receiver.lose()

    def _on_session(self, session_present: bool) -> None:  # noqa: FBT001 - paho's callback
        assert self._receiver is not None  # noqa: S101 - set by `open`
        assert self._client is not None  # noqa: S101 - it calls this
        self._receiver.connect(self._client.send, self._version)
        if not session_present:
            self._receiver.lose()
            if self._ready.is_set() and not self._config.clean:
                _log.warning(
                    "source %s: the broker has lost the session, and what it had queued for us",
                    self._config.name,
                )

    def _on_packets(self, packets: Sequence[Publish | Ack]) -> None:
        assert self._receiver is not None  # noqa: S101 - set by `open`
        assert self._gate is not None  # noqa: S101 - set by `open`
        self._gate.submit(self._receiver.take(packets), self._on_progress)
        if self._client is not None:
            self._pause_if_full(self._client)

    def _pause_if_full(self, client: BrokerClient) -> None:
        reads_ahead = not client.granted.done() and client.load <= _MOST_AHEAD
        if not reads_ahead and not self._has_room(self._config.receive_maximum):
            client.pause()

    def _decode(self, message: Publish) -> Sequence[Event]:
        return self._decoder.decode(message, self._version, self._facts)

    def _has_room(self, limit: int) -> bool:
        assert self._receiver is not None  # noqa: S101 - set by `open`
        assert self._gate is not None  # noqa: S101 - set by `open`
        # Brokers send more than the receive maximum (Mosquitto 2.0.11 does), hence the count.
        return not self._gate.is_shut and self._receiver.unanswered <= limit

    def _on_progress(self) -> None:
        client = self._client
        if self._receiver is not None and self._receiver.is_idle:
            self._idle.set()
        if (
            client is not None
            and client.paused
            and not self._draining
            and self._has_room(self._config.receive_maximum // 2)
        ):
            client.resume()
