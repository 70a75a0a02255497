"""Firehose through boto3: records that are put, and destinations that only our own clients can name."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamkit.testing.clock import ManualClock
from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, kinesis
from tests.wire.firehose_server import (
    BUCKET,
    ROLE,
    STREAM,
    FirehoseServer,
    create,
    describe,
    firehose_client,
    invalid,
    refused,
    serving,
    update,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FirehoseServer, Any]]:
    with serving() as made:
        yield made


@pytest.fixture
def server(shared: tuple[FirehoseServer, Any]) -> FirehoseServer:
    return shared[0]


@pytest.fixture
def client(shared: tuple[FirehoseServer, Any]) -> Iterator[Any]:
    """Of a server without delivery streams, where all is done at once."""
    yield shared[1]
    shared[0].clear()


# -- records ---------------------------------------------------------------------------------------------------------


def test_what_is_put_is_stored_in_order_and_answered_with_an_id_each(client: Any, server: FirehoseServer) -> None:
    """Ids are base64 of 168 bytes, as AWS's, and each is another one."""
    create(client)
    ids = [client.put_record(DeliveryStreamName="d", Record={"Data": b"first"})["RecordId"]]
    values = [bytes([number]) * number for number in range(200)]
    answer = client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": value} for value in values])
    assert (answer["FailedPutCount"], answer["Encrypted"]) == (0, False)
    ids += [each["RecordId"] for each in answer["RequestResponses"]]
    assert len(set(ids)) == len(ids) == 201
    assert {len(base64.b64decode(each, validate=True)) for each in ids} == {168}
    assert server.stored("d") == [b"first", *values]


def test_a_large_record_and_a_large_batch_are_taken(client: Any, server: FirehoseServer) -> None:
    """1,000 KiB and 4 MiB to the byte, and not one byte more."""
    create(client)
    largest = b"x" * 1_024_000
    client.put_record(DeliveryStreamName="d", Record={"Data": largest})
    exact = [largest] * 4 + [b"y" * (4 * 1024 * 1024 - 4 * len(largest))]
    client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": value} for value in exact])
    assert server.stored("d") == [largest, *exact]
    with invalid("Records size exceeds 4 MB limit"):
        client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": value} for value in [*exact, b"z"]])
    with refused(
        "ValidationException",
        "1 validation error detected: Value at 'record.data' failed to satisfy constraint: Member must have length "
        "less than or equal to 1024000",
    ):
        client.put_record(DeliveryStreamName="d", Record={"Data": largest + b"x"})
    assert len(server.stored("d")) == 6


@pytest.mark.parametrize("count", [0, 501])
def test_a_batch_has_from_one_to_five_hundred_records(client: Any, count: int) -> None:
    """The model's bounds."""
    create(client)
    with pytest.raises(
        ClientError, match="at 'records' failed to satisfy constraint: Member must have length"
    ) as caught:
        client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b""}] * count)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_the_checked_way_puts_the_same_as_the_fast_one(client: Any, server: FirehoseServer) -> None:
    """A member that the fast way does not know makes it decline."""
    create(client)
    with RawClient(server.port) as raw:
        headers = {
            "Authorization": raw.authorization,
            "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.1",
        }
        data = base64.b64encode(b"unusual").decode()
        for target, members in (
            ("PutRecord", {"Record": {"Data": data}}),
            ("PutRecordBatch", {"Records": [{"Data": data, "Unknown": 1}]}),
        ):
            body = json.dumps({"DeliveryStreamName": "d", "Unknown": 1, **members}).encode()
            answer = raw.request("POST", "/", body, {**headers, "X-Amz-Target": f"Firehose_20150804.{target}"})
            assert answer.status == 200, answer.body
            assert answer.json["Encrypted"] is False
    assert server.stored("d") == [b"unusual"] * 2


def test_what_reads_a_stream_takes_no_puts(client: Any) -> None:
    """AWS's text, and the code that AWS was seen to answer."""
    source = {"KinesisStreamARN": STREAM, "RoleARN": ROLE}
    create(client, DeliveryStreamType="KinesisStreamAsSource", KinesisStreamSourceConfiguration=source)
    message = "This operation is not permitted on KinesisStreamAsSource delivery stream type."
    with invalid(message):
        client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})
    with invalid(message):
        client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b"x"}])


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when it should be durable"])
def test_a_disk_that_refuses_fails_each_record_of_a_batch(late: bool) -> None:
    """A put is answered with a 503, which clients repeat; a batch says of each record that it was not taken."""
    with serving() as (server, client):
        create(client)
        client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})
        server.break_disk("d", late=late)
        with pytest.raises(ClientError) as caught:
            client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})
        assert caught.value.response["Error"]["Code"] == "ServiceUnavailableException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        answer = client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b"x"}] * 3)
        assert answer["FailedPutCount"] == 3
        failed = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "The disk is full."}
        assert answer["RequestResponses"] == [failed] * 3
        assert server.stored("d") == [b"x"]


def test_what_is_over_the_limit_is_told_to_slow_down_record_by_record() -> None:
    """Where limits are enforced; the records that were taken have their ids, in their places."""
    with serving(ManualClock(), enforces_limits=True) as (server, client):
        create(client)
        records = [{"Data": bytes([number]) * 400_000} for number in range(4)]
        answer = client.put_record_batch(DeliveryStreamName="d", Records=records)
        taken = ["RecordId" in each for each in answer["RequestResponses"]]
        assert 0 < sum(taken) < 4
        assert answer["FailedPutCount"] == 4 - sum(taken)
        slow = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
        assert [each for each in answer["RequestResponses"] if "RecordId" not in each] == [slow] * (4 - sum(taken))
        assert server.stored("d") == [
            record["Data"] for record, was_taken in zip(records, taken, strict=True) if was_taken
        ]
        with refused("ServiceUnavailableException", "Slow down."):
            client.put_record(DeliveryStreamName="d", Record=records[0])


def test_a_whole_server_puts_what_is_acknowledged_where_only_it_can_see_it(
    streamkit_shared_server: ServerProcess,
) -> None:
    """Deleting the delivery stream, and making it again, begins anew."""
    with firehose_client(streamkit_shared_server.port, checks=True) as client:
        for _ in range(2):
            create(client)
            assert client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})["RecordId"]
            answer = client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b"x"}] * 500)
            assert answer["FailedPutCount"] == 0
            with kinesis(streamkit_shared_server.endpoint) as streams:
                assert streams.list_streams()["StreamNames"] == []
            client.delete_delivery_stream(DeliveryStreamName="d")
        assert client.list_delivery_streams()["DeliveryStreamNames"] == []


# -- destinations by URL ---------------------------------------------------------------------------------------------


class Own:
    """What AWS's clients cannot send."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, operation: str, **members: Any) -> Any:
        with RawClient(self._port) as raw:
            headers = {
                "Authorization": raw.authorization,
                "X-Amz-Date": "20260101T000000Z",
                "X-Amz-Target": f"Firehose_20150804.{operation}",
            }
            answer = raw.request("POST", "/", json.dumps({"DeliveryStreamName": "d", **members}).encode(), headers)
        if answer.status != 200:
            raise Refused(answer.json["__type"], answer.json["message"])
        return answer.json

    def describe(self) -> Any:
        description = self.call("DescribeDeliveryStream")["DeliveryStreamDescription"]
        return description["Destinations"][0]["StreamkitDestinationDescription"]


class Refused(Exception):
    pass


@pytest.fixture
def own(client: Any, server: FirehoseServer) -> Own:
    return Own(server.port)


def test_a_place_is_given_by_its_url(own: Own, client: Any) -> None:
    """Shown with what was said of it, without secrets; boto3 describes the rest."""
    configuration = {
        "Url": "https://h/p",
        "Options": {"access_key": "secret!", "name": "n"},
        "BufferingHints": {"SizeInBytes": 1_000, "IntervalInMilliseconds": 10},
    }
    own.call("CreateDeliveryStream", StreamkitDestinationConfiguration=configuration)
    assert own.describe() == {**configuration, "Options": {"name": "n"}, "Format": "json"}
    assert describe(client)["Destinations"] == [{"DestinationId": "destinationId-000000000001"}]


def test_a_place_can_be_changed(own: Own, client: Any) -> None:
    """Members that are not given stay; AWS's kinds replace it and the other way round."""
    own.call("CreateDeliveryStream", StreamkitDestinationConfiguration={"Url": "/a", "Format": "parquet"})
    version = {"CurrentDeliveryStreamVersionId": "1", "DestinationId": "destinationId-000000000001"}
    own.call("UpdateDestination", StreamkitDestinationUpdate={"Compression": "ZSTD"}, **version)
    assert own.describe() == {"Url": "/a", "Format": "parquet", "Compression": "ZSTD", "Options": {}}
    update(client, "2", ExtendedS3DestinationUpdate=BUCKET)
    version["CurrentDeliveryStreamVersionId"] = "3"
    with pytest.raises(Refused, match="Url must be specified"):
        own.call("UpdateDestination", StreamkitDestinationUpdate={"Format": "orc"}, **version)
    own.call("UpdateDestination", StreamkitDestinationUpdate={"Url": "file:///b"}, **version)
    assert own.describe()["Url"] == "file:///b"


@pytest.mark.parametrize(
    ("configuration", "code", "message"),
    [
        ({"Url": "gopher://h"}, "InvalidArgumentException", "gopher://h is no place that streamkit delivers to"),
        ({"Url": "a/b"}, "InvalidArgumentException", "a/b is no place that streamkit delivers to"),
        ({}, "ValidationException", "Value null at 'streamkitDestinationConfiguration.url'"),
        ({"Url": "/a", "Format": "csv"}, "ValidationException", r"enum value set: \[json, parquet, orc, records\]"),
        ({"Url": "/a", "Compression": "LZ4"}, "InvalidArgumentException", "Compression LZ4 is none of"),
        ({"Url": "/a", "Format": "orc", "Compression": "GZIP"}, "InvalidArgumentException", "none of NONE, ZLIB"),
        ({"Url": "https://h", "Format": "orc"}, "InvalidArgumentException", "takes records one by one"),
        ({"Url": "/a", "BufferingHints": {"SizeInBytes": 0}}, "InvalidArgumentException", "SizeInBytes is 0"),
        ({"Url": "/a", "DynamicPartitioning": True}, "InvalidArgumentException", "Processing Configuration is not"),
        (
            {"Url": "/a", "Format": "orc", "Columns": [{"Name": "a", "Type": "int"}] * 2},
            "InvalidArgumentException",
            "Columns has a twice",
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused(own: Own, configuration: dict[str, Any], code: str, message: str) -> None:
    """Before anything is made."""
    with pytest.raises(Refused, match=message) as caught:
        own.call("CreateDeliveryStream", StreamkitDestinationConfiguration=configuration)
    assert caught.value.args[0] == code
