"""Tables: definitions and their options, watermarks, scans, files, made-up rows, schemas told from records."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, SqlError, TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_script
from streamkit_sql.language.printer import to_flink
from streamkit_sql.plan.catalog import Catalog
from streamkit_sql.plan.planner import Planner
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.operator import NO_WATERMARK_MS
from streamkit_sql.tables.datagen import DatagenSource
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.discovery import discover
from streamkit_sql.tables.encode import parquet_bytes
from streamkit_sql.tables.files import SPLIT, FileParts, FilesSource
from streamkit_sql.tables.scan import Scan
from streamkit_sql.tables.source import SourceBatch
from streamkit_sql.tables.watermark import Watermarks
from streamkit_sql.types import BIGINT, INTEGER, STRING, Field, timestamp_ltz


def define(text: str, like: TableDefinition | None = None) -> TableDefinition:
    created = parse_script(text)[0]
    assert isinstance(created, tree.CreateTable)
    return TableDefinition.from_create(created, like)


def planner() -> Planner:
    return Planner(Catalog())


# -- definitions -----------------------------------------------------------------------------------------------------

ORDERS = """CREATE TABLE orders (
  id BIGINT, line ROW<sku STRING, price DECIMAL(10, 2)>, ts STRING,
  `at` AS TO_TIMESTAMP(ts), sold AS line.price * 2, arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  seen AS PROCTIME(), WATERMARK FOR `at` AS `at` - INTERVAL '1' SECOND
) WITH ('connector' = 'kinesis', 'stream' = 's', 'aws.region' = 'eu-west-1', 'format' = 'json')"""


def test_a_definition_says_what_is_read_written_and_computed() -> None:
    """Physical, computed and metadata columns apart, the time attributes marked."""
    table = define(ORDERS)
    assert [each.name for each in table.physical] == ["id", "line", "ts"]
    assert [each.name for each in table.written] == ["id", "line", "ts"]
    assert not table.is_bounded
    bound = table.bind(planner())
    assert [column.name for column in bound.columns] == ["id", "line", "ts", "at", "sold", "arrived", "seen"]
    assert {column.name: column.time for column in bound.columns if column.time} == {
        "at": "event",
        "seen": "processing",
    }
    assert bound.computed["sold"].columns == {"line.price"}


FILE = "'connector' = 'filesystem', 'path' = '/x', 'format' = "


@pytest.mark.parametrize(
    ("options", "problem", "words"),
    [
        ("'connector' = 'kinesis', 'stream' = 's'", UnknownName, "format"),
        ("'connector' = 'kinesis', 'format' = 'json'", UnknownName, "stream.arn"),
        ("'connector' = 'kafka', 'format' = 'json'", NotSupported, "kafka"),
        ("'connector' = 'filesytem', 'format' = 'json'", UnknownName, "filesystem"),
        ("'connector' = 'filesystem', 'path' = '/x', 'format' = 'jsn'", UnknownName, "json"),
        ("'connector' = 'filesystem', 'path' = '/x', 'format' = 'avro'", NotSupported, "avro"),
        (FILE + "'json', 'json.ignore-parse-error' = 'true'", UnknownName, "json.ignore-parse-errors"),
        (FILE + "'json', 'json.ignore-parse-errors' = 'yes'", SqlError, "true or false"),
        (FILE + "'csv', 'csv.field-delimiter' = 'ab'", SqlError, "one character"),
        ("'connector' = 'datagen', 'rows-per-second' = 'many'", SqlError, "whole number"),
        ("'connector' = 'datagen', 'period' = '1 h'", NotSupported, "steady"),
        ("'connector' = 'filesystem', 'path' = '/x', 'format' = 'raw'", TypeProblem, "one column"),
        ("'format' = 'json'", UnknownName, "connector"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_with_what_to_write_instead(
    options: str, problem: type[SqlError], words: str
) -> None:
    """Unknown, missing and malformed ones."""
    with pytest.raises(problem, match=words):
        define(f"CREATE TABLE t (a INT, b STRING) WITH ({options})")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("a INT, a STRING", "twice"),
        ("a INT, A STRING", "only by case"),
        ("a ROW<x INT, X INT>", "only by case"),
        ("a INT, m STRING METADATA FROM 'offset' VIRTUAL", "no metadata 'offset'"),
        ("a INT, m BOOLEAN METADATA FROM 'file.size' VIRTUAL", "cannot be read"),
        ("a INT, PRIMARY KEY (b) NOT ENFORCED", "no column"),
        ("b AS 1 + 1", "no column"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: str, words: str) -> None:
    """At the place where they stand."""
    with pytest.raises(SqlError, match=words):
        define(f"CREATE TABLE t ({columns}) WITH ('connector' = 'filesystem', 'path' = '/x', 'format' = 'json')")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("a TIMESTAMP(6), WATERMARK FOR a AS a", r"TIMESTAMP\(3\)"),
        ("a STRING, WATERMARK FOR a AS a", r"TIMESTAMP\(3\)"),
        ("a TIMESTAMP(3), WATERMARK FOR b AS a", "no column"),
        ("a TIMESTAMP(3), WATERMARK FOR a AS 1", "is a timestamp"),
    ],
)
def test_watermarks_are_of_a_timestamp_of_three_digits(columns: str, words: str) -> None:
    """As Flink demands."""
    table = define(f"CREATE TABLE t ({columns}) WITH ('connector' = 'kinesis', 'stream' = 's', 'format' = 'json')")
    with pytest.raises(SqlError, match=words):
        table.bind(planner())


def test_like_takes_what_is_not_excluded() -> None:
    """Own options overwrite, and what EXCLUDING names stays away."""
    base = define(ORDERS)
    table = define("CREATE TABLE o (more INT) WITH ('stream' = 'other') LIKE orders (EXCLUDING WATERMARKS)", base)
    assert [column.name for column in table.columns][-1] == "more"
    assert table.options["stream"] == "other"
    assert table.options["format"] == "json"
    assert table.watermark is None
    assert table.with_options([("stream", "third")]).options["stream"] == "third"


# -- watermarks ------------------------------------------------------------------------------------------------------

SPLITS = {"a": 10, "b": 10, "c": None}
"""Idle after so many ms."""
ROWS = st.lists(
    st.tuples(st.sampled_from(sorted(SPLITS)), st.one_of(st.none(), st.integers(-50, 50)), st.integers(0, 8)),
    max_size=40,
)


def by_hand(rows: list[tuple[str, int | None, int]], splits: dict[str, int | None]) -> tuple[list[int], int]:
    """Watermarks before each row, by walking through every millisecond; and the last."""
    marks = dict.fromkeys(splits, NO_WATERMARK_MS)
    seen = dict.fromkeys(splits, 0)
    now, watermark = 0, NO_WATERMARK_MS
    before = []

    def look() -> int:
        active = [marks[name] for name, idle in splits.items() if idle is None or now < seen[name] + idle]
        return max(watermark, min(active, default=watermark))

    for name, time, gap in rows:
        for _ in range(gap):
            now += 1
            watermark = look()
        before.append(watermark)
        seen[name] = now
        if time is not None:
            marks[name] = max(marks[name], time)
        watermark = look()
    return before, watermark


@settings(max_examples=200, deadline=None)
@given(
    rows=ROWS, cuts=st.lists(st.booleans(), min_size=40, max_size=40), names=st.sampled_from(["a", "ab", "abc", "ac"])
)
def test_watermarks_do_not_depend_on_how_rows_are_cut(
    rows: list[tuple[str, int | None, int]], cuts: list[bool], names: str
) -> None:
    """Any rows of any splits, with any gaps, in runs of any length, as when time is walked through by hand."""
    splits = {name: SPLITS[name] for name in names}
    rows = [each for each in rows if each[0] in splits]
    expected, last = by_hand(rows, splits)
    watermarks = Watermarks()
    for name, idle in splits.items():
        watermarks.add(name, idle, 0)
    got: list[int] = []
    now, start = 0, 0
    arrivals = np.cumsum([gap for _, _, gap in rows], dtype=np.int64)
    while start < len(rows):
        stop = start + 1
        while stop < len(rows) and rows[stop][0] == rows[start][0] and not cuts[stop]:
            stop += 1
        times = np.array([NO_WATERMARK_MS if time is None else time for _, time, _ in rows[start:stop]], np.int64)
        if cuts[start]:  # the clock may be asked between rows, up to the next arrival
            watermarks.pass_time((now + int(arrivals[start])) // 2)
            state = watermarks.state()
            watermarks = Watermarks()
            watermarks.restore(state, splits)
        got += watermarks.take(rows[start][0], times, arrivals[start:stop]).tolist()
        now, start = int(arrivals[stop - 1]), stop
    assert got == expected
    assert watermarks.watermark_ms == last


def test_a_split_holds_the_watermark_until_it_is_idle_or_gone() -> None:
    """Split b has no row: it holds until 10 ms have gone, c until it is removed.

    arrivals   0    5    9    10   12
    split a    100  200  300  400  500
    split b    (no row, idle from 10 on)
    watermark  -    -    -    300  400
    """
    watermarks = Watermarks()
    watermarks.add("a", 10, 0)
    watermarks.add("b", 10, 0)
    times, arrivals = np.array([100, 200, 300, 400, 500]), np.array([0, 5, 9, 10, 12])
    assert watermarks.take("a", times, arrivals).tolist() == [NO_WATERMARK_MS] * 3 + [300, 400]
    assert watermarks.watermark_ms == 500
    watermarks.add("c", None, 12)
    watermarks.take("a", np.array([600]), np.array([13]))
    assert watermarks.watermark_ms == 500
    assert watermarks.split_watermarks()["c"] == NO_WATERMARK_MS
    watermarks.remove("c")
    assert watermarks.watermark_ms == 600


# -- scans -----------------------------------------------------------------------------------------------------------

EVENTS = """CREATE TABLE events (
  id INT, who ROW<name STRING, age INT>, ts TIMESTAMP(3), `double` AS id * 2,
  shard STRING METADATA FROM 'shard-id' VIRTUAL,
  arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, loud_name AS who.name || '!',
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'kinesis', 'stream' = 's', 'format' = 'json')"""


def event(number: int, second: int, **more: object) -> bytes:
    row = {"id": number, "who": {"name": f"n{number}", "age": number}, "ts": f"2026-01-01 00:00:{second:02}"} | more
    return json.dumps(row).encode()


def scan_of(text: str, names: dict[str, Any], database: Any) -> Scan:
    table = define(text)
    return Scan(table, table.bind(planner()), {name: Column(name, of) for name, of in names.items()}, database)


@pytest.fixture
def database() -> Any:
    made = connect()
    yield made
    made.close()


START_MS = 1_767_225_600_000  # 2026-01-01


def test_a_scan_gives_columns_fields_numbers_arrivals_and_watermarks(database: Any) -> None:
    """Bad rows are told by batch and place, and take a number's place without being a row."""
    names = {
        "id": INTEGER,
        "who.name": STRING,
        "double": INTEGER,
        "shard": STRING,
        "arrived": timestamp_ltz(3),
        "loud_name": STRING,
    }
    scan = scan_of(EVENTS, names, database)
    watermarks = Watermarks()
    for split in ("x", "y"):
        watermarks.add(scan.split_prefix + split, None, 0)
    first = pa.array([event(1, 10), b"{", event(2, 9)], pa.binary())
    second = pa.array([event(3, 20), event(4, 30, ts=None), event(5, 5)], pa.binary())
    found = scan.rows(
        [
            SourceBatch("x", first, np.array([1000, 1001, 1002]), "p", {"shard-id": "x"}),
            SourceBatch("y", second, 2000, "q", {"shard-id": pa.array(["y"] * 3)}),
        ],
        100,
        watermarks,
    )
    rows = found.rows.to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3, 5]
    assert [row["who.name"] for row in rows] == ["n1", "n2", "n3", "n5"]
    assert [row["loud_name"] for row in rows] == ["n1!", "n2!", "n3!", "n5!"]
    assert [row["double"] for row in rows] == [2, 4, 6, 10]
    assert [row["shard"] for row in rows] == ["x", "x", "y", "y"]
    assert found.rows["$at"].cast(pa.int64()).to_pylist() == [1_000_000, 1_002_000, 2_000_000, 2_000_000]
    assert [row["arrived"] for row in rows] == [row["$at"] for row in rows]
    numbers = [row["$n"] for row in rows]
    assert numbers == sorted(numbers)
    assert numbers[0] == 100
    assert numbers[-1] < 106
    assert [row["$wm"] for row in rows] == [NO_WATERMARK_MS, NO_WATERMARK_MS, NO_WATERMARK_MS, START_MS + 9_000]
    assert [(bad.batch, bad.index) for bad in found.bad] == [(0, 1), (1, 1)]
    assert "NULL" in found.bad[1].reason
    assert found.arrived_ms == 2000
    assert scan.rows([], 0, watermarks).rows.schema.names == [*names, "$n", "$wm", "$at"]


def test_a_scan_of_nothing_but_the_count_reads_its_rows(database: Any) -> None:
    """COUNT(*) asks for no column."""
    text = "CREATE TABLE t (id INT) WITH ('connector' = 'kinesis', 'stream' = 's', 'format' = 'json')"
    scan = scan_of(text, {}, database)
    watermarks = Watermarks()
    watermarks.add("t/x", None, 0)
    found = scan.rows([SourceBatch("x", pa.array([b"{}", b"[", b"{}"], pa.binary()), 5, "p")], 0, watermarks)
    assert found.rows.num_rows == 2
    assert len(found.bad) == 1


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 400), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_rows_do_not_depend_on_how_payloads_are_cut(cuts: list[int], seed: int) -> None:
    """The same rows and watermarks, read at once or in pieces, small ones or large."""
    random = np.random.default_rng(seed)
    documents = [event(n, int(random.integers(0, 60))) if random.random() > 0.01 else b"{" for n in range(600)]
    names = {"id": INTEGER, "who.age": INTEGER, "double": INTEGER}

    def read(sizes: list[int]) -> list[Any]:
        database = connect()
        scan = scan_of(EVENTS, names, database)
        watermarks = Watermarks()
        watermarks.add("events/x", None, 0)
        rows: list[Any] = []
        start = 0
        for size in [*sizes, 600]:
            part = pa.array(documents[start : start + size], pa.binary())
            rows += scan.rows([SourceBatch("x", part, 7, "p")], start, watermarks).rows.drop_columns(["$n"]).to_pylist()
            start += size
        database.close()
        return rows

    assert read(cuts) == read([600])


def test_a_time_column_that_is_computed_has_a_watermark(database: Any) -> None:
    """The watermark's expression names a computed column, which names a field in a row."""
    text = """CREATE TABLE t (who ROW<ms BIGINT>, `at` AS TO_TIMESTAMP_LTZ(who.ms, 3),
      WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND)
    WITH ('connector' = 'kinesis', 'stream' = 's', 'format' = 'json')"""
    scan = scan_of(text, {"at": timestamp_ltz(3)}, database)
    watermarks = Watermarks()
    watermarks.add("t/x", None, 0)
    documents = [json.dumps({"who": {"ms": START_MS + n}}).encode() for n in (7_000, -1, 9_001)]
    found = scan.rows([SourceBatch("x", pa.array(documents, pa.binary()), 5, "p")], 0, watermarks)
    assert found.rows["$wm"].to_pylist() == [NO_WATERMARK_MS, START_MS + 2_000, START_MS + 2_000]
    assert watermarks.watermark_ms == START_MS + 4_001


def test_a_bound_text_may_be_anything_duckdb_computes(database: Any) -> None:
    """Fields inside a computed row are columns of their own."""
    table = define(
        "CREATE TABLE t (id INT, pair AS ROW(id, id + 1)) WITH ('connector'='kinesis','stream'='s','format'='json')"
    )
    bound = table.bind(planner())
    field = next(column for column in bound.columns if column.name == "pair").type.fields[1].name
    scan = Scan(table, bound, {f"pair.{field}": Column(f"pair.{field}", INTEGER)}, database)
    watermarks = Watermarks()
    watermarks.add("t/x", None, 0)
    found = scan.rows([SourceBatch("x", pa.array([b'{"id":4}'], pa.binary()), 5, "p")], 0, watermarks)
    assert found.rows[f"pair.{field}"].to_pylist() == [5]
    assert isinstance(bound.computed["pair"], Bound)


# -- files -----------------------------------------------------------------------------------------------------------


def files_of(path: Path | str, format_: str = "json", more: str = "") -> FilesSource:
    column = "a BIGINT" if format_ != "csv" else "a STRING, b STRING"
    table = define(
        f"CREATE TABLE t ({column}) WITH ('connector'='filesystem','path'='{path}','format'='{format_}'{more})"
    )
    return FilesSource(table, lambda: 42)


def read_all(source: FilesSource, rows_max: int, bytes_max: int) -> list[Any]:
    found: list[Any] = []
    position = None
    while (batch := asyncio.run(source.read(SPLIT, position, rows_max, bytes_max))) is not None:
        assert 1 <= len(batch) <= rows_max
        found += batch.rows.to_pylist()
        position = batch.position
    return found


@pytest.mark.parametrize(("rows_max", "bytes_max"), [(1, 1), (3, 10), (1000, 1 << 20)])
def test_lines_of_a_directory_come_in_the_order_of_names(tmp_path: Path, rows_max: int, bytes_max: int) -> None:
    """Hidden files are left out, empty lines and a last line without an end are there, however much is read at once."""
    (tmp_path / "b.json").write_bytes(b"3\n4")
    (tmp_path / "a.json").write_bytes(b"1\r\n\n2\n")
    (tmp_path / "_hidden").write_bytes(b"x\n")
    (tmp_path / ".hidden").write_bytes(b"x\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.json").write_bytes("é\n".encode() * 3)
    source = files_of(tmp_path)
    assert source.is_bounded
    assert read_all(source, rows_max, bytes_max) == [b"1", b"", b"2", b"3", b"4", *["é".encode()] * 3]


@settings(max_examples=50, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=12).filter(lambda each: b"\n" not in each and not each.endswith(b"\r"))),
    size=st.integers(1, 40),
)
def test_lines_are_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int
) -> None:
    """Any bytes, read in pieces of any size."""
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert read_all(files_of(path), 5, size) == lines


def test_a_line_end_inside_quotes_is_part_of_a_csv_value(tmp_path: Path) -> None:
    """But not where quotes are disabled."""
    path = tmp_path / "f.csv"
    path.write_bytes(b'1,"a\nb"\n2,c\n')
    assert read_all(files_of(path, "csv"), 10, 1000) == [b'1,"a\nb"', b"2,c"]
    assert len(read_all(files_of(path, "csv", ",'csv.disable-quote-character'='true'"), 10, 1000)) == 3


def test_parquet_is_read_by_row_groups(tmp_path: Path) -> None:
    """A position inside a group goes on there."""
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": list(range(25))}), path, row_group_size=10)
    rows = read_all(files_of(path, "parquet"), 4, 1)
    assert [row["a"] for row in rows] == list(range(25))


def test_a_path_that_is_watched_gives_files_that_come_later(tmp_path: Path) -> None:
    """A line without an end is not read before it has one."""
    source = files_of(tmp_path, more=",'source.monitor-interval'='1 s'")
    assert not source.is_bounded
    assert source.read_now(None, 10, 100) is None
    (tmp_path / "a").write_bytes(b"1\n2")
    batch = source.read_now(None, 10, 100)
    assert batch is not None
    assert batch.rows.to_pylist() == [b"1"]
    assert source.read_now(batch.position, 10, 100) is None
    with (tmp_path / "a").open("ab") as file:
        file.write(b"3\n")
    later = source.read_now(batch.position, 10, 100)
    assert later is not None
    assert later.rows.to_pylist() == [b"23"]


def test_a_checkpoint_is_written_once(tmp_path: Path) -> None:
    """Again after a crash it finds its file; Parquet is a whole file."""
    parts = FileParts(tmp_path / "out", ".json")
    path = parts.write(7, pa.array([b"1", b"2"], pa.binary()))
    assert path is not None
    assert parts.write(7, pa.array([b"other"], pa.binary())) is None
    assert path.read_bytes() == b"1\n2\n"
    (path.parent / f".{path.name[:-5]}8.json").write_bytes(b"half")  # what a crash leaves
    assert list(parts.written()) == [path]
    assert read_all(files_of(tmp_path / "out"), 10, 100) == [b"1", b"2"]
    data = parquet_bytes(pa.table({"a": [1]}), [Field("a", BIGINT)])
    assert pq.read_table(pa.BufferReader(data)).to_pylist() == [{"a": 1}]


def test_paths_elsewhere_and_missing_ones_are_refused() -> None:
    """With what to write."""
    with pytest.raises(SqlError, match="not on this machine"):
        files_of("gs://bucket/x")
    with pytest.raises(SqlError, match="names no bucket"):
        files_of("s3:///x")
    with pytest.raises(UnknownName, match="no file"):
        files_of("/nowhere/at/all")


# -- datagen ---------------------------------------------------------------------------------------------------------

MADE = """CREATE TABLE t (n BIGINT, i INT, x DOUBLE, d DECIMAL(6, 2), s STRING, c CHAR(4), b BOOLEAN, y BYTES,
  `at` TIMESTAMP(3), z TIMESTAMP_LTZ(3), `day` DATE, clock TIME, list ARRAY<INT>, r ROW<k INT, m MAP<STRING, INT>>)
WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '5',
  'fields.n.end' = '5004', 'fields.i.min' = '-3', 'fields.i.max' = '3', 'fields.s.length' = '7',
  'fields.x.null-rate' = '0.5',
  'fields.at.max-past' = '1 h', 'fields.r.k.max' = '9', 'fields.r.k.min' = '1')"""


def test_made_up_rows_are_the_same_however_many_are_read_at_once() -> None:
    """At the rate that was asked for, within the bounds, to the sequence's end."""
    clock = {"ms": 1_000_000}
    table = define(MADE)
    assert table.is_bounded

    def read(size: int, seed: int = 1) -> pa.Table:
        clock["ms"] = 1_000_000
        source = DatagenSource(table, lambda: clock["ms"], seed)
        parts: list[pa.Table] = []
        position = None
        while len(parts) < 10_000:
            batch = source.read_now(position, size)
            if batch is None:
                if position == "5000":
                    break
                clock["ms"] += 1_000
                continue
            parts.append(batch.rows)
            position = batch.position
        return pa.concat_tables(parts)

    steady = [name for name in table.bind(planner()).columns if name.name not in ("at", "z", "day", "clock")]
    rows = read(5000).select([column.name for column in steady])
    assert rows.num_rows == 5000
    assert rows.equals(read(700).select([column.name for column in steady]))
    assert not rows.equals(read(5000, seed=2).select([column.name for column in steady]))
    assert rows["n"].to_pylist() == list(range(5, 5005))
    assert set(rows["i"].to_pylist()) == set(range(-3, 4))
    assert {len(text) for text in rows["s"].to_pylist()} == {7}
    assert {len(text) for text in rows["c"].to_pylist()} == {4}
    assert 2000 < rows["x"].null_count < 3000
    assert {row["k"] for row in rows["r"].to_pylist()} == set(range(1, 10))
    assert clock["ms"] == 1_005_000


def test_options_of_fields_that_are_not_there_are_refused() -> None:
    """With near names."""
    for option, words in (("fields.idd.min", "no column"), ("fields.id.mim", "min"), ("fields.id.kind", "cannot be")):
        table = define(f"CREATE TABLE t (id INT) WITH ('connector' = 'datagen', '{option}' = '1')")
        with pytest.raises(SqlError, match=words):
            DatagenSource(table, lambda: 0)


# -- discovery -------------------------------------------------------------------------------------------------------


def discovered(*records: bytes) -> str:
    created = discover("s", {"connector": "kinesis", "stream": "s"}, records)
    again = parse_script(to_flink(created) + ";")[0]
    assert again == created  # what is printed to keep is what is read
    assert isinstance(created, tree.CreateTable)
    TableDefinition.from_create(created).bind(planner())
    physical = [each for each in created.columns if isinstance(each, tree.PhysicalColumn)]
    return ", ".join(f"{each.name} {each.type}" for each in physical) + f" {dict(created.options)['format']}"


def test_a_schema_is_told_from_json_records() -> None:
    """Types are widened, rows merged, timestamps recognised; odd and reserved names are kept."""
    assert discovered(
        b'{"id":1,"x":1,"t":"2026-01-01 00:00:00.5","n":null,"o":{"a":1},"l":[1],"flag":true}',
        b'{"id":2,"x":1.5,"t":"2026-01-01 00:00:00","n":null,"o":{"b":"q"},"l":[],"group":"g","a b":1,"X":2}',
        b'{"big":12345678901234567890}',
    ) == (
        "id BIGINT, x DOUBLE, t TIMESTAMP(3), n STRING, o ROW<`a` BIGINT, `b` STRING>, l ARRAY<BIGINT>, flag BOOLEAN, "
        "group STRING, a b BIGINT, big DECIMAL(38, 0) json"
    )
    assert discovered(b'{"t":"2026-01-01T00:00:00Z","m":1}', b'{"t":"2026-01-01T00:00:01.123456Z","m":"x"}') == (
        "t TIMESTAMP_LTZ(6), m STRING json"
    )
    created = discover("s", {"connector": "kinesis", "stream": "s"}, [b'{"arrival_time":1,"t":"2026-01-01T00:00:00"}'])
    assert dict(created.options)["json.timestamp-format.standard"] == "ISO-8601"
    assert created.columns[-1].name == "arrival_time_1"
    assert created.watermark is not None


def test_a_schema_is_told_from_lines_and_from_anything_else() -> None:
    """CSV where all lines have as many values; texts; bytes; nothing at all."""
    assert (
        discovered(b"1,a,2.5,true", b"2,b,3,false")
        == "column_1 BIGINT, column_2 STRING, column_3 DOUBLE, column_4 BOOLEAN csv"
    )
    assert (
        discovered(b"1|2026-01-01 00:00:00", b"2|2026-01-01 00:00:01") == "column_1 BIGINT, column_2 TIMESTAMP(3) csv"
    )
    assert discovered(b"hello world", b"again") == "data STRING raw"
    assert discovered(b"\xff\xfe", b"again") == "data BYTES raw"
    assert discovered() == "data STRING raw"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=25)
    | st.sampled_from(["2026-01-01 00:00:00", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5,
), max_size=5), min_size=1, max_size=8))  # fmt: skip
def test_records_fit_the_table_that_is_told_from_them(documents: list[dict[str, Any]]) -> None:
    """Whatever JSON objects: the table can be made, and none of the records is bad in it."""
    records = [json.dumps(each).encode("utf-8") for each in documents]
    created = discover("s", {"connector": "kinesis", "stream": "s"}, records)
    table = TableDefinition.from_create(created)
    database = connect()
    bound = table.bind(planner())
    scan = Scan(table, bound, {column.name: column for column in bound.columns}, database)
    watermarks = Watermarks()
    watermarks.add("s/x", None, 0)
    found = scan.rows([SourceBatch("x", pa.array(records, pa.binary()), 5, "p")], 0, watermarks)
    assert found.bad == []
    assert found.rows.num_rows == len(records)
    database.close()
