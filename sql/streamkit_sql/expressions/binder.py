"""A tree's expression as DuckDB's text: names by the scope, operators and casts by Flink's rules, functions by theirs.

A function is looked for among the session's own, then Flink's built-in ones, then DuckDB's; a script that uses one of
the last is marked by `Bound.foreign`, for Flink does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import singledispatchmethod
from typing import Final

from streamkit_sql.errors import NotSupported, Place, TypeProblem
from streamkit_sql.expressions import foreign, literals, operators
from streamkit_sql.expressions.bound import (
    Bound,
    FunctionCall,
    FunctionRule,
    Scope,
    Settings,
    UserFunction,
    combine,
)
from streamkit_sql.expressions.casts import cast
from streamkit_sql.expressions.coercion import merged_type
from streamkit_sql.expressions.operators import as_type, mistyped
from streamkit_sql.language import tree
from streamkit_sql.types import (
    BOOLEAN,
    Kind,
    SqlType,
    array,
    map_of,
    quoted,
    row,
    text_literal,
    timestamp_ltz,
)

Functions = Mapping[str, FunctionRule | UserFunction]

PROCESSING_TIME: Final = "$at"
"""The hidden column of arrival."""
DEPTH_MAX: Final = 400
"""Levels of an expression; each takes a few frames of Python's thousand."""


_NESTED: Final = (Kind.ARRAY, Kind.MAP, Kind.MULTISET, Kind.ROW)


def bind(expression: tree.Expression, scope: Scope, settings: Settings, functions: Functions) -> Bound:
    """Raises UnknownName, TypeProblem or NotSupported, each with the place of what is wrong."""
    return _Binder(scope, settings, functions).bind(expression)


def built_in(name: str, functions: Functions) -> FunctionRule | UserFunction | None:
    """The session's function of this name, or Flink's."""
    from streamkit_sql.expressions.functions import RULES

    own = functions.get(name) or next((each for key, each in functions.items() if key.upper() == name), None)
    return own or RULES.get(name)


def is_built_in(name: str) -> bool:
    """Whether it is a function of Flink's; in capitals."""
    from streamkit_sql.expressions.aggregates import FLINK_AGGREGATES
    from streamkit_sql.expressions.functions import RULES

    return name in RULES or name in SPECIAL or name in FLINK_AGGREGATES


def taken(
    function: UserFunction, call: tree.Call, arguments: tuple[Bound, ...], settings: Settings
) -> tuple[Bound, ...]:
    """The arguments in the types that a user's function takes. TypeProblem for others."""
    parameters = function.parameters
    if parameters is None:
        for argument, node in zip(arguments, call.arguments, strict=True):
            if argument.type.kind is Kind.NULL:
                raise TypeProblem("NULL has no type here.", node.place, "Write CAST(NULL AS INT) or its like.")
        return tuple(each.materialized() for each in arguments)
    if len(parameters) != len(arguments):
        raise TypeProblem(f"{call.name} takes {len(parameters)} arguments, not {len(arguments)}.", call.place)
    found = []
    for argument, of in zip(arguments, parameters, strict=True):
        if argument.type.kind is not Kind.NULL and merged_type([argument.type, of]) is None:
            raise mistyped(call.name, arguments, call.place, f"It takes ({', '.join(map(str, parameters))}).")
        found.append(as_type(argument.materialized(), of.with_null(), settings))
    return tuple(found)


class _Binder:
    def __init__(self, scope: Scope, settings: Settings, functions: Functions) -> None:
        self._scope = scope
        self._settings = settings
        self._functions = functions
        self._depth = 0
        self._calls: set[str] = set()  # of users' functions
        self._operands: list[Bound] = []  # of the node that is being bound, as they are bound

    def bind(self, node: tree.Expression) -> Bound:
        found = self._scope.replace(node, self.bind)
        if found is not None:
            return found
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise NotSupported(f"an expression of more than {DEPTH_MAX} levels.", node.place)
        around, self._operands = self._operands, []
        try:
            bound = self._bind(node)
            if self._calls:
                bound = self._asked_once(bound, self._operands)
        finally:
            self._depth -= 1
            self._operands = around
        around.append(bound)
        return bound

    def _asked_once(self, bound: Bound, operands: Sequence[Bound]) -> Bound:
        """A text in which no operand that calls a user's function stands more often than it was written. The whole
        operand is what is computed once: a CASE in it still asks for a value only where it must."""
        calling = {each.sql: each for each in operands if any(call in each.sql for call in self._calls)}
        for text in sorted(calling, key=len, reverse=True):
            written = sum(each.sql.count(text) for each in operands)
            if bound.sql.count(text) > written and (written == 1 or calling[text].is_deterministic):
                name = f"u{bound.sql.count('lambda ')}"
                body = bound.sql.replace(text, name)
                bound = replace(bound, sql=f"list_transform([{text}], lambda {name}: {body})[1]")
        return bound

    def _value(self, node: tree.Expression) -> Bound:
        """Not bare NULL, which has no type beside an operator."""
        bound = self.bind(node)
        if bound.type.kind is Kind.NULL:
            raise TypeProblem("NULL has no type here.", node.place, "Write CAST(NULL AS INT) or its like.")
        return bound

    @singledispatchmethod
    def _bind(self, node: tree.Expression) -> Bound:
        raise NotSupported(f"{type(node).__name__} in an expression.", node.place)

    @_bind.register
    def _(self, node: tree.Name) -> Bound:
        return self._scope.resolve(node)

    @_bind.register
    def _(self, node: tree.Literal_) -> Bound:
        return literals.bind_literal(node)

    @_bind.register
    def _(self, node: tree.BytesLiteral) -> Bound:
        return literals.bind_literal(node)

    @_bind.register
    def _(self, node: tree.TimeLiteral) -> Bound:
        return literals.bind_literal(node)

    @_bind.register
    def _(self, node: tree.IntervalLiteral) -> Bound:
        return literals.bind_literal(node)

    @_bind.register
    def _(self, node: tree.Star) -> Bound:
        raise TypeProblem("* is no value.", node.place)

    @_bind.register
    def _(self, node: tree.InQuery) -> Bound:
        raise NotSupported("IN (SELECT ..) at this place.", node.place, "In WHERE it is a join.")

    @_bind.register
    def _(self, node: tree.Exists) -> Bound:
        raise NotSupported("EXISTS at this place.", node.place, "In WHERE it is a join.")

    @_bind.register
    def _(self, node: tree.ScalarQuery) -> Bound:
        raise NotSupported("a subquery as a value at this place.", node.place, "Join it.")

    @_bind.register
    def _(self, node: tree.AtTimeZone) -> Bound:
        raise NotSupported("AT TIME ZONE, which Flink does not have.", node.place, "CONVERT_TZ there is.")

    @_bind.register
    def _(self, node: tree.Unary) -> Bound:
        operand = self._value(node.operand)
        if node.operator == "NOT":
            if operand.type.kind is not Kind.BOOLEAN:
                raise mistyped("NOT", (operand,), node.place)
            return combine(f"(NOT {operand.sql})", operand.type, operand)
        if node.operator == "-":
            return operators.negated(operand, node.place)
        if not operand.type.is_number and not operand.type.is_interval:
            raise mistyped("+", (operand,), node.place)
        return operand.materialized()

    @_bind.register
    def _(self, node: tree.Binary) -> Bound:
        spine: list[tree.Binary] = []
        left: tree.Expression = node
        # `a AND b AND c ..` leans to the left and may be long: walked, not recursed into.
        while isinstance(left, tree.Binary):
            if left is not node and (replaced := self._scope.replace(left, self.bind)) is not None:
                return self._climb(replaced, spine)
            spine.append(left)
            left = left.left
        return self._climb(self.bind(left), spine)

    def _climb(self, bound: Bound, spine: Sequence[tree.Binary]) -> Bound:
        for node in reversed(spine):
            bound = self._binary(node, bound, self.bind(node.right))
        return bound

    def _binary(self, node: tree.Binary, a: Bound, b: Bound) -> Bound:
        match node.operator:
            case "AND" | "OR":
                return operators.conjunction(a, b, node.operator, node.place)
            case "||":
                return operators.concatenated(a, b, node.place)
            case "+" | "-" | "*" | "/" | "%":
                return operators.arithmetic(node.operator, a, b, self._settings, node.place)
            case "=" | "<>":
                if isinstance(node.left, tree.RowValue) and isinstance(node.right, tree.RowValue):
                    return self._rows_equal(node.operator, node.left, node.right, node.place)
        return operators.compare(node.operator, a, b, self._settings, node.place)

    def _rows_equal(self, operator: str, a: tree.RowValue, b: tree.RowValue, place: Place) -> Bound:
        """Rows that are written out are compared value by value, so that a NULL in one makes NULL."""
        if len(a.values) != len(b.values):
            raise TypeProblem(f"a row of {len(a.values)} values is compared with one of {len(b.values)}.", place)
        pairs = [
            operators.compare("=" if operator == "=" else "<>", self.bind(x), self.bind(y), self._settings, place)
            for x, y in zip(a.values, b.values, strict=True)
        ]
        found = pairs[0]
        for each in pairs[1:]:
            found = operators.conjunction(found, each, "AND" if operator == "=" else "OR", place)
        return found

    @_bind.register
    def _(self, node: tree.Is) -> Bound:
        operand = self.bind(node.operand)
        of = BOOLEAN.with_null(False)
        if node.what == "DISTINCT FROM":
            assert node.other is not None
            return operators.distinct(operand, self.bind(node.other), node.negated, self._settings, node.place)
        word = "NOT " if node.negated else ""
        if node.what == "NULL":
            if not operand.type.nullable and operand.type.kind is not Kind.NULL:
                return literals.constant("TRUE" if node.negated else "FALSE", of, node.negated)
            return combine(f"({operand.sql} IS {word}NULL)", of, operand)
        if node.what.startswith("JSON"):
            call = tree.Call(f"IS {node.what}", (node.operand,), place=node.place)
            found = self._call(call, (operand,))
            return combine(f"(NOT {found.sql})", found.type, found) if node.negated else found
        if operand.type.kind is not Kind.BOOLEAN:
            raise mistyped(f"IS {node.what}", (operand,), node.place)
        if node.what == "UNKNOWN":
            return combine(f"({operand.sql} IS {word}NULL)", of, operand)
        return combine(f"({operand.sql} IS {word}{node.what})", of, operand)

    @_bind.register
    def _(self, node: tree.Between) -> Bound:
        operand, low, high = self._value(node.operand), self.bind(node.low), self.bind(node.high)
        found = operators.between(operand, low, high, node.symmetric, self._settings, node.place)
        return combine(f"(NOT {found.sql})", found.type, found) if node.negated else found

    @_bind.register
    def _(self, node: tree.Like) -> Bound:
        escape = None if node.escape is None else self.bind(node.escape)
        found = operators.like(self._value(node.operand), self._value(node.pattern), escape, node.kind, node.place)
        return combine(f"(NOT {found.sql})", found.type, found) if node.negated else found

    @_bind.register
    def _(self, node: tree.InList) -> Bound:
        if isinstance(node.operand, tree.RowValue):
            found: Bound | None = None
            for value in node.values:
                if not isinstance(value, tree.RowValue):
                    raise TypeProblem("a row is looked for among values that are none.", value.place)
                each = self._rows_equal("=", node.operand, value, node.place)
                found = each if found is None else operators.conjunction(found, each, "OR")
            assert found is not None
        else:
            values = [self.bind(each) for each in node.values]
            found = operators.within(self._value(node.operand), values, self._settings, node.place)
        return combine(f"(NOT {found.sql})", found.type, found) if node.negated else found

    @_bind.register
    def _(self, node: tree.Case) -> Bound:
        branches = []
        operand = None if node.operand is None else self.bind(node.operand)
        for condition, value in node.branches:
            when = self.bind(condition)
            if operand is not None:
                when = operators.compare("=", operand, when, self._settings, condition.place)
            branches.append((when, self.bind(value)))
        otherwise = None if node.otherwise is None else self.bind(node.otherwise)
        return operators.case(branches, otherwise, self._settings, node.place)

    @_bind.register
    def _(self, node: tree.Cast) -> Bound:
        return cast(self.bind(node.operand), node.type, self._settings, node.is_try, node.place)

    # -- collections -----------------------------------------------------------------------------------------------

    @_bind.register
    def _(self, node: tree.RowValue) -> Bound:
        values = [self._value(each).materialized() for each in node.values]
        fields = [(f"EXPR${index}", each.type) for index, each in enumerate(values)]
        packed = ", ".join(f"{quoted(name)} := {each.sql}" for (name, _), each in zip(fields, values, strict=True))
        return combine(f"struct_pack({packed})", row(*fields, nullable=False), *values)

    @_bind.register
    def _(self, node: tree.ArrayValue) -> Bound:
        if not node.values:
            raise TypeProblem("an array of nothing has no type.", node.place)
        values = [self.bind(each) for each in node.values]
        of = operators.chosen_type(values, "ARRAY", node.place)
        items = ", ".join(as_type(each, of, self._settings).sql for each in values)
        element = of.duckdb
        bare = (
            f"[{items}]" if all(each.type.duckdb == element for each in values) else f"CAST([{items}] AS {element}[])"
        )
        return combine(bare, array(of, nullable=False), *values)

    @_bind.register
    def _(self, node: tree.MapValue) -> Bound:
        if not node.entries:
            raise TypeProblem("a map of nothing has no type.", node.place)
        keys, values = ([self._value(entry[side]) for entry in node.entries] for side in (0, 1))
        key_type = operators.chosen_type(keys, "MAP", node.place)
        value_type = operators.chosen_type(values, "MAP", node.place)
        entries = {}
        for key, value in zip(keys, values, strict=True):
            # The last of two equal keys counts; DuckDB would refuse them.
            entries[as_type(key, key_type, self._settings).sql] = as_type(value, value_type, self._settings).sql
        text = f"map([{', '.join(entries)}], [{', '.join(entries.values())}])"
        of = map_of(key_type, value_type, nullable=False)
        return combine(f"CAST({text} AS {of.duckdb})", of, *keys, *values)

    @_bind.register
    def _(self, node: tree.Index) -> Bound:
        operand, index = self._value(node.operand), self._value(node.index)
        of = operand.type
        if of.kind is Kind.ARRAY:
            assert of.element is not None
            if not index.type.is_integer or index.type.kind is Kind.BIGINT:
                raise TypeProblem(f"an index is an INT, not a {index.type}.", node.index.place)
            place = index.sql
            if isinstance(index.value, int) and index.value < 1:
                raise TypeProblem(f"an index begins at 1, not at {index.value}.", node.index.place)
            if not index.is_constant:
                place = f"CASE WHEN {index.sql} > 0 THEN {index.sql} END"  # DuckDB counts others from the end
            return combine(f"list_extract({operand.sql}, {place})", of.element.with_null(), operand, index)
        if of.kind is Kind.MAP:
            assert of.element is not None
            assert of.key is not None
            key = cast(index, of.key.with_null(), self._settings, place=node.place)
            return combine(f"map_extract_value({operand.sql}, {key.sql})", of.element.with_null(), operand, key)
        raise mistyped("[..]", (operand,), node.place)

    @_bind.register
    def _(self, node: tree.FieldOf) -> Bound:
        operand = self.bind(node.operand)
        field = next((each for each in operand.type.fields if each.name == node.name), None)
        if field is None:
            names = ", ".join(each.name for each in operand.type.fields)
            hint = f"There are: {names}." if names else ""
            raise TypeProblem(f"a {operand.type} has no field {node.name!r}.", node.place, hint)
        of = field.type.with_null(field.type.nullable or operand.type.nullable)
        return combine(f"struct_extract({operand.sql}, {text_literal(node.name)})", of, operand)

    # -- functions -------------------------------------------------------------------------------------------------

    @_bind.register
    def _(self, node: tree.Call) -> Bound:
        from streamkit_sql.expressions.aggregates import is_aggregate

        own = next((each for key, each in self._functions.items() if key.upper() == node.name), None)
        if node.over is not None:
            raise NotSupported(f"{node.name} OVER at this place.", node.place, "It stands in SELECT.")
        if is_aggregate(node.name) if own is None or callable(own) else own.is_aggregate:
            raise TypeProblem(f"{node.name} is an aggregate and has no place here.", node.place)
        if node.distinct or node.filter is not None or node.order:
            raise TypeProblem(f"{node.name} is no aggregate.", node.place)
        special = SPECIAL.get(node.name)
        if own is None and special is not None:
            return special(self, node)
        return self._call(node, tuple(self.bind(each) for each in node.arguments))

    def _call(self, node: tree.Call, arguments: tuple[Bound, ...]) -> Bound:
        found = built_in(node.name, self._functions)
        if found is None:
            return foreign.call(node.name, arguments, [each.place for each in node.arguments], node.place)
        if callable(found):
            options = {name: self.bind(value) for name, value in node.options}
            return found(FunctionCall(node.name, arguments, node.words, options, self._settings, node.place))
        return self._user(found, node, arguments)

    def _user(self, function: UserFunction, node: tree.Call, arguments: tuple[Bound, ...]) -> Bound:
        arguments = taken(function, node, arguments, self._settings)
        name = function.named([each.type for each in arguments], self._settings.zone)
        text = f"{quoted(name)}({', '.join(each.sql for each in arguments) or '0::TINYINT'})"
        self._calls.add(text)
        return combine(text, function.result, *arguments, deterministic=function.is_deterministic)

    def _processing_time(self, node: tree.Call) -> Bound:
        of = timestamp_ltz(3, nullable=False)
        return Bound(quoted(PROCESSING_TIME), of, frozenset([PROCESSING_TIME]), "processing")

    def _overlaps(self, node: tree.Call) -> Bound:
        """Whether two periods have a moment in common, their ends included, as Calcite takes it; the second of a
        pair is an end or a span, and the ends of a pair may be in any order."""
        pairs = []
        for period in node.arguments:
            if not isinstance(period, tree.RowValue) or len(period.values) != 2:
                raise TypeProblem("OVERLAPS takes two pairs.", period.place, "Write (a, b) OVERLAPS (c, d).")
            a, b = (self._value(each) for each in period.values)
            if b.type.is_interval:
                b = operators.arithmetic("+", a, b, self._settings, period.place)
            pairs.append((a, b, period.place))
        settings = self._settings
        ends = []
        for a, b, place in pairs:
            is_sorted = operators.compare("<=", a, b, settings, place)
            ends.append(operators.case([(is_sorted, a)], b, settings, place))
            ends.append(operators.case([(is_sorted, b)], a, settings, place))
        start0, end0, start1, end1 = ends
        return operators.conjunction(
            operators.compare(">=", end0, start1, settings, node.place),
            operators.compare(">=", end1, start0, settings, node.place),
            "AND",
        )

    def _remainder(self, node: tree.Call) -> Bound:
        a, b = self._arguments(node, 2)
        return operators.arithmetic("%", a, b, self._settings, node.place)

    def _coalesce(self, node: tree.Call) -> Bound:
        arguments = [self.bind(each) for each in node.arguments]
        of = self._merged(node, arguments)
        used = []
        for each in arguments:
            if each.type.kind is Kind.NULL:
                continue
            used.append(each)
            if not each.type.nullable:
                break  # the rest is never asked for
        is_nullable = used[-1].type.nullable
        texts = [as_type(each, of, self._settings).sql for each in used]
        text = texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})"
        return combine(text, of.with_null(is_nullable), *used)

    def _if_null(self, node: tree.Call) -> Bound:
        if len(node.arguments) != 2:
            raise TypeProblem(f"IFNULL takes 2 arguments, not {len(node.arguments)}.", node.place)
        return self._coalesce(node)

    def _null_if(self, node: tree.Call) -> Bound:
        a, b = (self.bind(each) for each in node.arguments) if len(node.arguments) == 2 else self._arguments(node, 2)
        if b.type.kind is Kind.NULL:
            return combine(a.sql, a.type.with_null(), a)
        equal = operators.compare("=", a, b, self._settings, node.place)
        of = a.type.with_null()
        if equal.sql == f"({a.sql} = {b.sql})" and a.type.same_as(b.type):
            return combine(f"nullif({a.sql}, {b.sql})", of, a, b)
        return combine(f"CASE WHEN {equal.sql} THEN NULL ELSE {a.sql} END", of, a, b)

    def _if(self, node: tree.Call) -> Bound:
        condition, a, b = self._arguments(node, 3)
        if a.type.is_timestamp and b.type.is_timestamp:
            b = cast(b, a.type.with_null(), self._settings)
        if a.type.kind in _NESTED:
            raise mistyped("IF", (a, b), node.place, "CASE takes them.")
        found = operators.case([(condition, a)], b, self._settings, node.place)
        return combine(found.sql, found.type.with_null(), condition, a, b)

    def _extreme(self, node: tree.Call) -> Bound:
        """GREATEST and LEAST: NULL if one is, which DuckDB's are not."""
        arguments = [self._value(each) for each in node.arguments]
        of = self._merged(node, arguments)
        if of.kind in _NESTED or of.is_bytes:
            raise mistyped(node.name, arguments, node.place)
        texts = [as_type(each, of, self._settings).sql for each in arguments]
        text = texts[0] if len(texts) == 1 else f"{node.name.lower()}({', '.join(texts)})"
        empty = [f"{text_} IS NULL" for text_, each in zip(texts, arguments, strict=True) if each.type.nullable]
        if empty and len(texts) > 1:
            text = f"CASE WHEN {' OR '.join(empty)} THEN NULL ELSE {text} END"
        return combine(text, of, *arguments)

    def _arguments(self, node: tree.Call, count: int) -> list[Bound]:
        if len(node.arguments) != count:
            raise TypeProblem(f"{node.name} takes {count} arguments, not {len(node.arguments)}.", node.place)
        return [self._value(each) for each in node.arguments]

    def _merged(self, node: tree.Call, arguments: Sequence[Bound]) -> SqlType:
        of = merged_type([each.type for each in arguments])
        if of is None:
            raise TypeProblem(
                f"{node.name} of {', '.join(str(each.type) for each in arguments) or 'nothing'}.", node.place
            )
        return of


SPECIAL: Final[Mapping[str, Callable[[_Binder, tree.Call], Bound]]] = {
    "PROCTIME": _Binder._processing_time,
    "MOD": _Binder._remainder,
    "OVERLAPS": _Binder._overlaps,
    "COALESCE": _Binder._coalesce,
    "IFNULL": _Binder._if_null,
    "NULLIF": _Binder._null_if,
    "IF": _Binder._if,
    "GREATEST": _Binder._extreme,
    "LEAST": _Binder._extreme,
}
