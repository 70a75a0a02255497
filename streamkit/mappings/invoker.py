"""The port: what runs functions for mappings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamkit.model.batch import RecordBatch

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Invoked:
    """A function that ran. `function_error` as Lambda names it, None where the handler returned."""

    payload: bytes
    version: str
    request_id: str
    status: int = 200
    function_error: str | None = None


class Invoker(Protocol):
    """Targets are full function ARNs, with or without a qualifier."""

    def role_of(self, target: str) -> str:
        """The function's role, for the events; empty where the function is gone."""
        ...

    def takes_batches(self, target: str) -> bool:
        """Whether it gets record batches as they are, instead of JSON events."""
        ...

    async def run(self, target: str, payload: Sequence[Buffer] | None, batch: RecordBatch | None = None) -> Invoked:
        """Runs it once, with an event in pieces or with a batch. Raises TooManyRequests where no concurrency is left,
        RequestTooLarge, ResourceNotFound where it is gone, another StreamkitError where it could not be run."""
        ...
