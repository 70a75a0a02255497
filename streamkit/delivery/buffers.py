"""What was processed and is not sealed yet: a buffer for each output, error type and partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa

from streamkit.delivery.destination import Range
from streamkit.delivery.plan import Buffering
from streamkit.delivery.state import BufferState, SpoolPiece
from streamkit.model.limits import DELIVERY_BATCHES_BYTES_MAX, DELIVERY_BATCHES_MAX

Role = Literal["main", "error", "backup"]


class BufferKey(NamedTuple):
    """What goes into one object. `schema` tells records of one table version from those of the next."""

    role: Role
    error_type: str = ""
    partition: tuple[tuple[str, str], ...] = ()
    schema: str = ""

    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> BufferKey:
        return msgspec.json.decode(text, type=cls)


class Piece(NamedTuple):
    """Some rows for one buffer, in order. `data_bytes` are the records' own, before conversion; `batch_bytes` what the
    batch takes, where that was asked before: asking costs as much as all else that is done for a small piece."""

    key: BufferKey
    batch: pa.RecordBatch
    data_bytes: int
    arrived_at_ms: int  # of the oldest
    batch_bytes: int | None = None


@dataclass(slots=True)
class Buffer:
    """Rows for one object: the first of them perhaps on disk, the others in memory."""

    key: BufferKey
    opened_at_ms: int
    arrived_at_ms: int
    records_count: int = 0
    data_bytes: int = 0
    held_bytes: int = 0  # of `batches`
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    pieces: list[SpoolPiece] = field(default_factory=list)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # bytes of each of `batches`
    frozen_count: int = 0  # of `batches`: the first ones, which are being written to a spool file

    def add(self, piece: Piece, ranges: Iterable[Range]) -> int:
        """Returns how much more memory that takes."""
        self.arrived_at_ms = min(self.arrived_at_ms, piece.arrived_at_ms)
        self.records_count += piece.batch.num_rows
        self.data_bytes += piece.data_bytes
        batch_bytes = int(piece.batch.nbytes) if piece.batch_bytes is None else piece.batch_bytes
        held_bytes = max(piece.data_bytes, batch_bytes)  # columns of little data may be many
        self.held_bytes += held_bytes
        self.batches.append(piece.batch)
        self.sizes.append(batch_bytes)
        self._join_small()
        for shard, first, last in ranges:
            known = self.ranges.get(shard)
            self.ranges[shard] = (first, last) if known is None else (min(known[0], first), max(known[1], last))
        return held_bytes

    def _join_small(self) -> None:
        """A record a second for hours would be as many batches, each of some KiB however small its record."""
        if (len(self.batches) - self.frozen_count) % DELIVERY_BATCHES_MAX:
            return
        size = sum(self.sizes[-DELIVERY_BATCHES_MAX:])
        if size <= DELIVERY_BATCHES_BYTES_MAX:
            self.batches[-DELIVERY_BATCHES_MAX:] = [pa.concat_batches(self.batches[-DELIVERY_BATCHES_MAX:])]
            self.sizes[-DELIVERY_BATCHES_MAX:] = [size]

    def joined(self) -> Iterator[pa.RecordBatch]:
        """The batches, in order, small ones joined: to encode a batch costs the same for each column, however few its
        rows are."""
        start = size = 0
        for place, each in enumerate(self.sizes):
            if size + each > DELIVERY_BATCHES_BYTES_MAX and place > start:
                yield _one(self.batches[start:place])
                start, size = place, 0
            size += each
        if start < len(self.batches):
            yield _one(self.batches[start:])

    def due_at_ms(self, buffering: Buffering, grain_ms: int) -> int:
        due_ms = self.opened_at_ms + buffering.interval_ms
        return due_ms if grain_ms <= 1 else -(-due_ms // grain_ms) * grain_ms

    def ranges_list(self) -> list[Range]:
        return [Range(shard, *bounds) for shard, bounds in sorted(self.ranges.items())]

    def state(self, pieces: Sequence[SpoolPiece]) -> BufferState:
        """As it is now, when `pieces` have all of its rows."""
        return BufferState(
            self.key.text(),
            self.opened_at_ms,
            self.arrived_at_ms,
            self.records_count,
            self.data_bytes,
            self.ranges_list(),
            list(pieces),
        )

    @classmethod
    def of(cls, state: BufferState) -> Buffer:
        return cls(
            BufferKey.parse(state.key),
            state.opened_at_ms,
            state.arrived_at_ms,
            state.records_count,
            state.data_bytes,
            0,
            {each.shard: (each.first, each.last) for each in state.ranges},
            list(state.pieces),
        )


class Buffers:
    """All buffers of a delivery stream. Not ordered; a buffer is there from its first row until it is taken."""

    def __init__(self, buffering: Mapping[Role, Buffering], *, grain_ms: int = 0) -> None:
        """`grain_ms`: buffers become due at its multiples only. Each that is sealed costs all others a piece of a spool
        file; so they had better be sealed together."""
        self._buffering = buffering
        self._grain_ms = grain_ms
        self._buffers: dict[BufferKey, Buffer] = {}
        self.held_bytes = 0  # in memory

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Buffer]:
        return iter(self._buffers.values())

    def restore(self, states: Iterable[BufferState]) -> None:
        for state in states:
            buffer = Buffer.of(state)
            self._buffers[buffer.key] = buffer

    def add(self, piece: Piece, ranges: Iterable[Range], opened_at_ms: int) -> None:
        """`opened_at_ms`: when its first record was read; counts where the piece opens a buffer."""
        buffer = self._buffers.get(piece.key)
        if buffer is None:
            buffer = self._buffers[piece.key] = Buffer(piece.key, opened_at_ms, piece.arrived_at_ms)
        self.held_bytes += buffer.add(piece, ranges)

    def room_bytes(self) -> int:
        """How much more the fullest buffer of the main output takes until it is ripe."""
        fullest = max((each.data_bytes for each in self._buffers.values() if each.key.role == "main"), default=0)
        return self._buffering["main"].size_bytes - fullest

    def ripe(self, now_ms: int, *, everything: bool = False) -> list[Buffer]:
        """Those that are to be sealed now; they stay until `take`."""
        ripe = []
        for buffer in self._buffers.values():
            buffering = self._buffering[buffer.key.role]
            buffer.opened_at_ms = min(buffer.opened_at_ms, now_ms)  # the clock was set back: it must not wait for that
            if (
                everything
                or buffer.data_bytes >= buffering.size_bytes
                or buffer.due_at_ms(buffering, self._grain_ms) <= now_ms
            ):
                ripe.append(buffer)
        return ripe

    def take(self, buffers: Iterable[Buffer]) -> None:
        """Those leave: what comes next for their keys opens others."""
        for buffer in buffers:
            del self._buffers[buffer.key]
            self.held_bytes -= buffer.held_bytes

    def frozen(self, buffer: Buffer) -> list[pa.RecordBatch]:
        """The batches it holds in memory, which stay as they are until `spooled`."""
        buffer.frozen_count = len(buffer.batches)
        return list(buffer.batches)

    def spooled(self, buffer: Buffer, held_bytes: int, piece: SpoolPiece) -> None:
        """What `frozen` gave is on disk now, as `piece`; it was `held_bytes`."""
        del buffer.batches[: buffer.frozen_count], buffer.sizes[: buffer.frozen_count]
        buffer.frozen_count = 0
        buffer.held_bytes -= held_bytes
        buffer.pieces.append(piece)
        self.held_bytes -= held_bytes

    def due_at_ms(self) -> int | None:
        """When the next buffer is ripe by its age; None where there is none."""
        dues = (each.due_at_ms(self._buffering[each.key.role], self._grain_ms) for each in self._buffers.values())
        return min(dues, default=None)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
