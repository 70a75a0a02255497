"""Check a data directory, every byte, without a server: checksums, the order of records, indexes, checkpoints.

Prints a line for each stream and each damage, with file and position. Exit status 1 where anything is damaged. What a
crash leaves and the next start puts right is told, and is no damage. Nothing is repaired.

example:
  streamkit verify ./data
  streamkit verify ./data --json | jq 'select(.kind == "damage")'
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from streamkit.cli.common import count_of, print_json, say, size_text
from streamkit.config import Config
from streamkit.shards.verify import Finding
from streamkit.streams.verify import DirectoryReport, StreamReport, verify_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the data directory; nobody may have it open")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: kind stream, damage or note")


def run(options: argparse.Namespace, config: Config) -> int:
    report = verify_directory(options.directory)
    for stream in report.streams:
        _print_stream(stream, as_json=options.json)
        _print_findings(stream.findings, as_json=options.json)
    _print_findings(report.findings, as_json=options.json)
    say(_verdict(options.directory, report))
    return 0 if report.is_whole else 1


def _print_stream(stream: StreamReport, *, as_json: bool) -> None:
    log, state = stream.log, stream.state
    if as_json:
        fields: dict[str, Any] = {
            "kind": "stream",
            "name": state.name,
            "account": state.account,
            "region": state.region,
            "id": state.id,
            "shards": len(state.shards),
            "segments": log.segments_count,
            "frames": log.frames_count,
            "records": log.records_count,
            "bytes": log.size_bytes,
            "checkpoints": stream.checkpoints_count,
            "is_whole": stream.is_whole,
        }
        print_json(fields)
        return
    parts = (
        count_of(len(state.shards), "shard"),
        count_of(log.segments_count, "segment"),
        count_of(log.records_count, "record"),
        size_text(log.size_bytes),
        count_of(stream.checkpoints_count, "checkpoint"),
    )
    print(f"{state.name} ({state.account}, {state.region}): {', '.join(parts)}: {_word(is_whole=stream.is_whole)}")


def _print_findings(findings: list[Finding], *, as_json: bool) -> None:
    for finding in findings:
        kind = "damage" if finding.is_damage else "note"
        if as_json:
            print_json({"kind": kind, "path": str(finding.path), "position": finding.position, "why": finding.why})
        else:
            where = "" if finding.position is None else f" at byte {finding.position}"
            print(f"{kind}: {finding.path}{where}: {finding.why}")


def _verdict(directory: Path, report: DirectoryReport) -> str:
    size = size_text(sum(stream.log.size_bytes for stream in report.streams))
    return f"{directory}: {count_of(len(report.streams), 'stream')}, {size} read: {_word(is_whole=report.is_whole)}"


def _word(*, is_whole: bool) -> str:
    return "whole" if is_whole else "DAMAGED"
