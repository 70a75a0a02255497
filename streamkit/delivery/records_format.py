"""Sealed objects of destinations that take records: an Arrow IPC file with the columns `rows.IPC_SCHEMA`.

The file form, not the stream form: its footer is written last, so that a file that was cut off is seen to be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from streamkit.delivery.formats import Written
from streamkit.delivery.rows import IPC_SCHEMA
from streamkit.model.limits import RECORDS_BATCH_BYTES, RECORDS_BATCH_RECORDS_MAX

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class RecordsEncoder:
    """See `formats.Encoder`. Pieces have the schema IPC_SCHEMA; small ones are joined to batches of about 1 MiB, so
    that a reader holds about so much at a time, unless a piece was larger."""

    def write(self, pieces: Iterable[pa.RecordBatch], path: Path) -> Written:
        with path.open("wb") as file:
            with pa.ipc.new_file(file, IPC_SCHEMA, options=_OPTIONS) as writer:
                for batch in _joined(pieces):
                    writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
            return Written(file.tell(), "")


def read_records(path: Path) -> Iterator[pa.RecordBatch]:
    """The records of a file, in order, batch by batch. Raises OSError, also for a file that is not whole."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
    except pa.ArrowInvalid as error:
        raise OSError(f"{path} is not a whole file of records: {error}") from error


def _joined(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held: list[pa.RecordBatch] = []
    held_bytes = held_records = 0
    for piece in pieces:
        assert piece.schema.equals(IPC_SCHEMA), piece.schema
        if not piece.num_rows:
            continue
        held.append(piece)
        held_bytes += piece.get_total_buffer_size()
        held_records += piece.num_rows
        if held_bytes >= RECORDS_BATCH_BYTES or held_records >= RECORDS_BATCH_RECORDS_MAX:
            yield _one(held)
            held, held_bytes, held_records = [], 0, 0
    if held:
        yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
