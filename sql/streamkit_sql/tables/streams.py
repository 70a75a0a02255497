"""Streams as tables: every shard is a split, and a split's positions are offsets.

Shards are read side by side, parents beside children: rows are taken in by their arrival, and what a child has arrived
after everything in its parents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa

from streamkit.model.names import shard_id
from streamkit_sql.errors import SqlError
from streamkit_sql.tables.source import SourceBatch

if TYPE_CHECKING:
    from streamkit.kit.backend import Backend
    from streamkit.model.batch import RecordBatch

Start = Literal["TRIM_HORIZON", "LATEST"] | int
SETTLE_MS: Final = 10
"""How much later than its arrival a record may become readable: it is given its arrival time when its round is written,
and read when that is synced. Only matters for shards without new records beside shards that have some."""


class StreamSource:
    """See `streamkit_sql.tables.source.TableSource`."""

    def __init__(self, backend: Backend, stream: str, start: Start, *, is_bounded: bool = False) -> None:
        """`start` as a number is epoch ms. With `is_bounded` a split ends where the stream ended when it was first
        read."""
        self.is_bounded = is_bounded
        self._backend = backend
        self._stream = stream
        self._start = start
        self._firsts: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._known: list[str] = []
        self._is_begun = False

    def begin(self, start: Start | None, *, is_bounded: bool) -> None:
        """What whoever asks wants, over what the table says. Before the first read."""
        if start is not None:
            self._start = start
        self.is_bounded = is_bounded

    def go_on(self) -> None:
        """See `runtime.driver.Beginning`."""
        self._is_begun = True

    def first_position(self, split: str) -> str:
        return str(self._firsts[split])

    async def splits(self) -> Sequence[str]:
        """Those that can be read; shards that a reshard has made since are among them."""
        info = await self._backend.describe(self._stream)
        for shard in info.shards:
            split = str(shard.index)
            if split in self._known:
                continue
            self._known.append(split)
            if self._is_begun and self._start == "LATEST":
                self._firsts[split] = 0  # it came to be while we read: all of it is new
            elif self._start == "LATEST":
                self._firsts[split] = await self._backend.seek(self._stream, shard.index, None)
            elif isinstance(self._start, int):
                self._firsts[split] = await self._backend.seek(self._stream, shard.index, self._start)
            else:
                self._firsts[split] = 0
            if self.is_bounded:
                self._ends[split] = await self._backend.seek(self._stream, shard.index, None)
        self._is_begun = True
        return self._known

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        shard = int(split)
        offset = self._firsts[split] if position is None else int(position)
        end = self._ends.get(split)
        if end is not None and offset >= end:
            return None
        found = await self._backend.read(
            self._stream, {shard: offset}, records_max=rows_max, bytes_max=bytes_max, wait_ms=0
        )
        batches = [batch for batch in found.batches if len(batch)]
        if end is not None:
            batches = [b if b.next_offset <= end else b.slice(0, len(b) - (b.next_offset - end)) for b in batches]
            batches = [batch for batch in batches if len(batch)]
        return _joined(split, batches) if batches else None

    async def wait(self, positions: dict[str, str | None], wait_ms: int) -> None:
        """Returns when a split has something behind its position, or after `wait_ms`."""
        offsets = {
            int(split): self._firsts[split] if position is None else int(position)
            for split, position in positions.items()
        }
        if not offsets:
            await asyncio.sleep(wait_ms / 1000)
            return
        await self._backend.read(self._stream, offsets, records_max=1, bytes_max=1, wait_ms=wait_ms)


def _joined(split: str, batches: Sequence[RecordBatch]) -> SourceBatch:
    """Record batches of one shard as one: payloads are the log's own bytes where there is but one."""
    tables = [batch.to_arrow() for batch in batches]
    table = pa.Table.from_batches(tables).combine_chunks() if len(tables) > 1 else pa.Table.from_batches(tables)
    arrivals = table["arrived_at"].chunk(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    single = batches[0].arrived_at_ms if len(batches) == 1 and batches[0].arrivals_ms is None else None
    first = batches[0]
    return SourceBatch(
        split,
        table["data"].chunk(0),
        single if single is not None else np.ascontiguousarray(arrivals, np.int64),
        str(batches[-1].next_offset),
        {
            "shard-id": shard_id(first.shard_index),
            "shard-created-s": first.shard_created_s,  # with these an offset is a sequence number
            "shard-index": first.shard_index,
            "partition-key": table["partition_key"].chunk(0),
            "offset": table["offset"].chunk(0),
            "timestamp": table["arrived_at"].chunk(0),
        },
    )


def starting(options: Mapping[str, str]) -> Start:
    """What Flink's `scan.stream.initpos` says: LATEST unless told otherwise."""
    text = options.get("scan.stream.initpos", "LATEST")
    if text in ("LATEST", "TRIM_HORIZON"):
        return "LATEST" if text == "LATEST" else "TRIM_HORIZON"
    if text != "AT_TIMESTAMP":
        raise SqlError(f"'scan.stream.initpos' is {text!r}; it is LATEST, TRIM_HORIZON or AT_TIMESTAMP.")
    at = options.get("scan.stream.initpos-timestamp")
    if at is None:
        raise SqlError("'scan.stream.initpos' = 'AT_TIMESTAMP' needs 'scan.stream.initpos-timestamp'.")
    try:
        return round(float(at) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise SqlError(f"'scan.stream.initpos-timestamp' is {at!r}: neither epoch seconds nor a time.") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
