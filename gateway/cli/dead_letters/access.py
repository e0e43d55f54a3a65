"""Dead letters as the commands reach them, and those of a running gateway, through its API."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

from gateway.dead_letters import Filter

_PATH: Final = "/api/v1/dead-letters"
_SECONDS: Final = 60.0
_LONG: Final = 3600.0
"""Seconds that a list of a replay may take: as long as a route's retries."""

Json = dict[str, Any]


class AccessError(Exception):
    """The letters can't be reached, or not as was asked."""


class Access(Protocol):
    """Dead letters, wherever they are. Each method raises AccessError."""

    def page(self, wanted: Filter, limit: int, cursor: int | None) -> tuple[list[Json], int | None]:
        """Return summaries, newest first, and the cursor of the next page."""

    def show(self, number: int) -> bytes | None:
        """Return everything of one letter as JSON; None if there is none with that id."""

    def count(self, wanted: Filter) -> int:
        """Return how many there are."""

    def export(self, wanted: Filter) -> Iterator[bytes]:
        """Yield everything of each as a line of JSON, oldest first."""

    def purge(self, wanted: Filter) -> int:
        """Delete them; return how many there were."""


class Remote:
    """The letters of a running gateway.

    Args:
        url: its administration.
        token: `admin.token`, if it has one.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._parts = urlsplit(url if "://" in url else f"http://{url}")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def page(self, wanted: Filter, limit: int, cursor: int | None) -> tuple[list[Json], int | None]:
        query = {**_query(wanted), "limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        found = self._json("GET", "", query)
        return found["letters"], found["cursor"]

    def show(self, number: int) -> bytes | None:
        with self._ask("GET", f"/{number}", missing_is_none=True) as response:
            return None if response is None else response.read()

    def count(self, wanted: Filter) -> int:
        return int(self._json("GET", "/count", _query(wanted))["count"])

    def export(self, wanted: Filter) -> Iterator[bytes]:
        with self._ask("GET", "/export", _query(wanted)) as response:
            yield from _lines(response or ())

    def purge(self, wanted: Filter) -> int:
        query = _query(wanted)
        if wanted.ids is not None:
            # Not in one URL, which has a limit: each is gone or it is not.
            return sum(self._purge_one(number) for number in wanted.ids)
        return int(self._json("DELETE", "", query or {"all": "true"})["count"])

    def replay(self, wanted: Filter, rate: float) -> Iterator[Json]:
        """Yield what became of each letter, as it happens; to stop iterating ends the replay."""
        body: Json = {"rate": rate}
        if wanted.ids is not None:
            body["ids"] = wanted.ids
        else:
            body["filter"] = _query(wanted)
        with self._ask("POST", "/replay", body=body, seconds=_LONG) as response:
            yield from map(json.loads, _lines(response or ()))

    def _purge_one(self, number: int) -> int:
        with self._ask("DELETE", f"/{number}", missing_is_none=True) as response:
            return 0 if response is None else 1

    def _json(self, method: str, path: str, query: Mapping[str, object]) -> Json:
        with self._ask(method, path, query) as response:
            found: Json = json.loads(response.read() if response else b"{}")
            return found

    @contextlib.contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: Json | None = None,
        seconds: float = _SECONDS,
        missing_is_none: bool = False,
    ) -> Iterator[HTTPResponse | None]:
        # Not urllib.request: it would ask the proxy of the environment for a loopback address.
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        target = f"{self._parts.path.rstrip('/')}{_PATH}{path}"
        if query:
            target += f"?{urlencode(query, errors='replace')}"
        connection = kind(self._parts.netloc, timeout=seconds)
        try:
            content = None if body is None else json.dumps(body)
            type_ = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, content, {**self._headers, **type_})
            response = connection.getresponse()
            if response.status == 404 and missing_is_none:
                text = response.read(2000)
                if b"no such dead letter" not in text:
                    raise AccessError(self._refusal(response, text))
                yield None
            elif response.status != 200:
                raise AccessError(self._refusal(response, response.read(2000)))
            else:
                yield response
        except (OSError, HTTPException, ValueError) as error:
            what = str(error) or type(error).__name__
            raise AccessError(
                f"can't reach the dead letters at {self._url}: {what}; say where the gateway's"
                " administration is with --url, or with --state the folder of one that is stopped"
            ) from None
        finally:
            connection.close()

    def _refusal(self, response: HTTPResponse, text: bytes) -> str:
        try:
            detail = json.loads(text)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = text[:200].decode(errors="replace")
        return f"{self._url} answers {response.status} {response.reason}: {detail}"


def _lines(response: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines; one that says that the gateway could not go on is raised."""
    for line in response:
        text = line.rstrip(b"\n")
        if text.startswith(b'{"error":'):
            raise AccessError(str(json.loads(text)["error"]))
        yield text


def _query(wanted: Filter) -> dict[str, object]:
    """Return what the API's query calls it; ids are asked for elsewhere."""
    names = ("route", "source", "sink", "reason", "type", "since", "until")
    values = ((name, getattr(wanted, name)) for name in names)
    return {name: value for name, value in values if value is not None}
