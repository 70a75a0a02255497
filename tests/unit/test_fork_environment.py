"""Environments that are forks of a zygote: what this kind promises beyond the contract (tests/contract)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamkit.clock import SystemClock
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.model.errors import UsageError
from streamkit.testing.environment_contract import (
    COUNTER,
    Stage,
    invocation_of,
    make_batch,
    make_spec,
)

Scenario = Callable[[Stage, ForkEnvironments], Coroutine[Any, Any, None]]


def play(scenario: Scenario, directory: Path, **settings: Any) -> None:
    async def main() -> None:
        environments = ForkEnvironments(SystemClock(), **settings)
        stage = Stage(environments, directory)
        try:
            async with asyncio.timeout(60):
                await scenario(stage, environments)
        finally:
            await stage.stop()
            await environments.close()

    asyncio.run(main())


# -- what code can import --------------------------------------------------------------------------------------------


def test_packages_installed_beside_the_server_are_not_there_for_event_functions(tmp_path: Path) -> None:
    """As on AWS, they come in a layer, or with the code. The server itself has all of these."""

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        for name in ("streamkit", "orjson", "rich", "pyarrow", "pytest"):
            failed = await stage.start_failing(f"import {name}")
            assert failed.init.error_type == "Runtime.ImportModuleError"
            layer = stage.layer({f"python/{name}.py": "origin = 'layer'"})
            source = f"import {name}\ndef handler(event, context): return {name}.origin"
            assert await (await stage.start(source, layers=(layer,))).result() == "layer"

    play(scenario, tmp_path)


def test_the_sdk_is_there_and_a_functions_own_comes_first(tmp_path: Path) -> None:
    pytest.importorskip("boto3")

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        source = """
            import boto3

            def handler(event, context):
                client = boto3.client("kinesis")
                return [client.meta.region_name, client.meta.endpoint_url, client._get_credentials().access_key]
        """
        running = await stage.start(source, endpoint="http://127.0.0.1:4567", memory_mib=256)
        assert await running.result() == ["eu-central-1", "http://127.0.0.1:4567", "123456789012"]
        assert {"boto3", "botocore", "urllib3"} <= set(running.init.imported)
        own = await stage.start(
            "from boto3 import origin\ndef handler(e, c): return origin", {"boto3.py": "origin = 1"}
        )
        assert await own.result() == 1
        assert own.init.imported == ()

    play(scenario, tmp_path)


def test_the_builtins_are_those_of_any_program(tmp_path: Path) -> None:
    """`exit` is there, and nothing of the worker's own is found in `sys.modules`."""

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        source = """
            import sys

            def handler(event, context):
                found = [name for name in sys.modules if name.partition(".")[0] in ("streamkit", "orjson")]
                return [found, callable(exit), __name__, sys.argv[0]]
        """
        assert await (await stage.start(source)).result() == [[], True, "handler", "bootstrap.py"]

    play(scenario, tmp_path)


# -- functions of the library ----------------------------------------------------------------------------------------


def library(directory: Path, source: str, attribute: str = "handler") -> Any:
    path = directory / "mine.py"
    path.write_text(dedent(source))
    return make_spec(None, source=f"{path}:{attribute}", memory_mib=512)


def test_a_function_of_the_library_sees_what_the_server_sees(tmp_path: Path) -> None:
    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        source = """
            import msgspec, orjson

            class App:
                @staticmethod
                def handler(event, context):
                    return [orjson.dumps(event).decode(), msgspec.__name__, __name__]
        """
        running = await stage.start_spec(library(tmp_path, source, "App.handler"))
        assert await running.result([1]) == ["[1]", "msgspec", "mine"]

    play(scenario, tmp_path)


def test_a_function_of_the_library_gets_batches_of_the_type_it_imports(tmp_path: Path) -> None:
    """And may keep them: the next batch does not overwrite their memory. Forked from an image or not."""

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        source = """
            import streamkit

            kept = []

            def handler(batch, context):
                assert isinstance(batch, streamkit.RecordBatch)
                kept.append(batch)
                return [bytes(value).decode() for each in kept for value in each.values()]
        """
        spec = library(tmp_path, source)
        for _ in range(2):
            running = await stage.start_spec(spec)
            assert running.init.error is None, running.init.error
            for values, expected in (([b"a", b"b"], ["a", "b"]), ([b"c"], ["a", "b", "c"])):
                answer = await running.environment.invoke(invocation_of(spec, batch=make_batch(values)))
                assert json.loads(answer.payload) == expected
            await environments.settled()

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    ("source", "error_type"),
    [("absent.module:handler", "Runtime.ImportModuleError"), ("json:absent", "Runtime.HandlerNotFound"),
     ("json", "Runtime.MalformedHandlerName")],
)  # fmt: skip
def test_a_source_that_names_nothing_fails_init(source: str, error_type: str, tmp_path: Path) -> None:
    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        running = await stage.start_spec(make_spec(None, source=source))
        assert running.init.error_type == error_type
        assert running.environment.is_lost

    play(scenario, tmp_path)


# -- images ----------------------------------------------------------------------------------------------------------

IMPORTED_AT = """
    import sys
    was_there = "{package}" in sys.modules
    import os, {package}

    def handler(event, context):
        return [was_there, os.getppid()]
"""


def test_a_second_cold_start_finds_the_sdk_loaded(tmp_path: Path) -> None:
    """In a zygote of its own; functions that do not import it are not forked from there."""
    pytest.importorskip("boto3")

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        spec = stage.spec(IMPORTED_AT.format(package="boto3"))
        first = await stage.start_spec(spec)
        was_there, base = await first.result()
        assert not was_there
        await environments.settled()
        second = await stage.start_spec(spec)
        was_there, image = await second.result()
        assert was_there
        assert image != base
        assert second.init.imported == first.init.imported
        plain = await stage.start(IMPORTED_AT.format(package="json"))
        assert await plain.result() == [True, base]

    play(scenario, tmp_path)


def test_an_image_is_not_for_a_function_that_brings_a_package_of_the_sdks(tmp_path: Path) -> None:
    """What it imports must be its own."""
    pytest.importorskip("boto3")

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        await stage.start(IMPORTED_AT.format(package="boto3"))
        await environments.settled()
        spec = stage.spec(
            "import boto3, six\ndef handler(event, context): return six.origin", {"six.py": "origin = 'code'"}
        )
        for _ in range(2):
            running = await stage.start_spec(spec)
            if running.init.error is None:
                assert await running.result() == "code"
            else:  # the SDK itself needs the real one: as on AWS, that is the function's problem
                assert b"six" in running.init.error
            await environments.settled()

    play(scenario, tmp_path)


def test_a_library_that_starts_a_thread_is_never_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has one thread: what others held stays locked for ever. Such a function imports it each time."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(site))

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        source = IMPORTED_AT.format(package="threaded")
        for _ in range(3):
            running = await stage.start_spec(library(tmp_path, source))
            assert running.init.error is None, running.init.error
            assert (await running.result())[0] is False
            assert running.init.imported == ("threaded",)
            await environments.settled()

    play(scenario, tmp_path)


def test_more_sets_of_libraries_than_images_still_start(tmp_path: Path) -> None:
    """Images that make room keep their environments until these end."""
    pytest.importorskip("boto3")

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        kept = []
        for package in ("boto3", "jmespath", "dateutil", "boto3", "jmespath"):
            spec = stage.spec(IMPORTED_AT.format(package=package))
            for _ in range(2):
                kept.append(await stage.start_spec(spec))
                await environments.settled()
        for running in kept:
            assert isinstance((await running.result())[1], int)

    play(scenario, tmp_path, images_max=1)


# -- lives -----------------------------------------------------------------------------------------------------------


def test_provisioned_environments_may_take_longer_to_start(tmp_path: Path) -> None:
    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        running = await stage.start(f"import time; time.sleep(0.5)\n{dedent(COUNTER)}", provisioned=True)
        assert await running.result() == 1

    play(scenario, tmp_path, init_timeout_ms=200)


def test_an_invocation_nobody_waits_for_any_more_ends_the_environment(tmp_path: Path) -> None:
    """Its late answer must not be taken for the next one's."""

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        running = await stage.start("import time\ndef handler(event, context): time.sleep(1)")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.invoke(), 0.2)
        assert running.environment.is_lost
        assert (await running.invoke()).ending == "exited"

    play(scenario, tmp_path)


def test_a_temporary_directory_goes_with_its_environment(tmp_path: Path) -> None:
    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        source = """
            import os

            def handler(event, context):
                os.makedirs(os.environ["TMPDIR"] + "/a/b")
                open(os.environ["TMPDIR"] + "/a/b/c", "w").write("x")
        """
        running = await stage.start(source)
        await running.result()
        root = environments.temporary.path
        assert len(list(root.glob("tmp-*/a/b/c"))) == 1
        await running.environment.stop()
        assert list(root.glob("tmp-*")) == []
        roots.append(root)

    roots: list[Path] = []
    play(scenario, tmp_path)
    assert not roots[0].exists()


def test_many_environments_start_at_the_same_time(tmp_path: Path) -> None:
    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        spec = stage.spec(COUNTER)
        running = await asyncio.gather(*(stage.start_spec(spec) for _ in range(40)))
        assert [await each.result() for each in running] == [1] * 40

    play(scenario, tmp_path)


def test_invocations_of_all_sizes_arrive_whole(tmp_path: Path) -> None:
    """Below, at and above the sizes that are read at once, in one piece and in thousands."""

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        running = await stage.start("def handler(event, context): return event", memory_mib=512)
        for size in (0, 1, 65_000, 65_300, 65_536, 131_072, 3_000_000):
            text = json.dumps("x" * size).encode()
            for step in (len(text), max(1, len(text) // 3_000)):
                pieces = [text[at : at + step] for at in range(0, len(text), step)]
                answer = await running.environment.invoke(invocation_of(running.spec, *pieces))
                assert answer.payload == text

    play(scenario, tmp_path)


def test_what_cannot_be_run_here_is_refused_at_once(tmp_path: Path) -> None:
    """Other languages, and variables far beyond AWS's four kibibytes."""

    async def scenario(stage: Stage, environments: ForkEnvironments) -> None:
        with pytest.raises(UsageError, match='choose the environment "ric"'):
            environments.make(stage.spec("", runtime="nodejs22.x"), lambda text: None)
        with pytest.raises(UsageError, match="the variables of tested take 1,000,"):
            environments.make(stage.spec("", variables={"A": "x" * 1_000_000}), lambda text: None)

    play(scenario, tmp_path)


def test_a_handler_that_streams_waits_for_its_reader(tmp_path: Path) -> None:
    """What is not taken stays with the handler: a stalled reader costs the server a few pieces and no more."""

    async def scenario(stage: Stage, _: ForkEnvironments) -> None:
        source = "def handler(event, context):\n    for number in range(400):\n        yield b'x' * 65_536"
        running = await stage.start(source, memory_mib=512)
        taken = asyncio.Event()
        pieces: list[bytes] = []
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_chunk(piece: bytes) -> asyncio.Future[None]:
            pieces.append(piece)
            taken.set()
            return held

        waiting = asyncio.ensure_future(
            running.environment.invoke(invocation_of(running.spec, b"{}", on_chunk=on_chunk, timeout_ms=30_000))
        )
        await taken.wait()
        await asyncio.sleep(0.3)
        assert len(pieces) <= 4
        held.set_result(None)
        assert (await waiting).ending == "answered"
        assert sum(map(len, pieces)) == 400 * 65_536

    play(scenario, tmp_path)
