"""The `webhook:` table of the HTTP sink (http-webhook.md)."""

import ipaddress
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from gateway.config.records import Duration, Listen, Record, TlsConfig

# RFC 1123 2.1, with the underscore that DNS itself allows.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
DnsName = Annotated[str, StringConstraints(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]


def is_loopback(host: str) -> bool:
    """Whether only this machine is meant."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class CallbackConfig(Record):
    """Where a receiver may give its consent later: by GET or POST on an address of ours."""

    url: str = Field(
        description="https URL at which receivers reach `listen`; an id and a secret are added"
    )
    listen: Listen = Field(description="host:port to listen on for consent")
    tls: TlsConfig | None = Field(
        default=None, description="TLS of `listen`; absent: a proxy in front of it does TLS"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, text: str) -> str:
        try:
            url = urlsplit(text)
            secure = url.scheme == "https" or (
                url.scheme == "http" and is_loopback(url.hostname or "")
            )
            is_valid = url.port != 0 and bool(url.hostname) and not url.fragment
        except ValueError:
            secure = is_valid = False
        if not is_valid or not secure or not text.isascii() or not text.isprintable():
            raise ValueError("expected an https URL without fragment (http-webhook.md 4.1.3)")
        if " " in text:
            raise ValueError("expected a URL, in which a space is percent-encoded")
        return text


class WebhookConfig(Record):
    """Asks the receiver for consent before the first delivery, and keeps to the rate it grants."""

    origin: DnsName = Field(
        description="DNS name of the sending system, such as events.example.com"
    )
    rate: int | None = Field(
        default=None, ge=1, description="requests per minute to ask for; default: not asked for"
    )
    callback: CallbackConfig | None = Field(
        default=None, description="where consent may be given later; default: in the answer alone"
    )
    valid_for: Duration = Field(
        default=86_400.0,
        description="consent is asked for again after this time; so is it after 410 Gone",
    )
    ask_again: Duration = Field(
        default=60.0, description="without consent the receiver is asked again after this time"
    )
    query_token: bool = Field(
        default=False,
        description="show the token as query parameter access_token, not as Authorization: Bearer; "
        "the last resort, as URLs get logged",
    )

    workers: int = Field(
        default=1, exclude=True, description="processes that share the rate that is granted"
    )

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.valid_for <= 0 or self.ask_again <= 0:
            raise ValueError("valid_for and ask_again must be above 0")
        return self
