"""What functions print, and what is put in its place: log groups and streams under `<data>/functions/logs`.

Logs are no promises: they are handed to the operating system within `LOG_FLUSH_MS` and never synced, so a killed server
keeps them and a power cut may not. Each group holds at most `LOG_GROUP_BYTES_MAX`; the oldest go. A handler that prints
without end loses what passes its rate, and a line says how much.

All calls are made on the event loop; writing costs a list entry, a file is written by the flush.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from streamkit.clock import Clock, Timer
from streamkit.functions.logs_files import (
    Block,
    Declaration,
    Entry,
    GroupFile,
    Segment,
    directory_name,
    events_in,
    read_group,
    segments_in,
    write_group,
)
from streamkit.functions.logs_patterns import Matches
from streamkit.log import PATH
from streamkit.model.errors import LimitExceeded, ResourceAlreadyExists, ResourceNotFound, StorageUnavailable
from streamkit.model.limits import (
    HOUR_MS,
    LOG_BUFFER_BYTES_MAX,
    LOG_BURST_BYTES,
    LOG_BYTES_PER_S,
    LOG_ENTRY_COST_BYTES,
    LOG_EVENT_OVERHEAD_BYTES,
    LOG_FILES_OPEN_MAX,
    LOG_FLUSH_MS,
    LOG_GROUP_BYTES_MAX,
    LOG_GROUPS_MAX,
    LOG_PAGE_BYTES_MAX,
    LOG_SEGMENTS_PER_GROUP,
    LOG_STREAMS_PER_GROUP_MAX,
)
from streamkit.model.names import Scope

_log = logging.getLogger(__name__)

_DAY_MS: Final = 24 * HOUR_MS
_READ_AT_ONCE: Final = 1_000  # entries
_GROUP_MISSING: Final = "The specified log group does not exist."
_STREAM_MISSING: Final = "The specified log stream does not exist."


class Key(NamedTuple):
    """Where an event stands among all of its group: by time, then as they came. Stays so while the event is kept."""

    timestamp_ms: int
    segment: int
    position: int
    place: int

    def __str__(self) -> str:
        return f"{self.timestamp_ms:020d}{self.segment:010d}{self.position:014d}{self.place:012d}"

    @classmethod
    def parse(cls, text: str) -> Key | None:
        if len(text) != 56 or not (text.isascii() and text.isdecimal()):
            return None
        return cls(int(text[:20]), int(text[20:30]), int(text[30:44]), int(text[44:]))


FIRST_KEY: Final = Key(0, 0, 0, 0)


class LogEvent(NamedTuple):
    key: Key
    stream: str
    message: str
    ingested_ms: int

    @property
    def timestamp_ms(self) -> int:
        return self.key.timestamp_ms


@dataclass(frozen=True, slots=True)
class GroupDescription:
    name: str
    created_at_ms: int
    retention_days: int | None
    stored_bytes: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamDescription:
    name: str
    created_at_ms: int
    first_event_ms: int | None
    last_event_ms: int | None
    last_ingested_ms: int | None
    stored_bytes: int


class Writer:
    """Where an execution environment's output goes. `write` is given to it as its `LogSink`."""

    __slots__ = (
        "_buffered",
        "_dropped",
        "_entries",
        "_is_waiting",
        "_logs",
        "_now_ms",
        "_refilled_ms",
        "_room",
        "group",
        "scope",
        "stream",
    )

    def __init__(self, logs: FunctionLogs, scope: Scope, group: str, stream: str, clock: Clock) -> None:
        self.scope = scope
        self.group = group
        self.stream = stream
        self._logs = logs
        self._now_ms = clock.now_ms
        self._entries: list[Entry] = []
        self._is_waiting = False
        self._buffered = 0
        self._room = LOG_BURST_BYTES
        self._refilled_ms = clock.now_ms()
        self._dropped = 0

    def write(self, lines: bytes) -> None:
        """Adds lines: each is an event, the last also where nothing ends it. Never fails and never blocks for long."""
        self._add(lines, False)

    def event(self, message: bytes) -> None:
        """Adds one event, whatever lines it has."""
        self._add(message, True)

    def _add(self, data: bytes, is_event: bool) -> None:
        if not data:
            return
        now_ms = self._now_ms()
        cost = len(data) + LOG_ENTRY_COST_BYTES
        if cost > self._room:
            self._refill(now_ms)
            if cost > self._room:
                fitting = max(0, self._room - LOG_ENTRY_COST_BYTES)
                self._dropped += len(data) - fitting
                data, cost = data[:fitting], self._room if fitting else 0
        self._room -= cost
        self._buffered += cost
        if data:
            self._entries.append((now_ms, now_ms, data, is_event))
        if not self._is_waiting:
            self._is_waiting = True
            self._logs.wait_for_flush(self)
        if self._buffered > LOG_BUFFER_BYTES_MAX:
            self._logs.flush()

    def _refill(self, now_ms: int) -> None:
        passed_ms = max(0, now_ms - self._refilled_ms)  # a clock that was set back only delays it
        self._refilled_ms = now_ms
        self._room = min(LOG_BURST_BYTES, self._room + passed_ms * LOG_BYTES_PER_S // 1000)

    def take(self) -> list[Entry]:
        """What is to be written now; for `FunctionLogs`."""
        entries, self._entries = self._entries, []
        self._is_waiting, self._buffered = False, 0
        if self._dropped:
            now_ms = self._now_ms()
            rate = f"the environment wrote more than {LOG_BYTES_PER_S:,} bytes a second"
            entries.append((now_ms, now_ms, f"{self._dropped:,} bytes dropped: {rate}\n".encode(), True))
            self._dropped = 0
        return entries


class _Group:
    """A log group that is loaded: its segments, and which streams they hold."""

    def __init__(self, directory: Path, file: GroupFile, bytes_max: int) -> None:
        self.directory = directory
        self.file = file
        self.bytes_max = bytes_max
        self.segments: list[Segment] = []
        self.streams: dict[str, int] = {}
        self.declarations: dict[int, Declaration] = {}
        self.flushed = asyncio.Event()  # set, and replaced, whenever there is more to read
        self.is_deleted = False
        self._next_stream = 1

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def stored_bytes(self) -> int:
        return sum(kept.stored_bytes for segment in self.segments for kept in segment.kept.values())

    def load(self) -> None:
        deleted = set(self.file.deleted_streams)
        for segment in segments_in(self.directory):
            segment.load()
            self.segments.append(segment)
            for number, declaration in segment.declarations.items():
                self._next_stream = max(self._next_stream, number + 1)
                if number not in deleted:
                    self.streams[declaration.name] = number
                    self.declarations[number] = declaration
        self._next_stream = max([self._next_stream, *(number + 1 for number in deleted)])

    def save(self) -> None:
        try:
            write_group(self.directory, self.file)
        except OSError as error:
            raise StorageUnavailable(f"The log group could not be stored: {error}.") from error

    def describe(self) -> GroupDescription:
        file = self.file
        return GroupDescription(file.name, file.created_at_ms, file.retention_days, self.stored_bytes, dict(file.tags))

    def describe_stream(self, name: str) -> StreamDescription:
        number = self.streams[name]
        kept = [segment.kept[number] for segment in self.segments if number in segment.kept]
        first = [each.first_ms for each in kept if each.first_ms is not None]
        last = [each.last_ms for each in kept if each.last_ms is not None]
        ingested = [each.ingested_ms for each in kept if each.ingested_ms is not None]
        return StreamDescription(
            name,
            self.declarations[number].created_at_ms,
            min(first, default=None),
            max(last, default=None),
            max(ingested, default=None),
            sum(each.stored_bytes for each in kept),
        )

    # -- writing -----------------------------------------------------------------------------------------------------

    def stream(self, name: str, now_ms: int) -> int:
        """The number of a stream, which is made where it is missing. Raises OSError."""
        number = self.streams.get(name)
        if number is None:
            number = self._next_stream
            self._tip(now_ms).declare(number, declaration := Declaration(name, now_ms))
            self._next_stream += 1
            self.streams[name], self.declarations[number] = number, declaration
        return number

    def append(self, stream: str, entries: Sequence[Entry], now_ms: int) -> None:
        """Raises OSError."""
        number = self.stream(stream, now_ms)
        tip = self._tip(now_ms)
        if number not in tip.declarations:
            tip.declare(number, self.declarations[number])
        tip.add(number, entries)
        flushed, self.flushed = self.flushed, asyncio.Event()
        flushed.set()

    def _tip(self, now_ms: int) -> Segment:
        """The segment to write to; makes room for it where it is a new one."""
        segment_bytes = self.bytes_max // LOG_SEGMENTS_PER_GROUP
        if self.segments and self.segments[-1].size < segment_bytes:
            return self.segments[-1]
        if self.segments:
            self.segments[-1].close()
        self.make_room(now_ms, segment_bytes)
        number = self.segments[-1].number + 1 if self.segments else 1
        self.segments.append(Segment(self.directory, number))
        return self.segments[-1]

    def make_room(self, now_ms: int, wanted_bytes: int = 0) -> None:
        """Removes the oldest segments: beyond the group's size, and beyond its retention. The last one stays."""
        size = sum(segment.size for segment in self.segments) + wanted_bytes
        oldest_ms = self.oldest_ms(now_ms)
        while len(self.segments) > 1:
            oldest = self.segments[0]
            ingested_ms = oldest.ingested_ms
            if size <= self.bytes_max and (ingested_ms is None or ingested_ms >= oldest_ms):
                return
            oldest.remove()
            size -= oldest.size
            del self.segments[0]
            self._forget_streams(oldest.declarations)

    def oldest_ms(self, now_ms: int) -> int:
        """Events before it are past the group's retention."""
        days = self.file.retention_days
        return 0 if days is None else now_ms - days * _DAY_MS

    def _forget_streams(self, numbers: Iterable[int]) -> None:
        """Of a removed segment: streams that no other holds are gone."""
        for number in numbers:
            if any(number in segment.declarations for segment in self.segments):
                continue
            declaration = self.declarations.pop(number, None)
            if declaration is not None and self.streams.get(declaration.name) == number:
                del self.streams[declaration.name]
            if number in self.file.deleted_streams:
                self.file.deleted_streams.remove(number)

    def delete_stream(self, name: str) -> None:
        number = self.streams.pop(name)
        del self.declarations[number]
        self.file.deleted_streams.append(number)
        self.save()

    def close(self) -> None:
        for segment in self.segments:
            segment.close()

    def delete(self) -> None:
        self.is_deleted = True
        self.flushed.set()
        (self.directory / "group.json").unlink(missing_ok=True)  # first: without it the rest is not a group
        for segment in self.segments:
            segment.remove()
        self.directory.rmdir()

    # -- reading -----------------------------------------------------------------------------------------------------

    def holders(self, numbers: Mapping[int, str]) -> list[Segment]:
        """Segments with events of these streams."""
        held = [segment for segment in self.segments if not numbers.keys().isdisjoint(segment.kept)]
        return [segment for segment in held if segment.has_events]


class FunctionLogs:
    """All log groups of a data directory."""

    def __init__(self, directory: Path, clock: Clock, *, group_bytes_max: int = LOG_GROUP_BYTES_MAX) -> None:
        """Finds the groups that are there; each is read when it is first used."""
        self._directory = directory
        self._clock = clock
        self._group_bytes_max = group_bytes_max
        self._found: dict[tuple[Scope, str], tuple[Path, GroupFile]] = {}
        self._groups: dict[tuple[Scope, str], _Group] = {}
        self._open: dict[Path, _Group] = {}  # the one written to last is the last
        self._waiting: list[Writer] = []
        self._timer: Timer | None = None
        self.dropped_bytes = 0  # because the disk refused them; what a writer's rate refused, its stream says
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.iterdir()):
            file = read_group(path)
            if file is not None:
                self._found[Scope(file.account, file.region), file.name] = (path, file)

    def close(self) -> None:
        """Writes what is buffered."""
        self.flush()
        for group in self._groups.values():
            group.close()
            group.flushed.set()

    # -- writing -----------------------------------------------------------------------------------------------------

    def open(self, scope: Scope, group: str, stream: str) -> Writer:
        """A writer for a stream, which is made with its first lines, and its group too."""
        return Writer(self, scope, group, stream, self._clock)

    def put(self, scope: Scope, group: str, stream: str, events: Iterable[tuple[int, bytes]]) -> None:
        """Adds events (timestamp, message) in order, at once.

        Raises ResourceNotFound, StorageUnavailable.
        """
        self.flush()
        found = self._existing(scope, group)
        if stream not in found.streams:
            raise ResourceNotFound(_STREAM_MISSING)
        now_ms = self._clock.now_ms()
        entries: list[Entry] = [(timestamp_ms, now_ms, message, True) for timestamp_ms, message in events]
        if not entries:
            return
        try:
            found.append(stream, entries, now_ms)
        except OSError as error:
            raise StorageUnavailable(f"The log events could not be stored: {error}.") from error

    def wait_for_flush(self, writer: Writer) -> None:
        """For `Writer`: it has something for the next flush."""
        self._waiting.append(writer)
        if self._timer is None:
            self._timer = self._clock.call_later(LOG_FLUSH_MS, self.flush)

    def flush(self) -> None:
        """Hands what is buffered to the operating system; what the disk refuses is dropped, counted and logged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        now_ms = self._clock.now_ms()
        for writer in waiting:
            entries = writer.take()
            try:
                group = self._ensured(writer.scope, writer.group, now_ms)
                group.append(writer.stream, entries, now_ms)
                self._keep_open(group)
            except (OSError, StorageUnavailable, LimitExceeded) as error:
                lost = sum(len(entry[2]) for entry in entries)
                self.dropped_bytes += lost
                _log.error("%d bytes of a function's log dropped: %s", lost, error, extra={PATH: writer.group})

    # -- groups and streams ------------------------------------------------------------------------------------------

    def groups(self, scope: Scope, prefix: str = "") -> list[str]:
        """Names, sorted."""
        self.flush()
        return sorted(name for at, name in {**self._found, **self._groups} if at == scope and name.startswith(prefix))

    def create_group(self, scope: Scope, name: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Raises ResourceAlreadyExists, LimitExceeded, StorageUnavailable."""
        self.flush()
        if self._get(scope, name) is not None:
            raise ResourceAlreadyExists("The specified log group already exists")
        self._create(scope, name, self._clock.now_ms(), tags or {})

    def delete_group(self, scope: Scope, name: str) -> None:
        """With all its streams. Raises ResourceNotFound."""
        self.flush()
        group = self._existing(scope, name)
        self._open.pop(group.directory, None)
        del self._groups[scope, name]
        group.delete()

    def delete_all(self) -> None:
        """All groups of everybody."""
        self.flush()
        for scope, name in {**self._found, **self._groups}:
            self.delete_group(scope, name)

    def describe_group(self, scope: Scope, name: str) -> GroupDescription:
        """Raises ResourceNotFound."""
        self.flush()
        return self._existing(scope, name).describe()

    def set_retention(self, scope: Scope, name: str, days: int | None) -> None:
        """None keeps events for as long as there is room. Raises ResourceNotFound, StorageUnavailable."""
        self.flush()
        group = self._existing(scope, name)
        group.file.retention_days = days
        group.save()
        group.make_room(self._clock.now_ms())

    def set_tags(self, scope: Scope, name: str, tags: Mapping[str, str]) -> None:
        """Replaces all of them. Raises ResourceNotFound, StorageUnavailable."""
        self.flush()
        group = self._existing(scope, name)
        group.file.tags = dict(tags)
        group.save()

    def create_stream(self, scope: Scope, group: str, name: str) -> None:
        """Raises ResourceNotFound, ResourceAlreadyExists, LimitExceeded, StorageUnavailable."""
        self.flush()
        found = self._existing(scope, group)
        if name in found.streams:
            raise ResourceAlreadyExists("The specified log stream already exists")
        if len(found.streams) >= LOG_STREAMS_PER_GROUP_MAX:
            raise LimitExceeded("Resource limit exceeded.")
        try:
            found.stream(name, self._clock.now_ms())
        except OSError as error:
            raise StorageUnavailable(f"The log stream could not be stored: {error}.") from error

    def delete_stream(self, scope: Scope, group: str, name: str) -> None:
        """Raises ResourceNotFound, StorageUnavailable."""
        self.flush()
        found = self._existing(scope, group)
        if name not in found.streams:
            raise ResourceNotFound(_STREAM_MISSING)
        found.delete_stream(name)

    def has_stream(self, scope: Scope, group: str, name: str) -> bool:
        """Raises ResourceNotFound where there is no such group."""
        self.flush()
        return name in self._existing(scope, group).streams

    def describe_streams(self, scope: Scope, group: str, prefix: str = "") -> list[StreamDescription]:
        """By name. Raises ResourceNotFound."""
        self.flush()
        found = self._existing(scope, group)
        return [found.describe_stream(name) for name in sorted(found.streams) if name.startswith(prefix)]

    # -- reading -----------------------------------------------------------------------------------------------------

    async def events(
        self,
        scope: Scope,
        group: str,
        *,
        streams: Sequence[str] | None = None,
        prefix: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        matches: Matches | None = None,
        limit: int,
        after: Key | None = None,
        before: Key | None = None,
        from_end: bool = False,
    ) -> tuple[list[LogEvent], bool]:
        """A page of events, by time over all streams asked for, and whether there are more on that side.

        From `start_ms` on and before `end_ms`; strictly `after` and `before` events seen already. At most `limit`, and
        a MiB of messages: the first ones, or with `from_end` the last ones, still in order. What was written before
        the call is found. Raises ResourceNotFound.
        """
        self.flush()
        found = self._existing(scope, group)
        low_ms = max(start_ms or 0, found.oldest_ms(self._clock.now_ms()), after.timestamp_ms if after else 0)
        names = _names(found, streams, prefix)
        page = _Page(limit, from_end)
        read_count = 0
        for segment in _by_time(found.holders(names), from_end):
            first_ms, last_ms = segment.span_ms
            if last_ms < low_ms or (end_ms is not None and first_ms >= end_ms) or page.is_beyond(first_ms, last_ms):
                continue
            for block in _blocks(segment, from_end):
                if block.stream not in names or page.is_beyond(block.first_ms, block.last_ms):
                    continue
                for event in _events_of(names[block.stream], segment, block, low_ms, end_ms):
                    if (
                        (after is None or event.key > after)
                        and (before is None or event.key < before)
                        and (matches is None or matches(event.message))
                    ):
                        page.add(event)
                read_count += block.entries_count
                if read_count > _READ_AT_ONCE:  # others shall not wait for a whole segment
                    read_count = 0
                    await asyncio.sleep(0)
        return page.finish()

    async def follow(
        self,
        scope: Scope,
        group: str,
        *,
        streams: Sequence[str] | None = None,
        prefix: str | None = None,
        start_ms: int | None = None,
        matches: Matches | None = None,
    ) -> AsyncIterator[LogEvent]:
        """Events as they are flushed, in the order in which they came; without `start_ms` those from now on.

        Ends when the group is deleted or the logs are closed. Who reads slowly makes nobody wait, and misses what is
        removed before it was read. Raises ResourceNotFound.
        """
        self.flush()
        found = self._existing(scope, group)
        number, position = (0, 0)
        if start_ms is None and found.segments:
            number, position = found.segments[-1].number, found.segments[-1].size
        while not found.is_deleted and self._groups.get((scope, group)) is found:
            more = found.flushed
            for segment in [each for each in found.segments if each.number >= number]:
                start = position if segment.number == number else 0
                try:
                    blocks = list(segment.blocks(start))
                except FileNotFoundError:
                    continue
                names = _names(found, streams, prefix)
                for block in blocks:
                    if block.stream not in names:
                        continue
                    for event in _events_of(names[block.stream], segment, block, start_ms or 0, None):
                        if matches is None or matches(event.message):
                            yield event
                number, position = segment.number, blocks[-1].end if blocks else start
            await more.wait()
            if more is found.flushed:
                return  # woken without anything new: closed, or deleted

    # -- groups, by what is loaded -----------------------------------------------------------------------------------

    def _get(self, scope: Scope, name: str) -> _Group | None:
        group = self._groups.get((scope, name))
        if group is None and (scope, name) in self._found:
            path, file = self._found.pop((scope, name))
            group = self._groups[scope, name] = _Group(path, file, self._group_bytes_max)
            group.load()
        return group

    def _existing(self, scope: Scope, name: str) -> _Group:
        group = self._get(scope, name)
        if group is None:
            raise ResourceNotFound(_GROUP_MISSING)
        return group

    def _ensured(self, scope: Scope, name: str, now_ms: int) -> _Group:
        return self._get(scope, name) or self._create(scope, name, now_ms, {})

    def _keep_open(self, group: _Group) -> None:
        """Few groups are written to at a time; the files of the others are closed until they are."""
        self._open.pop(group.directory, None)
        self._open[group.directory] = group
        if len(self._open) > LOG_FILES_OPEN_MAX:
            self._open.pop(next(iter(self._open))).close()

    def _create(self, scope: Scope, name: str, now_ms: int, tags: Mapping[str, str]) -> _Group:
        if len(self._found) + len(self._groups) >= LOG_GROUPS_MAX:
            raise LimitExceeded("Resource limit exceeded.")
        directory = self._directory / directory_name(*scope, name)
        group = _Group(directory, GroupFile(*scope, name, now_ms, tags=dict(tags)), self._group_bytes_max)
        try:
            directory.mkdir(exist_ok=True)
            for left_over in segments_in(directory):  # of a group whose deletion a crash cut short
                left_over.remove()
        except OSError as error:
            raise StorageUnavailable(f"The log group could not be stored: {error}.") from error
        group.save()
        self._groups[scope, name] = group
        return group


def stream_name(now_ms: int, version: str, random_bits: Callable[[int], int]) -> str:
    """A new environment's stream, as AWS names it: `2024/01/02/[$LATEST]` and 32 hex digits."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{day:%Y/%m/%d}/[{version}]{random_bits(128):032x}"


class _Page:
    """The first events of those that are added, or the last ones; in the order of their keys."""

    def __init__(self, limit: int, from_end: bool) -> None:
        self._limit = limit
        self._from_end = from_end
        self._best = heapq.nlargest if from_end else heapq.nsmallest
        self._events: list[LogEvent] = []
        self._worst_ms: int | None = None  # of more than a page's events

    def add(self, event: LogEvent) -> None:
        self._events.append(event)
        if len(self._events) > 2 * self._limit + 1:
            self._prune()

    def is_beyond(self, first_ms: int, last_ms: int) -> bool:
        """Whether no event of that time could be in the page."""
        if self._worst_ms is None and len(self._events) > self._limit:
            self._prune()
        if self._worst_ms is None:
            return False
        return last_ms < self._worst_ms if self._from_end else first_ms > self._worst_ms

    def finish(self) -> tuple[list[LogEvent], bool]:
        self._prune()
        page = self._events[: self._limit]
        size = 0
        for count, event in enumerate(page):
            size += len(event.message) + LOG_EVENT_OVERHEAD_BYTES
            if size > LOG_PAGE_BYTES_MAX and count:
                del page[count:]
                break
        return page[::-1] if self._from_end else page, len(self._events) > len(page)

    def _prune(self) -> None:
        self._events = self._best(self._limit + 1, self._events)
        self._worst_ms = self._events[-1].timestamp_ms if len(self._events) > self._limit else None


def _names(group: _Group, streams: Sequence[str] | None, prefix: str | None) -> dict[int, str]:
    """Number to name of the streams asked for. Deleted ones are not among them."""
    names = group.streams if streams is None else streams
    return {group.streams[name]: name for name in names if name in group.streams and name.startswith(prefix or "")}


def _by_time(segments: list[Segment], from_end: bool) -> list[Segment]:
    """So that a page is full before all are read."""
    return sorted(segments, key=lambda segment: segment.span_ms[from_end], reverse=from_end)


def _blocks(segment: Segment, from_end: bool) -> list[Block]:
    try:
        blocks = list(segment.blocks())
    except FileNotFoundError:
        return []  # removed since; its events are gone
    return blocks[::-1] if from_end else blocks


def _events_of(stream: str, segment: Segment, block: Block, low_ms: int, end_ms: int | None) -> Iterator[LogEvent]:
    if not block.entries_count or block.last_ms < low_ms or (end_ms is not None and block.first_ms >= end_ms):
        return
    for index, event in enumerate(events_in(block)):
        if event.timestamp_ms >= low_ms and (end_ms is None or event.timestamp_ms < end_ms):
            key = Key(event.timestamp_ms, segment.number, block.position, index)
            yield LogEvent(key, stream, event.message.decode(errors="replace"), event.ingested_ms)
