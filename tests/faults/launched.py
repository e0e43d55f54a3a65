"""The gateway run by the launcher: its disk and clock do as they are told."""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults import orders
from tests.faults.bench import Bench
from tests.faults.gateway_process import GatewayProcess

SEGMENT_BYTES = 32 * 1024
"""So that each row rolls and trims many times."""


class LaunchedGateway(GatewayProcess):
    """`ce-gateway run FILE` by `tests.faults.launcher`.

    Attributes:
        segment_bytes: size of the spool's files; 0 is the product's own.
        has_attic: whether what is removed is kept; it then takes room on the disk as before.
    """

    segment_bytes = SEGMENT_BYTES
    has_attic = True

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        super().__init__(folder, config)
        self.orders_path = folder / "orders"
        self.journal_path = folder / "journal"
        self.attic = folder / "attic"
        self.attic.mkdir()
        self._orders: dict[str, Any] = {}
        self.order()

    def command(self) -> Sequence[str]:
        python, _, _, *arguments = super().command()
        launcher = [python, "-m", "tests.faults.launcher", self.orders_path, self.journal_path]
        attic = str(self.attic) if self.has_attic else "-"
        return [*map(str, launcher), attic, str(self.segment_bytes), *arguments]

    async def up(self) -> float:
        """Start it, with journal and attic empty."""
        self.journal_path.unlink(missing_ok=True)
        shutil.rmtree(self.attic)
        self.attic.mkdir()
        return await super().up()

    @property
    def lane(self) -> Path:
        """The folder of the only lane's spool."""
        return Path(self.config["state"]["path"]) / "spool" / "faults" / "out"

    def order(self, **changes: Any) -> None:
        """Change what disk and clock are told; None takes an order back."""
        self._orders |= changes
        given = {name: value for name, value in self._orders.items() if value is not None}
        orders.give(self.orders_path, given)

    def journal(self) -> list[list[Any]]:
        """Return what the disk has written down since the start; a line may be cut by a kill."""
        if not self.journal_path.exists():
            return []
        lines = self.journal_path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    async def has_ended(self, seconds: float) -> bool:
        """Wait until it has ended by itself, for so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.returncode is None:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True


def launched(made: Bench) -> LaunchedGateway:
    """Return the bench's gateway as what it is."""
    assert isinstance(made.gateway, LaunchedGateway)
    return made.gateway


def count_kill(made: Bench) -> None:
    """Note that the gateway has ended itself by SIGKILL."""
    made.kills += 1
    made.ledger.kill()
    for producer in made.producers.values():
        producer.gateway_gone()
