"""Consent by callback: a POST to the address that a webhook sender gave (http-webhook.md 4.1.3).

A call goes only where the operator said (`callbacks`): to any other address it would be a request
of a stranger's choice from inside our network. Redirects are not followed, and nothing but the
status is read.
"""

import asyncio
import logging
import re
import ssl
from typing import Final
from urllib.parse import urlsplit

from gateway.sources.http.origin import Origin, parse_origin
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_SECONDS: Final = 10.0
_MAX_CALLS: Final = 16
"""Calls at the same time; a sender whose call is left out asks again."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")


class Callbacks:
    """Calls senders back.

    Args:
        name: the source's.
        allowed: where calls may go.
    """

    def __init__(self, name: str, allowed: list[str]) -> None:
        self._name = name
        self._allowed = {parse_origin(text) for text in allowed} - {None}
        self._tasks = Tasks("http callbacks")
        self._under_way: set[str] = set()
        self._lines = Throttle()
        self._tls: ssl.SSLContext | None = None  # made once: reading all roots takes a while

    def call(self, url: str, sender: str, rate: str) -> bool:
        """Give consent at `url`, in the background; returns False if no call may go there.

        Args:
            url: the value of WebHook-Request-Callback.
            sender: the value of WebHook-Request-Origin.
            rate: the value of WebHook-Allowed-Rate.
        """
        origin = parse_origin(url) if self._allowed else None
        if origin is None or origin not in self._allowed:
            return False
        if url not in self._under_way and len(self._under_way) < _MAX_CALLS:
            self._under_way.add(url)
            self._tasks.start(self._call(url, origin, sender, rate), "call")
        return True

    async def close(self) -> None:
        """Give up calls under way."""
        await self._tasks.close()

    async def _call(self, url: str, origin: Origin, sender: str, rate: str) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                status = await _post(url, origin, self._context(origin), sender, rate)
            failed = "" if 200 <= status < 300 else f"it answered {status}"
        except TimeoutError:
            failed = "no answer in time"
        except (OSError, ValueError, asyncio.LimitOverrunError, EOFError) as error:
            failed = str(error)[:200] or type(error).__name__
        finally:
            self._under_way.discard(url)
        self._note(origin, failed)

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        if origin.scheme != "https":
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _note(self, origin: Origin, failed: str) -> None:
        where = f"{origin.scheme}://{origin.host}:{origin.port}"  # the rest of it is secret
        cause = f"{where} {bool(failed)}"
        more = self._lines.pass_on(cause)
        if more is None:
            return
        extra = {"source": self._name}
        if failed:
            _log.warning("no consent given at %s: %s%s", where, failed, more, extra=extra)
        else:
            _log.info("consent given at %s%s", where, more, extra=extra)


async def _post(
    url: str, origin: Origin, context: ssl.SSLContext | None, sender: str, rate: str
) -> int:
    """Return the status of the answer.

    Raises:
        OSError: no connection, no TLS.
        ValueError: no HTTP answer.
        EOFError: it broke off.
    """
    parts = urlsplit(url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    reader, writer = await asyncio.open_connection(origin.host, origin.port, ssl=context)
    try:
        writer.write(
            f"POST {resource} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"WebHook-Allowed-Origin: {sender}\r\nWebHook-Allowed-Rate: {rate}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1")
        )
        line = await reader.readuntil(b"\n")
    finally:
        writer.transport.abort()
    match = _STATUS.match(line)
    if match is None:
        raise ValueError("no HTTP answer")
    return int(match[1])
