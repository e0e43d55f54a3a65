"""Payloads that arrive in blocks (RFC 7959, binding section 5.2); bounded in number and bytes."""

from collections import OrderedDict
from typing import Final

from bindings.coap import RequestError
from bindings.errors import TooLargeError
from bindings.wire.coap import Block, Code
from gateway.sources.coap.listener import SocketAddress

PER_ENDPOINT: Final = 4
IDLE_SECONDS: Final = 60.0
_COST: Final = 512
"""What an assembly costs in bytes beside its key and payload."""

_Key = tuple[SocketAddress, bytes]


class _Assembly:
    __slots__ = ("payload", "touched")

    def __init__(self) -> None:
        self.payload = bytearray()
        self.touched = 0.0


class Assemblies:
    """The payloads of which blocks are missing, the one that waited longest first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._assemblies: OrderedDict[_Key, _Assembly] = OrderedDict()
        self._keys: dict[SocketAddress, list[bytes]] = {}
        self._used_bytes = 0

    def __len__(self) -> int:
        return len(self._assemblies)

    @property
    def used_bytes(self) -> int:
        """An estimate of the memory in use."""
        return self._used_bytes

    def add(
        self,
        address: SocketAddress,
        options: bytes,
        block: Block,
        payload: bytes,
        limit: int,
        now: float,
    ) -> bytes | None:
        """Add a block; returns the payload when it was the last, None when more are to come.

        Args:
            address: who sent it.
            options: what the blocks of one payload have in common.
            block: which block it is.
            payload: its bytes.
            limit: how many bytes the whole payload may have.
            now: monotonic seconds.

        Raises:
            RequestError: 4.00 for a block that breaks the rules of sizes, 4.08 for one that does
                not follow what is there.
            TooLargeError: the payload is larger than the limit.
        """
        if not _fits(block, len(payload)):
            raise RequestError("wrong block size", Code.BAD_REQUEST, reason="block")
        key = (address, options)
        if block.number == 0:
            self.drop(address, options)
        assembly = self._assemblies.get(key)
        size = len(assembly.payload) if assembly is not None else 0
        if block.offset != size:
            self.drop(address, options)
            code = Code.REQUEST_ENTITY_INCOMPLETE
            raise RequestError("start again with block 0", code, reason="block")
        if size + len(payload) > limit:
            self.drop(address, options)
            raise TooLargeError(f"more than {limit} bytes", limit=limit)
        if not block.more:
            whole = bytes(assembly.payload) + payload if assembly is not None else payload
            self.drop(address, options)
            return whole
        self._append(key, assembly or self._begin(key), payload, now)
        return None

    def drop(self, address: SocketAddress, options: bytes) -> None:
        """Give up an assembly, if there is one."""
        assembly = self._assemblies.pop((address, options), None)
        if assembly is None:
            return
        self._used_bytes -= len(assembly.payload) + len(options) + _COST
        keys = self._keys[address]
        keys.remove(options)
        if not keys:
            del self._keys[address]

    def drop_all(self, address: SocketAddress) -> None:
        """Give up what a sender has begun, as it is gone."""
        for options in list(self._keys.get(address, ())):
            self.drop(address, options)

    def expire(self, now: float) -> None:
        """Give up what has waited too long for its next block."""
        while self._assemblies:
            key, assembly = next(iter(self._assemblies.items()))
            if assembly.touched + IDLE_SECONDS > now:
                return
            self.drop(*key)

    def _append(self, key: _Key, assembly: _Assembly, payload: bytes, now: float) -> None:
        assembly.payload += payload
        assembly.touched = now
        self._used_bytes += len(payload)
        self._assemblies.move_to_end(key)
        while self._used_bytes > self._max_bytes and len(self._assemblies) > 1:
            self.drop(*next(iter(self._assemblies)))

    def _begin(self, key: _Key) -> _Assembly:
        address, options = key
        keys = self._keys.setdefault(address, [])
        if len(keys) >= PER_ENDPOINT:
            self.drop(address, keys[0])
            keys = self._keys.setdefault(address, [])
        keys.append(options)
        assembly = self._assemblies[key] = _Assembly()
        self._used_bytes += len(options) + _COST
        return assembly


def _fits(block: Block, size: int) -> bool:
    """Whether a payload has a size that its block may have."""
    if block.is_bert:  # several blocks at once (RFC 8323 6)
        return not block.more or (size > 0 and size % block.size == 0)
    return size == block.size if block.more else size <= block.size
