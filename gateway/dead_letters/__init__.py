"""Dead letters: what could not be delivered or decoded, until somebody replays or purges it.

`store.py` is the face, with a thread of its own for `database.py` and its `connection.py`;
`letter.py` says what is kept, `rows.py` and `schema.py` how, `query.py` which ones a person means.
`trouble.py` tells when none can be stored. `replay.py` sends them again, and `api.py` is what the
administration offers.
"""

from typing import Final

from gateway.dead_letters.letter import DeadLetter, Summary, event_of, utc_text
from gateway.dead_letters.query import Filter
from gateway.dead_letters.replay import IntakeReplayer, Replay, Replayer
from gateway.dead_letters.store import DeadLetters, LetterBox, Page

FOLDER: Final = "dead-letters"
"""Their folder, in that of `state.path`."""

__all__ = [
    "FOLDER",
    "DeadLetter",
    "DeadLetters",
    "Filter",
    "IntakeReplayer",
    "LetterBox",
    "Page",
    "Replay",
    "Replayer",
    "Summary",
    "event_of",
    "utc_text",
]
