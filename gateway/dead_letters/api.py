"""Dead letters in the administration's API: list, show, export, replay, purge."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Protocol

import msgspec
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.dead_letters.letter import Summary, as_json
from gateway.dead_letters.query import Filter, parse_moment
from gateway.dead_letters.replay import DEFAULT_RATE, Replay, Replayed
from gateway.dead_letters.store import DeadLetters
from gateway.delivery import Outcome
from gateway.spool import StoreError

PATH: Final = "/api/v1/dead-letters"
_MAX_ID: Final = 2**63 - 1
MayWrite = Callable[..., Awaitable[None]]
_Id = Annotated[int, Field(ge=1, le=_MAX_ID)]


class _JsonLines(StreamingResponse):
    media_type = "application/jsonl"


class Shown(Protocol):
    """What the API is about; both are None in a gateway that keeps no dead letters."""

    @property
    def dead_letters(self) -> DeadLetters | None:
        """The store."""

    @property
    def replay(self) -> Replay | None:
        """What sends them again."""


def _moment(text: str | None) -> str | None:
    return None if text is None else parse_moment(text, datetime.now(UTC))


_Moment = Annotated[
    str | None,
    AfterValidator(_moment),
    Field(json_schema_extra={"examples": ["2026-03-01T12:00:00Z", "PT1H"]}),
]


class Wanted(BaseModel):
    """Which letters; all that is said has to agree. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid")

    route: str | None = Field(None, description="the route's name")
    source: str | None = Field(None, description="name of the gateway's source")
    sink: str | None = Field(None, description="name of the sink that did not take it")
    reason: str | None = Field(None, description="why it is here, such as sink_refused")
    type: str | None = Field(None, description="the event's type")
    since: _Moment = Field(None, description="last tried then or later; PT1H: an hour ago")
    until: _Moment = Field(None, description="last tried before")

    def filter(self, ids: list[int] | None = None) -> Filter:
        """Return it as the store knows it."""
        names = ("route", "source", "sink", "reason", "type", "since", "until")
        values = {name: getattr(self, name) for name in names}
        return Filter(ids=None if ids is None else tuple(ids), **values)


class ListQuery(Wanted):
    """Which letters, and how many at once."""

    limit: int = Field(100, ge=1, le=1000, description="at most this many")
    cursor: int | None = Field(None, ge=1, le=_MAX_ID, description="from the page before")


class PurgeQuery(Wanted):
    """Which letters to delete."""

    ids: list[_Id] | None = Field(None, description="only these")
    all: bool = Field(default=False, description="needed to delete without any other condition")


class ReplayRequest(BaseModel):
    """Which letters to replay, and how fast."""

    model_config = ConfigDict(extra="forbid")

    ids: list[_Id] | None = Field(None, description="these; or a filter")
    filter: Wanted | None = Field(None, description="{} is all of them")
    rate: float = Field(DEFAULT_RATE, gt=0, le=100_000, description="events per second")


class LetterPage(BaseModel):
    """A part of the list, newest first."""

    letters: list[Summary]
    cursor: int | None = Field(description="for the next page; null after the last one")


class Count(BaseModel):
    """A number of letters."""

    count: int


def add_dead_letters(app: FastAPI, view: Shown, may_write: MayWrite) -> None:
    """Add the routes; `may_write` is a dependency that raises for who may not change anything."""
    router = APIRouter(
        prefix=PATH,
        tags=["dead letters"],
        responses={404: {"description": "none is kept, or none has that id"}},
    )

    @app.exception_handler(StoreError)
    async def unavailable(_request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, status_code=503)

    _add_reading(router, view)
    _add_writing(router, view, may_write)
    app.include_router(router)


def _add_reading(router: APIRouter, view: Shown) -> None:
    @router.get("", summary="List")
    async def summaries(query: Annotated[ListQuery, Query()]) -> LetterPage:
        """Return a page of the list, newest first, without the events' data."""
        page = await _store(view).page(query.filter(), limit=query.limit, cursor=query.cursor)
        return LetterPage(letters=list(page.letters), cursor=page.cursor)

    @router.get("/count", summary="Count")
    async def count(query: Annotated[Wanted, Query()]) -> Count:
        """Return how many letters there are of that kind."""
        return Count(count=await _store(view).count(query.filter()))

    @router.get("/export", summary="Export", response_class=_JsonLines)
    async def export(query: Annotated[Wanted, Query()]) -> Response:
        """Return letters with all they hold, oldest first, as JSON lines.

        The last line is an `error` when letters could not be read.
        """
        store = _store(view)
        await store.newest()  # what can't be read at all is a 503
        return _JsonLines(_export(store, query.filter()))

    @router.get("/{number}", summary="Show")
    async def show(number: Annotated[int, Path(ge=1, le=_MAX_ID)]) -> Response:
        """Return everything that is known of one letter, its event and its bytes included."""
        letter = await _store(view).show(number)
        if letter is None:
            raise HTTPException(404, "there is no such dead letter")
        return Response(as_json(letter), media_type="application/json")


def _add_writing(router: APIRouter, view: Shown, may_write: MayWrite) -> None:
    writing: dict[str, Any] = {
        "dependencies": [Depends(may_write)],
        "responses": {
            401: {"description": "the token is missing or wrong"},
            403: {"description": "nobody may write here without admin.token"},
        },
    }

    @router.post("/replay", summary="Replay", response_class=_JsonLines, **writing)
    async def replay(request: Annotated[ReplayRequest, Body()]) -> Response:
        """Send letters to their routes again; those that arrive are deleted.

        Each line of the answer says what became of one letter, as it happens; to hang up ends it.
        The last line is an `error` when letters could not be read or changed.
        """
        _store(view)
        runs = view.replay
        if runs is None:
            raise HTTPException(404, "this gateway can't replay dead letters")
        if (request.ids is None) == (request.filter is None):
            raise HTTPException(422, "say which: `ids`, or `filter` ({} is all of them)")
        wanted = (request.filter or Wanted.model_construct()).filter(request.ids)
        return _JsonLines(_results(runs, wanted, request.rate))

    @router.delete("", summary="Purge", **writing)
    async def purge(query: Annotated[PurgeQuery, Query()]) -> Count:
        """Delete letters for good; returns how many there were."""
        store, wanted = _store(view), query.filter(query.ids)
        if wanted.is_empty and not query.all:
            raise HTTPException(422, "say which, or `all=true`")
        return Count(count=await store.purge(wanted))

    @router.delete("/{number}", summary="Purge one", **writing)
    async def purge_one(number: Annotated[int, Path(ge=1, le=_MAX_ID)]) -> Count:
        """Delete one letter for good."""
        if not await _store(view).purge(Filter(ids=(number,))):
            raise HTTPException(404, "there is no such dead letter")
        return Count(count=1)


async def _export(store: DeadLetters, wanted: Filter) -> AsyncIterator[bytes]:
    try:
        async for letters in store.export(wanted):
            yield b"".join(as_json(letter) + b"\n" for letter in letters)
    except StoreError as error:
        yield _error_line(error)


async def _results(runs: Replay, wanted: Filter, rate: float) -> AsyncIterator[bytes]:
    try:
        async for results in runs.run(wanted, rate):
            yield b"".join(map(_line, results))
    except StoreError as error:
        yield _error_line(error)


def _error_line(error: StoreError) -> bytes:
    return msgspec.json.encode({"error": str(error)}) + b"\n"


def _line(result: Replayed) -> bytes:
    members = {
        "id": result.id,
        "outcome": Outcome(result.outcome).name.lower(),
        "reason": result.reason.value,
        "detail": result.detail,
    }
    return msgspec.json.encode(members) + b"\n"


def _store(view: Shown) -> DeadLetters:
    store = view.dead_letters
    if store is None:
        raise HTTPException(404, "this gateway keeps no dead letters (delivery.dead_letters)")
    return store
