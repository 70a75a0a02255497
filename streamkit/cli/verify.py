"""Check a data directory, every byte, without a server: checksums, the order of records, indexes, checkpoints; and what
deliveries have sealed, buffered and read.

Prints a line for each stream, delivery stream and damage, with file and position. Exit status 1 where anything is
damaged. What a crash leaves and the next start puts right is told, and is no damage. Nothing is repaired.

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
from streamkit.delivery.verify import DeliveriesReport, DeliveryReport, verify_deliveries
from streamkit.shards.verify import Finding
from streamkit.streams.verify import DirectoryReport, StreamReport, verify_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the data directory; nobody may have it open")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line: kind stream, delivery, damage, note"
    )


def run(options: argparse.Namespace, config: Config) -> int:
    report = verify_directory(options.directory)
    for stream in report.streams:
        _print_stream(stream, as_json=options.json)
        _print_findings(stream.findings, as_json=options.json)
    _print_findings(report.findings, as_json=options.json)
    deliveries = DeliveriesReport()
    if report.streams or report.is_whole:  # otherwise nobody can say what there should be
        deliveries = verify_deliveries(options.directory, report.streams)
    for delivery in deliveries.deliveries:
        _print_delivery(delivery, as_json=options.json)
        _print_findings(delivery.findings, as_json=options.json)
    _print_findings(deliveries.findings, as_json=options.json)
    say(_verdict(options.directory, report, deliveries))
    return 0 if report.is_whole and deliveries.is_whole else 1


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


def _print_delivery(delivery: DeliveryReport, *, as_json: bool) -> None:
    state = delivery.state
    if as_json:
        fields: dict[str, Any] = {
            "kind": "delivery",
            "name": state.name,
            "account": state.account,
            "region": state.region,
            "id": state.id,
            "is_channel": state.is_channel,
            "sealed": delivery.sealed_count,
            "buffers": delivery.buffers_count,
            "bytes": delivery.staged_bytes,
            "is_whole": delivery.is_whole,
        }
        print_json(fields)
        return
    parts = (
        f"{count_of(delivery.sealed_count, 'object')} to deliver",
        size_text(delivery.staged_bytes),
        f"{count_of(delivery.buffers_count, 'buffer')} on disk",
    )
    kind = "channel" if state.is_channel else "delivery stream"
    word = _word(is_whole=delivery.is_whole)
    print(f"{kind} {state.name} ({state.account}, {state.region}): {', '.join(parts)}: {word}")


def _print_findings(findings: list[Finding], *, as_json: bool) -> None:
    for finding in findings:
        kind = "damage" if finding.is_damage else "note"
        if as_json:
            print_json({"kind": kind, "path": str(finding.path), "position": finding.position, "why": finding.why})
        else:
            where = "" if finding.position is None else f" at byte {finding.position}"
            print(f"{kind}: {finding.path}{where}: {finding.why}")


def _verdict(directory: Path, report: DirectoryReport, deliveries: DeliveriesReport) -> str:
    size = size_text(sum(stream.log.size_bytes for stream in report.streams))
    parts = [count_of(len(report.streams), "stream")]
    if deliveries.deliveries:
        parts.append(count_of(len(deliveries.deliveries), "delivery stream"))
    word = _word(is_whole=report.is_whole and deliveries.is_whole)
    return f"{directory}: {', '.join(parts)}, {size} read: {word}"


def _word(*, is_whole: bool) -> str:
    return "whole" if is_whole else "DAMAGED"
