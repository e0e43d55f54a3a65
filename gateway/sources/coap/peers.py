"""Who sends to the CoAP source, and what is kept for each address and port."""

import secrets
from typing import Final, Protocol

from bindings.coap import Identity, Peer, Route, default_source
from gateway.sources.coap.listener import SocketAddress, ip_of

MAX_IDLE_PEERS: Final = 16384
"""How many senders are remembered at most while nothing of theirs is under way."""


class Channel(Protocol):
    """What carries datagrams to an endpoint: a socket, or a session over one."""

    def send(self, datagram: bytes, address: SocketAddress) -> None:
        """Send, or lose it; addresses are those of the channel's own endpoints."""


class Endpoint:
    """One address and port (RFC 7252 1.2), or one connection.

    Attributes:
        address: as the socket has it; of a session or connection something of its own.
        channel: how to reach it; None for a connection.
        device: the label of its credentials, or else its IP address; templates call it so.
        peer: what the binding wants to know of it.
        is_stream: whether it is a connection, which has no datagrams (RFC 8323).
        in_flight: requests of it that have no answer yet.
        routes: event resources with the templates filled in for it, by path.
    """

    __slots__ = (
        "_next_mid",
        "address",
        "channel",
        "device",
        "in_flight",
        "is_stream",
        "peer",
        "routes",
    )

    def __init__(self, address: SocketAddress, channel: Channel | None = None) -> None:
        self.address = address
        self.channel = channel
        self.device = ip_of(address)
        name = f"udp {self.device} {address[1]}".encode()
        self.peer = Peer(name, default_source(None, self.device))
        self.is_stream = False
        self.in_flight = 0
        self.routes: dict[tuple[bytes, ...], Route] = {}
        self._next_mid = secrets.randbelow(0x10000)

    def authenticate(self, identity: Identity, name: bytes) -> None:
        """Learn who this is; before the first request of it.

        Args:
            identity: who has shown credentials.
            name: the endpoint with its security context, as bytes that differ when they do; at
                most 64.
        """
        self.device = identity.label
        self.peer = Peer(
            name,
            default_source(identity, ""),
            is_authenticated=True,
            may_speak_for=identity.may_speak_for,
        )

    def new_mid(self) -> int:
        """Return the next message id for a message to this endpoint (RFC 7252 4.4)."""
        self._next_mid = self._next_mid + 1 & 0xFFFF
        return self._next_mid


class Peers:
    """The endpoints that sent lately through one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._endpoints: dict[SocketAddress, Endpoint] = {}

    def __getitem__(self, address: SocketAddress) -> Endpoint:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            if len(self._endpoints) >= MAX_IDLE_PEERS:
                self._forget_idle()
            endpoint = self._endpoints[address] = Endpoint(address, self._channel)
        return endpoint

    def _forget_idle(self) -> None:
        self._endpoints = {
            address: endpoint for address, endpoint in self._endpoints.items() if endpoint.in_flight
        }
