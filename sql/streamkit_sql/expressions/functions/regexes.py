"""Functions with regular expressions. A constant pattern that RE2 can say runs in DuckDB, on the rows for which RE2
means the same; all else runs in Python. A pattern that Java refuses gives NULL (REGEXP: FALSE), as in Flink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.functions.java_regex import (
    InvalidPatternError,
    JavaRegex,
    UntranslatableError,
    compiled,
)
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_int,
    constant_text,
    null_if_any,
    null_of,
    once,
    over,
    takes,
)
from streamkit_sql.types import BOOLEAN, INTEGER, STRING, SqlType, array, text_literal

_TERMINATORS: Final = "chr(10), chr(13), chr(133), chr(8232), chr(8233)"


def _regex(call: FunctionCall) -> JavaRegex | None:
    """Of a constant pattern. Raises InvalidPatternError for the caller to answer."""
    pattern = constant_text(call.arguments[1])
    if pattern is None:
        return None
    try:
        return compiled(pattern)
    except UntranslatableError as problem:
        raise NotSupported(f"{problem} in a regular expression", call.place) from None


def _rule(
    of: SqlType,
    fast: Callable[[FunctionCall, JavaRegex, str, str], str | None],
    slow: str,
    extra: str = "",
    more: tuple[str, ...] = (),
    *,
    always_nullable: bool = True,
) -> FunctionRule:
    """`fast` makes the text for RE2 of (call, regex, text, pattern), where there is one; `slow` is the function in
    Python, called with the arguments and, where the last is missing, `extra`."""

    def build(call: FunctionCall) -> Bound:
        result = of if always_nullable else null_if_any(of, *call.arguments)
        texts = [argument.sql for argument in call.arguments]
        if extra and len(texts) == 2:
            texts.append(extra)
        slowly = f"{slow}({', '.join(texts)})"
        try:
            regex = _regex(call)
        except InvalidPatternError:
            return over(slowly if call.name == "REGEXP" else null_of(of).sql, result, *call.arguments)
        if regex is None or regex.re2 is None:
            return over(slowly, result, *call.arguments)
        text = call.arguments[0].sql
        template = fast(call, regex, "{x}", text_literal(regex.re2).replace("{", "{{").replace("}", "}}"))
        if template is None:
            return over(slowly, result, *call.arguments)
        conditions = []
        if regex.ascii_only:
            conditions.append("strlen({x}) <> length({x})")
        if regex.ends_at_end:
            conditions.append(f"right({{x}}, 1) IN ({_TERMINATORS})")
        if conditions:
            template = f"CASE WHEN {' OR '.join(conditions)} THEN {_braced(slowly)} ELSE {template} END"
        return over(f"({_filled(text, template)})", result, *call.arguments)

    return checked(build, takes("CHARACTER", "CHARACTER", *more, optional=1 if extra else 0))


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _filled(text: str, template: str) -> str:
    """The template with the text in, its doubled brackets single again."""
    marked = template.replace("{{", "\x02").replace("}}", "\x03")
    return once(text, marked).replace("\x02", "{").replace("\x03", "}")


def _matches(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    # Flink finds nothing with the empty pattern.
    return None if constant_text(call.arguments[1]) == "" else f"regexp_matches({text}, {pattern})"


def _replaced(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    if regex.matches_empty:  # RE2 finds no empty match right behind another
        return None
    put = call.arguments[2]
    known = constant_text(put)
    if known is not None:
        with_ = text_literal(known.replace("\\", "\\\\"))
    else:
        with_ = f"replace({put.sql}, chr(92), repeat(chr(92), 2))"
    return f"regexp_replace({text}, {pattern}, {_braced(with_)}, 'g')"


def _group(call: FunctionCall, default: int) -> int | None:
    return constant_int(call.arguments[2]) if len(call.arguments) > 2 else default


def _extracted(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    group = _group(call, 0)
    if group is None:
        return None
    if not 0 <= group <= regex.groups:
        return "CAST(NULL AS VARCHAR)"
    found = f"regexp_extract({text}, {pattern}, {group})"
    if group == 0 or group in regex.certain:
        if not regex.matches_empty and group == 0:
            return f"nullif({found}, '')"
        empty = "''"
    else:
        empty = f"flink_regexp_extract({text}, {_braced(call.arguments[1].sql)}, {group})"
    return f"CASE WHEN {found} <> '' THEN {found} WHEN regexp_matches({text}, {pattern}) THEN {empty} END"


def _counted(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    return None if regex.matches_empty else f"CAST(len(regexp_extract_all({text}, {pattern})) AS INTEGER)"


def _all_extracted(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    group = _group(call, 1)
    if group is None or regex.matches_empty:
        return None
    if not 0 <= group <= regex.groups:
        return "CAST(NULL AS VARCHAR[])"
    if group and group not in regex.certain:
        return None
    return f"regexp_extract_all({text}, {pattern}, {group})"


def _never(call: FunctionCall, regex: JavaRegex, text: str, pattern: str) -> str | None:
    return None


RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "REGEXP": _rule(BOOLEAN, _matches, "flink_regexp", always_nullable=False),
        "REGEXP_REPLACE": _rule(STRING, _replaced, "flink_regexp_replace", more=("CHARACTER",), always_nullable=False),
        "REGEXP_EXTRACT": _rule(STRING, _extracted, "flink_regexp_extract", "0", ("INTEGER",)),
        "REGEXP_SUBSTR": _rule(STRING, _extracted, "flink_regexp_substr"),
        "REGEXP_COUNT": _rule(INTEGER, _counted, "flink_regexp_count"),
        "REGEXP_EXTRACT_ALL": _rule(array(STRING), _all_extracted, "flink_regexp_extract_all", "1", ("INTEGER",)),
        "REGEXP_INSTR": _rule(INTEGER, _never, "flink_regexp_instr"),
    }
)
