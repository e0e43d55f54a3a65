"""Mistakes about options, resources, the order of checks and discovery (sections 3.0, 6.2)."""

import re
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from bindings.coap import Request, RequestError, content_formats
from bindings.coap import request as coap_request
from bindings.event import Event
from bindings.wire.coap import Code, Message, Number, Option
from conformance.mutants.coap.gateways import (
    Gateways,
    around,
    changed,
    decoding,
    options,
    understood,
    without,
)
from conformance.mutants.mutant import Patch
from gateway.sources.coap import requests
from gateway.sources.coap.exchange import Exchange
from gateway.sources.coap.requests import Requests
from gateway.sources.coap.resources import WELL_KNOWN, Resources

MUTANTS = Gateways()

_KNOWN: Final = frozenset({3, 4, 6, 7, 11, 12, 14, 15, 16, 17, 23, 27, 28, 60, 252, 258, 292})
_PROXY: Final = frozenset({35, 39})


# --- options --------------------------------------------------------------------------------------


def _refusing(patch: Patch, is_bad: Callable[[Option], bool]) -> None:
    """Answer 4.02 to requests with certain options."""

    def wrong(found: list[Option]) -> list[Option]:
        if any(map(is_bad, found)):
            raise RequestError("unknown option", Code.BAD_OPTION)
        return found

    options(patch, wrong)


@MUTANTS.wrong("OPT-001 OPT-015")
def ignores_critical_options(patch: Patch) -> None:
    """A critical option that is not known is ignored."""
    options(patch, lambda found: [o for o in found if o[0] in _KNOWN | _PROXY or not o[0] & 1])


@MUTANTS.wrong("OPT-003")
def refuses_elective_options(patch: Patch) -> None:
    """An elective option that is not known is refused."""
    _refusing(patch, lambda option: option[0] not in _KNOWN and not option[0] & 1)


@MUTANTS.wrong("OPT-001 OPT-003", 78)
def critical_by_another_bit(patch: Patch) -> None:
    """An option is taken for critical by the bit that says unsafe to forward."""

    def wrong(found: list[Option]) -> list[Option]:
        unknown = [option for option in found if option[0] not in _KNOWN | _PROXY]
        if any(number & 2 for number, _ in unknown):
            raise RequestError("unknown option", Code.BAD_OPTION)
        return [option for option in found if option not in unknown]

    options(patch, wrong)


@MUTANTS.wrong("OPT-002")
def tells_non_about_options(patch: Patch) -> None:
    """A NON with an unknown critical option is answered 4.02."""
    patch(RequestError, "is_for_confirmable_only", False)  # noqa: FBT003 - in a property's place


@MUTANTS.wrong("OPT-004")
def the_second_critical_option_is_ignored(patch: Patch) -> None:
    """Of two critical options that are not repeatable the first counts."""
    options(
        patch,
        lambda found: [
            one
            for position, one in enumerate(found)
            if one[0] in {11, 15} or one[0] not in {number for number, _ in found[:position]}
        ],
    )


@MUTANTS.wrong("OPT-005")
def the_last_elective_option_counts(patch: Patch) -> None:
    """Of two elective options that are not repeatable the last counts."""
    options(
        patch,
        lambda found: [
            one
            for position, one in enumerate(found)
            if one[0] & 1 or one[0] not in {number for number, _ in found[position + 1 :]}
        ],
    )


@MUTANTS.wrong("OPT-006 OPT-007")
def options_of_any_length(patch: Patch) -> None:
    """An option may have any length."""
    patch(coap_request, "_LENGTHS", dict.fromkeys(coap_request._LENGTHS, (0, 65535)))  # noqa: SLF001 - the mistake is in there


@MUTANTS.wrong("OPT-014")
def ignores_proxy_options(patch: Patch) -> None:
    """A request to a proxy is taken for one to the gateway."""
    without(patch, *_PROXY)


@MUTANTS.wrong("OPT-014")
def proxy_options_are_unknown(patch: Patch) -> None:
    """A request to a proxy is answered 4.02."""
    patch(coap_request, "_PROXY", frozenset())


@MUTANTS.wrong("OPT-010 OPT-011")
def ignores_oscore(patch: Patch) -> None:
    """The option OSCORE is ignored, and the ciphertext taken for data."""
    without(patch, Number.OSCORE)


@MUTANTS.wrong("OPT-020")
def ignores_edhoc(patch: Patch) -> None:
    """The option EDHOC is ignored."""
    without(patch, Number.EDHOC)


@MUTANTS.wrong("OPT-015")
def ignores_conditions(patch: Patch) -> None:
    """If-Match and If-None-Match are ignored."""
    without(patch, Number.IF_MATCH, Number.IF_NONE_MATCH)


@MUTANTS.wrong("OPT-013")
def ignores_accept(patch: Patch) -> None:
    """Accept is ignored."""
    without(patch, Number.ACCEPT)


@MUTANTS.wrong("OPT-012")
def refuses_every_accept(patch: Patch) -> None:
    """Accept is answered 4.06, as 2.04 has no payload."""
    patch(content_formats, "ACCEPTED_ANSWERS", frozenset())


@MUTANTS.wrong("ORD-002 OPT-013")
def looks_at_accept_after_the_sink(patch: Patch) -> None:
    """Accept is judged when there is an answer, and the event is out by then."""

    def decode(right: Any, request: Request, *rest: Any) -> Any:
        request.accept = None
        return right(request, *rest)

    def settled(right: Any, self: Any, settlement: Any) -> Any:
        if self.accept in {None, *content_formats.ACCEPTED_ANSWERS}:
            return right(self, settlement)
        return self.answer(Code.NOT_ACCEPTABLE)

    decoding(patch, decode)
    around(patch, Exchange, "settled", settled)


@MUTANTS.wrong("OPT-009")
def the_host_is_the_source(patch: Patch) -> None:
    """Uri-Host becomes the source."""

    def wrong(right: Any, request: Request, *rest: Any) -> list[Event]:
        host = dict(request.message.options).get(Number.URI_HOST, b"").decode()
        found: list[Event] = right(request, *rest)
        return [changed(event, source=f"coap://{host}") if host else event for event in found]

    decoding(patch, wrong)


@MUTANTS.wrong("OPT-008")
def refuses_the_host(patch: Patch) -> None:
    """Uri-Host is refused."""
    _refusing(patch, lambda option: option[0] == Number.URI_HOST)


@MUTANTS.wrong("OPT-016")
def refuses_observe(patch: Patch) -> None:
    """Observe on a POST is refused."""
    _refusing(patch, lambda option: option[0] == Number.OBSERVE)


@MUTANTS.wrong("OPT-017")
def refuses_request_tag(patch: Patch) -> None:
    """Request-Tag without Block1 is refused."""
    _refusing(patch, lambda option: option[0] == Number.REQUEST_TAG)


@MUTANTS.wrong("OPT-018")
def refuses_block2(patch: Patch) -> None:
    """Block2 is refused, as events have no answer in blocks."""
    _refusing(patch, lambda option: option[0] == Number.BLOCK2)


@MUTANTS.wrong("OPT-019")
def ignores_block2(patch: Patch) -> None:
    """Block2 is ignored, whatever block it asks for."""
    without(patch, Number.BLOCK2)


# --- order ----------------------------------------------------------------------------------------


@MUTANTS.wrong("ORD-001")
def options_before_proxy_options(patch: Patch) -> None:
    """Unknown critical options are judged before Proxy-Uri."""
    _refusing(patch, lambda option: option[0] & 1 == 1 and option[0] not in _KNOWN | _PROXY)


@MUTANTS.wrong("ORD-001")
def the_method_before_the_path(patch: Patch) -> None:
    """The method is judged before the path."""

    def wrong(request: Request) -> None:
        if request.message.code != Code.POST and request.path != WELL_KNOWN:
            raise RequestError("POST it", Code.METHOD_NOT_ALLOWED)

    understood(patch, wrong)


@MUTANTS.wrong("ORD-001")
def accept_after_the_attributes(patch: Patch) -> None:
    """Attributes and payload are judged before Accept."""

    def wrong(right: Any, request: Request, *rest: Any) -> Any:
        accept, request.accept = request.accept, None
        found = right(request, *rest)
        if accept is not None and accept not in content_formats.ACCEPTED_ANSWERS:
            raise RequestError("no such answer", Code.NOT_ACCEPTABLE)
        return found

    decoding(patch, wrong)


# --- resources ------------------------------------------------------------------------------------


def _found_by(patch: Patch, change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> None:
    around(
        patch,
        Resources,
        "find",
        lambda right, self, path, endpoint: right(self, change(path), endpoint),
    )


@MUTANTS.wrong("PATH-003")
def one_resource_for_all(patch: Patch) -> None:
    """There is /ce, and nothing below it."""

    def wrong(right: Any, self: Any, path: tuple[bytes, ...], endpoint: Any) -> Any:
        return right(self, path, endpoint) if len(path) == 1 else None

    around(patch, Resources, "find", wrong)


@MUTANTS.wrong("PATH-004 PATH-005")
def resources_below_a_resource(patch: Patch) -> None:
    """A path below an event resource stands for that resource."""

    def wrong(right: Any, self: Any, path: tuple[bytes, ...], endpoint: Any) -> Any:
        while path and (route := right(self, path, endpoint)) is None:
            path = path[:-1]
        return route if path else None

    around(patch, Resources, "find", wrong)


@MUTANTS.wrong("PATH-005")
def paths_in_any_case(patch: Patch) -> None:
    """Paths are compared without case."""
    _found_by(patch, lambda path: tuple(segment.lower() for segment in path))


@MUTANTS.wrong("PATH-005")
def paths_without_empty_segments(patch: Patch) -> None:
    """Empty segments of a path don't count."""
    _found_by(patch, lambda path: tuple(filter(None, path)))


@MUTANTS.wrong("PATH-006")
def put_is_as_good_as_post(patch: Patch) -> None:
    """An event may be delivered with any method but GET."""

    def wrong(right: Any, self: Any, message: Message, *rest: Any) -> Any:
        code = message.code if message.code == Code.GET else Code.POST
        return right(self, replace(message, code=code), *rest)

    around(patch, Requests, "judge", wrong)


@MUTANTS.wrong("PATH-007")
def the_path_is_the_subject(patch: Patch) -> None:
    """The path becomes the subject of an event without one."""

    def wrong(right: Any, request: Request, *rest: Any) -> list[Event]:
        path = b"/".join(request.path).decode()
        found: list[Event] = right(request, *rest)
        return [event if event.subject else changed(event, subject=path) for event in found]

    decoding(patch, wrong)


# --- discovery ------------------------------------------------------------------------------------


def _links(patch: Patch, pattern: bytes) -> None:
    around(
        patch,
        Resources,
        "links",
        lambda right, self, queries: re.sub(pattern, b"", right(self, queries)),
    )


@MUTANTS.wrong("DSC-001", families=("datagrams", "limits"))
def lists_no_resources(patch: Patch) -> None:
    """There is no /.well-known/core."""
    patch(requests, "WELL_KNOWN", (b"none",))


@MUTANTS.wrong("DSC-001", families=("limits",))
def lists_some_resources(patch: Patch) -> None:
    """Only the first resource is listed."""
    _links(patch, b",<.*")


@MUTANTS.wrong("DSC-002")
def links_without_type(patch: Patch) -> None:
    """A link has no resource type."""
    _links(patch, b';rt="[^"]*"')


@MUTANTS.wrong("DSC-003")
def links_without_formats(patch: Patch) -> None:
    """A link has no Content-Formats."""
    _links(patch, b';ct="[^"]*"')


@MUTANTS.wrong("DSC-004")
def links_without_size(patch: Patch) -> None:
    """A link does not say how large a payload may be."""
    _links(patch, b";sz=[0-9]*")


@MUTANTS.wrong("DSC-005")
def links_of_all_types(patch: Patch) -> None:
    """All links are listed, whatever the query asks for."""
    around(patch, Resources, "links", lambda right, self, _: right(self, ()))


@MUTANTS.wrong("DSC-007")
def lists_with_every_method(patch: Patch) -> None:
    """The links come with every method."""

    def wrong(right: Any, self: Any, request: Request, exchange: Exchange) -> Any:
        request.message = replace(request.message, code=Code.GET)
        return right(self, request, exchange)

    around(patch, Requests, "_discover", wrong)
