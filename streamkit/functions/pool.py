"""Environments of one version of a function: warm ones are used again, cold ones are made, idle ones end.

An environment serves one invocation at a time, so there are as many as invocations run at once, and none more is made
than is waited for: concurrency is bounded before (`concurrency`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

from streamkit.clock import Clock
from streamkit.functions.environments.port import Environment, Environments, Init, Spec
from streamkit.functions.logs import Writer
from streamkit.functions.reports import Reports, reports_for
from streamkit.log import FUNCTION, VERSION
from streamkit.model.errors import ServerError

_log = logging.getLogger(__name__)

IDLE_MS: Final = 300_000
"""How long an environment waits for an invocation before it is ended. (AWS says only: minutes.)"""
FREEZE_MS: Final = 200
"""How long an idle environment keeps running before it is frozen: a busy function is not slowed down by it."""
WARM_RETRY_MS: Final = 10_000
"""After a provisioned environment failed in INIT, or was lost while it idled: how long until another is made."""
TAIL_BYTES: Final = 4096


class Slot:
    """An environment with its log."""

    __slots__ = ("environment", "idle_since_ms", "init", "is_frozen", "log", "reports", "spec", "tail")

    def __init__(self, spec: Spec, log: Writer, reports: Reports) -> None:
        self.spec = spec
        self.log = log
        self.reports = reports
        self.environment: Environment
        self.init: Init | None = None  # until the first invocation has told of it
        self.idle_since_ms = 0
        self.is_frozen = False
        self.tail: bytearray | None = None  # of the log, while somebody asked for it

    def write(self, lines: bytes) -> None:
        """To the log, and to the tail of the invocation under way."""
        self.log.write(lines)
        if self.tail is not None:
            self.tail += lines
            if len(self.tail) > 64 * TAIL_BYTES:
                del self.tail[:-TAIL_BYTES]

    def output(self, lines: bytes) -> None:
        """What the code wrote."""
        self.write(lines)

    def take_tail(self) -> bytes:
        tail, self.tail = self.tail, None
        return bytes(tail[-TAIL_BYTES:]) if tail else b""


class Pool:
    """`new_spec` gives each environment a log stream of its own."""

    def __init__(
        self,
        environments: Environments,
        new_spec: Callable[[], Spec],
        open_log: Callable[[Spec], Writer],
        clock: Clock,
    ) -> None:
        self._environments = environments
        self._new_spec = new_spec
        self._open_log = open_log
        self._clock = clock
        self._idle: list[Slot] = []  # the one used last is at the end
        self._busy: set[Slot] = set()
        self._in_init: set[Slot] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._is_retired = False
        self.warm_wanted = 0  # provisioned concurrency
        self._starting = 0  # of these, on their way
        self._warm_retry_at_ms = 0

    @property
    def warm_count(self) -> int:
        """Environments that are there, busy or not. One in INIT is not there yet."""
        return len(self._idle) + len(self._busy)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    async def acquire(self) -> Slot:
        """An environment for one invocation, after INIT where it is a cold one: see `Slot.init` for how that went."""
        while self._idle:
            slot = self._idle.pop()
            if not slot.environment.is_lost:
                slot.is_frozen = False
                self._busy.add(slot)
                return slot
            self._end(slot)
        return await self._cold()

    def release(self, slot: Slot) -> None:
        """After the invocation. A lost environment is cleared away."""
        self._busy.discard(slot)
        if slot.environment.is_lost or self._is_retired:
            self._end(slot)
            self._keep_warm()
            return
        slot.idle_since_ms = self._clock.now_ms()
        self._idle.append(slot)

    async def _cold(self, *, provisioned: bool = False) -> Slot:
        spec = self._new_spec()
        if provisioned:
            spec = replace(spec, provisioned=True)
        slot = Slot(spec, self._open_log(spec), reports_for(spec, self._clock.now_ms))
        slot.environment = self._environments.make(spec, slot.output)
        self._in_init.add(slot)
        slot.log.write(slot.reports.init_start())
        try:
            slot.init = await slot.environment.start()
            if slot.init.ending == "timeout" and not provisioned:
                slot.init = await self._init_again(slot)
        except OSError as error:  # no file left for this process, or no room on the disk: not the function's fault
            self._end(slot)
            raise ServerError(f"No environment could be made for {spec.function_name}: {error}.") from error
        except BaseException:
            self._end(slot)
            raise
        finally:
            self._in_init.discard(slot)
        self._busy.add(slot)
        if slot.init.error is not None:
            slot.log.write(slot.reports.init_failed(slot.init))
        return slot

    async def _init_again(self, slot: Slot) -> Init:
        """As AWS does after an INIT of more than 10 s: once more, for as long as an invocation may take."""
        assert slot.init is not None
        slot.log.write(slot.reports.init_failed(slot.init))
        await slot.environment.stop()
        slot.spec = replace(slot.spec, init_timeout_ms=slot.spec.timeout_ms)
        slot.environment = self._environments.make(slot.spec, slot.output)
        return await slot.environment.start()

    # -- provisioned concurrency -------------------------------------------------------------------------------------

    def keep_warm(self, count: int) -> None:
        """Keeps that many environments ready."""
        self.warm_wanted = count
        self._keep_warm()

    def _keep_warm(self) -> None:
        missing = self.warm_wanted - self.warm_count - self._starting
        if missing <= 0 or self._is_retired or self._clock.now_ms() < self._warm_retry_at_ms:
            return
        for _ in range(missing):
            self._starting += 1
            self._later(self._start_warm())

    async def _start_warm(self) -> None:
        try:
            slot = await self._cold(provisioned=True)
        except Exception as error:
            _log.warning("no warm environment: %s", error)
            self._warm_retry_at_ms = self._clock.now_ms() + WARM_RETRY_MS
            return
        finally:
            self._starting -= 1
        assert slot.init is not None
        if slot.init.error is None:
            slot.init = None  # nobody waited for it
        else:
            self._warm_retry_at_ms = self._clock.now_ms() + WARM_RETRY_MS
        self.release(slot)

    # -- idling and ending -------------------------------------------------------------------------------------------

    def sweep(self, now_ms: int) -> None:
        """To be called every so often: ends what has idled for too long, freezes what idles, keeps ready what shall be
        ready."""
        self._warm_retry_at_ms = min(self._warm_retry_at_ms, now_ms + WARM_RETRY_MS)  # the clock may have been set back
        kept: list[Slot] = []
        spare = len(self._idle) + len(self._busy) - self.warm_wanted
        for slot in self._idle:  # the longest idle first
            slot.idle_since_ms = min(slot.idle_since_ms, now_ms)
            idle_ms = now_ms - slot.idle_since_ms
            if slot.environment.is_lost or (idle_ms >= IDLE_MS and spare > 0):
                if slot.environment.is_lost:  # by itself; the next one may do the same as soon as it is there
                    self._warm_retry_at_ms = now_ms + WARM_RETRY_MS
                spare -= 1
                self._end(slot)
                continue
            if not slot.is_frozen and idle_ms >= FREEZE_MS:
                slot.environment.freeze()
                slot.is_frozen = True
            kept.append(slot)
        self._idle = kept
        self._keep_warm()

    async def retire(self) -> None:
        """Nothing is invoked here any more: idle environments end now, busy ones when they are done. Returns when
        those that were idle have ended."""
        self._is_retired = True
        self.warm_wanted = 0
        idle, self._idle = self._idle, []
        for slot in idle:
            self._end(slot)
        if self._ending:
            await asyncio.wait(self._ending)

    async def close(self) -> None:
        """Ends all environments, busy or not."""
        self._is_retired = True
        self.warm_wanted = 0
        slots = [*self._idle, *self._busy, *self._in_init]
        self._idle.clear()
        for slot in slots:
            self._end(slot)
        while self._ending:
            await asyncio.wait(self._ending)

    @property
    def is_empty(self) -> bool:
        return not (self._idle or self._busy or self._in_init or self._ending or self._starting)

    def _end(self, slot: Slot) -> None:
        async def end() -> None:
            try:
                await slot.environment.stop()
            except Exception as error:
                fields = {FUNCTION: slot.spec.function_name, VERSION: slot.spec.version}
                _log.error("environment: %s", error, extra=fields)

        self._later(end())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
