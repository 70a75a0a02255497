"""Invocations: concurrency, versions that change meanwhile, and what is left when all is over."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.clock import SystemClock
from streamkit.control import ControlFile
from streamkit.functions.destinations import RecordDestinations
from streamkit.functions.invoke import Result
from streamkit.functions.service import Functions
from streamkit.functions.state import Configuration
from streamkit.metrics import Registry as Metrics
from streamkit.model.errors import ResourceNotFound, TooManyRequests
from streamkit.model.names import FunctionArn, Scope

SCOPE: Final = Scope("000000000000", "us-east-1")
Handler = Callable[[Any, Any], Awaitable[Any]]


@asynccontextmanager
async def functions_at(directory: Path) -> AsyncIterator[Functions]:
    control = ControlFile(None)
    functions = Functions(
        directory,
        control,
        RecordDestinations({}),
        clock=SystemClock(),
        random=random.Random(7),
        metrics=Metrics(),
    )
    await functions.start()
    try:
        async with asyncio.timeout(30):
            yield functions
    finally:
        await functions.stop()
        control.close()


def inline(functions: Functions, name: str, handler: Handler) -> Configuration:
    return Configuration(
        runtime="python3.11",
        handler="x.y",
        role="arn:aws:iam::000000000000:role/r",
        environment="inline",
        source=functions.inline.register(name, handler),
        timeout_s=20,
    )


async def make(functions: Functions, name: str, handler: Handler) -> None:
    await functions.registry.create(SCOPE, name, inline(functions, name, handler))


async def invoke(functions: Functions, name: str, qualifier: str | None = None) -> Result:
    return await functions.invocations.invoke(FunctionArn(SCOPE, name, qualifier), [b"{}"])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)


class Gate:
    """A handler that waits to be let through, and counts who waits."""

    def __init__(self, answer: object = None) -> None:
        self.waiting = 0
        self.most = 0
        self.open = asyncio.Event()
        self._answer = answer

    async def __call__(self, event: Any, context: Any) -> object:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        return self._answer

    async def crowded(self, count: int) -> None:
        await until(lambda: self.waiting >= count)


def test_of_many_at_once_only_as_many_run_as_are_reserved(tmp_path: Path) -> None:
    """The others are refused with AWS's reason, and do not wait; what ended makes room."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            gate = Gate("done")
            await make(functions, "f", gate)
            await functions.registry.settings.reserve(SCOPE, "f", 5)
            tasks = [asyncio.create_task(invoke(functions, "f")) for _ in range(200)]
            await gate.crowded(5)
            gate.open.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            refused = [result for result in results if isinstance(result, TooManyRequests)]
            assert len(refused) == 195
            assert {error.fields["Reason"] for error in refused} == {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            assert gate.most == 5
            assert (await invoke(functions, "f")).payload == b'"done"'

    asyncio.run(main())


def test_what_one_function_reserves_the_others_cannot_have(tmp_path: Path) -> None:
    """Whether it is used or not, and only as long as it is reserved."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            functions.invocations.concurrency.account_max = 10
            reserving, other = Gate(), Gate()
            await make(functions, "reserving", reserving)
            await make(functions, "other", other)
            await functions.registry.settings.reserve(SCOPE, "reserving", 4)
            tasks = [asyncio.create_task(invoke(functions, "other")) for _ in range(6)]
            await other.crowded(6)
            with pytest.raises(TooManyRequests) as refused:
                await invoke(functions, "other")
            assert refused.value.fields["Reason"] == "ConcurrentInvocationLimitExceeded"
            tasks += [asyncio.create_task(invoke(functions, "reserving")) for _ in range(4)]
            await reserving.crowded(4)
            await functions.registry.settings.unreserve(SCOPE, "reserving")
            tasks += [asyncio.create_task(invoke(functions, "other")) for _ in range(4)]
            await other.crowded(10)
            for gate in (reserving, other):
                gate.open.set()
            await asyncio.gather(*tasks)
            for name in ("reserving", "other"):
                assert functions.invocations.concurrency.running(functions.registry.find(SCOPE, name).id) == 0

    asyncio.run(main())


def test_an_update_lets_invocations_of_the_old_code_finish(tmp_path: Path) -> None:
    """The next one runs the new code at once, and the old environments are gone when they are done."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            gate = Gate("old")
            await make(functions, "f", gate)
            old = [asyncio.create_task(invoke(functions, "f")) for _ in range(3)]
            await gate.crowded(3)

            async def new(event: Any, context: Any) -> str:
                return "new"

            source = functions.inline.register("new", new)
            await functions.registry.update_code(SCOPE, "f", source=source)
            assert (await invoke(functions, "f")).payload == b'"new"'
            gate.open.set()
            assert {(await each).payload for each in old} == {b'"old"'}
            await until(lambda: not functions.invocations._retired)

    asyncio.run(main())


def test_a_function_that_is_deleted_answers_what_it_was_asked_before(tmp_path: Path) -> None:
    """And nothing after that, also where another takes its name meanwhile."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            gate = Gate("first")
            await make(functions, "f", gate)
            asked = asyncio.create_task(invoke(functions, "f"))
            await gate.crowded(1)
            await functions.registry.delete(SCOPE, "f")
            with pytest.raises(ResourceNotFound):
                await invoke(functions, "f")
            second = Gate("second")
            second.open.set()
            await make(functions, "f", second)
            assert (await invoke(functions, "f")).payload == b'"second"'
            gate.open.set()
            assert (await asked).payload == b'"first"'

    asyncio.run(main())


def test_an_alias_with_weights_runs_both_versions_in_their_share(tmp_path: Path) -> None:
    """And the answer says which one it was."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            for number in ("1", "2"):

                async def handler(event: Any, context: Any) -> str:
                    return str(context.function_version)

                if number == "1":
                    await make(functions, "f", handler)
                else:
                    source = functions.inline.register("other", handler)
                    await functions.registry.update_code(SCOPE, "f", source=source)
                await functions.registry.publish_version(SCOPE, "f")
            await functions.registry.aliases.create(SCOPE, "f", "live", "1", weights={"2": 0.25})
            results = [await invoke(functions, "f", "live") for _ in range(400)]
            assert all(result.payload.decode() == f'"{result.version}"' for result in results)
            assert 60 < Counter(result.version for result in results)["2"] < 140

    asyncio.run(main())


def test_all_environments_can_be_ended_in_the_midst_of_their_work(tmp_path: Path) -> None:
    """Who waits is answered as AWS does where the process is gone; who comes after that gets new environments."""

    async def main() -> None:
        async with functions_at(tmp_path) as functions:
            gate = Gate("ok")
            await make(functions, "f", gate)
            asked = [asyncio.create_task(invoke(functions, "f")) for _ in range(3)]
            await gate.crowded(3)
            await functions.invocations.end_all()
            assert {(await each).error_type for each in asked} == {"Runtime.ExitError"}
            gate.open.set()
            assert (await invoke(functions, "f")).payload == b'"ok"'

    asyncio.run(main())


def test_a_function_that_exits_each_time_leaves_nothing_behind(tmp_path: Path) -> None:
    """No task, no file, no environment: the hundredth cold start finds what the first one found."""

    async def main() -> None:
        (tmp_path / "app.py").write_text("import os\ndef handler(event, context): os._exit(3)")
        async with functions_at(tmp_path / "functions") as functions:
            configuration = Configuration(
                runtime="python3.11",
                handler="x.y",
                role="arn:aws:iam::000000000000:role/r",
                environment="fork",
                source=f"{tmp_path}/app.py:handler",
            )
            await functions.registry.create(SCOPE, "f", configuration)

            async def crash(count: int) -> tuple[int, int]:
                for _ in range(count):
                    results = await asyncio.gather(*(invoke(functions, "f") for _ in range(5)))
                    assert {result.error_type for result in results} == {"Runtime.ExitError"}
                [(_, pool)] = functions.invocations._pools.values()
                await until(lambda: pool.is_empty)
                functions.logs.flush()
                return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))

            tasks, files = await crash(2)
            tasks_then, files_then = await crash(20)
            assert tasks_then <= tasks
            assert files_then <= files

    asyncio.run(main())
