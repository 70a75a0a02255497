"""The rules of retries, as a pure state machine: no I/O, and time is passed in.

A `Lane` is a sequence of batches of one shard that are processed one after the other; a shard has as many lanes as the
mapping's parallelization factor. Its driver does what `next` says and tells `finish` how it went:

    offer ──▶ queue ──▶ next: Invoke ──▶ finish: Done ───────────────▶ resolved
                          ▲                   │  Partial(k) ──▶ records before k resolved, the rest again
                          │                   │  Failed ──▶ halves (bisect), or again later
                          └──── back-off ◀────┘  Again ──▶ again later, not counted (throttled, our fault)
                                              │
              next: Discard ◀── retries used up, or records too old ──▶ discarded ──▶ resolved

What AWS's documentation leaves open is decided here:

- A bisect does not count as an attempt, and its halves are tried at once; attempts begin to count when a batch cannot
  be split any more. With partial results a batch is split at the record that was named; where that is its first, in the
  middle, so that a poison record ends up alone.
- Without bisect, what is left of a batch after a partial result keeps its attempts.
- Back-off doubles from 100 ms to 30 s: about the ten attempts in the first minute that were seen at AWS.
- Records that leave the stream's retention while they are retried are discarded like those over the maximum age.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from streamkit.mappings.batches import Batch
from streamkit.mappings.state import Condition, LaneProgress, SliceProgress, WindowProgress
from streamkit.model.limits import WINDOW_STATE_BYTES_MAX

BACK_OFF_MS: Final = 100
BACK_OFF_MS_MAX: Final = 30_000

_PLAIN_SUCCESS: Final = frozenset(
    (b"", b"null", b"{}", b'""', b'{"batchItemFailures":[]}', b'{"batchItemFailures": []}')
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a mapping's settings mean for its lanes. None: without bound, or off."""

    retries_max: int | None = None
    record_age_ms_max: int | None = None
    bisects: bool = False
    reports_item_failures: bool = False
    window_ms: int | None = None

    def window_of(self, arrived_at_ms: int) -> int:
        """The start of the tumbling window of a record: windows are aligned to the epoch."""
        assert self.window_ms is not None
        return arrived_at_ms - arrived_at_ms % self.window_ms


# -- how an invocation went ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """What a failure record says of the last answer."""

    status: int
    version: str
    function_error: str | None


@dataclass(frozen=True, slots=True)
class Done:
    """All records are processed. `state` is the window's, as JSON text."""

    state: str | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """Records before `index` are processed; that one failed, and those after it come again."""

    index: int
    response: Response
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing is processed. `is_final`: trying again cannot help (the event is larger than a function takes)."""

    response: Response
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """The function was not run, or not because of it: does not count as an attempt."""


Outcome = Done | Partial | Failed | Again


def read_response(payload: bytes, batch: Batch | None, policy: Policy, response: Response) -> Outcome:
    """What a successful invocation's answer means."""
    if policy.window_ms is None and (not policy.reports_item_failures or payload in _PLAIN_SUCCESS):
        return Done()
    try:
        answer = orjson.loads(payload or b"null")
    except ValueError:
        return Failed(response)
    state: str | None = None
    if policy.window_ms is not None:
        if not isinstance(answer, dict) or not isinstance(answer.get("state"), dict):
            return Failed(response)
        try:  # as it was written: parsed and written again, a number of more than 64 bits would be another
            state = bytes(msgspec.json.decode(payload, type=dict[str, msgspec.Raw])["state"]).decode()
        except (msgspec.MsgspecError, RecursionError):
            return Failed(response)
    if not policy.reports_item_failures or batch is None:
        return Done(state)
    index = _first_failure(answer, batch)
    if index is None:
        return Done(state)
    return Failed(response) if index < 0 else Partial(index, response, state)


def _first_failure(answer: Any, batch: Batch) -> int | None:
    """The lowest record that an answer names as failed: None for none, -1 where the answer fails the whole batch."""
    if answer in (None, ""):
        return None
    if not isinstance(answer, dict):
        return -1
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    if not isinstance(failures, list):
        return -1
    lowest = len(batch)
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        index = batch.index_of(identifier) if isinstance(identifier, str) else None
        if index is None:
            return -1
        lowest = min(lowest, index)
    return lowest


# -- what is to be done ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Work:
    """A batch on its way, or the final invocation of a window (`batch` None)."""

    batch: Batch | None
    window_ms: int | None = None  # the start of its tumbling window
    ended_early: bool = False
    attempts: int = 0
    invocations: int = 0
    put_off: int = 0  # times it was throttled since it last ran
    not_before_ms: float = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Records given up. `batch` None: a window's final invocation. `response` None: their age, not an answer; or
    it was forgotten in a restart."""

    batch: Batch | None
    condition: Condition
    invocations: int
    response: Response | None


@dataclass(frozen=True, slots=True)
class Invoke:
    """Run the function on this; then `finish`. `window` is what it is told of its window."""

    work: Work
    window: WindowProgress | None


@dataclass(frozen=True, slots=True)
class Discard:
    """Hand this to the on-failure destination; then `discarded`."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this time; None: before something is offered."""

    until_ms: float | None


Step = Invoke | Discard | Wait


class Lane:
    """Made anew from its progress after a restart: then it goes on in the midst of its retries."""

    def __init__(self, policy: Policy, progress: LaneProgress) -> None:
        self._policy = policy
        self._queue: deque[Work] = deque()
        self._offered_to = progress.next_offset
        self._to_restore = deque(progress.slices)
        self._gathered: Batch | None = None  # of the first slice to restore
        self._failure: Failure | None = None
        self._window = progress.window
        self._open_window_ms: int | None = None  # of what was offered last
        if progress.window is not None:
            self._open_window_ms = progress.window.start_ms
            if progress.window.is_final_due:
                due = progress.window
                self._queue.append(Work(None, due.start_ms, due.ended_early, due.attempts, due.invocations))
                self._open_window_ms = None

    # -- feeding -----------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        return bool(self._queue) or self._failure is not None

    @property
    def open_window_ms(self) -> int | None:
        """The start of the window that may still get records."""
        return self._open_window_ms

    def offer(self, batch: Batch) -> None:
        """The next records, of one window. What was being retried when the progress was saved is put together again
        as it was, whatever the sizes it is offered in."""
        assert batch.first_offset >= self._offered_to, "offered twice, or out of order"
        self._offered_to = batch.last_offset + 1
        while self._to_restore and len(batch):
            batch = self._restore(batch)
        if len(batch):
            self._queue_batch(batch, 0, 0)

    def advance(self, offset: int) -> None:
        """All records before this offset have been offered, or are none of this lane's."""
        self._offered_to = max(self._offered_to, offset)
        while self._to_restore and self._to_restore[0].last < self._offered_to:
            self._end_slice()

    def end_window(self) -> None:
        """The open window gets no more records: its time is over and all that arrived in it was offered."""
        if self._open_window_ms is not None:
            self._queue.append(Work(None, self._open_window_ms))
            self._open_window_ms = None

    def _restore(self, batch: Batch) -> Batch:
        """Takes what belongs to the first slice; returns the rest."""
        count = batch.count_to(self._to_restore[0].last)
        if count:
            taken = batch.slice(0, count)
            self._gathered = taken if self._gathered is None else self._gathered.joined(taken)
        if self._offered_to > self._to_restore[0].last:
            self._end_slice()
        return batch.slice(count, len(batch))

    def _end_slice(self) -> None:
        """Queues the first slice; nothing, where its records have left the stream."""
        slice_ = self._to_restore.popleft()
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            self._queue_batch(gathered, slice_.attempts, slice_.invocations)

    def _queue_batch(self, batch: Batch, attempts: int, invocations: int) -> None:
        window_ms: int | None = None
        if self._policy.window_ms is not None:
            window_ms = self._policy.window_of(batch.arrived_at_ms(0))
            if self._open_window_ms not in (None, window_ms):
                self.end_window()
            self._open_window_ms = window_ms
        self._queue.append(Work(batch, window_ms, attempts=attempts, invocations=invocations))

    # -- stepping ----------------------------------------------------------------------------------------------------

    def next(self, now_ms: int, horizon_ms: int | None = None) -> Step:
        """What to do now. `horizon_ms`: what arrived before it has left the stream's retention."""
        while self._failure is None and self._queue:
            work = self._queue[0]
            if work.batch is None and self._window is None:  # a window that nothing was processed in
                self._queue.popleft()
                continue
            if work.batch is not None and (expired := self._expired(work, now_ms, horizon_ms)):
                self._failure = Failure(work.batch.slice(0, expired), "RecordAgeExceeded", work.invocations, None)
                break
            if self._is_exhausted(work):  # as it was saved; the answer that was the last one was not
                self._failure = Failure(work.batch, "RetryAttemptsExhausted", work.invocations, None)
                break
            if now_ms < work.not_before_ms <= now_ms + BACK_OFF_MS_MAX:  # further off: the clock was set back
                return Wait(work.not_before_ms)
            return Invoke(work, self._context(work))
        return Discard(self._failure) if self._failure is not None else Wait(None)

    def finish(self, outcome: Outcome, now_ms: int) -> None:
        """How the invocation that `next` asked for went."""
        work = self._queue[0]
        if isinstance(outcome, Again):
            work.not_before_ms = now_ms + _back_off_ms(work.put_off + 1)
            work.put_off += 1
            return
        work.invocations += 1
        work.put_off = 0
        if isinstance(outcome, Done):
            self._queue.popleft()
            self._processed(work, outcome.state)
        elif isinstance(outcome, Partial):
            self._partly_processed(work, outcome, now_ms)
        else:
            self._failed(work, outcome, now_ms)

    def discarded(self) -> None:
        """The failure that `next` gave is delivered, or nobody wants it."""
        failure, work = self._failure, self._queue[0]
        assert failure is not None
        self._failure = None
        if work.batch is None or failure.batch is None:
            self._queue.popleft()
            self._window = None
            return
        rest = work.batch.slice(len(failure.batch), len(work.batch))
        if len(rest):
            work.batch = rest
        else:
            self._queue.popleft()

    def _context(self, work: Work) -> WindowProgress | None:
        if work.window_ms is None:
            return None
        if self._window is None:  # it is only kept once a record of it is processed
            return WindowProgress(work.window_ms)
        assert self._window.start_ms == work.window_ms
        return self._window

    def _processed(self, work: Work, state: str | None) -> None:
        if work.window_ms is None:
            return
        if work.batch is None:
            self._window = None
            return
        assert state is not None
        self._window = WindowProgress(work.window_ms, state)
        if len(state.encode()) > WINDOW_STATE_BYTES_MAX:  # AWS ends such a window at once
            self._queue.appendleft(Work(None, work.window_ms, ended_early=True))

    def _partly_processed(self, work: Work, outcome: Partial, now_ms: int) -> None:
        assert work.batch is not None
        index, size = outcome.index, len(work.batch)
        if index:
            work.batch = work.batch.slice(index, size)
            if outcome.state is not None and work.window_ms is not None:
                self._window = WindowProgress(work.window_ms, outcome.state)
            if self._policy.bisects:
                work.not_before_ms = now_ms
                return
        elif self._policy.bisects and size > 1:
            self._bisect(work)
            return
        self._count_attempt(work, outcome.response, now_ms)

    def _failed(self, work: Work, outcome: Failed, now_ms: int) -> None:
        if work.batch is not None and len(work.batch) > 1 and (self._policy.bisects or outcome.is_final):
            self._bisect(work)
        elif outcome.is_final:
            self._failure = Failure(work.batch, "RetryAttemptsExhausted", work.invocations, outcome.response)
        else:
            self._count_attempt(work, outcome.response, now_ms)

    def _bisect(self, work: Work) -> None:
        assert work.batch is not None
        middle = len(work.batch) // 2
        halves = [work.batch.slice(0, middle), work.batch.slice(middle, len(work.batch))]
        self._queue.popleft()
        for half in reversed(halves):
            again = Work(half, work.window_ms, attempts=work.attempts, invocations=work.invocations)
            self._queue.appendleft(again)

    def _count_attempt(self, work: Work, response: Response, now_ms: int) -> None:
        work.attempts += 1
        if self._is_exhausted(work):
            self._failure = Failure(work.batch, "RetryAttemptsExhausted", work.invocations, response)
        else:
            work.not_before_ms = now_ms + _back_off_ms(work.attempts)

    def _is_exhausted(self, work: Work) -> bool:
        retries_max = self._policy.retries_max
        return retries_max is not None and work.attempts > retries_max

    def _expired(self, work: Work, now_ms: int, horizon_ms: int | None) -> int:
        """How many records, from the first, are too old."""
        assert work.batch is not None
        before_ms = -1
        if self._policy.record_age_ms_max is not None:
            before_ms = now_ms - self._policy.record_age_ms_max
        if horizon_ms is not None and work.invocations:
            before_ms = max(before_ms, horizon_ms)
        if work.batch.arrived_at_ms(0) >= before_ms:
            return 0
        return work.batch.count_before(before_ms)

    # -- what is remembered ------------------------------------------------------------------------------------------

    @property
    def next_offset(self) -> int:
        """All of the lane's records before this offset are resolved."""
        for work in self._queue:
            if work.batch is not None:
                return work.batch.first_offset
        if self._gathered is not None:
            return self._gathered.first_offset
        return self._offered_to

    def progress(self) -> LaneProgress:
        """What the lane can be made from again."""
        slices = []
        for work in self._queue:
            if work.batch is not None:
                if not work.invocations:
                    break
                first, last = work.batch.first_offset, work.batch.last_offset
                slices.append(SliceProgress(first, last, work.attempts, work.invocations))
        else:
            slices += self._to_restore
        return LaneProgress(self.next_offset, slices, self._window_progress())

    def _window_progress(self) -> WindowProgress | None:
        window = self._window
        if window is None or not self._queue or self._queue[0].batch is not None:
            return window
        due = self._queue[0]
        return WindowProgress(window.start_ms, window.state, True, due.ended_early, due.attempts, due.invocations)


def _back_off_ms(times: int) -> float:
    return min(BACK_OFF_MS * 2.0 ** min(times - 1, 20), BACK_OFF_MS_MAX)
