"""Environments inside this process: for trusted handlers, tests, and functions of the library that calls them.

Fast, and without any isolation:

- A handler that is a plain function runs in a thread of its environment, so that one that blocks holds up nobody; an
  `async` one runs on the event loop, and may hold up everything.
- A thread cannot be ended. After a timeout the answer is AWS's, the environment is lost, and the thread stays until the
  handler returns, if it ever does. Memory is not bounded, and what is told of it is the whole process's.
- `os.environ` is this process's: the function's variables are not set, nor AWS's. What the context object has of them,
  it has.
- What the handler prints is the function's log. Threads that it starts, `logging` handlers that were set up before, and
  programs that it runs write to where this process writes.

Code from a directory is imported anew for each environment, with all modules beside it and in its layers; these are not
found in `sys.modules` between invocations (so instances of their classes cannot be pickled). A module that this process
had imported before is used instead of one of the same name in the code; the handler's own module is always the
function's. Packages with modules in machine code stay in `sys.modules` for all. One environment imports at a time: code
that does not come to its end holds up the INIT of others.

Objects of libraries (`package.module:attribute`, or registered) are what they are in this process: all environments
share them.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import importlib.abc
import importlib.machinery
import inspect
import queue
import resource
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, ClassVar, Final, NamedTuple, TextIO, TypeVar

from streamkit.functions.environments import runtime
from streamkit.functions.environments.port import Answer, Init, Invocation, LogSink, Spec
from streamkit.functions.environments.supervisor import EXITED, TIMED_OUT, exited, layer_paths, timed_out, variables_of
from streamkit.model.errors import UsageError
from streamkit.model.limits import INIT_TIMEOUT_MS, KIB, LOG_LINE_BYTES_MAX

T = TypeVar("T")

_REGISTERED: Final = "<registered>:"
_KILLED: Final = -9  # how an environment ends that is stopped in the middle of something

runtime.hide_frames_of(__file__)


class InlineEnvironments:
    """See `port.Environments`."""

    def __init__(self, *, init_timeout_ms: int = INIT_TIMEOUT_MS) -> None:
        self.init_timeout_ms = init_timeout_ms
        self._registered: dict[str, runtime.Handler] = {}
        self.echoes = False
        """Whether what handlers print goes to this process's standard output, too, besides their logs."""

    def register(self, name: str, handler: Callable[[Any, Any], Any]) -> str:
        """Makes an object of this process a function's code. Returns the `source` for its spec.

        A later registration of the name replaces an earlier one, for environments made then.
        """
        self._registered[name] = handler
        return _REGISTERED + name

    def prepare(self) -> None:
        """Nothing is shared."""

    def make(self, spec: Spec, log: LogSink) -> InlineEnvironment:
        """Raises UsageError where the source was registered in another process, or never."""
        source = spec.source or ""
        timeout_ms = spec.init_timeout_ms or self.init_timeout_ms
        log = _echoed(log) if self.echoes else log
        if spec.code is None and source.startswith(_REGISTERED):
            name = source.removeprefix(_REGISTERED)
            handler = self._registered.get(name)
            if handler is None:
                raise UsageError(
                    f"the function {spec.function_name} runs {name!r}, which is not registered in this process; "
                    "register it before it is invoked"
                )
            return InlineEnvironment(spec, log, lambda: handler, None, timeout_ms)
        if spec.code is None and not source.rpartition(":")[0].endswith(".py"):
            return InlineEnvironment(spec, log, lambda: runtime.load_source(source), None, timeout_ms)
        modules, name = _modules_of(spec)
        return InlineEnvironment(spec, log, lambda: modules.load(name), modules, timeout_ms)

    async def close(self) -> None:
        pass


def _echoed(log: LogSink) -> LogSink:
    def echo(lines: bytes) -> None:
        log(lines)
        stream = sys.stdout.before if isinstance(sys.stdout, _Stream) else sys.stdout
        stream.write(lines.decode(errors="replace").replace("\r", "\n"))

    return echo


def _modules_of(spec: Spec) -> tuple[_Modules, str]:
    """Where code is found, and its handler."""
    layers = layer_paths(spec.layers)
    if spec.code is not None:
        return _Modules([str(spec.code), *layers]), spec.handler
    place, _, attribute = (spec.source or "").rpartition(":")
    path = Path(place).resolve()
    return _Modules([str(path.parent), *layers]), f"{path.stem}.{attribute}"


class InlineEnvironment:
    """See `port.Environment`."""

    def __init__(
        self,
        spec: Spec,
        log: LogSink,
        load: Callable[[], runtime.Handler],
        modules: _Modules | None,
        init_timeout_ms: int,
    ) -> None:
        self._spec = spec
        self._log = log
        self._load = load
        self._modules = modules
        self._init_timeout_ms = init_timeout_ms
        self._handler: runtime.Handler | None = None
        self._marshal = runtime.make_marshal(spec.runtime)
        self._fixed = runtime.fixed_context(variables_of(spec, task_root="", runtime_directory="", home=""))
        self._thread: _Thread | None = None
        self._output: _Output | None = None
        self._context = contextvars.copy_context()
        self._is_lost = False
        self._stopped: asyncio.Future[None] | None = None

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    @property
    def pid(self) -> int | None:
        return None

    async def start(self) -> Init:
        started_s = perf_counter()
        assert self._thread is None, "an environment is started once"
        self._thread = _Thread(f"inline-{self._spec.function_name}")
        self._output = _Output(self._log)
        self._stopped = asyncio.get_running_loop().create_future()
        self._context.run(_current_output.set, self._output)
        self._context.run(_current_modules.set, self._modules)
        _redirected.begin()
        loading = self._thread.run(self._context.copy(), self._load)
        await self._first_of(loading, self._init_timeout_ms)
        duration_ms = 1000 * (perf_counter() - started_s)
        self._output.drain()
        if not loading.done():
            self._is_lost = True
            if self._stopped.done():
                return Init(duration_ms, exited("", _KILLED), EXITED, "exited", _memory_mib())
            return Init(duration_ms, timed_out("", self._init_timeout_ms), TIMED_OUT, "timeout", _memory_mib())
        self._handler, error = loading.result()
        if isinstance(error, Exception):
            self._is_lost = True
            reported = self._report(error)
            return Init(duration_ms, runtime.error_json(reported), reported["errorType"], "failed", _memory_mib())
        if error is not None:
            self._is_lost = True
            return Init(duration_ms, exited("", self._exit_code(error)), EXITED, "exited", _memory_mib())
        return Init(duration_ms, max_memory_mib=_memory_mib())

    async def invoke(self, invocation: Invocation) -> Answer:
        started_s = perf_counter()

        def answer(ending: Any, payload: bytes, error_type: str = "") -> Answer:
            assert self._output is not None
            self._output.drain()
            return Answer(ending, payload, 1000 * (perf_counter() - started_s), _memory_mib(), error_type)

        if self._is_lost:
            return answer("exited", exited(invocation.request_id, _KILLED), EXITED)
        running = self._begin(invocation)
        try:
            await self._first_of(running, invocation.timeout_ms)
        except asyncio.CancelledError:
            self._is_lost = True  # nobody waits for the answer: what is under way must not meet the next request
            running.cancel()
            raise
        if not running.done():
            self._is_lost = True
            running.cancel()
            if self._stopped is not None and self._stopped.done():
                return answer("exited", exited(invocation.request_id, _KILLED), EXITED)
            return answer("timeout", timed_out(invocation.request_id, invocation.timeout_ms), TIMED_OUT)
        result, error = running.result()
        if error is None:
            return answer("answered", result)
        if isinstance(error, Exception | asyncio.CancelledError):
            reported = self._report(error, invocation.request_id)
            return answer("failed", runtime.error_json(reported), reported["errorType"])
        self._is_lost = True
        return answer("exited", exited(invocation.request_id, self._exit_code(error)), EXITED)

    def freeze(self) -> None:
        """Does nothing: threads that the handler left running go on."""

    async def stop(self) -> None:
        """An invocation under way is answered as exited; its thread stays until the handler returns."""
        self._is_lost = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._stopped is not None
        assert self._output is not None
        self._stopped.set_result(None)
        self._output.close()
        _redirected.end()
        await thread.stop()

    # -- running handlers --------------------------------------------------------------------------------------------

    def _begin(self, invocation: Invocation) -> asyncio.Future[Outcome]:
        assert self._thread is not None, "the environment was not started"
        assert self._handler is not None
        handler, loop = self._handler, asyncio.get_running_loop()
        if _is_async(handler):
            job = Outcome.awaited(self._run_async(handler, invocation))
            return loop.create_task(job, context=self._context.copy())
        return self._thread.run(self._context.copy(), lambda: self._run(handler, invocation, loop))

    def _run(self, handler: runtime.Handler, invocation: Invocation, loop: asyncio.AbstractEventLoop) -> bytes:
        try:
            result = handler(*self._arguments(invocation))
            if not inspect.isgenerator(result):
                return self._marshal(result)
            pieces = map(_piece, result)
            if invocation.on_chunk is None:
                return runtime.checked(b"".join(pieces))
            for piece in pieces:
                loop.call_soon_threadsafe(self._hand_on, invocation, piece)
            return b""
        finally:
            if self._modules is not None:
                self._modules.put_away()

    async def _run_async(self, handler: runtime.Handler, invocation: Invocation) -> bytes:
        try:
            result = handler(*self._arguments(invocation))
            if not isinstance(result, AsyncIterator):
                return self._marshal(await result)
            pieces: list[bytes] = []
            async for piece in result:
                (invocation.on_chunk or pieces.append)(_piece(piece))
            return runtime.checked(b"".join(pieces))
        finally:
            if self._modules is not None:
                self._modules.put_away()

    def _hand_on(self, invocation: Invocation, piece: bytes) -> None:
        """What a thread that was left behind still yields is dropped."""
        if invocation.on_chunk is not None and not self._is_lost:
            invocation.on_chunk(piece)

    def _arguments(self, invocation: Invocation) -> tuple[Any, runtime.LambdaContext]:
        meta = {
            "id": invocation.request_id,
            "arn": invocation.arn,
            "deadline": invocation.deadline_ms,
            "client": invocation.client_context,
            "cognito": invocation.cognito_identity,
        }
        context = runtime.LambdaContext(self._fixed, meta)
        if invocation.batch is not None:
            return invocation.batch, context
        return runtime.load_event(memoryview(b"".join(invocation.payload or ()))), context

    async def _first_of(self, work: asyncio.Future[Any], timeout_ms: int) -> None:
        """Returns when the work is done, the environment is stopped, or the time is over."""
        assert self._stopped is not None
        await asyncio.wait([work, self._stopped], timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)

    def _exit_code(self, error: BaseException) -> int:
        """The status that Python would have ended with; a text given to `sys.exit` is printed as Python does."""
        if isinstance(error, SystemExit):
            if error.code is None or isinstance(error.code, int):
                return (error.code or 0) & 0xFF
            assert self._output is not None
            self._output.write(f"{error.code}\n")
        return 1

    def _report(self, error: BaseException, request_id: str = "") -> runtime.ErrorObject:
        """AWS's error object; the function's log gets it too."""
        reported = runtime.error_of(error, request_id)
        assert self._output is not None
        if "stackTrace" in reported:
            head = ": ".join(filter(None, [reported["errorType"], reported["errorMessage"]]))
            trace = "".join(reported["stackTrace"])
            self._output.drain()
            self._output.write(f"[ERROR] {head}\nTraceback (most recent call last):\n{trace}")
        return reported


def _is_async(handler: runtime.Handler) -> bool:
    call = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _piece(piece: object) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise runtime.Fault(
        "Runtime.MarshalError", f"Unable to marshal response: a streamed piece is {type(piece).__name__}, not bytes"
    )


def _memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB


# -- threads ---------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What ran to its end, and how; also with what would end a thread or the event loop, such as SystemExit."""

    result: Any = None
    error: BaseException | None = None

    @classmethod
    def of(cls, job: Callable[[], Any]) -> Outcome:
        try:
            return cls(job())
        except BaseException as error:
            return cls(error=error)

    @classmethod
    async def awaited(cls, job: Awaitable[Any]) -> Outcome:
        try:
            return cls(await job)
        except BaseException as error:
            return cls(error=error)


class _Thread:
    """One thread that runs one thing after the other. It does not keep this process from ending."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._is_busy = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, context: contextvars.Context, job: Callable[[], Any]) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._is_busy = True

        def work() -> None:
            self._tell(done, context.run(Outcome.of, job))

        def done(outcome: Outcome) -> None:
            self._is_busy = False
            if not future.done():
                future.set_result(outcome)

        self._jobs.put(work)
        return future

    async def stop(self) -> None:
        """Returns when the thread has ended; at once if it is busy, then it ends when it is not."""
        self._jobs.put(None)
        if not self._is_busy:
            await self._ended

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        self._tell(self._ended.set_result, None)

    def _tell(self, callback: Callable[[T], None], value: T) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, value)
        except RuntimeError:  # the loop was closed; nobody waits for it any more
            pass


# -- output ----------------------------------------------------------------------------------------------------------


class _Output:
    """Takes text from any thread, gives it to a sink on the event loop: whole lines, and pieces of very long ones."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._changed = threading.Condition()
        self._texts: list[str] = []
        self._characters = 0
        self._is_scheduled = False
        self._is_closed = False
        self._unfinished = ""

    def write(self, text: str) -> None:
        """Waits, on another thread than the loop's, while much is waiting for the loop."""
        with self._changed:
            if self._is_closed:
                return
            self._texts.append(text)
            self._characters += len(text)
            is_on_loop = threading.get_ident() == self._loop_thread
            if not self._is_scheduled and not is_on_loop:
                self._is_scheduled = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop was closed
                    self._is_closed = True
            while self._characters > LOG_LINE_BYTES_MAX and not self._is_closed and not is_on_loop:
                self._changed.wait()
        if is_on_loop:
            self._deliver()

    def drain(self) -> None:
        """Hands over what was written until now, also a line without an end."""
        self._deliver()
        if self._unfinished:
            text, self._unfinished = self._unfinished, ""
            self._sink(text.encode(errors="backslashreplace"))

    def close(self) -> None:
        """What is written from now on is lost."""
        self.drain()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _deliver(self) -> None:
        with self._changed:
            text = self._unfinished + "".join(self._texts)
            self._texts.clear()
            self._characters = 0
            self._is_scheduled = False
            self._changed.notify_all()
        end = text.rfind("\n") + 1
        if not end and len(text) >= LOG_LINE_BYTES_MAX:
            end = len(text)
        self._unfinished = text[end:]
        if end:
            self._sink(text[:end].encode(errors="backslashreplace"))


_current_output: contextvars.ContextVar[_Output | None] = contextvars.ContextVar("output", default=None)


class _Stream:
    """Stands in for a standard stream: what a handler writes goes to its log, all else to where it went before."""

    def __init__(self, before: TextIO) -> None:
        self.before = before

    def write(self, text: str) -> int:
        output = _current_output.get()
        if output is None:
            return self.before.write(text)
        output.write(text)
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        if _current_output.get() is None:
            self.before.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.before, name)


class _Redirection:
    """Standard output and error are stood in for as long as any environment of this process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def begin(self) -> None:
        with self._lock:
            self._count += 1
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if not isinstance(stream, _Stream):  # others may have put theirs there meanwhile
                    setattr(sys, name, _Stream(stream))

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if not self._count and isinstance(stream, _Stream):
                    setattr(sys, name, stream.before)


_redirected: Final = _Redirection()


# -- modules of functions --------------------------------------------------------------------------------------------


class _Modules:
    """The modules of one environment: found on its own search path, and out of `sys.modules` unless its code runs."""

    _importing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, search_path: list[str]) -> None:
        self._search_path = search_path
        self._known: dict[str, ModuleType] = {}
        self._found: set[str] = set()  # top-level names that were looked up since they were last put away

    def load(self, handler: str) -> runtime.Handler:
        """Imports the handler's module. One environment at a time."""
        top = handler.rpartition(".")[0].replace("/", ".").partition(".")[0]
        with self._importing:
            if _Finder.instance not in sys.meta_path:
                sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder), _Finder.instance)
            hidden = {} if top in sys.stdlib_module_names else _take_from_sys(top)
            try:
                return runtime.load_handler(handler)
            finally:
                self.put_away()
                sys.modules.update(hidden)

    def find(self, name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        module = self._known.get(name)
        if module is not None:
            self._found.add(name.partition(".")[0])
            return importlib.machinery.ModuleSpec(name, _Again(module), is_package=hasattr(module, "__path__"))
        if path is not None:
            return None  # of a package, which knows its own path
        spec = importlib.machinery.PathFinder.find_spec(name, self._search_path)
        if spec is not None:
            self._found.add(name)
        return spec

    def put_away(self) -> None:
        """Takes the function's modules out of `sys.modules`, but for packages with modules in machine code: few of
        those can be loaded twice, so they stay, for this and any other function."""
        while self._found:
            taken = _take_from_sys(self._found.pop())
            loaders = (getattr(module, "__loader__", None) for module in taken.values())
            if any(isinstance(loader, importlib.machinery.ExtensionFileLoader) for loader in loaders):
                sys.modules.update(taken)
            else:
                self._known.update(taken)


def _take_from_sys(top: str) -> dict[str, ModuleType]:
    """A top-level module and all below it."""
    names = [name for name in tuple(sys.modules) if name == top or name.startswith(f"{top}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Again(importlib.abc.Loader):
    """Finds a module again that was loaded before."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder(importlib.abc.MetaPathFinder):
    """Asks the environment whose code is running."""

    instance: ClassVar[_Finder]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        modules = _current_modules.get()
        return None if modules is None else modules.find(fullname, path)


_Finder.instance = _Finder()
_current_modules: contextvars.ContextVar[_Modules | None] = contextvars.ContextVar("modules", default=None)
