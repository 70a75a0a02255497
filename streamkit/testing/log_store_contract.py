"""What every LogStore must do, as tests: one class to inherit from.

    class TestMyStore(LogStoreContract):
        @pytest.fixture
        def make_store(self, tmp_path: Path) -> MakeStore:
            return lambda clock: MyStore(tmp_path, clock=clock)

Each test promises something that `streamkit.shards.store` says. The store runs on a real event loop and is given a
clock that the test sets; it may use threads.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from streamkit.model.batch import Columns, RecordBatch
from streamkit.model.errors import StorageUnavailable, ThroughputExceeded
from streamkit.model.hashkey import digest_of
from streamkit.model.limits import MIB, PENDING_BYTES_MAX
from streamkit.model.names import StreamId
from streamkit.shards.store import Bounds, LogStore, Rows, Shard, StreamLog, Table
from streamkit.testing.clock import START_MS, ManualClock

MakeStore = Callable[[ManualClock], LogStore]

STREAM: Final = StreamId("0" * 31 + "1")
OTHER: Final = StreamId("0" * 31 + "2")
A: Final = Shard(0, 1_600_000_000)
B: Final = Shard(7, 1_600_000_001)
_PATIENCE_S: Final = 20.0


def rows(shard: Shard, values: Sequence[bytes], keys: Sequence[bytes] | None = None) -> Rows:
    """Records to append; each is its own partition key unless keys are given."""
    return Rows(shard, list(keys if keys is not None else [value[:64] or b"-" for value in values]), list(values))


def table(shard: Shard, values: Sequence[bytes], *, skipped: int = 0) -> Table:
    """The same as columns. `skipped` values lie before them in the buffers, as in a slice of an Arrow array."""
    before = [b"skipped"] * skipped
    data_offsets, data = _column([*before, *values])
    key_offsets, keys = _column([*before, *(value[:64] or b"-" for value in values)])
    return Table(shard, Columns(len(values), key_offsets[skipped:], keys, data_offsets[skipped:], data))


def _column(values: Sequence[bytes]) -> tuple[memoryview, bytes]:
    offsets = array("i", [0])
    for value in values:
        offsets.append(offsets[-1] + len(value))
    return memoryview(offsets), b"".join(values)


def values_of(batches: Sequence[RecordBatch]) -> list[bytes]:
    return [bytes(value) for batch in batches for value in batch.values()]


async def read_all(log: StreamLog, shard: Shard, offset: int = 0) -> list[RecordBatch]:
    """Everything from an offset to the tip."""
    found: list[RecordBatch] = []
    while batches := await log.read(shard.index, offset, records_max=10_000, bytes_max=10 * MIB):
        found += batches
        offset = batches[-1].next_offset
    return found


async def put(log: StreamLog, *groups: Rows | Table) -> None:
    await log.append(groups).wait()


class LogStoreContract:
    """Inherit, and override `make_store`."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        raise NotImplementedError("say how your store is made")

    # -- appending ---------------------------------------------------------------------------------------------------

    def test_an_empty_stream_holds_nothing_from_offset_zero(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            assert log.bounds(A.index) == Bounds(0, 0)
            assert await log.read(A.index, 0, records_max=10, bytes_max=10) == []
            assert await log.seek_time(A.index, START_MS) == 0
            await log.trim(START_MS)
            assert log.bounds(A.index) == Bounds(0, 0)

        _run_log(make_store, scenario)

    def test_records_are_read_as_they_were_appended_and_in_order(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            await put(log, rows(A, [b"1", b"", b"333"], [b"k", "schlüssel".encode(), b"k" * 256]))
            await put(log, rows(A, [b"4"]))
            batches = await read_all(log, A)
            records = [record for batch in batches for record in batch.records()]
            assert [record.data for record in records] == [b"1", b"", b"333", b"4"]
            assert [record.partition_key for record in records] == ["k", "schlüssel", "k" * 256, "4"]
            assert {record.arrived_at_ms for record in records} == {START_MS}
            assert {(batch.shard_index, batch.shard_created_s) for batch in batches} == {(A.index, A.created_s)}
            numbers = [record.sequence_number for record in records]
            assert numbers == sorted(set(numbers))

        _run_log(make_store, scenario)

    def test_offsets_are_consecutive_from_zero_in_each_shard(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            await put(log, rows(A, [b"a"] * 3), rows(B, [b"b"] * 2))
            await put(log, rows(B, [b"b"]), rows(A, [b"a"]))
            for shard, count in ((A, 4), (B, 3)):
                expected = 0
                for batch in await read_all(log, shard):
                    assert batch.first_offset == expected
                    expected = batch.next_offset
                assert expected == count
                assert log.bounds(shard.index) == Bounds(0, count)

        _run_log(make_store, scenario)

    def test_an_append_says_where_each_of_its_groups_went(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            await put(log, rows(A, [b"before"] * 5))
            append = log.append([rows(A, [b"x"] * 2), table(B, [b"y"] * 3), rows(A, [b"z"])])
            await append.wait()
            places = [append.placed(index) for index in range(3)]
            assert [place.first_offset for place in places] == [5, 0, 7]
            assert {place.arrived_at_ms for place in places} == {START_MS}

        _run_log(make_store, scenario)

    def test_tables_and_rows_mixed_keep_their_order(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            appends = [
                log.append([rows(A, [b"1"])]),
                log.append([table(A, [b"2", b"3"])]),
                log.append([rows(A, [b"4"]), table(A, [b"5"]), rows(A, [b"6"])]),
                log.append([rows(A, [b"7"])]),
            ]
            for append in appends:
                await append.wait()
            assert values_of(await read_all(log, A)) == [b"%d" % each for each in range(1, 8)]

        _run_log(make_store, scenario)

    def test_columns_may_start_in_the_middle_of_their_buffers(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            await put(log, table(A, [b"first", b"second"], skipped=3))
            batches = await read_all(log, A)
            assert values_of(batches) == [b"first", b"second"]
            assert [key for batch in batches for key in batch.partition_keys()] == ["first", "second"]

        _run_log(make_store, scenario)

    def test_a_table_of_many_records_stays_whole(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            values = [b"%d" % each for each in range(200_000)]
            await put(log, table(A, values))
            assert values_of(await read_all(log, A)) == values

        _run_log(make_store, scenario)

    def test_explicit_hash_keys_are_kept_and_others_follow_from_the_partition_key(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            explicit = bytes(range(16))
            first = log.append([rows(A, [b"1"], [b"k1"])])
            second = log.append([Rows(A, [b"k2"], [b"2"], [explicit])])
            third = log.append([rows(A, [b"3"], [b"k3"])])
            for append in (first, second, third):
                await append.wait()
            found = []
            for batch in await read_all(log, A):
                for index, key in enumerate(batch.partition_keys(), batch.start):
                    stored = batch.hash_keys
                    found.append(stored[16 * index : 16 * index + 16] if stored else digest_of(key.encode()))
            assert found == [digest_of(b"k1"), explicit, digest_of(b"k3")]

        _run_log(make_store, scenario)

    def test_a_record_of_ten_mebibytes_is_kept(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            big = bytes(range(256)) * (10 * MIB // 256)
            await put(log, rows(A, [b"small", big, b"after"], [b"k"] * 3))
            await put(log, table(A, [big]))
            assert values_of(await read_all(log, A)) == [b"small", big, b"after", big]

        _run_log(make_store, scenario)

    def test_many_producers_at_once_lose_and_double_nothing(self, make_store: MakeStore) -> None:
        async def produce(log: StreamLog, name: bytes) -> None:
            for each in range(30):
                shard = A if each % 2 else B
                await put(log, rows(shard, [b"%s/%d" % (name, each)]))

        async def scenario(log: StreamLog) -> None:
            names = [b"p%d" % each for each in range(20)]
            await asyncio.gather(*(produce(log, name) for name in names))
            for shard, parity in ((A, 1), (B, 0)):
                found = values_of(await read_all(log, shard))
                for name in names:
                    mine = [value for value in found if value.startswith(name + b"/")]
                    assert mine == [b"%s/%d" % (name, each) for each in range(30) if each % 2 == parity]
                assert len(found) == 15 * len(names)

        _run_log(make_store, scenario)

    def test_waiting_for_an_append_that_is_done_returns_at_once(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            appends = [log.append([rows(A, [b"1"])]), log.append([rows(A, [b"2"])])]
            for append in (*appends, *appends):
                await append.wait()
            told: asyncio.Queue[BaseException | None] = asyncio.Queue()
            appends[0].then(told.put_nowait)
            assert await told.get() is None

        _run_log(make_store, scenario)

    def test_a_cancelled_wait_does_not_take_the_append_back(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            waiting = asyncio.ensure_future(put(log, rows(A, [b"stays"])))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await put(log, rows(A, [b"next"]))
            assert values_of(await read_all(log, A)) == [b"stays", b"next"]

        _run_log(make_store, scenario)

    def test_nothing_can_be_read_before_it_is_acknowledged(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            append = log.append([rows(A, [b"1"])])
            assert log.bounds(A.index) == Bounds(0, 0)
            assert await log.read(A.index, 0, records_max=1, bytes_max=1) == []
            await append.wait()
            assert log.bounds(A.index) == Bounds(0, 1)

        _run_log(make_store, scenario)

    def test_too_much_waiting_for_the_disk_is_refused_and_takes_nothing(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            big = bytes(8 * MIB)
            appends = [log.append([rows(A, [big], [b"k"])]) for _ in range(PENDING_BYTES_MAX // len(big))]
            with pytest.raises(ThroughputExceeded):
                log.append([rows(A, [b"too much"])])
            for append in appends:
                await append.wait()
            assert log.bounds(A.index) == Bounds(0, len(appends))
            await put(log, rows(A, [b"again"]))

        _run_log(make_store, scenario)

    # -- reading -----------------------------------------------------------------------------------------------------

    def test_a_read_gives_at_most_so_many_records(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            for start in (0, 4, 8):
                await put(log, rows(A, [b"%d" % each for each in range(start, start + 4)]))
            for offset in range(12):
                for records_max in range(1, 13):
                    found = values_of(await log.read(A.index, offset, records_max=records_max, bytes_max=MIB))
                    assert found == [b"%d" % each for each in range(offset, min(offset + records_max, 12))]

        _run_log(make_store, scenario)

    def test_a_read_gives_what_fits_its_bytes_but_one_record_at_least(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            sizes = [0, 5, 100, 1, 1, 40, 0, 7]
            for size in sizes:
                await put(log, rows(A, [bytes(size)], [b"key"]))
            await put(log, rows(A, [bytes(size) for size in sizes], [b"key"] * len(sizes)))
            sizes += sizes
            for offset in range(len(sizes)):
                for bytes_max in (1, 3, 8, 11, 20, 103, 104, 150, 1000):
                    found = values_of(await log.read(A.index, offset, records_max=100, bytes_max=bytes_max))
                    assert len(found) == _fitting(sizes[offset:], bytes_max)
                    assert [len(value) for value in found] == sizes[offset : offset + len(found)]

        _run_log(make_store, scenario)

    def test_a_read_at_or_behind_the_tip_is_empty(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            await put(log, rows(A, [b"1", b"2"]))
            assert await log.read(A.index, 2, records_max=1, bytes_max=1) == []
            assert await log.read(A.index, 99, records_max=1, bytes_max=1) == []
            assert await log.read(B.index, 0, records_max=1, bytes_max=1) == []

        _run_log(make_store, scenario)

    def test_batches_become_arrow_without_copying_keys_or_data(self, make_store: MakeStore) -> None:
        import pyarrow as pa

        async def scenario(log: StreamLog) -> None:
            values = [bytes([each]) * 100_000 for each in range(50)]
            await put(log, rows(A, values))
            allocated = pa.total_allocated_bytes()
            taken = await log.read(A.index, 3, records_max=40, bytes_max=10 * MIB)
            found: list[bytes] = []
            for batch in taken:
                arrow = batch.to_arrow()
                data, keys = arrow.column("data"), arrow.column("partition_key")
                assert _lies_in(data.buffers()[2], batch.data)
                assert _lies_in(keys.buffers()[2], batch.keys)
                assert arrow.column("offset").to_pylist() == list(range(batch.first_offset, batch.next_offset))
                assert arrow.column("arrived_at").cast(pa.int64()).to_pylist() == batch.arrivals()
                found += data.to_pylist()
            assert found == values[3:43]
            assert pa.total_allocated_bytes() - allocated < 100_000

        _run_log(make_store, scenario)

    # -- time --------------------------------------------------------------------------------------------------------

    def test_seeking_a_time_gives_the_first_record_at_or_after_it(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog, clock: ManualClock) -> None:
            for each in range(10):  # offsets 2 x each and 2 x each + 1 arrive at START_MS + 10 x each
                await put(log, rows(A, [b"%d" % each] * 2))
                clock.step(10)
            assert await log.seek_time(A.index, 0) == 0
            for each in range(10):
                arrived_at_ms = START_MS + 10 * each
                assert await log.seek_time(A.index, arrived_at_ms - 1) == 2 * each
                assert await log.seek_time(A.index, arrived_at_ms) == 2 * each
                assert await log.seek_time(A.index, arrived_at_ms + 1) == 2 * each + 2
            assert await log.seek_time(B.index, START_MS) == 0

        _run_timed(make_store, scenario)

    def test_arrival_times_never_step_back_with_the_clock(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog, clock: ManualClock) -> None:
            for step in (500, -1000, 200, 400):
                clock.step(step)
                await put(log, rows(A, [b"x"]))
            arrivals = [arrived for batch in await read_all(log, A) for arrived in batch.arrivals()]
            assert arrivals == [START_MS + 500] * 3 + [START_MS + 500]
            clock.step(900)
            await put(log, rows(A, [b"y"]))
            assert await log.seek_time(A.index, START_MS + 501) == 4

        _run_timed(make_store, scenario)

    # -- being woken -------------------------------------------------------------------------------------------------

    def test_waiting_ends_when_the_shard_holds_the_offset(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            waiting = asyncio.ensure_future(log.wait(A.index, 2))
            await put(log, rows(A, [b"0", b"1"]), rows(B, [b"0"] * 9))
            assert not waiting.done()
            await put(log, rows(A, [b"2"]))
            await waiting
            assert log.bounds(A.index).next_offset == 3
            await log.wait(A.index, 0)

        _run_log(make_store, scenario)

    def test_a_cancelled_wait_disturbs_nobody(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            given_up, patient = (asyncio.ensure_future(log.wait(A.index, 0)) for _ in range(2))
            await asyncio.sleep(0)
            given_up.cancel()
            await put(log, rows(A, [b"0"]))
            await patient
            assert given_up.cancelled()

        _run_log(make_store, scenario)

    def test_watchers_hear_of_each_shard_with_new_records_until_they_stop(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog) -> None:
            heard: list[int] = []
            stop = log.watch(heard.append)
            await put(log, rows(A, [b"0"]), rows(B, [b"0"]))
            assert sorted(heard) == [A.index, B.index]
            stop()
            await put(log, rows(A, [b"1"]))
            assert len(heard) == 2

        _run_log(make_store, scenario)

    # -- trimming ----------------------------------------------------------------------------------------------------

    def test_trimming_never_takes_records_that_are_young_enough(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog, clock: ManualClock) -> None:
            for each in range(20):
                await put(log, rows(A, [b"%d" % each]))
                clock.step(10)
            for each in range(20):
                await log.trim(START_MS + 10 * each)
                first, next_offset = log.bounds(A.index)
                assert first <= each
                assert next_offset == 20
                assert values_of(await read_all(log, A)) == [b"%d" % kept for kept in range(first, 20)]

        _run_timed(make_store, scenario)

    def test_trimming_takes_what_is_too_old_and_offsets_go_on(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog, clock: ManualClock) -> None:
            await put(log, rows(A, [b"old"] * 3), rows(B, [b"old"]))
            clock.step(1000)
            await _trim_all(log, clock)
            assert log.bounds(A.index) == Bounds(3, 3)
            assert await log.read(A.index, 0, records_max=1, bytes_max=1) == []
            assert await log.seek_time(A.index, 0) == 3
            append = log.append([rows(A, [b"new"])])
            await append.wait()
            assert append.placed(0).first_offset == 3
            assert log.bounds(A.index) == Bounds(3, 4)
            assert values_of(await log.read(A.index, 0, records_max=9, bytes_max=MIB)) == [b"new"]

        _run_timed(make_store, scenario)

    def test_a_shard_trimmed_empty_stays_empty_while_others_go_on(self, make_store: MakeStore) -> None:
        async def scenario(log: StreamLog, clock: ManualClock) -> None:
            await put(log, rows(A, [b"old"] * 3))
            clock.step(1000)
            await _trim_all(log, clock)
            await put(log, rows(B, [b"new"]))
            assert log.bounds(A.index) == Bounds(3, 3)
            assert await log.read(A.index, 0, records_max=9, bytes_max=MIB) == []
            assert values_of(await read_all(log, B)) == [b"new"]

        _run_timed(make_store, scenario)

    def test_batches_stay_valid_after_their_records_are_gone(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            values = [b"%d" % each * 1000 for each in range(100)]
            await put(log, rows(A, values))
            clock.step(1000)
            tail = await read_all(log, A)
            await _trim_all(log, clock)
            await put(log, rows(A, [b"after"]))
            await store.delete(STREAM)
            assert values_of(tail) == values
            assert [value for batch in tail for value in batch.to_arrow().column("data").to_pylist()] == values

        _run_store(make_store, scenario)

    # -- life --------------------------------------------------------------------------------------------------------

    def test_opening_twice_gives_the_same_log(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            assert await store.open(STREAM) is await store.open(STREAM)
            assert await store.open(OTHER) is not await store.open(STREAM)

        _run_store(make_store, scenario)

    def test_streams_do_not_see_each_other(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            one, other = await store.open(STREAM), await store.open(OTHER)
            await asyncio.gather(put(one, rows(A, [b"one"])), put(other, rows(A, [b"other"])))
            assert values_of(await read_all(one, A)) == [b"one"]
            assert values_of(await read_all(other, A)) == [b"other"]

        _run_store(make_store, scenario)

    def test_deleting_leaves_nothing_for_a_stream_made_again(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            await put(await store.open(STREAM), rows(A, [b"gone"] * 3))
            await store.delete(STREAM)
            log = await store.open(STREAM)
            assert log.bounds(A.index) == Bounds(0, 0)
            await put(log, rows(A, [b"new"]))
            assert values_of(await read_all(log, A)) == [b"new"]
            await store.delete(OTHER)  # never heard of

        _run_store(make_store, scenario)

    def test_readers_of_a_deleted_stream_fail(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            await put(log, rows(A, [b"1"]))
            waiting = asyncio.ensure_future(log.wait(A.index, 1))
            await asyncio.sleep(0)
            await store.delete(STREAM)
            with pytest.raises(StorageUnavailable):
                await waiting
            with pytest.raises(StorageUnavailable):
                await log.wait(A.index, 1)
            with pytest.raises(StorageUnavailable):
                await log.read(A.index, 0, records_max=1, bytes_max=1)
            with pytest.raises(StorageUnavailable):
                await log.seek_time(A.index, 0)

        _run_store(make_store, scenario)

    def test_retaining_removes_every_other_stream(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            for stream in (STREAM, OTHER):
                await put(await store.open(stream), rows(A, [b"kept"]))
            await store.retain([STREAM])
            assert values_of(await read_all(await store.open(STREAM), A)) == [b"kept"]
            assert (await store.open(OTHER)).bounds(A.index) == Bounds(0, 0)

        _run_store(make_store, scenario)

    def test_closing_finishes_what_was_appended_and_refuses_the_rest(self, make_store: MakeStore) -> None:
        async def scenario(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            told: list[BaseException | None] = []
            for _ in range(3):
                log.append([rows(A, [b"1"])]).then(told.append)
            waiting = asyncio.ensure_future(log.wait(A.index, 99))
            await asyncio.sleep(0)
            await store.close()
            assert told == [None, None, None]
            with pytest.raises(StorageUnavailable):
                log.append([rows(A, [b"2"])])
            with pytest.raises(StorageUnavailable):
                await waiting

        _run_store(make_store, scenario)


class DurableLogStoreContract(LogStoreContract):
    """More promises, of stores that outlive their process: whatever `make_store` makes finds what the last one kept."""

    def test_records_offsets_and_times_are_found_again(self, make_store: MakeStore) -> None:
        async def write(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            await put(log, rows(A, [b"1", b"2"]), rows(B, [b"b"]))
            clock.step(1000)
            await put(log, table(A, [b"3"]))

        async def read(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            assert values_of(await read_all(log, A)) == [b"1", b"2", b"3"]
            assert values_of(await read_all(log, B)) == [b"b"]
            assert await log.seek_time(A.index, START_MS + 1) == 2
            append = log.append([rows(A, [b"4"])])
            await append.wait()
            assert append.placed(0) == (3, START_MS + 1000)  # the new clock is behind the old one

        _run_store(make_store, write)
        _run_store(make_store, read)

    def test_offsets_go_on_after_everything_was_trimmed(self, make_store: MakeStore) -> None:
        async def write(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            await put(log, rows(A, [b"old"] * 5))
            clock.step(1000)
            await _trim_all(log, clock)

        async def read(store: LogStore, clock: ManualClock) -> None:
            log = await store.open(STREAM)
            assert log.bounds(A.index) == Bounds(5, 5)
            assert await log.read(A.index, 0, records_max=1, bytes_max=1) == []

        _run_store(make_store, write)
        _run_store(make_store, read)

    def test_a_deleted_stream_is_not_found_again(self, make_store: MakeStore) -> None:
        async def write(store: LogStore, clock: ManualClock) -> None:
            for stream in (STREAM, OTHER):
                await put(await store.open(stream), rows(A, [b"x"]))
            await store.delete(STREAM)

        async def read(store: LogStore, clock: ManualClock) -> None:
            assert (await store.open(STREAM)).bounds(A.index) == Bounds(0, 0)
            await store.retain([])
            assert (await store.open(OTHER)).bounds(A.index) == Bounds(0, 0)

        _run_store(make_store, write)
        _run_store(make_store, read)


# -- how it is done --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _opened(make_store: MakeStore, clock: ManualClock) -> AsyncIterator[LogStore]:
    store = make_store(clock)
    try:
        yield store
    finally:
        await store.close()


def _run_store(make_store: MakeStore, scenario: Callable[[LogStore, ManualClock], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with asyncio.timeout(_PATIENCE_S), _opened(make_store, clock) as store:
            await scenario(store, clock)

    asyncio.run(main())


def _run_timed(make_store: MakeStore, scenario: Callable[[StreamLog, ManualClock], Coroutine[Any, Any, None]]) -> None:
    async def main(store: LogStore, clock: ManualClock) -> None:
        await scenario(await store.open(STREAM), clock)

    _run_store(make_store, main)


def _run_log(make_store: MakeStore, scenario: Callable[[StreamLog], Coroutine[Any, Any, None]]) -> None:
    _run_timed(make_store, lambda log, _: scenario(log))


async def _trim_all(log: StreamLog, clock: ManualClock) -> None:
    """A store may need to be asked more than once: it removes whole segments, and one may have to be closed first."""
    for _ in range(100):
        await log.trim(clock.now_ms())
        first, next_offset = log.bounds(A.index)
        if first == next_offset:
            return
        await asyncio.sleep(0.01)
    pytest.fail("records older than the trim time are never removed")


def _fitting(sizes: Sequence[int], bytes_max: int) -> int:
    count = total = 0
    for size in sizes:
        total += size + len(b"key")
        if count and total > bytes_max:
            break
        count += 1
    return count


def _lies_in(buffer: Any, view: memoryview) -> bool:
    import pyarrow as pa

    whole = pa.py_buffer(view)
    return bool(whole.address <= buffer.address and buffer.address + buffer.size <= whole.address + whole.size)
