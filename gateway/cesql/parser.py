"""From text to nodes: lark makes a tree, and the tree's nodes become closures from below.

Neither step recurses; only evaluation does, and its depth is bounded here.
"""

import re
from functools import cache
from typing import Final, cast

from lark import Lark, Token, UnexpectedCharacters, UnexpectedToken, v_args
from lark.exceptions import VisitError
from lark.visitors import Transformer_NonRecursive

from bindings.errors import excerpt
from bindings.event import INTEGER_MAX, is_valid_name
from gateway.cesql import nodes, operators
from gateway.cesql.errors import ParseError
from gateway.cesql.functions import FunctionTable
from gateway.cesql.nodes import Node
from gateway.cesql.operators import Connective

MAX_LENGTH: Final = 65536
"""Characters in an expression; enough for a thousand UUIDs after IN."""

_KEYWORDS: Final = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "IN", "EXISTS", "TRUE", "FALSE"})
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str, functions: FunctionTable) -> Node:
    """Return the compiled expression.

    Raises:
        ParseError: the text is no CESQL expression, or is too long or nested too deeply.
    """
    if len(text) > MAX_LENGTH:
        raise ParseError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        tree = _parser().parse(text)
        return _Compiler(functions).transform(tree)
    except (UnexpectedToken, UnexpectedCharacters) as error:
        raise _translate(error, text) from None
    except VisitError as error:
        raise error.orig_exc from None


@cache
def _parser() -> Lark:
    # Made at the first expression: it takes as long as starting the rest of the gateway's parsers.
    return Lark.open(
        "grammar.lark",
        rel_to=__file__,
        parser="lalr",
        lexer="basic",
        lexer_callbacks={"WORD": _classify},
    )


def _classify(token: Token) -> Token:
    """Tell keywords, integers and names apart; the keywords' case does not count (section 2)."""
    word = token.upper()
    if word in _KEYWORDS:
        token.type = word
    elif token.isdigit():
        token.type = "INTEGER"
    return token


def _translate(error: UnexpectedToken | UnexpectedCharacters, text: str) -> ParseError:
    if isinstance(error, UnexpectedCharacters):
        problem = f"unexpected {excerpt(error.char)}"
        if error.char in {"'", '"'}:
            problem = f"the string that starts with {error.char} has no end"
    elif error.token.type == "$END":
        lines = text.split("\n")
        return ParseError(
            "the expression ends too early", line=len(lines), column=len(lines[-1]) + 1
        )
    else:
        problem = f"unexpected {excerpt(str(error.token))}"
    return ParseError(problem, line=error.line, column=error.column)


@v_args(inline=True)
class _Compiler(Transformer_NonRecursive[Token, Node]):
    """One method for each alternative of the grammar, named as it is there."""

    def __init__(self, functions: FunctionTable) -> None:
        super().__init__()
        self._functions = functions

    def logic(self, first: Node, *rest: Node | Token) -> Node:
        connectives = cast(tuple[Token, ...], rest[::2])
        operands = cast(tuple[Node, ...], rest[1::2])
        links = [
            (cast(Connective, token.type), node)
            for token, node in zip(connectives, operands, strict=True)
        ]
        return operators.logic(first, links)

    def comparison(self, left: Node, symbol: Token, right: Node) -> Node:
        return operators.comparison(left, str(symbol), right)

    def arithmetic(self, left: Node, symbol: Token, right: Node) -> Node:
        return operators.arithmetic(left, str(symbol), right)

    def like(self, node: Node, _like: Token, pattern: Token) -> Node:
        return operators.like(node, _unquote(pattern), wanted=True)

    def not_like(self, node: Node, _not: Token, _like: Token, pattern: Token) -> Node:
        return operators.like(node, _unquote(pattern), wanted=False)

    def is_in(self, node: Node, _in: Token, *elements: Node) -> Node:
        return operators.is_in(node, elements, wanted=True)

    def is_not_in(self, node: Node, _not: Token, _in: Token, *elements: Node) -> Node:
        return operators.is_in(node, elements, wanted=False)

    def negation(self, _not: Token, node: Node) -> Node:
        return operators.negation(node)

    def minus(self, _minus: Token, node: Node) -> Node:
        return operators.minus(node)

    def integer(self, digits: Token) -> Node:
        return nodes.literal(_integer(digits, "", INTEGER_MAX))

    def positive_integer(self, _plus: Token, digits: Token) -> Node:
        return nodes.literal(_integer(digits, "+", INTEGER_MAX))

    def negative_integer(self, _minus: Token, digits: Token) -> Node:
        return nodes.literal(-_integer(digits, "-", INTEGER_MAX + 1))

    def exists(self, _exists: Token, name: Token) -> Node:
        return nodes.exists(_attribute_name(name))

    def true(self, _true: Token) -> Node:
        return nodes.literal(value=True)

    def false(self, _false: Token) -> Node:
        return nodes.literal(value=False)

    def string(self, text: Token) -> Node:
        return nodes.literal(_unquote(text))

    def identifier(self, name: Token) -> Node:
        return nodes.attribute(_attribute_name(name))

    def call(self, name: Token, *arguments: Node) -> Node:
        function = self._functions.find(name, len(arguments))
        if function is not None:
            return operators.call(function, arguments)
        nearest = self._functions.nearest(name)
        if nearest is None:
            text = f"no function {name.upper()}"
        elif nearest == name.upper():
            text = f"{nearest} takes no {len(arguments)} arguments"
        else:
            text = f"no function {name.upper()}; did you mean {nearest}?"
        return operators.missing_function(text, arguments)


def _integer(digits: Token, sign: str, limit: int) -> int:
    # Python refuses to read thousands of digits, so leading zeros go first.
    text = digits.lstrip("0") or "0"
    if len(text) > 10 or int(text) > limit:
        raise _at(digits, f"{excerpt(sign + digits)} is outside the 32 bits of Integer")
    return int(text)


def _attribute_name(token: Token) -> str:
    # Section 2.2 has lower case only; the TCK asks for EXISTS SOURCE to be true.
    name = token.lower()
    if not is_valid_name(name):
        raise _at(
            token, f"{excerpt(str(token))} is no attribute name: letters and digits, and not 'data'"
        )
    return name


def _unquote(token: Token) -> str:
    r"""Return a string literal's text: only its own quote is escaped, `\%` is for LIKE to read."""
    quote = token[0]
    return _ESCAPE.sub(lambda match: quote if match[1] == quote else match[0], token[1:-1])


def _at(token: Token, text: str) -> ParseError:
    return ParseError(text, line=token.line or 1, column=token.column or 1)
