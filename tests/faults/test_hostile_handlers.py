"""Handlers that do their worst: each gets the right error, all it started is gone, and a neighbour notices nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

from streamkit.clock import SystemClock
from streamkit.functions.environments import frames
from streamkit.functions.environments.fork import ForkEnvironment, ForkEnvironments
from streamkit.functions.environments.port import Answer
from streamkit.model.limits import MIB
from streamkit.testing.environment_contract import COUNTER, Running, Stage, is_alive, until

NEIGHBOUR_S_MAX: Final = 2.0  # for one answer, on two busy cores

STARTS: Final = """
    import os, signal, subprocess, sys, time

    PIDS = os.environ["PIDS"]

    def note(pid=None):
        with open(PIDS, "a") as file:
            file.write(f"{pid or os.getpid()}\\n")

    def fork(work):
        pid = os.fork()
        if pid == 0:
            note()
            try:
                work()
            finally:
                os._exit(0)
        return pid
"""


@dataclass(frozen=True)
class Case:
    """What a handler does when it is invoked, and how that has to end."""

    source: str
    ending: str
    error_type: str = ""
    message: str = ""  # a part of the error's
    changes: dict[str, Any] = field(default_factory=dict)
    timeout_ms: int = 20_000


EXITED: Final = "Runtime.ExitError"
TIMED_OUT: Final = "Sandbox.Timedout"

CASES: Final = {
    "leaks memory": Case(
        """
        def handler(event, context):
            kept = []
            while True:
                kept.append(bytearray(b"x") * 2 ** 18)
        """,
        "out of memory",
        EXITED,
        "signal: killed",
    ),
    "wants two gigabytes at once": Case(
        "def handler(event, context): return len(bytearray(2 ** 31))", "failed", "MemoryError"
    ),
    "leaks memory in processes it started": Case(
        """
        def leak():
            kept = []
            while True:
                kept.append(bytearray(b"x") * 2 ** 18)
                time.sleep(0.005)

        def handler(event, context):
            for _ in range(4):
                fork(leak)
            time.sleep(60)
        """,
        "out of memory",
        EXITED,
        "signal: killed",
    ),
    "forks three hundred processes and waits": Case(
        """
        def handler(event, context):
            for _ in range(300):
                fork(lambda: time.sleep(60))
            time.sleep(60)
        """,
        "timeout",
        TIMED_OUT,
        "Task timed out after 5.00 seconds",
        {"memory_mib": 2048},
        timeout_ms=5_000,
    ),
    "is a fork bomb": Case(
        """
        def handler(event, context):
            while True:
                try:
                    if os.fork() == 0:
                        note()
                        signal.signal(signal.SIGTERM, signal.SIG_IGN)
                except OSError:
                    time.sleep(0.01)
                time.sleep(0.2)
        """,
        "out of memory",
        EXITED,
        "signal: killed",
        {"memory_mib": 10_240},
        timeout_ms=60_000,
    ),
    "detaches processes with sessions of their own": Case(
        """
        def detach():
            os.setsid()
            fork(lambda: (os.setsid(), signal.signal(signal.SIGTERM, signal.SIG_IGN), time.sleep(60)))

        def handler(event, context):
            for _ in range(3):
                os.waitpid(fork(detach), 0)
            subprocess.Popen(["sleep", "60"], start_new_session=True)
            time.sleep(0.3)
        """,
        "answered",
    ),
    "detaches processes and hangs": Case(
        """
        def handler(event, context):
            os.waitpid(fork(lambda: fork(lambda: (os.setsid(), time.sleep(60)))), 0)
            time.sleep(60)
        """,
        "timeout",
        TIMED_OUT,
        timeout_ms=1_000,
    ),
    "runs away in a chain of processes, each in a session of its own": Case(
        """
        def run_away():
            until = time.monotonic() + 30
            while time.monotonic() < until:
                if os.fork():
                    os._exit(0)
                os.setsid()
                note()

        def handler(event, context):
            fork(run_away)
            time.sleep(0.3)
            os._exit(3)
        """,
        "exited",
        EXITED,
        "exit status 3",
    ),
    "blocks all signals and never returns": Case(
        """
        def handler(event, context):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                pass
        """,
        "timeout",
        TIMED_OUT,
        "Task timed out after 1.00 seconds",
        timeout_ms=1_000,
    ),
    "stops itself": Case(
        "def handler(event, context): os.kill(os.getpid(), signal.SIGSTOP)", "timeout", TIMED_OUT, timeout_ms=1_000
    ),
    "writes a gigabyte of output": Case(
        """
        def handler(event, context):
            line = b"x" * 1023 + b"\\n"
            for _ in range(1024):
                os.write(1, line * 1024)
        """,
        "answered",
        timeout_ms=60_000,
    ),
    "writes a line that never ends": Case(
        """
        def handler(event, context):
            for _ in range(64):
                os.write(1, b"x" * 2 ** 20)
        """,
        "answered",
    ),
    "goes on writing in the background": Case(
        """
        import threading

        def write():
            while True:
                os.write(1, b"more\\n" * 10_000)

        def handler(event, context):
            threading.Thread(target=write, daemon=True).start()
        """,
        "answered",
    ),
    "returns a hundred megabytes": Case(
        "def handler(event, context): return 'x' * 100_000_000",
        "failed",
        "Function.ResponseSizeTooLarge",
        "exceeded maximum allowed payload size (6291556 bytes)",
        {"memory_mib": 1024},
    ),
    "raises with a text of a hundred megabytes": Case(
        "def handler(event, context): raise ValueError('x' * 100_000_000)",
        "failed",
        "ValueError",
        "exceeded maximum allowed payload size (6291556 bytes)",
        {"memory_mib": 2048},
    ),
    "raises something that cannot be printed": Case(
        """
        class Silent(Exception):
            def __str__(self):
                raise RuntimeError

        def handler(event, context):
            raise Silent
        """,
        "failed",
        "Silent",
    ),
    "recurses without end": Case(
        "def handler(event, context): return handler(event, context)", "failed", "RecursionError", "maximum recursion"
    ),
    "closes all its files": Case("def handler(event, context): os.closerange(0, 1024)", "exited", EXITED),
    "becomes another program": Case(
        "def handler(event, context): os.execvp('sleep', ['sleep', '60'])", "exited", EXITED, "signal: killed"
    ),
    "leaves without a word": Case("def handler(event, context): os._exit(7)", "exited", EXITED, "exit status 7"),
    "exits with a text": Case("def handler(event, context): sys.exit('bye')", "exited", EXITED, "exit status 1"),
    "raises what is no Exception": Case(
        "def handler(event, context): raise KeyboardInterrupt", "exited", EXITED, "exit status 1"
    ),
    "terminates itself": Case(
        "def handler(event, context): os.kill(os.getpid(), signal.SIGTERM)", "exited", EXITED, "signal: terminated"
    ),
    "reads from nowhere": Case(
        "import ctypes\ndef handler(event, context): ctypes.string_at(0)",
        "exited",
        EXITED,
        "signal: segmentation fault",
    ),
    "writes garbage to the server": Case(
        "def handler(event, context): os.write(3, os.urandom(100_000)); time.sleep(60)", "exited", EXITED
    ),
    "announces four gigabytes": Case(
        """
        def handler(event, context):
            os.write(3, b"\\x03\\x00\\x01\\x00" + b"\\xff" * 8)
            time.sleep(60)
        """,
        "exited",
        EXITED,
    ),
    "comes back twice": Case(
        """
        def handler(event, context):
            note(os.fork() or os.getpid())
            return "once"
        """,
        "answered",
    ),
    "fills the temporary directory with one file": Case(
        """
        def handler(event, context):
            with open(os.environ["TMPDIR"] + "/file", "wb") as file:
                for _ in range(100):
                    file.write(b"x" * 2 ** 20)
        """,
        "failed",
        "OSError",
        "File too large",
        {"tmp_mib": 16},
    ),
    "fills the temporary directory with many files": Case(
        """
        def handler(event, context):
            for number in range(1000):
                with open(os.environ["TMPDIR"] + f"/{number}", "wb") as file:
                    file.write(b"x" * 2 ** 20)
                time.sleep(0.02)
        """,
        "exited",
        EXITED,
        "signal: killed",
        {"tmp_mib": 16},
    ),
    "opens more files than it may": Case(
        """
        def handler(event, context):
            kept = [open(os.devnull) for _ in range(2000)]
        """,
        "failed",
        "OSError",
        "Too many open files",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_handler_that(name: str, tmp_path: Path) -> None:
    """The error is the right one, nothing it started is left, and the neighbour was served all the time."""
    case = CASES[name]
    pids = tmp_path / "pids"

    async def scenario(stage: Stage) -> None:
        neighbour = await stage.start(COUNTER)
        source = dedent(STARTS) + dedent(case.source)
        hostile = await stage.start(source, variables={"PIDS": str(pids)}, **case.changes)
        own = hostile.environment.pid
        async with served(neighbour):
            answer = await hostile.invoke(timeout_ms=case.timeout_ms)
            check(case, answer)
            if case.ending in ("answered", "failed"):
                assert not hostile.environment.is_lost
                await hostile.environment.stop()
            assert hostile.environment.is_lost
        assert not [pid for pid in noted(pids, own) if is_alive(pid)]
        await hostile.environment.stop()

    play(scenario, tmp_path)


def check(case: Case, answer: Answer) -> None:
    shown = answer.payload[:500]
    assert answer.ending == case.ending, shown
    assert answer.error_type == case.error_type, shown
    if case.message:
        assert case.message in json.loads(answer.payload)["errorMessage"], shown


def noted(pids: Path, own: int | None) -> list[int]:
    assert own is not None
    return [own, *map(int, pids.read_text().split())] if pids.exists() else [own]


class served:
    """Invokes an environment over and over; each answer has to be the right one, and come soon."""

    def __init__(self, neighbour: Running) -> None:
        self._neighbour = neighbour
        self._is_over = False

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._work())

    async def __aexit__(self, *error: object) -> None:
        self._is_over = True
        slowest_s = await self._task
        assert slowest_s < NEIGHBOUR_S_MAX

    async def _work(self) -> float:
        slowest_s = 0.0
        first = await self._neighbour.result()
        count = 0
        while not self._is_over or count < 3:
            began_s = time.perf_counter()
            count += 1
            assert await self._neighbour.result() == first + count
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
            await asyncio.sleep(0.005)
        return slowest_s


class CountingStage(Stage):
    """Keeps how much was logged, not what."""

    logged_bytes = 0

    def make(self, spec: Any, pieces: list[bytes] | None = None) -> Any:
        def log(piece: bytes) -> None:
            self.logged_bytes += len(piece)
            assert len(piece) < MIB

        environment = self.environments.make(spec, log)
        self._made.append(environment)
        return environment


def play(scenario: Callable[[CountingStage], Coroutine[Any, Any, None]], directory: Path) -> None:
    async def main() -> None:
        environments = ForkEnvironments(SystemClock())
        stage = CountingStage(environments, directory)
        try:
            async with asyncio.timeout(120):
                await scenario(stage)
        finally:
            await stage.stop()
            await environments.close()

    asyncio.run(main())


def test_a_gigabyte_of_output_is_logged_whole(tmp_path: Path) -> None:
    """Nothing is dropped between the code and the sink, and the server keeps none of it."""

    async def scenario(stage: CountingStage) -> None:
        running = await stage.start(
            dedent(STARTS) + dedent(CASES["writes a gigabyte of output"].source), variables={"PIDS": "/dev/null"}
        )
        before_kib = resident_kib()
        assert (await running.invoke(timeout_ms=60_000)).ending == "answered"
        assert stage.logged_bytes == 2**30
        assert resident_kib() - before_kib < 20_000

    play(scenario, tmp_path)


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


@pytest.mark.parametrize("deafness", ["signal.signal(signal.SIGTERM, signal.SIG_IGN)", "block()"])
def test_an_environment_that_does_not_hear_sigterm_is_gone_within_a_second(deafness: str, tmp_path: Path) -> None:
    async def scenario(stage: CountingStage) -> None:
        source = f"""
            import signal

            def block():
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

            def handler(event, context):
                {deafness}
        """
        running = await stage.start(source)
        own = running.environment.pid
        assert (await running.invoke()).ending == "answered"
        began_s = time.perf_counter()
        await running.environment.stop()
        assert 0.4 < time.perf_counter() - began_s < 1.5
        assert not is_alive(own)

    play(scenario, tmp_path)


def test_an_environment_that_hears_sigterm_ends_in_its_own_way(tmp_path: Path) -> None:
    """Functions registered with atexit run, and handlers of SIGTERM."""

    async def scenario(stage: CountingStage) -> None:
        source = """
            import atexit, os, pathlib, signal, sys

            def handler(event, context):
                if event == "atexit":
                    atexit.register(lambda: pathlib.Path(os.environ["SEEN"]).write_text("atexit"))
                else:
                    signal.signal(signal.SIGTERM, leave)

            def leave(number, frame):
                pathlib.Path(os.environ["SEEN"]).write_text("signal")
                sys.exit(0)
        """
        for how in ("atexit", "signal"):
            seen = tmp_path / how
            running = await stage.start(source, variables={"SEEN": str(seen)})
            await running.invoke(how)
            began_s = time.perf_counter()
            await running.environment.stop()
            assert time.perf_counter() - began_s < 0.4
            assert seen.read_text() == how

    play(scenario, tmp_path)


def test_answers_nobody_asked_for_end_the_environment(tmp_path: Path) -> None:
    """One that a handler forges is believed once, by its own function; the real one after it is one too many."""

    async def scenario(stage: CountingStage) -> None:
        forged = frames.answer_header(frames.ANSWERED, number=1, max_resident_kib=1, error_name=b"", payload_bytes=4)
        source = f"""
            import os

            def handler(event, context):
                os.write(3, {forged + b"null"!r})
                return "real"
        """
        running = await stage.start(source)
        assert (await running.invoke()).payload in (b"null", b'"real"')
        await until(lambda: running.environment.is_lost)

    play(scenario, tmp_path)


# -- the zygote and the server ---------------------------------------------------------------------------------------


def test_a_zygote_that_dies_takes_its_environments_along_and_is_replaced(tmp_path: Path) -> None:
    """The kernel's memory killer may choose it, and a handler can kill it, being the same user."""

    async def scenario(stage: CountingStage) -> None:
        source = """
            import os, signal, time

            def handler(event, context):
                if event:
                    os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(event or 0)
        """
        idle = await stage.start(source)
        busy = await stage.start(source)
        own = [idle.environment.pid, busy.environment.pid]
        answer = await busy.invoke(60, timeout_ms=70_000)
        assert (answer.ending, answer.error_type) == ("exited", EXITED)
        assert idle.environment.is_lost
        await until(lambda: not any(is_alive(pid) for pid in own))
        fresh = await stage.start(source)
        assert (await fresh.invoke(0)).ending == "answered"

    play(scenario, tmp_path)


_SERVER: Final = """
import asyncio, sys
from pathlib import Path
from streamkit.clock import SystemClock
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.testing.environment_contract import invocation_of, make_spec

async def main():
    environments = ForkEnvironments(SystemClock())
    spec = make_spec(Path(sys.argv[1]), timeout_ms=60_000)
    running = [environments.make(spec, lambda text: None) for _ in range(2)]
    for each in running:
        await each.start()
    waiting = [asyncio.ensure_future(each.invoke(invocation_of(spec, b"{}"))) for each in running]
    await asyncio.sleep(1)
    print(environments.temporary.path, *(each.pid for each in running), flush=True)
    await asyncio.gather(*waiting)

asyncio.run(main())
"""


def test_a_server_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    """No worker, nothing a handler started, no zygote, no temporary directory."""
    source = """
        import os, subprocess, time

        def handler(event, context):
            child = subprocess.Popen(["sleep", "60"], start_new_session=True)
            with open(os.path.dirname(os.path.dirname(__file__)) + "/pids", "a") as file:
                file.write(f"{child.pid} {os.getppid()}\\n")
            time.sleep(60)
    """
    code = tmp_path / "code"
    code.mkdir()
    (code / "handler.py").write_text(dedent(source))
    command = [sys.executable, "-c", _SERVER, str(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        temporary, *workers = server.stdout.readline().split()
        pids = [*map(int, workers), *map(int, (tmp_path / "pids").read_text().split())]
        assert len(set(pids)) == 5
        assert all(is_alive(pid) for pid in pids)
        server.send_signal(signal.SIGKILL)
    deadline_s = time.perf_counter() + 10
    while any(is_alive(pid) for pid in pids) or os.path.exists(temporary):
        assert time.perf_counter() < deadline_s
        time.sleep(0.01)


def test_environments_are_forks_of_one_process(tmp_path: Path) -> None:
    async def scenario(stage: CountingStage) -> None:
        running = [await stage.start("import os\ndef handler(event, context): return os.getppid()") for _ in range(3)]
        assert all(isinstance(each.environment, ForkEnvironment) for each in running)
        assert len({await each.result() for each in running}) == 1

    play(scenario, tmp_path)
