"""Who may send: HTTP Basic, or a Bearer token in the header or in the query (http-webhook.md 3)."""

import base64
import hmac
from urllib.parse import unquote_to_bytes

from gateway.sources.http.answers import Answer
from gateway.sources.http.config import HttpSourceConfig


class Credentials:
    """What a sender has to show, as the bytes of the wire."""

    def __init__(self, basic: bytes | None, token: bytes | None) -> None:
        self._basic = basic
        self._token = token
        # http-webhook.md 3: no scheme that works by challenge and response.
        schemes = [
            name for name, secret in (("Basic", basic), ("Bearer", token)) if secret is not None
        ]
        challenges = tuple(("WWW-Authenticate", f'{scheme} realm="events"') for scheme in schemes)
        self.challenge = Answer(401, "credentials are missing or wrong", challenges)

    @classmethod
    def of(cls, config: HttpSourceConfig) -> "Credentials | None":
        """Return what the configuration asks for; None if anyone may send."""
        basic = token = None
        if config.username is not None:
            password = config.password.get_secret_value() if config.password else ""
            basic = base64.b64encode(f"{config.username}:{password}".encode())
        if config.token is not None:
            token = config.token.get_secret_value().encode()
        return None if basic is None and token is None else cls(basic, token)

    def are_shown_twice(self, authorization: bytes | None, query: bytes) -> bool:
        """Whether a token is in the query besides the field (RFC 6750 2: one method a request)."""
        return (
            self._token is not None and authorization is not None and bool(_tokens_in_query(query))
        )

    def accepts(self, authorization: bytes | None, query: bytes) -> bool:
        """Whether a request shows the credentials.

        Args:
            authorization: the field's value, None without the field.
            query: the target's query; looked at for `access_token` when there is no field.
        """
        if authorization is None:
            tokens = _tokens_in_query(query)
            return (
                self._token is not None
                and len(tokens) == 1
                and hmac.compare_digest(unquote_to_bytes(tokens[0]), self._token)
            )
        scheme, _, shown = authorization.partition(b" ")
        expected = {b"basic": self._basic, b"bearer": self._token}.get(scheme.lower())
        return expected is not None and hmac.compare_digest(shown.strip(b" "), expected)


def _tokens_in_query(query: bytes) -> list[bytes]:
    if b"access_token=" not in query:
        return []
    return [part[13:] for part in query.split(b"&") if part.startswith(b"access_token=")]
