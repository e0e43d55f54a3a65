"""A process that spools, reads and finishes events until it is killed, and keeps a ledger.

    python -m tests.gateway.spool.victim FOLDER LEDGER SEED

Lines of the ledger, each written before what it speaks of can be doubted: `open N.` pending,
`stored N.` after the acknowledgement of record N, `read N.`, `done N.` before `Spool.done`.
One without its full stop was cut by the kill, and says nothing.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import uvloop

from gateway.spool import Spool


async def main(folder, ledger, seed):
    rng = random.Random(seed)
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(*lines):
        os.write(fd, "".join(f"\n{line}." for line in lines).encode())

    spool = Spool(Path(folder), max_bytes=4 << 20, segment_bytes=64 << 10, min_free_share=0.0)
    note(f"open {spool.open().pending}")
    number = seed * 1_000_000
    under_way = 0
    held = []
    while True:
        while under_way < 20 and not spool.is_full:
            numbers = list(range(number, number + rng.randrange(1, 30)))
            number = numbers[-1] + 1

            def on_stored(_first, error, numbers=numbers):
                nonlocal under_way
                under_way -= 1
                if error is None:
                    note(*(f"stored {n}" for n in numbers))

            under_way += 1
            data = [f"{n}:".encode().ljust(rng.randrange(20, 600), b"x") for n in numbers]
            spool.append(data, on_stored)
        found = spool.read(rng.randrange(1, 200), 1 << 20)
        note(*(f"read {record.partition(b':')[0].decode()}" for _, record in found))
        held += [(sequence, record.partition(b":")[0].decode()) for sequence, record in found]
        if len(held) > 300:  # those that hang stay behind
            rng.shuffle(held)
            finished, held = held[30:], held[:30]
            note(*(f"done {n}" for _, n in finished))
            spool.done([sequence for sequence, _ in finished])
        await asyncio.sleep(0)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
