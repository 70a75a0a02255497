"""What an application of SQL-1_0 has beside its script: where its streams come from and go to.

Rules: "Configuring Application Input", "Mapping Source Stream Elements to SQL Input Columns" and "Configuring
Application Output" of the developer guide; `configured` reads the shapes of CreateApplication (both API versions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from streamkit_sql.errors import NotSupported, SqlError

Format = Literal["json", "csv"]


@dataclass(frozen=True, slots=True)
class InputColumn:
    """`name` is case-sensitive. `mapping` is a JSONPath of names, `$.a.b`; without one the column is `$.name`. In CSV
    a column is the one of its place."""

    name: str
    type: str
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """A table to join with, from one file."""

    name: str
    columns: tuple[InputColumn, ...]
    path: str
    format: Format = "json"
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Input:
    """A stream of records, as the in-application streams PREFIX_001 to PREFIX_n, `parallelism` of them: each has the
    records of some of the shards. `row_path` is a JSONPath of names to what is a row in a record."""

    prefix: str
    columns: tuple[InputColumn, ...]
    stream: str
    format: Format = "json"
    row_path: str = "$"
    delimiter: str = ","
    parallelism: int = 1
    references: tuple[ReferenceTable, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}_{number:03}" for number in range(1, self.parallelism + 1))


@dataclass(frozen=True, slots=True)
class Output:
    """Where an in-application stream goes: to a stream or to a delivery stream, one of both."""

    name: str
    stream: str = ""
    delivery_stream: str = ""
    format: Format = "json"


ERROR_STREAM: Final = (
    InputColumn("ERROR_TIME", "TIMESTAMP"),
    InputColumn("ERROR_LEVEL", "VARCHAR(10)"),
    InputColumn("ERROR_NAME", "VARCHAR(32)"),
    InputColumn("MESSAGE", "VARCHAR(4096)"),
    InputColumn("DATA_ROWTIME", "TIMESTAMP"),
    InputColumn("DATA_ROW", "VARCHAR(49152)"),
    InputColumn("PUMP_NAME", "VARCHAR(128)"),
)
"""The columns of `error_stream` ("Error Handling" of the developer guide)."""


def configured(application: Mapping[str, Any]) -> tuple[tuple[Input, ...], tuple[Output, ...]]:
    """Inputs and outputs of a CreateApplication request, or of its SqlApplicationConfiguration. The reference tables
    are the first input's. Raises SqlError where something is missing or not supported."""
    found: Any = application.get("ApplicationConfiguration", application)
    found = found.get("SqlApplicationConfiguration", found)
    try:
        references = tuple(_reference(each) for each in found.get("ReferenceDataSources", ()))
        inputs = tuple(
            _input(each, references if index == 0 else ()) for index, each in enumerate(found.get("Inputs", ()))
        )
        outputs = tuple(_output(each) for each in found.get("Outputs", ()))
    except KeyError as problem:
        raise SqlError(f"the application's configuration lacks {problem.args[0]!r}") from None
    except (AttributeError, TypeError):
        raise SqlError("the application's configuration is not of the form of CreateApplication") from None
    return inputs, outputs


def _input(given: Mapping[str, Any], references: tuple[ReferenceTable, ...]) -> Input:
    if "InputProcessingConfiguration" in given:
        raise NotSupported("a function that processes an input", hint="Map the stream to the function instead.")
    if "KinesisStreamsInput" not in given:
        raise NotSupported("an input that is no stream", hint="Give a KinesisStreamsInput.")
    schema = given["InputSchema"]
    of, row_path, delimiter = _format(schema["RecordFormat"])
    return Input(
        given["NamePrefix"], _columns(schema["RecordColumns"]), _last(given["KinesisStreamsInput"]["ResourceARN"]), of,
        row_path, delimiter, int(given.get("InputParallelism", {}).get("Count", 1)), references,
    )  # fmt: skip


def _reference(given: Mapping[str, Any]) -> ReferenceTable:
    source, schema = given["S3ReferenceDataSource"], given["ReferenceSchema"]
    bucket = str(source["BucketARN"]).rpartition(":")[2]
    of, _, delimiter = _format(schema["RecordFormat"])
    path = f"s3://{bucket}/{source['FileKey']}"
    return ReferenceTable(given["TableName"], _columns(schema["RecordColumns"]), path, of, delimiter)


def _output(given: Mapping[str, Any]) -> Output:
    of: Format = "csv" if given["DestinationSchema"].get("RecordFormatType") == "CSV" else "json"
    if "KinesisStreamsOutput" in given:
        return Output(given["Name"], stream=_last(given["KinesisStreamsOutput"]["ResourceARN"]), format=of)
    if "KinesisFirehoseOutput" in given:
        return Output(given["Name"], delivery_stream=_last(given["KinesisFirehoseOutput"]["ResourceARN"]), format=of)
    raise NotSupported(
        f"the output of {given['Name']!r}", hint="Write to a stream, and map the stream to the function."
    )


def _columns(given: Sequence[Mapping[str, Any]]) -> tuple[InputColumn, ...]:
    return tuple(InputColumn(each["Name"], each["SqlType"], str(each.get("Mapping", ""))) for each in given)


def _format(given: Mapping[str, Any]) -> tuple[Format, str, str]:
    """Format, path of the row, delimiter of columns."""
    parameters = given.get("MappingParameters", {})
    if given["RecordFormatType"] == "CSV":
        return "csv", "$", parameters.get("CSVMappingParameters", {}).get("RecordColumnDelimiter", ",")
    return "json", parameters.get("JSONMappingParameters", {}).get("RecordRowPath", "$"), ","


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]
