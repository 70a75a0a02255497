"""What a delivery stream shall be, as people write it: on the command line, in a pipeline file, in a program.

A `Delivery` becomes the request that makes it. What a server describes becomes the same keys again (`keys_of`), so that
what differs is told in the words it was written in.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

import orjson

from streamkit.catalog import hive_types
from streamkit.delivery import documents, rules
from streamkit.delivery.compile import compile_plan
from streamkit.delivery.state import DeliveryState
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import MIB
from streamkit.model.names import DELIVERY_STREAM_NAME, FunctionArn, Scope, StreamArn

Given = Mapping[str, Any]
Columns = tuple[tuple[str, str], ...]
Start = Literal["TRIM_HORIZON", "LATEST"]

FORMATS: Final = ("json", "parquet", "orc", "records")
ROLE: Final = "arn:aws:iam::{account}:role/streamkit"
"""Whoever reads a stream has one, and nobody asks it anything."""

_TRANSFORM_INTERVAL_S: Final = 60  # AWS's default; a delivery that is to be faster does not wait longer for a function
_CONTROLS: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
_TABLE: Final = re.compile(r"(delta|iceberg)\+(.*)", re.DOTALL)
_DIGEST_ROUNDS: Final = 100_000


class Settings(TypedDict, total=False):
    """What a delivery can be told beside its source and `to`: see `Delivery`."""

    format: str | None
    columns: Mapping[str, str] | str
    compression: str | None
    prefix: str | None
    error_prefix: str | None
    partition_by: str | None
    transform: str | None
    size_mb: float | None
    interval_s: float | None
    start: Start
    time_zone: str | None
    manifest: bool
    delimiter: str | None
    retry_s: int | None
    extension: str | None
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """`stream` is the name of the one it reads, None with `direct`: then records are put to it itself. `to` is a URL or
    an absolute directory (`place_of` makes it one). What is None has the server's default.

    `partition_by` is a jq query for an object: its keys make the folders, unless `prefix` says how. `transform` is a
    function, perhaps with an alias. A MB is 1,048,576 bytes, as AWS counts.
    """

    name: str
    to: str
    stream: str | None = None
    direct: bool = False
    format: str | None = None
    columns: Columns = ()
    compression: str | None = None
    prefix: str | None = None
    error_prefix: str | None = None
    partition_by: str | None = None
    transform: str | None = None
    size_mb: float | None = None
    interval_s: float | None = None
    start: str = "TRIM_HORIZON"
    time_zone: str | None = None
    manifest: bool = False
    delimiter: str | None = None
    retry_s: int | None = None
    extension: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_table(self) -> bool:
        return _TABLE.fullmatch(self.to) is not None

    @property
    def takes_objects(self) -> bool:
        """Whether it goes where files are; otherwise into a table, or to an endpoint that takes records."""
        return not self.is_table and not self.to.startswith(("http:", "https:", "splunk+", "opensearch+"))

    @property
    def source(self) -> str:
        """In words."""
        return "direct puts" if self.stream is None else f"stream {self.stream}"

    # -- requests ----------------------------------------------------------------------------------------------------

    def request(self, scope: Scope) -> dict[str, Any]:
        """Of CreateDeliveryStream."""
        given: dict[str, Any] = {"DeliveryStreamName": self.name, "DeliveryStreamType": "DirectPut"}
        configuration = self.configuration(scope)
        if self.stream is not None:
            given["DeliveryStreamType"] = "KinesisStreamAsSource"
            given["KinesisStreamSourceConfiguration"] = {
                "KinesisStreamARN": str(StreamArn(scope, self.stream)),
                "RoleARN": ROLE.format(account=scope.account),
            }
            configuration["From"] = self.start
        return {**given, "StreamkitDestinationConfiguration": configuration}

    def configuration(self, scope: Scope) -> dict[str, Any]:
        """All of a destination but where it begins to read: for an update, too."""
        hints: dict[str, Any] = {}
        if self.size_mb is not None:
            hints["SizeInBytes"] = round(self.size_mb * MIB)
        if self.interval_s is not None:
            hints["IntervalInMilliseconds"] = round(self.interval_s * 1000)
        processors = [*self._processors(scope)]
        given = {
            "Url": self.to,
            "Options": dict(self.options) or None,
            "Format": self.format,
            "Compression": self.compression,
            "Columns": [{"Name": name, "Type": type} for name, type in self.columns] or None,
            "Prefix": self._prefix(),
            "ErrorOutputPrefix": self.error_prefix,
            "BufferingHints": hints or None,
            "ProcessingConfiguration": {"Enabled": True, "Processors": processors} if processors else None,
            "DynamicPartitioning": self._is_partitioned() or None,
            "CustomTimeZone": self.time_zone,
            "FileExtension": self.extension,
            "Manifest": self.manifest or None,
            "RetryDurationInSeconds": self.retry_s,
        }
        return {member: value for member, value in given.items() if value is not None}

    def _is_partitioned(self) -> bool:
        return self.partition_by is not None or "!{partitionKeyFrom" in (self.prefix or "")

    def _prefix(self) -> str | None:
        """Of partitions where none is given: folders as Hive has them, `day=2026-01-31/hour=09/`."""
        if self.prefix is not None or self.partition_by is None:
            return self.prefix
        return hive_prefix(self.partition_by)

    def _processors(self, scope: Scope) -> Iterator[dict[str, Any]]:
        if self.transform is not None:
            interval_s = _TRANSFORM_INTERVAL_S if self.interval_s is None else self.interval_s
            yield _processor(
                "Lambda",
                LambdaArn=str(FunctionArn.parse(self.transform, scope) or self.transform),
                NumberOfRetries="3",
                BufferSizeInMBs="1",
                BufferIntervalInSeconds=f"{min(interval_s, _TRANSFORM_INTERVAL_S):g}",
            )
        if self.partition_by is not None:
            yield _processor(
                "MetadataExtraction", MetadataExtractionQuery=self.partition_by, JsonParsingEngine="JQ-1.6"
            )
        if self.delimiter is not None:  # AWS's parameters cannot be white space: they have names for it
            text = "".join(_CONTROLS.get(letter, letter) for letter in self.delimiter)
            yield _processor("AppendDelimiterToRecord", Delimiter=text)

    # -- what a server makes of it -----------------------------------------------------------------------------------

    def state(self, scope: Scope) -> DeliveryState:
        """As a server would store it. Raises InvalidArgument for what its rules refuse."""
        configuration = self.configuration(scope)
        document = documents.make("Streamkit", configuration, scope)
        return DeliveryState(
            id="",
            account=scope.account,
            region=scope.region,
            name=self.name,
            type="DirectPut" if self.stream is None else "KinesisStreamAsSource",
            status="ACTIVE",
            created_at_ms=0,
            kind="Streamkit",
            document=rules.with_processors("Streamkit", document),
        )

    def description(self, scope: Scope) -> dict[str, Any]:
        """As a server would describe its destination: without what is secret."""
        described: dict[str, Any] = documents.describe(self.state(scope))["StreamkitDestinationDescription"]
        return described

    def secrets_digest(self, scope: Scope) -> str:
        """Tells whether options that a server does not show are the same; empty where there are none."""
        shown = self.description(scope)["Options"]
        secrets = {key: value for key, value in sorted(self.options.items()) if key not in shown}
        if not secrets:
            return ""
        salt = f"{scope.account}/{scope.region}/{self.name}".encode()
        return hashlib.pbkdf2_hmac("sha256", orjson.dumps(secrets), salt, _DIGEST_ROUNDS).hex()[:32]


def _processor(type: str, **parameters: str) -> dict[str, Any]:
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": type, "Parameters": named}


def hive_prefix(query: str) -> str:
    """Raises InvalidArgument for what is no query for partition keys."""
    from streamkit.delivery.processors.jq_paths import check_query  # brings a parser of jq: few deliveries have one

    return "".join(f"{key}=!{{partitionKeyFromQuery:{key}}}/" for key in check_query(query))


# -- what people write -----------------------------------------------------------------------------------------------


def place_of(text: str, directory: Path) -> str:
    """A directory as an absolute one, relative to `directory`; also that of `delta+DIR` and `iceberg+DIR`. A URL as it
    is."""
    if "://" in text or not text:
        return text
    if table := _TABLE.fullmatch(text):
        return f"{table[1]}+{_absolute(table[2], directory).as_uri()}"
    return str(_absolute(text, directory))


def options_of(options: Mapping[str, str], directory: Path) -> dict[str, str]:
    """With the place for what failed as `place_of` has it."""
    return {name: place_of(text, directory) if name == "errors" else text for name, text in options.items()}


def _absolute(text: str, directory: Path) -> Path:
    return Path(os.path.normpath(directory.absolute() / Path(text).expanduser()))


def default_name(stream: str, to: str) -> str:
    """`clicks-to-lake` for a directory, `clicks-to-s3` for a URL."""
    scheme, is_url, _ = to.partition("://")
    kind = scheme.partition("+")[0]
    if not is_url or kind == "file":
        kind = to.rstrip("/").rpartition("/")[2]
    kind = re.sub(r"[^a-zA-Z0-9_.-]+", "-", kind).strip("-") or "files"
    return f"{stream}-to-{kind}"[:64]


def columns_of(given: Mapping[str, str] | str) -> Columns:
    """A table, or text as in Hive's CREATE TABLE: `id bigint, tags array<string>`. Types are not looked at. Raises
    UsageError."""
    if not isinstance(given, str):
        return tuple(given.items())
    columns = []
    for text in _split(given):
        found = re.fullmatch(r"\s*(?:`([^`]+)`|([^\s`]+))\s+(\S.*?)\s*", text, re.DOTALL)
        if found is None:
            raise UsageError(f"{text.strip()!r} is no column; one is a name and a type, like id bigint")
        columns.append((found[1] or found[2], found[3]))
    return tuple(columns)


def _split(text: str) -> Iterator[str]:
    """At commas that are not within a type."""
    depth, is_quoted, begin = 0, False, 0
    for place, letter in enumerate(text):
        if letter == "`":
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (letter in "<(") - (letter in ">)")
            if letter == "," and depth == 0:
                yield text[begin:place]
                begin = place + 1
    if text[begin:].strip() or begin == 0:
        yield text[begin:]


def by_time(text: str, unit: Literal["day", "hour"]) -> str:
    """A query for partitions by a record's own time. `text` is the way to it: `time`, `meta.at`, where it is ISO 8601,
    whose day and hour are taken as they are written; or `at:s`, `at:ms` for a number, in UTC. Raises UsageError."""
    path, _, kind = text.partition(":")
    if not re.fullmatch(r"\.?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", path, re.ASCII) or kind not in ("", "s", "ms"):
        raise UsageError(f"{text!r} is no field with a record's time; one looks like time, or meta.at:ms")
    value = f".{path.removeprefix('.')}"
    if kind:
        at = f"{value} / 1000 | floor" if kind == "ms" else f"{value} | floor"
        day, hour = (f'({at} | strftime("{pattern}"))' for pattern in ("%Y-%m-%d", "%H"))
    else:
        day, hour = f"{value}[0:10]", f"{value}[11:13]"
    return f"{{day: {day}, hour: {hour}}}" if unit == "hour" else f"{{day: {day}}}"


def delivery_of(stream: str, to: str | Path, name: str | None, settings: Settings) -> Delivery:
    """As a program says it: directories are relative to the working directory. Raises UsageError."""
    given: dict[str, Any] = {**settings}
    unknown = sorted(given.keys() - Settings.__annotations__.keys())
    if unknown:
        raise UsageError(f"{unknown[0]} is no setting; they are {', '.join(Settings.__annotations__)}")
    here = Path.cwd()
    place = place_of(str(to), here)
    given["columns"] = columns_of(given.get("columns") or {})
    given["options"] = options_of(given.get("options") or {}, here)
    return Delivery(name or default_name(stream, place), place, stream, **given)


# -- faults ----------------------------------------------------------------------------------------------------------


def faults_of(delivery: Delivery, scope: Scope) -> list[tuple[tuple[str, ...], str]]:
    """Everything wrong that shows without a server, each with its key (none: the whole) and what is wrong with it."""
    faults = [*_own_faults(delivery, scope)]
    wrong = {place[0] for place, _ in faults if place}
    if "partition_by" in wrong:  # what a prefix says of partitions cannot be judged
        wrong.add("prefix")
    rest = replace(delivery, **{key: _CLEAR[key] for key in wrong})
    return faults + [((), f"will not do: {text}") for text in _server_faults(rest, scope)]


_CLEAR: Final[Mapping[str, Any]] = {
    "columns": (),
    "compression": None,
    "delimiter": None,
    "format": None,
    "partition_by": None,
    "prefix": None,
    "transform": None,
}


def _own_faults(delivery: Delivery, scope: Scope) -> Iterator[tuple[tuple[str, ...], str]]:
    if not DELIVERY_STREAM_NAME.fullmatch(delivery.name):
        yield (), "cannot be a delivery stream's name: letters, digits, _ . and -, at most 64"
    if delivery.direct == (delivery.stream is not None):
        yield (), 'needs either stream = "..." or direct = true, and not both'
    for name, type in delivery.columns:
        try:
            hive_types.parse(type)
        except StreamkitError as error:
            yield ("columns", name), f'is "{type}", which is no type of Hive\'s: {error}'
    format = delivery.format
    if delivery.columns and delivery.takes_objects and format not in ("parquet", "orc"):
        yield ("columns",), 'are for format = "parquet" or "orc", and for tables'
    if delivery.is_table and format not in (None, "parquet"):
        yield ("format",), f'is "{format}", but the files of a table are Parquet; leave it out'
    if delivery.delimiter is not None and (delivery.is_table or format in ("parquet", "orc")):
        yield ("delimiter",), 'is for format = "json" or "records": in tables there is nothing between records'
    if delivery.transform is not None and FunctionArn.parse(delivery.transform, scope) is None:
        yield (
            ("transform",),
            f'is "{delivery.transform}"; it has to be the name of a function, like clean or clean:live',
        )
    yield from _partition_faults(delivery)


def _partition_faults(delivery: Delivery) -> Iterator[tuple[tuple[str, ...], str]]:
    query = delivery.partition_by
    if query is None:
        return
    if delivery.is_table:
        yield ("partition_by",), 'is for files; of a table say options = { partition_by = "COLUMN" }'
        return
    if not delivery.takes_objects:
        yield ("partition_by",), f"is for files, and {delivery.to} takes records"
        return
    try:
        prefix = hive_prefix(query)
    except StreamkitError as error:
        yield ("partition_by",), f"is no query for partition keys, like {{day: .time[0:10]}}: {error}"
        return
    if delivery.prefix is not None and "!{partitionKeyFrom" not in delivery.prefix:
        yield ("prefix",), f'has no partition key; write "{delivery.prefix}{prefix}", or leave it out'


def _server_faults(delivery: Delivery, scope: Scope) -> Iterator[str]:
    try:
        state = delivery.state(scope)
    except StreamkitError as error:
        yield str(error)
        return
    for check in (
        lambda: rules.require_destination("Streamkit", state.document, state.document, scope, lambda _: True),
        lambda: compile_plan(state),
    ):
        try:
            check()
        except StreamkitError as error:
            yield str(error)


# -- what a server describes -----------------------------------------------------------------------------------------


def keys_of(description: Given) -> dict[str, Any]:
    """A described destination by URL in the keys of a `Delivery`; None: the default. `processors` are those that no key
    is for."""
    by_type = {each["Type"]: documents.parameters(each) for each in documents.processors(description)}
    transform = by_type.pop("Lambda", {})
    hints = description.get("BufferingHints") or {}
    size_bytes, interval_ms = hints.get("SizeInBytes"), hints.get("IntervalInMilliseconds")
    keys: dict[str, Any] = {
        "to": description.get("Url"),
        "format": description.get("Format"),
        "columns": {each["Name"]: each["Type"] for each in description.get("Columns") or []},
        "compression": description.get("Compression"),
        "prefix": description.get("Prefix"),
        "error_prefix": description.get("ErrorOutputPrefix"),
        "partition_by": by_type.pop("MetadataExtraction", {}).get("MetadataExtractionQuery"),
        "transform": transform.pop("LambdaArn", "").partition(":function:")[2] or None,
        "size_mb": None if size_bytes is None else _plain(size_bytes / MIB),
        "interval_s": None if interval_ms is None else _plain(interval_ms / 1000),
        "time_zone": description.get("CustomTimeZone"),
        "manifest": bool(description.get("Manifest")),
        "delimiter": by_type.pop("AppendDelimiterToRecord", {}).get("Delimiter"),
        "retry_s": description.get("RetryDurationInSeconds"),
        "extension": description.get("FileExtension"),
        "options": dict(description.get("Options") or {}),
        "transform_buffering": transform,
        "processors": by_type,
        "deserializer": description.get("Deserializer"),
    }
    if (keys["to"] or "").startswith(("delta+", "iceberg+")):
        keys["format"] = "parquet"
    return keys


def changes_of(before: Given, after: Given) -> list[str]:
    """What of a described destination has to change to be another one, in words."""
    old, new = keys_of(before), keys_of(after)
    changes = []
    for key, value in new.items():
        if old[key] == value:
            continue
        if key == "transform_buffering" and old["interval_s"] != new["interval_s"]:
            continue
        is_plain = not isinstance(value, Mapping) and not isinstance(old[key], Mapping)
        changes.append(f"{key} {_shown(old[key])} to {_shown(value)}" if is_plain else key)
    return changes or ["settings"]


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
