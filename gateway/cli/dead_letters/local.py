"""The dead letters of a gateway that is stopped, in its state folder."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from gateway.cli.dead_letters.access import AccessError, Json
from gateway.dead_letters import FOLDER, DeadLetters, Filter
from gateway.dead_letters.connection import FILE
from gateway.dead_letters.letter import as_json
from gateway.errors import GatewayError
from gateway.spool import StoreError

_UNBOUNDED: Final = 1 << 50
_Result = TypeVar("_Result")


class Local:
    """Opens the letters in `folder`, which no gateway uses meanwhile; a context manager.

    A damaged database is left as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FOLDER
        self._runner = asyncio.Runner()
        self._store = DeadLetters(self._path, max_bytes=_UNBOUNDED, replaces_damaged=False)

    def __enter__(self) -> Self:
        if not (self._path / FILE).exists():
            raise AccessError(f"there are no dead letters in {self._path}")
        try:
            self._run(self._open())
        except AccessError as error:
            self._runner.close()
            hint = "; ask the running gateway with --url" if "in use" in str(error) else ""
            raise AccessError(f"{error}{hint}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._runner.close()

    def page(self, wanted: Filter, limit: int, cursor: int | None) -> tuple[list[Json], int | None]:
        page = self._run(self._store.page(wanted, limit=limit, cursor=cursor))
        return [asdict(one) for one in page.letters], page.cursor

    def show(self, number: int) -> bytes | None:
        letter = self._run(self._store.show(number))
        return None if letter is None else as_json(letter)

    def count(self, wanted: Filter) -> int:
        return self._run(self._store.count(wanted))

    def export(self, wanted: Filter) -> Iterator[bytes]:
        exporting = self._store.export(wanted)

        async def more() -> list[bytes]:
            return [as_json(letter) for letter in await anext(exporting, [])]

        while lines := self._run(more()):
            yield from lines

    def purge(self, wanted: Filter) -> int:
        return self._run(self._store.purge(wanted))

    async def _open(self) -> None:
        self._store.open()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._runner.run(work)
        except (GatewayError, StoreError) as error:
            raise AccessError(str(error)) from None
