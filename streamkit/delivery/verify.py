"""Checks what a data directory knows of deliveries, while nobody has it open. Reads only, repairs nothing.

There are no checksums of staged objects and spool files: of those, sizes, row counts and Arrow's own structure are held
against what the control file says. What it does not name was left by a crash, and is removed by the next start.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from streamkit.delivery.rules import private_scope
from streamkit.delivery.service import plan_of
from streamkit.delivery.state import BufferState, DeliveryState, Progress, SealedState
from streamkit.model.errors import StreamkitError
from streamkit.model.names import StreamArn, shard_id
from streamkit.shards.store import Bounds
from streamkit.shards.verify import Finding
from streamkit.streams.directory import _locked
from streamkit.streams.verify import CONTROL_FILE, StreamReport

T = TypeVar("T")
_NOTHING: Final = Bounds(0, 0)
Streams = Mapping[StreamArn, StreamReport]


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """Of a delivery stream or channel. `staged_bytes`: sealed, and not delivered yet."""

    state: DeliveryState
    sealed_count: int
    buffers_count: int
    staged_bytes: int
    findings: list[Finding]

    @property
    def is_whole(self) -> bool:
        return not any(finding.is_damage for finding in self.findings)


@dataclass(slots=True)
class DeliveriesReport:
    """`findings`: what belongs to no delivery stream that is known."""

    deliveries: list[DeliveryReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        mine = not any(finding.is_damage for finding in self.findings)
        return mine and all(delivery.is_whole for delivery in self.deliveries)


def verify_deliveries(path: Path, streams: Iterable[StreamReport]) -> DeliveriesReport:
    """`streams`: of the same directory, with how far their logs go. Holds the directory's lock meanwhile: raises
    DataDirectoryInUse where somebody has it open."""
    with _locked(path):
        return _verify(path, {report.state.arn: report for report in streams})


def _verify(path: Path, streams: Streams) -> DeliveriesReport:
    control = path / CONTROL_FILE
    report = DeliveriesReport()
    try:
        documents, progress_documents = _documents(control)
    except sqlite3.DatabaseError as error:
        report.findings.append(Finding(control, None, f"what it says of deliveries cannot be read: {error}"))
        return report
    states: list[DeliveryState] = []
    for delivery_id, document in documents.items():
        state = _decoded(document, DeliveryState)
        if isinstance(state, DeliveryState):
            states.append(state)
        else:
            why = f"the document of delivery stream {delivery_id} cannot be read: {state}; no server starts with it"
            report.findings.append(Finding(control, None, why))
    for state in sorted(states, key=lambda each: (each.account, each.region, each.name)):
        report.deliveries.append(_verify_delivery(path, state, progress_documents.get(state.id), streams))
    for stray in sorted(progress_documents.keys() - documents.keys()):
        why = f"there is progress of delivery stream {stray}, which does not exist"
        report.findings.append(Finding(control, None, why))
    owned = {StreamArn(private_scope(state.scope), state.name) for state in states}
    report.findings += _left(path, documents.keys(), owned, streams)
    return report


def _documents(control: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Delivery streams and their progress by id, as they are stored; see `streamkit.delivery.store`."""
    db = sqlite3.connect(f"{control.resolve().as_uri()}?mode=rw", uri=True)
    try:
        tables = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
        streams, progress = (
            dict(db.execute(f"select id, document from {table} order by id")) if table in tables else {}
            for table in ("delivery_streams", "delivery_progress")
        )
        return streams, progress
    finally:
        db.close()


def _decoded(document: bytes, kind: type[T]) -> T | str:
    """What it says, or why it says nothing."""
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError) as error:  # SQLite keeps whatever it is given
        return str(error)


def _left(path: Path, known: Iterable[str], owned: set[StreamArn], streams: Streams) -> Iterator[Finding]:
    """What a crash left, or the loss of a document."""
    folder = path / "delivery"
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names.difference(known)):
        why = "it belongs to no delivery stream; a crash left it, and the next start removes it"
        yield Finding(folder / name, None, why, is_damage=False)
    for arn, stream in streams.items():
        if stream.state.is_private and arn not in owned:
            why = f"it holds direct puts of {arn.name}, which does not exist; the next start removes it"
            yield Finding(path / "streams" / stream.state.id, None, why, is_damage=False)


def _verify_delivery(path: Path, state: DeliveryState, document: bytes | None, streams: Streams) -> DeliveryReport:
    control, directory = path / CONTROL_FILE, path / "delivery" / state.id
    findings = [Finding(control, None, f"{_kind(state)} {state.name} {why}") for why in _state_faults(state)]
    progress = Progress() if document is None else _decoded(document, Progress)
    if isinstance(progress, str):
        why = f"how far {state.name} has come cannot be read: {progress}; what is staged is delivered by nobody"
        return DeliveryReport(state, 0, 0, 0, [*findings, Finding(control, None, why)])
    findings += (Finding(control, None, why) for why in _number_faults(state, progress))
    findings += (Finding(control, None, why) for why in _position_faults(state, progress, streams))
    for sealed in progress.sealed:
        findings += _sealed_faults(directory / "staged" / str(sealed.number), sealed)
    for buffer in progress.buffers:
        findings += _buffer_faults(directory, buffer)
    staged = {str(each.number) for each in progress.sealed}
    spools = {str(piece.spool) for buffer in progress.buffers for piece in buffer.pieces}
    findings += _strangers(directory / "staged", staged)
    findings += _strangers(directory / "spool", spools)
    staged_bytes = sum(each.size_bytes for each in progress.sealed)
    return DeliveryReport(state, len(progress.sealed), len(progress.buffers), staged_bytes, findings)


def _kind(state: DeliveryState) -> str:
    return "channel" if state.is_channel else "delivery stream"


def _state_faults(state: DeliveryState) -> Iterator[str]:
    try:
        plan_of(state)
    except StreamkitError as error:
        yield f"cannot work as its document says: {error.message}"
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        yield f"has a document that lacks what it needs, or has it in another form: {error!r}"


def _number_faults(state: DeliveryState, progress: Progress) -> Iterator[str]:
    numbers = [each.number for each in progress.sealed]
    if len(set(numbers)) < len(numbers):
        yield f"{state.name} has two objects of one number: one of them is not on this disk any more"
    if numbers and max(numbers) >= progress.next_number:
        yield f"{state.name} gives number {progress.next_number} next, and has an object {max(numbers)} already"
    spools = [piece.spool for buffer in progress.buffers for piece in buffer.pieces]
    if spools and max(spools) >= progress.next_spool:
        yield f"{state.name} writes spool file {progress.next_spool} next, and needs file {max(spools)} already"


def _position_faults(state: DeliveryState, progress: Progress, streams: Streams) -> Iterator[str]:
    """Against the stream that was read. One that was deleted since, or made anew, has other offsets."""
    if state.source is None:
        arn: StreamArn | None = StreamArn(private_scope(state.scope), state.name)
    else:
        arn = StreamArn.parse(state.source.stream_arn)
    report = None if arn is None else streams.get(arn)
    if report is None:
        if state.source is None:
            yield f"the stream that holds direct puts to {state.name} is missing, and what was in it"
        return
    if progress.incarnation != report.state.id:
        return
    newest = max((shard.index for shard in report.state.shards), default=-1)
    for index, offset in sorted(progress.positions.items()):
        end = report.log.bounds.get(index, _NOTHING).next_offset
        if index > newest:
            yield f"{state.name} has read {shard_id(index)}, which {report.state.name} does not have"
        elif not 0 <= offset <= end:
            yield (
                f"{state.name} has read {shard_id(index)} to record {offset:,}, and it ends before record {end:,}: "
                "what is put there next is not delivered"
            )


def _sealed_faults(path: Path, sealed: SealedState) -> Iterator[Finding]:
    what = f"a sealed object of {sealed.records_count:,} records ({_places(sealed)})"
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        yield Finding(path, None, f"it is missing: {what}, which was not delivered yet")
        return
    if size_bytes != sealed.size_bytes:
        yield Finding(path, None, f"it has {size_bytes:,} bytes, and was sealed with {sealed.size_bytes:,}: {what}")


def _buffer_faults(directory: Path, buffer: BufferState) -> Iterator[Finding]:
    import pyarrow as pa  # slow to import, and rarely needed

    from streamkit.delivery.stage import Stage

    stage, rows, is_read = Stage(directory), 0, True
    for piece in buffer.pieces:
        path = directory / "spool" / str(piece.spool)
        what = f"rows of a buffer of {buffer.records_count:,} records ({_places(buffer)})"
        try:
            for batch in stage.read_spool(piece):
                batch.validate(full=True)
                rows += batch.num_rows
        except FileNotFoundError:
            is_read = False
            yield Finding(path, None, f"it is missing: {what}")
        except (OSError, struct.error, AssertionError, MemoryError, OverflowError, pa.ArrowException) as error:
            is_read = False
            yield Finding(path, None, f"its part {piece.index} cannot be read ({error!r}): {what}")
    if is_read and rows != buffer.records_count:
        names = ", ".join(sorted({str(piece.spool) for piece in buffer.pieces})) or "none"
        why = f"a buffer of {buffer.records_count:,} records ({_places(buffer)}) has {rows:,} rows in files {names}"
        yield Finding(directory / "spool", None, why)


def _places(of: SealedState | BufferState) -> str:
    ranges = (f"{shard_id(each.shard)} {each.first:,} to {each.last:,}" for each in of.ranges)
    return ", ".join(ranges) or "of no shard"


def _strangers(folder: Path, named: set[str]) -> Iterator[Finding]:
    names = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names - named):
        why = "no delivery stream needs it; a crash left it, and the next start removes it"
        yield Finding(folder / name, None, why, is_damage=False)
