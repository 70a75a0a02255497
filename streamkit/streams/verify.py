"""Checks a whole data directory that nobody has open: the control store, every log, and what must fit between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from streamkit.model import sequence
from streamkit.model.errors import UsageError
from streamkit.model.hashkey import HASH_KEYS_COUNT
from streamkit.model.names import StreamId, shard_id
from streamkit.shards.files import DiskFiles
from streamkit.shards.store import Bounds
from streamkit.shards.verify import Finding, LogReport, verify_log
from streamkit.streams.control import Checkpoint, ControlStore
from streamkit.streams.directory import _locked
from streamkit.streams.state import StreamState

CONTROL_FILE: Final = "control.sqlite"
_NOTHING: Final = Bounds(0, 0)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """`findings`: of its log, its shards and its checkpoints."""

    state: StreamState
    log: LogReport
    checkpoints_count: int
    findings: list[Finding]

    @property
    def is_whole(self) -> bool:
        return not any(finding.is_damage for finding in self.findings)


@dataclass(frozen=True, slots=True)
class DirectoryReport:
    """`findings`: what belongs to no stream that is known."""

    streams: list[StreamReport]
    findings: list[Finding]

    @property
    def is_whole(self) -> bool:
        mine = not any(finding.is_damage for finding in self.findings)
        return mine and all(stream.is_whole for stream in self.streams)


def verify_directory(path: Path) -> DirectoryReport:
    """Holds the directory's lock meanwhile: raises DataDirectoryInUse where somebody has it open, and UsageError where
    it is no data directory."""
    if not (path / CONTROL_FILE).exists() and not (path / "streams").exists():
        raise UsageError(f"{path} is no data directory: it has neither {CONTROL_FILE} nor streams/")
    with _locked(path):
        return _verify(path)


def _verify(path: Path) -> DirectoryReport:
    control = path / CONTROL_FILE
    findings = [Finding(control, None, why) for why in _faults_of(control)]
    if findings:
        return DirectoryReport([], findings)
    store = ControlStore(control)
    try:
        states, checkpoints = store.streams(), store.all_checkpoints()
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        return DirectoryReport([], [Finding(control, None, f"what it says of the streams cannot be read: {error}")])
    finally:
        store.close()
    states.sort(key=lambda state: (state.account, state.region, state.name))
    known = {state.id for state in states}
    findings += _strangers(path, known)
    for stray in sorted({each.stream for each in checkpoints} - known):
        findings.append(Finding(control, None, f"there are checkpoints of stream {stray}, which does not exist"))
    streams = [
        _verify_stream(path, state, [each for each in checkpoints if each.stream == state.id]) for state in states
    ]
    return DirectoryReport(streams, findings)


def _verify_stream(path: Path, state: StreamState, checkpoints: list[Checkpoint]) -> StreamReport:
    directory = path / "streams" / state.id
    log = verify_log(state.id, directory, DiskFiles())
    findings = list(log.findings)
    findings += (Finding(directory, None, why) for why in _shard_faults(state, log.bounds))
    findings += (
        Finding(path / CONTROL_FILE, None, f"the checkpoint of {each.consumer!r} at {shard_id(each.shard_index)} {why}")
        for each in checkpoints
        if (why := _checkpoint_fault(each, state, log.bounds)) is not None
    )
    return StreamReport(state, log, len(checkpoints), findings)


def _faults_of(control: Path) -> list[str]:
    """What SQLite finds wrong with its own file."""
    if not control.exists():
        return ["it is missing: nobody knows whose the logs are"]
    try:
        db = sqlite3.connect(f"{control.resolve().as_uri()}?mode=rw", uri=True)
        try:
            told = [str(row[0]) for row in db.execute("pragma integrity_check")]
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        return [f"it cannot be read: {error}"]
    return [] if told == ["ok"] else told


def _strangers(path: Path, known: Iterable[StreamId]) -> Iterator[Finding]:
    directory = path / "streams"
    for name in sorted(set(DiskFiles().names(directory)).difference(known)):
        why = "it belongs to no stream; a crash left it while its stream was deleted, and the next start removes it"
        yield Finding(directory / name, None, why, is_damage=False)


def _shard_faults(state: StreamState, bounds: dict[int, Bounds]) -> Iterator[str]:
    known = {shard.index for shard in state.shards}
    newest = max(known, default=-1)
    for index in sorted(bounds.keys() - known):  # the others left the retention
        if index > newest:
            yield f"there are records of {shard_id(index)}, which the stream does not have"
    for shard in state.shards:
        end = bounds.get(shard.index, _NOTHING).next_offset
        if shard.end_offset is not None and shard.end_offset != end:
            yield f"{shard.shard_id} was closed at record {shard.end_offset:,}, its log ends at {end:,}"
    at = 0
    for first, last in sorted(shard.hash_keys for shard in state.open_shards):
        if first != at:
            yield f"the open shards do not share out the hash keys: one begins at {first} where {at} is next"
        at = last + 1
    if at != HASH_KEYS_COUNT:
        yield f"the open shards do not share out the hash keys: nobody has those from {at} on"


def _checkpoint_fault(checkpoint: Checkpoint, state: StreamState, bounds: dict[int, Bounds]) -> str | None:
    position = sequence.parse(checkpoint.sequence_number)
    if position is None:
        return f"is {checkpoint.sequence_number!r}, no sequence number"
    if position.shard_index != checkpoint.shard_index:
        return f"is {checkpoint.sequence_number}, a number of {shard_id(position.shard_index)}"
    if checkpoint.shard_index > max(shard.index for shard in state.shards):
        return "is of a shard that the stream does not have"
    end = bounds.get(checkpoint.shard_index, _NOTHING).next_offset
    if position.offset >= end:
        return f"is {checkpoint.sequence_number}, record {position.offset:,}; the shard ends before record {end:,}"
    return None
