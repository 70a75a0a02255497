"""Temporal functions: "Temporal Functions" of Flink's documentation, as Flink 2.3 answers when it is asked.

What reads a clock (CURRENT_TIMESTAMP and its like) reads the row's time of arrival, the hidden column `$at`, so that a
replay repeats itself. Hours, minutes and seconds before 1970 come out as Flink has them: cut towards zero from 1970.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.casts import instant, local, wrapped
from streamkit_sql.expressions.functions import java_dates
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_int,
    constant_text,
    each_once,
    null_if_any,
    over,
    takes,
)
from streamkit_sql.types import (
    BIGINT,
    DATE,
    INTEGER,
    STRING,
    TIME,
    Kind,
    SqlType,
    text_literal,
    timestamp,
    timestamp_ltz,
)

_ARRIVED: Final = "$at"
_WATERMARK: Final = "$wm"
_NO_WATERMARK_MS: Final = -(2**62)
_LONG_MIN: Final = "CAST('-9223372036854775808' AS BIGINT)"
_UNIT_MS: Final = {"MILLISECOND": 1, "SECOND": 1000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
_UNIT_MONTHS: Final = {"MONTH": 1, "QUARTER": 3, "YEAR": 12, "DECADE": 120, "CENTURY": 1200, "MILLENNIUM": 12_000}
_FIRST_MS: Final = -62_167_219_200_000  # the year 0
_LAST_MS: Final = 253_402_300_799_999  # the end of 9999


def _ms(bound: Bound) -> str:
    """A point in time, or a time of day, in ms; what is less is cut away, where DuckDB's `epoch_ms` rounds."""
    if bound.type.kind is Kind.TIME:
        return f"epoch_ms(DATE '1970-01-01' + {bound.sql})"
    if bound.type.is_timestamp and bound.type.precision > 3:
        return f"epoch_ms(date_trunc('millisecond', {bound.sql}))"
    return f"epoch_ms({bound.sql})"


def _date(shown: str, bound: Bound) -> str:
    """The day of a wall clock. Flink cuts days towards 1970: 31 December 1969, 10:00, is 1 January 1970 to it."""
    if bound.type.kind is Kind.DATE:
        return shown
    cut = f"date_trunc('millisecond', {shown})" if bound.type.precision > 3 else shown
    return f"(DATE '1970-01-01' + CAST(epoch_ms({cut}) // 86400000 AS INTEGER))"


def _local(bound: Bound, call: FunctionCall) -> Bound:
    """What the session's clock shows, where it is an instant."""
    if bound.type.kind is not Kind.TIMESTAMP_LTZ:
        return bound
    of = timestamp(bound.type.precision, nullable=bound.type.nullable)
    return over(f"({local(bound.sql, call.settings)})", of, bound)


def _back(sql: str, bound: Bound, call: FunctionCall) -> str:
    """The text of a wall clock as `bound` has it again."""
    return f"({instant(sql, call.settings)})" if bound.type.kind is Kind.TIMESTAMP_LTZ else sql


# -- EXTRACT ---------------------------------------------------------------------------------------------------------

_OF_DATES: Final = {
    "YEAR": "year({x})",
    "QUARTER": "quarter({x})",
    "MONTH": "month({x})",
    "WEEK": "weekofyear({x})",
    "DAY": "day({x})",
    "DOY": "dayofyear({x})",
    "DOW": "(dayofweek({x}) + 1)",
    "ISODOW": "isodow({x})",
    "ISOYEAR": "isoyear({x})",
    "DECADE": "(year({x}) // 10)",
    "CENTURY": "((year({x}) + 99) // 100)",
    "MILLENNIUM": "((year({x}) + 999) // 1000)",
}
_OF_MS: Final = {
    "HOUR": "({ms} % 86400000 // 3600000)",
    "MINUTE": "({ms} % 3600000 // 60000)",
    "SECOND": "({ms} % 60000 // 1000)",
    "MILLISECOND": "({ms} % 1000)",
    "EPOCH": "({ms} // 1000)",
}
_SHORT: Final = {
    "YEAR": "YEAR",
    "QUARTER": "QUARTER",
    "MONTH": "MONTH",
    "WEEK": "WEEK",
    "DAYOFYEAR": "DOY",
    "DAYOFMONTH": "DAY",
    "DAYOFWEEK": "DOW",
    "HOUR": "HOUR",
    "MINUTE": "MINUTE",
    "SECOND": "SECOND",
}


def _extract(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    unit = call.words[0].upper() if call.words else _SHORT[call.name]
    sql = _interval_part(value, unit) if value.type.is_interval else _part(_local(value, call), value, unit)
    if sql is None:
        raise TypeProblem(f"{value.type} has no {unit}", call.place)
    return over(f"CAST({sql} AS BIGINT)", null_if_any(BIGINT, value), value)


def _part(shown: Bound, value: Bound, unit: str) -> str | None:
    kind = value.type.kind
    if unit in _OF_DATES and kind is not Kind.TIME:
        return each_once(_date(shown.sql, value), _OF_DATES[unit])
    if unit in _OF_MS:
        return "0" if kind is Kind.DATE and not value.type.nullable else _OF_MS[unit].replace("{ms}", _ms(shown))
    if unit in ("MICROSECOND", "NANOSECOND") and value.type.is_timestamp:
        return (
            f"(epoch_us({shown.sql}) % 1000000)" if unit == "MICROSECOND" else f"(epoch_ns({shown.sql}) % 1000000000)"
        )
    return None


def _interval_part(value: Bound, unit: str) -> str | None:
    if value.type.kind is Kind.INTERVAL_MONTHS:
        return {"YEAR": f"({value.sql} // 12)", "MONTH": f"({value.sql} % 12)"}.get(unit)
    if unit == "DAY":
        return f"({value.sql} // 86400000)"
    return _OF_MS[unit].replace("{ms}", value.sql) if unit in _OF_MS else None


# -- FLOOR and CEIL TO a unit ----------------------------------------------------------------------------------------


def rounded(call: FunctionCall) -> Bound:
    """FLOOR(x TO unit), CEIL(x TO unit) of dates, times and timestamps. Weeks begin on Sunday, centuries in year 1.

    By weeks and more Flink looks at the day alone: CEIL(1 May, 10:00 TO MONTH) is 1 May, and that of a century's first
    day the next one's (`DateTimeUtils.julianDateFloor`).
    """
    value = call.arguments[0]
    unit = call.words[0].upper()
    if unit not in _UNIT_MS and unit not in _UNIT_MONTHS and unit != "WEEK":
        raise NotSupported(f"{call.name} TO {unit}", call.place)
    ceils = call.name != "FLOOR"
    if value.type.kind is Kind.TIME:
        return _rounded_time(value, unit, ceils, call)
    if not value.type.is_timestamp and value.type.kind is not Kind.DATE:
        raise TypeProblem(f"{call.name} TO {unit} takes dates, times and timestamps, not {value.type}", call.place)
    if value.type.kind is Kind.DATE and unit in _UNIT_MS:
        return value
    shown = _local(value, call)
    floor = _floor("{x}", unit)
    template = floor
    if ceils:
        months = _UNIT_MONTHS.get(unit)
        step = "to_days(7)" if unit == "WEEK" else f"to_months({months})" if months else ""
        step = step or f"to_milliseconds({_UNIT_MS[unit]})"
        template = f"CASE WHEN {floor} = {{x}} THEN {floor} ELSE {floor} + {step} END"
        if unit in ("CENTURY", "MILLENNIUM"):
            template = f"({floor} + {step})"
    day_or_clock = shown.sql if unit in _UNIT_MS else f"CAST({_date(shown.sql, value)} AS TIMESTAMP)"
    sql = _back(each_once(day_or_clock, template), value, call)
    of = value.type
    return over(f"CAST({sql} AS {of.duckdb})", of, value)


def _floor(x: str, unit: str) -> str:
    if unit == "WEEK":
        return f"(date_trunc('week', {x} + to_days(1)) - to_days(1))"
    if unit in ("CENTURY", "MILLENNIUM"):
        years = _UNIT_MONTHS[unit] // 12
        return f"make_timestamp((year({x}) - 1) // {years} * {years} + 1, 1, 1, 0, 0, 0)"
    return f"date_trunc('{unit.lower()}', {x})"


def _rounded_time(value: Bound, unit: str, ceils: bool, call: FunctionCall) -> Bound:
    step = _UNIT_MS.get(unit)
    if step is None or unit == "DAY":
        raise TypeProblem(f"TIME has no {unit}", call.place)
    ms = _ms(value)
    whole = f"(({ms} + {step - 1}) // {step} * {step})" if ceils else f"({ms} // {step} * {step})"
    sql = f"CAST(make_timestamp({whole} * 1000) AS TIME)"
    return over(sql, value.type, value)


# -- adding and subtracting ------------------------------------------------------------------------------------------


def _added(call: FunctionCall) -> Bound:
    """TIMESTAMPADD(unit, count, point)."""
    count, point = call.arguments
    unit = call.words[0].upper()
    kind = point.type.kind
    if unit in _UNIT_MONTHS:
        if kind is Kind.TIME:
            raise TypeProblem(f"TIME has no {unit}", call.place)
        sql = (
            f"CAST({point.sql} + to_months(CAST({count.sql} * {_UNIT_MONTHS[unit]} AS INTEGER)) AS {point.type.duckdb})"
        )
        return over(sql, null_if_any(point.type, *call.arguments), *call.arguments)
    step = 7 * _UNIT_MS["DAY"] if unit == "WEEK" else _UNIT_MS.get(unit)
    if step is None:
        raise NotSupported(f"TIMESTAMPADD by {unit}", call.place)
    if kind is Kind.DATE and unit in ("DAY", "WEEK"):
        days = step // _UNIT_MS["DAY"]
        sql = f"({point.sql} + CAST({count.sql} * {days} AS INTEGER))"
        return over(sql, null_if_any(DATE, *call.arguments), *call.arguments)
    if kind is Kind.DATE and unit == "MILLISECOND":
        raise TypeProblem("DATE has no MILLISECOND", call.place)
    of = null_if_any(timestamp(6) if kind is Kind.DATE else point.type, *call.arguments)
    ms = f"CAST({count.sql} AS BIGINT) * {step}"
    if kind is Kind.TIME:
        sql = f"CAST(make_timestamp(((({_ms(point)} + {ms}) % 86400000 + 86400000) % 86400000) * 1000) AS TIME)"
    elif of.precision > 6:
        sql = f"make_timestamp_ns(epoch_ns({point.sql}) + {ms} * 1000000)"
    else:
        if unit == "MILLISECOND" and of.precision < 3:
            of = SqlType(of.kind, of.nullable, precision=3)
        sql = f"(CAST({point.sql} AS TIMESTAMP) + to_microseconds({ms} * 1000))"
    return over(sql, of, *call.arguments)


def _subtracted(call: FunctionCall) -> Bound:
    """TIMESTAMPDIFF(unit, from, to): whole units, cut towards zero; an INT, which wraps."""
    start, stop = call.arguments
    unit = call.words[0].upper()
    kinds = {start.type.kind, stop.type.kind}
    if (Kind.TIMESTAMP_LTZ in kinds and len(kinds) > 1) or (Kind.TIME in kinds and len(kinds) > 1):
        raise TypeProblem(f"TIMESTAMPDIFF of {start.type} and {stop.type}", call.place, "Cast one of them.")
    if unit in _UNIT_MONTHS:
        months = _months(stop, start)
        sql = f"CAST({months} // {_UNIT_MONTHS[unit]} AS INTEGER)"
    else:
        step = 7 * _UNIT_MS["DAY"] if unit == "WEEK" else _UNIT_MS.get(unit)
        if step is None:
            raise NotSupported(f"TIMESTAMPDIFF in {unit}", call.place)
        difference = f"({_ms(stop)} - {_ms(start)})"
        # Flink cuts to seconds first, also for milliseconds.
        units = f"({difference} // 1000 * 1000)" if step == 1 else f"({difference} // {step})"
        sql = wrapped(units, Kind.INTEGER) if step <= 1000 else f"CAST({units} AS INTEGER)"
    return over(sql, null_if_any(INTEGER, start, stop), start, stop)


def _months(stop: Bound, start: Bound) -> str:
    """Whole months between days; one less where the day is the same and the clock says less: Calcite's
    `subtractMonths`, which does not do so the other way round."""

    def between(late: str, early: str) -> str:
        raw = f"((year({late}) - year({early})) * 12 + month({late}) - month({early}))"
        return f"({raw} - CASE WHEN {early} + to_months({raw}) > {late} THEN 1 ELSE 0 END)"

    d0, d1 = f"CAST({stop.sql} AS DATE)", f"CAST({start.sql} AS DATE)"
    months = f"CAST(CASE WHEN {d0} >= {d1} THEN {between(d0, d1)} ELSE -{between(d1, d0)} END AS INTEGER)"
    if stop.type.kind is Kind.DATE:
        return months
    clock0, clock1 = (f"({_ms(each)} - epoch_ms(CAST({each.sql} AS DATE)))" for each in (stop, start))
    return f"({months} - CASE WHEN {d1} + to_months({months}) = {d0} AND {clock0} < {clock1} THEN 1 ELSE 0 END)"


# -- texts -----------------------------------------------------------------------------------------------------------


def _pattern(call: FunctionCall, index: int, *, reads: bool = True) -> str:
    """A constant pattern whose letters are all known, where it `reads` as such that texts are read by."""
    if index >= len(call.arguments):
        return java_dates.DEFAULT
    pattern = constant_text(call.arguments[index])
    if pattern is None:
        raise NotSupported(f"a pattern of {call.name} that is no literal", call.place)
    try:
        parts = java_dates.parts_of(pattern)
        if reads:
            java_dates.check_readable(parts)
    except java_dates.UnknownPatternError as problem:
        raise NotSupported(f"{problem} in the pattern '{pattern}'", call.place) from None
    return pattern


def _written(shown: str, pattern: str, call: FunctionCall) -> str:
    try:
        pieces = java_dates.duckdb_text(pattern, "{x}")
    except java_dates.UnknownPatternError as problem:
        raise NotSupported(f"{problem} in the pattern '{pattern}'", call.place) from None
    texts = [f"strftime({{x}}, {text_literal(text)})" if is_format else text for is_format, text in pieces]
    # The empty pattern gives the empty text, but NULL for NULL.
    return each_once(shown, " || ".join(texts) or "left(CAST({x} AS VARCHAR), 0)")


def _date_format(call: FunctionCall) -> Bound:
    value = call.arguments[0]
    pattern = _pattern(call, 1, reads=False)
    shown = _leniently_read(value.sql, java_dates.DEFAULT) if value.type.is_text else _local(value, call).sql
    return over(_written(shown, pattern, call), STRING, *call.arguments)


def _leniently_read(text: str, pattern: str) -> str:
    """SimpleDateFormat's reading, a TIMESTAMP; NULL where it fails. The usual form is read in DuckDB."""
    slow = f"flink_read_leniently({{x}}, {text_literal(pattern)})"
    if pattern != java_dates.DEFAULT:
        return slow.replace("{x}", text)
    digits = "^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
    fast = f"CASE WHEN regexp_matches({{x}}, '{digits}') THEN TRY_CAST(left({{x}}, 19) AS TIMESTAMP) END"
    return each_once(text, f"coalesce({fast}, {slow})")


def _read(text: str, pattern: str, *, is_default: bool) -> str:
    """DateTimeFormatter's reading, a TIMESTAMP cut to ms; NULL where it fails. Forms of fixed widths are read in
    DuckDB; what that refuses may still be right (30 February is taken for the 29th)."""
    slow = "flink_to_timestamp({x})" if is_default else f"flink_read({{x}}, {text_literal(pattern)})"
    if is_default:
        expression, form = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?", ""
    elif (fixed := java_dates.fixed_form(pattern)) is not None:
        expression, form = fixed
    else:
        return slow.replace("{x}", text)
    read = f"try_strptime({{x}}, {text_literal(form)})" if form else "TRY_CAST(left({x}, 23) AS TIMESTAMP)"
    if not form or "%f" in form:
        read = f"date_trunc('millisecond', {read})"
    guard = text_literal(expression).replace("{", "\x02").replace("}", "\x03")
    fast = f"CASE WHEN regexp_full_match({{x}}, {guard}) THEN {read} END"
    return each_once(text, f"coalesce({fast}, {slow})").replace("\x02", "{").replace("\x03", "}")


def _to_timestamp(call: FunctionCall) -> Bound:
    pattern = _given_pattern(call)
    if pattern is None:
        return over("CAST(NULL AS TIMESTAMP)", timestamp(3), *call.arguments)
    sql = _read(call.arguments[0].sql, pattern, is_default=len(call.arguments) == 1)
    return over(sql, timestamp(3), *call.arguments)


def _given_pattern(call: FunctionCall) -> str | None:
    """None for a pattern that is NULL."""
    if len(call.arguments) > 1 and call.arguments[1].is_constant and call.arguments[1].value is None:
        return None
    return _pattern(call, 1)


def _to_date(call: FunctionCall) -> Bound:
    text = call.arguments[0].sql
    if len(call.arguments) == 1:
        digits = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
        sql = each_once(
            text,
            f"CASE WHEN regexp_full_match({{x}}, '{digits}') THEN TRY_CAST({{x}} AS DATE)"
            " ELSE flink_to_date({x}) END",
        )
    else:
        pattern = _given_pattern(call)
        # What cannot be read is the least BIGINT's day to Flink, which wraps.
        sql = "NULL" if pattern is None else f"coalesce({_leniently_read(text, pattern)}, DATE '5471-09-27')"
        sql = f"(CASE WHEN {text} IS NOT NULL THEN CAST({sql} AS DATE) END)"
    return over(sql, DATE, *call.arguments)


def _to_ltz(call: FunctionCall) -> Bound:
    first, *rest = call.arguments
    if first.type.is_text:
        return _text_to_ltz(call)
    digits = constant_int(rest[0]) if rest else 3
    if digits is None or not 0 <= digits <= 6:
        raise NotSupported("TO_TIMESTAMP_LTZ with a precision that is not a literal from 0 to 6", call.place)
    of = timestamp_ltz(max(digits, 3))
    per_second = 10**digits
    first_unit, last_unit = _FIRST_MS * per_second // 1000, (_LAST_MS + 1) * per_second // 1000 - 1
    if first.type.is_approximate:
        micros = f"CAST(floor({{x}} * {1_000_000 // per_second}) AS BIGINT)"
        kept = micros if of.precision > 3 else f"CAST(floor({{x}} * {1_000_000 // per_second} / 1000) AS BIGINT) * 1000"
        number = first.sql
    else:
        kept = f"CAST({{x}} AS BIGINT) * {1_000_000 // per_second}"
        number = f"CAST(trunc({first.sql}) AS BIGINT)" if first.type.kind is Kind.DECIMAL else first.sql
    sql = each_once(number, f"CASE WHEN {{x}} BETWEEN {first_unit} AND {last_unit} THEN make_timestamp({kept}) END")
    return over(sql, of, *call.arguments)


def _text_to_ltz(call: FunctionCall) -> Bound:
    """In UTC where no zone is given, whatever the session's is; a text that cannot be read fails the query."""
    text = call.arguments[0]
    read = _read(text.sql, _pattern(call, 1), is_default=len(call.arguments) == 1)
    if len(call.arguments) > 2:
        zone = constant_text(call.arguments[2])
        if zone is None:
            raise NotSupported("a zone of TO_TIMESTAMP_LTZ that is no literal", call.place)
        if zone not in zoneinfo.available_timezones():
            raise TypeProblem(f"there is no zone {zone}", call.place)
        read = f"timezone('UTC', timezone({text_literal(zone)}, {read}))"
    message = f"error('Text ''' || {text.sql} || ''' could not be parsed')"
    sql = f"(CASE WHEN {text.sql} IS NOT NULL THEN coalesce({read}, {message}) END)"
    return over(sql, timestamp_ltz(3), *call.arguments)


def _unix_timestamp(call: FunctionCall) -> Bound:
    if not call.arguments:
        return _clock(f'(epoch_ms("{_ARRIVED}") // 1000)', BIGINT)
    text = call.arguments[0]
    read = _leniently_read(text.sql, _pattern(call, 1))
    if call.settings.zone != "UTC":  # an hour that comes twice is the second one here
        read = f"timezone('UTC', timezone({text_literal(call.settings.zone)}, {read}))"
    sql = f"coalesce(epoch_ms({read}) // 1000, {_LONG_MIN})"
    if text.type.nullable:
        sql = f"CASE WHEN {text.sql} IS NOT NULL THEN {sql} END"
    return over(f"({sql})", null_if_any(BIGINT, *call.arguments), *call.arguments)


def _from_unixtime(call: FunctionCall) -> Bound:
    seconds = call.arguments[0]
    pattern = _pattern(call, 1, reads=False)
    if any(part.letter and part.letter in "uLQqAeYwGnN" for part in java_dates.parts_of(pattern)):
        raise NotSupported(f"a letter in the pattern '{pattern}' that FROM_UNIXTIME reads otherwise", call.place)
    ms = f"CAST({seconds.sql} AS BIGINT) * 1000"
    if seconds.type.kind is Kind.BIGINT:
        ms = wrapped(f"CAST({seconds.sql} AS HUGEINT) * 1000", Kind.BIGINT)
    shown = local(f"make_timestamp_ms({ms})", call.settings)
    return over(_written(f"({shown})", pattern, call), STRING, *call.arguments)


def _convert_tz(call: FunctionCall) -> Bound:
    text, start, stop = (argument.sql for argument in call.arguments)
    return over(f"flink_convert_tz({text}, {start}, {stop})", STRING, *call.arguments)


# -- clocks ----------------------------------------------------------------------------------------------------------


def _clock(sql: str, of: SqlType) -> Bound:
    return Bound(sql, of.with_null(False), frozenset((_ARRIVED,)))


def _now(call: FunctionCall) -> Bound:
    """CURRENT_* and LOCAL* in ms; those that are no instants show the session's clock."""
    arrived = f"""date_trunc('millisecond', "{_ARRIVED}")"""
    shown = local(arrived, call.settings)
    match call.name:
        case "CURRENT_DATE":
            return _clock(f"CAST({shown} AS DATE)", DATE)
        case "CURRENT_TIME" | "LOCALTIME":
            return _clock(f"CAST({shown} AS TIME)", TIME)
        case "LOCALTIMESTAMP":
            return _clock(f"CAST({shown} AS TIMESTAMP)", timestamp(3))
    return _clock(arrived, timestamp_ltz(3))


def _current_watermark(call: FunctionCall) -> Bound:
    if len(call.arguments) != 1 or call.arguments[0].time != "event":
        raise TypeProblem("CURRENT_WATERMARK takes one argument, which must be a rowtime attribute", call.place)
    (time,) = call.arguments
    column = f'"{_WATERMARK}"'
    sql = f"(CASE WHEN {column} > {_NO_WATERMARK_MS} THEN make_timestamp({column} * 1000) END)"
    of = SqlType(time.type.kind, precision=3)
    return Bound(sql, of, frozenset((_WATERMARK,)))


_EXTRACT: Final = checked(_extract, takes("DATETIME"), takes("INTERVAL"))
_NOW: Final = checked(_now, takes())

RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "EXTRACT": _EXTRACT,
        **dict.fromkeys(_SHORT, _EXTRACT),
        "TIMESTAMPADD": checked(_added, takes("ANY INTEGER", "DATETIME")),
        "TIMESTAMPDIFF": checked(_subtracted, takes("DATETIME", "DATETIME")),
        "DATE_FORMAT": checked(_date_format, takes("TIMESTAMP", "CHARACTER"), takes("CHARACTER", "CHARACTER")),
        "TO_TIMESTAMP": checked(_to_timestamp, takes("CHARACTER", "CHARACTER", optional=1)),
        "TO_DATE": checked(_to_date, takes("CHARACTER", "CHARACTER", optional=1)),
        "TO_TIMESTAMP_LTZ": checked(
            _to_ltz,
            takes("NUMERIC", "INTEGER", optional=1),
            takes("CHARACTER", "CHARACTER", "CHARACTER", optional=2),
        ),
        "UNIX_TIMESTAMP": checked(_unix_timestamp, takes("CHARACTER", "CHARACTER", optional=2)),
        "FROM_UNIXTIME": checked(_from_unixtime, takes("ANY INTEGER", "CHARACTER", optional=1)),
        "CONVERT_TZ": checked(_convert_tz, takes("CHARACTER", "CHARACTER", "CHARACTER")),
        **dict.fromkeys(
            (
                "CURRENT_DATE",
                "CURRENT_TIME",
                "LOCALTIME",
                "LOCALTIMESTAMP",
                "CURRENT_TIMESTAMP",
                "NOW",
                "CURRENT_ROW_TIMESTAMP",
            ),
            _NOW,
        ),
        "CURRENT_WATERMARK": _current_watermark,
    }
)
