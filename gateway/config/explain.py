"""Pydantic's errors in the words of the file: where, what was expected, what stood there."""

import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bindings.errors import excerpt
from gateway.config.document import Document
from gateway.config.problems import Keys
from gateway.config.suggest import did_you_mean, one_of

_EXPECTED: Final = {
    "int": "expected an integer",
    "float": "expected a number",
    "bool": "expected true or false",
    "string": "expected text",
    "list": "expected a list",
    "tuple": "expected a list",
    "set": "expected a list",
    "frozen_set": "expected a list",
    "dict": "expected a table",
    "mapping": "expected a table",
    "model": "expected a table",
    "model_attributes": "expected a table",
    "path": "expected a path",
}
"""By pydantic's error type without its ending `_type` or `_parsing`."""

_BOUNDS: Final = {
    "greater_than_equal": "expected at least {ge}",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected at most {le}",
    "less_than": "expected less than {lt}",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected text that matches {pattern}",
    "multiple_of": "expected a multiple of {multiple_of}",
}
_USER_INFO: Final = re.compile(r"://[^/]*@")
_SECRET: Final = re.compile(r"passw|secret|token|passphrase|credential|psk|seed", re.IGNORECASE)


def explain(
    document: Document, prefix: Keys, record: type[BaseModel], error: ValidationError
) -> None:
    """Report each of pydantic's errors on the table at `prefix` to the document."""
    expected: dict[Keys, list[str]] = {}
    shown: dict[Keys, str] = {}
    for detail in error.errors(include_url=False):
        keys = _locate(document.value, prefix, detail)
        if any(keys[:end] in document.unset for end in range(len(keys) + 1)):
            continue
        inside = keys[len(prefix) :]
        if detail["type"] == "missing":
            name = str(detail["loc"][-1])
            document.report(keys, f"the required key {name!r} is missing", at_key=True)
        elif detail["type"] == "extra_forbidden" and keys:
            document.report(
                keys, unknown_key(str(keys[-1]), keys_of(record, inside[:-1])), at_key=True
            )
        else:
            expected.setdefault(keys, []).append(_expected(detail))
            shown[keys] = _shown(document, keys, inside, detail)
    for keys, texts in expected.items():
        text = _masked(document, keys, ", or ".join(dict.fromkeys(texts)))
        # A validator that names the value already need not be helped.
        value = shown[keys]
        shown_value = value.split(";")[0]
        named = shown_value.startswith("'") and shown_value in text
        document.report(keys, text if named else _with_value(text, value))


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Return what is wrong with a key that nothing reads."""
    if not known:
        return f"unknown key {key!r}"
    return f"unknown key {key!r}, expected {one_of(known)}{did_you_mean(key, known)}"


def keys_of(record: type[BaseModel], keys: Keys = ()) -> list[str]:
    """Return the keys that the table at `keys` inside `record` may have, as the file has them."""
    types: list[Any] = [record]
    for key in keys:
        types = [inner for outer in types for inner in _inside(outer, key)]
    return [
        field.alias or name
        for one in types
        if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
        if not field.exclude
    ]


def _inside(annotation: Any, key: str | int) -> Iterable[Any]:
    """Return the types, unions taken apart, of what stands at `key` in a value of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if key in {name, field.alias}:
                yield from alternatives(field.annotation)
        return
    arguments = get_args(annotation)
    if arguments and get_origin(annotation) is not Annotated:
        yield from alternatives(
            arguments[1] if isinstance(key, str) and len(arguments) > 1 else arguments[0]
        )


def alternatives(annotation: Any) -> Iterable[Any]:
    """Yield the types of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for one in get_args(annotation):
            yield from alternatives(one)
    else:
        yield annotation


def _locate(root: object, prefix: Keys, detail: ErrorDetails) -> Keys:
    """Return the way to the value that pydantic means, without the names of union branches."""
    keys: Keys = ()
    value = root
    steps: list[str | int] = [*prefix, *detail["loc"]]
    if detail["type"] == "missing":
        steps.pop()
    for step in steps:
        if isinstance(value, dict) and str(step) in value:
            value = value[str(step)]
            keys = (*keys, str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
            keys = (*keys, step)
    return keys


def _expected(detail: ErrorDetails) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind in {"value_error", "assertion_error"}:
        return str(context["error"])
    if kind in {"literal_error", "enum"}:
        return f"expected {context['expected']}"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    known = _EXPECTED.get(
        re.sub(r"_(type|parsing|parsing_size|from_float|unicode|sub_type)$", "", kind)
    )
    if known:
        return known
    text = detail["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    return text[:1].lower() + text[1:]


def _shown(document: Document, keys: Keys, inside: Keys, detail: ErrorDetails) -> str:
    """Return what stood there and a hint, or nothing if it is a table, a list or a secret."""
    value = detail["input"]
    reference = document.reference(keys)
    if reference is not None:
        return f"what {reference} stands for"
    if isinstance(value, (dict, list)) and detail["type"].endswith("_type"):
        return "a table" if isinstance(value, dict) else "a list"
    if not isinstance(value, (str, int, float, bool, type(None))):
        return ""
    hint = ""
    if detail["type"] in {"literal_error", "enum"}:
        words = re.findall(r"'([^']*)'", str(detail.get("ctx", {})["expected"]))
        if isinstance(value, str):
            hint = did_you_mean(value, words)
        elif str(value) in words:
            hint = "; put it in quotes"
    elif detail["type"] == "string_type" and value is not None:
        hint = "; put it in quotes"
    if any(_SECRET.search(str(key)) for key in inside):  # a table of secrets, or one
        return hint
    shown = (
        "null"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else excerpt(_USER_INFO.sub("://...@", value) if isinstance(value, str) else value)
    )
    return shown + hint


def _with_value(text: str, value: str) -> str:
    if not value or value.startswith(";"):
        return text + value
    return f"{text}, not {value}"


def _masked(document: Document, keys: Keys, text: str) -> str:
    """Take out of a validator's text what came from a variable: it may be a secret."""
    value = document.at(keys)
    reference = document.reference(keys)
    if reference is None or not isinstance(value, str) or not value:
        return text
    text = text.replace(repr(value), reference)
    return text.replace(value, reference) if len(value) >= 4 else text
