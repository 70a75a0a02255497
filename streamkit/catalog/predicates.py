"""GetPartitions' Expression: conditions on partition keys, in SQL's words.

    year = 2026 and (month in (1, 2) or day between '03' and '10') and not region like 'eu%'

`=`, `<>`, `!=`, `<`, `<=`, `>`, `>=`, AND, OR, NOT, BETWEEN, IN, LIKE, IS [NOT] NULL, as the service model lists them.
Keys of numeric types are compared as numbers, all others as text. AWS's texts for what it cannot parse are not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from streamkit.model.errors import InvalidInput
from streamkit.model.limits import PREDICATE_DEPTH_MAX

Holds = Callable[[Sequence[str]], bool]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])|(?P<name>[A-Za-z_]\w*|\"[^\"]+\"|`[^`]+`)"
    r"|(?P<sign><=|>=|<>|!=|[=<>(),]))"
)
_NUMERIC: Final = re.compile(r"(?:tinyint|smallint|int|integer|bigint|long|float|double|decimal)\b")
_WORDS: Final = frozenset(("and", "or", "not", "between", "in", "like", "is", "null"))
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def parse(expression: str, keys: Sequence[Mapping[str, Any]]) -> Holds:
    """What tells whether a partition's values fulfil an expression; `keys` are the table's partition keys. Raises
    InvalidInput."""
    return _Parser(expression, keys).parse()


class _Parser:
    def __init__(self, expression: str, keys: Sequence[Mapping[str, Any]]) -> None:
        self._expression = expression
        self._keys = {
            key["Name"].lower(): (place, bool(_NUMERIC.match((key.get("Type") or "").lower())))
            for place, key in enumerate(keys)
        }
        self._tokens = self._split()
        self._place = 0
        self._depth = 0

    def parse(self) -> Holds:
        holds = self._any()
        if self._place < len(self._tokens):
            raise self._broken(f"{self._tokens[self._place][1]!r} was not expected")
        return holds

    # -- grammar -----------------------------------------------------------------------------------------------------

    def _any(self) -> Holds:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda values: any(part(values) for part in parts)

    def _all(self) -> Holds:
        parts = [self._condition()]
        while self._took("and"):
            parts.append(self._condition())
        return parts[0] if len(parts) == 1 else lambda values: all(part(values) for part in parts)

    def _condition(self) -> Holds:
        self._depth += 1
        if self._depth > PREDICATE_DEPTH_MAX:
            raise self._broken(f"it is nested deeper than {PREDICATE_DEPTH_MAX} levels")
        try:
            if self._took("not"):
                return _negated(self._condition())
            if self._took("("):
                inner = self._any()
                self._expect(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Holds:
        kind, name = self._next()
        key = self._keys.get(name.lower()) if kind == "name" else None
        if key is None:
            raise self._broken(f"{name!r} is no partition key of the table")
        place, is_numeric = key
        kind, sign = self._next()
        if kind == "sign" and sign in _COMPARE:
            compare, operand = _COMPARE[sign], self._literal(is_numeric)
            return lambda values: _holds(compare, _value(values[place], is_numeric), operand)
        if sign == "is":
            is_null = not self._took("not")
            self._expect("null")
            return lambda values: not is_null  # partitions have a value for each key
        negative = sign == "not"
        word = self._next()[1] if negative else sign
        holds = self._listed(word, place, is_numeric)
        return _negated(holds) if negative else holds

    def _listed(self, word: str, place: int, is_numeric: bool) -> Holds:
        if word == "between":
            low = self._literal(is_numeric)
            self._expect("and")
            high = self._literal(is_numeric)
            return lambda values: _holds(
                lambda value, bounds: bounds[0] <= value <= bounds[1], _value(values[place], is_numeric), (low, high)
            )
        if word == "in":
            self._expect("(")
            allowed = {self._literal(is_numeric)}
            while self._took(","):
                allowed.add(self._literal(is_numeric))
            self._expect(")")
            return lambda values: _value(values[place], is_numeric) in allowed
        if word == "like":
            pieces = str(self._literal(False)).split("%")
            return lambda values: _like(values[place], pieces)
        raise self._broken(f"{word!r} is no operator")

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _split(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        text = self._expression.rstrip()
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._broken(f"it cannot be read from character {place} on")
            kind = str(match.lastgroup)
            value = match[kind]
            if kind == "text":
                value = value[1:-1].replace("''", "'")
            elif kind == "name" and value.lower() in _WORDS:
                kind, value = "word", value.lower()
            elif kind == "name":
                value = value.strip('"`')
            tokens.append((kind, value))
            place = match.end()
        return tokens

    def _next(self) -> tuple[str, str]:
        if self._place == len(self._tokens):
            raise self._broken("it ends too early")
        self._place += 1
        return self._tokens[self._place - 1]

    def _took(self, wanted: str) -> bool:
        if self._place < len(self._tokens) and self._tokens[self._place] in (("word", wanted), ("sign", wanted)):
            self._place += 1
            return True
        return False

    def _expect(self, wanted: str) -> None:
        if not self._took(wanted):
            raise self._broken(f"{wanted!r} is missing")

    def _literal(self, is_numeric: bool) -> Any:
        kind, text = self._next()
        if kind == "name" and text.lower() in ("date", "timestamp"):  # date '2026-01-31'
            kind, text = self._next()
        if kind not in ("text", "number"):
            raise self._broken(f"{text!r} is no value")
        value = _value(text, is_numeric)
        if value is None:
            raise self._broken(f"{text!r} is no number")
        return value

    def _broken(self, why: str) -> InvalidInput:
        return InvalidInput(f"Unsupported expression '{self._expression}': {why}.")


def _value(text: str, is_numeric: bool) -> Any:
    """None where a number is wanted and there is none."""
    if not is_numeric:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _holds(compare: Callable[[Any, Any], bool], value: Any, operand: Any) -> bool:
    return value is not None and compare(value, operand)


def _negated(holds: Holds) -> Holds:
    return lambda values: not holds(values)


def _like(value: str, pieces: Sequence[str]) -> bool:
    """`pieces` is a pattern parted at its `%`; `_` is any character. Linear: the first fit of each piece is taken."""
    if len(pieces) == 1:
        return len(value) == len(pieces[0]) and _fits(value, 0, pieces[0])
    first, *middle, last = pieces
    if len(value) < len(first) + len(last) or not _fits(value, 0, first):
        return False
    place, end = len(first), len(value) - len(last)
    for piece in middle:
        place = next((at for at in range(place, end - len(piece) + 1) if _fits(value, at, piece)), -1)
        if place < 0:
            return False
        place += len(piece)
    return _fits(value, end, last)


def _fits(value: str, place: int, piece: str) -> bool:
    return all(wanted in ("_", value[place + at]) for at, wanted in enumerate(piece))
