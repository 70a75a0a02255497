"""The plan of a query: relations over relations.

Every relation has its schema's columns, uniquely named, and hidden ones that operators pass on:

| column | type | meaning |
|---|---|---|
| `$n` | BIGINT | place in the order of arrival over all that a query reads; ties are broken by it |
| `$wm` | BIGINT | watermark in epoch ms before this row came: whether it is late does not depend on ticks |
| `$at` | TIMESTAMP | arrival, UTC: processing time |
| `$w` | INTEGER | only where `changes` is UPDATES: +1 the row comes, -1 it goes |

Expressions are DuckDB texts over the input's columns (`Bound.sql`). A join's two inputs share no name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from streamkit_sql.errors import Place
from streamkit_sql.expressions.bound import Aggregate, Bound, Column, TimeAttribute

NUMBER = '"$n"'
WATERMARK = '"$wm"'
ARRIVED = '"$at"'
WEIGHT = '"$w"'


class Changes(Enum):
    APPEND = "append"
    UPDATES = "updates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    columns: tuple[Column, ...]
    changes: Changes = Changes.APPEND
    key: tuple[str, ...] | None = None
    """Columns of which no two rows that are there have the same values; None where no such are known."""
    window: WindowOf | None = None
    """The window its rows belong to, where it is one of a window table function or made from such."""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, slots=True)
class WindowOf:
    """The columns that say which window a row is in. `time` says whether event time or processing time closes it."""

    start: str | None
    end: str | None
    time_column: str | None
    time: TimeAttribute
    spec: WindowSpec


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Windows are [start, end). All in ms; `step_ms` is HOP's slide and CUMULATE's step; `gap_ms` is SESSION's."""

    kind: Literal["TUMBLE", "HOP", "CUMULATE", "SESSION"]
    size_ms: int = 0
    step_ms: int = 0
    offset_ms: int = 0
    gap_ms: int = 0
    partition: tuple[str, ...] = ()  # columns, of SESSION
    zone: str = "UTC"
    """Of windows of a TIMESTAMP_LTZ: whose wall clock they are cut by. Their starts and ends are on that clock, and so
    is the `time` of a Windowed and a WindowAggregate."""


@dataclass(frozen=True, slots=True)
class Scan(Relation):
    """A table's rows; `table` is its name in the catalog. Several scans of one table are read and decoded once."""

    table: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Map(Relation):
    """Filter, then project."""

    input: Node
    projections: tuple[tuple[str, Bound], ...]
    condition: Bound | None = None


@dataclass(frozen=True, slots=True)
class Unnest(Relation):
    """Adds columns per element of an array, map or multiset; with `outer`, a row of NULLs where there is none."""

    input: Node
    collection: Bound
    added: tuple[Column, ...]
    with_ordinality: bool = False
    outer: bool = False


@dataclass(frozen=True, slots=True)
class Windowed(Relation):
    """A window table function: each row once per window it is in, with `window_start`, `window_end`, `window_time`
    (the names are in `window`). A row of SESSION waits until its session has closed."""

    input: Node
    time: Bound
    spec: WindowSpec


@dataclass(frozen=True, slots=True)
class WindowAggregate(Relation):
    """Groups per window and key, emitted once, when the window closes.

    `input` is what is windowed, not a `Windowed`: either `time` is the time attribute and `spec` says how it is cut,
    or (`is_cascade`) the rows already belong to a window: `start` and `end` are its columns and `spec` says which.
    `outputs` names what is emitted of the window: pairs of (column, "start" | "end" | "time").
    With `grouping_sets`, each is a set of indexes into `keys`; the others are NULL; `grouping_ids` names columns that
    get GROUPING()'s bits over the given key indexes.
    """

    input: Node
    time: Bound | None
    time_kind: TimeAttribute
    spec: WindowSpec
    keys: tuple[tuple[str, Bound], ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    outputs: tuple[tuple[str, Literal["start", "end", "time"]], ...]
    start: Bound | None = None
    end: Bound | None = None
    grouping_sets: tuple[tuple[int, ...], ...] | None = None
    grouping_ids: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def is_cascade(self) -> bool:
        return self.end is not None


@dataclass(frozen=True, slots=True)
class Ordering:
    expression: Bound
    descending: bool
    nulls_first: bool  # decided: Flink's default is that NULLs are lowest


@dataclass(frozen=True, slots=True)
class WindowRank(Relation):
    """The first rows of each window and partition, `first` to `last` by ROW_NUMBER, emitted when the window closes.
    `number` names the rank's column where it is asked for. Deduplication in a window is `last` 1 by a time column."""

    input: Node
    end: Bound
    time_kind: TimeAttribute
    partition: tuple[Bound, ...]  # without the window's own columns
    start: Bound | None
    ordering: tuple[Ordering, ...]
    first: int
    last: int
    number: str | None


JoinKind: TypeAlias = Literal["INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"]


@dataclass(frozen=True, slots=True)
class WindowJoin(Relation):
    """Rows of both sides in the same window whose `left_keys` equal `right_keys` and for which `residual` holds,
    emitted when the window closes. The window's columns are among the keys."""

    left: Node
    right: Node
    kind: JoinKind
    left_end: Bound
    right_end: Bound
    time_kind: TimeAttribute
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    residual: Bound | None


@dataclass(frozen=True, slots=True)
class GroupAggregate(Relation):
    """Groups that change as rows come and go; DISTINCT is one without aggregates. Without `keys` there is one group,
    which is emitted from the first row on. `having` is not here but a Map above. Its output's `key` is the group's."""

    input: Node
    keys: tuple[tuple[str, Bound], ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    grouping_sets: tuple[tuple[int, ...], ...] | None = None
    grouping_ids: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Rank(Relation):
    """The first rows of each partition, `first` to `last` by ROW_NUMBER, as they change; ties by arrival.

    Deduplication keeping the first or last row by a time attribute is one with `last` 1. APPEND where a row that was
    emitted can never change (keep-first by processing time).
    """

    input: Node
    partition: tuple[Bound, ...]
    ordering: tuple[Ordering, ...]
    first: int
    last: int
    number: str | None
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PendingRank(Relation):
    """A relation with ROW_NUMBER as its last column, of which it is not known yet which ranks are wanted. Only while a
    query is being planned."""

    input: Node
    partition: tuple[Bound, ...]
    ordering: tuple[Ordering, ...]
    number: str
    place: Place


@dataclass(frozen=True, slots=True)
class RegularJoin(Relation):
    """A join over all that came and has not gone. NULL keys match nothing."""

    left: Node
    right: Node
    kind: JoinKind
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    residual: Bound | None
    left_ttl_ms: int | None = None
    right_ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class IntervalJoin(Relation):
    """Left rows with right rows for which `left_time + lower_ms <= right_time <= left_time + upper_ms`, the keys are
    equal and `residual` holds. Pairs are emitted when the second of them comes; a row of an outer side without a
    partner when no partner can come any more."""

    left: Node
    right: Node
    kind: JoinKind
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    left_time: Bound
    right_time: Bound
    time_kind: TimeAttribute
    lower_ms: int
    upper_ms: int
    residual: Bound | None


@dataclass(frozen=True, slots=True)
class TemporalJoin(Relation):
    """Each left row with the version of the right row (a table with a key, whose versions begin at `right_time`) that
    was valid at `left_time`; emitted when the watermark has passed `left_time`. INNER or LEFT. With `processing` it is
    the newest version at the row's arrival."""

    left: Node
    right: Node
    kind: Literal["INNER", "LEFT"]
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    left_time: Bound
    right_time: Bound | None
    time_kind: TimeAttribute
    residual: Bound | None
    newest_only: bool = False
    """A version counts only if it is not older than those of its key that came before."""


@dataclass(frozen=True, slots=True)
class LookupJoin(Relation):
    """Each left row with the rows of a reference table as it is now."""

    left: Node
    table: str
    table_columns: tuple[Column, ...]  # as they are named in this relation
    table_names: tuple[str, ...]  # as they are named in the table
    kind: Literal["INNER", "LEFT"]
    left_keys: tuple[Bound, ...]
    right_keys: tuple[Bound, ...]
    residual: Bound | None


@dataclass(frozen=True, slots=True)
class Frame:
    """`preceding` None: unbounded. RANGE is in ms of the time column, ROWS in rows. Always up to the current row."""

    unit: Literal["RANGE", "ROWS"]
    preceding: int | None


@dataclass(frozen=True, slots=True)
class OverCall:
    """One column of an OVER; `aggregate` None: a function that is only an OVER's, whose DuckDB text is `function`."""

    name: str
    aggregate: Aggregate | None
    function: str | None
    frame: Frame


@dataclass(frozen=True, slots=True)
class Over(Relation):
    """Each row with aggregates over the rows before it in its partition, by a time attribute; emitted when the
    watermark has passed it. With RANGE, rows of one instant share a value."""

    input: Node
    partition: tuple[Bound, ...]
    time: Bound
    time_kind: TimeAttribute
    calls: tuple[OverCall, ...]


@dataclass(frozen=True, slots=True)
class Match(Relation):
    """MATCH_RECOGNIZE; see `runtime.match` for what `program` is."""

    input: Node
    partition: tuple[str, ...]
    time: Bound
    time_kind: TimeAttribute
    program: Any


@dataclass(frozen=True, slots=True)
class Union(Relation):
    """UNION ALL; the inputs' columns have the same names and types as the output's."""

    inputs: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class SetDifference(Relation):
    """INTERSECT and EXCEPT, with and without ALL."""

    left: Node
    right: Node
    kind: Literal["INTERSECT", "EXCEPT"]
    all: bool
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Values(Relation):
    """Rows that are there once, at the start."""

    rows: tuple[tuple[Bound, ...], ...]


@dataclass(frozen=True, slots=True)
class WindowFilterToEnd(Relation):
    """`ORDER BY ... LIMIT n` and the like over bounded inputs, done at the end of input."""

    input: Node
    ordering: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0


Node: TypeAlias = (
    Scan
    | Map
    | Unnest
    | Windowed
    | WindowAggregate
    | WindowRank
    | WindowJoin
    | GroupAggregate
    | Rank
    | PendingRank
    | RegularJoin
    | IntervalJoin
    | TemporalJoin
    | LookupJoin
    | Over
    | Match
    | Union
    | SetDifference
    | Values
    | WindowFilterToEnd
)


@dataclass(frozen=True, slots=True)
class Output:
    """A query's rows into a table; `target` None: to whoever asked."""

    query: Node
    target: str | None = None
    columns: tuple[Column, ...] = field(default=())
