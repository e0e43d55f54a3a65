"""When a gateway answers, and what: for each way to talk and each thing that its sink can do.

A gateway that keeps events durably may acknowledge what its sink does not take now; then the event
has to come once the sink does. That a foreign gateway neither stores nor buries what its sink
refuses is a matter of its settings (docs/conformance/targets.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from conformance.check import Check, Unsupported
from conformance.checks.live import Case, Scene, live_check, scene
from conformance.peers.dialogue import WAYS, Answer
from conformance.target import SinkAnswer, Target

FAMILY: Final = "acknowledgement"

_EARLY_SECONDS: Final = 0.5
"""The slow sink takes 1.2 s; an answer that comes sooner after the event was not its."""
_HELD: Final = ("mqtt", "mqtt-qos2", "mqtt311", "jetstream")
"""Ways that have a session, in which a message stays open."""
_DONE: Final = {
    "http": "HTTP 2xx", "mqtt": "PUBACK", "mqtt-qos2": "PUBREC", "mqtt311": "PUBACK",
    "nats": "+ACK", "jetstream": "+ACK",
}  # fmt: skip


class _Rule(NamedTuple):
    """What has to happen when the sink does something."""

    sink: SinkAnswer
    title: str
    requirements: Sequence[str]
    judge: Callable[[Scene], Awaitable[None]]


def checks() -> Iterator[Check]:
    """Return a check for each way to talk and each thing that a sink can do."""
    for way in WAYS:
        for rule in _rules(way):
            case = Case(
                way,
                f"sink-{rule.sink}",
                rule.title,
                rule.requirements,
                partial(_run, way, rule),
                _verdict(way, rule.sink),
            )
            yield live_check(FAMILY, case)
    yield live_check(FAMILY, _no_answer_in_time())


def _rules(way: str) -> Iterator[_Rule]:
    done = _DONE[way]
    yield _Rule(
        "accept", f"{done} follows once the sink has the event.", ["GW-ACK-002"], _judge_accept
    )
    yield _Rule(
        "slow", f"{done} waits until the sink has taken the event.", ["GW-ACK-001"], _judge_slow
    )
    yield _Rule("hang", f"No {done} while the sink says nothing.", ["GW-ACK-008"], _judge_hang)
    yield _Rule(
        "reject", "What the sink refuses for good is refused.", ["GW-ACK-004"], _judge_reject
    )
    title = f"No {done} for what can't be delivered now"
    ids = ["GW-ACK-003"]
    if way in _HELD:
        ids.append("GW-ACK-006")
        yield _Rule("down", f"{title}; it is kept and comes later.", ids, _judge_held)
        busy = partial(_judge_held, comes_later=False)  # the wait that the sink asks for is long
        yield _Rule("busy", f"{title}, as the sink asks to wait.", ids, busy)
    else:
        if way == "http":
            ids.append("GW-ACK-005")
        yield _Rule("down", f"{title}; the sender is told.", ids, _judge_later)
        yield _Rule("busy", f"{title}, as the sink asks to wait.", ids, _judge_later)


def _verdict(way: str, sink: SinkAnswer) -> str:
    done = _DONE[way]
    if sink in {"accept", "slow"}:
        return done if sink == "accept" else f"{done}, not at once"
    if sink == "reject":
        return "refused" if way != "mqtt311" else "any"
    return "no answer" if way in _HELD or sink == "hang" else f"no {done}"


async def _run(way: str, rule: _Rule, target: Target) -> None:
    if target.is_broker:
        raise Unsupported("the broker acknowledges, not the gateway")
    async with scene(way, target, rule.sink) as at:
        await rule.judge(at)


async def _judge_accept(at: Scene) -> None:
    event = at.event()
    at.send(at.message(event))
    await at.expect("yes")
    await at.expect_events(event)


async def _judge_slow(at: Scene) -> None:
    event = at.event()
    at.send(at.message(event))
    await at.came(1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await at.expect("yes")
    waited = loop.time() - began
    if waited < _EARLY_SECONDS:
        raise at.failed(
            "the answer came before the sink had taken the event",
            f"not within {_EARLY_SECONDS} s of the event, as the sink takes 1.2 s",
            f"{answer.text} after {waited:.3f} s",
        )
    await at.expect_events(event)


async def _judge_hang(at: Scene) -> None:
    event = at.event()
    at.send(at.message(event))
    await at.came(1)
    _demand_no_yes(at, await at.talk.said())


def _demand_no_yes(at: Scene, answer: Answer | None) -> None:
    if answer is not None and answer.word == "yes":
        raise at.failed("it was acknowledged, and no sink has it", "no such answer", answer.text)


async def _judge_reject(at: Scene) -> None:
    at.send(at.message(at.event()))
    answer = await at.answer()
    if at.way == "mqtt311":  # whose PUBACK can only say yes
        return
    if answer.word != "no":
        raise at.failed("the sink refused it for good", "a refusal", answer.text)


async def _judge_held(at: Scene, *, comes_later: bool = True) -> None:
    """Nothing is said; once the sink takes it, it comes and is acknowledged."""
    event = at.event()
    at.send(at.message(event))
    await at.target.asked()
    answer = await at.talk.said()
    _demand_no_yes(at, answer)
    if answer is not None:
        raise at.failed("a negative answer is the end of it", "no answer yet", answer.text)
    if not comes_later:
        return
    at.target.sink_answers("accept")
    await at.expect("yes", seconds=10)
    await at.expect_events(event)


async def _judge_later(at: Scene) -> None:
    """The sender is told to come again; or the gateway has stored the event, and it comes."""
    event = at.event()
    at.send(at.message(event))
    answer = await at.answer()
    if answer.word == "yes":
        at.target.sink_answers("accept")
        await at.came(1)
    elif at.way == "http" and (answer.code not in {429, 503} or not answer.retry_after):
        raise at.failed(
            "the sender is not told when to come again",
            "429 or 503 with Retry-After",
            f"{answer.text}, Retry-After: {answer.retry_after or 'none'}",
        )


def _no_answer_in_time() -> Case:
    return Case(
        "http",
        "sink-hang-504",
        "A request whose event nobody took in time is answered by 5xx, never by 2xx.",
        ("GW-ACK-008", "GW-ACK-003"),
        _judge_timeout,
        "5xx",
    )


async def _judge_timeout(target: Target) -> None:
    async with scene("http", target, "hang", ack_timeout=0.3) as at:
        at.send(at.message(at.event()))
        answer = await at.answer()
        if not 500 <= answer.code < 600:
            raise at.failed("nobody took the event", "5xx", answer.text)
