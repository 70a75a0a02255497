"""Operators on bound operands: types as Flink 2.3 derives them, texts that compute what Java computes.

DuckDB raises where whole numbers overflow; Java wraps. So they are computed in the next wider type and cut, which costs
some 5 ns a row; `TRY(a + b)` is cheaper by half but takes 5 us for each row that does overflow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from streamkit_sql.errors import NOWHERE, NotSupported, Place, TypeProblem
from streamkit_sql.expressions import exact
from streamkit_sql.expressions.bound import Bound, Settings, combine
from streamkit_sql.expressions.casts import cast, once, widened, wrapped
from streamkit_sql.expressions.coercion import (
    PRECISION_MAX,
    DecimalOperator,
    as_decimal,
    common_type,
    decimal_result,
    is_cut,
)
from streamkit_sql.expressions.literals import constant, null_of, of_value
from streamkit_sql.types import (
    BOOLEAN,
    INTERVAL_MONTHS,
    INTERVAL_MS,
    INTERVALS,
    NUMBERS,
    STRING_LENGTH,
    Kind,
    SqlType,
    text_literal,
)

Comparison: TypeAlias = Literal["=", "<>", "<", "<=", ">", ">="]
_MIRRORED: Final[dict[str, Comparison]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
_BITS: Final = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INTEGER: 32, Kind.BIGINT: 64}
_DAY_MS: Final = 86_400_000
_NARROW_DIGITS_MAX: Final = 18  # of a DECIMAL that DuckDB keeps in 64 bits


def mistyped(operator: str, operands: Sequence[Bound], place: Place, hint: str = "") -> TypeProblem:
    types = " and ".join(str(each.type.with_null()) for each in operands)
    return TypeProblem(f"{operator} does not go with {types}.", place, hint)


def _nullable(*operands: Bound) -> bool:
    return any(each.type.nullable for each in operands)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def arithmetic(operator: DecimalOperator, a: Bound, b: Bound, settings: Settings, place: Place = NOWHERE) -> Bound:
    """`a operator b`. NULL literals take the other's type."""
    if a.type.kind is Kind.NULL or b.type.kind is Kind.NULL:
        raise TypeProblem(f"NULL has no type beside {operator}.", place, "Write CAST(NULL AS INT) or its like.")
    if a.type.is_interval or b.type.is_interval:
        return _with_interval(operator, a, b, settings, place)
    if not (a.type.is_number and b.type.is_number):
        hint = ""
        if operator == "-" and a.type.kind in (Kind.DATE, *_INSTANTS) and b.type.kind in (Kind.DATE, *_INSTANTS):
            hint = "TIMESTAMPDIFF(SECOND, b, a) gives a difference."
        raise mistyped(operator, (a, b), place, hint)
    if a.type.is_approximate or b.type.is_approximate:
        if operator == "%":
            raise mistyped(operator, (a, b), place, "It takes whole numbers and decimals.")
        return _approximate(operator, a, b, settings)
    if Kind.DECIMAL in (a.type.kind, b.type.kind):
        return _decimals(operator, a, b)
    return _integers(operator, a, b, place)


_INSTANTS: Final = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)


def _approximate(operator: str, a: Bound, b: Bound, settings: Settings) -> Bound:
    of = common_type([a.type, b.type])
    assert of is not None
    left, right = (cast(each, of, settings).sql for each in (a, b))
    return combine(f"({left} {operator} {right})", of, a, b)


def _integers(operator: DecimalOperator, a: Bound, b: Bound, place: Place) -> Bound:
    of = common_type([a.type, b.type])
    assert of is not None
    if operator == "%":
        of = b.type.with_null(_nullable(a, b))  # Flink's MOD has the type of the divisor
    folded = _folded(operator, a, b, of, place)
    if folded is not None:
        return folded
    kind = of.kind
    if operator in "+-*":
        return combine(wrapped(f"({widened(a.sql, kind)} {operator} {widened(b.sql, kind)})", kind), of, a, b)
    if b.is_constant and b.value == 0:
        # As Flink: not an error of the script, but of the row that comes to it.
        failing = (
            f"CASE WHEN {a.sql} IS NOT NULL THEN error('/ by zero') END" if a.type.nullable else "error('/ by zero')"
        )
        return combine(f"CAST({failing} AS {of.duckdb})", of, a, b)
    cell = f"CAST({{a}} {'//' if operator == '/' else '%'} {{b}} AS {of.duckdb})"
    if b.is_constant and b.value != -1:
        return combine(cell.replace("{a}", a.sql).replace("{b}", b.sql), of, a, b)
    if operator == "/":
        negative = wrapped(f"(- {widened('{a}', kind)})", kind)  # the one quotient that overflows is by -1
    else:
        negative = f"CAST(CASE WHEN {{a}} IS NOT NULL THEN 0 END AS {of.duckdb})"
    if b.is_constant:
        return combine(once(a.sql, negative, "{a}"), of, a, b)
    zero = "{b} = 0 AND {a} IS NOT NULL" if a.type.nullable else "{b} = 0"
    text = f"CASE WHEN {zero} THEN error('/ by zero') WHEN {{b}} = -1 THEN {negative} ELSE {cell} END"
    return combine(_of_two(text, a, b), of, a, b)


def _of_two(template: str, a: Bound, b: Bound) -> str:
    """A text with `{a}` and `{b}` for the operands, each computed once."""
    return once(a.sql, once(b.sql, template, "{b}"), "{a}")


def _folded(operator: str, a: Bound, b: Bound, of: SqlType, place: Place) -> Bound | None:
    """The value of an operation on two known whole numbers."""
    if not (a.is_constant and b.is_constant and isinstance(a.value, int) and isinstance(b.value, int)):
        return None
    x, y = a.value, b.value
    if operator in "/%" and y == 0:
        return None
    if operator in "/%":
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        value = quotient if operator == "/" else x - quotient * y
    else:
        value = x + y if operator == "+" else x - y if operator == "-" else x * y
    half = 1 << (_BITS[of.kind] - 1)
    value = (value + half) % (2 * half) - half
    literal = of_value(value, place)
    sql = literal.sql if literal.type.kind is of.kind else f"CAST({value} AS {of.duckdb})"
    return constant(sql, of, value)


def _decimals(operator: DecimalOperator, a: Bound, b: Bound) -> Bound:
    left, right = as_decimal(a.type), as_decimal(b.type)
    of = decimal_result(operator, left, right)
    if operator in "/%":
        return _divided(operator, a, b, left, right, of)
    if not is_cut(operator, left, right):
        first = a.sql
        if of.precision > _NARROW_DIGITS_MAX >= max(left.precision, right.precision):
            # DuckDB keeps to 64 bits where both have them, and raises.
            first = f"CAST({a.sql} AS DECIMAL({_NARROW_DIGITS_MAX + 1},{left.scale}))"
        return combine(f"CAST({first} {operator} {b.sql} AS {of.duckdb})", of, a, b)
    slow = _slow(operator, of)
    scale = max(left.scale, right.scale) if operator in "+-" else left.scale + right.scale
    room = PRECISION_MAX - scale
    # Numbers of so few digits before the point that DuckDB's own result cannot overflow.
    digits = room - 1 if operator in "+-" else room // 2
    if digits < 1:
        return combine(_of_two(slow, a, b), of, a, b)
    cells, guards = [], []
    for each, held in (("{a}", left), ("{b}", right)):
        own = scale if operator in "+-" else held.scale
        cells.append(f"CAST({each} AS DECIMAL({digits + own},{own}))")
        if held.precision - held.scale > digits:
            end = f"CAST('1{'0' * digits}' AS DECIMAL({digits + 1},0))"
            guards.append(f"{each} < {end} AND {each} > -{end}")
    fast = f"CAST({cells[0]} {operator} {cells[1]} AS {of.duckdb})"
    text = f"CASE WHEN {' AND '.join(guards)} THEN {fast} ELSE {slow} END" if guards else fast
    return combine(_of_two(text, a, b), of, a, b)


def _slow(operator: str, of: SqlType) -> str:
    operands = "CAST({a} AS VARCHAR), CAST({b} AS VARCHAR)"
    return f"CAST({exact.ARITHMETIC}('{operator}', {operands}, {of.precision}, {of.scale}) AS {of.duckdb})"


def _divided(operator: DecimalOperator, a: Bound, b: Bound, left: SqlType, right: SqlType, of: SqlType) -> Bound:
    zero = "{b} = 0 AND {a} IS NOT NULL" if a.type.nullable else "{b} = 0"
    text = _quotient(operator, left, right, of)
    if not b.is_constant or not b.value:
        text = f"CASE WHEN {zero} THEN error('Division by zero') ELSE {text} END"
    return combine(_of_two(text, a, b), of, a, b)


def _quotient(operator: DecimalOperator, left: SqlType, right: SqlType, of: SqlType) -> str:
    """Over `{a}` and `{b}`, which is not 0."""
    if operator == "%":
        held = common_type([left, right])
        assert held is not None
        whole = max(left.precision - left.scale, right.precision - right.scale)
        if whole + max(left.scale, right.scale) > PRECISION_MAX:
            return _slow(operator, of)
        return f"CAST(CAST({{a}} AS {held.duckdb}) % CAST({{b}} AS {held.duckdb}) AS {of.duckdb})"
    shift = of.scale - left.scale + right.scale  # of the whole numbers that stand for both
    is_small = all(each.precision + each.scale < PRECISION_MAX for each in (left, right))
    if is_cut(operator, left, right) or not is_small or left.precision + shift >= PRECISION_MAX:
        return _slow(operator, of)
    n, d = f"({_unscaled('{a}', left)} * {10**shift})", _unscaled("{b}", right)
    quotient = f"({n} // {d})"
    rest = f"abs({n} - {quotient} * {d}) * 2 >= abs({d})"  # rounded half up
    sign = "CASE WHEN ({a} < 0) = ({b} < 0) THEN 1 ELSE -1 END"
    rounded = f"({quotient} + CASE WHEN {rest} THEN {sign} ELSE 0 END)"
    unit = "0." + "0" * (of.scale - 1) + "1"
    return f"CAST(CAST({rounded} AS DECIMAL(38,0)) * CAST('{unit}' AS DECIMAL({of.scale},{of.scale})) AS {of.duckdb})"


def _unscaled(sql: str, held: SqlType) -> str:
    if not held.scale:
        return f"CAST({sql} AS HUGEINT)"
    return f"CAST({sql} * CAST({10**held.scale} AS DECIMAL({held.scale + 1},0)) AS HUGEINT)"


def negated(a: Bound, place: Place = NOWHERE) -> Bound:
    """`-a`."""
    of = a.type
    if a.is_constant and a.value is not None and (of.is_number or of.is_interval) and not isinstance(a.value, bool):
        if of.is_integer or of.is_interval:
            if of.is_interval:
                return constant(f"CAST({-a.value} AS {of.duckdb})", of, -a.value)
            return of_value(-a.value, place)
        if of.is_approximate:
            return constant(f"(- {a.sql})", of, -a.value)
        return constant(f"CAST('{-a.value:f}' AS {of.duckdb})", of, -a.value)
    if of.is_integer:
        return combine(wrapped(f"(- {widened(a.sql, of.kind)})", of.kind), of, a)
    if of.is_number or of.is_interval:
        return combine(f"(- {a.sql})", of, a)
    raise mistyped("-", (a,), place)


def _with_interval(operator: str, a: Bound, b: Bound, settings: Settings, place: Place) -> Bound:
    interval = a.type.is_interval
    if interval and b.type.is_interval:
        if a.type.kind is not b.type.kind or operator not in "+-":
            raise mistyped(operator, (a, b), place)
        return _integer_interval(operator, a, b)
    span, other = (a, b) if interval else (b, a)
    if other.type.is_number:
        if operator != "*" or not other.type.is_integer:
            raise mistyped(operator, (a, b), place, "An interval takes * and a whole number.")
        return _integer_interval(operator, span, other)
    is_months = span.type.kind is Kind.INTERVAL_MONTHS
    of = other.type.with_null(_nullable(a, b))
    if operator not in "+-" or (interval and operator == "-") or (interval and of.kind is Kind.TIMESTAMP_LTZ):
        raise mistyped(operator, (a, b), place, "Write the interval behind the time.")
    amount = span.sql if operator == "+" else negated(span).sql
    if of.kind in _INSTANTS:
        text = f"({other.sql} + to_{'months' if is_months else 'milliseconds'}({amount}))"
        return combine(text if of.precision <= 6 else f"CAST({text} AS {of.duckdb})", of, a, b)
    if of.kind is Kind.DATE:
        if is_months:
            return combine(f"CAST({other.sql} + to_months({amount}) AS DATE)", of, a, b)
        return combine(f"({other.sql} + CAST({amount} // {_DAY_MS} AS INTEGER))", of, a, b)
    if of.kind is Kind.TIME:
        if is_months:
            return combine(other.sql, of, a, b)
        return combine(f"({other.sql} + to_milliseconds({amount} % {_DAY_MS}))", of, a, b)
    raise mistyped(operator, (a, b), place)


def _integer_interval(operator: str, a: Bound, b: Bound) -> Bound:
    """Intervals are whole numbers and wrap as those do."""
    is_months = a.type.kind is Kind.INTERVAL_MONTHS
    of = (INTERVAL_MONTHS if is_months else INTERVAL_MS).with_null(_nullable(a, b))
    kind = Kind.INTEGER if is_months else Kind.BIGINT
    if a.is_constant and b.is_constant and isinstance(a.value, int) and isinstance(b.value, int):
        value = a.value + b.value if operator == "+" else a.value - b.value if operator == "-" else a.value * b.value
        return constant(f"CAST({value} AS {of.duckdb})", of, value)
    return combine(wrapped(f"({widened(a.sql, kind)} {operator} {widened(b.sql, kind)})", kind), of, a, b)


# -- comparisons -----------------------------------------------------------------------------------------------------


def compare(operator: Comparison, a: Bound, b: Bound, settings: Settings, place: Place = NOWHERE) -> Bound:
    """`a operator b`; NaN equals nothing, as in Java."""
    of = BOOLEAN.with_null(_nullable(a, b))
    if Kind.NULL in (a.type.kind, b.type.kind):
        return null_of(BOOLEAN)
    a, b = _comparable(operator, a, b, settings, place)
    if a.type.kind is Kind.DECIMAL or b.type.kind is Kind.DECIMAL:
        left, right = as_decimal(a.type), as_decimal(b.type)
        whole = max(left.precision - left.scale, right.precision - right.scale)
        if whole + max(left.scale, right.scale) > PRECISION_MAX:
            order = f"{exact.COMPARISON}(CAST({a.sql} AS VARCHAR), CAST({b.sql} AS VARCHAR))"
            return combine(f"({order} {operator} 0)", of, a, b)
    if a.type.is_approximate:
        return combine(_compared_approximate(operator, a, b), of, a, b)
    return combine(f"({a.sql} {operator} {b.sql})", of, a, b)


def _compared_approximate(operator: Comparison, a: Bound, b: Bound) -> str:
    """DuckDB takes NaN as equal to itself and greater than all; only what the operands can be is asked for."""
    plain = f"({a.sql} {operator} {b.sql})"
    if operator in ("=", "<>"):
        if a.is_constant or b.is_constant:
            return plain
        answer = "FALSE" if operator == "=" else "TRUE"
        text = f"CASE WHEN isnan({{a}}) AND isnan({{b}}) THEN {answer} ELSE ({{a}} {operator} {{b}}) END"
        return _of_two(text, a, b)
    # NaN must not be on the side that is the greater; there it makes FALSE, or NULL if the other is.
    greater, less = (b, a) if operator.startswith("<") else (a, b)
    if greater.is_constant:
        return plain
    high, low = ("{b}", "{a}") if greater is b else ("{a}", "{b}")
    never = f"({low} IS NULL AND NULL)" if less.type.nullable else "FALSE"
    return _of_two(f"CASE WHEN isnan({high}) THEN {never} ELSE ({{a}} {operator} {{b}}) END", a, b)


def _comparable(operator: str, a: Bound, b: Bound, settings: Settings, place: Place) -> tuple[Bound, Bound]:
    """Both as values that DuckDB compares as Flink does."""
    x, y = a.type, b.type
    if x.is_number and y.is_number:
        if x.is_approximate or y.is_approximate:
            of = common_type([x, y])
            assert of is not None
            return _cast_constant(a, of, settings), _cast_constant(b, of, settings)
        return a, b
    if (x.is_text and y.is_text) or (x.is_bytes and y.is_bytes):
        return a, b
    if x.is_timestamp and y.is_timestamp:
        if x.kind is not y.kind:
            # Which of both is converted shows only in the hours that a clock skips or has twice.
            kind = x.kind if operator in ("=", "<>") else Kind.TIMESTAMP
            a = cast(a, SqlType(kind, precision=x.precision), settings)
            b = cast(b, SqlType(kind, precision=y.precision), settings)
        return a, b
    if x.is_text != y.is_text and not (x.is_bytes or y.is_bytes):
        return _compared_text(operator, a, b, settings, place)
    if x.kind is y.kind:
        if x.kind in (Kind.ARRAY, Kind.MAP, Kind.MULTISET, Kind.ROW):
            if operator not in ("=", "<>"):
                raise mistyped(operator, (a, b), place)
            of = common_type([x, y])
            if of is None:
                raise mistyped(operator, (a, b), place)
            return cast(a, of, settings), cast(b, of, settings)
        return a, b
    raise mistyped(operator, (a, b), place)


def _compared_text(operator: str, a: Bound, b: Bound, settings: Settings, place: Place) -> tuple[Bound, Bound]:
    """A text beside something else: it is parsed. With = Flink does so for times only, and takes NULL for what is no
    time unless it is a literal; with < it fails."""
    other = b.type if a.type.is_text else a.type
    is_time = other.kind in (Kind.DATE, Kind.TIME) or other.is_timestamp
    if operator in ("=", "<>"):
        if not is_time:
            raise mistyped(operator, (a, b), place, "Write a CAST on one side.")
    elif not (is_time or other.is_number or other.kind is Kind.BOOLEAN):
        raise mistyped(operator, (a, b), place)

    def parsed(each: Bound) -> Bound:
        if not each.type.is_text:
            return each
        lenient = operator in ("=", "<>") and not each.is_constant
        return cast(each, other, settings, is_try=lenient, place=place)

    return parsed(a), parsed(b)


def _cast_constant(bound: Bound, of: SqlType, settings: Settings) -> Bound:
    """The number as `of`; a known one stays known, which spares tests for NaN."""
    found = cast(bound, of, settings)
    if bound.is_constant and bound.value is not None and not found.is_constant:
        return constant(f"CAST({bound.sql} AS {of.duckdb})", found.type, bound.value)
    return found


def distinct(a: Bound, b: Bound, is_negated: bool, settings: Settings, place: Place) -> Bound:
    """`a IS [NOT] DISTINCT FROM b`; `is_negated` where NOT is there."""
    of = BOOLEAN.with_null(False)
    word = "IS NOT DISTINCT FROM" if is_negated else "IS DISTINCT FROM"
    if Kind.NULL in (a.type.kind, b.type.kind):
        other = b if a.type.kind is Kind.NULL else a
        return combine(f"({other.sql} IS {'' if is_negated else 'NOT '}NULL)", of, other)
    a, b = _comparable("=", a, b, settings, place)
    text = f"({a.sql} {word} {b.sql})"
    if a.type.is_approximate and not (a.is_constant or b.is_constant):
        answer = "FALSE" if is_negated else "TRUE"
        text = f"CASE WHEN isnan({a.sql}) AND isnan({b.sql}) THEN {answer} ELSE {text} END"
    return combine(text, of, a, b)


def between(operand: Bound, low: Bound, high: Bound, is_symmetric: bool, settings: Settings, place: Place) -> Bound:
    """`low <= operand <= high`."""
    within = conjunction(
        compare(">=", operand, low, settings, place), compare("<=", operand, high, settings, place), "AND"
    )
    if not is_symmetric:
        return within
    other = conjunction(
        compare(">=", operand, high, settings, place), compare("<=", operand, low, settings, place), "AND"
    )
    return conjunction(within, other, "OR")


def conjunction(a: Bound, b: Bound, word: Literal["AND", "OR"], place: Place = NOWHERE) -> Bound:
    """AND and OR of three values, as DuckDB has them."""
    for each in (a, b):
        if each.type.kind is not Kind.BOOLEAN:
            hint = "Write CAST(NULL AS BOOLEAN)." if each.type.kind is Kind.NULL else ""
            raise mistyped(word, (a, b), place, hint)
    return combine(f"({a.sql} {word} {b.sql})", BOOLEAN.with_null(_nullable(a, b)), a, b)


def within(operand: Bound, values: Sequence[Bound], settings: Settings, place: Place) -> Bound:
    """`operand IN (values)`; values take the operand's type where it is approximate, or where a text stands beside what
    is none."""
    of = operand.type
    cast_values = []
    for value in values:
        kind = value.type
        if kind.kind is Kind.NULL:
            value = null_of(of)
        elif of.is_approximate and kind.is_number:
            value = _cast_constant(value, of, settings)
        elif (of.is_text and kind.kind in _TEXTUAL) or (kind.is_text and (of.is_number or of.kind in _PARSED)):
            value = cast(value, of.with_null(), settings, place=place)
        cast_values.append(value)
    is_plain = not of.is_approximate or all(each.is_constant for each in cast_values)
    pairs = [_comparable("=", operand, each, settings, place) for each in cast_values]
    if is_plain and all(left.sql == operand.sql for left, _ in pairs) and not _needs_exact(operand, cast_values):
        text = f"({operand.sql} IN ({', '.join(right.sql for _, right in pairs)}))"
        return combine(text, BOOLEAN.with_null(_nullable(operand, *cast_values)), operand, *cast_values)
    found = compare("=", operand, cast_values[0], settings, place)
    for value in cast_values[1:]:
        found = conjunction(found, compare("=", operand, value, settings, place), "OR")
    return found


_PARSED: Final = (Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_TEXTUAL: Final = (*_PARSED, *NUMBERS, *INTERVALS)


def _needs_exact(operand: Bound, values: Sequence[Bound]) -> bool:
    """IN casts all to one type; of decimals that must hold every one."""
    types = [each.type for each in (operand, *values)]
    if not any(each.kind is Kind.DECIMAL for each in types):
        return False
    held = [as_decimal(each) for each in types if each.is_exact]
    return max(each.precision - each.scale for each in held) + max(each.scale for each in held) > PRECISION_MAX


# -- texts -----------------------------------------------------------------------------------------------------------


def concatenated(a: Bound, b: Bound, place: Place) -> Bound:
    """`a || b`; NULL if one is."""
    if not (a.type.is_text and b.type.is_text):
        raise mistyped("||", (a, b), place, "It takes texts: write a CAST.")
    kind = Kind.CHAR if a.type.kind is b.type.kind is Kind.CHAR else Kind.VARCHAR
    of = SqlType(kind, _nullable(a, b), length=min(a.type.length + b.type.length, STRING_LENGTH))
    if a.is_constant and b.is_constant and isinstance(a.value, str) and isinstance(b.value, str):
        return constant(of_value(a.value + b.value, place).sql, of, a.value + b.value)
    return combine(f"({a.sql} || {b.sql})", of, a, b)


def like(operand: Bound, pattern: Bound, escape: Bound | None, kind: str, place: Place) -> Bound:
    """LIKE and SIMILAR TO. Without ESCAPE no character escapes, as Flink has it."""
    operands = (operand, pattern) if escape is None else (operand, pattern, escape)
    if not all(each.type.is_text for each in operands):
        raise mistyped(kind, operands, place)
    of = BOOLEAN.with_null(_nullable(*operands))
    character = None
    if escape is not None:
        if not escape.is_constant or not isinstance(escape.value, str):
            raise NotSupported("an ESCAPE that is no literal.", place)
        character = escape.value or None
        if character is not None and len(character) > 1:
            raise TypeProblem(f"the escape character {character!r} is more than one.", place)
    if kind == "SIMILAR TO":
        if not pattern.is_constant or not isinstance(pattern.value, str):
            raise NotSupported("SIMILAR TO a pattern that is no literal.", place, "REGEXP takes any.")
        regex = _similar(pattern.value, character, place)
        return combine(f"regexp_full_match({operand.sql}, {text_literal(regex)}, 's')", of, operand)
    if character is None:
        return combine(f"({operand.sql} LIKE {pattern.sql})", of, operand, pattern)
    if isinstance(pattern.value, str):
        _check_escapes(pattern.value, character, place)
    return combine(f"({operand.sql} LIKE {pattern.sql} ESCAPE {text_literal(character)})", of, operand, pattern)


def _check_escapes(pattern: str, escape: str, place: Place) -> None:
    for found in re.finditer(re.escape(escape) + "(.?)", pattern, re.DOTALL):
        if found[1] not in ("%", "_", escape):
            raise TypeProblem(f"invalid escape sequence {pattern!r}, {found.start()}.", place)


_CLASSES: Final = ("ALPHA", "UPPER", "LOWER", "DIGIT", "SPACE", "ALNUM")


def _similar(pattern: str, escape: str | None, place: Place) -> str:
    """The regular expression of a SIMILAR TO pattern, as Calcite's SqlFunctions make it: `.` stays a wildcard."""
    out: list[str] = []
    is_class = False
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if escape is not None and character == escape:
            if index == len(pattern):
                raise TypeProblem(f"invalid escape sequence at the end of {pattern!r}.", place)
            out.append(re.escape(pattern[index]))
            index += 1
        elif is_class:
            named = re.match(r"\[:(\w+):\]", pattern[index - 1 :])
            if named is not None and named[1].upper() in _CLASSES:
                out.append(f"[:{named[1].lower()}:]")
                index += len(named[0]) - 1
                continue
            is_class = character != "]"
            out.append("\\\\" if character == "\\" else character)
        elif character == "[":
            is_class = True
            out.append(character)
        else:
            out.append({"%": ".*", "_": ".", "\\": "\\\\", "$": "\\$"}.get(character, character))
    return "".join(out)


# -- choices ---------------------------------------------------------------------------------------------------------


def as_type(bound: Bound, of: SqlType, settings: Settings) -> Bound:
    """A branch of a choice as the type that was found for all; NULL gets that type."""
    if bound.type.kind is Kind.NULL:
        return null_of(of)
    return cast(bound, of, settings)


def chosen_type(bounds: Sequence[Bound], what: str, place: Place) -> SqlType:
    """What branches have in common."""
    of = common_type([each.type for each in bounds])
    if of is None:
        if all(each.type.kind is Kind.NULL for each in bounds):
            raise TypeProblem(f"{what} of nothing but NULL has no type.", place, "Write CAST(NULL AS INT) or its like.")
        raise TypeProblem(f"{what} gives {', '.join(dict.fromkeys(str(each.type) for each in bounds))}.", place)
    return of


def case(branches: Sequence[tuple[Bound, Bound]], otherwise: Bound | None, settings: Settings, place: Place) -> Bound:
    """`CASE WHEN .. THEN .. ELSE .. END`."""
    for condition, _ in branches:
        if condition.type.kind not in (Kind.BOOLEAN, Kind.NULL):
            raise mistyped("WHEN", (condition,), place)
    last = otherwise if otherwise is not None else Bound("NULL", SqlType(Kind.NULL), is_constant=True)
    results = [value for _, value in branches] + [last]
    of = chosen_type(results, "CASE", place)
    parts = [f"WHEN {condition.sql} THEN {as_type(value, of, settings).sql}" for condition, value in branches]
    tail = "" if otherwise is None else f" ELSE {as_type(last, of, settings).sql}"
    used = [each for branch in branches for each in branch] + [last]
    return combine(f"CASE {' '.join(parts)}{tail} END", of, *used)
