"""What the error output holds, by what failed."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.error_documents import documents
from streamkit.delivery.plan import CatalogTable
from streamkit.delivery.rows import Failed
from tests.unit.test_delivery_processors import rows_of

AT_MS = 1_700_000_100_000
ROWS = rows_of(b"\xffdata")
NUMBER = ROWS.sequence_number(0)


def only(failed: Failed) -> dict[str, Any]:
    (line,) = documents(failed, at_ms=AT_MS).to_pylist()
    assert line.endswith(b"}\n")
    document: dict[str, Any] = json.loads(line)
    return document


def failed_as(output_type: str, **more: Any) -> Failed:
    return Failed(ROWS, output_type, [("Code", 'a "message"\n')], **more)


def listed(document: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(document.items())


def test_what_a_function_failed_looks_as_captured_on_aws() -> None:
    """Members, order and case."""
    assert listed(only(failed_as("processing-failed", attempts=4, members={"lambdaARN": "arn"}))) == [
        ("rawData", "/2RhdGE="),
        ("errorCode", "Code"),
        ("errorMessage", 'a "message"\n'),
        ("attemptsMade", 4),
        ("arrivalTimestamp", 1_700_000_000_000),
        ("attemptEndingTimestamp", AT_MS),
        ("lambdaARN", "arn"),
    ]


def test_what_could_not_be_decompressed_has_no_function() -> None:
    """Otherwise it is the same."""
    names = ["rawData", "errorCode", "errorMessage", "attemptsMade", "arrivalTimestamp", "attemptEndingTimestamp"]
    assert list(only(failed_as("decompression-failed"))) == names


def test_what_could_not_be_converted_names_the_table() -> None:
    """In the order of the developer guide."""
    table = CatalogTable("db", "t", None, "us-east-1", "000000000000")
    assert listed(only(failed_as("format-conversion-failed", members={"dataCatalogTable": table}))) == [
        ("attemptsMade", 1),
        ("arrivalTimestamp", 1_700_000_000_000),
        ("lastErrorCode", "Code"),
        ("lastErrorMessage", 'a "message"\n'),
        ("attemptEndingTimestamp", AT_MS),
        ("rawData", "/2RhdGE="),
        ("sequenceNumber", NUMBER),
        ("subSequenceNumber", 0),
        (
            "dataCatalogTable",
            {
                "catalogId": "000000000000",
                "databaseName": "db",
                "tableName": "t",
                "region": "us-east-1",
                "versionId": "LATEST",
                "catalogArn": "arn:aws:glue:us-east-1:000000000000:catalog",
            },
        ),
    ]


COMMON = ["attemptsMade", "arrivalTimestamp", "errorCode", "errorMessage", "attemptEndingTimestamp"]


def test_what_destinations_refused_has_their_members() -> None:
    """As in the developer guide's examples."""
    http = only(failed_as("http-endpoint-failed", attempts=5))
    assert list(http) == [*COMMON, "rawData", "subsequenceNumber", "dataId"]
    assert (http["subsequenceNumber"], http["dataId"]) == (0, f"{NUMBER}.0")
    splunk = only(failed_as("splunk-failed"))
    assert list(splunk) == [*COMMON, "rawData", "EventId"]
    assert splunk["EventId"] == f"{NUMBER}.0"
    members = {"esDocumentId": ["id"], "esIndexName": "index", "esTypeName": ""}
    for output_type in ("elasticsearch-failed", "AmazonOpenSearchService_failed"):
        opensearch = only(failed_as(output_type, members=members))
        assert list(opensearch) == [*COMMON, "esDocumentId", "esIndexName", "esTypeName", "rawData"]
        assert opensearch["esDocumentId"] == "id"


def test_everything_else_has_the_common_members() -> None:
    """Iceberg, partition keys, partitions."""
    for output_type in ("iceberg-failed", "metadata-extraction-failed", "activePartitionExceeded"):
        assert list(only(failed_as(output_type, members={"more": 1}))) == [*COMMON, "rawData", "more"]


def test_the_record_is_shown_as_it_came() -> None:
    """Before decompression, where there was one."""
    rows = replace(ROWS, raw=pa.array([b"compressed"], pa.binary()))
    assert b64decode(only(replace(failed_as("processing-failed"), rows=rows))["rawData"]) == b"compressed"


def test_a_member_may_have_a_value_for_each_row() -> None:
    """A list or a column as long as there are rows."""
    rows = rows_of(b"a", b"b")
    members = {"id": pa.array(["x", None]), "all": "y"}
    lines = documents(Failed(rows, "iceberg-failed", [("c", "m")] * 2, members=members), at_ms=AT_MS).to_pylist()
    assert [(each["id"], each["all"]) for each in map(json.loads, lines)] == [("x", "y"), (None, "y")]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=30), st.text(), st.text()), max_size=8),
    st.sampled_from(["processing-failed", "format-conversion-failed", "http-endpoint-failed", "iceberg-failed"]),
)
def test_each_record_is_one_line_of_json(records: list[tuple[bytes, str, str]], output_type: str) -> None:
    """Whatever the record and the texts, lone surrogates too."""
    errors = [(code, message) for _, code, message in records]
    rows = rows_of(*[data for data, _, _ in records])
    lines = documents(Failed(rows, output_type, errors), at_ms=AT_MS)
    assert lines.type == pa.binary()
    for line, (data, _, _) in zip(lines.to_pylist(), records, strict=True):
        assert line.count(b"\n") == 1
        assert b64decode(json.loads(line)["rawData"]) == data
