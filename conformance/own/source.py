"""A registered source with an intake that the suite scripts: events come out, answers go back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import ValidationError

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.forms import Refused, WireEvent
from conformance.peers import credentials
from conformance.target import SinkAnswer
from gateway.delivery import ACCEPTED, Delivery, Outcome, Reason, Settlement
from gateway.embedded_nats import EmbeddedNats
from gateway.interfaces import OnKept, Source
from gateway.registry import load

_SETTLEMENTS: Final[Mapping[SinkAnswer, Settlement | None]] = {
    "accept": ACCEPTED,
    "reject": Settlement(Outcome.REJECTED, Reason.SINK_REFUSED),
    "busy": Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.5),
    "down": Settlement(Outcome.RELEASED, Reason.SINK_DOWN),
    "slow": ACCEPTED,
    "hang": None,
}
_SLOW_SECONDS: Final = 1.2

_ANY: Final = {"source_policy": "any"}
_LISTEN: Final = "127.0.0.1:0"

ADAPTERS: Final = {"coap": "coap", "http": "http", "mqtt": "mqtt-endpoint", "nats": "nats"}
"""The registered source that takes a protocol's messages where devices send them."""

SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "coap": {
        "listen": _LISTEN,
        "listen_dtls": _LISTEN,
        "listen_tcp": _LISTEN,
        "listen_ws": _LISTEN,
        "psk": {name: {"key_hex": key.hex()} for name, key in credentials.PSK.items()},
        "ack_after": 0.6,
        "sink_timeout": 5,
        "routes": {
            "/ce": {"mode": "auto", **_ANY},
            "/ce/s": {"mode": "structured", **_ANY},
            "/ce/b": {"mode": "batch", **_ANY},
            "/t": {"mode": "auto", "type": "com.acme.temp.v1", **_ANY},
            "/lab": {"mode": "auto", "lab_formats": True, **_ANY},
            "/auth": {"mode": "auto", "authentication": "required", **_ANY},
            "/own": {"mode": "auto"},
        },
    },
    "http": {"listen": _LISTEN},
    "mqtt-endpoint": {"listen": _LISTEN},
    "nats": {"subjects": ["conformance.>"]},
}
"""How a source is started; a foreign gateway is set up likewise (docs/conformance/targets.md)."""


class OwnSource:
    """A source under test (a `Target`).

    Args:
        protocol: `coap`, `http`, `mqtt`, `nats`, or the registered name of another source.
        source: itself, opened.
        intake: what the opened source hands its events to.
        url: where devices send.
        urls: the same and its other listeners, by URL scheme.
    """

    is_broker = False

    def __init__(
        self,
        protocol: str,
        source: Source,
        intake: "ScriptedIntake",
        url: str,
        urls: Mapping[str, str],
    ) -> None:
        self.protocol = protocol
        self.title = f"source {protocol} of cloudevents-gateway"
        self.url = url
        self.urls = urls
        self._intake = intake
        self._source = source

    def sink_answers(self, answer: SinkAnswer) -> None:
        self._intake.answer = answer

    def forget(self) -> None:
        self._intake.events.clear()
        self._intake.asked = 0

    async def events(self, count: int, seconds: float = 5.0) -> Sequence[WireEvent]:
        return await self._intake.wait(count, seconds)

    async def asked(self, seconds: float = 5.0) -> None:
        await self._intake.wait_asked(seconds)

    async def drain(self) -> None:
        await self._source.drain()

    @asynccontextmanager
    async def variant(self, **settings: Any) -> AsyncIterator["OwnSource"]:
        async with own_source(self.protocol, **settings) as other:
            yield other


@asynccontextmanager
async def own_source(protocol: str, **settings: Any) -> AsyncIterator[OwnSource]:
    """Open a registered source on loopback, while the context lasts.

    Args:
        protocol: its protocol, or registered name.
        settings: fields of its record, over `SETTINGS`.

    Raises:
        Refused: its record does not allow them.
    """
    name = ADAPTERS.get(protocol, protocol)
    source_type = load("sources", name)
    table = {**SETTINGS.get(name, {}), **settings}
    if protocol == "nats" and "url" not in table:
        async with _nats_server() as url, own_source(protocol, **table, url=url) as target:
            yield target
        return
    try:
        config = source_type.config_type(name="conformance", protocol=name, **table)
    except ValidationError as error:
        raise Refused(str(error)) from error
    source: Source = source_type(config)
    intake = ScriptedIntake()
    await source.open(intake)
    try:
        address = getattr(source, "address", None)
        url = str(table["url"]) if address is None else f"{protocol}://{address}"
        urls = {protocol: url, **dict(_more_urls(source))}
        yield OwnSource(protocol, source, intake, url, urls)
    finally:
        intake.cancel()
        await source.close()


def _more_urls(source: Any) -> Iterator[tuple[str, str]]:
    """Yield scheme and URL of the listeners that a CoAP source has besides UDP."""
    dtls = getattr(source, "dtls_address", None)
    if dtls is not None:
        yield "coaps", f"coaps://{dtls}"
    for scheme, address in getattr(source, "stream_addresses", {}).items():
        yield scheme, f"{scheme}://{address}"


@asynccontextmanager
async def _nats_server() -> AsyncIterator[str]:
    server = EmbeddedNats(port=0)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


class ScriptedIntake:
    """What the source sees of a gateway: keeps events, and answers as the check says."""

    def __init__(self) -> None:
        self.answer: SinkAnswer = "accept"
        self.events: list[WireEvent] = []
        self.asked = 0
        self.rejections: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        self._later: list[asyncio.TimerHandle] = []

    async def submit(self, deliveries: Sequence[Delivery]) -> None:
        self.try_submit(deliveries)

    def try_submit(self, deliveries: Sequence[Delivery]) -> bool:
        settlement = _SETTLEMENTS[self.answer]
        self.asked += len(deliveries)
        for delivery in deliveries:
            if self.answer in {"accept", "slow", "hang"}:
                self.events.extend(WireEvent.of(event) for event in delivery.events)
            if self.answer == "slow":
                self._settle_later(delivery.settle)
            elif settlement is not None:
                delivery.settle(settlement)
        self._changed.set()
        return True

    def _settle_later(self, settle: Callable[[Settlement], None]) -> None:
        loop = asyncio.get_running_loop()
        self._later.append(loop.call_later(_SLOW_SECONDS, settle, ACCEPTED))

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        self.rejections.extend([(reason, detail)] * count)

    def undecodable(self, _message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        self.rejected(reason, detail)
        on_kept(None)

    async def wait(self, count: int, seconds: float) -> Sequence[WireEvent]:
        """Wait for at least `count` events; return all.

        Raises:
            CheckFailed: fewer came in time.
        """
        if not await self._wait_until(lambda: len(self.events) >= count, seconds):
            raise CheckFailed(
                "too few events came out",
                expected=f"{count} within {seconds} s",
                got=str(len(self.events)),
            )
        return list(self.events)

    async def wait_asked(self, seconds: float) -> None:
        """Wait for a delivery, whatever is answered.

        Raises:
            CheckFailed: none came in time.
        """
        if not await self._wait_until(lambda: self.asked > 0, seconds):
            raise CheckFailed("nothing was handed on", expected=f"within {seconds} s")

    async def _wait_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def cancel(self) -> None:
        """Settle nothing more."""
        for handle in self._later:
            handle.cancel()
