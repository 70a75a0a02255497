"""Mappings in virtual time: a change is accepted, then it takes effect, and a restart in between only delays it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.control import ControlFile
from streamkit.functions.destinations import Delivery, RecordDestination, RecordDestinations
from streamkit.mappings.registry import MappingRegistry, in_effect
from streamkit.mappings.state import LaneProgress, MappingState, ShardProgress
from streamkit.mappings.store import MappingStore
from streamkit.model.errors import (
    InvalidParameterValue,
    RequestError,
    ResourceConflict,
    ResourceInUse,
    ResourceNotFound,
)
from streamkit.model.names import FunctionArn, MappingArn, Scope
from streamkit.testing.clock import START_MS, VirtualClock, run

SCOPE = Scope("000000000000", "us-east-1")
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
DELAY_MS = 5_000
GIVEN = {"EventSourceArn": STREAM, "FunctionName": "f", "StartingPosition": "LATEST"}


class Nowhere:
    """See `streamkit.functions.destinations.RecordDestination`."""

    async def position(self) -> None:
        return None

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        return None


def destination(arn: str) -> RecordDestination:
    if arn.endswith(":missing"):
        raise InvalidParameterValue(f"The destination ARN {arn} is invalid.")
    return Nowhere()


class World:
    """A control file, and a registry over it that can be started anew. Functions `f` and `f:1`, `g`; a stream `s`."""

    def __init__(self, clock: VirtualClock, *, path: Path | None = None, delay_ms: int = DELAY_MS) -> None:
        self.clock = clock
        self.file = ControlFile(path)
        self.random = random.Random(1)
        self.delay_ms = delay_ms
        self.functions = {"f": ("1", "$LATEST", "live"), "g": ()}
        self.streams = {STREAM, f"{STREAM}2"}
        self.heard: list[tuple[str | None, str | None]] = []
        self.changes: list[tuple[MappingState | None, MappingState | None]] = []
        self.open()

    def open(self) -> None:
        self.store = MappingStore(self.file)
        self.registry = MappingRegistry(
            self.store,
            clock=self.clock,
            random=self.random,
            transition_delay_ms=self.delay_ms,
            function_exists=self.function_exists,
            source_exists=self.streams.__contains__,
            destinations=RecordDestinations({"sqs": destination}),
        )
        self.registry.listen(self.hear)

    async def restart(self, down_ms: int = 0) -> None:
        """As a process that is killed: nothing is closed, what is on disk is there."""
        self.kill()
        await self.clock.sleep(down_ms)
        self.heard.clear()
        self.open()
        await self.registry.start()

    def kill(self) -> None:
        for mapping in self.registry._mappings.values():
            if mapping.timer is not None:
                mapping.timer.cancel()

    def function_exists(self, arn: FunctionArn) -> FunctionArn | None:
        qualifiers = self.functions.get(arn.name)
        return arn if qualifiers is not None and arn.qualifier in (None, *qualifiers) else None

    async def hear(self, before: MappingState | None, after: MappingState | None) -> None:
        statuses = [None if state is None else state.status for state in (before, after)]
        self.heard.append((statuses[0], statuses[1]))
        self.changes.append((before, after))

    async def create(self, **members: Any) -> MappingState:
        return await self.registry.create(SCOPE, {**GIVEN, **members})

    async def enabled(self, **members: Any) -> str:
        """The id of a mapping that has come into effect."""
        state = await self.create(**members)
        await self.clock.sleep(self.delay_ms)
        await self.registry.told()
        return state.id

    def status(self, mapping_id: str) -> str:
        return self.registry.get(SCOPE, mapping_id).status

    def statuses(self) -> list[str]:
        return [state.status for state in self.registry.all()]


def play(scene: Callable[[World], Coroutine[Any, Any, None]], delay_ms: int = DELAY_MS) -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        await scene(World(clock, delay_ms=delay_ms))

    run(main, seed=0)


# -- states ----------------------------------------------------------------------------------------------------------


def test_a_new_mapping_is_creating_and_then_enabled() -> None:
    async def scene(world: World) -> None:
        state = await world.create()
        assert (state.status, state.modified_at_ms, state.transition_reason) == ("Creating", START_MS, "User action")
        assert state.last_result == "No records processed"
        assert uuid.UUID(state.id).version == 4
        assert not in_effect(state)
        await world.clock.sleep(DELAY_MS - 1)
        assert (world.status(state.id), world.heard) == ("Creating", [])
        await world.clock.sleep(1)
        after = world.registry.get(SCOPE, state.id)
        assert (after.status, after.modified_at_ms, after.generation) == ("Enabled", START_MS + DELAY_MS, 0)
        assert in_effect(after)
        await world.registry.told()
        assert world.changes == [(None, after)]

    play(scene)


def test_a_mapping_that_is_made_disabled_ends_so() -> None:
    async def scene(world: World) -> None:
        state = await world.create(Enabled=False)
        assert state.status == "Creating"
        await world.clock.sleep(DELAY_MS)
        assert world.status(state.id) == "Disabled"
        assert not in_effect(world.registry.get(SCOPE, state.id))

    play(scene)


@pytest.mark.parametrize(
    ("enabled", "members", "between", "after"),
    [
        (True, {"BatchSize": 7}, "Updating", "Enabled"),
        (False, {"BatchSize": 7}, "Updating", "Disabled"),
        (True, {"BatchSize": 7, "Enabled": False}, "Disabling", "Disabled"),
        (False, {"BatchSize": 7, "Enabled": True}, "Enabling", "Enabled"),
        (True, {"BatchSize": 7, "Enabled": True}, "Updating", "Enabled"),
    ],
)
def test_an_update_answers_with_the_old_values_and_takes_effect_later(
    enabled: bool, members: dict[str, Any], between: str, after: str
) -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled(Enabled=enabled)
        answer = await world.registry.update(SCOPE, mapping_id, members)
        assert (answer.status, answer.settings.batch_records_max) == (between, 100)
        assert answer.settings.enabled is enabled
        await world.clock.sleep(DELAY_MS)
        state = world.registry.get(SCOPE, mapping_id)
        assert (state.status, state.settings.batch_records_max, state.generation) == (after, 7, 1)
        await world.registry.told()
        before, told = world.changes[-1]
        assert before is not None
        assert (before.settings, before.generation, told) == (answer.settings, 0, state)

    play(scene)


def test_a_deleted_mapping_is_deleting_and_then_gone_with_its_progress() -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled()
        await world.store.save_progress_soon(mapping_id, [ShardProgress(0, 0, "i", [LaneProgress(5)])])
        state = await world.registry.delete(SCOPE, mapping_id)
        assert state.status == "Deleting"
        assert world.store.load_progress(mapping_id)
        await world.clock.sleep(DELAY_MS)
        with pytest.raises(ResourceNotFound) as caught:
            world.registry.get(SCOPE, mapping_id)
        assert caught.value.message == "The resource you requested does not exist."
        await world.registry.told()
        assert world.heard == [(None, "Enabled"), ("Deleting", None)]
        assert (world.store.mappings(), world.store.load_progress(mapping_id)) == ([], {})

    play(scene)


def test_disabling_and_enabling_keep_progress_and_begin_nothing_anew() -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled()
        await world.store.save_progress_soon(mapping_id, [ShardProgress(0, 0, "i", [LaneProgress(5)])])
        for enabled in (False, True):
            await world.registry.update(SCOPE, mapping_id, {"Enabled": enabled})
            await world.clock.sleep(DELAY_MS)
        state = world.registry.get(SCOPE, mapping_id)
        assert (state.status, state.generation) == ("Enabled", 0)
        assert world.store.load_progress(mapping_id)[0].checkpoint == 5

    play(scene)


def test_without_a_delay_the_answer_is_old_and_whoever_asks_next_sees_the_new() -> None:
    """Also where the event loop had no turn in between: the registry does what is due before it answers."""

    async def scene(world: World) -> None:
        state = await world.create()
        assert state.status == "Creating"
        assert world.status(state.id) == "Enabled"
        answer = await world.registry.update(SCOPE, state.id, {"BatchSize": 7})
        assert (answer.status, answer.settings.batch_records_max) == ("Updating", 100)
        answer = await world.registry.update(SCOPE, state.id, {"BatchSize": 8})
        assert answer.settings.batch_records_max == 7
        assert world.registry.list(SCOPE).states[0].settings.batch_records_max == 8
        assert (await world.registry.delete(SCOPE, state.id)).status == "Deleting"
        assert world.registry.list(SCOPE).states == []
        await world.registry.told()
        assert world.heard == [(None, "Enabled"), ("Updating", "Enabled"), ("Updating", "Enabled"), ("Deleting", None)]

    play(scene, delay_ms=0)


def test_without_a_delay_changes_also_take_effect_when_nobody_asks() -> None:
    async def scene(world: World) -> None:
        await world.create()
        await world.clock.sleep(0)
        await world.clock.sleep(0)
        await world.registry.told()
        assert world.heard == [(None, "Enabled")]

    play(scene, delay_ms=0)


@pytest.mark.parametrize("change", ["create", "update", "delete"])
def test_a_mapping_in_transition_takes_no_other_change(change: str) -> None:
    async def scene(world: World) -> None:
        mapping_id = (await world.create()).id
        if change != "create":
            await world.clock.sleep(DELAY_MS)
            again = world.registry.delete(SCOPE, mapping_id)
            await (again if change == "delete" else world.registry.update(SCOPE, mapping_id, {}))
            if change == "update":
                again.close()
        with pytest.raises(ResourceInUse, match=r"^Cannot update the event source mapping because it is in use\.$"):
            await world.registry.update(SCOPE, mapping_id, {})
        with pytest.raises(ResourceInUse, match=r"^Cannot delete the event source mapping because it is in use\.$"):
            await world.registry.delete(SCOPE, mapping_id)
        await world.clock.sleep(DELAY_MS)
        assert world.statuses() == ([] if change == "delete" else ["Enabled"])

    play(scene)


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down_ms", [0, 1_000, 60_000])
@pytest.mark.parametrize(
    ("change", "between", "after"),
    [("create", "Creating", "Enabled"), ("update", "Disabling", "Disabled"), ("delete", "Deleting", None)],
)
def test_a_restart_in_the_middle_of_a_change_only_delays_it(
    change: str, between: str, after: str | None, down_ms: int
) -> None:
    async def scene(world: World) -> None:
        mapping_id = (await world.create()).id
        if change != "create":
            await world.clock.sleep(DELAY_MS)
        if change == "update":
            await world.registry.update(SCOPE, mapping_id, {"Enabled": False})
        if change == "delete":
            await world.registry.delete(SCOPE, mapping_id)
        await world.restart(down_ms)
        if down_ms < DELAY_MS:
            assert world.statuses() == [between]
            assert world.heard == ([] if change == "create" else [(None, between)])
            world.heard.clear()
            await world.clock.sleep(DELAY_MS - down_ms)
            await world.registry.told()
            assert world.heard == [(None if change == "create" else between, after)]
        else:
            assert world.heard == ([] if after is None else [(None, after)])
        assert world.statuses() == ([] if after is None else [after])
        await world.restart()
        assert world.statuses() == ([] if after is None else [after])

    play(scene)


def test_a_clock_that_was_set_back_delays_a_change_no_longer_than_changes_take() -> None:
    async def scene(world: World) -> None:
        mapping_id = (await world.create()).id
        world.clock.step(-3_600_000)
        await world.restart()
        assert world.status(mapping_id) == "Creating"
        await world.clock.sleep(DELAY_MS)
        assert world.status(mapping_id) == "Enabled"

    play(scene)


def test_a_change_that_the_disk_refuses_takes_effect_when_it_does_not(tmp_path: Path) -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        world = World(clock, path=tmp_path / "c.sqlite")
        world.file.db.execute("pragma busy_timeout = 1")
        mapping_id = (await world.create()).id
        other = ControlFile(tmp_path / "c.sqlite")
        other.db.execute("begin immediate")
        await clock.sleep(DELAY_MS + 2_500)
        assert (world.status(mapping_id), world.heard) == ("Creating", [])
        other.db.execute("rollback")
        await clock.sleep(1_000)
        await world.registry.told()
        assert (world.status(mapping_id), world.heard) == ("Enabled", [(None, "Enabled")])
        other.close()
        world.file.close()

    run(main, seed=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["create", "other", "disable", "enable", "resize", "delete", "wait", "look", "restart"]),
        max_size=14,
    ),
    st.sampled_from([0, DELAY_MS]),
)
def test_whatever_is_done_a_listener_knows_what_is_in_effect(actions: list[str], delay_ms: int) -> None:
    """A listener that keeps what it heard last of each mapping has, in the end, exactly the registry's states."""

    async def scene(world: World) -> None:
        known: dict[str, MappingState] = {}
        out_of_order: list[MappingState] = []
        changes: dict[str, dict[str, Any]] = {
            "disable": {"Enabled": False},
            "enable": {"Enabled": True},
            "resize": {"BatchSize": 5},
        }

        async def keep(before: MappingState | None, after: MappingState | None) -> None:
            last = None if before is None else known.get(before.id)
            if before is not None and (last is None or last.settings != before.settings):
                out_of_order.append(before)
            await asyncio.sleep(0)  # a listener takes its time; changes come one after the other all the same
            state = after or before
            assert state is not None
            known.pop(state.id, None)
            if after is not None:
                known[after.id] = after

        world.registry.listen(keep)
        ids: list[str] = []
        for action in actions:
            try:
                if action in ("create", "other"):
                    name = "f" if action == "create" else "g"
                    ids.append((await world.create(FunctionName=name)).id)
                elif action == "wait":
                    await world.clock.sleep(DELAY_MS)
                elif action == "look":
                    world.statuses()
                elif action == "restart":
                    await world.registry.told()
                    known.clear()
                    world.kill()
                    world.open()
                    world.registry.listen(keep)
                    await world.registry.start()
                elif ids and action == "delete":
                    await world.registry.delete(SCOPE, ids[-1])
                elif ids:
                    await world.registry.update(SCOPE, ids[-1], changes[action])
            except RequestError:
                pass  # a refused change changes nothing, which is what is looked at below
        await world.clock.sleep(DELAY_MS)
        states = {state.id: state for state in world.registry.all()}
        await world.registry.told()
        assert not out_of_order
        assert all(state.pending is None for state in states.values())
        assert {key: (state.settings, state.generation) for key, state in known.items()} == {
            key: (state.settings, state.generation) for key, state in states.items()
        }
        assert {state.id: state for state in world.store.mappings()} == states

    play(scene, delay_ms)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "error", "text"),
    [
        ({"EventSourceArn": None}, InvalidParameterValue, "Unrecognized event source."),
        ({"FunctionName": "none"}, InvalidParameterValue, "Function does not exist"),
        ({"FunctionName": "f:7"}, InvalidParameterValue, "Function does not exist"),
        ({"EventSourceArn": f"{STREAM}9"}, InvalidParameterValue, f"Stream not found: {STREAM}9"),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:missing"}}},
            InvalidParameterValue,
            "The destination ARN arn:aws:sqs:us-east-1:000000000000:missing is invalid.",
        ),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": "nowhere"}}},
            InvalidParameterValue,
            "The destination ARN nowhere is invalid.",
        ),
        (
            {"Tags": {str(number): "" for number in range(51)}},
            InvalidParameterValue,
            "Number of tags exceeds resource tag limit.",
        ),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_and_nothing_is_stored(
    members: dict[str, Any], error: type[RequestError], text: str
) -> None:
    async def scene(world: World) -> None:
        with pytest.raises(error) as caught:
            await world.create(**members)
        assert caught.value.message == text
        assert (world.store.mappings(), world.statuses()) == ([], [])

    play(scene)


def test_a_duplicate_is_refused_while_the_first_is_there_in_whatever_state() -> None:
    async def scene(world: World) -> None:
        first = await world.create()
        with pytest.raises(ResourceConflict, match=f"existing mapping with UUID {first.id}$"):
            await world.create()
        await world.clock.sleep(DELAY_MS)
        await world.registry.delete(SCOPE, first.id)
        with pytest.raises(ResourceConflict):
            await world.create()
        await world.clock.sleep(DELAY_MS)
        await world.create()

    play(scene)


def test_the_qualifier_that_was_asked_for_is_kept_and_makes_another_mapping() -> None:
    async def scene(world: World) -> None:
        names = ("f", "f:1", "f:$LATEST", f"{FUNCTION}:live")
        arns = [(await world.create(FunctionName=name)).settings.function_arn for name in names]
        assert arns == [FUNCTION, f"{FUNCTION}:1", f"{FUNCTION}:$LATEST", f"{FUNCTION}:live"]

    play(scene)


def test_an_update_is_checked_as_a_new_mapping_is_and_changes_nothing_if_refused() -> None:
    async def scene(world: World) -> None:
        first, second = await world.enabled(), await world.enabled(FunctionName="g")
        missing = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:missing"}}
        refusals: list[tuple[dict[str, Any], type[RequestError]]] = [
            ({"FunctionName": "none"}, InvalidParameterValue),
            ({"FunctionName": "f"}, ResourceConflict),
            ({"DestinationConfig": missing}, InvalidParameterValue),
            ({"MaximumRecordAgeInSeconds": 5}, InvalidParameterValue),
        ]
        for members, error in refusals:
            with pytest.raises(error):
                await world.registry.update(SCOPE, second, members)
        assert world.status(second) == "Enabled"
        await world.registry.update(SCOPE, first, {"FunctionName": "f"})  # its own is no duplicate
        await world.registry.update(SCOPE, second, {"FunctionName": "f:1"})
        await world.clock.sleep(DELAY_MS)
        state = world.registry.get(SCOPE, second)
        assert (state.settings.function_arn, state.generation) == (f"{FUNCTION}:1", 1)

    play(scene)


def test_a_mapping_outlives_its_function_and_its_stream() -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled()
        world.functions.clear()
        world.streams.clear()
        await world.restart()
        assert world.status(mapping_id) == "Enabled"
        await world.registry.update(SCOPE, mapping_id, {"BatchSize": 3})
        await world.clock.sleep(DELAY_MS)
        await world.registry.delete(SCOPE, mapping_id)

    play(scene)


def test_a_mapping_is_found_in_its_own_scope_only() -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled()
        for other in (Scope("999999999999", SCOPE.region), Scope(SCOPE.account, "eu-west-1")):
            for use in (world.registry.update(other, mapping_id, {}), world.registry.delete(other, mapping_id)):
                with pytest.raises(ResourceNotFound):
                    await use
            with pytest.raises(ResourceNotFound):
                world.registry.get(other, mapping_id)
            assert world.registry.list(other).states == []

    play(scene)


# -- listing ---------------------------------------------------------------------------------------------------------


def test_mappings_are_listed_by_function_and_by_source() -> None:
    async def scene(world: World) -> None:
        made = {
            "a": (await world.create()).id,
            "b": (await world.create(FunctionName="f:1")).id,
            "c": (await world.create(EventSourceArn=f"{STREAM}2")).id,
        }

        def listed(**filters: Any) -> set[str]:
            ids = {state.id for state in world.registry.list(SCOPE, **filters).states}
            return {name for name, mapping_id in made.items() if mapping_id in ids}

        assert listed() == {"a", "b", "c"}
        assert listed(function="f") == listed(function=FUNCTION) == {"a", "c"}
        assert listed(function="f:1") == {"b"}
        assert listed(source_arn=STREAM) == {"a", "b"}
        assert listed(source_arn=STREAM, function="f") == {"a"}
        assert listed(function="none") == listed(source_arn=f"{STREAM}9") == set()

    play(scene)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5))
def test_pages_hold_every_mapping_once_oldest_first(count: int, items_max: int) -> None:
    async def scene(world: World) -> None:
        world.functions = {f"f{number}": () for number in range(count)}
        made = []
        for number in range(count):
            made.append(await world.create(FunctionName=f"f{number}"))
            await world.clock.sleep(number % 2)
        found: list[str] = []
        marker: str | None = None
        while True:
            page = world.registry.list(SCOPE, marker=marker, items_max=items_max)
            assert len(page.states) <= items_max
            found += [state.id for state in page.states]
            marker = page.next_marker
            if marker is None:
                break
        assert found == [state.id for state in sorted(made, key=lambda state: (state.created_at_ms, state.id))]

    play(scene)


def test_a_page_holds_a_hundred_at_most() -> None:
    async def scene(world: World) -> None:
        world.functions = {f"f{number}": () for number in range(101)}
        for name in world.functions:
            await world.create(FunctionName=name)
        page = world.registry.list(SCOPE, items_max=10_000)
        assert len(page.states) == 100
        assert len(world.registry.list(SCOPE, marker=page.next_marker).states) == 1

    play(scene, delay_ms=0)


@pytest.mark.parametrize("marker", ["x", "Zm9v", "%%%", "ü"])
def test_a_marker_that_was_not_given_out_is_refused(marker: str) -> None:
    async def scene(world: World) -> None:
        with pytest.raises(InvalidParameterValue, match="none that was given out"):
            world.registry.list(SCOPE, marker=marker)

    play(scene)


# -- results and tags ------------------------------------------------------------------------------------------------


def test_a_result_is_seen_at_once_and_on_disk_within_a_second() -> None:
    async def scene(world: World) -> None:
        first, second = await world.enabled(), await world.enabled(FunctionName="g")
        stored: set[tuple[str, ...]] = set()
        for number in range(100):  # ten a second
            world.registry.set_result(first, f"{number}")
            world.registry.set_result(second, "OK")
            assert world.registry.get(SCOPE, first).last_result == f"{number}"
            stored.add(tuple(state.last_result for state in world.store.mappings()))
            await world.clock.sleep(100)
        assert 8 <= len(stored) <= 12
        await world.clock.sleep(1_000)
        assert [state.last_result for state in world.store.mappings()] == ["99", "OK"]
        await world.restart()
        assert world.registry.get(SCOPE, first).last_result == "99"

    play(scene)


def test_a_result_does_not_disturb_a_change_under_way_nor_bring_a_deleted_mapping_back() -> None:
    async def scene(world: World) -> None:
        mapping_id = await world.enabled()
        await world.registry.update(SCOPE, mapping_id, {"BatchSize": 7})
        world.registry.set_result(mapping_id, "OK")
        await world.clock.sleep(DELAY_MS)
        state = world.registry.get(SCOPE, mapping_id)
        assert (state.status, state.settings.batch_records_max, state.last_result) == ("Enabled", 7, "OK")
        await world.registry.delete(SCOPE, mapping_id)
        await world.clock.sleep(DELAY_MS - 500)
        world.registry.set_result(mapping_id, "PROBLEM: Function call failed")
        await world.clock.sleep(5_000)
        world.registry.set_result(mapping_id, "OK")
        await world.clock.sleep(5_000)
        assert world.store.mappings() == []

    play(scene)


def test_results_are_written_by_a_close_also_if_their_second_is_not_over() -> None:
    async def scene(world: World) -> None:
        world.registry.set_result(await world.enabled(), "OK")
        await world.registry.close()
        assert [state.last_result for state in world.store.mappings()] == ["OK"]

    play(scene)


def test_nothing_takes_effect_after_a_close() -> None:
    async def scene(world: World) -> None:
        await world.create()
        await world.registry.close()
        await world.clock.sleep(10 * DELAY_MS)
        assert world.heard == []
        assert [state.status for state in world.store.mappings()] == ["Creating"]

    play(scene)


def test_tags_are_kept_and_do_not_disturb_a_change_under_way() -> None:
    async def scene(world: World) -> None:
        state = await world.create(Tags={"a": "1"})
        arn = state.arn
        await world.registry.tag(arn, {"b": "2", "c": "3"})
        await world.registry.untag(arn, ["b", "not there"])
        assert world.registry.tags(arn) == {"a": "1", "c": "3"}
        await world.clock.sleep(DELAY_MS)
        assert world.status(state.id) == "Enabled"
        await world.restart()
        assert world.registry.tags(arn) == {"a": "1", "c": "3"}
        assert world.registry.get(SCOPE, state.id).generation == 0

    play(scene)


def test_tags_of_a_mapping_that_is_not_there_name_its_arn() -> None:
    async def scene(world: World) -> None:
        arn = MappingArn(SCOPE, "00000000-0000-4000-8000-000000000000")
        with pytest.raises(ResourceNotFound) as caught:
            world.registry.tags(arn)
        assert caught.value.message == f"Event source mapping not found: {arn}"
        with pytest.raises(ResourceNotFound):
            await world.registry.tag(arn, {"a": "b"})
        with pytest.raises(ResourceNotFound):
            await world.registry.untag(arn, ["a"])

    play(scene)


# -- listeners -------------------------------------------------------------------------------------------------------


def test_a_listener_that_fails_does_not_keep_the_others_from_hearing() -> None:
    async def scene(world: World) -> None:
        async def fail(before: MappingState | None, after: MappingState | None) -> None:
            raise RuntimeError("a listener's fault")

        world.registry._listeners.insert(0, fail)
        await world.enabled()
        assert world.heard == [(None, "Enabled")]

    play(scene)


def test_a_listener_hears_no_more_once_it_has_left() -> None:
    async def scene(world: World) -> None:
        heard = []

        async def hear(before: MappingState | None, after: MappingState | None) -> None:
            heard.append(after)

        leave = world.registry.listen(hear)
        await world.enabled()
        leave()
        await world.enabled(FunctionName="g")
        assert (len(heard), len(world.heard)) == (1, 2)

    play(scene)
