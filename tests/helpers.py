"""Shared by the tests: how many examples, an intake that records, and a throw-away CA."""

import asyncio
import datetime
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bindings.binding import Message
from bindings.event import Event
from gateway.delivery import ACCEPTED, Delivery, Failure, Outcome, Reason, Settlement
from gateway.interfaces import OnKept
from gateway.spool import StoreError

EXAMPLES = float(os.environ.get("EXAMPLES") or 0.25)
"""The share of a property's examples that is drawn; `make fuzz` draws ten times all of them."""


def examples(count: int) -> int:
    """Return how many of a property's examples to draw, at least ten."""
    return max(10, round(count * EXAMPLES))


class RecordingIntake:
    """The gateway as a source sees it: records what comes in, settles as it is told.

    `answer` is called for each delivery; None leaves it pending for the test to settle.
    """

    def __init__(
        self, answer: Callable[[Delivery], Settlement | None] = lambda _: ACCEPTED
    ) -> None:
        self.answer = answer
        self.deliveries: list[Delivery] = []
        self.rejections: list[tuple[str, str]] = []
        self.kept: list[Message] = []
        self.keep_error: StoreError | None = None  # what `undecodable` answers
        self.keeping: list[OnKept] | None = None  # a list: it answers nothing, and puts them there
        self.room = asyncio.Event()
        self.room.set()
        self._changed = asyncio.Event()

    @property
    def events(self):
        return [event for delivery in self.deliveries for event in delivery.events]

    async def submit(self, deliveries: Sequence[Delivery]) -> None:
        await self.room.wait()
        self._take(deliveries)

    def try_submit(self, deliveries: Sequence[Delivery]) -> bool:
        if not self.room.is_set():
            return False
        self._take(deliveries)
        return True

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        self.rejections.extend([(reason, detail)] * count)
        self._changed.set()

    def undecodable(self, message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        if self.keep_error is None:
            self.kept.append(message)
        self.rejected(reason, detail)
        if self.keeping is None:
            on_kept(self.keep_error)
        else:
            self.keeping.append(on_kept)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries.extend(deliveries)
        for delivery in deliveries:
            settlement = self.answer(delivery)
            if settlement is not None:
                delivery.settle(settlement)
        self._changed.set()

    async def wait_for(
        self, condition: Callable[["RecordingIntake"], bool], seconds: float = 10
    ) -> None:
        """Return when `condition(self)` holds; it is checked after each arrival."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


@dataclass(frozen=True)
class Certificates:
    """PEM files of a throw-away CA, a server (localhost, 127.0.0.1) and a client ("device-1")."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path, authority: str = "test CA") -> Certificates:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def issue(common_name, issuer=None, issuer_key=None, *, is_ca=False):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer or name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                    if common_name == "localhost"
                    else [x509.DNSName(common_name)]
                ),
                critical=False,
            )
        return builder.sign(issuer_key or key, hashes.SHA256()), key, name

    def write(name, certificate, key):
        cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_path, key_path

    ca_cert, ca_key, ca_name = issue(authority, is_ca=True)
    server, server_key, _ = issue("localhost", ca_name, ca_key)
    client, client_key, _ = issue("device-1", ca_name, ca_key)
    ca_path, _ = write("ca", ca_cert, ca_key)
    return Certificates(
        ca_path, *write("server", server, server_key), *write("client", client, client_key)
    )


def make_event(number: int = 1, *, source: str = "/devices/dev1", **changes: object) -> Event:
    """An event that is like its neighbours but for its id."""
    return Event(**{"id": str(number), "source": source, "type": "com.example.test", **changes})


class ScriptedSink:
    """A sink that records its lists and answers each event by a script.

    `script(event)` returns None for accepted, or (outcome, reason) and further fields of Failure.
    While `gate` is clear, `send` does not answer.
    """

    def __init__(self, script: Callable[[Event], Failure | None] = lambda _: None) -> None:
        self.script = script
        self.lists: list[list[Event]] = []
        self.taken: list[Event] = []
        self.timeouts: list[float | None] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def open(self) -> None: ...

    async def send(self, events: Sequence[Event], timeout: float | None = None) -> list[Failure]:
        self.lists.append(list(events))
        self.timeouts.append(timeout)
        self.called.set()
        await self.gate.wait()
        failures = []
        held: set[str] = set()
        for position, event in enumerate(events):
            if event.key in held:
                failures.append(Failure(position, Outcome.RELEASED, Reason.HELD))
                continue
            failure = self.script(event)
            if failure is None:
                self.taken.append(event)
                continue
            failures.append(msgspec.structs.replace(failure, position=position))
            if failure.outcome is Outcome.RELEASED:
                held.add(event.key)
        return failures

    async def close(self) -> None: ...


class Answers:
    """Collects settlements by event id and lets a test wait for them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Settlement] = {}
        self.order: list[str] = []
        self._changed = asyncio.Event()

    def delivery(self, *events: Event) -> Delivery:
        def on_settled(settlement: Settlement) -> None:
            for event in events:
                assert event.id not in self.by_id, "settled twice"
                self.by_id[event.id] = settlement
                self.order.append(event.id)
            self._changed.set()

        return Delivery(events, on_settled)

    async def count(self, number: int, seconds: float = 10) -> None:
        """Return when `number` events are settled."""
        async with asyncio.timeout(seconds):
            while len(self.by_id) < number:
                self._changed.clear()
                await self._changed.wait()
