"""String functions: "String Functions" of Flink's documentation, as Flink 2.3 answers when it is asked.

Positions and lengths are in code points, but in OVERLAY, LPAD and RPAD in UTF-16 units, which may cut a character
beyond the BMP in halves that print as `?`: texts beyond ASCII are for Python there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.casts import cast
from streamkit_sql.expressions.coercion import merged_type
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_int,
    constant_text,
    each_once,
    lengthened,
    null_if_any,
    over,
    simple,
    takes,
)
from streamkit_sql.types import (
    APPROXIMATE,
    BIGINT,
    BOOLEAN,
    BYTES_TYPE,
    INTEGER,
    STRING,
    Kind,
    SqlType,
    array,
    text_literal,
)

_TEXT: Final = takes("CHARACTER")
_TWO_TEXTS: Final = takes("CHARACTER", "CHARACTER")


def _cased(name: str) -> FunctionRule:
    """DuckDB's case mappings are one character to one; Java's, as Python's, make SS of ß."""

    def build(call: FunctionCall) -> Bound:
        (text,) = call.arguments
        sql = each_once(
            text.sql, f"CASE WHEN strlen({{x}}) = length({{x}}) THEN {name}({{x}}) ELSE flink_{name}({{x}}) END"
        )
        return over(sql, text.type, text)

    return checked(build, _TEXT)


def _trim(call: FunctionCall) -> Bound:
    text = call.arguments[0]
    side = call.words[0] if call.words else "BOTH"
    function = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[side]
    return _trimmed(function, call, lengthened(text.type))


def _trimmed(function: str, call: FunctionCall, of: SqlType) -> Bound:
    text, *rest = call.arguments
    characters = rest[0].sql if rest else "' '"
    return over(f"{function}({text.sql}, {characters})", null_if_any(of, *call.arguments), *call.arguments)


def _one_side(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        return _trimmed(function, call, lengthened(call.arguments[0].type))

    return checked(build, takes("CHARACTER", "CHARACTER", optional=1))


def _btrim(call: FunctionCall) -> Bound:
    return _trimmed("trim", call, STRING)


def _overlay(call: FunctionCall) -> Bound:
    text, put, start, *rest = call.arguments
    count = rest[0].sql if rest else f"length({put.sql})"
    t, p, s = text.sql, put.sql, start.sql
    tail = f"CASE WHEN {count} > 0 AND {s} + {count} <= length({t}) THEN substring({t}, {s} + {count}) ELSE '' END"
    sql = f"(CASE WHEN {s} <= 0 OR {s} > length({t}) THEN {t} ELSE left({t}, {s} - 1) || {p} || {tail} END)"
    slow = f"flink_overlay({t}, {p}, {s}, {rest[0].sql if rest else 'CAST(NULL AS INTEGER)'})"
    sql = f"(CASE WHEN {_is_ascii(t, p)} THEN {sql} ELSE {slow} END)"
    of = lengthened(text.type, put.type.length)
    return over(_if_none_is_null(sql, call), null_if_any(of, *call.arguments), *call.arguments)


def _if_none_is_null(sql: str, call: FunctionCall) -> str:
    conditions = [f"{argument.sql} IS NOT NULL" for argument in call.arguments if argument.type.nullable]
    return f"(CASE WHEN {' AND '.join(conditions)} THEN {sql} END)" if conditions else sql


def _substring(call: FunctionCall) -> Bound:
    """A start before the text's first character gives the empty text, a negative length NULL: Flink's substringSQL."""
    text, start, *rest = call.arguments
    t, s = text.sql, start.sql
    length = f", {rest[0].sql}" if rest else ""
    place = constant_int(start)
    if place is None:
        sql = (
            f"CASE WHEN {s} > 0 THEN substring({t}, {s}{length}) WHEN {s} = 0 THEN substring({t}, 1{length})"
            f" WHEN -{s} > length({t}) THEN '' ELSE substring({t}, {s}{length}) END"
        )
        sql = _if_none_is_null(f"({sql})", call)
    elif place >= 0:
        sql = f"substring({t}, {max(place, 1)}{length})"
    else:
        sql = f"(CASE WHEN length({t}) < {-place} THEN '' ELSE substring({t}, {place}{length}) END)"
    if rest:
        count = constant_int(rest[0])
        if count is None:
            sql = f"(CASE WHEN {rest[0].sql} >= 0 THEN {sql} END)"
        elif count < 0:
            sql = "CAST(NULL AS VARCHAR)"
    return over(sql, lengthened(text.type).with_null(), *call.arguments)


def _replace(call: FunctionCall) -> Bound:
    text, search, put = call.arguments
    of = null_if_any(STRING, *call.arguments)
    plain = f"replace({text.sql}, {search.sql}, {put.sql})"
    if constant_text(search):
        return over(plain, of, *call.arguments)
    sql = f"(CASE WHEN {search.sql} = '' THEN flink_replace({text.sql}, {search.sql}, {put.sql}) ELSE {plain} END)"
    return over(_if_none_is_null(sql, call), of, *call.arguments)


def _translate(call: FunctionCall) -> Bound:
    """NULL for characters to replace is none of them, NULL for replacements removes them."""
    text, search, put = call.arguments
    found = f"coalesce({search.sql}, '')" if search.type.nullable else search.sql
    with_ = f"coalesce({put.sql}, '')" if put.type.nullable else put.sql
    of = null_if_any(STRING, *call.arguments)
    return over(f"translate({text.sql}, {found}, {with_})", of, *call.arguments)


def _initcap(call: FunctionCall) -> Bound:
    """Words are runs of ASCII letters and digits; nothing else changes, nor does what is not ASCII."""
    (text,) = call.arguments
    word = "CASE WHEN regexp_matches(w, '^[A-Za-z0-9]') THEN upper(left(w, 1)) || lower(substring(w, 2)) ELSE w END"
    parts = f"regexp_extract_all({text.sql}, '[A-Za-z0-9]+|[^A-Za-z0-9]+')"
    return over(f"array_to_string(list_transform({parts}, lambda w: {word}), '')", text.type, text)


def _concat(call: FunctionCall) -> Bound:
    sql = " || ".join(f"CAST({argument.sql} AS VARCHAR)" for argument in call.arguments)
    return over(f"({sql})", null_if_any(STRING, *call.arguments), *call.arguments)


def _concat_ws(call: FunctionCall) -> Bound:
    separator, *parts = call.arguments
    texts = "".join(f", {part.sql}" for part in parts)
    sql = f"concat_ws({separator.sql}{texts})" if parts else f"left({separator.sql}, 0)"
    return over(sql, null_if_any(STRING, *call.arguments), *call.arguments)


def _is_ascii(*texts: str) -> str:
    return " AND ".join(f"strlen({text}) = length({text})" for text in texts)


def _pad(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        text, length, pad = call.arguments
        count, pads = constant_int(length), constant_text(pad)
        conditions = []
        if count is None:
            conditions.append(f"{length.sql} >= 0")
        elif count < 0:
            conditions.append("FALSE")
        if pads is None:
            conditions.append(f"{pad.sql} <> ''")
        elif pads == "":
            conditions.append("FALSE")
        sql = f"{function}({text.sql}, {length.sql}, {pad.sql})"
        in_units = f"flink_{function}({text.sql}, {length.sql}, {pad.sql})"
        ascii_only = _is_ascii(text.sql) if pads is not None and pads.isascii() else _is_ascii(text.sql, pad.sql)
        sql = f"(CASE WHEN {ascii_only} THEN {sql} ELSE {in_units} END)"
        if conditions:
            sql = f"(CASE WHEN {' AND '.join(conditions)} THEN {sql} END)"
        return over(sql, null_if_any(STRING, *call.arguments), *call.arguments)

    return checked(build, takes("CHARACTER", "INTEGER", "CHARACTER"))


def _to_base64(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    sql = f"to_base64(encode({value.sql}))" if value.type.is_text else f"to_base64({value.sql})"
    return over(sql, null_if_any(STRING, value), value)


def _parse_url(call: FunctionCall) -> Bound:
    key = call.arguments[2].sql if len(call.arguments) > 2 else "''"
    has_key = "TRUE" if len(call.arguments) > 2 else "FALSE"
    url, part = call.arguments[0].sql, call.arguments[1].sql
    return over(f"flink_parse_url({url}, {part}, {key}, {has_key})", STRING, *call.arguments)


def _ascii(call: FunctionCall) -> Bound:
    """The first byte in UTF-8, signed as Java's are."""
    (text,) = call.arguments
    lead = (
        "CASE WHEN {c} < 128 THEN {c} WHEN {c} < 2048 THEN ({c} >> 6) - 64"
        " WHEN {c} < 65536 THEN ({c} >> 12) - 32 ELSE ({c} >> 18) - 16 END"
    )
    sql = each_once(
        text.sql,
        "CASE WHEN {x} = '' THEN 0 ELSE CAST(" + lead.replace("{c}", "unicode({x})") + " AS INTEGER) END",
    )
    if text.type.nullable:
        sql = f"(CASE WHEN {text.sql} IS NOT NULL THEN {sql} END)"
    return over(sql, null_if_any(INTEGER, text), text)


def _encode(call: FunctionCall) -> Bound:
    text, charset = call.arguments
    name = constant_text(charset)
    plain = name is not None and name.upper() in ("UTF-8", "UTF8")
    sql = f"encode({text.sql})" if plain else f"flink_encode({text.sql}, {charset.sql})"
    return over(sql, null_if_any(BYTES_TYPE, *call.arguments), *call.arguments)


def _instr(call: FunctionCall) -> Bound:
    of = null_if_any(INTEGER, *call.arguments)
    text, search, *rest = call.arguments
    if not rest:
        return over(f"CAST(instr({text.sql}, {search.sql}) AS INTEGER)", of, *call.arguments)
    occurrence = rest[1].sql if len(rest) > 1 else "1"
    return over(f"flink_instr({text.sql}, {search.sql}, {rest[0].sql}, {occurrence})", of, *call.arguments)


def _locate(call: FunctionCall) -> Bound:
    search, text, *rest = call.arguments
    of = null_if_any(INTEGER, *call.arguments)
    plain = f"instr({text.sql}, {search.sql})"
    if rest:
        s = f"greatest({rest[0].sql}, 1)"
        later = f"instr(substring({text.sql}, {s}), {search.sql})"
        at = f"CASE WHEN {search.sql} = '' THEN 1 WHEN {later} = 0 THEN 0 ELSE {later} + {s} - 1 END"
        plain = _if_none_is_null(f"({at})", call)
    return over(f"CAST({plain} AS INTEGER)", of, *call.arguments)


def _end(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        text, count = call.arguments
        sql = f"{function}({text.sql}, greatest({count.sql}, 0))"
        if count.type.nullable:
            sql = f"(CASE WHEN {count.sql} IS NOT NULL THEN {sql} END)"
        return over(sql, lengthened(text.type).with_null(), *call.arguments)

    return checked(build, takes("CHARACTER", "INTEGER"))


def _reverse(call: FunctionCall) -> Bound:
    """DuckDB's keeps combining characters with what they stand on; Flink's turns code points around."""
    (text,) = call.arguments
    points = "array_to_string(list_reverse(string_split({x}, '')), '')"
    sql = each_once(text.sql, f"CASE WHEN strlen({{x}}) = length({{x}}) THEN reverse({{x}}) ELSE {points} END")
    return over(sql, STRING, text)


def _split_index(call: FunctionCall) -> Bound:
    text, separator, index = call.arguments
    mark = separator.sql
    if separator.type.kind not in (Kind.CHAR, Kind.VARCHAR):
        mark = f"(CASE WHEN {mark} BETWEEN 1 AND 255 THEN chr({mark}) END)"
        parts = f"string_split({text.sql}, {mark})"
    elif constant_text(separator):
        parts = f"string_split({text.sql}, {mark})"
    else:
        # Flink splits at white space for an empty separator.
        whole = f"string_split_regex({text.sql}, '\\s')"
        parts = f"(CASE WHEN {mark} = '' THEN {whole} ELSE string_split({text.sql}, {mark}) END)"
    sql = f"(CASE WHEN {index.sql} >= 0 AND {text.sql} <> '' AND {mark} IS NOT NULL THEN {parts}[{index.sql} + 1] END)"
    return over(sql, STRING, *call.arguments)


def _split(call: FunctionCall) -> Bound:
    text, separator = call.arguments
    sql = f"(CASE WHEN {text.sql} = '' THEN CAST([] AS VARCHAR[]) ELSE string_split({text.sql}, {separator.sql}) END)"
    return over(_if_none_is_null(sql, call), null_if_any(array(STRING), *call.arguments), *call.arguments)


def _edge(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        first, second = (f"hex({each.sql})" if each.type.is_bytes else each.sql for each in call.arguments)
        return over(f"{function}({first}, {second})", null_if_any(BOOLEAN, *call.arguments), *call.arguments)

    return checked(build, _TWO_TEXTS, takes("BINARY", "BINARY"))


def _elt(call: FunctionCall) -> Bound:
    index, *values = call.arguments
    at = constant_int(index)
    if at is not None and at < 0:
        raise TypeProblem(f"ELT's index counts from 1 and is {at}", call.place)
    of = merged_type([value.type for value in values])
    if of is None:
        raise TypeProblem(f"ELT's values have no common type: {', '.join(str(v.type) for v in values)}", call.place)
    texts = [cast(value, of, call.settings).sql for value in values]
    branches = "".join(f" WHEN {number} THEN {text}" for number, text in enumerate(texts, 1))
    return over(f"(CASE {index.sql}{branches} END)", of.with_null(), *call.arguments)


_PRINTF_TAGS: Final = {
    Kind.BOOLEAN: "b",
    Kind.TINYINT: "1",
    Kind.SMALLINT: "2",
    Kind.INTEGER: "4",
    Kind.BIGINT: "8",
    Kind.FLOAT: "f",
    Kind.DOUBLE: "d",
    Kind.DECIMAL: "o",
    Kind.CHAR: "o",
    Kind.VARCHAR: "o",
    Kind.DATE: "4",
    Kind.TIME: "4",
    Kind.TIMESTAMP: "t",
    Kind.TIMESTAMP_LTZ: "t",
    Kind.INTERVAL_MS: "8",
    Kind.INTERVAL_MONTHS: "4",
    Kind.NULL: "o",
}


def _printf(call: FunctionCall) -> Bound:
    """Values are formatted as Flink hands them to Java: dates and times as numbers, decimals only with %s."""
    form, *values = call.arguments
    tags, texts = "", []
    for value in values:
        tag = _PRINTF_TAGS.get(value.type.kind)
        if tag is None:
            raise NotSupported(f"PRINTF of {value.type}", call.place, "Cast it to STRING.")
        sql = value.sql
        if value.type.kind is Kind.DATE:
            sql = f"datediff('day', DATE '1970-01-01', {sql})"
        elif value.type.kind is Kind.TIME:
            sql = f"epoch_ms({sql})"
        elif value.type.is_timestamp:
            sql = f"strftime({sql}, '%Y-%m-%dT%H:%M:%S.%n')"
        tags += tag
        texts.append(f"CAST({sql} AS VARCHAR)")
    list_ = f"CAST([{', '.join(texts)}] AS VARCHAR[])"
    return over(f"flink_printf({form.sql}, {text_literal(tags)}, {list_})", STRING, *call.arguments)


def _url_encode(call: FunctionCall) -> Bound:
    (text,) = call.arguments
    sql = f"replace(replace(replace(url_encode({text.sql}), '%20', '+'), '~', '%7E'), '%2A', '*')"
    return over(sql, STRING, text)


def _hex(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    sql = f"hex({value.sql})" if value.type.is_text else f"to_hex(CAST({value.sql} AS BIGINT))"
    return over(sql, null_if_any(STRING, value), value)


def _is(call: FunctionCall) -> Bound:
    """IS_ALPHA, IS_DECIMAL and IS_DIGIT are FALSE for a text that is NULL. Of numbers, also those that are NULL, only
    whole ones are digits, and only those of Java's own types decimals."""
    (value,) = call.arguments
    of = BOOLEAN.with_null(False)
    if not value.type.is_text:
        kinds = {
            "IS_ALPHA": False,
            "IS_DECIMAL": value.type.is_integer or value.type.kind in APPROXIMATE,
            "IS_DIGIT": value.type.is_integer,
        }
        return over("TRUE" if kinds[call.name] else "FALSE", of, value)
    number = r"[\x00-\x20]*[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?)[\x00-\x20]*"
    pattern = {"IS_ALPHA": r"\p{L}+", "IS_DECIMAL": number, "IS_DIGIT": r"\p{Nd}+"}[call.name]
    sql = f"regexp_full_match({value.sql}, {text_literal(pattern)})"
    return over(f"coalesce({sql}, FALSE)" if value.type.nullable else sql, of, value)


_IS: Final = checked(_is, _TEXT, takes("NUMERIC"))
_SUBSTRING: Final = checked(_substring, takes("CHARACTER", "INTEGER", "INTEGER", optional=1))

RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "CHAR_LENGTH": simple(INTEGER, "CAST(length({0}) AS INTEGER)", _TEXT),
        "CHARACTER_LENGTH": simple(INTEGER, "CAST(length({0}) AS INTEGER)", _TEXT),
        "UPPER": _cased("upper"),
        "LOWER": _cased("lower"),
        "POSITION": simple(INTEGER, "CAST(instr({1}, {0}) AS INTEGER)", _TWO_TEXTS),
        "TRIM": checked(_trim, takes("CHARACTER", "CHARACTER", optional=1)),
        "LTRIM": _one_side("ltrim"),
        "RTRIM": _one_side("rtrim"),
        "BTRIM": checked(_btrim, takes("CHARACTER", "CHARACTER", optional=1)),
        "REPEAT": simple(STRING, "repeat({0}, CAST({1} AS BIGINT))", takes("CHARACTER", "INTEGER")),
        "OVERLAY": checked(_overlay, takes("CHARACTER", "CHARACTER", "INTEGER", "INTEGER", optional=1)),
        "SUBSTRING": _SUBSTRING,
        "SUBSTR": _SUBSTRING,
        "REPLACE": checked(_replace, takes("CHARACTER", "CHARACTER", "CHARACTER")),
        "TRANSLATE": checked(_translate, takes("CHARACTER", "CHARACTER", "CHARACTER")),
        "TRANSLATE3": checked(_translate, takes("CHARACTER", "CHARACTER", "CHARACTER")),
        "INITCAP": checked(_initcap, _TEXT),
        "CONCAT": checked(_concat, takes("CHARACTER", repeats=True)),
        "CONCAT_WS": checked(_concat_ws, takes("CHARACTER", repeats=True)),
        "LPAD": _pad("lpad"),
        "RPAD": _pad("rpad"),
        "FROM_BASE64": simple(STRING, "flink_from_base64({0})", _TEXT),
        "TO_BASE64": checked(_to_base64, _TEXT, takes("BINARY")),
        "ASCII": checked(_ascii, _TEXT),
        "CHR": simple(
            STRING,
            "(CASE WHEN {0} < 0 THEN '' ELSE chr(CAST({0} & 255 AS INTEGER)) END)",
            takes("ANY INTEGER"),
            always_nullable=True,
        ),
        "ENCODE": checked(_encode, _TWO_TEXTS),
        "DECODE": simple(STRING, "flink_decode({0}, {1})", takes("BINARY", "CHARACTER")),
        "INSTR": checked(_instr, takes("CHARACTER", "CHARACTER", "INTEGER", "INTEGER", optional=2)),
        "LOCATE": checked(_locate, takes("CHARACTER", "CHARACTER", "INTEGER", optional=1)),
        "LEFT": _end("left"),
        "RIGHT": _end("right"),
        "PARSE_URL": checked(_parse_url, takes("CHARACTER", "CHARACTER", "CHARACTER", optional=1)),
        "REVERSE": checked(_reverse, _TEXT),
        "SPLIT_INDEX": checked(
            _split_index, takes("CHARACTER", "CHARACTER", "INTEGER"), takes("CHARACTER", "INTEGER", "INTEGER")
        ),
        "SPLIT": checked(_split, _TWO_TEXTS),
        "STARTSWITH": _edge("starts_with"),
        "ENDSWITH": _edge("suffix"),
        "ELT": checked(
            _elt, takes("ANY INTEGER", "CHARACTER", repeats=True), takes("ANY INTEGER", "BINARY", repeats=True)
        ),
        "PRINTF": checked(_printf, takes("CHARACTER", "ANY", optional=1, repeats=True)),
        "URL_ENCODE": checked(_url_encode, _TEXT),
        "URL_DECODE": simple(STRING, "flink_url_decode({0})", _TEXT, always_nullable=True),
        "UNHEX": simple(BYTES_TYPE, "flink_unhex({0})", _TEXT, always_nullable=True),
        "HEX": checked(_hex, takes("ANY INTEGER"), _TEXT),
        "BIN": simple(STRING, "to_binary(CAST({0} AS BIGINT))", takes("ANY INTEGER")),
        "IS_ALPHA": _IS,
        "IS_DECIMAL": _IS,
        "IS_DIGIT": _IS,
        "INET_ATON": simple(BIGINT, "flink_inet_aton({0})", _TEXT, always_nullable=True),
        "INET_NTOA": simple(STRING, "flink_inet_ntoa(CAST({0} AS BIGINT))", takes("ANY INTEGER"), always_nullable=True),
    }
)
"""STR_TO_MAP is with the collections, what begins with REGEXP in `regexes`."""
