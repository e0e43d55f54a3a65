"""The ledger: a line for everything that happens to an event, in the order in which it happens.

Senders, sink and whoever kills the gateway are one process, so one file has them all in order. The
gateway knows nothing of it.

    I key n          a sender is about to send (again, if the line was there before)
    A key n          the sender has the acknowledgement
    X key n why      the sender was told that it never will be
    P key n status   the sink is about to refuse it for good
    S key n answer   the sink has stored it and is about to answer: ok, or how it spoils the answer
    C text           the sink got what is not as it was sent
    D key n reason   it is a dead letter
    K                the gateway was killed
    @ seconds        since the beginning
    # text
"""

import time
from pathlib import Path
from typing import Final

from tests.faults.checker import Account

_BUFFER_BYTES: Final = 1 << 18
_STAMP_SECONDS: Final = 0.1


class Ledger:
    """Writes the file and keeps the account.

    Args:
        path: the file, made anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.account = Account()
        self._file = path.open("w", buffering=_BUFFER_BYTES)
        self._write = self._file.write
        self._started = self._stamped = time.monotonic()

    def intent(self, key: str, number: int) -> None:
        self._stamp()
        self._write(f"I {key} {number}\n")
        self.account.intent(key, number)

    def ack(self, key: str, number: int) -> None:
        self._write(f"A {key} {number}\n")
        self.account.ack(key, number)

    def refuse(self, key: str, number: int, why: object) -> None:
        self._write(f"X {key} {number} {why}\n")
        self.account.refuse(key, number)

    def condemn(self, key: str, number: int, status: int) -> None:
        self._write(f"P {key} {number} {status}\n")
        self.account.condemn(key, number)

    def store(self, key: str, number: int, answer: str) -> None:
        self._stamp()
        self._write(f"S {key} {number} {answer}\n")
        self.account.store(key, number, answer)

    def corrupt(self, text: str) -> None:
        text = text.replace("\n", " ")
        self._write(f"C {text}\n")
        self.account.corrupt(text)

    def dead_letter(self, key: str, number: int, reason: str) -> None:
        self._write(f"D {key} {number} {reason}\n")
        self.account.dead_letter(key, number)

    def kill(self) -> None:
        self._write("K\n")
        self.account.kill()
        self._file.flush()

    def remark(self, text: str) -> None:
        self._stamped = 0.0
        self._stamp()
        self._write(f"# {text}\n")

    def close(self) -> None:
        self._file.close()

    def _stamp(self) -> None:
        now = time.monotonic()
        if now - self._stamped > _STAMP_SECONDS:
            self._stamped = now
            self._write(f"@ {now - self._started:.3f}\n")
