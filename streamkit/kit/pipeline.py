"""A pipeline file: the streams, functions, deliveries and mappings that shall be there, in TOML.

    [stream.clicks]
    shards = 2

    [function.count]
    code = "functions/count"
    handler = "app.handler"

    [mapping.clicks-to-count]
    stream = "clicks"
    function = "count"

    [delivery.clicks-to-lake]
    stream = "clicks"
    to = "lake"
    format = "parquet"

`load` reads one and finds every fault that can be found without a server; `streamkit.kit.provision` brings a server to
what it says. A kind of section is a class of parts, the keys it has, and what is checked of a part as a whole: see
`_SECTIONS`.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from streamkit.functions import rules as function_rules
from streamkit.functions.state import Configuration
from streamkit.kit.delivery import FORMATS, Delivery, columns_of, faults_of, options_of, place_of
from streamkit.mappings import rules as mapping_rules
from streamkit.mappings.filters import FilterCriteria, InvalidFilter
from streamkit.mappings.state import MappingSettings
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import (
    ACCOUNT_CONCURRENCY,
    DELIVERY_BUFFER_BYTES_MAX,
    DELIVERY_INTERVAL_MS_MAX,
    DELIVERY_RETRY_S_MAX,
    FUNCTION_MEMORY_MIB_MAX,
    FUNCTION_TIMEOUT_S_MAX,
    MAPPING_BATCH_RECORDS_MAX,
    MAPPING_BATCHING_WINDOW_S_MAX,
    MAPPING_FILTERS_MAX,
    MAPPING_PARALLELIZATION_MAX,
    MAPPING_RECORD_AGE_S_MAX,
    MAPPING_RECORD_AGE_S_MIN,
    MAPPING_RETRIES_MAX,
    MAPPING_TUMBLING_WINDOW_S_MAX,
    MIB,
    RETENTION_HOURS_MAX,
    RETENTION_HOURS_MIN,
    SHARDS_PER_STREAM_UPDATE_MAX,
)
from streamkit.model.names import STREAM_NAME, FunctionArn, Scope, StreamArn

RUNTIME: Final = f"python3.{sys.version_info.minor}"
ROLE: Final = "arn:aws:iam::{account}:role/streamkit"
"""Functions have one, and nobody asks it anything."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
_HANDLER: Final = re.compile(r"\S{1,128}")


# -- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamPart:
    """None: one shard and 24 hours where the stream is made, and as it is where it is there."""

    name: str
    shards: int | None = None
    retention_hours: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionPart:
    """`code` is a directory, a .py file or a zip, absolute. What is left out has AWS's default."""

    name: str
    code: Path
    handler: str
    runtime: str = RUNTIME
    timeout_s: int = 3
    memory_mib: int = 128
    variables: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    reserved_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class MappingPart:
    """`name` is for people: a mapping is found again by stream and function. What is left out has AWS's default.

    `function` may have a qualifier (`count:live`). `filters` are patterns, as JSON text. `on_failure` is an ARN.
    """

    name: str
    stream: str
    function: str
    start: str | datetime = "TRIM_HORIZON"
    batch_size: int = 100
    batching_window_s: int = 0
    parallelization_factor: int = 1
    retries_max: int = -1
    record_age_s_max: int = -1
    bisect: bool = False
    report_item_failures: bool = False
    tumbling_window_s: int = 0
    filters: tuple[str, ...] = ()
    on_failure: str | None = None

    def settings(self, scope: Scope) -> dict[str, dict[str, Any]]:
        """By key: what the API has of it, of a mapping that is there, too."""
        return {
            "batch_size": {"BatchSize": self.batch_size},
            "batching_window_s": {"MaximumBatchingWindowInSeconds": self.batching_window_s},
            "parallelization_factor": {"ParallelizationFactor": self.parallelization_factor},
            "retries_max": {"MaximumRetryAttempts": self.retries_max},
            "record_age_s_max": {"MaximumRecordAgeInSeconds": self.record_age_s_max},
            "bisect": {"BisectBatchOnFunctionError": self.bisect},
            "report_item_failures": {
                "FunctionResponseTypes": ["ReportBatchItemFailures"] if self.report_item_failures else []
            },
            "tumbling_window_s": {"TumblingWindowInSeconds": self.tumbling_window_s},
            "filters": {"FilterCriteria": {"Filters": [{"Pattern": pattern} for pattern in self.filters]}},
            "on_failure": {"DestinationConfig": {"OnFailure": self._destination(scope)}},
        }

    def _destination(self, scope: Scope) -> dict[str, str]:
        return {} if self.on_failure is None else {"Destination": destination_arn(self.on_failure, scope)}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A file whose parts are right as far as that can be told without a server; in the order of the file."""

    path: Path
    streams: tuple[StreamPart, ...]
    functions: tuple[FunctionPart, ...]
    mappings: tuple[MappingPart, ...]
    deliveries: tuple[Delivery, ...] = ()


def destination_arn(text: str, scope: Scope) -> str:
    """`stream:NAME` as the ARN it means; an ARN as it is."""
    return str(StreamArn(scope, text.removeprefix("stream:"))) if text.startswith("stream:") else text


class Faults:
    """What is wrong with a file, each with its place: all of it is told at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: list[str] = []

    def add(self, place: Iterable[str], text: str) -> None:
        self._texts.append(f"{_dotted(place)} {text}")

    def finish(self) -> None:
        """Raises UsageError if there are any."""
        if len(self._texts) == 1:
            raise UsageError(f"{self._path}: {self._texts[0]}")
        if self._texts:
            raise UsageError("\n  ".join([f"{self._path} has {len(self._texts)} faults:", *self._texts]))


def load(path: Path, scope: Scope) -> Pipeline:
    """Raises UsageError, which has every fault of the file."""
    document = _document(path)
    faults = Faults(path)
    parts: dict[str, list[Any]] = {kind: [] for kind in _SECTIONS}
    for kind, section in document.items():
        if kind not in _SECTIONS:
            faults.add([kind], _unknown_section(kind, section))
        elif not isinstance(section, dict):
            faults.add([kind], f"is no section; one is written [{kind}.NAME]")
        else:
            for name, given in section.items():
                part = _part(kind, name, given, path.parent, scope, faults)
                if part is not None:
                    parts[kind].append(part)
    _check_pairs(parts["mapping"], scope, faults)
    faults.finish()
    return Pipeline(
        path, tuple(parts["stream"]), tuple(parts["function"]), tuple(parts["mapping"]), tuple(parts["delivery"])
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _unknown_section(kind: str, section: object) -> str:
    known = f"{', '.join(f'[{each}.NAME]' for each in _SECTIONS)}"
    if not isinstance(section, dict):
        return f"stands outside of any section; sections are {known}"
    near = did_you_mean(kind, _SECTIONS)
    return f"is no kind of section{f'; did you mean [{near}.NAME]?' if near else f'; they are {known}'}"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1)
    return near[0] if near else None


def _dotted(place: Iterable[str]) -> str:
    """A path of keys as TOML would write it."""
    text = ""
    for key in place:
        if key.startswith("["):
            text += key
        else:
            text += f"{'.' if text else ''}{key if _BARE.fullmatch(key) else orjson.dumps(key).decode()}"
    return text


# -- keys ------------------------------------------------------------------------------------------------------------


class _Wrong(ValueError):
    """What a value has to be; `at` where in it, if it is a part of it that is wrong."""

    def __init__(self, wanted: str, at: str | None = None, value: object = None) -> None:
        super().__init__(wanted)
        self.at = () if at is None else (at,)
        self.value = value


Read = Callable[[Any], Any]
"""From a value of TOML to that of a part; raises _Wrong."""


def _whole(least: int, most: int, *, or_minus_one: str | None = None) -> Read:
    wanted = f"a whole number from {least:,} to {most:,}"
    if or_minus_one is not None:
        wanted += f", or -1 for {or_minus_one}"

    def read(value: Any) -> int:
        if type(value) is not int or not (least <= value <= most or (or_minus_one and value == -1)):
            raise _Wrong(wanted)
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _number(most: float, *, or_zero: bool = False) -> Read:
    wanted = f"a number {'from' if or_zero else 'above'} 0 to {most:,g}"

    def read(value: Any) -> float:
        if type(value) not in (int, float) or not (0 < value <= most or (or_zero and value == 0)):
            raise _Wrong(wanted)
        return float(value)

    return read


def _text(wanted: str, is_right: Callable[[str], object]) -> Read:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not is_right(value):
            raise _Wrong(wanted)
        return value

    return read


def _variables(value: Any) -> dict[str, str]:
    """Numbers and booleans are taken as the text that people mean."""
    if not isinstance(value, dict):
        raise _Wrong('a table of texts, like { LEVEL = "info" }')
    texts = {}
    for name, each in value.items():
        if not _VARIABLE.fullmatch(name):
            raise _Wrong(f"{_VARIABLE.pattern}, as AWS wants the name of a variable", name, name)
        if isinstance(each, bool):
            texts[name] = str(each).lower()
        elif isinstance(each, str | int | float):
            texts[name] = str(each)
        else:
            raise _Wrong("a text", name, each)
    return texts


def _options(value: Any) -> dict[str, str]:
    """Numbers and booleans as the text that people mean."""
    if not isinstance(value, dict):
        raise _Wrong('a table of texts, like { endpoint = "http://127.0.0.1:9000" }')
    texts = {}
    for name, each in value.items():
        if not isinstance(each, str | int | float):
            raise _Wrong("a text", name, each)
        texts[name] = str(each).lower() if isinstance(each, bool) else str(each)
    return texts


def _columns(value: Any) -> tuple[tuple[str, str], ...]:
    wanted = 'columns, like { id = "bigint", tags = "array<string>" } or "id bigint, tags array<string>"'
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(each, str):
                raise _Wrong("a type of Hive's, like bigint or array<string>", name, each)
    elif not isinstance(value, str):
        raise _Wrong(wanted)
    try:
        return columns_of(value)
    except UsageError as error:
        raise _Wrong(f"{wanted}: {error}") from None


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _Wrong("a list of ARNs of layer versions")
    return tuple(value)


def _filters(value: Any) -> tuple[str, ...]:
    """Patterns as tables, or as JSON text: TOML has no null."""
    if not isinstance(value, list):
        raise _Wrong('a list of patterns, like [{ data = { type = ["sale"] } }]')
    if len(value) > MAPPING_FILTERS_MAX:
        raise _Wrong(f"at most {MAPPING_FILTERS_MAX} patterns")
    return tuple(_pattern(each, f"[{index}]") for index, each in enumerate(value))


def _pattern(value: Any, at: str) -> str:
    if not isinstance(value, dict | str):
        raise _Wrong("a pattern: a table, or JSON text", at, value)
    try:
        text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()
        FilterCriteria.parse([text])
    except InvalidFilter as error:
        raise _Wrong(f"a filter pattern, and is none at {error.where}: {error.why}", at, value) from None
    except TypeError:  # a time, which JSON does not have
        raise _Wrong("a pattern in JSON's types", at, value) from None
    return text


def _start(value: Any) -> str | datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if value not in ("TRIM_HORIZON", "LATEST"):
        raise _Wrong('"TRIM_HORIZON", "LATEST", or a time with an offset, like 2026-01-31T09:00:00Z')
    return str(value)


def _on_failure(text: str) -> bool:
    return text.startswith("arn:") or (text.startswith("stream:") and bool(STREAM_NAME.fullmatch(text[7:])))


class _Section(NamedTuple):
    """`check` finds what no key alone tells."""

    part: type
    keys: Mapping[str, Read]
    required: tuple[str, ...]
    check: Callable[[Any, Scope, Faults], None]


def _part(kind: str, name: str, given: Any, directory: Path, scope: Scope, faults: Faults) -> Any:
    """A part, or None if it has faults."""
    section = _SECTIONS[kind]
    place = [kind, name]
    if not isinstance(given, dict):
        faults.add(place, "is no section" + (f"; it belongs into one, [{kind}.NAME]" if name in section.keys else ""))
        return None
    values: dict[str, Any] = {}
    is_right = True
    for key, value in given.items():
        if key not in section.keys:
            near = did_you_mean(key, section.keys)
            known = f"did you mean {near}?" if near else f"they are {', '.join(section.keys)}"
            faults.add([*place, key], f"is no key of a {kind}; {known}")
            is_right = False
            continue
        try:
            values[key] = section.keys[key](value)
        except _Wrong as error:
            shown = _shown(error.value if error.at else value)
            faults.add([*place, key, *error.at], f"is {shown}; it has to be {error}")
            is_right = False
    for key in section.required:
        if key not in given:
            faults.add(place, f"lacks {key}")
            is_right = False
    if not is_right:
        return None
    if "code" in values:
        values["code"] = directory.absolute() / values["code"]
    if "to" in values:
        values["to"] = place_of(values["to"], directory)
    if "options" in values:
        values["options"] = options_of(values["options"], directory)
    part = section.part(name=name, **values)
    section.check(part, scope, faults)
    return part


def _shown(value: object) -> str:
    """As TOML writes it, or nearly."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# -- parts as a whole ------------------------------------------------------------------------------------------------


def _check_stream(part: StreamPart, scope: Scope, faults: Faults) -> None:
    if not STREAM_NAME.fullmatch(part.name):
        faults.add(["stream", part.name], "cannot be a stream's name: letters, digits, _ . and -, at most 128")


def _check_function(part: FunctionPart, scope: Scope, faults: Faults) -> None:
    place = ["function", part.name]
    configuration = Configuration(
        part.runtime,
        part.handler,
        ROLE.format(account=scope.account),
        timeout_s=part.timeout_s,
        memory_mib=part.memory_mib,
        variables=dict(part.variables),
        layers=list(part.layers),
    )
    try:
        function_rules.check_name(part.name)
        function_rules.check_configuration(configuration, scope)
    except StreamkitError as error:
        faults.add(place, f"will not do: {error}")
    try:
        check_code(part)
    except UsageError as error:
        faults.add([*place, "code"], f"will not do: {error}")


def check_code(part: FunctionPart) -> None:
    """That there is code, and where it is Python, the handler's module in it, without a fault of syntax. A module may
    also come from a layer. Raises UsageError."""
    path, handler = part.code, part.handler
    if path.is_dir() or (path.is_file() and path.suffix in (".py", ".zip")):
        if not part.runtime.startswith("python"):
            return
    elif path.exists():
        raise UsageError(f"{path} is neither a directory, nor a .py file, nor a zip")
    else:
        raise UsageError(f"{path} is not there")
    module, _, attribute = handler.rpartition(".")
    if not module or not attribute:
        raise UsageError(f"handler {handler!r} has no dot: it is MODULE.FUNCTION, like app.handler")
    names = [f"{module.replace('.', '/')}{ending}" for ending in (".py", "/__init__.py")]
    if path.suffix == ".zip" and path.is_file():
        is_there = _has_any(path, names)
    elif path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        check_syntax(found)
        is_there = bool(found)
    else:
        check_syntax([path])
        is_there = path.name in names
    if not is_there and not part.layers:
        raise UsageError(f"handler {handler!r} wants {names[0]}, which is not in {path}")


def _has_any(path: Path, names: list[str]) -> bool:
    compiled = [f"{name}c" for name in names]
    try:
        with zipfile.ZipFile(path) as package:
            return not {*names, *compiled}.isdisjoint(package.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no zip: {error}") from error


def check_syntax(paths: Iterable[Path]) -> None:
    """Raises UsageError with the file, the line and what is wrong there."""
    for path in paths:
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except SyntaxError as error:
            raise UsageError(f"{path}:{error.lineno}: {error.msg}") from error
        except ValueError as error:  # a null byte
            raise UsageError(f"{path}: {error}") from error


def _check_mapping(part: MappingPart, scope: Scope, faults: Faults) -> None:
    given = {member: value for each in part.settings(scope).values() for member, value in each.items()}
    try:
        mapping_rules.with_changes(MappingSettings(str(FunctionArn.parse(part.function, scope))), given)
    except StreamkitError as error:
        faults.add(["mapping", part.name], f"will not do: {error}")


def _check_delivery(part: Delivery, scope: Scope, faults: Faults) -> None:
    for place, text in faults_of(part, scope):
        faults.add(["delivery", part.name, *place], text)


def _check_pairs(parts: Iterable[MappingPart], scope: Scope, faults: Faults) -> None:
    """A mapping is found again by stream and function."""
    seen: dict[tuple[str, str], str] = {}
    for part in parts:
        pair = (part.stream, str(FunctionArn.parse(part.function, scope)))
        if pair in seen:
            faults.add(
                ["mapping", part.name],
                f"is the same as mapping.{seen[pair]}: a stream has one mapping to a function",
            )
        seen.setdefault(pair, part.name)


_SECTIONS: Final[Mapping[str, _Section]] = {
    "stream": _Section(
        StreamPart,
        {
            "shards": _whole(1, SHARDS_PER_STREAM_UPDATE_MAX),
            "retention_hours": _whole(RETENTION_HOURS_MIN, RETENTION_HOURS_MAX),
        },
        (),
        _check_stream,
    ),
    "function": _Section(
        FunctionPart,
        {
            "code": _text("the path of a directory, a .py file or a zip, relative to the pipeline file", bool),
            "handler": _text("MODULE.FUNCTION, like app.handler", _HANDLER.fullmatch),
            "runtime": _text(f"one of AWS's runtimes, like {RUNTIME}", bool),
            "timeout_s": _whole(1, FUNCTION_TIMEOUT_S_MAX),
            "memory_mib": _whole(function_rules.MEMORY_MIB_MIN, FUNCTION_MEMORY_MIB_MAX),
            "variables": _variables,
            "layers": _texts,
            "reserved_concurrency": _whole(0, ACCOUNT_CONCURRENCY),
        },
        ("code", "handler"),
        _check_function,
    ),
    "mapping": _Section(
        MappingPart,
        {
            "stream": _text("the name of a stream", STREAM_NAME.fullmatch),
            "function": _text(
                "the name of a function, perhaps with an alias or a version, like count:live",
                lambda text: not text.startswith("arn:") and FunctionArn.parse(text, Scope("0" * 12, "-")),
            ),
            "start": _start,
            "batch_size": _whole(1, MAPPING_BATCH_RECORDS_MAX),
            "batching_window_s": _whole(0, MAPPING_BATCHING_WINDOW_S_MAX),
            "parallelization_factor": _whole(1, MAPPING_PARALLELIZATION_MAX),
            "retries_max": _whole(0, MAPPING_RETRIES_MAX, or_minus_one="as long as the record is kept"),
            "record_age_s_max": _whole(MAPPING_RECORD_AGE_S_MIN, MAPPING_RECORD_AGE_S_MAX, or_minus_one="any age"),
            "bisect": _flag,
            "report_item_failures": _flag,
            "tumbling_window_s": _whole(0, MAPPING_TUMBLING_WINDOW_S_MAX),
            "filters": _filters,
            "on_failure": _text('a stream, like "stream:failed", or an ARN', _on_failure),
        },
        ("stream", "function"),
        _check_mapping,
    ),
    "delivery": _Section(
        Delivery,
        {
            "stream": _text("the name of a stream", STREAM_NAME.fullmatch),
            "direct": _flag,
            "to": _text("a directory, relative to the pipeline file, or a URL like s3://bucket/folder", bool),
            "format": _text(f"one of {', '.join(FORMATS)}", FORMATS.__contains__),
            "columns": _columns,
            "compression": _text("the name of a compression, like GZIP or ZSTD", bool),
            "prefix": _text("a text", lambda text: True),
            "error_prefix": _text("a text", lambda text: True),
            "partition_by": _text("a jq query for the keys, like {day: .time[0:10]}", bool),
            "transform": _text("the name of a function, perhaps with an alias, like clean:live", bool),
            "size_mb": _number(DELIVERY_BUFFER_BYTES_MAX / MIB),
            "interval_s": _number(DELIVERY_INTERVAL_MS_MAX / 1000, or_zero=True),
            "start": _text('"TRIM_HORIZON" or "LATEST"', ("TRIM_HORIZON", "LATEST").__contains__),
            "time_zone": _text("the name of a time zone, like Europe/Berlin", bool),
            "manifest": _flag,
            "delimiter": _text("what follows each record", bool),
            "retry_s": _whole(0, DELIVERY_RETRY_S_MAX),
            "extension": _text("the end of files' names, like .jsonl", bool),
            "options": _options,
        },
        ("to",),
        _check_delivery,
    ),
}

KEYS: Final[Mapping[str, tuple[str, ...]]] = {kind: tuple(section.keys) for kind, section in _SECTIONS.items()}
"""By kind of section: all keys it can have."""
