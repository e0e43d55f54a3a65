"""The configuration of the HTTP sink."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from bindings.binding import ContentMode
from bindings.wire.http1 import is_field_name, is_field_value
from gateway.config.records import Duration, SinkConfig, Size
from gateway.sinks.http.webhook_config import WebhookConfig, is_loopback

HttpVersion = Literal["auto", "1.1", "2"]

_OURS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "expect"}
)


def parse_url(text: str) -> SplitResult:
    """Return the parts of an http(s) URL.

    Raises:
        ValueError: it is none; the text does not repeat it, since it may hold a password.
    """
    try:
        url = urlsplit(text)
        port_is_valid = url.port != 0
        (url.hostname or "").encode("idna")
    except ValueError as error:
        raise ValueError(f"expected a URL as http(s)://host[:port]/path ({error})") from None
    if url.scheme not in {"http", "https"} or not url.hostname or not port_is_valid:
        raise ValueError("expected a URL as http(s)://host[:port]/path")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected a URL, in which other characters are percent-encoded")
    return url


class HttpSinkConfig(SinkConfig):
    """Delivers events by HTTP POST to one URL; 2xx is delivered.

    With `url: "${K_SINK}"` the rest of what Knative gives a container counts as well:
    K_CE_OVERRIDES, K_CA_CERTS, /knative-custom-certs, /oidc/token, K_SINK_TIMEOUT, NAMESPACE.
    """

    protocol: Literal["http"] = Field("http", description="http")
    is_k_sink: bool = Field(
        default=False, exclude=True, description="the url is ${K_SINK}; set by the loader"
    )
    url: str = Field(
        description="where events go: http(s)://host[:port]/path; ${K_SINK} in Knative"
    )
    mode: ContentMode = Field("structured", description="structured (JSON) or binary (ce- headers)")
    batch: bool = Field(
        default=False,
        description="several events in one request (batched mode); not for Knative",
    )
    batch_events: int = Field(100, ge=1, description="most events in one batch")
    batch_bytes: Size = Field(
        1_048_576, description="most bytes in one batch; a larger event goes alone"
    )
    connections: int = Field(
        32,
        ge=1,
        description="most connections, each with one request at a time; with HTTP/2 each with up to"
        " 100, or as many as the receiver allows",
    )
    pipelining: int = Field(
        1,
        ge=1,
        le=256,
        description="most requests under way on one connection of HTTP/1.1; more than 1 only for a"
        " receiver that answers pipelined requests, and in their order",
    )
    ordered: bool = Field(
        default=True,
        description="events of one partitionkey (else source) go one after the other",
    )
    token: SecretStr | None = Field(None, description="Bearer token")
    token_file: Path | None = Field(
        None,
        description="file with a Bearer token, re-read as it changes; /oidc/token with ${K_SINK}",
    )
    headers: dict[str, str] = Field({}, description="further headers of each request")
    timeout: Duration = Field(
        30.0,
        gt=0,
        description="for one attempt, connecting included; a route's delivery.timeout wins",
    )
    idle_timeout: Duration = Field(
        60.0, description="an unused connection is closed after this time"
    )
    http_version: HttpVersion = Field(
        "auto",
        description="auto, 1.1 or 2; auto is what a TLS server picks, and 1.1 without TLS; 2"
        " without TLS is h2c by prior knowledge",
    )
    webhook: WebhookConfig | None = Field(
        None,
        description="deliver as http-webhook.md says: events go once the receiver has consented",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        if url or not info.data.get("is_k_sink"):  # ${K_SINK} may not be known yet
            parse_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not is_field_name(name) or not is_field_value(value):
                raise ValueError(f"{name!r} is no header, or its value holds a control character")
            if name.lower() in _OURS or name.lower().startswith("ce-"):
                raise ValueError(f"{name!r} is set by the gateway")
            if name.lower() == "prefer" and "reply" in value.lower():
                raise ValueError("'Prefer: reply' asks for replies, which nobody here reads")
        return headers

    @model_validator(mode="after")
    def _check_pipelining(self) -> Self:
        if self.pipelining > 1 and self.http_version == "2":
            raise ValueError("pipelining is a thing of HTTP/1.1; HTTP/2 has streams")
        return self

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        ways = [self.token is not None, self.token_file is not None, self.username is not None]
        ways.append(any(name.lower() == "authorization" for name in self.headers))
        if sum(ways) > 1:
            raise ValueError("token, token_file, username, headers.Authorization: one of these")
        return self

    @model_validator(mode="after")
    def _check_webhook(self) -> Self:
        webhook = self.webhook
        if webhook is None:
            return self
        if self.is_k_sink:
            raise ValueError("webhook: what ${K_SINK} names takes events without asking")
        if any(name.lower().startswith("webhook-") for name in self.headers):
            raise ValueError("headers: the WebHook- headers are set by `webhook`")
        url = parse_url(self.url)
        if "access_token=" in url.query:
            raise ValueError("url: give access_token as `token`, with webhook.query_token: true")
        if self.username is not None or url.username is not None:
            raise ValueError("webhook: tokens are shown, not user names (http-webhook.md 3)")
        has_token = self.token_file is not None or bool(
            self.token and self.token.get_secret_value()
        )
        if webhook.query_token and not has_token:
            raise ValueError("webhook.query_token needs token or token_file")
        if not is_loopback(url.hostname or ""):
            # On loopback nobody else listens, nor can it be flooded from afar.
            self._check_protection(url, has_token=has_token)
        return self

    def _check_protection(self, url: SplitResult, *, has_token: bool) -> None:
        if url.scheme != "https":
            raise ValueError("webhook: the url must be https (http-webhook.md 2.1)")
        if not has_token and not any(name.lower() == "authorization" for name in self.headers):
            raise ValueError(
                "webhook: a token is required (http-webhook.md 3):"
                " token, token_file or headers.Authorization"
            )
