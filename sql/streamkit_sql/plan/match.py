"""MATCH_RECOGNIZE, as much of it as Flink has: what a pattern is, and its conditions and measures as expressions over
the rows that a partial match holds.

An expression is cut into atoms: parts that look at one row alone, which DuckDB computes for all rows at once. What puts
values of several rows together (comparisons, logic, sums) is a small tree that is evaluated per partial match; parts
that have no such form are left to DuckDB, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Aggregate, Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan import walk
from streamkit_sql.plan.maps import project
from streamkit_sql.plan.nodes import Changes, Match, Ordering
from streamkit_sql.plan.scopes import TableScope, reference
from streamkit_sql.types import Kind, SqlType, quoted, timestamp_ltz

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner

ANY: Final = -1
"""In the place of a variable: all rows of the match."""

# -- what a pattern is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """Which row of a match: of those taken by `variable`, the one `offset` after the first or before the last.

    `is_current` is the row that a condition is asked for.
    """

    variable: int
    first: bool = False
    offset: int = 0
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class Atom:
    """`index` is of `Program.atoms`; where there is no such row, its columns are NULL."""

    index: int
    where: Where


@dataclass(frozen=True, slots=True)
class Constant:
    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Logic:
    operator: Literal["AND", "OR"]
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Compare:
    operator: Literal["=", "<>", "<", "<=", ">", ">="]
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Of whole numbers, which wrap at `bits`, or of DOUBLE (`bits` 0)."""

    operator: Literal["+", "-", "*"]
    left: Expression
    right: Expression
    bits: int


@dataclass(frozen=True, slots=True)
class Test:
    operand: Expression
    what: Literal["NULL", "TRUE", "FALSE"]
    negated: bool


@dataclass(frozen=True, slots=True)
class Total:
    """An aggregate over the rows of a variable. `fast` says how it is computed over an atom's values; else `aggregate`
    is left to DuckDB over the atoms that are its columns."""

    variable: int
    is_current: bool  # the row that is asked for is among them
    fast: Literal["COUNT", "SUM", "MIN", "MAX", "AVG"] | None
    atom: int
    bits: int
    aggregate: Aggregate
    atoms: tuple[tuple[str, SqlType, int], ...]


@dataclass(frozen=True, slots=True)
class MatchTime:
    """MATCH_ROWTIME() is the time of the match's last row, MATCH_PROCTIME() when it came."""

    kind: Literal["event", "processing"]


@dataclass(frozen=True, slots=True)
class Computed:
    """Left to DuckDB: `bound` reads the columns that `parts` name."""

    bound: Bound
    parts: tuple[tuple[str, SqlType, Expression], ...]


Expression: TypeAlias = Atom | Constant | Logic | Not | Compare | Arithmetic | Test | Total | MatchTime | Computed


@dataclass(frozen=True, slots=True)
class Variable:
    """One place of the pattern. `maximum` None: no bound. `condition` None: every row is taken."""

    name: str
    minimum: int
    maximum: int | None
    greedy: bool
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class Program:
    """All of a MATCH_RECOGNIZE but its input. `atoms` are expressions over the input's columns."""

    variables: tuple[Variable, ...]
    measures: tuple[tuple[str, Expression], ...]
    atoms: tuple[Bound, ...]
    after: Literal["PAST LAST ROW", "TO NEXT ROW", "TO FIRST", "TO LAST"]
    after_variable: int | None
    within_ms: int | None
    ordering: tuple[Ordering, ...]


# -- planning --------------------------------------------------------------------------------------------------------


def plan(planner: Planner, source: tree.MatchRecognize) -> Match:
    """Its columns are those of PARTITION BY, then the measures."""
    from streamkit_sql.plan import joins, sources

    given = sources.filtered(planner, joins.plan(planner, source.source, []), [])
    if given.node.changes is Changes.UPDATES:
        raise NotSupported("MATCH_RECOGNIZE over a relation whose rows change.", source.place)
    if source.all_rows:
        raise NotSupported("ALL ROWS PER MATCH, as in Flink.", source.place, "Write ONE ROW PER MATCH.")
    scope = given.scope()
    partition = []
    for each in source.partition:
        bound = planner.bind(each, scope)
        if not isinstance(each, tree.Name) or bound.sql != quoted(next(iter(bound.columns), "")):
            raise NotSupported("PARTITION BY takes columns in MATCH_RECOGNIZE.", each.place)
        partition.append((each.parts[-1], bound))
    time, ordering = _ordering(planner, scope, source)
    terms = _terms(source.pattern)
    names = [term.variable for term in terms if term.variable is not None]
    _check_names(source, names)
    binder = _Binder(planner, scope, names)
    defines = dict(source.defines)
    variables = []
    for index, term in enumerate(terms):
        name = names[index]
        condition = binder.condition(defines[name], index) if name in defines else None
        variables.append(Variable(name, term.minimum, term.maximum, _is_greedy(term), condition))
    measures = [(name, *binder.measure(each)) for each, name in source.measures]
    node = project(
        given.node,
        [
            (column.name, reference(column))
            for column in given.node.columns
            if column.name in _read(binder, partition, time, ordering)
        ],
    )
    program = Program(
        variables=tuple(variables),
        measures=tuple((name, expression) for name, expression, _, _ in measures),
        atoms=tuple(binder.atoms),
        after=source.after or "TO NEXT ROW",
        after_variable=_after(source, names),
        within_ms=_within(source),
        ordering=ordering,
    )
    columns = [Column(name, bound.type, bound.time) for name, bound in partition]
    columns += [Column(name, of, kind) for name, _, of, kind in measures]
    if len({column.name for column in columns}) < len(columns):
        raise TypeProblem("two columns of MATCH_RECOGNIZE have one name.", source.place)
    return Match(
        columns=tuple(columns), input=node, partition=tuple(next(iter(bound.columns)) for _, bound in partition),
        time=time, time_kind=time.time or "event", program=program,
    )  # fmt: skip


def _read(
    binder: _Binder, partition: Sequence[tuple[str, Bound]], time: Bound, ordering: Sequence[Ordering]
) -> set[str]:
    bounds = [*binder.atoms, *(bound for _, bound in partition), time, *(each.expression for each in ordering)]
    return set().union(*(bound.columns for bound in bounds))


def _ordering(planner: Planner, scope: TableScope, source: tree.MatchRecognize) -> tuple[Bound, tuple[Ordering, ...]]:
    if not source.order:
        hint = "Order by the time attribute first."
        raise NotSupported("MATCH_RECOGNIZE needs an ORDER BY over a stream.", source.place, hint)
    bound = [planner.bind(each.expression, scope) for each in source.order]
    if bound[0].time is None:
        hint = "Order by the time attribute first."
        raise NotSupported("MATCH_RECOGNIZE goes by time over a stream.", source.order[0].place, hint)
    if source.order[0].descending:
        raise NotSupported("the time must be ascending in MATCH_RECOGNIZE.", source.order[0].place)
    rest = []
    for item, each in zip(source.order[1:], bound[1:], strict=True):
        nulls_first = item.nulls_first if item.nulls_first is not None else not item.descending
        rest.append(Ordering(each, item.descending, nulls_first))
    return bound[0], tuple(rest)


def _terms(pattern: tree.PatternTerm) -> list[tree.PatternTerm]:
    """The variables in their order."""
    if pattern.is_alternation:
        raise NotSupported("alternation in a pattern, as in Flink.", pattern.place)
    is_plain = (pattern.minimum, pattern.maximum) == (1, 1)
    if pattern.variable is not None:
        return [pattern]
    if not is_plain:
        raise NotSupported("a group with a quantifier in a pattern, as in Flink.", pattern.place)
    return [term for part in pattern.parts for term in _terms(part)]


def _is_optional(term: tree.PatternTerm) -> bool:
    return (term.minimum, term.maximum) == (0, 1)


def _is_greedy(term: tree.PatternTerm) -> bool:
    """Whether a row that the variable can take is taken by it alone. `?` and `{n}` are not so in Flink."""
    return term.greedy and not _is_optional(term) and term.minimum != term.maximum


def _check_names(source: tree.MatchRecognize, names: Sequence[str]) -> None:
    terms = _terms(source.pattern)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise NotSupported(f"variable {name!r} twice in a pattern, as in Flink.", source.pattern.place)
    for name, expression in source.defines:
        if name not in names:
            raise TypeProblem(f"DEFINE of {name!r}, which is not in the pattern.", expression.place)
    for term in terms:
        if _is_optional(term) and not term.greedy:
            raise NotSupported("a reluctant optional variable, as in Flink.", term.place)
    for before, term in pairwise(terms):
        if _is_greedy(before) and term.minimum == 0:
            raise NotSupported("an optional variable after a greedy one, as in Flink.", term.place)
    if _is_greedy(terms[-1]):
        hint = "End it with a simple variable or a reluctant quantifier."
        raise NotSupported("a greedy quantifier at the end of a pattern, as in Flink.", terms[-1].place, hint)
    if all(term.minimum == 0 for term in terms):
        raise NotSupported("a pattern that can match no row, as in Flink.", source.pattern.place)


def _after(source: tree.MatchRecognize, names: Sequence[str]) -> int | None:
    if source.after_variable is None:
        return None
    if source.after_variable not in names:
        raise TypeProblem(f"SKIP TO {source.after_variable!r}, which is not in the pattern.", source.place)
    return names.index(source.after_variable)


def _within(source: tree.MatchRecognize) -> int | None:
    if source.within is None:
        return None
    if not isinstance(source.within, tree.IntervalLiteral) or source.within.milliseconds is None:
        raise NotSupported("WITHIN takes an interval of days to milliseconds.", source.within.place)
    return source.within.milliseconds


# -- expressions over a match ----------------------------------------------------------------------------------------

_SHIFTS: Final = ("FIRST", "LAST", "PREV", "NEXT")
_BITS: Final = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INTEGER: 32, Kind.BIGINT: 64}
_FAMILIES: Final = (
    frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL}),
    frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INTEGER, Kind.DOUBLE}),
    frozenset({Kind.CHAR, Kind.VARCHAR}),
    frozenset({Kind.TIMESTAMP}),
    frozenset({Kind.TIMESTAMP_LTZ}),
    frozenset({Kind.DATE}),
    frozenset({Kind.BOOLEAN}),
)
"""Types whose values Python compares as Flink does."""
Binds: TypeAlias = Callable[[tree.Expression], Bound]


@dataclass(slots=True)
class _RowScope:
    """Names as columns of one row, whichever it is."""

    owner: _Binder

    def resolve(self, name: tree.Name) -> Bound:
        return self.owner.column(name)

    def replace(self, node: tree.Expression, bind: Binds) -> Bound | None:
        if isinstance(node, tree.Call) and node.name in (*_SHIFTS, "FINAL", "RUNNING") and node.over is None:
            return bind(node.arguments[0]) if node.arguments else None
        return None


@dataclass(slots=True)
class _PartScope:
    """Parts that look at one row, and aggregates, as columns of their own."""

    owner: _Binder
    parts: list[tuple[str, SqlType, Expression]] = field(default_factory=list)

    def resolve(self, name: tree.Name) -> Bound:
        return self.owner.column(name)

    def replace(self, node: tree.Expression, bind: Binds) -> Bound | None:
        found = self.owner.part(node)
        if found is None:
            return None
        expression, of, time = found
        if isinstance(expression, Constant):
            return None
        for name, known_type, known in self.parts:
            if known == expression and known_type == of:
                return Bound(quoted(name), of, frozenset([name]), time)
        name = f"$p{len(self.parts)}"
        self.parts.append((name, of, expression))
        return Bound(quoted(name), of, frozenset([name]), time)


Part: TypeAlias = tuple[Expression, SqlType, "Literal['event', 'processing'] | None"]


class _Binder:
    """`current` is the variable whose condition is bound, None in MEASURES."""

    def __init__(self, planner: Planner, scope: TableScope, names: Sequence[str]) -> None:
        self._planner = planner
        self._scope = scope
        self._names = list(names)
        self._current: int | None = None
        self.atoms: list[Bound] = []

    def condition(self, node: tree.Expression, variable: int) -> Expression:
        self._current = variable
        bound_type = self._whole(node).type
        if bound_type.kind is not Kind.BOOLEAN:
            raise TypeProblem(f"DEFINE takes a condition; this is a {bound_type}.", node.place)
        return self._compiled(node)

    def measure(self, node: tree.Expression) -> Part:
        self._current = None
        part = self.part(node)
        if part is not None:
            return part
        of = self._whole(node).type
        return self._compiled(node), of, None

    def column(self, name: tree.Name) -> Bound:
        """What is behind a variable's name, or a bare column."""
        parts = name.parts
        if len(parts) > 1 and parts[0] in self._names:
            return self._scope.resolve(replace(name, parts=parts[1:]))
        return self._scope.resolve(name)

    # -- parts that look at one row ----------------------------------------------------------------------------------

    def part(self, node: tree.Expression) -> Part | None:
        """The node, if it looks at one row alone or is an aggregate; None where it must be taken apart."""
        if isinstance(node, tree.Call) and node.over is None:
            if node.name in ("FINAL", "RUNNING") and len(node.arguments) == 1:
                return self.part(node.arguments[0])
            if node.name in ("MATCH_ROWTIME", "MATCH_PROCTIME"):
                return self._match_time(node)
            if node.name in ("CLASSIFIER", "MATCH_NUMBER"):
                raise NotSupported(f"{node.name}, as in Flink.", node.place)
            if node.name not in _SHIFTS and self._planner.is_aggregate(node.name):
                return self._total(node)
        if not isinstance(node, tree.Node) or self._has_special(node):
            return None
        wheres = self._wheres(node)
        if len(wheres) > 1:
            return None
        bound = self._planner.bind(node, _RowScope(self))
        if not wheres:
            if bound.is_constant and (bound.value is None or isinstance(bound.value, int | float | str | bool)):
                return Constant(bound.value), bound.type, None
            return self._atom(bound, Where(ANY, is_current=self._current is not None)), bound.type, None
        # A column's own type says whether it may be NULL; the row itself is not thought of, as in Flink.
        return self._atom(bound, wheres.pop()), bound.type, bound.time

    def _atom(self, bound: Bound, where: Where) -> Atom:
        return Atom(self._index(bound), where)

    def _index(self, bound: Bound) -> int:
        for index, each in enumerate(self.atoms):
            if each.sql == bound.sql and each.type == bound.type:
                return index
        self.atoms.append(bound)
        return len(self.atoms) - 1

    def _has_special(self, node: tree.Expression) -> bool:
        return any(
            isinstance(each, tree.Call)
            and each.over is None
            and (
                each.name in ("MATCH_ROWTIME", "MATCH_PROCTIME", "CLASSIFIER", "MATCH_NUMBER")
                or (each.name not in _SHIFTS and self._planner.is_aggregate(each.name))
            )
            for each in walk.expressions(node)
        )

    def _wheres(self, node: object, shift: tuple[bool, int] = (False, 0)) -> set[Where]:
        """The rows that an expression looks at."""
        if isinstance(node, tree.Call) and node.over is None and node.name in _SHIFTS and node.arguments:
            return self._wheres(node.arguments[0], self._shift(node))
        if isinstance(node, tree.Name):
            return {self._where(node, *shift)}
        if isinstance(node, tuple):
            return set().union(*(self._wheres(each, shift) for each in node)) if node else set()
        if not isinstance(node, tree.Node):
            return set()
        found: set[Where] = set()
        for name in node.__dataclass_fields__:
            if name != "place":
                found |= self._wheres(getattr(node, name), shift)
        return found

    def _shift(self, node: tree.Call) -> tuple[bool, int]:
        if len(node.arguments) > 2:
            raise TypeProblem(f"{node.name} takes an expression and a number.", node.place)
        count = 1 if node.name in ("PREV", "NEXT") else 0
        if len(node.arguments) == 2:
            literal = node.arguments[1]
            if not isinstance(literal, tree.Literal_) or type(literal.value) is not int or literal.value < 0:
                raise TypeProblem(f"{node.name} takes a whole number.", literal.place)
            count = literal.value
        if node.name in ("PREV", "NEXT"):
            if count:
                raise NotSupported(f"{node.name}, as in Flink.", node.place, "LAST(x, 1) looks back in the match.")
            return False, 0
        return node.name == "FIRST", count

    def _where(self, name: tree.Name, first: bool, offset: int) -> Where:
        variable = self._names.index(name.parts[0]) if len(name.parts) > 1 and name.parts[0] in self._names else ANY
        is_own = self._current is not None and variable in (ANY, self._current)
        return Where(variable, first, offset, is_current=is_own and not first and offset == 0)

    # -- aggregates --------------------------------------------------------------------------------------------------

    def _total(self, node: tree.Call) -> Part:
        wheres = self._wheres(node.arguments)
        variables = {where.variable for where in wheres}
        if node.name == "COUNT" and isinstance(node.arguments[0], tree.Star):
            variables = {ANY}
        if len(variables) != 1 or any(where.first or where.offset for where in wheres):
            raise NotSupported(f"{node.name} takes columns of one pattern variable.", node.place)
        if node.distinct:
            raise NotSupported(f"{node.name}(DISTINCT ..) in MATCH_RECOGNIZE.", node.place)
        (variable,) = variables
        aggregate = self._planner.bind_aggregate(node, _RowScope(self))
        fast, bits, atom = None, 0, -1
        if len(node.arguments) == 1 and wheres and node.name in ("COUNT", "SUM", "MIN", "MAX", "AVG"):
            value = self._planner.bind(node.arguments[0], _RowScope(self))
            kind = value.type.kind
            is_easy = kind in _BITS or kind is Kind.DOUBLE or node.name == "COUNT"
            if is_easy or (node.name in ("MIN", "MAX") and any(kind in family for family in _FAMILIES)):
                fast, bits, atom = node.name, _BITS.get(kind, 0), self._index(value)
        columns = []
        if fast is None:
            for name in sorted(aggregate.columns):
                column = next(each for item in self._scope.items for _, each in item.columns if name in each.columns)
                columns.append((name, column.type, self._index(column)))
        is_current = self._current is not None and variable in (ANY, self._current)
        total = Total(variable, is_current, fast, atom, bits, aggregate, tuple(columns))  # type: ignore[arg-type]
        return total, aggregate.type, None

    def _match_time(self, node: tree.Call) -> Part:
        if node.name == "MATCH_PROCTIME":
            return MatchTime("processing"), timestamp_ltz(3, nullable=False), "processing"
        if self._current is not None:
            raise NotSupported("MATCH_ROWTIME in DEFINE.", node.place)
        time = [each for item in self._scope.items for _, each in item.columns if each.time == "event"]
        if not time:
            raise TypeProblem("MATCH_ROWTIME needs an event time.", node.place)
        return MatchTime("event"), time[0].type.with_null(False), "event"

    # -- what puts rows together -------------------------------------------------------------------------------------

    def _whole(self, node: tree.Expression) -> Bound:
        return self._planner.bind(node, _PartScope(self))

    def _compiled(self, node: tree.Expression) -> Expression:
        part = self.part(node)
        if part is not None:
            return part[0]
        return self._fast(node) or self._computed(node)

    def _computed(self, node: tree.Expression) -> Expression:
        scope = _PartScope(self)
        bound = self._planner.bind(node, scope)
        return Computed(bound, tuple(scope.parts))

    def _fast(self, node: tree.Expression) -> Expression | None:
        if isinstance(node, tree.Unary) and node.operator == "NOT":
            return Not(self._compiled(node.operand))
        if isinstance(node, tree.Is) and node.what in ("NULL", "TRUE", "FALSE"):
            return Test(self._compiled(node.operand), node.what, node.negated)
        if isinstance(node, tree.Between) and not node.symmetric:
            low = self._comparison(">=", node.operand, node.low)
            high = self._comparison("<=", node.operand, node.high)
            if low is None or high is None:
                return None
            both = Logic("AND", low, high)
            return Not(both) if node.negated else both
        if not isinstance(node, tree.Binary):
            return None
        if node.operator in ("AND", "OR"):
            return Logic(node.operator, self._compiled(node.left), self._compiled(node.right))
        if node.operator in ("=", "<>", "<", "<=", ">", ">="):
            return self._comparison(node.operator, node.left, node.right)
        if node.operator in ("+", "-", "*"):
            kinds = {self._type_of(node.left).kind, self._type_of(node.right).kind}
            of = self._whole(node).type.kind
            if (of in _BITS and kinds <= _BITS.keys()) or (of is Kind.DOUBLE and kinds == {Kind.DOUBLE}):
                left, right = self._compiled(node.left), self._compiled(node.right)
                return Arithmetic(node.operator, left, right, _BITS.get(of, 0))
        return None

    def _comparison(
        self, operator: Literal["=", "<>", "<", "<=", ">", ">="], left: tree.Expression, right: tree.Expression
    ) -> Expression | None:
        kinds = {self._type_of(left).kind, self._type_of(right).kind}
        if not any(kinds <= family for family in _FAMILIES):
            return None
        return Compare(operator, self._compiled(left), self._compiled(right))

    def _type_of(self, node: tree.Expression) -> SqlType:
        part = self.part(node)
        return part[1] if part is not None else self._whole(node).type
