"""Which sources a credential may claim besides its own, as the configuration says it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints


def _are_whole_segments(sources: Sequence[str]) -> Sequence[str]:
    for source in sources:
        if source.endswith(("/", "#", "*")):
            raise ValueError(f"{source!r}: /plant also allows /plant/a and /plant#a")
    return sources


# An empty one would allow every source that begins with a slash.
Claims = Annotated[
    list[Annotated[str, StringConstraints(min_length=1)]],
    Field(
        description="sources that it may use besides its own, each with what is below it; "
        "for devices that speak for others"
    ),
    AfterValidator(_are_whole_segments),
]
"""The type of `may_speak_for`, whatever the credential."""
