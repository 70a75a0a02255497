"""What DuckDB cannot compute: decimal arithmetic beyond its 38 digits, and texts of bytes that are none.

Where a result's type was cut to 38 digits, the exact result has more of them before it is rounded, as Flink's
BigDecimal has. Numbers that are small enough are left to DuckDB; for the rest its texts call functions of this module,
which `install` registers. Values go in and out as texts: that is slow, exact and the same for all types.
"""

from __future__ import annotations

import decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import duckdb

ARITHMETIC: Final = "flink_decimal_arithmetic"
"""(operator, a, b, precision, scale): the result as a text, NULL where it has no room."""
COMPARISON: Final = "flink_decimal_comparison"
"""(a, b): -1, 0 or 1."""
UTF_8: Final = "flink_utf_8"
"""(bytes): their text, with U+FFFD for what is none."""
NAMES: Final = (ARITHMETIC, COMPARISON, UTF_8)
_QUOTIENT_DIGITS: Final = 38  # of Flink's DecimalDataUtils.divide before it rounds to the result's scale
_EXACT: Final = decimal.Context(prec=160, rounding=decimal.ROUND_HALF_UP)


def arithmetic(operator: str, a: str | None, b: str | None, precision: int, scale: int) -> str | None:
    """Of two decimal texts, rounded half up. Raises ZeroDivisionError as Flink fails."""
    if a is None or b is None:
        return None
    x, y = decimal.Decimal(a), decimal.Decimal(b)
    if operator in "/%" and not y:
        raise ZeroDivisionError("Division by zero")
    match operator:
        case "+":
            result = _EXACT.add(x, y)
        case "-":
            result = _EXACT.subtract(x, y)
        case "*":
            result = _EXACT.multiply(x, y)
        case "/":
            result = decimal.Context(prec=_QUOTIENT_DIGITS, rounding=decimal.ROUND_HALF_UP).divide(x, y)
        case _:
            result = _EXACT.remainder(x, y)
    rounded = result.quantize(decimal.Decimal(1).scaleb(-scale), context=_EXACT)
    if rounded and rounded.adjusted() + 1 > precision - scale:
        return None
    return f"{rounded:f}"


def comparison(a: str | None, b: str | None) -> int | None:
    """Of two decimal texts."""
    if a is None or b is None:
        return None
    return int(decimal.Decimal(a).compare(decimal.Decimal(b), context=_EXACT))


def utf_8(value: bytes) -> str:
    """As Java's decoder, which replaces."""
    return value.decode("utf-8", "replace")


def install(database: duckdb.DuckDBPyConnection) -> None:
    """Registers the functions; once per database."""
    from duckdb.func import FunctionNullHandling

    # SPECIAL: only so may a function give NULL for values that are not.
    special = FunctionNullHandling.SPECIAL
    database.create_function(
        ARITHMETIC,
        arithmetic,
        ["VARCHAR", "VARCHAR", "VARCHAR", "INTEGER", "INTEGER"],
        "VARCHAR",
        null_handling=special,
    )
    database.create_function(COMPARISON, comparison, ["VARCHAR", "VARCHAR"], "INTEGER", null_handling=special)
    database.create_function(UTF_8, utf_8, ["BLOB"], "VARCHAR")
