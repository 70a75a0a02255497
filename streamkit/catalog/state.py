"""What is remembered of databases, tables, their versions and partitions: one document each.

`document` has the members of Glue's own input (DatabaseInput, TableInput, PartitionInput) as they were given, names
folded; timestamps in it are epoch milliseconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.model.names import Scope


class DatabaseState(msgspec.Struct, frozen=True):
    account: str
    region: str
    name: str
    document: dict[str, Any]
    created_at_ms: int
    tags: dict[str, str] = {}

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


class TableState(msgspec.Struct, frozen=True):
    """A table as of one version. `id` is this incarnation: 32 hex digits; versions and partitions hang on it."""

    id: str
    account: str
    region: str
    database: str
    name: str
    version: int
    document: dict[str, Any]
    created_at_ms: int
    updated_at_ms: int
    partition_indexes: list[dict[str, Any]] = []

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def partition_keys(self) -> list[dict[str, Any]]:
        return self.document.get("PartitionKeys") or []

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Without those it is partitioned by."""
        return (self.document.get("StorageDescriptor") or {}).get("Columns") or []


class PartitionState(msgspec.Struct, frozen=True):
    values: list[str]
    document: dict[str, Any]
    created_at_ms: int
