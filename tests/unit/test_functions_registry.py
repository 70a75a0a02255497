"""The registry of functions: versions, aliases, layers and settings, in virtual time, and against a simple model."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.clock import Clock
from streamkit.control import ControlFile
from streamkit.functions.code import CodeStore
from streamkit.functions.registry import Registry
from streamkit.functions.state import LATEST, AliasState, Configuration, FunctionState, RuntimeUpdates, VersionState
from streamkit.functions.store import FunctionStore
from streamkit.model.errors import (
    InvalidParameterValue,
    PreconditionFailed,
    ProvisionedNotFound,
    RequestError,
    ResourceConflict,
    ResourceNotFound,
    StorageUnavailable,
)
from streamkit.model.limits import CODE_KEPT_MS
from streamkit.model.names import FunctionArn, LayerArn, Scope
from streamkit.testing.clock import VirtualClock, run

T = TypeVar("T")

SCOPE: Final = Scope("000000000000", "us-east-1")
ELSEWHERE: Final = Scope("000000000000", "eu-west-1")
BASE: Final = Configuration("python3.12", "app.handler", "arn:aws:iam::000000000000:role/r")
ARN: Final = FunctionArn(SCOPE, "f", None)


async def at_once(function: Callable[[], T]) -> T:
    return function()


def zip_of(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


class World:
    """A data directory, and registries that are opened on it one after the other."""

    def __init__(self, path: Path, clock: Clock, source: random.Random, delay_ms: int = 0) -> None:
        self.path = path
        self.clock = clock
        self.random = source
        self.delay_ms = delay_ms
        self.control = ControlFile(path / "control.sqlite")

    async def open(self) -> Registry:
        registry = Registry(
            FunctionStore(self.control),
            CodeStore(self.path / "code", run=at_once),
            clock=self.clock,
            random=self.random,
            transition_delay_ms=self.delay_ms,
        )
        await registry.start()
        return registry

    async def restart(self) -> Registry:
        self.control.close()
        self.control = ControlFile(self.path / "control.sqlite")
        return await self.open()


Body = Callable[[World, Registry], Coroutine[Any, Any, None]]


def simulate(path: Path, body: Body, *, seed: int = 1, delay_ms: int = 0) -> None:
    async def main(clock: VirtualClock, source: random.Random) -> None:
        world = World(path, clock, source, delay_ms)
        try:
            await body(world, await world.open())
        finally:
            world.control.close()

    run(main, seed=seed)


async def refused(error: type[RequestError], call: Awaitable[object]) -> str:
    with pytest.raises(error) as caught:
        await call
    assert type(caught.value) is error
    return caught.value.message


# -- versions --------------------------------------------------------------------------------------------------------


def test_the_course_of_versions(tmp_path: Path) -> None:
    """v1 and v2 stay what they were while $LATEST goes on; the alias `prod` moves from one to the other by weight."""

    #   $LATEST   one ──────┬── two ──────┬── three
    #   version             1             2
    #   prod                └─────────────┴▶ 1: 75 %, 2: 25 %  ─▶ 2
    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        first = await registry.publish_version(SCOPE, "f", description="first")
        await registry.update_code(SCOPE, "f", zip_of("two"))
        second = await registry.publish_version(SCOPE, "f")
        await registry.update_code(SCOPE, "f", zip_of("three"))
        await registry.aliases.create(SCOPE, "f", "prod", "1", weights={"2": 0.25})

        def code(qualifier: str | None) -> bytes:
            _, version, _ = registry.resolve(ARN._replace(qualifier=qualifier))
            package = version.configuration.code
            assert package is not None
            return (registry.code.unpacked(package) / "app.py").read_bytes()

        assert [code(each) for each in (None, LATEST, "1", "2")] == [b"three", b"three", b"one", b"two"]
        assert (first.configuration.description, second.configuration.description) == ("first", "")
        drawn = Counter(code("prod") for _ in range(4000))
        assert set(drawn) == {b"one", b"two"}
        assert 850 < drawn[b"two"] < 1150
        assert registry.resolve(ARN._replace(qualifier="prod"))[2] == "prod"
        assert registry.version(registry.find(SCOPE, "f"), "prod").version == "1"
        await registry.aliases.update(SCOPE, "f", "prod", version="2", weights={})
        assert {code("prod") for _ in range(50)} == {b"two"}

    simulate(tmp_path, body)


@pytest.mark.parametrize(("weight", "versions"), [(0.0, {"1"}), (1.0, {"2"})])
def test_a_weight_of_nothing_or_everything_is_kept_exactly(tmp_path: Path, weight: float, versions: set[str]) -> None:
    """No draw ever falls on the wrong side, the lowest and the highest there are included."""

    class Extreme(random.Random):
        def random(self) -> float:
            return (0.0, 1 - 2**-53)[self.getrandbits(1)]

    async def body(world: World, registry: Registry) -> None:
        world.random = Extreme(1)
        registry = await world.restart()
        await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        await registry.update_code(SCOPE, "f", zip_of("two"), publish=True)
        await registry.aliases.create(SCOPE, "f", "a", "1", weights={"2": weight})
        found = {registry.resolve(ARN._replace(qualifier="a"))[1].version for _ in range(300)}
        assert found == versions

    simulate(tmp_path, body)


def test_publishing_what_did_not_change_gives_the_last_version_again(tmp_path: Path) -> None:
    """Tags, policies and a description of the version alone are no change; a redundant update is none either."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        first = await registry.publish_version(SCOPE, "f", description="other")
        await registry.settings.tag(SCOPE, "f", {"a": "b"})
        await registry.policies.add(ARN, "s", "*", "lambda:InvokeFunction")
        await registry.update_configuration(SCOPE, "f", {"timeout_s": 3})
        assert await registry.publish_version(SCOPE, "f", description="new") == first
        assert await registry.update_code(SCOPE, "f", zip_of("one"), publish=True) == first
        registry = await world.restart()
        assert await registry.publish_version(SCOPE, "f") == first
        await registry.update_configuration(SCOPE, "f", {"description": "d"})
        assert (await registry.publish_version(SCOPE, "f")).version == "2"
        await registry.delete(SCOPE, "f", "2")
        assert (await registry.publish_version(SCOPE, "f")).version == "3"

    simulate(tmp_path, body)


def test_a_dry_run_checks_and_changes_nothing(tmp_path: Path) -> None:
    """Not even the revision."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        before = registry.find(SCOPE, "f")
        assert await registry.update_code(SCOPE, "f", zip_of("two"), dry_run=True, publish=True) == before.latest
        assert registry.find(SCOPE, "f") is before
        await refused(InvalidParameterValue, registry.update_code(SCOPE, "f", b"no zip", dry_run=True))

    simulate(tmp_path, body)


def test_of_changes_at_the_same_time_one_is_first(tmp_path: Path) -> None:
    """Code takes a while to be stored; what was true before it is asked again after it."""

    async def in_a_while(function: Callable[[], T]) -> T:
        await asyncio.sleep(0.01)
        return function()

    async def body(world: World, registry: Registry) -> None:
        registry.code = CodeStore(world.path / "code", run=in_a_while)
        creates = [registry.create(SCOPE, "f", BASE, zip_of(text)) for text in ("one", "two")]
        made = await asyncio.gather(*creates, return_exceptions=True)
        assert [type(each) for each in made] == [VersionState, ResourceConflict]
        revision_id = registry.find(SCOPE, "f").latest.revision_id
        updates = [registry.update_code(SCOPE, "f", zip_of(text), revision_id=revision_id) for text in ("one", "two")]
        changed = await asyncio.gather(*updates, return_exceptions=True)
        assert [type(each) for each in changed] == [VersionState, PreconditionFailed]
        late = registry.update_code(SCOPE, "f", zip_of("three"))
        ends = await asyncio.gather(late, registry.delete(SCOPE, "f"), return_exceptions=True)
        assert [type(each) for each in ends] == [ResourceNotFound, type(None)]

    simulate(tmp_path, body)


def test_a_library_function_needs_no_code(tmp_path: Path) -> None:
    """It has a source instead; settings of ours are versioned like AWS's."""

    async def body(world: World, registry: Registry) -> None:
        configuration = msgspec.structs.replace(BASE, source="package.module:f", environment="inline", input="batch")
        await registry.create(SCOPE, "f", configuration)
        await registry.publish_version(SCOPE, "f")
        await registry.update_code(SCOPE, "f", source="package.module:g")
        function = registry.find(SCOPE, "f")
        assert function.versions["1"].configuration.source == "package.module:f"
        spec = registry.spec_of(function, function.latest, log_stream="s", endpoint="http://localhost")
        assert (spec.source, spec.code, spec.layers) == ("package.module:g", None, ())
        assert await refused(InvalidParameterValue, registry.create(SCOPE, "g", BASE)) == (
            "Please provide a source for function code."
        )

    simulate(tmp_path, body)


def test_a_spec_has_all_an_environment_is_made_of(tmp_path: Path) -> None:
    """Sizes in their units, layers in their order, the log group that was named or AWS's."""

    async def body(world: World, registry: Registry) -> None:
        for name in ("a", "b"):
            await registry.layers.publish(SCOPE, name, zip_of(name))
        arns = [str(LayerArn(SCOPE, name, 1)) for name in ("b", "a")]
        configuration = msgspec.structs.replace(
            BASE, timeout_s=7, memory_mib=256, tmp_mib=600, variables={"AB": "1"}, layers=arns
        )
        await registry.create(SCOPE, "f", configuration, zip_of("one"))
        function = registry.find(SCOPE, "f")
        spec = registry.spec_of(function, function.latest, log_stream="s", endpoint=None)
        assert (spec.timeout_ms, spec.memory_mib, spec.tmp_mib) == (7000, 256, 600)
        assert (spec.arn, spec.version, spec.log_group) == (str(ARN), LATEST, "/aws/lambda/f")
        assert spec.variables == {"AB": "1"}
        assert spec.code is not None
        assert (spec.code / "app.py").read_text() == "one"
        assert [(path / "app.py").read_text() for path in spec.layers] == ["b", "a"]
        again = registry.spec_of(function, function.latest, log_stream="s", endpoint=None)
        assert spec == again

    simulate(tmp_path, body)


def test_names_belong_to_an_account_in_a_region(tmp_path: Path) -> None:
    """The same name elsewhere is another function, and what is missing is named in full."""

    async def body(world: World, registry: Registry) -> None:
        for scope in (SCOPE, ELSEWHERE):
            await registry.create(scope, "f", BASE, zip_of(scope.region))
        assert await refused(ResourceConflict, registry.create(SCOPE, "f", BASE, zip_of("x"))) == (
            "Function already exist: f"
        )
        await registry.delete(ELSEWHERE, "f")
        assert [each.region for each in registry.all()] == ["us-east-1"]
        assert registry.all(ELSEWHERE) == []
        for qualifier in ("9", "none"):
            with pytest.raises(ResourceNotFound) as caught:
                registry.resolve(ARN._replace(qualifier=qualifier))
            assert caught.value.message == f"Function not found: {ARN}:{qualifier}"

    simulate(tmp_path, body)


# -- states ----------------------------------------------------------------------------------------------------------


def status(registry: Registry, qualifier: str | None = None) -> str | None:
    settling = registry.version(registry.find(SCOPE, "f"), qualifier).settling
    return None if settling is None else settling.status


def test_a_change_takes_its_time(tmp_path: Path) -> None:
    """Pending, then active; in progress, then done; each with a revision of its own, across a restart."""

    #  0 ms         100        150          250
    #  create ──────▶│ update ──▶│           │
    #  Pending       Active      InProgress ─▶ Successful
    async def body(world: World, registry: Registry) -> None:
        made = await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        assert (made.version, status(registry), status(registry, "1")) == ("1", "Pending", "Pending")
        for change in (
            registry.update_configuration(SCOPE, "f", {"timeout_s": 9}),
            registry.update_code(SCOPE, "f", zip_of("two")),
            registry.publish_version(SCOPE, "f"),
        ):
            assert "state: Pending" in await refused(ResourceConflict, change)
        await world.clock.sleep(99)
        registry = await world.restart()
        assert status(registry) == "Pending"
        await world.clock.sleep(1)
        active = registry.find(SCOPE, "f")
        assert (active.latest.settling, active.versions["1"].settling) == (None, None)
        assert active.versions["1"].revision_id != made.revision_id
        await world.clock.sleep(50)
        updated = await registry.update_configuration(SCOPE, "f", {"timeout_s": 9})
        assert status(registry) == "InProgress"
        text = await refused(ResourceConflict, registry.update_code(SCOPE, "f", zip_of("two")))
        assert text.endswith(f"An update is in progress for resource: {ARN}")
        await registry.settings.tag(SCOPE, "f", {"a": "b"})
        await world.clock.sleep(100)
        after = registry.find(SCOPE, "f").latest
        assert (after.settling, after.configuration.timeout_s) == (None, 9)
        assert after.revision_id not in (updated.revision_id, active.latest.revision_id)

    simulate(tmp_path, body, delay_ms=100)


def test_without_a_delay_a_change_is_done_when_it_is_answered(tmp_path: Path) -> None:
    """The answer still says what AWS's says."""

    async def body(world: World, registry: Registry) -> None:
        made = await registry.create(SCOPE, "f", BASE, zip_of("one"))
        assert made.settling is not None
        assert made.settling.status == "Pending"
        assert status(registry) is None
        updated = await registry.update_configuration(SCOPE, "f", {"timeout_s": 9})
        assert updated.settling is not None
        assert updated.settling.status == "InProgress"
        assert status(registry) is None

    simulate(tmp_path, body)


def test_listeners_hear_of_each_change_when_it_is_on_disk(tmp_path: Path) -> None:
    """Before and after; None before a function is made and after it is deleted."""

    async def body(world: World, registry: Registry) -> None:
        heard: list[tuple[FunctionState | None, FunctionState | None]] = []

        def listener(before: FunctionState | None, after: FunctionState | None) -> None:
            heard.append((before, after))
            stored = {each.id: each for each in FunctionStore(world.control).functions()}
            state = after or before
            assert state is not None
            assert stored.get(state.id) == after

        registry.on_change.append(listener)
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        await registry.settings.reserve(SCOPE, "f", 5)
        await registry.delete(SCOPE, "f")
        assert [(before is None, after is None) for before, after in heard] == [
            (True, False),
            (False, False),
            (False, True),
        ]
        changed = heard[1]
        assert changed[0] is not None
        assert changed[1] is not None
        assert (changed[0].reserved_concurrency, changed[1].reserved_concurrency) == (None, 5)

    simulate(tmp_path, body)


def test_what_could_not_be_stored_is_not_there(tmp_path: Path) -> None:
    """A disk that refuses leaves everything as it was, and nobody hears of it."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        before = registry.find(SCOPE, "f")
        heard: list[object] = []
        registry.on_change.append(lambda *states: heard.append(states))
        pages = world.control.db.execute("pragma page_count").fetchone()[0]
        world.control.db.execute(f"pragma max_page_count = {pages}")
        with pytest.raises(StorageUnavailable):
            await registry.settings.tag(SCOPE, "f", {str(index): "x" * 250 for index in range(50)})
        with pytest.raises(StorageUnavailable):
            await registry.create(SCOPE, "g", BASE, zip_of("x" * 10_000), tags={str(i): "x" * 250 for i in range(50)})
        assert registry.all() == [before]
        assert heard == []

    simulate(tmp_path, body)


# -- layers and code -------------------------------------------------------------------------------------------------


def test_functions_keep_layers_that_were_deleted(tmp_path: Path) -> None:
    """Until none of their versions has them; new ones cannot get them, and numbers are not given again."""

    async def body(world: World, registry: Registry) -> None:
        await registry.layers.publish(SCOPE, "l", zip_of("layer"))
        arn = LayerArn(SCOPE, "l", 1)
        with_layer = msgspec.structs.replace(BASE, layers=[str(arn)])
        await registry.create(SCOPE, "f", with_layer, zip_of("one"))
        await registry.delete_layer_version(arn)
        registry = await world.restart()
        (path,) = registry.layers_of(registry.find(SCOPE, "f").latest.configuration)
        assert (path / "app.py").read_text() == "layer"
        text = await refused(InvalidParameterValue, registry.create(SCOPE, "g", with_layer, zip_of("two")))
        assert text == f"Layer version {arn} does not exist."
        assert (await registry.layers.publish(SCOPE, "l", zip_of("new"))).version == 2
        await refused(InvalidParameterValue, registry.layers.publish(SCOPE, "a b", zip_of("new")))
        await registry.delete(SCOPE, "f")
        registry = await world.restart()
        assert not path.exists()
        assert (await registry.layers.publish(SCOPE, "l", zip_of("newer"))).version == 3

    simulate(tmp_path, body)


def test_code_that_nobody_names_is_removed_in_time(tmp_path: Path) -> None:
    """Not before an invocation that runs it must have ended, and not what something else names."""

    async def body(world: World, registry: Registry) -> None:
        for name, text in (("f", "one"), ("g", "one"), ("h", "two")):
            await registry.create(SCOPE, name, BASE, zip_of(text))
        packages = {each.name: each.latest.configuration.code for each in registry.all()}
        for name in ("f", "h"):
            await registry.delete(SCOPE, name)
        await world.clock.sleep(CODE_KEPT_MS - 1)
        assert packages["h"] is not None
        assert packages["g"] is not None
        assert packages["h"].sha256 in registry.code.packages()
        await world.clock.sleep(3 * CODE_KEPT_MS)
        assert registry.code.packages() == {packages["g"].sha256}
        await registry.update_code(SCOPE, "g", zip_of("three"))
        await registry.close()
        registry = await world.restart()
        assert len(registry.code.packages()) == 1

    simulate(tmp_path, body)


def test_code_is_kept_as_long_whenever_it_is_left(tmp_path: Path) -> None:
    """Also what nothing names since a moment before others are removed."""

    async def body(world: World, registry: Registry) -> None:
        for name in ("f", "g"):
            await registry.create(SCOPE, name, BASE, zip_of(name))
        code = registry.find(SCOPE, "g").latest.configuration.code
        assert code is not None
        await registry.delete(SCOPE, "f")
        await world.clock.sleep(CODE_KEPT_MS - 1)
        await registry.delete(SCOPE, "g")
        await world.clock.sleep(CODE_KEPT_MS - 1)
        assert code.sha256 in registry.code.packages()
        await world.clock.sleep(2 * CODE_KEPT_MS)
        assert registry.code.packages() == set()

    simulate(tmp_path, body)


def test_code_named_again_stays(tmp_path: Path) -> None:
    """A package that was unused for a while and is used anew is not removed under its function."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        await registry.update_code(SCOPE, "f", zip_of("two"))
        await world.clock.sleep(CODE_KEPT_MS + 1)
        await registry.update_code(SCOPE, "f", zip_of("one"))
        await world.clock.sleep(5 * CODE_KEPT_MS)
        code = registry.find(SCOPE, "f").latest.configuration.code
        assert code is not None
        assert registry.code.packages() == {code.sha256}
        assert (registry.code.unpacked(code) / "app.py").read_text() == "one"

    simulate(tmp_path, body)


def test_a_reset_leaves_nothing(tmp_path: Path) -> None:
    """Functions, layers, and after a restart their code."""

    async def body(world: World, registry: Registry) -> None:
        await registry.layers.publish(SCOPE, "l", zip_of("layer"))
        await registry.create(SCOPE, "f", BASE, zip_of("one"))
        heard: list[object] = []
        registry.on_change.append(lambda *states: heard.append(states))
        await registry.delete_all()
        assert len(heard) == 1
        assert (registry.all(), registry.layers.all(SCOPE)) == ([], [])
        registry = await world.restart()
        assert (registry.all(), registry.layers.all(SCOPE), registry.code.packages()) == ([], [], set())
        assert (await registry.layers.publish(SCOPE, "l", zip_of("layer"))).version == 1

    simulate(tmp_path, body)


# -- settings --------------------------------------------------------------------------------------------------------


def test_provisioned_environments_are_ready_when_they_are_there(tmp_path: Path) -> None:
    """As the pool reports them."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        warm = [0, 0]
        registry.settings.warm = lambda function, qualifier: (warm[0], warm[1])
        made = await registry.settings.provision(SCOPE, "f", "1", 2)
        assert (made.status, made.requested, made.allocated) == ("IN_PROGRESS", 2, 0)
        for allocated, available, wanted in ((1, 1, "IN_PROGRESS"), (2, 0, "READY")):
            warm[:] = allocated, available
            found = registry.settings.provisioned(SCOPE, "f", "1")
            assert (found.status, found.allocated, found.available) == (wanted, allocated, available)
        await registry.delete(SCOPE, "f", "1")
        assert registry.find(SCOPE, "f").provisioned == {}

    simulate(tmp_path, body)


def test_what_was_set_for_an_alias_goes_with_it(tmp_path: Path) -> None:
    """An alias made anew under its name has none of it."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        await registry.aliases.create(SCOPE, "f", "live", "1")
        plain = registry.find(SCOPE, "f")
        arn = ARN._replace(qualifier="live")
        await registry.settings.provision(SCOPE, "f", "live", 2)
        await registry.settings.create_url(arn, "NONE")
        await registry.settings.put_event_invoke(arn, {"retries_max": 1}, merges=False)
        await registry.policies.add(arn, "s", "*", "lambda:InvokeFunction")
        await registry.aliases.delete(SCOPE, "f", "live")
        assert registry.find(SCOPE, "f") == msgspec.structs.replace(plain, aliases={})

    simulate(tmp_path, body)


def test_settings_say_what_is_not_there(tmp_path: Path) -> None:
    """Each in the words of its operation."""

    async def body(world: World, registry: Registry) -> None:
        part = registry.settings
        await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        with pytest.raises(ProvisionedNotFound, match="No Provisioned Concurrency Config found for this function"):
            part.provisioned(SCOPE, "f", "1")
        with pytest.raises(InvalidParameterValue, match="must be an alias or a published version"):
            part.provisioned(SCOPE, "f", LATEST)
        with pytest.raises(ResourceNotFound, match=f"Cannot find alias arn: {ARN}:none"):
            part.provisioned(SCOPE, "f", "none")
        url = await part.create_url(ARN, "NONE")
        assert await refused(ResourceConflict, part.create_url(ARN, "NONE")) == (
            f"Failed to create function url config for [functionArn = {ARN}]. Error message:  FunctionUrlConfig "
            "exists for this Lambda function"
        )
        assert part.find_by_url(url.id) == (registry.find(SCOPE, "f"), LATEST)
        assert part.find_by_url("none") is None
        nothing = "You must specify at least one of error handling or destination setting."
        assert await refused(InvalidParameterValue, part.put_event_invoke(ARN, {}, merges=False)) == nothing
        missing = await refused(ResourceNotFound, part.put_event_invoke(ARN, {"retries_max": 1}, merges=True))
        assert missing == f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig"

        def check(arn: str) -> None:
            raise InvalidParameterValue(f"The destination ARN {arn} is invalid.")

        part.check_destination = check
        for member in ("on_success_arn", "on_failure_arn"):
            text = await refused(InvalidParameterValue, part.put_event_invoke(ARN, {member: "arn:x"}, merges=False))
            assert text == "The destination ARN arn:x is invalid."
        assert await refused(InvalidParameterValue, part.tag(SCOPE, "f", {})) == (
            "An error occurred and the request cannot be processed."
        )
        await refused(ResourceNotFound, part.set_runtime_updates(ARN._replace(qualifier="9"), RuntimeUpdates()))

    simulate(tmp_path, body)


def test_a_policy_changes_the_revision_of_what_it_belongs_to(tmp_path: Path) -> None:
    """Of $LATEST, of a version, of an alias; each has a policy of its own, which a new version does not inherit."""

    async def body(world: World, registry: Registry) -> None:
        await registry.create(SCOPE, "f", BASE, zip_of("one"), publish=True)
        await registry.aliases.create(SCOPE, "f", "live", "1")
        part = registry.policies
        for qualifier in (None, "1", "live"):
            arn = ARN._replace(qualifier=qualifier)
            with pytest.raises(ResourceNotFound, match=r"The resource you requested does not exist\."):
                part.get(arn)
            before = registry.find(SCOPE, "f")
            await part.add(arn, "s", "*", "lambda:InvokeFunction")
            assert registry.find(SCOPE, "f") != before
            text, revision = part.get(arn)
            assert f'"Resource":"{arn}"' in text
            await refused(PreconditionFailed, part.add(arn, "t", "*", "lambda:InvokeFunction", revision_id="x"))
            await part.add(arn, "t", "*", "lambda:InvokeFunction", revision_id=revision)
            assert part.get(arn)[1] != revision
        latest = ARN._replace(qualifier=LATEST)
        assert await refused(InvalidParameterValue, part.add(latest, "s", "*", "lambda:InvokeFunction")) == (
            "We currently do not support adding policies for $LATEST."
        )
        await registry.update_code(SCOPE, "f", zip_of("two"), publish=True)
        with pytest.raises(ResourceNotFound):
            part.get(ARN._replace(qualifier="2"))
        await refused(ResourceNotFound, part.remove(ARN._replace(qualifier="2"), "s"))
        for sid in ("s", "t"):
            await part.remove(ARN, sid)
        assert await refused(ResourceNotFound, part.remove(ARN, "s")) == (
            "No policy is associated with the given resource."
        )

    simulate(tmp_path, body)


# -- against a model -------------------------------------------------------------------------------------------------

NAMES: Final = ("f", "g")
ALIASES: Final = ("dev", "live")


class Model:
    """A function as a child would keep it: its code and timeout, copies of them by number, and names of numbers."""

    def __init__(self, code: str) -> None:
        self.latest = (code, 3)
        self.versions: dict[str, tuple[str, int]] = {}
        self.next = 1
        self.aliases: dict[str, tuple[str, dict[str, float]]] = {}

    def publish(self) -> str:
        last = str(self.next - 1)
        if self.versions.get(last) == self.latest:
            return last
        self.versions[str(self.next)] = self.latest
        self.next += 1
        return str(self.next - 1)

    def knows(self, version: str) -> bool:
        return version == LATEST or version in self.versions

    def can_route(self, version: str, weights: dict[str, float]) -> bool:
        if not self.knows(version) or version in weights or (weights and version == LATEST):
            return False
        return all(other in self.versions for other in weights)


class Play:
    """Does the same things to a registry and to the model, and compares."""

    def __init__(self, world: World, registry: Registry) -> None:
        self.world = world
        self.registry = registry
        self.models: dict[str, Model] = {}
        self.choose = random.Random(world.random.getrandbits(64))
        self.done: Counter[str] = Counter()

    async def step(self) -> None:
        actions = (
            self.create,
            self.update_code,
            self.update_configuration,
            self.publish,
            self.publish,
            self.delete,
            self.delete_version,
            self.set_alias,
            self.set_alias,
            self.delete_alias,
            self.restart,
        )
        action = self.choose.choice(actions)
        name = self.choose.choice(NAMES)
        await action(name, self.models.get(name))
        self.compare()

    async def expect(self, succeeds: bool, what: str, call: Awaitable[T]) -> T | None:
        self.done[f"{what} {'done' if succeeds else 'refused'}"] += 1
        if succeeds:
            return await call
        with pytest.raises(RequestError):
            await call
        return None

    async def create(self, name: str, model: Model | None) -> None:
        text = self.choose.choice("abc")
        publish = self.choose.random() < 0.3
        call = self.registry.create(SCOPE, name, BASE, zip_of(text), publish=publish)
        made = await self.expect(model is None, "create", call)
        if made is not None:
            self.models[name] = model = Model(text)
            assert made.version == (model.publish() if publish else LATEST)

    async def update_code(self, name: str, model: Model | None) -> None:
        text = self.choose.choice("abc")
        publish = self.choose.random() < 0.3
        call = self.registry.update_code(SCOPE, name, zip_of(text), publish=publish)
        made = await self.expect(model is not None, "update code", call)
        if made is not None and model is not None:
            model.latest = (text, model.latest[1])
            assert made.version == (model.publish() if publish else LATEST)

    async def update_configuration(self, name: str, model: Model | None) -> None:
        timeout_s = self.choose.choice((3, 4, 901))
        call = self.registry.update_configuration(SCOPE, name, {"timeout_s": timeout_s})
        await self.expect(model is not None and timeout_s <= 900, "configure", call)
        if model is not None and timeout_s <= 900:
            model.latest = (model.latest[0], timeout_s)

    async def publish(self, name: str, model: Model | None) -> None:
        made = await self.expect(model is not None, "publish", self.registry.publish_version(SCOPE, name))
        if made is not None and model is not None:
            assert made.version == model.publish()

    async def delete(self, name: str, model: Model | None) -> None:
        if self.choose.random() < 0.3:
            await self.expect(model is not None, "delete", self.registry.delete(SCOPE, name))
            self.models.pop(name, None)

    async def delete_version(self, name: str, model: Model | None) -> None:
        number = str(self.choose.randint(1, 4))
        aliases = model.aliases.values() if model else ()
        is_free = model is not None and not any(
            number == version or number in weights for version, weights in aliases if number in model.versions
        )
        await self.expect(is_free, "delete version", self.registry.delete(SCOPE, name, number))
        if is_free and model is not None:
            model.versions.pop(number, None)

    async def set_alias(self, name: str, model: Model | None) -> None:
        alias = self.choose.choice(ALIASES)
        version = self.choose.choice((LATEST, "1", "2", "3"))
        weights = {self.choose.choice(("1", "2", "3")): 0.5} if self.choose.random() < 0.4 else {}
        aliases = self.registry.aliases
        if model is not None and alias in model.aliases and self.choose.random() < 0.8:
            call = aliases.update(SCOPE, name, alias, version=version, weights=weights)
            succeeds = model.can_route(version, weights)
        else:
            call = aliases.create(SCOPE, name, alias, version, weights=weights)
            succeeds = model is not None and alias not in model.aliases and model.can_route(version, weights)
        await self.expect(succeeds, "alias", call)
        if succeeds and model is not None:
            model.aliases[alias] = (version, weights)

    async def delete_alias(self, name: str, model: Model | None) -> None:
        alias = self.choose.choice(ALIASES)
        await self.expect(model is not None, "delete alias", self.registry.aliases.delete(SCOPE, name, alias))
        if model is not None:
            model.aliases.pop(alias, None)

    async def restart(self, name: str, model: Model | None) -> None:
        self.done["restart done"] += 1
        before = self.registry.all()
        self.registry = await self.world.restart()
        assert self.registry.all() == before

    def compare(self) -> None:
        assert {each.name for each in self.registry.all(SCOPE)} == set(self.models)
        for name, model in self.models.items():
            function = self.registry.find(SCOPE, name)
            assert self.view(function.latest) == model.latest
            assert {number: self.view(version) for number, version in function.versions.items()} == model.versions
            assert {key: (alias.version, alias.weights) for key, alias in function.aliases.items()} == model.aliases
            states: list[Any] = [function.latest, *function.versions.values(), *function.aliases.values()]
            assert len({each.revision_id for each in states}) == len(states)
            for alias in function.aliases.values():
                self.compare_draw(function, alias)

    def compare_draw(self, function: FunctionState, alias: AliasState) -> None:
        _, version, through = self.registry.resolve(function.arn._replace(qualifier=alias.name))
        assert through == alias.name
        assert version.version in (alias.version, *alias.weights)

    def view(self, version: VersionState) -> tuple[str, int]:
        """As the model has it; the code is read where an environment would find it."""
        package = version.configuration.code
        assert package is not None
        text = (self.registry.code.unpacked(package) / "app.py").read_text()
        return text, version.configuration.timeout_s


def play(path: Path, seed: int, steps: int) -> Counter[str]:
    counts: Counter[str] = Counter()

    async def body(world: World, registry: Registry) -> None:
        playing = Play(world, registry)
        for _ in range(steps):
            await playing.step()
        counts.update(playing.done)

    simulate(path, body, seed=seed)
    return counts


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_any_sequence_of_changes_does_what_the_model_does(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Changes, refusals and restarts in any order."""
    play(tmp_path_factory.mktemp("model"), seed, 40)


def test_the_sequences_reach_every_change_and_every_refusal(tmp_path: Path) -> None:
    """So that the test above is no empty promise."""
    counts = play(tmp_path, 7, 400)
    changes = ("create", "update code", "configure", "publish", "delete", "delete version", "alias", "delete alias")
    wanted = {f"{change} {end}" for change in changes for end in ("done", "refused")} | {"restart done"}
    assert wanted <= set(counts), wanted - set(counts)
