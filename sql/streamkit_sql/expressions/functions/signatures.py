"""What functions take: families of types, the check of a call against them, and small helpers of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from streamkit_sql.errors import TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule, combine
from streamkit_sql.expressions.casts import REPEATED_LENGTH_MAX, once
from streamkit_sql.types import (
    BYTES_TYPE,
    DOUBLE,
    INTEGER,
    INTEGERS,
    NUMBERS,
    STRING,
    STRING_LENGTH,
    TEXTS,
    Kind,
    SqlType,
    text_literal,
    varchar,
)

Family = frozenset[Kind]

_FAMILIES: Final[dict[str, Family]] = {
    "CHARACTER": frozenset(TEXTS),
    "BINARY": frozenset((Kind.BINARY, Kind.VARBINARY)),
    # Flink refuses BIGINT where its runtime methods take int, though some only when the query starts.
    "INTEGER": frozenset((Kind.TINYINT, Kind.SMALLINT, Kind.INTEGER)),
    "ANY INTEGER": frozenset(INTEGERS),
    "NUMERIC": frozenset(NUMBERS),
    "EXACT_NUMERIC": frozenset((*INTEGERS, Kind.DECIMAL)),
    "BOOLEAN": frozenset((Kind.BOOLEAN,)),
    "DATE": frozenset((Kind.DATE,)),
    "TIME": frozenset((Kind.TIME,)),
    "TIMESTAMP": frozenset((Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)),
    "DATETIME": frozenset((Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)),
    "INTERVAL": frozenset((Kind.INTERVAL_MONTHS, Kind.INTERVAL_MS)),
    "ARRAY": frozenset((Kind.ARRAY,)),
    "MAP": frozenset((Kind.MAP,)),
    "COLLECTION": frozenset((Kind.ARRAY, Kind.MAP, Kind.MULTISET)),
    "ANY": frozenset(Kind),
}

_UNTYPED: Final = {
    "CHARACTER": STRING,
    "BINARY": BYTES_TYPE,
    "INTEGER": INTEGER,
    "ANY INTEGER": INTEGER,
    "NUMERIC": DOUBLE,
    "BOOLEAN": SqlType(Kind.BOOLEAN),
}

_TAKE_NULL: Final = frozenset(
    (
        "ARRAY_JOIN",
        "ARRAY_SLICE",
        "ARRAY_SORT",
        "BTRIM",
        "ELT",
        "ENDSWITH",
        "INET_ATON",
        "INET_NTOA",
        "JSON_QUOTE",
        "JSON_UNQUOTE",
        "PRINTF",
        "REGEXP_COUNT",
        "REGEXP_EXTRACT_ALL",
        "REGEXP_INSTR",
        "REGEXP_SUBSTR",
        "SPLIT",
        "STARTSWITH",
        "TO_TIMESTAMP_LTZ",
        "UNHEX",
        "URL_DECODE",
        "URL_ENCODE",
    )
)
"""Functions that take a bare NULL, Flink's newer ones; the others want it cast."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`families` of the arguments; the last `optional` ones may be missing, the last one repeats where `repeats`."""

    families: tuple[str, ...]
    optional: int = 0
    repeats: bool = False

    def takes(self, count: int) -> bool:
        most = count if self.repeats else len(self.families)
        return len(self.families) - self.optional <= count <= most

    def family(self, index: int) -> str:
        return self.families[min(index, len(self.families) - 1)]

    def texts(self, name: str) -> list[str]:
        ends = range(len(self.families) - self.optional, len(self.families) + 1)
        more = ", .." if self.repeats else ""
        return [f"{name}({', '.join(f'<{each}>' for each in self.families[:end])}{more})" for end in ends]


def takes(*families: str, optional: int = 0, repeats: bool = False) -> Signature:
    return Signature(families, optional, repeats)


Build = Callable[[FunctionCall], Bound]


def checked(build: Build, *signatures: Signature) -> FunctionRule:
    """A rule that raises TypeProblem for a call no signature fits."""

    def rule(call: FunctionCall) -> Bound:
        for signature in signatures:
            if (fitting := _fitting(call, signature)) is not None:
                return _with_arguments_once(build(fitting), fitting.arguments)
        raise unfit(call, signatures)

    return rule


def unfit(call: FunctionCall, signatures: Sequence[Signature], hint: str = "") -> TypeProblem:
    given = ", ".join(str(argument.type) for argument in call.arguments)
    if not hint and any(argument.type.kind is Kind.NULL for argument in call.arguments):
        hint = "NULL has no type here: write CAST(NULL AS ..)."
    forms = [text for signature in signatures for text in signature.texts(call.name)]
    return TypeProblem(f"{call.name}({given}) is no function; there is {', '.join(forms)}", call.place, hint)


def _with_arguments_once(result: Bound, arguments: Sequence[Bound]) -> Bound:
    """A text in which no long argument stands twice, so that calls inside calls do not grow by factors, and none that
    gives another value each time it is asked."""
    for argument in arguments:
        text = argument.sql
        if (len(text) > REPEATED_LENGTH_MAX or not argument.is_deterministic) and result.sql.count(text) > 1:
            name = f"w{result.sql.count('lambda ')}"
            sql = f"list_transform([{text}], lambda {name}: {result.sql.replace(text, name)})[1]"
            result = replace(result, sql=sql)
    return result


def _fitting(call: FunctionCall, signature: Signature) -> FunctionCall | None:
    if not signature.takes(len(call.arguments)):
        return None
    found: list[Bound] = []
    for index, argument in enumerate(call.arguments):
        family = signature.family(index)
        if argument.type.kind is Kind.NULL and family != "ANY":
            untyped = _UNTYPED.get(family)
            if untyped is None or call.name not in _TAKE_NULL:
                return None
            argument = null_of(untyped)
        elif argument.type.kind not in _FAMILIES[family]:
            return None
        found.append(argument.materialized())
    return FunctionCall(call.name, tuple(found), call.words, call.options, call.settings, call.place)


def simple(result: SqlType, template: str, *signatures: Signature, always_nullable: bool = False) -> FunctionRule:
    """A function whose text is a template over `{0}`, `{1}` .. that gives NULL for a NULL argument."""

    def build(call: FunctionCall) -> Bound:
        sql = template.format(*(argument.sql for argument in call.arguments))
        return over(sql, result if always_nullable else null_if_any(result, *call.arguments), *call.arguments)

    return checked(build, *signatures)


# -- building --------------------------------------------------------------------------------------------------------


def null_if_any(of: SqlType, *arguments: Bound) -> SqlType:
    return of.with_null(any(argument.type.nullable for argument in arguments))


def over(sql: str, of: SqlType, *parts: Bound) -> Bound:
    return combine(sql, of, *parts)


def null_of(of: SqlType) -> Bound:
    return Bound(f"CAST(NULL AS {of.duckdb})", of.with_null(), is_constant=True, value=None)


def constant_text(bound: Bound) -> str | None:
    """The text of a constant; None where it is NULL or none."""
    return bound.value if bound.is_constant and isinstance(bound.value, str) else None


def constant_int(bound: Bound) -> int | None:
    value = bound.value if bound.is_constant else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_null(bound: Bound) -> bool:
    return bound.is_constant and bound.value is None


def lengthened(of: SqlType, more: int = 0) -> SqlType:
    """VARCHAR as long as a text type and `more`, which is no longer padded."""
    return varchar(min(of.length + more, STRING_LENGTH), nullable=of.nullable)


def guarded(sql: str, *needed: Bound) -> str:
    """NULL where one of `needed` is, for DuckDB functions that would skip it."""
    conditions = [f"{part.sql} IS NULL" for part in needed if part.type.nullable]
    return f"(CASE WHEN {' OR '.join(conditions)} THEN NULL ELSE {sql} END)" if conditions else sql


def each_once(sql: str, template: str) -> str:
    """As `casts.once`, in brackets."""
    return f"({once(sql, template)})"


__all__ = [
    "Build",
    "Signature",
    "checked",
    "constant_int",
    "constant_text",
    "each_once",
    "guarded",
    "is_null",
    "lengthened",
    "null_if_any",
    "null_of",
    "once",
    "over",
    "simple",
    "takes",
    "text_literal",
    "unfit",
]
