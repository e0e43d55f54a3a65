"""Adapters by name: ours and a stranger's are found in the same way, and imported when named."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from gateway.errors import GatewayError

Group = Literal["bindings", "sources", "sinks"]


@cache
def _group(group: Group) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"cloudevents_gateway.{group}")}


def names(group: Group) -> list[str]:
    """Return the names registered in a group, sorted."""
    return sorted(_group(group))


def load(group: Group, name: str) -> Any:
    """Import and return the object registered under `name`.

    Raises:
        KeyError: nothing is registered under that name.
        GatewayError: it is registered and can't be imported; says which package failed.
    """
    entry = _group(group)[name]
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        text = f"{group[:-1]} {name!r} ({entry.value}) can't be imported: {error}"
        raise GatewayError(text) from error
