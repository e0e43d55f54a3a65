"""`ce-gateway send nats://...`: core publish with a reply, or JetStream publish."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import nats.errors

from bindings.event import Event
from bindings.nats import NATS
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.nats_client import CLIENT_ERRORS, TlsClient
from gateway.nats_secrets import check_credentials
from gateway.tls import client_context


class NatsSender:
    """Publishes to the subject in the URL's path (`nats://host/events.a`) or in `?subject=`.

    Without `jetstream` it waits for the subscriber's reply, which is `+ACK` or `-ERR reason` from a
    gateway; with it for the stream's acknowledgement.
    """

    def __init__(self, url: str, options: SendOptions) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._subject = query.get("subject", [unquote(parts.path.strip("/"))])[0]
        if not self._subject:
            raise SendError("no subject: write nats://host/SUBJECT or nats://host/?subject=SUBJECT")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._server = f"{parts.scheme}://{host or 'localhost'}:{parts.port or 4222}"
        self._user = options.username or (parts.username and unquote(parts.username))
        self._password = options.password or (parts.password and unquote(parts.password))
        self._options = options
        self._words = ""
        self._client: TlsClient | None = None

    async def open(self) -> None:
        options = self._options
        arguments: dict[str, Any] = {"user": self._user, "password": self._password}
        if self._user and not self._password:
            arguments = {"token": self._user}
        if options.token:
            arguments = {"token": options.token}
        try:
            if options.credentials is not None:
                check_credentials(options.credentials)
                arguments["user_credentials"] = str(options.credentials)
            if self._server.startswith("tls:") or options.ca or options.cert or options.insecure:
                arguments["tls"] = client_context(
                    TlsConfig(
                        cert=options.cert, key=options.key, ca=options.ca,
                        verify=not options.insecure,
                    )
                )  # fmt: skip
            self._client = await self._connect(arguments)
        except (*CLIENT_ERRORS, GatewayError) as error:
            text = self._words or str(error) or type(error).__name__
            raise SendError(f"no connection to {self._server}: {text}") from error

    async def _connect(self, arguments: dict[str, Any]) -> TlsClient:
        client = TlsClient(wants_tls="tls" in arguments)
        try:
            await client.connect(
                self._server,
                name="ce-gateway send",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=self._on_error,
                **arguments,
            )
        except BaseException:
            await client.discard()
            raise
        return client

    async def send(self, message: Event | Plain) -> str:
        client = self._client
        if client is None:
            raise SendError("not connected")
        if isinstance(message, Plain):
            payload = message.payload
            headers = {"Content-Type": message.content_type} if message.content_type else None
        else:
            encoded = NATS.encode(message, self._options.mode)
            payload = encoded.payload or b""
            headers = dict(encoded.headers)
            if encoded.content_type:
                headers["Content-Type"] = encoded.content_type
        try:
            if self._options.jetstream:
                return await self._publish(client, payload, headers)
            return await self._request(client, payload, headers)
        except nats.errors.NoRespondersError as error:
            raise SendError(f"nobody listens on {self._subject}") from error
        except (TimeoutError, nats.errors.TimeoutError) as error:
            raise SendError(f"no answer within {self._options.timeout:g} s") from error
        except (OSError, nats.errors.Error) as error:
            raise SendError(self._words or str(error) or type(error).__name__) from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.discard()

    async def _request(
        self, client: TlsClient, payload: bytes, headers: dict[str, str] | None
    ) -> str:
        reply = await client.request(
            self._subject, payload, timeout=self._options.timeout, headers=headers
        )
        text = reply.data[:500].decode("utf-8", "replace")
        if text.startswith("-"):
            raise SendError(text)
        return text or "reply without text"

    async def _publish(
        self, client: TlsClient, payload: bytes, headers: dict[str, str] | None
    ) -> str:
        ack = await client.jetstream().publish(
            self._subject, payload, timeout=self._options.timeout, headers=headers
        )
        return f"{ack.stream} {ack.seq}" + (" duplicate" if ack.duplicate else "")

    async def _on_error(self, error: Exception) -> None:
        self._words = self._words or str(error)
