"""Deliver a stream's records to files, a table or an endpoint: makes a delivery stream, which goes on by itself.

Done a second time it changes nothing; with other settings it changes the delivery stream to what is said then: what is
not said has its default. Objects are written when --size is there, or after --interval; --flush does not wait for it.

TO is a directory (of the server's machine), s3://bucket/folder, a Delta or Iceberg table (delta+DIR, delta+s3://bucket/
table, iceberg+DIR, iceberg+https://catalog), or an endpoint that takes records (https://, splunk+https://,
opensearch+https://). Parquet and ORC without --columns get those of the first records, which then stay: see table
streamkit.NAME of the catalog. What cannot be delivered goes to _errors/ there.

example:
  streamkit deliver clicks --to ./lake --format parquet
  streamkit deliver clicks --to s3://lake/clicks --format parquet --columns "id bigint, time timestamp" --hourly time
  streamkit deliver clicks --to ./by-country --partition-by '{country: .geo.country}' --size 16MB --interval 10s --flush
  streamkit deliver clicks --to delta+./tables/clicks --transform clean:live
  streamkit deliver --direct audit --to ./audit --compression GZIP --prefix '!{timestamp:yyyy-MM-dd}/'

Other streamkit commands for it: deliveries (list, flush, delete, put to them), lake (merge small files).
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from streamkit.cli.common import add_endpoint, endpoint_of, print_json, say, scope_of
from streamkit.config import Config, boolean
from streamkit.kit.delivery import (
    FORMATS,
    Delivery,
    by_time,
    columns_of,
    default_name,
    faults_of,
    options_of,
    place_of,
)
from streamkit.kit.delivery_client import DeliveryClient, Ensured
from streamkit.model.errors import ResourceNotFound, StreamkitError, UsageError
from streamkit.model.limits import KIB, MIB
from streamkit.model.names import Scope

T = TypeVar("T")

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB}
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)")
_TIME_UNITS: Final = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}
_TEXTS: Final = ("format", "compression", "prefix", "error_prefix", "transform", "time_zone", "delimiter", "extension")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("stream", nargs="?", metavar="STREAM", help="the stream to deliver")
    add("--direct", metavar="NAME", help="instead of STREAM: a delivery stream that records are put to directly")
    add("--to", metavar="TO", help="where to: a directory or a URL; see above")
    add(
        "--name",
        help="of the delivery stream (default: STREAM-to-lake for a directory lake, STREAM-to-s3 for a bucket)",
    )
    add(
        "--from",
        dest="start",
        type=_start,
        metavar="WHERE",
        help="TRIM_HORIZON or LATEST, when it is made (default: TRIM_HORIZON)",
    )
    files = parser.add_argument_group("the files")
    add = files.add_argument
    add("--format", choices=FORMATS, help="json: a record a line; records: nothing between them (default: json)")
    add("--columns", metavar="TEXT", help='with Hive\'s types: "id bigint, tags array<string>" (default: found)')
    add("--compression", metavar="NAME", help="GZIP, ZSTD... (default: of json none, of parquet ZSTD, of orc SNAPPY)")
    add("--delimiter", metavar="TEXT", help=r"what follows each record, like ';' (default: \n of json, else nothing)")
    add("--extension", metavar="TEXT", help="the end of their names, like .jsonl (default: that of the format)")
    add("--manifest", action="store_true", default=None, help="write lists of the files that were written together")
    add("--size", type=_size, metavar="SIZE", help="write a file of so much: 64MB, 512KB (default: 64MB)")
    add("--interval", type=_time, metavar="TIME", help="write after this time: 60s, 5m, 0s for at once (default: 60s)")
    folders = parser.add_argument_group("their folders")
    add = folders.add_argument
    add("--prefix", metavar="TEXT", help="with AWS's expressions (default: the partitions', or 2026/01/31/09/)")
    add("--error-prefix", metavar="TEXT", help="for what failed (default: _errors/!{firehose:error-output-type}/)")
    add("--time-zone", metavar="ZONE", help="of times in prefixes (default: UTC)")
    by = folders.add_mutually_exclusive_group()
    by.add_argument("--partition-by", metavar="QUERY", help="jq: a folder for each value: {country: .geo.country}")
    by.add_argument("--hourly", metavar="FIELD", help="by a record's own time: ISO 8601 text, or a number: at:s, at:ms")
    by.add_argument("--daily", metavar="FIELD", help="the same, by days")
    more = parser.add_argument_group("more")
    add = more.add_argument
    add("--transform", metavar="FUNCTION", help="a function gets the records first; perhaps with an alias: clean:live")
    add("--retry", type=_time, metavar="TIME", help="how long an endpoint is tried (default: 300s)")
    add(
        "--option", action="append", metavar="KEY=VALUE", help="the destination's own; errors=DIR: where failed ones go"
    )
    add("--flush", action="store_true", default=None, help="return when all that is in the stream now is delivered")
    add("--json", action="store_true", default=None, help="print one JSON object: name, outcome, changes")
    add_endpoint(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    scope = scope_of(options, config)
    delivery = _delivery(options, config)
    _refuse_faults(delivery, scope)
    is_named = options.direct is not None or bool(config.value("name", options.name, str, ""))
    flushes = config.value("flush", options.flush, boolean, False)

    async def make() -> Ensured:
        async with DeliveryClient(endpoint_of(options, config), scope) as deliveries:
            if not is_named:
                await deliveries.require_same_place(delivery)
            try:
                done = await deliveries.ensure(delivery)
            except StreamkitError as error:
                raise _with_hint(error, delivery) from error
            if flushes:
                await deliveries.flush(delivery.name)
            return done

    done = asyncio.run(make())
    if config.value("json", options.json, boolean, False):
        print_json({"name": delivery.name, "outcome": done.outcome, "changes": done.changes, "note": done.note})
        return 0
    changes = f": {', '.join(done.changes)}" if done.changes else ""
    say(f"delivery {delivery.name} {done.outcome}{changes}{f' ({done.note})' if done.note else ''}")
    if flushes:
        say("everything that was put so far is delivered")
    return 0


# -- what was said ---------------------------------------------------------------------------------------------------


def _delivery(options: argparse.Namespace, config: Config) -> Delivery:
    def text(option: str) -> str | None:
        found: str = config.value(option, getattr(options, option), str, "")
        return found or None

    stream, direct, to = options.stream, options.direct, text("to")
    if (stream is None) == (direct is None):
        raise UsageError("say either the STREAM to deliver, or --direct NAME for one that records are put to directly")
    if direct is not None and options.name is not None:
        raise UsageError("--direct says the name already: leave out --name")
    if to is None:
        raise UsageError("--to is needed: a directory, or a URL like s3://bucket/folder")
    here = Path.cwd()
    place = place_of(to, here)
    columns = text("columns")
    name = direct or text("name") or default_name(stream, place)
    size_bytes: float | None = config.value("size", options.size, _setting(_size), None)
    retry_s: float | None = config.value("retry", options.retry, _setting(_time), None)
    return Delivery(
        name=name,
        to=place,
        stream=stream,
        direct=direct is not None,
        columns=() if columns is None else columns_of(columns),
        partition_by=_partition_by(text("partition_by"), text("hourly"), text("daily")),
        size_mb=None if size_bytes is None else size_bytes / MIB,
        interval_s=config.value("interval", options.interval, _setting(_time), None),
        start=config.value("from", options.start, _setting(_start), "TRIM_HORIZON"),
        manifest=config.value("manifest", options.manifest, boolean, False),
        retry_s=None if retry_s is None else round(retry_s),
        options=options_of(_pairs(options.option), here),
        **{option: text(option) for option in _TEXTS},
    )


def _partition_by(query: str | None, hourly: str | None, daily: str | None) -> str | None:
    given = [each for each in (query, hourly, daily) if each is not None]
    if len(given) > 1:
        raise UsageError("--partition-by, --hourly and --daily exclude each other: write one query")
    if hourly is not None:
        return by_time(hourly, "hour")
    return query if daily is None else by_time(daily, "day")


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, is_set, value = text.partition("=")
        if not name or not is_set:
            raise UsageError(f"--option is {text!r}; one looks like endpoint=http://127.0.0.1:9000")
        pairs[name] = value
    return pairs


def _start(text: str) -> str:
    """For argparse."""
    position = text.upper().replace("-", "_")
    if position not in ("TRIM_HORIZON", "LATEST"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither TRIM_HORIZON nor LATEST")
    return position


def _size(text: str) -> float:
    """For argparse: bytes. MB are those of AWS, of 1,048,576 bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; one looks like 64MB")
    return float(found[1]) * _SIZE_UNITS[found[2].lower()]


def _time(text: str) -> float:
    """For argparse: seconds."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; one looks like 60s (ms, s, m or h)")
    return float(found[1]) * _TIME_UNITS[found[2]]


def _setting(kind: Callable[[str], T]) -> Callable[[str], T]:
    """The same for the environment and streamkit.toml."""

    def read(text: str) -> T:
        try:
            return kind(text)
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from None

    return read


# -- faults ----------------------------------------------------------------------------------------------------------


def _refuse_faults(delivery: Delivery, scope: Scope) -> None:
    """All at once, each with its option."""
    texts = []
    for place, text in faults_of(delivery, scope):
        key = place[0] if place else ""
        option = f"--{key.replace('_', '-')}{f' {place[1]}' if place[1:] else ''} " if key else f"{delivery.name} "
        texts.append(f"{option}{text}")
    if texts:
        raise UsageError("\n  ".join(texts))


def _with_hint(error: StreamkitError, delivery: Delivery) -> StreamkitError:
    """What a server refused, with the command that helps."""
    text = str(error)
    if delivery.stream is not None and text.startswith(f"Stream {delivery.stream} under account"):
        return ResourceNotFound(
            f"there is no stream {delivery.stream}; `streamkit list` lists those that are there, and `streamkit create "
            f"{delivery.stream}` makes it"
        )
    if delivery.transform is not None and text.startswith("Function not found"):
        return ResourceNotFound(
            f"there is no function {delivery.transform}; `streamkit functions` lists those that are"
        )
    return error
