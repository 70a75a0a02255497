"""Any tree prints to a text of the same tree, and any text is a tree or an SqlError with a place."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import SqlError
from streamkit_sql.language import tree
from streamkit_sql.language.parser import (
    parse_expression,
    parse_script,
    parse_type,
)
from streamkit_sql.language.printer import to_flink
from streamkit_sql.types import INTERVALS, Kind, SqlType, array, char, decimal, map_of, row, timestamp, timestamp_ltz

CASES = Path(__file__).parents[1] / "sql" / "cases"
ACCEPTED = sorted([*CASES.glob("*.sql"), *CASES.glob("tables/*.sql")])


NAMES = st.one_of(
    st.sampled_from(["a", "b", "`", "select", "Order", "x y", "日本", "$1", "key", "RUNNING", "it's", "map", "-- c"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0."), min_size=1, max_size=4),
)
FUNCTIONS = st.sampled_from(["F", "UPPER", "COUNT", "SUM", "LAG", "LEFT", "MOD", "A.B", "NOW", "DATE", "FIRST", "IF"])
INTERVALS_WRITTEN = [
    parse_expression(text)
    for text in (
        "INTERVAL '1' DAY",
        "INTERVAL '-100' SECOND(3)",
        "INTERVAL '1 02:03:04.5' DAY TO SECOND",
        "INTERVAL '1-2' YEAR TO MONTH",
    )
]
LITERALS = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1).map(tree.Literal_),
    st.decimals(-(10**9), 10**9, places=3).map(tree.Literal_),
    st.sampled_from([Decimal("1"), Decimal("0.00"), Decimal("-1.50")]).map(tree.Literal_),
    st.floats(allow_nan=False, allow_infinity=False).map(tree.Literal_),
    st.text(max_size=6).map(tree.Literal_),
    st.sampled_from([True, False, None]).map(tree.Literal_),
    st.binary(max_size=4).map(tree.BytesLiteral),
    st.builds(tree.TimeLiteral, st.sampled_from(["DATE", "TIME", "TIMESTAMP"]), st.just("2020-01-01")),
    st.sampled_from(INTERVALS_WRITTEN),
)
SIMPLE_TYPES = st.sampled_from(
    [
        SqlType(Kind.INTEGER),
        decimal(10, 2),
        char(3),
        timestamp(3),
        timestamp_ltz(),
        SqlType(Kind.TIME),
        parse_type("STRING NOT NULL"),
    ]
)
TYPES = st.recursive(
    SIMPLE_TYPES,
    lambda inner: st.one_of(
        inner.map(array),
        st.builds(map_of, inner, inner),
        st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3).map(lambda fields: row(*fields, nullable=False)),
        inner.map(lambda of: SqlType(Kind.MULTISET, element=of)),
    ),
    max_leaves=4,
)
CAST_TYPES = TYPES.map(SqlType.with_null) | st.sampled_from(sorted(INTERVALS, key=lambda kind: kind.value)).map(SqlType)
BOOLEANS = st.booleans()


def some(of: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    """A tuple of them."""
    return st.lists(of, min_size=least, max_size=most).map(tuple)


def maybe(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | of


def _none_of(node: Any, kind: type) -> Any:
    """Where a text would mean something else."""
    return tree.Literal_(1) if isinstance(node, kind) else node


def _no_join(item: Any) -> Any:
    return tree.TableName(tree.Name(("t",))) if isinstance(item, tree.Join) else item


def calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tree.Call]:
    """Functions and special forms."""
    unit = st.sampled_from(["DAY", "SECOND", "MONTH"]).map(lambda unit: (unit,))
    nulls = st.sampled_from([(), ("NULL ON NULL",), ("ABSENT ON NULL",)])
    order = some(st.builds(tree.OrderItem, inner, BOOLEANS, maybe(BOOLEANS)), 1)
    window = st.builds(tree.WindowSpec, some(inner), order, base=maybe(NAMES)) | NAMES.map(
        lambda name: tree.Name((name,))
    )
    json = st.sampled_from(
        [
            ("JSON_VALUE", ("RETURNING STRING", "NULL ON EMPTY", "ERROR ON ERROR"), ()),
            ("JSON_QUERY", ("RETURNING ARRAY<STRING>", "WITH CONDITIONAL ARRAY WRAPPER", "EMPTY ARRAY ON ERROR"), ()),
            ("JSON_EXISTS", ("UNKNOWN ON ERROR",), ()),
            ("JSON_VALUE", ("DEFAULT ON EMPTY", "DEFAULT ON ERROR"), ("DEFAULT ON EMPTY", "DEFAULT ON ERROR")),
        ]
    )
    return st.one_of(
        st.builds(
            tree.Call,
            FUNCTIONS,
            some(inner, 1),
            BOOLEANS,
            maybe(inner),
            st.just(()) | order,
            maybe(window),
            st.sampled_from([(), ("RUNNING",), ("FINAL",)]),
            ignore_nulls=maybe(BOOLEANS),
        ).map(lambda call: call if "." not in call.name else replace(call, words=())),
        st.sampled_from(["COUNT", "F"]).map(lambda name: tree.Call(name, (tree.Star(),))),
        st.sampled_from(["CURRENT_TIMESTAMP", "LOCALTIME", "NOW", "USER"]).map(tree.Call),
        st.builds(lambda x, unit: tree.Call("EXTRACT", (x,), words=unit), inner, unit),
        st.builds(
            lambda name, x, unit: tree.Call(name, (x,), words=unit), st.sampled_from(["FLOOR", "CEIL"]), inner, unit
        ),
        st.builds(lambda a, b, unit: tree.Call("TIMESTAMPDIFF", (a, b), words=unit), inner, inner, unit),
        st.builds(
            lambda x, side: tree.Call("TRIM", x, words=(side,)), some(inner, 1, 2), st.sampled_from(["BOTH", "LEADING"])
        ),
        st.builds(tree.Call, st.sampled_from(["POSITION", "OVERLAY"]), some(inner, 3, 3)),
        st.builds(tree.Call, st.just("SUBSTRING"), some(inner, 2, 3)),
        st.builds(tree.Call, st.just("OVERLAPS"), some(inner, 2, 2)),
        st.builds(
            lambda form, a, b, x: tree.Call(
                form[0], (a, b), words=form[1], options=tuple((word, x) for word in form[2])
            ),
            *(json, inner, inner, inner),
        ),
        st.builds(lambda pairs, said: tree.Call("JSON_OBJECT", pairs, words=said), some(inner, 4, 4), nulls),
        st.builds(lambda values, said: tree.Call("JSON_ARRAY", values, words=said), some(inner, 1), nulls),
        st.builds(
            lambda x, order, said: tree.Call("JSON_ARRAYAGG", (x,), order=order, words=said), inner, order, nulls
        ),
        st.builds(lambda x, order: tree.Call("ARRAY_AGG", (x,), order=order), inner, order),
    )


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Expressions over expressions."""
    query = queries(inner, depth=0)
    operators = ["+", "-", "*", "/", "%", "||", "=", "<>", "<", "<=", ">", ">=", "AND", "OR"]
    whats = ["NULL", "TRUE", "FALSE", "UNKNOWN", "JSON", "JSON OBJECT", "JSON ARRAY", "JSON SCALAR"]
    return st.one_of(
        st.builds(tree.Unary, st.sampled_from(["-", "+", "NOT"]), inner),
        st.builds(tree.Binary, st.sampled_from(operators), inner, inner),
        st.builds(tree.Is, inner, st.sampled_from(whats), BOOLEANS),
        st.builds(tree.Is, inner, st.just("DISTINCT FROM"), BOOLEANS, inner),
        st.builds(tree.Between, inner, inner, inner, BOOLEANS, BOOLEANS),
        st.builds(tree.Like, inner, inner, maybe(inner), BOOLEANS, st.sampled_from(["LIKE", "SIMILAR TO"])),
        st.builds(tree.InList, inner, some(inner, 2), BOOLEANS),
        st.builds(tree.InQuery, inner, query, BOOLEANS),
        st.builds(tree.Exists, query),
        st.builds(tree.ScalarQuery, query),
        st.builds(tree.Case, maybe(inner), some(st.tuples(inner, inner), 1), maybe(inner)),
        st.builds(tree.Cast, inner, CAST_TYPES, BOOLEANS),
        st.builds(tree.RowValue, some(inner, 1)),
        st.builds(tree.ArrayValue, some(inner)),
        st.builds(tree.MapValue, some(st.tuples(inner, inner))),
        st.builds(tree.Index, inner, inner),
        st.builds(tree.FieldOf, inner, NAMES),
        calls(inner),
    )


def tables(inner: st.SearchStrategy[Any], depth: int) -> st.SearchStrategy[Any]:
    """What stands in FROM."""
    name = st.builds(tree.Name, some(NAMES, 1, 3))
    pairs = some(st.tuples(st.text(max_size=3), st.text(max_size=3)), 0, 2)
    plain = st.builds(tree.TableName, name, maybe(NAMES), as_of=maybe(inner), options=pairs)
    if not depth:
        return plain
    less = tables(inner, depth - 1)
    query = queries(inner, depth - 1)
    argument = st.one_of(
        inner.map(lambda node: _none_of(node, tree.ScalarQuery)),
        st.builds(tree.TableArgument, name | query, some(inner.map(lambda node: _none_of(node, tree.RowValue)))),
        st.builds(tree.Descriptor, some(NAMES, 1)),
    )
    terms = st.recursive(
        st.builds(
            tree.PatternTerm,
            NAMES,
            st.just(()),
            st.just(False),
            st.sampled_from([0, 1, 2]),
            st.none() | st.just(3),
            BOOLEANS,
        ),
        lambda part: st.builds(
            tree.PatternTerm, st.none(), some(part, 2), BOOLEANS, st.sampled_from([0, 1]), st.sampled_from([None, 1])
        ),
        max_leaves=4,
    )
    skips = st.sampled_from(
        [(None, None), ("PAST LAST ROW", None), ("TO NEXT ROW", None), ("TO FIRST", "a"), ("TO LAST", "b")]
    )
    return st.one_of(
        plain,
        st.builds(
            lambda query, alias, columns, lateral: tree.Subquery(query, alias, columns, lateral),
            query,
            NAMES,
            some(NAMES),
            BOOLEANS,
        ),
        st.builds(
            tree.TableFunction, FUNCTIONS, some(st.tuples(maybe(NAMES), argument)), maybe(NAMES), lateral=BOOLEANS
        ),
        st.builds(tree.Unnest, inner, BOOLEANS, NAMES, some(NAMES)),
        st.builds(tree.Join, st.just("CROSS"), less, less),
        st.builds(tree.Join, st.sampled_from(["INNER", "LEFT", "RIGHT", "FULL"]), less, less, inner),
        st.builds(tree.Join, st.sampled_from(["INNER", "LEFT"]), less, less, using=some(NAMES, 1)),
        st.builds(tree.Join, st.sampled_from(["INNER", "LEFT"]), less, less, natural=st.just(True)),
        st.builds(
            lambda source, partition, measures, rows, skip, pattern, within, subsets, defines, alias: (
                tree.MatchRecognize(
                    *(source, partition, (), measures, rows, *skip, pattern, within, subsets, defines, alias)
                )
            ),
            less.map(_no_join),
            some(inner),
            some(st.tuples(inner, NAMES)),
            BOOLEANS,
            skips,
            terms.map(_normal),
            maybe(inner),
            some(st.tuples(NAMES, some(NAMES, 1)), 0, 1),
            some(st.tuples(NAMES, inner), 1, 2),
            maybe(NAMES),
        ),
    )


def _normal(term: tree.PatternTerm) -> tree.PatternTerm:
    """As a text can have it: what is there once is not reluctant."""
    once = (term.minimum, term.maximum) == (1, 1)
    return tree.PatternTerm(
        term.variable,
        tuple(_normal(part) for part in term.parts),
        term.is_alternation,
        term.minimum,
        term.maximum,
        term.greedy or once,
    )


def queries(inner: st.SearchStrategy[Any], depth: int) -> st.SearchStrategy[Any]:
    """Of a depth that is given, as their parts are expressions of a depth of their own."""
    star = some(NAMES, 0, 2).map(tree.Star)
    items = some(st.builds(tree.SelectItem, inner, maybe(NAMES)) | st.builds(tree.SelectItem, star), 1)
    sets = some(some(inner, 1, 2), 1, 2)
    grouping = st.one_of(
        st.builds(lambda parts: tree.GroupingElement("PLAIN", parts), some(inner, 0, 2)),
        st.builds(lambda kind, sets: tree.GroupingElement(kind, sets=sets), st.sampled_from(["ROLLUP", "CUBE"]), sets),
        st.builds(lambda sets: tree.GroupingElement("GROUPING SETS", sets=((), *sets)), sets),
    )
    frames = st.sampled_from(
        [
            (None, None, None),
            ("ROWS", tree.FrameBound(tree.Literal_(1)), None),
            ("RANGE", tree.FrameBound(None), tree.FrameBound(None, current=True)),
            ("ROWS", tree.FrameBound(None, current=True), tree.FrameBound(tree.Literal_(2), following=True)),
        ]
    )
    window = st.builds(lambda by, frame: tree.WindowSpec(by, (), *frame), some(inner, 0, 2), frames)
    hints = some(
        st.tuples(
            st.sampled_from(["STATE_TTL", "LOOKUP"]),
            some(st.tuples(st.text(max_size=2), st.text(min_size=1, max_size=2)), 1, 2),
        ),
        0,
        2,
    )
    select = st.one_of(
        st.builds(tree.Select, items, distinct=BOOLEANS),
        st.builds(
            tree.Select,
            items,
            tables(inner, depth),
            maybe(inner),
            maybe(some(grouping, 1, 2)),
            maybe(inner),
            maybe(inner),
            BOOLEANS,
            some(st.tuples(NAMES, window), 0, 2),
            hints,
        ),
    )
    simple = select | st.builds(tree.Values, some(some(inner, 1), 1))
    if not depth:
        return simple
    less = queries(inner, depth - 1)
    count = maybe(st.integers(0, 100).map(tree.Literal_))
    order = some(st.builds(tree.OrderItem, inner, BOOLEANS, maybe(BOOLEANS)), 1)
    return st.one_of(
        simple,
        st.builds(tree.SetOperation, st.sampled_from(["UNION", "INTERSECT", "EXCEPT"]), BOOLEANS, less, less),
        st.builds(tree.Ordered, less, order, count, count),
        st.builds(tree.With, some(st.tuples(NAMES, some(NAMES), less), 1, 2), less),
    )


_EXPRESSIONS = st.recursive(LITERALS | st.builds(tree.Name, some(NAMES, 1, 3)), larger, max_leaves=5)
EXPRESSIONS = st.deferred(lambda: _EXPRESSIONS)
_QUERIES = queries(EXPRESSIONS, 2)
QUERIES = st.deferred(lambda: _QUERIES)


@st.composite
def an_expression(draw: st.DrawFn) -> Any:
    """Hypothesis prints strategies; these are too long to print."""
    return draw(_EXPRESSIONS)


@st.composite
def a_script(draw: st.DrawFn) -> Any:
    """One statement or two."""
    return [draw(STATEMENTS) for _ in range(draw(st.integers(1, 2)))]


def statements() -> st.SearchStrategy[Any]:
    """All kinds of them."""
    name = st.builds(tree.Name, some(NAMES, 1, 2))
    text = st.text(max_size=4)
    columns = st.one_of(
        st.builds(tree.PhysicalColumn, NAMES, TYPES, text),
        st.builds(tree.ComputedColumn, NAMES, EXPRESSIONS, text),
        st.builds(tree.MetadataColumn, NAMES, TYPES, maybe(text), BOOLEANS, text),
    )
    table = st.builds(
        tree.CreateTable,
        *(name, some(columns), some(st.tuples(text, text))),
        watermark=maybe(st.builds(tree.Watermark, some(NAMES, 1), EXPRESSIONS)),
        primary_key=some(NAMES),
        partitioned_by=some(NAMES),
        if_not_exists=BOOLEANS,
        temporary=BOOLEANS,
        comment=text,
    )
    like_options = some(
        st.tuples(st.sampled_from(["INCLUDING", "EXCLUDING"]), st.sampled_from(["ALL", "OPTIONS"])), 0, 2
    )
    values = some(st.tuples(NAMES, LITERALS), 0, 2)
    insert = st.builds(tree.Insert, name, QUERIES, some(NAMES), BOOLEANS, values)
    return st.one_of(
        table,
        st.builds(tree.CreateTable, name, st.just(()), st.just(()), like=name, like_options=like_options),
        st.builds(tree.CreateTable, name, st.just(()), st.just(()), as_query=QUERIES),
        st.builds(tree.CreateView, name, QUERIES, some(NAMES), BOOLEANS, BOOLEANS, text),
        st.builds(tree.CreateFunction, name, text, st.sampled_from(["PYTHON", "JAVA"]), BOOLEANS, BOOLEANS),
        st.builds(tree.Drop, st.sampled_from(["TABLE", "VIEW", "FUNCTION"]), name, BOOLEANS),
        insert,
        st.builds(tree.StatementSet, some(insert, 1)),
        st.builds(tree.SetOption, text, text) | st.builds(tree.SetOption, maybe(text), st.none()),
        st.builds(tree.Show, st.sampled_from(["TABLES", "VIEWS", "FUNCTIONS"])),
        st.builds(tree.Show, st.sampled_from(["CREATE TABLE", "CREATE VIEW"]), name),
        st.builds(tree.Describe, name),
        st.builds(tree.Explain, st.builds(tree.QueryStatement, QUERIES) | insert),
        st.builds(tree.QueryStatement, QUERIES),
    )


STATEMENTS = statements()


@settings(max_examples=300, deadline=None)
@given(an_expression())
def test_an_expression_prints_to_a_text_of_the_same_tree(node: tree.Expression) -> None:
    """Whatever stands in whatever."""
    assert parse_expression(to_flink(node)) == node


@settings(max_examples=150, deadline=None)
@given(a_script())
def test_a_script_prints_to_a_text_of_the_same_trees(nodes: list[tree.Statement]) -> None:
    """Every kind of statement."""
    assert parse_script(";\n".join(to_flink(node) for node in nodes)) == nodes


def parses_or_fails_with_a_place(text: str) -> None:
    """And what parses prints to the same."""
    problem: SqlError | None = None
    found: list[tree.Statement] = []
    try:
        found = parse_script(text)
    except SqlError as raised:
        problem = raised
    if problem is None:
        assert parse_script(";\n".join(to_flink(statement) for statement in found)) == found
        return
    assert 0 <= problem.place.start <= problem.place.stop <= len(text)
    assert 1 <= problem.place.line <= text.count("\n") + text.count("\r") + 1


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("utf-8", "replace")))
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    """No other exception comes out."""
    parses_or_fails_with_a_place(text)
    parses_or_fails_with_a_place("SELECT " + text)


PIECES = re.compile(r"\s+|[\w$]+|'[^']*'|.", re.S)


def test_mutated_scripts_are_trees_or_errors() -> None:
    """Pieces of the corpus cut off, left out, doubled, exchanged and mixed."""
    draw = random.Random(7)
    texts = [PIECES.findall(path.read_text(encoding="utf-8")) for path in ACCEPTED]
    pool = [piece for pieces in texts for piece in pieces if not piece.isspace()]
    for _ in range(1_500):
        pieces = list(draw.choice(texts))
        if draw.random() < 0.2:
            pieces = pieces[: draw.randrange(len(pieces))]
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(pieces)) if pieces else 0
            what = draw.random()
            if what < 0.3:
                pieces[place : place + 1] = []
            elif what < 0.6:
                pieces[place : place + 1] = [draw.choice(pool)]
            elif what < 0.8:
                pieces[place:place] = [draw.choice(pool), " "]
            elif what < 0.9:
                pieces[place:place] = pieces[place : place + draw.randrange(30)]
            else:
                pieces[place:place] = [chr(draw.choice([*range(128), 0xA0, 0x2028, 0xFEFF, 0x1F600]))]
        parses_or_fails_with_a_place("".join(pieces))
