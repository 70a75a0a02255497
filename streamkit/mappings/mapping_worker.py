"""One mapping at work: a worker per shard, parents before their children, and their progress saved together."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import Final

from streamkit.clock import Clock, Timer
from streamkit.log import MAPPING
from streamkit.mappings.shard_worker import Job, ShardWorker, fresh_progress
from streamkit.mappings.state import ShardProgress
from streamkit.mappings.store import MappingStore
from streamkit.model.errors import ResourceNotFound, StreamkitError
from streamkit.model.limits import CHECKPOINT_INTERVAL_MS
from streamkit.sources.source import ShardRead, Source

_log = logging.getLogger(__name__)

CAUGHT_UP_POLL_MS: Final = 5
RESTART_MS: Final = 1_000
"""After the source failed: how long until it is tried again."""


class SavedProgress:
    """Progress of a mapping's shards: kept here, on disk soon after it changes."""

    def __init__(self, store: MappingStore, mapping_id: str, clock: Clock) -> None:
        self._store = store
        self._mapping_id = mapping_id
        self._clock = clock
        self._changed: set[ShardWorker] = set()
        self._timer: Timer | None = None
        self._writing: asyncio.Future[None] | None = None

    def changed(self, worker: ShardWorker) -> None:
        self._changed.add(worker)
        if self._timer is None:
            self._timer = self._clock.call_later(CHECKPOINT_INTERVAL_MS, self._write)

    async def save(self, worker: ShardWorker) -> None:
        """Raises StorageUnavailable."""
        self._changed.discard(worker)
        self._writing = self._store.save_progress_soon(self._mapping_id, [worker.progress()])
        await asyncio.shield(self._writing)

    async def flush(self) -> None:
        """Returns when everything is on disk, or was refused: then it is given up, for others may save from now on."""
        if self._changed:
            self._write()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._changed.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, set()
        self._writing = self._store.save_progress_soon(self._mapping_id, [worker.progress() for worker in changed])
        self._writing.add_done_callback(partial(self._written, changed))

    def _written(self, changed: set[ShardWorker], writing: asyncio.Future[None]) -> None:
        if writing.exception() is not None:  # nobody waits for it, and perhaps nothing changes any more
            for worker in changed:
                self.changed(worker)


class _Pinned:
    """A source as long as it is what it was. Its name may be another's from one moment to the next: a stream that is
    deleted and made anew has other records at the same offsets, and other listeners."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.arn = source.arn
        self.stream_arn = source.stream_arn
        self.incarnation = source.incarnation
        self.ready = source.ready
        self.shards = source.shards
        self.seek = source.seek
        self.watch = source.watch

    @property
    def horizon_ms(self) -> int:
        return self._source.horizon_ms

    def check(self) -> None:
        """Raises ResourceNotFound."""
        if self._source.incarnation != self.incarnation:
            raise ResourceNotFound(f"{self.arn} was deleted and made anew.")

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> ShardRead:
        self.check()  # and before anything else can happen, the source looks for what it reads
        return await self._source.read(shard_index, offset, records_max=records_max, bytes_max=bytes_max)


class MappingWorker:
    """Runs from `start` to `stop`. Whatever happens to the source, it goes on as soon as it can."""

    def __init__(self, job: Job, progress: SavedProgress, store: MappingStore) -> None:
        self._job = job
        self._progress = progress
        self._store = store
        self._known: dict[int, ShardProgress] = {}
        self._running: dict[int, tuple[ShardWorker, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._is_stopping = False
        self._problem = ""  # that interrupted it last
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, *, at_once: bool = False) -> None:
        """Takes up nothing new and returns when what is under way is done, and the progress on disk. `at_once` drops
        what is under way, whatever it waits for: it comes again after the next start. Can be called more than once."""
        self._is_stopping = True
        self._news.set()
        tasks = [task for _, task in self._running.values()]
        for worker, _ in list(self._running.values()):
            worker.stop()
        if self._task is not None:
            tasks.append(self._task)
        if at_once:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._progress.flush()

    async def caught_up(self) -> None:
        """Returns when every record that is in the source now is resolved."""
        source, clock = self._job.source, self._job.clock
        await source.ready()
        wanted = {shard.index: await source.seek(shard.index, "LATEST", None) for shard in source.shards()}
        while not all(self._has_done(index, offset) for index, offset in wanted.items()):
            await clock.sleep(CAUGHT_UP_POLL_MS)

    def _has_done(self, shard_index: int, offset: int) -> bool:
        running = self._running.get(shard_index)
        progress = running[0].progress() if running is not None else self._known.get(shard_index)
        return progress is not None and (progress.is_done or (progress.checkpoint >= offset and not progress.seals))

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                await self._work()
            except StreamkitError as error:
                self._job.set_result(f"PROBLEM: {error}")
                if self._problem != str(error):  # it may be so for days, and is tried again every second
                    self._problem = str(error)
                    _log.warning("mapping interrupted: %s", error, extra={MAPPING: self._job.mapping.id})
            except Exception as error:  # our own fault: the mapping must not die of it silently
                self._known.clear()  # as little as possible is built upon what it left
                self._job.set_result("PROBLEM: internal error")
                _log.exception("mapping failed", extra={MAPPING: self._job.mapping.id}, exc_info=error)
            if not self._is_stopping:
                await self._pause()

    async def _pause(self) -> None:
        self._news.clear()  # the workers that ended have set it
        timer = self._job.clock.call_later(RESTART_MS, self._news.set)
        await self._news.wait()
        timer.cancel()

    async def _work(self) -> None:
        source = self._job.source
        await source.ready()
        pinned = _Pinned(source)
        job = replace(self._job, source=pinned)
        await self._take_up(job)
        self._problem = ""
        unwatch = source.watch(self._on_news)
        try:
            while True:
                self._news.clear()
                self._collect()
                pinned.check()
                if self._is_stopping and not self._running:
                    return
                if not self._is_stopping:
                    self._start_due(job)
                await self._news.wait()
        finally:
            unwatch()
            await self._end_all()

    def _on_news(self, shard_index: int | None) -> None:
        if shard_index is None:
            self._news.set()
            for worker, _ in self._running.values():  # a shard may have been closed
                worker.notify()
        elif shard_index in self._running:
            self._running[shard_index][0].notify()

    # -- shards ------------------------------------------------------------------------------------------------------

    async def _take_up(self, job: Job) -> None:
        """What is known, or stored; for a mapping that starts, the starting position in every shard there is."""
        source, mapping = job.source, job.mapping
        known = {index: each for index, each in self._known.items() if each.incarnation == source.incarnation}
        if known:
            # Newer than what is stored, if the disk refused it: attempts count, and what is sealed is delivered, only
            # once it is there.
            await asyncio.shield(self._store.save_progress_soon(mapping.id, list(known.values())))
            self._known = known
            return
        stored = self._store.load_progress(mapping.id)
        here = {index: each for index, each in stored.items() if each.incarnation == source.incarnation}
        if here:
            self._known = here
            return
        self._known = {}
        for shard in source.shards():
            if mapping.starting_position == "LATEST":
                # What arrives after the mapping was made is for it, also while its worker is being started.
                offset = await source.seek(shard.index, "AT_TIMESTAMP", mapping.created_at_ms)
            else:
                offset = await source.seek(shard.index, mapping.starting_position, mapping.starting_at_ms)
            self._known[shard.index] = fresh_progress(job, shard.index, offset)
        await asyncio.shield(self._store.save_progress_soon(mapping.id, list(self._known.values())))

    def _start_due(self, job: Job) -> None:
        """Starts a worker for each shard whose parents are done."""
        shards = {shard.index: shard for shard in job.source.shards()}
        for shard in shards.values():
            progress = self._known.get(shard.index)
            if progress is None:  # made by a reshard: from its first record
                progress = self._known[shard.index] = fresh_progress(job, shard.index, 0)
            if shard.index in self._running or progress.is_done:
                continue
            if all(self._is_done(parent) for parent in shard.parents if parent in shards):
                worker = ShardWorker(job, progress)
                task = asyncio.get_running_loop().create_task(worker.run())
                task.add_done_callback(lambda _: self._news.set())
                self._running[shard.index] = worker, task

    def _is_done(self, shard_index: int) -> bool:
        progress = self._known.get(shard_index)
        return progress is not None and progress.is_done

    def _collect(self) -> None:
        """Takes leave of workers that have ended; raises what one of them failed of."""
        for index, (worker, task) in list(self._running.items()):
            if not task.done():
                continue
            del self._running[index]
            self._known[index] = worker.progress()
            if not task.cancelled() and (error := task.exception()) is not None:
                raise _first(error)

    async def _end_all(self) -> None:
        """After a failure: the other workers finish what is under way."""
        for worker, _ in self._running.values():
            worker.stop()
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()])
        for index, (worker, task) in self._running.items():
            self._known[index] = worker.progress()
            if not task.cancelled() and task.exception() is not None:
                _log.warning("shard worker: %s", _first(task.exception()), extra={MAPPING: self._job.mapping.id})
        self._running.clear()
        await self._progress.flush()


def _first(error: BaseException | None) -> BaseException:
    """What is behind a task group's error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error or ResourceNotFound("")
