"""The checks of webhooks: ours passes them, and each mistake fails those that are about it."""

import pytest
from msgspec.structs import replace

from conformance.check import CheckFailed
from conformance.checks import webhook
from conformance.checks.webhook import handshake
from conformance.own.delivering import own_delivering
from conformance.own.source import own_source
from conformance.suite import run
from conformance.target import Request, Response
from tests.conformance.checks.senders import failed_by, failed_on

CHECKS = list(webhook.checks())


async def test_ours_passes():
    senders = [check for check in CHECKS if check.needs == "delivering"]
    targets = [check for check in CHECKS if check.needs == "target"]
    async with own_delivering() as sender:
        results = [result async for result in run(senders, sender)]
    async with own_source("http") as target:
        results += [result async for result in run(targets, target)]
    assert [(one.check.id, one.text) for one in results if one.status != "passed"] == []
    assert len(results) == len(CHECKS)


def consenting(when):
    """Return a sender that takes an answer to OPTIONS for consent, when `when` says so."""

    def reads(request: Request, answer: Response) -> Response:
        if request.method != "OPTIONS" or not when(dict(answer.headers), answer):
            return answer
        fields = [("WebHook-Allowed-Origin", "*"), ("WebHook-Allowed-Rate", "*")]
        return replace(answer, status=200, headers=fields)

    return {"reads": reads}


def starting_with_ours(fields, _):
    return fields.get("WebHook-Allowed-Origin", "").startswith("gateway.example.com")


def without(header):
    return {
        "reads": lambda _, answer: replace(
            answer, headers=[pair for pair in answer.headers if pair[0] != header]
        ),
        "writes": lambda request: replace(
            request, headers=[pair for pair in request.headers if pair[0] != header]
        ),
    }


def changed(change):
    return {"writes": change}


def token_in_the_query(request: Request) -> Request:
    shown = request.header("authorization") or ""
    return replace(request, target=f"{request.target}?access_token={shown[7:]}")


SENDERS = [
    (
        "takes 200 for consent",
        consenting(lambda _, answer: answer.status == 200),
        ["webhook-sender-no-consent-status-200", "webhook-sender-no-consent-other"],
    ),
    (
        "takes a prefix for its origin",
        consenting(starting_with_ours),
        ["webhook-sender-no-consent-longer", "webhook-sender-no-consent-list"],
    ),
    (
        "takes any rate",
        consenting(lambda fields, _: "WebHook-Allowed-Rate" in fields),
        [
            "webhook-sender-no-rate-zero",
            "webhook-sender-no-rate-superscript",
            "webhook-sender-keeps-rate",
            "webhook-sender-no-consent-rate-only",
        ],
    ),
    (
        "wants no rate",
        consenting(lambda fields, _: "WebHook-Allowed-Origin" in fields),
        ["webhook-sender-rate-missing"],
    ),
    (
        "knows no asterisk",
        without("WebHook-Allowed-Origin"),
        ["webhook-sender-consent-asterisk", "webhook-sender-consent-own-origin"],
    ),
    (
        "does not say its origin",
        without("WebHook-Request-Origin"),
        ["webhook-sender-asks-first", "webhook-sender-asks-once", "webhook-sender-callback-post"],
    ),
    (
        "asks at the root",
        changed(
            lambda request: replace(request, target="*") if request.method == "OPTIONS" else request
        ),
        ["webhook-sender-asks-first"],
    ),
    ("asks for no rate", without("WebHook-Request-Rate"), ["webhook-sender-asks-for-rate"]),
    ("has no callback", without("WebHook-Request-Callback"), ["webhook-sender-callback-url"]),
    ("ignores Retry-After", without("Retry-After"), ["webhook-sender-retry-after"]),
    (
        "goes on after 410",
        {
            "reads": lambda _, answer: (
                replace(answer, status=400) if answer.status == 410 else answer
            )
        },
        ["webhook-sender-retired"],
    ),
    (
        "sends no payload",
        changed(lambda request: replace(request, body=b"")),
        ["webhook-sender-payload-binary-no-data", "webhook-sender-payload-structured-data"],
    ),
    ("shows no token", without("Authorization"), ["webhook-sender-token-header-plain"]),
    ("shows it in the query", changed(token_in_the_query), ["webhook-sender-token-header-odd"]),
    (
        "answers challenges",
        changed(lambda request: replace(request, headers=[("Authorization", "Digest x")])),
        ["webhook-sender-challenge"],
    ),
    (
        "repeats redirects",
        {
            "reads": lambda _, answer: (
                replace(answer, status=503) if answer.status == 307 else answer
            )
        },
        ["webhook-sender-redirect-307"],
    ),
]


@pytest.mark.parametrize(
    ("mistake", "expected"), [pytest.param(*rest, id=name) for name, *rest in SENDERS]
)
async def test_a_sender_s_mistake_fails_the_checks_that_are_about_it(mistake, expected):
    assert await failed_by(CHECKS, "delivering", expected, **mistake) == set(expected)


def consent(request: Request) -> Response:
    """Consent to whoever asks, as many servers do that answer any OPTIONS."""
    origin = request.header("webhook-request-origin") or "*"
    return Response(
        status=200, headers=[("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "0")]
    )


TARGETS = [
    (
        "consents to all",
        consent,
        [
            "webhook-target-no-handshake-preflight",
            "webhook-target-no-handshake-bare",
            "webhook-target-lookalike-longer",
            "webhook-target-two-origins",
            "webhook-target-rate-120",
            "webhook-target-no-rate-0",
            "webhook-target-unsupported",
        ],
    ),
    (
        "consents to nobody",
        lambda _: Response(status=200, headers=[("Allow", "GET")]),
        ["webhook-target-consent-name", "webhook-target-allow", "webhook-target-listed"],
    ),
    (
        "consents to another",
        lambda _: Response(
            status=200,
            headers=[("WebHook-Allowed-Origin", "example.com"), ("WebHook-Allowed-Rate", "*")],
        ),
        ["webhook-target-consent-name", "webhook-target-rate-limit"],
    ),
    (
        "redirects",
        lambda _: Response(status=308, headers=[("Location", "/")]),
        ["webhook-target-no-redirect", "webhook-target-success", "webhook-target-retired"],
    ),
    (
        "says 200 to all",
        lambda _: Response(status=200),
        [
            "webhook-target-success",
            "webhook-target-format-cloudevents+unknown",
            "webhook-target-error-no-id",
            "webhook-target-error-method",
            "webhook-target-origin-denied",
            "webhook-target-token-private",
            "webhook-target-no-token-none",
            "webhook-target-too-fast",
        ],
    ),
    (
        "says nothing about its body",
        lambda _: Response(status=400, body=b"no"),
        ["webhook-target-error-no-json", "webhook-target-no-token-wrong"],
    ),
    (
        "says 429 alone",
        lambda _: Response(status=429),
        ["webhook-target-busy", "webhook-target-token-query"],
    ),
    (
        "challenges",
        lambda _: Response(status=401, headers=[("WWW-Authenticate", 'Digest realm="x"')]),
        ["webhook-target-no-token-none", "webhook-target-token-header"],
    ),
]


@pytest.mark.parametrize(
    ("script", "expected"), [pytest.param(*rest, id=name) for name, *rest in TARGETS]
)
async def test_a_target_s_mistake_fails_the_checks_that_are_about_it(script, expected):
    assert await failed_on(CHECKS, expected, script) == set(expected)


@pytest.mark.parametrize("rate", ["0", "-1", "1.5", "", "\u00b2", "0x10", "1 2"])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(CheckFailed):
        handshake.expect_rate(rate)


@pytest.mark.parametrize("rate", ["*", "1", "010", "100000"])
def test_what_is_a_rate_is_taken(rate):
    handshake.expect_rate(rate)
