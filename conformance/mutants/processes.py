"""Work in processes of its own, a few at a time: no job sees what another left behind."""

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Final

_FORK: Final = multiprocessing.get_context("fork")
_SECONDS: Final = 120.0
"""A job that says nothing for so long is given up."""


class Lost(Exception):  # noqa: N818 - it is told, not handled
    """A job that ended without a result."""


def run_each(jobs: Sequence[Callable[[], Any]], width: int) -> Iterator[tuple[int, Any]]:
    """Run every job, `width` at a time; yield each one's number and result as it ends.

    The result of a job that died or hung is `Lost`.
    """
    gc.freeze()  # what is shared stays shared: a collection in a job would touch every page of it
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    while waiting or running:
        while waiting and len(running) < width:
            number, job = waiting.pop()
            end, there = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_run, args=(job, there))
            process.start()
            there.close()
            running[end] = number, process
        ended: list[Any] = wait(list(running), timeout=_SECONDS)
        for here in ended or list(running):
            number, process = running.pop(here)
            yield number, _result(here, process, has_ended=bool(ended))


def _run(job: Callable[[], Any], there: Connection) -> None:
    there.send(job())
    there.close()


def _result(here: Connection, process: Any, *, has_ended: bool) -> Any:
    try:
        return here.recv() if has_ended else Lost("it hangs")
    except EOFError:
        return Lost("its process died")
    finally:
        here.close()
        if not has_ended:
            process.terminate()
        process.join()
