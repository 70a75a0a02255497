"""A bound expression: DuckDB's text for Flink's value, with its type; and the ports binding is done through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias

from streamkit_sql.errors import NOWHERE, Place
from streamkit_sql.language import tree
from streamkit_sql.types import SqlType

TimeAttribute: TypeAlias = Literal["event", "processing"]


@dataclass(frozen=True, slots=True)
class Bound:
    """`sql` is safe to stand anywhere: it is a name, a literal, a call or in brackets.

    It reads the columns `columns` of its input by their quoted names, and computes, row by row, what Flink computes;
    where Flink's query would fail for a value, so does the text (DuckDB's `error()`).
    """

    sql: str
    type: SqlType
    columns: frozenset[str] = frozenset()
    time: TimeAttribute | None = None  # a time attribute, not just a timestamp
    is_constant: bool = False  # `value` is known (None is NULL)
    value: Any = None
    is_deterministic: bool = True
    foreign: frozenset[str] = frozenset()
    """Functions of DuckDB's that Flink does not have."""

    def materialized(self) -> Bound:
        """The same as a mere value: no time attribute any more."""
        return replace(self, time=None)


@dataclass(frozen=True, slots=True)
class Column:
    """Of a relation. `name` is unique in it and stands quoted in DuckDB's texts."""

    name: str
    type: SqlType
    time: TimeAttribute | None = None


class Scope(Protocol):
    """What names mean where an expression stands."""

    def resolve(self, name: tree.Name) -> Bound:
        """A column, or a field inside one (as `struct_extract` texts). Raises UnknownName with near names as hint."""
        ...

    def replace(self, node: tree.Expression, bind: Callable[[tree.Expression], Bound]) -> Bound | None:
        """Asked for every node before it is bound: how a query puts in what it computed apart (aggregates, grouping
        expressions, OVER, subqueries). None: bind it as it stands. `bind` binds a child in this scope."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a session; what makes expressions mean something else."""

    zone: str = "UTC"  # table.local-time-zone
    not_null_enforcer: Literal["ERROR", "DROP"] = "ERROR"
    legacy_cast: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """What a function's rule gets: bound arguments and the special forms' words (see `tree.Call`)."""

    name: str
    arguments: tuple[Bound, ...]
    words: tuple[str, ...]
    options: Mapping[str, Bound]
    settings: Settings
    place: Place = NOWHERE


FunctionRule: TypeAlias = Callable[[FunctionCall], Bound]
"""Raises TypeProblem with the place for arguments it does not take, naming the signatures it has."""


def combine(sql: str, of: SqlType, *parts: Bound, deterministic: bool = True) -> Bound:
    """A Bound over others: reads what they read."""
    return Bound(
        sql,
        of,
        frozenset().union(*(part.columns for part in parts)),
        is_deterministic=deterministic and all(part.is_deterministic for part in parts),
        foreign=frozenset().union(*(part.foreign for part in parts)),
    )


# -- aggregates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partial:
    """One accumulator of an aggregate.

    `of_rows` is a DuckDB aggregate over input rows, `of_changes` the same where rows have a weight in `"$w"` (+1 comes,
    -1 goes), None where what went cannot be taken back (MIN). `merge` merges accumulators: `sum({})`.
    """

    type: str  # DuckDB's
    of_rows: str
    of_changes: str | None
    merge: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A bound aggregate call.

    `final` is a template over the merged accumulators `{0}`, `{1}` .. if there are any. `whole` is a DuckDB aggregate
    over all rows of the group, always there; it may order by the hidden column `"$n"`, the place of arrival; DISTINCT,
    FILTER and the arguments' texts are in all of them.
    """

    name: str
    type: SqlType
    arguments: tuple[Bound, ...]
    whole: str
    partials: tuple[Partial, ...] = ()  # none: it cannot be merged
    final: str = ""
    columns: frozenset[str] = frozenset()
    distinct_of: Bound | None = None
    """For COUNT(DISTINCT x) and its like: keep distinct values of this as rows; `whole` is right over them, too."""
    foreign: frozenset[str] = frozenset()

    @property
    def is_mergeable(self) -> bool:
        return bool(self.partials)

    @property
    def is_retractable(self) -> bool:
        return self.is_mergeable and all(part.of_changes is not None for part in self.partials)


class UserFunction(Protocol):
    """A function of the session's own. Without `parameters` it takes arguments of any types.

    An aggregate takes a list an argument: the group's values in the order of arrival.
    """

    @property
    def parameters(self) -> tuple[SqlType, ...] | None: ...

    @property
    def result(self) -> SqlType: ...

    @property
    def is_deterministic(self) -> bool: ...

    @property
    def is_aggregate(self) -> bool: ...

    def named(self, arguments: Sequence[SqlType], zone: str) -> str:
        """The function of DuckDB's for arguments of these types; without arguments it takes a TINYINT, whatever it
        is. `zone` is the session's."""
        ...


ARRIVAL_ORDER: Final = '"$n"'
