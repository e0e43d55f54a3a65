"""What a sender sends, how it shows its token, and what it makes of the answers."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import Deliveries, shown
from conformance.checks.delivery.waiting import retry_after_date, retry_after_seconds
from conformance.checks.webhook.consent import SENDER, consent, expect_at_most, posts, webhook
from conformance.forms import Refused
from conformance.peers.http_server import HttpServer
from conformance.reference.delivered import read_delivery
from conformance.target import Delivering, Request, Response

TOKENS: Final = {"plain": "abc123", "odd": "s3cr~t-._+/A1=", "long": "x" * 2000}
_FAR: Final = "https://receiver.example.com/hook"
_EARLY: Final = 0.005


def checks() -> Iterator[Check]:
    """Return the checks of a sender's deliveries."""
    yield SENDER.check(
        "https", "no webhook is delivered over plain HTTP", "WH-DLV-001",
        partial(_refused, {"url": "http://receiver.example.com/hook", "token": "x"}), "refused",
    )  # fmt: skip
    yield SENDER.check(
        "authorized", "no webhook is delivered without a token", "WH-AUT-001",
        partial(_refused, {"url": _FAR}), "refused",
    )  # fmt: skip
    yield SENDER.check(
        "no-password", "a webhook shows a token, and no password", "WH-AUT-001",
        partial(_refused, {"url": _FAR, "username": "u", "password": "p"}), "refused",
    )  # fmt: skip
    for origin in ("https://gateway.example.com", "gateway.example.com:443", "a b", ""):
        yield SENDER.check(
            f"origin-{origin or 'empty'}", f"an origin is a DNS name, and {origin!r} is none",
            "WH-VAL-002", partial(_refused, {"webhook": {"origin": origin}}), "refused",
        )  # fmt: skip
    for mode in ("binary", "structured"):
        for name in ("no-data", "empty-data", "no-type", "data"):
            yield SENDER.check(
                f"payload-{mode}-{name}", f"an event ({name}) has payload and type ({mode} mode)",
                "WH-DLV-003", partial(_has_payload, mode, name), "payload and Content-Type",
            )  # fmt: skip
    yield from _tokens()
    yield SENDER.check(
        "retired", "after 410 Gone nothing more is sent", "WH-RSP-009", _retired, "nothing sent"
    )
    yield SENDER.check(
        "retry-after", "after 429 nothing is sent before the time of Retry-After, of either form",
        "WH-RSP-012", _waits, "waits",
    )  # fmt: skip
    for status in (301, 302, 303, 307, 308):
        yield SENDER.check(
            f"redirect-{status}", f"{status} is followed neither by OPTIONS nor by POST",
            "WH-RSP-003", partial(_not_followed, status), "not followed",
        )  # fmt: skip
    yield SENDER.check(
        "error-body", "the body of an error may be anything", "WH-RSP-001", _error_body, "repeated"
    )


def _tokens() -> Iterator[Check]:
    for name, token in TOKENS.items():
        yield SENDER.check(
            f"token-header-{name}", f"a token ({name}) is shown as Authorization: Bearer",
            "WH-AUT-001 WH-AUT-003 WH-AUT-005 WH-AUT-010", partial(_in_header, token), "Bearer",
        )  # fmt: skip
        yield SENDER.check(
            f"token-query-{name}", f"a token ({name}) may be shown in the query",
            "WH-AUT-001 WH-AUT-003 WH-AUT-006 WH-AUT-007 WH-AUT-008", partial(_in_query, token),
            "access_token",
        )  # fmt: skip
    yield SENDER.check(
        "challenge", "a challenge is not answered", "WH-AUT-004", _challenge, "no other scheme"
    )


async def _refused(sink: Mapping[str, Any], sender: Delivering) -> None:
    settings = {"webhook": {"origin": "gateway.example.com"}, **sink}
    try:
        async with sender.variant(sink=settings):
            pass
    except Refused:
        return
    raise CheckFailed("such a sender can be started", expected="a refusal", got=str(settings))


async def _has_payload(mode: str, name: str, sender: Delivering) -> None:
    async with webhook(sender, {"mode": mode}) as one:
        deliveries = Deliveries(one, {}, consent())
        event = {
            "no-data": deliveries.event(name, None),
            "empty-data": deliveries.event(name, b"", datacontenttype="text/plain"),
            "no-type": deliveries.event(name, b"\x00\x01", datacontenttype=None),
            "data": deliveries.event(name),
        }[name]
        await one.send(event)
        (request, *_) = await deliveries.wait(name)
    if not request.body or not request.header("content-type"):
        raise CheckFailed(
            "a delivery without payload or type",
            expected="both",
            got=shown(request),
        )
    (got,) = read_delivery(request)
    if got.attributes["id"] != event.attributes["id"] or (got.data or b"") != (event.data or b""):
        raise CheckFailed("another event", expected=str(event), got=shown(request))


async def _in_header(token: str, sender: Delivering) -> None:
    async with webhook(sender, {"token": token}) as one:
        deliveries = Deliveries(one, {}, consent())
        await deliveries.send("event")
        (request, *_) = await deliveries.wait("event")
    if request.header("authorization") != f"Bearer {token}":
        raise CheckFailed(
            "the token is shown otherwise", expected=f"Bearer {token}", got=shown(request)
        )
    if token in request.target:
        raise CheckFailed("the token is in the URL", got=request.target)


async def _in_query(token: str, sender: Delivering) -> None:
    shown_as = f"access_token={quote(token, safe='')}"
    for query in ("", "a=b&c=d"):
        async with HttpServer() as server:
            server.script = lambda _: consent()
            url = f"{server.url}/hook?{query}" if query else f"{server.url}/hook"
            settings = {"url": url, "token": token}
            async with webhook(sender, settings, query_token=True) as one:
                await Deliveries(one).send("event")
                for request in (await server.requests(2))[:2]:
                    _judge_query(request, shown_as, query)


def _judge_query(request: Request, shown_as: str, query: str) -> None:
    place, _, found = request.target.partition("?")
    parts = found.split("&")
    if place != "/hook" or parts.count(shown_as) != 1:
        raise CheckFailed("no access_token in the query", expected=shown_as, got=request.target)
    parts.remove(shown_as)
    if "&".join(parts) != query:
        raise CheckFailed("the query is another", expected=query, got=request.target)
    if request.header("authorization") is not None:
        raise CheckFailed("the token is shown twice", got=shown(request))
    kept = [one.strip() for one in (request.header("cache-control") or "").split(",")]
    if "no-store" not in kept:
        raise CheckFailed(
            "caches may keep the token", expected="Cache-Control: no-store", got=shown(request)
        )


async def _challenge(sender: Delivering) -> None:
    for challenge in ('Digest realm="x", nonce="y", qop="auth"', "NTLM", "Negotiate"):
        answer = Response(status=401, headers=[("WWW-Authenticate", challenge)])
        async with webhook(sender, {"token": "abc"}) as one:
            deliveries = Deliveries(one, {"event": answer}, consent())
            await deliveries.send("event")
            await deliveries.wait("event")
            await deliveries.pass_marker()
            for request in await deliveries.all():
                if not (request.header("authorization") or "").startswith("Bearer "):
                    raise CheckFailed("the challenge was answered", got=shown(request))


async def _retired(sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {"event": Response(status=410)}, consent())
        await deliveries.send("event")
        await deliveries.wait("event")
        await deliveries.send("later", "last")
        await expect_at_most(one, 1)


async def _waits(sender: Delivering) -> None:
    await asyncio.gather(
        *(_waits_as_told(form, sender) for form in (retry_after_seconds, retry_after_date))
    )


async def _waits_as_told(form: Callable[[], tuple[str, float]], sender: Delivering) -> None:
    async with webhook(sender) as one:
        value, due = form()
        answer = Response(status=429, headers=[("Retry-After", value)])
        deliveries = Deliveries(one, {"event": [answer]}, consent())
        await deliveries.send("event")
        await deliveries.wait("event")
        await deliveries.send("other")
        for name, count in (("event", 2), ("other", 1)):
            at = (await deliveries.wait(name, count))[-1].at - time.monotonic() + time.time()
            if at < due - _EARLY:
                raise CheckFailed(
                    f"event {name!r} was sent before the time of Retry-After",
                    expected=f"Retry-After: {value}",
                    got=f"{due - at:.3f} s too early",
                    reproduce=deliveries.story("event"),
                )


async def _not_followed(status: int, sender: Delivering) -> None:
    answer = Response(status=status, headers=[("Location", "/elsewhere")])
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {"event": answer}, answer, consent())
        for name in ("first", "event"):
            await deliveries.send(name)
            await deliveries.wait(name)
        await deliveries.pass_marker()
        requests = await deliveries.all()
    wrong = [request for request in requests if request.target == "/elsewhere"]
    if wrong or requests[1].method != "OPTIONS":
        raise CheckFailed(
            "the redirect was followed, or taken for consent",
            expected="OPTIONS, OPTIONS, POST",
            got="\n".join(shown(request) for request in wrong or posts(requests)),
        )
    await deliveries.expect_count("event", 1, "the event was sent again")


async def _error_body(sender: Delivering) -> None:
    async with webhook(sender) as one:
        errors = [
            Response(status=503, body=b"\xff\x00<html>", headers=[("Content-Type", "image/png")]),
            Response(status=500, body=b"x" * 70_000),
            Response(status=503, body=b'{"error": {"retry": false}}'),
        ]
        deliveries = Deliveries(one, {"event": errors}, consent())
        await deliveries.send("event")
        await deliveries.wait("event", 4)
