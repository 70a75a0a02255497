"""Channels: what is asked for, what the engine makes of it, and which records are not what they should be."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.api.channels import Channels
from streamkit.api.service_model import ServiceModel
from streamkit.catalog.catalog import Catalog
from streamkit.control import ControlFile
from streamkit.delivery.channel_plan import compile_channel
from streamkit.delivery.naming import Namer
from streamkit.delivery.plan import (
    AppendDelimiter,
    Buffering,
    CatalogTable,
    Conversion,
    DestinationSpec,
    ParquetFormat,
    TextFormat,
    Validation,
)
from streamkit.delivery.processor import Processed
from streamkit.delivery.processors.columns import binary, integers
from streamkit.delivery.processors.validate import OUTPUT_TYPE, Validate
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.rows import Rows
from streamkit.delivery.state import DeliveryState
from streamkit.delivery.store import DeliveryStore
from streamkit.model.errors import (
    InvalidArgument,
    LimitExceeded,
    RequestError,
    ResourceInUse,
    ResourceNotFound,
)
from streamkit.model.limits import CHANNEL_BUFFER_BYTES, CHANNEL_KEY_CHARACTERS_MAX
from streamkit.model.names import Scope, StreamArn
from streamkit.shards.memory import MemoryLogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams
from streamkit.testing.clock import START_MS, VirtualClock, run
from streamkit.testing.runner import InlineRunner

T = TypeVar("T")

SCOPE = Scope("000000000000", "us-east-1")
ROLE = "arn:aws:iam::000000000000:role/r"
SCHEMA = "arn:aws:glue:us-east-1:000000000000:schema/registry/Orders"
DELAY_MS = 1_000
NAME = "my-channel"


def arn(stream: str) -> str:
    return str(StreamArn(SCOPE, stream))


def to_bucket(
    name: str = NAME, stream: str = "s", kind: str = "JSON", storage: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    where = {"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000", "CompressionType": "GZIP"}
    return {
        "ChannelName": name,
        "ServiceExecutionRoleARN": ROLE,
        "StreamConfigurationList": [{"StreamARN": arn(stream), "RecordConfiguration": {"RecordFormatType": kind}}],
        "S3DestinationConfiguration": {"StorageConfiguration": where | (storage or {})},
        **more,
    }


def to_table(name: str = NAME, kind: str = "JSON", schema: str | None = SCHEMA, tables: int = 1) -> dict[str, Any]:
    record = {"RecordFormatType": kind, "GSRSchemaARN": schema}
    table = {
        "TableBucketARN": "arn:aws:s3tables:us-east-1:000000000000:bucket/tables",
        "Namespace": "sales",
        "TableName": "orders",
        "CompressionType": "ZSTD",
        "PartitionSpec": {"PartitionFields": [{"Transform": "TIME_HOUR", "SourceName": "at"}]},
    }
    return {
        "ChannelName": name,
        "ServiceExecutionRoleARN": ROLE,
        "StreamConfigurationList": [
            {"StreamARN": arn("s"), "RecordConfiguration": {key: each for key, each in record.items() if each}}
        ],
        "S3TablesDestinationConfiguration": {
            "DeadLetterQueueS3Configuration": {
                "BucketARN": "arn:aws:s3:::dead",
                "ExpectedBucketOwner": "000000000000",
                "ErrorOutputPrefix": "letters/",
            },
            "S3TablesConfigurationList": [table] * tables,
        },
    }


@functools.cache
def model() -> ServiceModel:
    return ServiceModel.load("kinesis", "2013-12-02")


class World:
    """Streams `s` and `s2` (on-demand), `provisioned`, and channels over the registry that the server has."""

    def __init__(self, clock: VirtualClock, rng: random.Random, control: ControlFile) -> None:
        self.clock = clock
        store = MemoryLogStore(clock=clock, runner=InlineRunner())
        self.streams = Streams(ControlStore(None), store, clock=clock, random=rng)
        self.registry = DeliveryRegistry(
            DeliveryStore(control),
            clock=clock,
            random=rng,
            transition_delay_ms=DELAY_MS,
            function_exists=lambda _: False,
            stream_exists=lambda _: True,
        )
        self.catalog = Catalog(control, clock=clock, random=rng)
        self.channels = Channels(self.registry, self.streams, self.catalog, clock, rng)

    async def call(self, operation: str, **given: Any) -> Any:
        """By way of the model, both ways, as a client's call goes."""
        decoded = model().operations[operation].decode(json.dumps(given).encode())
        encoded = model().operations[operation].encode(await self.channels.actions[operation](SCOPE, decoded))
        return json.loads(encoded) if encoded else {}

    async def create(self, given: dict[str, Any]) -> Any:
        return (await self.call("CreateChannel", **given))["ChannelDescription"]

    async def describe(self, channel_arn: str) -> Any:
        return (await self.call("DescribeChannel", ChannelARN=channel_arn))["ChannelDescription"]

    def state(self, name: str = NAME) -> DeliveryState:
        state = self.registry.find_channel(SCOPE, name)
        assert state is not None
        return state


def world(story: Callable[[World], Awaitable[T]]) -> T:
    async def main(clock: VirtualClock, rng: random.Random) -> T:
        made = World(clock, rng, ControlFile(None))
        await made.streams.start()
        for name in ("s", "s2"):
            await made.streams.create(StreamArn(SCOPE, name), mode="ON_DEMAND")
        await made.streams.create(StreamArn(SCOPE, "provisioned"), shards_count=1)
        made.catalog.ensure(SCOPE, "registry", "Orders", (("id", "bigint"), ("at", "timestamp")))
        await made.registry.start()
        told = await story(made)
        await made.registry.close()
        await made.streams.close()
        return told

    return run(main, seed=1)


# -- the five operations ---------------------------------------------------------------------------------------------


def test_a_channel_is_told_with_all_defaults_filled_in() -> None:
    """The key template, the dead-letter queue, freshness, storage class and names of logs are AWS's."""

    async def story(made: World) -> None:
        told = await made.create(to_bucket())
        channel_id = told["ChannelId"]
        assert told == {
            "ChannelName": NAME,
            "ChannelARN": f"arn:aws:kinesis:us-east-1:000000000000:channel/{channel_id}",
            "ChannelId": channel_id,
            "ChannelStatus": "CREATING",
            "ChannelCreationTimestamp": START_MS / 1000,
            "ServiceExecutionRoleARN": ROLE,
            "StreamConfigurationList": [
                {
                    "StreamARN": arn("s"),
                    "StreamCreationTimestamp": START_MS / 1000,
                    "RecordConfiguration": {"RecordFormatType": "JSON"},
                }
            ],
            "S3DestinationConfiguration": {
                "DataFreshnessInSeconds": 300,
                "DeadLetterQueueS3Configuration": {
                    "BucketARN": "arn:aws:s3:::lake",
                    "ExpectedBucketOwner": "000000000000",
                    "ErrorOutputPrefix": f"kinesis-channel/errors/my-channel/{channel_id}/",
                },
                "StorageConfiguration": {
                    "BucketARN": "arn:aws:s3:::lake",
                    "ExpectedBucketOwner": "000000000000",
                    "OutputKeyTemplate": "kinesis-channel/!{channel-name}/!{channel-id}/!{yyyy}/!{MM}/!{dd}/!{HH}/"
                    "!{channel-name}-!{channel-id}-!{yyyy}-!{MM}-!{dd}-!{HH}-!{mm}!{extension}",
                    "StorageClass": "STANDARD",
                    "CompressionType": "GZIP",
                },
            },
            "LoggingConfiguration": {
                "CloudWatchLogs": {
                    "Enabled": False,
                    "LogGroupName": f"/aws/kinesis/my-channel/{channel_id}",
                    "LogStreamName": "DestinationDelivery",
                }
            },
        }
        assert await made.describe(told["ChannelARN"]) == told
        await made.clock.sleep(DELAY_MS)
        assert await made.describe(told["ChannelARN"]) == {**told, "ChannelStatus": "ACTIVE"}

    world(story)


def test_a_channel_lives_from_creating_to_gone() -> None:
    """CREATING, ACTIVE, DELETING; then its ARN means nothing, and its name is free."""

    async def story(made: World) -> None:
        told = await made.create(to_bucket())
        with pytest.raises(ResourceInUse, match="CREATING"):
            await made.call("UpdateChannel", ChannelARN=told["ChannelARN"], LoggingConfiguration=LOGGED)
        await made.clock.sleep(DELAY_MS)
        await made.call("DeleteChannel", ChannelARN=told["ChannelARN"])
        assert (await made.describe(told["ChannelARN"]))["ChannelStatus"] == "DELETING"
        await made.call("DeleteChannel", ChannelARN=told["ChannelARN"])
        await made.clock.sleep(DELAY_MS)
        with pytest.raises(ResourceNotFound, match=re.escape(told["ChannelARN"])):
            await made.describe(told["ChannelARN"])
        again = await made.create(to_bucket())
        assert again["ChannelId"] != told["ChannelId"]

    world(story)


LOGGED = {"CloudWatchLogs": {"Enabled": True, "LogGroupName": "g"}}


def test_an_update_changes_freshness_and_logging_and_nothing_else() -> None:
    """It is answered as UPDATING; only another freshness makes another version for the engine."""

    async def story(made: World) -> None:
        channel_arn = (await made.create(to_bucket()))["ChannelARN"]
        await made.clock.sleep(DELAY_MS)
        before = await made.describe(channel_arn)
        freshness = {"DataFreshnessInSeconds": 900}
        told = await made.call("UpdateChannel", ChannelARN=channel_arn, S3DestinationConfiguration=freshness)
        assert told["ChannelDescription"]["ChannelStatus"] == "UPDATING"
        after = await made.describe(channel_arn)
        assert after == {
            **before,
            "S3DestinationConfiguration": {**before["S3DestinationConfiguration"], **freshness},
        }
        assert made.state().version == 2
        assert compile_channel(made.state()).buffering.interval_ms == 900_000
        await made.call("UpdateChannel", ChannelARN=channel_arn, LoggingConfiguration=LOGGED)
        logging = (await made.describe(channel_arn))["LoggingConfiguration"]["CloudWatchLogs"]
        assert logging == {"Enabled": True, "LogGroupName": "g", "LogStreamName": "DestinationDelivery"}
        assert made.state().version == 2

    world(story)


def test_lists_go_by_pages_and_streams() -> None:
    """By name; a stream's creation time tells it from a later one of its name."""

    async def story(made: World) -> None:
        for name, stream in (("c", "s"), ("a", "s2")):
            await made.create(to_bucket(name, stream))
        await made.create(to_table("b"))
        first = await made.call("ListChannels", MaxResults=2)
        second = await made.call("ListChannels", NextToken=first["NextToken"])
        listed = [*first["ChannelSummaries"], *second["ChannelSummaries"]]
        assert [(each["ChannelName"], each["ChannelDestinationType"]) for each in listed] == [
            ("a", "S3"),
            ("b", "S3_TABLES"),
            ("c", "S3"),
        ]
        assert "NextToken" not in second
        assert listed[0]["Streams"] == [{"StreamARN": arn("s2"), "StreamCreationTimestamp": START_MS / 1000}]

        async def names(**wanted: Any) -> list[str]:
            told = await made.call("ListChannels", StreamFilter=[wanted])
            return [each["ChannelName"] for each in told["ChannelSummaries"]]

        assert await names(StreamARN=arn("s")) == ["b", "c"]
        assert await names(StreamARN=arn("s"), StreamCreationTimestamp=START_MS / 1000) == ["b", "c"]
        assert await names(StreamARN=arn("s"), StreamCreationTimestamp=1) == []
        with pytest.raises(InvalidArgument):
            await made.call("ListChannels", NextToken="bm9wZQ==")

    world(story)


def test_a_stream_with_channels_is_not_to_be_deleted() -> None:
    """They are named."""

    async def story(made: World) -> None:
        made.channels.require_none(StreamArn(SCOPE, "s"))
        await made.create(to_bucket())
        with pytest.raises(ResourceInUse, match=NAME):
            made.channels.require_none(StreamArn(SCOPE, "s"))
        made.channels.require_none(StreamArn(SCOPE, "s2"))

    world(story)


def test_tags_of_a_channel() -> None:
    """Given when it is made, then added and removed by its ARN."""

    async def story(made: World) -> None:
        channel_arn = (await made.create(to_bucket(Tags={"a": "1"})))["ChannelARN"]
        assert made.channels.is_arn(channel_arn)
        await made.channels.add_tags(channel_arn, {"b": "2"})
        await made.channels.remove_tags(channel_arn, ["a", "x"])
        assert made.channels.find(channel_arn).tags == {"b": "2"}
        assert not made.channels.is_arn(arn("s"))

    world(story)


# -- refusals --------------------------------------------------------------------------------------------------------


def both() -> dict[str, Any]:
    return {**to_table(), "S3DestinationConfiguration": to_bucket()["S3DestinationConfiguration"]}


def neither() -> dict[str, Any]:
    given = to_bucket()
    del given["S3DestinationConfiguration"]
    return given


def two_streams() -> dict[str, Any]:
    given = to_bucket()
    given["StreamConfigurationList"] *= 2
    return given


def fresh(seconds: int) -> dict[str, Any]:
    given = to_bucket()
    given["S3DestinationConfiguration"]["DataFreshnessInSeconds"] = seconds
    return given


def elsewhere() -> dict[str, Any]:
    given = to_bucket()
    given["StreamConfigurationList"][0]["StreamARN"] = "arn:aws:kinesis:eu-west-1:000000000000:stream/s"
    return given


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (both(), InvalidArgument, "but not both"),
        (neither(), InvalidArgument, "You must specify either"),
        (two_streams(), InvalidArgument, "a channel reads one"),
        (to_bucket(stream="none"), ResourceNotFound, "Stream none under account 000000000000 not found."),
        (elsewhere(), InvalidArgument, "eu-west-1"),
        (to_bucket(stream="provisioned"), InvalidArgument, "ON_DEMAND"),
        (fresh(299), InvalidArgument, "between 300 and 900"),
        (fresh(901), InvalidArgument, "between 300 and 900"),
        (fresh(0), InvalidArgument, "between 300 and 900"),
        (to_bucket(kind="GSR_JSON"), InvalidArgument, "JSON or STRING or BYTE_ARRAY"),
        (to_table(kind="STRING"), InvalidArgument, "STRING is not supported"),
        (to_table(kind="GSR_JSON"), InvalidArgument, "GSR_JSON is not supported by streamkit"),
        (to_table(schema=None), InvalidArgument, "GSRSchemaARN is required"),
        (to_table(schema=SCHEMA + "2"), InvalidArgument, "make a table Orders2 .* in the database registry"),
        (to_table(tables=2), InvalidArgument, "a channel writes to one"),
        (
            to_bucket(EncryptionConfiguration={"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}),
            InvalidArgument,
            "customer managed key",
        ),
        (to_bucket(Tags={"aws:x": "1"}), InvalidArgument, "reserved"),
    ],
)
def test_what_a_channel_cannot_be_is_refused(asked: dict[str, Any], error: type[RequestError], words: str) -> None:
    """And nothing is made."""

    async def story(made: World) -> None:
        with pytest.raises(error, match=words):
            await made.create(asked)
        assert made.registry.channels() == []

    world(story)


def test_a_stream_has_one_channel_of_each_kind_and_a_name_one_channel() -> None:
    """Also when they are asked for at the same time."""

    async def story(made: World) -> None:
        await made.create(to_bucket())
        await made.create(to_table("b"))
        with pytest.raises(ResourceInUse, match=f"Channel {NAME} under account 000000000000 already exists."):
            await made.create(to_bucket(stream="s2"))
        with pytest.raises(LimitExceeded, match=NAME):
            await made.create(to_bucket("other"))
        with pytest.raises(LimitExceeded, match="b already"):
            await made.create(to_table("other"))
        asked = [made.create(to_bucket(f"c{place}", "s2")) for place in range(3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(each, LimitExceeded) for each in outcomes) == 2

    world(story)


@pytest.mark.parametrize("name", ["S3TablesDestinationConfiguration", None])
def test_an_update_that_does_not_apply_is_refused(name: str | None) -> None:
    """The other kind's configuration, or nothing at all."""

    async def story(made: World) -> None:
        channel_arn = (await made.create(to_bucket()))["ChannelARN"]
        await made.clock.sleep(DELAY_MS)
        given = {} if name is None else {name: {"DataFreshnessInSeconds": 300}}
        with pytest.raises(InvalidArgument):
            await made.call("UpdateChannel", ChannelARN=channel_arn, **given)

    world(story)


# -- key templates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "compression", "why"),
    [
        # the examples of "S3 output key template for Amazon S3 delivery"
        ("!{channel-name}/!{yyyy}/!{MM}/!{dd}/!{HH}/records!{extension}", "GZIP", None),
        ("data/stream=!{stream-name}/!{yyyy}-!{MM}-!{dd}/!{HH}!{mm}!{extension:.json}", "ZSTD", None),
        ("!{channel-name}/!{channel-id}", "NONE", None),
        ("/data/!{channel-name}!{extension}", "GZIP", "start with a slash"),
        ("data/../!{channel-name}!{extension}", "GZIP", "periods"),
        ("data//!{channel-name}!{extension}", "GZIP", "slashes"),
        ("!{channel-name}!{extension}/!{yyyy}", "GZIP", "at its end"),
        ("data/!{partition-id}!{extension}", "GZIP", "not a supported variable"),
        ("data/!{channel-name}", "GZIP", "must have an extension placeholder"),
        ("data/!{channel-name}/!{yyyy", "NONE", "not closed"),
        # and what its rules say
        ("data/./!{yyyy}", "NONE", "a period"),
        ("a!{extension}!{extension}", "GZIP", "one extension placeholder"),
        ("a!{extension:.JSON}", "GZIP", "not a supported variable"),
        ("a!{extension:json}", "GZIP", "not a supported variable"),
        ("a:b/!{yyyy}", "NONE", "outside of variables"),
        ("a}/!{yyyy}", "NONE", "outside of variables"),
        ("a" * CHANNEL_KEY_CHARACTERS_MAX, "NONE", None),
        ("a" * (CHANNEL_KEY_CHARACTERS_MAX - 9) + "!{channel-name}", "NONE", "987 characters"),
        ("a" * (CHANNEL_KEY_CHARACTERS_MAX - 3) + "!{extension}", "GZIP", None),
        ("a" * (CHANNEL_KEY_CHARACTERS_MAX - 3) + "!{extension}", "ZSTD", "987 characters"),
    ],
)
def test_a_key_template_follows_its_rules(template: str, compression: str, why: str | None) -> None:
    """AWS's own examples first."""

    async def story(made: World) -> None:
        asked = to_bucket(storage={"OutputKeyTemplate": template, "CompressionType": compression})
        if why is None:
            await made.create(asked)
            return
        with pytest.raises(InvalidArgument, match=f"is not valid: .*{re.escape(why)}"):
            await made.create(asked)

    world(story)


ID = str(uuid.UUID(int=7))
AT_MS = 1_784_557_800_000  # 2026-07-20 14:30 UTC


@pytest.mark.parametrize(
    ("template", "compression", "key"),
    [
        (
            "!{channel-name}/!{yyyy}/!{MM}/!{dd}/!{HH}/records!{extension}",
            "GZIP",
            "my-channel/2026/07/20/14/records-*.gz",
        ),
        ("!{stream-name}/!{yy}!{mm}!{extension}", "ZSTD", "s/2630-*.zst"),
        ("x/!{yyyy}!{extension:.json}", "GZIP", "x/2026-*.json"),
        ("x/!{yyyy}!{extension}", "NONE", "x/2026-*"),
        ("plain", "NONE", "plain-*"),
        ("odd!'()*!!{yyyy}", "NONE", "odd!'()*!2026-*"),
    ],
)
def test_an_object_is_named_by_the_template_and_a_unique_end(template: str, compression: str, key: str) -> None:
    """Nothing else is in a name, and the extension is last."""

    async def story(made: World) -> DeliveryState:
        await made.create(to_bucket(storage={"OutputKeyTemplate": template, "CompressionType": compression}))
        return made.state()

    plan = compile_channel(world(story))
    name = Namer(plan.naming, stream=plan.name, version=plan.version).key(
        arrived_at_ms=AT_MS,
        id=ID,
        extension={"GZIP": ".gz", "ZSTD": ".zst", "NONE": ""}[compression],
        partition={},
        error_type=None,
        random_text=lambda: "",
    )
    assert name == key.replace("-*", f"-{ID}")


def test_the_default_name_is_aws_s() -> None:
    """And what could not be delivered lies below the error prefix."""

    async def story(made: World) -> DeliveryState:
        await made.create(to_bucket())
        return made.state()

    state = world(story)
    plan = compile_channel(state)
    namer = Namer(plan.naming, stream=plan.name, version=plan.version)
    key = functools.partial(
        namer.key, arrived_at_ms=AT_MS, id=ID, extension=".gz", partition={}, random_text=lambda: ""
    )
    assert key(error_type=None) == (
        f"kinesis-channel/my-channel/{state.id}/2026/07/20/14/my-channel-{state.id}-2026-07-20-14-30-{ID}.gz"
    )
    assert key(error_type=OUTPUT_TYPE).startswith(f"kinesis-channel/errors/my-channel/{state.id}/{OUTPUT_TYPE}/")


# -- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "compression", "format", "delimiters"),
    [
        ("JSON", "GZIP", TextFormat("GZIP"), (AppendDelimiter(b"\n"),)),
        ("STRING", "ZSTD", TextFormat("ZSTD"), (AppendDelimiter(b"\n"),)),
        ("BYTE_ARRAY", "NONE", TextFormat("UNCOMPRESSED"), ()),
    ],
)
def test_a_channel_to_a_bucket_is_text_as_it_came(
    kind: Any, compression: str, format: TextFormat, delimiters: tuple[AppendDelimiter, ...]
) -> None:
    """Checked, delimited where it is text, compressed."""

    async def story(made: World) -> DeliveryState:
        await made.create(to_bucket(kind=kind, storage={"CompressionType": compression}))
        return made.state()

    plan = compile_channel(world(story))
    assert plan.processors == (Validation(kind), *delimiters)
    assert plan.format == format
    assert plan.destination == plan.error_destination == DestinationSpec("s3", {"bucket": "lake"})
    assert plan.buffering == Buffering(CHANNEL_BUFFER_BYTES, 300_000)
    assert (plan.source_arn, plan.conversion, plan.is_partitioned) == (arn("s"), None, False)


def test_a_channel_to_a_table_converts_by_the_table_that_stands_for_the_schema() -> None:
    """Its Iceberg table is in the warehouse of its table bucket, partitioned as it says."""

    async def story(made: World) -> DeliveryState:
        await made.create(to_table())
        return made.state()

    plan = compile_channel(world(story))
    assert plan.conversion == Conversion(
        CatalogTable("registry", "Orders", region="us-east-1", catalog_id="000000000000")
    )
    assert plan.format == ParquetFormat("ZSTD")
    tables = [{"database": "sales", "table": "orders", "partition_by": ["hour(at)"]}]
    assert plan.destination == DestinationSpec("iceberg", {"path": "s3://tables", "tables": tables})
    assert plan.error_destination == DestinationSpec("s3", {"bucket": "dead"})
    assert plan.naming.error_prefix == "letters/"


# -- records that are not what they should be ------------------------------------------------------------------------


def rows_of(values: list[bytes]) -> Rows:
    count = len(values)
    return Rows(
        binary(values),
        integers(pa.int64(), [AT_MS] * count),
        integers(pa.int32(), [0] * count),
        integers(pa.int64(), list(range(count))),
        integers(pa.int32(), [0] * count),
        {0: 1},
    )


def validated(kind: Any, rows: Rows) -> Processed:
    async def inline(work: Callable[[], T]) -> T:
        return work()

    async def main(clock: VirtualClock, rng: random.Random) -> Processed:
        return await Validate(Validation(kind), offload=inline).process(rows)

    return run(main, seed=1)


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b'{"a":1}', b"[1,2]", b"1", b'"\xc3\xbc"', b"{"]))))
@pytest.mark.parametrize("kind", ["JSON", "STRING", "BYTE_ARRAY"])
def test_records_that_are_not_what_a_channel_says_fail_alone(kind: str, values: list[bytes]) -> None:
    """The others stay as they are, in order; held against the standard library."""
    rows = rows_of(values)
    passed, failed = validated(kind, rows)
    good = [value for value in values if is_good(kind, value)]
    assert passed.data.to_pylist() == good
    bad = [value for each in failed for value in each.rows.data.to_pylist()]
    assert bad == [value for value in values if not is_good(kind, value)]
    assert all(len(each.errors) == len(each.rows) for each in failed)


def is_good(kind: str, value: bytes) -> bool:
    if kind == "BYTE_ARRAY":
        return True
    try:
        text = value.decode()
        if kind == "JSON":
            json.loads(text, parse_constant=pytest.fail)
    except (ValueError, pytest.fail.Exception):
        return False
    return True


def test_a_window_on_records_is_validated_by_itself() -> None:
    """Columns are often windows on longer ones."""
    rows = rows_of([b"{", b"1", b"x", b"2", b"{"])
    passed, failed = validated("JSON", rows.slice(1, 4))
    assert passed.data.to_pylist() == [b"1", b"2"]
    assert [(each.rows.data.to_pylist(), each.rows.offset.to_pylist()) for each in failed] == [([b"x"], [2])]


def test_a_deep_document_is_refused_and_harms_nobody() -> None:
    """No parser's stack is at its mercy."""
    passed, failed = validated("JSON", rows_of([b"[" * 1_000_000, b"1"]))
    assert passed.data.to_pylist() == [b"1"]
    assert failed[0].output_type == OUTPUT_TYPE


def test_what_is_right_is_handed_on_without_a_copy() -> None:
    """The common case."""
    rows = rows_of([b"1", b"2"])
    assert validated("JSON", rows).rows is rows
    assert validated("JSON", replace(rows_of([]))).rows.data.to_pylist() == []
