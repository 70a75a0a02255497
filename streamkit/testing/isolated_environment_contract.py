"""What every kind of execution environment must do whose environments are processes, as tests to inherit.

    class TestMyEnvironments(IsolatedEnvironmentContract):
        @pytest.fixture
        def make_environments(self, tmp_path: Path) -> MakeEnvironments:
            return lambda: MyEnvironments(tmp_path)

On top of `environment_contract`: ending whatever the handler started, memory, freezing, variables, AWS's logging.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
from pathlib import Path
from typing import Final

import pytest

from streamkit.model.limits import MIB
from streamkit.testing.environment_contract import (
    COUNTER,
    SOON_S,
    TRACE,
    EnvironmentContract,
    Run,
    Stage,
    assert_exited,
    awss_variables,
    is_alive,
    until,
)

LOGGED: Final = rb"\[%s\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t%s\t%s\n"
_STARTS_CHILD: Final = """
    import subprocess, time

    def handler(event, context):
        subprocess.Popen(["sleep", event["seconds"]], start_new_session=event["leaves"])
        time.sleep(event["stays_s"])
"""


class IsolatedEnvironmentContract(EnvironmentContract):
    """For kinds whose environments are processes."""

    # -- processes ---------------------------------------------------------------------------------------------------

    def test_each_environment_is_a_process_of_its_own(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            spec = stage.spec(COUNTER)
            pids = {(await stage.start_spec(spec)).environment.pid for _ in range(3)}
            assert len(pids) == 3
            assert not pids & {None, os.getpid()}

        run(scenario)

    @pytest.mark.parametrize("leaves", [False, True], ids=["in its session", "in a session of its own"])
    def test_stopping_ends_what_the_handler_started(self, run: Run, leaves: bool) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(_STARTS_CHILD)
            own, seconds = running.environment.pid, _unique_seconds()
            await running.result({"seconds": seconds, "leaves": leaves, "stays_s": 0})
            await until(lambda: _sleepers(seconds) == 1)
            await running.environment.stop()
            assert _sleepers(seconds) == 0
            assert not is_alive(own)

        run(scenario)

    @pytest.mark.parametrize("leaves", [False, True], ids=["in its session", "in a session of its own"])
    def test_a_timeout_ends_what_the_handler_started(self, run: Run, leaves: bool) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(_STARTS_CHILD)
            own, seconds = running.environment.pid, _unique_seconds()
            waiting = asyncio.ensure_future(
                running.invoke({"seconds": seconds, "leaves": leaves, "stays_s": 60}, timeout_ms=1_500)
            )
            await until(lambda: _sleepers(seconds) == 1)
            assert (await waiting).ending == "timeout"
            assert _sleepers(seconds) == 0
            assert not is_alive(own)

        run(scenario)

    def test_stopping_in_the_middle_of_an_invocation_answers_it_with_an_error(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("import time\ndef handler(event, context): time.sleep(60)", timeout_ms=60_000)
            waiting = asyncio.ensure_future(running.invoke())
            await asyncio.sleep(0.2)
            async with asyncio.timeout(SOON_S):
                await running.environment.stop()
                answer = await waiting
            assert (answer.ending, answer.error_type) == ("exited", "Runtime.ExitError")

        run(scenario)

    def test_stopping_in_the_middle_of_init_fails_it(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            environment = stage.make(stage.spec("import time; time.sleep(60)"))
            starting = asyncio.ensure_future(environment.start())
            await asyncio.sleep(0.3)
            async with asyncio.timeout(SOON_S):
                await environment.stop()
                init = await starting
            assert init.error is not None
            assert environment.is_lost

        run(scenario)

    def test_an_idle_environment_that_dies_says_so(self, run: Run) -> None:
        """Without being asked to do anything."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start(COUNTER)
            assert await running.result() == 1
            assert running.environment.pid is not None
            os.kill(running.environment.pid, signal.SIGKILL)
            await until(lambda: running.environment.is_lost)

        run(scenario)

    @pytest.mark.parametrize(
        ("ends", "reason"),
        [
            ("os._exit(0)", "without providing a reason"),
            ("os._exit(127)", "with error: exit status 127"),
            ("os.kill(os.getpid(), 9)", "with error: signal: killed"),
        ],
    )
    def test_a_process_that_dies_answers_with_awss_exit_error(self, run: Run, ends: str, reason: str) -> None:
        """What it had printed is logged."""

        async def scenario(stage: Stage) -> None:
            source = f"import os\ndef handler(event, context):\n    print('last words', flush=True)\n    {ends}"
            running = await stage.start(source)
            answer = await running.invoke(request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            assert_exited(answer, f"RequestId: 8286a188-ba32-4475-8077-530cd35c09a9 Error: Runtime exited {reason}")
            assert running.environment.is_lost
            assert b"last words\n" in running.log

        run(scenario)

    def test_freezing_stops_the_threads_that_a_handler_left_running(self, run: Run) -> None:
        """They go on when the next invocation comes."""

        async def scenario(stage: Stage) -> None:
            source = """
                import threading, time

                def handler(event, context):
                    if event == "start":
                        threading.Thread(target=beat, daemon=True).start()

                def beat():
                    while True:
                        print(".", flush=True)
                        time.sleep(0.01)
            """
            running = await stage.start(source)
            await running.result("start")
            await until(lambda: len(running.log) > 10)
            running.environment.freeze()
            await asyncio.sleep(0.1)
            frozen_at = len(running.log)
            await asyncio.sleep(0.3)
            assert len(running.log) == frozen_at
            await running.result()
            await until(lambda: len(running.log) > frozen_at + 10)

        run(scenario)

    def test_a_frozen_environment_can_be_stopped(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(COUNTER)
            own = running.environment.pid
            running.environment.freeze()
            async with asyncio.timeout(SOON_S):
                await running.environment.stop()
            assert not is_alive(own)

        run(scenario)

    def test_a_function_that_uses_more_memory_than_it_may_is_killed(self, run: Run) -> None:
        """And answered as AWS answers it: the runtime was killed."""

        async def scenario(stage: Stage) -> None:
            source = """
                import time

                def handler(event, context):
                    kept = []
                    while True:
                        kept.append(b"x" * 2 ** 20)
                        time.sleep(0.01)
            """
            running = await stage.start(source, memory_mib=128, timeout_ms=30_000)
            answer = await running.invoke(request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            assert answer.ending == "out of memory"
            expected = (
                "RequestId: 8286a188-ba32-4475-8077-530cd35c09a9 Error: Runtime exited with error: signal: killed"
            )
            assert json.loads(answer.payload)["errorMessage"] == expected
            assert 100 <= answer.max_memory_mib <= 160
            assert running.environment.is_lost

        run(scenario)

    def test_memory_within_the_bound_is_there_to_be_used(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = "def handler(event, context): return len(b'x' * (event * 2 ** 20))"
            running = await stage.start(source, memory_mib=256, timeout_ms=20_000)
            answer = await running.invoke(150)
            assert (answer.ending, answer.payload) == ("answered", b"%d" % (150 * MIB))
            assert 150 <= answer.max_memory_mib <= 256

        run(scenario)

    def test_each_environment_has_a_temporary_directory_of_its_own(self, run: Run) -> None:
        """It is kept between invocations."""

        async def scenario(stage: Stage) -> None:
            source = """
                import os, pathlib, tempfile

                def handler(event, context):
                    directory = pathlib.Path(tempfile.gettempdir())
                    found = sorted(path.name for path in directory.iterdir() if path.is_file())
                    (directory / event).write_text("x")
                    return found
            """
            spec = stage.spec(source)
            first, second = await stage.start_spec(spec), await stage.start_spec(spec)
            assert await first.result("mine") == []
            assert await second.result("other") == []
            assert await first.result("again") == ["mine"]

        run(scenario)

    # -- variables ---------------------------------------------------------------------------------------------------

    def test_the_environment_has_the_functions_variables_and_awss(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            spec = stage.spec(
                "import os\nthen = dict(os.environ)\ndef handler(event, context): return [then, dict(os.environ)]",
                variables={"TABLE": "orders", "EMPTY": "", "ÜMLAUT": "ü = 1"},
                endpoint="http://127.0.0.1:4567",
            )
            running = await stage.start_spec(spec)
            wanted = {
                **spec.variables,
                **awss_variables(spec),
                "AWS_REGION": "eu-central-1",
                "AWS_DEFAULT_REGION": "eu-central-1",
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
                "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:4567",
                "_HANDLER": "handler.handler",
                "TZ": ":UTC",
            }
            for found in await running.result():
                assert {name: found.get(name) for name in wanted} == wanted
                known = {"LAMBDA_TASK_ROOT", "PATH", "LANG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
                assert known <= set(found)

        run(scenario)

    def test_provisioned_environments_are_told_so(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = "import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"
            assert await (await stage.start(source, provisioned=True)).result() == "provisioned-concurrency"

        run(scenario)

    def test_variables_of_the_server_are_not_the_functions(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")

        async def scenario(stage: Stage) -> None:
            running = await stage.start("import os\ndef handler(event, context): return list(os.environ)")
            assert "SECRET_OF_THE_SERVER" not in await running.result()

        run(scenario)

    def test_each_invocation_has_its_trace_id_in_the_environment(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("import os\ndef handler(event, context): return os.environ['_X_AMZN_TRACE_ID']")
            for each in (TRACE, "Root=1-00000000-000000000000000000000000;Sampled=0"):
                assert await running.result(trace_id=each) == each

        run(scenario)

    def test_code_runs_in_its_own_directory(self, run: Run) -> None:
        """So that it finds the files it brought along, where AWS says they are."""

        async def scenario(stage: Stage) -> None:
            source = """
                import os

                def handler(event, context):
                    here = open("data/words.txt").read()
                    return [here, open(os.environ["LAMBDA_TASK_ROOT"] + "/data/words.txt").read()]
            """
            running = await stage.start(source, {"data/words.txt": "hello"})
            assert await running.result() == ["hello", "hello"]

        run(scenario)

    # -- output ------------------------------------------------------------------------------------------------------

    def test_standard_output_and_error_are_logged_in_the_order_written(self, run: Run) -> None:
        """Processes that the handler starts write there too."""

        async def scenario(stage: Stage) -> None:
            source = """
                import os, subprocess, sys

                def handler(event, context):
                    for _ in range(50):
                        print("out")
                        print("err", file=sys.stderr)
                    subprocess.run(["echo", "child"])
                    os.write(1, b"raw out\\n")
                    os.write(2, b"raw err\\n")
                    context.log("context\\n")
            """
            running = await stage.start(source)
            await running.result()
            assert running.log == b"out\nerr\n" * 50 + b"child\nraw out\nraw err\ncontext\n"

        run(scenario)

    def test_logging_has_awss_text_format(self, run: Run) -> None:
        """Warnings and above unless the code sets a level; with the request's id, and without one during INIT."""

        async def scenario(stage: Stage) -> None:
            source = """
                import logging

                logging.warning("at init")
                logger = logging.getLogger("mine")

                def handler(event, context):
                    logger.warning("wärning %d", 1)
                    logger.info("not shown")
                    logging.getLogger().setLevel("INFO")
                    logger.info("shown")
            """
            running = await stage.start(source)
            assert re.fullmatch(LOGGED % (b"WARNING", b"", b"at init"), running.log)
            before = len(running.log)
            await running.result(request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            wanted = b"".join(
                LOGGED % (level, b"8286a188-ba32-4475-8077-530cd35c09a9", text.encode())
                for level, text in ((b"WARNING", "wärning 1"), (b"INFO", "shown"))
            )
            assert re.fullmatch(wanted, running.log[before:])

        run(scenario)

    def test_logging_has_awss_json_format_where_the_function_asks_for_it(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import logging

                logger = logging.getLogger("mine")

                def handler(event, context):
                    logger.debug("detail %s", "ü", extra={"order": 7})
                    try:
                        raise ValueError("no")
                    except ValueError:
                        logger.exception("failed")
            """
            running = await stage.start(source, log_format="JSON", log_level="DEBUG")
            await running.result(request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            detail, failed = (json.loads(line) for line in running.log.splitlines())
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", detail.pop("timestamp"))
            assert detail == {
                "level": "DEBUG",
                "message": "detail ü",
                "logger": "mine",
                "requestId": "8286a188-ba32-4475-8077-530cd35c09a9",
                "order": 7,
            }
            assert (failed["level"], failed["errorType"], failed["errorMessage"]) == ("ERROR", "ValueError", "no")
            assert "in handler" in failed["stackTrace"][0]
            assert failed["location"].endswith("handler.py:handler:11")

        run(scenario)

    def test_an_error_of_the_handler_is_logged_with_its_traceback(self, run: Run) -> None:
        """As one line: AWS puts carriage returns between its parts, and does not indent with spaces."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): raise ValueError('no')")
            assert (await running.invoke()).ending == "failed"
            (line,) = running.log.decode().split("\n")[:-1]
            parts = line.split("\r")
            assert parts[:2] == ["[ERROR] ValueError: no", "Traceback (most recent call last):"]
            assert re.fullmatch('\u00a0\u00a0File "[^"]*handler.py", line 1, in handler', parts[2])
            assert parts[3] == "\u00a0\u00a0\u00a0\u00a0def handler(event, context): raise ValueError('no')"

        run(scenario)

    def test_an_error_of_the_handler_is_logged_as_json_where_the_function_asks_for_it(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): raise ValueError('no')", log_format="JSON")
            answer = await running.invoke()
            (line,) = running.log.splitlines()
            logged = json.loads(line)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", logged.pop("timestamp"))
            assert logged == {"level": "ERROR", **json.loads(answer.payload)}

        run(scenario)

    def test_an_error_of_init_is_logged(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            failed = await stage.start_failing("import absent_package")
            assert b"[ERROR] Runtime.ImportModuleError: Unable to import module 'handler'" in failed.log

        run(scenario)


_seconds: Final = itertools.count(10_000)


def _unique_seconds() -> str:
    """What a `sleep` is told that nobody else on this machine is likely to sleep."""
    return f"{next(_seconds)}.{os.getpid()}"


def _sleepers(seconds: str) -> int:
    """How many processes sleep so long, in whatever namespace; those that are only waited for do not count."""
    wanted = f"sleep\0{seconds}\0".encode()
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += path.read_bytes() == wanted
        except OSError:
            continue
    return count
