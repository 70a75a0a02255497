"""Functions of SQL-1_0 in Flink's.

Rules: the SQL Reference's page of each function. Every function that is taken is named here; another is refused by its
name, for a function of the same name may do something else in Flink, as UNIX_TIMESTAMP does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from streamkit_sql.errors import NOWHERE, NotSupported, Place, SyntaxProblem
from streamkit_sql.language import tree
from streamkit_sql.language.intervals import interval
from streamkit_sql.legacy.parser import parse_type
from streamkit_sql.limits import INTERVAL_MS_DIGITS_MAX, LEGACY_LOG_COLUMNS_MAX
from streamkit_sql.types import Field, Kind, SqlType, timestamp, varchar

AGGREGATES: Final = frozenset(
    (
        *("AVG", "COUNT", "MAX", "MIN", "SUM", "STDDEV_POP", "STDDEV_SAMP", "VAR_POP", "VAR_SAMP"),
        *("FIRST_VALUE", "LAST_VALUE", "LAG"),
    )
)
_SAME: Final = frozenset(
    (
        *("ABS", "CEIL", "CHAR_LENGTH", "CHARACTER_LENGTH", "COALESCE", "CURRENT_DATE", "EXP", "EXTRACT", "FLOOR"),
        *("INITCAP", "LN", "LOG10", "LOWER", "MOD", "NULLIF", "OVERLAY", "POSITION", "POWER", "SQRT", "SUBSTRING"),
        *("TRIM", "UPPER"),
    )
)
_REFUSED: Final = {
    "FAST_REGEX_LOG_PARSER": "It parses without going back, which no pattern of Flink's says; write REGEX_LOG_PARSE "
    "with lazy quantifiers (.*?).",
    "SYS_LOG_PARSE": "Write REGEX_LOG_PARSE.",
    "EXP_AVG": "Flink has no average that decays.",
    "GROUP_RANK": "Write ROW_NUMBER() in Flink's SQL.",
    "RANDOM_CUT_FOREST": "Flink has no such model; score the stream in a function behind an event source mapping.",
    "HOTSPOTS": "Flink has no such model; find dense regions in a function behind an event source mapping.",
}
REFUSED: Final[Mapping[str, str]] = {
    **_REFUSED,
    "FAST_REGEX_LOG_PARSE": _REFUSED["FAST_REGEX_LOG_PARSER"],
    "RANDOM_CUT_FOREST_WITH_EXPLANATION": _REFUSED["RANDOM_CUT_FOREST"],
}
MOMENT: Final = timestamp(3)
LOG_FIELD: Final = varchar(1024)
"""Of a field that a log parser finds, where nothing says its type."""


def cast(operand: tree.Expression, of: SqlType, given: SqlType | None = None) -> tree.Cast:
    """As a stream takes a value: too long a text is cut. A value that cannot be cast is an error there that costs the
    row and goes to the error stream; here it is NULL, for a failed CAST would stop the query. `given` is the operand's
    type, where it is known: casts between numbers do not fail."""
    cannot_fail = of.is_text or (given is not None and given.is_number and of.is_number)
    return tree.Cast(operand, of.with_null(), is_try=not cannot_fail)


def moment(operand: tree.Expression) -> tree.Cast:
    """A time as the TIMESTAMP in UTC that all times are in SQL-1_0."""
    return tree.Cast(operand, MOMENT)


def call(name: str, *arguments: tree.Expression, words: tuple[str, ...] = ()) -> tree.Call:
    return tree.Call(name, arguments, words=words)


def number(value: int) -> tree.Literal_:
    return tree.Literal_(value)


def binary(left: tree.Expression, operator: str, right: tree.Expression) -> tree.Binary:
    return tree.Binary(operator, left, right)  # type: ignore[arg-type]


def translated(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression | None:
    """The call in Flink's functions, its arguments being translated already; None where it is the same there. Raises
    SqlError at the call for what has no translation."""
    name = node.name
    rule = _RULES.get(name)
    if rule is not None:
        return rule(node, arguments)
    if name in _SAME or name in AGGREGATES:
        return None
    if name in REFUSED:
        raise NotSupported(f"{name} is not supported", node.place, REFUSED[name])
    raise NotSupported(f"the function {name} is not supported", node.place)


# -- times -----------------------------------------------------------------------------------------------------------


def interval_of(milliseconds: int, place: Place = NOWHERE) -> tree.IntervalLiteral:
    """In the largest unit that it is whole in, or as `d hh:mm:ss`; no field has more digits than Flink takes."""
    sign, left = "-" if milliseconds < 0 else "", abs(milliseconds)
    for unit, size in (("DAY", 86_400_000), ("HOUR", 3_600_000), ("MINUTE", 60_000), ("SECOND", 1_000)):
        if left % size == 0 and (left // size < 10**INTERVAL_MS_DIGITS_MAX):
            return interval(f"{sign}{left // size}", unit, place)
    seconds, rest = divmod(left, 1_000)
    fraction = f".{rest:03}" if rest else ""
    if seconds < 60:
        return interval(f"{sign}{seconds}{fraction}", "SECOND", place)
    minutes, seconds = divmod(seconds, 60)
    days, minutes = divmod(minutes, 1_440)
    text = f"{sign}{days} {minutes // 60:02}:{minutes % 60:02}:{seconds:02}{fraction}"
    return interval(text, "DAY TO SECOND", place, digits=INTERVAL_MS_DIGITS_MAX)


UNITS_MS: Final = {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
_UNITS_BY_MS: Final = {size: unit for unit, size in UNITS_MS.items()}


def step(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """STEP(x BY INTERVAL ..) and STEP(x BY n). Both are as the reference defines them, by a division that truncates;
    Flink's of integers does."""
    operand, by = arguments
    place = node.arguments[1].place
    if not isinstance(by, tree.IntervalLiteral):
        if not isinstance(by, tree.Literal_) or type(by.value) is not int or by.value <= 0:
            raise SyntaxProblem("STEP goes by an interval or a whole number", place, "Such as INTERVAL '10' SECOND.")
        return binary(binary(operand, "/", by), "*", by)
    if by.months is not None:
        if by.months not in (1, 12):
            raise NotSupported("STEP by several months", place, "Write FLOOR(x TO MONTH) or FLOOR(x TO YEAR).")
        return call("FLOOR", operand, words=("MONTH" if by.months == 1 else "YEAR",))
    size = positive_ms(by)
    if size in _UNITS_BY_MS:
        return call("FLOOR", operand, words=(_UNITS_BY_MS[size],))
    if size % 1_000:
        raise NotSupported("STEP by parts of a second", place)
    seconds = call("EXTRACT", operand, words=("EPOCH",))
    floor = binary(seconds, "-", call("MOD", seconds, number(size // 1_000)))
    return moment(call("TO_TIMESTAMP_LTZ", floor, number(0)))


def positive_ms(by: tree.IntervalLiteral) -> int:
    if by.milliseconds is None or by.milliseconds <= 0:
        raise SyntaxProblem("this takes an interval of days or less that is more than nothing", by.place)
    return by.milliseconds


def _unix_timestamp(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """Milliseconds, where Flink's function of the name gives seconds of a text."""
    _takes(node, 1)
    (of,) = arguments
    seconds = binary(call("EXTRACT", of, words=("EPOCH",)), "*", number(1_000))
    return binary(seconds, "+", call("EXTRACT", of, words=("MILLISECOND",)))


def _tsdiff(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """The reference says "the difference" of start and end; taken to be end - start."""
    _takes(node, 2)
    return binary(arguments[1], "-", arguments[0])


def _to_timestamp(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    _takes(node, 1)
    return moment(call("TO_TIMESTAMP_LTZ", arguments[0], number(3)))


def _now(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    return moment(tree.Call(node.name))


def _from_text(to: str) -> Callable[[tree.Call, tuple[tree.Expression, ...]], tree.Expression]:
    """CHAR_TO_..(pattern, text): both sides have Java's patterns."""

    def rule(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
        _takes(node, 2)
        return call(to, arguments[1], arguments[0])

    return rule


def _to_text(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    _takes(node, 2)
    return call("DATE_FORMAT", moment(arguments[1]), arguments[0])


# -- texts -----------------------------------------------------------------------------------------------------------


def _regex_replace(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    if len(arguments) not in (3, 5):
        raise SyntaxProblem(
            "REGEX_REPLACE takes a text, a pattern, a replacement, a start and an occurrence", node.place
        )
    if arguments[3:] and arguments[3:] != (number(1), number(0)):
        raise NotSupported(
            "REGEX_REPLACE of one occurrence, or from a start",
            node.place,
            "Only all from the first character on: 1, 0.",
        )
    return call("REGEXP_REPLACE", *arguments[:3])


def _regex_log_parse(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """The groups of a pattern that is the whole text, as the fields COLUMN1, ..; all NULL where it is not."""
    _takes(node, 2)
    pattern = _constant(node, 1, "a pattern")
    count = groups_of(pattern)
    if not count:
        raise SyntaxProblem("REGEX_LOG_PARSE gives the groups of its pattern, and there are none", node.place)
    return _row(_by_groups(arguments[0], pattern, count))


def groups_of(pattern: str) -> int:
    """How many groups a pattern of Java's has that capture."""
    bare = re.sub(r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", pattern, flags=re.S)
    return len(re.findall(r"\((?!\?)|\(\?<(?![=!])", bare))


def _by_groups(of: tree.Expression, pattern: str, count: int) -> list[tuple[Field, tree.Expression]]:
    whole = tree.Literal_(f"^(?:{pattern})$")
    return [
        (Field(f"COLUMN{index}", LOG_FIELD), call("REGEXP_EXTRACT", of, whole, number(index)))
        for index in range(1, count + 1)
    ]


_W3C: Final = {
    "COMMON": '%h %l %u %t "%r" %>s %b',
    "COMMON WITH VHOST": '%v %h %l %u %t "%r" %>s %b',
    "NCSA EXTENDED": '%h %l %u %t "%r" %>s %b "%[Referer]i" "%[User-agent]i"',
    "REFERER": "%[Referer]i ---> %U",
    "AGENT": "%[User-agent]i",
}
_W3C_PART: Final = re.compile(r'"%[^"]*"|%\S+')


def _w3c_log_parse(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """The formats that have a name. The reference chooses a column's type by what it can hold, and does not list them:
    all are texts here. That a time is without its brackets is not known, either."""
    _takes(node, 2)
    said = _constant(node, 1, "a format")
    form = _W3C.get(said.upper())
    if form is None:
        raise NotSupported(f"the format {said!r} of W3C_LOG_PARSE", node.place, f"There are: {', '.join(_W3C)}.")
    pattern, count, stop = "", 0, 0
    for part in _W3C_PART.finditer(form):
        pattern += form[stop : part.start()]
        last = part.end() == len(form)
        if part.group().startswith('"'):
            pattern += '"([^"]*)"'
        elif part.group() == "%t":
            pattern += r"\[([^\]]*)\]"
        else:
            pattern += "(.*)" if last and count == 0 else r"(\S+)"
        stop, count = part.end(), count + 1
    return _row(_by_groups(arguments[0], pattern, count))


_COLUMN: Final = re.compile(
    r'\s*("(?:[^"]|"")+"|\w+)\s+TYPE\s+(.+?)(?:\s+START\s+(\d+)(?:\s+FOR\s+(\d+))?)?\s*', re.I | re.S
)


def _variable_column_log_parse(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """`(text, columns, delimiter)`: the fields between delimiters."""
    if len(arguments) > 3:
        raise NotSupported("VARIABLE_COLUMN_LOG_PARSE with an escape or quotes", node.place, "Write REGEX_LOG_PARSE.")
    _takes(node, 3)
    fields = []
    for index, (field, _, _) in enumerate(_described(node)):
        value = call("SPLIT_INDEX", arguments[0], arguments[2], number(index))
        fields.append((field, value))
    return _row([(field, value if field.type.is_text else cast(value, field.type)) for field, value in fields])


def _fixed_column_log_parse(node: tree.Call, arguments: tuple[tree.Expression, ...]) -> tree.Expression:
    """`(text, 'name TYPE type START n [FOR n], ..')`; characters count from 0."""
    _takes(node, 2)
    fields = []
    for field, start, length in _described(node):
        if start is None:
            raise SyntaxProblem(f"the column {field.name!r} has no START", node.arguments[1].place)
        place = (number(start + 1),) if length is None else (number(start + 1), number(length))
        value = call("SUBSTRING", arguments[0], *place)
        fields.append((field, value if field.type.is_text else cast(call("TRIM", value, words=("BOTH",)), field.type)))
    return _row(fields)


def _described(node: tree.Call) -> list[tuple[Field, int | None, int | None]]:
    """The columns of a log parser: their number, or their names and types, and where they are."""
    given = node.arguments[1]
    value = given.value if isinstance(given, tree.Literal_) else None
    if (type(value) is int or (isinstance(value, str) and value.strip().isdecimal())) and 0 < int(
        value
    ) <= LEGACY_LOG_COLUMNS_MAX:
        return [(Field(f"COLUMN{index}", LOG_FIELD), None, None) for index in range(1, int(value) + 1)]
    if not isinstance(value, str):
        raise SyntaxProblem(f"{node.name} takes its columns as a text", given.place, "Such as 'A TYPE VARCHAR(16)'.")
    columns = []
    for text in re.split(r",(?![^()]*\))", value):
        found = _COLUMN.fullmatch(text)
        if found is None:
            raise SyntaxProblem(f"{text.strip()!r} describes no column", given.place, "Such as 'A TYPE VARCHAR(16)'.")
        name, of, start, length = found.groups()
        name = name[1:-1].replace('""', '"') if name.startswith('"') else name.upper()
        bounds = (None if start is None else int(start), None if length is None else int(length))
        columns.append((Field(name, parse_type(of).with_null()), *bounds))
    return columns


def _row(fields: Sequence[tuple[Field, tree.Expression]]) -> tree.Cast:
    values = tuple(value for _, value in fields)
    return tree.Cast(tree.RowValue(values), SqlType(Kind.ROW, fields=tuple(field for field, _ in fields)))


def _constant(node: tree.Call, index: int, what: str) -> str:
    given = node.arguments[index]
    if not isinstance(given, tree.Literal_) or not isinstance(given.value, str):
        raise NotSupported(f"{node.name} of {what} that is no literal", given.place, "Write it out in ''.")
    return given.value


def _takes(node: tree.Call, count: int) -> None:
    if len(node.arguments) != count:
        raise SyntaxProblem(f"{node.name} takes {count} arguments, not {len(node.arguments)}", node.place)


_RULES: Final[Mapping[str, Callable[[tree.Call, tuple[tree.Expression, ...]], tree.Expression]]] = {
    "STEP": step,
    "UNIX_TIMESTAMP": _unix_timestamp,
    "TSDIFF": _tsdiff,
    "TO_TIMESTAMP": _to_timestamp,
    "CURRENT_ROW_TIMESTAMP": _now,
    "CURRENT_TIMESTAMP": _now,
    "LOCALTIMESTAMP": _now,
    "CHAR_TO_TIMESTAMP": _from_text("TO_TIMESTAMP"),
    "CHAR_TO_DATE": _from_text("TO_DATE"),
    "TIMESTAMP_TO_CHAR": _to_text,
    "DATE_TO_CHAR": _to_text,
    "REGEX_REPLACE": _regex_replace,
    "REGEX_LOG_PARSE": _regex_log_parse,
    "W3C_LOG_PARSE": _w3c_log_parse,
    "VARIABLE_COLUMN_LOG_PARSE": _variable_column_log_parse,
    "FIXED_COLUMN_LOG_PARSE": _fixed_column_log_parse,
}
