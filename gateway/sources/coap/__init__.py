"""The CoAP source: a server over UDP, DTLS, TCP, TLS and WebSockets (docs/bindings/coap.md).

config      the source's table in the configuration
listener    the sockets
datagrams   a UDP socket at work
resources   routes, and what /.well-known/core says of them
peers       who sends, and what is kept for each
duplicates  answers that are given again
assembly    payloads that arrive in blocks
exchange    one request under way, and its answer
dtls        the listener for DTLS; dtls_session one of its sessions
psk         keys for DTLS, and who they belong to
oscore      requests that are protected end to end, and their answers
separate    answers sent on their own, until they are acknowledged
requests    from a datagram to an exchange: all checks, in their order
handover    from exchanges to the gateway
source      reads datagrams, submits, answers, and keeps the time
streams     the listeners for connections, with aiocoap
connection  reads what a connection brings, submits and answers
websockets  the layer between a connection and its WebSocket
"""

from gateway.sources.coap.config import CoapRoute, CoapSourceConfig
from gateway.sources.coap.source import CoapSource

__all__ = ["CoapRoute", "CoapSource", "CoapSourceConfig"]
