"""The grammar of queries, as far as it is common: tokens of any jq program, and a parser for a part of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamkit.delivery.processors.jq_values import EXACT, FUNCTIONS, Function, Step, Unsupported, negated
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import QUERY_DEPTH_MAX

# -- tokens -----------------------------------------------------------------------------------------------------------


class Token(NamedTuple):
    kind: str  # name, field, number, string, op, variable, format
    value: Any  # a string's parts: text, and lists of tokens between `\(` and `)`


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<field>\.[A-Za-z_]\w*)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)
    |(?P<variable>\$[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)
    |(?P<format>@[A-Za-z0-9_]+)
    |(?P<op>\?//|//=|\|=|\+=|-=|\*=|/=|%=|==|!=|<=|>=|//|\.\.|[.\[\](){}|,:;=<>+\-*/%?$])""",
    re.VERBOSE | re.ASCII,
)
_TEXT: Final = re.compile(r'[^"\\]+')
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"'}


def tokens_of(text: str, start: int = 0, depth: int = 0) -> tuple[list[Token], int]:
    """Up to the end, or in a string up to the parenthesis that ends what is interpolated."""
    if depth > QUERY_DEPTH_MAX:
        raise InvalidArgument(f"MetadataExtractionQuery nests deeper than {QUERY_DEPTH_MAX} levels")
    found: list[Token] = []
    place, parentheses = start, 0
    while place < len(text):
        if text[place] == '"':
            parts, place = _string(text, place + 1, depth)
            found.append(Token("string", parts))
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise InvalidArgument(f"MetadataExtractionQuery is not valid: unexpected {text[place]!r}")
        kind, value = match.lastgroup, match.group()
        if depth and value == ")" and not parentheses:
            return found, match.end()
        parentheses += (value == "(") - (value == ")")
        place = match.end()
        if kind != "space":
            assert kind is not None
            found.append(Token(kind, value))
    if depth:
        raise InvalidArgument("MetadataExtractionQuery is not valid: a string does not end")
    return found, place


def _string(text: str, place: int, depth: int) -> tuple[list[Any], int]:
    parts: list[Any] = [""]

    def add(more: str) -> None:
        if isinstance(parts[-1], str):
            parts[-1] += more
        else:
            parts.append(more)

    while place < len(text):
        if text[place] == '"':
            return parts, place + 1
        plain = _TEXT.match(text, place)
        if plain:
            add(plain.group())
            place = plain.end()
            continue
        after = text[place + 1 : place + 2]
        if after == "(":
            inner, place = tokens_of(text, place + 2, depth + 1)
            parts.append(inner)
        elif after == "u" and re.fullmatch(r"[0-9A-Fa-f]{4}", text[place + 2 : place + 6]):
            add(chr(int(text[place + 2 : place + 6], 16)))
            place += 6
        elif after in _ESCAPES and after:
            add(_ESCAPES[after])
            place += 2
        else:
            raise InvalidArgument(f"MetadataExtractionQuery is not valid: unknown escape \\{after} in a string")
    raise InvalidArgument("MetadataExtractionQuery is not valid: a string does not end")


def every_token(tokens: Iterable[Token]) -> Iterable[Token]:
    for token in tokens:
        yield token
        if token.kind == "string":
            for part in token.value:
                if not isinstance(part, str):
                    yield from every_token(part)


# -- the object that a query ends with ---------------------------------------------------------------------------------

_OPENS: Final = frozenset(["(", "[", "{", "if"])
_CLOSES: Final = frozenset([")", "]", "}", "end"])


def construction(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    """What is between the braces that a query ends with, and whether that is all of it; pipes may be before them."""
    depths = _depths(tokens)
    start = 0
    for place, (token, depth) in enumerate(zip(tokens, depths, strict=True)):
        if not depth and token in (("op", "|"), ("op", ";")):
            start = place + 1
    last = tokens[start:]
    is_object = len(last) > 1 and last[0] == ("op", "{") and last[-1] == ("op", "}")
    if not is_object or depths[-1] or 0 in depths[start:-1]:
        raise InvalidArgument("MetadataExtractionQuery must be an object of partition keys: {name: .path, ...}")
    return last[1:-1], not start


def key_names(tokens: Sequence[Token]) -> Iterable[str]:
    """Of the inside of an object construction."""
    expects_key = True
    for (kind, value), depth in zip(tokens, _depths(tokens), strict=True):
        if not expects_key:
            expects_key = (kind, value, depth) == ("op", ",", 0)
            continue
        expects_key = False
        if kind == "name":
            yield value
        elif kind == "variable":
            yield value[1:]
        elif kind == "string" and all(isinstance(part, str) for part in value):
            yield "".join(value)
        else:
            raise InvalidArgument("MetadataExtractionQuery must have constant names for its partition keys")


def _depths(tokens: Sequence[Token]) -> list[int]:
    """How deep in brackets and conditions the query is after each token."""
    depths: list[int] = []
    depth = 0
    for place, (kind, value) in enumerate(tokens):
        is_key = kind == "name" and tokens[place + 1 : place + 2] == [("op", ":")]
        if kind in ("op", "name") and not is_key:
            depth += (value in _OPENS) - (value in _CLOSES)
        depths.append(depth)
    return depths


# -- what a query is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Path:
    """From the value at hand."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    value: Any


@dataclass(frozen=True, slots=True)
class Pipe:
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the value at hand, with constant arguments."""

    function: Function


@dataclass(frozen=True, slots=True)
class Binary:
    """`function` gets both sides; `//` is the one that looks at them itself."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class If:
    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Text:
    parts: tuple[Node, ...]


Node = Path | Constant | Pipe | Call | Binary | If | Text


class Parser:
    """Recursive descent, in jq's order of precedence: `|`, `//`, comparisons, `+ -`, `* /`. Raises Unsupported."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def object(self) -> dict[str, Node]:
        """The inside of an object construction."""
        entries: dict[str, Node] = {}
        while True:
            kind, value = self._next()
            if kind == "string":
                value = "".join(value) if all(isinstance(part, str) for part in value) else None
            if kind not in ("name", "string") or value is None:
                raise Unsupported
            if self._takes(":"):
                entries[value] = self.pipe()
            else:
                entries[value] = Path((value,))
            if not self._takes(","):
                self.end()
                return entries

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise Unsupported

    def pipe(self) -> Node:
        left = self._alternative()
        while self._takes("|"):
            right = self._alternative()
            if isinstance(left, Path) and isinstance(right, Path):
                left = Path(left.steps + right.steps)
            else:
                left = Pipe(left, right)
        return left

    def _alternative(self) -> Node:
        left = self._comparison()
        if self._takes("//"):
            return Binary("//", left, self._alternative())
        return left

    def _comparison(self) -> Node:
        left = self._sum()
        for operator in ("==", "!="):
            if self._takes(operator):
                return Binary(operator, left, self._sum())
        return left

    def _sum(self) -> Node:
        left = self._product()
        while True:
            operator = self._takes("+") or self._takes("-")
            if not operator:
                return left
            left = Binary(operator, left, self._product())

    def _product(self) -> Node:
        left = self._postfix()
        while True:
            operator = self._takes("*") or self._takes("/")
            if not operator:
                return left
            left = Binary(operator, left, self._postfix())

    def _postfix(self) -> Node:
        node = self._term()
        while (step := self._step(dotted=False)) is not None:
            node = Path((*node.steps, step)) if isinstance(node, Path) else Pipe(node, Path((step,)))
        return node

    def _step(self, *, dotted: bool) -> Step | None:
        """A step of a path, or None where there is none. `dotted`: the dot before it was read."""
        kind, value = self._peek()
        if kind == "field" and not dotted:
            self._place += 1
            return str(value[1:])
        if kind == "op" and value == "." and not dotted and self._peek(1)[0] == "string":
            self._place += 1
            return self._step(dotted=True)
        if kind == "string" and dotted:
            self._place += 1
            return self._plain(value)
        if kind == "op" and value == "[":
            self._place += 1
            return self._bracket()
        return None

    def _bracket(self) -> Step:
        if self._peek()[0] == "string":
            step: Step = self._plain(self._next()[1])
        elif self._takes(":"):
            step = slice(None, self._index())
        else:
            first = self._index()
            if not self._takes(":"):
                step = first
            elif self._peek() == ("op", "]"):
                step = slice(first, None)
            else:
                step = slice(first, self._index())
        if not self._takes("]"):
            raise Unsupported
        return step

    def _index(self) -> int:
        negative = bool(self._takes("-"))
        kind, value = self._next()
        if kind != "number" or not value.isdecimal() or len(value) > 9:
            raise Unsupported
        return -int(value) if negative else int(value)

    def _term(self) -> Node:
        kind, value = self._next()
        if kind == "field":
            return Path((value[1:],))
        if kind == "number":
            return Constant(_number(value))
        if kind == "string":
            return self._text(value)
        if kind == "name":
            return self._call(value)
        if value == ".":
            step = self._step(dotted=True)
            return Path(() if step is None else (step,))
        if value == "(":
            node = self._nested()
            if not self._takes(")"):
                raise Unsupported
            return node
        raise Unsupported

    def _nested(self) -> Node:
        self._depth += 1
        if self._depth > QUERY_DEPTH_MAX:
            raise Unsupported
        node = self.pipe()
        self._depth -= 1
        return node

    def _text(self, parts: Sequence[Any]) -> Node:
        if all(isinstance(part, str) for part in parts):
            return Constant(self._plain(parts))
        return Text(tuple(Constant(part) if isinstance(part, str) else self._interpolated(part) for part in parts))

    @staticmethod
    def _interpolated(tokens: Sequence[Token]) -> Node:
        parser = Parser(tokens)
        node = parser.pipe()
        parser.end()
        return node

    @staticmethod
    def _plain(parts: Sequence[Any]) -> str:
        text = "".join(part if isinstance(part, str) else "\ud800" for part in parts)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Unsupported
        return text

    def _call(self, name: str) -> Node:
        if name in ("null", "true", "false"):
            return Constant({"null": None, "true": True, "false": False}[name])
        if name == "if":
            return self._if()
        if name == "not":
            return Call(negated)
        arguments: list[str] = []
        if self._takes("("):
            kind, value = self._next()
            if kind != "string" or not self._takes(")"):
                raise Unsupported
            arguments.append(self._plain(value))
        make = FUNCTIONS.get((name, len(arguments)))
        if make is None:
            raise Unsupported
        return Call(make(*arguments))

    def _if(self) -> Node:
        condition = self._nested()
        self._word("then")
        then = self._nested()
        kind, value = self._next()
        if (kind, value) == ("name", "elif"):
            return If(condition, then, self._if())
        if (kind, value) != ("name", "else"):
            raise Unsupported  # without `else`: an error in jq 1.6, the value itself in later ones
        otherwise = self._nested()
        self._word("end")
        return If(condition, then, otherwise)

    def _word(self, word: str) -> None:
        if self._next() != ("name", word):
            raise Unsupported

    def _peek(self, ahead: int = 0) -> Token:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else Token("end", "")

    def _next(self) -> Token:
        token = self._peek()
        self._place += 1
        return token

    def _takes(self, operator: str) -> str:
        if self._peek() == ("op", operator):
            self._place += 1
            return operator
        return ""


def _number(text: str) -> int | float:
    value = float(text)
    if not math.isfinite(value) or abs(value) >= EXACT:
        raise Unsupported
    return int(value) if value.is_integer() else value
