"""What applications write beside streams and files: live tables, the error stream, watermarks, calls of functions."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import streamkit
from streamkit.kit.delivery import Delivery
from streamkit.kit.kit import Kit
from streamkit.model.errors import UsageError
from streamkit_sql.application import Application
from streamkit_sql.errors import NotSupported, SqlError, UnknownName
from streamkit_sql.language.parser import parse_script
from streamkit_sql.limits import ERROR_ROW_CHARACTERS_MAX
from streamkit_sql.runtime.duck import connect
from streamkit_sql.session import Session
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.live_table import LiveTable, read_snapshot, snapshot_path

EVENTS = """CREATE TABLE events (k STRING, v INT, at_ms BIGINT, ts AS TO_TIMESTAMP_LTZ(at_ms, 3),
  WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');"""
STREAM = """CREATE TABLE clicks (k STRING, v INT) WITH ('connector' = 'kinesis', 'stream' = 'clicks',
  'format' = 'json', 'scan.stream.initpos' = 'TRIM_HORIZON');"""
TOP = "CREATE TABLE top (k STRING, n BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'live');"


def events(tmp_path: Path, rows: Sequence[tuple[str, int, int]], *more: str) -> str:
    path = tmp_path / "events.json"
    lines = [json.dumps({"k": k, "v": v, "at_ms": at_ms}) for k, v, at_ms in rows]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return EVENTS.format(path=path)


def run(script: str, folder: Path | None = None, **options: Any) -> Application:
    application = Application(None, script, folder, **options)
    asyncio.run(application.run())
    return application


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.to_pylist())


def live(columns: str) -> TableDefinition:
    (create,) = parse_script(f"CREATE TABLE t ({columns}) WITH ('connector' = 'live')")
    return TableDefinition.from_create(create)  # type: ignore[arg-type]


# -- live tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_tick", [1, 7, 1_000])
def test_a_live_table_holds_the_last_result_of_each_key(tmp_path: Path, rows_per_tick: int) -> None:
    """However rows are cut into ticks, and in process as in the file that other processes read."""
    script = events(tmp_path, [("abc"[i % 3], i, i) for i in range(50)]) + TOP
    script += "INSERT INTO top SELECT k, COUNT(*), SUM(v) FROM events GROUP BY k;"
    for folder in (None, tmp_path / "state"):
        application = run(script, folder, rows_per_tick=rows_per_tick)
        expected = [(k, len(range(i, 50, 3)), sum(range(i, 50, 3))) for i, k in enumerate("abc")]
        assert rows_of(application.table("top")) == expected
        assert application.results["top"] >= 3
    assert rows_of(read_snapshot(snapshot_path(tmp_path / "state", "top"))) == expected


def test_of_rows_that_only_come_the_last_of_a_key_stays(tmp_path: Path) -> None:
    script = events(tmp_path, [("ab"[i % 2], i, i) for i in range(10)])
    script += "CREATE TABLE last (k STRING, v INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'live');"
    script += "INSERT INTO last SELECT k, v FROM events;"
    assert rows_of(run(script, rows_per_tick=3).table("last")) == [("a", 8), ("b", 9)]


def test_without_a_key_a_live_table_is_a_bag(tmp_path: Path) -> None:
    """Equal rows stand as often as the query gives them, and go one by one."""
    script = events(tmp_path, [("abcd"[i % 4], i, i) for i in range(10)])
    script += "CREATE TABLE counts (n BIGINT) WITH ('connector' = 'live');"
    script += "INSERT INTO counts SELECT COUNT(*) FROM events GROUP BY k;"
    assert rows_of(run(script, rows_per_tick=1).table("counts")) == [(2,), (2,), (3,), (3,)]


@pytest.mark.parametrize("seed", range(5))
def test_changes_in_any_order_leave_the_rows_that_came_and_did_not_go(seed: int) -> None:
    """Also where several rows have one key: then the one that came last is seen, and after it the one before."""
    draw = random.Random(seed)
    database = connect()
    table = LiveTable(live("k INT NOT NULL, v INT, PRIMARY KEY (k) NOT ENFORCED"), updates=True)
    table.open(database)
    there: list[tuple[int, int]] = []
    for _ in range(30):
        changes: list[tuple[int, int, int]] = []
        for _ in range(draw.randrange(1, 20)):
            if there and draw.random() < 0.4:
                row = there.pop(draw.randrange(len(there)))
                changes.append((*row, -1))
            else:
                row = (draw.randrange(5), draw.randrange(1_000_000))
                there.append(row)
                changes.append((*row, 1))
        columns = [pa.array(each, pa.int32()) for each in zip(*changes, strict=True)]
        table.add(pa.table(columns, ["k", "v", "$w"]))
        table.apply()
        assert rows_of(table.read(database)) == sorted(dict(there).items())
    again = LiveTable(live("k INT NOT NULL, v INT, PRIMARY KEY (k) NOT ENFORCED"), updates=True)
    again.open(database)
    assert rows_of(again.read(database)) == sorted(dict(there).items())


def test_a_live_table_can_be_read_by_queries_of_others(tmp_path: Path) -> None:
    """As a bounded table, and as a reference table, under the path of its application."""
    script = events(tmp_path, [("a", 1, 1), ("b", 2, 2), ("a", 3, 3)]) + TOP
    run(script + "INSERT INTO top SELECT k, COUNT(*), SUM(v) FROM events GROUP BY k;", tmp_path / "state")
    seen = f"CREATE TABLE top (s BIGINT, k STRING) WITH ('connector' = 'live', 'path' = '{tmp_path / 'state'}');"
    out = "CREATE TABLE outs (k STRING, v INT, s BIGINT) WITH ('connector' = 'live');"
    query = "SELECT k, 0, s FROM top WHERE s > 2"
    assert rows_of(run(f"{seen} {out} INSERT INTO outs {query};").table("outs")) == [("a", 0, 4)]
    lookup = "SELECT e.k, e.v, t.s FROM (SELECT *, PROCTIME() AS p FROM events) AS e "
    lookup += "JOIN top FOR SYSTEM_TIME AS OF e.p AS t ON t.k = e.k"
    found = run(f"{EVENTS.format(path=tmp_path / 'events.json')} {seen} {out} INSERT INTO outs {lookup};").table("outs")
    assert rows_of(found) == [("a", 1, 4), ("a", 3, 4), ("b", 2, 2)]


@pytest.mark.parametrize(
    ("create", "insert", "says"),
    [
        ("", "SELECT k FROM missing", "missing"),
        ("WITH ('connector' = 'live', 'format' = 'json')", "SELECT k FROM events", "no 'format'"),
        ("WITH ('connector' = 'live', 'paht' = 'x')", "SELECT k FROM events", "Did you mean 'path'"),
        ("WITH ('connector' = 'live', 'path' = '/x')", "SELECT k FROM events", "Leave out 'path'"),
        ("WITH ('connector' = 'lambda', 'format' = 'json')", "SELECT k FROM events", "'function'"),
        ("WITH ('connector' = 'firehose', 'format' = 'json')", "SELECT k FROM events", "'delivery-stream'"),
    ],
)
def test_what_is_wrong_with_a_target_is_said(tmp_path: Path, create: str, insert: str, says: str) -> None:
    create = create or "WITH ('connector' = 'live')"
    script = f"{events(tmp_path, [('a', 1, 1)])} CREATE TABLE t (k STRING) {create}; INSERT INTO t {insert};"
    with pytest.raises((SqlError, UnknownName, NotSupported)) as raised:
        run(script)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("SELECT k, COUNT(*) FROM a GROUP BY k", "GROUP BY"),
        ("SELECT k, MAX(n) FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k, v) GROUP BY k", "GROUP BY"),
        ("SELECT a.k, CAST(b.v AS BIGINT) FROM a LEFT JOIN b ON a.k = b.k", "join"),
        ("SELECT k, CAST(v AS BIGINT) FROM a EXCEPT SELECT k, CAST(v AS BIGINT) FROM b", "EXCEPT"),
    ],
)
@pytest.mark.parametrize("connector", ["'kinesis', 'stream' = 's'", "'filesystem', 'path' = '/x'", "'firehose'"])
def test_a_query_that_updates_is_refused_by_targets_that_only_add(query: str, part: str, connector: str) -> None:
    """With the place, the part of the query that updates, and what to do."""
    tables = "".join(
        f"CREATE TABLE {name} (k STRING, v INT) WITH ('connector' = 'kinesis', 'stream' = 's', 'format' = 'json');\n"
        for name in "ab"
    )
    target = f"CREATE TABLE t (k STRING, n BIGINT) WITH ('connector' = {connector}, 'format' = 'json'"
    target += ", 'delivery-stream' = 'd');\n" if "firehose" in connector else ");\n"
    with pytest.raises(NotSupported) as raised:
        Session().run(f"{tables}{target}INSERT INTO t {query}")
    text = str(raised.value)
    assert part in text
    assert "PRIMARY KEY" in text
    assert "4" in text  # the line


def test_a_table_whose_columns_have_changed_is_refused(tmp_path: Path) -> None:
    script = events(tmp_path, [("a", 1, 1)])
    for column, fails in (("v INT", False), ("v BIGINT", True)):
        made = f"CREATE TABLE t ({column}) WITH ('connector' = 'live'); INSERT INTO t SELECT v FROM events;"
        if not fails:
            run(script + made, tmp_path / "state")
            continue
        with pytest.raises(UsageError, match="other columns"):
            run(script + made, tmp_path / "state")


# -- the error stream ------------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_read_are_in_the_error_stream(tmp_path: Path) -> None:
    """With what came, cut at the length of Kinesis Data Analytics' error stream."""
    script = events(tmp_path, [("a", 1, 1)], "no json", json.dumps({"k": "x" * 100_000, "v": "y", "at_ms": 2}))
    script += TOP + "INSERT INTO top SELECT k, COUNT(*), SUM(v) FROM events GROUP BY k;"
    application = run(script, tmp_path / "state")
    found = application.table("error_stream").to_pylist()
    assert [(row["error_name"], row["table_name"]) for row in found] == [("malformed", "events")] * application.bad_rows
    assert found[0]["row"] == "no json"
    assert found[0]["message"]
    assert len(found[1]["row"]) == ERROR_ROW_CHARACTERS_MAX
    assert read_snapshot(snapshot_path(tmp_path / "state", "error_stream")).num_rows == 2


@pytest.mark.parametrize(
    "query",
    [
        "SELECT k, COUNT(*), MAX(v) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND)) "
        "GROUP BY k, window_start, window_end",
        "SELECT k, COUNT(*), MAX(v) FROM TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), "
        "INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end",
        "SELECT k, COUNT(*) OVER (PARTITION BY k ORDER BY ts), v FROM events",
        "SELECT k, n, v FROM (SELECT k, v, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v) AS n "
        "FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND))) WHERE n <= 5",
        "SELECT k, n, v FROM events MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES COUNT(A.v) AS n, "
        "LAST(A.v) AS v AFTER MATCH SKIP PAST LAST ROW PATTERN (A) DEFINE A AS A.v > 0)",
    ],
    ids=["tumble", "session", "over", "rank", "match"],
)
def test_late_rows_are_in_the_error_stream_with_their_values(tmp_path: Path, query: str) -> None:
    """As many as are counted late."""
    rows = [("a", 1, 1_000), ("a", 2, 900_000), ("a", 3, 2_000), ("b", 4, 950_000), ("b", 5, 3_000)]
    script = events(tmp_path, rows)
    script += "CREATE TABLE t (k STRING, n BIGINT, v INT) WITH ('connector' = 'live');"
    application = run(f"{script} INSERT INTO t {query.replace('MAX(v)', 'CAST(MAX(v) AS INT)')};", rows_per_tick=1)
    assert application.late_rows == 2
    found = application.table("error_stream").to_pylist()
    assert [(each["error_name"], each["table_name"]) for each in found] == [("late", "events")] * 2
    assert [json.loads(each["row"])["v"] for each in found] == [3, 5]
    assert [each["watermark"].timestamp() for each in found] == [900, 950]


def test_a_script_writes_its_own_errors_to_a_table(tmp_path: Path) -> None:
    """An application over tables that end has written all errors when it ends."""
    script = events(tmp_path, [("a", 1, 1_000), ("a", 2, 90_000), ("a", 3, 2_000)], "{", "[")
    out = tmp_path / "errors"
    script += f"""CREATE TABLE t (k STRING, n BIGINT) WITH ('connector' = 'live');
    CREATE TABLE bad (name STRING, `row` STRING) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'json');
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO t SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND))
      GROUP BY k, window_start, window_end;
      INSERT INTO bad SELECT error_name, `row` FROM error_stream;
    END;"""
    run(script, tmp_path / "state", rows_per_tick=1)
    lines = [json.loads(line) for path in out.iterdir() for line in path.read_text().splitlines()]
    assert Counter((line["name"], line["row"][:1]) for line in lines) == {
        ("late", "{"): 1,
        ("malformed", "{"): 1,
        ("malformed", "["): 1,
    }


# -- over streams ----------------------------------------------------------------------------------------------------


def over_streams(tmp_path: Path, script: str, check: Callable[[Kit, Application], Awaitable[None]], **put: Any) -> None:
    """Runs a script beside what looks at it, over a stream `clicks` of two shards."""

    async def run_both() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_stream("clicks", shards=2)
            await kit.put_many("clicks", put["records"])
            application = Application(kit.backend, script, tmp_path / "state")
            await beside(application, check(kit, application))

    asyncio.run(run_both())


async def beside(application: Application, check: Awaitable[None]) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(application.run(stop))
    checking = asyncio.ensure_future(check)
    try:
        await asyncio.wait({running, checking}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            checking.result()
        else:
            running.result()
            raise AssertionError("the application ended or what is wanted did not come")
    finally:
        stop.set()
        checking.cancel()
        await asyncio.wait({running}, timeout=20)
        running.cancel()
    running.result()


async def until(condition: Callable[[], bool]) -> None:
    while True:
        try:
            if condition():
                return
        except (FileNotFoundError, UnknownName):
            pass
        await asyncio.sleep(0.02)


def test_a_live_table_can_be_read_while_its_application_runs(tmp_path: Path) -> None:
    """In process after a commit; from outside about a second later, with how far each shard is."""
    script = f"{STREAM} {TOP} INSERT INTO top SELECT k, COUNT(*), SUM(v) FROM clicks GROUP BY k;"
    records = [(str(i), json.dumps({"k": "ab"[i % 2], "v": i})) for i in range(10)]
    expected = [("a", 5, 20), ("b", 5, 25)]

    async def check(kit: Kit, application: Application) -> None:
        await until(lambda: rows_of(application.table("top")) == expected)
        await until(lambda: rows_of(read_snapshot(snapshot_path(tmp_path / "state", "top"))) == expected)
        marks = snapshot_path(tmp_path / "state", "streamkit_watermarks")
        await until(lambda: sum(read_snapshot(marks)["rows_taken"].to_pylist()) == 10)
        await kit.put("clicks", b"no json", partition_key="a")
        await until(lambda: application.table("error_stream").num_rows == 1)
        (error,) = application.table("error_stream").to_pylist()
        assert error["row"] == "no json"
        assert error["shard"].startswith("shardId-")
        placed = await kit.put("clicks", b"neither", partition_key="a")
        await until(lambda: application.table("error_stream").num_rows == 2)
        assert application.table("error_stream")["sequence_number"].to_pylist()[1] == placed.sequence_number

    over_streams(tmp_path, script, check, records=records)


def test_the_shard_that_holds_windows_open_is_told(tmp_path: Path) -> None:
    """Of two shards the one that no record came to: no window can close before it is idle or has one."""
    script = """CREATE TABLE clicks (at_ms BIGINT, ts AS TO_TIMESTAMP_LTZ(at_ms, 3), WATERMARK FOR ts AS ts)
    WITH ('connector' = 'kinesis', 'stream' = 'clicks', 'format' = 'json', 'scan.stream.initpos' = 'TRIM_HORIZON');
    CREATE TABLE t (n BIGINT) WITH ('connector' = 'live');
    INSERT INTO t SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' SECOND))
    GROUP BY window_start, window_end;"""

    async def check(kit: Kit, application: Application) -> None:
        await until(lambda: 3 in application.watermarks()["rows_taken"].to_pylist())
        silent, busy = sorted(application.table("streamkit_watermarks").to_pylist(), key=lambda row: row["rows_taken"])
        assert (silent["holds_back"], busy["holds_back"]) == (True, False)
        assert silent["watermark"] is None
        assert busy["watermark"].timestamp() == 90
        assert application.table("t").num_rows == 0

    records = [("one key", json.dumps({"at_ms": at_ms})) for at_ms in (1_000, 2_000, 90_000)]
    over_streams(tmp_path, script, check, records=records)


def test_a_record_says_its_place_in_the_stream(tmp_path: Path) -> None:
    """Flink's metadata of a Kinesis table: shard, sequence number, arrival."""
    query = """CREATE TABLE clicks (
      v INT,
      shard STRING METADATA FROM 'shard-id' VIRTUAL,
      number STRING METADATA FROM 'sequence-number' VIRTUAL
    ) WITH ('connector' = 'kinesis', 'stream' = 'clicks', 'format' = 'json');
    SELECT v, shard, number FROM clicks;"""

    async def ask() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_stream("clicks", shards=2)
            placed = [await kit.put("clicks", b'{"v": %d}' % v, partition_key=f"{v}") for v in range(8)]
            found = await (await kit.sql(query, follow=False)).to_arrow()
            expected = {(v, place.shard_id, place.sequence_number) for v, place in enumerate(placed)}
            assert set(zip(*found.to_pydict().values(), strict=True)) == expected

    asyncio.run(ask())


# -- delivery streams and functions ----------------------------------------------------------------------------------


def test_rows_go_to_a_function_until_it_has_taken_them(tmp_path: Path) -> None:
    """In the event of Kinesis Data Analytics' outputs; what it does not answer with Ok comes again, with its id."""
    app = streamkit.App(tmp_path / "data")
    seen: list[dict[str, Any]] = []

    @app.function(name="sinks")
    def sinks(event: dict[str, Any], context: Any) -> dict[str, Any]:
        seen.append(event)
        if len(seen) == 1:
            raise ValueError("not yet")
        odd = len(seen) == 2
        return {
            "records": [
                {"recordId": each["recordId"], "result": "DeliveryFailed" if odd and index % 2 else "Ok"}
                for index, each in enumerate(event["records"])
            ]
        }

    script = f"""{STREAM} CREATE TABLE outs (k STRING, v INT)
    WITH ('connector' = 'lambda', 'function' = 'sinks', 'format' = 'json');
    INSERT INTO outs SELECT k, v FROM clicks;"""

    async def go() -> None:
        async with app:
            kit = app.kit
            await kit.create_stream("clicks", shards=1)
            await kit.put_many("clicks", [("a", json.dumps({"k": "a", "v": i})) for i in range(4)])
            application = Application(kit.backend, script, tmp_path / "state")
            await beside(application, until(lambda: len(seen) == 3))

    asyncio.run(go())
    records = [[(each["recordId"], base64.b64decode(each["data"])) for each in event["records"]] for event in seen]
    assert [json.loads(data) for _, data in records[0]] == [{"k": "a", "v": i} for i in range(4)]
    assert records[1] == records[0]
    assert records[2] == records[0][1::2]
    hints = [event["records"][0]["lambdaDeliveryRecordMetadata"]["retryHint"] for event in seen]
    assert hints == [0, 1, 2]


def test_rows_go_to_a_delivery_stream(tmp_path: Path) -> None:
    app = streamkit.App(tmp_path / "data")
    script = f"""{STREAM} CREATE TABLE outs (k STRING, v INT)
    WITH ('connector' = 'firehose', 'delivery-stream' = 'lake', 'format' = 'json');
    INSERT INTO outs SELECT k, v FROM clicks;"""

    async def go() -> None:
        async with app:
            kit = app.kit
            await kit.create_stream("clicks", shards=1)
            await kit.backend.deliveries().ensure(Delivery("lake", str(tmp_path / "lake"), direct=True))
            await kit.put_many("clicks", [("a", json.dumps({"k": "a", "v": i})) for i in range(1_200)])
            application = Application(kit.backend, script, tmp_path / "state")
            await beside(application, until(lambda: application.results["outs"] == 1_200))
            await kit.flush_deliveries("lake")

    asyncio.run(go())
    files = [path for path in (tmp_path / "lake").rglob("*") if path.is_file() and not path.name.startswith(".")]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert sorted(line["v"] for line in lines) == list(range(1_200))
