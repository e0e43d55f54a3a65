"""The configuration of the HTTP source."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator

from gateway.config.records import Address, Duration, Listen, SourceConfig
from gateway.config.worker import Place
from gateway.sources.http.origin import parse_origin


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
    retired: bool = Field(
        default=False,
        description="answer 410 Gone: nothing is taken any more, and webhook senders stop",
    )
    allowed_origins: Literal["*"] | list[str] = Field(
        "*",
        description='webhook senders with consent: "*" (anyone) or a list of exact origins; '
        "an empty list: no webhook, OPTIONS is answered 405",
    )
    require_origin: bool = Field(
        default=False,
        description="refuse a delivery without WebHook-Request-Origin (403); "
        "one whose origin has no consent is always refused",
    )
    allowed_rate: Literal["*"] | Annotated[int, Field(ge=1)] = Field(
        "*",
        description="requests per minute that each webhook sender is told and held to (429); "
        '"*" for no limit',
    )
    callbacks: list[str] = Field(
        [],
        description="https://host[:port] of webhook senders that are given consent by a POST to "
        "their WebHook-Request-Callback; others get it in the answer, and no call is made",
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

    def for_worker(self, place: Place) -> Self | None:
        return self.listening_beside(place)

    @field_validator("callbacks")
    @classmethod
    def _check_callbacks(cls, texts: list[str]) -> list[str]:
        for text in texts:
            if parse_origin(text) is None or text.count("/") != 2:
                raise ValueError(f"expected https://host[:port], not {text!r}")
        return texts
