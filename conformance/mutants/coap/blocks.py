"""Mistakes in block-wise transfer and limits (section 5)."""

from typing import Any

from bindings.coap import Request, RequestError
from bindings.coap.attributes import read_attributes
from bindings.wire.coap import Block, Code, Message, Number, serialise_options
from conformance.mutants.coap.gateways import Gateways, answers, around, understood, without
from conformance.mutants.mutant import Patch
from gateway.sources.coap import assembly, requests
from gateway.sources.coap.assembly import Assemblies
from gateway.sources.coap.exchange import CHANGED, Exchange
from gateway.sources.coap.requests import Requests
from gateway.sources.coap.source import CoapSource

MUTANTS = Gateways()


# --- blocks ---------------------------------------------------------------------------------------


@MUTANTS.wrong("BLK-001")
def refuses_blocks(patch: Patch) -> None:
    """Block1 is answered 4.02."""

    def wrong(request: Request) -> None:
        if request.block1 is not None:
            raise RequestError("no blocks", Code.BAD_OPTION)

    understood(patch, wrong)


@MUTANTS.wrong("BLK-001 BLK-002", 82)
def each_block_is_an_event(patch: Patch) -> None:
    """Block1 is ignored, and each block is an event."""
    without(patch, Number.BLOCK1)


@MUTANTS.wrong("BLK-010", 82)
def acts_on_the_first_block(patch: Patch) -> None:
    """Attributes are judged before the last block has come."""

    def wrong(right: Any, self: Any, request: Request, *rest: Any) -> Any:
        read_attributes(request.queries)
        return right(self, request, *rest)

    around(patch, Requests, "_whole_payload", wrong)


@MUTANTS.wrong("BLK-010 ORD-002", 82)
def an_event_of_what_has_come(patch: Patch) -> None:
    """The first block goes to the sink as soon as it has come."""
    around(
        patch,
        Requests,
        "_assemble",
        lambda right, self, request, *rest: right(self, request, *rest) or request.message.payload,
    )


@MUTANTS.wrong("BLK-002")
def continues_without_block1(patch: Patch) -> None:
    """2.31 has no Block1 option."""
    answers(patch, lambda _, one: one[:1] if one[0] == Code.CONTINUE else one)


@MUTANTS.wrong("BLK-003")
def ends_without_block1(patch: Patch) -> None:
    """The final answer has no Block1 option."""

    def wrong(right: Any, self: Any, code: Code, *rest: Any) -> Any:
        if code != Code.CONTINUE:
            self.block1 = None
        return right(self, code, *rest)

    around(patch, Exchange, "answer", wrong)


@MUTANTS.wrong("BLK-004 BLK-005", 82)
def blocks_of_any_size(patch: Patch) -> None:
    """A block may be larger or smaller than it says."""
    patch(assembly, "_fits", lambda _, __: True)


@MUTANTS.wrong("BLK-006")
def size_exponents_of_seven(patch: Patch) -> None:
    """A block of SZX 7 is taken for one of 1024 bytes over UDP too."""

    def wrong(right: Any, self: Any, request: Request, block: Block, *rest: Any) -> Any:
        six = Block(block.number, block.more, min(block.size_exponent, 6))
        return right(self, request, six, *rest)

    around(patch, Requests, "_assemble", wrong)


def _adding(patch: Patch, wrong: Any) -> None:
    around(patch, Assemblies, "add", wrong)


@MUTANTS.wrong("BLK-007", 82)
def blocks_out_of_order(patch: Patch) -> None:
    """A block is appended to what has come, whatever its number."""

    def wrong(right: Any, self: Any, at: Any, key: bytes, block: Block, *rest: Any) -> Any:
        begun = self._assemblies.get((at, key))
        size = len(begun.payload) if begun is not None else 0
        return right(self, at, key, block._replace(number=size // block.size), *rest)

    _adding(patch, wrong)


@MUTANTS.wrong("BLK-008")
def block_0_does_not_begin_again(patch: Patch) -> None:
    """Block 0 is refused while the payload before it is not complete."""

    def wrong(right: Any, self: Any, at: Any, key: bytes, block: Block, *rest: Any) -> Any:
        if block.number == 0 and (at, key) in self._assemblies:
            raise RequestError("not now", Code.REQUEST_ENTITY_INCOMPLETE)
        return right(self, at, key, block, *rest)

    _adding(patch, wrong)


@MUTANTS.wrong("BLK-009")
def blocks_of_one_size(patch: Patch) -> None:
    """All blocks of a payload have to be of the size of the first."""
    sizes: dict[Any, int] = {}

    def wrong(right: Any, self: Any, at: Any, key: bytes, block: Block, *rest: Any) -> Any:
        if block.number == 0:
            sizes[at, key] = block.size
        if sizes.get((at, key), block.size) != block.size:
            raise RequestError("another size", Code.BAD_REQUEST)
        return right(self, at, key, block, *rest)

    _adding(patch, wrong)


def _parts_by(patch: Patch, key: Any) -> None:
    around(patch, requests, "assembly_key", lambda _, message: key(message))


@MUTANTS.wrong("BLK-011", 82)
def blocks_of_one_sender(patch: Patch) -> None:
    """Blocks of one endpoint are parts of one payload, whatever their options."""
    _parts_by(patch, lambda _: b"")


@MUTANTS.wrong("BLK-011", 82)
def blocks_to_one_path(patch: Patch) -> None:
    """Blocks to one path are parts of one payload, whatever their other options."""
    _parts_by(
        patch,
        lambda message: serialise_options(o for o in message.options if o[0] == Number.URI_PATH),
    )


@MUTANTS.wrong("BLK-011", 82, families=("endpoints",))
def blocks_of_anybody(patch: Patch) -> None:
    """Blocks with the same options are parts of one payload, whoever sent them."""
    nobody = ("", 0)
    _adding(patch, lambda right, self, _, *rest: right(self, nobody, *rest))


@MUTANTS.wrong("BLK-011")
def blocks_with_one_no_response(patch: Patch) -> None:
    """Blocks with other values of No-Response are no parts of one payload."""
    ignored = {Number.BLOCK1, Number.BLOCK2, Number.SIZE1, Number.SIZE2}
    _parts_by(
        patch, lambda message: serialise_options(o for o in message.options if o[0] not in ignored)
    )


@MUTANTS.wrong("BLK-011")
def blocks_with_one_token(patch: Patch) -> None:
    """Blocks with other tokens are no parts of one payload."""

    def wrong(right: Any, message: Message) -> bytes:
        return message.token + b" " + bytes(right(message))

    around(patch, requests, "assembly_key", wrong)


@MUTANTS.wrong("BLK-012")
def ignores_size1(patch: Patch) -> None:
    """A payload that is said to be too large is taken until it is."""
    without(patch, Number.SIZE1)


@MUTANTS.wrong("BLK-012")
def too_large_at_the_end(patch: Patch) -> None:
    """A payload that is too large is refused when all of it has come."""

    def wrong(right: Any, self: Any, *args: Any) -> Any:
        *most, limit, now = args
        block = most[2]
        return right(self, *most, 2**31 if block.more else limit, now)

    _adding(patch, wrong)


@MUTANTS.wrong("BLK-013")
def keeps_what_is_incomplete(patch: Patch) -> None:
    """After 4.08 the blocks that have come are kept."""

    def wrong(right: Any, self: Any, *args: Any) -> Any:
        at, key, *_, now = args
        begun = self._assemblies.get((at, key))
        try:
            return right(self, *args)
        except RequestError:
            if begun is not None and (at, key) not in self._assemblies:
                self._append((at, key), self._begin((at, key)), bytes(begun.payload), now)
            raise

    _adding(patch, wrong)


@MUTANTS.wrong("BLK-014", families=("datagrams", "limits"))
def payloads_without_bound(patch: Patch) -> None:
    """A sender may begin as many payloads as it likes."""
    patch(assembly, "PER_ENDPOINT", 1 << 30)


@MUTANTS.wrong("BLK-014", families=("limits",))
def blocks_without_bound(patch: Patch) -> None:
    """The memory for blocks grows with each sender."""

    def wrong(right: Any, self: Any, _: int) -> None:
        right(self, 1 << 40)

    around(patch, Assemblies, "__init__", wrong)


# --- limits ---------------------------------------------------------------------------------------


@MUTANTS.wrong("LIM-002", 83)
def too_large_without_size1(patch: Patch) -> None:
    """4.13 does not say how large a payload may be."""
    answers(patch, lambda _, one: one[:1] if one[0] == Code.REQUEST_ENTITY_TOO_LARGE else one)


@MUTANTS.wrong("LIM-002", 83)
def bad_request_for_what_is_too_large(patch: Patch) -> None:
    """A payload that is too large is answered 4.00."""
    too_large = Code.REQUEST_ENTITY_TOO_LARGE
    answers(patch, lambda _, one: b"\x80" + one[1:] if one[0] == too_large else one)


def _limited(patch: Patch, limit_of: Any) -> None:
    around(
        patch,
        Requests,
        "_whole_payload",
        lambda right, self, request, limit, *rest: right(self, request, limit_of(limit), *rest),
    )


@MUTANTS.wrong("LIM-002")
def one_byte_less(patch: Patch) -> None:
    """A payload of exactly the limit is refused."""
    _limited(patch, lambda limit: limit - 1)


@MUTANTS.wrong("LIM-001")
def sixteen_kibibytes(patch: Patch) -> None:
    """Payloads of more than 16 KiB are refused."""
    _limited(patch, lambda limit: min(limit, 16384))


@MUTANTS.wrong("LIM-004")
def endpoints_without_bound(patch: Patch) -> None:
    """A sender may have as many events under way as it likes."""

    def wrong(right: Any, self: Any, datagram: bytes, endpoint: Any, *rest: Any) -> None:
        endpoint.in_flight = 0
        right(self, datagram, endpoint, *rest)

    around(patch, CoapSource, "_receive", wrong)


@MUTANTS.wrong("LIM-005")
def no_room_without_max_age(patch: Patch) -> None:
    """At a bound 5.03 comes without Max-Age."""
    around(patch, Exchange, "unavailable", lambda right, self: right(self)[:1])


@MUTANTS.wrong("LIM-006")
def loses_non_in_silence(patch: Patch) -> None:
    """At a bound a NON is answered 2.04 and lost."""

    def wrong(right: Any, self: Any, one: Exchange) -> None:
        if one.confirmable:
            right(self, one)
        else:
            self._finish(one, CHANGED)

    around(patch, CoapSource, "_refuse_for_now", wrong)
