"""Puts rows that were read one by one back among those that were read as columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from streamkit_sql.tables.source import Int64s

_SLICES_MAX = 64
"""Up to so many replaced rows the others are left where they are, as slices; beyond, all are copied."""


def splice(
    fast: pa.Table | None, count: int, replaced: np.ndarray, exact: pa.Table, origins: Int64s
) -> tuple[pa.Table, Int64s | None]:
    """`exact` has the rows that came from `replaced`, as many each as there are in `origins`, both rising; `fast` has
    `count` rows, of which those stay that are not replaced. Without `fast` all are. Answers the rows in order, and
    where each came from (None: row by row)."""
    if fast is None:
        is_identity = len(origins) == count and bool((origins == np.arange(count)).all())
        return exact, None if is_identity else origins
    kept = np.ones(count, np.bool_)
    kept[replaced] = False
    stay = np.flatnonzero(kept)
    everything = np.concatenate([stay, origins])
    order = np.argsort(everything, kind="stable")
    where = everything[order].astype(np.int64)
    if len(replaced) <= _SLICES_MAX:
        table = _sliced(fast, replaced, exact, origins)
    else:
        table = pa.concat_tables([fast.filter(pa.array(kept)), exact]).take(pa.array(order)).combine_chunks()
    is_identity = len(where) == count and bool((where == np.arange(count)).all())
    return table, None if is_identity else where


def _sliced(fast: pa.Table, replaced: np.ndarray, exact: pa.Table, origins: Int64s) -> pa.Table:
    parts = []
    done = given = 0
    for row in replaced.tolist():
        parts.append(fast.slice(done, row - done))
        done = row + 1
        stop = int(np.searchsorted(origins, row, side="right"))
        parts.append(exact.slice(given, stop - given))
        given = stop
    parts.append(fast.slice(done))
    return pa.concat_tables([part for part in parts if part.num_rows] or [fast.slice(0, 0)])
