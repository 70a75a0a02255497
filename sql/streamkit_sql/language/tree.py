"""The tree of a script: what is written, before anybody asks what it means.

Nodes are frozen and know their place. Identifiers keep the case they were written in; Flink's names are case-sensitive,
its functions and keywords are not (`Call.name` is in capitals).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, TypeAlias

from streamkit_sql.errors import NOWHERE, Place
from streamkit_sql.types import SqlType


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    # Trees are compared by what they say, not by where it stands.
    place: Place = field(default=NOWHERE, compare=False, repr=False)


# -- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name(Node):
    """`a`, `t.a`, `t.a.b`: a column, or fields inside one. Also a table's or a function's name."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literal_(Node):
    """A number with a decimal point is Decimal, with an exponent float; a text is str; TRUE, FALSE and NULL."""

    value: int | Decimal | float | str | bool | None

    # To Python 1, 1.0, 1.00 and TRUE are the same; they have different types.

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Literal_)
            and type(self.value) is type(other.value)
            and self.value == other.value
            and (not isinstance(self.value, Decimal | float) or str(self.value) == str(other.value))
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True, slots=True)
class BytesLiteral(Node):
    """`X'00FF'`."""

    value: bytes


@dataclass(frozen=True, slots=True)
class TimeLiteral(Node):
    """`DATE '2020-01-01'`, `TIME '..'`, `TIMESTAMP '..'`."""

    kind: Literal["DATE", "TIME", "TIMESTAMP"]
    text: str


@dataclass(frozen=True, slots=True)
class IntervalLiteral(Node):
    """`INTERVAL '5' SECOND`, `INTERVAL '1:30' HOUR TO MINUTE`; exactly one of both is set."""

    text: str
    unit: str  # in capitals: `SECOND`, `HOUR TO MINUTE`
    milliseconds: int | None
    months: int | None


@dataclass(frozen=True, slots=True)
class Star(Node):
    """`*`, `t.*`."""

    qualifier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unary(Node):
    operator: Literal["-", "+", "NOT"]
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`!=` is `<>`."""

    operator: Literal["+", "-", "*", "/", "%", "||", "=", "<>", "<", "<=", ">", ">=", "AND", "OR"]
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Is(Node):
    """`x IS [NOT] NULL|TRUE|FALSE|UNKNOWN`, `x IS [NOT] DISTINCT FROM y`, `x IS JSON [VALUE|OBJECT|ARRAY|SCALAR]`."""

    operand: Expression
    what: Literal[
        "NULL", "TRUE", "FALSE", "UNKNOWN", "DISTINCT FROM", "JSON", "JSON OBJECT", "JSON ARRAY", "JSON SCALAR"
    ]
    negated: bool = False
    other: Expression | None = None


@dataclass(frozen=True, slots=True)
class Between(Node):
    operand: Expression
    low: Expression
    high: Expression
    negated: bool = False
    symmetric: bool = False


@dataclass(frozen=True, slots=True)
class Like(Node):
    operand: Expression
    pattern: Expression
    escape: Expression | None = None
    negated: bool = False
    kind: Literal["LIKE", "SIMILAR TO"] = "LIKE"


@dataclass(frozen=True, slots=True)
class InList(Node):
    operand: Expression
    values: tuple[Expression, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class InQuery(Node):
    operand: Expression
    query: Query
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Exists(Node):
    query: Query


@dataclass(frozen=True, slots=True)
class ScalarQuery(Node):
    query: Query


@dataclass(frozen=True, slots=True)
class Case(Node):
    """`operand` where it is CASE x WHEN value."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None


@dataclass(frozen=True, slots=True)
class Cast(Node):
    operand: Expression
    type: SqlType
    is_try: bool = False  # TRY_CAST: NULL where it fails


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function; `COUNT(*)` has a Star. Special forms are calls, too, with their keywords as texts in `words`:

    EXTRACT(unit FROM x), FLOOR|CEIL(x TO unit), TIMESTAMPADD|TIMESTAMPDIFF(unit, a, b): words (unit,)
    TRIM([BOTH|LEADING|TRAILING] [c] FROM x): words (BOTH..,), arguments (x, c) or (x,)
    POSITION(a IN b): arguments (a, b). SUBSTRING(a FROM b FOR c), OVERLAY(a PLACING b FROM c FOR d): in order.
    JSON_VALUE, JSON_QUERY, JSON_EXISTS, JSON_OBJECT...: options in `words`, in order, one text each, such as
    "RETURNING STRING", "NULL ON EMPTY", "WITH CONDITIONAL ARRAY WRAPPER"; a DEFAULT's value is in `options`.
    CURRENT_TIMESTAMP and its like, written without brackets: no arguments.
    (a, b) OVERLAPS (c, d): both operands. RETURNING's type is as `SqlType` prints it, for `parser.parse_type`.
    RUNNING and FINAL of MATCH_RECOGNIZE: words ("RUNNING",) around `LAST` and so on.
    """

    name: str
    arguments: tuple[Expression, ...] = ()
    distinct: bool = False
    filter: Expression | None = None  # FILTER (WHERE ..)
    order: tuple[OrderItem, ...] = ()  # WITHIN GROUP (ORDER BY ..)
    over: WindowSpec | Name | None = None  # OVER (..), OVER w
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, Expression], ...] = ()
    ignore_nulls: bool | None = None


@dataclass(frozen=True, slots=True)
class RowValue(Node):
    """`ROW(a, b)`, `(a, b)`."""

    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class ArrayValue(Node):
    """`ARRAY[a, b]`."""

    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class MapValue(Node):
    """`MAP[k, v, ..]`."""

    entries: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`a[1]`, `m['key']`."""

    operand: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class FieldOf(Node):
    """`(expression).name`; where all is names it is a `Name`."""

    operand: Expression
    name: str


@dataclass(frozen=True, slots=True)
class AtTimeZone(Node):
    operand: Expression
    zone: Expression


Expression: TypeAlias = (
    Name
    | Literal_
    | BytesLiteral
    | TimeLiteral
    | IntervalLiteral
    | Star
    | Unary
    | Binary
    | Is
    | Between
    | Like
    | InList
    | InQuery
    | Exists
    | ScalarQuery
    | Case
    | Cast
    | Call
    | RowValue
    | ArrayValue
    | MapValue
    | Index
    | FieldOf
    | AtTimeZone
)


@dataclass(frozen=True, slots=True)
class OrderItem(Node):
    expression: Expression
    descending: bool = False
    nulls_first: bool | None = None  # None: Flink's default, NULLs are lowest


@dataclass(frozen=True, slots=True)
class FrameBound(Node):
    """`offset` None: UNBOUNDED, or CURRENT ROW where `current`."""

    offset: Expression | None
    following: bool = False
    current: bool = False


@dataclass(frozen=True, slots=True)
class WindowSpec(Node):
    """Inside OVER (..), and of WINDOW w AS (..). `base` names another one."""

    partition: tuple[Expression, ...] = ()
    order: tuple[OrderItem, ...] = ()
    unit: Literal["RANGE", "ROWS"] | None = None
    start: FrameBound | None = None
    stop: FrameBound | None = None
    base: str | None = None


# -- tables in FROM --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableName(Node):
    """`as_of` is the expression of FOR SYSTEM_TIME AS OF; `options` those of /*+ OPTIONS('k'='v') */."""

    name: Name
    alias: str | None = None
    columns: tuple[str, ...] = ()  # AS t (a, b)
    as_of: Expression | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Subquery(Node):
    query: Query
    alias: str | None = None
    columns: tuple[str, ...] = ()
    lateral: bool = False


@dataclass(frozen=True, slots=True)
class TableArgument(Node):
    """`TABLE t [PARTITION BY ..]`, also `(SELECT ..)`, inside a table function."""

    table: Name | Query
    partition: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptor(Node):
    """`DESCRIPTOR(a, b)`."""

    columns: tuple[str, ...]


Argument: TypeAlias = Expression | TableArgument | Descriptor


@dataclass(frozen=True, slots=True)
class TableFunction(Node):
    """`TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))`, `LATERAL TABLE(f(x))`, and the same without
    TABLE(). An argument's name is given where it was written with `=>`."""

    name: str
    arguments: tuple[tuple[str | None, Argument], ...]
    alias: str | None = None
    columns: tuple[str, ...] = ()
    lateral: bool = False


@dataclass(frozen=True, slots=True)
class Unnest(Node):
    """`UNNEST(x) [WITH ORDINALITY] AS t (a)`."""

    expression: Expression
    with_ordinality: bool = False
    alias: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Join(Node):
    """A comma is CROSS. `condition` of ON, or `using`."""

    kind: Literal["INNER", "LEFT", "RIGHT", "FULL", "CROSS"]
    left: FromItem
    right: FromItem
    condition: Expression | None = None
    using: tuple[str, ...] = ()
    natural: bool = False


@dataclass(frozen=True, slots=True)
class PatternTerm(Node):
    """One variable or group with its quantifier: `A`, `B+?`, `(A B){2,3}`, `A | B`. `maximum` None: no bound."""

    variable: str | None
    parts: tuple[PatternTerm, ...] = ()  # in sequence, or alternatives
    is_alternation: bool = False
    minimum: int = 1
    maximum: int | None = 1
    greedy: bool = True


@dataclass(frozen=True, slots=True)
class MatchRecognize(Node):
    source: FromItem
    partition: tuple[Expression, ...]
    order: tuple[OrderItem, ...]
    measures: tuple[tuple[Expression, str], ...]
    all_rows: bool
    after: Literal["PAST LAST ROW", "TO NEXT ROW", "TO FIRST", "TO LAST"] | None
    after_variable: str | None
    pattern: PatternTerm
    within: Expression | None
    subsets: tuple[tuple[str, tuple[str, ...]], ...]
    defines: tuple[tuple[str, Expression], ...]
    alias: str | None = None
    columns: tuple[str, ...] = ()


FromItem: TypeAlias = TableName | Subquery | TableFunction | Unnest | Join | MatchRecognize


# -- queries ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupingElement(Node):
    """`a`, `(a, b)`, `()` are PLAIN with `expressions`; the others have `sets`, `ROLLUP (a, (b, c))` has (a) and
    (b, c)."""

    kind: Literal["PLAIN", "ROLLUP", "CUBE", "GROUPING SETS"]
    expressions: tuple[Expression, ...] = ()
    sets: tuple[tuple[Expression, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class SelectItem(Node):
    expression: Expression
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`hints` are those of /*+ NAME(..) */ behind SELECT: STATE_TTL('t'='1d')."""

    items: tuple[SelectItem, ...]
    source: FromItem | None = None
    where: Expression | None = None
    group_by: tuple[GroupingElement, ...] | None = None
    having: Expression | None = None
    qualify: Expression | None = None
    distinct: bool = False
    windows: tuple[tuple[str, WindowSpec], ...] = ()
    hints: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class SetOperation(Node):
    kind: Literal["UNION", "INTERSECT", "EXCEPT"]
    all: bool
    left: Query
    right: Query


@dataclass(frozen=True, slots=True)
class Values(Node):
    rows: tuple[tuple[Expression, ...], ...]


@dataclass(frozen=True, slots=True)
class Ordered(Node):
    """A query with ORDER BY, LIMIT, OFFSET or FETCH behind it."""

    query: Query
    order: tuple[OrderItem, ...] = ()
    limit: Expression | None = None
    offset: Expression | None = None


@dataclass(frozen=True, slots=True)
class With(Node):
    views: tuple[tuple[str, tuple[str, ...], Query], ...]
    query: Query


Query: TypeAlias = Select | SetOperation | Values | Ordered | With


# -- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhysicalColumn(Node):
    name: str
    type: SqlType
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ComputedColumn(Node):
    name: str
    expression: Expression
    comment: str = ""


@dataclass(frozen=True, slots=True)
class MetadataColumn(Node):
    """`key` is the metadata's own name, where FROM gives one."""

    name: str
    type: SqlType
    key: str | None = None
    virtual: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Watermark(Node):
    column: tuple[str, ...]
    expression: Expression


@dataclass(frozen=True, slots=True)
class CreateTable(Node):
    name: Name
    columns: tuple[PhysicalColumn | ComputedColumn | MetadataColumn, ...]
    options: tuple[tuple[str, str], ...]
    watermark: Watermark | None = None
    primary_key: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    like: Name | None = None
    like_options: tuple[tuple[str, str], ...] = ()  # ("INCLUDING", "ALL"), ("EXCLUDING", "CONSTRAINTS")
    as_query: Query | None = None
    if_not_exists: bool = False
    temporary: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class CreateView(Node):
    name: Name
    query: Query
    columns: tuple[str, ...] = ()
    if_not_exists: bool = False
    temporary: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class CreateFunction(Node):
    """`CREATE FUNCTION f AS 'module.name' LANGUAGE PYTHON`. `system` (TEMPORARY SYSTEM) may hide one of Flink's own."""

    name: Name
    target: str
    language: str
    if_not_exists: bool = False
    temporary: bool = False
    system: bool = False


@dataclass(frozen=True, slots=True)
class Drop(Node):
    what: Literal["TABLE", "VIEW", "FUNCTION"]
    name: Name
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class Insert(Node):
    target: Name
    query: Query
    columns: tuple[str, ...] = ()
    overwrite: bool = False
    static_partition: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True, slots=True)
class StatementSet(Node):
    """`EXECUTE STATEMENT SET BEGIN ..; ..; END`, and `BEGIN STATEMENT SET; ..; END`."""

    inserts: tuple[Insert, ...]


@dataclass(frozen=True, slots=True)
class SetOption(Node):
    """`SET 'key' = 'value'`; without a key it lists all. `value` None: RESET, of all where the key is empty."""

    key: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class Show(Node):
    what: Literal["TABLES", "VIEWS", "FUNCTIONS", "USER FUNCTIONS", "CREATE TABLE", "CREATE VIEW"]
    name: Name | None = None


@dataclass(frozen=True, slots=True)
class Describe(Node):
    name: Name


@dataclass(frozen=True, slots=True)
class Explain(Node):
    statement: Statement


@dataclass(frozen=True, slots=True)
class QueryStatement(Node):
    query: Query


Statement: TypeAlias = (
    CreateTable
    | CreateView
    | CreateFunction
    | Drop
    | Insert
    | StatementSet
    | SetOption
    | Show
    | Describe
    | Explain
    | QueryStatement
)
