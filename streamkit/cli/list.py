"""List the streams of an account and region.

example:
  streamkit list
  streamkit list --json | jq -r .name
"""

from __future__ import annotations

import argparse

from streamkit.cli.common import add_target, open_target, print_json, print_table, say, stream_fields
from streamkit.config import Config
from streamkit.kit.backend import StreamInfo
from streamkit.kit.blocking import BlockingKit
from streamkit.model.errors import ResourceNotFound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    with open_target(options, config) as kit:
        found = _described(kit)
    streams = [stream_fields(info) for info in found]
    if options.json:
        for stream in streams:
            print_json(stream)
    elif streams:
        head = ("NAME", "STATUS", "MODE", "OPEN SHARDS", "RETENTION HOURS", "CREATED")
        print_table(head, [tuple(map(str, stream.values())) for stream in streams])
    else:
        say("no streams; `streamkit create NAME` makes one")
    return 0


def _described(kit: BlockingKit) -> list[StreamInfo]:
    found = []
    for name in kit.streams():
        try:
            found.append(kit.describe(name))
        except ResourceNotFound:  # deleted meanwhile
            pass
    return found
