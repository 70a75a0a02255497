"""`streamkit serve` in a process of its own, for tests: started, killed and started again on the same directory.

    with ServerProcess(tmp_path / "data", enforce_limits=True) as server:
        client = boto3.client("kinesis", endpoint_url=server.endpoint, ...)

Each option is a flag of `streamkit serve`: `transition_delay_ms=500` is `--transition-delay-ms 500`, `True` a flag
without a value. The process ends when this one does, however that ends.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.005
_READY: Final = re.compile(rb"^streamkit serves .* at (https?://\S+)$", re.MULTILINE)

Option = str | int | Path | bool | None


class ServerFailed(Exception):
    """The server did not start, or did not stop; the text has what it printed."""


class ServerProcess:
    """A server with its own port and data directory. What it prints goes to a file beside the directory."""

    def __init__(self, data: Path, **options: Option) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self._options: dict[str, Option] = {"port": 0, **options}
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: str | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def endpoint(self) -> str:
        """The URL; the same after a restart."""
        assert self._endpoint is not None, "the server was not started"
        return self._endpoint

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, **options: Option) -> None:
        """Returns when the server answers. Options given here replace earlier ones."""
        assert not self.is_running, "the server runs already"
        self._release()
        self._options |= options
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            from_byte = log.tell()
            self._process = subprocess.Popen(
                # The server's standard input is a pipe that this process holds and never writes to; see `_main`.
                [sys.executable, "-m", "streamkit.testing.server", *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        _running.add(self)
        self._endpoint = self._wait_for_endpoint(from_byte)
        self._options["port"] = self.port  # clients go on with the URL they know

    def kill(self) -> None:
        """Ends the process as `kill -9` does, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._release()

    def stop(self) -> None:
        """Ends the process as Ctrl-C does: it answers what is under way. Raises ServerFailed if it fails to."""
        assert self._process is not None, "the server does not run"
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"the server did not stop within {STOP_TIMEOUT_S:.0f} s:\n{self._printed()}") from None
        self._release()
        if status:
            raise ServerFailed(f"the server ended with status {status}:\n{self._printed()}")

    def restart(self, **options: Option) -> None:
        """Ends the process if it still runs, and starts another on the same directory and port."""
        if self.is_running:
            self.stop()
        self.start(**options)

    def reset(self) -> None:
        """Deletes all streams, of a server that runs with `allow_reset=True`."""
        request = urllib.request.Request(f"{self.endpoint}/_streamkit/reset", method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=STOP_TIMEOUT_S):
            pass

    def _arguments(self) -> list[str]:
        arguments = ["serve", "--data", str(self.data)]
        for name, value in self._options.items():
            if value is not None and value is not False:
                flag = "--" + name.replace("_", "-")
                arguments += [flag] if value is True else [flag, str(value)]
        return arguments

    def _wait_for_endpoint(self, from_byte: int) -> str:
        assert self._process is not None
        ends_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends_at:
            has_ended = self._process.poll() is not None
            ready = _READY.search(self.log.read_bytes(), from_byte)
            if ready is not None:
                return ready[1].decode()
            if has_ended:
                break
            time.sleep(_POLL_S)
        self.kill()
        raise ServerFailed(f"the server did not start:\n{self._printed()}")

    def _printed(self) -> str:
        return self.log.read_text(errors="replace")[-4_000:]

    def _release(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        _running.discard(self)


_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for server in tuple(_running):
        server.kill()


def _main() -> int:
    """`streamkit` that kills itself when its standard input ends: whoever started it is gone, even by `kill -9`."""
    from streamkit.cli.main import main

    def end_with_parent() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
