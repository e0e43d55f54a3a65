"""A YAML file as plain values, with the place of each.

Scalars follow YAML 1.2's core schema, in which only `true` and `false` are booleans: the words of
the configuration (`spool: off`) and addresses (`12:30`) stay text. Keys are always text. A key that
stands twice in a table is a problem, not an overwriting.
"""

import re
from collections.abc import Mapping
from typing import Final

import yaml

from gateway.config.problems import Keys, Position, Problem, path_text
from gateway.config.variables import expand

_TAG: Final = "tag:yaml.org,2002:"
_K_SINK: Final = "${K_SINK}"
_RESOLVERS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes by the core schema of YAML 1.2 (chapter 10.3)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's way


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class Document:
    """The values of a file and where they stand.

    Attributes:
        value: the root; tables are dicts with text keys.
        problems: what was wrong so far.
        unset: values that lack a variable; what else is wrong with them is noise.
    """

    def __init__(self, file: str, text: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.unset: set[Keys] = set()
        self._environ = environ
        self._keys: dict[Keys, Position] = {}
        self._values: dict[Keys, Position] = {}
        self._references: dict[Keys, str] = {}
        self._open: set[int] = set()
        node = self._compose(text)
        self.value: object = None if node is None else self._convert(node, ())

    def report(self, keys: Keys, text: str, *, at_key: bool = False) -> None:
        """Add a problem with the value at `keys`, or with its key."""
        self.problems.append(
            Problem(self.file, self._position(keys, at_key=at_key), path_text(keys), text)
        )

    def at(self, keys: Keys) -> object:
        """Return the value at `keys`; None if there is none."""
        value = self.value
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value

    def reference(self, keys: Keys) -> str | None:
        """Return a value as it stands in the file if it has `${...}`, else None."""
        return self._references.get(keys)

    def _position(self, keys: Keys, *, at_key: bool) -> Position:
        for end in range(len(keys), 0, -1):
            found = self._keys.get(keys[:end]) if at_key else None
            found = found or self._values.get(keys[:end])
            if found:
                return found
        return Position(1, 1)

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            loader = _Loader(text)
            try:
                return loader.get_single_node()
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = Position(mark.line + 1, mark.column + 1) if mark else None
            context = f" {error.context}" if error.context else ""
            self.problems.append(
                Problem(self.file, position, "", f"no YAML: {error.problem}{context}")
            )
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - text.rfind("\n", 0, error.position)
            self.problems.append(
                Problem(
                    self.file,
                    Position(line, column),
                    "",
                    f"no YAML: the character {chr(int(error.character))!r} is not allowed",
                )
            )
        return None

    def _convert(self, node: yaml.Node, keys: Keys) -> object:
        self._values[keys] = _start(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, keys)
        if id(node) in self._open:
            self.report(keys, "a value can't contain itself")
            return None
        self._open.add(id(node))
        result: object
        if isinstance(node, yaml.SequenceNode):
            result = [self._convert(item, (*keys, i)) for i, item in enumerate(node.value)]
        else:
            result = self._table(node, keys)
        self._open.discard(id(node))
        return result

    def _table(self, node: yaml.Node, keys: Keys) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._values.setdefault((*keys, "?"), _start(key_node))
                self.report((*keys, "?"), "expected a name as key")
                continue
            key = key_node.value
            if key in result:
                first = self._keys[*keys, key].line
                self.problems.append(
                    Problem(
                        self.file,
                        _start(key_node),
                        path_text((*keys, key)),
                        f"the key {key!r} stands twice, first in line {first}",
                    )
                )
                continue
            self._keys[*keys, key] = _start(key_node)
            result[key] = self._convert(value_node, (*keys, key))
        return result

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> object:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
            case "str":
                return self._expanded(text, keys)
        self.report(keys, f"the tag {node.tag!r} is not supported")
        self.unset.add(keys)
        return None

    def _expanded(self, text: str, keys: Keys) -> str:
        if "${" not in text:
            return text
        self._references[keys] = text
        # Knative injects K_SINK after the start of the process or never; the gateway then lives
        # and is not ready. Every other variable that is missing is a mistake.
        if text == _K_SINK and len(keys) == 3 and keys[0] == "sinks" and keys[2] == "url":
            return self._environ.get("K_SINK", "")
        try:
            return expand(text, self._environ)
        except ValueError as error:
            self.report(keys, str(error))
            self.unset.add(keys)
            return text


def _start(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
