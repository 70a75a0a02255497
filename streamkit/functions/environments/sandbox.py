"""What keeps an environment's processes from the rest of the machine, where it is asked for and the machine can do it.

Two things, each by itself: `bubblewrap` starts a program in namespaces of its own, with everything read-only but a
`/tmp` that nobody else sees; a control group (version 2) bounds the memory of all its processes together, in the
kernel. Both wrap the command that is run. What was asked for and cannot be had is an error when the server starts, not
an environment without it.

The network stays: handlers call this server, and awslambdaric has nothing but TCP.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB, SANDBOX_CHECK_TIMEOUT_S

Isolation = Literal["none", "bubblewrap"]

_JOINS_CGROUP: Final = 'echo $$ >"$0" && exec "$@"'
_SIGNALLED: Final = 128  # what a shell, and bubblewrap, add to the number of the signal that ended a program


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How programs are wrapped. `hidden` are directories that a wrapped program sees empty (bubblewrap only), such as
    the server's data; what it is given to read may lie inside them."""

    isolation: Isolation = "none"
    hidden: tuple[Path, ...] = ()
    program: str = "bwrap"

    def check(self) -> None:
        """Raises UsageError where this machine cannot do what is asked. Runs a program; takes some milliseconds."""
        if self.isolation == "none":
            return
        program = shutil.which(self.program)
        if program is None:
            raise UsageError(
                f'isolation "bubblewrap" needs the program {self.program}, which is not on the PATH; '
                'install bubblewrap (apt-get install bubblewrap), or set isolation to "none"'
            )
        tried = [program, *self._namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
        done = subprocess.run(tried, capture_output=True, check=False, timeout=SANDBOX_CHECK_TIMEOUT_S)
        if done.returncode != 0:
            raise UsageError(
                f'isolation "bubblewrap" does not work here: {done.stderr.decode(errors="replace").strip()}; '
                'allow user namespaces (sysctl kernel.unprivileged_userns_clone=1), or set isolation to "none"'
            )

    def wrap(self, argv: Sequence[str], *, cwd: Path, readable: Sequence[Path], tmp_mib: int) -> list[str]:
        """The command to run instead of `argv`. Inside, `readable` lie where they lie outside, read-only."""
        if self.isolation == "none":
            return list(argv)
        program = shutil.which(self.program) or self.program  # on the server's PATH, whatever the function's is
        wrapped = [program, *self._namespaces(), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        for hidden in self.hidden:
            wrapped += ["--tmpfs", str(hidden)]
        wrapped += ["--size", str(tmp_mib * MIB), "--tmpfs", "/tmp"]
        for path in readable:  # after the directories that may hide them
            wrapped += ["--ro-bind", str(path), str(path)]
        return [*wrapped, "--chdir", str(cwd), "--", *argv]

    @property
    def has_own_tmp(self) -> bool:
        """Whether `/tmp` is the program's alone, and gone with it."""
        return self.isolation != "none"

    def wait_status(self, status: int) -> int:
        """What `os.wait` would have told of the wrapped program itself.

        Bubblewrap ends with 128 and the signal's number where a signal ended the program; one that exits with such a
        status by itself is taken for killed.
        """
        if self.isolation == "none" or status & 0x7F:
            return status
        code = status >> 8
        return code - _SIGNALLED if code > _SIGNALLED else status

    @staticmethod
    def _namespaces() -> list[str]:
        # No session of its own (--new-session): there is no terminal to protect, and as one process group everything
        # can be stopped and killed at once.
        return ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL"]


class CgroupParent:
    """A control group (version 2) that was handed over to this server, to make groups of environments in."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError where memory cannot be bounded in it."""
        self._path = path
        try:
            controllers = (path / "cgroup.subtree_control").read_text().split()
        except OSError as error:
            raise UsageError(
                f"{path} is not a control group of version 2 ({error.strerror}); mount cgroup2, "
                "name a directory of it, or leave the setting out"
            ) from None
        if "memory" not in controllers:
            raise UsageError(
                f"the control group {path} does not hand the memory controller down: cgroup.subtree_control has "
                f'"{" ".join(controllers)}"; write "+memory" to it (systemd: Delegate=memory), or leave the setting out'
            )

    def make(self, name: str, memory_mib: int) -> Cgroup:
        """A group whose processes have so much memory together. Raises UsageError where it cannot be made."""
        path = self._path / name
        try:
            path.mkdir()
            (path / "memory.max").write_text(str(memory_mib * MIB))
            (path / "memory.oom.group").write_text("1")  # all of an environment, not one process of it
            if (path / "memory.swap.max").exists():
                (path / "memory.swap.max").write_text("0")
        except OSError as error:
            raise UsageError(f"the control group {path} cannot be made: {error.strerror}") from None
        return Cgroup(path)


class Cgroup:
    """One environment's control group."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The command that joins the group and then becomes `argv`: nothing it starts can be outside."""
        return ["/bin/sh", "-c", _JOINS_CGROUP, str(self.path / "cgroup.procs"), *argv]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed it for its memory."""
        counts = dict(line.split() for line in self._read("memory.events").splitlines())
        return int(counts.get("oom_kill", 0)) > 0

    def memory_mib_max(self) -> int | None:
        """The most it has used. None where the kernel does not count it (before 5.19)."""
        peak = self._read("memory.peak")
        return -(-int(peak) // MIB) if peak else None

    def kill(self) -> None:
        """Kills all its processes, also those that left the process group."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except OSError:  # before Linux 5.14, or gone
            pass

    def remove(self) -> None:
        """Its processes have ended."""
        try:
            self.path.rmdir()
        except OSError:
            pass

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except OSError:
            return ""
