"""What a sender takes for consent, and that it sends nothing before it has it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import Deliveries, Family, shown
from conformance.peers.http_client import HttpClient
from conformance.peers.http_server import HttpServer
from conformance.target import Delivering, Request, Response

SENDER: Final = Family(
    "webhook sender", "webhook-sender", "webhook", role="producer", needs="delivering"
)

ORIGIN: Final = "gateway.example.com"
QUIET: Final = 0.15
"""Seconds in which a sender that may not send has to be silent."""

Headers = Mapping[str, str | None]


def consent(origin: str | None = ORIGIN, rate: str | None = "*", status: int = 200) -> Response:
    """Return an answer to OPTIONS; None leaves a header out."""
    fields = [("Allow", "POST")]
    if origin is not None:
        fields.append(("WebHook-Allowed-Origin", origin))
    if rate is not None:
        fields.append(("WebHook-Allowed-Rate", rate))
    return Response(status=status, headers=fields)


CONSENTS: Final = {
    "own-origin": consent(), "asterisk": consent("*"), "rate": consent(rate="100000"),
    "no-rate": consent(rate=None), "204": consent(status=204), "202": consent(status=202),
}  # fmt: skip
"""Consent to a sender that asked for no rate."""

NO_CONSENTS: Final = {
    "status-200": Response(status=200), "status-204": Response(status=204),
    "allow-only": Response(status=200, headers=[("Allow", "POST, OPTIONS")]),
    "rate-only": consent(None), "sub-domain": consent(f"a.{ORIGIN}"),
    "longer": consent(f"{ORIGIN}.evil.example"), "shorter": consent("gateway.example.co"),
    "prefix": consent("gateway"), "parent": consent("example.com"),
    "wildcard": consent("*.example.com"), "list": consent(f"{ORIGIN}, other.example.com"),
    "url": consent(f"https://{ORIGIN}"), "quoted": consent(f'"{ORIGIN}"'), "empty": consent(""),
    "asterisks": consent("**"), "true": consent("true"), "other": consent("other.example.com"),
    "cors": Response(status=200, headers=[("Access-Control-Allow-Origin", "*")]),
}  # fmt: skip
"""What is no consent, whatever its status."""

NO_RATES: Final = {
    "zero": "0", "negative": "-5", "word": "abc", "fraction": "1.5", "empty": "",
    "superscript": "\u00b2", "list": "60, 120",
}  # fmt: skip


def checks() -> Iterator[Check]:
    """Return the checks of consent."""
    yield SENDER.check(
        "asks-first", "the first request is OPTIONS to the address of deliveries",
        "WH-VAL-001 WH-VAL-002 WH-VAL-003 WH-DLV-002 WH-DLV-004", _asks_first, "OPTIONS, POST",
    )  # fmt: skip
    yield SENDER.check(
        "asks-once", "consent lasts for more than one delivery, each of which repeats the origin",
        "WH-VAL-003 WH-DLV-004", _asks_once, "one OPTIONS",
    )  # fmt: skip
    for name, answer in CONSENTS.items():
        yield SENDER.check(
            f"consent-{name}", f"{_words(answer)} is consent", "WH-ORG-002 WH-RAT-005",
            partial(_has_consent, answer), "delivered",
        )  # fmt: skip
    for name, answer in NO_CONSENTS.items():
        yield SENDER.check(
            f"no-consent-{name}", f"{_words(answer)} is no consent: nothing is sent",
            "WH-VRS-003 WH-ORG-002 WH-ABU-002", partial(_has_none, answer, None), "nothing sent",
        )  # fmt: skip
    for name, rate in NO_RATES.items():
        yield SENDER.check(
            f"no-rate-{name}", f"WebHook-Allowed-Rate: {rate!r} is no rate, and so no consent",
            "WH-RAT-005", partial(_has_none, consent(rate=rate), None), "nothing sent",
        )  # fmt: skip
    yield SENDER.check(
        "rate-missing", "consent has a rate if one was asked for", "WH-RAT-005",
        partial(_has_none, consent(rate=None), 120), "nothing sent",
    )  # fmt: skip
    yield SENDER.check(
        "asks-for-rate", "a rate that is asked for is a positive integer", "WH-VAL-009",
        _asks_for_rate, "120",
    )  # fmt: skip
    yield SENDER.check(
        "keeps-rate", "no more is sent than was granted", "WH-RAT-006", _keeps_rate, "2 at most"
    )
    yield SENDER.check("no-limit", "an asterisk is no limit", "WH-RAT-005", _no_limit, "delivered")
    yield from _callbacks()


def _callbacks() -> Iterator[Check]:
    yield SENDER.check(
        "callback-url", "a callback is an address with an identifier and a secret of its own",
        "WH-VAL-004 WH-VAL-007", _callback_url, "id and secret",
    )  # fmt: skip
    for method in ("GET", "POST"):
        yield SENDER.check(
            f"callback-{method.lower()}", f"{method} to the callback grants", "WH-VAL-005",
            partial(_grants, method), "delivered",
        )  # fmt: skip
    yield SENDER.check(
        "callback-wrong", "a callback with a wrong secret grants nothing", "WH-VAL-007",
        _wrong_secret, "nothing sent",
    )  # fmt: skip
    yield SENDER.check(
        "callback-rate", "without a rate a callback grants the one that was asked for",
        "WH-RAT-004 WH-RAT-006", _rate_asked_for, "2 at most",
    )  # fmt: skip


def _words(answer: Response) -> str:
    fields = ", ".join(f"{name}: {value!r}" for name, value in answer.headers if name != "Allow")
    return f"{answer.status} with {fields}" if fields else f"{answer.status} without a header"


@asynccontextmanager
async def webhook(
    sender: Delivering, sink: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Delivering]:
    """Start a sender with a `webhook` table, while the context lasts.

    Args:
        sender: of the same kind.
        sink: further settings of the sink.
        settings: of the webhook.
    """
    table = {"origin": ORIGIN, "ask_again": "PT0.02S", **settings}
    async with sender.variant(sink={"webhook": table, **(sink or {})}) as one:
        yield one


def posts(requests: Any) -> list[Request]:
    """Return those requests that deliver."""
    return [request for request in requests if request.method != "OPTIONS"]


async def expect_at_most(sender: Delivering, most: int, seconds: float = QUIET) -> None:
    """Demand that no more than `most` deliveries come within some time.

    Raises:
        CheckFailed: more come.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        requests = await sender.requests(0)
        if len(posts(requests)) > most:
            raise CheckFailed(
                "too much was sent", expected=f"{most} at most",
                got="\n".join(shown(request) for request in requests)[:2000],
            )  # fmt: skip
        try:
            await sender.requests(len(requests) + 1, left)
        except CheckFailed:
            return


async def _asks_first(sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {}, consent())
        await deliveries.send("event")
        await deliveries.wait("event")
        requests = await deliveries.all()
    if [request.method for request in requests[:2]] != ["OPTIONS", "POST"]:
        got = "\n\n".join(map(shown, requests[:2]))
        raise CheckFailed("not asked first", expected="OPTIONS, POST", got=got)
    first, second = requests[:2]
    if first.target != second.target:
        raise CheckFailed("another address was asked", expected=second.target, got=first.target)
    for request in (first, second):
        _expect_origin(request)


def _expect_origin(request: Request) -> None:
    origin = request.header("webhook-request-origin") or ""
    if origin != ORIGIN:
        raise CheckFailed("the origin is another", expected=ORIGIN, got=shown(request))


async def _asks_once(sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {}, consent())
        for name in ("one", "two", "three"):
            await deliveries.send(name)
            (request, *_) = await deliveries.wait(name)
            _expect_origin(request)
        asked = [one for one in await deliveries.all() if one.method == "OPTIONS"]
    if len(asked) != 1:
        raise CheckFailed("asked again", expected="one OPTIONS", got=str(len(asked)))


async def _has_consent(answer: Response, sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {}, answer)
        await deliveries.send("event")
        await deliveries.wait("event", seconds=2.0)


async def _has_none(answer: Response, rate: int | None, sender: Delivering) -> None:
    """Answer once without consent and then with it: nothing may come in between."""
    settings: dict[str, Any] = {} if rate is None else {"rate": rate}
    async with webhook(sender, **settings) as one:
        deliveries = Deliveries(one, {}, answer, answer, consent(rate="100000"))
        await deliveries.send("event")
        requests = await one.requests(4)
    methods = [request.method for request in requests[:4]]
    if methods != ["OPTIONS", "OPTIONS", "OPTIONS", "POST"]:
        raise CheckFailed(
            "it was taken for consent",
            expected="OPTIONS until there is consent",
            got=", ".join(methods),
            reproduce=f"the target answers OPTIONS: {_words(answer)}",
        )


async def _asks_for_rate(sender: Delivering) -> None:
    async with webhook(sender, rate=120) as one:
        deliveries = Deliveries(one, {}, consent(rate="120"))
        await deliveries.send("event")
        await deliveries.wait("event")
        (asked, *_) = await deliveries.all()
    rate = asked.header("webhook-request-rate") or ""
    if rate != "120":
        raise CheckFailed("another rate was asked for", expected="120", got=shown(asked))


async def _keeps_rate(sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {}, consent(rate="2"))
        await deliveries.send(*(f"event{number}" for number in range(6)))
        await one.requests(2)  # OPTIONS and the first
        await expect_at_most(one, 2)


async def _no_limit(sender: Delivering) -> None:
    async with webhook(sender) as one:
        deliveries = Deliveries(one, {}, consent(rate="*"))
        names = [f"event{number}" for number in range(100)]
        await deliveries.send(*names)
        for name in names:
            await deliveries.wait(name, seconds=2.0)


@asynccontextmanager
async def _asking(sender: Delivering, **settings: Any) -> AsyncIterator[tuple[Delivering, str]]:
    """Start a sender with a callback and let it ask; yields it and the URL that it gave."""
    async with HttpServer() as reserved:
        at = reserved.url
    callback = {"url": f"{at}/consent", "listen": at.removeprefix("http://")}
    async with webhook(sender, callback=callback, ask_again="PT1H", **settings) as one:
        await Deliveries(one, {}, Response(status=200)).send("event")
        (asked, *_) = await one.requests(1)
        url = asked.header("webhook-request-callback")
        if url is None or not url.startswith(f"{at}/consent"):
            raise CheckFailed("no callback was named", got=shown(asked))
        _expect_origin(asked)
        yield one, url


async def _call(method: str, url: str, *fields: str) -> int:
    async with HttpClient(url) as client:
        lines = "".join(f"{field}\r\n" for field in ("Host: x", "Content-Length: 0", *fields))
        client.send(f"{method} {client.target} HTTP/1.1\r\n{lines}\r\n".encode())
        return (await client.receive()).status


async def _callback_url(sender: Delivering) -> None:
    secrets = []
    for _ in range(2):
        async with _asking(sender) as (_, url):
            values = [value for _, value in parse_qsl(urlsplit(url).query)]
            secret = max(values, key=len, default="")
            if len(values) < 2 or not re.fullmatch("[A-Za-z0-9_~.-]{22,}", secret):
                raise CheckFailed(
                    "the callback can be guessed",
                    expected="an id and a secret of at least 128 bits", got=url,
                )  # fmt: skip
            secrets.append(secret)
    if secrets[0] == secrets[1]:
        raise CheckFailed("the secret is always the same", got=secrets[0])


async def _grants(method: str, sender: Delivering) -> None:
    async with _asking(sender) as (one, url):
        await expect_at_most(one, 0, 0.02)
        status = await _call(method, url, "WebHook-Allowed-Rate: *")
        if not 200 <= status < 300:
            raise CheckFailed(f"{method} was refused", expected="2xx", got=str(status))
        await Deliveries(one).send("later")
        (request, *_) = posts(await one.requests(1))
        _expect_origin(request)


async def _wrong_secret(sender: Delivering) -> None:
    async with _asking(sender) as (one, url):
        for wrong in (url[:-1], f"{url}x", url.partition("?")[0], url.replace("key=", "key=x")):
            status = await _call("POST", wrong, "WebHook-Allowed-Rate: *")
            if status < 400:
                raise CheckFailed("a wrong secret grants", expected="4xx", got=f"{status}: {wrong}")
        await expect_at_most(one, 0)


async def _rate_asked_for(sender: Delivering) -> None:
    async with _asking(sender, rate=2) as (one, url):
        await _call("POST", url)
        count = 1
        while not posts(await one.requests(count)):  # the event that waited takes a turn
            count += 1
        await Deliveries(one).send(*(f"event{number}" for number in range(6)))
        await expect_at_most(one, 1)
