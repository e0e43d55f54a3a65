"""Who takes part."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.contender import Contender
from tests.benchmarks.gateway_contender import COMPILED, GatewayContender
from tests.benchmarks.peers import PEERS


def contenders() -> Sequence[Contender]:
    """Return all, ours first, also those that are missing on this machine."""
    return [
        GatewayContender(),
        GatewayContender("gateway-compiled", first=COMPILED),
        *PEERS,
    ]


def named(names: Sequence[str]) -> Sequence[Contender]:
    """Return those with these names.

    `gateway-2` or `gateway-compiled-2` is the gateway with that many workers, and `gateway@FOLDER`
    the one of another checkout.

    Raises:
        KeyError: there is none of that name.
    """
    known = {contender.name: contender for contender in contenders()}
    for name in names:
        kind, _, number = name.rpartition("-")
        variant, _, folder = name.partition("@")
        if variant == "gateway" and folder:
            known[name] = GatewayContender(Path(folder).name, first=Path(folder))
        elif name not in known and kind in ("gateway", "gateway-compiled") and number.isdigit():
            first = COMPILED if kind == "gateway-compiled" else None
            known[name] = GatewayContender(name, first=first, workers=int(number))
    return [known[name] for name in names]
