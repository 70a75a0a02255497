"""Show a stream and its shards: where they came from, which hash keys they own, and whether they are open.

Closed shards are shown while their records can still be read.

example:
  streamkit describe clicks
  streamkit describe clicks --json | jq '.shards[] | select(.is_open) | .shard_id'
"""

from __future__ import annotations

import argparse

from streamkit.cli.common import add_target, open_target, print_stream
from streamkit.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the stream")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    with open_target(options, config) as kit:
        info = kit.describe(options.name)
    print_stream(info, as_json=options.json)
    return 0
