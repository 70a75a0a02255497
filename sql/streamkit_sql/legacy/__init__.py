"""Kinesis Data Analytics' first SQL (SQL-1_0): its scripts as scripts of Flink's SQL."""

from __future__ import annotations

from streamkit_sql.legacy.inputs import ERROR_STREAM, Input, InputColumn, Output, ReferenceTable, configured
from streamkit_sql.legacy.translate import statements_of, translate, translate_file

__all__ = [
    "ERROR_STREAM",
    "Input",
    "InputColumn",
    "Output",
    "ReferenceTable",
    "configured",
    "statements_of",
    "translate",
    "translate_file",
]
