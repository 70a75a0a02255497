"""Mappings and their progress on disk: all of it or nothing, and nothing of a mapping that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.control import ControlFile
from streamkit.mappings.state import (
    LaneProgress,
    MappingPending,
    MappingSettings,
    MappingState,
    Seal,
    ShardProgress,
    SliceProgress,
    WindowProgress,
)
from streamkit.mappings.store import MappingStore
from streamkit.model.errors import StorageUnavailable

SETTINGS = MappingSettings("arn:aws:lambda:us-east-1:000000000000:function:f", filters=['{"data":{"ü":[1]}}'])


def mapping(mapping_id: str, created_at_ms: int = 1) -> MappingState:
    return MappingState(
        mapping_id,
        "000000000000",
        "us-east-1",
        "arn:aws:kinesis:us-east-1:000000000000:stream/s",
        "AT_TIMESTAMP",
        SETTINGS,
        "Updating",
        created_at_ms,
        2,
        starting_at_ms=1,
        pending=MappingPending(5, msgspec.structs.replace(SETTINGS, enabled=False)),
        tags={"k": "v"},
    )


def progress(shard_index: int, next_offset: int = 7) -> ShardProgress:
    lane = LaneProgress(next_offset, [SliceProgress(7, 9, 1, 2)], WindowProgress(60_000, '{"n": 1}', attempts=1))
    seal = Seal(0, "id", "RetryAttemptsExhausted", 3, 4, "{}", "name", since='{"at": 1}')
    return ShardProgress(shard_index=shard_index, generation=2, incarnation="i", lanes=[lane], seals=[seal])


def save(store: MappingStore, mapping_id: str, parts: Sequence[ShardProgress]) -> None:
    async def main() -> None:
        await store.save_progress_soon(mapping_id, parts)

    asyncio.run(main())


def test_everything_of_a_mapping_is_there_after_a_restart_oldest_first(tmp_path: Path) -> None:
    file = ControlFile(tmp_path / "c.sqlite")
    store = MappingStore(file)
    for state in (mapping("a", 9), mapping("b", 3), mapping("c", 3)):
        store.save(state)
    save(store, "a", [progress(0), progress(3)])
    file.close()
    reopened = MappingStore(ControlFile(tmp_path / "c.sqlite"))
    assert reopened.mappings() == [mapping("b", 3), mapping("c", 3), mapping("a", 9)]
    assert reopened.load_progress("a") == {0: progress(0), 3: progress(3)}
    assert reopened.load_progress("b") == {}


def test_a_mapping_is_replaced_as_a_whole() -> None:
    store = MappingStore(ControlFile(None))
    store.save(mapping("a"))
    changed = msgspec.structs.replace(mapping("a"), pending=None, status="Disabled")
    store.save(changed)
    assert store.mappings() == [changed]


def test_a_mapping_is_deleted_with_its_progress_and_no_other_s() -> None:
    store = MappingStore(ControlFile(None))
    for each in ("a", "b"):
        store.save(mapping(each))
        save(store, each, [progress(0)])
    store.delete("a")
    assert [state.id for state in store.mappings()] == ["b"]
    assert (store.load_progress("a"), store.load_progress("b")) == ({}, {0: progress(0)})


def test_progress_that_is_saved_after_its_mapping_was_deleted_is_not_kept() -> None:
    store = MappingStore(ControlFile(None))
    store.save(mapping("a"))

    async def main() -> None:
        saved = store.save_progress_soon("a", [progress(0)])
        store.delete("a")
        await saved

    asyncio.run(main())
    assert store.load_progress("a") == {}


def test_deleting_progress_keeps_the_mapping() -> None:
    store = MappingStore(ControlFile(None))
    store.save(mapping("a"))
    save(store, "a", [progress(0)])
    store.delete_progress("a")
    assert (store.load_progress("a"), len(store.mappings())) == ({}, 1)


def test_what_is_saved_is_what_was_given_also_if_its_lists_change_afterwards() -> None:
    store = MappingStore(ControlFile(None))
    store.save(mapping("a"))
    given = progress(0)

    async def main() -> None:
        saved = store.save_progress_soon("a", [given])
        given.lanes.clear()
        await saved

    asyncio.run(main())
    assert store.load_progress("a") == {0: progress(0)}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 9)), max_size=8))
def test_of_several_saves_in_one_transaction_the_last_one_counts(saves: list[tuple[str, int, int]]) -> None:
    store = MappingStore(ControlFile(None))
    for each in "ab":
        store.save(mapping(each))

    async def main() -> None:
        await asyncio.gather(*{store.save_progress_soon(name, [progress(*part)]) for name, *part in saves})

    asyncio.run(main())
    expected: dict[str, dict[int, ShardProgress]] = {"a": {}, "b": {}}
    for name, shard_index, next_offset in saves:
        expected[name][shard_index] = progress(shard_index, next_offset)
    assert {each: store.load_progress(each) for each in "ab"} == expected


def test_whoever_waits_for_a_save_hears_that_the_disk_refused_it(tmp_path: Path) -> None:
    file = ControlFile(tmp_path / "c.sqlite")
    store = MappingStore(file)
    store.save(mapping("a"))
    other = ControlFile(tmp_path / "c.sqlite")
    file.db.execute("pragma busy_timeout = 1")
    other.db.execute("begin immediate")
    with pytest.raises(StorageUnavailable):
        save(store, "a", [progress(0)])
    with pytest.raises(StorageUnavailable):
        store.delete("a")
    other.db.execute("rollback")
    assert (store.load_progress("a"), len(store.mappings())) == ({}, 1)
    save(store, "a", [progress(0)])
    assert store.load_progress("a") == {0: progress(0)}


def test_a_state_saved_meanwhile_is_not_written_over_by_a_lazy_save() -> None:
    store = MappingStore(ControlFile(None))
    states = {"a": mapping("a")}

    async def main() -> None:
        saved = store.save_soon(states.values)
        states["a"] = msgspec.structs.replace(states["a"], last_result="OK", pending=None)
        store.save(states["a"])
        await saved

    asyncio.run(main())
    assert store.mappings() == [states["a"]]
