"""Query streams with Flink's SQL: rows are printed as windows close, or as they change.

A stream is a table of its name; its columns are discovered from its records, its time is `arrival_time`. `explain`
prints what was discovered as CREATE TABLE, to keep and to change. Ctrl-C ends a query.

example:
  streamkit sql "SELECT carrier, COUNT(*) AS flights FROM flights GROUP BY carrier" --no-follow
  streamkit sql "SELECT window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(arrival_time),
      INTERVAL '10' SECOND)) GROUP BY window_start, window_end" --json
  streamkit sql explain "SELECT * FROM clicks"
  streamkit sql run leaderboard.sql
  streamkit sql run report.sql --json
  streamkit sql translate legacy.sql

`run FILE` carries out a script: what it writes (INSERT INTO) runs as an application, with state that is kept; then each
SELECT of its own is printed. Over files both end. Where a result changes, and ends, its final rows are printed.
`translate FILE` prints a script of Kinesis Data Analytics for SQL as Flink's SQL. FILE.json beside it says what it
reads and writes, as CreateApplication takes it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import streamkit
from streamkit.cli.common import add_target, endpoint_of, scope_of, starting_position
from streamkit.config import Config
from streamkit.kit.kit import Kit
from streamkit.model.errors import UsageError
from streamkit_sql.errors import ValueProblem
from streamkit_sql.expressions.bound import Column
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_script
from streamkit_sql.language.printer import to_flink
from streamkit_sql.legacy.translate import translate_file
from streamkit_sql.live import Queries, Result, Rows, tables_named
from streamkit_sql.plan.nodes import Changes, Output
from streamkit_sql.session import Answer, Script, Session
from streamkit_sql.tables.encode import JsonEncoder
from streamkit_sql.types import Field

if TYPE_CHECKING:
    import pyarrow as pa

WORDS_ANYWHERE = True
_VERBS = ("run", "explain", "translate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("words", nargs="+", metavar="QUERY", help="SQL; or `run FILE`, `explain SQL-or-FILE`, `translate FILE`")
    add(
        "--from",
        dest="start",
        type=starting_position,
        metavar="WHERE",
        help="latest, trim-horizon, -10m (s, m, h, d ago) or a time (default: latest; with --no-follow trim-horizon)",
    )
    add("--explain", action="store_true", help="as `explain`: print the plan, and what was discovered")
    add("--follow", action=argparse.BooleanOptionalAction, default=True, help="wait for new records (default: yes)")
    add("--limit", type=int, metavar="N", help="end after N rows")
    add("--name", help="of `run`: what the application is called (default: the file's name)")
    add("--state", type=Path, metavar="DIR", help="of `run`: where state is kept (default: ./streamkit-sql)")
    add("--json", action="store_true", help="one JSON object a row; in results that change, `op` is + or -")
    add("--watch", action="store_true", help="show the rows there are, and redraw them as they change")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    verb, text = _request(options.words)
    if options.explain and verb == "query":
        verb = "explain"
    if verb == "translate":
        print(translate_file(Path(options.words[1])), end="")
        return 0
    try:
        asyncio.run(_run(verb, text, options, config))
    except KeyboardInterrupt:  # how a query that follows is meant to end
        pass
    except ValueProblem as error:  # the script is good: what came is not
        print(f"streamkit sql: {error}", file=sys.stderr)
        return 1
    return 0


def _request(words: Sequence[str]) -> tuple[str, str]:
    if words[0] not in _VERBS:
        if len(words) > 1:
            raise UsageError(f"the query is one argument; put it in quotes (there are {len(words)} words)")
        return "query", words[0]
    if len(words) != 2:
        raise UsageError(f"`streamkit sql {words[0]}` takes one argument")
    path = Path(words[1])
    is_file = words[0] != "explain" or words[1].endswith(".sql")
    if is_file and not path.is_file():
        raise UsageError(f"there is no file {words[1]!r}")
    return words[0], path.read_text(encoding="utf-8") if is_file else words[1]


async def _run(verb: str, text: str, options: argparse.Namespace, config: Config) -> None:
    account, region = scope_of(options, config)
    where = options.data if options.data is not None else endpoint_of(options, config)
    async with streamkit.open(where, account=account, region=region) as kit:
        if verb == "explain":
            print(await kit.queries().explain(text))
        elif verb == "run":
            await _run_file(kit, text, options)
        else:
            await _query(kit, text, options)


async def _run_file(kit: Kit, text: str, options: argparse.Namespace) -> None:
    folder = Path(options.words[1]).parent
    statements = parse_script(text)
    selects = [each for each in statements if isinstance(each, tree.QueryStatement)]
    if not selects or any(map(_writes, statements)):
        writing = [each for each in statements if each not in selects]
        await _run_application(
            kit, text if not selects else "".join(to_flink(each) + ";\n" for each in writing), options
        )
    if selects:
        queries = Queries(kit.backend, session=Session(folder=folder))
        script = await queries.prepare(text)
        tables = queries.session.catalog.tables
        ends = all(tables[name].is_bounded for name in tables_named(statements) if name in tables)
        for answer in script.answers:
            _print_answer(answer)
        for output in script.outputs:
            if output.target is None:
                await _print_select(queries, output, ends, options)


def _writes(statement: tree.Statement) -> bool:
    return isinstance(statement, tree.Insert | tree.StatementSet) or (
        isinstance(statement, tree.CreateTable) and statement.as_query is not None
    )


async def _print_select(queries: Queries, output: Output, ends: bool, options: argparse.Namespace) -> None:
    rows = queries.rows(Script([output]), start=_start(options.start), follow=options.follow)
    if (ends or not options.follow) and output.query.changes is Changes.UPDATES:
        rows = _once(await Result(output.columns, rows).to_arrow())
    await _print_rows(_printer(output.columns, options), rows, options.limit)


async def _print_rows(printer: _Printer, rows: AsyncIterator[Rows], limit: int | None) -> None:
    left = limit
    async for each in rows:
        if left is not None and each.table.num_rows >= left:
            printer.show(Rows(each.table.slice(0, left), None if each.weights is None else each.weights[:left]))
            break
        printer.show(each)
        if left is not None:
            left -= each.table.num_rows
    printer.end()


async def _once(table: pa.Table) -> AsyncIterator[Rows]:
    yield Rows(table, None)


async def _run_application(kit: Kit, text: str, options: argparse.Namespace) -> None:
    from streamkit_sql.application import Application

    name = options.name or Path(options.words[1]).stem
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    folder = (options.state or Path("streamkit-sql")) / name
    print(f"{name} runs; its state is in {folder}. Ctrl-C stops it.", file=sys.stderr)
    await Application(kit.backend, text, folder, modules=Path(options.words[1]).parent).run(stop)


async def _query(kit: Kit, text: str, options: argparse.Namespace) -> None:
    queries: Queries = kit.queries()
    script = await queries.prepare(text)
    for answer in script.answers:
        _print_answer(answer)
    if not script.outputs:
        return
    if len(script.outputs) > 1 or script.outputs[0].target is not None:
        raise UsageError("that writes to tables: put it into a file, and `streamkit sql run FILE`")
    rows = queries.rows(script, start=_start(options.start), follow=options.follow)
    await _print_rows(_printer(script.outputs[0].columns, options), rows, options.limit)


def _start(start: Any) -> Any:
    return round(start.timestamp() * 1000) if isinstance(start, datetime) else start


def _print_answer(answer: Answer) -> None:
    for row in answer.rows:
        print("\t".join(row))


def _printer(columns: Sequence[Column], options: argparse.Namespace) -> _Printer:
    names = [column.name for column in columns]
    return _Watch(names) if options.watch else _Json(columns) if options.json else _Lines(names)


class _Printer(Protocol):
    def show(self, rows: Rows) -> None: ...

    def end(self) -> None: ...


class _Json:
    """One object a row, as Flink's JSON format writes it: exact numbers, `2026-01-31 10:00:00.5`, bytes in base64."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._encoder = JsonEncoder([Field(each.name, each.type) for each in columns])

    def show(self, rows: Rows) -> None:
        for index, line in enumerate(self._encoder.encode(rows.table).to_pylist()):
            text = line.decode()
            if rows.weights is not None:
                sign = "+" if rows.weights[index] > 0 else "-"
                text = f'{{"op":"{sign}",{text[1:]}'
            print(text)
        sys.stdout.flush()

    def end(self) -> None: ...


class _Lines:
    """A line a row under a line of names; columns are as wide as their widest value so far."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [len(each) for each in columns]
        self._is_headed = False

    def show(self, rows: Rows) -> None:
        cells = [[_text(value) for value in row.values()] for row in rows.table.to_pylist()]
        for row in cells:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        lead = "" if rows.weights is None else "  "
        if not self._is_headed:
            print(lead + self._line(self._columns))
            self._is_headed = True
        for index, row in enumerate(cells):
            sign = "" if rows.weights is None else "+ " if rows.weights[index] > 0 else "- "
            print(sign + self._line(row))
        sys.stdout.flush()

    def _line(self, cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip()

    def end(self) -> None: ...


class _Watch:
    """The rows there are, redrawn in place."""

    SHOWN_MAX = 50

    def __init__(self, columns: Sequence[str]) -> None:
        from rich.live import Live

        self._columns = columns
        self._rows: dict[tuple[str, ...], int] = {}
        self._live = Live(refresh_per_second=8)
        self._live.start()

    def show(self, rows: Rows) -> None:
        from rich.table import Table

        if rows.weights is None:  # closed windows: the newest are what one watches
            self._rows.clear()
        for index, row in enumerate(rows.table.to_pylist()):
            key = tuple(_text(value) for value in row.values())
            count = self._rows.get(key, 0) + (1 if rows.weights is None else rows.weights[index])
            if count:
                self._rows[key] = count
            else:
                self._rows.pop(key, None)
        table = Table(*self._columns)
        for key in sorted(self._rows)[: self.SHOWN_MAX]:
            table.add_row(*key)
        self._live.update(table)

    def end(self) -> None:
        self._live.stop()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds" if value.microsecond % 1000 == 0 else "microseconds")
    return json.dumps(value, default=_plain, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
