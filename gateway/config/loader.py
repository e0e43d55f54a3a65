"""From the file to the record: parse, validate, cross-check; every problem is reported at once."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from bindings.errors import excerpt
from gateway import registry
from gateway.config.document import Document
from gateway.config.explain import explain, keys_of, unknown_key
from gateway.config.gateway import NAME, GatewayConfig, RouteConfig, shares_of
from gateway.config.problems import ConfigErrors, Keys, Position, Problem, path_text
from gateway.config.records import AdapterConfig, Address, SinkConfig, SourceConfig
from gateway.config.suggest import did_you_mean, one_of
from gateway.errors import GatewayError

AdapterGroup = Literal["sources", "sinks"]
Lane = tuple[str, str]
"""The names of a route and of one of its sinks."""
_R = TypeVar("_R", bound=BaseModel)
_REQUIRED: Final = ("sources", "sinks", "routes")


def load(source: Path | str, environ: Mapping[str, str]) -> GatewayConfig:
    """Return the configuration in a file, or in a text.

    Only the adapters that it names are imported. Nothing is opened but the file and what
    `${file:...}` names.

    Args:
        source: a path to the file, or the text of one.
        environ: what `${NAME}` stands for.

    Raises:
        ConfigErrors: it is wrong; with everything that is.
    """
    file, text = (str(source), read(source)) if isinstance(source, Path) else ("<text>", source)
    document = Document(file, text, environ)
    if not document.problems and not isinstance(document.value, dict):
        document.report((), "expected a table with the keys 'sources', 'sinks' and 'routes'")
    if not isinstance(document.value, dict):
        raise ConfigErrors(document.problems)
    config = _Reader(document, document.value).read()
    if config is None or document.problems:
        raise ConfigErrors(document.problems)
    return config


def read_lanes(source: Path, environ: Mapping[str, str]) -> tuple[Path | None, set[Lane]]:
    """Return `state.path`, None if it is not said, and the lanes of a file.

    Nothing else has to be right in it: who looks at the state lacks what the gateway is started
    with.

    Raises:
        ConfigErrors: the file or its `state` can't be read.
    """
    document = Document(str(source), read(source), environ)
    root = document.value
    if not isinstance(root, dict):
        document.report((), "expected a table with the keys 'sources', 'sinks' and 'routes'")
        raise ConfigErrors(document.problems)
    state, path = root.get("state"), document.at(("state", "path"))
    keys: Keys = ("state", "path")
    if keys in document.unset:
        raise ConfigErrors([p for p in document.problems if p.path == path_text(keys)])
    document.problems.clear()
    if state is not None and not isinstance(state, dict):
        document.report(("state",), "expected a table")
    elif path is not None and not isinstance(path, str):
        document.report(keys, "expected a folder")
    if document.problems:
        raise ConfigErrors(document.problems)
    listed = root.get("routes")
    routes = [_table(route) for route in listed] if isinstance(listed, list) else []
    names = _route_names([str(route.get("name") or "") for route in routes])
    sinks = [to if isinstance(to := route.get("to"), list) else [] for route in routes]
    lanes = {(name, str(to)) for name, tos in zip(names, sinks, strict=True) for to in tos}
    return (Path(path) if isinstance(path, str) else None), lanes


def remarks(config: GatewayConfig) -> list[str]:
    """Return what is allowed and most likely not meant: sources and sinks that no route uses."""
    result = []
    if all(route.from_ is not None for route in config.routes):
        used = {name for route in config.routes for name in route.from_ or ()}
        result += [
            f"sources.{name}: no route takes its events; they are acknowledged and dropped"
            for name in config.sources
            if name not in used
        ]
    used = {name for route in config.routes for name in route.to}
    used |= {str(route.delivery.dead_letter_sink) for route in config.routes}
    result += [f"sinks.{name}: no route leads to it" for name in config.sinks if name not in used]
    return result


def read(path: Path) -> str:
    """Return the text of a configuration's file.

    Raises:
        ConfigErrors: it can't be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problem = Problem(str(path), None, "", f"can't be read: {error.strerror}")
        raise ConfigErrors([problem]) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        position = Position(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise ConfigErrors(
            [Problem(str(path), position, "", "no YAML: it is not UTF-8")]
        ) from error


class _Reader:
    """Makes the record of one document; problems go to the document."""

    def __init__(self, document: Document, root: dict[str, object]) -> None:
        self._document = document
        self._root = root
        self._report = document.report

    def read(self) -> GatewayConfig | None:
        for key in _REQUIRED:
            if key not in self._root:
                self._report((), f"the required key {key!r} is missing")
            elif self._root[key] in ({}, [], None):
                self._report((key,), "expected at least one", at_key=True)
        sources = self._adapters("sources")
        sinks = self._adapters("sinks")
        config: GatewayConfig | None = self._record((), self._rest(), GatewayConfig)
        self._check_routes()
        if config is not None:
            self._check_listeners(sources, config.admin.listen)
        self._check_counted_keys(sources)
        dead_letter_sinks = self._dead_letter_sinks()
        if config is not None:
            self._check_delivery(_routes(config))
            self._check_state(config)
        if config is None or self._document.problems:
            return None
        return config.model_copy(
            update={
                "sources": {
                    name: source.model_copy(
                        update={"limits": _inherit(config.limits, source.limits)}
                    )
                    for name, source in sources.items()
                    if isinstance(source, SourceConfig)
                },
                "sinks": {**sinks, **dead_letter_sinks},
                "routes": _routes(config),
            }
        )

    def _rest(self) -> dict[str, object]:
        """Return the root without what adapters describe or what was reported already."""
        return {
            key: value
            for key, value in self._root.items()
            if key not in {"sources", "sinks"} and not (key == "routes" and value is None)
        }

    def _record(
        self, keys: Keys, table: Mapping[str, object], record: type[Any], **inject: object
    ) -> Any:
        """Return the record of a table, or None after reporting what is wrong with it."""
        internal = {name for name, field in record.model_fields.items() if field.exclude}
        for name in internal & set(table):
            self._report((*keys, name), unknown_key(name, keys_of(record)), at_key=True)
        values = {key: value for key, value in table.items() if key not in internal}
        try:
            return record.model_validate({**values, **inject}, by_alias=True, by_name=False)
        except ValidationError as error:
            explain(self._document, keys, record, error)
            return None

    def _adapters(self, group: AdapterGroup) -> dict[str, AdapterConfig]:
        tables = self._root.get(group)
        if tables is None:
            return {}
        if not isinstance(tables, dict):
            self._report((group,), f"expected a table of {group} by name")
            return {}
        adapters = {}
        for name, table in tables.items():
            adapter = self._adapter(group, name, table)
            if adapter is not None:
                adapters[name] = adapter
        return adapters

    def _adapter(self, group: AdapterGroup, name: str, table: object) -> AdapterConfig | None:
        keys: Keys = (group, name)
        if not NAME.fullmatch(name):
            self._report(
                keys,
                "expected a name of letters, digits, '.', '_' and '-', at most 63",
                at_key=True,
            )
        if not isinstance(table, dict):
            self._report(keys, "expected a table with a 'protocol'")
            return None
        record = self._record_type(group, keys, table)
        if record is None:
            return None
        inject: dict[str, object] = {"name": name}
        if "is_k_sink" in record.model_fields:
            reference = self._document.reference((*keys, "url"))
            inject["is_k_sink"] = reference == "${K_SINK}"
        adapter: AdapterConfig | None = self._record(keys, table, record, **inject)
        return adapter

    def _record_type(
        self, group: AdapterGroup, keys: Keys, table: dict[str, object]
    ) -> type[AdapterConfig] | None:
        if "protocol" not in table:
            self._report(
                keys,
                f"the required key 'protocol' is missing, expected {one_of(registry.names(group))}",
                at_key=True,
            )
            return None
        protocol = table["protocol"]
        known = registry.names(group)
        if not isinstance(protocol, str) or protocol not in known:
            self._report(
                (*keys, "protocol"),
                f"unknown protocol {excerpt(protocol)}, expected {one_of(known)}"
                + did_you_mean(str(protocol), known),
            )
            return None
        try:
            adapter = registry.load(group, protocol)
        except GatewayError as error:
            self._report((*keys, "protocol"), str(error))
            return None
        record: type[AdapterConfig] = adapter.config_type
        return record

    def _check_routes(self) -> None:
        routes = self._root.get("routes")
        if not isinstance(routes, list):
            return
        taken: dict[str, int] = {}
        for position, route in enumerate(routes):
            if not isinstance(route, dict):
                continue
            keys: Keys = ("routes", position)
            self._check_names("sources", (*keys, "from"), route.get("from"))
            self._check_names("sinks", (*keys, "to"), route.get("to"))
            self._check_filter((*keys, "filter"), route.get("filter"))
            name = route.get("name")
            if isinstance(name, str) and taken.setdefault(name, position) != position:
                self._report((*keys, "name"), f"routes[{taken[name]}] has the name {name!r} too")

    def _check_listeners(self, sources: Mapping[str, AdapterConfig], admin: Address) -> None:
        """Report what would fail at the start: two listeners at one address."""
        taken: list[tuple[Keys, bool, Address]] = []  # whether UDP
        for name, source in sources.items():
            datagram = source.datagram_listeners if isinstance(source, SourceConfig) else ()
            taken += [
                (("sources", name, key), key in datagram, value)
                for key, value in source
                if isinstance(value, Address)
            ]
        # The later one is reported, so a default stands before what the file says.
        is_default = self._document.at(("admin", "listen")) is None
        taken.insert(0 if is_default else len(taken), (("admin", "listen"), False, admin))
        for position, (keys, is_udp, address) in enumerate(taken):
            for other_keys, other_is_udp, other in taken[:position]:
                if is_udp == other_is_udp and address.overlaps(other):
                    self._report(keys, f"{path_text(other_keys)} is {other} too")
                    break

    def _check_counted_keys(self, sources: Mapping[str, AdapterConfig]) -> None:
        """Report a key that two sources would use the same nonces with."""
        taken: dict[Hashable, Keys] = {}
        for name, source in sources.items():
            for keys, counted in source.counted_keys() if isinstance(source, SourceConfig) else ():
                here: Keys = ("sources", name, *keys)
                other = next((taken[key] for key in counted if key in taken), None)
                if other is not None:
                    text = "keys that count messages belong to one source"
                    self._report(here, f"shares a key with {path_text(other)}; {text}")
                taken.update(dict.fromkeys(counted, here))

    def _check_state(self, config: GatewayConfig) -> None:
        """Report a state folder that is too small for its spools."""
        routes = _routes(config)
        spools = sum(len(set(route.to)) for route in routes if route.delivery.spool == "auto")
        keeps_letters = any(route.delivery.dead_letters == "local" for route in routes)
        try:
            shares_of(config.state.max_bytes, spools, keeps_letters=keeps_letters)
        except ValueError as error:
            self._report(("state", "max_bytes"), f"{config.state.max_bytes} {error}")

    def _check_delivery(self, routes: Sequence[RouteConfig]) -> None:
        """Report values that don't go together, where the file says one of them."""
        for position, route in enumerate(routes):
            found = route.delivery.contradiction()
            if found is None:
                continue
            key, text = found
            places: list[Keys] = [("routes", position, "delivery"), ("delivery",)]
            for keys in [(*place, name) for place in places for name in (key, "spool")]:
                if self._document.at(keys) is not None:
                    self._report(keys, text)
                    break

    def _check_names(self, group: AdapterGroup, keys: Keys, names: object) -> None:
        known = _table(self._root.get(group))
        if not known or not isinstance(names, list):
            return
        for position, name in enumerate(names):
            if not isinstance(name, str) or name in known:
                continue
            self._report(
                (*keys, position),
                f"unknown {group[:-1]} {excerpt(name)}, expected {one_of(known)}"
                + did_you_mean(name, known),
            )

    def _check_filter(self, keys: Keys, expression: object) -> None:
        filters = expression if isinstance(expression, list) else [expression]
        if not all(isinstance(one, dict) for one in filters):
            return  # absent, or the record says what is wrong with it
        from gateway.filters import FilterError, compile_filter  # noqa: PLC0415 - few files filter

        try:
            compile_filter(expression)
        except FilterError as error:
            text = str(error).removeprefix(f"{error.path}: ")
            self._report((*keys, *error.keys), text, at_key=True)

    def _dead_letter_sinks(self) -> dict[str, SinkConfig]:
        """Check each `deadLetterSink`; return sinks for those that are a URL, by that URL."""
        places: list[Keys] = [("delivery",)]
        routes = self._root.get("routes")
        if isinstance(routes, list):
            places += [("routes", position, "delivery") for position in range(len(routes))]
        sinks = {}
        for place in places:
            keys = (*place, "deadLetterSink")
            target = self._document.at(keys)
            known = _table(self._root.get("sinks"))
            if not isinstance(target, str) or target in known or keys in self._document.unset:
                continue
            if target.startswith(("http://", "https://")):
                sink = self._http_sink(keys, target)
                if sink is not None:
                    sinks[target] = sink
            else:
                self._report(
                    keys,
                    f"unknown sink {excerpt(target)}, expected {one_of(known)} or an http(s) URL"
                    + did_you_mean(target, known),
                )
        return sinks

    def _http_sink(self, keys: Keys, url: str) -> SinkConfig | None:
        record = registry.load("sinks", "http").config_type
        try:
            sink: SinkConfig = record(name=url, protocol="http", url=url)
        except ValidationError as error:
            for detail in error.errors():
                self._report(keys, detail["msg"].removeprefix("Value error, "))
            return None
        return sink


def _inherit(base: _R, own: _R) -> _R:
    """Return `base` with what was said in `own`."""
    return base.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _routes(config: GatewayConfig) -> list[RouteConfig]:
    """Return the routes with their names and with the file's delivery where they are silent."""
    names = _route_names([route.name or "" for route in config.routes])
    return [
        route.model_copy(
            update={"name": name, "delivery": _inherit(config.delivery, route.delivery)}
        )
        for name, route in zip(names, config.routes, strict=True)
    ]


def _route_names(given: Sequence[str]) -> list[str]:
    """Return the names of routes; "" gets a free one."""
    free = (name for number in count(1) if (name := f"route-{number}") not in given)
    return [name or next(free) for name in given]


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
