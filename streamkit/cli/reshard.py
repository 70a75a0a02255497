"""Split a shard, merge two neighbours, or change the number of shards; prints the new layout.

Records stay where they are: readers read a closed shard to its end, then its children.

example:
  streamkit reshard clicks --to 4
  streamkit reshard clicks --split 0
  streamkit reshard clicks --merge 1 2
"""

from __future__ import annotations

import argparse

from streamkit.cli.common import add_target, hash_key, open_target, print_stream, shard_number
from streamkit.config import Config
from streamkit.kit.backend import StreamInfo
from streamkit.kit.blocking import BlockingKit
from streamkit.model.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="the stream")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--to", type=int, metavar="N", help="make N equal shards: at most double as many, at least half")
    how.add_argument("--split", type=shard_number, metavar="SHARD", help="split this shard, in the middle or --at")
    how.add_argument("--merge", type=shard_number, nargs=2, metavar=("A", "B"), help="merge two neighbours")
    add("--at", type=hash_key, metavar="HASH", help="the first hash key of the second child of --split")
    add("--json", action="store_true", help="print the layout as one JSON object")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    if options.at is not None and options.split is None:
        raise UsageError("--at says where --split splits; there is no --split")
    with open_target(options, config) as kit:
        info = _changed(kit, options)
    print_stream(info, as_json=options.json)
    return 0


def _changed(kit: BlockingKit, options: argparse.Namespace) -> StreamInfo:
    if options.to is not None:
        return kit.update_shard_count(options.name, options.to)
    if options.split is not None:
        return kit.split_shard(options.name, options.split, at_hash_key=options.at)
    first, second = _in_order(kit.describe(options.name), *options.merge)
    return kit.merge_shards(options.name, first, second)


def _in_order(info: StreamInfo, *shards: int) -> list[int]:
    """The API wants the lower neighbour first; people need not know which that is."""
    starts = {shard.index: shard.first_hash_key for shard in info.shards}
    return sorted(shards, key=lambda index: starts.get(index, 0))
