"""The Python functions of the cases, as Flink takes them."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

from pyflink.common import Row  # type: ignore[import-not-found]
from pyflink.table import AggregateFunction, DataTypes  # type: ignore[import-not-found]
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


@udf(result_type=DataTypes.STRING())  # type: ignore[untyped-decorator]
def described(value: Any) -> str:
    """What a value is in Python."""
    return f"{type(value).__name__} {value}"


class Path(AggregateFunction):  # type: ignore[misc]
    """The values of a group in the order of arrival, without those that went."""

    def create_accumulator(self) -> list[str]:
        return [""]

    def accumulate(self, accumulator: list[str], value: Any) -> None:
        accumulator[0] += f"{value};"

    def retract(self, accumulator: list[str], value: Any) -> None:
        accumulator[0] = accumulator[0].replace(f"{value};", "", 1)

    def get_value(self, accumulator: list[str]) -> str:
        return accumulator[0]

    def get_result_type(self) -> Any:
        return DataTypes.STRING()

    def get_accumulator_type(self) -> Any:
        return DataTypes.ARRAY(DataTypes.STRING())


path = udaf(Path())


@udf(result_type=DataTypes.DECIMAL(10, 1))  # type: ignore[untyped-decorator]
def as_decimal(text: str) -> decimal.Decimal:
    """The number a text stands for."""
    return decimal.Decimal(text)


@udf(result_type=DataTypes.TIMESTAMP(3))  # type: ignore[untyped-decorator]
def next_day(value: datetime.datetime) -> datetime.datetime:
    """The same time a day later."""
    return value + datetime.timedelta(days=1)


@udf(result_type=DataTypes.ROW([DataTypes.FIELD("a", DataTypes.BIGINT()), DataTypes.FIELD("b", DataTypes.STRING())]))  # type: ignore[untyped-decorator]
def pair(number: int, text: str) -> Any:
    """Both as one row."""
    return Row(number, text)


@udf(result_type=DataTypes.ARRAY(DataTypes.STRING()))  # type: ignore[untyped-decorator]
def letters(text: str) -> list[str]:
    """Of a text, in order."""
    return list(text)


@udf(result_type=DataTypes.MAP(DataTypes.STRING(), DataTypes.BIGINT()))  # type: ignore[untyped-decorator]
def lengths(text: str) -> dict[str, int]:
    """How long a text is, by the text."""
    return {text: len(text)}


@udf(result_type=DataTypes.STRING())  # type: ignore[untyped-decorator]
def in_order(text: str) -> str:
    """The parts of a text, sorted."""
    return ";".join(sorted(text.split(";")))
