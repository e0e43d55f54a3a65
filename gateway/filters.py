"""Filters of routes: the dialects of the Subscriptions API (subscriptions/spec.md 3.2.4).

A filter is compiled once, when the configuration is read, to a function that says for each event
whether it passes. Everything that can be wrong with a filter is said then, never per event.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from operator import attrgetter
from typing import Final

from bindings.errors import excerpt
from bindings.event import (
    CORE_ATTRIBUTES,
    REQUIRED_ATTRIBUTES,
    AttributeValue,
    Event,
    canonical_text,
    is_valid_name,
)
from gateway.errors import ConfigError

Filter = Callable[[Event], bool]
"""Whether an event passes; never raises."""

SqlErrorHook = Callable[[str, str], None]
"""Told of each event that an sql filter held back for an error: expression, what was wrong."""

MAX_DEPTH: Final = 32
"""Filters inside each other, far from Python's limit of a thousand frames."""

Keys = tuple[str | int, ...]
"""The way to a part of a filter."""

_Test = Callable[[str, str], bool]


class FilterError(ConfigError, ValueError):
    """The filter is none.

    Attributes:
        path: where in the filter, as `all[1].exact.type`; "" for the whole.
        keys: the same, for a look-up in the document: `("all", 1, "exact", "type")`.
    """

    def __init__(self, text: str, keys: Keys = ()) -> None:
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
        super().__init__(text, path=path.removeprefix("."))
        self.keys = keys


def compile_filter(spec: object, on_sql_error: SqlErrorHook | None = None) -> Filter:
    """Return the filter that `spec` describes.

    Args:
        spec: one filter, `{dialect: ...}`, or a list of them, which all have to let an event pass;
            None and the empty list let every event pass (3.2.1, filters).
        on_sql_error: called for each event that is held back because of an error in the evaluation
            of an sql filter.

    Raises:
        FilterError: the filter is wrong; says where, and names the nearest right dialect.
    """
    compiler = _Compiler(on_sql_error)
    if spec is None:
        return _pass
    if isinstance(spec, list):
        return _all([compiler.compile(item, (position,), 1) for position, item in enumerate(spec)])
    return compiler.compile(spec, (), 1)


class _Compiler:
    """Turns filters into functions; holds what all sql filters of one specification share."""

    def __init__(self, on_sql_error: SqlErrorHook | None) -> None:
        self._on_sql_error = on_sql_error

    def compile(self, spec: object, keys: Keys, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise FilterError(f"more than {MAX_DEPTH} filters inside each other", keys)
        if not isinstance(spec, Mapping):
            raise FilterError(
                f"expected a filter such as {{exact: {{type: ...}}}}, not {excerpt(spec)}", keys
            )
        if len(spec) != 1:
            raise FilterError(
                f"expected one dialect, not {len(spec)}; combine filters with all or any", keys
            )
        dialect, value = next(iter(spec.items()))
        keys = (*keys, str(dialect))
        match dialect:
            case "exact" | "prefix" | "suffix":
                return _all(_attribute_filters(dialect, value, keys))
            case "all":
                return _all(self._nested(value, keys, depth))
            case "any":
                return _any(self._nested(value, keys, depth))
            case "not":
                return _not(self.compile(value, keys, depth + 1))
            case "sql":
                return _sql(value, keys, self._on_sql_error)
            case _:
                raise FilterError(_unknown_dialect(dialect), keys)

    def _nested(self, value: object, keys: Keys, depth: int) -> list[Filter]:
        if not isinstance(value, list) or not value:
            raise FilterError("expected a list of at least one filter", keys)
        return [
            self.compile(item, (*keys, position), depth + 1) for position, item in enumerate(value)
        ]


_DIALECTS: Final = ("exact", "prefix", "suffix", "all", "any", "not", "sql")


def _unknown_dialect(dialect: object) -> str:
    near = get_close_matches(str(dialect).lower(), _DIALECTS, 1)
    hint = f"did you mean {near[0]}?" if near else f"the dialects are {', '.join(_DIALECTS)}"
    return f"no filter dialect {excerpt(dialect)}; {hint}"


def _pass(_event: Event) -> bool:
    return True


def _all(filters: Sequence[Filter]) -> Filter:
    if not filters:
        return _pass
    if len(filters) == 1:
        return filters[0]

    def every(event: Event) -> bool:
        for passes in filters:  # noqa: SIM110 - all() with a generator costs three times as much
            if not passes(event):
                return False
        return True

    return every


def _any(filters: Sequence[Filter]) -> Filter:
    if len(filters) == 1:
        return filters[0]

    def one(event: Event) -> bool:
        for passes in filters:  # noqa: SIM110 - any() with a generator costs three times as much
            if passes(event):
                return True
        return False

    return one


def _not(passes: Filter) -> Filter:
    return lambda event: not passes(event)


def _attribute_filters(dialect: str, value: object, keys: Keys) -> list[Filter]:
    if not isinstance(value, Mapping) or not value:
        raise FilterError(
            "expected attribute names and texts, such as {type: com.acme.temp.v1}", keys
        )
    return [
        _attribute_filter(dialect, name, text, (*keys, str(name))) for name, text in value.items()
    ]


def _attribute_filter(dialect: str, name: object, text: object, keys: Keys) -> Filter:
    if not isinstance(name, str) or not is_valid_name(name):
        raise FilterError(
            f"{excerpt(name)} is no attribute name: lower-case letters and digits, and not 'data'",
            keys,
        )
    if not isinstance(text, str):
        raise FilterError(f"expected a text, not {excerpt(text)}; put it in quotes", keys)
    if not text:
        raise FilterError("expected a text that is not empty", keys)
    if name in CORE_ATTRIBUTES:
        return _core_filter(dialect, name, text)
    return _extension_filter(dialect, name, text)


def _core_filter(dialect: str, name: str, text: str) -> Filter:
    """Return a filter on a core attribute: always text, and there if it is a required one."""
    get: Callable[[Event], str] = attrgetter(name)
    if dialect == "exact":
        return lambda event: get(event) == text
    if name in REQUIRED_ATTRIBUTES:
        if dialect == "prefix":
            return lambda event: get(event).startswith(text)
        return lambda event: get(event).endswith(text)
    get_optional: Callable[[Event], str | None] = get
    test = _TESTS[dialect]

    def optional(event: Event) -> bool:
        value = get_optional(event)
        return value is not None and test(value, text)

    return optional


def _extension_filter(dialect: str, name: str, text: str) -> Filter:
    """Return a filter on an extension's canonical text; one that is absent does not pass."""
    test = _TESTS[dialect]

    def extension(event: Event) -> bool:
        value: AttributeValue | None = event.extensions.get(name)
        return value is not None and test(canonical_text(value), text)

    return extension


_TESTS: Final[dict[str, _Test]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


def _sql(value: object, keys: Keys, on_error: SqlErrorHook | None) -> Filter:
    # Loading the parser generator costs 30 ms and 5 MiB, which only users of this dialect pay.
    from gateway.cesql import ParseError, compile_expression  # noqa: PLC0415

    if not isinstance(value, str):
        raise FilterError(f"expected a CESQL expression, not {excerpt(value)}", keys)
    try:
        expression = compile_expression(value)
    except ParseError as error:
        raise FilterError(str(error), keys) from None
    if expression.problems:
        raise FilterError(str(expression.problems[0]), keys)
    evaluate = expression.evaluate

    def sql(event: Event) -> bool:
        # cesql/spec.md 1.2: only true passes, nothing with an error does; the mode is fail-fast.
        result, errors = evaluate(event, fail_fast=True)
        if on_error is not None and (errors or not isinstance(result, bool)):
            on_error(value, str(errors[0]) if errors else f"{excerpt(result)} is no Boolean")
        return result is True and not errors

    return sql
