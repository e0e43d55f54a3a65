"""Where requests go and what is the same in each of them."""

import asyncio
import base64
import ssl
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import SplitResult, unquote

from bindings.binding import Message
from bindings.event import Event
from gateway.errors import GatewayError
from gateway.sinks.http import knative
from gateway.sinks.http.config import HttpSinkConfig, parse_url
from gateway.sinks.http.knative import TokenFile, TrustedCertificates
from gateway.sinks.http.pool import Endpoint
from gateway.tls import client_context


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
        self._token_file = TokenFile(path) if path is not None else None
        self._token = ""
        self.timeout = knative.sink_timeout(environ) or config.timeout
        self.token_may_change = self._token_file is not None
        tls = url.scheme == "https"
        self.endpoint = Endpoint(
            url.hostname or "", url.port or (443 if tls else 80), self._tls if tls else None
        )
        if tls:
            self._tls()  # a wrong file is an error now, not at the first event
        self._start = self._request_line(url, environ)
        self._authorization = _authorization(config, url)
        self._head = self._start + self._authorization

    def _request_line(self, url: SplitResult, environ: Mapping[str, str]) -> bytes:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = [
            f"POST {target} HTTP/1.1",
            f"Host: {url.netloc.rpartition('@')[2]}",
            f"User-Agent: cloudevents-gateway/{version('cloudevents-gateway')}",
        ]
        namespace = environ.get("NAMESPACE", "")
        if namespace.isascii() and namespace.replace("-", "").isalnum():
            lines.append(f"Kn-Namespace: {namespace}")
        lines += [f"{name}: {value}" for name, value in self._config.headers.items()]
        return ("\r\n".join(lines) + "\r\n").encode("latin-1")

    def prepare(self, event: Event) -> Event:
        """Return the event as this receiver gets it."""
        if not self._overrides:
            return event
        return event.replace(extensions={**event.extensions, **self._overrides})

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
        self._refresh_token()
        return bool(self._token)

    def _refresh_token(self) -> None:
        assert self._token_file is not None  # noqa: S101 - for the type checker
        token = self._token_file.token(self._loop.time())
        if token != self._token:
            self._token = token
            shown = f"Authorization: Bearer {token}\r\n".encode("ascii") if token else b""
            self._head = self._start + (shown or self._authorization)

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
            return client_context(self._config.tls, extra_ca=extra_ca)
        except GatewayError as error:
            where = f" (K_CA_CERTS, {knative.CERTIFICATES_FOLDER})" if extra_ca else ""
            raise GatewayError(f"{error}{where}") from error


def _parsed(text: str) -> SplitResult:
    try:
        return parse_url(text)
    except ValueError as error:  # `${K_SINK}` without a value
        raise GatewayError(str(error)) from None


def _authorization(config: HttpSinkConfig, url: SplitResult) -> bytes:
    if config.token is not None:
        token = config.token.get_secret_value()
        if not token.isascii() or not token.isprintable():
            raise GatewayError("the token holds characters that a header can't")
        return f"Authorization: Bearer {token}\r\n".encode("ascii")
    user, password = config.username, config.password.get_secret_value() if config.password else ""
    if user is None and url.username is not None:
        user, password = unquote(url.username), unquote(url.password or "")
    if user is None:
        return b""
    return b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"
