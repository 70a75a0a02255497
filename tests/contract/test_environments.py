"""Every kind of execution environment of ours keeps the port's promises; and what is one kind's own."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import json
import logging
import os
import shutil
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest
import uvloop

from streamkit.clock import SystemClock
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.functions.environments.inline import InlineEnvironments
from streamkit.functions.environments.ric import RicEnvironments
from streamkit.functions.environments.sandbox import CgroupParent, Sandbox
from streamkit.model.errors import UsageError
from streamkit.testing.environment_contract import (
    BatchContract,
    EnvironmentContract,
    LoopFactory,
    MakeEnvironments,
    Run,
    Stage,
    StreamingContract,
    invocation_of,
    make_batch,
    make_spec,
    write_code,
)
from streamkit.testing.isolated_environment_contract import IsolatedEnvironmentContract

NEEDS_BUBBLEWRAP: Final = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed here")

# A runtime in a few lines, for any language's sake: it speaks AWS's protocol, and nothing else.
BOOTSTRAP: Final = """
    import http.client, os, sys

    class Runtime:
        def __init__(self):
            self.connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

        def ask(self, method, path, body=None, headers={}):
            self.connection.request(method, "/2018-06-01/runtime/" + path, body, headers,
                                    encode_chunked=not isinstance(body, (bytes, type(None))))
            response = self.connection.getresponse()
            return response.read(), response.headers
"""
ECHOES: Final = """
    runtime = Runtime()
    while True:
        event, headers = runtime.ask("GET", "invocation/next")
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        print("echo", sys.argv[1:], os.environ["_HANDLER"], flush=True)
        if event == b'"fail"':
            error = b'{"errorMessage":"asked to","errorType":"Refused"}'
            runtime.ask("POST", f"invocation/{request_id}/error", error)
        else:
            runtime.ask("POST", f"invocation/{request_id}/response", event)
"""
STREAMS: Final = """
    sys.path.insert(0, os.getcwd())
    import handler, json
    runtime = Runtime()
    while True:
        event, headers = runtime.ask("GET", "invocation/next")
        mode = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}
        path = f"invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response"
        runtime.ask("POST", path, handler.handler(json.loads(event), None), mode)
"""


def write_bootstrap(path: Path, program: str, first_line: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n{dedent(BOOTSTRAP)}\n{dedent(program)}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXOTH)
    return path


# -- inline ----------------------------------------------------------------------------------------------------------


class TestInline(EnvironmentContract, BatchContract, StreamingContract):
    init_timeout_s = 3.0

    @pytest.fixture
    def make_environments(self) -> MakeEnvironments:
        return lambda: InlineEnvironments(init_timeout_ms=3_000)

    def test_registered_objects_are_functions_and_see_this_process(self, run: Run) -> None:
        """Plain functions in a thread of their environment, `async` ones on the event loop."""
        seen: list[Any] = []

        def plain(event: Any, context: Any) -> Any:
            seen.append((event, threading.current_thread() is threading.main_thread()))
            return {"name": context.function_name}

        async def waits(event: Any, context: Any) -> Any:
            await asyncio.sleep(0.01)
            seen.append((event, threading.current_thread() is threading.main_thread()))
            print("from the loop")
            return [event]

        class Callable:
            async def __call__(self, event: Any, context: Any) -> Any:
                return await waits(event, context)

        async def scenario(stage: Stage) -> None:
            environments = stage.environments
            assert isinstance(environments, InlineEnvironments)
            handlers: list[Any] = [plain, waits, Callable()]
            sources = [environments.register(str(number), handler) for number, handler in enumerate(handlers)]
            running = [await stage.start_spec(make_spec(None, source=source)) for source in sources]
            assert [await each.result("ü") for each in running] == [{"name": "tested"}, ["ü"], ["ü"]]
            assert seen == [("ü", False), ("ü", True), ("ü", True)]
            assert running[1].log == b"from the loop\n"

        run(scenario)

    def test_an_object_that_is_not_registered_is_a_clear_error(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = InlineEnvironments().register("missing", lambda event, context: None)
            with pytest.raises(UsageError, match="runs 'missing', which is not registered in this process"):
                stage.make(make_spec(None, source=source))

        run(scenario)

    def test_objects_of_libraries_and_files_are_named_by_their_source(self, run: Run, tmp_path: Path) -> None:
        """A file's module is the environment's own; a library's is this process's."""

        async def scenario(stage: Stage) -> None:
            path = tmp_path / "counting.py"
            path.write_text("count = 0\ndef run(event, context):\n    global count\n    count += 1\n    return count\n")
            spec = make_spec(None, source=f"{path}:run")
            first, second = await stage.start_spec(spec), await stage.start_spec(spec)
            assert [await each.result() for each in (first, first, second)] == [1, 2, 1]
            failed = await stage.start_spec(make_spec(None, source="absent.module:run"))
            assert failed.init.error_type == "Runtime.ImportModuleError"
            library = await stage.start_spec(make_spec(None, source="json:JSONEncoder.item_separator.join"))
            assert library.init.error is None

        run(scenario)

    def test_an_async_handler_past_its_deadline_is_cancelled(self, run: Run) -> None:
        ended: list[str] = []

        async def slow(event: Any, context: Any) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("cancelled")

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            running = await stage.start_spec(make_spec(None, source=stage.environments.register("slow", slow)))
            answer = await running.invoke(timeout_ms=200)
            assert (answer.ending, running.environment.is_lost) == ("timeout", True)
            await asyncio.sleep(0)
            assert ended == ["cancelled"]

        run(scenario)

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(1)])
    def test_nothing_that_a_handler_raises_reaches_the_caller(self, run: Run, error: BaseException) -> None:
        """Neither what ends a program, nor what means something to coroutines."""

        def plain(event: Any, context: Any) -> None:
            raise error

        async def waits(event: Any, context: Any) -> None:
            await asyncio.sleep(0)
            raise error

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            for handler in (plain, waits):
                source = stage.environments.register("raises", handler)
                answer = await (await stage.start_spec(make_spec(None, source=source))).invoke()
                assert answer.ending == ("exited" if isinstance(error, SystemExit | KeyboardInterrupt) else "failed")

        run(scenario)

    def test_an_invocation_that_is_stopped_is_answered(self, run: Run) -> None:
        """Though its thread stays until the handler returns."""
        let_go = threading.Event()

        def blocks(event: Any, context: Any) -> None:
            let_go.wait(20)
            print("too late")

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            running = await stage.start_spec(make_spec(None, source=stage.environments.register("blocks", blocks)))
            waiting = asyncio.ensure_future(running.invoke())
            await asyncio.sleep(0.05)
            await running.environment.stop()
            assert (await waiting).ending == "exited"
            let_go.set()
            await asyncio.sleep(0.1)
            assert running.log == b""

        run(scenario)

    def test_output_of_others_in_this_process_goes_where_it_went(
        self, run: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """So does logging of the handler's; and the standard streams are given back in the end."""
        before = sys.stdout, sys.stderr

        def talks(event: Any, context: Any) -> None:
            print("mine")
            print("my error", file=sys.stderr)
            logging.getLogger("tested").warning("logged")
            threading.Thread(target=print, args=("a thread's",)).run()

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            running = await stage.start_spec(make_spec(None, source=stage.environments.register("talks", talks)))
            print("before")
            await running.result()
            print("after", file=sys.stderr)
            assert running.log == b"mine\nmy error\na thread's\n"

        run(scenario)
        assert tuple(capsys.readouterr()) == ("before\n", "after\n")
        assert caplog.messages == ["logged"]
        assert (sys.stdout, sys.stderr) == before

    def test_context_variables_of_the_caller_do_not_change_by_a_handler(self, run: Run) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

        def sets(event: Any, context: Any) -> str:
            before = variable.get()
            variable.set(event)
            return before

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            running = await stage.start_spec(make_spec(None, source=stage.environments.register("sets", sets)))
            assert [await running.result(each) for each in "ab"] == ["unset", "unset"]
            assert variable.get() == "unset"

        run(scenario)

    def test_modules_imported_while_the_handler_runs_are_the_functions_own(self, run: Run) -> None:
        """And found again by its next invocation, as they were left."""

        async def scenario(stage: Stage) -> None:
            source = """
                def handler(event, context):
                    import late.part

                    late.part.seen.append(event)
                    return late.part.seen
            """
            files = {"late/__init__.py": "", "late/part.py": "seen = []"}
            spec = stage.spec(source, files)
            first, second = await stage.start_spec(spec), await stage.start_spec(spec)
            assert await first.result(1) == [1]
            assert await second.result(2) == [2]
            assert await first.result(3) == [1, 3]
            assert not {"handler", "late", "late.part"} & set(sys.modules)

        run(scenario)

    def test_async_generators_stream_too(self, run: Run) -> None:
        async def pieces(event: Any, context: Any) -> AsyncIterator[object]:
            yield "text"
            yield b"bytes"
            if event:
                yield event

        async def scenario(stage: Stage) -> None:
            assert isinstance(stage.environments, InlineEnvironments)
            running = await stage.start_spec(make_spec(None, source=stage.environments.register("pieces", pieces)))
            got: list[bytes] = []
            assert (await running.invoke(on_chunk=got.append)).payload == b""
            assert got == [b"text", b"bytes"]
            failed = await running.invoke(1, on_chunk=got.append)
            assert (failed.ending, failed.error_type) == ("failed", "Runtime.MarshalError")

        run(scenario)


# -- fork ------------------------------------------------------------------------------------------------------------


class TestFork(IsolatedEnvironmentContract, BatchContract, StreamingContract):
    init_timeout_s = 3.0

    @pytest.fixture
    def loop_factory(self) -> LoopFactory | None:
        """The server's."""
        return uvloop.new_event_loop

    @pytest.fixture
    def make_environments(self) -> MakeEnvironments:
        return lambda: ForkEnvironments(SystemClock(), init_timeout_ms=3_000)


# -- ric -------------------------------------------------------------------------------------------------------------


class TestRic(IsolatedEnvironmentContract):
    init_timeout_s = 3.0

    @pytest.fixture
    def loop_factory(self) -> LoopFactory | None:
        """The server's; the others below run on asyncio's."""
        return uvloop.new_event_loop

    @pytest.fixture
    def make_environments(self) -> MakeEnvironments:
        return lambda: RicEnvironments(SystemClock(), init_timeout_ms=3_000)


@NEEDS_BUBBLEWRAP
class TestRicInBubblewrap(IsolatedEnvironmentContract):
    init_timeout_s = 3.0

    @pytest.fixture
    def make_environments(self, tmp_path: Path) -> MakeEnvironments:
        sandbox = Sandbox("bubblewrap", hidden=(tmp_path,))
        return lambda: RicEnvironments(SystemClock(), init_timeout_ms=3_000, sandbox=sandbox)

    def test_a_function_sees_nothing_of_the_machines_that_it_could_change(self, run: Run, tmp_path: Path) -> None:
        """`/tmp` is its own and bounded, its code and the rest read-only, other processes are not there, and what is
        hidden is empty; the network is the machine's."""
        (tmp_path / "secret").write_text("x")

        async def scenario(stage: Stage) -> None:
            source = """
                import errno, os, socket

                def attempt(path, count=1):
                    try:
                        with open(path, "wb") as file:
                            for _ in range(count):
                                file.write(bytes(2 ** 20))
                    except OSError as error:
                        return errno.errorcode[error.errno]
                    return "written"

                def handler(event, context):
                    return {
                        "tmp": attempt(os.path.join("/tmp", "x")),
                        "full": attempt(os.path.join("/tmp", "y"), 32),
                        "code": attempt(__file__),
                        "root": attempt("/etc/x"),
                        "hidden": os.path.exists(event),
                        "processes": sum(name.isdigit() for name in os.listdir("/proc")) < 5,
                        "network": bool(socket.create_server(("127.0.0.1", 0))),
                        "old tmp": sorted(os.listdir("/tmp")),
                    }
            """
            running = await stage.start(source, tmp_mib=16)
            found = await running.result(str(tmp_path / "secret"))
            old = found.pop("old tmp")
            assert {"x", "y"} <= set(old)
            assert found == {
                "tmp": "written",
                "full": "ENOSPC",
                "code": "EROFS",
                "root": "EROFS",
                "hidden": False,
                "processes": True,
                "network": True,
            }

        run(scenario)


class TestRicAlone:
    """What awslambdaric's environments do beside the port's promises."""

    run = EnvironmentContract.run
    loop_factory = EnvironmentContract.loop_factory

    @pytest.fixture
    def make_environments(self) -> MakeEnvironments:
        return lambda: RicEnvironments(SystemClock())

    def test_python_sees_what_awss_runtime_has_and_nothing_else_of_this_server(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import importlib.util

                def handler(event, context):
                    return [name for name in event if importlib.util.find_spec(name)]
            """
            running = await stage.start(source)
            asked = ["boto3", "botocore", "urllib3", "awslambdaric", "json", "msgspec", "streamkit", "orjson", "pytest"]
            assert await running.result(asked) == ["boto3", "botocore", "urllib3", "awslambdaric", "json"]

        run(scenario)

    def test_code_is_not_written_to(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("import other\ndef handler(event, context): pass", {"other.py": ""})
            await running.result()
            assert running.spec.code is not None
            assert sorted(path.name for path in running.spec.code.rglob("*")) == ["handler.py", "other.py"]

        run(scenario)

    def test_functions_of_a_library_are_found_where_this_process_finds_them(self, run: Run, tmp_path: Path) -> None:
        async def scenario(stage: Stage) -> None:
            write_code(tmp_path, {"mine.py": "import msgspec\ndef run(event, context): return msgspec.__name__"})
            sys.path.append(str(tmp_path))
            try:
                for source in (f"{tmp_path}/mine.py:run", "mine:run"):
                    running = await stage.start_spec(make_spec(None, source=source))
                    assert await running.result() == "msgspec"
            finally:
                sys.path.remove(str(tmp_path))

        run(scenario)

    def test_typed_batches_are_refused_with_what_to_do(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): pass")
            with pytest.raises(UsageError, match='choose the environment "fork" or "inline"'):
                await running.environment.invoke(invocation_of(running.spec, batch=make_batch([b"1"])))

        run(scenario)

    def test_a_missing_awslambdaric_is_a_clear_error(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "awslambdaric" else find(name))

        async def scenario(stage: Stage) -> None:
            with pytest.raises(UsageError, match=r'pip install awslambdaric \(the extra "ric"\)'):
                stage.make(stage.spec(""))

        run(scenario)

    @pytest.mark.parametrize("runtime", ["nodejs22.x", "java21", "dotnet8"])
    def test_a_runtime_without_a_command_is_a_clear_error(self, run: Run, runtime: str) -> None:
        async def scenario(stage: Stage) -> None:
            with pytest.raises(UsageError, match=f"no program for the runtime {runtime}; say how it is started"):
                stage.make(stage.spec("", runtime=runtime))

        run(scenario)

    def test_an_environment_is_lost_with_a_response_that_was_too_large(self, run: Run) -> None:
        """awslambdaric exits then; what comes next must not find that out by failing."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): return 'x' * 7_000_000", timeout_ms=20_000)
            assert (await running.invoke()).error_type == "Function.ResponseSizeTooLarge"
            assert running.environment.is_lost

        run(scenario)

    def test_what_an_environment_kept_is_gone_when_it_is_stopped(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import os, tempfile

                def handler(event, context):
                    open(tempfile.gettempdir() + "/kept", "w").close()
                    return tempfile.gettempdir()
            """
            running = await stage.start(source)
            directory = Path(await running.result())
            assert os.listdir(directory) == ["kept"]
            await running.environment.stop()
            with pytest.raises(FileNotFoundError):
                os.listdir(directory)

        run(scenario)

    def test_a_temporary_directory_that_grows_too_large_ends_its_environment(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import tempfile, time

                def handler(event, context):
                    with open(tempfile.gettempdir() + "/big", "wb") as file:
                        file.write(bytes(24 * 2 ** 20))
                    time.sleep(60)
            """
            running = await stage.start(source, tmp_mib=16, timeout_ms=30_000)
            assert (await running.invoke()).ending == "exited"
            assert b"temporary directory holds more than 16 MiB" in running.log

        run(scenario)


class TestOtherRuntimes:
    """Programs of any language that speak AWS's Runtime API."""

    run = EnvironmentContract.run
    loop_factory = EnvironmentContract.loop_factory

    @pytest.fixture
    def make_environments(self, tmp_path: Path) -> MakeEnvironments:
        program = write_bootstrap(tmp_path / "any" / "runtime.py", ECHOES)
        command = [sys.executable, str(program), "{handler}", "{runtime}", "in={code}"]
        return lambda: RicEnvironments(SystemClock(), commands={"nodejs": ["absent"], "nodejs22": command})

    @pytest.mark.parametrize("place", ["code", "layer"])
    def test_a_bootstrap_is_run_from_the_code_or_from_a_layer(self, run: Run, place: str) -> None:
        async def scenario(stage: Stage) -> None:
            directory = stage.layer({"readme": ""})
            write_bootstrap(directory / "bootstrap", ECHOES, f"#!{sys.executable}")
            code, layers = (directory, ()) if place == "code" else (stage.layer({"other": ""}), (directory,))
            spec = make_spec(code, layers=layers, runtime="provided.al2023", handler="any thing")
            running = await stage.start_spec(spec)
            assert running.init.error is None
            assert await running.result({"ü": [1]}) == {"ü": [1]}
            assert running.log.endswith(b"echo [] any thing\n")
            answer = await running.invoke("fail")
            assert (answer.ending, answer.error_type) == ("failed", "Refused")
            assert json.loads(answer.payload) == {"errorMessage": "asked to", "errorType": "Refused"}
            assert await running.result(1) == 1

        run(scenario)

    def test_a_shell_script_will_do(self, run: Run) -> None:
        """With curl, as in AWS's tutorial."""
        assert shutil.which("curl"), "this test needs curl"

        async def scenario(stage: Stage) -> None:
            code = stage.layer(
                {
                    "bootstrap": """\
                        #!/bin/sh
                        api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
                        while :; do
                            event=$(curl -sS -D "$TMPDIR/headers" "$api/next")
                            id=$(sed -n 's/^Lambda-Runtime-Aws-Request-Id: *//p' "$TMPDIR/headers" | tr -d '\\r')
                            echo "got $event"
                            curl -sS -o /dev/null -d "$event" "$api/$id/response"
                        done
                    """
                }
            )
            (code / "bootstrap").chmod(0o755)
            running = await stage.start_spec(make_spec(code, runtime="provided.al2"))
            assert [await running.result(number) for number in (1, 2)] == [1, 2]
            assert running.log == b"got 1\ngot 2\n"

        run(scenario)

    def test_a_bootstrap_that_is_missing_or_cannot_be_run_fails_init_with_awss_error(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            missing = await stage.start_failing("", runtime="provided.al2023")
            assert missing.init.error_type == "Runtime.InvalidEntrypoint"
            message = json.loads(missing.init.error or b"")["errorMessage"]
            assert message.endswith(f"Error: Couldn't find valid bootstrap(s): [{missing.spec.code}/bootstrap]")
            code = stage.layer({"bootstrap": "#!/bin/sh\n"})
            denied = await stage.start_spec(make_spec(code, runtime="provided.al2023"))
            assert denied.init.error_type == "Runtime.InvalidEntrypoint"
            message = json.loads(denied.init.error or b"")["errorMessage"]
            assert message.endswith(f"Error: fork/exec {code}/bootstrap: permission denied")
            assert denied.environment.is_lost

        run(scenario)

    def test_a_command_is_filled_in_and_the_longest_name_counts(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("", runtime="nodejs22.x", handler="index.handler")
            assert await running.result(1) == 1
            code = running.spec.code
            assert running.log == f"echo ['index.handler', 'nodejs22.x', 'in={code}'] index.handler\n".encode()
            failed = await stage.start_failing("", runtime="nodejs20.x")
            assert b"fork/exec absent: no such file or directory" in (failed.init.error or b"")

        run(scenario)


class TestStreamingRuntime(StreamingContract):
    """A runtime that streams its responses over the Runtime API."""

    run = EnvironmentContract.run
    loop_factory = EnvironmentContract.loop_factory

    @pytest.fixture
    def make_environments(self, tmp_path: Path) -> MakeEnvironments:
        program = write_bootstrap(tmp_path / "streaming" / "runtime.py", STREAMS)
        return lambda: RicEnvironments(SystemClock(), commands={"python": [sys.executable, "-S", str(program)]})


# -- sandboxes -------------------------------------------------------------------------------------------------------


def test_without_isolation_a_command_is_run_as_it_is() -> None:
    sandbox = Sandbox()
    sandbox.check()
    assert sandbox.wrap(["a", "b"], cwd=Path("/c"), readable=[Path("/d")], tmp_mib=1) == ["a", "b"]
    assert not sandbox.has_own_tmp
    assert sandbox.wait_status(137 << 8) == 137 << 8


def test_bubblewrap_gets_a_private_tmp_and_what_may_be_read_over_what_is_hidden() -> None:
    """Order counts: what comes later lies over what came before."""
    sandbox = Sandbox("bubblewrap", hidden=(Path("/data"),))
    wrapped = sandbox.wrap(["python", "-c", "x"], cwd=Path("/data/code"), readable=[Path("/data/code")], tmp_mib=2)
    assert Path(wrapped[0]).name == "bwrap"
    assert wrapped[wrapped.index("--") :] == ["--", "python", "-c", "x"]
    text = " ".join(wrapped)
    parts = ["--ro-bind / /", "--tmpfs /data", "--size 2097152 --tmpfs /tmp", "--ro-bind /data/code /data/code"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "--unshare-pid" in wrapped
    assert "--die-with-parent" in wrapped
    assert not {"--unshare-net", "--unshare-all"} & set(wrapped)
    assert text.endswith("--chdir /data/code -- python -c x")


def test_a_signal_is_read_from_bubblewraps_status() -> None:
    sandbox = Sandbox("bubblewrap")
    assert sandbox.wait_status((128 + 9) << 8) == 9
    assert sandbox.wait_status(9) == 9
    assert sandbox.wait_status(3 << 8) == 3 << 8
    assert sandbox.wait_status(0) == 0


def test_bubblewrap_that_is_not_installed_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match=r"needs the program bwrap-absent, which is not on the PATH; install"):
        RicEnvironments(SystemClock(), sandbox=Sandbox("bubblewrap", program="bwrap-absent"))


def test_bubblewrap_that_does_not_work_is_a_clear_error(tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match="does not work here: No permissions to create new namespace; allow user"):
        Sandbox("bubblewrap", program=str(program)).check()


@NEEDS_BUBBLEWRAP
def test_bubblewrap_that_works_passes_the_check() -> None:
    Sandbox("bubblewrap").check()


def test_a_control_group_that_cannot_bound_memory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a control group of version 2 \(No such file or directory\)"):
        RicEnvironments(SystemClock(), cgroup=tmp_path)
    (tmp_path / "cgroup.subtree_control").write_text("cpu io\n")
    with pytest.raises(UsageError, match=r'does not hand the memory controller down: .* has "cpu io"'):
        CgroupParent(tmp_path)


def test_a_control_group_bounds_memory_and_takes_the_command_in(tmp_path: Path) -> None:
    """Played with plain files: there is no group that tests could be handed on most machines."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    group = CgroupParent(tmp_path).make("environment-1", 128)
    assert (group.path / "memory.max").read_text() == "134217728"
    assert (group.path / "memory.oom.group").read_text() == "1"
    program, flag, script, procs, *argv = group.wrap(["python", "-c", "x"])
    assert (program, flag, argv) == ("/bin/sh", "-c", ["python", "-c", "x"])
    assert procs == str(group.path / "cgroup.procs")
    assert script == 'echo $$ >"$0" && exec "$@"'
    assert not group.ran_out_of_memory()
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    assert group.ran_out_of_memory()
    assert group.memory_mib_max() is None
    (group.path / "memory.peak").write_text("134217729\n")
    assert group.memory_mib_max() == 129
    group.kill()
    assert (group.path / "cgroup.kill").read_text() == "1"
    with pytest.raises(UsageError, match=r"environment-1 cannot be made: File exists"):
        CgroupParent(tmp_path).make("environment-1", 128)


def test_a_command_joins_its_control_group_before_it_runs(tmp_path: Path) -> None:
    """So that nothing it starts can be outside."""
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")

    async def main() -> None:
        environments = RicEnvironments(SystemClock(), cgroup=tmp_path)
        code = write_code(tmp_path / "code", {"handler.py": "import os\ndef handler(e, c): return os.getpid()"})
        spec = make_spec(code)
        environment = environments.make(spec, lambda text: None)
        try:
            assert (await environment.start()).error is None
            answer = await environment.invoke(invocation_of(spec, b"{}"))
            (name,) = [name for name in os.listdir(tmp_path) if name.startswith("streamkit-")]
            group = tmp_path / name
            assert (group / "cgroup.procs").read_text().strip() == answer.payload.decode()
            assert (group / "memory.max").read_text() == str(128 * 2**20)
        finally:
            await environment.stop()
            await environments.close()

    asyncio.run(main())
