"""JSON functions: "JSON Functions" of Flink's documentation, as Flink 2.3 answers when it is asked.

JSON_VALUE with a constant path runs in DuckDB for documents and values that both read alike (texts, whole numbers,
booleans); the rest, and the rest of the functions that read, in Python. Of equal keys in an object DuckDB takes the
first where Flink takes the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.casts import cast
from streamkit_sql.expressions.functions import json_paths
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_text,
    each_once,
    null_if_any,
    over,
    simple,
    takes,
)
from streamkit_sql.types import BOOLEAN, DOUBLE, INTEGER, STRING, Kind, SqlType, array, text_literal

_PATH: Final = takes("CHARACTER", "CHARACTER")
_INT_LEAST: Final = -(2**31)
_INT_MOST: Final = 2**31 - 1


def _path(call: FunctionCall) -> json_paths.JsonPath | None:
    text = constant_text(call.arguments[1])
    if text is None:
        return None
    try:
        return json_paths.compiled(text)
    except json_paths.PathRefusedError as problem:
        raise NotSupported(str(problem), call.place, "Members, indexes and wildcards are supported.") from None


def _behaviours(call: FunctionCall, default: str) -> tuple[str, str]:
    """What is to happen ON EMPTY and ON ERROR."""
    said = {"EMPTY": default, "ERROR": default}
    for word in call.words:
        for when in said:
            if word.endswith(f" ON {when}"):
                said[when] = word.removesuffix(f" ON {when}")
    return said["EMPTY"], said["ERROR"]


def _returning(call: FunctionCall) -> str:
    return next((word.removeprefix("RETURNING ") for word in call.words if word.startswith("RETURNING ")), "STRING")


# -- reading ---------------------------------------------------------------------------------------------------------

_RETURNED: Final = {"STRING": STRING, "INT": INTEGER, "BOOLEAN": BOOLEAN, "DOUBLE": DOUBLE}


def _value(call: FunctionCall) -> Bound:
    document, path_text = call.arguments
    name = _returning(call).removesuffix(" NOT NULL")
    of = STRING if name.startswith(("VARCHAR", "CHAR")) else _RETURNED.get(name)
    if of is None:
        raise TypeProblem(f"JSON_VALUE returns STRING, INT, BOOLEAN or DOUBLE, not {name}", call.place)
    empty, error = _behaviours(call, "NULL")
    path = _path(call)
    defaults = [
        cast(call.options[f"DEFAULT ON {when}"], STRING, call.settings).sql if said == "DEFAULT" else "NULL"
        for when, said in (("EMPTY", empty), ("ERROR", error))
    ]
    codes = f"{empty[0]}{error[0]}"
    rest = _kept(f"{path_text.sql}, '{of.kind.name}', '{codes}', {defaults[0]}, {defaults[1]}")
    slow = f"flink_json_value({{x}}, {rest})"
    if of is not STRING:
        slow = f"CAST({slow} AS {of.duckdb})"
    # DuckDB folds what is constant whether it is asked for or not, and fails where a constant is no JSON.
    is_fast = path is not None and path.is_plain and document.columns
    template = _fast_value(path, of, slow) if path is not None and is_fast else slow
    sql = _filled(document.sql, template)
    parts = (document, path_text, *call.options.values())
    return over(sql, of, *parts)


def _fast_value(path: json_paths.JsonPath, of: SqlType, slow: str) -> str:
    """What is found is of a kind that both read alike; all else, failures among them, is for the other."""
    where = _kept(text_literal(path.duckdb))
    text = f"json_extract_string({{x}}, {where})"
    kinds, value = {
        Kind.VARCHAR: ("'VARCHAR', 'BOOLEAN', 'UBIGINT', 'BIGINT'", text),
        Kind.BOOLEAN: ("'BOOLEAN'", f"CAST({text} AS BOOLEAN)"),
        Kind.INTEGER: ("'UBIGINT', 'BIGINT'", f"CAST({text} AS INTEGER)"),
        Kind.DOUBLE: ("'DOUBLE'", f"CAST({text} AS DOUBLE)"),
    }[of.kind]
    condition = f"json_type({{x}}, {where}) IN ({kinds})"
    if of.kind is Kind.INTEGER:
        condition += f" AND CAST({text} AS HUGEINT) BETWEEN {_INT_LEAST} AND {_INT_MOST}"
    fast = f"CASE WHEN {condition} THEN {value} ELSE {slow} END"
    return f"CASE WHEN json_valid({{x}}) THEN {fast} WHEN {{x}} IS NOT NULL THEN {slow} END"


def _exists(call: FunctionCall) -> Bound:
    document, path_text = call.arguments
    error = _behaviours(call, "FALSE")[1]
    path = _path(call)
    slow = f"flink_json_exists({{x}}, {_kept(path_text.sql)}, '{error[0]}')"
    template = slow
    if path is not None and path.is_plain and document.columns:
        # What is there and no null exists; a strict path that leads nowhere is an error, of which most make FALSE.
        kind = f"json_type({{x}}, {_kept(text_literal(path.duckdb))})"
        missing = "FALSE" if path.mode == "lax" or error == "FALSE" else slow
        fast = f"CASE WHEN {kind} IS NULL THEN {missing} ELSE {kind} <> 'NULL' END"
        template = f"CASE WHEN json_valid({{x}}) THEN {fast} WHEN {{x}} IS NOT NULL THEN {slow} END"
    return over(_filled(document.sql, template), BOOLEAN, document, path_text)


def _kept(text: str) -> str:
    """Brackets that are no place of a template."""
    return text.replace("{", "\x02").replace("}", "\x03")


def _filled(text: str, template: str) -> str:
    return each_once(text, template).replace("\x02", "{").replace("\x03", "}")


def _query(call: FunctionCall) -> Bound:
    document, path_text = call.arguments
    _path(call)
    empty, error = _behaviours(call, "NULL")
    wrapper = next((word for word in call.words if word.endswith("WRAPPER")), "WITHOUT ARRAY WRAPPER")
    mode = "N" if wrapper.startswith("WITHOUT") else "C" if wrapper.startswith("WITH CONDITIONAL") else "U"
    returned = _returning(call)
    codes = mode + "".join(
        {"NULL": "N", "ERROR": "E", "EMPTY ARRAY": "A", "EMPTY OBJECT": "O"}[each] for each in (empty, error)
    )
    of = STRING
    function = "flink_json_query"
    if returned.startswith("ARRAY"):
        if returned.removeprefix("ARRAY<").partition(">")[0].split("(")[0].strip() not in ("STRING", "VARCHAR"):
            raise TypeProblem(f"JSON_QUERY returns STRING or ARRAY<STRING>, not {returned}", call.place)
        if "O" in codes[1:]:
            raise TypeProblem("EMPTY OBJECT is no value of JSON_QUERY RETURNING ARRAY<STRING>", call.place)
        of, function = array(STRING), "flink_json_query_array"
    elif not returned.startswith(("STRING", "VARCHAR")):
        raise TypeProblem(f"JSON_QUERY returns STRING or ARRAY<STRING>, not {returned}", call.place)
    return over(f"{function}({document.sql}, {path_text.sql}, '{codes}')", of, document, path_text)


def _is(call: FunctionCall) -> Bound:
    """`x IS JSON`, `IS JSON OBJECT|ARRAY|SCALAR`, under these names: FALSE for NULL."""
    (operand,) = call.arguments
    kind = call.name.removeprefix("IS JSON").strip() or "VALUE"
    return over(f"flink_is_json({operand.sql}, '{kind[0]}')", BOOLEAN.with_null(False), operand)


_IS: Final = checked(_is, takes("CHARACTER"))


# -- writing ---------------------------------------------------------------------------------------------------------


def _json(value: Bound, call: FunctionCall) -> str:
    """The text of DuckDB for a value as JSON; NULL for NULL."""
    if value.type.kind is Kind.NULL:
        return "CAST(NULL AS VARCHAR)"
    return _json_of(value.sql, value.type, call, 0)


def _json_of(sql: str, of: SqlType, call: FunctionCall, depth: int) -> str:
    kind = of.kind
    if of.is_text:
        return _text_json(sql)
    if of.is_integer:
        return f"CAST({sql} AS VARCHAR)"
    if kind is Kind.BOOLEAN:
        return f"CAST({sql} AS VARCHAR)"
    if kind is Kind.DECIMAL:
        text = f"CAST({sql} AS VARCHAR)"
        return text if of.scale <= 6 else f"flink_json_number({text})"
    if of.is_approximate:
        plain = "abs({x}) >= 0.001 AND abs({x}) < 1e7"  # where DuckDB prints as Java does
        template = f"CASE WHEN {plain} THEN CAST({{x}} AS VARCHAR) ELSE flink_json_double({{x}}) END"
        return each_once(f"CAST({sql} AS DOUBLE)", template)
    if of.is_timestamp:
        # The fraction without its zeros, as Java's ISO form but with seconds always there.
        zone = " || 'Z'" if kind is Kind.TIMESTAMP_LTZ else ""
        fraction = f"rtrim(rtrim(strftime({sql}, '%Y-%m-%dT%H:%M:%S.%n'), '0'), '.')"
        whole = f"strftime({sql}, '%Y-%m-%dT%H:%M:%S')"
        text = f"(CASE WHEN strftime({sql}, '%n') = '000000000' THEN {whole} ELSE {fraction} END)"
        return f"""('"' || {text}{zone} || '"')"""
    if of.is_bytes:
        return f"""('"' || to_base64({sql}) || '"')"""
    return _json_of_many(sql, of, call, depth)


def _text_json(sql: str) -> str:
    return f"CAST(to_json({sql}) AS VARCHAR)"


def _json_of_many(sql: str, of: SqlType, call: FunctionCall, depth: int) -> str:
    name = f"j{depth}"

    def inner(text: str, type_: SqlType) -> str:
        made = _json_of(text, type_, call, depth + 1)
        return f"coalesce({made}, 'null')" if type_.nullable else made

    if of.kind is Kind.ARRAY:
        assert of.element is not None
        items = f"array_to_string(list_transform({sql}, lambda {name}: {inner(name, of.element)}), ',')"
        return f"('[' || {items} || ']')"
    if of.kind is Kind.MAP and of.key is not None and of.key.is_text:
        assert of.element is not None
        pair = f"{_text_json(f'{name}.key')} || ':' || {inner(f'{name}.value', of.element)}"
        entries = f"list_sort(map_entries({sql}))"
        return f"('{{' || array_to_string(list_transform({entries}, lambda {name}: {pair}), ',') || '}}')"
    if of.kind is Kind.ROW:
        parts = []
        for field in of.fields:
            read = f"struct_extract({sql}, {text_literal(field.name)})"
            key = text_literal(json_paths.written(field.name) + ":")
            parts.append(f"{key} || {inner(read, field.type)}")
        whole = " || ',' || ".join(parts)
        return f"(CASE WHEN {sql} IS NOT NULL THEN '{{' || {whole or chr(39) * 2} || '}}' END)"
    raise TypeProblem(f"{call.name} cannot make JSON of {of}", call.place, "Cast it to STRING.")


def _string(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    of = STRING if value.type.kind is Kind.NULL else null_if_any(STRING, value)
    return over(_json(value, call), of, value)


def _raw(value: Bound, call: FunctionCall) -> str:
    """Inside JSON_OBJECT and JSON_ARRAY, what is JSON by the look of its text's function is put in as it is."""
    if value.sql.startswith((_OBJECT_MARK, _ARRAY_MARK, _RAW_MARK)):
        return value.sql
    return _json(value, call)


_OBJECT_MARK: Final = "concat('{',"
_ARRAY_MARK: Final = "concat('[',"
_RAW_MARK: Final = "flink_json_raw("


def _object(call: FunctionCall) -> Bound:
    """Keys are constants or columns that are never NULL; of equal ones the last counts, in their order by name."""
    if len(call.arguments) % 2:
        raise TypeProblem("JSON_OBJECT takes keys with values", call.place)
    absent = "ABSENT ON NULL" in call.words
    pairs: list[tuple[Bound, Bound]] = list(zip(call.arguments[::2], call.arguments[1::2], strict=True))
    known: dict[str, str] = {}
    for key, value in pairs:
        text = constant_text(key)
        if not key.type.is_text or key.type.nullable:
            raise TypeProblem(f"a key of JSON_OBJECT is a text and never NULL, not {key.type}", call.place)
        if text is None:
            raise NotSupported("a key of JSON_OBJECT that is no literal", call.place)
        known[text] = _member(json_paths.written(text), value, absent, call)
    members = [known[text] for text in sorted(known)]
    return over(_put_together("{", "}", members), STRING.with_null(False), *call.arguments)


def _member(key: str, value: Bound, absent: bool, call: FunctionCall) -> str:
    made = _raw(value, call)
    prefix = text_literal(f"{key}:")
    if not (value.type.nullable or value.type.kind is Kind.NULL):
        return f"{prefix} || {made}"
    return f"({prefix} || {made})" if absent else f"{prefix} || coalesce({made}, 'null')"


def _put_together(start: str, end: str, members: list[str]) -> str:
    """concat_ws leaves out what is NULL."""
    if not members:
        return f"concat('{start}','{end}')"
    return f"concat('{start}',concat_ws(',', {', '.join(members)}),'{end}')"


def _array(call: FunctionCall) -> Bound:
    keeps = "NULL ON NULL" in call.words
    members = []
    for value in call.arguments:
        made = _raw(value, call)
        can_be_null = value.type.nullable or value.type.kind is Kind.NULL
        members.append(f"coalesce({made}, 'null')" if keeps and can_be_null else made)
    return over(_put_together("[", "]", members), STRING.with_null(False), *call.arguments)


def _any(build: Callable[[FunctionCall], Bound]) -> FunctionRule:
    return checked(build, takes("ANY", repeats=True, optional=1))


RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "JSON_VALUE": checked(_value, _PATH),
        "JSON_EXISTS": checked(_exists, _PATH),
        "JSON_QUERY": checked(_query, _PATH),
        **dict.fromkeys(("IS JSON", "IS JSON VALUE", "IS JSON OBJECT", "IS JSON ARRAY", "IS JSON SCALAR"), _IS),
        "JSON_STRING": checked(_string, takes("ANY")),
        "JSON_OBJECT": _any(_object),
        "JSON_ARRAY": _any(_array),
        "JSON_QUOTE": simple(STRING, "flink_json_quote({0})", takes("CHARACTER")),
        "JSON_UNQUOTE": simple(STRING, "flink_json_unquote({0})", takes("CHARACTER")),
        # Only inside JSON_OBJECT and JSON_ARRAY, as in Flink, whose planner says where it is wrong.
        "JSON": simple(STRING, "flink_json_raw({0})", takes("CHARACTER")),
    }
)
