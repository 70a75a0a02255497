"""Every bound of SQL, and where it comes from."""

from __future__ import annotations

from typing import Final

# -- the text of a script --------------------------------------------------------------------------------------------
SCRIPT_CHARACTERS_MAX: Final = 1024 * 1024  # ours
TREE_DEPTH_MAX: Final = 100  # ours: of brackets, and of a tree: what reads trees may recurse
CHAIN_TERMS_MAX: Final = 32  # ours: of one AND or OR; of more a balanced tree is made, which is not as deep
NUMBER_DIGITS_MAX: Final = 38  # Flink: of DECIMAL
INTERVAL_DIGITS_MAX: Final = 10  # Calcite: of an interval's first field, in years, quarters or months
INTERVAL_MS_DIGITS_MAX: Final = 3  # Flink: the same, of shorter units

# -- SQL-1_0 ---------------------------------------------------------------------------------------------------------
LEGACY_PARALLELISM_MAX: Final = 64  # AWS: InputParallelism, streams of one input
LEGACY_ITEMS_MAX: Final = 100_000  # AWS: K of TOP_K_ITEMS_TUMBLING
LEGACY_ITEMS_WINDOW_S_MAX: Final = 3_600  # AWS: window of the .._ITEMS_TUMBLING functions
LEGACY_LOG_COLUMNS_MAX: Final = 1_000  # AWS: columns of a schema; here also of a log parser

# -- outputs ---------------------------------------------------------------------------------------------------------
ERROR_ROWS_MAX: Final = 10_000  # ours: of error_stream
ERROR_AGE_MS_MAX: Final = 24 * 3_600_000  # ours: the same
ERROR_ROW_CHARACTERS_MAX: Final = 49_152  # Kinesis Data Analytics: DATA_ROW of its error stream
LATE_ROWS_PER_TICK_MAX: Final = 1_000  # ours: kept with their values; all are counted
FUNCTION_BATCH_RECORDS_MAX: Final = 500  # ours: as a PutRecordBatch
FUNCTION_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024  # Lambda: a synchronous event has 6 MB, and base64 adds a third
SINK_RETRY_S: Final = 0.1  # ours: doubles each time
SINK_RETRY_S_MAX: Final = 10.0  # ours
SNAPSHOT_MS_MIN: Final = 1_000  # ours: between two snapshots of live tables
SNAPSHOT_PART: Final = 20  # ours: writing them takes at most one part of so many of the time
STOP_WAIT_S: Final = 10.0  # ours: what a stopped application waits for its sinks
