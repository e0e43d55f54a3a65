"""What a recipient answers (Knative data-plane.md)."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from bindings.binding import Message
from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import Family
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient, Response, post
from conformance.reference import headers, json_event
from conformance.reference.carrier import JSON_TYPE
from conformance.target import SinkAnswer, Target

RECEIVING: Final = Family(
    "recipient", "knative-recipient", "knative", role="consumer", needs="target", protocol="http"
)
CORE: Final = Family(
    "recipient", "http-recipient", "http", role="consumer", needs="target", protocol="http"
)

LARGEST: Final = 65536
"""Bytes of an event on the wire that every consumer should take (spec.md "Size Limits")."""

EVENT: Final = WireEvent(
    {
        "specversion": "1.0",
        "id": "1",
        "source": "/conformance",
        "type": "org.cloudevents.conformance",
        "datacontenttype": "application/json",
    },
    b'{"n":1}',
)


def checks() -> Iterator[Check]:
    """Return the checks of recipients."""
    for mode in ("binary", "structured"):
        yield RECEIVING.check(
            f"takes-{mode}", f"an event in {mode} mode is taken", "KN-001 KN-002",
            partial(_takes, mode), "2xx",
        )  # fmt: skip
    yield RECEIVING.check(
        "duplicates", "an event that comes again is taken again", "KN-007", _takes_again, "2xx"
    )
    for answer in ("down", "busy", "reject"):
        yield RECEIVING.check(
            f"no-success-{answer}", f"no success while the sink behind it answers {answer}",
            "KN-005", partial(_no_success, answer), "no 2xx",
        )  # fmt: skip
    yield RECEIVING.check(
        "waits", "no success before the sink has answered", "KN-005", _waits, "2xx, late"
    )
    yield RECEIVING.check(
        "options", "whoever answers OPTIONS lists POST in Allow", "KN-004", _options, "Allow: POST"
    )
    for mode in ("binary", "structured"):
        yield CORE.check(
            f"largest-{mode}", f"an event of 64 KiB on the wire is taken in {mode} mode",
            "CORE-SIZE-001 CORE-SIZE-004", partial(_largest, mode), "2xx",
        )  # fmt: skip


def request_of(mode: str, target: str = "/", event: WireEvent = EVENT) -> bytes:
    """Return a POST of an event, written by hand."""
    if mode == "binary":
        return post(headers.write("http", event), target)
    return post(Message(json_event.write(event), JSON_TYPE), target)


async def ask(target: Target, data: bytes) -> Response:
    """Send a request on a connection of its own; return the answer."""
    async with HttpClient(target.url) as client:
        client.send(data)
        return await client.receive()


async def _takes(mode: str, target: Target) -> None:
    target.forget()
    async with HttpClient(target.url) as client:
        client.send(request_of(mode, client.target))
        expect_success(await client.receive())
    (event, *_) = await target.events(1)
    if event.attributes.get("id") != "1" or event.data != EVENT.data:
        raise CheckFailed("another event came out", expected=str(EVENT), got=str(event))


async def _largest(mode: str, target: Target) -> None:
    target.forget()
    overhead = len(request_of(mode, event=WireEvent(EVENT.attributes, b'""')))
    event = WireEvent(EVENT.attributes, b'"' + b"x" * (LARGEST - overhead) + b'"')
    async with HttpClient(target.url) as client:
        client.send(request_of(mode, client.target, event))
        expect_success(await client.receive())
    (got, *_) = await target.events(1)
    if got.data != event.data:
        raise CheckFailed("the data is another", got=f"{len(got.data or b'')} bytes")


async def _takes_again(target: Target) -> None:
    target.forget()
    async with HttpClient(target.url) as client:
        for _ in range(3):
            client.send(request_of("binary", client.target))
            expect_success(await client.receive())


async def _no_success(answer: SinkAnswer, target: Target) -> None:
    target.sink_answers(answer)
    try:
        async with HttpClient(target.url) as client:
            client.send(request_of("binary", client.target))
            response = await client.receive(1.0)
    except CheckFailed:  # no answer is no success: it may still be trying
        return
    finally:
        target.sink_answers("accept")
    if 200 <= response.status < 300:
        raise CheckFailed(
            "an event was taken that the sink did not take",
            expected="an error, or no answer",
            got=response.head,
            reproduce=f"the sink answers {answer}",
        )


async def _waits(target: Target) -> None:
    target.sink_answers("hang")
    try:
        async with HttpClient(target.url) as client:
            client.send(request_of("binary", client.target))
            if not await client.is_silent(0.2):
                raise CheckFailed("an answer came before the sink's")
    finally:
        target.sink_answers("accept")


async def _options(target: Target) -> None:
    async with HttpClient(target.url) as client:
        client.send(f"OPTIONS {client.target} HTTP/1.1\r\nHost: conformance\r\n\r\n".encode())
        response = await client.receive()
    allowed = response.header("allow") or ""
    if response.status < 300 and "POST" not in [one.strip() for one in allowed.split(",")]:
        raise CheckFailed("POST is not in Allow", expected="Allow: POST", got=response.head)


def expect_success(response: Response) -> None:
    """Demand a 2xx.

    Raises:
        CheckFailed: it is something else.
    """
    if not 200 <= response.status < 300:
        raise CheckFailed(
            "the event was refused", expected="2xx", got=f"{response.head}\n{response.body!r}"
        )
