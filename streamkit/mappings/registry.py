"""The mappings of a server: making, changing, finding and deleting them.

Every change has two moments, as with AWS. It is accepted: checked, on disk as pending, answered with a status such as
Updating and the values that still hold. And it takes effect: when its time has come, also after a restart in between.
Then the mapping's document is replaced and listeners are told.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from streamkit.clock import Clock, Timer
from streamkit.functions.destinations import RecordDestinations
from streamkit.log import MAPPING
from streamkit.mappings import rules
from streamkit.mappings.rules import Given
from streamkit.mappings.state import MappingPending, MappingSettings, MappingState
from streamkit.mappings.store import MappingStore
from streamkit.model.errors import InvalidParameterValue, StreamkitError
from streamkit.model.limits import LIST_MAPPINGS_MAX, MAPPING_RESULTS_SAVED_MS
from streamkit.model.names import FunctionArn, MappingArn, Scope

_log = logging.getLogger(__name__)

OnChange = Callable[[MappingState | None, MappingState | None], Awaitable[None]]
"""What was in effect and what is from now on; None: nothing. Called for a mapping's changes one after the other."""

RETRY_MS: Final = 1_000  # until a change that the disk refused is tried again


class Page(NamedTuple):
    states: list[MappingState]
    next_marker: str | None


class _Mapping:
    """A mapping as it is now, and what goes on with it."""

    def __init__(self, state: MappingState) -> None:
        self.state = state
        self.timer: Timer | None = None  # until the pending change is due
        self.telling = asyncio.Lock()  # held while listeners hear of a change; fair, so changes stay in order


class MappingRegistry:
    """All mappings of a data directory. A call that changes something returns when that is on disk."""

    def __init__(
        self,
        store: MappingStore,
        *,
        clock: Clock,
        random: random.Random,
        transition_delay_ms: int = 0,
        function_exists: Callable[[FunctionArn], FunctionArn | None],
        source_exists: Callable[[str], bool],
        destinations: RecordDestinations,
    ) -> None:
        """`transition_delay_ms` 0: a change takes effect right after its answer, whoever asks next sees it done.
        `function_exists` gives the ARN to keep, with the qualifier asked for, or None."""
        self._store = store
        self._clock = clock
        self._random = random
        self._delay_ms = transition_delay_ms
        self._function_exists = function_exists
        self._source_exists = source_exists
        self._destinations = destinations
        self._mappings: dict[str, _Mapping] = {}
        self._listeners: list[OnChange] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: set[str] = set()  # mappings whose last result is to be written
        self._results_under_way: set[str] = set()
        self._results_timer: Timer | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Takes up what is stored, and does what fell due while nothing ran. Listeners hear of every mapping that is
        there then, as if it had just been made; this returns when they have."""
        for state in self._store.mappings():
            mapping = self._mappings[state.id] = _Mapping(state)
            if state.pending is not None:
                self._settle_later(mapping, state.pending)
                if self._is_due(state.pending):
                    self._settle(mapping, state.pending)
            if state.id in self._mappings and mapping.state.status != "Creating":
                self._tell(mapping, None, mapping.state)
        await self.told()

    async def close(self) -> None:
        """Forgets timers and listeners' calls under way, and writes down the last results."""
        for mapping in self._mappings.values():
            if mapping.timer is not None:
                mapping.timer.cancel()
        if self._results_timer is not None:
            self._results_timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._results:
            await asyncio.wait([self._store.save_soon(self._states_with_new_results)])

    def listen(self, on_change: OnChange) -> Callable[[], None]:
        """Calls it after each change that took effect; the returned function ends that.

        Changes are on disk before, and seen by whoever asks: a listener brings the rest of the world after them.
        """
        self._listeners.append(on_change)
        return lambda: self._listeners.remove(on_change)

    async def told(self) -> None:
        """Returns when listeners have heard of every change that took effect."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- finding -----------------------------------------------------------------------------------------------------

    def all(self) -> list[MappingState]:
        """Oldest first."""
        for mapping in list(self._mappings.values()):
            self._settle_if_due(mapping)
        return sorted(
            (mapping.state for mapping in self._mappings.values()), key=lambda state: (state.created_at_ms, state.id)
        )

    def get(self, scope: Scope, mapping_id: str) -> MappingState:
        """Raises ResourceNotFound."""
        return self._find(scope, mapping_id).state

    def list(
        self,
        scope: Scope,
        *,
        function: str | None = None,
        source_arn: str | None = None,
        marker: str | None = None,
        items_max: int | None = None,
    ) -> Page:
        """A page of a scope's mappings, oldest first; those of exactly this function and source where given.

        A function that does not exist has none: mappings outlive their functions.
        """
        arn = None if function is None else str(rules.parse_function(function, scope))
        after = (-1, "") if marker is None else _position(marker)
        found = [
            state
            for state in self.all()
            if state.arn.scope == scope
            and (arn is None or state.settings.function_arn == arn)
            and (source_arn is None or state.source_arn == source_arn)
            and (state.created_at_ms, state.id) > after
        ]
        page = found[: min(items_max or LIST_MAPPINGS_MAX, LIST_MAPPINGS_MAX)]
        return Page(page, _marker(page[-1]) if len(page) < len(found) else None)

    # -- changing ----------------------------------------------------------------------------------------------------

    async def create(self, scope: Scope, given: Given) -> MappingState:
        """A new mapping, Creating. Raises what `streamkit.mappings.rules` says, having changed nothing."""
        now_ms = self._clock.now_ms()
        source_arn = rules.require_source(given)
        position, starting_at_ms = rules.require_starting_position(given, now_ms)
        function = rules.parse_function(given["FunctionName"], scope)
        settings = rules.with_changes(MappingSettings(str(function)), given)
        function = self._require_function(function)
        if not self._source_exists(source_arn):
            raise rules.source_not_found(source_arn)
        if settings.on_failure_arn is not None:
            self._destinations.find(settings.on_failure_arn)
        tags = rules.with_tags({}, given.get("Tags") or {})
        rules.require_unique(self.all(), source_arn, function)
        settings = msgspec.structs.replace(settings, function_arn=str(function))
        state = MappingState(
            id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            account=scope.account,
            region=scope.region,
            source_arn=source_arn,
            starting_position=position,
            starting_at_ms=starting_at_ms,
            settings=settings,
            status="Creating",
            created_at_ms=now_ms,
            modified_at_ms=now_ms,
            pending=MappingPending(now_ms + self._delay_ms, settings),
            tags=tags,
        )
        self._store.save(state)
        mapping = self._mappings[state.id] = _Mapping(state)
        return self._accepted(mapping)

    async def update(self, scope: Scope, mapping_id: str, given: Given) -> MappingState:
        """The mapping with its old values, Updating, Enabling or Disabling; raises ResourceInUse while another change
        is under way. Progress is kept, whatever is changed."""
        mapping = self._find(scope, mapping_id)
        before = mapping.state
        rules.require_settled(before, "update")
        settings = rules.with_changes(before.settings, given)
        if given.get("FunctionName") is not None:
            function = self._require_function(rules.parse_function(given["FunctionName"], scope))
            rules.require_unique((state for state in self.all() if state.id != mapping_id), before.source_arn, function)
            settings = msgspec.structs.replace(settings, function_arn=str(function))
        if settings.on_failure_arn is not None and settings.on_failure_arn != before.settings.on_failure_arn:
            self._destinations.find(settings.on_failure_arn)
        now_ms = self._clock.now_ms()
        self._save(
            mapping,
            msgspec.structs.replace(
                before,
                status=rules.status_until(before.settings, settings),
                modified_at_ms=now_ms,
                pending=MappingPending(now_ms + self._delay_ms, settings),
            ),
        )
        return self._accepted(mapping)

    async def delete(self, scope: Scope, mapping_id: str) -> MappingState:
        """The mapping, Deleting. Its progress goes with it."""
        mapping = self._find(scope, mapping_id)
        rules.require_settled(mapping.state, "delete")
        now_ms = self._clock.now_ms()
        pending = MappingPending(now_ms + self._delay_ms, None)
        self._save(
            mapping,
            msgspec.structs.replace(mapping.state, status="Deleting", modified_at_ms=now_ms, pending=pending),
        )
        return self._accepted(mapping)

    async def forget_all(self) -> None:
        """Removes every mapping at once, whatever its state; returns when listeners have heard of it."""
        await self.told()
        for mapping in list(self._mappings.values()):
            if mapping.timer is not None:
                mapping.timer.cancel()
            self._store.delete(mapping.state.id)
            del self._mappings[mapping.state.id]
            self._tell(mapping, mapping.state, None)
        await self.told()

    def set_result(self, mapping_id: str, text: str) -> None:
        """The last processing result: seen at once, on disk within about a second. Nothing if the mapping is gone."""
        mapping = self._mappings.get(mapping_id)
        if mapping is None or mapping.state.last_result == text:
            return
        mapping.state = msgspec.structs.replace(mapping.state, last_result=text)
        self._results.add(mapping_id)
        self._save_results_later()

    # -- tags --------------------------------------------------------------------------------------------------------

    def tags(self, arn: MappingArn) -> Mapping[str, str]:
        """Raises ResourceNotFound, naming the ARN."""
        return self._find_by_arn(arn).state.tags

    async def tag(self, arn: MappingArn, tags: Mapping[str, str]) -> None:
        mapping = self._find_by_arn(arn)
        rules.require_tags(tags)
        self._save(mapping, msgspec.structs.replace(mapping.state, tags=rules.with_tags(mapping.state.tags, tags)))

    async def untag(self, arn: MappingArn, keys: Sequence[str]) -> None:
        """Keys that are not there are no error."""
        mapping = self._find_by_arn(arn)
        rest = {key: value for key, value in mapping.state.tags.items() if key not in keys}
        self._save(mapping, msgspec.structs.replace(mapping.state, tags=rest))

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _find(self, scope: Scope, mapping_id: str) -> _Mapping:
        mapping = self._mappings.get(mapping_id)
        if mapping is not None:
            self._settle_if_due(mapping)
        if mapping is None or mapping_id not in self._mappings or mapping.state.arn.scope != scope:
            raise rules.not_found()
        return mapping

    def _find_by_arn(self, arn: MappingArn) -> _Mapping:
        try:
            return self._find(arn.scope, arn.uuid)
        except StreamkitError:
            raise rules.arn_not_found(str(arn)) from None

    def _require_function(self, function: FunctionArn) -> FunctionArn:
        known = self._function_exists(function)
        if known is None:
            raise rules.function_does_not_exist()
        return known

    def _save(self, mapping: _Mapping, state: MappingState) -> None:
        self._store.save(state)
        mapping.state = state

    def _accepted(self, mapping: _Mapping) -> MappingState:
        """The answer to a change that is pending from now on."""
        state = mapping.state
        assert state.pending is not None
        self._settle_later(mapping, state.pending)
        return state

    def _settle_later(self, mapping: _Mapping, pending: MappingPending, delay_ms: int | None = None) -> None:
        if delay_ms is None:  # the clock may have been set back: nothing waits longer than changes do
            delay_ms = min(max(pending.at_ms - self._clock.now_ms(), 0), self._delay_ms)
        mapping.timer = self._clock.call_later(delay_ms, partial(self._settle_now, mapping, pending))

    def _is_due(self, pending: MappingPending) -> bool:
        return pending.at_ms <= self._clock.now_ms()

    def _settle_if_due(self, mapping: _Mapping) -> None:
        """Whoever looks at a mapping sees what is due done, also before the event loop comes to it."""
        pending = mapping.state.pending
        if pending is not None and self._is_due(pending):
            self._settle_now(mapping, pending)

    def _settle_now(self, mapping: _Mapping, pending: MappingPending) -> None:
        before = mapping.state
        assert before.pending is pending, "its timer is cancelled when a change takes effect"
        if self._settle(mapping, pending):
            after = mapping.state if before.id in self._mappings else None
            self._tell(mapping, None if before.status == "Creating" else before, after)

    def _settle(self, mapping: _Mapping, pending: MappingPending) -> bool:
        """Puts the pending change into effect, or says no and tries again later: it was promised."""
        assert mapping.timer is not None
        mapping.timer.cancel()
        try:
            self._apply(mapping, pending)
        except StreamkitError as error:  # the disk refused
            _log.error("a change waits for the disk: %s", error, extra={MAPPING: mapping.state.id})
            self._settle_later(mapping, pending, RETRY_MS)
            return False
        return True

    def _apply(self, mapping: _Mapping, pending: MappingPending) -> None:
        before = mapping.state
        if pending.settings is None:
            self._store.delete(before.id)
            del self._mappings[before.id]
            _log.info("mapping deleted", extra={MAPPING: before.id})
            return
        after = msgspec.structs.replace(
            before,
            settings=pending.settings,
            status="Enabled" if pending.settings.enabled else "Disabled",
            modified_at_ms=self._clock.now_ms(),
            pending=None,
            generation=before.generation + rules.begins_anew(before.settings, pending.settings),
        )
        self._save(mapping, after)
        _log.info("mapping is %s", after.status, extra={MAPPING: after.id})

    # -- listeners ---------------------------------------------------------------------------------------------------

    def _tell(self, mapping: _Mapping, before: MappingState | None, after: MappingState | None) -> None:
        async def tell() -> None:
            async with mapping.telling:
                for listener in tuple(self._listeners):
                    try:
                        await listener(before, after)
                    except Exception:  # a listener's fault must not keep the others from hearing of it
                        _log.exception("a listener failed", extra={MAPPING: mapping.state.id})

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- last results ------------------------------------------------------------------------------------------------

    def _save_results_later(self) -> None:
        if self._results_timer is None:
            self._results_timer = self._clock.call_later(MAPPING_RESULTS_SAVED_MS, self._save_results)

    def _save_results(self) -> None:
        def saved(future: asyncio.Future[None]) -> None:
            if future.exception() is not None:  # nobody waits for it: the next time will do
                self._results |= self._results_under_way & self._mappings.keys()
                self._save_results_later()

        self._results_timer = None
        self._store.save_soon(self._states_with_new_results).add_done_callback(saved)

    def _states_with_new_results(self) -> Sequence[MappingState]:
        self._results_under_way, self._results = self._results, set()
        return [self._mappings[each].state for each in self._results_under_way if each in self._mappings]


def in_effect(state: MappingState) -> bool:
    """Whether a mapping reads its stream: a change that is pending does not count yet."""
    return state.settings.enabled and state.status != "Creating"


def _marker(state: MappingState) -> str:
    return base64.urlsafe_b64encode(f"{state.created_at_ms} {state.id}".encode()).decode()


def _position(marker: str) -> tuple[int, str]:
    try:
        created_at_ms, _, mapping_id = base64.urlsafe_b64decode(marker.encode()).decode().partition(" ")
        return int(created_at_ms), mapping_id
    except (binascii.Error, ValueError):
        raise InvalidParameterValue(f"Marker {marker} is none that was given out.") from None
