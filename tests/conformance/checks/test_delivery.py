"""The checks of delivery: ours passes them, and each mistake fails those that are about it."""

import pytest
from msgspec.structs import replace

from conformance.checks import delivery
from conformance.checks.delivery import waiting
from conformance.own.delivering import own_delivering
from conformance.own.source import own_source
from conformance.reference.carrier import BATCH_TYPE
from conformance.suite import run
from conformance.target import Request, Response
from tests.conformance.checks.senders import failed_by, failed_on

CHECKS = list(delivery.checks())


async def test_ours_passes():
    senders = [check for check in CHECKS if check.needs == "delivering"]
    targets = [check for check in CHECKS if check.needs == "target"]
    async with own_delivering() as sender:
        results = [result async for result in run(senders, sender)]
    async with own_source("http") as target:
        results += [result async for result in run(targets, target)]
    assert [(one.check.id, one.text) for one in results if one.status != "passed"] == []
    assert len(results) == len(CHECKS)


def taken_for(status: int, other: int):
    def reads(_, answer: Response) -> Response:
        return replace(answer, status=other) if answer.status == status else answer

    return {"reads": reads}


def without(header: str):
    def reads(_, answer: Response) -> Response:
        fields = [pair for pair in answer.headers if pair[0] != header]
        return replace(answer, headers=fields)

    return {"reads": reads}


def with_header(name: str, value: str):
    def writes(request: Request) -> Request:
        kept = [pair for pair in request.headers if pair[0].lower() != name.lower()]
        return replace(request, headers=[*kept, (name, value)])

    return {"writes": writes}


def written(change):
    return {"writes": change}


MISTAKES = [
    ("repeats 400", taken_for(400, 503), ["knative-status-400", "knative-backoff-lists"]),
    ("repeats 410", taken_for(410, 500), ["knative-status-410"]),
    ("repeats redirects", taken_for(307, 503), ["knative-status-307"]),
    ("repeats 202", taken_for(202, 503), ["knative-status-202", "knative-no-reply-202"]),
    ("gives up 404", taken_for(404, 400), ["knative-status-404"]),
    ("gives up 409", taken_for(409, 400), ["knative-status-409"]),
    ("gives up 503", taken_for(503, 400), ["knative-status-503", "knative-backoff-linear"]),
    (
        "takes no answer for success",
        {"reads": lambda _, answer: answer if answer.status else replace(answer, status=202)},
        ["knative-no-answer-closed", "knative-closed-unanswered", "knative-same-identity"],
    ),
    (
        "ignores Retry-After",
        without("Retry-After"),
        ["knative-retry-after-seconds", "knative-retry-after-date"],
    ),
    ("prefers replies", with_header("Prefer", "reply"), ["knative-no-reply-200"]),
    ("makes a type up", with_header("Content-Type", "text/plain"), ["delivery-no-content-type"]),
    ("says another length", with_header("Content-Length", "1"), ["delivery-one-length"]),
    ("batches", with_header("Content-Type", BATCH_TYPE), ["delivery-no-batch"]),
    ("puts", written(lambda request: replace(request, method="PUT")), ["knative-post"]),
    (
        "loses an attribute",
        written(
            lambda request: replace(
                request, headers=[pair for pair in request.headers if pair[0] != "ce-word"]
            )
        ),
        ["delivery-binary-extensions", "delivery-binary-unicode"],
    ),
    (
        "cuts data",
        written(lambda request: replace(request, body=request.body[:-1])),
        ["delivery-binary-bytes", "delivery-structured-text", "delivery-usual-least"],
    ),
    (
        "always structured",
        {**with_header("Content-Type", "application/cloudevents+json")},
        ["delivery-binary-text"],
    ),
]


@pytest.mark.parametrize(
    ("mistake", "expected"), [pytest.param(*rest, id=name) for name, *rest in MISTAKES]
)
async def test_a_mistake_fails_the_checks_that_are_about_it(mistake, expected):
    assert await failed_by(CHECKS, "delivering", expected, **mistake) == set(expected)


async def test_a_redirect_that_is_followed_is_seen():
    def writes(request: Request) -> Request:
        return replace(request, target="/elsewhere")

    assert await failed_by(CHECKS, "delivering", ["knative-status-308"], writes=writes)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response(status=202), ["knative-recipient-no-success-down", "knative-recipient-waits"]),
        (Response(status=503), ["knative-recipient-takes-binary", "knative-recipient-duplicates"]),
        (Response(status=413), ["http-recipient-largest-binary"]),
        (
            Response(status=200, headers=[("Allow", "GET, PUT")]),
            ["knative-recipient-options", "knative-recipient-no-success-reject"],
        ),
    ],
)
async def test_a_recipient_s_mistake_fails_the_checks_that_are_about_it(answer, expected):
    assert await failed_on(CHECKS, expected, lambda _: answer) == set(expected)


def test_the_shortest_wait_of_the_three_readings_is_demanded():
    at = [0.0, 1.0, 1.5]
    requests = [
        Request(method="POST", target="/", headers=(), body=b"", at=one, connection=0) for one in at
    ]
    assert waiting.gaps(requests) == [1.0, 0.5]
