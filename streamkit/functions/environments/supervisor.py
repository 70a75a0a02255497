"""Watching over environments that are processes: deadlines, memory, output, and AWS's texts for how they end.

Shared by the kinds `fork` and `ric`. All of it runs on the event loop, in turns of well under a millisecond.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

from streamkit.clock import Clock, Timer
from streamkit.functions.environments.port import LogSink, Spec
from streamkit.model.limits import (
    ENVIRONMENT_PROCESSES_MAX,
    KIB,
    LOG_LINE_BYTES_MAX,
    LOG_READ_BYTES,
    MIB,
    TMP_CHECK_MS,
    TMP_ENTRIES_PER_CHECK_MAX,
)

PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // KIB

# -- how a process ended, in AWS's words -----------------------------------------------------------------------------

TIMED_OUT: Final = "Sandbox.Timedout"
EXITED: Final = "Runtime.ExitError"

# AWS's supervisor is written in Go: these are its names of signals.
_SIGNAL_NAMES: Final = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
}


def timed_out(request_id: str, timeout_ms: int) -> bytes:
    """AWS's error object for an invocation, or an INIT, that ran out of time."""
    return _platform_error(TIMED_OUT, request_id, f"Task timed out after {timeout_ms / 1000:.2f} seconds")


def exited(request_id: str, exit_code: int) -> bytes:
    """AWS's error object where the process is gone. A negative code is the signal that ended it."""
    return _platform_error(EXITED, request_id, f"Runtime exited {_reason_of(exit_code)}")


def _platform_error(error_type: str, request_id: str, reason: str) -> bytes:
    error = {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {reason}"}
    return json.dumps(error, separators=(",", ":")).encode()


def _reason_of(exit_code: int) -> str:
    if exit_code == 0:
        return "without providing a reason"
    if exit_code > 0:
        return f"with error: exit status {exit_code}"
    number = -exit_code
    return f"with error: signal: {_SIGNAL_NAMES.get(number, f'signal {number}')}"  # type: ignore[call-overload]


def signal_group(pid: int, number: int) -> None:
    """Signals a process group that may be gone.

    Process ids are given out in a circle: between a group's end and our hearing of it, its id is not given again.
    """
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


# -- what code finds around it ---------------------------------------------------------------------------------------


def variables_of(spec: Spec, *, task_root: str, runtime_directory: str, home: str) -> dict[str, str]:
    """The environment variables of a function's process: AWS's, and the function's own.

    Nothing of the server's is passed on but where programs and libraries are found. The access key is the account's id,
    so that calls of the function to this server are made in its account. A function may override what AWS lets it.
    """
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    variables = {
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "PATH": os.defpath,
        "PWD": task_root,
        "SHLVL": "0",
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        **inherited,
        **({"AWS_ENDPOINT_URL": spec.endpoint} if spec.endpoint else {}),
        **({"PYTHONPATH": runtime_directory} if runtime_directory else {}),
        **spec.variables,
        "HOME": home,
        "TMPDIR": home,
        "AWS_ACCESS_KEY_ID": spec.account,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": spec.region,
        "AWS_REGION": spec.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mib),
        "AWS_LAMBDA_FUNCTION_NAME": spec.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency" if spec.provisioned else "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": spec.log_stream,
        "LAMBDA_RUNTIME_DIR": runtime_directory,
        "LAMBDA_TASK_ROOT": task_root,
        "_HANDLER": spec.handler,
    }
    if spec.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
    if spec.log_level is not None:
        variables["AWS_LAMBDA_LOG_LEVEL"] = spec.log_level
    return variables


# AWS's runtime has the SDK and what it depends on; nothing else that is installed beside this server is for functions.
_RUNTIME_PACKAGES: Final = (
    "awslambdaric",
    "boto3",
    "botocore",
    "dateutil",
    "jmespath",
    "s3transfer",
    "simplejson",
    "six",
    "snapshot_restore_py",
    "urllib3",
)
_RUNTIME_DISTRIBUTIONS: Final = (*_RUNTIME_PACKAGES, "python_dateutil")


def make_runtime_directory(directory: Path, search_path: Iterable[str]) -> Path:
    """Fills a directory with links to those of the installed packages that AWS's runtime for Python has, too."""
    directory.mkdir()
    for place in map(Path, search_path):
        names = [name for package in _RUNTIME_PACKAGES for name in (package, f"{package}.py")]
        found = [place / name for name in names]
        if place.name.endswith("-packages"):
            found += [path for name in _RUNTIME_DISTRIBUTIONS for path in place.glob(f"{name}-*.dist-info")]
        for path in found:
            if path.exists() and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return directory


def layer_paths(layers: Iterable[Path]) -> list[str]:
    """Where Python finds the packages of layers: those of a later layer first, as AWS merges them."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    later_first = list(layers)[::-1]
    candidates = [layer / f"python/lib/{version}/site-packages" for layer in later_first]
    candidates += [layer / "python" for layer in later_first]
    return [str(path) for path in candidates if path.is_dir()]


class TemporaryRoot:
    """A directory of temporary directories, made when it is first needed."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._count = 0

    @property
    def path(self) -> Path:
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="streamkit-functions-"))
        return self._path

    def make(self) -> Path:
        """A new empty directory, for one environment."""
        self._count += 1
        path = self.path / f"tmp-{self._count}"
        path.mkdir(mode=0o700)
        return path

    async def remove(self, path: Path) -> None:
        """What a function left there, and how much of it, does not hold up the event loop."""
        try:
            os.rmdir(path)
        except OSError:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def close(self) -> None:
        if self._path is not None:
            await asyncio.to_thread(shutil.rmtree, self._path, ignore_errors=True)
            self._path = None


# -- output ----------------------------------------------------------------------------------------------------------


class LogPipe:
    """Takes what processes write to a pipe, and gives it to a sink: whole lines, and pieces of very long ones.

    Reads 64 KiB a turn of the event loop, so that a flood starves nobody; who writes it waits for the pipe.
    """

    def __init__(self, sink: LogSink) -> None:
        self.write_fd: int
        self._fd, self.write_fd = os.pipe()
        os.set_blocking(self._fd, False)
        self._sink = sink
        self._unfinished = b""
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def close_write_end(self) -> None:
        """To be called once a process has it."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def drain(self) -> None:
        """Hands over all that was written until now, also a line without an end.

        A pipe holds 64 KiB. What more is found is being written at the same time, by somebody whom nobody waits for.
        """
        room = LOG_READ_BYTES
        while room > 0 and (count := self._read()):
            room -= count
        self._flush()

    def close(self) -> None:
        """Drains the pipe and closes it; whoever still writes to it gets SIGPIPE or an error."""
        if not self._is_open:
            return
        self.drain()
        self._stop_reading()
        self.close_write_end()

    def _read(self) -> int:
        if not self._is_open:
            return 0
        try:
            text = os.read(self._fd, LOG_READ_BYTES)
        except BlockingIOError:
            return 0
        if not text:
            self._flush()
            self._stop_reading()
            return 0
        if self._unfinished:
            whole = self._unfinished + text
            self._unfinished = b""
        else:
            whole = text
        end = whole.rfind(b"\n") + 1
        if end:
            self._unfinished = whole[end:]
            self._sink(whole[:end])
        elif len(whole) >= LOG_LINE_BYTES_MAX:
            self._sink(whole)
        else:
            self._unfinished = whole
        return len(text)

    def _flush(self) -> None:
        if self._unfinished:
            text, self._unfinished = self._unfinished, b""
            self._sink(text)

    def _stop_reading(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)


# -- deadlines and memory --------------------------------------------------------------------------------------------


class Watched(Protocol):
    """A busy environment, as the watch sees it."""

    @property
    def pid(self) -> int | None: ...

    @property
    def deadline_s(self) -> float:
        """An instant of `perf_counter`; infinite where there is none."""
        ...

    @property
    def memory_mib_max(self) -> int: ...

    @property
    def tmp(self) -> tuple[Path, int] | None:
        """The temporary directory and the bytes it may hold; None where nobody bounds it."""
        ...

    def on_deadline(self) -> None: ...

    def on_memory(self, resident_mib: int) -> None:
        """More memory, or more processes, than it may have."""
        ...

    def on_tmp_full(self) -> None: ...

    def saw_memory(self, resident_mib: int) -> None:
        """A measurement within the bound."""
        ...


_MEASURED_PROCESSES: Final = 32
_LOOK_S_MAX: Final = 0.001
_LOOKING_SHARE: Final = 0.1  # of the event loop's time, for one environment


class Watch:
    """One timer for all busy environments. It stands still while none is.

    Memory is looked at every `interval_ms`; a deadline that falls between two looks gets a timer of its own, so it is
    kept to the millisecond and costs nothing where answers come in time.
    """

    def __init__(self, clock: Clock, interval_ms: float) -> None:
        self._clock = clock
        self._interval_ms = interval_ms
        self._busy: set[Watched] = set()
        self._was_busy = False
        self._timer: Timer | None = None
        self._deadlines: dict[Watched, Timer] = {}
        self._next_tmp_check_s = 0.0
        self._not_before_s: dict[Watched, float] = {}  # when memory is looked at again, where that is costly
        self._measured: set[Watched] = set()  # exactly, at this moment
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, environment: Watched) -> None:
        self._busy.add(environment)
        self._was_busy = True
        if self._timer is None:
            self._timer = self._clock.call_later(self._interval_ms, self._tick)
        if environment.deadline_s - perf_counter() < 2 * self._interval_ms / 1000:
            self._await_deadline(environment)

    def end(self, environment: Watched) -> None:
        self._busy.discard(environment)
        if self._not_before_s:
            self._not_before_s.pop(environment, None)
        if self._deadlines:
            timer = self._deadlines.pop(environment, None)
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _tick(self) -> None:
        self._timer = None
        if not self._busy and not self._was_busy:
            return
        self._was_busy = False
        now_s = perf_counter()
        checks_tmp = now_s >= self._next_tmp_check_s
        if checks_tmp:
            self._next_tmp_check_s = now_s + TMP_CHECK_MS / 1000
        for environment in list(self._busy):
            self._look_at(environment, now_s)
            if checks_tmp and environment in self._busy and environment.tmp is not None:
                self._in_background(self._check_tmp(environment, *environment.tmp))
        self._timer = self._clock.call_later(self._interval_ms, self._tick)

    def _look_at(self, environment: Watched, now_s: float) -> None:
        left_s = environment.deadline_s - now_s
        if left_s <= 0:
            environment.on_deadline()
            return
        if left_s < 2 * self._interval_ms / 1000 and environment not in self._deadlines:
            self._await_deadline(environment)
        if environment.pid is not None and now_s >= self._not_before_s.get(environment, 0.0):
            self._measure(environment, environment.pid)

    def _measure(self, environment: Watched, pid: int) -> None:
        began_s = perf_counter()
        pids = tree_of(pid)
        resident = resident_mib(pids)
        is_over = resident > environment.memory_mib_max
        if len(pids) > ENVIRONMENT_PROCESSES_MAX:
            environment.on_memory(min(resident, environment.memory_mib_max))
        elif is_over and len(pids) == 1:
            environment.on_memory(resident)
        elif is_over:
            # Pages that processes share were counted for each of them. The exact figure takes milliseconds a process.
            if environment not in self._measured:
                self._measured.add(environment)
                self._in_background(self._measure_exactly(environment, pids))
        else:
            environment.saw_memory(resident)
        cost_s = perf_counter() - began_s
        if cost_s > _LOOK_S_MAX:  # many processes: they are looked at less often, so that others do not pay
            self._not_before_s[environment] = began_s + cost_s / _LOOKING_SHARE

    async def _measure_exactly(self, environment: Watched, pids: list[int]) -> None:
        resident = await asyncio.to_thread(proportional_mib, pids)
        self._measured.discard(environment)
        if environment in self._busy:
            if resident > environment.memory_mib_max:
                environment.on_memory(resident)
            else:
                environment.saw_memory(resident)

    def _await_deadline(self, environment: Watched) -> None:
        def check() -> None:
            self._deadlines.pop(environment, None)
            if environment not in self._busy:
                return
            if environment.deadline_s <= perf_counter():
                environment.on_deadline()
            else:  # the loop's clock is coarser than ours
                self._await_deadline(environment)

        left_ms = max(0.0, environment.deadline_s - perf_counter()) * 1000
        self._deadlines[environment] = self._clock.call_later(left_ms, check)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check_tmp(self, environment: Watched, directory: Path, bytes_max: int) -> None:
        if await asyncio.to_thread(uses_more_than, directory, bytes_max) and environment in self._busy:
            environment.on_tmp_full()


def tree_of(pid: int) -> list[int]:
    """A process and its descendants, as far as they can be seen: they come and go meanwhile.

    Workers adopt the orphans among their descendants, so a process that starts a session of its own is found, too.
    """
    found = [pid]
    for each in found:
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/children", "rb", buffering=0) as file:
                    found.extend(map(int, file.read().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(found) > 2 * ENVIRONMENT_PROCESSES_MAX:
            break
    return found


def resident_mib(pids: Iterable[int]) -> int:
    """The sum of resident sets; pages that processes share count for each of them."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
                pages += int(file.read().split(b" ", 2)[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * PAGE_KIB * KIB // MIB


def proportional_mib(pids: Sequence[int]) -> int:
    """The memory that processes use together, shared pages counted once: milliseconds a process.

    Of many processes it looks at some, and takes the others to be like them.
    """
    kib = 0
    looked_at = pids[:: max(1, len(pids) // _MEASURED_PROCESSES)]
    for pid in looked_at:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
                for line in file.read().splitlines():
                    if line.startswith(b"Pss:"):
                        kib += int(line.split()[1])
        except (OSError, ValueError):
            continue
    return kib * len(pids) // len(looked_at) * KIB // MIB


def uses_more_than(directory: Path, bytes_max: int) -> bool:
    """Whether the files of a directory take more room than that. Looks at a bounded number of them."""
    used = 0
    looked_at = 0
    pending: list[str] = [str(directory)]
    while pending and looked_at < TMP_ENTRIES_PER_CHECK_MAX:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    looked_at += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
        if used > bytes_max:
            return True
    return False
