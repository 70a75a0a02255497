"""Implementations of a port, found through entry points: ours and a third party's come in by the same door."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from streamkit.model.errors import UsageError


def load(group: str, name: str) -> Any:
    """The object behind a name; UsageError with the names there are, or with why it cannot be imported."""
    found = entry_points(group=group)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise UsageError(f"no {group} is called {name!r}; installed are: {known}")
    entry: EntryPoint = found[name]
    try:
        return entry.load()
    except ImportError as error:
        raise UsageError(f"{name!r} of {group} cannot be loaded from {entry.value}: {error}") from error
