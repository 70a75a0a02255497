"""Runs a case on our engine, as `flink/record.py` runs it on Flink."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamkit_sql.application import Application
from streamkit_sql.expressions.bound import Column
from streamkit_sql.queries import run_bounded
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.session import Session
from streamkit_sql.types import Kind
from tests.sql.corpus import HERE, Case


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: the rows that are there at the end, in no order."""

    columns: tuple[Column, ...]
    rows: list[tuple[object, ...]]
    is_append: bool

    @property
    def types(self) -> list[str]:
        return [str(column.type) for column in self.columns]


def run(case: Case, data: Path, out: Path | None = None, *, rows_per_tick: int = 20_000) -> Answer:
    """Raises what the engine raises. Rows that came and went are not in the answer."""
    return asyncio.run(_run(case.statements(data, out), rows_per_tick))


def write(case: Case, data: Path, out: Path, *, rows_per_tick: int = 20_000) -> list[tuple[str, str]]:
    """Runs a case that writes; answers the lines of its files, each with its table's name."""
    script = ";\n".join(case.statements(data, out))
    asyncio.run(Application(None, script, None, rows_per_tick=rows_per_tick).run())
    return [
        (table, line)
        for table in case.results
        for path in sorted((out / table).rglob("*"))
        if path.is_file()
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    ]


async def _run(statements: Sequence[str], rows_per_tick: int) -> Answer:
    session = Session(folder=HERE / "flink")
    for statement in statements[:-1]:
        session.run(statement)
    script = session.run(statements[-1])
    counted: Counter[Any] = Counter()
    columns: tuple[Column, ...] = ()
    is_append = True
    async for emitted in run_bounded(session, script.outputs, rows_per_tick=rows_per_tick):
        table = to_arrow(emitted.rows, emitted.output.columns)
        weights = None
        if table.num_columns > len(emitted.output.columns):
            is_append = False
            weights = table.column(table.num_columns - 1).to_pylist()
        _count(counted, table.select(range(len(emitted.output.columns))).columns, emitted.output.columns, weights)
    if script.outputs:
        columns = script.outputs[0].columns
    assert all(count >= 0 for count in counted.values()), "a row went that had not come"
    rows = [_thawed(row) for row, count in counted.items() for _ in range(count)]
    return Answer(columns, rows, is_append)


def _count(counted: Counter[Any], values: Iterable[Any], columns: Sequence[Column], weights: list[int] | None) -> None:
    lists = [_python(each.to_pylist(), column) for each, column in zip(values, columns, strict=True)]
    rows = list(zip(*lists, strict=True)) if lists else []
    for index, row in enumerate(rows):
        counted[_frozen(row)] += 1 if weights is None else weights[index]


def _python(values: list[Any], column: Column) -> list[Any]:
    if column.type.kind is Kind.INTERVAL_MS:
        return [None if value is None else datetime.timedelta(milliseconds=value) for value in values]
    if column.type.kind is Kind.INTERVAL_MONTHS:
        return [None if value is None else {"months": value} for value in values]
    return values


class _List(tuple):  # type: ignore[type-arg]
    """A list that can be counted."""


class _Dict(tuple):  # type: ignore[type-arg]
    """A row that can be counted."""


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return _List(_frozen(each) for each in value)
    if isinstance(value, dict):
        return _Dict((key, _frozen(each)) for key, each in value.items())
    if isinstance(value, tuple):
        return tuple(_frozen(each) for each in value)
    # NaN is not itself, and 0.0 is -0.0: counted by text.
    return ("float", repr(value)) if isinstance(value, float) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, _List):
        return [_thawed(each) for each in value]
    if isinstance(value, _Dict):
        return {key: _thawed(each) for key, each in value}
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "float":
            return float(value[1])
        return tuple(_thawed(each) for each in value)
    return value
