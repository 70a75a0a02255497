"""The record batch: a window on columns, however it is cut."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model import sequence
from streamkit.model.batch import Record, RecordBatch

CREATED_S = 1_600_000_000
AT_MS = 1_700_000_000_123
rows = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.binary(max_size=20)), max_size=10)


def batch_of(rows: list[tuple[str, bytes]], *, arrivals_ms: list[int] | None = None) -> RecordBatch:
    def column(values: list[bytes]) -> tuple[memoryview, memoryview]:
        return memoryview(array("i", accumulate(map(len, values), initial=0))), memoryview(b"".join(values))

    key_offsets, keys = column([key.encode() for key, _ in rows])
    data_offsets, data = column([value for _, value in rows])
    arrivals = memoryview(array("q", arrivals_ms)) if arrivals_ms is not None else None
    return RecordBatch(3, CREATED_S, 100, 0, len(rows), AT_MS, key_offsets, keys, data_offsets, data, None, arrivals)


def expected(rows: list[tuple[str, bytes]], start: int, stop: int, arrivals_ms: list[int]) -> list[Record]:
    return [
        Record(
            rows[each][0],
            rows[each][1],
            sequence.sequence_number(CREATED_S, 3, 100 + each, arrivals_ms[each]),
            arrivals_ms[each],
        )
        for each in range(start, stop)
    ]


@given(rows, st.booleans(), st.data())
def test_a_slice_of_a_slice_shows_the_records_of_its_window(
    rows: list[tuple[str, bytes]], has_arrivals: bool, data: st.DataObject
) -> None:
    arrivals_ms = [AT_MS + (1500 * each if has_arrivals else 0) for each in range(len(rows))]
    batch = batch_of(rows, arrivals_ms=arrivals_ms if has_arrivals else None)
    start, stop = 0, len(rows)
    for _ in range(2):
        one, other = sorted(data.draw(st.tuples(st.integers(0, len(batch)), st.integers(0, len(batch)))))
        batch = batch.slice(one, other)
        start, stop = start + one, start + other
    assert list(batch.records()) == expected(rows, start, stop, arrivals_ms)
    assert (batch.first_offset, batch.next_offset, len(batch)) == (100 + start, 100 + stop, stop - start)
    assert batch.data_bytes == sum(len(value) for _, value in rows[start:stop])
    assert batch.arrivals() == arrivals_ms[start:stop]
    if len(batch):
        assert batch.last_sequence_number == batch.sequence_numbers()[-1]
        assert batch.last_arrived_at_ms == arrivals_ms[stop - 1]


@given(rows, st.integers(0, 12), st.integers(0, 100), st.integers(0, 1), st.data())
def test_cutting_takes_as_many_records_as_both_limits_leave_room_for(
    rows: list[tuple[str, bytes]], records_max: int, bytes_max: int, at_least: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(rows)))
    sizes = [len(key.encode()) + len(value) for key, value in rows[start:]]
    cut, size = batch_of(rows).slice(start, len(rows)).cut_to(records_max, bytes_max, at_least=at_least)
    fitting = max(count for count in range(len(sizes) + 1) if sum(sizes[:count]) <= bytes_max)
    assert len(cut) == min(max(fitting, at_least), records_max, len(sizes))
    assert size == sum(sizes[: len(cut)])
    assert cut.first_offset == 100 + start


@given(rows, st.booleans(), st.data())
def test_arrow_shows_the_same_records(rows: list[tuple[str, bytes]], has_arrivals: bool, data: st.DataObject) -> None:
    arrivals_ms = [AT_MS + (1500 * each if has_arrivals else 0) for each in range(len(rows))]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows)))))
    batch = batch_of(rows, arrivals_ms=arrivals_ms if has_arrivals else None).slice(start, stop)
    arrow = batch.to_arrow()
    arrow.validate(full=True)
    assert arrow.schema.names == ["partition_key", "data", "offset", "arrived_at"]
    assert arrow.column("partition_key").to_pylist() == [key for key, _ in rows[start:stop]]
    assert arrow.column("data").to_pylist() == [value for _, value in rows[start:stop]]
    assert arrow.column("offset").to_pylist() == list(range(100 + start, 100 + stop))
    assert arrow.column("arrived_at").cast(pa.int64()).to_pylist() == arrivals_ms[start:stop]


def test_values_are_views_and_keep_the_memory_alive() -> None:
    values = batch_of([("k", b"first"), ("k", b"second")]).values()
    assert [bytes(value) for value in values] == [b"first", b"second"]
    assert values[0].obj is values[1].obj
