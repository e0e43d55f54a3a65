"""What a delivery target answers to OPTIONS: who has consent, and how fast it may send."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import Family
from conformance.forms import Refused
from conformance.peers.http_client import HttpClient, Response
from conformance.peers.http_server import HttpServer
from conformance.target import Request, Target

TARGET: Final = Family(
    "webhook target", "webhook-target", "webhook", role="consumer", needs="target", protocol="http"
)

ORIGIN: Final = "events.example.com"
_ALLOWED: Final = ("webhook-allowed-origin", "webhook-allowed-rate")

Fields = Sequence[tuple[str, str]]

ORIGINS: Final = {
    "name": ORIGIN, "label": "sender", "deep": "a.b.c.d.example.com", "digits": "1.example.com",
    "punycode": "xn--bcher-kva.example.com", "longest": ".".join(["a" * 61] * 4),
}  # fmt: skip

LOOKALIKES: Final = {
    "longer": f"{ORIGIN}.evil.example", "sub-domain": f"a.{ORIGIN}", "parent": "example.com",
    "shorter": "events.example.co", "prefixed": f"evil{ORIGIN}", "root": f"{ORIGIN}.",
    "url": f"https://{ORIGIN}", "path": f"{ORIGIN}/", "port": f"{ORIGIN}:443",
    "user": f"{ORIGIN}@evil.example", "list": f"{ORIGIN}, evil.example",
    "list-reversed": f"evil.example, {ORIGIN}", "quoted": f'"{ORIGIN}"', "asterisk": "*",
    "wildcard": "*.example.com", "pattern": "events.example.co.",
    "any-character": "events-example-com",
    "null": "null", "other": "evil.example", "homoglyph": "events.ex\u00e0mple.com",
}  # fmt: skip
"""Origins that are not the one with consent, however they look."""

NO_RATES: Final = ("0", "-1", "1.5", "*", "many", "", "1e3", "\u00b2", "0x10")


def checks() -> Iterator[Check]:
    """Return the checks of the handshake."""
    for name, origin in ORIGINS.items():
        yield TARGET.check(
            f"consent-{name}", f"a handshake of {origin[:40]} is answered by two headers",
            "WH-ABU-001 WH-VRS-001 WH-ORG-001 WH-ORG-002 WH-RAT-002 WH-RAT-005",
            partial(_consents, origin), "consent",
        )  # fmt: skip
    yield TARGET.check(
        "allow", "the answer to a handshake lists POST in Allow", "WH-VRS-005 WH-VRS-006", _allow,
        "Allow: POST",
    )  # fmt: skip
    for rate in ("1", "120", "100000"):
        yield TARGET.check(
            f"rate-{rate}", f"whoever asks for {rate} requests a minute is told a rate",
            "WH-RAT-001 WH-RAT-005", partial(_rate, rate), "a rate",
        )  # fmt: skip
    for number, rate in enumerate(NO_RATES):
        yield TARGET.check(
            f"no-rate-{number}", f"WebHook-Request-Rate: {rate!r} is no rate, and none is granted",
            "WH-RAT-005", partial(_no_rate, rate), "a rate, or no consent",
        )  # fmt: skip
    yield TARGET.check(
        "rate-limit", "no more is granted than is allowed, whatever was asked for",
        "WH-RAT-001 WH-RAT-005", _rate_limit, "at most what is allowed",
    )  # fmt: skip
    yield from _denials()
    yield from _callbacks()


def _denials() -> Iterator[Check]:
    for name, what, fields in (
        ("bare", "OPTIONS without an origin", ()),
        ("empty", "an empty origin", (("WebHook-Request-Origin", ""),)),
        ("rate", "a rate without an origin", (("WebHook-Request-Rate", "120"),)),
        ("preflight", "a browser's preflight request", _PREFLIGHT),
        ("origin", "the Origin of a browser", (("Origin", f"https://{ORIGIN}"),)),
    ):
        yield TARGET.check(
            f"no-handshake-{name}", f"{what} is no handshake", "WH-VRS-001 WH-ORG-002",
            partial(_no_handshake, fields), "no consent",
        )  # fmt: skip
    yield TARGET.check(
        "listed", "an origin that is listed has consent", "WH-VRS-001 WH-ORG-001 WH-ORG-002",
        _listed, "consent",
    )  # fmt: skip
    for name, origin in LOOKALIKES.items():
        yield TARGET.check(
            f"lookalike-{name}", f"{origin} is not {ORIGIN} and has no consent",
            "WH-VRS-001 WH-ORG-002", partial(_lookalike, origin), "no consent",
        )  # fmt: skip
    yield TARGET.check(
        "two-origins", "two origins in one request, one of them listed, have no consent",
        "WH-VRS-001 WH-ORG-002", _two_origins, "no consent",
    )  # fmt: skip
    yield TARGET.check(
        "unsupported", "a target that takes part in no handshake answers 405", "WH-VRS-004",
        _unsupported, "405",
    )  # fmt: skip


def _callbacks() -> Iterator[Check]:
    yield TARGET.check(
        "callback", "consent by callback is withheld in the answer, and has a rate",
        "WH-VRS-002 WH-VAL-006 WH-RAT-003", _callback, "a call",
    )  # fmt: skip
    yield TARGET.check(
        "callback-elsewhere", "no other server than those that are known is called", "WH-VAL-008",
        _calls_no_other, "no call",
    )  # fmt: skip
    yield TARGET.check(
        "callback-denied", "a sender without consent is not called", "WH-VRS-001 WH-VAL-008",
        _calls_nobody_denied, "no call",
    )  # fmt: skip
    yield TARGET.check(
        "callback-plain", "callbacks over plain HTTP can't be allowed", "WH-VAL-008",
        _plain_callback, "refused",
    )  # fmt: skip


_PREFLIGHT: Final = (
    ("Origin", f"https://{ORIGIN}"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "webhook-request-origin, content-type"),
)


def asked(origin: str = ORIGIN, *more: tuple[str, str]) -> Fields:
    """Return the fields of a handshake."""
    return (("WebHook-Request-Origin", origin), *more)


async def options(target: Target, fields: Fields) -> Response:
    """Ask by OPTIONS; return the answer."""
    async with HttpClient(target.url) as client:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        head = f"OPTIONS {client.target} HTTP/1.1\r\nHost: conformance\r\n{lines}\r\n"
        client.send(head.encode("utf-8"))
        return await client.receive()


def expect_consent(response: Response, origin: str) -> str:
    """Demand consent in an answer; return the rate.

    Raises:
        CheckFailed: there is none.
    """
    allowed, rate = (response.header(name) for name in _ALLOWED)
    if not 200 <= response.status < 300 or allowed is None or rate is None:
        raise CheckFailed(
            "there is no consent", expected="2xx and both WebHook-Allowed- headers",
            got=response.head,
        )  # fmt: skip
    if allowed not in {origin, "*"}:
        raise CheckFailed(
            "consent for another origin", expected=f"{origin} or *", got=response.head
        )
    expect_rate(rate)
    return rate


def expect_rate(rate: str) -> None:
    """Demand a rate.

    Raises:
        CheckFailed: it is none.
    """
    if rate != "*" and not re.fullmatch("0*[1-9][0-9]*", rate):
        raise CheckFailed("the rate is none", expected="* or a positive integer", got=rate)


def expect_no_consent(response: Response) -> None:
    """Demand that an answer does not consent.

    Raises:
        CheckFailed: it does.
    """
    if any(response.header(name) is not None for name in _ALLOWED):
        raise CheckFailed(
            "there is consent", expected="no WebHook-Allowed- header", got=response.head
        )


async def _consents(origin: str, target: Target) -> None:
    expect_consent(await options(target, asked(origin)), origin)


async def _allow(target: Target) -> None:
    response = await options(target, asked())
    methods = [one.strip() for one in (response.header("allow") or "").split(",")]
    if "POST" not in methods:
        raise CheckFailed("POST is not in Allow", expected="Allow: POST", got=response.head)


async def _rate(rate: str, target: Target) -> None:
    expect_consent(await options(target, asked(ORIGIN, ("WebHook-Request-Rate", rate))), ORIGIN)


async def _no_rate(rate: str, target: Target) -> None:
    response = await options(target, asked(ORIGIN, ("WebHook-Request-Rate", rate)))
    granted = response.header("webhook-allowed-rate")
    if granted is not None:
        expect_rate(granted)


async def _rate_limit(target: Target) -> None:
    async with target.variant(allowed_rate=60) as limited:
        for wanted in ("30", "60", "120", "9" * 30, ""):
            fields = [("WebHook-Request-Rate", wanted)] if wanted else []
            granted = expect_consent(await options(limited, asked(ORIGIN, *fields)), ORIGIN)
            if granted == "*" or int(granted) > 60:
                raise CheckFailed(
                    "more is granted than allowed", expected="at most 60", got=granted,
                    reproduce=f"WebHook-Request-Rate: {wanted}",
                )  # fmt: skip


async def _no_handshake(fields: Fields, target: Target) -> None:
    expect_no_consent(await options(target, fields))


async def _listed(target: Target) -> None:
    async with target.variant(allowed_origins=["other.example.com", ORIGIN]) as strict:
        response = await options(strict, asked())
        expect_consent(response, ORIGIN)
        if response.header("webhook-allowed-origin") == "*":
            raise CheckFailed("everybody has consent", expected=ORIGIN, got="*")


async def _lookalike(origin: str, target: Target) -> None:
    async with target.variant(allowed_origins=[ORIGIN]) as strict:
        expect_no_consent(await options(strict, asked(origin)))


async def _two_origins(target: Target) -> None:
    async with target.variant(allowed_origins=[ORIGIN]) as strict:
        for pair in ((ORIGIN, "evil.example"), ("evil.example", ORIGIN)):
            response = await options(strict, [("WebHook-Request-Origin", one) for one in pair])
            expect_no_consent(response)


async def _unsupported(target: Target) -> None:
    async with target.variant(allowed_origins=[]) as closed:
        response = await options(closed, asked())
        expect_no_consent(response)
        if response.status != 405:
            raise CheckFailed("another status", expected="405", got=response.head)


def _url(server: HttpServer, place: str = "/consent?id=1&key=s3cret") -> str:
    return f"{server.url}{place}"


def _callback_to(url: str, origin: str = ORIGIN) -> Fields:
    rate = ("WebHook-Request-Rate", "120")
    return asked(origin, ("WebHook-Request-Callback", url), rate)


async def _callback(target: Target) -> None:
    async with HttpServer() as server, target.variant(callbacks=[server.url]) as calling:
        expect_no_consent(await options(calling, _callback_to(_url(server))))
        (request, *_) = await server.requests(1)
    _judge_call(request)


def _judge_call(request: Request) -> None:
    shown = f"{request.method} {request.target} {request.headers}"
    if request.method not in {"GET", "POST"}:
        raise CheckFailed("the call has another method", expected="GET or POST", got=shown)
    if request.target != "/consent?id=1&key=s3cret":
        raise CheckFailed("another address was called", got=shown)
    rate = request.header("webhook-allowed-rate")
    if rate is None:
        raise CheckFailed("the call has no WebHook-Allowed-Rate", got=shown)
    expect_rate(rate)


async def _calls_no_other(target: Target) -> None:
    async with HttpServer() as known, HttpServer() as other:
        async with target.variant(callbacks=[known.url]) as calling:
            at = known.url.removeprefix("http://")
            for url in (
                _url(other),
                f"http://{at}@{other.url.removeprefix('http://')}/consent",
                f"{other.url}/?{known.url}",
                f"{other.url}#{known.url}",
            ):
                await options(calling, _callback_to(url))
            await options(calling, _callback_to(_url(known)))
            await known.requests(1)
        if calls := await other.requests(0):
            raise CheckFailed("a stranger's server was called", got=str(calls[0]))


async def _calls_nobody_denied(target: Target) -> None:
    async with HttpServer() as server:
        settings = {"callbacks": [server.url], "allowed_origins": [ORIGIN]}
        async with target.variant(**settings) as calling:
            denied = _url(server, "/denied")
            expect_no_consent(await options(calling, _callback_to(denied, "evil.example")))
            await options(calling, _callback_to(_url(server)))
            (request, *_) = await server.requests(1)
        if request.target == "/denied":
            raise CheckFailed("a sender without consent was called", got=str(request))


async def _plain_callback(target: Target) -> None:
    try:
        async with target.variant(callbacks=["http://sender.example.com"]):
            pass
    except Refused:
        return
    raise CheckFailed("calls over plain HTTP can be allowed", expected="a refusal")
