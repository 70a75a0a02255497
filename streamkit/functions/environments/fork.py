"""Environments that are forks of a zygote: the default kind. A cold start takes milliseconds, an event microseconds.

    server ── orders, reports ──▶ zygote ── fork ──▶ worker (one per environment)
       ╰──── events, answers over a socket of its own; output over a pipe ────╯

The zygote is started with the first environment. It is a small process with one thread: forking the server itself,
with its threads and files, would be neither safe nor cheap. See `zygote` for what becomes of everything a worker
started, `frames` for what is said on the socket, `image` for how libraries are loaded beforehand.

Event functions see the standard library, their code, their layers, and boto3 with what it needs if it is installed
here. Functions of the library (`Spec.source`) see all that the server sees. A handler that is a generator streams its
response: what it yields is handed on as it comes where the invocation wants that, and joined where it does not.

INIT that takes longer than AWS allows ends the environment with AWS's timeout. (AWS starts INIT anew within the first
invocation then: for that, make another environment.)
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, cast

import orjson

from streamkit.clock import Clock
from streamkit.functions.environments import frames
from streamkit.functions.environments.image import Image, ImageOrder, Images, Modules, packages_of
from streamkit.functions.environments.port import Answer, Buffer, Ending, Init, Invocation, LogSink, Spec
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
    variables_of,
)
from streamkit.functions.environments.worker import Order
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    FORK_REQUEST_BYTES_MAX,
    IMAGE_TIMEOUT_MS,
    IMAGES_MAX,
    INIT_TIMEOUT_MS,
    KIB,
    MEMORY_WATCH_MS,
    MIB,
    PROVISIONED_INIT_TIMEOUT_MS,
    SHUTDOWN_TIMEOUT_MS,
)

_READ_BYTES: Final = 64 * KIB
_BUFFERS_PER_WRITE_MAX: Final = 1024  # IOV_MAX
_ORDER_BYTES_MAX: Final = FORK_REQUEST_BYTES_MAX // 2  # the rest is for paths
_ZYGOTE_EXIT_S: Final = 5.0
_NEVER_S: Final = float("inf")

# The packages get stand-ins, so that importing a module of ours does not run the packages' `__init__`: what these load
# is megabytes and threads' worth of server.
_BOOT: Final = """
import json, sys, types
fd, temporary, root, path = sys.argv[1:]
plain = list(sys.path)
sys.path += json.loads(path)
for name in ("streamkit", "streamkit.functions", "streamkit.functions.environments", "streamkit.model"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [root + "/" + name.replace(".", "/")]
from streamkit.functions.environments import zygote
sys.path[:] = plain
zygote.main(int(fd), temporary)
"""


class _Zygote:
    """The server's end of a zygote, or of an image."""

    def __init__(self, on_lost: Callable[[_Zygote], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, self.far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._on_lost = on_lost
        self.environments: dict[int, ForkEnvironment] = {}
        self.prepared: asyncio.Future[Modules] = self._loop.create_future()  # an image's modules; empty: refused
        self.process: subprocess.Popen[bytes] | None = None
        self.is_retired = False
        self.is_alive = True
        self._loop.add_reader(self._fd, self._read)

    def order(self, order: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Hands over an order with its descriptors, which may be closed when this returns."""
        text = json.dumps(order).encode()
        assert len(text) <= FORK_REQUEST_BYTES_MAX
        if not self._waiting:
            try:
                socket.send_fds(self._socket, [text], fds)
                return
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._send)
            except OSError:
                self.close()
                return
        self._waiting.append((text, [os.dup(fd) for fd in fds]))

    def close(self) -> None:
        """The zygote ends, and with it all that it forked."""
        if self.is_alive:
            self.is_alive = False
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._socket.close()
            for _, fds in self._waiting:
                _close(fds)
            self._waiting.clear()
            if not self.prepared.done():
                self.prepared.set_result(())
            for environment in list(self.environments.values()):
                environment.on_zygote_died()
            self.environments.clear()
            self._on_lost(self)

    def retire(self) -> None:
        """Ends when its last environment has."""
        self.is_retired = True
        if not self.environments:
            self.close()

    async def exited(self) -> None:
        """Returns when the process is gone. It was closed before."""
        if self.process is not None:
            try:
                await asyncio.to_thread(self.process.wait, _ZYGOTE_EXIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                await asyncio.to_thread(self.process.wait)

    def _send(self) -> None:
        while self._waiting:
            text, fds = self._waiting[0]
            try:
                socket.send_fds(self._socket, [text], fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._waiting.popleft()
            _close(fds)
        self._loop.remove_writer(self._fd)

    def _read(self) -> None:
        try:
            text = self._socket.recv(FORK_REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            self.close()
            return
        report = orjson.loads(text)
        if "born" in report:
            environment = self.environments.get(report["born"])
            if environment is not None:
                environment.on_born(report["pid"])
        elif "died" in report:
            environment = self.environments.pop(report["died"], None)
            if environment is not None:
                environment.on_died(report["code"], report["max_resident_kib"])
            if self.is_retired and not self.environments:
                self.close()
        elif not self.prepared.done():
            self.prepared.set_result(tuple(report.get("prepared", ())))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


class ForkEnvironments:
    """See `port.Environments`."""

    def __init__(
        self,
        clock: Clock,
        *,
        memory_watch_ms: float = MEMORY_WATCH_MS,
        init_timeout_ms: int = INIT_TIMEOUT_MS,
        images_max: int = IMAGES_MAX,
    ) -> None:
        """`images_max` 0: no libraries are loaded beforehand."""
        self.clock = clock
        self.watch = Watch(clock, memory_watch_ms)
        self.temporary = TemporaryRoot()
        self.buffer = bytearray(_READ_BYTES)
        self.init_timeout_ms = init_timeout_ms
        self._images: Images[_Zygote] = Images(images_max, lambda image: image.zygote.retire())
        self._zygote: _Zygote | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    def prepare(self) -> None:
        self._base()

    def make(self, spec: Spec, log: LogSink) -> ForkEnvironment:
        """Raises UsageError for code that is not Python's, and for variables beyond all measure."""
        if spec.code is not None and not spec.runtime.startswith("python"):
            raise UsageError(
                f'the environment "fork" runs Python functions, and {spec.function_name} is one for {spec.runtime}; '
                'choose the environment "ric" for it'
            )
        size = len(json.dumps([dict(spec.variables), spec.handler, spec.source]))
        if size > _ORDER_BYTES_MAX:
            raise UsageError(
                f"the variables of {spec.function_name} take {size:,} bytes; an environment has {_ORDER_BYTES_MAX:,}"
            )
        self._base()
        self._count += 1
        return ForkEnvironment(self, self._count, spec, log)

    async def settled(self) -> None:
        """Returns when the images that are worth it are prepared, and what ended environments left is removed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        self._images.clear()
        if self._zygote is not None:
            self._zygote.close()
        await self.settled()
        await self.watch.close()
        await self.temporary.close()

    # -- for environments --------------------------------------------------------------------------------------------

    def fork(self, environment: ForkEnvironment, order: Order, fds: Sequence[int]) -> Image[_Zygote] | None:
        """Has a worker forked, from an image where one fits: that is returned."""
        spec = environment.spec
        image = self._images.choose(_function_of(spec), _kind_of(spec))
        zygote = self._base() if image is None else image.zygote
        zygote.environments[environment.number] = environment
        if image is not None:
            image.environments += 1
        zygote.order(cast(Mapping[str, Any], order), fds)
        return image

    def learn(self, spec: Spec, modules: Modules) -> None:
        """A worker that was not forked from an image imported these from the runtime's packages."""
        kind = _kind_of(spec)
        fits = len(json.dumps(modules)) <= _ORDER_BYTES_MAX
        if fits and self._images.learn(_function_of(spec), kind, modules):
            self.later(self._prepare(kind, modules))

    def known_imports(self, spec: Spec) -> Modules:
        return self._images.known(_function_of(spec))

    def order_for(self, environment: ForkEnvironment, tmp: Path) -> Order:
        spec = environment.spec
        is_library = _kind_of(spec)
        directory = str(spec.code) if spec.code is not None else os.getcwd()
        variables = variables_of(
            spec, task_root=directory, runtime_directory=str(self._runtime_directory()), home=str(tmp)
        )
        layers = layer_paths(spec.layers)
        own = [path for path in spec.variables.get("PYTHONPATH", "").split(os.pathsep) if path]
        code = [] if is_library else [directory]
        return Order(
            fork=environment.number,
            variables=variables,
            directory=directory,
            path=[*code, *own, *layers, *self._installed(is_library)],
            handler=spec.handler,
            source=spec.source if is_library else None,
            runtime=spec.runtime,
            memory_mib=spec.memory_mib,
            tmp_mib=spec.tmp_mib,
            roots=self._roots(is_library),
        )

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- zygotes -----------------------------------------------------------------------------------------------------

    def _base(self) -> _Zygote:
        """The zygote. One that died is replaced; what it had forked is gone."""
        if self._zygote is None:
            zygote = self._zygote = _Zygote(self._on_lost)
            fd = zygote.far_end.fileno()
            package = Path(__file__).parents[3]
            path = json.dumps(_search_path())
            command = [sys.executable, "-I", "-S", "-c", _BOOT, str(fd), str(self.temporary.path), str(package), path]
            environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
            zygote.process = subprocess.Popen(
                command,
                env=environment | {"LANG": "C.UTF-8"},
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
            zygote.far_end.close()
        return self._zygote

    def _on_lost(self, zygote: _Zygote) -> None:
        if zygote is self._zygote:
            self._zygote = None
            self.later(zygote.exited())
        else:
            self._images.lost(zygote)

    async def _prepare(self, kind: Hashable, modules: Modules) -> None:
        zygote = _Zygote(self._on_lost)
        image = Image(zygote, kind, modules)
        self._images.add(image)
        is_library = bool(kind)
        order = ImageOrder(
            image=list(modules),
            path=self._installed(is_library),
            roots=self._roots(is_library),
            shares=is_library,
        )
        self._base().order(cast(Mapping[str, Any], order), [zygote.far_end.fileno()])
        zygote.far_end.close()
        timer = self.clock.call_later(IMAGE_TIMEOUT_MS, zygote.close)
        loaded = await zygote.prepared
        timer.cancel()
        self._images.prepared(image, loaded)

    # -- what functions can import -----------------------------------------------------------------------------------

    def _runtime_directory(self) -> Path:
        directory = self.temporary.path / "runtime"
        if not directory.exists():
            make_runtime_directory(directory, _search_path())
        return directory

    def _installed(self, is_library: bool) -> list[str]:
        """The end of `sys.path`: what is there without the function's doing."""
        if is_library:
            return _search_path()
        standard = sysconfig.get_path("stdlib")
        return [standard, f"{standard}/lib-dynload", str(self._runtime_directory())]

    def _roots(self, is_library: bool) -> list[str]:
        """Modules from these directories do not change while the server runs, so they can be loaded beforehand."""
        if not is_library:
            return [str(self._runtime_directory())]
        own = str(Path(__file__).parents[2])
        return [own, *dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])]


def _search_path() -> list[str]:
    return list(dict.fromkeys(os.path.abspath(path) for path in sys.path))


def _kind_of(spec: Spec) -> bool:
    """Whether it is a function of the library, which sees what the server sees."""
    return spec.code is None


def _function_of(spec: Spec) -> Hashable:
    """What decides which modules are imported."""
    return (spec.code, spec.source, spec.layers, spec.handler)


class ForkEnvironment:
    """See `port.Environment`."""

    def __init__(self, owner: ForkEnvironments, number: int, spec: Spec, log: LogSink) -> None:
        self.spec = spec
        self.number = number
        self.deadline_s = _NEVER_S
        self.memory_mib_max = spec.memory_mib
        self._owner = owner
        self._watch = owner.watch
        self._loop = asyncio.get_running_loop()
        self._sink = log
        self._pid: int | None = None
        self._tmp: Path | None = None
        self._image: Image[_Zygote] | None = None
        self._socket: socket.socket | None = None
        self._fd = -1
        self._log: LogPipe
        self._is_lost = False
        self._is_frozen = False
        self._init: asyncio.Future[Init] | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._gone: asyncio.Future[None] | None = None  # done when the process and its offspring are
        self._stopping: asyncio.Task[None] | None = None
        self._removal: asyncio.Task[None] | None = None  # of the temporary directory
        self._invocation: Invocation | None = None
        self._started_s = 0.0
        self._requests = 0
        self._peak_mib = 0
        self._ending: Ending = "exited"  # why it was killed, if it was
        self._init_error: tuple[bytes, str] | None = None
        self._outgoing: deque[memoryview] = deque()
        self._frame = bytearray()  # an answer that did not come at once
        self._frame_got = 0

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def tmp(self) -> tuple[Path, int] | None:
        return None if self._tmp is None else (self._tmp, self.spec.tmp_mib * MIB)

    # -- INIT --------------------------------------------------------------------------------------------------------

    async def start(self) -> Init:
        """Raises OSError where this process has no file left for it, or the disk no room."""
        assert self._socket is None, "an environment is started once"
        if self._is_lost:
            return self._init_ended(-signal.SIGKILL)
        self._started_s = perf_counter()
        try:
            self._tmp = self._owner.temporary.make()
            self._socket, far_end = socket.socketpair()
            self._log = LogPipe(self._sink)
        except OSError:  # no room on the disk, no files left: nothing was started
            self._is_lost = True
            if self._socket is not None:
                self._socket.close()
                far_end.close()
            raise
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()
        self._loop.add_reader(self._fd, self._read)
        self._gone = self._loop.create_future()
        self._init = self._loop.create_future()
        order = self._owner.order_for(self, self._tmp)
        self.deadline_s = self._started_s + self._init_timeout_ms / 1000
        self._watch.begin(self)
        self._image = self._owner.fork(self, order, [far_end.fileno(), self._log.write_fd])
        far_end.close()
        self._log.close_write_end()
        try:
            return await self._init
        finally:
            self._init = None

    @property
    def _init_timeout_ms(self) -> int:
        if self.spec.provisioned:
            return max(PROVISIONED_INIT_TIMEOUT_MS, self.spec.timeout_ms)
        return self.spec.init_timeout_ms or self._owner.init_timeout_ms

    def _on_ready(self, payload: bytes) -> None:
        try:
            modules = tuple(map(str, orjson.loads(payload)["modules"]))
        except (KeyError, TypeError, ValueError):
            self._kill("exited")
            return
        if self._image is None:
            self._owner.learn(self.spec, modules)
        else:
            modules = self._owner.known_imports(self.spec)
        self._idle()
        duration_ms = (perf_counter() - self._started_s) * 1000
        packages = tuple(sorted(packages_of(modules)))
        if self._init is not None and not self._init.done():
            self._init.set_result(Init(duration_ms, max_memory_mib=self._peak_mib, imported=packages))

    def _init_ended(self, code: int) -> Init:
        """What a failed INIT is answered with. There is no request yet, so AWS's texts have no id."""
        duration_ms = (perf_counter() - self._started_s) * 1000 if self._started_s else 0.0
        ending = self._ending
        if self._init_error is not None:
            (error, error_type), ending = self._init_error, "failed"
        elif ending == "timeout":
            error, error_type = timed_out("", self._init_timeout_ms), TIMED_OUT
        else:
            error, error_type = exited("", code), EXITED
        return Init(duration_ms, error, error_type, ending, self._peak_mib)

    # -- INVOKE ------------------------------------------------------------------------------------------------------

    async def invoke(self, invocation: Invocation) -> Answer:
        assert self._answer is None, "one invocation at a time"
        if self._is_lost or self._socket is None:
            return Answer("exited", exited(invocation.request_id, -signal.SIGKILL), 0.0, self._peak_mib, EXITED)
        self.freeze_ends()
        self._requests += 1
        self._invocation = invocation
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self._started_s = perf_counter()
        self.deadline_s = self._started_s + invocation.timeout_ms / 1000
        self._watch.begin(self)
        self._send(self._request(invocation))
        try:
            return await answer
        except asyncio.CancelledError:
            self._kill("exited")  # nobody waits for the answer: what is under way must not meet the next request
            raise
        finally:
            self._answer = self._invocation = None

    def _request(self, invocation: Invocation) -> list[Buffer]:
        meta: dict[str, Any] = {
            "id": invocation.request_id,
            "deadline": invocation.deadline_ms,
            "arn": invocation.arn,
            "trace": invocation.trace_id,
        }
        if invocation.client_context is not None:
            meta["client"] = invocation.client_context
        if invocation.cognito_identity is not None:
            meta["cognito"] = invocation.cognito_identity
        kind = frames.EVENT
        payload = invocation.payload or ()
        if invocation.batch is not None:
            kind = frames.BATCH
            columns, payload = frames.columns_of(invocation.batch)
            meta |= columns
        text = orjson.dumps(meta)
        header = frames.request_header(
            kind,
            number=self._requests,
            is_streamed=invocation.on_chunk is not None,
            meta_bytes=len(text),
            payload_bytes=sum(map(len, payload)),
        )
        return [header + text, *payload]

    def _send(self, pieces: list[Buffer]) -> None:
        assert self._socket is not None
        assert not self._outgoing
        try:
            sent = self._socket.sendmsg(pieces[:_BUFFERS_PER_WRITE_MAX])
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the process is gone: we shall hear of it
        for piece in pieces:
            size = len(piece)
            if sent < size:
                self._outgoing.append(memoryview(piece)[sent:])
                sent = 0
            else:
                sent -= size
        if self._outgoing:
            self._loop.add_writer(self._fd, self._write)

    def _write(self) -> None:
        """What did not fit into the socket at once."""
        assert self._socket is not None
        outgoing = self._outgoing
        try:
            sent = self._socket.sendmsg([outgoing[at] for at in range(min(len(outgoing), _BUFFERS_PER_WRITE_MAX))])
        except BlockingIOError:
            return
        except OSError:
            outgoing.clear()
            sent = 0
        while outgoing and sent >= len(outgoing[0]):
            sent -= len(outgoing.popleft())
        if outgoing:
            outgoing[0] = outgoing[0][sent:]
        else:
            self._loop.remove_writer(self._fd)

    # -- answers -----------------------------------------------------------------------------------------------------

    @property
    def _is_asked(self) -> bool:
        """Whether an answer is waited for."""
        waiting = self._answer if self._answer is not None else self._init
        return waiting is not None and not waiting.done()

    def _read(self) -> bool:
        """Whether there was anything to read."""
        assert self._socket is not None
        is_continued = bool(self._frame)
        buffer = memoryview(self._frame)[self._frame_got :] if is_continued else memoryview(self._owner.buffer)
        try:
            got = self._socket.recv_into(buffer)
        except BlockingIOError:
            return False
        except OSError:
            got = 0
        if not got:
            self._kill("exited")  # it is ending, or the handler closed the socket: it takes no more requests
        elif is_continued:
            self._frame_got += got
            self._continue()
        else:
            self._take(buffer[:got])
        return got > 0

    def _take(self, view: memoryview) -> None:
        """Frames that start here; the last one may be cut off."""
        while view and self._socket is not None:
            size = frames.HEADER_BYTES
            if len(view) >= size:
                header = self._header(view)
                if header is None:
                    return
                size = header.frame_bytes
                if len(view) >= size:
                    self._on_frame(header, view[:size])
                    view = view[size:]
                    continue
            self._frame = bytearray(size)
            self._frame[: len(view)] = view
            self._frame_got = len(view)
            return

    def _continue(self) -> None:
        if self._frame_got < len(self._frame):
            return
        frame = memoryview(self._frame)
        header = self._header(frame)
        if header is None:
            return
        if header.frame_bytes > len(frame):  # it was the header that had been cut off
            whole = bytearray(header.frame_bytes)
            whole[: len(frame)] = frame
            self._frame = whole
            return
        self._frame = bytearray()
        self._on_frame(header, frame)

    def _header(self, view: memoryview) -> frames.AnswerHeader | None:
        if self._is_asked:
            try:
                return frames.read_answer_header(view, self._requests)
            except frames.Malformed:
                pass
        self._kill("exited")  # nothing was asked, or something else: the handler writes to the socket
        return None

    def _on_frame(self, header: frames.AnswerHeader, frame: memoryview) -> None:
        start = frames.HEADER_BYTES + header.name_bytes
        payload = bytes(frame[start:])
        self.saw_memory(header.max_resident_kib // KIB)
        if header.kind == frames.ANSWERED:
            self._answered(Answer("answered", payload, self._duration_ms, self._peak_mib))
        elif header.kind == frames.CHUNK:
            self._on_chunk(payload)
        elif header.kind == frames.READY:
            self._on_ready(payload)
        else:
            name = bytes(frame[frames.HEADER_BYTES : start]).decode("ascii", "replace")
            if header.kind == frames.FAILED:
                self._answered(Answer("failed", payload, self._duration_ms, self._peak_mib, name))
            else:
                self._init_error = payload, name
                self._kill("failed")

    @property
    def _duration_ms(self) -> float:
        return (perf_counter() - self._started_s) * 1000

    def _answered(self, answer: Answer) -> None:
        self._idle()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _idle(self) -> None:
        """What was asked is answered."""
        self._watch.end(self)
        self.deadline_s = _NEVER_S
        self._log.drain()

    def _on_chunk(self, piece: bytes) -> None:
        invocation = self._invocation
        if invocation is not None and invocation.on_chunk is not None:
            held = invocation.on_chunk(piece)
            if held is not None and not held.done():
                self._loop.remove_reader(self._fd)
                held.add_done_callback(self._read_on)

    def _read_on(self, _: asyncio.Future[None]) -> None:
        if self._socket is not None and not self._is_lost:
            self._loop.add_reader(self._fd, self._read)

    # -- how it ends -------------------------------------------------------------------------------------------------

    def on_deadline(self) -> None:
        self._kill("timeout")

    def on_memory(self, resident_mib: int) -> None:
        self.saw_memory(resident_mib)
        self._kill("out of memory")

    def on_tmp_full(self) -> None:
        self._kill("exited")

    def saw_memory(self, resident_mib: int) -> None:
        self._peak_mib = max(self._peak_mib, resident_mib)

    def on_born(self, pid: int) -> None:
        self._pid = pid
        if self._is_lost:
            signal_group(pid, signal.SIGKILL)

    def on_zygote_died(self) -> None:
        """The kernel kills the process then, but not what it had started."""
        if self._pid is not None:
            signal_group(self._pid, signal.SIGKILL)
        self.on_died(-signal.SIGKILL, 0)

    def on_died(self, code: int, max_resident_kib: int) -> None:
        """The process and all it started are gone."""
        if self._gone is None or self._gone.done():
            return
        self._take_last_words()
        self._is_lost = True
        self._watch.end(self)
        self.saw_memory(max_resident_kib // KIB)
        if self._image is not None:
            self._image.environments -= 1
        self._log.close()
        self._close_socket()
        if self._tmp is not None:
            self._removal = self._owner.later(self._owner.temporary.remove(self._tmp))
        if self._init is not None and not self._init.done():
            self._init.set_result(self._init_ended(code))
        if self._answer is not None and not self._answer.done():
            assert self._invocation is not None
            self._answer.set_result(self._answer_to(self._invocation, code))
        self._gone.set_result(None)

    def _take_last_words(self) -> None:
        """An answer that was given before the process ended counts."""
        while not self._is_lost and self._is_asked and self._read():
            pass

    def _answer_to(self, invocation: Invocation, code: int) -> Answer:
        duration_ms = self._duration_ms
        if self._ending == "timeout":
            error = timed_out(invocation.request_id, invocation.timeout_ms)
            return Answer("timeout", error, max(duration_ms, invocation.timeout_ms), self._peak_mib, TIMED_OUT)
        ending: Ending = "out of memory" if self._ending == "out of memory" else "exited"
        return Answer(ending, exited(invocation.request_id, code), duration_ms, self._peak_mib, EXITED)

    def _kill(self, ending: Ending) -> None:
        """Ends it, for this reason; `on_died` follows."""
        if self._is_lost:
            return
        self._is_lost = True
        self._ending = ending
        self._watch.end(self)
        self._stop_reading()
        if self._pid is not None:
            signal_group(self._pid, signal.SIGKILL)

    def freeze(self) -> None:
        if self._pid is not None and self._answer is None and not self._is_lost and not self._is_frozen:
            self._is_frozen = True
            signal_group(self._pid, signal.SIGSTOP)

    def freeze_ends(self) -> None:
        if self._is_frozen and self._pid is not None:
            self._is_frozen = False
            signal_group(self._pid, signal.SIGCONT)

    async def stop(self) -> None:
        if self._gone is None:
            self._is_lost = True  # it was never started
            return
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(self._gone))
        await asyncio.shield(self._stopping)

    async def _stop(self, gone: asyncio.Future[None]) -> None:
        if not gone.done():
            if self._answer is not None or self._init is not None or self._is_lost or self._pid is None:
                self._kill("exited")
            else:
                self._is_lost = True
                self._stop_reading()
                self.freeze_ends()
                signal_group(self._pid, signal.SIGTERM)
                await asyncio.wait([gone], timeout=SHUTDOWN_TIMEOUT_MS / 1000)
                if not gone.done():
                    signal_group(self._pid, signal.SIGKILL)
            await gone
        if self._removal is not None:
            await asyncio.wait([self._removal])

    def _stop_reading(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)

    def _close_socket(self) -> None:
        self._stop_reading()
        if self._socket is not None:
            self._socket.close()
            self._fd = -1
        self._outgoing.clear()
