"""Event source mappings through boto3: AWS's answers, member by member, and AWS's refusals."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from streamkit.api.errors import RequestIds
from streamkit.api.gateway import Gateway, RestAction
from streamkit.api.http import HttpServer
from streamkit.api.kinesis import Kinesis
from streamkit.api.mappings import MappingOperations
from streamkit.api.service_model import ServiceModel
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import Clock, SystemClock
from streamkit.control import ControlFile
from streamkit.functions.destinations import RecordDestinations
from streamkit.mappings.destination_streams import stream_destinations
from streamkit.mappings.registry import MappingRegistry
from streamkit.mappings.store import MappingStore
from streamkit.metrics import Registry
from streamkit.model.errors import ResourceNotFound
from streamkit.model.limits import HOUR_MS
from streamkit.model.names import ConsumerArn, FunctionArn, Scope, StreamArn
from streamkit.shards.memory import MemoryLogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams
from streamkit.testing.clock import ManualClock
from tests.wire.clients import ACCOUNT, REGION, eventually, kinesis

STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
FUNCTIONS: Mapping[str, tuple[str | None, ...]] = {"f": (None, "$LATEST", "1", "live"), "g": (None,)}


def function_exists(arn: FunctionArn) -> FunctionArn | None:
    return arn if arn.scope == (ACCOUNT, REGION) and arn.qualifier in FUNCTIONS.get(arn.name, ()) else None


class Service:
    """See `streamkit.api.gateway.RestService`: the mappings' part of Lambda, and its operations on tags."""

    def __init__(self, operations: MappingOperations) -> None:
        self.model = ServiceModel.load("lambda", "2015-03-31")
        self._operations = operations

    @property
    def actions(self) -> Mapping[str, RestAction]:
        return {
            **self._operations.actions,
            "ListTags": self._list_tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    async def _list_tags(self, scope: Scope, given: dict[str, Any]) -> Mapping[str, Any]:
        return {"Tags": self._operations.tags(given["Resource"])}

    async def _tag(self, scope: Scope, given: dict[str, Any]) -> Mapping[str, Any]:
        await self._operations.tag(given["Resource"], given["Tags"])
        return {}

    async def _untag(self, scope: Scope, given: dict[str, Any]) -> Mapping[str, Any]:
        await self._operations.untag(given["Resource"], given["TagKeys"])
        return {}


class MappingsServer:
    """Kinesis and the mappings' part of Lambda on a port of their own, on a thread."""

    def __init__(self, clock: Clock, transition_delay_ms: int) -> None:
        self._clock = clock
        self._delay_ms = transition_delay_ms
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> int:
        clock, metrics = self._clock, Registry()
        control = ControlStore(ControlFile(None))
        self.streams = Streams(control, MemoryLogStore(clock=clock), clock=clock, random=random.Random(1))
        await self.streams.start()
        self.registry = MappingRegistry(
            MappingStore(control.file),
            clock=clock,
            random=random.Random(2),
            transition_delay_ms=self._delay_ms,
            function_exists=function_exists,
            source_exists=self._source_exists,
            destinations=RecordDestinations({"kinesis": stream_destinations(self.streams)}),
        )
        gateway = Gateway(
            [Kinesis(self.streams, clock, metrics)],
            {},
            authenticator=Authenticator("presence", {}, clock),
            default_scope=Scope(ACCOUNT, REGION),
            request_ids=RequestIds(random.Random(3)),
            metrics=metrics,
            rest_services=[Service(MappingOperations(self.registry))],
        )
        self._http = HttpServer(gateway.handle, clock=clock, on_error=gateway.failed)
        await self._http.start("127.0.0.1", 0)
        return self._http.port

    def _source_exists(self, arn: str) -> bool:
        try:
            if ConsumerArn.parse(arn):
                self.streams.consumer_by_arn(arn)
            else:
                stream = StreamArn.parse(arn)
                assert stream is not None
                self.streams.find(*stream)
        except ResourceNotFound:
            return False
        return True

    async def _stop(self) -> None:
        await self._http.drain(1_000)
        await self.registry.close()
        await self.streams.close()

    def set_result(self, mapping_id: str, text: str) -> None:
        self._loop.call_soon_threadsafe(self.registry.set_result, mapping_id, text)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@contextlib.contextmanager
def lambda_client(port: int) -> Iterator[Any]:
    """boto3 that checks no input by itself and tries once."""
    client = boto3.session.Session().client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def serving(clock: Clock, transition_delay_ms: int) -> Iterator[tuple[MappingsServer, Any]]:
    """A server with the streams `s` and `failed`, and a client."""
    server = MappingsServer(clock, transition_delay_ms)
    try:
        with kinesis(f"http://127.0.0.1:{server.port}") as client:
            for name in ("s", "failed"):
                client.create_stream(StreamName=name, ShardCount=1)
        with lambda_client(server.port) as client:
            yield server, client
    finally:
        server.close()


@pytest.fixture
def server() -> Iterator[tuple[MappingsServer, Any]]:
    """Changes take effect at once."""
    with serving(SystemClock(), 0) as made:
        yield made


@pytest.fixture
def client(server: tuple[MappingsServer, Any]) -> Any:
    return server[1]


def create(client: Any, **members: Any) -> dict[str, Any]:
    members = {"EventSourceArn": STREAM, "FunctionName": "f", "StartingPosition": "LATEST", **members}
    answer: dict[str, Any] = client.create_event_source_mapping(
        **{name: value for name, value in members.items() if value is not None}
    )
    return answer


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def status(answer: dict[str, Any]) -> int:
    code: int = answer["ResponseMetadata"]["HTTPStatusCode"]
    return code


@contextlib.contextmanager
def refusal(code: str, http_status: int, text: str | None = None) -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    response = caught.value.response
    assert (response["Error"]["Code"], status(response)) == (code, http_status), response
    if text is not None:
        assert response["Error"]["Message"] == text


# -- answers ---------------------------------------------------------------------------------------------------------


def test_a_new_mapping_is_answered_with_every_default(client: Any) -> None:
    """Recorded from AWS, member by member."""
    answer = create(client)
    assert status(answer) == 202
    modified_at = answer["LastModified"]
    assert abs(modified_at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    mapping_id = answer["UUID"]
    assert without_metadata(answer) == {
        "BatchSize": 100,
        "BisectBatchOnFunctionError": False,
        "DestinationConfig": {"OnFailure": {}},
        "EventSourceArn": STREAM,
        "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{mapping_id}",
        "FunctionArn": FUNCTION,
        "FunctionResponseTypes": [],
        "LastModified": modified_at,
        "LastProcessingResult": "No records processed",
        "MaximumBatchingWindowInSeconds": 0,
        "MaximumRecordAgeInSeconds": -1,
        "MaximumRetryAttempts": -1,
        "ParallelizationFactor": 1,
        "StartingPosition": "LATEST",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "TumblingWindowInSeconds": 0,
        "UUID": mapping_id,
    }
    found = client.get_event_source_mapping(UUID=mapping_id)
    assert status(found) == 200
    assert {**without_metadata(found), "LastModified": modified_at} == {**without_metadata(answer), "State": "Enabled"}


def test_all_that_was_given_is_answered(client: Any) -> None:
    at = datetime.datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
    given = {
        "BatchSize": 7,
        "MaximumBatchingWindowInSeconds": 2,
        "ParallelizationFactor": 3,
        "MaximumRetryAttempts": 0,
        "MaximumRecordAgeInSeconds": 60,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": at,
        "DestinationConfig": {"OnFailure": {"Destination": STREAM.replace("/s", "/failed")}},
        "FilterCriteria": {"Filters": [{"Pattern": '{"data": {"a": [1]}}'}, {"Pattern": '{"partitionKey": ["k"]}'}]},
        "MetricsConfig": {"Metrics": ["EventCount"]},
        "KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
    }
    mapping_id = create(client, **given, Enabled=False, FunctionName=f"{FUNCTION}:live")["UUID"]
    answer = client.get_event_source_mapping(UUID=mapping_id)
    assert {name: answer[name] for name in given} == given
    assert (answer["State"], answer["FunctionArn"]) == ("Disabled", f"{FUNCTION}:live")


def test_no_filters_are_no_member(client: Any) -> None:
    assert "FilterCriteria" not in create(client, FilterCriteria={"Filters": []})


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("f", FUNCTION),
        (f"{ACCOUNT}:function:f", FUNCTION),
        (f"{FUNCTION}", FUNCTION),
        ("f:$LATEST", f"{FUNCTION}:$LATEST"),
        (f"{FUNCTION}:1", f"{FUNCTION}:1"),
    ],
)
def test_the_function_is_answered_as_it_was_asked_for(client: Any, name: str, arn: str) -> None:
    assert create(client, FunctionName=name)["FunctionArn"] == arn


def test_a_consumer_is_a_source(server: tuple[MappingsServer, Any]) -> None:
    made, client = server
    with kinesis(f"http://127.0.0.1:{made.port}") as streams:
        arn = streams.register_stream_consumer(StreamARN=STREAM, ConsumerName="c")["Consumer"]["ConsumerARN"]
    assert create(client, EventSourceArn=arn)["EventSourceArn"] == arn
    create(client)  # the stream itself is another source
    missing = arn.replace("/c:", "/d:")
    with refusal("InvalidParameterValueException", 400, f"Consumer not found: {missing}"):
        create(client, EventSourceArn=missing)


def test_an_update_is_answered_with_the_old_values_and_then_has_the_new(client: Any) -> None:
    mapping_id = create(client, FilterCriteria={"Filters": [{"Pattern": '{"data": {"a": [1]}}'}]})["UUID"]
    before = without_metadata(client.get_event_source_mapping(UUID=mapping_id))
    answer = client.update_event_source_mapping(
        UUID=mapping_id, BatchSize=5, FunctionName="g", FilterCriteria={"Filters": []}
    )
    assert status(answer) == 202
    changed = ("State", "LastModified")
    assert answer["State"] == "Updating"
    assert {**without_metadata(answer), **{name: before[name] for name in changed}} == before
    after = client.get_event_source_mapping(UUID=mapping_id)
    assert (after["State"], after["BatchSize"]) == ("Enabled", 5)
    assert after["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:g"
    assert "FilterCriteria" not in after
    assert client.update_event_source_mapping(UUID=mapping_id, Enabled=False)["State"] == "Disabling"
    assert client.update_event_source_mapping(UUID=mapping_id, Enabled=True)["State"] == "Enabling"


def test_a_deleted_mapping_is_deleting_and_then_unknown(client: Any) -> None:
    mapping_id = create(client)["UUID"]
    answer = client.delete_event_source_mapping(UUID=mapping_id)
    assert (status(answer), answer["State"], answer["UUID"]) == (202, "Deleting", mapping_id)
    with refusal("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        client.get_event_source_mapping(UUID=mapping_id)


def test_the_last_processing_result_is_answered(server: tuple[MappingsServer, Any]) -> None:
    made, client = server
    mapping_id = create(client)["UUID"]
    client.get_event_source_mapping(UUID=mapping_id)
    made.set_result(mapping_id, "PROBLEM: Function call failed")
    eventually(
        lambda: (
            client.get_event_source_mapping(UUID=mapping_id)["LastProcessingResult"] == "PROBLEM: Function call failed"
        )
    )


def test_states_last_as_long_as_changes_take() -> None:
    """The server's clock stands still until it is set, and what has fallen due is seen by whoever looks."""
    clock = ManualClock()
    with serving(clock, HOUR_MS) as (_, client):
        mapping_id = create(client)["UUID"]

        def state() -> str:
            text: str = client.get_event_source_mapping(UUID=mapping_id)["State"]
            return text

        assert state() == "Creating"
        with refusal("ResourceInUseException", 400, "Cannot update the event source mapping because it is in use."):
            client.update_event_source_mapping(UUID=mapping_id, BatchSize=3)
        with refusal("ResourceInUseException", 400, "Cannot delete the event source mapping because it is in use."):
            client.delete_event_source_mapping(UUID=mapping_id)
        clock.step(HOUR_MS)
        assert state() == "Enabled"
        client.update_event_source_mapping(UUID=mapping_id, Enabled=False)
        assert state() == "Disabling"
        clock.step(HOUR_MS)
        assert state() == "Disabled"
        client.delete_event_source_mapping(UUID=mapping_id)
        assert state() == "Deleting"
        clock.step(HOUR_MS)
        assert client.list_event_source_mappings()["EventSourceMappings"] == []


# -- lists and tags --------------------------------------------------------------------------------------------------


def test_mappings_are_listed_by_function_and_source_page_by_page(client: Any) -> None:
    made = [create(client, FunctionName=name)["UUID"] for name in ("f", "f:1", "f:live", "g")]

    def listed(**members: Any) -> list[str]:
        pages = client.get_paginator("list_event_source_mappings").paginate(**members)
        return [each["UUID"] for page in pages for each in page["EventSourceMappings"]]

    assert sorted(listed()) == sorted(listed(MaxItems=10_000)) == sorted(made)
    assert sorted(listed(PaginationConfig={"PageSize": 1})) == sorted(made)
    assert listed(FunctionName="f") == listed(FunctionName=FUNCTION) == [made[0]]
    assert listed(FunctionName="f:live") == [made[2]]
    assert len(listed(EventSourceArn=STREAM)) == 4
    assert listed(EventSourceArn=f"{STREAM}9") == listed(FunctionName="none") == []
    first = client.list_event_source_mappings(MaxItems=3)
    assert (len(first["EventSourceMappings"]), "NextMarker" in first) == (3, True)
    rest = client.list_event_source_mappings(Marker=first["NextMarker"])
    assert (len(rest["EventSourceMappings"]), "NextMarker" in rest) == (1, False)
    assert first["EventSourceMappings"][0] == without_metadata(
        client.get_event_source_mapping(UUID=first["EventSourceMappings"][0]["UUID"])
    )


def test_tags_are_given_taken_away_and_listed(client: Any) -> None:
    arn = create(client, Tags={"a": "1"})["EventSourceMappingArn"]
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "1"}
    assert status(client.tag_resource(Resource=arn, Tags={"b": "ü", "a": "2"})) == 204
    assert status(client.untag_resource(Resource=arn, TagKeys=["a", "not there"])) == 204
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "ü"}
    with refusal("InvalidParameterValueException", 400, "Number of tags exceeds resource tag limit."):
        client.tag_resource(Resource=arn, Tags={str(number): "" for number in range(50)})
    missing = arn.replace(arn.rpartition(":")[2], UNKNOWN)
    with refusal("ResourceNotFoundException", 404, f"Event source mapping not found: {missing}"):
        client.list_tags(Resource=missing)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        ({"EventSourceArn": None}, "InvalidParameterValueException", "Unrecognized event source."),
        ({"FunctionName": "none"}, "InvalidParameterValueException", "Function does not exist"),
        ({"FunctionName": "f:9"}, "InvalidParameterValueException", "Function does not exist"),
        ({"EventSourceArn": f"{STREAM}9"}, "InvalidParameterValueException", f"Stream not found: {STREAM}9"),
        (
            {"StartingPosition": None},
            "InvalidParameterValueException",
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null.",
        ),
        (
            {"StartingPositionTimestamp": 5},
            "InvalidParameterValueException",
            "Timestamp only valid with StartingPosition AT_TIMESTAMP",
        ),
        (
            {"BatchSize": 10_001},
            "ValidationException",
            "1 validation error detected: Value '10001' at 'batchSize' failed to satisfy constraint: Member must have "
            "value less than or equal to 10000",
        ),
        (
            {"MaximumRecordAgeInSeconds": 5},
            "InvalidParameterValueException",
            "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)",
        ),
        (
            {"DestinationConfig": {"OnSuccess": {"Destination": STREAM}}},
            "InvalidParameterValueException",
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            {"FilterCriteria": {"Filters": [{"Pattern": "[invalid"}]}},
            "InvalidParameterValueException",
            "Invalid filter pattern definition.",
        ),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": STREAM.replace("/s", "/missing")}}},
            "InvalidParameterValueException",
            f"The destination ARN {STREAM.replace('/s', '/missing')} is invalid. Stream not found: "
            f"{STREAM.replace('/s', '/missing')}",
        ),
    ],
)
def test_what_aws_refuses_is_refused_in_its_words(client: Any, members: dict[str, Any], code: str, text: str) -> None:
    with refusal(code, 400, text):
        create(client, **members)
    assert client.list_event_source_mappings()["EventSourceMappings"] == []


def test_a_starting_position_that_is_none_is_a_validation_error(client: Any) -> None:
    with refusal("ValidationException", 400):
        create(client, StartingPosition="MIDDLE")


def test_a_duplicate_is_a_conflict_that_names_the_first(client: Any) -> None:
    mapping_id = create(client)["UUID"]
    text = (
        f'The event source arn (" {STREAM} ") and function (" f ") provided mapping already exists. Please update or '
        f"delete the existing mapping with UUID {mapping_id}"
    )
    with refusal("ResourceConflictException", 409, text):
        create(client)


def test_a_source_that_is_not_there_yet_is_said_so(client: Any) -> None:
    with pytest.raises(ClientError, match="no event source mappings for Amazon SQS") as caught:
        create(client, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", StartingPosition=None)
    assert status(caught.value.response) == 501


def test_an_unknown_mapping_is_not_found_by_any_operation(client: Any) -> None:
    for call in (
        client.get_event_source_mapping,
        client.update_event_source_mapping,
        client.delete_event_source_mapping,
    ):
        with refusal("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            call(UUID=UNKNOWN)
