"""What one worker gets of the configuration, and what an earlier run's workers have left."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.config.gateway import LETTERS_SHARE, GatewayConfig, shares_of
from gateway.config.records import Address, SinkConfig
from gateway.config.worker import Place
from gateway.errors import GatewayError
from gateway.router import Route
from gateway.spool.inspection import inspect
from gateway.state import SPOOL_FOLDER, default_path

_FOLDER: Final = re.compile(r"worker-([1-9]\d*)")

Listeners = Mapping[str, Mapping[str, str]]
"""Addresses by source and key."""


def state_of(config: GatewayConfig) -> Path:
    """Return the state folder of the whole gateway."""
    return (config.state.path or default_path(os.environ)).absolute()


def folder_of(state: Path, number: int) -> Path:
    """Return a worker's part of the state folder; that of worker 0 is the folder itself.

    So a gateway with one process and worker 0 have the same spools.
    """
    return state / f"worker-{number}" if number else state


def folders(state: Path) -> list[int]:
    """Return the numbers of the workers, above 0, that have a part of the state folder."""
    try:
        names = [entry.name for entry in state.iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _FOLDER.fullmatch(name)))


def placed(
    config: GatewayConfig, place: Place, *, listeners: Listeners, state: Path
) -> GatewayConfig:
    """Return what one worker runs.

    Args:
        config: of the whole gateway.
        place: which worker.
        listeners: addresses that replace those of the sources.
        state: the gateway's state folder.
    """
    sources = {}
    for name, source in config.sources.items():
        addresses: dict[str, Any] = {}
        for key, text in listeners.get(name, {}).items():
            host, _, port = text.rpartition(":")
            addresses[key] = Address(host.strip("[]"), int(port))
        own = source.model_copy(update=addresses).for_worker(place)
        if own is not None:
            sources[name] = own
    rate = config.drain.rate
    return config.model_copy(
        update={
            "sources": sources,
            "sinks": {name: _part(sink, place.count) for name, sink in config.sinks.items()},
            "embedded_nats": False,
            "state": config.state.model_copy(
                update={
                    "path": folder_of(state, place.number),
                    "max_bytes": (config.state.max_bytes - letters_bytes(config)) // place.count,
                }
            ),
            "drain": config.drain.model_copy(
                update={"rate": None if rate is None else rate / place.count}
            ),
        }
    )


def _part(sink: SinkConfig, count: int) -> SinkConfig:
    """Return a sink of which each of several workers has the same; a rate is divided."""
    webhook = getattr(sink, "webhook", None)
    if webhook is None:
        return sink
    return sink.model_copy(update={"webhook": webhook.model_copy(update={"workers": count})})


def keeps_letters(config: GatewayConfig) -> bool:
    """Whether there are local dead letters."""
    return any(route.delivery.dead_letters == "local" for route in config.routes)


def letters_bytes(config: GatewayConfig) -> int:
    """Return what the dead letters may take; 0 without any."""
    return config.state.max_bytes // LETTERS_SHARE if keeps_letters(config) else 0


def check_room(config: GatewayConfig, routes: list[Route], count: int) -> None:
    """Check that each worker's spools get enough of the state folder.

    Raises:
        GatewayError: they don't.
    """
    spools = count * sum(len(route.sinks) for route in routes if route.spool)
    try:
        shares_of(config.state.max_bytes, spools, keeps_letters=keeps_letters(config))
    except ValueError as error:
        raise GatewayError(
            f"state.max_bytes: {config.state.max_bytes} {error} ({count} workers)"
        ) from None


def remove_emptied(folder: Path) -> bool:
    """Remove a worker's part of the state folder; False if something is left in it.

    Nothing is removed but spools in which nothing is pending or damaged.
    """
    try:
        if [entry.name for entry in folder.iterdir()] not in ([], [SPOOL_FOLDER]):
            return False
        for lane in (folder / SPOOL_FOLDER).glob("*/*/"):
            contents = inspect(lane)
            if contents.pending or contents.damaged:
                return False
        shutil.rmtree(folder)
    except (OSError, GatewayError):
        return False
    return True
