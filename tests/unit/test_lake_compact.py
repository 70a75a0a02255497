"""Compaction: what is merged, what is left alone, and that readers find the same rows before and after."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import cramjam
import duckdb
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog

from streamkit.cli.main import main
from streamkit.delivery.destination import Surroundings
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import LAKE_LEASE_MS, MIB
from streamkit.testing.clock import START_MS, ManualClock
from streamkit_connectors import lake
from streamkit_connectors.files import Entry
from streamkit_connectors.tables import Event, Merged, Passed, PutRight, Settings, in_bins
from tests.wire.object_store import Fault, FaultProxy, ObjectStore, fault_proxy, object_store

ALL_AGES: Final = 1 << 60
_BUCKETS: Final = count(1)
DEFAULT: Final = Settings(target_bytes=MIB, before_ms=ALL_AGES)


def name(number: int, extension: str = ".parquet", *, stream: str = "clicks", version: int = 1) -> str:
    """What a delivery stream would call its file."""
    at = f"2026-11-23-{number // 60:02d}-{number % 60:02d}-00"
    return f"{stream}-{version}-{at}-{number:08x}-0000-0000-0000-{number:012x}{extension}"


def compact(place: Path | str, wanted: Settings = DEFAULT, surroundings: Surroundings | None = None) -> list[Event]:
    async def run() -> list[Event]:
        with_them = surroundings or Surroundings(ManualClock(), Path("unused"))
        return [event async for event in lake.compact(str(place), wanted, with_them)]

    return asyncio.run(run())


def files(directory: Path) -> dict[str, bytes]:
    """What readers see."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.parent.name != "_streamkit"]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(paths)}


def write_parquet(directory: Path, numbers: Sequence[int], **columns: Sequence[Any]) -> None:
    for number in numbers:
        pq.write_table(pa.table({"id": [number], **columns}), directory / name(number))


# -- what becomes of rows ---------------------------------------------------------------------------------------------


def test_parquet_files_become_one_with_their_rows_in_the_order_of_their_times(tmp_path: Path) -> None:
    for number in (30, 2, 11):
        rows = pa.table({"id": [number, number + 1], "text": ["a", None]})
        pq.write_table(rows, tmp_path / name(number, version=12 if number == 2 else 9), compression="zstd")
    (event,) = compact(tmp_path)
    ((path, _),) = files(tmp_path).items()
    assert isinstance(event, Merged)
    assert (event.place, event.inputs, event.outputs, event.rows) == (path, 3, 1, 6)
    assert pq.read_table(tmp_path / path).column("id").to_pylist() == [2, 3, 11, 12, 30, 31]
    assert pq.read_metadata(tmp_path / path).row_group(0).column(0).compression == "ZSTD"
    assert path.startswith("clicks-12-2026-11-23-00-02-00-")
    assert compact(tmp_path) == [], "there is nothing left to do"


def test_merged_files_are_merged_with_what_came_after_them(tmp_path: Path) -> None:
    write_parquet(tmp_path, [1, 2])
    compact(tmp_path)
    write_parquet(tmp_path, [3])
    compact(tmp_path)
    (path,) = files(tmp_path)
    assert pq.read_table(tmp_path / path).column("id").to_pylist() == [1, 2, 3]


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    write_parquet(tmp_path, [1, 2])
    write_parquet(tmp_path, [3], more=["there"])
    write_parquet(tmp_path, [4])
    compact(tmp_path)
    (path,) = files(tmp_path)
    with duckdb.connect() as database:
        found = database.execute(f"select id, more from '{tmp_path / path}' order by id").fetchall()
    assert found == [(1, None), (2, None), (3, "there"), (4, None)]


def test_files_whose_types_disagree_are_merged_apart(tmp_path: Path) -> None:
    write_parquet(tmp_path, [1, 3], value=[1.5])
    write_parquet(tmp_path, [2, 4], value=["text"])
    assert [event.inputs for event in compact(tmp_path) if isinstance(event, Merged)] == [2, 2]
    tables = [pq.read_table(tmp_path / path) for path in files(tmp_path)]
    assert sorted(table.column("id").to_pylist() for table in tables) == [[1, 3], [2, 4]]
    write_parquet(tmp_path, [5], value=[True])
    passed = [event for event in compact(tmp_path) if isinstance(event, Passed)]
    assert passed
    assert len(files(tmp_path)) == 3


def test_orc_files_become_one(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        orc.write_table(
            pa.table({"id": [number], "list": [[number]]}), tmp_path / name(number, ".orc"), compression="zlib"
        )
    compact(tmp_path)
    (path,) = files(tmp_path)
    merged = orc.ORCFile(tmp_path / path)
    assert merged.read().to_pylist() == [{"id": number, "list": [number]} for number in (1, 2, 3)]
    assert merged.compression == "ZLIB"


TEXTS: Final = (b'{"id":1}\n{"id":2}\n', b'{"id":3}', b"", b'{"id":4}{"id":5}', b'{"id":6}\n')
LINES: Final = [b'{"id":1}', b'{"id":2}', b'{"id":3}', b'{"id":4}{"id":5}', b'{"id":6}']


@pytest.mark.parametrize(
    ("extension", "compress", "decompress"),
    [
        ("", bytes, bytes),
        (".gz", gzip.compress, gzip.decompress),
        (".json.gz", gzip.compress, gzip.decompress),
        (".zst", cramjam.zstd.compress, cramjam.zstd.decompress),
    ],
)
def test_texts_are_put_one_behind_the_other_and_no_two_lines_become_one(
    tmp_path: Path, extension: str, compress: Any, decompress: Any
) -> None:
    for number, text in enumerate(TEXTS):
        (tmp_path / name(number, extension)).write_bytes(bytes(compress(text)))
    (event,) = compact(tmp_path)
    ((path, content),) = files(tmp_path).items()
    assert path.endswith(extension)
    assert bytes(decompress(content)).splitlines() == LINES
    assert isinstance(event, Merged)
    assert event.rows == len(LINES)


def test_what_cannot_be_put_one_behind_the_other_stays_and_is_told(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / name(number, ".zip")).write_bytes(b"PK\x03\x04 an archive")
        (tmp_path / name(number, ".snappy")).write_bytes(b"any bytes")
        (tmp_path / name(number, ".parquet")).write_bytes(b"PAR1 and then nothing")
    before = files(tmp_path)
    events = compact(tmp_path)
    assert all(isinstance(event, Passed) for event in events)
    assert len(events) == 3
    assert files(tmp_path) == before


values = {"int": st.integers(-9, 9), "str": st.text(max_size=3), "list": st.lists(st.integers(0, 9), max_size=2)}
types = {"int": pa.int64(), "str": pa.string(), "list": pa.list_(pa.int64())}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """With any of three columns, of which one has a type of its own in some tables."""
    count = draw(st.integers(0, 4))
    kinds = {"a": "int", "b": "str", "c": draw(st.sampled_from(["list", "str"]))}
    kinds = {column: kinds[column] for column in draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))}
    columns = {
        column: pa.array(draw(st.lists(st.none() | values[kind], min_size=count, max_size=count)), types[kind])
        for column, kind in kinds.items()
    }
    return pa.table(columns)


@settings(max_examples=40, deadline=None)
@given(written=st.lists(tables(), min_size=2, max_size=6))
def test_rows_are_the_same_whatever_columns_files_have(
    tmp_path_factory: pytest.TempPathFactory, written: list[pa.Table]
) -> None:
    directory = tmp_path_factory.mktemp("lake")

    def rows(read: Sequence[pa.Table]) -> Counter[str]:
        """Without what is null, which is what a missing column is."""
        found = [row for table in read for row in table.to_pylist()]
        return Counter(repr(sorted((key, value) for key, value in row.items() if value is not None)) for row in found)

    for number, table in enumerate(written):
        pq.write_table(table, directory / name(number))
    compact(directory)
    assert rows([pq.read_table(directory / path) for path in files(directory)]) == rows(written)


sizes = st.lists(st.integers(0, 60), max_size=40)


@given(sizes=sizes, target=st.integers(1, 100), files_min=st.integers(2, 4))
def test_bins_hold_neighbours_within_the_target_and_enough_of_them(
    sizes: list[int], target: int, files_min: int
) -> None:
    wanted = Settings(target_bytes=target, before_ms=0, files_min=files_min)
    numbered = list(enumerate(sizes))
    found = list(in_bins(numbered, wanted, lambda each: each[1]))
    flat = [each for chosen in found for each in chosen]
    assert flat == sorted(set(flat)), "none twice, in order"
    for chosen in found:
        assert len(chosen) >= files_min
        assert sum(size for _, size in chosen) <= max(target, chosen[0][1])
        assert [place for place, _ in chosen] == list(range(chosen[0][0], chosen[-1][0] + 1))


# -- what is left alone -----------------------------------------------------------------------------------------------


def entry(key: str, size_bytes: int = 10, modified_at_ms: int = 0) -> Entry:
    return Entry(key, size_bytes, modified_at_ms)


@pytest.mark.parametrize(
    "key",
    [
        "a/part-00000.parquet",
        f"a/.hidden/{name(1)}",
        f"_manifests/{name(1)}",
        f"a/.{name(1)}",
        f"errors/processing-failed/2026/{name(1, '')}",
        f"error/{name(1)}",
        f"http-endpoint-failed/{name(1)}",
        f"activePartitionExceeded/{name(1)}",
        f"backup/{name(1)}",
        f"table/data/{name(1)}",
        f"delta/day=1/{name(1)}",
    ],
)
def test_only_what_a_delivery_stream_delivered_is_touched(key: str) -> None:
    others = [entry("table/metadata/00001-x.metadata.json"), entry("delta/_delta_log/00000000000000000000.json")]
    assert lake.candidates([entry(key), *others], DEFAULT) == {}
    assert list(lake.candidates([entry(f"a/{name(1)}"), *others], DEFAULT).values()) == [[entry(f"a/{name(1)}")]]


def test_young_files_and_such_as_are_large_enough_stay() -> None:
    wanted = Settings(target_bytes=100, before_ms=1_000)
    young, large = entry(name(1), modified_at_ms=1_000), entry(name(2), 75)
    old, small = entry(name(3), modified_at_ms=999), entry(name(4), 74)
    assert list(lake.candidates([young, large, old, small], wanted).values()) == [[old, small]]


def test_folders_streams_and_extensions_are_not_mixed() -> None:
    keys = [f"a/{name(1)}", f"b/{name(1)}", f"a/{name(1, stream='other')}", f"a/{name(1, '.gz')}", f"a/{name(2)}"]
    groups = [[each.key for each in group] for group in lake.candidates(map(entry, keys), DEFAULT).values()]
    assert sorted(map(len, groups)) == [1, 1, 1, 2]
    assert [keys[0], keys[4]] in groups


def test_files_of_every_name_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"part-{number}.csv").write_text(f"{number}\n")
    assert compact(tmp_path) == []
    compact(tmp_path, replace(DEFAULT, takes_all=True))
    ((path, content),) = files(tmp_path).items()
    assert path.startswith("compacted-")
    assert content == b"1\n2\n"


@pytest.mark.parametrize("mark", ["_delta_log/00000000000000000000.json", "metadata/00001-x.metadata.json"])
def test_a_folder_within_a_table_is_refused(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).parent.mkdir()
    (tmp_path / mark).touch()
    (tmp_path / "data" / "day=1").mkdir(parents=True)
    with pytest.raises(UsageError, match="inside the table"):
        compact(tmp_path / "data" / "day=1", replace(DEFAULT, takes_all=True))


def test_a_dry_run_tells_what_would_be_merged_and_changes_nothing(tmp_path: Path) -> None:
    write_parquet(tmp_path, [1, 2, 3])
    before = files(tmp_path)
    (event,) = compact(tmp_path, replace(DEFAULT, is_dry=True))
    assert isinstance(event, Merged)
    assert (event.inputs, event.input_bytes) == (3, sum(map(len, before.values())))
    assert files(tmp_path) == before
    assert not (tmp_path / "_streamkit").exists()
    compact(tmp_path)
    assert [*files(tmp_path)] == [event.place]


def test_few_files_stay_as_they_are(tmp_path: Path) -> None:
    write_parquet(tmp_path, [1, 2])
    assert compact(tmp_path, replace(DEFAULT, files_min=3)) == []
    assert len(files(tmp_path)) == 2


# -- when things go wrong ---------------------------------------------------------------------------------------------


def test_a_directory_that_another_process_compacts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_streamkit").mkdir()
    descriptor = os.open(tmp_path / "_streamkit" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process"):
        compact(tmp_path)
    os.close(descriptor)
    compact(tmp_path)


def journal(directory: Path, **changed: Any) -> Path:
    """As a run left it that died when the output was there."""
    write_parquet(directory, [1, 2])
    values = {"inputs": [name(1), name(2)], "output": name(9), "size_bytes": 10, "rows": 2, **changed}
    path = directory / "_streamkit" / "compact-x.json"
    path.parent.mkdir()
    path.write_text(json.dumps(values))
    return path


def test_what_is_not_the_output_of_a_journal_stops_everything(tmp_path: Path) -> None:
    path = journal(tmp_path)
    (tmp_path / name(9)).write_bytes(b"something else")
    before = files(tmp_path)
    with pytest.raises(StreamkitError, match="not what was merged"):
        compact(tmp_path)
    assert files(tmp_path) == before
    assert path.exists()


def test_a_journal_is_put_right_before_anything_else(tmp_path: Path) -> None:
    path = journal(tmp_path, size_bytes=3)
    (tmp_path / name(9)).write_bytes(b"abc")
    assert compact(tmp_path) == [PutRight(name(9), "finished")]
    assert [*files(tmp_path)] == [name(9)]
    assert not path.exists()


def test_a_journal_without_its_output_is_forgotten_and_its_files_are_merged_anew(tmp_path: Path) -> None:
    journal(tmp_path)
    events = compact(tmp_path)
    assert events[0] == PutRight(name(9), "undone")
    assert isinstance(events[1], Merged)
    assert len(files(tmp_path)) == 1


def test_a_journal_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    journal(tmp_path).write_text("{")
    with pytest.raises(UsageError, match="no journal of ours"):
        compact(tmp_path)
    assert len(files(tmp_path)) == 2


# -- buckets ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def proxy(store: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(store) as started:
        yield started


class Bucket:
    def __init__(self, store: ObjectStore, proxy: FaultProxy, client: Any, bucket: str) -> None:
        self.clock = ManualClock()
        self.surroundings = Surroundings(self.clock, Path("unused"), object_store=store.settings_at(proxy.endpoint))
        self.url = f"s3://{bucket}/lake"
        self._client = client
        self._name = bucket
        client.create_bucket(Bucket=bucket)

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=f"lake/{key}", Body=content)

    def delete(self) -> None:
        for key in self._all():
            self._client.delete_object(Bucket=self._name, Key=key)

    def _all(self) -> dict[str, bytes]:
        keys = [each["Key"] for each in self._client.list_objects_v2(Bucket=self._name).get("Contents", ())]
        return {key: self._client.get_object(Bucket=self._name, Key=key)["Body"].read() for key in keys}

    def compact(self) -> list[Event]:
        return compact(self.url, surroundings=self.surroundings)

    def objects(self, *, hidden: bool = False) -> Mapping[str, bytes]:
        found = {key.removeprefix("lake/"): content for key, content in self._all().items()}
        return {key: content for key, content in found.items() if key.startswith("_streamkit/") == hidden}


@pytest.fixture
def bucket(store: ObjectStore, proxy: FaultProxy) -> Iterator[Bucket]:
    with store.client() as client:
        yield Bucket(store, proxy, client, f"bucket-{next(_BUCKETS)}")


def test_objects_of_a_bucket_are_merged(bucket: Bucket) -> None:
    for number in (1, 2, 3):
        bucket.put(f"2026/{name(number, '.json')}", b"%d\n" % number)
    (event,) = bucket.compact()
    assert isinstance(event, Merged)
    assert bucket.objects() == {event.place: b"1\n2\n3\n"}
    assert event.place.startswith("2026/clicks-1-")
    assert bucket.objects(hidden=True) == {}


def test_a_compaction_of_a_bucket_that_fails_at_any_write_is_put_right_by_the_next(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    """No row is missing meanwhile. The request never arrives, or its answer is lost."""
    lines = {b"1", b"2"}
    writes: list[int] | None = None  # their places among the requests
    while writes is None or writes:
        bucket.delete()
        for line in lines:
            bucket.put(name(int(line), ".json"), line + b"\n")
        proxy.seen.clear()
        if writes is None:
            bucket.compact()
            writes = [at for at, (line, _) in enumerate(proxy.seen) if not line.startswith(("GET", "HEAD"))]
            assert len(writes) >= 7, "lease, renewal, journal, output, two inputs, journal, lease"
            continue
        place = writes.pop()
        fault: Fault = "lose" if place % 2 else "cut"
        proxy.plan.extend(["pass"] * place)
        proxy.then(fault)
        with suppress(StreamkitError):
            bucket.compact()
        assert fault in [done for _, done in proxy.seen]
        assert set(b"".join(bucket.objects().values()).splitlines()) == lines
        bucket.clock.step(LAKE_LEASE_MS + 1)  # its lease may still be there
        bucket.compact()
        assert [*bucket.objects().values()] == [b"1\n2\n"]
        assert bucket.objects(hidden=True) == {}


def test_a_bucket_that_another_process_compacts_is_refused_until_its_lease_ends(bucket: Bucket) -> None:
    bucket.put("_streamkit/lease.json", json.dumps({"holder": "somebody", "until_ms": START_MS + 1}).encode())
    with pytest.raises(UsageError, match="somebody"):
        bucket.compact()
    bucket.clock.step(1)
    assert bucket.compact() == []
    assert bucket.objects(hidden=True) == {}


# -- tables -----------------------------------------------------------------------------------------------------------

ROWS: Final = pa.schema([("id", pa.int64()), ("day", pa.string()), ("list", pa.list_(pa.struct([("x", pa.int64())])))])


def rows(*ids: int) -> pa.Table:
    lists = [[{"x": each}] if each % 2 else None for each in ids]
    return pa.table({"id": ids, "day": [f"day {each % 2}" for each in ids], "list": lists}, schema=ROWS)


def test_a_delta_table_has_fewer_files_and_the_same_rows(tmp_path: Path) -> None:
    for number in range(6):
        write_deltalake(tmp_path, rows(2 * number, 2 * number + 1), mode="append", partition_by=["day"])
    assert len(DeltaTable(tmp_path).file_uris()) == 12
    (told,) = compact(tmp_path, replace(DEFAULT, is_dry=True))
    assert isinstance(told, Merged)
    assert told.inputs == 12
    assert len(DeltaTable(tmp_path).file_uris()) == 12
    (event,) = compact(tmp_path)
    assert isinstance(event, Merged)
    assert (event.inputs, event.outputs, event.rows) == (12, 2, 12)
    table = DeltaTable(tmp_path).to_pyarrow_table()
    assert sorted(map(repr, pa.table(table).to_pylist())) == sorted(map(repr, rows(*range(12)).to_pylist()))
    assert compact(tmp_path) == []


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    made = SqlCatalog("streamkit", uri=f"sqlite:///{tmp_path}/catalog.sqlite", warehouse=f"file://{tmp_path}")
    made.create_namespace("web")
    yield made
    made.close()


def test_an_iceberg_table_has_fewer_files_and_the_same_rows(tmp_path: Path, catalog: SqlCatalog) -> None:
    """Columns that were added and renamed meanwhile are where they belong, lists that are null stay null, and what the
    table was before can still be read."""
    table = catalog.create_table("web.clicks", ROWS)
    for number in range(4):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(rows(2 * number, 2 * number + 1), path)
        table.add_files([f"file://{path}"])
    before = table.current_snapshot()
    assert before is not None
    with table.update_schema() as update:
        update.rename_column("day", "date")
    for number in range(4, 6):
        table.append(rows(2 * number + 1).rename_columns(["id", "date", "list"]))
    (event,) = compact(tmp_path)
    assert isinstance(event, Merged)
    assert (event.place, event.inputs, event.outputs, event.rows) == ("web.clicks", 6, 1, 10)
    table.refresh()
    ((task),) = table.scan().plan_files()
    merged = pq.read_table(task.file.file_path.removeprefix("file://"))
    expected = rows(*range(8), 9, 11).rename_columns(["id", "date", "list"])
    assert sorted(map(repr, merged.to_pylist())) == sorted(map(repr, expected.to_pylist()))
    assert sorted(table.scan().to_arrow().column("id").to_pylist()) == [*range(8), 9, 11]
    assert table.scan(snapshot_id=before.snapshot_id).to_arrow().num_rows == 8
    assert compact(tmp_path) == []


def test_one_iceberg_table_is_compacted_by_its_name_or_its_folder(tmp_path: Path, catalog: SqlCatalog) -> None:
    tables = [catalog.create_table(f"web.{each}", ROWS) for each in ("one", "two", "three")]
    for table in tables:
        table.append(rows(1))
        table.append(rows(2))
    (by_name,) = compact(tmp_path, replace(DEFAULT, table="web.two"))
    (by_folder,) = compact(Path(tables[2].location().removeprefix("file://")))
    assert [by_name.place, by_folder.place] == ["web.two", "web.three"]
    assert [len(list(catalog.load_table(table.name()).scan().plan_files())) for table in tables] == [2, 1, 1]
    with pytest.raises(UsageError, match=r"web\.four"):
        compact(tmp_path, replace(DEFAULT, table="web.four"))


def test_iceberg_files_of_another_partitioning_stay(tmp_path: Path, catalog: SqlCatalog) -> None:
    table = catalog.create_table("web.clicks", ROWS)
    for number in (1, 2):
        table.append(rows(number))
    with table.update_spec() as update:
        update.add_identity("day")
    for number in (3, 5):
        table.append(rows(number))
    passed, merged = compact(tmp_path)
    assert isinstance(passed, Passed)
    assert isinstance(merged, Merged)
    assert (merged.inputs, merged.outputs) == (2, 1)
    table.refresh()
    assert sorted(table.scan().to_arrow().column("id").to_pylist()) == [1, 2, 3, 5]
    assert table.scan("day = 'day 1'").to_arrow().num_rows == 3


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path, [1, 2, 3])
    (tmp_path / name(4, ".snappy")).write_bytes(b"1")
    (tmp_path / name(5, ".snappy")).write_bytes(b"2")
    command = ["lake", "compact", str(tmp_path), "--older-than", "0s"]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "would merge: clicks-1-2026-11-23-00-01-00-" in printed.out
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert sorted(line["kind"] for line in lines) == ["merged", "passed"]
    (merged,) = [line for line in lines if line["kind"] == "merged"]
    assert (merged["inputs"], merged["rows"]) == (3, 3)
    assert printed.err == f"{tmp_path}: 3 files were merged\n"
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("left alone: .: clicks*.snappy: Snappy files cannot")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "say what to do"),
        (["compact", "nowhere"], "is no directory"),
        (["compact", ".", "--target-mb", "0"], "--target-mb is 1 at least"),
        (["compact", ".", "--older-than", "soon"], "is no time ago"),
    ],
)
def test_a_call_that_cannot_be_right_is_refused(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lake", *words]) == 2
    assert text in capsys.readouterr().err
