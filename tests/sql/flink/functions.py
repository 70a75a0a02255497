"""The Python functions of the cases, as Flink takes them."""

from __future__ import annotations

from typing import Any

from pyflink.table import DataTypes  # type: ignore[import-not-found]
from pyflink.table.udf import udaf, udf  # type: ignore[import-not-found]


@udf(result_type=DataTypes.BIGINT())  # type: ignore[untyped-decorator]
def count_char(text: str | None, letter: str) -> int | None:
    """How often a letter occurs in a text; NULL of NULL."""
    return None if text is None else text.count(letter)


@udf(result_type=DataTypes.DOUBLE(), func_type="pandas")  # type: ignore[untyped-decorator]
def fahrenheit(celsius: Any) -> Any:
    """The temperature in the other scale, of a column at once."""
    return celsius * 1.8 + 32


@udaf(result_type=DataTypes.DOUBLE(), func_type="pandas")  # type: ignore[untyped-decorator]
def spread(values: Any) -> Any:
    """The distance between the least and the greatest of the values, of a column at once."""
    return values.max() - values.min()
