"""What an answer to a delivery means (Knative data-plane.md, "Event Acknowledgement and Retry").

That an event is not repeated is seen by a marker: an event that is answered 503 once, sent after
it. When the marker has been repeated, anything that was to be repeated before it has been, too.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import Deliveries, Family, phrase, shown
from conformance.forms import WireEvent
from conformance.peers.http_server import HttpServer
from conformance.reference import json_event
from conformance.target import Delivering, Response

KNATIVE: Final = Family("statuses", "knative", "delivery", role="producer", needs="delivering")

DELIVERED: Final = (200, 201, 202, 203, 204, 205, 206, 226, 299)
REPEATED: Final = (404, 408, 409, 429, 500, 501, 502, 503, 504, 507, 511, 520, 599)
REFUSED: Final = (
    400, 401, 402, 403, 405, 406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423,
    424, 425, 426, 428, 431, 451, 499,
)  # fmt: skip
REDIRECTS: Final = (300, 301, 302, 303, 305, 307, 308)

_TORN: Final = {
    "closed": ("a connection that is closed without an answer", Response(status=0)),
    "torn-status-line": ("half a status line", Response(raw=b"HTTP/1.1 20")),
    "no-http": ("an answer that is no HTTP", Response(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
}


def checks() -> Iterator[Check]:
    """Return a check for each answer."""
    for status in DELIVERED:
        yield _status(status, "delivered", once)
    for status in REPEATED:
        yield _status(status, "repeated", repeated)
    for status in REFUSED:
        yield _status(status, "neither delivered nor repeated", once)
    for status in REDIRECTS:
        yield _status(status, "neither followed nor repeated", not_followed)
    yield KNATIVE.check(
        "status-304", "304 Not Modified is no success, and is not repeated", "KN-006",
        partial(once, Response(status=304)), "not repeated",
    )  # fmt: skip
    yield KNATIVE.check(
        "status-101", "101 Switching Protocols is an error, and is not repeated", "KN-006",
        partial(once, Response(raw=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")),
        "not repeated",
    )  # fmt: skip
    for name, (what, answer) in _TORN.items():
        yield KNATIVE.check(
            f"no-answer-{name}", f"after {what} the event is sent again", "KN-006",
            partial(repeated, answer), "repeated",
        )  # fmt: skip
    yield KNATIVE.check(
        "no-answer-in-time", "without an answer in time the event is sent again", "KN-006",
        _times_out, "repeated",
    )  # fmt: skip
    yield KNATIVE.check(
        "no-connection", "an event that nobody takes is sent when somebody listens", "KN-006",
        _nobody_listens, "repeated",
    )  # fmt: skip
    yield KNATIVE.check(
        "interim-answer", "an interim answer is passed over: the final one counts", "KN-001 KN-006",
        _interim, "delivered",
    )  # fmt: skip
    yield KNATIVE.check(
        "torn-body", "the status line decides, even when the body breaks off", "KN-006",
        partial(once, Response(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")),
        "delivered",
    )  # fmt: skip
    for status in (200, 202):
        yield KNATIVE.check(
            f"no-reply-{status}", f"an event in the body of {status} is no reply unless asked for",
            "KN-010", partial(_no_reply, status), "ignored",
        )  # fmt: skip


def _status(status: int, verdict: str, run: Callable[[Response, Delivering], object]) -> Check:
    headers = [("Location", "/elsewhere")] if status in REDIRECTS else []
    answer = Response(status=status, headers=headers)
    title = f"after {phrase(status)} the event is {verdict}"
    # A webhook's sender may not follow a redirect either.
    ids = "KN-006 WH-RSP-003" if status in REDIRECTS else "KN-006"
    return KNATIVE.check(f"status-{status}", title, ids, partial(run, answer), verdict)


async def once(answer: Response, sender: Delivering) -> None:
    """Demand that an event which is answered so is not sent again."""
    deliveries = Deliveries(sender, {"event": answer})
    await deliveries.send("event")
    await deliveries.wait("event")
    await deliveries.pass_marker()
    await deliveries.expect_count("event", 1, "the event was sent again")


async def repeated(answer: Response, sender: Delivering) -> None:
    """Demand that an event which is answered so is sent again, and no more than that."""
    deliveries = Deliveries(sender, {"event": [answer]})
    await deliveries.send("event")
    first, second, *_ = await deliveries.wait("event", 2)
    await deliveries.pass_marker()
    await deliveries.expect_count("event", 2, "the event was sent again after it was delivered")
    if (first.target, first.body) != (second.target, second.body):
        raise CheckFailed(
            "the repetition is another request",
            expected=shown(first),
            got=shown(second),
            reproduce=deliveries.story("event"),
        )


async def not_followed(answer: Response, sender: Delivering) -> None:
    """Demand that a redirect leads nowhere."""
    deliveries = Deliveries(sender, {"event": answer})
    await deliveries.send("event")
    await deliveries.wait("event")
    await deliveries.pass_marker()
    for request in await deliveries.all():
        if request.target == "/elsewhere":
            raise CheckFailed(
                "the redirect was followed",
                expected="one request",
                got=shown(request),
                reproduce=deliveries.story("event"),
            )
    await deliveries.expect_count("event", 1, "the event was sent again")


async def _times_out(sender: Delivering) -> None:
    async with sender.variant(delivery={"timeout": "PT0.1S"}) as impatient:
        await repeated(Response(delay=30.0), impatient)


async def _nobody_listens(sender: Delivering) -> None:
    async with HttpServer() as reserved:
        url = reserved.url
    async with sender.variant(sink={"url": url}) as early:
        event = Deliveries(early).event("event")
        await early.send(event)
        port = int(url.rpartition(":")[2])
        async with HttpServer(port=port) as server:
            requests = await server.requests(1)
    got = requests[0].header("ce-id") or json_event.read(requests[0].body).attributes.get("id")
    if got != event.attributes["id"]:
        raise CheckFailed("another event came", expected=event.attributes["id"], got=str(got))


async def _interim(sender: Delivering) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    await once(Response(raw=interim + accepted), sender)
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    await repeated(Response(raw=interim + refused), sender)


async def _no_reply(status: int, sender: Delivering) -> None:
    """Demand that what an answer holds goes nowhere, unless `Prefer: reply` asked for it."""
    deliveries = Deliveries(sender)
    reply = deliveries.event("reply")
    structured = Response(
        status=status,
        headers=[("Content-Type", "application/cloudevents+json")],
        body=json_event.write(reply),
    )
    binary = Response(
        status=status,
        headers=[
            ("Content-Type", "application/json"),
            *((f"ce-{name}", str(value)) for name, value in _named(reply)),
        ],
        body=b'{"n":1}',
    )
    deliveries = Deliveries(sender, {"structured": structured, "binary": binary})
    await deliveries.send("structured", "binary")
    requests = [*await deliveries.wait("structured"), *await deliveries.wait("binary")]
    await deliveries.pass_marker()
    for request in requests:
        preferences = (request.header("prefer") or "").lower()
        if "reply" in preferences.replace(" ", "").replace(";", ",").split(","):
            raise CheckFailed(
                "Prefer: reply was sent by a sender that processes no replies", got=shown(request)
            )
    for name in ("structured", "binary"):
        await deliveries.expect_count(name, 1, "a success with a body was sent again")
    replies = [
        item for item in await deliveries.all() if str(reply.attributes["id"]) in shown(item)
    ]
    if replies:
        raise CheckFailed(
            "the body of an answer was taken for a new event",
            got=shown(replies[0]),
            reproduce=deliveries.story("structured"),
        )


def _named(event: WireEvent) -> Iterator[tuple[str, object]]:
    for name, value in event.attributes.items():
        if name != "datacontenttype":
            yield name, value
