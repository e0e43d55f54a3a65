"""Whether a request may bring an event, judged by its head alone."""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway.sources.http import answers
from gateway.sources.http.answers import Answer
from gateway.sources.http.handshake import CALLBACK, ORIGIN, RATE
from gateway.sources.http.listener import Listener

KNOWN_FIELDS: Final = frozenset({
    b"authorization", b"connection", b"content-encoding", b"content-length", b"content-type",
    b"expect", b"host", b"transfer-encoding", ORIGIN, RATE, CALLBACK,
})  # fmt: skip
"""The fields that are looked at, besides ce-*; in lower case."""

SINGLE_FIELDS: Final = frozenset({b"authorization", b"content-type", b"host", ORIGIN, CALLBACK})
"""Fields that must not stand there twice: two parties could read two different requests."""


# RFC 9110 7.2: uri-host [ ":" port ], with the characters of RFC 3986 3.2.2.
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.%vV~!$&'()*+,;=\-_G-Zg-z]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)"
    rb"(?::[0-9]*)?"
)
_MAX_HOST: Final = 512
"""A name in DNS has 253 bytes at most; with escapes, and a bound on what is remembered."""


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


class Head(NamedTuple):
    """A request but for its body."""

    method: bytes
    target: bytes
    version: str
    fields: dict[bytes, bytes]


class Refusal(NamedTuple):
    """What the sender is told, and what is counted."""

    answer: Answer
    reason: str
    detail: str = ""


def refuse(listener: Listener, head: Head) -> Refusal | None:
    """Return why the request can't be taken, or None."""
    return _refuse_form(head) or _refuse_target(listener, head)


def learn(listener: Listener, head: Head) -> None:
    """Remember how a request looked that has been admitted, if nothing but that was judged."""
    host = head.fields.get(b"host")
    if head.method == b"POST" and host is not None and not listener.require_origin:
        listener.plain.learn_target(head.target, host, path_of(listener, head.target))


def _refuse_form(head: Head) -> Refusal | None:
    fields = head.fields
    if head.version not in ("1.1", "1.0"):
        return Refusal(answers.VERSION, "malformed", "not HTTP/1.1")
    host = fields.get(b"host")
    if host is None and head.version == "1.1":  # RFC 9112 3.2
        return Refusal(answers.MALFORMED, "malformed", "no Host field")
    if host and (len(host) > _MAX_HOST or not _is_host(host)):
        return Refusal(answers.MALFORMED, "malformed", "the Host field names no host")
    if fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        return Refusal(answers.CODING, "unknown_encoding", "a transfer coding but chunked")
    return None


def path_of(listener: Listener, target: bytes) -> str:
    """Return the path that a message which was taken came to, as plain text."""
    return listener.config.path if listener.path is not None else unquote(_split(target)[0])


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query."""
    path, _, query = target.partition(b"?")
    if path[:1] != b"/" and (scheme_end := path.find(b"://")) > 0:  # absolute-form, RFC 9112 3.2.2
        path = b"/" + path[scheme_end + 3 :].partition(b"/")[2]
    return path, query


def _refuse_target(listener: Listener, head: Head) -> Refusal | None:
    path, query = _split(head.target)
    is_right = path == listener.path if listener.path is not None else path[:1] == b"/"
    if not is_right and not (head.method == b"OPTIONS" and path == b"*"):
        return Refusal(answers.NOT_FOUND, "not_found")
    if listener.retired:
        return Refusal(answers.GONE, "retired")
    if head.method == b"OPTIONS":
        return None
    if head.method != b"POST":
        return Refusal(answers.METHOD_NOT_ALLOWED, "method_not_allowed")
    return _refuse_sender(listener, head.fields, query)


def _refuse_sender(listener: Listener, fields: dict[bytes, bytes], query: bytes) -> Refusal | None:
    credentials, authorization = listener.credentials, fields.get(b"authorization")
    if credentials is not None:
        if credentials.are_shown_twice(authorization, query):
            return Refusal(answers.TWO_TOKENS, "malformed")
        if not credentials.accepts(authorization, query):
            return Refusal(credentials.challenge, "unauthorized")
    if fields.get(b"content-encoding", b"identity").lower() != b"identity":
        return Refusal(answers.CODING, "unknown_encoding")
    origin = fields.get(ORIGIN)
    if not origin and listener.require_origin:
        return Refusal(answers.NO_ORIGIN, "unauthorized")
    return None if origin is None else _refuse_origin(listener, origin)


def _refuse_origin(listener: Listener, origin: bytes) -> Refusal | None:
    """Judge WebHook-Request-Origin (http-webhook.md 4)."""
    if not listener.handshake.allows(origin.decode("latin-1")):
        return Refusal(answers.FORBIDDEN, "unauthorized")
    wait = listener.wait_of(origin)
    return Refusal(answers.too_many(wait), "too_many_requests") if wait else None
