"""Dynamic partitioning: which records belong together.

A delivery stream has no more than 500 active partitions (Firehose developer guide, "Understand dynamic partitioning":
a partition is active while there is a buffer for it); what goes beyond is delivered to the error output, under
`activePartitionExceeded`. The message is AWS's; the code is as users quote it.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery.processor import Partition
from streamkit.delivery.rows import Rows

ACTIVE_PARTITIONS_EXCEEDED: Final = (
    "activePartitionExceeded",
    "DynamicPartitioning.ActivePartitionsLimitExceeded",
    "The number of active partitions has exceeded the configured limit",
)
"""Error type, code and message of the records that come when all partitions are taken."""


def partitions(rows: Rows) -> list[Partition]:
    """The rows by the values of all their keys, in the order in which each combination first comes. Without keys all
    rows are one partition."""
    if not rows.keys:
        return [Partition({}, pa.array(range(len(rows)), pa.int64()))] if len(rows) else []
    codes = _codes(list(rows.keys.values()))
    order = pc.array_sort_indices(codes).cast(pa.int64())  # stable, so rows stay in order
    start = 0
    found: list[Partition] = []
    counted = pc.value_counts(codes)  # codes are numbered in the order of their first rows, and so are these
    for count in counted.field("counts").to_pylist():
        indices = order.slice(start, count)
        first = indices[0].as_py()
        found.append(Partition({name: column[first].as_py() for name, column in rows.keys.items()}, indices))
        start += count
    return found


def _codes(columns: list[Any]) -> Any:
    """A number for each combination of values, from 0 on, in the order in which they first come."""
    encoded = [column.dictionary_encode() for column in columns]
    codes = encoded[0].indices
    size = len(encoded[0].dictionary)
    for each in encoded[1:]:
        both = pc.add(pc.multiply(codes.cast(pa.int64()), len(each.dictionary)), each.indices.cast(pa.int64()))
        combined = both.dictionary_encode()
        codes, size = combined.indices, len(combined.dictionary)
    assert size <= len(columns[0])
    return codes
