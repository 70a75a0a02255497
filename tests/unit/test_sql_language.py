"""Flink's language: what its parser takes means the same tree here, what is printed parses to the same tree, and
whatever a text holds, it is a tree or an SqlError with a place."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamkit_sql.errors import NotSupported, SqlError, SyntaxProblem, TypeProblem
from streamkit_sql.language import tree, words
from streamkit_sql.language.parser import (
    height_of,
    parse_expression,
    parse_query,
    parse_script,
    parse_type,
    statements_with_text,
)
from streamkit_sql.language.printer import to_flink, type_text
from streamkit_sql.language.tokens import FLINK, Dialect
from streamkit_sql.limits import CHAIN_TERMS_MAX, SCRIPT_CHARACTERS_MAX, TREE_DEPTH_MAX
from streamkit_sql.types import Kind, SqlType, array, char, decimal, map_of, row, timestamp, timestamp_ltz

CASES = Path(__file__).parents[1] / "sql" / "cases"
ACCEPTED = sorted([*CASES.glob("*.sql"), *CASES.glob("tables/*.sql")])


def bracketed(text: str) -> str:
    """The expression with brackets around all that is not one word: which operator binds which operands."""

    def show(node: Any) -> str:
        match node:
            case tree.Name(parts):
                return ".".join(parts)
            case tree.Literal_(value):
                return str(value)
            case tree.Unary(operator, operand):
                return f"({operator} {show(operand)})"
            case tree.Binary(operator, left, right):
                return f"({show(left)} {operator} {show(right)})"
            case tree.Is(operand, what, negated, other):
                end = f" {show(other)}" if other is not None else ""
                return f"({show(operand)} IS {'NOT ' if negated else ''}{what}{end})"
            case tree.Between(operand, low, high, negated):
                return f"({show(operand)} {'NOT ' if negated else ''}BETWEEN {show(low)} {show(high)})"
            case tree.Like(operand, pattern, escape, negated):
                end = f" ESCAPE {show(escape)}" if escape is not None else ""
                return f"({show(operand)} {'NOT ' if negated else ''}LIKE {show(pattern)}{end})"
            case tree.InList(operand, values, negated):
                return f"({show(operand)} {'NOT ' if negated else ''}IN {' '.join(map(show, values))})"
            case tree.Index(operand, index):
                return f"{show(operand)}[{show(index)}]"
            case tree.FieldOf(operand, name):
                return f"{show(operand)}.{name}"
            case tree.Call(name, arguments):
                return f"{name}({', '.join(map(show, arguments))})"
        raise AssertionError(node)

    return show(parse_expression(text))


# What Flink 2.3's own parser makes of these; asked it.
@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("a = b = c", "((a = b) = c)"),
        ("a < b = c", "((a < b) = c)"),
        ("NOT a = b", "(NOT (a = b))"),
        ("NOT a IS NULL", "(NOT (a IS NULL))"),
        ("a = NOT b = c", "(a = (NOT (b = c)))"),
        ("a IS NULL IS NOT TRUE", "((a IS NULL) IS NOT TRUE)"),
        ("a = b IS NULL", "((a = b) IS NULL)"),
        ("a IS NULL = b IS NULL", "(((a IS NULL) = b) IS NULL)"),
        ("a AND b OR c AND NOT d", "((a AND b) OR (c AND (NOT d)))"),
        ("-a * b", "((- a) * b)"),
        ("a + b || c", "(a + (b || c))"),
        ("a || b + c", "((a || b) + c)"),
        ("a || b * c", "((a || b) * c)"),
        ("a % b * c", "((a % b) * c)"),
        ("a - b - c", "((a - b) - c)"),
        ("a BETWEEN b AND c AND d", "((a BETWEEN b c) AND d)"),
        ("a = b BETWEEN c AND d", "(a = (b BETWEEN c d))"),
        ("a BETWEEN b AND c = d", "((a BETWEEN b c) = d)"),
        ("a NOT BETWEEN b + 1 AND c * 2 OR d", "((a NOT BETWEEN (b + 1) (c * 2)) OR d)"),
        ("a = b IN (1, 2)", "(a = (b IN 1 2))"),
        ("a + b IN (1)", "((a + b) IN 1)"),
        ("a IN (1) IN (2)", "((a IN 1) IN 2)"),
        ("a = b LIKE c", "(a = (b LIKE c))"),
        ("a LIKE b LIKE c", "(a LIKE (b LIKE c))"),
        ("a LIKE b || c ESCAPE d AND e", "((a LIKE (b || c) ESCAPE d) AND e)"),
        ("a IS DISTINCT FROM b < c", "((a IS DISTINCT FROM b) < c)"),
        ("a IS NOT DISTINCT FROM b + c IS NULL", "((a IS NOT DISTINCT FROM (b + c)) IS NULL)"),
        ("-a.b[1]", "(- a.b[1])"),
        ("a - -1", "(a - -1)"),
        ("- - a", "(- (- a))"),
        ("f(x)[1].b.c", "F(x)[1].b.c"),
        ("a--b", "a"),
        ("MOD(a, b) + 1", "(MOD(a, b) + 1)"),
    ],
)
def test_operators_bind_as_flinks_do(text: str, means: str) -> None:
    """Precedence and associativity."""
    assert bracketed(text) == means


@pytest.mark.parametrize(
    "text",
    [
        "a IN (1) + 2",
        "a NOT IN (1) LIKE b",
        "a BETWEEN NOT b AND c",
        "a BETWEEN b OR c AND d",
        "a BETWEEN b AND c IN (1)",
        "EXISTS (SELECT 1) - a",
        "a IS NULL % b",
        "a LIKE b ESCAPE c = d",
        "a LIKE b IN (c)",
        "a + NOT b",
    ],
)
def test_what_flink_reads_as_nobody_means_it_is_refused(text: str) -> None:
    """Flink takes these, but not as they look."""
    with pytest.raises(SyntaxProblem, match="in brackets"):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("1", tree.Literal_(1)),
        ("1.50", tree.Literal_(Decimal("1.50"))),
        (".5", tree.Literal_(Decimal("0.5"))),
        ("1e3", tree.Literal_(1000.0)),
        ("-9223372036854775808", tree.Literal_(-(2**63))),
        ("'it''s'", tree.Literal_("it's")),
        ("'a' 'b'\n'c'", tree.Literal_("abc")),
        (r"U&'\0041\\b'", tree.Literal_("A\\b")),
        ("U&'!0041' UESCAPE '!'", tree.Literal_("A")),
        (r"U&'\D83D\DE00'", tree.Literal_("😀")),
        (r"E'a\n\x41\101\u0041\''", tree.Literal_("a\nAAA'")),
        ("X'00fF'", tree.BytesLiteral(b"\0\xff")),
        ("TRUE", tree.Literal_(True)),
        ("null", tree.Literal_(None)),
        ("DATE '2020-01-01'", tree.TimeLiteral("DATE", "2020-01-01")),
        ("`a``b`.c", tree.Name(("a`b", "c"))),
        ("a . b", tree.Name(("a", "b"))),
        ("$1", tree.Name(("$1",))),
        ("日本", tree.Name(("日本",))),
        ("current_timestamp", tree.Call("CURRENT_TIMESTAMP")),
        ("count(*)", tree.Call("COUNT", (tree.Star(),))),
        ("count(DISTINCT a)", tree.Call("COUNT", (tree.Name(("a",)),), distinct=True)),
        ("extract(year FROM a)", tree.Call("EXTRACT", (tree.Name(("a",)),), words=("YEAR",))),
        ("ceiling(a TO month)", tree.Call("CEIL", (tree.Name(("a",)),), words=("MONTH",))),
        (
            "timestampadd(SQL_TSI_DAY, 1, a)",
            tree.Call("TIMESTAMPADD", (tree.Literal_(1), tree.Name(("a",))), words=("DAY",)),
        ),
        ("trim(a)", tree.Call("TRIM", (tree.Name(("a",)),), words=("BOTH",))),
        ("trim(LEADING 'x' FROM a)", tree.Call("TRIM", (tree.Name(("a",)), tree.Literal_("x")), words=("LEADING",))),
        ("position('a' IN b)", tree.Call("POSITION", (tree.Literal_("a"), tree.Name(("b",))))),
        ("substring(a FROM 1 FOR 2)", tree.Call("SUBSTRING", (tree.Name(("a",)), tree.Literal_(1), tree.Literal_(2)))),
        ("(a, b)", tree.RowValue((tree.Name(("a",)), tree.Name(("b",))))),
        ("((a))", tree.Name(("a",))),
        ("MAP['a', 1]", tree.MapValue(((tree.Literal_("a"), tree.Literal_(1)),))),
        ("map", tree.Name(("map",))),
    ],
)
def test_operands(text: str, node: tree.Node) -> None:
    """Literals, names and calls."""
    assert parse_expression(text) == node


def test_literals_of_different_types_are_different() -> None:
    """1, 1.0, 1.00, 1e0 and TRUE are one to Python."""
    texts = ["1", "1.", "1.0", "1.00", "1e0", "TRUE", "'1'"]
    nodes = [parse_expression(text) for text in texts]
    assert len(set(nodes)) == len(nodes)
    assert all(parse_expression(text) == node for text, node in zip(texts, nodes, strict=True))


@pytest.mark.parametrize(
    ("text", "milliseconds", "months"),
    [
        ("INTERVAL '5' SECOND", 5_000, None),
        ("INTERVAL '5.1239' SECONDS", 5_123, None),
        ("INTERVAL '1:30' HOUR TO MINUTE", 5_400_000, None),
        ("INTERVAL '1 10:00:00.5' DAY TO SECOND", 122_400_500, None),
        ("INTERVAL -'2' DAY", -172_800_000, None),
        ("INTERVAL '-2' DAY", -172_800_000, None),
        ("INTERVAL -'-2' DAY", 172_800_000, None),
        ("INTERVAL '100' DAY(3)", 8_640_000_000, None),
        ("INTERVAL '2' WEEK", 1_209_600_000, None),
        ("INTERVAL '1-2' YEAR TO MONTH", None, 14),
        ("INTERVAL '2' QUARTERS", None, 6),
    ],
)
def test_intervals_are_numbers(text: str, milliseconds: int | None, months: int | None) -> None:
    """Milliseconds or months, never both; plurals and precisions are taken."""
    node = parse_expression(text)
    assert isinstance(node, tree.IntervalLiteral)
    assert (node.milliseconds, node.months) == (milliseconds, months)
    assert parse_expression(to_flink(node)) == node


@pytest.mark.parametrize(
    "text",
    [
        "INTERVAL '100' DAY",
        "INTERVAL '100' DAY(2) TO HOUR",
        "INTERVAL 'x' DAY",
        "INTERVAL '1:60' HOUR TO MINUTE",
        "INTERVAL '٣' DAY",
        "INTERVAL '' DAY",
    ],
)
def test_what_is_no_interval_is_refused(text: str) -> None:
    """With the place of the literal."""
    with pytest.raises(SyntaxProblem, match="line 1, column 1"):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("INTEGER", SqlType(Kind.INTEGER)),
        ("DECIMAL", decimal(10, 0)),
        ("NUMERIC(12)", decimal(12, 0)),
        ("DEC(12, 3)", decimal(12, 3)),
        ("CHAR", char(1)),
        ("CHARACTER VARYING(3)", SqlType(Kind.VARCHAR, length=3)),
        ("VARCHAR", SqlType(Kind.VARCHAR, length=1)),
        ("STRING NOT NULL", SqlType(Kind.VARCHAR, nullable=False, length=2_147_483_647)),
        ("DOUBLE PRECISION", SqlType(Kind.DOUBLE)),
        ("REAL", SqlType(Kind.FLOAT)),
        ("TIME", SqlType(Kind.TIME)),
        ("TIMESTAMP", timestamp(6)),
        ("TIMESTAMP(3) WITHOUT TIME ZONE", timestamp(3)),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", timestamp_ltz(3)),
        ("TIMESTAMP_LTZ", timestamp_ltz(6)),
        ("INT ARRAY NOT NULL", array(SqlType(Kind.INTEGER), nullable=False)),
        ("INT NOT NULL ARRAY", array(SqlType(Kind.INTEGER, nullable=False))),
        ("MAP<INT NOT NULL, ARRAY<INT>>", map_of(SqlType(Kind.INTEGER, nullable=False), array(SqlType(Kind.INTEGER)))),
        ("MULTISET<INT>", SqlType(Kind.MULTISET, element=SqlType(Kind.INTEGER))),
        (
            "ROW<a INT 'the first', `b c` ROW(d INT)>",
            row(("a", SqlType(Kind.INTEGER)), ("b c", row(("d", SqlType(Kind.INTEGER))))),
        ),
        ("INTERVAL DAY(3) TO SECOND(3)", SqlType(Kind.INTERVAL_MS)),
        ("INTERVAL YEAR", SqlType(Kind.INTERVAL_MONTHS)),
    ],
)
def test_types_in_all_their_spellings(text: str, of: SqlType) -> None:
    """Defaults are Flink's: one character, ten digits, microseconds."""
    assert parse_type(text) == of
    assert parse_type(type_text(of)) == of


@pytest.mark.parametrize(
    ("text", "problem", "says"),
    [
        ("RAW('a', 'b')", NotSupported, "RAW"),
        ("TIMESTAMP(3) WITH TIME ZONE", NotSupported, "TIMESTAMP_LTZ"),
        ("TEXT", NotSupported, "STRING"),
        ("mine.own", NotSupported, "mine.own"),
        ("DECIMAL(39, 1)", TypeProblem, "from 1 to 38"),
        ("VARCHAR(0)", TypeProblem, "from 1"),
        ("TIMESTAMP(10)", TypeProblem, "from 0 to 9"),
        ("ROW<>", NotSupported, "without fields"),
        ("MAP<INT>", SyntaxProblem, "found >, expected ,"),
        ("ARRAY", SyntaxProblem, "a data type"),
    ],
)
def test_types_that_are_none(text: str, problem: type[SqlError], says: str) -> None:
    """Each is refused by name."""
    with pytest.raises(problem, match=re.escape(says)):
        parse_type(text)


def test_reserved_words_are_no_names() -> None:
    """In any place, and the hint says how to write them."""
    for word in sorted(words.RESERVED):
        for text in (f"SELECT t.{word} FROM t", f"SELECT a AS {word} FROM t"):
            with pytest.raises(SyntaxProblem):
                parse_query(text)
        assert parse_query(f"SELECT `{word}` FROM t") is not None
    with pytest.raises(SyntaxProblem, match="TIMESTAMP is a reserved word; as a name it is written `timestamp`"):
        parse_script("CREATE TABLE t (timestamp BIGINT)")


def test_words_that_are_not_reserved_are_names() -> None:
    """Also those that mean something elsewhere."""
    for word in [
        "map",
        "json",
        "key",
        "first",
        "last",
        "name",
        "type",
        "plan",
        "metadata",
        "options",
        "if",
        "session",
        "hop",
        "tumble",
        "final",
        "source",
    ]:
        assert parse_expression(word) == tree.Name((word,))


def test_set_operations_bind_as_flinks_do() -> None:
    """INTERSECT before UNION and EXCEPT, which go from left to right; ORDER BY is of the whole."""
    query = parse_query("SELECT a UNION SELECT b INTERSECT SELECT c EXCEPT ALL SELECT d ORDER BY 1 LIMIT 2")
    assert isinstance(query, tree.Ordered)
    whole = query.query
    assert isinstance(whole, tree.SetOperation)
    assert (whole.kind, whole.all) == ("EXCEPT", True)
    assert isinstance(whole.left, tree.SetOperation)
    assert whole.left.kind == "UNION"
    assert isinstance(whole.left.right, tree.SetOperation)
    assert whole.left.right.kind == "INTERSECT"


def test_brackets_in_from_are_queries_or_joins() -> None:
    """However many there are; what comes behind them tells."""
    for text, kind in [
        ("(SELECT 1)", tree.Subquery),
        ("((SELECT 1))", tree.Subquery),
        ("((SELECT 1) UNION (SELECT 2)) AS x", tree.Subquery),
        ("(((SELECT 1) LIMIT 3) UNION SELECT 2)", tree.Subquery),
        ("(t JOIN u ON a)", tree.Join),
        ("((SELECT 1) AS x JOIN u ON a)", tree.Join),
        ("((t CROSS JOIN u) JOIN (v CROSS JOIN w) ON a)", tree.Join),
    ]:
        query = parse_query(f"SELECT * FROM {text}")
        assert isinstance(query, tree.Select)
        assert isinstance(query.source, kind), text
    with pytest.raises(SyntaxProblem, match="Only queries and joins"):
        parse_query("SELECT * FROM (t)")


def test_window_functions_take_tables_descriptors_and_names() -> None:
    """With TABLE() around and without, arguments by place and by name."""
    text = "SELECT * FROM {}SESSION(TABLE t PARTITION BY (a, b), DESCRIPTOR(ts), gap => INTERVAL '1' MINUTE){} AS w"
    plain, wrapped = parse_query(text.format("", "")), parse_query(text.format("TABLE(", ")"))
    assert plain == wrapped
    assert isinstance(plain, tree.Select)
    source = plain.source
    assert isinstance(source, tree.TableFunction)
    names = [name for name, _ in source.arguments]
    assert (source.name, names, source.alias) == ("SESSION", [None, None, "gap"], "w")
    table = source.arguments[0][1]
    assert table == tree.TableArgument(tree.Name(("t",)), (tree.Name(("a",)), tree.Name(("b",))))


def test_patterns() -> None:
    """Quantifiers, groups, alternatives; brackets around one variable mean nothing."""
    text = "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts PATTERN ((a) b*? (c | d e)+ f{2,3} g{,4}) DEFINE a AS TRUE)"
    query = parse_query(text)
    assert isinstance(query, tree.Select)
    match = query.source
    assert isinstance(match, tree.MatchRecognize)
    group = tree.PatternTerm(
        None,
        (tree.PatternTerm("c"), tree.PatternTerm(None, (tree.PatternTerm("d"), tree.PatternTerm("e")))),
        is_alternation=True,
        maximum=None,
    )
    assert match.pattern.parts == (
        tree.PatternTerm("a"),
        tree.PatternTerm("b", minimum=0, maximum=None, greedy=False),
        group,
        tree.PatternTerm("f", minimum=2, maximum=3),
        tree.PatternTerm("g", minimum=0, maximum=4),
    )


def test_a_table_in_all_its_parts() -> None:
    """Columns of all kinds, keys and watermark wherever they stand."""
    [statement] = parse_script(
        """
        CREATE TEMPORARY TABLE IF NOT EXISTS orders (
          id BIGINT PRIMARY KEY NOT ENFORCED COMMENT 'the number',
          WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
          ts TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
          total AS price * 2 COMMENT 'twice',
          price DECIMAL(10, 2) NOT NULL
        ) COMMENT 'all' PARTITIONED BY (id) WITH ('connector' = 'kinesis', 'it''s' = '')
        """
    )
    assert isinstance(statement, tree.CreateTable)
    assert [type(column).__name__ for column in statement.columns] == [
        "PhysicalColumn",
        "MetadataColumn",
        "ComputedColumn",
        "PhysicalColumn",
    ]
    assert statement.primary_key == ("id",)
    assert statement.watermark is not None
    assert statement.watermark.column == ("ts",)
    assert statement.options == (("connector", "kinesis"), ("it's", ""))
    assert (
        to_flink(statement)
        == """\
CREATE TEMPORARY TABLE IF NOT EXISTS orders (
  id BIGINT COMMENT 'the number',
  ts TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
  total AS price * 2 COMMENT 'twice',
  price DECIMAL(10, 2) NOT NULL,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
  PRIMARY KEY (id) NOT ENFORCED
)
COMMENT 'all'
PARTITIONED BY (id) WITH (
  'connector' = 'kinesis',
  'it''s' = ''
)"""
    )


def test_statements_keep_their_text_and_place() -> None:
    """Without semicolons and comments around them; lines and columns count from 1."""
    text = "-- first\nSET 'a' = 'b';;\n/* ; */ SELECT ';' AS x -- ;\n FROM t ;\n"
    (first, first_text), (second, second_text) = statements_with_text(text)
    assert first == tree.SetOption("a", "b")
    assert first_text == "SET 'a' = 'b'"
    assert second_text == "SELECT ';' AS x -- ;\n FROM t"
    assert (second.place.line, second.place.column) == (3, 9)
    assert text[second.place.start : second.place.stop] == second_text
    assert isinstance(second, tree.QueryStatement)
    assert isinstance(second.query, tree.Select)
    assert isinstance(second.query.source, tree.TableName)
    place = second.query.source.place
    assert (place.line, place.column, text[place.start : place.stop]) == (4, 7, "t")


def test_statement_sets_are_one_in_both_spellings() -> None:
    """EXECUTE STATEMENT SET BEGIN .. END, and BEGIN STATEMENT SET; .. END."""
    inserts = "INSERT INTO a SELECT 1; INSERT INTO b (c) VALUES (2);"
    old = parse_script(f"BEGIN STATEMENT SET; {inserts} END;")
    new = parse_script(f"EXECUTE STATEMENT SET BEGIN {inserts} END")
    assert old == new
    assert isinstance(new[0], tree.StatementSet)
    assert len(new[0].inserts) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ALTER TABLE t RENAME TO u", "ALTER"),
        ("USE CATALOG c", "USE"),
        ("CREATE CATALOG c WITH ('a' = 'b')", "CREATE CATALOG"),
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("DROP DATABASE d", "DROP DATABASE"),
        ("DELETE FROM t WHERE a", "DELETE"),
        ("UPDATE t SET a = 1", "UPDATE"),
        ("LOAD MODULE m", "LOAD"),
        ("ANALYZE TABLE t COMPUTE STATISTICS", "ANALYZE"),
        ("ADD JAR 'x'", "ADD"),
        ("CREATE OR REPLACE TABLE t (a INT)", "CREATE OR REPLACE"),
        ("CREATE TABLE t (a INT) DISTRIBUTED BY (a) INTO 3 BUCKETS", "DISTRIBUTED"),
        ("CREATE TABLE t (a INT, UNIQUE (a) NOT ENFORCED)", "UNIQUE"),
        ("SHOW CATALOGS", "SHOW CATALOGS"),
        ("SELECT STREAM a FROM t", "SELECT STREAM"),
        ("SELECT a FROM t TABLESAMPLE SYSTEM(3)", "TABLESAMPLE"),
        ("SELECT a FROM t WHERE a > ANY (SELECT 1)", "ANY"),
        ("SELECT a ILIKE b FROM t", "ILIKE"),
        ("SELECT a MEMBER OF b FROM t", "MEMBER"),
        ("SELECT a AT TIME ZONE 'UTC' FROM t", "AT TIME ZONE"),
        ("SELECT ? FROM t", "parameter"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT 2", "WITH RECURSIVE"),
        ("SELECT a FROM t GROUP BY GROUPING SETS (ROLLUP (a))", "ROLLUP"),
    ],
)
def test_forms_outside_the_subset_are_refused_by_name(text: str, says: str) -> None:
    """NotSupported, not a syntax error: Flink has them."""
    with pytest.raises(NotSupported, match=re.escape(says)):
        parse_script(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("SELECT a FORM t", 1, 15, "found t, expected ; or the end Did you mean FROM instead of FORM?"),
        ("SELCT a FROM t", 1, 1, "expected a statement Did you mean SELECT?"),
        ("SELECT a\nFROM t\nWHRE b", 3, 6, "Did you mean WHERE instead of WHRE?"),
        ("SELECT a FROM t GROUP BYE a", 1, 23, "found BYE, expected BY Did you mean BY?"),
        ("SELECT a,\n  FROM t", 2, 3, "found FROM, expected an expression"),
        ("SELECT (a FROM t", 1, 11, "found FROM, expected )"),
        ("SELECT a FROM t JOIN u", 1, 23, "expected ON or USING A join without a condition is CROSS JOIN"),
        ("SELECT a FROM SELECT 1", 1, 15, "Put the query in brackets"),
        ("SELECT 'a", 1, 8, "a text begins here and never ends"),
        ("SELECT /* a", 1, 8, "a comment begins here"),
        ('SELECT "a"', 1, 8, "Names are quoted with `"),
        ("SELECT a != b", 1, 10, "write <>"),
        ("SELECT a FROM t LIMIT 1 + 1", 1, 25, "found +"),
        ("SELECT a FROM t LIMIT 5, 10", 1, 24, "LIMIT count OFFSET start"),
        ("SELECT a\u00a0FROM t", 1, 9, "U+00A0, which begins nothing It looks like a space"),
        ("CREATE TABLE t (a INT PRIMARY KEY)", 1, 34, "NOT ENFORCED"),
        ("CREATE TABLE t (a INT) WITH (a = 'b')", 1, 30, "a key in ''"),
        ("SET a = b", 1, 5, "SET 'key' = 'value'"),
        ("SELECT a\r\nFROM t WHERE\r\n", 3, 1, "found the end, expected an expression"),
        ("SELECT CASE a END", 1, 15, "found END, expected WHEN"),
        ("SELECT CAST(a AS INT NOT NULL)", 1, 22, "leave [NOT] NULL out"),
        ("EXECUTE STATEMENT SET BEGIN SELECT 1; END", 1, 29, "expected INSERT"),
        ("SELECT 1e999", 1, 8, "not in the range of DOUBLE"),
        ("SELECT " + "9" * 5_000, 1, 8, "more than 38 digits"),
    ],
)
def test_errors_say_where_what_and_what_instead(text: str, line: int, column: int, says: str) -> None:
    """The place is that of what was found."""
    with pytest.raises(SyntaxProblem) as caught:
        parse_script(text)
    assert (caught.value.place.line, caught.value.place.column) == (line, column)
    assert says in str(caught.value)


def test_depth_is_bounded() -> None:
    """A million brackets are an error, as are ten thousand operators in one another; so is no tree too high to walk."""
    million = "(" * 1_000_000
    for text in (
        million,
        "SELECT " + million[:50_000],
        "SELECT * FROM " + million[:50_000],
        "SELECT CAST(a AS " + "ARRAY<" * 100_000,
        "SELECT " + "-".join(["a"] * 10_000),
        "SELECT a" + "[1]" * 10_000,
        "SELECT " + "NOT " * 10_000 + "a",
        "SELECT " + "- " * 10_000 + "a",
        "SELECT * FROM t" + " CROSS JOIN t" * 10_000,
        "SELECT 1" + " UNION ALL SELECT 1" * 10_000,
        "EXPLAIN " * 10_000 + "SELECT 1",
        "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (" + million[:50_000],
        "SELECT 1 WHERE " + "CASE WHEN " * 10_000,
        "SELECT " + "(a + " * 40 + "1" + "+ 1 + 1)" * 40,
    ):
        with pytest.raises(SqlError):
            parse_script(text)


def test_long_conditions_are_balanced() -> None:
    """Thousands of terms with AND or OR are no deeper than their logarithm, mean the same, and print to the same."""
    for count in (CHAIN_TERMS_MAX, CHAIN_TERMS_MAX + 1, 5_000):
        node = parse_expression(" OR ".join(f"a = {number}" for number in range(count)))
        assert height_of(node) <= max(CHAIN_TERMS_MAX, 16) + 3
        assert parse_expression(to_flink(node)) == node
        assert [int(found) for found in re.findall(r"\d+", to_flink(node))] == list(range(count))


def test_length_is_bounded() -> None:
    """One character more than the most is refused before it is read."""
    text = "SELECT 1" + " " * (SCRIPT_CHARACTERS_MAX - 8)
    assert len(parse_script(text)) == 1
    with pytest.raises(SyntaxProblem, match="1,048,577 characters"):
        parse_script(text + " ")


def test_a_nearly_full_stack_is_an_error_of_the_text() -> None:
    """Whoever calls from deep inside gets an SqlError, not a RecursionError."""
    text = "SELECT " + "(" * (TREE_DEPTH_MAX - 5) + "1" + ")" * (TREE_DEPTH_MAX - 5)
    assert parse_script(text)

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            parse_script(text)

    with pytest.raises(SyntaxProblem, match="nests too deeply"):
        deep(sys.getrecursionlimit() - 250)


# -- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: str(path.stem))
def test_cases_print_to_the_same_tree(path: Path) -> None:
    """Every script that Flink took."""
    statements = parse_script(path.read_text(encoding="utf-8"))
    assert statements
    assert parse_script(";\n".join(to_flink(statement) for statement in statements)) == statements


def test_fifty_lines_take_less_than_five_milliseconds() -> None:
    """Of the corpus; in CPU time and the best of some runs, as the machine has others to serve."""
    text = "\n".join(path.read_text(encoding="utf-8").rstrip().rstrip(";") + ";" for path in ACCEPTED)
    lines = text.count("\n")
    best = min(_seconds(lambda: parse_script(text)) for _ in range(5))
    assert best / lines * 50 < 0.005


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# -- dialects --------------------------------------------------------------------------------------------------------


def test_another_dialect_may_quote_and_fold_names_otherwise() -> None:
    """What the older SQL of Kinesis Analytics needs of the lexer."""
    old = Dialect(
        "old", quote='"', reserved=FLINK.reserved - {"VALUE"}, bang_equal=True, at_time_zone=True, folds_names=True
    )
    node = parse_expression('"a""B".c != value', old)
    assert node == tree.Binary("<>", tree.Name(('a"B', "C")), tree.Name(("VALUE",)))
    assert isinstance(parse_expression("a AT TIME ZONE 'UTC'", old), tree.AtTimeZone)
    with pytest.raises(SyntaxProblem, match='Names are quoted with "'):
        parse_expression("`a`", old)


def test_the_language_loads_no_engine() -> None:
    """Parsing costs neither DuckDB nor Arrow."""
    code = "import sys, streamkit_sql.language.parser, streamkit_sql.language.printer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"duckdb", "pyarrow", "numpy"} & set(loaded.split())
