"""The port: where the outcome of an invocation goes, and what could not be processed (AWS: destinations, dead letters).

Implementations are found by the service in the ARN: `kinesis`, `s3`, `lambda` come with the core; others through the
entry-point group `streamkit.record_destinations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from streamkit import plugins
from streamkit.model.errors import InvalidParameterValue, UsageError

GROUP = "streamkit.record_destinations"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document to hand over. The same `id` again means the same document again."""

    id: str
    body: bytes  # JSON
    key: str  # partition key, where the destination has such
    object_name: str | None = None  # where it keeps objects
    attributes: Mapping[str, str] = field(default_factory=dict)  # where messages have attributes


class RecordDestination(Protocol):
    """Raises StreamkitError where it cannot take the document; then it is offered again later."""

    async def position(self) -> str | None:
        """Where a look for documents that are yet to come has to begin; stored before `deliver`. None where the
        destination knows a document by its id or name."""
        ...

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        """Returns when the destination has it durably. With `may_be_there` an earlier try may have got through: then
        it looks first, from `since` on, and does nothing if the document is found."""
        ...


Resolve = Callable[[str], RecordDestination]
"""An ARN to its destination; raises InvalidParameterValue where there is no such thing."""


class RecordDestinations:
    """Destinations by ARN."""

    def __init__(self, resolvers: Mapping[str, Resolve]) -> None:
        self._resolvers = dict(resolvers)

    def add(self, service: str, resolve: Resolve) -> None:
        self._resolvers[service] = resolve

    def find(self, arn: str) -> RecordDestination:
        """Raises InvalidParameterValue."""
        parts = arn.split(":", 5)
        if len(parts) < 6 or parts[0] != "arn":
            raise InvalidParameterValue(f"The destination ARN {arn} is invalid.")
        service = parts[2]
        resolve = self._resolvers.get(service)
        if resolve is None:
            try:
                resolve = self._resolvers[service] = plugins.load(GROUP, service)
            except UsageError:
                known = ", ".join(sorted(self._resolvers))
                raise InvalidParameterValue(
                    f"The destination ARN {arn} is of a service streamkit does not deliver to: {service}. "
                    f"It delivers to: {known}."
                ) from None
        return resolve(arn)
