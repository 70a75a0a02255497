"""The process that workers are forked from: it has imported what they all need, and has one thread.

The server starts it, hands it orders over a socket (JSON and descriptors, a packet each), and hears of the end of each
worker. An image is a further zygote, forked from this one, that has imported more.

    order {"fork": number, ...}                 with a socket and the log pipe; see `worker.Order`
    order {"image": [modules], ...}             with the socket that the image takes its orders from; `image.ImageOrder`
    report {"born": number, "pid": pid}
    report {"died": number, "code": exit code or -signal, "max_resident_kib": n}
    report {"prepared": [modules]}              from an image: what it has imported
    report {"refused": reason}                  from an image, its last one

Nothing that a worker started outlives it. Its process group is killed with it. What left the group fell to the worker
as its parent died, because workers adopt orphans, and falls to the zygote when the worker is gone: whoever is the
zygote's child then and no worker is killed. Only when all are gone is the worker reported dead. When the server
closes the socket, or dies, all workers are killed, and the zygote ends.
"""

from __future__ import annotations

import base64  # noqa: F401 - loaded here once, for all workers; so are the others that are not used
import datetime  # noqa: F401
import decimal  # noqa: F401
import gc
import importlib
import json
import os
import select
import shutil
import signal
import site
import socket
import sys
import urllib.parse  # noqa: F401
from time import perf_counter
from typing import Any, Final, NoReturn, cast

from streamkit.functions.environments import worker
from streamkit.model.limits import FORK_REQUEST_BYTES_MAX

_SWEEP_INTERVAL_MS: Final = 2
_SWEEP_S_MAX: Final = 2.0  # a process in uninterruptible sleep may take longer to die; its worker is reported dead then
_DESCRIPTORS_MAX: Final = 2


class Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pid = os.getpid()
        self._children_path = f"/proc/{self._pid}/task/{self._pid}/children"
        self._workers: dict[int, int] = {}  # by process id; 0 for images
        self._dead: list[dict[str, int]] = []  # reports kept back until orphans are gone
        self._dead_since_s = 0.0
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def serve(self) -> None:
        """Returns when the server has closed the socket, and every worker is gone."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll(_SWEEP_INTERVAL_MS if self._dead else None):
                if fd == self._wake.fileno():
                    self._drain_wake()
                elif not self._take_order():
                    self._kill_all()
                    return
            self._reap()

    def report(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            pass  # the server is gone: the next read says so

    # -- orders ------------------------------------------------------------------------------------------------------

    def _take_order(self) -> bool:
        try:
            text, fds, _, _ = socket.recv_fds(self._control, FORK_REQUEST_BYTES_MAX, _DESCRIPTORS_MAX)
        except ConnectionError:
            return False
        if not text:
            return False
        order = json.loads(text)
        if "fork" in order:
            self._fork_worker(cast(worker.Order, order), *fds)
        else:
            self._fork_image(order, *fds)
        for fd in fds:
            os.close(fd)
        return True

    def _fork_worker(self, order: worker.Order, socket_fd: int, log_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # no process, no memory: the environment is lost as if it had been killed
            self.report({"died": order["fork"], "code": -signal.SIGKILL, "max_resident_kib": 0})
            return
        if not pid:
            worker.run(order, socket_fd, log_fd, self._pid)
        self._workers[pid] = order["fork"]
        self.report({"born": order["fork"], "pid": pid})

    def _fork_image(self, order: dict[str, Any], control_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError:
            return  # its socket closes: the server sees that
        if not pid:
            _serve_image(order, control_fd, self._pid)
        self._workers[pid] = 0

    # -- ends --------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Takes leave of the dead, and kills what they left behind."""
        while (pid := self._next_dead()) is not None:
            number = self._workers.pop(pid, None)
            if number is not None:
                # Before it is reaped, so that its id cannot be somebody else's.
                _kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            if number:
                if not self._dead:
                    self._dead_since_s = perf_counter()
                code = os.waitstatus_to_exitcode(status)
                self._dead.append({"died": number, "code": code, "max_resident_kib": usage.ru_maxrss})
        orphans = self._kill_orphans()
        if self._dead and (not orphans or perf_counter() - self._dead_since_s > _SWEEP_S_MAX):
            for report in self._dead:
                self.report(report)
            self._dead.clear()

    def _next_dead(self) -> int | None:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return found.si_pid if found is not None else None

    def _kill_orphans(self) -> bool:
        """Whether there were any. The list may lack one while others end: those are found the next time."""
        orphans = [pid for pid in self._children() if pid not in self._workers]
        for pid in orphans:
            try:
                _kill_group(os.getpgid(pid))
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return bool(orphans)

    def _children(self) -> list[int]:
        try:
            with open(self._children_path, "rb", buffering=0) as file:
                return list(map(int, file.read().split()))
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent_of(pid) == self._pid]

    def _kill_all(self) -> None:
        until_s = perf_counter() + _SWEEP_S_MAX
        while perf_counter() < until_s:
            for pid in self._workers:
                _kill_group(pid)
            self._reap()
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            select.select([self._wake], [], [], _SWEEP_INTERVAL_MS / 1000)
            self._drain_wake()

    def _drain_wake(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _serve_image(order: dict[str, Any], control_fd: int, zygote_pid: int) -> NoReturn:
    """A fork of the zygote imports more, and then does what a zygote does."""
    try:
        os.setsid()
        worker.die_with_parent(zygote_pid)
        worker.adopt_orphans()
        signal.set_wakeup_fd(-1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        worker.close_all_but(0, 1, 2, control_fd)
        image = Zygote(socket.socket(fileno=control_fd))
        try:
            image.report({"prepared": _preload(order)})
        except Exception as error:
            image.report({"refused": f"{type(error).__name__}: {error}"})
            os._exit(1)
        image.serve()
    finally:
        os._exit(0)


def _preload(order: dict[str, Any]) -> list[str]:
    """Imports modules as a worker would; returns those loaded. Raises where one cannot be, or started a thread."""
    sys.path[:] = order["path"]
    if order["shares"]:
        worker.share_modules()
    last = next(reversed(sys.modules))
    gc.enable()
    for name in order["image"]:
        importlib.import_module(name)
    gc.disable()
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the import started a thread")
    gc.collect()
    gc.freeze()
    return worker.imported_after(last, order["roots"])


def main(control_fd: int, temporary_root: str) -> None:
    """`temporary_root` is removed at the end: the server that made it may have been killed."""
    worker.adopt_orphans()
    worker.hide_own_modules()
    site.setquit()  # `exit` and `quit` are there on AWS, too
    zygote = Zygote(socket.socket(fileno=control_fd))
    gc.disable()
    gc.collect()
    gc.freeze()
    zygote.serve()
    shutil.rmtree(temporary_root, ignore_errors=True)
