"""The demo's lake: a delivery stream made with boto3 turns the flights into Parquet, hour by hour, and DuckDB counts
them from the files at the end.

A function drops the flights that were cancelled and refuses what is no flight; columns come from a table of the
catalog; the hour is the flight's own, not that of its arrival.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.examples.flights.late import POISON, zip_of

DELIVERY_STREAM: Final = "flights-to-lake"
FUNCTION: Final = "drop-cancelled"
BUCKET: Final = "lake"
DATABASE: Final = "flights"
TABLE: Final = "departed"
COLUMNS: Final = (
    ("id", "string"),
    ("time", "timestamp"),
    ("carrier", "string"),
    ("tailnum", "string"),
    ("origin", "string"),
    ("dest", "string"),
    ("flight", "int"),
    ("dep_delay", "int"),
    ("arr_delay", "int"),
    ("air_time", "int"),
    ("distance", "double"),
)
TIMES: Final = "yyyy-MM-dd'T'HH:mm:ssZZ"
FLUSH_S_MAX: Final = 60

_ARN: Final = "arn:aws:{}:us-east-1:000000000000:{}"
_ROLE: Final = _ARN.format("iam", "role/demo").replace(":us-east-1:", "::")


@dataclass(slots=True)
class Lake:
    """What is in the lake: flights by id and how often, what the error output has, and how many files there are."""

    flights: Counter[str] = field(default_factory=Counter)
    refused: list[bytes] = field(default_factory=list)
    files_count: int = 0
    hours_count: int = 0
    misplaced_count: int = 0  # flights in a folder that is not their hour's


def make_lake(clients: Callable[[str], Any], stream: str) -> None:
    """A table, a function, and a delivery stream that reads the stream from now on."""
    clients("glue").create_database(DatabaseInput={"Name": DATABASE})
    clients("glue").create_table(
        DatabaseName=DATABASE,
        TableInput={
            "Name": TABLE,
            "StorageDescriptor": {"Columns": [{"Name": name, "Type": kind} for name, kind in COLUMNS]},
        },
    )
    functions = clients("lambda")
    made = functions.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.11",
        Handler="transform.drop_cancelled",
        Role=_ROLE,
        Code={"ZipFile": zip_of(Path(__file__).with_name("transform.py"))},
        MemorySize=256,
        Timeout=60,
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION)
    firehose = clients("firehose")
    firehose.create_delivery_stream(
        DeliveryStreamName=DELIVERY_STREAM,
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={
            "KinesisStreamARN": _ARN.format("kinesis", f"stream/{stream}"),
            "RoleARN": _ROLE,
        },
        ExtendedS3DestinationConfiguration={
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "RoleARN": _ROLE,
            "Prefix": "departed/day=!{partitionKeyFromQuery:day}/hour=!{partitionKeyFromQuery:hour}/",
            "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
            "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 60},
            "DynamicPartitioningConfiguration": {"Enabled": True},
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [
                    _processor(
                        "Lambda",
                        LambdaArn=f"{made['FunctionArn']}:$LATEST",
                        BufferSizeInMBs="0.5",
                        BufferIntervalInSeconds="1",
                    ),
                    _processor(
                        "MetadataExtraction",
                        MetadataExtractionQuery="{day: .time[0:10], hour: .time[11:13]}",
                        JsonParsingEngine="JQ-1.6",
                    ),
                ],
            },
            "DataFormatConversionConfiguration": {
                "Enabled": True,
                "SchemaConfiguration": {
                    "DatabaseName": DATABASE,
                    "TableName": TABLE,
                    "RoleARN": _ROLE,
                    "Region": "us-east-1",
                },
                "InputFormatConfiguration": {"Deserializer": {"HiveJsonSerDe": {"TimestampFormats": [TIMES]}}},
                "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
            },
        },
    )
    status = firehose.describe_delivery_stream(DeliveryStreamName=DELIVERY_STREAM)
    assert status["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"


def _processor(kind: str, **parameters: str) -> dict[str, Any]:
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": named}


def flush(endpoint: str) -> None:
    """Returns when everything that is in the stream now is in the lake; otherwise it is within the interval."""
    asked = urllib.request.Request(f"{endpoint}/_streamkit/deliveries/flush", method="POST")
    with urllib.request.urlopen(asked, timeout=FLUSH_S_MAX) as answer:
        assert answer.status == 200


def read_lake(data: Path) -> Lake:
    """What DuckDB finds in the files. The bucket is a folder of the data directory where there is no S3 server."""
    import duckdb

    bucket = data / "buckets" / BUCKET
    files = f"{bucket}/departed/**/*.parquet"
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        rows = f"from read_parquet('{files}', hive_partitioning = true, hive_types_autocast = false)"
        counted = db.execute(f"select id, count(*) {rows} group by id").fetchall()
        hours = db.execute(f"select count(distinct (day, hour)), count(distinct filename) {rows}").fetchone()
        wrong = db.execute(f"select count(*) {rows} where not starts_with(id, day)").fetchone()
    assert hours is not None
    assert wrong is not None
    lines = [line for path in sorted((bucket / "errors").rglob("*")) if path.is_file() for line in _lines(path)]
    return Lake(
        Counter(dict(counted)), [base64.b64decode(line["rawData"]) for line in lines], hours[1], hours[0], wrong[0]
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def faults(lake: Lake, records: Sequence[bytes]) -> list[str]:
    """What the lake has wrong, in words; nothing where all is as it should be: each record of the stream is in a file,
    in the error output, or was dropped because its flight was cancelled."""
    wanted: Counter[str] = Counter()
    no_flights = Counter(record for record in records if record == POISON)
    for record in records:
        if record != POISON:
            fields = json.loads(record)
            if fields["dep_delay"] is not None:
                wanted[fields["id"]] += 1
    found = []
    if missing := (wanted - lake.flights).total():
        found.append(f"{missing} flights are missing")
    if more := (lake.flights - wanted).total():
        found.append(f"{more} flights are there too often, or were cancelled")
    if Counter(lake.refused) != no_flights:
        found.append(f"the error output has {len(lake.refused)} records instead of {no_flights.total()}")
    if lake.misplaced_count:
        found.append(f"{lake.misplaced_count} flights are in a folder of another day")
    return found
