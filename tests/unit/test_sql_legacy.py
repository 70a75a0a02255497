"""SQL-1_0: what its scripts say in Flink's SQL, that our planner takes it, and what is refused where."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit_sql.errors import NOWHERE, NotSupported, SqlError, SyntaxProblem, TypeProblem, UnknownName
from streamkit_sql.language.parser import parse_script
from streamkit_sql.legacy import (
    Input,
    InputColumn,
    Output,
    ReferenceTable,
    configured,
    statements_of,
    translate,
    translate_file,
)
from streamkit_sql.queries import run_bounded
from streamkit_sql.session import Session

EXAMPLES = Path(__file__).parents[2] / "sql" / "examples" / "legacy"
COLUMNS = (
    InputColumn("ID", "INTEGER"),
    InputColumn("KIND", "VARCHAR(8)"),
    InputColumn("PRICE", "DOUBLE"),
    InputColumn("SEEN", "TIMESTAMP"),
    InputColumn("line", "VARCHAR(200)"),
)
KINDS = ReferenceTable("KINDS", (InputColumn("CODE", "VARCHAR(8)"), InputColumn("NAME", "VARCHAR(40)")), "kinds.json")
SOURCE = Input("S", COLUMNS, "events", references=(KINDS,))
MINUTE = "STEP(ROWTIME BY INTERVAL '1' MINUTE)"
TUMBLE = "TABLE(TUMBLE(TABLE S_001, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE))"


def pump(query: str, columns: str = "A VARCHAR(8), B DOUBLE") -> str:
    return f"CREATE OR REPLACE STREAM OUT1 ({columns});\nCREATE OR REPLACE PUMP P AS INSERT INTO OUT1\n{query};"


def query_of(query: str, columns: str = "A VARCHAR(8), B DOUBLE") -> str:
    """The translation of a pump's query on one line; it has been planned, and printed as it was built."""
    script = pump(query, columns)
    made = checked(script)
    return " ".join(made[made.index("INSERT INTO OUT1") + 16 :].split()).removesuffix(";")


def checked(script: str, inputs: tuple[Input, ...] = (SOURCE,), outputs: tuple[Output, ...] = ()) -> str:
    made = translate(script, inputs, outputs)
    assert parse_script(made) == statements_of(script, inputs, outputs)
    Session().run(made)
    return made


def problem(script: str) -> SqlError:
    with pytest.raises(SqlError) as found:
        translate(script, [SOURCE])
    return found.value


# -- queries ---------------------------------------------------------------------------------------------------------

TRANSLATED = {
    "names are folded and quoted ones are kept": (
        'SELECT STREAM kind, "PRICE" FROM "S_001" WHERE "line" IS NOT NULL',
        "SELECT KIND AS A, PRICE AS B FROM S_001 WHERE line IS NOT NULL",
    ),
    "a group by ROWTIME is a tumbling window": (
        "SELECT STREAM kind, COUNT(*) FROM S_001 GROUP BY kind, STEP(S_001.ROWTIME BY INTERVAL '10' SECOND)",
        "SELECT KIND AS A, CAST(COUNT(*) AS DOUBLE) AS B "
        "FROM TABLE(TUMBLE(TABLE S_001, DESCRIPTOR(ROWTIME), INTERVAL '10' SECOND)) "
        "GROUP BY window_start, window_end, KIND",
    ),
    "FLOOR of ROWTIME is a window as well, and its start is selected": (
        "SELECT STREAM FLOOR(ROWTIME TO HOUR), MAX(price) FROM S_001 GROUP BY FLOOR(ROWTIME TO HOUR)",
        "SELECT CAST(window_start AS VARCHAR(8)) AS A, TRY_CAST(MAX(PRICE) AS DOUBLE) AS B "
        "FROM TABLE(TUMBLE(TABLE S_001, DESCRIPTOR(ROWTIME), INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
    ),
    "another time beside ROWTIME stays a key": (
        f"SELECT STREAM kind, COUNT(*) FROM S_001 GROUP BY kind, FLOOR(seen TO MINUTE), {MINUTE}",
        f"SELECT KIND AS A, CAST(COUNT(*) AS DOUBLE) AS B FROM {TUMBLE} "
        "GROUP BY window_start, window_end, KIND, FLOOR(SEEN TO MINUTE)",
    ),
    "arrival beside ROWTIME stays a key": (
        f"SELECT STREAM kind, COUNT(*) FROM S_001 "
        f"GROUP BY kind, STEP(APPROXIMATE_ARRIVAL_TIME BY INTERVAL '1' MINUTE), {MINUTE}",
        f"SELECT KIND AS A, CAST(COUNT(*) AS DOUBLE) AS B FROM {TUMBLE} "
        "GROUP BY window_start, window_end, KIND, FLOOR(CAST(APPROXIMATE_ARRIVAL_TIME AS TIMESTAMP(3)) TO MINUTE)",
    ),
    "arrival alone is what the window goes by": (
        "SELECT STREAM kind, COUNT(*) FROM S_001 GROUP BY kind, "
        "MONOTONIC(STEP(APPROXIMATE_ARRIVAL_TIME BY INTERVAL '5' MINUTE))",
        "SELECT KIND AS A, CAST(COUNT(*) AS DOUBLE) AS B "
        "FROM TABLE(TUMBLE(TABLE S_001, DESCRIPTOR(APPROXIMATE_ARRIVAL_TIME), INTERVAL '5' MINUTE)) "
        "GROUP BY window_start, window_end, KIND",
    ),
    "DISTINCT is a group by all that is selected": (
        f"SELECT STREAM DISTINCT {MINUTE}, id FROM S_001",
        f"SELECT CAST(window_start AS VARCHAR(8)) AS A, CAST(ID AS DOUBLE) AS B FROM {TUMBLE} "
        "GROUP BY window_start, window_end, ID",
    ),
    "WHERE and HAVING stay": (
        f"SELECT STREAM kind, SUM(price) FROM S_001 WHERE id > 3 GROUP BY kind, {MINUTE} HAVING COUNT(*) >= 2",
        f"SELECT KIND AS A, TRY_CAST(SUM(PRICE) AS DOUBLE) AS B FROM {TUMBLE} WHERE ID > 3 "
        "GROUP BY window_start, window_end, KIND HAVING COUNT(*) >= 2",
    ),
    "a sliding window of time goes by ROWTIME up to the row": (
        "SELECT STREAM kind, AVG(price) OVER w FROM S_001 "
        "WINDOW w AS (PARTITION BY kind RANGE INTERVAL '1' MINUTE PRECEDING)",
        "SELECT KIND AS A, TRY_CAST(AVG(PRICE) OVER W AS DOUBLE) AS B FROM S_001 WINDOW W AS (PARTITION BY KIND "
        "ORDER BY ROWTIME RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW)",
    ),
    "a sliding window of rows": (
        "SELECT STREAM kind, SUM(price) OVER (PARTITION BY kind ROWS 2 PRECEDING) FROM S_001",
        "SELECT KIND AS A, TRY_CAST(SUM(PRICE) OVER (PARTITION BY KIND ORDER BY ROWTIME "
        "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS DOUBLE) AS B FROM S_001",
    ),
    "streams are joined within their windows": (
        "SELECT STREAM a.kind, b.price FROM S_001 OVER (RANGE INTERVAL '10' SECOND PRECEDING) AS a "
        "LEFT JOIN S_001 OVER w AS b ON a.id = b.id WINDOW w AS (RANGE INTERVAL '1' MINUTE PRECEDING)",
        "SELECT A.KIND AS A, B.PRICE AS B FROM S_001 AS A LEFT JOIN S_001 AS B ON A.ID = B.ID "
        "AND B.ROWTIME >= A.ROWTIME - INTERVAL '1' MINUTE AND B.ROWTIME <= A.ROWTIME + INTERVAL '10' SECOND",
    ),
    "a side without a window has its current row": (
        "SELECT STREAM a.kind, b.price FROM S_001 AS a JOIN S_001 OVER (RANGE INTERVAL '1' HOUR PRECEDING) AS b "
        "ON a.id = b.id",
        "SELECT A.KIND AS A, B.PRICE AS B FROM S_001 AS A JOIN S_001 AS B ON A.ID = B.ID "
        "AND B.ROWTIME >= A.ROWTIME - INTERVAL '1' HOUR AND B.ROWTIME <= A.ROWTIME",
    ),
    "a reference table is looked up": (
        "SELECT STREAM k.name, s.price FROM S_001 AS s LEFT JOIN KINDS AS k ON s.kind = k.code",
        "SELECT CAST(K.NAME AS VARCHAR(8)) AS A, S.PRICE AS B FROM S_001 AS S "
        "LEFT JOIN KINDS FOR SYSTEM_TIME AS OF S.ROWTIME AS K ON S.KIND = K.CODE",
    ),
    "a comma with a reference table has its keys from WHERE": (
        "SELECT STREAM k.name, s.price FROM S_001 s, KINDS k WHERE s.kind = k.code",
        "SELECT CAST(K.NAME AS VARCHAR(8)) AS A, S.PRICE AS B FROM S_001 AS S "
        "JOIN KINDS FOR SYSTEM_TIME AS OF S.ROWTIME AS K ON S.KIND = K.CODE",
    ),
    "the most frequent values of a window": (
        "SELECT STREAM item, item_count FROM TABLE(TOP_K_ITEMS_TUMBLING("
        "CURSOR(SELECT STREAM * FROM S_001), 'KIND', 3, 60))",
        "SELECT CAST(ITEM AS VARCHAR(8)) AS A, CAST(ITEM_COUNT AS DOUBLE) AS B FROM ( SELECT ITEM, ITEM_COUNT, ROWTIME "
        "FROM ( SELECT ITEM, ITEM_COUNT, ROWTIME, ROW_NUMBER() OVER (PARTITION BY window_start, window_end "
        "ORDER BY ITEM_COUNT DESC, ITEM) AS ITEM_RANK FROM ( SELECT CAST(KIND AS VARCHAR(1024)) AS ITEM, COUNT(*) AS "
        "ITEM_COUNT, window_start, window_end, window_time AS ROWTIME "
        "FROM TABLE(TUMBLE(TABLE S_001, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) "
        "GROUP BY window_start, window_end, window_time, KIND ) ) WHERE ITEM_RANK <= 3 )",
    ),
    "a number of distinct values": (
        "SELECT STREAM 'all', NUMBER_OF_DISTINCT_ITEMS FROM TABLE(COUNT_DISTINCT_ITEMS_TUMBLING("
        "CURSOR(SELECT STREAM id FROM S_001 WHERE id > 1), 'ID', 5)) AS t",
        "SELECT CAST('all' AS VARCHAR(8)) AS A, CAST(NUMBER_OF_DISTINCT_ITEMS AS DOUBLE) AS B FROM ( SELECT "
        "COUNT(DISTINCT ID) AS NUMBER_OF_DISTINCT_ITEMS, window_time AS ROWTIME FROM TABLE(TUMBLE(( SELECT ID, ROWTIME "
        "FROM S_001 WHERE ID > 1 ), DESCRIPTOR(ROWTIME), INTERVAL '5' SECOND)) "
        "GROUP BY window_start, window_end, window_time ) AS T",
    ),
}


@pytest.mark.parametrize(("query", "expected"), TRANSLATED.values(), ids=[*TRANSLATED])
def test_a_query_says_the_same_in_flinks_words(query: str, expected: str) -> None:
    """Each form's translation, which plans and parses to the tree it was printed from."""
    assert query_of(query) == expected


EXPRESSIONS = {
    "STEP(id BY 5)": "ID / 5 * 5",
    "STEP(seen BY INTERVAL '1' DAY)": "FLOOR(SEEN TO DAY)",
    "STEP(seen BY INTERVAL '5' MINUTE)": "CAST(TO_TIMESTAMP_LTZ(EXTRACT(EPOCH FROM SEEN) - "
    "MOD(EXTRACT(EPOCH FROM SEEN), 300), 0) AS TIMESTAMP(3))",
    "CURRENT_ROW_TIMESTAMP": "CAST(CURRENT_ROW_TIMESTAMP() AS TIMESTAMP(3))",
    "ROWTIME - INTERVAL '1' SECOND": "CAST(ROWTIME AS TIMESTAMP(3)) - INTERVAL '1' SECOND",
    "UNIX_TIMESTAMP(seen)": "EXTRACT(EPOCH FROM SEEN) * 1000 + EXTRACT(MILLISECOND FROM SEEN)",
    "TSDIFF(id, 7)": "7 - ID",
    "TO_TIMESTAMP(id)": "CAST(TO_TIMESTAMP_LTZ(ID, 3) AS TIMESTAMP(3))",
    "CHAR_TO_TIMESTAMP('yyyy', kind)": "TO_TIMESTAMP(KIND, 'yyyy')",
    "TIMESTAMP_TO_CHAR('HH', seen)": "DATE_FORMAT(CAST(SEEN AS TIMESTAMP(3)), 'HH')",
    "REGEX_REPLACE(kind, 'a+', 'b', 1, 0)": "REGEXP_REPLACE(KIND, 'a+', 'b')",
    "SUBSTRING(kind FROM 2 FOR 3)": "SUBSTRING(KIND, 2, 3)",
    "CHAR_LENGTH(kind)": "CHAR_LENGTH(KIND)",
    "CAST(kind AS INTEGER)": "TRY_CAST(KIND AS INT)",
    "CASE WHEN id > 1 THEN 'x' ELSE kind END": "CASE WHEN ID > 1 THEN 'x' ELSE KIND END",
}


@pytest.mark.parametrize(("given", "expected"), EXPRESSIONS.items())
def test_an_expression_says_the_same_in_flinks_words(given: str, expected: str) -> None:
    """Functions by their translations; the planner takes each."""
    made = query_of(f"SELECT STREAM {given} FROM S_001", "A VARCHAR(40)")
    assert made == f"SELECT CAST({expected} AS VARCHAR(40)) AS A FROM S_001"


def values_of(tmp_path: Path, query: str, rows: list[dict[str, object]], columns: str) -> list[tuple[object, ...]]:
    """What a pump gives for rows of a file, which takes the stream's place."""
    source = tmp_path / "rows.json"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = checked(pump(query, columns))
    made = re.sub(r"\n  APPROXIMATE_ARRIVAL_TIME[^\n]*", "", made)
    made = made.replace(
        "'connector' = 'kinesis',\n  'stream' = 'events'", f"'connector' = 'filesystem', 'path' = '{source}'"
    )
    session = Session()
    outputs = session.run(made).outputs

    async def run() -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        async for emitted in run_bounded(session, outputs):
            table: pa.Table = emitted.rows
            found += [tuple(row.values()) for row in table.to_pylist()]
        return found

    return asyncio.run(run())


def test_a_web_servers_log_is_taken_apart(tmp_path: Path) -> None:
    """W3C_LOG_PARSE gives its fields, and NULLs for a line that is none."""
    line = '10.0.0.7 - ada [24/May/2004:22:01:02 -0700] "GET /a b.gif HTTP/1.1" 304 17'
    query = (
        "SELECT STREAM l.r.COLUMN1, l.r.COLUMN5, l.r.COLUMN7 "
        "FROM (SELECT STREAM W3C_LOG_PARSE(\"line\", 'COMMON') FROM S_001) AS l (r)"
    )
    found = values_of(tmp_path, query, [{"line": line}, {"line": "x"}], "A VARCHAR(20), B VARCHAR(30), C INTEGER")
    assert found == [("10.0.0.7", "GET /a b.gif HTTP/1.1", 17), (None, None, None)]


def test_log_parsers_give_columns_of_their_types(tmp_path: Path) -> None:
    """By delimiter, by place and by pattern; what does not fit is NULL."""
    query = (
        "SELECT STREAM t.v.b, t.f.n, t.x.COLUMN2 FROM (SELECT STREAM "
        "VARIABLE_COLUMN_LOG_PARSE(\"line\", 'A TYPE VARCHAR(4), B TYPE DECIMAL(4, 1)', ';') AS v, "
        "FIXED_COLUMN_LOG_PARSE(\"line\", 'N TYPE INTEGER START 0 FOR 2') AS f, "
        "REGEX_LOG_PARSE(\"line\", '([0-9]+);(?:(\\d)\\.)?.*') AS x FROM S_001) AS t"
    )
    found = values_of(tmp_path, query, [{"line": "42;7.5"}, {"line": "ab;c"}], "A DOUBLE, B INTEGER, C VARCHAR(4)")
    assert found == [(7.5, 42, "7"), (None, None, None)]


def test_times_and_steps_have_the_references_values(tmp_path: Path) -> None:
    """The SQL Reference's own examples of STEP, and milliseconds of UNIX_TIMESTAMP."""
    query = (
        "SELECT STREAM STEP(id BY 5), TIMESTAMP_TO_CHAR('HH:mm:ss', STEP(seen BY INTERVAL '10' SECOND)), "
        "UNIX_TIMESTAMP(seen), STEP(CAST(NULL AS INTEGER) BY 5) FROM S_001"
    )
    rows: list[dict[str, object]] = [{"ID": 23, "SEEN": "2004-09-30 13:48:23.250"}]
    found = values_of(tmp_path, query, rows, "A INTEGER, B VARCHAR(8), C BIGINT, D INTEGER")
    assert found == [(20, "13:48:20", 1_096_552_103_250, None)]


def test_too_long_a_text_is_cut_and_no_number_is_null(tmp_path: Path) -> None:
    """As the stream's columns take them."""
    found = values_of(tmp_path, "SELECT STREAM kind, kind FROM S_001", [{"KIND": "abcdef"}], "A VARCHAR(3), B INTEGER")
    assert found == [("abc", None)]


# -- scripts ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_read_is_a_view_of_all_its_pumps() -> None:
    """Whatever the order of the pumps; columns that a pump leaves out are NULL."""
    script = (
        "CREATE STREAM mid (k VARCHAR(8), p DOUBLE); CREATE STREAM last (p DOUBLE);"
        "CREATE PUMP c AS INSERT INTO last SELECT STREAM p FROM mid;"
        "CREATE PUMP a AS INSERT INTO mid SELECT STREAM kind, price FROM S_001;"
        "CREATE PUMP b AS INSERT INTO mid (p) SELECT STREAM price FROM S_001;"
    )
    made = checked(script)
    view = made[made.index("CREATE VIEW MID") : made.index("CREATE TABLE LAST")]
    assert " ".join(view.split()) == (
        "CREATE VIEW MID AS SELECT KIND AS K, PRICE AS P, ROWTIME FROM S_001 UNION ALL "
        "SELECT CAST(NULL AS VARCHAR(8)) AS K, P, ROWTIME FROM ( SELECT PRICE AS P, ROWTIME FROM S_001 );"
    )
    assert made.endswith("INSERT INTO LAST\nSELECT P\nFROM MID;\n")


def test_windows_over_windows_go_on_in_time() -> None:
    """A stream of a window's rows has the window's end as its ROWTIME, over which there can be another window."""
    script = (
        "CREATE STREAM mid (k VARCHAR(8), n BIGINT); CREATE STREAM last (n BIGINT);"
        f"CREATE PUMP a AS INSERT INTO mid SELECT STREAM kind, COUNT(*) FROM S_001 GROUP BY kind, {MINUTE};"
        "CREATE PUMP b AS INSERT INTO last SELECT STREAM MAX(n) FROM mid GROUP BY FLOOR(mid.ROWTIME TO HOUR);"
    )
    assert "window_time AS ROWTIME" in checked(script)


def test_a_column_called_as_a_windows_is_another() -> None:
    """The SQL Reference's own example of exact distinct counts, which calls a column window_time."""
    made = query_of(
        "SELECT STREAM kind, COUNT(d.price) FROM (SELECT STREAM DISTINCT rowtime AS window_time, kind, price, "
        "STEP((S_001.rowtime) BY INTERVAL '5' SECOND) FROM S_001) AS d "
        "GROUP BY kind, STEP((d.window_time) BY INTERVAL '5' SECOND)"
    )
    assert "window_time AS WINDOW_TIME_0" in made
    assert made.endswith("DESCRIPTOR(WINDOW_TIME_0), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, KIND")


def test_a_join_is_grouped_as_one_table() -> None:
    """Its columns have names of their own then, also those that are called the same."""
    made = query_of(
        "SELECT STREAM k.name, SUM(s.price) FROM S_001 AS s JOIN KINDS AS k ON s.kind = k.code "
        "WHERE s.id > 0 GROUP BY k.name, STEP(s.ROWTIME BY INTERVAL '1' MINUTE)"
    )
    assert made.endswith(
        "FROM S_001 AS S JOIN KINDS FOR SYSTEM_TIME AS OF S.ROWTIME AS K ON S.KIND = K.CODE WHERE S.ID > 0 ), "
        "DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, NAME"
    )


def test_outputs_say_what_is_written() -> None:
    """Several are one job; a stream that is read as well is written from its view."""
    script = (
        "CREATE STREAM a (k VARCHAR(8)); CREATE STREAM b (k VARCHAR(8)); CREATE STREAM c (k VARCHAR(8));"
        "CREATE PUMP p AS INSERT INTO a SELECT STREAM kind FROM S_001;"
        "CREATE PUMP q AS INSERT INTO b SELECT STREAM k FROM a;"
        "CREATE PUMP r AS INSERT INTO c SELECT STREAM k FROM a;"
    )
    made = checked(script, outputs=(Output("A", stream="one"), Output("B", delivery_stream="two", format="csv")))
    assert "INSERT INTO A_OUTPUT\n" in made
    assert "'delivery-stream' = 'two',\n  'format' = 'csv'" in made
    assert "STATEMENT SET" in made
    assert "INSERT INTO C" not in made


def test_inputs_map_paths_of_their_records() -> None:
    """Paths with a common beginning are a row; each of n streams has the records of every n-th shard."""
    columns = (InputColumn("A", "VARCHAR(4)", "$.x.a"), InputColumn("B", "BIGINT", "$['x'].b.c"))
    given = Input("IN", columns, "events", row_path="$.body", parallelism=2)
    script = "CREATE STREAM o (a VARCHAR(4)); CREATE PUMP p AS INSERT INTO o SELECT STREAM a FROM IN_002;"
    made = checked(script.replace("IN_002", '"IN_002"'), (given,))
    assert "body ROW<x ROW<a VARCHAR(4), b ROW<c BIGINT>>>" in made
    assert "SELECT body.x.a AS A, body.x.b.c AS B, APPROXIMATE_ARRIVAL_TIME, ROWTIME" in made
    assert "WHERE MOD(CAST(SUBSTRING(SHARD_ID, 9) AS BIGINT), 2) = 1;" in made


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sql")), ids=lambda path: path.stem)
def test_each_example_is_translated_and_planned(path: Path) -> None:
    """With what its CreateApplication request says of inputs and outputs."""
    inputs, outputs = configured(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    text = path.read_text(encoding="utf-8")
    assert translate_file(path) == checked(text, inputs, outputs)
    assert Session().run(translate_file(path)).outputs


# -- what is wrong ---------------------------------------------------------------------------------------------------

OF = "FROM S_001"
REFUSED = {
    f"SELECT STREAM kind, COUNT(*) {OF} WINDOWED BY STAGGER (PARTITION BY kind RANGE INTERVAL '1' MINUTE)": (
        NotSupported, "WINDOWED", "SESSION",
    ),
    f"SELECT STREAM kind, COUNT(*) {OF} GROUP BY kind": (SyntaxProblem, "kind", "STEP(ROWTIME BY"),
    f"SELECT STREAM kind, COUNT(*) {OF}": (SyntaxProblem, "SELECT", "GROUP BY STEP"),
    f"SELECT STREAM kind, COUNT(*) {OF} GROUP BY kind, FLOOR(seen TO MINUTE)": (SyntaxProblem, "kind", "ROWTIME"),
    f"SELECT STREAM kind, COUNT(*) {OF} GROUP BY kind, MONOTONIC(id)": (NotSupported, "MONOTONIC", "ROWTIME"),
    f"SELECT STREAM kind, COUNT(*) {OF} GROUP BY kind, FLOOR(ROWTIME TO YEAR)": (NotSupported, "FLOOR", "days"),
    f"SELECT STREAM kind, FAST_REGEX_LOG_PARSER(kind, 'a') {OF}": (NotSupported, "FAST_REGEX", "REGEX_LOG_PARSE"),
    f"SELECT STREAM kind, SOUNDEX(kind) {OF}": (NotSupported, "SOUNDEX", "SOUNDEX"),
    f"SELECT STREAM kind, prise {OF}": (UnknownName, "prise", "PRICE"),
    f"SELECT STREAM kind, line {OF}": (UnknownName, "line", '"line"'),
    f"SELECT STREAM kind {OF}": (TypeProblem, "SELECT", "A, B"),
    "SELECT STREAM kind, price FROM S_002": (UnknownName, "S_002", "S_001"),
    'SELECT STREAM * FROM "error_stream"': (NotSupported, '"error_stream"', "error stream"),
    f"SELECT STREAM kind, price {OF} ORDER BY price": (NotSupported, "price", "ROWTIME"),
    f"SELECT STREAM kind, (SELECT id {OF}) {OF}": (NotSupported, "(SELECT", "query"),
    "SELECT STREAM a.kind, b.price FROM S_001 a JOIN S_001 b ON a.id = b.id": (SyntaxProblem, "S_001 a", "OVER"),
    "SELECT STREAM a.kind, b.price FROM S_001 a JOIN S_001 OVER (ROWS 9 PRECEDING) b ON a.id = b.id": (
        NotSupported, "(ROWS", "RANGE INTERVAL",
    ),
    "SELECT STREAM k.name, s.price FROM S_001 s RIGHT JOIN KINDS k ON s.kind = k.code": (
        NotSupported, "S_001 s", "LEFT JOIN",
    ),
    **{
        f"SELECT STREAM kind, price FROM TABLE({name}(CURSOR(SELECT STREAM * {OF}), 10))": (
            NotSupported, "TABLE", f"{name} is not supported",
        )
        for name in ("HOTSPOTS", "RANDOM_CUT_FOREST", "RANDOM_CUT_FOREST_WITH_EXPLANATION")
    },
}  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), REFUSED.items())
def test_what_cannot_be_said_is_refused_at_its_place(query: str, expected: tuple[type[SqlError], str, str]) -> None:
    """By name, with line and column of the script, and what to write instead."""
    of, at, said = expected
    script = pump(query)
    found = problem(script)
    assert type(found) is of
    assert said in str(found)
    assert found.place.line == 3
    assert script[found.place.start :].startswith(at)


WRONG = {
    "CREATE STREAM A (X INTEGER); CREATE STREAM A (X INTEGER);": "there is a stream 'A' already",
    'CREATE STREAM A (X INTEGER, "x" INTEGER);': "differs from 'X' only by case",
    "CREATE STREAM A (ROWTIME TIMESTAMP);": "every stream has ROWTIME already",
    "CREATE STREAM A (X INTEGER) WITH": "found WITH, expected ;",
    "CREATE PUMP P AS INSERT INTO B SELECT STREAM id FROM S_001;": "there is no stream 'B' to insert into",
    "CREATE STREAM A (X INTEGER); CREATE PUMP P AS INSERT INTO A (Y) SELECT STREAM id FROM S_001;": "no column 'Y'",
    "CREATE STREAM A (X INTEGER); CREATE PUMP P AS INSERT INTO A SELECT STREAM X FROM A;": "feed themselves",
    "INSERT INTO A SELECT STREAM 1 FROM S_001": "an INSERT outside of a pump",
    "CREATE FUNCTION f AS 'x'": "CREATE FUNCTION is not supported",
    "DROP STREAM A": "DROP is not supported",
    "CREATE STREAM S_001 (X INTEGER)": "there is a stream 'S_001' already",
}


@pytest.mark.parametrize(("script", "said"), WRONG.items())
def test_a_wrong_script_says_where(script: str, said: str) -> None:
    """Statements that cannot stand, each with a place."""
    found = problem(script)
    assert said in str(found)
    assert found.place != NOWHERE


def test_without_an_input_it_is_said_where_one_is_given(tmp_path: Path) -> None:
    """A script alone does not say what its source's columns are."""
    path = tmp_path / "a.sql"
    path.write_text(pump("SELECT STREAM kind, price FROM S_001"), encoding="utf-8")
    with pytest.raises(UnknownName, match=r"FILE\.json"):
        translate_file(path)


_WORDS = (
    *("SELECT", "STREAM", "kind", "price", "ROWTIME", "FROM", "S_001", "AS", "a", ",", "(", ")", "GROUP", "BY", "STEP"),
    *("INTERVAL", "'1'", "MINUTE", "OVER", "WINDOW", "RANGE", "PRECEDING", "JOIN", "ON", "=", "COUNT", "*", "TABLE"),
    *("CREATE", "PUMP", "INSERT", "INTO", "OUT1", "CURSOR", "FLOOR", "TO", "DISTINCT", "WHERE", ".", "1", '"line"'),
)


@given(st.lists(st.sampled_from(_WORDS), max_size=12))
def test_whatever_is_written_is_translated_or_refused(words: list[str]) -> None:
    """No text makes another error than an SqlError, and what is translated parses again to an equal tree."""
    script = pump(f"SELECT STREAM kind, price FROM S_001 {' '.join(words)}") + f"\nSELECT {' '.join(words)}"
    for text in (script, pump(f"SELECT STREAM {' '.join(words)} FROM S_001", "A VARCHAR(8)")):
        try:
            made = translate(text, [SOURCE])
        except SqlError:
            continue
        assert parse_script(made) == statements_of(text, [SOURCE])


KEYS = st.lists(st.sampled_from(("kind", "id", "FLOOR(seen TO HOUR)", "UPPER(kind)")), max_size=3, unique=True)


@given(KEYS, st.integers(1, 86_400), st.sampled_from(("COUNT(*)", "SUM(price)", "MIN(ROWTIME)", "MAX(id) - MIN(id)")))
def test_every_group_by_rowtime_is_a_window_that_plans(keys: list[str], seconds: int, value: str) -> None:
    """Of any width and with any keys beside it."""
    step = f"STEP(S_001.ROWTIME BY INTERVAL '{seconds}' SECOND(5))"
    columns = ", ".join(f"C{index} VARCHAR(30)" for index in range(len(keys) + 2))
    query = f"SELECT STREAM {', '.join([*keys, step, value])} FROM S_001 GROUP BY {', '.join([*keys, step])}"
    assert "TUMBLE(TABLE S_001, DESCRIPTOR(ROWTIME)" in query_of(query, columns)
