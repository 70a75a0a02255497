"""Put the lines of a JSON-lines file, or the rows of a CSV file, into a stream.

A JSON line is put as it is; a CSV row becomes a JSON object of strings, named by the header. The partition key is the
field that --key names, by default the first field of the first record (the first column). A file may be gzipped; `-`
is standard input. Ctrl-C stops after the batch under way and says how many records are stored.

example:
  streamkit load clicks.jsonl.gz --stream clicks --key user --create --shards 4
  zcat big.csv.gz | streamkit load - --format csv --stream clicks --skip-broken
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from streamkit.cli.common import add_target, count_of, open_target, say, size_text, standard_input
from streamkit.cli.rows import Broken, Rows, csv_rows, json_rows, unzipped
from streamkit.config import Config
from streamkit.kit.blocking import BlockingKit
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import FRAME_RECORDS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

_BROKEN_SHOWN_MAX: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="the file; - is standard input")
    add("--stream", required=True, metavar="NAME", help="the stream to put into")
    add("--key", metavar="FIELD", help="the field that is the partition key (default: the first one)")
    add("--format", choices=("auto", "jsonl", "csv"), default="auto", help="(default: CSV for .csv, else JSON lines)")
    add("--create", action="store_true", help="make the stream if it is missing")
    add("--shards", type=int, default=1, metavar="N", help="of a stream made by --create (default: 1)")
    add("--skip-broken", action="store_true", help="leave broken lines out and count them (default: stop at the first)")
    add_target(parser)


@dataclass(slots=True)
class _Progress:
    """What is durable, and what was left out."""

    started_s: float = field(default_factory=time.monotonic)
    records: int = 0
    data_bytes: int = 0
    broken: int = 0

    def line(self) -> str:
        elapsed_s = max(time.monotonic() - self.started_s, 1e-6)
        left_out = f"; {count_of(self.broken, 'broken line')} left out" if self.broken else ""
        return (
            f"{count_of(self.records, 'record')} ({size_text(self.data_bytes)}) stored in {elapsed_s:.1f} s, "
            f"{self.records / elapsed_s:,.0f} a second{left_out}"
        )


class _Stopped(Exception):
    """A broken line ended it."""


class _Display(Protocol):
    def show(self, progress: _Progress, read_bytes: int) -> None: ...


def run(options: argparse.Namespace, config: Config) -> int:
    progress = _Progress()
    with ExitStack() as stack:
        file = _opened(options.file, stack)
        kit = stack.enter_context(open_target(options, config, makes_directory=options.create))
        if options.create:
            kit.create_stream(options.stream, shards=options.shards, exist_ok=True)
        else:
            kit.describe(options.stream)
        display = stack.enter_context(_display(options.file))
        loading = _Loading(kit, options, file, progress, display)
        status = loading.run()
    say(progress.line())
    return status


class _Loading:
    """One file on its way. While a batch is put, the next is read."""

    def __init__(
        self, kit: BlockingKit, options: argparse.Namespace, file: BinaryIO, progress: _Progress, display: _Display
    ) -> None:
        self._kit = kit
        self._options = options
        self._file = file
        self._progress = progress
        self._display = display
        self._putter = ThreadPoolExecutor(1, "load")
        self._under_way: Future[None] | None = None

    def run(self) -> int:
        try:
            for rows in self._rows():
                self._put_block(rows)
            self._settle()
        except KeyboardInterrupt:
            self._putter.shutdown(wait=True)  # a second one ends the wait
            say("stopped; what is counted below is stored, nothing else of the file is")
            return 130
        except _Stopped as stopped:
            say(f"streamkit load: {stopped}")
            return 1
        except StreamkitError as error:
            say(f"streamkit load: {error.code}: {error}")
            return 1
        finally:
            self._putter.shutdown(wait=False, cancel_futures=True)
        return 0

    def _rows(self) -> Iterator[Rows]:
        name, form = self._options.file, self._options.format
        is_csv = form == "csv" or (form == "auto" and name.removesuffix(".gz").endswith(".csv"))
        source = unzipped(self._file)
        blocks = csv_rows(source, self._options.key) if is_csv else json_rows(source, self._options.key)
        try:
            yield from blocks
        except (EOFError, OSError) as error:  # a gzip file that is cut or damaged, a disk that fails
            self._settle()
            raise _Stopped(f"{name} cannot be read to its end: {error}") from error

    def _put_block(self, rows: Rows) -> None:
        keys, values = rows.keys, rows.values
        stop_at = rows.broken[0] if rows.broken and not self._options.skip_broken else None
        if stop_at is not None:
            keys, values = keys[: stop_at[1]], values[: stop_at[1]]
        for start in range(0, len(keys), FRAME_RECORDS_MAX):  # each is one commit: wholly stored, or not at all
            self._put(keys[start : start + FRAME_RECORDS_MAX], values[start : start + FRAME_RECORDS_MAX])
        if stop_at is not None:
            self._settle()
            raise _Stopped(f"{self._told(stop_at[0])}; mend it, or leave such lines out with --skip-broken")
        for broken, _ in rows.broken:
            self._progress.broken += 1
            if self._progress.broken <= _BROKEN_SHOWN_MAX:
                say(f"left out {self._told(broken)}")

    def _put(self, keys: list[str], values: list[bytes]) -> None:
        table, size = _table(keys, values), sum(map(len, values))
        self._settle()
        self._under_way = self._putter.submit(self._store, table, size)

    def _store(self, table: pa.Table, size: int) -> None:
        """Counts here, in the thread that Ctrl-C does not reach."""
        self._progress.records += self._kit.put_table(self._options.stream, table)
        self._progress.data_bytes += size

    def _settle(self) -> None:
        """Returns when what was put is durable."""
        if self._under_way is not None:
            self._under_way.result()
            self._display.show(self._progress, self._file.tell() if self._file.seekable() else 0)

    def _told(self, broken: Broken) -> str:
        return f"{self._options.file}:{broken.line}: {broken.why}"


def _opened(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return cast(BinaryIO, standard_input())
    try:
        return stack.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error


def _table(keys: list[str], values: list[bytes]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"partition_key": pa.array(keys, pa.string()), "data": pa.array(values, pa.binary())})


# -- the progress bar ------------------------------------------------------------------------------------------------


class _NoDisplay:
    def __enter__(self) -> _NoDisplay:
        return self

    def __exit__(self, *error: object) -> None: ...

    def show(self, progress: _Progress, read_bytes: int) -> None: ...


def _display(name: str) -> AbstractContextManager[_Display]:
    if not sys.stderr.isatty():
        return _NoDisplay()
    return _Bar(Path(name).name, None if name == "-" else Path(name).stat().st_size)


class _Bar:
    """How much of the file was read, records, rate and bytes; gone when it is done."""

    def __init__(self, name: str, total_bytes: int | None) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
            progress.DownloadColumn(),
            progress.TimeRemainingColumn(),
        )
        self._progress = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(name, total=total_bytes, records=0, rate=0.0)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, progress: _Progress, read_bytes: int) -> None:
        rate = progress.records / max(time.monotonic() - progress.started_s, 1e-6)
        self._progress.update(
            self._task, completed=read_bytes or progress.data_bytes, records=progress.records, rate=rate
        )
