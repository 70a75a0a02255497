"""Delivery streams in virtual time: accepted, then in effect; a restart in between only delays it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.control import ControlFile
from streamkit.delivery import rules
from streamkit.delivery.destination import Range
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.state import (
    BufferState,
    DeliveryState,
    Encryption,
    KinesisSource,
    Progress,
    SealedState,
    SpoolPiece,
    Target,
)
from streamkit.delivery.store import DeliveryStore
from streamkit.model.errors import (
    InvalidArgument,
    LimitExceeded,
    ResourceInUse,
    ResourceNotFound,
    StorageUnavailable,
)
from streamkit.model.names import FunctionArn, Scope
from streamkit.testing.clock import VirtualClock, run

SCOPE = Scope("000000000000", "us-east-1")
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
ROLE = "arn:aws:iam::000000000000:role/r"
BUCKET = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::b"}
GIVEN = {"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration": BUCKET}
OF_STREAM = {
    **GIVEN,
    "DeliveryStreamType": "KinesisStreamAsSource",
    "KinesisStreamSourceConfiguration": {"KinesisStreamARN": STREAM, "RoleARN": ROLE},
}
DELAY_MS = 5_000


def channel(name: str = "c", version: int = 1) -> DeliveryState:
    source = KinesisSource(STREAM, ROLE, 1)
    return DeliveryState(
        f"id of {name}", *SCOPE, name, "KinesisStreamAsSource", "ACTIVE", 1, "S3", {}, version=version, source=source,
        is_channel=True,
    )  # fmt: skip


class World:
    """A control file, and a registry over it that can be started anew. There is a stream `s` and a function `f`."""

    def __init__(self, clock: VirtualClock, *, path: Path | None = None, delay_ms: int = DELAY_MS) -> None:
        self.clock = clock
        self.file = ControlFile(path)
        self.random = random.Random(1)
        self.delay_ms = delay_ms
        self.prepared: list[str] = []
        self.functions = {"f"}
        self.open()

    def open(self) -> None:
        self.heard: list[tuple[str | None, str | None]] = []
        self.store = DeliveryStore(self.file)
        self.registry = DeliveryRegistry(
            self.store,
            clock=self.clock,
            random=self.random,
            transition_delay_ms=self.delay_ms,
            function_exists=self.function_exists,
            stream_exists=STREAM.__eq__,
            prepare=self.prepare,
        )
        self.registry.listen(self.hear)

    def function_exists(self, arn: FunctionArn) -> bool:
        return arn.name in self.functions

    async def prepare(self, state: DeliveryState) -> DeliveryState:
        self.prepared.append(state.name)
        return state

    async def hear(self, before: DeliveryState | None, after: DeliveryState | None) -> None:
        def told(state: DeliveryState | None) -> str | None:
            return None if state is None else f"{state.name} {state.version} {state.status}"

        self.heard.append((told(before), told(after)))

    async def restart(self, down_ms: int = 0) -> None:
        """As a process that is killed: nothing is closed, what is on disk is there."""
        for delivery in self.registry._deliveries.values():
            if delivery.timer is not None:
                delivery.timer.cancel()
        await self.clock.sleep(down_ms)
        self.open()
        await self.registry.start()

    async def create(self, name: str = "d", **more: Any) -> DeliveryState:
        return await self.registry.create(SCOPE, {**GIVEN, "DeliveryStreamName": name, **more})

    async def create_active(self, name: str = "d", **more: Any) -> DeliveryState:
        await self.create(name, **more)
        await self.clock.sleep(self.delay_ms)
        self.registry.all()
        await self.registry.told()
        return self.registry.find(SCOPE, name)

    async def update(self, version: int = 1, **more: Any) -> DeliveryState:
        return await self.registry.update_destination(
            SCOPE,
            {
                "DeliveryStreamName": "d",
                "CurrentDeliveryStreamVersionId": str(version),
                "DestinationId": "destinationId-000000000001",
                **more,
            },
        )


def tell(main: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Runs a story in a world of its own. Nothing may fail on the side, in a timer."""

    async def story(clock: VirtualClock, _: random.Random) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        world = World(clock, **options)
        await world.registry.start()
        await main(world)
        await clock.sleep(10 * DELAY_MS)
        await world.registry.close()

    faults: list[dict[str, Any]] = []
    run(story, seed=1)
    assert faults == []


# -- two moments -----------------------------------------------------------------------------------------------------


def test_a_delivery_stream_is_prepared_then_accepted_then_in_effect() -> None:
    """Listeners hear of it when it is ACTIVE, not before."""

    async def main(world: World) -> None:
        state = await world.create()
        assert (state.status, world.prepared, world.heard) == ("CREATING", ["d"], [])
        await world.clock.sleep(DELAY_MS - 1)
        assert world.registry.find(SCOPE, "d").status == "CREATING"
        await world.clock.sleep(1)
        await world.registry.told()
        assert world.heard == [(None, "d 1 ACTIVE")]

    tell(main)


def test_without_a_delay_whoever_asks_next_sees_it_done() -> None:
    """The event loop need not have had a turn."""

    async def main(world: World) -> None:
        await world.create()
        assert world.registry.find(SCOPE, "d").status == "ACTIVE"
        await world.registry.delete(SCOPE, "d")
        assert world.registry.get(SCOPE, "d") is None
        await world.registry.told()
        assert world.heard == [(None, "d 1 ACTIVE"), ("d 1 DELETING", None)]

    tell(main, delay_ms=0)


def test_deleting_takes_its_time_and_its_progress_with_it() -> None:
    """It is found until it is gone; asking again is no error."""

    async def main(world: World) -> None:
        state = await world.create_active()
        world.store.save_progress(state.id, Progress(next_number=7))
        await world.registry.delete(SCOPE, "d")
        await world.clock.sleep(DELAY_MS - 1)
        await world.registry.delete(SCOPE, "d")
        assert world.registry.find(SCOPE, "d").status == "DELETING"
        await world.clock.sleep(1)
        with pytest.raises(ResourceNotFound, match=r"Firehose d under account 000000000000 not found\."):
            world.registry.find(SCOPE, "d")
        assert (world.store.streams(), world.store.progress(state.id)) == ([], Progress())
        again = await world.create()
        await world.clock.sleep(10 * DELAY_MS)
        assert world.registry.find(SCOPE, "d").id == again.id

    tell(main)


def test_what_is_being_made_can_be_neither_deleted_nor_changed() -> None:
    """AWS refuses both while it is CREATING."""

    async def main(world: World) -> None:
        await world.create()
        with pytest.raises(ResourceInUse):
            await world.registry.delete(SCOPE, "d")
        with pytest.raises(ResourceInUse):
            await world.update(ExtendedS3DestinationUpdate={"Prefix": "p/"})
        with pytest.raises(ResourceInUse):
            await world.registry.start_encryption(SCOPE, "d", {})

    tell(main)


def test_a_change_of_the_destination_is_in_effect_at_once() -> None:
    """Listeners get both versions, in order."""

    async def main(world: World) -> None:
        await world.create_active()
        await world.update(1, ExtendedS3DestinationUpdate={"Prefix": "p/"})
        await world.update(2, ExtendedS3DestinationUpdate={"Prefix": "q/"})
        await world.registry.told()
        assert world.heard[1:] == [("d 1 ACTIVE", "d 2 ACTIVE"), ("d 2 ACTIVE", "d 3 ACTIVE")]
        assert world.store.streams()[0].document["Prefix"] == "q/"

    tell(main)


def test_a_function_that_went_away_does_not_keep_the_rest_from_being_changed() -> None:
    """It is looked for where it is given, and not again."""

    async def main(world: World) -> None:
        parameters = [{"ParameterName": "LambdaArn", "ParameterValue": "f"}]
        processing = {"Enabled": True, "Processors": [{"Type": "Lambda", "Parameters": parameters}]}
        configuration = {**BUCKET, "ProcessingConfiguration": processing}
        await world.create_active(ExtendedS3DestinationConfiguration=configuration)
        world.functions.clear()
        await world.update(ExtendedS3DestinationUpdate={"Prefix": "p/"})
        with pytest.raises(InvalidArgument, match="Function not found: f"):
            await world.update(2, ExtendedS3DestinationUpdate={"ProcessingConfiguration": processing})

    tell(main)


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down_ms", [0, DELAY_MS - 1, DELAY_MS, 10 * DELAY_MS])
def test_what_was_accepted_takes_effect_also_after_a_restart(tmp_path: Path, down_ms: int) -> None:
    """At its time, or at once where that is over; and the listener hears of it once."""

    async def main(world: World) -> None:
        await world.create()
        await world.restart(down_ms)
        expected = [(None, "d 1 ACTIVE")]
        assert world.heard == (expected if down_ms >= DELAY_MS else [])
        await world.clock.sleep(DELAY_MS)
        await world.registry.told()
        assert world.heard == expected

    tell(main, path=tmp_path / "c.sqlite")


@pytest.mark.parametrize("down_ms", [0, DELAY_MS, 10 * DELAY_MS])
def test_a_deletion_that_was_accepted_is_done_after_a_restart_and_told(tmp_path: Path, down_ms: int) -> None:
    """Listeners have things of it to clean away, also where its time came while nothing ran."""

    async def main(world: World) -> None:
        await world.create_active()
        await world.registry.delete(SCOPE, "d")
        await world.restart(down_ms)
        await world.clock.sleep(DELAY_MS)
        await world.registry.told()
        assert world.heard[-1] == ("d 1 DELETING", None)
        assert world.store.streams() == []

    tell(main, path=tmp_path / "c.sqlite")


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """States as they were, channels too; `stored` knows them before the start."""

    async def main(world: World) -> None:
        await world.create_active(Tags=[{"Key": "k", "Value": "v"}])
        await world.registry.create_channel(channel())
        await world.clock.sleep(DELAY_MS)
        await world.update(ExtendedS3DestinationUpdate={"Prefix": "p/"})
        await world.registry.start_encryption(SCOPE, "d", {})
        await world.clock.sleep(DELAY_MS)
        before = [*world.registry.all(), *world.registry.channels()]
        await world.restart()
        assert [*world.registry.all(), *world.registry.channels()] == before
        assert {state.id for state in world.registry.stored()} == {state.id for state in before}

    tell(main, path=tmp_path / "c.sqlite")


def test_a_clock_that_is_set_back_does_not_make_anything_wait_longer() -> None:
    """Nothing waits longer than changes take."""

    async def main(world: World) -> None:
        await world.create()
        world.clock.step(-1_000_000)
        await world.restart()
        await world.clock.sleep(DELAY_MS)
        await world.registry.told()
        assert world.registry.find(SCOPE, "d").status == "ACTIVE"

    tell(main)


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_not_given_away_until_listeners_know_that_it_is_free() -> None:
    """What they clean away belongs to the one that is gone, and not to the next of its name."""

    async def main(world: World) -> None:
        await world.create_active()
        hold = asyncio.Event()
        order: list[str] = []

        async def slow(before: DeliveryState | None, after: DeliveryState | None) -> None:
            if after is None:
                await hold.wait()
                order.append("cleaned")

        async def prepare(state: DeliveryState) -> DeliveryState:
            order.append("prepared")
            return state

        world.registry.listen(slow)
        world.registry.prepare = prepare
        await world.registry.delete(SCOPE, "d")
        making = asyncio.ensure_future(world.create())
        await world.clock.sleep(1_000)
        assert order == []
        hold.set()
        await making
        assert order == ["cleaned", "prepared"]

    tell(main, delay_ms=0)


def test_of_two_that_want_a_name_at_the_same_time_one_gets_it() -> None:
    """Also while the first is being prepared; if that fails, the name is free again."""

    async def main(world: World) -> None:
        hold = asyncio.Event()

        async def prepare(state: DeliveryState) -> DeliveryState:
            await hold.wait()
            raise InvalidArgument("no")

        world.registry.prepare = prepare
        first = asyncio.ensure_future(world.create())
        await world.clock.sleep(1)
        with pytest.raises(ResourceInUse, match="Firehose d under accountId 000000000000 already exists"):
            await world.create()
        hold.set()
        with pytest.raises(InvalidArgument):
            await first
        world.registry.prepare = world.prepare
        await world.create()

    tell(main)


def test_a_page_has_names_in_order_and_says_whether_there_are_more() -> None:
    """Types are filtered before pages are cut."""

    async def main(world: World) -> None:
        for name in ("b", "a", "c"):
            await world.create(name)
        await world.registry.create(SCOPE, {**OF_STREAM, "DeliveryStreamName": "k"})
        await world.registry.create(Scope("1" * 12, "us-east-1"), GIVEN)
        page = world.registry.page(SCOPE, type="DirectPut", limit=2)
        assert ([state.name for state in page.states], page.has_more) == (["a", "b"], True)
        page = world.registry.page(SCOPE, after="b")
        assert ([state.name for state in page.states], page.has_more) == (["c", "k"], False)
        assert len(world.registry.all()) == 5

    tell(main)


# -- sources ---------------------------------------------------------------------------------------------------------


def test_aws_s_destinations_read_what_comes_ours_what_is_there() -> None:
    """Unless ours is told otherwise."""

    async def main(world: World) -> None:
        def own(**more: str) -> dict[str, Any]:
            given = {name: value for name, value in OF_STREAM.items() if name != "ExtendedS3DestinationConfiguration"}
            return {**given, "StreamkitDestinationConfiguration": {"Url": "/a", **more}}

        for name, members, from_start in (
            ("aws", OF_STREAM, False),
            ("own", own(), True),
            ("latest", own(From="LATEST"), False),
            ("trim", own(From="TRIM_HORIZON"), True),
        ):
            state = await world.registry.create(SCOPE, {**members, "DeliveryStreamName": name})
            assert state.source is not None
            assert (state.source.stream_arn, state.source.from_start) == (STREAM, from_start)

    tell(main)


# -- disks that refuse -----------------------------------------------------------------------------------------------


def test_what_the_disk_refuses_did_not_happen() -> None:
    """Neither a new delivery stream nor a change is seen that is not on disk."""

    async def main(world: World) -> None:
        await world.create_active()
        before = world.registry.find(SCOPE, "d")
        world.file.db.execute("pragma query_only = on")
        with pytest.raises(StorageUnavailable):
            await world.create("e")
        with pytest.raises(StorageUnavailable):
            await world.update(ExtendedS3DestinationUpdate={"Prefix": "p/"})
        with pytest.raises(StorageUnavailable):
            await world.registry.delete(SCOPE, "d")
        assert world.registry.all() == [before]
        world.file.db.execute("pragma query_only = off")
        await world.create("e")

    tell(main)


def test_a_change_that_was_promised_waits_for_the_disk() -> None:
    """It is tried again until the disk takes it."""

    async def main(world: World) -> None:
        await world.create()
        world.file.db.execute("pragma query_only = on")
        await world.clock.sleep(10 * DELAY_MS)
        assert (world.registry._deliveries and world.heard) == []
        world.file.db.execute("pragma query_only = off")
        await world.clock.sleep(2_000)
        await world.registry.told()
        assert world.heard == [(None, "d 1 ACTIVE")]

    tell(main)


def test_a_listener_that_fails_does_not_keep_others_from_hearing() -> None:
    """Its fault is logged, and the next is called."""

    async def main(world: World) -> None:
        heard: list[str] = []

        async def broken(before: DeliveryState | None, after: DeliveryState | None) -> None:
            raise ValueError("broken")

        async def listen(before: DeliveryState | None, after: DeliveryState | None) -> None:
            heard.append("it")

        world.registry.listen(broken)
        forget = world.registry.listen(listen)
        await world.create_active()
        assert heard == ["it"]
        forget()
        await world.create_active("e")
        assert heard == ["it"]

    tell(main)


def test_who_runs_delivery_streams_may_refuse_one_before_it_is_there() -> None:
    """A new one and a changed one."""

    async def main(world: World) -> None:
        def check(state: DeliveryState) -> None:
            if state.document["Prefix"] == "bad/":
                raise InvalidArgument("no")

        world.registry.check = check
        await world.create_active()
        with pytest.raises(InvalidArgument):
            await world.create("e", ExtendedS3DestinationConfiguration={**BUCKET, "Prefix": "bad/"})
        with pytest.raises(InvalidArgument):
            await world.update(ExtendedS3DestinationUpdate={"Prefix": "bad/"})
        assert [(state.name, state.version) for state in world.registry.all()] == [("d", 1)]

    tell(main)


# -- encryption ------------------------------------------------------------------------------------------------------


def test_encryption_is_turned_on_and_off_in_the_time_that_changes_take(tmp_path: Path) -> None:
    """ENABLING, ENABLED, DISABLING, DISABLED, also over a restart; meanwhile it is not changed again."""

    async def main(world: World) -> None:
        def status() -> str:
            return world.registry.find(SCOPE, "d").encryption.status

        await world.create_active()
        await world.registry.start_encryption(SCOPE, "d", {})
        assert status() == "ENABLING"
        with pytest.raises(ResourceInUse):
            await world.registry.stop_encryption(SCOPE, "d")
        await world.restart(DELAY_MS)
        assert status() == "ENABLED"
        await world.registry.stop_encryption(SCOPE, "d")
        assert status() == "DISABLING"
        await world.clock.sleep(DELAY_MS)
        assert status() == "DISABLED"

    tell(main, path=tmp_path / "c.sqlite")


def test_encryption_is_changed_25_times_a_day() -> None:
    """Starts and stops together; after a day the first ones are forgotten."""

    async def main(world: World) -> None:
        await world.create_active()
        for _ in range(25):
            await world.registry.start_encryption(SCOPE, "d", {})
        with pytest.raises(LimitExceeded, match="25 times in 24 hours"):
            await world.registry.stop_encryption(SCOPE, "d")
        await world.clock.sleep(rules.DAY_MS)
        await world.registry.stop_encryption(SCOPE, "d")

    tell(main, delay_ms=0)


def test_what_is_encrypted_from_the_start_is_so_when_it_is_active() -> None:
    """The key is shown while it is made."""

    async def main(world: World) -> None:
        state = await world.create(DeliveryStreamEncryptionConfigurationInput={"KeyType": "AWS_OWNED_CMK"})
        assert state.encryption == Encryption("ENABLED", "AWS_OWNED_CMK")

    tell(main)


def test_a_deletion_does_not_wait_for_encryption_nor_come_early_by_it() -> None:
    """One thing is pending at a time."""

    async def main(world: World) -> None:
        await world.create_active()
        await world.registry.start_encryption(SCOPE, "d", {})
        await world.clock.sleep(1_000)
        await world.registry.delete(SCOPE, "d")
        await world.clock.sleep(DELAY_MS - 1)
        assert world.registry.find(SCOPE, "d").status == "DELETING"
        await world.clock.sleep(1)
        assert world.registry.get(SCOPE, "d") is None

    tell(main)


# -- channels --------------------------------------------------------------------------------------------------------


def test_channels_are_kept_beside_delivery_streams_and_not_seen_among_them() -> None:
    """Of the same name too; listeners hear of them likewise."""

    async def main(world: World) -> None:
        await world.create_active()
        made = await world.registry.create_channel(channel("d"))
        assert (made.status, world.prepared) == ("CREATING", ["d", "d"])
        await world.clock.sleep(DELAY_MS)
        assert [state.is_channel for state in world.registry.all()] == [False]
        assert [state.is_channel for state in world.registry.channels(SCOPE)] == [True]
        assert world.registry.find(SCOPE, "d").kind == "ExtendedS3"
        assert world.registry.find_channel(SCOPE, "c") is None
        with pytest.raises(ResourceInUse):
            await world.registry.create_channel(channel("d"))
        found = world.registry.find_channel(SCOPE, "d")
        assert found is not None
        await world.registry.update_channel(msgspec.structs.replace(found, tags={"k": "v"}))
        await world.registry.update_channel(msgspec.structs.replace(found, version=2))
        await world.registry.delete_channel(SCOPE, "d")
        await world.clock.sleep(DELAY_MS)
        await world.registry.delete_channel(SCOPE, "d")
        await world.registry.told()
        assert world.heard[1:] == [
            (None, "d 1 ACTIVE"),
            ("d 1 ACTIVE", "d 2 ACTIVE"),
            ("d 2 DELETING", None),
        ]
        assert [state.name for state in world.registry.all()] == ["d"]

    tell(main)


def test_delete_all_leaves_nothing_and_tells_of_each() -> None:
    """Whatever its state, channels too; names are free afterwards."""

    async def main(world: World) -> None:
        await world.create_active()
        await world.create("new")
        await world.registry.create_channel(channel())
        world.heard.clear()
        await world.registry.delete_all()
        assert sorted(str(before) for before, after in world.heard if after is None) == [
            "c 1 CREATING",
            "d 1 ACTIVE",
            "new 1 CREATING",
        ]
        assert world.store.streams() == []
        await world.create()

    tell(main)


# -- the store -------------------------------------------------------------------------------------------------------


def progress(number: int) -> Progress:
    """With something in every member."""
    target = Target("s3", {"bucket": "b"}, prefix="p/", error_prefix="e/", extension=".json", compression="GZIP")
    buffer = BufferState('{"role":"main"}', 1, 2, 3, 4, [Range(0, 1, 2)], [SpoolPiece(1, 0)])
    sealed = SealedState(
        number, "id", "k", "main", target, 1, 2, 3, [Range(0, 1, 2)], 4, 5, {"day": "1"}, 6_000, target
    )  # fmt: skip
    return Progress("i", {0: 7}, [1], number + 1, 2, [buffer], channel(), [sealed])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), max_size=8))
def test_of_several_saves_of_progress_the_last_one_counts(saves: list[tuple[str, int, bool]]) -> None:
    """In a transaction of its own or shared; of a delivery stream that is not stored nothing is kept."""
    store = DeliveryStore(ControlFile(None))
    store.save(msgspec.structs.replace(channel(), id="a"))

    async def main() -> None:
        for delivery_id, number, is_soon in saves:
            if is_soon:
                await store.save_progress_soon(delivery_id, progress(number))
            else:
                store.save_progress(delivery_id, progress(number))

    asyncio.run(main())
    last = [number for delivery_id, number, _ in saves if delivery_id == "a"]
    assert store.progress("a") == (progress(last[-1]) if last else Progress())
    assert store.progress("b") == Progress()


def test_progress_that_is_saved_after_its_delivery_stream_was_deleted_is_not_kept() -> None:
    """A worker may still be saving."""
    store = DeliveryStore(ControlFile(None))
    store.save(channel())

    async def main() -> None:
        saved = store.save_progress_soon(channel().id, progress(1))
        store.delete(channel().id)
        await saved

    asyncio.run(main())
    assert store.progress(channel().id) == Progress()


# -- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("{day: .day}", {"day"}),
        ('{a: .x, "b c": .y[1:2], c_1:(.z | strftime("%Y, {d: 1}"))}', {"a", "b c", "c_1"}),
        ("{ a, b : .c }", {"a", "b"}),
        ('{a: {b: 1, c: 2}, d: [1, {e: 3}], f: "}{,x: \\" y: 1"}', {"a", "d", "f"}),
        ("{}", None),
        (".", None),
        ("{a: 1} | {b: 2}", None),
        ("{(.k): 1}", None),
        ("{a: 1", None),
    ],
)
def test_the_keys_of_a_query_are_those_of_the_object_it_makes(query: str, keys: set[str] | None) -> None:
    """Others are not guessed."""
    assert rules.query_keys(query) == keys


@given(st.text(alphabet='{}[](),:"\\ab .|', max_size=20))
def test_no_query_is_too_strange_to_be_looked_at(query: str) -> None:
    """What is in it is the user's business, and never an error here."""
    keys = rules.query_keys(query)
    assert keys is None or keys


def test_streams_behind_direct_puts_are_in_a_scope_that_nobody_can_name() -> None:
    """A region with a dot in it is in no ARN of AWS's."""
    private = rules.private_scope(SCOPE)
    assert private == ("000000000000", "us-east-1.delivery")
    assert (rules.is_private(private), rules.is_private(SCOPE)) == (True, False)
