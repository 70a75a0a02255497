"""A server of Firehose and Kinesis alone, which delivers nothing, and what tests of it ask of boto3."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from streamkit.api.errors import RequestIds
from streamkit.api.firehose import Firehose
from streamkit.api.gateway import Gateway
from streamkit.api.http import HttpServer
from streamkit.api.kinesis import Kinesis
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import Clock, SystemClock
from streamkit.control import ControlFile
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.rules import is_private, private_scope
from streamkit.delivery.state import DeliveryState
from streamkit.delivery.store import DeliveryStore
from streamkit.metrics import Registry
from streamkit.model.errors import ResourceNotFound, StorageUnavailable
from streamkit.model.names import FunctionArn, Scope, StreamArn
from streamkit.shards.memory import MemoryLogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams, StreamSettings
from tests.wire.clients import ACCOUNT, REGION, kinesis

SCOPE = Scope(ACCOUNT, REGION)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
BUCKET: Final[dict[str, Any]] = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::bucket"}
TO_S3: Final[dict[str, Any]] = {"ExtendedS3DestinationConfiguration": BUCKET}
HTTP: Final[dict[str, Any]] = {
    "EndpointConfiguration": {"Url": "https://h/p", "Name": "n", "AccessKey": "secret!"},
    "S3Configuration": BUCKET,
}
SPLUNK: Final[dict[str, Any]] = {
    "HECEndpoint": "https://h:8088",
    "HECEndpointType": "Raw",
    "HECToken": "secret!",
    "S3Configuration": BUCKET,
}
OPENSEARCH: Final[dict[str, Any]] = {
    "RoleARN": ROLE,
    "IndexName": "i",
    "ClusterEndpoint": "https://h",
    "S3Configuration": BUCKET,
}
REDSHIFT: Final[dict[str, Any]] = {
    "RoleARN": ROLE,
    "ClusterJDBCURL": "jdbc:redshift://c.redshift.localhost:5439/db",
    "CopyCommand": {"DataTableName": "t"},
    "Username": "user",
    "Password": "secret!",
    "S3Configuration": BUCKET,
}
CATALOG: Final[dict[str, Any]] = {"CatalogARN": f"arn:aws:glue:{REGION}:{ACCOUNT}:catalog"}
ICEBERG: Final[dict[str, Any]] = {
    "RoleARN": ROLE,
    "CatalogConfiguration": CATALOG,
    "DestinationTableConfigurationList": [{"DestinationTableName": "t", "DestinationDatabaseName": "d"}],
    "S3Configuration": BUCKET,
}


def lambda_processor(**parameters: str) -> dict[str, Any]:
    return processor("Lambda", **{"LambdaArn": FUNCTION, **parameters})


def processor(kind: str, **parameters: str) -> dict[str, Any]:
    return {
        "Type": kind,
        "Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()],
    }


QUERY = processor("MetadataExtraction", MetadataExtractionQuery="{day: .day}", JsonParsingEngine="JQ-1.6")
PARTITIONED: Final[dict[str, Any]] = {
    **BUCKET,
    "Prefix": "!{partitionKeyFromQuery:day}/",
    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
    "DynamicPartitioningConfiguration": {"Enabled": True},
    "ProcessingConfiguration": {"Enabled": True, "Processors": [QUERY]},
}
CONVERTED: Final[dict[str, Any]] = {
    **BUCKET,
    "DataFormatConversionConfiguration": {
        "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "d", "TableName": "t"},
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
    },
}


class FirehoseServer:
    """Kinesis and Firehose on a port of their own, on a thread. Nothing is delivered."""

    def __init__(self, clock: Clock, transition_delay_ms: int, enforces_limits: bool) -> None:
        self._clock = clock
        self._delay_ms = transition_delay_ms
        self._enforces_limits = enforces_limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> int:
        clock, metrics = self._clock, Registry()
        control = ControlStore(ControlFile(None))
        settings = StreamSettings(enforces_limits=self._enforces_limits)
        self.streams = Streams(
            control, MemoryLogStore(clock=clock), clock=clock, random=random.Random(1), settings=settings
        )
        await self.streams.start()
        self.registry = DeliveryRegistry(
            DeliveryStore(control.file),
            clock=clock,
            random=random.Random(2),
            transition_delay_ms=self._delay_ms,
            function_exists=self._function_exists,
            stream_exists=self._stream_exists,
            prepare=self._prepare,
        )
        gateway = Gateway(
            [Kinesis(self.streams, clock, metrics), Firehose(self.registry, self.streams, clock, metrics)],
            {},
            authenticator=Authenticator("presence", {}, clock),
            default_scope=SCOPE,
            request_ids=RequestIds(random.Random(3)),
            metrics=metrics,
        )
        self._http = HttpServer(gateway.handle, clock=clock, on_error=gateway.failed)
        await self._http.start("127.0.0.1", 0)
        return self._http.port

    async def _prepare(self, state: DeliveryState) -> DeliveryState:
        if state.source is None:
            await self.streams.create(StreamArn(private_scope(state.scope), state.name), shards_count=1)
        return state

    def _function_exists(self, arn: FunctionArn) -> bool:
        return str(arn) == FUNCTION

    def _stream_exists(self, arn: str) -> bool:
        stream = StreamArn.parse(arn)
        assert stream is not None
        assert not is_private(stream.scope)
        try:
            self.streams.find(*stream)
        except ResourceNotFound:
            return False
        return True

    def stored(self, name: str) -> list[bytes]:
        """What is in the stream behind direct puts."""

        async def read() -> list[bytes]:
            stream = self.streams.find(private_scope(SCOPE), name)
            found = await stream.read_any({0: 0}, records_max=10_000, bytes_max=1 << 26)
            return [bytes(value) for batch in found.batches for value in batch.values()]

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(30)

    def break_disk(self, name: str, *, late: bool) -> None:
        """From now on puts fail: at once, or when they should be durable."""

        class Failing:
            """The part of `Appended` that puts look at."""

            def then(self, callback: Callable[[BaseException | None], None]) -> None:
                asyncio.get_running_loop().call_soon(callback, StorageUnavailable("The disk is full."))

        def append(groups: Any) -> Any:
            if late:
                return Failing()
            raise StorageUnavailable("The disk is full.")

        async def replace() -> None:
            self.streams.find(private_scope(SCOPE), name).log.append = append  # type: ignore[method-assign]

        asyncio.run_coroutine_threadsafe(replace(), self._loop).result(30)

    def clear(self) -> None:
        """No delivery streams, and nothing behind them."""

        async def clear() -> None:
            await self.registry.delete_all()
            for stream in self.streams.all():
                if is_private(stream.state.arn.scope):
                    await self.streams.delete(stream)

        asyncio.run_coroutine_threadsafe(clear(), self._loop).result(30)

    async def _stop(self) -> None:
        await self._http.drain(1_000)
        await self.registry.close()
        await self.streams.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@contextlib.contextmanager
def firehose_client(port: int, account: str = ACCOUNT, region: str = REGION, *, checks: bool = False) -> Iterator[Any]:
    """boto3 that tries once, and checks no input by itself unless it is asked to."""
    client = boto3.session.Session().client(
        "firehose",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=checks),
    )
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def serving(
    clock: Clock | None = None, transition_delay_ms: int = 0, *, enforces_limits: bool = False
) -> Iterator[tuple[FirehoseServer, Any]]:
    """A server with the stream `s`, and a client."""
    server = FirehoseServer(clock or SystemClock(), transition_delay_ms, enforces_limits)
    try:
        with kinesis(f"http://127.0.0.1:{server.port}") as streams:
            streams.create_stream(StreamName="s", ShardCount=1)
        with firehose_client(server.port) as client:
            yield server, client
    finally:
        server.close()


def create(client: Any, name: str = "d", **members: Any) -> Any:
    if not any("Destination" in member for member in members):
        members = {**TO_S3, **members}
    return client.create_delivery_stream(DeliveryStreamName=name, **members)


def describe(client: Any, name: str = "d") -> dict[str, Any]:
    description: dict[str, Any] = client.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
    return description


def destination(client: Any, kind: str, name: str = "d") -> dict[str, Any]:
    made: dict[str, Any] = describe(client, name)["Destinations"][0][f"{kind}DestinationDescription"]
    return made


def update(client: Any, version: str = "1", destination_id: str = "destinationId-000000000001", **members: Any) -> Any:
    return client.update_destination(
        DeliveryStreamName="d", CurrentDeliveryStreamVersionId=version, DestinationId=destination_id, **members
    )


@contextlib.contextmanager
def refused(code: str, message: str) -> Iterator[None]:
    """AWS's code, and its text to the letter."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert (error["Code"], error["Message"]) == (code, message)


def invalid(message: str) -> contextlib.AbstractContextManager[None]:
    return refused("InvalidArgumentException", message)
