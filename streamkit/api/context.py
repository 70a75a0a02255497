"""What an action may want to know of the request it answers, beside its values: set for the task that runs it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

TRACE_HEADER: Final[ContextVar[str | None]] = ContextVar("TRACE_HEADER", default=None)
"""X-Amzn-Trace-Id, as it came."""
