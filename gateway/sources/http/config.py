"""The configuration of the HTTP source."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from gateway.config.records import Address, Duration, Listen, SourceConfig


class HttpSourceConfig(SourceConfig):
    """Takes events by HTTP POST, and answers the webhook validation handshake (OPTIONS).

    `username` and `password` ask for HTTP Basic, `token` for a Bearer token (header, or query
    parameter `access_token`, http-webhook.md 3); with both, either is enough.
    """

    protocol: Literal["http"] = Field("http", description="http")
    listen: Listen = Field(Address("0.0.0.0", 8080), description="host:port to listen on")  # noqa: S104 - a server
    path: Annotated[str, StringConstraints(pattern=r"^(\*|/[!-~]*)$")] = Field(
        "/",
        description='the one path that takes events; others are answered 404; "*" for every path',
    )
    token: SecretStr | None = Field(None, description="Bearer token that senders have to show")
    allowed_origins: Literal["*"] | list[str] = Field(
        "*",
        description='webhook senders with consent: "*" (anyone) or a list of exact origins',
    )
    allowed_rate: Literal["*"] | Annotated[int, Field(ge=1)] = Field(
        "*", description='requests per minute told to webhook senders; "*" for no limit'
    )
    max_connections: int = Field(
        10_000, ge=1, description="open connections; one more is answered 503 and closed"
    )
    max_connections_per_address: int | None = Field(
        None, ge=1, description="open connections from one IP address; default: no limit of its own"
    )
    header_timeout: Duration = Field(
        10.0, description="for the head of a request, from its first byte; then 408"
    )
    body_timeout: Duration = Field(
        30.0, description="for the body of a request, from the end of its head; then 408"
    )
    keep_alive_timeout: Duration = Field(
        75.0, description="an idle connection is closed after this time"
    )
    ack_timeout: Duration = Field(
        60.0,
        description="for the event to be delivered or stored; then 504, and the sender repeats it",
    )
