"""Objects of Parquet and ORC, read back by readers nobody here wrote."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import orc

from streamkit.delivery.formats import Encoder
from streamkit.delivery.plan import OrcFormat, ParquetCompression, ParquetFormat
from streamkit.model.limits import KIB, MIB
from streamkit_connectors import orc as orc_objects
from streamkit_connectors import parquet as parquet_objects

NOON: Final = dt.datetime.fromisoformat("2024-02-29T12:00:00.123456")
SCHEMA: Final = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int8()),
        ("price", pa.float64()),
        ("ratio", pa.float32()),
        ("amount", pa.decimal128(12, 2)),
        ("is_new", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("at_utc", pa.timestamp("us", "UTC")),
        ("carrier", pa.string()),
        ("raw", pa.binary()),
        ("user", pa.struct([("name", pa.string()), ("plans", pa.list_(pa.string()))])),
        ("tags", pa.list_(pa.struct([("k", pa.string()), ("v", pa.int32())]))),
        ("labels", pa.map_(pa.string(), pa.int32())),
    ],
    metadata={"pandas": "{}", "other": "x"},
)


def row(index: int) -> dict[str, Any]:
    """Every seventh has nothing but an id."""
    if index % 7 == 6:
        return {"id": index}
    return {
        "id": index,
        "small": index % 100,
        "price": index / 3,
        "ratio": index / 4,
        "amount": Decimal(index) / 4,
        "is_new": index % 3 == 0,
        "day": dt.date(2024, 2, 29) + dt.timedelta(days=index),
        "at": NOON + dt.timedelta(seconds=index),
        "at_utc": (NOON + dt.timedelta(seconds=index)).replace(tzinfo=dt.UTC),
        "carrier": ("AA", "Zürich", "")[index % 3],
        "raw": bytes([index % 256]),
        "user": None if index % 5 == 4 else {"name": f"user-{index}", "plans": ["gold"] * (index % 3)},
        "tags": [{"k": "a", "v": index}, {"k": None, "v": None}][: index % 3],
        "labels": {"x": index} if index % 2 else {},
    }


def table(count: int) -> pa.Table:
    return pa.Table.from_pylist([row(index) for index in range(count)], schema=SCHEMA)


def pieces(rows: pa.Table, cuts: list[int]) -> Iterator[pa.RecordBatch]:
    whole = rows.combine_chunks().to_batches()[0] if len(rows) else pa.RecordBatch.from_pylist([], schema=rows.schema)
    for start, stop in pairwise(sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)}) or [0]):
        yield whole.slice(start, stop - start)
    if not len(rows):
        yield whole


def write_parquet(rows: pa.Table, path: Path, format: ParquetFormat, *, cuts: list[int] | None = None) -> Any:
    """The file's metadata."""
    written = parquet_objects.make_encoder(format).write(pieces(rows, cuts or []), path)
    assert written == (path.stat().st_size, ".parquet")
    return pq.ParquetFile(path).metadata


def write_orc(rows: pa.Table, path: Path, format: OrcFormat, *, cuts: list[int] | None = None) -> Any:
    written = orc_objects.make_encoder(format).write(pieces(rows, cuts or []), path)
    assert written == (path.stat().st_size, ".orc")
    return orc.ORCFile(path)


def columns_of(metadata: Any, group: int = 0) -> dict[str, Any]:
    found = metadata.row_group(group)
    return {found.column(i).path_in_schema: found.column(i) for i in range(found.num_columns)}


# -- Parquet ----------------------------------------------------------------------------------------------------------


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def with_pyarrow(path: Path) -> list[dict[str, Any]]:
    return rows_of(pq.read_table(path))


def with_duckdb(path: Path) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return rows_of(connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)]).to_arrow_table())


def with_polars(path: Path) -> list[dict[str, Any]]:
    import polars

    return rows_of(polars.read_parquet(path).to_arrow())


def with_pandas(path: Path) -> list[dict[str, Any]]:
    import pandas

    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    return rows_of(pa.Table.from_pandas(frame, preserve_index=False))


def plain(value: Any) -> Any:
    """Readers differ in how they write the same: maps as pairs or as objects, time zones by name or offset."""
    if isinstance(value, dict):
        if value.keys() == {"key", "value"}:
            return plain(value["key"]), plain(value["value"])
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)
    if isinstance(value, dt.datetime):
        value = value.replace(tzinfo=None) if value.tzinfo is None else value.astimezone(dt.UTC)
        return dt.datetime.fromisoformat(value.isoformat())
    return value


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("compression", ["UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"])
@pytest.mark.parametrize("read", [with_pyarrow, with_duckdb, with_polars, with_pandas])
def test_parquet_is_read_by_others(
    read: Callable[[Path], list[dict[str, Any]]], compression: Any, version: Any, tmp_path: Path
) -> None:
    """Every type a table of Hive's can have, nested ones and nulls too."""
    rows = table(50)
    path = tmp_path / "object"
    metadata = write_parquet(rows, path, ParquetFormat(compression, version=version), cuts=[3, 3, 20])
    assert plain(read(path)) == plain(rows.to_pylist())
    assert {column.compression for column in columns_of(metadata).values()} == {compression}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(count=st.integers(0, 40), cuts=st.lists(st.integers(0, 40), max_size=6), dictionary=st.booleans())
def test_parquet_is_the_same_wherever_pieces_are_cut(
    count: int, cuts: list[int], dictionary: bool, tmp_path: Path
) -> None:
    """Also where there are no rows at all."""
    rows = table(count)
    path = tmp_path / "object"
    write_parquet(rows, path, ParquetFormat(dictionary=dictionary), cuts=cuts)
    assert pq.read_table(path).to_pylist() == rows.to_pylist()


def test_timestamps_are_microseconds_in_64_bits(tmp_path: Path) -> None:
    """Whatever the column's unit: nanoseconds and INT96 are not for everybody. What has a time zone is marked so."""
    units = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")]
    rows = pa.table([pa.array([1_700_000_000], kind) for kind in units], [str(place) for place in range(len(units))])
    for format in (ParquetFormat(version="V1"), ParquetFormat(version="V2")):
        write_parquet(rows, tmp_path / "object", format)
        schema = pq.ParquetFile(tmp_path / "object").schema
        for place, kind in enumerate(units):
            column = schema.column(place)
            assert column.physical_type == "INT64"
            assert "timeUnit=microseconds" in str(column.logical_type)
            assert f"isAdjustedToUTC={str(kind.tz is not None).lower()}" in str(column.logical_type)


def test_the_footer_has_nothing_of_arrow_in_it(tmp_path: Path) -> None:
    """Nor what somebody wrote beside the schema; but the ids of fields, which Iceberg knows columns by."""
    schema = pa.schema(
        [pa.field("a", pa.int64(), metadata={"PARQUET:field_id": "7"})], metadata={"pandas": "{}", "x": "y"}
    )
    rows = pa.Table.from_pylist([{"a": 1}], schema=schema)
    metadata = write_parquet(rows, tmp_path / "object", ParquetFormat())
    assert metadata.metadata is None
    assert pq.read_schema(tmp_path / "object").field("a").metadata == {b"PARQUET:field_id": b"7"}


def test_lists_are_named_as_hive_and_spark_expect(tmp_path: Path) -> None:
    """In three levels: list, element."""
    metadata = write_parquet(table(3), tmp_path / "object", ParquetFormat())
    assert {"user.plans.list.element", "tags.list.element.k", "labels.key_value.key"} <= columns_of(metadata).keys()


def test_dictionaries_are_for_columns_that_repeat(tmp_path: Path) -> None:
    """At any depth; all columns have one where it was asked for."""
    count = 5_000
    rows = pa.table(
        {
            "carrier": pa.array([("AA", "UA")[i % 2] for i in range(count)]),
            "id": pa.array([f"id-{i}" for i in range(count)]),
            "mostly": pa.array([f"x{i // 2}" for i in range(count)]),
            "nothing": pa.array([None] * count, pa.string()),
            "user": pa.array([{"plan": "gold", "name": f"n{i}"} for i in range(count)]),
            "tags": pa.array([["a", "b"] for _ in range(count)]),
            "labels": pa.array([[("k", i)] for i in range(count)], pa.map_(pa.string(), pa.int32())),
        }
    )
    found = columns_of(write_parquet(rows, tmp_path / "object", ParquetFormat(), cuts=[1, 10]))
    assert {path for path, column in found.items() if column.has_dictionary_page} == {
        "carrier",
        "user.plan",
        "tags.list.element",
        "labels.key_value.key",
    }
    found = columns_of(write_parquet(rows, tmp_path / "object", ParquetFormat(dictionary=True)))
    assert all(column.has_dictionary_page for path, column in found.items())


def test_readers_can_skip_row_groups(tmp_path: Path) -> None:
    """By least and greatest values, of times too."""
    found = columns_of(write_parquet(table(50), tmp_path / "object", ParquetFormat()))
    assert (found["id"].statistics.min, found["id"].statistics.max) == (0, 49)
    assert found["at"].statistics.min == NOON
    assert found["carrier"].statistics.null_count == 7


def test_row_groups_end_at_their_size(tmp_path: Path) -> None:
    """In bytes of columns; small pieces are put together, and none is cut."""
    rows = pa.table({"x": pa.array(range(64 * 1024), pa.int64())})  # 512 KiB
    metadata = write_parquet(
        rows, tmp_path / "object", ParquetFormat(row_group_bytes=128 * KIB), cuts=list(range(0, 64 * 1024, 1000))
    )
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [17_000, 17_000, 17_000, 14_536]


def test_pages_are_of_the_version_that_was_asked_for(tmp_path: Path) -> None:
    """As another reader of footers tells it: version 2 has dictionaries with other names for their encodings."""
    versions = (
        (ParquetFormat(dictionary=True), "PLAIN_DICTIONARY"),
        (ParquetFormat("ZSTD", 1, dictionary=True, version="V2"), "RLE_DICTIONARY"),
    )
    for format, encoding in versions:
        metadata = write_parquet(table(50), tmp_path / "object", format)
        assert encoding in columns_of(metadata)["carrier"].encodings


def test_levels_are_passed_on(tmp_path: Path) -> None:
    """And GZIP has one where none was given: without, it is fifty times as slow."""
    rows = pa.table({"x": [f"{index * 7919 % 10007} some text" for index in range(20_000)]})
    codecs: list[tuple[ParquetCompression, int]] = [("GZIP", 9), ("ZSTD", 19)]
    for codec, most in codecs:
        sizes = []
        for level in (None, 1, most):
            write_parquet(rows, tmp_path / "object", ParquetFormat(codec, level))
            sizes.append((tmp_path / "object").stat().st_size)
        assert sizes[0] == sizes[1] > sizes[2]


# -- ORC --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["V0_11", "V0_12"])
@pytest.mark.parametrize("compression", ["NONE", "ZLIB", "SNAPPY", "ZSTD"])
def test_orc_is_read_by_others(compression: Any, version: Any, tmp_path: Path) -> None:
    """Arrow and pandas; ORC's timestamps are nanoseconds."""
    import pandas

    rows = table(50)
    path = tmp_path / "object"
    file = write_orc(rows, path, OrcFormat(compression, version=version), cuts=[3, 20])
    assert file.compression == {"NONE": "UNCOMPRESSED"}.get(compression, compression)
    assert file.file_version == version[1:].replace("_", ".")
    expected = rows.to_pylist()
    assert plain(file.read().cast(rows.schema).to_pylist()) == plain(expected)
    frame = pandas.read_orc(path, dtype_backend="pyarrow")
    assert list(frame["id"]) == [each["id"] for each in expected]
    assert [None if pandas.isna(each) else each for each in frame["carrier"]] == [each["carrier"] for each in expected]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(count=st.integers(0, 40), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_orc_is_the_same_wherever_pieces_are_cut(count: int, cuts: list[int], tmp_path: Path) -> None:
    """Also where there are no rows at all."""
    rows = table(count)
    file = write_orc(rows, tmp_path / "object", OrcFormat(), cuts=cuts)
    assert file.read().cast(rows.schema).to_pylist() == rows.to_pylist()


def test_stripes_and_their_index_are_as_asked_for(tmp_path: Path) -> None:
    """A smaller stripe makes more of them."""
    rows = pa.table({"x": [os.urandom(200) for _ in range(20_000)]})
    cuts = list(range(0, 20_000, 1000))
    small = write_orc(rows, tmp_path / "small", OrcFormat("NONE", stripe_bytes=MIB, row_index_stride=2000), cuts=cuts)
    large = write_orc(rows, tmp_path / "large", OrcFormat("NONE"), cuts=cuts)
    assert large.nstripes == 1 < small.nstripes
    assert (small.row_index_stride, large.row_index_stride) == (2000, 10_000)


def test_dictionaries_of_orc_have_a_threshold(tmp_path: Path) -> None:
    """0 is none; the share of distinct values up to which there is one."""
    rows = pa.table({"x": [f"value {index % 10}" for index in range(20_000)]})
    sizes = []
    for threshold in (0.0, 0.8):
        write_orc(rows, tmp_path / "object", OrcFormat("NONE", dictionary_threshold=threshold))
        sizes.append((tmp_path / "object").stat().st_size)
    assert sizes[1] < sizes[0] / 4


@pytest.mark.parametrize("name", ["last", "LAST"])
def test_bloom_filters_are_for_the_columns_named(name: str, tmp_path: Path) -> None:
    """ORC counts nested columns: behind a struct, a list and a map it is the tenth."""
    first = {"s": {"a": 1, "b": "x"}, "l": ["a"], "m": [("k", 1)]}
    kinds = [
        ("s", pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ("l", pa.list_(pa.string())),
        ("m", pa.map_(pa.string(), pa.int64())),
        ("last", pa.int64()),
    ]
    rows = pa.Table.from_pylist([{**first, "last": index} for index in range(1000)], schema=pa.schema(kinds))
    write_orc(rows, tmp_path / "ours", OrcFormat(bloom_columns=(name, "not there"), bloom_false_positives=0.01))
    with orc.ORCWriter(
        tmp_path / "theirs",
        compression="snappy",
        padding_tolerance=0.05,
        bloom_filter_columns=[9],
        bloom_filter_fpp=0.01,
    ) as writer:
        writer.write(rows)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    write_orc(rows, tmp_path / "none", OrcFormat())
    assert (tmp_path / "none").stat().st_size < (tmp_path / "ours").stat().st_size


# -- both -------------------------------------------------------------------------------------------------------------

ENCODERS: Final[dict[str, Callable[[], Encoder]]] = {
    "parquet": lambda: parquet_objects.make_encoder(ParquetFormat(row_group_bytes=4 * MIB)),
    "orc": lambda: orc_objects.make_encoder(OrcFormat(stripe_bytes=4 * MIB)),
}


KINDS: Final = st.recursive(
    st.sampled_from([pa.int64(), pa.string()]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda kinds: pa.struct(list(zip("abc", kinds, strict=False)))),
        inner.map(pa.list_),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=5,
)


def values_of(kind: Any, *, nulls: bool = True) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any]
    if pa.types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    elif pa.types.is_map(kind):
        value = values_of(kind.item_type)
        found = st.lists(st.tuples(st.text("xyz", max_size=2), value), max_size=3, unique_by=lambda pair: pair[0])
    elif pa.types.is_list(kind):
        found = st.lists(values_of(kind.value_type), max_size=3)
    else:
        found = st.integers(0, 99) if kind == pa.int64() else st.text("abc", max_size=3)
    return st.none() | found if nulls else found


@pytest.mark.parametrize("kind", ENCODERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(data=st.data())
def test_nested_values_of_any_shape_are_read_back(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    """Nulls at any depth, in slices too. pyarrow's ORC writer, left to itself, gets some of them wrong."""
    shape = data.draw(KINDS)
    values = data.draw(st.lists(values_of(shape, nulls=data.draw(st.booleans())), max_size=12))
    whole = pa.RecordBatch.from_arrays([pa.array(values, shape)], ["c"])
    start = data.draw(st.integers(0, len(values)))
    path = tmp_path / "object"
    ENCODERS[kind]().write([whole.slice(start), whole, whole.slice(0, start)], path)
    read = pq.read_table(path) if kind == "parquet" else orc.ORCFile(path).read()
    assert read.column("c").to_pylist() == values[start:] + values + values[:start]


def test_members_of_structs_that_are_null_do_not_shift_the_others(tmp_path: Path) -> None:
    """What pyarrow 26 gets wrong in ORC: {"x": {"a": 0}} came where {"x": {"a": 1}} belongs."""
    values = [{"x": None if index % 4 == 0 else {"a": index}} for index in range(8)]
    rows = pa.table({"c": values, "d": [each["x"] for each in values]})
    file = write_orc(rows, tmp_path / "object", OrcFormat(), cuts=[3])
    assert file.read().to_pylist() == rows.to_pylist()


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_columnar_object_is_synced_before_it_is_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its bytes in it, the footer too; what was there before is gone."""
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "object"
    path.write_bytes(b"x" * 100_000)
    written = ENCODERS[kind]().write(pieces(table(10), []), path)
    assert synced == [written.size_bytes]
    assert written.size_bytes < 100_000


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_columnar_object_of_any_size_costs_bounded_memory(kind: str, tmp_path: Path) -> None:
    """Of 32 MiB that come piece by piece, a row group or a stripe is held."""
    before = pa.total_allocated_bytes()
    held = []

    def many() -> Iterator[pa.RecordBatch]:
        for _ in range(64):
            held.append(pa.total_allocated_bytes() - before)
            yield pa.RecordBatch.from_arrays([pa.array([os.urandom(512) for _ in range(1024)])], ["x"])

    ENCODERS[kind]().write(many(), tmp_path / "object")
    assert max(held) < 16 * MIB


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_error_of_what_gives_the_pieces_is_told(kind: str, tmp_path: Path) -> None:
    """Not one of the file that could not be ended."""

    def broken() -> Iterator[pa.RecordBatch]:
        yield from pieces(table(10), [])
        raise OSError(5, "the spool is gone")

    with pytest.raises(OSError, match="the spool is gone"):
        ENCODERS[kind]().write(broken(), tmp_path / "object")
