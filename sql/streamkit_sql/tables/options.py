"""The options of tables, by Flink's own names: which there are, and of what form.

Names, forms and defaults: Flink 2.3's FileSystemConnectorOptions, DataGenConnectorOptions, JsonFormatOptions,
CsvFormatOptions, RawFormatOptions, and "Amazon Kinesis Data Streams SQL Connector" (5.x, and the older names of 4.x).
What Flink has and we do not is refused by name, never ignored; what tunes only Flink's own readers is taken and
ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from streamkit_sql.errors import NOWHERE, NotSupported, Place, SqlError, UnknownName

Check: TypeAlias = Callable[[str], str | None]
"""What is wrong with a value; None for nothing."""

_UNITS_MS: Final = {
    "ms": 1, "milli": 1, "millis": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1_000, "sec": 1_000, "secs": 1_000, "second": 1_000, "seconds": 1_000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000, "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
}  # fmt: skip
_DURATION = re.compile(r"\s*([0-9]+)\s*([a-z]*)\s*")


def duration_ms(text: str) -> int:
    """`10 s`, `1h`, `500 ms`; a bare number is ms. ValueError for others."""
    match = _DURATION.fullmatch(text.lower())
    if not match or (match[2] or "ms") not in _UNITS_MS:
        raise ValueError(f"{text!r} is no duration; write it as '10 s', '5 min' or '1 d'")
    return int(match[1]) * _UNITS_MS[match[2] or "ms"]


def is_true(text: str) -> bool:
    return text.strip().lower() == "true"


def _text(value: str) -> str | None:
    return None


def _boolean(value: str) -> str | None:
    return None if value.strip().lower() in ("true", "false") else "is true or false"


def _number(value: str) -> str | None:
    return None if re.fullmatch(r"[0-9]{1,18}", value.strip()) else "is a whole number"


def _duration(value: str) -> str | None:
    try:
        duration_ms(value)
    except ValueError:
        return "is a duration such as '10 s' or '5 min'"
    return None


def _character(value: str) -> str | None:
    return None if len(unescaped(value)) == 1 else "is one character"


def unescaped(value: str) -> str:
    """Flink reads Java's escapes in delimiters: '\\t', '\\u0001'."""
    plain = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\", "\\b": "\b", "\\f": "\f", "\\'": "'", '\\"': '"'}
    return re.sub(r"\\u([0-9a-fA-F]{4})|\\.", lambda m: chr(int(m[1], 16)) if m[1] else plain.get(m[0], m[0]), value)


def _one_of(*choices: str) -> Check:
    def check(value: str) -> str | None:
        return None if value in choices else f"is one of {', '.join(choices)}"

    return check


_POSITION = _one_of("LATEST", "TRIM_HORIZON", "AT_TIMESTAMP")
_COMMON: Final[Mapping[str, Check]] = {
    "connector": _text,
    "format": _text,
    "scan.watermark.idle-timeout": _duration,
    "scan.watermark.emit.strategy": _one_of("on-event", "on-periodic"),
    "scan.watermark.alignment.group": _text,
    "scan.watermark.alignment.max-drift": _duration,
    "scan.watermark.alignment.update-interval": _duration,
    "scan.parallelism": _number,
    "sink.parallelism": _number,
}
CONNECTORS: Final[Mapping[str, Mapping[str, Check]]] = {
    "filesystem": {
        "path": _text,
        "source.monitor-interval": _duration,
        "source.path.regex-pattern": _text,
        "source.report-statistics": _text,
        "partition.default-name": _text,
        "sink.rolling-policy.file-size": _text,
        "sink.rolling-policy.rollover-interval": _duration,
        "sink.rolling-policy.check-interval": _duration,
        "sink.rolling-policy.inactivity-interval": _duration,
        "auto-compaction": _boolean,
        "sink.partition-commit.trigger": _text,
        "sink.partition-commit.delay": _duration,
        "sink.partition-commit.policy.kind": _text,
    },
    "kinesis": {
        "stream": _text,
        "stream.arn": _text,
        "aws.*": _text,
        "source.init.position": _POSITION,
        "source.init.timestamp": _text,
        "source.init.timestamp.format": _text,
        "source.shard.discovery.interval": _duration,
        "source.reader.type": _one_of("POLLING", "EFO"),
        "source.*": _text,
        "scan.stream.initpos": _POSITION,
        "scan.stream.initpos-timestamp": _text,
        "scan.stream.initpos-timestamp-format": _text,
        "scan.stream.*": _text,
        "scan.shard.*": _text,
        "scan.list.*": _text,
        "sink.partitioner": _text,
        "sink.partitioner-field-delimiter": _text,
        "sink.fail-on-error": _boolean,
        "sink.*": _text,
    },
    "datagen": {
        "rows-per-second": _number,
        "number-of-rows": _number,
        "fields.*": _text,
    },
    "print": {"print-identifier": _text, "standard-error": _boolean},
    "blackhole": {},
    "firehose": {"delivery-stream": _text, "aws.*": _text, "sink.*": _text},
    "lambda": {"function": _text},
    "live": {"path": _text},
}
ALIASES: Final = {"kinesis-legacy": "kinesis", "streamkit-delivery": "firehose"}
REQUIRED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "filesystem": (("path",), ("format",)),
    "kinesis": (("stream.arn", "stream"), ("format",)),
    "firehose": (("delivery-stream",), ("format",)),
    "lambda": (("function",), ("format",)),
}
"""One of each group must be there."""
_REFUSED_CONNECTORS: Final = {
    "kafka": "Streams of Kafka come with a log store; a table reads them as 'kinesis'.",
    "upsert-kafka": "Write to a 'live' table.",
    "jdbc": "Read a reference table from a file: 'connector' = 'filesystem'.",
    "faker": "Write 'datagen'.",
}
_REFUSED_OPTIONS: Final = {
    "waveform-function-enabled": "rows come at a steady rate.",
    "period": "rows come at a steady rate.",
    "floating-gap": "rows come at a steady rate.",
}
FORMATS: Final[Mapping[str, Mapping[str, Check]]] = {
    "json": {
        "fail-on-missing-field": _boolean,
        "ignore-parse-errors": _boolean,
        "map-null-key.mode": _one_of("FAIL", "DROP", "LITERAL"),
        "map-null-key.literal": _text,
        "timestamp-format.standard": _one_of("SQL", "ISO-8601"),
        "encode.decimal-as-plain-number": _boolean,
        "encode.ignore-null-fields": _boolean,
        "decode.json-parser.enabled": _boolean,
    },
    "csv": {
        "field-delimiter": _character,
        "disable-quote-character": _boolean,
        "quote-character": _character,
        "allow-comments": _boolean,
        "ignore-parse-errors": _boolean,
        "array-element-delimiter": _text,
        "escape-character": _character,
        "null-literal": _text,
        "write-bigdecimal-in-scientific-notation": _boolean,
        "trim-spaces": _boolean,
        "ignore-trailing-unmappable": _boolean,
        "allow-trailing-comma": _boolean,
        "fail-on-missing-columns": _boolean,
        "empty-string-as-null": _boolean,
    },
    "raw": {"charset": _text, "endianness": _one_of("big-endian", "little-endian")},
    "parquet": {"utc-timezone": _boolean, "timestamp.time.unit": _text, "write.int64.timestamp": _boolean},
}
_REFUSED_FORMATS: Final = (
    "avro",
    "avro-confluent",
    "debezium-json",
    "canal-json",
    "maxwell-json",
    "ogg-json",
    "orc",
    "protobuf",
)


def near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 3, 0.6)
    if close:
        return f"Did you mean {' or '.join(repr(each) for each in close)}?"
    return f"There are: {', '.join(known)}."


def check(table: str, options: Mapping[str, str], place: Place = NOWHERE) -> tuple[str, str | None]:
    """The connector and the format of a table. Raises where an option is unknown, missing or of the wrong form."""
    written = options.get("connector")
    if written is None:
        raise UnknownName(f"the table {table!r} has no 'connector'.", place, f"There are: {', '.join(CONNECTORS)}.")
    connector = ALIASES.get(written, written)
    if connector in _REFUSED_CONNECTORS:
        raise NotSupported(f"the connector {written!r} is not supported.", place, _REFUSED_CONNECTORS[connector])
    if connector not in CONNECTORS:
        raise UnknownName(f"there is no connector {written!r}.", place, near(written, list(CONNECTORS)))
    for group in REQUIRED.get(connector, ()):
        if not any(each in options for each in group):
            raise UnknownName(
                f"the {connector} table {table!r} needs the option {' or '.join(map(repr, group))}.", place
            )
    name = options.get("format")
    if name in _REFUSED_FORMATS:
        raise NotSupported(f"the format {name!r} is not supported.", place, f"There are: {', '.join(FORMATS)}.")
    if name is not None and name not in FORMATS:
        raise UnknownName(f"there is no format {name!r}.", place, near(name, list(FORMATS)))
    if name == "parquet" and connector != "filesystem":
        raise NotSupported("Parquet is a format of files; one record has no room for a file.", place)
    if connector == "live" and name is not None:
        raise SqlError(f"the live table {table!r} has no 'format': it keeps columns as they are.", place)
    known = {**_COMMON, **CONNECTORS[connector]}
    if name is not None:
        known |= {f"{name}.{key}": test for key, test in FORMATS[name].items()}
    for key, value in options.items():
        _check_one(table, key, value, known, place)
    return connector, name


def _check_one(table: str, key: str, value: str, known: Mapping[str, Check], place: Place) -> None:
    if key in _REFUSED_OPTIONS:
        raise NotSupported(f"the option {key!r} is not supported: {_REFUSED_OPTIONS[key]}", place)
    test = known.get(key)
    if test is None:
        for pattern, each in known.items():
            if pattern.endswith("*") and key.startswith(pattern[:-1]):
                test = each
    if test is None:
        raise UnknownName(f"the table {table!r} has no option {key!r}.", place, near(key, sorted(known)))
    wrong = test(value)
    if wrong is not None:
        raise SqlError(f"the option {key!r} of {table!r} {wrong}, not {value!r}.", place)
