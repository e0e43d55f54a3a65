"""Three gateways, brokers, a sink and devices on hosts of their own, and a ledger of it all."""

import asyncio
import collections
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from tests.e2e.hosts.network import Host, Network
from tests.e2e.hosts.service import ADDRESS, ADMIN_PORT, Service
from tests.e2e.servers import Mosquitto, NatsServer
from tests.faults.gateway_process import GatewayProcess
from tests.faults.ledger import Ledger
from tests.faults.producers.coap import CoapProducer
from tests.faults.producers.http import HttpProducer
from tests.faults.producers.mqtt import MqttProducer
from tests.faults.producers.nats import NatsProducer
from tests.faults.producers.producer import Producer
from tests.faults.sample import Sample
from tests.faults.sink import Fault, FaultySink

GATEWAYS: Final = ("a", "b", "c")
HOSTS: Final = (*GATEWAYS, "broker", "sink")
COAP, MQTT, HTTP = 24, 6, 6
"""Devices of each kind, each with an address of its own."""
DEVICES: Final = COAP + MQTT + HTTP
KINDS: Final = ("coap", "endpoint", "http", "mqtt", "jetstream")
"""What keys begin with: devices at the Service's address, then those behind the brokers."""
_PATIENCE_SECONDS: Final = 3
"""After so long without a sign of the other side a device tries anew."""
P = TypeVar("P", bound=asyncio.Protocol)


class _OnHost:
    """A server that runs on a host, and is asked there whether it is ready."""

    host: Host

    def command(self) -> Sequence[str]:
        return self.host.command(super().command())  # type: ignore[misc]

    def is_ready(self) -> bool:
        return self.host.call(super().is_ready)  # type: ignore[misc]


class _Mosquitto(_OnHost, Mosquitto):
    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        # It is never killed, so it needs not write everything it has at each message.
        saves = ("autosave_on_changes false", "autosave_interval 1800")
        super().__init__(folder, (*saves, f"listener 1883 {host.address}"))


class _NatsServer(_OnHost, NatsServer):
    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        super().__init__(folder)
        text = self._config.read_text()
        self._config.write_text(text.replace(f'"127.0.0.1:{self.port}"', '"0.0.0.0:4222"'))
        self.port = 4222

    def is_ready(self) -> bool:
        return self.host.call(self._greets)

    def _greets(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as peer,
        ):
            peer.settimeout(1)
            return peer.recv(5) == b"INFO "
        return False


class HostedGateway(_OnHost, GatewayProcess):
    """A gateway on its host."""

    def __init__(self, folder: Path, config: Mapping[str, object], host: Host) -> None:
        self.host = host
        super().__init__(folder, config)
        self.port = ADMIN_PORT

    def get(self, path: str) -> tuple[int, bytes]:
        return self.host.call(super().get, path)


class _OverTcp:
    """A device that notices when nobody acknowledges its segments any more."""

    async def connect(self, make: Callable[[], P], port: int) -> P:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            protocol: Any = await super().connect(make, port)  # type: ignore[misc]
        peer = protocol._transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, 1),
            (socket.TCP_KEEPINTVL, 1),
            (socket.TCP_KEEPCNT, _PATIENCE_SECONDS),
            (socket.TCP_USER_TIMEOUT, 1000 * _PATIENCE_SECONDS),
        ):
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
        return protocol


class _HttpDevice(_OverTcp, HttpProducer):
    answer_seconds = _PATIENCE_SECONDS


class _MqttDevice(_OverTcp, MqttProducer):
    login = ("device", "secret")


class _CoapDevice(CoapProducer):
    answer_seconds = _PATIENCE_SECONDS


class CoapRequest:
    """One CON POST (RFC 7252), sent by hand from an address of a device, from another port.

    Attributes:
        message_id: of the request, two bytes.
        empty_ack: what says that the answer will come on its own (section 5.2.2).
    """

    message_id = b"\x12\x34"
    empty_ack = b"\x60\x00" + message_id

    def __init__(self, key: str, device: CoapProducer, local_addr: tuple[str, int]) -> None:
        self.key = key
        self._datagram = b"\x44\x02" + self.message_id + b"\xca\xfe\xca\xfe"
        self._datagram += device._options(key, 0) + b"\xff" + device.sample.data(key, 0)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.setblocking(False)
        self.peer.bind(local_addr)
        self.peer.connect((ADDRESS, 5683))

    def send(self) -> None:
        self.peer.send(self._datagram)

    async def receive(self) -> bytes:
        async with asyncio.timeout(40):
            return await asyncio.get_running_loop().sock_recv(self.peer, 2048)


@dataclass
class Fleet:
    """What a test works with.

    Attributes:
        sinks: the sink's listener for each gateway, by the gateway's name, all of one ledger.
        gateways: by name, running.
        brokers: running.
        producers: running.
        service: what deals the devices out.
        taken: which gateways have delivered a key's events, in the order of the arrivals.
        arrivals: what each gateway has delivered: keys and numbers.
    """

    network: Network
    sample: Sample
    ledger: Ledger
    service: Service
    sinks: dict[str, FaultySink] = field(default_factory=dict)
    gateways: dict[str, HostedGateway] = field(default_factory=dict)
    brokers: list[Mosquitto | NatsServer] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)
    taken: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    arrivals: dict[str, list[tuple[str, int]]] = field(
        default_factory=lambda: collections.defaultdict(list)
    )

    def note(self, gateway: str) -> Callable[[str, int], Fault | None]:
        """Return what a listener calls for each event: it notes who has sent it, no more."""

        def taken(key: str, number: int) -> None:
            self.taken[key].append(gateway)
            self.arrivals[gateway].append((key, number))

        return taken

    def homes(self, *gateways: str) -> dict[str, str]:
        """Return which of these gateways has each device at the Service's address, by its key."""
        return {
            key: names[-1]
            for key, names in self.taken.items()
            if names[-1] in gateways and key.startswith(KINDS[:3])
        }

    def keys(self, *kinds: str) -> list[str]:
        """Return the keys of these kinds."""
        return [key for one in self.producers for key in one.keys if key.startswith(kinds)]

    def coap_request(self, at: str) -> "CoapRequest":
        """Return a request from an address whose device has this gateway."""
        key = next(key for key in self.homes(at) if key.startswith("coap"))
        (device,) = [one for one in self.producers if key in one.keys]
        assert isinstance(device, CoapProducer)
        assert device.local_addr is not None
        self.ledger.intent("coap-raw", 0)
        return CoapRequest("coap-raw", device, device.local_addr)

    async def until(self, what: Callable[[], object], seconds: float = 40) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.02)

    async def more(
        self, count: int = 2, *, by: Sequence[str] = GATEWAYS, keys: Iterable[str] | None = None
    ) -> None:
        """Wait until so many more events of each key (default: all) have come by these gateways."""
        before = {key: len(names) for key, names in self.taken.items()}
        keys = list(self.keys(*KINDS) if keys is None else keys)

        def have_come() -> bool:
            return all(
                sum(name in by for name in self.taken[key][before.get(key, 0) :]) >= count
                for key in keys
            )

        try:
            await self.until(have_come)
        except TimeoutError:
            late = [key for key in keys if len(self.taken[key]) < before.get(key, 0) + count]
            raise AssertionError(f"too few events came by {by}; too few at all of {late}") from None

    async def inflight(self, name: str) -> float:
        """Return how many events a gateway has under way."""
        metrics = await self.gateways[name].metrics()
        return sum(
            value for key, value in metrics.items() if key.startswith("ce_gateway_inflight{")
        )

    async def holds(self, name: str) -> None:
        """Wait until a gateway with a frozen sink has several events under way.

        They come within the sink's `timeout`, however few devices have this gateway: the brokers
        alone give it 20 events a second. When that has passed the sink is asked with one event of a
        key at a time, and it may be long until as many are under way again.
        """
        async with asyncio.timeout(40):
            while await self.inflight(name) < 8:
                await asyncio.sleep(0.02)

    async def fails(self, name: str) -> None:
        """Wait until a gateway has had no answer of its sink to what many devices have sent."""
        async with asyncio.timeout(40):
            failures = 0.0
            while failures < 40:
                metrics = await self.gateways[name].metrics()
                failures = sum(
                    value
                    for key, value in metrics.items()
                    if key.startswith("ce_gateway_sink_failures_total{")
                )
                await asyncio.sleep(0.05)

    async def _settle(self, running: Sequence[str]) -> None:
        """Wait until all that was acknowledged has arrived, and nothing is under way."""
        held: list[float] = []
        try:
            async with asyncio.timeout(40):
                while self.ledger.account.outstanding or not held or any(held):
                    held = await asyncio.gather(*map(self.inflight, running))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            held_by = dict(zip(running, held, strict=True))
            raise AssertionError(f"lost {self.ledger.account.lost()}, held {held_by}") from None

    async def finish(self) -> None:
        """Stop the load, wait for the rest, stop the gateways, and judge."""
        self.ledger.remark("stop the load")
        await asyncio.gather(*(producer.stop(40) for producer in self.producers))
        running = [name for name, one in self.gateways.items() if one.returncode is None]
        await self._settle(running)
        await asyncio.gather(*(self.gateways[name].terminate() for name in running))
        for name, gateway in self.gateways.items():
            assert gateway.returncode == 0, f"{name}: {gateway.log[-4000:]}"
            assert gateway.complaints() == [], name
        account = self.ledger.account
        repeated = sum(account.own) + account.provoked
        print(f"{account.acked} acknowledged, {repeated} arrived again")
        assert str(account.lost()) == "0"
        assert str(account.corrupted) == "0"
        assert str(account.groundless) == "0"
        assert account.refused == 0
        assert account.acked == account.sent > 0
        assert {key.partition("-")[0] for key in self.taken} == set(KINDS)


@contextlib.asynccontextmanager
async def fleet(folder: Path, network: Network) -> AsyncIterator[Fleet]:
    """Start everything; the thread is the devices' host's (`in_network`)."""
    hosts = network.hosts
    ledger, sample = Ledger(folder / "ledger"), Sample(6)
    made = Fleet(network, sample, ledger, Service(network, {one: hosts[one] for one in GATEWAYS}))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(ledger.close)
        for kind in (_Mosquitto, _NatsServer):
            place = folder / kind.name
            place.mkdir()
            made.brokers.append(kind(place, hosts["broker"]))
        for broker in made.brokers:
            await asyncio.to_thread(broker.start)
            stack.callback(broker.stop)
        await _make_stream(hosts["broker"])
        for name in GATEWAYS:
            sink = made.sinks[name] = FaultySink(sample, ledger, made.note(name))
            with hosts["sink"].entered():
                listener = socket.create_server((hosts["sink"].address, 0))
            await sink.open(listener)
            stack.push_async_callback(sink.close)
            port = listener.getsockname()[1]
            config = _config(name, hosts, f"http://{hosts['sink'].address}:{port}/")
            gateway = made.gateways[name] = HostedGateway(folder / name, config, hosts[name])
            stack.callback(gateway.kill_if_running)
        await asyncio.gather(*(gateway.up() for gateway in made.gateways.values()))
        await stack.enter_async_context(_running(made.service.run()))
        await made.service.wait_for(*GATEWAYS)
        made.producers = _producers(made)
        for producer in made.producers:
            stack.push_async_callback(producer.stop, 1)
            producer.start()
        await made.more()
        yield made


def _config(name: str, hosts: Mapping[str, Host], sink: str) -> dict[str, Any]:
    here, broker = hosts[name].address, hosts["broker"].address
    return {
        "sources": {
            "coap": {
                "protocol": "coap",
                "listen": f"{here}:5683",
                "routes": {"/ce": {"mode": "auto", "source_policy": "any"}},
            },
            "endpoint": {
                "protocol": "mqtt-endpoint",
                "listen": f"{here}:1883",
                "users": dict([_MqttDevice.login]),
            },
            "http": {"protocol": "http", "listen": f"{here}:8080"},
            "mqtt": {
                "protocol": "mqtt",
                "url": f"mqtt://{broker}:1883",
                "client_id": f"gateway-{name}",
                "share": "gateways",
                "subscribe": [{"topic": "faults/#", "qos": 1}],
            },
            "jetstream": {
                "protocol": "nats",
                "url": f"nats://{broker}:4222",
                "stream": "FAULTS",
                "durable": "gateways",
                "shared": True,
                "ack_wait": "PT3S",
            },
        },
        "sinks": {"out": {"protocol": "http", "url": sink}},
        "routes": [{"to": ["out"]}],
        "delivery": {
            "ack": "sink",
            "spool": "off",
            "dead_letters": "off",
            "timeout": "PT2S",
            "backoffDelay": "PT0.1S",
            "backoffCap": "PT0.5S",
        },
        "admin": {"listen": f"0.0.0.0:{ADMIN_PORT}"},
    }


async def _make_stream(broker: Host) -> None:
    import nats

    client = await nats.connect(f"nats://{broker.address}:4222")
    await client.jetstream().add_stream(name="FAULTS", subjects=["stream.>"])
    await client.close()


def _producers(made: Fleet) -> list[Producer]:
    sample, ledger = made.sample, made.ledger
    broker = made.network.hosts["broker"].address
    load = {"rate": 4, "keys": 1}
    devices: list[Producer] = [
        *(
            _CoapDevice(5683, sample, ledger, chance=Random(n), name=f"coap-{n:02}", **load)
            for n in range(COAP)
        ),
        *(
            _MqttDevice(f"endpoint-{n:02}", 1883, sample, ledger, topic="faults", **load)
            for n in range(MQTT)
        ),
        *(_HttpDevice(8080, sample, ledger, name=f"http-{n:02}", **load) for n in range(HTTP)),
    ]
    for device, address in zip(devices, made.network.device_addresses, strict=True):
        device.host, device.local_addr = ADDRESS, (address, 0)
    publisher = MqttProducer("mqtt", 1883, sample, ledger, topic="faults", rate=30, keys=7)
    publisher.host = broker
    # Seven keys, as mosquitto deals out in turns: of six each would always come to one of three.
    url = f"nats://{broker}:4222"
    streamer = NatsProducer(
        "jetstream", url, sample, ledger, subject="stream", stream=True, rate=30, keys=6
    )
    return [*devices, publisher, streamer]


@contextlib.asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Have something go on meanwhile; what ends it with an error is raised at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
