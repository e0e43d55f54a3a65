"""What is wrong with a message: one root, four kinds, each with the reason that metrics count.

CloudEventError
├── InvalidEventError       it claims to be a CloudEvent and is not      400, 4.00, REJECTED
├── UnknownEncodingError    a format or content type that we lack        415, 4.15, REJECTED
│   └── NotAnEventError     it makes no claim to be a CloudEvent         wrap it, or as above
├── TooLargeError           more bytes than the limit                    413, 4.13, REJECTED
└── TooManyEventsError      a batch of more events than the limit        413, 4.13, REJECTED
"""

from typing import ClassVar


class CloudEventError(Exception):
    """A message that brings no event. The sender is to blame; nothing in the gateway is broken.

    Attributes:
        reason: a short word for metrics (`ce_gateway_rejected_total{reason}`), one of a small set.
    """

    default_reason: ClassVar[str] = "invalid_event"

    def __init__(self, text: str, *, reason: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason or self.default_reason


class InvalidEventError(CloudEventError):
    """It claims to be a CloudEvent and breaks a rule; it will be just as wrong the next time.

    Attributes:
        attribute: the name of the attribute at fault, when one is.
    """

    def __init__(
        self, text: str, *, attribute: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(text, reason=reason)
        self.attribute = attribute


class UnknownEncodingError(CloudEventError):
    """The message is in an event format or a content coding that is not supported here."""

    default_reason = "unknown_encoding"


class NotAnEventError(UnknownEncodingError):
    """Nothing in the message claims to be a CloudEvent; an `event:` table makes it one (wrap)."""

    default_reason = "not_an_event"


class TooLargeError(CloudEventError):
    """The message holds more bytes than the limit.

    Attributes:
        limit: the limit in bytes, to be told to the sender.
    """

    default_reason = "too_large"

    def __init__(self, text: str, *, limit: int) -> None:
        super().__init__(text)
        self.limit = limit


class TooManyEventsError(CloudEventError):
    """The batch holds more events than the limit; metrics count it as too large, too.

    Attributes:
        limit: the most events of a batch.
    """

    default_reason = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} events in a batch")
        self.limit = limit


def excerpt(value: object) -> str:
    """Show an offending value in at most 200 characters, for error messages."""
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
