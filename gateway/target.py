"""A sink as the lanes that share it see it."""

from dataclasses import dataclass, field

from gateway.circuit import Circuit
from gateway.interfaces import Sink


@dataclass(slots=True, kw_only=True)
class Target:
    """A sink as a lane sees it.

    Attributes:
        name: its key in the configuration.
        sink: where lists are sent.
        address: what `knativeerrordest` says of it.
        circuit: whether it is asked at the moment; lanes with a spool wait for it.
    """

    name: str
    sink: Sink
    address: str
    circuit: Circuit = field(init=False)

    def __post_init__(self) -> None:
        self.circuit = Circuit(self.name)
