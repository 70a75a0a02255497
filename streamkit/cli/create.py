"""Create a stream; returns when records can be put.

example:
  streamkit create clicks --shards 4 --retention-hours 48
  streamkit create clicks --if-missing --data ./data
"""

from __future__ import annotations

import argparse

from streamkit.cli.common import add_target, count_of, open_target, say
from streamkit.config import Config
from streamkit.model.errors import UsageError
from streamkit.model.limits import RETENTION_HOURS_MAX, RETENTION_HOURS_MIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="the stream: letters, digits, _ . and -, at most 128")
    add("--shards", type=int, default=1, metavar="N", help="(default: 1)")
    add("--retention-hours", type=int, default=24, metavar="N", help="how long records are kept (default: 24)")
    add("--if-missing", action="store_true", help="leave a stream of that name as it is, and exit 0")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    if not RETENTION_HOURS_MIN <= options.retention_hours <= RETENTION_HOURS_MAX:
        raise UsageError(
            f"--retention-hours is {options.retention_hours}; records are kept between {RETENTION_HOURS_MIN} and "
            f"{RETENTION_HOURS_MAX} hours"
        )
    with open_target(options, config, makes_directory=True) as kit:
        if options.if_missing and options.name in kit.streams():
            say(f"stream {options.name} is there already")
            return 0
        info = kit.create_stream(
            options.name, shards=options.shards, retention_hours=options.retention_hours, exist_ok=options.if_missing
        )
    say(f"stream {info.name} is {info.status} with {count_of(len(info.open_shards), 'shard')}")
    return 0
