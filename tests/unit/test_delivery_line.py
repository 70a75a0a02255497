"""What a chunk of records goes through: which records end in which pieces, whatever is wrong with some of them."""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery import line as lines
from streamkit.delivery.assembly import _fits
from streamkit.delivery.buffers import Piece
from streamkit.delivery.line import Columns, Line, Output, _halves, _shifted
from streamkit.delivery.naming import Namer
from streamkit.delivery.plan import (
    Backup,
    Buffering,
    CatalogTable,
    Conversion,
    DeliveryPlan,
    DestinationSpec,
    Naming,
    ParquetFormat,
    TextFormat,
)
from streamkit.delivery.processor import BadRow, Converted, Processed
from streamkit.delivery.rows import Rows
from streamkit.delivery.state import Target
from streamkit.delivery.text import TextEncoder
from streamkit.delivery.worker import Outlet
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import StorageUnavailable
from streamkit.model.limits import DELIVERY_CHUNK_RECORDS_MAX
from streamkit.testing.clock import ManualClock

T = TypeVar("T")
NAMING: Final = Naming("out/!{partitionKeyFromQuery:k}/", "errors/!{firehose:error-output-type}/")
PLAIN: Final = DeliveryPlan(
    "d",
    "arn:aws:firehose:us-east-1:000000000000:deliverystream/d",
    1,
    None,
    Buffering(1_000, 1_000),
    NAMING,
    TextFormat(),
    DestinationSpec("s3"),
    DestinationSpec("s3"),
)
PARTITIONED: Final = replace(PLAIN, is_partitioned=True)
TABLE: Final = replace(PARTITIONED, format=ParquetFormat(), conversion=Conversion(CatalogTable("d", "t")))
ROWS_OF: Final = pa.schema([("id", pa.int64()), ("document", pa.int64())])


def batch_of(records: Sequence[bytes], *, shard: int = 0, first_offset: int = 0) -> RecordBatch:
    """Records that arrive a millisecond apart."""
    bounds = array("i", [0])
    for data in records:
        bounds.append(bounds[-1] + len(data))
    arrivals = memoryview(array("q", range(first_offset, first_offset + len(records))))
    keys = memoryview(array("i", [0] * (len(records) + 1)))
    return RecordBatch(
        shard, 1, first_offset, 0, len(records), first_offset, keys, memoryview(b""), memoryview(bounds),
        memoryview(b"".join(records)), arrivals_ms=arrivals,
    )  # fmt: skip


def record(identity: int, **members: Any) -> bytes:
    return json.dumps({"id": identity, **members}).encode()


class ByMember:
    """Gives records the partition that is in them; raises for what is poison, and as often as it is told to."""

    def __init__(self) -> None:
        self.raises: list[Exception] = []
        self.calls = 0

    async def process(self, rows: Rows) -> Processed:
        self.calls += 1
        if self.raises:
            raise self.raises.pop()
        documents = [json.loads(data) for data in rows.data.to_pylist()]
        if any("poison" in each for each in documents):
            raise KeyError("poison")
        values = pa.array([str(each.get("k", "none")) for each in documents], pa.string())
        return Processed(rows.with_keys({"partitionKeyFromQuery:k": values}))


class ByCount:
    """A converter that makes as many rows of a record as that says; -1 is a record that is wrong."""

    schema = ROWS_OF

    def convert(self, data: pa.BinaryArray) -> Converted:
        ids: list[int] = []
        documents: list[int] = []
        bad, several = [], []
        for row, each in enumerate(map(json.loads, data.to_pylist())):
            count = each.get("count", 1)
            if count < 0:
                bad.append(BadRow(row, "DataFormatConversion.ParseError", "wrong"))
                continue
            if count != 1:
                several.append((row, count))
            ids += [each["id"]] * count
            documents += range(count)
        columns = [pa.array(ids, pa.int64()), pa.array(documents, pa.int64())]
        return Converted(pa.RecordBatch.from_arrays(columns, schema=ROWS_OF), bad, several)


class Tables:
    """A catalog with one table, whose columns may change."""

    def __init__(self) -> None:
        self.now: Columns = (("id", "bigint"),)

    def columns(self, table: CatalogTable) -> Columns:
        return self.now

    def keep(self, name: str, columns: Columns) -> CatalogTable:
        raise NotImplementedError

    def kept(self, name: str) -> CatalogTable | None:
        return None


async def at_once(work: Callable[[], T]) -> T:
    return work()


async def no_table() -> None:
    return None


def line_of(
    plan: DeliveryPlan,
    step: ByMember | None = None,
    *,
    active: Callable[[], Collection[Any]] = tuple,
    fits: Callable[[Mapping[str, str]], bool] = lambda values: True,
    tables: Tables | None = None,
) -> Line:
    return Line(
        plan,
        [step or ByMember()],
        schemas=tables or Tables(),
        table_schema=no_table,
        active=active,
        clock=ManualClock(),
        offload=at_once,
        fits=fits,
    )


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await work

    return asyncio.run(main())


def of_role(output: Output, role: str) -> list[Piece]:
    return [piece for piece in output.pieces if piece.key.role == role]


def error_documents(output: Output) -> list[dict[str, Any]]:
    return [json.loads(text) for piece in of_role(output, "error") for text in piece.batch.column("data").to_pylist()]


def refused_ids(output: Output) -> Counter[int]:
    return Counter(json.loads(base64.b64decode(each["rawData"]))["id"] for each in error_documents(output))


def text_ids(output: Output) -> dict[str, list[int]]:
    """By partition."""
    found: dict[str, list[int]] = {}
    for piece in of_role(output, "main"):
        partition = dict(piece.key.partition).get("partitionKeyFromQuery:k", "")
        found.setdefault(partition, []).extend(
            json.loads(each)["id"] for each in piece.batch.column("data").to_pylist()
        )
    return found


# -- windows on converted rows -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(-1, 3), max_size=5), min_size=1, max_size=5))
def test_parts_begin_where_counting_row_by_row_says(parts: list[list[int]]) -> None:
    """`_shifted` gives, for any changes, the bounds that a list of lists would have. -1: a row less; 2: two more."""
    bounds = [0]
    for part in parts:
        bounds.append(bounds[-1] + len(part))
    flat = [change for part in parts for change in part]
    naive = [0]
    for part in parts:
        naive.append(naive[-1] + sum(1 + change for change in part))
    assert _shifted(bounds, {row: change for row, change in enumerate(flat) if change}) == naive


def test_records_of_many_columns_come_in_small_chunks() -> None:
    """Each `{}` of a wide table is a value for every leaf of it; only the first chunk has to guess how many."""
    tables = Tables()
    tables.now = tuple((f"c{each}", "struct<a:int,b:array<string>>") for each in range(600))
    line = line_of(replace(TABLE, is_partitioned=False), tables=tables)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "DELIVERY_CHUNK_CELLS_MAX", 12_000)
        assert line.records_max == 11
        run(line.process([batch_of([b"{}"])]))
        assert line.records_max == 10
        patch.setattr(lines, "DELIVERY_CHUNK_CELLS_MAX", 1)
        assert line.records_max == 1
    assert line_of(PLAIN).records_max == DELIVERY_CHUNK_RECORDS_MAX


RECORDS: Final = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([-1, 0, 1, 1, 1, 2, 3])), min_size=1, max_size=25
)


@settings(deadline=None, max_examples=150)
@given(RECORDS, st.integers(1, 5), st.booleans())
def test_each_record_is_in_its_partition_or_in_the_error_output(
    made: list[tuple[str, int]], partitions_max: int, is_partitioned: bool
) -> None:
    """With records that are wrong, records of no, one and several documents, and more partitions than there may be:
    rows, bytes and the oldest arrival of each piece are those of its records, in order."""
    records = [record(identity, k=k, count=count) for identity, (k, count) in enumerate(made)]
    plan = replace(TABLE, is_partitioned=is_partitioned)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "ACTIVE_PARTITIONS_MAX", partitions_max)
        patch.setattr(lines, "make_converter", lambda columns, conversion: ByCount())
        output = run(line_of(plan).process([batch_of(records)]))
    taken = list(dict.fromkeys(k for k, _ in made))[: partitions_max if is_partitioned else None]
    expected: dict[str, list[int]] = {}
    refused: Counter[int] = Counter()
    for identity, (k, count) in enumerate(made):
        if k not in taken or count < 0:
            refused[identity] += 1
        else:
            expected.setdefault(k if is_partitioned else "", []).append(identity)
    pieces = {dict(each.key.partition).get("partitionKeyFromQuery:k", ""): each for each in of_role(output, "main")}
    for k, identities in expected.items():
        rows = [identity for identity in identities for _ in range(made[identity][1])]
        if not rows:
            assert k not in pieces
            continue
        piece = pieces.pop(k)
        assert piece.batch.column("id").to_pylist() == rows
        assert piece.data_bytes == sum(len(records[identity]) for identity in identities)
        assert min(identities) <= piece.arrived_at_ms <= rows[0]
    assert not pieces
    assert refused_ids(output) == refused
    assert output.taken == len(records)


def test_a_table_that_changes_opens_another_buffer() -> None:
    """Records of two versions of a table cannot be in one object."""

    async def story() -> set[str]:
        tables = Tables()
        line = line_of(replace(TABLE, is_partitioned=False), tables=tables)
        first = await line.process([batch_of([record(0)])])
        tables.now = (("id", "bigint"), ("more", "string"))
        second = await line.process([batch_of([record(1, more="x")])])
        third = await line.process([batch_of([record(2)])])
        assert second.pieces[0].key == third.pieces[0].key
        assert second.pieces[0].batch.schema.names == ["id", "more"]
        return {first.pieces[0].key.schema, second.pieces[0].key.schema}

    assert len(run(story())) == 2


# -- records that cannot be processed ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), min_size=2, max_size=60), st.data())
def test_only_the_culprits_go_to_the_error_output(are_poison: list[bool], data: st.DataObject) -> None:
    """In batches of any sizes, whichever they are; the others are delivered in order, and backed up are all."""
    are_poison[data.draw(st.integers(0, len(are_poison) - 1))] = False
    records = [record(each, poison=1) if is_poison else record(each) for each, is_poison in enumerate(are_poison)]
    cut = data.draw(st.integers(0, len(records)))
    batches = [batch_of(records[:cut]), batch_of(records[cut:], first_offset=cut)]
    plan = replace(PLAIN, backup=Backup("all", PLAIN.destination, PLAIN.buffering, Naming("backup/")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_TRIED_APART_MAX", len(records) + 1)
        output = run(line_of(plan).process_apart([each for each in batches if len(each)]))
    assert text_ids(output).get("", []) == [each for each, is_poison in enumerate(are_poison) if not is_poison]
    assert sorted(refused_ids(output)) == [each for each, is_poison in enumerate(are_poison) if is_poison]
    backed_up = [text for piece in of_role(output, "backup") for text in piece.batch.column("data").to_pylist()]
    assert backed_up == records
    assert output.taken == len(records)
    assert {each["errorCode"] for each in error_documents(output)} <= {"Streamkit.InternalFailure"}


def test_where_nothing_can_be_processed_the_records_are_not_to_blame() -> None:
    """A few of them tell: the whole chunk waits, and is tried again. Only when that leads nowhere it is given up."""
    step = ByMember()
    line = line_of(PLAIN, step)
    records = [record(each, poison=1) for each in range(1_000)]
    with pytest.raises(KeyError):
        run(line.process_apart([batch_of(records)]))
    assert step.calls < 50
    output = run(line.process_apart([batch_of(records)], gives_up=True))
    assert step.calls < 100
    assert not of_role(output, "main")
    assert refused_ids(output) == Counter(range(1_000))


def test_a_single_record_that_cannot_be_processed_is_given_up() -> None:
    """There is nothing to compare it with, and it holds up all others."""
    output = run(line_of(PLAIN).process_apart([batch_of([record(7, poison=1)])]))
    assert refused_ids(output) == Counter([7])


def test_what_is_only_away_blames_no_record() -> None:
    """A disk that is full while records are looked at one by one is no fault of theirs."""
    step = ByMember()
    step.raises = [StorageUnavailable("full")]
    line = line_of(PARTITIONED, step)
    with pytest.raises(StorageUnavailable):
        run(line.process_apart([batch_of([record(0), record(1)])]))
    output = run(line.process_apart([batch_of([record(0, k=1), record(1, k=2)])]))
    assert text_ids(output) == {"1": [0], "2": [1]}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_halves_have_all_records_in_order(sizes: list[int]) -> None:
    """And neither is empty."""
    if sum(sizes) < 2:
        return
    batches, offset = [], 0
    for size in sizes:
        batches.append(batch_of([b"x"] * size, first_offset=offset))
        offset += size
    left, right = _halves(batches)
    assert left
    assert right
    offsets = [each.offset(row) for each in [*left, *right] for row in range(len(each))]
    assert offsets == list(range(offset))
    assert abs(sum(map(len, left)) - sum(map(len, right))) <= 1


# -- active partitions -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ACTIVE_PARTITIONS_MAX", 2)


@pytest.mark.usefixtures("two_partitions")
def test_partitions_are_free_again_when_their_buffers_are() -> None:
    """
    admitted  a b │ applied, buffers a b │ buffers sealed
    c         no  │ no                   │ yes
    """
    active: set[Any] = set()
    line = line_of(PARTITIONED, active=lambda: active)

    def partitions(*names: str) -> Output:
        return run(line.process([batch_of([record(each, k=k) for each, k in enumerate(names)])]))

    first = partitions("a", "b")
    assert set(text_ids(partitions("c", "a"))) == {"a"}
    active |= {piece.key.partition for piece in first.pieces}
    line.applied(first)
    over = partitions("c", "b")
    assert set(text_ids(over)) == {"b"}
    assert error_documents(over)[0]["errorCode"] == "DynamicPartitioning.ActivePartitionsLimitExceeded"
    line.applied(over)
    active.clear()
    # "a" was admitted by a chunk that is not in buffers yet.
    assert set(text_ids(partitions("c", "d"))) == {"c"}


@pytest.mark.usefixtures("two_partitions")
def test_a_chunk_that_fails_takes_no_partitions_with_it() -> None:
    """Otherwise each try that has other keys would leave less for the next."""
    line = line_of(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "make_converter", lambda columns, conversion: 1 / 0)
        for number in range(5):
            with pytest.raises(ZeroDivisionError):
                run(line.process([batch_of([record(0, k=f"{number}a"), record(1, k=f"{number}b")])]))
    assert not line._admitted
    output = run(line.process([batch_of([record(0, k="x"), record(1, k="y")])]))
    assert not error_documents(output)


@pytest.mark.usefixtures("two_partitions")
def test_a_partition_counts_until_all_chunks_that_have_it_are_in_buffers() -> None:
    """The first of them may be sealed before the second comes."""
    line = line_of(PARTITIONED)
    first = run(line.process([batch_of([record(0, k="a")])]))
    second = run(line.process([batch_of([record(1, k="a")])]))
    line.applied(first)
    assert list(line._admitted) == [(("partitionKeyFromQuery:k", "a"),)]
    line.applied(second)
    assert not line._admitted


def test_ten_thousand_partitions_are_one_piece_of_the_error_output() -> None:
    """A key that never repeats must not cost a document, a piece and a buffer each by itself."""
    output = run(line_of(PARTITIONED).process([batch_of([record(each, k=each) for each in range(10_000)])]))
    assert len(of_role(output, "main")) == 500
    assert len(of_role(output, "error")) == 1
    assert refused_ids(output) == Counter(range(500, 10_000))


# -- names that cannot be ----------------------------------------------------------------------------------------------


def fits(*, are_files: bool, naming: Naming = NAMING, prefix: str = "") -> Callable[[Mapping[str, str]], bool]:
    namer = Namer(naming, stream="d", version=1)
    return _fits(Outlet(namer, TextEncoder(TextFormat()), Target("s3", {"prefix": prefix})), are_files=are_files)


def test_a_record_whose_partition_makes_no_name_goes_to_the_error_output() -> None:
    """S3 takes keys of 1,024 bytes: the object would be refused for ever, and everything behind it."""
    long = "x" * 1_100
    line = line_of(PARTITIONED, fits=fits(are_files=False))
    output = run(line.process([batch_of([record(0, k="a"), record(1, k=long), record(2, k="y" * 900)])]))
    assert text_ids(output) == {"a": [0], "y" * 900: [2]}
    (document,) = error_documents(output)
    assert document["errorCode"] == "DynamicPartitioning.ObjectKeyTooLong"
    assert "rawData" in document


def test_names_of_files_are_shorter() -> None:
    """Where objects are files each part of a name is one of a file: 255 bytes."""
    key = "partitionKeyFromQuery:k"
    assert fits(are_files=True)({key: "x" * 255 + "/" + "y" * 231})
    assert not fits(are_files=True)({key: "x" * 256})
    assert not fits(are_files=True)({key: "ä" * 128})
    assert fits(are_files=False)({key: "x" * 256})
    assert not fits(are_files=False, prefix="p" * 500)({key: "x" * 500})
    assert fits(are_files=False)({key: "x" * 500})


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [[b""], [b"", b"", b"x"], [b"y" * 1_024_000] * 5, [b""] * 5_000])
def test_records_of_all_sizes_go_through_as_they_are(records: list[bytes]) -> None:
    """Empty ones, and 1,000 KiB."""

    class Nothing:
        async def process(self, rows: Rows) -> Processed:
            return Processed(rows)

    line = line_of(PLAIN, Nothing())  # type: ignore[arg-type]
    output = run(line.process([batch_of(records)]))
    (piece,) = output.pieces
    assert piece.batch.column("data").to_pylist() == records
    assert piece.data_bytes == sum(map(len, records))
