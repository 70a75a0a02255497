"""The delivery streams of a server: making, changing, finding and deleting them. Channels are kept with them, unseen.

Making and deleting have two moments, as with AWS. They are accepted: checked, on disk as CREATING or DELETING, and
answered. And they take effect when their time has come, also after a restart in between; then listeners are told. A
change of the destination takes effect at once, with a new version.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from streamkit.clock import Clock, Timer
from streamkit.delivery import documents, rules
from streamkit.delivery.compile import compile_plan
from streamkit.delivery.rules import Given
from streamkit.delivery.state import DeliveryState, DestinationKind, Encryption, KinesisSource
from streamkit.delivery.store import DeliveryStore
from streamkit.log import DELIVERY_STREAM
from streamkit.model.errors import StreamkitError
from streamkit.model.limits import LIST_DELIVERY_STREAMS_DEFAULT
from streamkit.model.names import FunctionArn, Scope

_log = logging.getLogger(__name__)

OnChange = Callable[[DeliveryState | None, DeliveryState | None], Awaitable[None]]
"""What was in effect and what is from now on; None: nothing. Called for a delivery stream's changes in their order."""

Prepare = Callable[[DeliveryState], Awaitable[DeliveryState]]
"""Makes what a delivery stream needs before it is stored; gives the state to store."""

Check = Callable[[DeliveryState], None]
"""Raises what keeps a delivery stream from working as it would be."""

RETRY_MS: Final = 1_000  # until a change that the disk refused is tried again


class Page(NamedTuple):
    states: list[DeliveryState]
    has_more: bool


class _Key(NamedTuple):
    scope: Scope
    name: str
    is_channel: bool


class _Delivery:
    """A delivery stream as it is now, and what goes on with it."""

    def __init__(self, state: DeliveryState) -> None:
        self.state = state
        self.timer: Timer | None = None  # until what is pending is due
        self.telling = asyncio.Lock()  # held while listeners hear of a change; fair, so changes stay in order

    @property
    def key(self) -> _Key:
        return _key(self.state)

    @property
    def due_at_ms(self) -> int | None:
        """When what is pending takes effect: it is one thing at a time."""
        state = self.state
        return state.encryption.pending_at_ms if state.pending_at_ms is None else state.pending_at_ms


class DeliveryRegistry:
    """All delivery streams and channels of a data directory. A call that changes something returns when that is on
    disk."""

    def __init__(
        self,
        store: DeliveryStore,
        *,
        clock: Clock,
        random: random.Random,
        transition_delay_ms: int = 0,
        function_exists: Callable[[FunctionArn], bool],
        stream_exists: Callable[[str], bool],
        prepare: Prepare | None = None,
    ) -> None:
        """`transition_delay_ms` 0: whoever asks after the answer sees it done."""
        self._store = store
        self._clock = clock
        self._random = random
        self._delay_ms = transition_delay_ms
        self._function_exists = function_exists
        self._stream_exists = stream_exists
        self.prepare: Prepare = prepare or _as_it_is
        self.check: Check = _anything
        """These two are set by who runs delivery streams, before any is made."""
        self._deliveries: dict[_Key, _Delivery] = {}
        self._being_made: set[_Key] = set()
        self._leaving: dict[_Key, asyncio.Task[None]] = {}  # listeners are still hearing that it is gone
        self._listeners: list[OnChange] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life --------------------------------------------------------------------------------------------------------

    def stored(self) -> list[DeliveryState]:
        """What is on disk, channels too; also before the start."""
        return self._store.streams()

    async def start(self) -> None:
        """Takes up what is stored, and does what fell due while nothing ran. Listeners hear of all that is there then,
        as if it had just been made; this returns when they have."""
        for state in self._store.streams():
            delivery = self._deliveries[_key(state)] = _Delivery(state)
            self._settle_later(delivery)
            if self._is_due(delivery):
                self._settle(delivery)
            if not self._is_there(delivery):
                self._leave(delivery, state)
            elif in_effect(delivery.state):
                self._tell(delivery, None, delivery.state)
        await self.told()

    async def close(self) -> None:
        """Forgets timers and listeners' calls under way."""
        for delivery in self._deliveries.values():
            _stop(delivery)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self, on_change: OnChange) -> Callable[[], None]:
        """Calls it after each change of what is in effect; the returned function ends that.

        Changes are on disk before, and seen by whoever asks: a listener brings the rest of the world after them. A name
        is not given away again until listeners know that it is free. Tags and encryption are not told.
        """
        self._listeners.append(on_change)
        return lambda: self._listeners.remove(on_change)

    async def told(self) -> None:
        """Returns when listeners have heard of every change that took effect."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- finding -----------------------------------------------------------------------------------------------------

    def all(self, scope: Scope | None = None) -> list[DeliveryState]:
        """Delivery streams by scope and name; channels are not among them."""
        return self._all(scope, is_channel=False)

    def find(self, scope: Scope, name: str) -> DeliveryState:
        """Raises ResourceNotFound; a channel is not found."""
        return self._find(scope, name).state

    def get(self, scope: Scope, name: str) -> DeliveryState | None:
        """The same, for puts: None where there is none."""
        delivery = self._get(_Key(scope, name, False))
        return None if delivery is None else delivery.state

    def page(
        self, scope: Scope, *, type: str | None = None, after: str | None = None, limit: int | None = None
    ) -> Page:
        """By name; those of a type where one is given, and after a name, there or not."""
        found = [
            state
            for state in self.all(scope)
            if (type is None or state.type == type) and (after is None or state.name > after)
        ]
        page = found[: limit or LIST_DELIVERY_STREAMS_DEFAULT]
        return Page(page, len(page) < len(found))

    # -- changing ----------------------------------------------------------------------------------------------------

    async def create(self, scope: Scope, given: Given) -> DeliveryState:
        """A new delivery stream, CREATING, of a request of CreateDeliveryStream. Raises what `rules` says, having
        changed nothing."""
        name = given["DeliveryStreamName"]
        self._require_free(_Key(scope, name, False))
        rules.require_room(scope, len(self.all(scope)))
        chosen = documents.destination_of(given, "DestinationConfiguration")
        if chosen is None:
            raise rules.one_destination()
        kind, configuration = chosen
        arn = rules.require_source(given, self._stream_exists)
        document = self._document(kind, documents.make(kind, configuration, scope), configuration, scope)
        tags = rules.with_tags({}, given.get("Tags") or ())
        now_ms = self._clock.now_ms()
        encryption = Encryption()
        if (key := given.get("DeliveryStreamEncryptionConfigurationInput")) is not None:
            rules.require_direct_puts(arn is not None)
            encryption = rules.require_key(key, scope)
        source = None
        if arn is not None:
            role_arn = given["KinesisStreamSourceConfiguration"]["RoleARN"]
            from_start = kind == "Streamkit" and configuration.get("From") != "LATEST"
            source = KinesisSource(str(arn), role_arn, now_ms, from_start=from_start)
        state = DeliveryState(
            id=self._random.randbytes(16).hex(),
            account=scope.account,
            region=scope.region,
            name=name,
            type="DirectPut" if source is None else "KinesisStreamAsSource",
            status="CREATING",
            created_at_ms=now_ms,
            kind=kind,
            document=document,
            source=source,
            direct_put=given.get("DirectPutSourceConfiguration"),
            encryption=encryption,
            tags=tags,
        )
        compile_plan(state)
        self.check(state)
        return await self._create(state)

    async def update_destination(self, scope: Scope, given: Given) -> DeliveryState:
        """The delivery stream with the destination that a request of UpdateDestination asks for."""
        delivery = self._find(scope, given["DeliveryStreamName"])
        before = delivery.state
        rules.require_active(before)
        rules.require_version(before, given["CurrentDeliveryStreamVersionId"], given["DestinationId"])
        chosen = documents.destination_of(given, "DestinationUpdate")
        if chosen is None:
            raise rules.one_update()
        kind, update = chosen
        replaces = bool(update.get("Replace"))  # ours: AWS's kinds have no such member
        update = {name: value for name, value in update.items() if name != "Replace"}
        if documents.are_alike(before.kind, kind) and not replaces:
            document = documents.merge(kind, before.document, update, scope)
        else:
            begun = {"From": before.document["From"]} if replaces and "From" in before.document else {}
            document = documents.make(kind, {**begun, **update}, scope)
        rules.require_change(before, kind, document)
        after = msgspec.structs.replace(
            before,
            kind=kind,
            document=self._document(kind, document, update, scope),
            version=before.version + 1,
            updated_at_ms=self._clock.now_ms(),
        )
        compile_plan(after)
        self.check(after)
        self._change(delivery, after)
        return after

    async def delete(self, scope: Scope, name: str) -> None:
        """From now on DELETING, and its data with it. Nothing where it is already: AWS lets one ask again."""
        delivery = self._find(scope, name)
        rules.require_deletable(delivery.state)
        self._delete(delivery)

    async def delete_all(self) -> None:
        """Removes every delivery stream and channel at once, whatever its state; returns when listeners have heard."""
        await self.told()
        for delivery in list(self._deliveries.values()):
            self._store.delete(delivery.state.id)
            self._forget(delivery)
        await self.told()

    # -- encryption --------------------------------------------------------------------------------------------------

    async def start_encryption(self, scope: Scope, name: str, given: Given) -> None:
        """`given`: DeliveryStreamEncryptionConfigurationInput, empty for a key of AWS's own."""
        delivery = self._find(scope, name)
        wanted = rules.require_key(given, scope)
        self._change_encryption(delivery, wanted, "ENABLING")

    async def stop_encryption(self, scope: Scope, name: str) -> None:
        self._change_encryption(self._find(scope, name), Encryption(), "DISABLING")

    # -- tags --------------------------------------------------------------------------------------------------------

    def tags(self, scope: Scope, name: str) -> Mapping[str, str]:
        return self.find(scope, name).tags

    async def tag(self, scope: Scope, name: str, given: Sequence[Mapping[str, Any]]) -> None:
        """`given`: AWS's list of Key and Value; no Value is an empty one."""
        delivery = self._find(scope, name)
        tags = rules.with_tags(delivery.state.tags, given)
        self._save(delivery, msgspec.structs.replace(delivery.state, tags=tags))

    async def untag(self, scope: Scope, name: str, keys: Sequence[str]) -> None:
        """Keys that are not there are no error."""
        delivery = self._find(scope, name)
        rest = {key: value for key, value in delivery.state.tags.items() if key not in keys}
        self._save(delivery, msgspec.structs.replace(delivery.state, tags=rest))

    # -- channels ----------------------------------------------------------------------------------------------------

    def channels(self, scope: Scope | None = None) -> list[DeliveryState]:
        """By scope and name."""
        return self._all(scope, is_channel=True)

    def find_channel(self, scope: Scope, name: str) -> DeliveryState | None:
        delivery = self._get(_Key(scope, name, True))
        return None if delivery is None else delivery.state

    async def create_channel(self, state: DeliveryState) -> DeliveryState:
        """CREATING, whatever its status is. Raises ResourceInUse where its name is taken."""
        assert state.is_channel
        self._require_free(_key(state))
        return await self._create(state)

    async def update_channel(self, state: DeliveryState) -> DeliveryState:
        """In place of the one of its scope and name, which has to be there. Listeners hear of it where its version is
        another one."""
        delivery = self._deliveries[_key(state)]
        if state.version == delivery.state.version:
            self._save(delivery, state)
        else:
            self._change(delivery, state)
        return state

    async def delete_channel(self, scope: Scope, name: str) -> None:
        """Nothing where it is not there."""
        delivery = self._get(_Key(scope, name, True))
        if delivery is not None:
            self._delete(delivery)

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _document(
        self, kind: DestinationKind, document: documents.Document, given: Given, scope: Scope
    ) -> documents.Document:
        """With everything AWS adds, and checked. A function that went away since does not stand in the way of what has
        nothing to do with it."""
        document = rules.with_processors(kind, document)
        exists = self._function_exists if "ProcessingConfiguration" in given else lambda _: True
        rules.require_destination(kind, document, given, scope, exists)
        return document

    def _all(self, scope: Scope | None, *, is_channel: bool) -> list[DeliveryState]:
        for delivery in list(self._deliveries.values()):
            self._settle_if_due(delivery)
        keys = (key for key in self._deliveries if key.is_channel == is_channel and scope in (None, key.scope))
        return [self._deliveries[key].state for key in sorted(keys)]

    def _get(self, key: _Key) -> _Delivery | None:
        delivery = self._deliveries.get(key)
        if delivery is not None:
            self._settle_if_due(delivery)
            delivery = self._deliveries.get(key)
        return delivery

    def _find(self, scope: Scope, name: str) -> _Delivery:
        delivery = self._get(_Key(scope, name, False))
        if delivery is None:
            raise rules.not_found(scope, name)
        return delivery

    def _is_there(self, delivery: _Delivery) -> bool:
        return self._deliveries.get(delivery.key) is delivery

    def _require_free(self, key: _Key) -> None:
        if self._get(key) is not None or key in self._being_made:
            raise rules.already_exists(key.scope, key.name)

    async def _create(self, state: DeliveryState) -> DeliveryState:
        key = _key(state)
        self._being_made.add(key)
        try:
            if (leaving := self._leaving.get(key)) is not None:
                await asyncio.wait([leaving])
            pending_at_ms = self._clock.now_ms() + self._delay_ms
            state = msgspec.structs.replace(await self.prepare(state), status="CREATING", pending_at_ms=pending_at_ms)
            self._store.save(state)
            delivery = self._deliveries[key] = _Delivery(state)
        finally:
            self._being_made.discard(key)
        self._settle_later(delivery)
        return state

    def _save(self, delivery: _Delivery, state: DeliveryState) -> None:
        self._store.save(state)
        delivery.state = state

    def _change(self, delivery: _Delivery, after: DeliveryState) -> None:
        before = delivery.state
        self._save(delivery, after)
        if in_effect(after):
            self._tell(delivery, before, after)
        _log.info("destination changed", extra={DELIVERY_STREAM: after.name})

    def _delete(self, delivery: _Delivery) -> None:
        if delivery.state.status == "DELETING":
            return
        pending_at_ms = self._clock.now_ms() + self._delay_ms
        encryption = msgspec.structs.replace(delivery.state.encryption, pending_at_ms=None)  # one thing at a time
        self._save(
            delivery,
            msgspec.structs.replace(
                delivery.state, status="DELETING", pending_at_ms=pending_at_ms, encryption=encryption
            ),
        )
        self._settle_later(delivery)

    def _change_encryption(self, delivery: _Delivery, wanted: Encryption, until: Any) -> None:
        state = delivery.state
        rules.require_active(state)
        rules.require_direct_puts(state.source is not None)
        now_ms = self._clock.now_ms()
        counted = rules.with_call(state.encryption, state, now_ms)
        wanted = msgspec.structs.replace(wanted, calls_ms=counted.calls_ms)
        if self._delay_ms:
            wanted = msgspec.structs.replace(wanted, status=until, pending_at_ms=now_ms + self._delay_ms)
        self._save(delivery, msgspec.structs.replace(state, encryption=wanted))
        self._settle_later(delivery)

    # -- what is pending ---------------------------------------------------------------------------------------------

    def _settle_later(self, delivery: _Delivery, delay_ms: int | None = None) -> None:
        _stop(delivery)
        due_at_ms = delivery.due_at_ms
        if due_at_ms is None:
            return
        if delay_ms is None:  # the clock may have been set back: nothing waits longer than changes do
            delay_ms = min(max(due_at_ms - self._clock.now_ms(), 0), self._delay_ms)
        delivery.timer = self._clock.call_later(delay_ms, partial(self._settle_now, delivery))

    def _is_due(self, delivery: _Delivery) -> bool:
        due_at_ms = delivery.due_at_ms
        return due_at_ms is not None and due_at_ms <= self._clock.now_ms()

    def _settle_if_due(self, delivery: _Delivery) -> None:
        """Whoever looks at a delivery stream sees what is due done, also before the event loop comes to it."""
        if self._is_due(delivery):
            self._settle_now(delivery)

    def _settle_now(self, delivery: _Delivery) -> None:
        was_in_effect = in_effect(delivery.state)
        before = delivery.state
        if not self._settle(delivery):
            return
        if not self._is_there(delivery):
            self._leave(delivery, before)
        elif not was_in_effect:
            self._tell(delivery, None, delivery.state)

    def _settle(self, delivery: _Delivery) -> bool:
        """Puts what is pending into effect, or says no and tries again later: it was promised."""
        _stop(delivery)
        try:
            self._apply(delivery)
        except StreamkitError as error:  # the disk refused
            _log.error("a change waits for the disk: %s", error, extra={DELIVERY_STREAM: delivery.state.name})
            self._settle_later(delivery, RETRY_MS)
            return False
        return True

    def _apply(self, delivery: _Delivery) -> None:
        state = delivery.state
        if state.status == "DELETING":
            self._store.delete(state.id)
            del self._deliveries[delivery.key]
            _log.info("delivery stream deleted", extra={DELIVERY_STREAM: state.name})
            return
        encryption = state.encryption
        if encryption.pending_at_ms is not None:
            settled = "ENABLED" if encryption.status == "ENABLING" else "DISABLED"
            encryption = msgspec.structs.replace(encryption, status=settled, pending_at_ms=None)
        after = msgspec.structs.replace(state, status="ACTIVE", pending_at_ms=None, encryption=encryption)
        self._save(delivery, after)
        if state.status == "CREATING":
            _log.info("delivery stream is ACTIVE", extra={DELIVERY_STREAM: state.name})

    def _forget(self, delivery: _Delivery) -> None:
        _stop(delivery)
        del self._deliveries[delivery.key]
        self._leave(delivery, delivery.state)

    # -- listeners ---------------------------------------------------------------------------------------------------

    def _leave(self, delivery: _Delivery, before: DeliveryState) -> None:
        """Also of one that never took effect: what was prepared for it has to go."""
        key = delivery.key
        task = self._leaving[key] = self._tell(delivery, before, None)

        def gone(_: asyncio.Task[None]) -> None:
            if self._leaving.get(key) is task:
                del self._leaving[key]

        task.add_done_callback(gone)

    def _tell(
        self, delivery: _Delivery, before: DeliveryState | None, after: DeliveryState | None
    ) -> asyncio.Task[None]:
        async def tell() -> None:
            async with delivery.telling:
                for listener in tuple(self._listeners):
                    try:
                        await listener(before, after)
                    except Exception:  # a listener's fault must not keep the others from hearing of it
                        _log.exception("a listener failed", extra={DELIVERY_STREAM: delivery.state.name})

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def in_effect(state: DeliveryState) -> bool:
    """Whether it reads and delivers: one that is being deleted does, until it is gone."""
    return state.status in ("ACTIVE", "DELETING")


async def _as_it_is(state: DeliveryState) -> DeliveryState:
    return state


def _anything(state: DeliveryState) -> None:
    return None


def _key(state: DeliveryState) -> _Key:
    return _Key(state.scope, state.name, state.is_channel)


def _stop(delivery: _Delivery) -> None:
    if delivery.timer is not None:
        delivery.timer.cancel()
        delivery.timer = None
