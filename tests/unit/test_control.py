"""The control plane's memory: what was saved is there after a restart, all of it or nothing."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from streamkit.model.errors import DataDirectoryInUse, StorageUnavailable, UsageError
from streamkit.model.names import Scope, StreamArn, StreamId
from streamkit.streams.control import Checkpoint, ControlStore
from streamkit.streams.directory import DataDirectory
from streamkit.streams.service import Checkpoints
from streamkit.streams.state import ConsumerState, Pending, Reshard, ShardState, StreamState
from streamkit.testing.clock import ManualClock

ID = StreamId("ab" * 16)
OTHER = StreamId("cd" * 16)


def state(stream: StreamId = ID) -> StreamState:
    top = str(2**128 - 1)
    return StreamState(
        stream,
        "000000000000",
        "us-east-1",
        "s",
        "UPDATING",
        5,
        [ShardState(0, 1, "0", top, 2, closed_at_ms=3, ending_sequence_number="9" * 56, end_offset=7)],
        tags={"k": "ü"},
        consumers={"c": ConsumerState("c", 1, 2)},
        pending=Pending(9, [Reshard([0], [("0", "4"), ("5", top)])], 48),
        shard_count_updates_ms=[1, 2],
    )


def test_everything_of_a_stream_is_there_after_a_restart(tmp_path: Path) -> None:
    store = ControlStore(tmp_path / "c.sqlite")
    store.save_stream(state())
    store.close()
    assert ControlStore(tmp_path / "c.sqlite").streams() == [state()]


def test_a_stream_is_deleted_with_its_checkpoints_and_no_others(tmp_path: Path) -> None:
    store = ControlStore(tmp_path / "c.sqlite")
    for stream in (ID, OTHER):
        store.save_stream(state(stream))
        store.save_checkpoints([Checkpoint("c", stream, 0, "5", 1)])
    store.delete_stream(ID)
    assert store.streams() == [state(OTHER)]
    assert (store.checkpoints("c", ID), store.checkpoints("c", OTHER)) == ({}, {0: "5"})
    assert store.all_checkpoints() == [Checkpoint("c", OTHER, 0, "5", 1)]


def test_the_secret_is_kept_from_the_first_start_on(tmp_path: Path) -> None:
    assert ControlStore(tmp_path / "c.sqlite").secret(b"first") == b"first"
    assert ControlStore(tmp_path / "c.sqlite").secret(b"second") == b"first"


def test_a_change_that_cannot_be_stored_says_so_and_changes_nothing(tmp_path: Path) -> None:
    store = ControlStore(tmp_path / "c.sqlite")
    store.save_stream(state())
    other = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)
    store._db.execute("pragma busy_timeout = 1")
    other.execute("begin immediate")
    with pytest.raises(StorageUnavailable, match="Nothing was changed"):
        store.delete_stream(ID)
    other.execute("rollback")
    assert store.streams() == [state()]
    store.delete_stream(ID)
    assert store.streams() == []
    other.close()


def test_checkpoints_that_fail_half_way_are_not_saved_at_all() -> None:
    store = ControlStore(None)
    broken = Checkpoint("c", ID, 1, None, 1)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.save_checkpoints([Checkpoint("c", ID, 0, "5", 1), broken])
    assert store.checkpoints("c", ID) == {}


def test_whoever_waits_for_a_checkpoint_hears_of_any_failure() -> None:
    async def main() -> None:
        checkpoints = Checkpoints(ControlStore(None), ManualClock())
        with pytest.raises(sqlite3.IntegrityError):
            await asyncio.wait_for(checkpoints.save("c", ID, {0: None}), 5)  # type: ignore[dict-item]
        await checkpoints.save("c", ID, {0: "5", 1: "6"})
        assert checkpoints.load("c", ID) == {0: "5", 1: "6"}

    asyncio.run(main())


def test_a_store_of_another_schema_is_not_touched(tmp_path: Path) -> None:
    store = ControlStore(tmp_path / "c.sqlite")
    store._db.execute("update meta set value = 99 where key = 'schema_version'")
    store.close()
    with pytest.raises(UsageError, match="schema 99"):
        ControlStore(tmp_path / "c.sqlite")


def test_one_process_has_a_data_directory_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        first = DataDirectory(tmp_path, random_source=random.Random(1))
        await first.start()
        await first.streams.create(StreamArn(Scope("0" * 12, "r"), "s"), shards_count=1)
        with pytest.raises(DataDirectoryInUse, match="process"):
            await DataDirectory(tmp_path).start()
        await first.close()
        second = DataDirectory(tmp_path)
        await second.start()
        assert [stream.state.name for stream in second.streams.all()] == ["s"]
        await second.close()

    asyncio.run(main())
