"""The `datagen` connector: rows made up from a seed.

Options and defaults: "DataGen SQL Connector" of Flink's documentation. Unlike Flink's, the same seed gives the same
rows, however many are read at once; only timestamps, dates and times follow the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamkit_sql.errors import NotSupported, SqlError, UnknownName
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.options import duration_ms, is_true, near
from streamkit_sql.tables.source import SourceBatch, storage
from streamkit_sql.types import BYTES, TEXTS, TIMESTAMPS, Kind, SqlType

SPLIT: Final = "datagen"
ROWS_PER_SECOND: Final = 10_000  # Flink's default
LENGTH: Final = 100  # Flink's default of texts and bytes
COLLECTION_LENGTH: Final = 3  # Flink's default of arrays, maps and multisets
LENGTH_MAX: Final = 1 << 20
"""Ours, of one value."""
_BLOCK: Final = 1_000
"""Rows that are drawn together: their values depend on the block's number only."""
_DAY_MS: Final = 86_400_000
_BOUNDS: Final = {
    Kind.TINYINT: (-(2**7), 2**7 - 1), Kind.SMALLINT: (-(2**15), 2**15 - 1), Kind.INTEGER: (-(2**31), 2**31 - 1),
    Kind.BIGINT: (-(2**63), 2**63 - 1), Kind.INTERVAL_MS: (-(2**63), 2**63 - 1),
    Kind.INTERVAL_MONTHS: (-120_000, 120_000),
}  # fmt: skip
_KEYS: Final = (
    "kind",
    "min",
    "max",
    "max-past",
    "length",
    "var-len",
    "start",
    "end",
    "null-rate",
    "element",
    "key",
    "value",
)
_FIELD = re.compile(r"fields\.(.+)\.([a-z-]+)")


class DatagenSource:
    """One split; a position is how many rows have been. Rows come at `rows-per-second` from the first read on."""

    def __init__(self, table: TableDefinition, now_ms: Callable[[], int], seed: int = 0) -> None:
        self.is_bounded = table.is_bounded
        self._columns = table.physical
        self._now_ms = now_ms
        self._seed = seed
        self._rate = int(table.options.get("rows-per-second", ROWS_PER_SECOND))
        if not self._rate:
            raise SqlError("'rows-per-second' is at least 1.", table.place)
        self._options = _by_path(table)
        ends = [_sequence_rows(options) for options in self._options.values() if options.get("kind") == "sequence"]
        total = table.options.get("number-of-rows")
        self._total = min([*ends, *([int(total)] if total else [])], default=None)
        self._started: tuple[int, int] | None = None
        for index, each in enumerate(self._columns):  # refuses what cannot be made
            self._make(each.type, each.name, np.random.default_rng(index), np.arange(1), 0)

    async def splits(self) -> Sequence[str]:
        return [SPLIT]

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        return self.read_now(position, rows_max)

    def read_now(self, position: str | None, rows_max: int) -> SourceBatch | None:
        """None where the next row is not due yet, or there is none."""
        first = int(position or 0)
        now = self._now_ms()
        if self._started is None:
            self._started = (now, first)
        due = self._started[1] + (now - self._started[0]) * self._rate // 1000 + 1
        stop = min(first + rows_max, due, due if self._total is None else self._total)
        if stop <= first:
            return None
        blocks = [self._block(block, now) for block in range(first // _BLOCK, (stop - 1) // _BLOCK + 1)]
        table = pa.concat_tables(blocks).slice(first % _BLOCK, stop - first).combine_chunks()
        return SourceBatch(SPLIT, table, now, str(stop))

    def _block(self, number: int, now_ms: int) -> pa.Table:
        rows = np.arange(number * _BLOCK, (number + 1) * _BLOCK)
        columns = []
        for index, each in enumerate(self._columns):
            random = np.random.default_rng([self._seed, number, index])
            columns.append(self._make(each.type, each.name, random, rows, now_ms))
        return pa.Table.from_arrays(columns, [each.name for each in self._columns])

    def _make(self, of: SqlType, path: str, random: np.random.Generator, rows: Any, now_ms: int) -> pa.Array:
        options = self._options.get(path, {})
        if options.get("kind", "random") == "sequence":
            array = _sequence(of, options, rows, path)
        else:
            array = self._random(of, path, options, random, rows, now_ms)
        rate = float(options.get("null-rate", 0))
        if rate:
            array = pc.if_else(pa.array(random.random(len(rows)) >= rate), array, None)
        return array

    def _random(
        self, of: SqlType, path: str, options: dict[str, str], random: np.random.Generator, rows: Any, now: int
    ) -> pa.Array:
        count, kind, target = len(rows), of.kind, storage(of)
        if kind in _BOUNDS:
            low, high = _bounds(options, *_BOUNDS[kind], int)
            return pa.array(random.integers(low, high, count, endpoint=True), pa.int64()).cast(target)
        if kind in (Kind.FLOAT, Kind.DOUBLE):
            top = float(np.finfo(np.float32).max) if kind is Kind.FLOAT else 1e300
            low_f, high_f = _bounds(options, -top, top, float)
            return pa.array(random.uniform(low_f, high_f, count)).cast(target)
        if kind is Kind.DECIMAL:
            low_d, high_d = _bounds(
                options, -(10 ** (of.precision - of.scale)) + 1, 10 ** (of.precision - of.scale) - 1, float
            )
            step = Decimal(1).scaleb(-of.scale)
            return pa.array(
                [Decimal(repr(x)).quantize(step) for x in random.uniform(low_d, high_d, count).tolist()], target
            )
        if kind is Kind.BOOLEAN:
            return pa.array(random.random(count) < 0.5)
        if kind in TEXTS or kind in BYTES:
            return _texts(of, options, random, count, target)
        if kind in TIMESTAMPS:
            past = duration_ms(options["max-past"]) if "max-past" in options else 0
            ticks = now - (random.integers(0, past, count, endpoint=True) if past else np.zeros(count, np.int64))
            return pa.array(ticks * (1_000_000 if target.unit == "ns" else 1000)).view(target)
        if kind is Kind.DATE:
            return pa.array(np.full(count, now // _DAY_MS, np.int32)).view(target)
        if kind is Kind.TIME:
            return pa.array(np.full(count, now % _DAY_MS * 1000)).view(target)
        return self._collection(of, path, options, random, rows, now)

    def _collection(
        self, of: SqlType, path: str, options: dict[str, str], random: np.random.Generator, rows: Any, now: int
    ) -> pa.Array:
        target, count = storage(of), len(rows)
        if of.kind is Kind.ROW:
            children = [self._make(each.type, f"{path}.{each.name}", random, rows, now) for each in of.fields]
            return pa.StructArray.from_arrays(children, fields=list(target))
        if of.kind not in (Kind.ARRAY, Kind.MAP, Kind.MULTISET) or of.element is None:
            raise NotSupported(f"datagen makes no {of}.")
        length = min(int(options.get("length", COLLECTION_LENGTH)), LENGTH_MAX)
        many = np.repeat(rows, length)
        offsets = pa.array(np.arange(count + 1) * length, pa.int32())
        if of.kind is Kind.ARRAY:
            inner = self._make(of.element, f"{path}.element", random, many, now)
            return pa.ListArray.from_arrays(offsets, inner, type=target)
        key_type = of.element if of.kind is Kind.MULTISET else of.key
        value_type = SqlType(Kind.INTEGER) if of.kind is Kind.MULTISET else of.element
        assert key_type is not None
        keys = self._make(key_type, f"{path}.key", random, many, now)
        values = self._make(value_type, f"{path}.value", random, many, now)
        return pa.MapArray.from_arrays(offsets, keys, values, type=target)


def _by_path(table: TableDefinition) -> dict[str, dict[str, str]]:
    """Options by the field they are of: `fields.a.b.min`."""
    found: dict[str, dict[str, str]] = {}
    for key, value in table.options.items():
        if not key.startswith("fields."):
            continue
        match = _FIELD.fullmatch(key)
        if not match or match[2] not in _KEYS:
            raise UnknownName(
                f"{key!r} is no option of datagen.", table.place, near(key.rpartition(".")[2], list(_KEYS[:9]))
            )
        names = [each.name for each in table.physical]
        if match[1] not in names and match[1].partition(".")[0] not in names:
            raise UnknownName(f"{key!r} is of {match[1]!r}, which is no column.", table.place, near(match[1], names))
        try:
            _check_value(match[2], value)
        except ValueError:
            raise SqlError(f"the option {key!r} cannot be {value!r}.", table.place) from None
        found.setdefault(match[1], {})[match[2]] = value
    for path, options in found.items():
        if options.get("kind") == "sequence" and not {"start", "end"} <= options.keys():
            raise UnknownName(
                f"the sequence {path!r} needs 'fields.{path}.start' and 'fields.{path}.end'.", table.place
            )
    return found


def _check_value(key: str, value: str) -> None:
    if key == "kind" and value not in ("random", "sequence"):
        raise ValueError
    if key == "max-past":
        duration_ms(value)
    elif key in ("length", "start", "end"):
        int(value)
    elif key in ("min", "max", "null-rate"):
        float(value)


def _bounds(options: dict[str, str], low: Any, high: Any, of: Callable[[Any], Any]) -> tuple[Any, Any]:
    least, most = of(options.get("min", low)), of(options.get("max", high))
    if least > most:
        raise SqlError(f"'min' {least} is above 'max' {most}.")
    return least, most


def _sequence_rows(options: dict[str, str]) -> int:
    return max(int(options["end"]) - int(options["start"]) + 1, 0)


def _sequence(of: SqlType, options: dict[str, str], rows: Any, path: str) -> pa.Array:
    if not (of.is_number or of.is_text):
        raise NotSupported(f"datagen has no sequence of {of}; {path!r} is one.")
    # A block may reach beyond the end; those rows are never given.
    values = np.minimum(rows + int(options["start"]), int(options["end"]))
    array = pa.array(values)
    if of.kind is Kind.DECIMAL:
        return pa.array([Decimal(each) for each in values.tolist()], storage(of))
    return array.cast(pa.string()) if of.is_text else array.cast(storage(of))


def _texts(
    of: SqlType, options: dict[str, str], random: np.random.Generator, count: int, target: pa.DataType
) -> pa.Array:
    """Hexadecimal digits, as Flink's; CHAR and BINARY have the length of their type."""
    declared = of.length if of.length and of.length < LENGTH_MAX else LENGTH
    length = min(int(options.get("length", declared)), LENGTH_MAX)
    lengths = (
        random.integers(0, length, count, endpoint=True)
        if is_true(options.get("var-len", "false"))
        else [length] * count
    )
    if of.kind in TEXTS:
        data = random.bytes((int(np.sum(lengths)) + 1) // 2).hex()
        stops = np.cumsum(lengths)
        return pa.array([data[int(stop - n) : int(stop)] for stop, n in zip(stops, lengths, strict=True)], target)
    return pa.array([random.bytes(int(each)) for each in lengths], target)
