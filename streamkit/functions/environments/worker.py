"""The process that runs a function's code: what a fork of the zygote turns into.

It cuts itself off from whatever the zygote had, takes the function's limits, variables and directory, imports the
handler (INIT), and then answers one request after the other (`frames`), until the socket closes or SIGTERM comes.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from types import FrameType, GeneratorType
from typing import Any, Final, NoReturn, TypedDict

import orjson

from streamkit.functions.environments import frames
from streamkit.functions.environments.runtime import (
    Fault,
    Handler,
    LambdaContext,
    Logging,
    ResponseTooLarge,
    error_json,
    error_of,
    fixed_context,
    hide_frames_of,
    load_event,
    load_handler,
    load_source,
    make_marshal,
)
from streamkit.model.batch import RecordBatch
from streamkit.model.limits import (
    ENVIRONMENT_FILES_MAX,
    IMAGE_MODULES_MAX,
    KIB,
    MEMORY_HEADROOM_MIB,
    MIB,
    RESPONSE_BYTES_MAX,
    RESPONSE_STREAM_BYTES_MAX,
)

_SOCKET_FD: Final = 3
_READ_BYTES: Final = 64 * KIB
_KEPT_BUFFER_BYTES_MAX: Final = 1 * MIB
_JOINED_BYTES_MAX: Final = 16 * KIB  # up to here, joining costs less than a second buffer in the call
_CHUNK_BYTES_MAX: Final = 256 * KIB

_SET_PDEATHSIG: Final = 1  # prctl
_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None, use_errno=True)

# Functions of the library may import these: they get the same modules then, so that there is one `RecordBatch`.
_SHARED_MODULES: Final = {
    f"streamkit.model.{name}": sys.modules[f"streamkit.model.{name}"]
    for name in ("batch", "limits", "names", "sequence")
}


class Order(TypedDict):
    """What the server tells about a worker to be made, as JSON; a socket and a pipe come with it."""

    fork: int  # the environment's number
    variables: dict[str, str]
    directory: str
    path: list[str]  # sys.path
    handler: str
    source: str | None
    runtime: str
    memory_mib: int
    tmp_mib: int
    roots: list[str]  # what is imported from there can be preloaded for others


def run(order: Order, socket_fd: int, log_fd: int, zygote_pid: int) -> NoReturn:
    """Never returns to the zygote's code, whatever happens."""
    try:
        _leave_zygote(zygote_pid)
        _take_descriptors(socket_fd, log_fd)
        _take_limits(order)
        _take_surroundings(order)
        worker = _Worker(order, socket.socket(fileno=_SOCKET_FD))
        worker.init()
        worker.serve()
        _exit(0)
    except SystemExit as end:
        _exit(end.code)
    except BaseException:
        traceback.print_exc()
        _exit(1)
    finally:
        os._exit(70)


def hide_own_modules() -> None:
    """Code that is imported from now on neither finds nor gets what a worker is made of."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("orjson", "streamkit"):
            del sys.modules[name]


def share_modules() -> None:
    for name, module in _SHARED_MODULES.items():
        sys.modules.setdefault(name, module)


def close_all_but(*kept: int) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass  # the listing's own


def adopt_orphans() -> None:
    """From now on, descendants whose parents die become this process's children."""
    _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent_pid: int) -> None:
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(70)  # it died before that


def _leave_zygote(zygote_pid: int) -> None:
    os.setsid()
    die_with_parent(zygote_pid)
    adopt_orphans()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _on_sigterm)
    gc.enable()


def _take_descriptors(socket_fd: int, log_fd: int) -> None:
    for number in (1, 2):
        os.dup2(log_fd, number)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    if socket_fd != _SOCKET_FD:
        os.dup2(socket_fd, _SOCKET_FD, inheritable=False)
    close_all_but(0, 1, 2, _SOCKET_FD)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - they stay open
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _take_limits(order: Order) -> None:
    """RLIMIT_AS is not among them: numeric libraries reserve address space far beyond what they use, and crash."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: (order["memory_mib"] + MEMORY_HEADROOM_MIB) * MIB,
        resource.RLIMIT_FSIZE: order["tmp_mib"] * MIB,
        resource.RLIMIT_NOFILE: ENVIRONMENT_FILES_MAX,
    }
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def _take_surroundings(order: Order) -> None:
    os.environ.clear()
    os.environ.update(order["variables"])
    time.tzset()
    os.chdir(order["directory"])
    sys.path[:] = order["path"]
    sys.argv = ["bootstrap.py"]
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    if order["source"]:
        share_modules()


class _Worker:
    def __init__(self, order: Order, connection: socket.socket) -> None:
        self._order = order
        self._socket = connection
        self._buffer = bytearray(_READ_BYTES)
        self._number = 0
        self._logging = Logging(order["variables"])
        self._marshal = make_marshal(order["runtime"])
        self._fixed = fixed_context(order["variables"])
        self._handler: Handler

    def init(self) -> None:
        """Imports the handler and reports. Exits where that fails."""
        last = next(reversed(sys.modules))
        order = self._order
        try:
            source = order["source"]
            self._handler = load_source(source) if source else load_handler(order["handler"])
        except Exception as error:
            described = error_of(error)
            self._logging.log_error(described)
            self._send(frames.INIT_FAILED, error_json(described), described["errorType"])
            raise SystemExit(1) from None
        modules = imported_after(last, order["roots"])
        self._send(frames.READY, json.dumps({"modules": modules}).encode())

    def serve(self) -> None:
        """Returns when the server has closed its end."""
        pid = os.getpid()
        while True:
            request = self._receive()
            if request is None:
                return
            kind, is_streamed, number, meta, payload = request
            request = None
            self._number = number
            self._logging.request_id = meta["id"]
            os.environ["_X_AMZN_TRACE_ID"] = meta["trace"]
            try:
                context = LambdaContext(self._fixed, meta)
                event = load_event(payload) if kind == frames.EVENT else _batch(meta, payload)
                payload = memoryview(b"")
                result = self._handler(event, context)
                event = None
                if os.getpid() != pid:
                    os._exit(0)  # a child the handler forked came back from it: the parent answers
                if isinstance(result, GeneratorType):
                    body = self._stream(result) if is_streamed else self._join(result)
                else:
                    body = self._marshal(result)
            except Exception as error:
                event = result = None
                described = error_of(error, meta["id"])
                if isinstance(error, ResponseTooLarge):
                    described = error_of(error)
                self._logging.log_error(described)
                self._send(frames.FAILED, error_json(described), described["errorType"])
            else:
                result = None
                self._send(frames.ANSWERED, body)

    def _receive(self) -> tuple[int, int, int, dict[str, Any], memoryview] | None:
        """The next request; a small one costs one system call."""
        buffer = self._buffer
        connection = self._socket
        got = connection.recv_into(buffer)
        while 0 < got < frames.HEADER_BYTES:
            more = connection.recv_into(memoryview(buffer)[got:])
            got = got + more if more else 0
        if not got:
            return None
        kind, is_streamed, number, meta_bytes, payload_bytes = frames.REQUEST.unpack_from(buffer)
        start = frames.HEADER_BYTES + meta_bytes
        size = start + payload_bytes
        if size > len(buffer) or kind == frames.BATCH:
            # A batch looks at this memory for as long as the handler keeps it, so the buffer is not used again.
            whole = bytearray(size)
            whole[:got] = memoryview(buffer)[:got]
            if kind != frames.BATCH and size <= _KEPT_BUFFER_BYTES_MAX:
                self._buffer = whole
            buffer = whole
        view = memoryview(buffer)
        while got < size:
            more = connection.recv_into(view[got:size])
            if not more:
                return None
            got += more
        meta = orjson.loads(view[frames.HEADER_BYTES : start])
        return kind, is_streamed, number, meta, view[start:size]

    def _send(self, kind: int, payload: bytes, error_name: str = "") -> None:
        _flush()
        header = frames.answer_header(
            kind,
            number=self._number,
            max_resident_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            error_name=error_name.encode("ascii", "replace"),
            payload_bytes=len(payload),
        )
        try:
            if len(payload) <= _JOINED_BYTES_MAX:
                self._socket.sendall(header + payload)
            else:
                self._socket.sendall(header)
                self._socket.sendall(payload)
        except OSError:
            raise SystemExit(0) from None  # the server is gone, or the handler closed the socket

    def _stream(self, pieces: Iterable[object]) -> bytes:
        sent = 0
        for piece in pieces:
            body = self._piece(piece)
            sent += len(body)
            if sent > RESPONSE_STREAM_BYTES_MAX:
                raise ResponseTooLarge
            for start in range(0, len(body), _CHUNK_BYTES_MAX):
                self._send(frames.CHUNK, body[start : start + _CHUNK_BYTES_MAX])
        return b""

    def _join(self, pieces: Iterable[object]) -> bytes:
        body = bytearray()
        for piece in pieces:
            body += self._piece(piece)
            if len(body) > RESPONSE_BYTES_MAX:
                raise ResponseTooLarge
        return bytes(body)

    def _piece(self, piece: object) -> bytes:
        """What a generator yields: bytes and text as they are, anything else as JSON."""
        return piece.encode() if isinstance(piece, str) else self._marshal(piece)


def imported_after(last: str, roots: Iterable[str]) -> list[str]:
    """Modules that were imported after that one and lie in one of the directories, in the order they were imported in.

    Looked for from the end: to touch each module that was there before would cost each environment a copy of its page.
    """
    prefixes = tuple(f"{root}/" for root in roots)
    found: list[str] = []
    for name, module in reversed(sys.modules.items()):
        if name == last:
            break
        if name.isascii() and name.replace(".", "").replace("_", "").isalnum():
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.startswith(prefixes):
                found.append(name)
    return found[::-1][:IMAGE_MODULES_MAX]


def _batch(meta: dict[str, Any], payload: memoryview) -> RecordBatch:
    try:
        return frames.batch_of(RecordBatch, meta, payload)
    except (KeyError, TypeError, ValueError) as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _flush() -> None:
    """Output that the code wrote is in the pipe before an answer is on the socket."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # the code closed or replaced it


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    """The default, but functions registered with `atexit` run."""
    raise _Terminated


class _Terminated(SystemExit):
    pass


def _exit(code: object) -> NoReturn:
    """Ends as the interpreter would, without the time it takes to take everything apart."""
    was_terminated = isinstance(sys.exc_info()[1], _Terminated)
    if code is None:
        status = 0
    elif isinstance(code, int):
        status = code & 0xFF
    else:
        sys.stderr.write(f"{code}\n")
        status = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads that are not daemons
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    _flush()
    if was_terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(status)


hide_frames_of(__file__)
