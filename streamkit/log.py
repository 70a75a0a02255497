"""Logging: the keys of structured fields, and the two ways they are printed.

One line per request or batch, never per record. A refused request is the user's business (info); our own fault is an
error. Use `logging.getLogger(__name__)` and pass fields as `extra={STREAM: name}`.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import orjson

STREAM: Final = "stream"
SHARD: Final = "shard"
SEQUENCE_NUMBER: Final = "sequence_number"
REQUEST_ID: Final = "request_id"
OPERATION: Final = "operation"
CONSUMER: Final = "consumer"
RECORDS: Final = "records"
BYTES: Final = "bytes"
DURATION_MS: Final = "duration_ms"
ERROR_CODE: Final = "error_code"
PATH: Final = "path"
POSITION: Final = "position"
MAPPING: Final = "mapping"
FUNCTION: Final = "function"
VERSION: Final = "version"
DELIVERY_STREAM: Final = "delivery_stream"
DESTINATION: Final = "destination"
ATTEMPT: Final = "attempt"

_KEYS: Final = (
    STREAM, SHARD, SEQUENCE_NUMBER, REQUEST_ID, OPERATION, CONSUMER, RECORDS, BYTES, DURATION_MS, ERROR_CODE, PATH,
    POSITION, MAPPING, FUNCTION, VERSION, DELIVERY_STREAM, DESTINATION, ATTEMPT,
)  # fmt: skip


class _Pretty(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={getattr(record, key)}" for key in _KEYS if hasattr(record, key))
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<7} {record.getMessage()} {fields}"
        return f"{line.rstrip()}\n{self.formatException(record.exc_info)}" if record.exc_info else line.rstrip()


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((key, getattr(record, key)) for key in _KEYS if hasattr(record, key))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str = "info") -> None:
    """Sends log lines to standard error: for people on a terminal, as JSON otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Pretty() if sys.stderr.isatty() else _Json())
    root = logging.getLogger("streamkit")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
