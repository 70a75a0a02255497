"""What a delivery stream does, in types: what `compile` makes of its document, and all that the engine knows of it.

source ─▶ processors ─▶ conversion ─▶ partitions ─▶ buffers ─▶ sealed objects ─▶ destination
              └──────────────┴── failed records ──▶ buffers ─▶ sealed objects ─▶ error output
   └── as they came, where a backup is asked for ─▶ buffers ─▶ sealed objects ─▶ backup
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TextCompression = Literal["UNCOMPRESSED", "GZIP", "ZIP", "Snappy", "HADOOP_SNAPPY", "ZSTD"]
ParquetCompression = Literal["UNCOMPRESSED", "GZIP", "SNAPPY", "ZSTD"]
OrcCompression = Literal["NONE", "ZLIB", "SNAPPY", "ZSTD"]


@dataclass(frozen=True, slots=True)
class Buffering:
    """A buffer is sealed when it holds `size_bytes` (before compression) or its first record is in it for
    `interval_ms`, whichever comes first. Interval 0: as soon as there is anything."""

    size_bytes: int
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Naming:
    """Prefixes as they were given, with their expressions. `extension` None: that of the format. `is_key`: the prefix
    is all of a name but for what makes it unique (channels)."""

    prefix: str = ""
    error_prefix: str = ""
    time_zone: str = "UTC"
    extension: str | None = None
    is_key: bool = False


# -- formats: what an object is ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Records one after the other, with nothing between them, compressed as a whole."""

    compression: TextCompression = "UNCOMPRESSED"


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    compression: ParquetCompression = "SNAPPY"
    level: int | None = None  # None: 1 for ZSTD and GZIP
    row_group_bytes: int = 256 * 1024 * 1024  # BlockSizeBytes
    page_bytes: int = 1024 * 1024
    dictionary: bool = False  # asked for of every column; otherwise where it pays
    version: Literal["V1", "V2"] = "V1"


@dataclass(frozen=True, slots=True)
class OrcFormat:
    compression: OrcCompression = "SNAPPY"
    stripe_bytes: int = 64 * 1024 * 1024
    row_index_stride: int = 10_000
    bloom_columns: tuple[str, ...] = ()
    bloom_false_positives: float = 0.05
    dictionary_threshold: float = 0.0
    padding_tolerance: float = 0.05
    version: Literal["V0_11", "V0_12"] = "V0_12"


@dataclass(frozen=True, slots=True)
class RecordsFormat:
    """For destinations that take records, not objects: an Arrow IPC file with the columns of `rows.Rows`."""


Format = TextFormat | ParquetFormat | OrcFormat | RecordsFormat


# -- conversion: from JSON to columns ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table of our catalog. `version` None: the latest, looked up again for each chunk of records."""

    database: str
    table: str
    version: str | None = None
    region: str = ""
    catalog_id: str = ""


@dataclass(frozen=True, slots=True)
class InlineColumns:
    """Columns with Hive's types, in order: `(("id", "bigint"), ("tags", "array<string>"))`."""

    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class FromDestination:
    """The schema of the destination's table."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """Found in the first records, and kept in our catalog from then on, as `streamkit.<delivery stream>`."""


SchemaSource = CatalogTable | InlineColumns | FromDestination | Inferred


@dataclass(frozen=True, slots=True)
class Conversion:
    """`mappings`: column to the JSON key it is read from. `timestamp_formats`: Joda patterns and `millis`, Hive's."""

    schema: SchemaSource
    serde: Literal["openx", "hive"] = "openx"
    case_insensitive: bool = True
    dots_to_underscores: bool = False
    mappings: Mapping[str, str] = field(default_factory=dict)
    timestamp_formats: tuple[str, ...] = ()


# -- processors, in the order in which AWS runs them -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deaggregation:
    """Splits records: `KPL` aggregates, JSON documents one after the other, or at a delimiter."""

    kind: Literal["KPL", "JSON", "DELIMITED"]
    delimiter: bytes = b""


@dataclass(frozen=True, slots=True)
class Decompression:
    """What CloudWatch Logs subscriptions send: gzip. `extracts_messages`: only the `message` of each log event."""

    extracts_messages: bool = False


@dataclass(frozen=True, slots=True)
class Transform:
    """A function's call for `size_bytes` of records, or after `interval_ms`."""

    function_arn: str
    retries: int = 3
    size_bytes: int = 1024 * 1024
    interval_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class MetadataExtraction:
    """A jq query whose object gives partition keys their values."""

    query: str


@dataclass(frozen=True, slots=True)
class AppendDelimiter:
    delimiter: bytes = b"\n"


@dataclass(frozen=True, slots=True)
class Validation:
    """Of channels: records that are not what they were said to be go to the error output. The others stay as they are,
    KPL aggregates too."""

    kind: Literal["JSON", "STRING", "BYTE_ARRAY"]


Processor = Validation | Deaggregation | Decompression | Transform | MetadataExtraction | AppendDelimiter


# -- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """`service` is the name of an entry point of `streamkit.destinations`; `options` are that destination's own.

    s3: bucket (name), and where a URL was given endpoint, region, prefix. files: path. The others' stand at their code.
    """

    service: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backup:
    """Source records as they came. `failed`: only those that could not be delivered, as error documents."""

    mode: Literal["all", "failed"]
    destination: DestinationSpec
    buffering: Buffering
    naming: Naming
    format: TextFormat = TextFormat()


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """`error_destination` takes what could not be processed or delivered, under `naming.error_prefix`.

    `retry_ms` bounds how long a destination that is not S3 is tried; None: until it works. `manifest`: every seal is
    followed by an object that lists the objects of it.
    """

    name: str
    arn: str
    version: int
    source_arn: str | None  # None: direct puts
    buffering: Buffering
    naming: Naming
    format: Format
    destination: DestinationSpec
    error_destination: DestinationSpec
    processors: tuple[Processor, ...] = ()
    conversion: Conversion | None = None
    is_partitioned: bool = False
    retry_ms: int | None = None
    backup: Backup | None = None
    manifest: bool = False

    @property
    def transform(self) -> Transform | None:
        return next((each for each in self.processors if isinstance(each, Transform)), None)
