"""`ce-gateway listen`: print events, from a gateway's event log or as an HTTP sink."""

import contextlib
import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Annotated, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import typer

from gateway.cli import FAILED

# Above the default of 1000, so that what a gateway could read can be read here, deeper in calls.
_RECURSION_LIMIT: Final = 2000
_LINE_BREAKS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")


class _Identity(msgspec.Struct):
    source: str
    id: str


_IDENTITY: Final = msgspec.json.Decoder(_Identity)
_EVENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def command(
    url: Annotated[
        str, typer.Argument(help="Administration of a gateway.")
    ] = "http://127.0.0.1:8081",
    *,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Be an HTTP sink there instead.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="Stop after so many events.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="Begin with so many past events.")] = 0,
    sink: Annotated[str | None, typer.Option(help="Which event log, if there are several.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one event in JSON format per line.")
    ] = False,
) -> None:
    """Print events as they arrive, until Ctrl-C.

    It follows the built-in event log of a gateway (a sink with `protocol: log`), or with --serve
    takes events over HTTP, at every path and in every content mode, and answers 202.

    \b
    Examples:
      ce-gateway listen
      ce-gateway listen --last 10 --json
      ce-gateway listen --serve 127.0.0.1:9000
    """  # noqa: D301 - \b keeps lines apart
    out = Printer(count, as_json=as_json)
    with contextlib.suppress(KeyboardInterrupt):
        if serve is not None:
            from gateway.cli.http_sink import run_http_sink  # noqa: PLC0415 - only with --serve

            run_http_sink(serve, out)
        else:
            _follow(url, sink, last, out)


class Printer:
    """Prints events until there were enough of them."""

    def __init__(self, count: int | None, *, as_json: bool) -> None:
        self._left = count
        self._as_json = as_json

    @property
    def done(self) -> bool:
        """Whether the last event was the last one to print."""
        return self._left == 0

    def show(self, encoded: bytes) -> None:
        """Print an event in JSON format."""
        if self.done:
            return
        # Line breaks in JSON stand between tokens only.
        text = encoded.translate(_LINE_BREAKS_TO_BLANKS).decode()
        if not self._as_json:
            try:
                text = as_block(json.loads(encoded))
            except (ValueError, RecursionError):  # a number of 5000 digits, a thousand levels
                text = printable(text)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if self._left is not None:
            self._left -= 1


def as_block(event: dict[str, object]) -> str:
    """Return an event as lines for people: attributes in columns, then the data."""
    attributes = {
        name: value for name, value in event.items() if name not in {"data", "data_base64"}
    }
    width = max(map(len, attributes), default=0)
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in attributes.items()]
    if "data_base64" in event:
        lines.append(f"{'data_base64':<{width}}  {event['data_base64']}")
    elif "data" in event:
        data = event["data"]
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2)
        lines += ["", *(printable(line) for line in text.splitlines())]
    return "\n".join([*lines, "-" * 40])


def _shown(value: object) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value)


def printable(text: str) -> str:
    """Return text with what does not print as escapes."""
    # What a device sends must not move the cursor of a terminal.
    return "".join(c if c.isprintable() or c == "\t" else f"\\u{ord(c):04x}" for c in text)


def _follow(url: str, sink: str | None, last: int, out: Printer) -> None:
    sys.setrecursionlimit(_RECURSION_LIMIT)
    try:
        _stream(url.rstrip("/"), sink, last, out)
    except (OSError, HTTPException) as error:
        typer.echo(f"can't follow {url}: {str(error) or type(error).__name__}", err=True)
        raise typer.Exit(FAILED) from None
    if not out.done:
        typer.echo(f"{url} has ended the stream", err=True)
        raise typer.Exit(FAILED)


def _stream(url: str, sink: str | None, last: int, out: Printer) -> None:
    """Print past events, then those that come; the stream is opened first so that none is lost."""
    which = {"sink": sink} if sink else {}
    with _get(f"{url}/api/v1/events/stream", which, timeout=None) as stream:
        seen: set[tuple[str, str]] = set()
        if last:
            with _get(f"{url}/api/v1/events", {**which, "limit": str(last)}, timeout=10) as past:
                events = _EVENTS.decode(past.read())
            for event in events:
                out.show(bytes(event))
            seen = {_identity(bytes(event)) for event in events}
        new = _server_sent(stream)
        while not out.done and (encoded := next(new, None)) is not None:
            if not seen or _identity(encoded) not in seen:
                out.show(encoded)


def _identity(encoded: bytes) -> tuple[str, str]:
    """Return what tells an event from others (spec.md "id"); the rest of it is not read."""
    event = _IDENTITY.decode(encoded)
    return event.source, event.id


@contextlib.contextmanager
def _get(url: str, query: dict[str, str], timeout: float | None) -> Iterator[HTTPResponse]:
    # Not urllib.request: it would ask the proxy of the environment for a loopback address.
    parts = urlsplit(url if "://" in url else f"http://{url}")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=timeout)
    try:
        connection.request("GET", f"{parts.path}?{urlencode(query)}" if query else parts.path)
        response = connection.getresponse()
        if response.status != 200:
            text = response.read(200).decode(errors="replace")
            raise HTTPException(f"it answers {response.status} {response.reason}: {text}")
        yield response
    finally:
        connection.close()


def _server_sent(stream: HTTPResponse) -> Iterator[bytes]:
    """Yield the data of each server-sent event (HTML standard 9.2.6); each is one line."""
    while line := stream.readline():
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()
