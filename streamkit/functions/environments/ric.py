"""Environments that are other programs over AWS's Runtime API: AWS's own runtime for Python, and any other language's.

Python functions are run by awslambdaric, as on AWS down to the runtime's code, at the price of speed: a program is
started for each environment, and every event goes over HTTP. They see the standard library, their code, their layers,
and what AWS's runtime brings (awslambdaric, boto3 and what these need); nothing else that is installed beside this
server. Functions of the `provided` runtimes run the executable `bootstrap` of their code, or of a layer. Other runtimes
run the command that is configured for them.

Where AWS has `/var/task`, `/opt` and `/tmp`, there are directories of other names here, told by LAMBDA_TASK_ROOT,
PYTHONPATH and TMPDIR; with bubblewrap `/tmp` is `/tmp`. Layers are searched, the last one first, not copied together.
Handlers get events: typed batches are refused.

As on AWS, awslambdaric ends itself after a response that was too large, so the environment is lost with it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from streamkit.clock import Clock
from streamkit.functions.environments.port import Answer, Ending, Init, Invocation, LogSink, Spec
from streamkit.functions.environments.runtime_api import Posted, RuntimeApi
from streamkit.functions.environments.sandbox import Cgroup, CgroupParent, Sandbox
from streamkit.functions.environments.supervisor import (
    EXITED,
    TIMED_OUT,
    LogPipe,
    TemporaryRoot,
    Watch,
    exited,
    layer_paths,
    make_runtime_directory,
    signal_group,
    timed_out,
    tree_of,
    variables_of,
)
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    ENVIRONMENT_FILES_MAX,
    INIT_TIMEOUT_MS,
    KIB,
    MEMORY_HEADROOM_MIB,
    MEMORY_WATCH_MS,
    MIB,
    PROVISIONED_INIT_TIMEOUT_MS,
    RUNTIME_EXIT_MS,
    SHUTDOWN_TIMEOUT_MS,
)

# Without `site` the program finds no packages but those it is given; what `site` adds to the builtins is there on AWS.
_PYTHON: Final = (
    "-P",
    "-S",
    "-c",
    "import runpy, site; site.setquit(); runpy.run_module('awslambdaric', run_name='__main__', alter_sys=True)",
)
_INVALID_ENTRYPOINT: Final = "Runtime.InvalidEntrypoint"
_FOREVER: Final = float("inf")


class RicEnvironments:
    """See `port.Environments`.

    `commands` tells how runtimes are started that are not Python or `provided`: the beginning of a runtime's name to
    its command, where `{handler}`, `{code}` and `{runtime}` are filled in, such as
    `{"nodejs": ["npx", "aws-lambda-ric", "{handler}"]}`; the longest beginning counts.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        commands: Mapping[str, Sequence[str]] | None = None,
        sandbox: Sandbox | None = None,
        cgroup: Path | None = None,
        init_timeout_ms: int = INIT_TIMEOUT_MS,
    ) -> None:
        """Raises UsageError where the machine cannot do what `sandbox` or `cgroup` ask for."""
        self.sandbox = sandbox or Sandbox()
        self.sandbox.check()
        self.cgroups = CgroupParent(cgroup) if cgroup is not None else None
        self.temporary = TemporaryRoot()
        self.watch = Watch(clock, MEMORY_WATCH_MS)
        self.init_timeout_ms = init_timeout_ms
        self._commands = dict(commands or {})
        self._runtime_directory: Path | None = None
        self._count = 0

    def prepare(self) -> None:
        """Nothing is shared."""

    def make(self, spec: Spec, log: LogSink) -> RicEnvironment:
        """Raises UsageError where there is no program for the function's runtime."""
        code, handler = _code_of(spec)
        argv = self._argv_of(spec, code, handler)
        return RicEnvironment(self, spec, log, code, handler, argv)

    def make_cgroup(self, memory_mib: int) -> Cgroup | None:
        if self.cgroups is None:
            return None
        self._count += 1
        return self.cgroups.make(f"streamkit-{os.getpid()}-{self._count}", memory_mib)

    async def close(self) -> None:
        await self.watch.close()
        await self.temporary.close()

    def runtime_directory(self) -> Path:
        """The packages of AWS's runtime, and nothing else."""
        if self._runtime_directory is None:
            directory = make_runtime_directory(self.temporary.path / "runtime", sys.path)
            client = importlib.util.find_spec("runtime_client")  # awslambdaric's native part lies beside it
            if client is not None and client.origin is not None:
                (directory / Path(client.origin).name).symlink_to(client.origin)
            self._runtime_directory = directory
        return self._runtime_directory

    def _argv_of(self, spec: Spec, code: Path, handler: str) -> list[str] | None:
        """The program to run; None where the function should have brought one and has not."""
        known = [name for name in self._commands if spec.runtime.startswith(name)]
        if known:
            filled = {"{handler}": handler, "{code}": str(code), "{runtime}": spec.runtime}
            program, *arguments = [_fill(part, filled) for part in self._commands[max(known, key=len)]]
            return [shutil.which(program) or program, *arguments]  # on the server's PATH, whatever the function's is
        if spec.runtime.startswith("python"):
            if importlib.util.find_spec("awslambdaric") is None:
                raise UsageError(
                    'the environment "ric" runs Python functions with AWS\'s runtime, which is not installed: '
                    'pip install awslambdaric (the extra "ric"), or choose the environment "fork"'
                )
            return [sys.executable, *_PYTHON, handler]
        if spec.runtime.startswith("provided"):
            places = [place / "bootstrap" for place in (code, *reversed(spec.layers))]
            return next(([str(place)] for place in places if place.is_file()), None)
        raise UsageError(
            f"there is no program for the runtime {spec.runtime}; say how it is started: "
            'commands = {"' + spec.runtime.rstrip("0123456789.x") + '": ["program", "{handler}"]}'
        )


def _fill(part: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part


def _code_of(spec: Spec) -> tuple[Path, str]:
    """The directory that code runs in, and the handler as AWS writes it."""
    if spec.code is not None:
        return spec.code, spec.handler
    assert spec.source is not None, "a function has code or a source"
    module, _, attribute = spec.source.rpartition(":")
    if module.endswith(".py"):
        path = Path(module).resolve()
        return path.parent, f"{path.stem}.{attribute}"
    return Path.cwd(), f"{module}.{attribute}"


class RicEnvironment:
    """See `port.Environment`: a program, and the Runtime API it asks for invocations."""

    def __init__(
        self, owner: RicEnvironments, spec: Spec, log: LogSink, code: Path, handler: str, argv: list[str] | None
    ) -> None:
        self._owner = owner
        self._spec = spec
        self._log = log
        self._code = code
        self._handler = handler
        self._argv = argv
        self._api = RuntimeApi()
        self._pipe: LogPipe | None = None
        self._process: _Process | None = None
        self._cgroup: Cgroup | None = None
        self._directory: Path | None = None
        self._ended_by: Ending | None = None  # what we have killed it for
        self._is_stopped = False
        self._is_frozen = False
        self._peak_mib = 0
        self.deadline_s = _FOREVER

    @property
    def is_lost(self) -> bool:
        return self._is_stopped or self._ended_by is not None or (self._process is not None and self._process.has_ended)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    # -- INIT --------------------------------------------------------------------------------------------------------

    async def start(self) -> Init:
        started_s = perf_counter()
        assert self._process is None, "an environment is started once"
        address = await self._api.listen()
        if self._is_stopped:
            self._api.close()
            return self._init_failed(started_s, "exited", EXITED, exited("", -signal.SIGKILL))
        try:
            process = self._spawn(address)
        except OSError as error:
            await self._end(None)
            return self._init_failed(started_s, "failed", _INVALID_ENTRYPOINT, self._invalid_entrypoint(error))
        except UsageError:  # its control group could not be made
            await self._end(None)
            raise
        timeout_ms = self._spec.init_timeout_ms or self._owner.init_timeout_ms
        if self._spec.provisioned:
            timeout_ms = max(PROVISIONED_INIT_TIMEOUT_MS, self._spec.timeout_ms)
        await self._until(self._api.ready, process, started_s + timeout_ms / 1000)
        posted = self._api.ready.result() if self._api.ready.done() else None
        if self._ended_by is None and not process.has_ended and posted is None:
            return Init(1000 * (perf_counter() - started_s), max_memory_mib=self._max_memory_mib(process))
        if posted is not None and not process.has_ended:
            await asyncio.wait([process.end], timeout=RUNTIME_EXIT_MS / 1000)  # it says more, and exits
        await self._end(self._ended_by)
        if posted is not None:
            return self._init_failed(started_s, "failed", posted.error_type, posted.body)
        if self._ended_by == "timeout":
            return self._init_failed(started_s, "timeout", TIMED_OUT, timed_out("", timeout_ms))
        return self._init_failed(started_s, self._ended_by or "exited", EXITED, exited("", process.exit_code))

    def _init_failed(self, started_s: float, ending: Ending, error_type: str, error: bytes) -> Init:
        return Init(1000 * (perf_counter() - started_s), error, error_type, ending, self._peak_mib)

    def _spawn(self, address: str) -> _Process:
        spec, owner = self._spec, self._owner
        if self._argv is None:
            raise FileNotFoundError
        if not owner.sandbox.has_own_tmp:
            self._directory = owner.temporary.make()
        self._cgroup = owner.make_cgroup(spec.memory_mib)
        is_python = spec.runtime.startswith("python")
        runtime_directory = str(owner.runtime_directory()) if is_python else ""
        home = "/tmp" if self._directory is None else str(self._directory)
        variables = variables_of(spec, task_root=str(self._code), runtime_directory=runtime_directory, home=home)
        variables |= {"AWS_LAMBDA_RUNTIME_API": address, "_HANDLER": self._handler}
        if is_python:
            variables["PYTHONDONTWRITEBYTECODE"] = "1"  # code is shared, and not to be written to
            variables["PYTHONPATH"] = os.pathsep.join(self._search_path(runtime_directory))
        _add_directories(variables, "PATH", [layer / "bin" for layer in spec.layers])
        _add_directories(variables, "LD_LIBRARY_PATH", [path / "lib" for path in (self._code, *spec.layers)])
        readable = [self._code, *spec.layers]
        if is_python:  # and the interpreter, with what the runtime's links lead to: they may lie below /tmp
            readable += [Path(sys.base_prefix), Path(sys.prefix), Path(runtime_directory)]
        argv = owner.sandbox.wrap(self._argv, cwd=self._code, readable=readable, tmp_mib=spec.tmp_mib)
        if self._cgroup is not None:
            argv = self._cgroup.wrap(argv)
        self._pipe = LogPipe(self._log)
        limits = {resource.RLIMIT_NOFILE: ENVIRONMENT_FILES_MAX}
        if is_python:  # other languages' runtimes reserve more than they use
            limits[resource.RLIMIT_DATA] = (spec.memory_mib + MEMORY_HEADROOM_MIB) * MIB
        self._process = _Process(
            argv, cwd=self._code, variables=variables, output=self._pipe, sandbox=owner.sandbox, limits=limits
        )
        return self._process

    def _search_path(self, runtime_directory: str) -> list[str]:
        spec = self._spec
        own = [str(self._code), *layer_paths(spec.layers), *filter(None, [spec.variables.get("PYTHONPATH")])]
        if spec.code is None:  # a library function: its module is found where this process finds it
            return [*own, *filter(None, sys.path), runtime_directory]
        return [*own, runtime_directory]

    def _invalid_entrypoint(self, error: OSError) -> bytes:
        if self._argv is None:
            places = [str(place / "bootstrap") for place in (self._code, *reversed(self._spec.layers))]
            reason = f"Couldn't find valid bootstrap(s): [{' '.join(places)}]"
        else:
            reason = f"fork/exec {self._argv[0]}: {(error.strerror or str(error)).lower()}"
        message = f"RequestId:  Error: {reason}"
        return msgspec.json.encode({"errorType": _INVALID_ENTRYPOINT, "errorMessage": message})

    # -- INVOKE ------------------------------------------------------------------------------------------------------

    async def invoke(self, invocation: Invocation) -> Answer:
        if invocation.batch is not None:
            raise UsageError(
                f'the function {self._spec.function_name} takes typed batches, which the environment "ric" cannot hand '
                'over; choose the environment "fork" or "inline", or the input "event"'
            )
        started_s = perf_counter()
        process = self._process
        if process is None:
            return Answer("exited", exited(invocation.request_id, -signal.SIGKILL), 0.0, 0, EXITED)
        if not self.is_lost:
            self._thaw(process)
            answer = self._api.invoke(invocation)
            await self._until(answer, process, started_s + invocation.timeout_ms / 1000)
            if answer.done() and self._ended_by is None:
                return await self._answered(answer.result(), process, started_s)
        ended_by = self._ended_by
        await self._end(ended_by)
        if ended_by == "timeout":
            error_type, error = TIMED_OUT, timed_out(invocation.request_id, invocation.timeout_ms)
        else:
            error_type, error = EXITED, exited(invocation.request_id, process.exit_code)
            ended_by = self._ended_by  # the kernel may have ended it, too
        duration_ms = 1000 * (perf_counter() - started_s)
        return Answer(ended_by or "exited", error, duration_ms, self._peak_mib, error_type)

    async def _answered(self, posted: Posted, process: _Process, started_s: float) -> Answer:
        duration_ms = 1000 * (perf_counter() - started_s)
        memory_mib = self._max_memory_mib(process)
        if posted.was_too_large:  # most runtimes exit then; the next invocation must not find that out
            asked = asyncio.ensure_future(self._api.asked())
            try:
                await asyncio.wait([asked, process.end], timeout=RUNTIME_EXIT_MS / 1000, return_when="FIRST_COMPLETED")
            finally:
                asked.cancel()
        assert self._pipe is not None
        self._pipe.drain()
        ending: Ending = "failed" if posted.error_type else "answered"
        return Answer(ending, posted.body, duration_ms, memory_mib, posted.error_type)

    def freeze(self) -> None:
        if self._process is not None and not self.is_lost:
            self._is_frozen = True
            signal_group(self._process.pid, signal.SIGSTOP)

    def _thaw(self, process: _Process) -> None:
        if self._is_frozen:
            self._is_frozen = False
            signal_group(process.pid, signal.SIGCONT)

    # -- SHUTDOWN ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        self._is_stopped = True
        process = self._process
        if process is not None and not process.has_ended and self._ended_by is None:
            self._thaw(process)
            process.terminate()
            await asyncio.wait([process.end], timeout=SHUTDOWN_TIMEOUT_MS / 1000)
        await self._end(None)

    async def _end(self, ended_by: Ending | None) -> None:
        """Kills what is left of the environment and waits for it. `ended_by` stays why it was lost."""
        self._is_stopped = True
        self._ended_by = ended_by or self._ended_by
        process = self._process
        if process is not None:
            if self._cgroup is not None:
                self._cgroup.kill()
            process.kill()
            await process.gone()
        if self._cgroup is not None and self._ended_by is None and self._cgroup.ran_out_of_memory():
            self._ended_by = "out of memory"
        self._close()
        directory, self._directory = self._directory, None
        if directory is not None:
            await self._owner.temporary.remove(directory)

    def _close(self) -> None:
        self._api.close()
        if self._pipe is not None:
            self._pipe.close()
        if self._cgroup is not None:
            self._cgroup.remove()

    # -- being watched -----------------------------------------------------------------------------------------------

    @property
    def memory_mib_max(self) -> int:
        return self._spec.memory_mib

    @property
    def tmp(self) -> tuple[Path, int] | None:
        return None if self._directory is None else (self._directory, self._spec.tmp_mib * MIB)

    def on_deadline(self) -> None:
        self._kill_for("timeout")

    def on_memory(self, resident_mib: int) -> None:
        self.saw_memory(resident_mib)
        self._kill_for("out of memory")

    def on_tmp_full(self) -> None:
        self._log(b"streamkit: the temporary directory holds more than %d MiB\n" % self._spec.tmp_mib)
        self._kill_for("exited")

    def saw_memory(self, resident_mib: int) -> None:
        self._peak_mib = max(self._peak_mib, resident_mib)

    def _kill_for(self, ending: Ending) -> None:
        assert self._process is not None
        self._ended_by = ending
        self._process.kill()

    async def _until(
        self, done: asyncio.Future[Posted] | asyncio.Future[Posted | None], process: _Process, deadline_s: float
    ) -> None:
        """Returns when that is done or the process has ended, which it does at the deadline at the latest."""
        self.deadline_s = deadline_s
        self._owner.watch.begin(self)
        try:
            await asyncio.wait([done, process.end], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._kill_for("exited")  # nobody waits for the answer: what is under way must not meet the next request
            raise
        finally:
            self._owner.watch.end(self)
            self.deadline_s = _FOREVER

    def _max_memory_mib(self, process: _Process) -> int:
        in_cgroup = self._cgroup.memory_mib_max() if self._cgroup is not None else None
        self._peak_mib = max(self._peak_mib, in_cgroup or process.high_water_mib())
        return self._peak_mib


class _Process:
    """A program in a process group of its own, watched through a descriptor (pidfd): no signals, no threads."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        variables: Mapping[str, str],
        output: LogPipe,
        sandbox: Sandbox,
        limits: Mapping[int, int],
    ) -> None:
        """`limits` are the kernel's, by resource. Raises OSError where it cannot be started."""
        self._sandbox = sandbox
        try:
            self._popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output.write_fd,
                stderr=output.write_fd,
                start_new_session=True,
            )
        finally:
            output.close_write_end()
        self.pid = self._popen.pid
        self.exit_code = 0  # once it has ended; negative: the signal that ended it
        self._descendants: list[int] = []  # pidfds: their ids may have been given to others
        self._loop = asyncio.get_running_loop()
        self.end: asyncio.Future[None] = self._loop.create_future()
        self._descriptor = os.pidfd_open(self.pid)
        self._loop.add_reader(self._descriptor, self._on_end)
        for limit, value in limits.items():
            _set_limit(self.pid, limit, value)

    @property
    def has_ended(self) -> bool:
        return self.end.done()

    def terminate(self) -> None:
        """Asks it to end. Its descendants are remembered for `kill`: they can be found as long as it is there."""
        self._remember_descendants()
        signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kills it and whatever it started that can be found: its group, and descendants that have left it."""
        if not self.has_ended:
            self._remember_descendants()
        signal_group(self.pid, signal.SIGKILL)
        for descriptor in self._descendants:
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            except ProcessLookupError:
                pass

    async def gone(self) -> None:
        """Returns when it has ended, and the descendants that were killed with it; these are waited for a second at
        most: the kernel may take its time with one that is stuck in it."""
        await asyncio.wait([self.end])
        descriptors, self._descendants = self._descendants, []
        endings = [self._loop.create_future() for _ in descriptors]
        for descriptor, ending in zip(descriptors, endings, strict=True):
            self._loop.add_reader(descriptor, _set, ending)
        try:
            if endings:
                await asyncio.wait(endings, timeout=RUNTIME_EXIT_MS / 1000)
        finally:
            for descriptor in descriptors:
                self._loop.remove_reader(descriptor)
                os.close(descriptor)

    def _remember_descendants(self) -> None:
        for pid in tree_of(self.pid)[1:]:
            try:
                self._descendants.append(os.pidfd_open(pid))
            except OSError:  # it is gone, or there are too many: then the group's signal has to do
                continue

    def high_water_mib(self) -> int:
        """The largest resident set of the process until now; its children count only where it is wrapped."""
        pids = tree_of(self.pid) if self._sandbox.isolation != "none" else [self.pid]
        return max((_high_water_kib(pid) for pid in pids), default=0) // KIB

    def _on_end(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.exit_code = os.waitstatus_to_exitcode(self._sandbox.wait_status(status))
        self._popen.returncode = self.exit_code  # so that it does not wait for the process itself
        self.end.set_result(None)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _set_limit(pid: int, limit: int, value: int) -> None:
    """Sets one of the kernel's limits for a process and what it starts; never above this process's own."""
    own = resource.getrlimit(limit)[1]
    value = value if own == resource.RLIM_INFINITY else min(value, own)
    try:
        resource.prlimit(pid, limit, (value, value))
    except (ProcessLookupError, PermissionError):  # it is gone; or it is bubblewrap, installed with rights of its own
        pass


def _high_water_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            found = re.search(rb"VmHWM:\s*(\d+)", file.read())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _add_directories(variables: dict[str, str], name: str, directories: Sequence[Path]) -> None:
    """Programs and libraries of layers are found as those of AWS's `/opt` are: after the machine's."""
    found = [str(path) for path in directories if path.is_dir()]
    if found:
        variables[name] = os.pathsep.join([*filter(None, [variables.get(name)]), *found])
