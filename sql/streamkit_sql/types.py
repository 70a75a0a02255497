"""Flink's data types, and what DuckDB and Arrow store for them.

Rules: "Data Types" of Flink's documentation. Two representations differ from the obvious: TIMESTAMP_LTZ is kept as
DuckDB's plain TIMESTAMP in UTC (so that windows and arithmetic are one code for both, and only casts and printing know
the session's zone), and intervals are numbers: months as INTEGER, milliseconds as BIGINT, as Flink keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa


class Kind(Enum):
    BOOLEAN = "BOOLEAN"
    TINYINT = "TINYINT"
    SMALLINT = "SMALLINT"
    INTEGER = "INT"
    BIGINT = "BIGINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    CHAR = "CHAR"
    VARCHAR = "VARCHAR"
    BINARY = "BINARY"
    VARBINARY = "VARBINARY"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"
    INTERVAL_MONTHS = "INTERVAL YEAR TO MONTH"
    INTERVAL_MS = "INTERVAL DAY TO SECOND"
    ARRAY = "ARRAY"
    MAP = "MAP"
    MULTISET = "MULTISET"
    ROW = "ROW"
    NULL = "NULL"


STRING_LENGTH: Final = 2_147_483_647
"""STRING is VARCHAR of this length; BYTES is VARBINARY of it."""

INTEGERS: Final = (Kind.TINYINT, Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT)
APPROXIMATE: Final = (Kind.FLOAT, Kind.DOUBLE)
EXACT: Final = (*INTEGERS, Kind.DECIMAL)
NUMBERS: Final = (*EXACT, *APPROXIMATE)
TEXTS: Final = (Kind.CHAR, Kind.VARCHAR)
BYTES: Final = (Kind.BINARY, Kind.VARBINARY)
TIMESTAMPS: Final = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
INTERVALS: Final = (Kind.INTERVAL_MONTHS, Kind.INTERVAL_MS)


@dataclass(frozen=True, slots=True)
class Field:
    """Of a ROW."""

    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class SqlType:
    """`length` is of texts and bytes, `precision` of DECIMAL, TIME and timestamps (digits of a second)."""

    kind: Kind
    nullable: bool = True
    length: int = 0
    precision: int = 0
    scale: int = 0
    element: SqlType | None = None  # ARRAY, MULTISET; a MAP's values
    key: SqlType | None = None  # MAP
    fields: tuple[Field, ...] = ()  # ROW

    def __str__(self) -> str:
        """As Flink prints it: `DECIMAL(10, 2) NOT NULL`."""
        return self._text() + ("" if self.nullable else " NOT NULL")

    def _text(self) -> str:
        kind = self.kind
        if kind is Kind.DECIMAL:
            return f"DECIMAL({self.precision}, {self.scale})"
        if kind in TEXTS or kind in BYTES:
            if self.length == STRING_LENGTH and kind in (Kind.VARCHAR, Kind.VARBINARY):
                return "STRING" if kind is Kind.VARCHAR else "BYTES"
            return f"{kind.value}({self.length})"
        if kind is Kind.TIME or kind in TIMESTAMPS:
            return f"{kind.value}({self.precision})"
        if kind in (Kind.ARRAY, Kind.MULTISET):
            return f"{kind.value}<{self.element}>"
        if kind is Kind.MAP:
            return f"MAP<{self.key}, {self.element}>"
        if kind is Kind.ROW:
            return f"ROW<{', '.join(f'`{field.name}` {field.type}' for field in self.fields)}>"
        return str(kind.value)

    def with_null(self, nullable: bool = True) -> SqlType:
        return self if self.nullable == nullable else replace(self, nullable=nullable)

    def same_as(self, other: SqlType) -> bool:
        """The same but for nullability, also inside."""
        return _without_nulls(self) == _without_nulls(other)

    @property
    def is_number(self) -> bool:
        return self.kind in NUMBERS

    @property
    def is_integer(self) -> bool:
        return self.kind in INTEGERS

    @property
    def is_exact(self) -> bool:
        return self.kind in EXACT

    @property
    def is_approximate(self) -> bool:
        return self.kind in APPROXIMATE

    @property
    def is_text(self) -> bool:
        return self.kind in TEXTS

    @property
    def is_bytes(self) -> bool:
        return self.kind in BYTES

    @property
    def is_timestamp(self) -> bool:
        return self.kind in TIMESTAMPS

    @property
    def is_interval(self) -> bool:
        return self.kind in INTERVALS

    # -- representations ---------------------------------------------------------------------------------------------

    @property
    def duckdb(self) -> str:
        """The type's text in DuckDB."""
        kind = self.kind
        if kind is Kind.DECIMAL:
            return f"DECIMAL({self.precision},{self.scale})"
        if kind in (Kind.ARRAY,):
            assert self.element is not None
            return f"{self.element.duckdb}[]"
        if kind in (Kind.MAP, Kind.MULTISET):
            assert self.element is not None
            if kind is Kind.MULTISET:
                return f"MAP({self.element.duckdb}, INTEGER)"
            assert self.key is not None
            return f"MAP({self.key.duckdb}, {self.element.duckdb})"
        if kind is Kind.ROW:
            return f"STRUCT({', '.join(f'{quoted(field.name)} {field.type.duckdb}' for field in self.fields)})"
        if kind in TIMESTAMPS:
            return "TIMESTAMP_NS" if self.precision > 6 else "TIMESTAMP"
        return _DUCKDB[kind]

    @property
    def arrow(self) -> pa.DataType:
        """The type of a column that leaves the engine. Timestamps are in ms up to 3 digits, in us up to 6, else in
        ns; TIMESTAMP_LTZ has the zone UTC."""
        import pyarrow as pa

        kind = self.kind
        if kind is Kind.DECIMAL:
            return pa.decimal128(self.precision, self.scale)
        if kind is Kind.ARRAY:
            assert self.element is not None
            return pa.list_(self.element.arrow)
        if kind in (Kind.MAP, Kind.MULTISET):
            assert self.element is not None
            if kind is Kind.MULTISET:
                return pa.map_(self.element.arrow, pa.int32())
            assert self.key is not None
            return pa.map_(self.key.arrow, self.element.arrow)
        if kind is Kind.ROW:
            return pa.struct([pa.field(field.name, field.type.arrow) for field in self.fields])
        if kind in TIMESTAMPS:
            unit = "ms" if self.precision <= 3 else "us" if self.precision <= 6 else "ns"
            return pa.timestamp(unit, "UTC" if kind is Kind.TIMESTAMP_LTZ else None)
        return pa.time64("us") if kind is Kind.TIME else getattr(pa, _ARROW[kind])()


def _without_nulls(of: SqlType) -> SqlType:
    return replace(
        of,
        nullable=True,
        element=None if of.element is None else _without_nulls(of.element),
        key=None if of.key is None else _without_nulls(of.key),
        fields=tuple(Field(field.name, _without_nulls(field.type)) for field in of.fields),
    )


_DUCKDB: Final = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TINYINT: "TINYINT",
    Kind.SMALLINT: "SMALLINT",
    Kind.INTEGER: "INTEGER",
    Kind.BIGINT: "BIGINT",
    Kind.FLOAT: "FLOAT",
    Kind.DOUBLE: "DOUBLE",
    Kind.CHAR: "VARCHAR",
    Kind.VARCHAR: "VARCHAR",
    Kind.BINARY: "BLOB",
    Kind.VARBINARY: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.INTERVAL_MONTHS: "INTEGER",
    Kind.INTERVAL_MS: "BIGINT",
    Kind.NULL: "INTEGER",
}
_ARROW: Final = {
    Kind.BOOLEAN: "bool_",
    Kind.TINYINT: "int8",
    Kind.SMALLINT: "int16",
    Kind.INTEGER: "int32",
    Kind.BIGINT: "int64",
    Kind.FLOAT: "float32",
    Kind.DOUBLE: "float64",
    Kind.CHAR: "string",
    Kind.VARCHAR: "string",
    Kind.BINARY: "binary",
    Kind.VARBINARY: "binary",
    Kind.DATE: "date32",
    Kind.INTERVAL_MONTHS: "int32",
    Kind.INTERVAL_MS: "int64",
    Kind.NULL: "int32",
}


def quoted(name: str) -> str:
    """A name as DuckDB's text has it."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(value: str) -> str:
    """A text as DuckDB's text has it. DuckDB cannot have NUL in a literal."""
    if "\0" in value:
        return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in value.split("\0")).join("()")
    return "'" + value.replace("'", "''") + "'"


def decimal(precision: int, scale: int, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.DECIMAL, nullable, precision=precision, scale=scale)


def varchar(length: int = STRING_LENGTH, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.VARCHAR, nullable, length=length)


def char(length: int, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.CHAR, nullable, length=length)


def timestamp(precision: int = 6, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.TIMESTAMP, nullable, precision=precision)


def timestamp_ltz(precision: int = 6, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.TIMESTAMP_LTZ, nullable, precision=precision)


def array(element: SqlType, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.ARRAY, nullable, element=element)


def map_of(key: SqlType, value: SqlType, *, nullable: bool = True) -> SqlType:
    return SqlType(Kind.MAP, nullable, key=key, element=value)


def row(*fields: tuple[str, SqlType], nullable: bool = True) -> SqlType:
    return SqlType(Kind.ROW, nullable, fields=tuple(Field(name, of) for name, of in fields))


BOOLEAN: Final = SqlType(Kind.BOOLEAN)
TINYINT: Final = SqlType(Kind.TINYINT)
SMALLINT: Final = SqlType(Kind.SMALLINT)
INTEGER: Final = SqlType(Kind.INTEGER)
BIGINT: Final = SqlType(Kind.BIGINT)
FLOAT: Final = SqlType(Kind.FLOAT)
DOUBLE: Final = SqlType(Kind.DOUBLE)
STRING: Final = varchar()
BYTES_TYPE: Final = SqlType(Kind.VARBINARY, length=STRING_LENGTH)
DATE: Final = SqlType(Kind.DATE)
TIME: Final = SqlType(Kind.TIME)
INTERVAL_MS: Final = SqlType(Kind.INTERVAL_MS)
INTERVAL_MONTHS: Final = SqlType(Kind.INTERVAL_MONTHS)
NULL: Final = SqlType(Kind.NULL)
