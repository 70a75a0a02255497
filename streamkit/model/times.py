"""Instants as AWS's documents have them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_ms(epoch_ms: int) -> str:
    """2026-01-31T09:00:00.123Z"""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"


def iso_s(epoch_ms: int) -> str:
    """2026-01-31T09:00:00Z"""
    return f"{datetime.fromtimestamp(epoch_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


def object_time(epoch_ms: int) -> str:
    """2026/01/31/2026-01-31T09.00.00, as the names of objects have it: a folder for each day."""
    return f"{datetime.fromtimestamp(epoch_ms // 1000, UTC):%Y/%m/%d/%Y-%m-%dT%H.%M.%S}"
