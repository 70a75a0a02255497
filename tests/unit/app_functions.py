"""Handlers that an environment of its own can import. What they saw stands in the file that `SEEN` names."""

from __future__ import annotations

import json
import os
from typing import Any

from streamkit import RecordBatch
from streamkit.model import sequence


def note(what: Any) -> None:
    """One line, in one write: environments may write at once."""
    with open(os.environ["SEEN"], "ab", buffering=0) as file:
        file.write(json.dumps(what).encode() + b"\n")


def tell_batch(batch: RecordBatch, context: object) -> None:
    """All that a batch says of its records."""
    arrow = batch.to_arrow()
    note(
        {
            "pid": os.getpid(),
            "shard": batch.shard_id,
            "keys": batch.partition_keys(),
            "data": [bytes(value).decode() for value in batch.values()],
            "offsets": [batch.offset(index) for index in range(len(batch))],
            "numbers": batch.sequence_numbers(),
            "arrivals": batch.arrivals(),
            "records": [[record.partition_key, record.data.decode(), *record[2:]] for record in batch.records()],
            "tail": batch.slice(len(batch) // 2, len(batch)).sequence_numbers(),
            "last": batch.last_sequence_number,
            "next": batch.next_offset,
            "arrow": [
                arrow["partition_key"].to_pylist(),
                [value.decode() for value in arrow["data"].to_pylist()],
                arrow["offset"].to_pylist(),
                [at.timestamp() * 1000 for at in arrow["arrived_at"].to_pylist()],
            ],
        }
    )


def tell_event(event: Any, context: Any) -> Any:
    """An event, the function's name, and a variable of its own."""
    note({"pid": os.getpid(), "event": event, "name": context.function_name, "variable": os.environ.get("COLOUR")})
    return event


def offset_of(sequence_number: str) -> int:
    position = sequence.parse(sequence_number)
    assert position is not None
    return position.offset


def trace_header(event: Any, context: object) -> str | None:
    """What the handler's own spans would have as their parent."""
    return os.environ.get("_X_AMZN_TRACE_ID")
