"""Buffers of a delivery stream: when they are ripe, what they hold, and that nothing gets lost on its way to disk."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from streamkit.delivery import buffers as module
from streamkit.delivery.buffers import Buffer, BufferKey, Buffers, Piece, Role
from streamkit.delivery.destination import Range
from streamkit.delivery.plan import Buffering
from streamkit.delivery.state import SpoolPiece

MAIN: Final = BufferKey("main")


def piece(*values: bytes, key: BufferKey = MAIN, arrived_at_ms: int = 0) -> Piece:
    batch = pa.RecordBatch.from_arrays([pa.array(list(values), pa.binary())], ["data"])
    return Piece(key, batch, sum(map(len, values)), arrived_at_ms)


def of_one(size_bytes: int, interval_ms: int, *, grain_ms: int = 0) -> Buffers:
    roles: tuple[Role, ...] = ("main", "error", "backup")
    return Buffers(dict.fromkeys(roles, Buffering(size_bytes, interval_ms)), grain_ms=grain_ms)


def values(buffer: Buffer) -> list[bytes]:
    return [value for batch in buffer.batches for value in batch.column("data").to_pylist()]


# -- ripe --------------------------------------------------------------------------------------------------------------


def test_a_buffer_is_ripe_by_its_size_or_its_age() -> None:
    """
    size 10      0 ──9 bytes──▶ not yet ──1 byte──▶ ripe
    interval 60  opened at 100 ──▶ 159 not yet ──▶ 160 ripe
    """
    buffers = of_one(10, 60)
    buffers.add(piece(b"123456789"), [], 100)
    assert not buffers.ripe(159)
    assert buffers.due_at_ms() == 160
    assert buffers.ripe(160)
    buffers.add(piece(b"0"), [], 150)
    (ripe,) = buffers.ripe(151)
    assert ripe.opened_at_ms == 100


def test_an_interval_of_zero_is_over_at_once() -> None:
    """Also for a record without bytes."""
    buffers = of_one(10, 0)
    buffers.add(piece(b""), [], 100)
    assert buffers.ripe(100)


def test_partitions_become_due_together() -> None:
    """Each that is sealed costs all the others a piece of a spool file: so they are sealed at few instants.

    opened  ──a(3)──b(9)────c(21)──────
    due     ────────────────────────40(a, b)──50(c)   with an interval of 30 and a grain of 10
    """
    buffers = of_one(1_000, 30, grain_ms=10)
    for name, opened_at_ms in (("a", 3), ("b", 9), ("c", 21)):
        buffers.add(piece(b"x", key=BufferKey("main", "", (("k", name),))), [], opened_at_ms)
    assert buffers.due_at_ms() == 40
    assert not buffers.ripe(39)
    assert {dict(each.key.partition)["k"] for each in buffers.ripe(40)} == {"a", "b"}
    assert len(buffers.ripe(60)) == 3


@given(st.integers(0, 10**6), st.integers(8, 900_000))
def test_the_grain_delays_by_an_eighth_at_most(opened_at_ms: int, interval_ms: int) -> None:
    """AWS says of partitions that it may be half of the interval."""
    buffers = of_one(1_000, interval_ms, grain_ms=interval_ms // 8)
    buffers.add(piece(b"x"), [], opened_at_ms)
    due_at_ms = buffers.due_at_ms()
    assert due_at_ms is not None
    assert interval_ms <= due_at_ms - opened_at_ms <= interval_ms * 9 // 8
    assert not buffers.ripe(due_at_ms - 1)
    assert buffers.ripe(due_at_ms)


def test_a_clock_that_is_set_back_costs_one_interval_at_most() -> None:
    """An hour back must not keep a buffer for an hour."""
    buffers = of_one(1_000, 60)
    buffers.add(piece(b"x"), [], 3_600_000)
    assert not buffers.ripe(1_000)
    assert buffers.due_at_ms() == 1_060
    assert buffers.ripe(1_060)


def test_the_room_that_is_left_is_that_of_the_fullest() -> None:
    """Error documents and backups do not count."""
    buffers = of_one(10, 60)
    assert buffers.room_bytes() == 10
    buffers.add(piece(b"1234"), [], 0)
    buffers.add(piece(b"12", key=BufferKey("main", "", (("k", "v"),))), [], 0)
    buffers.add(piece(b"12345678", key=BufferKey("error", "x")), [], 0)
    assert buffers.room_bytes() == 6


# -- what is held ------------------------------------------------------------------------------------------------------


def test_columns_of_little_data_count_as_what_they_are() -> None:
    """A table of a thousand columns takes 8 KiB for each `{}`: memory is bounded by that, not by two bytes."""
    batch = pa.RecordBatch.from_arrays([pa.array([1] * 100, pa.int64())] * 50, [f"c{each}" for each in range(50)])
    buffers = of_one(10**9, 60)
    buffers.add(Piece(MAIN, batch, 200, 0), [], 0)
    assert buffers.held_bytes >= 100 * 50 * 8
    assert next(iter(buffers)).data_bytes == 200


def test_a_record_a_second_for_a_day_is_few_batches() -> None:
    """Each batch takes some KiB however small it is."""
    buffers = of_one(10**9, 10**9)
    for second in range(86_400):
        buffers.add(piece(b"%06d" % second), [Range(0, second, second)], 0)
    (buffer,) = buffers
    assert len(buffer.batches) < 200
    assert values(buffer) == [b"%06d" % second for second in range(86_400)]
    assert buffer.ranges_list() == [Range(0, 0, 86_399)]


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=30), st.integers(1, 200))
def test_small_batches_are_joined_for_their_encoder(rows: list[list[bytes]], bytes_max: int) -> None:
    """Nothing is lost or moved, and no two that follow each other could have been one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DELIVERY_BATCHES_BYTES_MAX", bytes_max)
        buffer = Buffer(MAIN, 0, 0)
        for each in rows:
            buffer.add(piece(*each), [])
        joined = list(buffer.joined())
        assert [row for each in joined for row in each.column("data").to_pylist()] == [
            row for each in rows for row in each
        ]
        sizes = [each.nbytes for each in joined]
        assert all(one + next_one > bytes_max for one, next_one in pairwise(sizes))
        assert max(sizes, default=0) <= max([bytes_max, *(piece(*each).batch.nbytes for each in rows)])


def test_what_a_batch_takes_is_not_asked_again() -> None:
    """A window of a chunk counts as what it is told to take, or as its records where those are more."""
    buffers = of_one(10**9, 60)
    buffers.add(piece(b"abc")._replace(batch_bytes=1_000), [], 0)
    assert buffers.held_bytes == 1_000
    buffers.add(piece(b"abc")._replace(batch_bytes=1), [], 0)
    assert buffers.held_bytes == 1_003


class BuffersOnTheirWay(RuleBasedStateMachine):
    """Rows that are added, frozen, spooled and taken, against lists."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "DELIVERY_BATCHES_MAX", 3)
        self.patch.setattr(module, "DELIVERY_BATCHES_BYTES_MAX", 40)
        self.buffers = of_one(30, 100)
        self.rows: dict[BufferKey, list[bytes]] = {}
        self.on_disk: dict[int, list[list[bytes]]] = {}  # a spool file: groups of rows
        self.freeze: list[tuple[Buffer, list[Any], int]] | None = None
        self.number = 0
        self.now_ms = 0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(name=st.sampled_from("ab"), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4))
    def add(self, name: str, sizes: list[int]) -> None:
        key = BufferKey("main", "", (("k", name),))
        made = []
        for size in sizes:
            self.number += 1
            made.append(b"%d:" % self.number + b"x" * size)
        self.buffers.add(piece(*made, key=key, arrived_at_ms=self.number), [Range(0, self.number, self.number)], 0)
        self.rows.setdefault(key, []).extend(made)

    @precondition(lambda self: self.freeze is None)
    @rule()
    def freeze_all(self) -> None:
        self.freeze = [(each, self.buffers.frozen(each), each.held_bytes) for each in self.buffers]

    @precondition(lambda self: self.freeze is not None)
    @rule()
    def spool_all(self) -> None:
        assert self.freeze is not None
        spool = len(self.on_disk)
        self.on_disk[spool] = []
        for buffer, batches, held_bytes in self.freeze:
            if batches:
                place = len(self.on_disk[spool])
                self.on_disk[spool].append([row for each in batches for row in each.column("data").to_pylist()])
                self.buffers.spooled(buffer, held_bytes, SpoolPiece(spool, place))
        self.freeze = None

    @precondition(lambda self: self.freeze is None)
    @rule()
    def take_ripe(self) -> None:
        ripe = self.buffers.ripe(0)
        self.buffers.take(ripe)
        for buffer in ripe:
            self.check(buffer)
            del self.rows[buffer.key]

    @precondition(lambda self: self.freeze is None)
    @rule()
    def crash(self) -> None:
        """What is in memory is gone, and what is on disk comes back."""
        states = []
        for buffer in self.buffers:
            kept = [row for each in buffer.pieces for row in self.on_disk[each.spool][each.index]]
            if not kept:
                del self.rows[buffer.key]
                continue
            self.rows[buffer.key] = kept
            state = buffer.state(buffer.pieces)
            states.append(replace(state, data_bytes=sum(map(len, kept)), records_count=len(kept)))
        self.buffers = of_one(30, 100)
        self.buffers.restore(states)

    @invariant()
    def holds_everything(self) -> None:
        assert {each.key for each in self.buffers} == self.rows.keys()
        for buffer in self.buffers:
            self.check(buffer)
        held = sum(batch.nbytes for each in self.buffers for batch in each.batches)
        assert (self.buffers.held_bytes == 0) == (held == 0)
        assert self.buffers.held_bytes == sum(each.held_bytes for each in self.buffers)

    def check(self, buffer: Buffer) -> None:
        spooled = [row for each in buffer.pieces for row in self.on_disk[each.spool][each.index]]
        assert spooled + values(buffer) == self.rows[buffer.key]
        assert buffer.data_bytes == sum(map(len, self.rows[buffer.key]))
        assert buffer.records_count == len(self.rows[buffer.key])


TestBuffersOnTheirWay = BuffersOnTheirWay.TestCase
TestBuffersOnTheirWay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- keys --------------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["main", "error", "backup"]),
    st.text(),
    st.lists(st.tuples(st.text(), st.text()), max_size=3),
    st.text(),
)
def test_a_key_is_read_as_it_was_written(role: Role, error_type: str, partition: list[Any], schema: str) -> None:
    """Whatever the values of partitions are."""
    key = BufferKey(role, error_type, tuple(partition), schema)
    assert BufferKey.parse(key.text()) == key
