"""The library's promises, kept by a data directory in this process and by a running server alike."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pytest

import streamkit
from streamkit import Kit, RecordBatch, StreamkitError
from streamkit.model import errors
from streamkit.model.hashkey import HASH_KEY_MAX, digest_of
from streamkit.testing.server import ServerProcess

T = TypeVar("T")
Work = Callable[[Kit], Coroutine[Any, Any, T]]


class Place(Protocol):
    """Where a kit's streams are; `restart` ends the process that has them, and begins anew."""

    @property
    def where(self) -> str | Path: ...

    def restart(self) -> None: ...


class Directory:
    def __init__(self, path: Path) -> None:
        self.where: str | Path = path

    def restart(self) -> None:
        """Each kit opens the directory anew."""


class Served:
    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    @property
    def where(self) -> str | Path:
        return self._server.endpoint

    def restart(self) -> None:
        self._server.kill()
        self._server.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("kit") / "data", allow_reset=True) as process:
        yield process


@pytest.fixture(params=["directory", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Directory(tmp_path / "data")
    process: ServerProcess = request.getfixturevalue("server")
    process.reset()
    return Served(process)


def run(place: Place, work: Work[T]) -> T:
    async def within() -> T:
        async with streamkit.open(place.where) as kit:
            return await asyncio.wait_for(work(kit), 20)

    return asyncio.run(within())


async def read_all(kit: Kit, stream: str, name: str = "reader", **options: Any) -> list[RecordBatch]:
    return [batch async for batch in kit.consumer(stream, name, follow=False, **options)]


def data_of(batches: Sequence[RecordBatch]) -> list[bytes]:
    return [bytes(value) for batch in batches for value in batch.values()]


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_as_it_was_asked_for(place: Place) -> None:
    async def work(kit: Kit) -> None:
        made = await kit.create_stream("clicks", shards=3, retention_hours=48, tags={"team": "web"})
        assert made == await kit.describe("clicks")
        assert (made.name, made.status, made.mode, made.retention_hours) == ("clicks", "ACTIVE", "PROVISIONED", 48)
        assert [shard.shard_id for shard in made.open_shards] == [f"shardId-{index:012d}" for index in range(3)]
        assert (made.shards[0].first_hash_key, made.shards[-1].last_hash_key) == (0, HASH_KEY_MAX)

    run(place, work)


def test_streams_are_listed_by_name_until_they_are_deleted(place: Place) -> None:
    async def work(kit: Kit) -> None:
        assert await kit.streams() == []
        for name in ("b", "c", "a"):
            await kit.create_stream(name)
        assert await kit.streams() == ["a", "b", "c"]
        await kit.delete_stream("b")
        assert await kit.streams() == ["a", "c"]

    run(place, work)


def test_a_name_that_is_taken_is_refused_unless_that_is_fine(place: Place) -> None:
    async def work(kit: Kit) -> None:
        made = await kit.create_stream("s", shards=2)
        with pytest.raises(errors.ResourceInUse, match=r"Stream s .* already exists"):
            await kit.create_stream("s")
        assert await kit.create_stream("s", shards=5, retention_hours=72, exist_ok=True) == made

    run(place, work)


def test_a_stream_created_again_is_empty_and_knows_no_checkpoints(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put("s", "old", partition_key="k")
        consumer = kit.consumer("s", "c", follow=False)
        async for batch in consumer:
            await consumer.checkpoint(batch)
        await kit.delete_stream("s")
        await kit.create_stream("s")
        await kit.put("s", "new", partition_key="k")
        assert data_of(await read_all(kit, "s", "c")) == [b"new"]

    run(place, work)


def test_every_call_on_a_stream_that_is_not_there_says_so(place: Place) -> None:
    async def work(kit: Kit) -> None:
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: kit.describe("nope"),
            lambda: kit.delete_stream("nope"),
            lambda: kit.put("nope", "x", partition_key="k"),
            lambda: kit.put_many("nope", [("k", "x")]),
            lambda: kit.put_table("nope", table_of(["k"], [b"x"])),
            lambda: kit.split_shard("nope", 0),
            lambda: read_all(kit, "nope"),
        ]
        for call in calls:
            with pytest.raises(errors.ResourceNotFound, match="nope"):
                await call()

    run(place, work)


# -- puts ------------------------------------------------------------------------------------------------------------


def table_of(keys: Sequence[str], values: Sequence[bytes]) -> pa.Table:
    return pa.table({"partition_key": pa.array(keys, pa.string()), "data": pa.array(values, pa.binary())})


def test_a_put_says_where_the_record_is_found(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=4)
        before_ms = time.time() * 1000 - 1
        placed = [await kit.put("s", f"value {n}", partition_key=f"key {n}") for n in range(20)]
        found = {
            (batch.shard_id, record.sequence_number): record
            for batch in await read_all(kit, "s")
            for record in batch.records()
        }
        assert len(found) == 20
        for n, place_ in enumerate(placed):
            record = found[place_]
            assert (record.partition_key, record.data) == (f"key {n}", f"value {n}".encode())
            assert before_ms <= record.arrived_at_ms <= time.time() * 1000

    run(place, work)


def test_many_records_are_placed_in_the_order_they_were_given(place: Place) -> None:
    """10,000 records are more than one request takes."""
    records = [(f"key {n % 100}", f"{n}".encode()) for n in range(10_000)]

    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=3)
        placed = await kit.put_many("s", records)
        found = {
            (batch.shard_id, number): bytes(value)
            for batch in await read_all(kit, "s")
            for number, value in zip(batch.sequence_numbers(), batch.values(), strict=True)
        }
        assert [found[each] for each in placed] == [value for _, value in records]
        assert await kit.put_many("s", []) == []

    run(place, work)


def test_an_explicit_hash_key_chooses_the_shard(place: Place) -> None:
    async def work(kit: Kit) -> None:
        info = await kit.create_stream("s", shards=4)
        for shard in info.shards:
            for hash_key in (shard.first_hash_key, shard.last_hash_key):
                placed = await kit.put("s", "x", partition_key="same", explicit_hash_key=hash_key)
                assert placed.shard_id == shard.shard_id

    run(place, work)


def test_a_table_is_put_whole_and_each_row_in_the_shard_of_its_key(place: Place) -> None:
    """70,000 rows are more than one commit takes."""
    keys = [f"key {n % 977}" for n in range(70_000)]
    table = pa.table({"user": keys, "text": [f"{n}" for n in range(70_000)], "other": range(70_000)})

    async def work(kit: Kit) -> None:
        info = await kit.create_stream("s", shards=2)
        assert await kit.put_table("s", table, key="user", data="text") == 70_000
        assert await kit.put_table("s", table.slice(5, 0), key="user", data="text") == 0
        per_key: dict[str, list[int]] = {}
        for batch in await read_all(kit, "s"):
            shard = info.shards[batch.shard_index]
            for key, value in zip(batch.partition_keys(), batch.values(), strict=True):
                assert shard.first_hash_key <= int.from_bytes(digest_of(key.encode()), "big") <= shard.last_hash_key
                per_key.setdefault(key, []).append(int(bytes(value)))
        assert per_key == {f"key {k}": list(range(k, 70_000, 977)) for k in range(977)}

    run(place, work)


def test_a_table_may_be_larger_than_what_may_wait_for_the_disk(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        large = pa.table({"partition_key": ["k"] * 72, "data": [bytes([n]) * 1024 * 1024 for n in range(72)]})
        assert await kit.put_table("s", large) == 72
        assert [bytes(value[:1])[0] for batch in await read_all(kit, "s") for value in batch.values()] == [*range(72)]

    run(place, work)


def test_unicode_and_empty_and_binary_data_come_back_as_they_were(place: Place) -> None:
    records = [("ключ", "значение".encode()), ("🔑" * 256, b""), ("\0", bytes(range(256))), (" ", b"\n")]

    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put_many("s", records)
        await kit.put_table("s", table_of([key for key, _ in records], [value for _, value in records]))
        found = [record for batch in await read_all(kit, "s") for record in batch.records()]
        assert [(record.partition_key, record.data) for record in found] == records * 2

    run(place, work)


@pytest.mark.parametrize(
    ("key", "what"), [("", "this one has 0"), ("k" * 257, "this one has 257")], ids=["empty", "too long"]
)
def test_a_partition_key_of_a_wrong_length_is_refused_before_anything_is_put(place: Place, key: str, what: str) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        with pytest.raises(errors.UsageError, match=f"1 to 256 characters; {what}"):
            await kit.put("s", "x", partition_key=key)
        with pytest.raises(errors.UsageError, match=what):
            await kit.put_many("s", [("good", "x"), (key, "x")])
        with pytest.raises(errors.UsageError, match="1 to 256 characters"):
            await kit.put_table("s", table_of(["good", key], [b"x", b"y"]))
        assert await read_all(kit, "s") == []

    run(place, work)


def test_a_record_over_the_limit_is_refused_by_every_put_and_nothing_is_stored(place: Place) -> None:
    large = bytes((1 << 20) + 1)

    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        with pytest.raises(errors.ValidationError, match="less than or equal to 1048576"):
            await kit.put("s", large, partition_key="k")
        with pytest.raises(errors.ValidationError, match=r"records\.2\.data"):
            await kit.put_many("s", [("k", b"fits"), ("k", large)])
        with pytest.raises(errors.ValidationError, match=r"records\.2\.data"):
            await kit.put_table("s", table_of(["k", "k"], [b"fits", large]))
        assert await read_all(kit, "s") == []
        await kit.put("s", large[1:], partition_key="k")
        assert [len(value) for value in data_of(await read_all(kit, "s"))] == [1 << 20]

    run(place, work)


def test_a_table_without_the_right_columns_is_refused_with_what_it_has(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        good = table_of(["k"], [b"x"])
        with pytest.raises(errors.UsageError, match=r"no column 'user'.*it has partition_key, data"):
            await kit.put_table("s", good, key="user")
        with pytest.raises(errors.UsageError, match="'data' has 1 nulls"):
            await kit.put_table("s", pa.table({"partition_key": ["a"], "data": pa.array([None], pa.binary())}))
        with pytest.raises(errors.UsageError, match="'data' is int64"):
            await kit.put_table("s", pa.table({"partition_key": ["a"], "data": [1]}))

    run(place, work)


# -- consumers -------------------------------------------------------------------------------------------------------


def test_a_consumer_goes_on_behind_its_checkpoint_after_a_restart(place: Place) -> None:
    async def first(kit: Kit) -> list[bytes]:
        await kit.create_stream("s")
        await kit.put_many("s", [("k", str(n)) for n in range(100)])
        consumer = kit.consumer("s", "c", follow=False, batch_records_max=10)
        taken: list[RecordBatch] = []
        async for batch in consumer:
            taken.append(batch)
            if len(taken) == 4:
                await consumer.checkpoint(taken[2])  # the fourth was handed out, and is not done
                break
        return data_of(taken[:3])

    done = run(place, first)
    assert done == [str(n).encode() for n in range(30)]
    place.restart()

    async def second(kit: Kit) -> list[bytes]:
        return data_of(await read_all(kit, "s", "c"))

    assert run(place, second) == [str(n).encode() for n in range(30, 100)]


def test_a_checkpoint_without_a_batch_covers_all_that_was_handed_out(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=4)
        await kit.put_many("s", [(f"key {n}", str(n)) for n in range(100)])
        consumer = kit.consumer("s", "c", follow=False)
        assert len(data_of([batch async for batch in consumer])) == 100
        await consumer.checkpoint()
        await consumer.checkpoint()  # with nothing to remember
        await kit.put("s", "later", partition_key="k")
        assert data_of(await read_all(kit, "s", "c")) == [b"later"]

    run(place, work)


def test_two_consumers_each_read_everything_and_keep_their_own_place(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=2)
        await kit.put_many("s", [(f"key {n}", str(n)) for n in range(50)])
        one = kit.consumer("s", "one", follow=False)
        async for _ in one:
            pass
        await one.checkpoint()
        assert await read_all(kit, "s", "one") == []
        assert sorted(map(int, data_of(await read_all(kit, "s", "two")))) == list(range(50))

    run(place, work)


def test_a_batch_holds_records_of_one_shard_and_no_more_than_asked_for(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=2)
        await kit.put_many("s", [(f"key {n}", str(n)) for n in range(100)])
        batches = await read_all(kit, "s", batch_records_max=7)
        assert {batch.shard_index for batch in batches} == {0, 1}
        assert all(1 <= len(batch) <= 7 for batch in batches)
        assert sum(map(len, batches)) == 100

    run(place, work)


def test_parents_are_read_to_their_end_before_their_children(place: Place) -> None:
    """Put, split, put, merge the children, put: the records of every key come in the order they were put."""

    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        sent = 0

        async def put() -> None:
            nonlocal sent
            await kit.put_many("s", [(f"key {n % 10}", str(n)) for n in range(sent, sent + 100)])
            sent += 100

        await put()
        split = await kit.split_shard("s", 0)
        assert [(shard.index, shard.parents, shard.is_open) for shard in split.shards] == [
            (0, (), False),
            (1, (0,), True),
            (2, (0,), True),
        ]
        await put()
        merged = await kit.merge_shards("s", 1, 2)
        assert [(shard.index, shard.parents) for shard in merged.open_shards] == [(3, (1, 2))]
        await put()
        batches = await read_all(kit, "s", batch_records_max=30)
        order = list(dict.fromkeys(batch.shard_index for batch in batches))
        assert (order[0], sorted(order[1:3]), order[3]) == (0, [1, 2], 3)
        per_key: dict[str, list[int]] = {}
        for record in (record for batch in batches for record in batch.records()):
            per_key.setdefault(record.partition_key, []).append(int(record.data))
        assert per_key == {f"key {k}": list(range(k, 300, 10)) for k in range(10)}

    run(place, work)


def test_a_checkpoint_in_a_parent_leads_on_to_its_children_after_a_restart(place: Place) -> None:
    async def first(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put_many("s", [("k", "0"), ("k", "1")])
        consumer = kit.consumer("s", "c", follow=False, batch_records_max=1)
        async for batch in consumer:
            await consumer.checkpoint(batch)
            break
        await kit.update_shard_count("s", 2)
        await kit.put("s", "2", partition_key="k")

    run(place, first)
    place.restart()
    assert run(place, lambda kit: _data(kit, "c")) == [b"1", b"2"]


async def _data(kit: Kit, name: str) -> list[bytes]:
    return data_of(await read_all(kit, "s", name))


def test_a_reader_that_follows_goes_over_to_the_children_of_a_reshard(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put("s", "before", partition_key="k")
        batches = aiter(kit.consumer("s", "c"))
        assert data_of([await anext(batches)]) == [b"before"]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.1)
        await kit.split_shard("s", 0)
        await kit.put("s", "after", partition_key="k")
        found = await asyncio.wait_for(waiting, 5)
        assert (data_of([found]), found.shard_index in (1, 2)) == ([b"after"], True)

    run(place, work)


def test_a_reader_from_latest_gets_only_what_comes_later_within_milliseconds(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s", shards=2)
        await kit.put("s", "old", partition_key="k")
        batches = aiter(kit.consumer("s", "c", start="LATEST"))
        delays = []
        for n in range(20):
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.1 if n == 0 else 0.01)  # it is known where the tip is, and the reader waits
            placed_at = asyncio.ensure_future(_put_at(kit, str(n)))
            found = await asyncio.wait_for(waiting, 5)
            delays.append(time.monotonic() - await placed_at)
            assert data_of([found]) == [str(n).encode()]
        assert sorted(delays)[len(delays) // 2] < 0.05  # a poll would be hundreds of milliseconds

    run(place, work)


async def _put_at(kit: Kit, data: str) -> float:
    await kit.put("s", data, partition_key="k")
    return time.monotonic()


def test_a_reader_from_a_time_begins_at_the_first_record_that_arrived_then(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put("s", "before", partition_key="k")
        await asyncio.sleep(0.02)
        start = datetime.now(UTC)
        await asyncio.sleep(0.02)
        await kit.put("s", "after", partition_key="k")
        assert data_of(await read_all(kit, "s", start=start)) == [b"after"]
        assert data_of(await read_all(kit, "s", start=start.astimezone().replace(tzinfo=None))) == [b"after"]
        assert data_of(await read_all(kit, "s", start=start - timedelta(hours=1))) == [b"before", b"after"]
        assert await read_all(kit, "s", start=start + timedelta(hours=1)) == []

    run(place, work)


def test_the_start_counts_only_where_the_name_has_no_checkpoint(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put_many("s", [("k", "0"), ("k", "1")])
        consumer = kit.consumer("s", "c", follow=False, batch_records_max=1)
        async for batch in consumer:
            await consumer.checkpoint(batch)
            break
        assert data_of(await read_all(kit, "s", "c", start="LATEST")) == [b"1"]

    run(place, work)


def test_a_batch_is_an_arrow_batch(place: Place) -> None:
    async def work(kit: Kit) -> None:
        await kit.create_stream("s")
        await kit.put_table("s", table_of(["a", "b", "c"], [b"1", b"2", b"3"]))
        (batch,) = await read_all(kit, "s")
        arrow = batch.slice(1, 3).to_arrow()
        assert arrow.schema.names == ["partition_key", "data", "offset", "arrived_at"]
        assert (arrow["partition_key"].to_pylist(), arrow["data"].to_pylist()) == (["b", "c"], [b"2", b"3"])
        assert arrow["offset"].to_pylist() == [1, 2]

    run(place, work)


# -- without await ---------------------------------------------------------------------------------------------------


def test_the_blocking_calls_do_what_the_awaited_ones_do(place: Place) -> None:
    with streamkit.open_blocking(place.where) as kit:
        kit.create_stream("s", shards=1)
        placed = kit.put("s", "0", partition_key="k", explicit_hash_key=0)
        assert placed.shard_id == "shardId-000000000000"
        assert len(kit.put_many("s", ((f"k{n}", str(n)) for n in range(1, 5)))) == 4
        assert kit.put_table("s", table_of(["k"], [b"5"])) == 1
        consumer = kit.consumer("s", "c", follow=False)
        batches = list(consumer)
        assert data_of(batches) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        consumer.checkpoint()
        assert consumer.behind_ms == 0
        assert list(kit.consumer("s", "c", follow=False)) == []
        kit.split_shard("s", 0)
        assert len(kit.merge_shards("s", 1, 2).open_shards) == 1
        assert len(kit.update_shard_count("s", 2).open_shards) == len(kit.describe("s").open_shards) == 2
        kit.delete_stream("s")
        assert kit.streams() == []
        with pytest.raises(errors.ResourceNotFound):
            kit.describe("s")


def test_a_blocking_kit_may_be_used_from_several_threads(place: Place) -> None:
    with streamkit.open_blocking(place.where) as kit:
        kit.create_stream("s", shards=2)

        def put(thread: int) -> None:
            for n in range(25):
                kit.put("s", f"{thread}/{n}", partition_key=f"key {thread}")

        threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = data_of(list(kit.consumer("s", "c", follow=False)))
        assert sorted(found) == sorted(f"{thread}/{n}".encode() for thread in range(4) for n in range(25))


def test_closing_a_blocking_kit_ends_a_reader_that_nobody_goes_on_with(place: Place) -> None:
    began = time.monotonic()
    with streamkit.open_blocking(place.where) as kit:
        kit.create_stream("s")
        kit.put("s", "x", partition_key="k")
        for batch in kit.consumer("s", "c"):
            assert data_of([batch]) == [b"x"]
            break
    assert time.monotonic() - began < 5


def test_closing_a_blocking_kit_ends_what_another_thread_waits_for(place: Place) -> None:
    ended: list[BaseException] = []

    def read(kit: streamkit.BlockingKit) -> None:
        try:
            list(kit.consumer("s", "c", start="LATEST"))
        except BaseException as error:
            ended.append(error)

    with streamkit.open_blocking(place.where) as kit:
        kit.create_stream("s")
        thread = threading.Thread(target=read, args=(kit,))
        thread.start()
        time.sleep(0.2)  # it waits for records
    thread.join(5)
    assert not thread.is_alive()
    assert len(ended) == 1


# -- both alike ------------------------------------------------------------------------------------------------------


def test_a_directory_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with streamkit.open(tmp_path / "data"):
            with pytest.raises(errors.DataDirectoryInUse, match=r"data is in use by process \d+; stop it"):
                async with streamkit.open(tmp_path / "data"):
                    pass
        async with streamkit.open(tmp_path / "data"):
            pass

    asyncio.run(work())


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    async def work() -> None:
        async with streamkit.open("http://127.0.0.1:9") as kit:
            with pytest.raises(errors.ServerUnreachable, match=r"127\.0\.0\.1:9 .*is `streamkit serve` running\?"):
                await kit.streams()

    asyncio.run(work())


def test_the_same_calls_give_the_same_results_and_errors_in_both_places(tmp_path: Path, server: ServerProcess) -> None:
    server.reset()
    directory = run(Directory(tmp_path / "data"), _transcript)
    assert directory == run(Served(server), _transcript)
    assert len([line for line in directory if line.startswith("error")]) == 8


async def _transcript(kit: Kit) -> list[str]:
    """What a caller sees of a long list of calls, without what depends on the time."""
    seen: list[str] = []

    async def note(call: Coroutine[Any, Any, object]) -> None:
        try:
            seen.append(_without_times(await call))
        except StreamkitError as error:
            seen.append(f"error {type(error).__name__} {error.code} {error}")

    await note(kit.create_stream("s", shards=2, tags={"a": "b"}))
    await note(kit.create_stream("s"))
    await note(kit.create_stream("not a name"))
    await note(kit.create_stream("t", shards=0))
    await note(kit.put_many("s", [(f"key {n}", str(n)) for n in range(9)]))
    await note(kit.put_table("s", table_of(["a", "b"], [b"1", b"2"])))
    await note(kit.put("s", bytes(1 << 21), partition_key="k"))
    await note(kit.put("gone", b"", partition_key="k"))
    await note(kit.split_shard("s", 1))
    await note(kit.split_shard("s", 1))
    await note(kit.merge_shards("s", 0, 3))
    await note(kit.update_shard_count("s", 100))
    await note(kit.put("s", "after", partition_key="key 1"))
    await note(kit.describe("s"))
    batches = await read_all(kit, "s", batch_records_max=4)
    batches.sort(key=lambda batch: (batch.shard_index, batch.first_offset))
    seen += (f"{each.shard_id} {each.first_offset} {each.partition_keys()} {data_of([each])}" for each in batches)
    return seen


def _without_times(result: object) -> str:
    if isinstance(result, streamkit.StreamInfo):
        return f"{result.name} {result.arn} {result.status} {result.retention_hours} {result.shards}"
    if isinstance(result, streamkit.Placement):
        return result.shard_id
    if isinstance(result, list):
        return str([_without_times(each) for each in result])
    return str(result)
