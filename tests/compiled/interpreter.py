"""One build in a process of its own: `python -m tests.compiled.interpreter` answers, pickled."""

import pickle
import sys
from importlib import import_module
from typing import Any, BinaryIO


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Say where modules are from, then what the targets say, until the input ends."""
    from tests.compiled.targets import MODULES, TARGETS

    pickle.dump({name: import_module(name).__file__ for name in MODULES}, answers)
    answers.flush()
    while True:
        try:
            asked: list[tuple[str, bytes]] = pickle.load(requests)
        except EOFError:
            return
        answer: Any = [repr(TARGETS[target](data)) for target, data in asked]
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
