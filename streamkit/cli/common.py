"""What the commands share: where streams are, how things are printed, how input is read."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from streamkit.config import Config
from streamkit.kit.backend import ShardInfo, StreamInfo
from streamkit.kit.blocking import BlockingKit, open_blocking
from streamkit.kit.consumer import Start
from streamkit.kit.kit import DEFAULT_ACCOUNT, DEFAULT_REGION
from streamkit.kit.lambda_client import LambdaClient
from streamkit.model.errors import UsageError
from streamkit.model.names import ACCOUNT_ID, Scope, shard_id, shard_index
from streamkit.streams.verify import CONTROL_FILE

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4566"
_TIME_AGO: Final = re.compile(r"-?(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# -- where -----------------------------------------------------------------------------------------------------------


def add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the streams are")
    place = group.add_mutually_exclusive_group()
    place.add_argument("--endpoint", metavar="URL", help=f"a running server (default: {DEFAULT_ENDPOINT})")
    place.add_argument("--data", type=Path, metavar="DIR", help="a data directory that no server has open")
    group.add_argument("--account-id", metavar="ID", help=f"the streams' account (default: {DEFAULT_ACCOUNT})")
    group.add_argument("--region", help=f"the streams' region (default: {DEFAULT_REGION})")


def open_target(options: argparse.Namespace, config: Config, *, makes_directory: bool = False) -> BlockingKit:
    """The server, or the directory that `--data` names. The `data` of the environment or of streamkit.toml is the
    server's: it has that directory open, so only the flag means it here."""
    account, region = scope_of(options, config)
    if options.data is None:
        return open_blocking(endpoint_of(options, config), account=account, region=region)
    if not makes_directory and not (options.data / CONTROL_FILE).exists():
        raise UsageError(
            f"{options.data} is no data directory; `streamkit create NAME --data {options.data}` makes one"
        )
    return open_blocking(options.data, account=account, region=region)


def add_endpoint(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """For what only a server has. `again`: for the parser of a verb, whose command has these options, too."""
    group = parser.add_argument_group("where the server is")
    default = argparse.SUPPRESS if again else None
    add = group.add_argument
    add("--endpoint", metavar="URL", default=default, help=f"a running server (default: {DEFAULT_ENDPOINT})")
    add("--account-id", metavar="ID", default=default, help=f"whose functions (default: {DEFAULT_ACCOUNT})")
    add("--region", default=default, help=f"in which region (default: {DEFAULT_REGION})")


def open_functions(options: argparse.Namespace, config: Config) -> LambdaClient:
    """To be used with `async with`."""
    return LambdaClient(endpoint_of(options, config), scope_of(options, config))


def scope_of(options: argparse.Namespace, config: Config) -> Scope:
    account = config.value("account_id", options.account_id, str, DEFAULT_ACCOUNT)
    if not ACCOUNT_ID.fullmatch(account):
        raise UsageError(f"--account-id is {account!r}; an AWS account has 12 digits")
    return Scope(account, config.value("region", options.region, str, DEFAULT_REGION))


def endpoint_of(options: argparse.Namespace, config: Config) -> str:
    endpoint: str = config.value("endpoint", options.endpoint, str, DEFAULT_ENDPOINT)
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint is {endpoint!r}; one looks like {DEFAULT_ENDPOINT}")
    return endpoint


def verb_parsers(parser: argparse.ArgumentParser, command: str) -> Callable[[str, str], argparse.ArgumentParser]:
    """For a command with verbs: makes the parser of one, by its name and what it does. `options.verb` is None where
    none was given. The command has --json and what `add_endpoint` adds; they may stand after the verb, too."""
    parser.set_defaults(verb=None)
    made = parser.add_subparsers(
        dest="verb", metavar="VERB", help=f"`streamkit {command} VERB --help` shows its options"
    )

    def make(name: str, text: str) -> argparse.ArgumentParser:
        verb = made.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        add_endpoint(verb, again=True)
        return verb

    return make


def is_meant(what: str) -> bool:
    """Asks on the terminal before something is deleted."""
    print(f"Delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def shard_number(text: str) -> int:
    """For argparse: `shardId-000000000003` or `3`."""
    index = shard_index(text)
    if index is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; one looks like shardId-000000000003, or 3")
    return index


def hash_key(text: str) -> int:
    """For argparse: decimal as AWS writes it, or hexadecimal with 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no hash key; one is a number from 0 to 2^128 - 1") from None


def time_ago(text: str) -> datetime:
    """For argparse: `10m` or `-10m`; s, m, h or d before now."""
    ago = _TIME_AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except OverflowError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no time ago; one looks like 10m (s, m, h or d)")


def starting_position(text: str) -> Start:
    """For argparse."""
    if text.lower() == "latest":
        return "LATEST"
    if text.lower() in ("trim-horizon", "trim_horizon"):
        return "TRIM_HORIZON"
    try:
        return time_ago(text) if text.startswith("-") else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of latest, trim-horizon, a time ago like -10m, or a time like 2026-01-31T09:00"
        ) from None


# -- printing --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Talk: to standard error, so that records and listings stay clean."""
    print(text, file=sys.stderr, flush=True)


def print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns aligned; a heading that stands out on a terminal."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = "  ".join(name.ljust(width) for name, width in zip(head, widths, strict=True)).rstrip()
    print(f"\x1b[1m{title}\x1b[0m" if sys.stdout.isatty() else title)
    for line in lines:
        print(line)


def print_stream(info: StreamInfo, *, as_json: bool) -> None:
    shards = sorted(info.shards, key=lambda shard: shard.index)
    if as_json:
        print_json(stream_fields(info) | {"arn": info.arn, "shards": [_shard_fields(shard) for shard in shards]})
        return
    since = time_text(info.created_at_ms)
    print(f"{info.name}  {info.status}, {info.mode}, {info.retention_hours} h retention, since {since}")
    print(info.arn)
    print()
    rows = [
        (
            shard.shard_id,
            "open" if shard.is_open else "closed",
            ", ".join(map(str, shard.parents)) or "-",
            str(shard.first_hash_key),
            str(shard.last_hash_key),
        )
        for shard in shards
    ]
    print_table(("SHARD", "STATE", "PARENTS", "FIRST HASH KEY", "LAST HASH KEY"), rows)


def stream_fields(info: StreamInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "status": info.status,
        "mode": info.mode,
        "open_shards": len(info.open_shards),
        "retention_hours": info.retention_hours,
        "created_at": time_text(info.created_at_ms),
    }


def _shard_fields(shard: ShardInfo) -> dict[str, Any]:
    """Hash keys are text: they do not fit JSON's numbers."""
    return {
        "shard_id": shard.shard_id,
        "is_open": shard.is_open,
        "parents": [shard_id(parent) for parent in shard.parents],
        "first_hash_key": str(shard.first_hash_key),
        "last_hash_key": str(shard.last_hash_key),
    }


def time_text(at_ms: int) -> str:
    """ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count_of(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    size, unit = float(size_bytes), ""
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007 the last one tried is the one that fits
        size /= 1000
        if size < 999.95:
            break
    return f"{size:.1f} {unit}"


# -- reading ---------------------------------------------------------------------------------------------------------


class Source(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class LineTooLong(UsageError):
    """Longer than any record may be. The lines before it were handed out."""


def standard_input() -> Source:
    """Unbuffered: a read returns what has come, so that a slow producer's lines are not held back."""
    return os.fdopen(os.dup(0), "rb", buffering=0)


def whole_lines(source: Source, block_bytes: int, line_bytes_max: int) -> Iterator[bytes]:
    """The source in blocks that end where a line does (the last one may lack its newline)."""
    parts: list[bytes] = []
    held = 0
    while block := source.read(block_bytes):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join((*parts, memoryview(block)[:end]))
            parts, held = [], 0
        parts.append(block[end:])
        held += len(block) - end
        if held > line_bytes_max:
            raise LineTooLong(f"the line is longer than {line_bytes_max:,} bytes, the most a record can have")
    if held:
        yield b"".join(parts)
