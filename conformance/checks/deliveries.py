"""Events put into a sender, and its deliveries answered event by event."""

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from conformance.check import Check, CheckFailed, Needs, Role
from conformance.forms import WireEvent
from conformance.reference.delivered import read_delivery
from conformance.requirements import profiles_of, strongest
from conformance.target import Delivering, Request, Response

OK: Final = Response()
DOWN: Final = Response(status=503)

Answers = Mapping[str, Response | Sequence[Response]]
"""By event: one answer to all its deliveries, or one to each; 202 where there is none."""


class Family:
    """Makes the checks of a family that share a subject.

    Args:
        name: the family's.
        prefix: what ids begin with.
        binding: the row of the table.
        role: who is judged.
        needs: what the checks are given.
        protocol: of the target; "" is the binding's.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        binding: str,
        *,
        role: Role,
        needs: Needs,
        protocol: str = "",
    ) -> None:
        self._name, self._prefix, self._binding = name, prefix, binding
        self._role, self._needs, self._protocol = role, needs, protocol

    def check(self, name: str, title: str, ids: str, run: Any, verdict: str = "") -> Check:
        """Return a check; `ids` are its requirements, separated by spaces."""
        requirements = tuple(ids.split())
        return Check(
            id=f"{self._prefix}-{name}",
            title=title,
            binding=self._binding,
            family=self._name,
            requirements=requirements,
            level=strongest(requirements),
            role=self._role,
            profiles=profiles_of(requirements),
            verdict=verdict,
            needs=self._needs,
            protocol=self._protocol,
            run=run,
        )


class Deliveries:
    """The events of one check, and the requests in which they come.

    Ids are new for each check, so that what is left of another one does not count.

    Args:
        sender: who is judged.
        answers: how its deliveries are answered, by the names of events.
        options: the answers to OPTIONS, the last of which is that to all later ones.
    """

    def __init__(
        self, sender: Delivering, answers: Answers | None = None, *options: Response
    ) -> None:
        self._sender = sender
        self._answers = dict(answers or {})
        self._options = list(options or (OK,))
        self._run = uuid.uuid4().hex[:8]
        self._came: dict[str, list[Request]] = {}
        sender.forget()
        sender.answer(self._answer)

    def event(self, name: str, data: bytes | None = b'{"n":1}', **attributes: Any) -> WireEvent:
        """Return an event with a source of its own; without data there is no content type."""
        known: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{self._run}-{name}",
            "source": f"/conformance/{name}",
            "type": "org.cloudevents.conformance",
        }
        if data is not None:
            known["datacontenttype"] = "application/json"
        known |= attributes
        present = {key: value for key, value in known.items() if value is not None}
        return WireEvent(present, data)

    async def send(self, *names: str) -> None:
        """Put plain events in."""
        await self._sender.send(*map(self.event, names))

    def of(self, name: str) -> list[Request]:
        """Return the requests so far that brought an event."""
        return list(self._came.get(f"{self._run}-{name}", ()))

    async def all(self) -> Sequence[Request]:
        """Return every request so far, in order, whatever it brought."""
        return await self._sender.requests(0)

    async def wait(self, name: str, count: int = 1, seconds: float = 5.0) -> list[Request]:
        """Wait until an event has come `count` times; return all requests that brought it.

        Raises:
            CheckFailed: it did not, in that time.
        """
        while len(self.of(name)) < count:
            seen = len(await self.all())
            try:
                await self._sender.requests(seen + 1, seconds)
            except CheckFailed:
                raise CheckFailed(
                    f"event {name!r} was delivered too rarely",
                    expected=f"{count} times within {seconds} s",
                    got=f"{len(self.of(name))} times",
                    reproduce=self.story(name),
                ) from None
        return self.of(name)

    async def pass_marker(self) -> None:
        """Send an event that is answered 503 once, and wait for its repetition.

        Whatever was due to be repeated before has left by then, as it waited for as long; further
        events go the same way after it, so that it has come, too.
        """
        self._answers["marker"] = [DOWN]
        await self.send("marker")
        await self.wait("marker", 2)
        for after in ("marker-after", "marker-last"):
            await self.send(after)
            await self.wait(after)

    async def expect_count(self, name: str, count: int, text: str) -> None:
        """Demand that an event has come exactly so often.

        Raises:
            CheckFailed: it has not; `text` says what is wrong about it.
        """
        came = len(self.of(name))
        if came != count:
            raise CheckFailed(
                text, expected=f"{count} requests", got=str(came), reproduce=self.story(name)
            )

    def story(self, name: str) -> str:
        """Return how an event was answered, for people."""
        answers = self._answers.get(name, OK)
        each = [answers] if isinstance(answers, Response) else [*answers, OK]
        shown = [_shown(answer) for answer in each]
        repeated = " each time" if isinstance(answers, Response) else ""
        return f"the sink answers the delivery of {name!r}: {', then '.join(shown)}{repeated}"

    def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self._options.pop(0) if len(self._options) > 1 else self._options[0]
        response = OK
        for found in ids_of(request):
            requests = self._came.setdefault(found, [])
            requests.append(request)
            run, _, name = found.partition("-")
            if run == self._run:
                response = self._next(name, len(requests))
        return response

    def _next(self, name: str, count: int) -> Response:
        answers = self._answers.get(name, OK)
        if isinstance(answers, Response):
            return answers
        return answers[count - 1] if count <= len(answers) else OK


def _shown(answer: Response) -> str:
    if answer.raw:
        return repr(answer.raw)
    if answer.status == 0:
        return "nothing, the connection closes"
    fields = "".join(f", {name}: {value}" for name, value in answer.headers)
    late = f" after {answer.delay} s" if answer.delay else ""
    return f"{answer.status}{fields}{late}"


def ids_of(request: Request) -> list[str]:
    """Return the ids of the events in a request, as far as they can be read."""
    try:
        return [str(event.attributes.get("id")) for event in read_delivery(request)]
    except ValueError:
        return []


def shown(request: Request) -> str:
    """Return a request for people, its body cut."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return "\n".join([*lines, "", request.body[:400].decode("utf-8", "replace")])


def phrase(status: int) -> str:
    """Return a status with its name, for people."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
