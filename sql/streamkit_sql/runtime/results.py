"""Rows that leave the engine, in the Arrow types that users see."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamkit_sql.expressions.bound import Column


def to_arrow(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """The columns in `SqlType.arrow`'s types; `$w`, where there is one, stays as it is."""
    made = [_cast(rows.column(index), column) for index, column in enumerate(columns)]
    names = [column.name for column in columns]
    if rows.num_columns > len(columns):
        made.append(rows.column(len(columns)))
        names.append("$w")
    return pa.table(made, names)


def _cast(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    wanted = column.type.arrow
    # Digits beyond a timestamp's precision are none by its type; Arrow would ask for each.
    return values if values.type == wanted else values.cast(wanted, safe=not column.type.is_timestamp)
