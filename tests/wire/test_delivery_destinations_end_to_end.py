"""Deliveries to HTTP endpoints, Splunk, OpenSearch and Redshift as AWS has them, on a real server, with certificates as
they have to be, and S3 for what they do not take."""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.wire.cloud import ROLE, eventually, function_arn
from tests.wire.delivery_cloud import (
    NEWLINES,
    DeliveryCloud,
    Key,
    certificate,
    delivery_cloud,
    processor,
    processors,
)
from tests.wire.postgres import postgres
from tests.wire.record_endpoints import (
    BulkIndex,
    FirehoseEndpoint,
    SplunkCollector,
    answers,
    decoded,
    loses_the_answer,
    splunk_says,
)

UPPER: Final = """
import base64


def handler(event, context):
    for record in event["records"]:
        record["data"] = base64.b64encode(base64.b64decode(record["data"]).upper()).decode()
    return {"records": [{**record, "result": "Ok"} for record in event["records"]]}
"""


class World(NamedTuple):
    cloud: DeliveryCloud
    tls: ssl.SSLContext


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The server trusts one certificate more than its machine does."""
    directory = tmp_path_factory.mktemp("delivery")
    trusted, tls = certificate(directory)
    with delivery_cloud(directory / "data", {"SSL_CERT_FILE": str(trusted)}) as made:
        made.create("upper", UPPER)
        yield World(made, tls)


@pytest.fixture
def cloud(world: World) -> DeliveryCloud:
    return world.cloud


@pytest.fixture
def bucket(world: World) -> str:
    return world.cloud.bucket()


def backup(bucket: str) -> dict[str, Any]:
    return {
        "S3Configuration": {
            "BucketARN": f"arn:aws:s3:::{bucket}",
            "RoleARN": ROLE,
            "Prefix": "all/",
            "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
        }
    }


def to_http(bucket: str, url: str, **members: Any) -> dict[str, Any]:
    return {
        "EndpointConfiguration": {"Url": f"{url}/in", "Name": "mine", "AccessKey": "secret"},
        "RequestConfiguration": {
            "ContentEncoding": "GZIP",
            "CommonAttributes": [{"AttributeName": "team", "AttributeValue": "x"}],
        },
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        "RetryOptions": {"DurationInSeconds": 30},
        "RoleARN": ROLE,
        "S3BackupMode": "FailedDataOnly",
        **backup(bucket),
        **members,
    }


def tries(cloud: DeliveryCloud, name: str, destination: str) -> tuple[float, float]:
    """That succeeded, and that failed."""
    counted = [
        cloud.metric("streamkit_delivery_tries_total", delivery_stream=name, destination=destination, outcome=outcome)
        for outcome in ("succeeded", "failed")
    ]
    return counted[0], counted[1]


# -- HTTP ------------------------------------------------------------------------------------------------------------


def test_an_http_endpoint_gets_records_as_aws_sends_them(world: World, bucket: str) -> None:
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as endpoint:
        name = cloud.deliver(
            "HttpEndpoint",
            {
                **to_http(bucket, endpoint.url),
                **processors(
                    processor("Lambda", LambdaArn=function_arn("upper")), processor("AppendDelimiterToRecord")
                ),
            },
        )
        cloud.send(name, b"one", b"two", b"three")
        cloud.flush(name)
        assert endpoint.records == [b"ONE\n", b"TWO\n", b"THREE\n"]
        (request,) = endpoint.requests
    headers = request.headers
    assert request.path == "/in"
    assert headers["x-amz-firehose-protocol-version"] == "1.0"
    assert headers["x-amz-firehose-access-key"] == "secret"
    assert headers["x-amz-firehose-source-arn"] == cloud.describe(name)["DeliveryStreamARN"]
    assert json.loads(headers["x-amz-firehose-common-attributes"]) == {"commonAttributes": {"team": "x"}}
    assert headers["content-encoding"] == "gzip"
    assert abs(decoded(request)["timestamp"] / 1_000 - time.time()) < 60
    assert cloud.keys(bucket) == []
    assert cloud.metric("streamkit_delivery_records_total", delivery_stream=name, destination="HttpEndpoint") == 3


def test_an_http_endpoint_that_fails_for_a_while_gets_each_record_once(world: World, bucket: str) -> None:
    """Every try has the same request id."""
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as endpoint:
        endpoint.script.extend([answers(503), loses_the_answer, answers(500)])
        name = cloud.deliver("HttpEndpoint", to_http(bucket, endpoint.url), cloud.source())
        source = cloud.describe(name)["Source"]["KinesisStreamSourceDescription"]["KinesisStreamARN"]
        cloud.put(source.rpartition("/")[2], *((str(n), {"n": n}) for n in range(10)))
        cloud.flush(name)
        assert [json.loads(each)["n"] for each in endpoint.records] == list(range(10))
        assert len({request.headers["x-amz-firehose-request-id"] for request in endpoint.requests}) == 1
        assert len(endpoint.requests) == 4
    assert tries(cloud, name, "HttpEndpoint") == (1, 3)
    assert cloud.keys(bucket) == []


def test_what_an_http_endpoint_does_not_take_in_time_is_in_the_bucket(world: World, bucket: str) -> None:
    """With AWS's document; what comes when it works again is delivered."""
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as endpoint:
        endpoint.is_out = True
        name = cloud.deliver("HttpEndpoint", to_http(bucket, endpoint.url, RetryOptions={"DurationInSeconds": 1}))
        records = [b"lost 1", b"\xfflost 2"]
        cloud.send(name, *records)
        cloud.flush(name)
        endpoint.is_out = False
        cloud.send(name, b"found")
        cloud.flush(name)
        assert endpoint.records == [b"found"]
        assert len(endpoint.requests) > 2
    (key,) = cloud.keys(bucket)
    assert Key.of(key).prefix == "errors/http-endpoint-failed/"
    documents = cloud.documents_in(bucket)
    assert [base64.b64decode(each["rawData"]) for each in documents] == records
    first = documents[0]
    assert list(first)[:6] == [
        "attemptsMade",
        "arrivalTimestamp",
        "errorCode",
        "errorMessage",
        "attemptEndingTimestamp",
        "rawData",
    ]
    assert first["errorCode"].startswith("HttpEndpoint.")
    assert first["attemptsMade"] == tries(cloud, name, "HttpEndpoint")[1]
    assert first["attemptEndingTimestamp"] - first["arrivalTimestamp"] >= 1_000
    assert cloud.metric("streamkit_delivery_error_records_total", delivery_stream=name) == 2
    assert cloud.metric("streamkit_delivery_records_total", delivery_stream=name, destination="HttpEndpoint") == 1


def test_a_restart_goes_on_with_a_delivery_that_was_under_way(world: World, bucket: str) -> None:
    """With the same request id, so that an endpoint that remembers ids takes each record once."""
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as endpoint:
        endpoint.is_out = True
        at_once = {"BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}
        name = cloud.deliver("HttpEndpoint", to_http(bucket, endpoint.url, **at_once))
        cloud.send(name, b"1", b"2")
        eventually(lambda: len(endpoint.requests) >= 2)
        cloud.server.kill()
        endpoint.is_out = False
        cloud.server.start()
        eventually(lambda: endpoint.records == [b"1", b"2"])
        assert len({request.headers["x-amz-firehose-request-id"] for request in endpoint.requests}) == 1
    assert cloud.keys(bucket) == []


def test_a_new_destination_is_not_held_up_by_the_old_one(world: World, bucket: str) -> None:
    """What was meant for that goes on being tried there."""
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as old, FirehoseEndpoint(world.tls) as new:
        old.is_out = True
        name = cloud.deliver("HttpEndpoint", to_http(bucket, old.url))
        cloud.send(name, b"old")
        cloud.redirect(name, "HttpEndpoint", BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 0})
        eventually(lambda: old.requests)
        cloud.redirect(name, "HttpEndpoint", EndpointConfiguration={"Url": new.url, "Name": "new"})
        cloud.send(name, b"new")
        eventually(lambda: new.records)
        old.is_out = False
        cloud.flush(name)
        assert (old.records, new.records) == ([b"old"], [b"new"])
    assert cloud.keys(bucket) == []


def test_all_data_is_backed_up_where_that_is_asked_for(world: World, bucket: str) -> None:
    cloud = world.cloud
    with FirehoseEndpoint(world.tls) as endpoint:
        configuration = to_http(bucket, endpoint.url, S3BackupMode="AllData")
        configuration["S3Configuration"]["CompressionFormat"] = "GZIP"
        name = cloud.deliver("HttpEndpoint", {**configuration, **NEWLINES})
        cloud.send(name, b"one", b"two")
        cloud.flush(name)
        assert endpoint.records == [b"one\n", b"two\n"]
    ((key, body),) = cloud.objects(bucket).items()
    assert Key.of(key).prefix.startswith("all/2")
    assert gzip.decompress(body) == b"onetwo"
    assert cloud.metric("streamkit_delivery_backup_records_total", delivery_stream=name) == 2


# -- Splunk ----------------------------------------------------------------------------------------------------------


def to_splunk(bucket: str, url: str, kind: str, **members: Any) -> dict[str, Any]:
    return {
        "HECEndpoint": url,
        "HECEndpointType": kind,
        "HECToken": "secret-token",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        "RetryOptions": {"DurationInSeconds": 30},
        **backup(bucket),
        **members,
    }


def test_splunk_gets_raw_data_and_is_asked_whether_it_has_it(world: World, bucket: str) -> None:
    cloud = world.cloud
    with SplunkCollector(asked_before_acknowledging=1, tls=world.tls) as splunk:
        splunk.script.append(answers(503, splunk_says(503, 9, "Server is busy").body))
        name = cloud.deliver("Splunk", {**to_splunk(bucket, splunk.url, "Raw"), **NEWLINES})
        cloud.send(name, b"one", b"two")
        cloud.flush(name)
        assert b"".join(splunk.raw) == b"one\ntwo\n"
    assert tries(cloud, name, "Splunk") == (1, 1)
    assert cloud.keys(bucket) == []


def test_splunk_gets_events_and_what_is_none_is_in_the_bucket(world: World, bucket: str) -> None:
    cloud = world.cloud
    with SplunkCollector(tls=world.tls) as splunk:
        name = cloud.deliver("Splunk", to_splunk(bucket, splunk.url, "Event"))
        cloud.send(name, b'{"event":"a"}', b"no event", b'{"event":{"n":1}}')
        cloud.flush(name)
        assert splunk.events == [{"event": "a"}, {"event": {"n": 1}}]
    (document,) = cloud.documents_in(bucket)
    assert base64.b64decode(document["rawData"]) == b"no event"
    assert document["errorCode"].startswith("Splunk.")
    assert Key.of(cloud.keys(bucket)[0]).prefix == "errors/splunk-failed/"


# -- OpenSearch ------------------------------------------------------------------------------------------------------


def to_opensearch(bucket: str, url: str, **members: Any) -> dict[str, Any]:
    return {
        "RoleARN": ROLE,
        "IndexName": "logs",
        "ClusterEndpoint": url,
        "IndexRotationPeriod": "OneMonth",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        "RetryOptions": {"DurationInSeconds": 30},
        **backup(bucket),
        **members,
    }


def test_opensearch_has_documents_and_what_does_not_fit_is_in_the_bucket(world: World, bucket: str) -> None:
    """A mapping that refuses one document does not keep the others out, and a busy cluster gets them later."""
    cloud = world.cloud
    with BulkIndex(busy=1, tls=world.tls) as index:
        name = cloud.deliver("Amazonopensearchservice", to_opensearch(bucket, index.url))
        cloud.send(name, b'{"text":"a"}', b'{"text":"poison"}', b'{"text":"b"}')
        cloud.flush(name)
        documents = index.documents
    assert sorted(each["text"] for each in documents.values()) == ["a", "b"]
    assert {place for place, _ in documents} == {f"logs-{time.strftime('%Y-%m', time.gmtime())}"}
    (document,) = cloud.documents_in(bucket)
    assert base64.b64decode(document["rawData"]) == b'{"text":"poison"}'
    assert document["errorCode"] == "400"
    assert "mapper_parsing_exception" in document["errorMessage"]
    assert list(document)[5:] == ["esDocumentId", "esIndexName", "esTypeName", "rawData"]
    assert document["esIndexName"] == next(iter(documents))[0]
    assert document["esDocumentId"] not in {identity for _, identity in documents}
    assert Key.of(cloud.keys(bucket)[0]).prefix.startswith("errors/AmazonOpenSearchService")
    assert cloud.metric("streamkit_delivery_error_records_total", delivery_stream=name) == 1


def test_a_lost_answer_of_opensearch_doubles_nothing(world: World, bucket: str) -> None:
    cloud = world.cloud
    with BulkIndex(tls=world.tls) as index:
        index.script.append(loses_the_answer)
        name = cloud.deliver("Amazonopensearchservice", to_opensearch(bucket, index.url))
        cloud.send(name, *(json.dumps({"n": n}).encode() for n in range(100)))
        cloud.flush(name)
        assert sorted(each["n"] for each in index.documents.values()) == list(range(100))
        assert len(index.requests) == 2
    assert cloud.keys(bucket) == []


# -- Redshift --------------------------------------------------------------------------------------------------------


def to_redshift(bucket: str, table: str, **members: Any) -> dict[str, Any]:
    return {
        "RoleARN": ROLE,
        "ClusterJDBCURL": "jdbc:redshift://one.abc.us-east-1.redshift.amazonaws.com:5439/dev",
        "CopyCommand": {"DataTableName": table, "DataTableColumns": "id,name", "CopyOptions": "JSON 'auto'"},
        "Username": "nobody",
        "Password": "secret",
        "RetryOptions": {"DurationInSeconds": 2},
        "S3Configuration": {
            "BucketARN": f"arn:aws:s3:::{bucket}",
            "RoleARN": ROLE,
            "Prefix": "staged/",
            "CompressionFormat": "GZIP",
        },
        **members,
    }


def test_a_redshift_table_is_loaded_from_the_bucket(tmp_path: Path) -> None:
    """A document made for AWS, and a PostgreSQL: rows are there once, also over a kill; objects stay in the bucket."""
    with (
        postgres() as database,
        delivery_cloud(tmp_path / "data", redshift_url=database.url, redshift_copy="stdin") as cloud,
    ):
        with database.connect() as connection:
            connection.execute("CREATE TABLE people (id BIGINT PRIMARY KEY, name TEXT)")
            bucket = cloud.bucket()
            name = cloud.deliver("Redshift", {**to_redshift(bucket, "people"), **NEWLINES}, source := cloud.source())
            cloud.put(source, *((str(n), {"id": n, "name": f"n{n}"}) for n in range(100)))
            cloud.flush(name)
            cloud.put(source, *((str(n), {"id": n, "name": f"n{n}"}) for n in range(100, 200)))
            cloud.server.kill()
            cloud.server.start()
            cloud.flush(name)
            rows = connection.execute("SELECT id, name FROM people ORDER BY id").fetchall()
            assert rows == [(n, f"n{n}") for n in range(200)]
            assert len(cloud.lines(bucket, "staged/")) == 200
            assert cloud.metric("streamkit_delivery_records_total", destination="Redshift") == 100  # since the restart
            cloud.put(source, ("k", {"id": 1, "name": "there already"}))
            cloud.flush(name)
            assert connection.execute("SELECT count(*) FROM people").fetchone() == (200,)
        (manifest,) = cloud.documents_in(bucket, "errors/manifests/")
        key = manifest["entries"][0]["url"].removeprefix(f"s3://{bucket}/")
        assert json.loads(gzip.decompress(cloud.objects(bucket)[key]))["name"] == "there already"
