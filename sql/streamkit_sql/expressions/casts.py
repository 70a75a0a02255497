"""CAST and TRY_CAST: the DuckDB text that converts a value as Flink 2.3 does.

Rules asked of Flink itself (tests/sql/flink/ask.py). What is not obvious: numbers wrap or saturate as Java's do; a
number that a DECIMAL has no room for is NULL, also without TRY; texts are parsed leniently in ways of their own (' 12 '
is a number, '1.9' an INT of 1, '2020-2' a DATE); a TIMESTAMP loses digits toward 1970, so one millisecond before it is
the date 1970-01-01. A text that cannot be parsed fails the query through DuckDB's `error()`; TRY_CAST gives NULL.
"""

from __future__ import annotations

from typing import Final

from streamkit_sql.errors import NOWHERE, NotSupported, Place, TypeProblem
from streamkit_sql.expressions import exact
from streamkit_sql.expressions.bound import Bound, Settings, combine
from streamkit_sql.expressions.coercion import as_decimal
from streamkit_sql.expressions.literals import null_of
from streamkit_sql.types import (
    APPROXIMATE,
    INTEGERS,
    INTERVALS,
    STRING_LENGTH,
    Kind,
    SqlType,
    quoted,
    text_literal,
)

REPEATED_LENGTH_MAX: Final = 160
"""Characters of a text that may be written twice into another; a longer one is computed once in a lambda, since nested
casts would else double their text at each level."""
_BITS: Final = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INTEGER: 32, Kind.BIGINT: 64}
_WIDER: Final = {Kind.TINYINT: "INTEGER", Kind.SMALLINT: "INTEGER", Kind.INTEGER: "BIGINT", Kind.BIGINT: "HUGEINT"}
_FLOAT_END: Final = "3.4028235677973366e38"
"""Half a step above the greatest FLOAT: Java rounds what is beyond to Infinity, DuckDB raises."""
_TRUE: Final = "('t', 'true', 'y', 'yes', '1')"
_FALSE: Final = "('f', 'false', 'n', 'no', '0')"
_INTEGER_TEXT: Final = r"^ *([+-]?\d+)(?:\.\d*)? *$"
_FRACTION_TEXT: Final = r" *[+-]?\.\d+ *"
_DECIMAL_TEXT: Final = r"^ *([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?) *$"
_DOUBLE_TEXT: Final = r"^[\x00-\x20]*([+-]?(?:NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))[fFdD]?[\x00-\x20]*$"


def cast(bound: Bound, of: SqlType, settings: Settings, is_try: bool = False, place: Place = NOWHERE) -> Bound:
    """`bound` as a value of type `of`; nullable where `bound` is, or where TRY_CAST may give NULL. Raises TypeProblem
    where Flink has no such cast."""
    source = bound.type
    target = of.with_null(source.nullable or is_try)
    if source.kind is Kind.NULL:
        return null_of(of)
    if source == target:
        return bound.materialized()
    sql = Casts(settings, is_try, place).convert(bound.sql, source, target)
    found = combine(sql, target, bound)
    keeps_value = (source.is_text and target.kind is Kind.VARCHAR and target.length >= source.length) or (
        source.is_integer and target.is_integer and INTEGERS.index(target.kind) >= INTEGERS.index(source.kind)
    )
    if bound.is_constant and (bound.value is None or keeps_value):
        return Bound(sql, target, is_constant=True, value=bound.value)
    return found


def wrapped(wide_sql: str, kind: Kind) -> str:
    """A whole number, computed in a wider type, cut to `kind` as Java cuts it."""
    half = 1 << (_BITS[kind] - 1)
    return f"CAST((({wide_sql} + {half}) & {2 * half - 1}) - {half} AS {kind_sql(kind)})"


def widened(sql: str, kind: Kind) -> str:
    """A number of `kind` in the type `wrapped` expects."""
    return f"CAST({sql} AS {_WIDER[kind]})"


def kind_sql(kind: Kind) -> str:
    return SqlType(kind).duckdb


def local(sql: str, settings: Settings) -> str:
    """A TIMESTAMP_LTZ as the session's wall clock shows it."""
    if settings.zone == "UTC":
        return sql
    return f"timezone({text_literal(settings.zone)}, timezone('UTC', {sql}))"


def instant(sql: str, settings: Settings) -> str:
    """The instant at which the session's wall clock shows a TIMESTAMP. A time that is skipped in spring is taken as
    after the gap; of an hour that comes twice in autumn it is the first, as Java takes it."""
    if settings.zone == "UTC":
        return sql
    zone = text_literal(settings.zone)
    direct = f"timezone('UTC', timezone({zone}, {sql}))"
    # DuckDB takes the second of two; the first is an hour earlier where that shows the same wall clock.
    earlier = f"timezone('UTC', timezone({zone}, {sql})) - INTERVAL 1 HOUR"
    return f"CASE WHEN timezone({zone}, timezone('UTC', {earlier})) = {sql} THEN {earlier} ELSE {direct} END"


def once(sql: str, template: str, place: str = "{x}") -> str:
    """`template` with the text for each `place` in it, computed once if it is long."""
    if len(sql) <= REPEATED_LENGTH_MAX or template.count(place) < 2:
        return template.replace(place, sql)
    name = f"v{sql.count('lambda ') + template.count('lambda ')}"
    return f"list_transform([{sql}], lambda {name}: {template.replace(place, name)})[1]"


class Casts:
    """Conversions of one CAST; `convert` is right for NULL, too."""

    def __init__(self, settings: Settings, is_try: bool = False, place: Place = NOWHERE) -> None:
        self._settings = settings
        self._is_try = is_try
        self._place = place

    def convert(self, sql: str, source: SqlType, target: SqlType) -> str:
        if source.same_as(target):
            return sql
        kind = target.kind
        if source.is_number and kind in INTERVALS and source.kind in INTEGERS:
            return f"CAST({sql} AS {target.duckdb})"
        if kind is Kind.BOOLEAN:
            return self._boolean(sql, source, target)
        if kind in INTEGERS:
            return self._integer(sql, source, target)
        if kind in APPROXIMATE:
            return self._approximate(sql, source, target)
        if kind is Kind.DECIMAL:
            return self._decimal(sql, source, target)
        if target.is_text:
            return self._sized_text(sql, source, target)
        if target.is_bytes:
            return self._bytes(sql, source, target)
        if kind is Kind.DATE:
            return self._date(sql, source, target)
        if kind is Kind.TIME:
            return self._time(sql, source, target)
        if target.is_timestamp:
            return self._timestamp(sql, source, target)
        found = self._collection(sql, source, target)
        if self._is_try and found != Casts(self._settings, False, self._place)._collection(sql, source, target):
            hint = "Flink gives NULL for all of it where one value fails."
            raise NotSupported(f"TRY_CAST of a {source} to {target}.", self._place, hint)
        return found

    def _refuse(self, source: SqlType, target: SqlType) -> TypeProblem:
        hint = ""
        if source.is_number and target.is_timestamp:
            hint = "TO_TIMESTAMP_LTZ(number, precision) makes an instant of a number."
        elif source.is_timestamp and target.is_number:
            hint = "UNIX_TIMESTAMP(CAST(timestamp AS STRING)) gives seconds."
        return TypeProblem(f"a {source} cannot be cast to {target.with_null()}.", self._place, hint)

    def _or_fail(self, tried: str, sql: str, source: SqlType, what: str) -> str:
        """`tried`, or an error with `what` behind the text where it is NULL for a text that is not."""
        if self._is_try:
            return tried
        failure = f"error('For input string: ''' || {sql} || '''. ' || {text_literal(what)})"
        if source.nullable:
            failure = f"CASE WHEN {sql} IS NOT NULL THEN {failure} END"
        return f"coalesce({tried}, {failure})"

    # -- numbers ---------------------------------------------------------------------------------------------------

    def _boolean(self, sql: str, source: SqlType, target: SqlType) -> str:
        if source.is_number:
            return f"({sql} <> 0)"
        if source.is_text:
            cases = "CASE WHEN lower({x}) IN " + _TRUE + " THEN TRUE WHEN lower({x}) IN " + _FALSE + " THEN FALSE END"
            return once(sql, self._or_fail(cases, "{x}", source, "It is no BOOLEAN."))
        raise self._refuse(source, target)

    def _integer(self, sql: str, source: SqlType, target: SqlType) -> str:
        kind = target.kind
        if source.kind is Kind.BOOLEAN:
            return f"CAST({sql} AS {target.duckdb})"
        if source.is_integer:
            if INTEGERS.index(source.kind) <= INTEGERS.index(kind):
                return f"CAST({sql} AS {target.duckdb})"
            return wrapped(f"CAST({sql} AS {'HUGEINT' if source.kind is Kind.BIGINT else 'BIGINT'})", kind)
        if source.kind is Kind.DECIMAL:
            whole = f"trunc({sql})" if source.scale else sql
            if source.precision - source.scale < as_decimal(target).precision:
                return f"CAST({whole} AS {target.duckdb})"
            # Java takes the lowest 64 bits of a number with more; those of 128 hold every DECIMAL.
            return wrapped(f"(CAST({whole} AS HUGEINT) & 18446744073709551615)", kind)
        if source.is_approximate:
            return once(sql, self._saturated(kind))
        if source.is_text:
            tried = f"TRY_CAST(regexp_extract({{x}}, '{_INTEGER_TEXT}', 1) AS {target.duckdb})"
            fraction = f"CASE WHEN regexp_full_match({{x}}, '{_FRACTION_TEXT}') THEN 0 END"
            tried = f"coalesce({tried}, {fraction})"
            return once(sql, self._or_fail(tried, "{x}", source, "Invalid character found."))
        raise self._refuse(source, target)

    def _saturated(self, kind: Kind) -> str:
        through = Kind.BIGINT if kind is Kind.BIGINT else Kind.INTEGER
        bits = _BITS[through] - 1
        most = (1 << bits) - 1
        text = (
            f"CASE WHEN isnan({{x}}) THEN 0 WHEN {{x}} >= {float(1 << bits)!r}::DOUBLE THEN {most}"
            f" WHEN {{x}} <= {-float(1 << bits)!r}::DOUBLE THEN ({-most} - 1)"
            f" ELSE CAST(trunc({{x}}) AS {kind_sql(through)}) END"
        )
        return f"CAST({text} AS {kind_sql(kind)})" if kind is through else wrapped(f"CAST({text} AS BIGINT)", kind)

    def _approximate(self, sql: str, source: SqlType, target: SqlType) -> str:
        if source.kind is Kind.DOUBLE:
            return once(
                sql,
                f"CASE WHEN {{x}} >= {_FLOAT_END} AND NOT isnan({{x}}) THEN 'Infinity'::FLOAT"
                f" WHEN {{x}} <= -{_FLOAT_END} THEN '-Infinity'::FLOAT ELSE CAST({{x}} AS FLOAT) END",
            )
        if source.kind is Kind.DECIMAL and source.precision > 15:
            # DuckDB divides two rounded numbers; by its text the number is rounded once.
            return f"CAST(CAST({sql} AS VARCHAR) AS {target.duckdb})"
        if source.is_number or source.kind is Kind.BOOLEAN:
            return f"CAST({sql} AS {target.duckdb})"
        if source.is_text:
            number = f"TRY_CAST(regexp_extract({{x}}, '{_DOUBLE_TEXT}', 1) AS DOUBLE)"
            if target.kind is Kind.FLOAT:
                number = self._approximate(number, SqlType(Kind.DOUBLE), target)
            return once(sql, self._or_fail(number, "{x}", source, "It is no number."))
        raise self._refuse(source, target)

    def _decimal(self, sql: str, source: SqlType, target: SqlType) -> str:
        if source.kind is Kind.BOOLEAN:
            sql, source = f"CAST({sql} AS TINYINT)", SqlType(Kind.TINYINT)
        if source.is_exact:
            held = as_decimal(source)
            rounds_up = held.scale > target.scale
            fits = held.precision - held.scale + rounds_up <= target.precision - target.scale
            return f"{'' if fits else 'TRY_'}CAST({sql} AS {target.duckdb})"
        if source.is_approximate:
            tried = f"TRY_CAST(CAST(CAST({{x}} AS DOUBLE) AS VARCHAR) AS {target.duckdb})"
            if self._is_try:
                return once(sql, tried)
            failing = "WHEN {x} IS NOT NULL THEN error('no DECIMAL is ' || {x})"
            return once(sql, f"CASE WHEN isfinite({{x}}) THEN {tried} {failing} END")
        if source.is_text:
            tried = f"TRY_CAST(regexp_extract({{x}}, '{_DECIMAL_TEXT}', 1) AS {target.duckdb})"
            return once(sql, self._or_fail(tried, "{x}", source, f"It is no number or overflows {target.with_null()}."))
        raise self._refuse(source, target)

    # -- texts and bytes -------------------------------------------------------------------------------------------

    def _sized_text(self, sql: str, source: SqlType, target: SqlType) -> str:
        text = sql if source.is_text else self.text(sql, source)
        known = source.length if source.is_text else STRING_LENGTH
        if target.kind is Kind.CHAR:
            same = source.kind is Kind.CHAR and source.length == target.length
            return text if same else f"rpad({text}, {target.length}, ' ')"
        return text if known <= target.length else f"left({text}, {target.length})"

    def text(self, sql: str, source: SqlType) -> str:
        """A value of any type as a STRING."""
        kind = source.kind
        if source.is_text:
            return sql
        if kind is Kind.BOOLEAN:
            return f"upper(CAST({sql} AS VARCHAR))"
        if source.is_exact or kind in (Kind.DATE, Kind.TIME):
            return f"CAST({sql} AS VARCHAR)"
        if source.is_approximate:
            return once(sql, _java_number(source))
        if source.is_bytes:
            broken = f"{exact.UTF_8}({sql})"
            return broken if "error(" in sql else f"coalesce(TRY(decode({sql})), {broken})"
        if source.is_timestamp:
            shown = local(sql, self._settings) if kind is Kind.TIMESTAMP_LTZ else sql
            return _timestamp_text(shown, source.precision)
        if kind is Kind.INTERVAL_MONTHS:
            sign = "CASE WHEN {x} < 0 THEN '-' ELSE '+' END"
            return once(sql, f"({sign} || (abs({{x}}) // 12) || '-' || lpad(CAST(abs({{x}}) % 12 AS VARCHAR), 2, '0'))")
        if kind is Kind.INTERVAL_MS:
            return once(sql, _duration_text())
        return self._collection_text(sql, source)

    def _collection_text(self, sql: str, source: SqlType) -> str:
        def item(value: str, of: SqlType) -> str:
            text = self.text(value, of)
            return f"coalesce({text}, 'NULL')" if of.nullable else text

        name = f"e{sql.count('lambda ')}"
        if source.kind is Kind.ARRAY:
            assert source.element is not None
            items = f"list_transform({sql}, lambda {name}: {item(name, source.element)})"
            return f"('[' || array_to_string({items}, ', ') || ']')"
        if source.kind is Kind.MAP:
            assert source.element is not None
            assert source.key is not None
            pair = f"{item(f'{name}.key', source.key)} || '=' || {item(f'{name}.value', source.element)}"
            return f"('{{' || array_to_string(list_transform(map_entries({sql}), lambda {name}: {pair}), ', ') || '}}')"
        if source.kind is Kind.ROW:
            fields = [item(f"struct_extract({{x}}, {text_literal(f.name)})", f.type) for f in source.fields]
            text = "'(' || " + " || ', ' || ".join(fields) + " || ')'"
            return once(sql, f"CASE WHEN {{x}} IS NOT NULL THEN {text} END" if source.nullable else f"({text})")
        raise NotSupported(f"a text of a {source}.", self._place)

    def _bytes(self, sql: str, source: SqlType, target: SqlType) -> str:
        if not source.is_text and not source.is_bytes:
            raise self._refuse(source, target)
        value = f"encode({sql})" if source.is_text else sql
        known = source.length if source.is_bytes else STRING_LENGTH
        if known > target.length:
            value = f"array_slice({value}, 1, {target.length})"
        if target.kind is Kind.BINARY and not (source.kind is Kind.BINARY and source.length >= target.length):
            zeros = "'" + "\\x00" * target.length + "'::BLOB"
            value = f"array_slice({value} || {zeros}, 1, {target.length})"
        return value

    # -- time ------------------------------------------------------------------------------------------------------

    def _date(self, sql: str, source: SqlType, target: SqlType) -> str:
        if source.is_timestamp:
            shown = local(sql, self._settings) if source.kind is Kind.TIMESTAMP_LTZ else sql
            if source.kind is Kind.TIMESTAMP_LTZ:
                return f"CAST({shown} AS DATE)"
            cut = f"date_trunc('millisecond', {shown})" if source.precision > 3 else shown
            return f"(DATE '1970-01-01' + CAST(epoch_ms({cut}) // 86400000 AS INTEGER))"
        if source.is_text:
            part = r"\d{1,4}"
            tried = (
                rf"CASE WHEN regexp_full_match({{x}}, ' *{part}-\d{{1,2}}-\d{{1,2}}( .*)?')"
                rf" THEN TRY_CAST(regexp_extract({{x}}, '{part}-\d{{1,2}}-\d{{1,2}}') AS DATE)"
                rf" WHEN regexp_full_match({{x}}, ' *{part}-\d{{1,2}} *') THEN TRY_CAST(trim({{x}}) || '-1' AS DATE)"
                rf" WHEN regexp_full_match({{x}}, ' *{part} *') THEN TRY_CAST(trim({{x}}) || '-1-1' AS DATE) END"
            )
            return once(sql, self._or_fail(tried, "{x}", source, "It is no DATE."))
        raise self._refuse(source, target)

    def _time(self, sql: str, source: SqlType, target: SqlType) -> str:
        digits = min(target.precision, 3)
        if source.is_timestamp:
            shown = local(sql, self._settings) if source.kind is Kind.TIMESTAMP_LTZ else sql
            return _cut_time(f"CAST({shown} AS TIME)", digits)
        if source.kind is Kind.TIME:
            return sql if source.precision <= target.precision else _cut_time(sql, digits)
        if source.is_text:
            fraction = rf"(?:\.\d{{1,{digits}}})?" if digits else ""
            hour = r"(?:[01]?\d|2[0-3])"
            clock = rf"{hour}:\d{{1,2}}:\d{{1,2}}"
            tried = (
                rf"CASE WHEN regexp_full_match({{x}}, ' *{clock}(\.\d*)? *')"
                rf" THEN TRY_CAST(regexp_extract({{x}}, '{clock}{fraction}') AS TIME)"
                r" WHEN regexp_full_match({x}, ' *" + hour + r":\d{1,2} *') THEN TRY_CAST(trim({x}) || ':00' AS TIME)"
                r" WHEN regexp_full_match({x}, ' *" + hour + r" *') THEN TRY_CAST(trim({x}) || ':00:00' AS TIME) END"
            )
            return once(sql, self._or_fail(tried, "{x}", source, "Expected format: HH:mm:ss[.fff]"))
        raise self._refuse(source, target)

    def _timestamp(self, sql: str, source: SqlType, target: SqlType) -> str:
        is_instant = target.kind is Kind.TIMESTAMP_LTZ
        if source.is_timestamp:
            if source.kind is target.kind:
                return _cut_timestamp(sql, source.precision, target)
            sql = instant(sql, self._settings) if is_instant else local(sql, self._settings)
            return _cut_timestamp(sql, source.precision, target)
        if source.kind is Kind.DATE:
            sql = f"CAST({sql} AS {target.duckdb})"
        elif source.kind is Kind.TIME:
            sql = f"CAST(DATE '1970-01-01' + {sql} AS {target.duckdb})"
        elif source.is_text:
            digits = min(target.precision, 9)
            fraction = rf"(?:\.\d{{1,{digits}}})?" if digits else ""
            day, clock = r"\d{4}-\d{1,2}-\d{1,2}", r" \d{1,2}:\d{1,2}:\d{1,2}"
            cut = f"regexp_extract({{x}}, '^({day}(?:{clock}{fraction})?)(?:\\.\\d*|\\d*)$', 1)"
            # Java takes the last day of a month for the 29th to 31st that it does not have.
            tried = (
                f"CASE WHEN {cut} <> '' THEN coalesce(TRY_CAST({cut} AS {target.duckdb}), {_clamped(cut, target)}) END"
            )
            sql = once(sql, self._or_fail(tried, "{x}", source, "It is no TIMESTAMP."))
        else:
            raise self._refuse(source, target)
        return once(sql, instant("{x}", self._settings)) if is_instant else sql

    # -- collections -----------------------------------------------------------------------------------------------

    def _collection(self, sql: str, source: SqlType, target: SqlType) -> str:
        name = f"e{sql.count('lambda ')}"
        if source.kind is not target.kind or target.kind is Kind.MULTISET:
            raise self._refuse(source, target)
        if target.kind is Kind.ARRAY:
            assert source.element is not None
            assert target.element is not None
            item = self.convert(name, source.element, target.element)
            return sql if item == name else f"list_transform({sql}, lambda {name}: {item})"
        if target.kind is Kind.MAP:
            assert source.element is not None
            assert target.element is not None
            assert source.key is not None
            assert target.key is not None
            keys = self.convert(name, source.key, target.key)
            values = self.convert(name, source.element, target.element)
            if keys == values == name:
                return sql
            return once(
                sql,
                f"map(list_transform(map_keys({{x}}), lambda {name}: {keys}),"
                f" list_transform(map_values({{x}}), lambda {name}: {values}))",
            )
        if target.kind is Kind.ROW and len(source.fields) == len(target.fields):
            parts = [
                f"{quoted(to.name)} := "
                + self.convert(f"struct_extract({{x}}, {text_literal(mine.name)})", mine.type, to.type)
                for mine, to in zip(source.fields, target.fields, strict=True)
            ]
            packed = f"struct_pack({', '.join(parts)})"
            return once(sql, f"CASE WHEN {{x}} IS NOT NULL THEN {packed} END" if source.nullable else packed)
        raise self._refuse(source, target)


def _clamped(cut: str, target: SqlType) -> str:
    """The text `cut` with the last day its month has; only asked where the day as it stands is none."""
    month = f"TRY_CAST(regexp_extract({cut}, '^(\\d{{4}}-\\d{{1,2}})-(?:29|30|31)', 1) || '-1' AS DATE)"
    rest = f"regexp_extract({cut}, ' (.*)$', 1)"
    clock = f"CASE WHEN {rest} = '' THEN TIME '00:00:00' ELSE TRY_CAST({rest} AS TIME) END"
    return f"CAST(last_day({month}) + {clock} AS {target.duckdb})"


def _cut_time(sql: str, digits: int) -> str:
    step = 10 ** (6 - digits)
    return once(sql, f"({{x}} - to_microseconds(epoch_us({{x}}) % {step}))")


def _cut_timestamp(sql: str, precision: int, target: SqlType) -> str:
    """With no more digits of a second than `target` has."""
    digits = target.precision
    if digits >= precision:
        same = (digits > 6) == (precision > 6)
        return sql if same else f"CAST({sql} AS {target.duckdb})"
    if digits >= 6:
        return f"CAST({sql} AS {target.duckdb})"
    if precision > 6:
        sql = f"CAST({sql} AS TIMESTAMP)"
    if digits <= 3:
        # Milliseconds are cut downwards, what is more towards 1970. DuckDB's epoch_ms rounds.
        step = 10 ** (3 - digits)
        whole = f"date_trunc('millisecond', {sql})" if precision > 3 else sql
        return whole if step == 1 else f"make_timestamp(epoch_ms({whole}) // {step} * {step * 1000})"
    return once(sql, f"make_timestamp(epoch_us({{x}}) - (epoch_us({{x}}) % {10 ** (6 - digits)}))")


def _timestamp_text(sql: str, precision: int) -> str:
    form = "%Y-%m-%d %H:%M:%S"
    if precision == 0:
        return f"strftime({sql}, '{form}')"
    if precision in (3, 6, 9):
        return f"strftime({sql}, '{form}.%{ {3: 'g', 6: 'f', 9: 'n'}[precision] }')"
    whole = 6 if precision < 6 else 9
    return f"left(strftime({sql}, '{form}.%{'f' if whole == 6 else 'n'}'), {-(whole - precision)})"


def _duration_text() -> str:
    def two(text: str, of: int) -> str:
        return f"lpad(CAST({text} % {of} AS VARCHAR), 2, '0')"

    ms = "abs({x})"
    clock = " || ':' || ".join(two(f"({ms} // {unit})", of) for unit, of in ((3600000, 24), (60000, 60), (1000, 60)))
    fraction = f"lpad(CAST({ms} % 1000 AS VARCHAR), 3, '0')"
    return f"(CASE WHEN {{x}} < 0 THEN '-' ELSE '+' END || ({ms} // 86400000) || ' ' || {clock} || '.' || {fraction})"


def _java_number(of: SqlType) -> str:
    """`Double.toString`: plain from 0.001 to below ten million, else with an exponent. Digits are the fewest that tell
    the number from others, as Java has them from 19 on; older ones, Flink's among them, sometimes print one more."""
    t = "CAST(abs({x}) AS VARCHAR)"
    sign = "CASE WHEN {x} < 0 THEN '-' ELSE '' END"
    mantissa, exponent = f"split_part({t}, 'e', 1)", f"CAST(CAST(split_part({t}, 'e', 2) AS INTEGER) AS VARCHAR)"
    with_exponent = f"{mantissa} || CASE WHEN contains({mantissa}, '.') THEN '' ELSE '.0' END || 'E' || {exponent}"
    digits = f"rtrim(replace({t}, '.', ''), '0')"
    large = (
        f"left({digits}, 1) || '.' || CASE WHEN length({digits}) = 1 THEN '0' ELSE substr({digits}, 2) END"
        f" || 'E' || (strpos({t}, '.') - 2)"
    )
    small_digits = f"ltrim(replace({t}, '.', ''), '0')"
    small = (
        f"left({small_digits}, 1) || '.' ||"
        f" CASE WHEN length({small_digits}) = 1 THEN '0' ELSE substr({small_digits}, 2) END || 'E-4'"
    )
    least = "4.9E-324" if of.kind is Kind.DOUBLE else "1.4E-45"
    step = "4.9e-324::DOUBLE" if of.kind is Kind.DOUBLE else "1.4e-45::FLOAT"
    return (
        "CASE WHEN {x} = 0 OR (abs({x}) >= 0.001 AND abs({x}) < 10000000) THEN CAST({x} AS VARCHAR)"
        " WHEN isnan({x}) THEN 'NaN' WHEN isinf({x}) THEN "
        f"{sign} || 'Infinity' WHEN abs({{x}}) = {step} THEN {sign} || '{least}'"
        f" WHEN contains({t}, 'e') THEN {sign} || {with_exponent} WHEN abs({{x}}) >= 1 THEN {sign} || {large}"
        f" ELSE {sign} || {small} END"
    )
