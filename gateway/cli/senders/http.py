"""`ce-gateway send http(s)://...`: a POST for each message, over the HTTP sink's connections."""

import asyncio
from collections import deque

from pydantic import ValidationError

from bindings.binding import Message
from bindings.event import Event
from bindings.http import HTTP
from bindings.wire.http1 import reason_phrase
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.sinks.http.config import HttpSinkConfig
from gateway.sinks.http.connection import Answer, Request
from gateway.sinks.http.pool import Pool
from gateway.sinks.http.target import Target

_MAX_CONNECTIONS = 1000


class HttpSender:
    """Sends to the URL; as many requests are under way as `send` is called at once."""

    def __init__(self, url: str, options: SendOptions) -> None:
        self._mode = options.mode
        self._waiting: deque[Request] = deque()
        self._target: Target | None = None
        self._pool: Pool | None = None
        tls = TlsConfig(
            cert=options.cert, key=options.key, ca=options.ca, verify=not options.insecure
        )
        try:
            self._config = HttpSinkConfig.model_validate(
                {
                    "url": url,
                    "tls": tls,
                    "username": options.username,
                    "password": options.password,
                    "token": options.token,
                    "timeout": options.timeout,
                }
            )
        except ValidationError as error:
            text = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise SendError(f"{text}, not {url!r}") from None

    async def open(self) -> None:
        try:
            self._target = Target(self._config, {})
        except GatewayError as error:
            raise SendError(str(error)) from error
        self._pool = Pool(
            self._target.endpoint,
            self,
            size=_MAX_CONNECTIONS,
            timeout=self._config.timeout,
            idle_timeout=self._config.idle_timeout,
        )

    async def send(self, message: Event | Plain) -> str:
        assert self._target is not None  # noqa: S101 - for the type checker
        assert self._pool is not None  # noqa: S101 - for the type checker
        if isinstance(message, Plain):
            encoded = Message(message.payload, message.content_type)
        else:
            encoded = HTTP.encode(message, self._mode)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Request(
            self._target.request(encoded),
            self._config.timeout,
            lambda answer: None if answered.done() else answered.set_result(answer),
        )
        self._waiting.append(request)
        self._pool.wake()
        try:
            return _words(await answered)
        finally:
            if request in self._waiting:  # given up by the caller before it was its turn
                self._waiting.remove(request)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    # What the pool asks for.

    def ready(self) -> int:
        """Return how many requests could be sent now."""
        return len(self._waiting)

    def next(self) -> Request | None:
        """Take the next one."""
        return self._waiting.popleft() if self._waiting else None

    def fail(self, answer: Answer) -> None:
        """Fail all that wait."""
        while self._waiting:
            self._waiting.popleft().on_answer(answer)


def _words(answer: Answer) -> str:
    if answer.status is None:
        raise SendError(answer.error)
    words = f"{answer.status} {reason_phrase(answer.status)}".rstrip()
    if 200 <= answer.status < 300:
        return words
    text = answer.body.decode("utf-8", "replace").strip().partition("\n")[0]
    text = "".join(character for character in text if character.isprintable())
    raise SendError(f"{words}: {text}" if text else words)
