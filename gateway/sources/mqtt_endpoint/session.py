"""Sessions by client identifier, and what all connections share."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bindings.event import Event
from bindings.wire.mqtt import V5, Publish, Version
from gateway.interfaces import Intake
from gateway.sources.backlog import Backlog, Gate
from gateway.sources.mqtt_endpoint.config import MqttEndpointConfig
from gateway.sources.mqtt_exchange import Receiver
from gateway.sources.mqtt_message import MessageDecoder
from gateway.tasks import Tasks

if TYPE_CHECKING:
    from gateway.sources.mqtt_endpoint.connection import Connection


def _nothing() -> None:
    """Nobody is connected."""


class Session:
    """One client identifier's state (section 4.1); it outlives its connections.

    Attributes:
        client_id: its name.
        receiver: its open packet identifiers.
        gate: where its messages go in, those of its last connection before those of the next.
        connection: what it has, if any.
        on_progress: called when answers have left.
        version: of the connection it has.
        facts: what templates may say of the connection.
        expires_after: seconds that it is kept without a connection.
        expires_at: monotonic seconds; None while connected.
    """

    def __init__(self, client_id: str, host: "Host") -> None:
        self.client_id = client_id
        self._decoder = host.decoder
        self.receiver = Receiver(self._decode, host.intake, host.backlog, self._progress)
        self.gate = Gate(host.intake, host.backlog, host.tasks)
        self.connection: Connection | None = None
        self.on_progress: Callable[[], None] = _nothing
        self.version: Version = V5
        self.facts: Mapping[str, str] = {}
        self.expires_after = 0.0
        self.expires_at: float | None = None

    def _decode(self, message: Publish) -> Sequence[Event]:
        return self._decoder.decode(message, self.version, self.facts)

    def _progress(self) -> None:
        self.on_progress()


class Host:
    """What the connections of one endpoint share."""

    def __init__(self, config: MqttEndpointConfig, intake: Intake) -> None:
        self.config = config
        self.intake = intake
        self.decoder = MessageDecoder(config.event, config.limits.max_event_bytes)
        self.tasks = Tasks(f"mqtt-endpoint {config.name}")
        self.backlog = Backlog(self.tasks, config.limits.inflight)
        self.backlog.open(intake)
        self.connections: set[Connection] = set()
        self.draining = False
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def session(self, client_id: str, *, clean: bool) -> tuple[Session, bool]:
        """Return the session of a client that connects, and whether it was there before."""
        now = asyncio.get_running_loop().time()
        session = self._sessions.pop(client_id, None)
        present = session is not None and not clean and not _is_over(session, now)
        if session is None or not present:
            older, session = session, Session(client_id, self)
            if older is not None:
                older.receiver.lose()
                session.gate = older.gate
        session.expires_at = None
        self._sessions[client_id] = session
        self._bound(now)
        return session, present

    def find(self, client_id: str) -> "Connection | None":
        """Return the connection that a client has."""
        session = self._sessions.get(client_id)
        return session.connection if session is not None else None

    def release(self, session: Session) -> None:
        """Keep a session whose connection has ended for its time, or forget it."""
        if self._sessions.get(session.client_id) is not session:
            return
        if session.expires_after > 0:
            session.expires_at = asyncio.get_running_loop().time() + session.expires_after
            self._sessions.move_to_end(session.client_id)
        else:
            del self._sessions[session.client_id]
            session.receiver.lose()

    def _bound(self, now: float) -> None:
        """Forget the oldest sessions without a connection when there are too many."""
        excess = len(self._sessions) - self.config.max_connections
        if excess <= 0:
            return
        waiting = [each for each in self._sessions.values() if each.expires_at is not None]
        gone = [each for each in waiting if _is_over(each, now)] or waiting[:excess]
        for session in gone:
            del self._sessions[session.client_id]
            session.receiver.lose()


def _is_over(session: Session, now: float) -> bool:
    return session.expires_at is not None and session.expires_at <= now
