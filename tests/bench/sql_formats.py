"""JSON payloads to the rows of a scan: `python -m tests.bench.sql_formats`.

Nexmark events of the wide record, about 257 bytes, in batches of several sizes; one core. `decode` is the format alone,
`scan` adds the computed time column, watermarks and numbers. Each figure is the median of three runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamkit_sql.expressions.bound import Column
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_script
from streamkit_sql.plan.catalog import Catalog
from streamkit_sql.plan.planner import Planner
from streamkit_sql.runtime.duck import connect
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.formats import decoder_of
from streamkit_sql.tables.scan import Scan
from streamkit_sql.tables.source import SourceBatch, Wanted
from streamkit_sql.tables.watermark import Watermarks
from streamkit_sql.types import SqlType
from tests.sql import nexmark

EVENTS = 200_000
TABLE = Path(__file__).parents[1] / "sql" / "cases" / "tables" / "nexmark.sql"
FIELDS = {
    "q5": ["event_type", "person.dateTime", "auction.dateTime", "bid.dateTime", "bid.auction"],
    "q0": ["event_type", "person.dateTime", "auction.dateTime", *(f"bid.{name}" for name in (
        "auction", "bidder", "price", "channel", "url", "dateTime", "extra"))],
    "all": ["event_type", "person", "auction", "bid"],
}  # fmt: skip


def type_of(table: TableDefinition, name: str) -> SqlType:
    head, *rest = name.split(".")
    of = next(each.type for each in table.physical if each.name == head)
    for part in rest:
        of = next(each.type for each in of.fields if each.name == part)
    return of


def rate(run: Callable[[Any], object], parts: Sequence[Any]) -> str:
    """Thousand rows a second, by CPU time."""
    rows = sum(map(len, parts))
    taken = []
    for _ in range(3):
        start = time.process_time()
        for part in parts:
            run(part)
        taken.append(time.process_time() - start)
    return f"{rows / statistics.median(taken) / 1000:8.0f} k rows/s"


def batches(events: Sequence[bytes], size: int) -> list[pa.BinaryArray]:
    return [pa.array(events[start : start + size], pa.binary()) for start in range(0, len(events), size)]


def _read(scan: Scan, watermarks: Watermarks, batch: SourceBatch) -> object:
    return scan.rows([batch], 0, watermarks)


def main() -> None:
    events = [event for batch in nexmark.events(EVENTS, 7, gap_ms=10, disorder_ms=3000) for event in batch]
    created = parse_script(TABLE.read_text(encoding="utf-8"))[0]
    assert isinstance(created, tree.CreateTable)
    table = TableDefinition.from_create(created)
    database = connect()
    for name, fields in FIELDS.items():
        wanted = [Wanted(each, tuple(each.split(".")), type_of(table, each)) for each in fields]
        decoder = decoder_of(table, wanted, database)
        for size in (20_000, 1_000, 100):
            some = batches(events[: size * 100], size)
            print(f"decode {name:4} {size:6} rows at once {rate(decoder.decode, some)}")
        broken = [b"{" if index % 20_000 == 777 else event for index, event in enumerate(events)]
        some = batches(broken, 20_000)
        print(f"decode {name:4} one bad of 20000    {rate(decoder.decode, some)}")
    bound = table.bind(Planner(Catalog()))
    columns = {name: Column(name, type_of(table, name)) for name in ("event_type", "bid.auction", "bid.price")}
    columns["dateTime"] = bound.columns[-1]
    for size in (20_000, 1_000):
        scan = Scan(table, bound, columns, database)
        watermarks = Watermarks()
        watermarks.add("nexmark/s", None, 0)
        sources = [SourceBatch("s", each, 0, "") for each in batches(events, size)]
        read = partial(_read, scan, watermarks)
        print(f"scan        {size:6} rows at once {rate(read, sources)}")


if __name__ == "__main__":
    main()
