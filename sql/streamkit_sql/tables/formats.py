"""Which decoder a table's format has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.options import is_true
from streamkit_sql.tables.source import Decoder, Wanted

if TYPE_CHECKING:
    import duckdb


def decoder_of(table: TableDefinition, wanted: Sequence[Wanted], database: duckdb.DuckDBPyConnection) -> Decoder:
    """Of a table whose rows come as payloads: json, csv, raw. NotSupported for types its format does not have."""
    options = table.format_options
    if table.format == "json":
        from streamkit_sql.tables.json_exact import JsonReading
        from streamkit_sql.tables.json_format import JsonDecoder

        reading = JsonReading(
            standard=options.get("timestamp-format.standard", "SQL"),
            ignore_errors=is_true(options.get("ignore-parse-errors", "false")),
            fail_on_missing=is_true(options.get("fail-on-missing-field", "false")),
        )
        if reading.ignore_errors and reading.fail_on_missing:
            raise NotSupported("fail-on-missing-field and ignore-parse-errors cannot both be true.", table.place)
        return JsonDecoder(wanted, table.physical, reading, database)
    if table.format == "csv":
        from streamkit_sql.tables.csv_format import CsvDecoder, csv_options

        return CsvDecoder(wanted, table.physical, csv_options(options))
    assert table.format == "raw", table.format
    from streamkit_sql.tables.raw_format import RawDecoder

    return RawDecoder(wanted, table.physical[0], options)
