"""What a delivery target answers to deliveries: statuses, authorization, limits."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.delivery.receiving import EVENT, expect_success, request_of
from conformance.checks.webhook.handshake import ORIGIN, TARGET, asked, options
from conformance.peers.http_client import HttpClient, Response, post
from conformance.reference import headers
from conformance.target import Target

TOKEN: Final = "s3cr~t-._+/A1="  # noqa: S105 - a check's own
NOT_UNDERSTOOD: Final = (
    "application/cloudevents+unknown",
    "application/cloudevents",
    "application/cloudevents-batch+xml",
    "application/cloudevents-batch",
    "application/cloudeventsx+json",
)

_HTTP_DATE = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


def checks() -> Iterator[Check]:
    """Return the checks of a target's answers."""
    yield TARGET.check(
        "success", "a success says what it means: 201, 202, 204, or 200 with a typed body",
        "WH-RSP-004 WH-RSP-005 WH-RSP-006 WH-RSP-007", _success, "202",
    )  # fmt: skip
    yield TARGET.check(
        "no-redirect", "no address of the target redirects", "WH-RSP-002", _no_redirect, "no 3xx"
    )
    yield TARGET.check("retired", "a retired target answers 410", "WH-RSP-008", _retired, "410")
    for content_type in NOT_UNDERSTOOD:
        name = content_type.partition("/")[2]
        yield TARGET.check(
            f"format-{name}", f"{content_type} is not understood: 415", "WH-RSP-013",
            partial(_format, content_type), "415",
        )  # fmt: skip
    for name, (what, change, statuses) in _ERRORS.items():
        yield TARGET.check(
            f"error-{name}", f"{what} is answered {' or '.join(map(str, statuses))}",
            "WH-RSP-005 WH-RSP-014", partial(_error, change, statuses),
            " or ".join(map(str, statuses)),
        )  # fmt: skip
    yield TARGET.check(
        "too-fast", "a sender above its rate is answered 429 with Retry-After",
        "WH-RSP-010 WH-RSP-011", _too_fast, "429",
    )  # fmt: skip
    yield TARGET.check(
        "busy", "429 for a busy sink has Retry-After, too", "WH-RSP-011", _busy, "429"
    )
    yield TARGET.check(
        "origin-denied", "a delivery of an origin without consent is refused", "WH-VRS-001",
        _origin_denied, "4xx",
    )  # fmt: skip
    yield from _authorization()


def _authorization() -> Iterator[Check]:
    escaped = quote(TOKEN, safe="")
    bearer = ("Authorization", f"Bearer {TOKEN}")
    for name, what, query, fields in (
        ("header", "in the header", "", [bearer]),
        ("header-case", "with a scheme in lower case", "", [(bearer[0], f"bearer {TOKEN}")]),
        ("query", "in the query", f"access_token={escaped}", []),
        ("query-last", "after other parameters", f"a=b&access_token={escaped}", []),
        ("query-first", "before other parameters", f"access_token={escaped}&a=b", []),
    ):
        yield TARGET.check(
            f"token-{name}", f"the token is understood {what}", "WH-AUT-002",
            partial(_token, query, fields), "2xx",
        )  # fmt: skip
    yield TARGET.check(
        "token-private", "a success with the token in the query has Cache-Control: private",
        "WH-AUT-009", partial(_private, f"access_token={escaped}"), "Cache-Control: private",
    )  # fmt: skip
    for name, what, query, fields in (
        ("none", "no token", "", []),
        ("wrong", "a wrong token", "", [("Authorization", f"Bearer {TOKEN}x")]),
        ("shorter", "a part of the token", "", [("Authorization", f"Bearer {TOKEN[:-1]}")]),
        ("case", "a token in another case", "", [("Authorization", f"Bearer {TOKEN.upper()}")]),
        ("scheme", "another scheme", "", [("Authorization", f"Token {TOKEN}")]),
        ("query-wrong", "a wrong token in the query", "access_token=x", []),
        ("query-other", "another parameter", f"xaccess_token={escaped}", []),
    ):
        yield TARGET.check(
            f"no-token-{name}", f"{what} is answered 401 without a scheme of challenges",
            "WH-AUT-002 WH-AUT-004 WH-RSP-014", partial(_unauthorized, query, fields), "401",
        )  # fmt: skip


async def send(target: Target, data: bytes) -> Response:
    """Send a request; return the answer, whose form is judged in any case.

    Raises:
        CheckFailed: it redirects, or has a body without a type.
    """
    async with HttpClient(target.url) as client:
        client.send(data)
        response = await client.receive()
    if 300 <= response.status < 400:
        raise CheckFailed("the target redirects", expected="no 3xx", got=response.head)
    if response.body and response.header("content-type") is None:
        raise CheckFailed("a body without Content-Type", got=response.head)
    return response


def delivery(place: str = "/", *fields: tuple[str, str]) -> bytes:
    """Return a delivery in binary mode."""
    message = headers.write("http", EVENT)
    more = [*message.headers, *asked(), *fields]
    return post(Message(message.payload, message.content_type, more), place)


def _place(target: Target, query: str = "") -> str:
    place = HttpClient(target.url).target
    if not query:
        return place
    return f"{place}{'&' if '?' in place else '?'}{query}"


async def _success(target: Target) -> None:
    for data in (delivery(_place(target)), request_of("structured", _place(target))):
        response = await send(target, data)
        allowed = {200, 201, 202} if response.body else {201, 202, 204}
        if response.status not in allowed:
            raise CheckFailed(
                "the status does not say what became of the event",
                expected=" or ".join(map(str, sorted(allowed))),
                got=response.head,
            )


async def _no_redirect(target: Target) -> None:
    place = _place(target)
    for other in (place, f"{place}/", f"{place}//", f"{place}/../", "/index.html", "//", "/%2e/"):
        await send(target, delivery(other))
        head = f"OPTIONS {other} HTTP/1.1\r\nHost: x\r\nWebHook-Request-Origin: {ORIGIN}\r\n\r\n"
        await send(target, head.encode())


async def _retired(target: Target) -> None:
    async with target.variant(retired=True) as gone:
        for response in (await send(gone, delivery()), await options(gone, asked())):
            _expect(response, (410,))


async def _format(content_type: str, target: Target) -> None:
    message = Message(b"{}", content_type, headers.write("http", EVENT).headers)
    _expect(await send(target, post(message, _place(target))), (415,))


def _without_id(place: str) -> bytes:
    message = headers.write("http", EVENT)
    kept = [pair for pair in message.headers if pair[0] != "ce-id"]
    return post(Message(message.payload, message.content_type, kept), place)


def _broken_json(place: str) -> bytes:
    return post(Message(b'{"specversion":"1.0",', "application/cloudevents+json"), place)


def _other_method(place: str) -> bytes:
    return delivery(place).replace(b"POST", b"DELETE", 1)


def _no_http(place: str) -> bytes:
    return f"POST {place} HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n".encode()


_ERRORS: Final[dict[str, Any]] = {
    "no-id": ("an event without an id", _without_id, (400, 422)),
    "no-json": ("a payload that is no JSON", _broken_json, (400, 422)),
    "method": ("another method", _other_method, (405, 501)),
    "malformed": ("malformed HTTP", _no_http, (400,)),
}


async def _error(change: Any, statuses: tuple[int, ...], target: Target) -> None:
    _expect(await send(target, change(_place(target))), statuses)


def _expect(response: Response, statuses: tuple[int, ...]) -> None:
    if response.status not in statuses:
        raise CheckFailed(
            "another status", expected=" or ".join(map(str, statuses)), got=response.head
        )


def _expect_retry_after(response: Response) -> None:
    value = response.header("retry-after") or ""
    if not re.fullmatch("[0-9]+", value) and not _HTTP_DATE.fullmatch(value):
        raise CheckFailed(
            "429 without Retry-After", expected="seconds or an HTTP date", got=response.head
        )


async def _too_fast(target: Target) -> None:
    async with target.variant(allowed_rate=2) as limited:
        for _ in range(2):
            expect_success(await send(limited, delivery()))
        response = await send(limited, delivery())
        _expect(response, (429,))
        _expect_retry_after(response)


async def _busy(target: Target) -> None:
    target.sink_answers("busy")
    try:
        async with HttpClient(target.url) as client:
            client.send(delivery(client.target))
            if await client.is_silent(0.5):
                raise Unsupported("no answer comes while the sink is busy")
        response = await send(target, delivery(_place(target)))
    finally:
        target.sink_answers("accept")
    if response.status == 429:
        _expect_retry_after(response)
    elif response.status < 400:
        raise CheckFailed("the sink did not take it", expected="an error", got=response.head)


async def _origin_denied(target: Target) -> None:
    async with target.variant(allowed_origins=["other.example.com"]) as strict:
        response = await send(strict, delivery())
        if not 400 <= response.status < 500:
            raise CheckFailed("it was taken", expected="4xx", got=response.head)
        allowed = request_of("binary").replace(
            b"\r\n", b"\r\nWebHook-Request-Origin: other.example.com\r\n", 1
        )
        expect_success(await send(strict, allowed))


async def _token(query: str, fields: list[tuple[str, str]], target: Target) -> None:
    async with target.variant(token=TOKEN) as guarded:
        expect_success(await send(guarded, delivery(_place(guarded, query), *fields)))


async def _private(query: str, target: Target) -> None:
    async with target.variant(token=TOKEN) as guarded:
        response = await send(guarded, delivery(_place(guarded, query)))
        expect_success(response)
        cached = [one.strip() for one in (response.header("cache-control") or "").split(",")]
        if "private" not in cached:
            raise CheckFailed(
                "caches may keep it", expected="Cache-Control: private", got=response.head
            )


async def _unauthorized(query: str, fields: list[tuple[str, str]], target: Target) -> None:
    async with target.variant(token=TOKEN) as guarded:
        response = await send(guarded, delivery(_place(guarded, query), *fields))
    _expect(response, (401,))
    for name, value in response.headers:
        if name == "www-authenticate" and re.match("(?i)(digest|ntlm|negotiate|hoba)", value):
            raise CheckFailed("a scheme of challenge and response is offered", got=response.head)
