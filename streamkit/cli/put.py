"""Put a record, or each line of standard input; prints the shard and the sequence number of each.

A line is printed when its record is durable. Empty lines are left out.

example:
  streamkit put clicks --key user-1 --text '{"page": "/"}'
  streamkit put clicks --key user-1 --file picture.png
  printf 'one\ntwo\n' | streamkit put clicks --key user-1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from streamkit.cli.common import (
    add_target,
    hash_key,
    open_target,
    print_json,
    say,
    standard_input,
    whole_lines,
)
from streamkit.config import Config
from streamkit.kit.backend import Placement
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB, RECORD_BYTES_MAX

_BLOCK_BYTES: Final = 1 * MIB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help="the stream")
    add("--key", required=True, help="the partition key: records of one key keep their order")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", help="put this text as one record (default: each line of standard input)")
    what.add_argument("--file", type=Path, help="put this file as one record")
    add("--explicit-hash-key", type=hash_key, metavar="HASH", help="choose the shard by this instead of the key")
    add("--json", action="store_true", help="print one JSON object a record")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    with open_target(options, config) as kit:

        def put(values: list[bytes]) -> Iterable[Placement]:
            if options.explicit_hash_key is None:
                return kit.put_many(options.name, [(options.key, value) for value in values])
            return (
                kit.put(options.name, value, partition_key=options.key, explicit_hash_key=options.explicit_hash_key)
                for value in values
            )

        for values in _records(options):
            for placed in put(values):
                _print(placed, as_json=options.json)
            sys.stdout.flush()
    return 0


def _records(options: argparse.Namespace) -> Iterator[list[bytes]]:
    if options.text is not None:
        yield [options.text.encode()]
    elif options.file is not None:
        yield [_content(options.file)]
    else:
        if sys.stdin.isatty():
            say("one record a line; end with Ctrl-D")
        for block in whole_lines(standard_input(), _BLOCK_BYTES, RECORD_BYTES_MAX):
            yield [line for line in block.replace(b"\r\n", b"\n").split(b"\n") if line]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _print(placed: Placement, *, as_json: bool) -> None:
    if as_json:
        print_json(placed._asdict())
    else:
        print(placed.shard_id, placed.sequence_number)
