"""Counting of this process's own instructions, when it runs under `valgrind --tool=callgrind`.

Valgrind listens for a sequence of instructions that does nothing elsewhere ("client requests"; see
`__SPECIAL_INSTRUCTION_PREAMBLE` for AMD64 in valgrind.h). C programs get it from a macro; here the
same bytes are put into memory and called. With counting off until then, starting Python and
importing costs a second or two instead of half a minute.
"""

import contextlib
import ctypes
import mmap
from collections.abc import Iterator
from typing import Final

MACHINE: Final = "x86_64"
"""What the bytes are for."""
_CODE: Final = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the request, an array of six words
    "31d2"  # xor edx, edx: the answer when there is no Valgrind
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61 and 51: as it was before
    "4887db"  # xchg rbx, rbx: here Valgrind acts
    "4889d0"  # mov rax, rdx
    "c3"  # ret
)
_CALLGRIND: Final = ord("C") << 24 | ord("T") << 16
_START: Final = _CALLGRIND + 4
_STOP: Final = _CALLGRIND + 5


class Counter:
    """Turns counting on and off."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(
            -1, len(_CODE), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._memory.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64 * 6))(address)
        self._start = (ctypes.c_uint64 * 6)(_START)
        self._stop = (ctypes.c_uint64 * 6)(_STOP)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what happens in the block, in all threads."""
        self._call(self._start)
        try:
            yield
        finally:
            self._call(self._stop)
