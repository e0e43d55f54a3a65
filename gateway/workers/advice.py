"""What is said at the start: what a configuration wants and several workers can't give."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.config.gateway import GatewayConfig, RouteConfig
from gateway.config.records import SinkConfig, SourceConfig
from gateway.config.worker import Place
from gateway.errors import GatewayError
from gateway.workers.place import folder_of


def advice(config: GatewayConfig, count: int, retired: Sequence[int]) -> Iterator[str]:
    """Yield what an operator should know before workers begin.

    Args:
        config: of the whole gateway.
        count: how many there will be.
        retired: the numbers of others, of an earlier run, which empty what they have left.

    Raises:
        GatewayError: something in it can't work with several processes.
    """
    if count > 1 or retired:
        _check_callbacks(config, count, retired)
    if count == 1:
        return
    for name, source in config.sources.items():
        if source.for_worker(Place(1, count, "")) is None:
            yield f"source {name}: only worker 0 opens it, as it can't be shared"
    yield from _order(config)
    for route in config.routes:
        if route.dedup is not None and any(_is_open_to_all(one) for one in _sources(config, route)):
            yield (
                f"route {route.name}: dedup: each worker knows what it has seen itself, so a "
                "duplicate that comes by another worker is delivered"
            )


def _check_callbacks(config: GatewayConfig, count: int, retired: Sequence[int]) -> None:
    for name, sink in config.sinks.items():
        webhook = getattr(sink, "webhook", None)
        if webhook is None or webhook.callback is None:
            continue
        what_to_do = "run this sink with one worker"
        if count == 1:
            left = ", ".join(folder_of(Path(), number).name for number in retired)
            what_to_do = f"run without it until nothing is left in {left} of state.path"
        raise GatewayError(
            f"sinks.{name}.webhook.callback: a receiver's consent would reach any of the "
            f"workers, and not the one that asked for it: {what_to_do}"
        )


def _order(config: GatewayConfig) -> Iterator[str]:
    """Yield a line for each route that wants order of sources whose messages are dealt out."""
    for route in config.routes:
        ordering = [name for name in route.to if wants_order(config.sinks[name])]
        dealt = [one.name for one in _sources(config, route) if is_dealt_out(one)]
        if ordering and dealt:
            yield (
                f"route {route.name}: order of a key is not kept: messages of {', '.join(dealt)} "
                f"are dealt out to all workers, one by one, and {', '.join(ordering)} would keep it"
            )


def is_dealt_out(source: SourceConfig) -> bool:
    """Whether messages of one key may come to several workers: a broker deals them out."""
    return source.protocol in {"mqtt", "nats"} and _is_open_to_all(source)


def wants_order(sink: SinkConfig) -> bool:
    """Whether a sink is told to keep the order of a key."""
    return bool(getattr(sink, "ordered", False)) or getattr(sink, "key", "none") != "none"


def _is_open_to_all(source: SourceConfig) -> bool:
    return source.for_worker(Place(1, 2, "")) is not None


def _sources(config: GatewayConfig, route: RouteConfig) -> list[SourceConfig]:
    names = list(config.sources) if route.from_ is None else route.from_
    return [config.sources[name] for name in names]
