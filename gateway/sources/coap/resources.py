"""Event resources by path, and what /.well-known/core says of them (binding 3.0.3 and 6.2)."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from bindings.coap import Route, content_formats
from gateway.sources.coap.config import CoapRoute, CoapSourceConfig
from gateway.sources.coap.peers import Endpoint

WELL_KNOWN: Final = (b".well-known", b"core")

_RESOURCE_TYPES: Final = {"auto": "ce.bin", "structured": "ce.str", "batch": "ce.bat"}
_BINARY_FORMATS: Final = " ".join(
    str(number) for number in (0, 42, content_formats.JSON, content_formats.CBOR, 110, 112)
)
_FORMATS: Final = {
    "auto": _BINARY_FORMATS,
    "structured": f"{content_formats.JSON} {content_formats.CBOR}",
    "batch": f"{content_formats.JSON} {content_formats.CBOR} {content_formats.CBOR_SEQUENCE}",
}


_PATH_CHARACTERS: Final = "/!$&'()*+,;=:@"
"""What stands for itself in a path beside letters, digits and -._~ (RFC 3986 3.3)."""


class Resources:
    """The event resources of one source."""

    def __init__(self, config: CoapSourceConfig) -> None:
        self._resources = {
            _segments(path): _Resource(path, route, config) for path, route in config.routes.items()
        }

    def find(self, path: tuple[bytes, ...], endpoint: Endpoint) -> Route | None:
        """Return the route at a path with its templates filled in for a sender; None without one.

        Raises:
            InvalidEventError: a template names what this path does not have.
        """
        route = endpoint.routes.get(path)
        if route is None and (resource := self._resources.get(path)) is not None:
            route = endpoint.routes[path] = resource.route_for(endpoint)
        return route

    def links(self, queries: Sequence[bytes]) -> bytes:
        """Return the resources that match a query in link format (RFC 6690 4.1)."""
        links = [resource.attributes for resource in self._resources.values() if resource.listed]
        for query in queries:
            name, _, wanted = query.decode("utf-8", "replace").partition("=")
            links = [link for link in links if _matches(link.get(name), wanted)]
        return ",".join(_link(link) for link in links).encode()


class _Resource:
    """One event resource; its templates are compiled."""

    def __init__(self, path: str, route: CoapRoute, config: CoapSourceConfig) -> None:
        self._path = path
        limit = route.max_event_bytes
        lab = route.lab_formats
        self._route = Route(
            mode=route.mode,
            any_source=route.source_policy == "any",
            needs_identity=route.authentication == "required",
            lab_formats=config.lab_formats if lab is None else lab,
            fill_time=route.fill_time,
            max_event_bytes=config.limits.max_event_bytes if limit is None else limit,
            max_batch_events=config.limits.max_batch_events,
        )
        self._templates = route.templates(config.event)
        self.attributes: dict[str, str] = {
            "href": path,
            "rt": _RESOURCE_TYPES[route.mode],
            "ct": _FORMATS[route.mode],
            "sz": str(self._route.max_event_bytes),
        }
        if route.title is not None:
            self.attributes["title"] = route.title
        self.listed = not route.hidden

    def route_for(self, endpoint: Endpoint) -> Route:
        facts = {"path": self._path, "device": endpoint.device}
        defaults = {name: template.fill(facts) for name, template in self._templates.items()}
        return Route(
            mode=self._route.mode,
            defaults=defaults,
            any_source=self._route.any_source,
            needs_identity=self._route.needs_identity,
            lab_formats=self._route.lab_formats,
            fill_time=self._route.fill_time,
            max_event_bytes=self._route.max_event_bytes,
            max_batch_events=self._route.max_batch_events,
        )


def _segments(path: str) -> tuple[bytes, ...]:
    """Return the Uri-Path options that stand for a path; "/" has none (RFC 7252 6.4)."""
    return tuple(segment.encode() for segment in path.split("/")[1:]) if path != "/" else ()


def _link(attributes: Mapping[str, str]) -> str:
    """Return a link (RFC 6690 2); `sz` is a number, the others are strings."""
    rest = "".join(
        f";{name}={value if name == 'sz' else _quoted(value)}"
        for name, value in attributes.items()
        if name != "href"
    )
    return f"<{quote(attributes['href'], safe=_PATH_CHARACTERS)}>{rest}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _matches(value: str | None, wanted: str) -> bool:
    """Whether an attribute has a value, or a word that starts so where `wanted` ends in `*`."""
    if value is None:
        return False
    words = [value, *value.split(" ")]
    if wanted.endswith("*"):
        return any(word.startswith(wanted[:-1]) for word in words)
    return wanted in words
