"""What runs applications inside a server: the port between it and who asks it (the pipeline file, the CLI, AWS's API).

An application is a script of Flink's SQL under a name, with state of its own. It is kept until it is deleted; one that
was running when the server stopped, or was killed, runs again when the server is there again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

State: TypeAlias = Literal["ready", "starting", "running", "stopping", "failed"]
"""`ready` is one that does not run; `failed` one that stopped by itself, and says why."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of an application now."""

    name: str
    script: str
    state: State
    reason: str | None
    """Of `failed`: the error, as its user shall read it."""
    started_ms: int | None
    checkpoint_ms: int | None
    """When state was last committed."""
    rows_taken: int
    """Since it was started."""
    bad_rows: int
    late_rows: int
    results: Mapping[str, int] = field(default_factory=dict)
    """Rows written by table."""


class Hosting(Protocol):
    """Applications by name. All raise ResourceNotFound for a name that is not there, SqlError for a script that cannot
    be planned (then nothing has changed), UsageError for what the application's state does not allow."""

    async def put(self, name: str, script: str, *, scope_text: str = "") -> None:
        """Creates an application that does not run, or changes the script of one. The script is planned first. Of one
        that runs the change holds from its next start on. `scope_text` is "ACCOUNT/REGION"; empty: the server's own."""
        ...

    async def start(
        self, name: str, *, restore: Literal["latest", "none"] | str = "latest", start: str | int | None = None
    ) -> None:
        """Goes on with the state it had (`latest`; nothing to go on with: begins), with that of a snapshot (its name),
        or begins anew (`none`), then at `start` where a table does not say (TRIM_HORIZON, LATEST, or epoch ms).
        Returns when it runs. UsageError if the script's plan cannot go on with the state."""
        ...

    async def stop(self, name: str) -> None:
        """Returns when everything is committed and written. One that does not run is left alone."""
        ...

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keeps a copy of the last committed state. UsageError if there is one of this name, or no state."""
        ...

    def snapshots(self, name: str) -> Mapping[str, int]:
        """When each was made, in epoch ms, the oldest first."""
        ...

    async def delete_snapshot(self, name: str, snapshot: str) -> None: ...

    async def delete(self, name: str) -> None:
        """Stops it, and removes it with state and snapshots."""
        ...

    def status(self, name: str) -> Status: ...

    def all(self) -> list[Status]:
        """By name."""
        ...

    async def explain(self, script: str) -> str: ...
