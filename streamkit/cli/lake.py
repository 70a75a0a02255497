"""Look after files that deliveries wrote: merge small ones into large ones.

`compact` merges Parquet, ORC, text, GZIP and ZSTD files of a folder and delivery stream, and the small files of Delta
and Iceberg tables. A crash loses and doubles nothing: the next run ends what was begun. Of files that are no table's, a
reader may see rows twice for the moment between the merged file's appearance and the removal of what it was made of.

Only files named by a delivery stream are touched, and none in folders of error output. Let delivery streams run before:
one that was stopped in the middle may deliver a file again that was merged meanwhile.

example:
  streamkit lake compact ./lake --target-mb 256 --dry-run
  streamkit lake compact s3://bucket/clicks/ --older-than 1h
  streamkit lake compact ./warehouse --table web.clicks --json
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from streamkit import plugins
from streamkit.cli.common import count_of, print_json, say, size_text, time_ago
from streamkit.clock import SystemClock
from streamkit.config import Config
from streamkit.delivery.destination import Surroundings
from streamkit.kit.kit import DEFAULT_REGION
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB

GROUP: Final = "streamkit.lake"  # entry points: `settings`, a type, and `compact`, which takes one
_STORE: Final = {  # as the AWS CLI has them
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(verb=None)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", help="`streamkit lake VERB --help` shows its options")
    verb = verbs.add_parser("compact", help="merge small files", description="Merge small files.", allow_abbrev=False)
    add = verb.add_argument
    add("location", metavar="DIR_OR_URL", help="a directory, a table, a warehouse, or an s3:// URL")
    add("--target-mb", type=int, default=128, metavar="MB", help="the size to merge to, in MiB (default: 128)")
    add("--min-files", type=int, default=2, metavar="N", help="leave fewer than so many as they are (default: 2)")
    add("--older-than", type=time_ago, default="10m", metavar="TIME", help="leave what is younger (default: 10m)")
    add("--all", action="store_true", help="files of every name, and of error output, too")
    add("--table", metavar="NAME", help="one table of an Iceberg warehouse: NAMESPACE.TABLE")
    add("--catalog", metavar="FILE_OR_URL", help="the Iceberg catalog, where it is not in the warehouse")
    add("--endpoint", metavar="URL", help="the object store, where it is not AWS's")
    add("--dry-run", action="store_true", help="only say what would be merged")
    add("--json", action="store_true", help="one JSON object a line: kind merged, passed or put_right")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.verb is None:
        raise UsageError("say what to do: `streamkit lake compact DIR_OR_URL`")
    if options.target_mb < 1 or options.min_files < 2:
        raise UsageError("--target-mb is 1 at least, and --min-files is 2 at least")
    settings = plugins.load(GROUP, "settings")(
        target_bytes=options.target_mb * MIB,
        before_ms=int(options.older_than.timestamp() * 1000),
        files_min=options.min_files,
        takes_all=options.all,
        is_dry=options.dry_run,
        table=options.table,
        catalog=options.catalog,
    )
    events = plugins.load(GROUP, "compact")(options.location, settings, _surroundings(options))
    merged = asyncio.run(_print(events, as_json=options.json, is_dry=options.dry_run))
    say(f"{options.location}: {count_of(merged, 'file')} {'would be' if options.dry_run else 'were'} merged")
    return 0


def _surroundings(options: argparse.Namespace) -> Surroundings:
    store: dict[str, str] = {}
    for name, variables in _STORE.items():
        if value := next((os.environ[each] for each in variables if os.environ.get(each)), None):
            store[name] = value
    if options.endpoint:
        store["endpoint"] = options.endpoint
    store.setdefault("region", DEFAULT_REGION)
    if "endpoint" not in store and "access_key_id" not in store:
        # A bucket is AWS's, then, and credentials are where its tools find them.
        store["endpoint"] = f"https://s3.{store['region']}.amazonaws.com"
    return Surroundings(SystemClock(), Path(), store["region"], store)


async def _print(events: AsyncIterator[Any], *, as_json: bool, is_dry: bool) -> int:
    """How many files were merged."""
    merged = 0
    async for event in events:
        fields = event._asdict()
        kind = {"Merged": "merged", "Passed": "passed", "PutRight": "put_right"}[type(event).__name__]
        merged += fields.get("inputs", 0)
        if as_json:
            print_json({"kind": kind, **fields, **({"is_dry": True} if is_dry else {})})
        else:
            print(_text(kind, fields, is_dry=is_dry))
    return merged


def _text(kind: str, fields: dict[str, Any], *, is_dry: bool) -> str:
    place = fields["place"]
    if kind == "passed":
        return f"left alone: {place}: {fields['why']}"
    if kind == "put_right":
        return f"put right: {place}: what an earlier run began was {fields['how']}"
    inputs, outputs = count_of(fields["inputs"], "file"), count_of(fields["outputs"], "file")
    sizes = f"{size_text(fields['input_bytes'])} as {size_text(fields['output_bytes'])}"
    if is_dry:
        return f"would merge: {place}: {inputs} ({size_text(fields['input_bytes'])}) to {outputs}"
    rows = "" if fields["rows"] < 0 else f", {count_of(fields['rows'], 'row')}"
    return f"merged: {place}: {inputs} to {outputs} ({sizes}{rows})"
