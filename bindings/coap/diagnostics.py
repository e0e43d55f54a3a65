"""What to tell the producer of an event that is refused (binding section 4.3)."""

from bindings.errors import CloudEventError, InvalidEventError


class BatchElementError(InvalidEventError):
    """One event of a batch is invalid, and so the whole batch.

    Attributes:
        position: which one, counted from 0.
    """

    def __init__(self, position: int, error: InvalidEventError) -> None:
        super().__init__(
            f"event {position}: {error}", attribute=error.attribute, reason=error.reason
        )
        self.position = position


def diagnostic(error: CloudEventError) -> str:
    """Return what to tell the producer, in at most 64 ASCII characters; never event data (4.3)."""
    if not isinstance(error, InvalidEventError):
        return str(error)[:64]
    words = error.reason.replace("_", " ")
    if error.attribute:
        words = f"{error.attribute[:20]!a}: {words}"
    if isinstance(error, BatchElementError):
        words = f"event {error.position}: {words}"
    return words[:64]
