"""Pools of environments: how they grow and shrink, and what becomes of those that are busy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.clock import Clock, SystemClock
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.functions.environments.inline import InlineEnvironments
from streamkit.functions.environments.port import Answer, Environments, Invocation, Spec
from streamkit.functions.logs import FunctionLogs
from streamkit.functions.pool import IDLE_MS, WARM_RETRY_MS, Pool, Slot
from streamkit.model.errors import ServerError
from streamkit.model.limits import HOUR_MS
from streamkit.model.names import Scope
from streamkit.testing.clock import ManualClock

SCOPE: Final = Scope("000000000000", "us-east-1")


class Stage:
    """A pool of one function."""

    def __init__(
        self, directory: Path, kind: Environments, clock: Clock, source: str, timeout_ms: int = 10_000
    ) -> None:
        self.logs = FunctionLogs(directory / "logs", clock)
        self.specs = 0

        def new_spec() -> Spec:
            self.specs += 1
            return Spec(
                function_name="f",
                version="$LATEST",
                arn="arn:aws:lambda:us-east-1:000000000000:function:f",
                account=SCOPE.account,
                region=SCOPE.region,
                runtime="python3.11",
                handler="x.y",
                code=None,
                source=source,
                layers=(),
                variables={},
                timeout_ms=timeout_ms,
                memory_mib=128,
                tmp_mib=512,
                log_group="/aws/lambda/f",
                log_stream=f"{self.specs}",
            )

        self.pool = Pool(kind, new_spec, lambda spec: self.logs.open(SCOPE, spec.log_group, spec.log_stream), clock)

    async def invoke(self, slot: Slot) -> Answer:
        return await slot.environment.invoke(
            Invocation("id", [b"{}"], deadline_ms=0, arn=slot.spec.arn, trace_id="", timeout_ms=slot.spec.timeout_ms)
        )

    async def run(self) -> Answer:
        slot = await self.pool.acquire()
        try:
            return await self.invoke(slot)
        finally:
            self.pool.release(slot)


Scenario = Callable[[Stage, ManualClock, InlineEnvironments], Coroutine[Any, Any, None]]


def play(scenario: Scenario, directory: Path, *, registers: bool = True) -> None:
    """`registers` False: the function is none that this process has, until the scenario registers it."""

    async def main() -> None:
        clock, kind = ManualClock(), InlineEnvironments()
        source = (kind if registers else InlineEnvironments()).register("f", lambda event, context: "ok")
        stage = Stage(directory, kind, clock, source)
        async with asyncio.timeout(20):
            try:
                await scenario(stage, clock, kind)
            finally:
                await stage.pool.close()
                stage.logs.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)


def test_as_many_environments_are_made_as_invocations_run_at_once_and_no_more(tmp_path: Path) -> None:
    """The one that was used last is used first: the others may end."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        slots = [await stage.pool.acquire() for _ in range(3)]
        for slot in slots:
            stage.pool.release(slot)
        for _ in range(5):
            again = await stage.pool.acquire()
            assert again is slots[-1]
            stage.pool.release(again)
        assert stage.specs == 3

    play(scenario, tmp_path)


def test_an_idle_environment_ends_and_a_provisioned_one_does_not(tmp_path: Path) -> None:
    """What is kept ready is kept ready, whoever used it last."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        stage.pool.keep_warm(2)
        await until(lambda: stage.pool.idle_count == 2)
        slots = [await stage.pool.acquire() for _ in range(5)]
        for slot in slots:
            stage.pool.release(slot)
        clock.step(IDLE_MS)
        stage.pool.sweep(clock.now_ms())
        assert stage.pool.idle_count == 2
        assert stage.specs == 5

    play(scenario, tmp_path)


def test_an_environment_that_idles_while_the_clock_is_set_back_still_ends(tmp_path: Path) -> None:
    """It has idled for as long as there were sweeps that saw it idle, not until the clock has caught up."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        assert (await stage.run()).payload == b'"ok"'
        clock.step(-HOUR_MS)
        stage.pool.sweep(clock.now_ms())
        assert stage.pool.idle_count == 1
        clock.step(IDLE_MS)
        stage.pool.sweep(clock.now_ms())
        assert stage.pool.idle_count == 0

    play(scenario, tmp_path)


def test_provisioned_environments_are_tried_again_although_the_clock_was_set_back(tmp_path: Path) -> None:
    """A failed INIT is waited after for ten seconds, not for an hour and ten seconds."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        stage.pool.keep_warm(1)  # fails: what it runs is not registered
        await until(lambda: stage.pool.is_empty)
        kind.register("f", lambda event, context: "ok")
        clock.step(-HOUR_MS)
        stage.pool.sweep(clock.now_ms())
        clock.step(WARM_RETRY_MS - 1)
        stage.pool.sweep(clock.now_ms())
        assert stage.pool.is_empty
        clock.step(1)
        stage.pool.sweep(clock.now_ms())
        await until(lambda: stage.pool.idle_count == 1)

    play(scenario, tmp_path, registers=False)


def test_provisioned_environments_that_die_by_themselves_are_not_made_without_end(tmp_path: Path) -> None:
    """A thread that ends the process soon after INIT would keep the machine busy with cold starts."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        stage.pool.keep_warm(1)
        await until(lambda: stage.pool.idle_count == 1)
        for deaths in range(1, 4):
            slot = await stage.pool.acquire()
            stage.pool.release(slot)
            await slot.environment.stop()
            for _ in range(10):
                stage.pool.sweep(clock.now_ms())
                await asyncio.sleep(0)
            assert stage.specs == deaths
            clock.step(WARM_RETRY_MS)
            stage.pool.sweep(clock.now_ms())
            await until(lambda: stage.pool.idle_count == 1)

    play(scenario, tmp_path)


def test_a_retired_pool_lets_what_is_busy_finish(tmp_path: Path) -> None:
    """The function was updated: its old code still answers who asked for it."""

    async def scenario(stage: Stage, clock: ManualClock, kind: InlineEnvironments) -> None:
        idle, busy = await stage.pool.acquire(), await stage.pool.acquire()
        stage.pool.release(idle)
        await stage.pool.retire()
        assert idle.environment.is_lost
        assert not stage.pool.is_empty
        assert (await stage.invoke(busy)).payload == b'"ok"'
        stage.pool.release(busy)
        await until(lambda: stage.pool.is_empty)
        assert busy.environment.is_lost

    play(scenario, tmp_path)


def test_closing_a_pool_ends_what_is_busy_and_what_is_in_init(tmp_path: Path) -> None:
    """Whoever waits is answered, as AWS does where the process is gone, and nothing is left."""

    async def main() -> None:
        clock, kind = ManualClock(), ForkEnvironments(ManualClock())
        (tmp_path / "slow.py").write_text("import time\ntime.sleep(30)\ndef handler(e, c): pass")
        (tmp_path / "stuck.py").write_text("import time\ndef handler(e, c): time.sleep(30)")
        busy = Stage(tmp_path, kind, clock, f"{tmp_path}/stuck.py:handler")
        in_init = Stage(tmp_path, kind, clock, f"{tmp_path}/slow.py:handler")
        slot = await busy.pool.acquire()
        answer = asyncio.create_task(busy.invoke(slot))
        starting = asyncio.create_task(in_init.pool.acquire())
        in_init.pool.keep_warm(1)
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            await asyncio.gather(busy.pool.close(), in_init.pool.close())
            assert (await answer).error_type == "Runtime.ExitError"
            busy.pool.release(slot)
            started = await starting
            assert started.init is not None
            assert started.init.error is not None
            in_init.pool.release(started)
            await until(lambda: busy.pool.is_empty and in_init.pool.is_empty)
            await kind.close()

    asyncio.run(main())


def test_an_environment_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    """No room for its files, for example: whoever waits is told so in a way that can be tried again."""

    async def main() -> None:
        clock, kind = ManualClock(), ForkEnvironments(ManualClock())
        (tmp_path / "app.py").write_text("def handler(e, c): return 1")
        stage = Stage(tmp_path, kind, clock, f"{tmp_path}/app.py:handler")
        assert (await stage.run()).payload == b"1"
        slot = await stage.pool.acquire()  # so that another is needed
        shutil.rmtree(kind.temporary.path)
        with pytest.raises(ServerError, match="No environment could be made for f"):
            await stage.pool.acquire()
        stage.pool.release(slot)
        await stage.pool.close()
        await kind.close()

    asyncio.run(main())


@pytest.mark.parametrize(("init_s", "ending"), [(0.8, "answered"), (60, "timeout")])
def test_an_init_that_takes_too_long_is_done_again_in_the_time_of_an_invocation(
    tmp_path: Path, init_s: float, ending: str
) -> None:
    """As AWS has it: the bound on INIT is for an environment that nobody waits for yet."""
    code = tmp_path / "slow.py"
    code.write_text(f"import time\ntime.sleep({init_s})\ndef handler(event, context): return 'ok'")

    async def main() -> None:
        clock = SystemClock()
        kind = ForkEnvironments(clock, init_timeout_ms=400)
        stage = Stage(tmp_path, kind, clock, f"{code}:handler", timeout_ms=2_000)
        slot = await stage.pool.acquire()
        assert slot.init is not None
        assert slot.init.ending == ending
        if ending == "answered":
            assert (await stage.invoke(slot)).payload == b'"ok"'
        else:
            assert b"timed out after 2.00 seconds" in (slot.init.error or b"")
        stage.pool.release(slot)
        events, _ = await stage.logs.events(SCOPE, "/aws/lambda/f", limit=10)
        reports = [event.message for event in events if event.message.startswith("INIT_REPORT")]
        assert reports[0].endswith("Phase: init\tStatus: timeout\n")
        await stage.pool.close()
        await kind.close()

    asyncio.run(main())
