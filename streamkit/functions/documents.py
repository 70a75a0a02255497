"""The documents of all functions, in memory as they are on disk; the one place where they change."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from streamkit.clock import Clock
from streamkit.functions import rules
from streamkit.functions.state import FunctionState, VersionState
from streamkit.functions.store import FunctionStore
from streamkit.model.names import FunctionArn, Scope

OnChange = Callable[[FunctionState | None, FunctionState | None], None]

_NEVER_MS: Final = 1 << 62


class Documents:
    """Used on one event loop. A state is replaced, never changed: after an await it has to be looked up again."""

    def __init__(self, store: FunctionStore, clock: Clock, random: random.Random) -> None:
        self.on_change: list[OnChange] = []
        self._store = store
        self._clock = clock
        self._random = random
        self._functions: dict[Scope, dict[str, FunctionState]] = {}
        self._settling: dict[str, int] = {}  # function ids, with when something of them is settled next
        for state in store.functions():
            self._keep(state)

    # -- looking up --------------------------------------------------------------------------------------------------

    def get(self, scope: Scope, name: str) -> FunctionState | None:
        """As it is now: changes whose time has come are done."""
        state = self._functions.get(scope, {}).get(name)
        if state is not None and self._settling and self._settling.get(state.id, _NEVER_MS) <= self.now_ms():
            state = _settled(state, self.now_ms())
            self._keep(state)
        return state

    def find(self, scope: Scope, name: str, qualifier: str | None = None) -> FunctionState:
        """Raises ResourceNotFound; the qualifier is for its text alone."""
        state = self.get(scope, name)
        if state is None:
            raise rules.not_found(FunctionArn(scope, name, qualifier))
        return state

    def all(self, scope: Scope | None = None) -> list[FunctionState]:
        """Of an account in a region, or of all; by name."""
        scopes = list(self._functions) if scope is None else [scope]
        return [self.find(each, name) for each in scopes for name in sorted(self._functions.get(each, ()))]

    def __iter__(self) -> Iterator[FunctionState]:
        for functions in self._functions.values():
            yield from functions.values()

    # -- changing ----------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def revision(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def function_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def commit(self, before: FunctionState | None, after: FunctionState | None) -> None:
        """Replaces a function's document: on disk when it returns, and its listeners have heard. Raises
        StorageUnavailable, having changed nothing. None before creates, None after deletes."""
        state = after or before
        assert state is not None
        stored = self._functions.get(state.scope, {}).get(state.name)
        assert stored is before, f"{state.name} was changed meanwhile"
        if after is not None:
            self._store.save_function(after)
            self._keep(after)
        else:
            self._store.delete_function(state.id)
            del self._functions[state.scope][state.name]
            self._settling.pop(state.id, None)
        for listener in self.on_change:
            listener(before, after)

    def change(self, before: FunctionState, **fields: object) -> FunctionState:
        """The same function with other fields, committed."""
        after = msgspec.structs.replace(before, **fields)
        self.commit(before, after)
        return after

    def forget_all(self) -> None:
        """Deletes all functions, and the layers with them; listeners hear of each function."""
        gone = list(self)
        self._store.delete_all()
        self._functions.clear()
        self._settling.clear()
        for state in gone:
            for listener in self.on_change:
                listener(state, None)

    def _keep(self, state: FunctionState) -> None:
        self._functions.setdefault(state.scope, {})[state.name] = state
        due_ms = [version.settling.until_ms for version in _versions(state) if version.settling is not None]
        if due_ms:
            self._settling[state.id] = min(due_ms)
        else:
            self._settling.pop(state.id, None)


def _versions(state: FunctionState) -> Iterator[VersionState]:
    yield state.latest
    yield from state.versions.values()


def _settled(state: FunctionState, now_ms: int) -> FunctionState:
    def settled(version: VersionState) -> VersionState:
        settling = version.settling
        if settling is None or settling.until_ms > now_ms:
            return version
        return msgspec.structs.replace(version, settling=None, revision_id=settling.revision_id)

    versions = {number: settled(version) for number, version in state.versions.items()}
    return msgspec.structs.replace(state, latest=settled(state.latest), versions=versions)
