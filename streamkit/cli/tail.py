"""Print a stream's records, and go on with new ones as they arrive. Nothing is remembered: no checkpoint is saved.

Ctrl-C ends it. Records of a shard come in order, and a shard that was resharded before its children.

example:
  streamkit tail clicks --from -10m
  streamkit tail clicks --no-follow --json | jq -r .data
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from streamkit.cli.common import add_target, open_target, print_json, shard_number, starting_position, time_text
from streamkit.config import Config
from streamkit.kit.backend import StreamInfo
from streamkit.kit.blocking import BlockingKit
from streamkit.kit.consumer import Start
from streamkit.model.batch import Record, RecordBatch
from streamkit.model.errors import UsageError
from streamkit.model.names import shard_id

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="the stream")
    add("--shard", type=shard_number, nargs="+", action="extend", metavar="ID", help="only these (default: all)")
    add(
        "--from",
        dest="start",
        type=starting_position,
        metavar="WHERE",
        help="latest, trim-horizon, -10m (s, m, h, d ago) or a time like 2026-01-31T09:00, local unless it says "
        "otherwise (default: latest; with --no-follow trim-horizon)",
    )
    add("--limit", type=int, metavar="N", help="end after N records")
    add("--json", action="store_true", help="one JSON object a record; data that is not UTF-8 is in data_base64")
    add("--follow", action=argparse.BooleanOptionalAction, default=True, help="wait for new records (default: yes)")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit is {options.limit}; at least one record is printed")
    start: Start = options.start or ("LATEST" if options.follow else "TRIM_HORIZON")
    try:
        with open_target(options, config) as kit:
            _require_shards(kit.describe(options.name), options.shard)
            _print_all(kit, options, start)
    except KeyboardInterrupt:  # how it is meant to end
        pass
    return 0


def _print_all(kit: BlockingKit, options: argparse.Namespace, start: Start) -> None:
    left = options.limit
    # A name that nobody has: what is read depends on `start` alone.
    consumer = kit.consumer(options.name, f"tail-{uuid.uuid4()}", start=start, follow=options.follow)
    for batch in consumer:
        if options.shard and batch.shard_index not in options.shard:
            continue
        if left is not None:
            batch = batch.slice(0, min(left, len(batch)))
            left -= len(batch)
        _print(batch, as_json=options.json)
        if left == 0:
            return


def _print(batch: RecordBatch, *, as_json: bool) -> None:
    """All records of a batch in one write."""
    if as_json:
        for record in batch.records():
            print_json(_fields(record, batch.shard_id))
    else:
        is_terminal = sys.stdout.isatty()
        for record in batch.records():
            text = record.data.decode(errors="backslashreplace")
            if is_terminal:
                print(f"{_DIM}{time_text(record.arrived_at_ms)} {record.partition_key}{_PLAIN} {text}")
            else:
                print(text)
    sys.stdout.flush()


def _fields(record: Record, shard: str) -> dict[str, Any]:
    fields = {
        "partition_key": record.partition_key,
        "sequence_number": record.sequence_number,
        "shard_id": shard,
        "arrived_at": time_text(record.arrived_at_ms),
    }
    try:
        return fields | {"data": record.data.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return fields | {"data_base64": b64encode(record.data).decode()}


def _require_shards(info: StreamInfo, wanted: Sequence[int] | None) -> None:
    known = {shard.index for shard in info.shards}
    for index in wanted or ():
        if index not in known:
            there = ", ".join(map(shard_id, sorted(known)))
            raise UsageError(f"stream {info.name} has no {shard_id(index)}; it has {there}")
