"""Where requests go and what is the same in each of them."""

import asyncio
import base64
import ssl
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote

from bindings.binding import EVENT_MEDIA_TYPE, Message
from bindings.event import Event
from bindings.http import HTTP
from bindings.json_format import encode_event
from gateway.errors import GatewayError
from gateway.sinks.http import knative
from gateway.sinks.http.config import HttpSinkConfig, parse_url
from gateway.sinks.http.connect import Endpoint, offer_versions
from gateway.sinks.http.knative import TokenFile, TrustedCertificates
from gateway.tls import client_context

_EVENT_TYPE: Final = f"Content-Type: {EVENT_MEDIA_TYPE}\r\nContent-Length: ".encode()


class Target:
    """A receiver: its address, and how a message becomes a request to it.

    Args:
        config: the sink's.
        environ: the process's environment; read for `${K_SINK}` only.
        certificates_folder: where Knative puts CA certificates.
        token_file: where Knative puts the token.

    Attributes:
        endpoint: where connections go.
        timeout: seconds for one attempt, unless a route says otherwise.
        token_may_change: a 401 may be over later.

    Raises:
        GatewayError: the URL, `K_CE_OVERRIDES` or a certificate is wrong.
    """

    def __init__(
        self,
        config: HttpSinkConfig,
        environ: Mapping[str, str],
        *,
        certificates_folder: Path = knative.CERTIFICATES_FOLDER,
        token_file: Path = knative.TOKEN_FILE,
    ) -> None:
        if not config.is_k_sink:
            environ = {}
        url = _parsed(config.url)
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._certificates = (
            TrustedCertificates(environ, certificates_folder) if config.is_k_sink else None
        )
        self._context: ssl.SSLContext | None = None
        self._context_state: object = None
        self._overrides = knative.overrides(environ.get("K_CE_OVERRIDES", ""))
        path = config.token_file or (token_file if config.is_k_sink else None)
        # Each request looks at these; a record of pydantic takes its time to say them.
        self._mode, self._needs_payload = config.mode, config.webhook is not None
        self._token_file = TokenFile(path) if path is not None else None
        self._token = self._configured_token = _token(config)
        self.timeout = knative.sink_timeout(environ) or config.timeout
        self.token_may_change = self._token_file is not None
        tls = url.scheme == "https"
        self.endpoint = Endpoint(
            url.hostname or "",
            url.port or (443 if tls else 80),
            self._tls if tls else None,
            config.http_version,
            config.pipelining,
        )
        if tls:
            self._tls()  # a wrong file is an error now, not at the first event
        self._resource = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._fields = self._common_fields(url, environ)
        self._basic = _basic(config, url)
        self._is_plain = self._sends_plain_events()
        self._set_head()

    def _common_fields(self, url: SplitResult, environ: Mapping[str, str]) -> bytes:
        lines = [
            f"Host: {url.netloc.rpartition('@')[2]}",
            f"User-Agent: cloudevents-gateway/{version('cloudevents-gateway')}",
        ]
        namespace = environ.get("NAMESPACE", "")
        if namespace.isascii() and namespace.replace("-", "").isalnum():
            lines.append(f"Kn-Namespace: {namespace}")
        lines += [f"{name}: {value}" for name, value in self._config.headers.items()]
        webhook = self._config.webhook
        if webhook is not None:
            lines.append(f"WebHook-Request-Origin: {webhook.origin}")
            if webhook.query_token:  # http-webhook.md 3.2
                lines.append("Cache-Control: no-store")
        return ("\r\n".join(lines) + "\r\n").encode("latin-1")

    def _sends_plain_events(self) -> bool:
        """Whether requests are an event in the JSON format, and nothing else depends on it."""
        return self._mode == "structured" and not self._needs_payload and not self._overrides

    def _set_head(self) -> None:
        """Prepare what requests have in common."""
        self._head = self._head_of("POST")
        self._event_head = self._head + _EVENT_TYPE

    def _head_of(self, method: str) -> bytes:
        """Return a request up to the fields that differ from one to the next."""
        resource, shown, webhook = self._resource, self._basic, self._config.webhook
        if self._token and webhook is not None and webhook.query_token:
            separator = "&" if "?" in resource else "?"
            resource += f"{separator}access_token={quote(self._token, safe='')}"
        elif self._token:
            shown = f"Authorization: Bearer {self._token}\r\n".encode("ascii")
        return f"{method} {resource} HTTP/1.1\r\n".encode("latin-1") + self._fields + shown

    def prepare(self, event: Event) -> Event:
        """Return the event as this receiver gets it."""
        if not self._overrides:
            return event
        return event.replace(extensions={**event.extensions, **self._overrides})

    def deliver(self, event: Event) -> bytes:
        """Return the bytes of the request that carries one event."""
        if self._is_plain:
            if self._token_file is not None:
                self._refresh_token()
            payload = encode_event(event)
            return b"%b%d\r\n\r\n%b" % (self._event_head, len(payload), payload)
        event = self.prepare(event)
        message = HTTP.encode(event, self._mode)
        if self._needs_payload and not (message.payload and message.content_type):
            # http-webhook.md 2.1: a payload and its Content-Type are required.
            message = HTTP.encode(event, "structured")
        return self.request(message)

    def options(self, fields: Iterable[tuple[str, str]]) -> bytes:
        """Return the bytes of an OPTIONS request to the same resource."""
        if self._token_file is not None:
            self._refresh_token()
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return self._head_of("OPTIONS") + f"{lines}Content-Length: 0\r\n\r\n".encode("latin-1")

    def request(self, message: Message) -> bytes:
        """Return the bytes of the request that carries `message`."""
        if self._token_file is not None:
            self._refresh_token()
        payload = message.payload or b""
        fields = ""
        if message.content_type:
            fields = f"Content-Type: {message.content_type}\r\n"
        for name, value in message.headers:
            fields += f"{name}: {value}\r\n"
        # The binding has checked the values: text without controls, percent-encoded in ce-*.
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (
            self._head,
            fields.encode("utf-8", "surrogateescape"),
            len(payload),
            payload,
        )

    # The token.

    def renew_token(self) -> bool:
        """Read the token again after a 401; returns whether there is one that may be shown."""
        if self._token_file is None:
            return False
        self._token_file.forget()
        return bool(self._refresh_token())

    def _refresh_token(self) -> str:
        """Take the token as it is in the file now, and return it."""
        assert self._token_file is not None  # noqa: S101 - for the type checker
        in_file = self._token_file.token(self._loop.time())
        token = in_file or self._configured_token
        if token != self._token:
            self._token = token
            self._set_head()
        return in_file

    # TLS.

    def _tls(self) -> ssl.SSLContext:
        """Return the context for a new connection, with the certificates as they are now."""
        certificates = self._certificates
        state = certificates.state() if certificates is not None else ()
        if self._context is None or state != self._context_state:
            self._context = self._new_context(
                certificates.text() if certificates is not None else ""
            )
            self._context_state = state
        return self._context

    def _new_context(self, extra_ca: str) -> ssl.SSLContext:
        try:
            context = client_context(self._config.tls, extra_ca=extra_ca)
        except GatewayError as error:
            where = f" (K_CA_CERTS, {knative.CERTIFICATES_FOLDER})" if extra_ca else ""
            raise GatewayError(f"{error}{where}") from error
        offer_versions(context, self._config.http_version)
        return context


def _parsed(text: str) -> SplitResult:
    try:
        return parse_url(text)
    except ValueError as error:  # `${K_SINK}` without a value
        raise GatewayError(str(error)) from None


def _token(config: HttpSinkConfig) -> str:
    token = config.token.get_secret_value() if config.token is not None else ""
    if not token.isascii() or not token.isprintable():
        raise GatewayError("the token holds characters that a header can't")
    return token


def _basic(config: HttpSinkConfig, url: SplitResult) -> bytes:
    user, password = config.username, config.password.get_secret_value() if config.password else ""
    if user is None and url.username is not None:
        user, password = unquote(url.username), unquote(url.password or "")
    if user is None:
        return b""
    return b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"
