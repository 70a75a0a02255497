"""Filter patterns of CloudWatch Logs: a pattern's text to a test of one event's message.

    ERROR "not found" -timeout      all of the terms and phrases, none of the excluded
    ?ERROR ?WARN                    any of them; beside other terms these count for nothing, as with AWS
    { $.level = "ERROR" && ($.items[0].n > 3 || $.user NOT EXISTS) }      JSON events
    [ip, user, ..., status = 4*, size > 1000]                             events of fields with spaces between

Case counts. Terms are found inside words too. Regular expressions (`%...%`) are refused: AWS's are of a kind that
cannot run away, Python's are not.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from streamkit.model.errors import InvalidParameter
from streamkit.model.limits import LOG_PATTERN_CONDITIONS_MAX

Matches = Callable[[str], bool]
_Test = Callable[[Any], bool]
_Fields = Mapping[str, str]

_NOTHING: Final = object()  # where a selector finds no value

_TERM: Final = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<op>&&|\|\||!=|<=|>=|=|<|>|\(|\)|,)
      | (?P<selector>\$(?:\.[\w$-]+|\[(?:\d+|\*|"[^"]*"|'[^']*')\])+)
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | (?P<word>[^\s"=<>!&|(),]+)
    )""",
    re.VERBOSE,
)
_STEP: Final = re.compile(r"""\.([\w$-]+)|\[(\d+|\*)\]|\[["']([^"']*)["']\]""")
_FIELD: Final = re.compile(r'"([^"]*)"|\[([^\]]*)\]|(\S+)')
_NUMBER: Final = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ORDERS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def parse(pattern: str) -> Matches | None:
    """None where the pattern is empty: then everything matches. Raises InvalidParameter."""
    text = pattern.strip()
    if not text:
        return None
    if text.startswith("{") and text.endswith("}"):
        return _json_pattern(text[1:-1])
    if text.startswith("[") and text.endswith("]"):
        return _fields_pattern(text[1:-1])
    return _terms_pattern(text)


def _refused(why: str) -> InvalidParameter:
    return InvalidParameter(f"Invalid filter pattern: {why}")


def _refuse_regex(text: str) -> None:
    if len(text) > 1 and text.startswith("%") and text.endswith("%"):
        raise _refused(f"regular expressions are not supported by streamkit: {text}")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


# -- terms -----------------------------------------------------------------------------------------------------------


def _terms_pattern(text: str) -> Matches:
    wanted: list[str] = []
    excluded: list[str] = []
    optional: list[str] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise _refused(f"a quotation mark is not closed at {text[position:].strip()!r}")
        sign, quoted, bare = match.groups()
        if bare is not None:
            _refuse_regex(bare)
        term = _unquoted(quoted) if quoted is not None else bare
        (excluded if sign == "-" else optional if sign == "?" else wanted).append(term)
        position = match.end()
    if optional and not wanted and not excluded:
        return lambda message: any(term in message for term in optional)
    return lambda message: all(term in message for term in wanted) and not any(term in message for term in excluded)


# -- conditions ------------------------------------------------------------------------------------------------------


class _Tokens:
    """What is left of a pattern inside brackets."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise _refused(f"unexpected {text[position:].strip()!r}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        if len(self._tokens) > LOG_PATTERN_CONDITIONS_MAX:
            raise _refused(f"it has more than {LOG_PATTERN_CONDITIONS_MAX} parts")
        self._tokens.reverse()

    def __bool__(self) -> bool:
        return bool(self._tokens)

    @property
    def next(self) -> tuple[str, str]:
        return self._tokens[-1] if self._tokens else ("end", "")

    def take(self) -> tuple[str, str]:
        if not self._tokens:
            raise _refused("it ends too early")
        return self._tokens.pop()

    def take_if(self, kind: str, *texts: str) -> str | None:
        found, text = self.next
        return self.take()[1] if found == kind and text.upper() in texts else None


def _any_of(tokens: _Tokens, condition: Callable[[_Tokens], _Test]) -> _Test:
    """`||` binds less than `&&`."""
    alternatives = [_all_of(tokens, condition)]
    while tokens.take_if("op", "||"):
        alternatives.append(_all_of(tokens, condition))
    return alternatives[0] if len(alternatives) == 1 else lambda value: any(test(value) for test in alternatives)


def _all_of(tokens: _Tokens, condition: Callable[[_Tokens], _Test]) -> _Test:
    parts = [_part(tokens, condition)]
    while tokens.take_if("op", "&&"):
        parts.append(_part(tokens, condition))
    return parts[0] if len(parts) == 1 else lambda value: all(test(value) for test in parts)


def _part(tokens: _Tokens, condition: Callable[[_Tokens], _Test]) -> _Test:
    if tokens.take_if("op", "("):
        inside = _any_of(tokens, condition)
        if not tokens.take_if("op", ")"):
            raise _refused("a parenthesis is not closed")
        return inside
    return condition(tokens)


def _comparison(tokens: _Tokens) -> _Test:
    """An operator and what to compare with: numbers as numbers, anything else as text with `*` for any letters."""
    kind, sign = tokens.take()
    if kind != "op" or sign not in ("=", "!=", *_ORDERS):
        raise _refused(f"an operator is missing before {sign!r}")
    kind, text = tokens.take()
    if kind not in ("quoted", "word"):
        raise _refused(f"{text!r} cannot be compared with")
    if kind == "word":
        _refuse_regex(text)
    if sign in _ORDERS:
        return _ordered(_ORDERS[sign], text)
    equals = _equals(_unquoted(text) if kind == "quoted" else text, is_quoted=kind == "quoted")
    if sign == "=":
        return equals
    return lambda value: value is not _NOTHING and not equals(value)


def _ordered(compare: Callable[[float, float], bool], text: str) -> _Test:
    if not _NUMBER.fullmatch(text):
        raise _refused(f"{text!r} is no number")
    limit = float(text)

    def test(value: Any) -> bool:
        number = _number(value)
        return number is not None and compare(number, limit)

    return test


def _equals(text: str, is_quoted: bool) -> _Test:
    pieces = re.split(r"\*+", text)
    number = float(text) if not is_quoted and _NUMBER.fullmatch(text) else None

    def test(value: Any) -> bool:
        if number is not None and _number(value) == number:
            return True
        return isinstance(value, str) and _is_like(pieces, value)

    return test


def _is_like(pieces: list[str], value: str) -> bool:
    """Whether these pieces, with anything between them, make the value; in one go over it, unlike an expression."""
    first, *middle = pieces
    if not middle:
        return value == first
    last = middle.pop()
    end = len(value) - len(last)
    position = len(first)
    if end < position or not value.startswith(first) or not value.endswith(last):
        return False
    for piece in middle:
        found = value.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


# -- JSON ------------------------------------------------------------------------------------------------------------


def _json_pattern(text: str) -> Matches:
    tokens = _Tokens(text)
    test = _any_of(tokens, _json_condition)
    if tokens:
        raise _refused(f"unexpected {tokens.next[1]!r}")

    def matches(message: str) -> bool:
        if "{" not in message:
            return False
        try:
            document = orjson.loads(message)
        except orjson.JSONDecodeError:
            return False
        return test(document)

    return matches


def _json_condition(tokens: _Tokens) -> _Test:
    kind, text = tokens.take()
    if kind != "selector":
        raise _refused(f"{text!r} is no selector such as $.name")
    steps = [
        int(place) if place.isdecimal() else place if place else name or quoted
        for name, place, quoted in _STEP.findall(text)
    ]
    if tokens.take_if("word", "IS"):
        is_not = bool(tokens.take_if("word", "NOT"))
        wanted = _CONSTANTS.get((word := tokens.take()[1]).upper(), _NOTHING)
        if wanted is _NOTHING:
            raise _refused(f"{word!r} is none of NULL, TRUE, FALSE")
        return lambda document: any((value is wanted) != is_not for value in _select(document, steps))
    if tokens.take_if("word", "NOT"):
        if not tokens.take_if("word", "EXISTS"):
            raise _refused("NOT is followed by EXISTS")
        return lambda document: not _select(document, steps)
    if tokens.take_if("word", "EXISTS"):
        return lambda document: bool(_select(document, steps))
    compare = _comparison(tokens)
    return lambda document: any(map(compare, _select(document, steps)))


_CONSTANTS: Final = {"NULL": None, "TRUE": True, "FALSE": False}


def _select(document: Any, steps: list[int | str]) -> list[Any]:
    """The values at a selector: more than one where it has `[*]`."""
    found = [document]
    for step in steps:
        onward: list[Any] = []
        for value in found:
            if isinstance(step, int):
                if isinstance(value, list) and step < len(value):
                    onward.append(value[step])
            elif step == "*":
                onward.extend(value if isinstance(value, list) else ())
            elif isinstance(value, dict) and step in value:
                onward.append(value[step])
        found = onward
    return found


# -- fields with spaces between --------------------------------------------------------------------------------------


def _fields_pattern(text: str) -> Matches:
    names: list[str] = []
    tests: list[_Test] = []
    tokens = _Tokens(text)
    while True:
        kind, name = tokens.next
        if kind == "op" and name == "(":
            name = f"w{len(names) + 1}"
        else:
            kind, name = tokens.take()
            if kind not in ("word", "selector"):
                raise _refused(f"{name!r} is no name of a field")
        _refuse_regex(name)
        if tokens.next not in (("op", ","), ("end", "")):
            tests.append(_field_condition(name, tokens))
        names.append(name)
        if not tokens:
            break
        if not tokens.take_if("op", ","):
            raise _refused(f"unexpected {tokens.next[1]!r}")
    if names.count("...") > 1:
        raise _refused("it has more than one ellipsis")

    def matches(message: str) -> bool:
        fields = _placed(names, [next(filter(None, found), "") for found in _FIELD.findall(message)])
        return fields is not None and all(test(fields) for test in tests)

    return matches


def _field_condition(name: str, tokens: _Tokens) -> _Test:
    """Of one field; the name stands before the first comparison and may stand before others: `a = 1 || a = 2`."""
    is_first = tokens.next != ("op", "(")

    def condition(tokens: _Tokens) -> _Test:
        nonlocal is_first
        field = name
        if not is_first and tokens.next[0] == "word":
            field = tokens.take()[1]
        is_first = False
        compare = _comparison(tokens)
        return lambda fields: field in fields and compare(fields[field])

    return _any_of(tokens, condition)


def _placed(names: list[str], values: list[str]) -> _Fields | None:
    """The fields by name; None where their number is another. An ellipsis stands for any number of them."""
    if "..." not in names:
        return dict(zip(names, values, strict=True)) if len(names) == len(values) else None
    place = names.index("...")
    after = names[place + 1 :]
    if len(values) < place + len(after):
        return None
    fields = dict(zip(names[:place], values[:place], strict=True))
    return fields | dict(zip(after, values[len(values) - len(after) :], strict=True))
