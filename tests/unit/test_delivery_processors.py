"""De-aggregation, decompression, the delimiter, the order of processors, and partitions."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.clock import SystemClock
from streamkit.delivery import plan as plans
from streamkit.delivery.partition import partitions
from streamkit.delivery.processor import Processed, Step
from streamkit.delivery.processors import make_steps
from streamkit.delivery.processors.deaggregate import SplitAggregates, SplitRecords, documents
from streamkit.delivery.processors.decompress import Decompress
from streamkit.delivery.processors.delimiter import AppendDelimiter
from streamkit.delivery.rows import Rows
from streamkit.model.limits import DECOMPRESSED_RECORD_BYTES_MAX, SUB_RECORDS_MAX

T = TypeVar("T")


async def inline(work: Callable[[], T]) -> T:
    return work()


def rows_of(*values: bytes, keys: Mapping[str, Sequence[str]] | None = None) -> Rows:
    count = len(values)
    return Rows(
        pa.array(values, pa.binary()),
        pa.array([1_700_000_000_000 + place for place in range(count)], pa.int64()),
        pa.array([0] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        pa.array([0] * count, pa.int32()),
        {0: 1_690_000_000},
        pa.array([b"key-%d" % place for place in range(count)], pa.binary()),
        {name: pa.array(column, pa.string()) for name, column in (keys or {}).items()},
    )


def through(step: Step, rows: Rows) -> Processed:
    async def process() -> Processed:
        return await step.process(rows)

    return asyncio.run(process())


# -- aggregates of the producer library -------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def member(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def aggregate(records: Sequence[tuple[str, bytes]]) -> bytes:
    """As the producer library writes it, with each key once, hash keys and tags."""
    keys = list(dict.fromkeys(key for key, _ in records))
    message = b"".join(member(1, key.encode()) for key in keys) + member(2, b"170141183460469231731687303715884105728")
    for key, data in records:
        tag = member(4, member(1, b"tag") + member(2, b"value"))
        record = b"\x08" + varint(keys.index(key)) + b"\x10\x00" + member(3, data) + tag
        message += member(3, record)
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.binary(max_size=300)), min_size=1, max_size=20))
def test_an_aggregate_becomes_its_records(records: list[tuple[str, bytes]]) -> None:
    """With their data, their own partition keys and their numbers, between the records around it."""
    rows = through(SplitAggregates(offload=inline), rows_of(b"before", aggregate(records), b"after")).rows
    assert rows.data.to_pylist() == [b"before", *(data for _, data in records), b"after"]
    assert rows.sub.to_pylist() == [0, *range(len(records)), 0]
    assert rows.offset.to_pylist() == [0, *[1] * len(records), 2]
    assert rows.partition_key is not None
    assert rows.partition_key.to_pylist() == [b"key-0", *(key.encode() for key, _ in records), b"key-2"]


@settings(deadline=None)
@given(st.data())
def test_a_broken_aggregate_is_a_record_like_any_other(data: st.DataObject) -> None:
    """Whichever byte is changed or missing: nothing is lost, and nothing is raised."""
    whole = aggregate([("k", b"one"), ("l", b"two")])
    place = data.draw(st.integers(4, len(whole) - 1))
    flipped = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    for broken in (flipped, whole[:place]):
        assert through(SplitAggregates(offload=inline), rows_of(broken)).rows.data.to_pylist() == [broken]


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_message_with_a_right_digest_is_split_or_passes(message: bytes) -> None:
    """The digest is no proof that there is a message."""
    record = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()
    through(SplitAggregates(offload=inline), rows_of(record))


def test_records_without_aggregates_are_not_touched() -> None:
    """The very columns come back."""
    rows = rows_of(b"a", b"", b"\xf3\x89\x9a")
    assert through(SplitAggregates(offload=inline), rows).rows is rows


# -- JSON and delimiters ----------------------------------------------------------------------------------------------

JSON_SPLIT = plans.Deaggregation("JSON")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8) | st.just("}{"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), json_values, max_size=4)


@settings(deadline=None)
@given(st.lists(json_objects, min_size=1, max_size=6), st.sampled_from(["", "\n", "\r\n", " \n "]))
def test_json_objects_one_after_the_other_become_records(objects: list[dict[str, object]], between: str) -> None:
    """Whatever stands in them, and with or without lines."""
    texts = [json.dumps(each, ensure_ascii=False).encode() for each in objects]
    rows = through(SplitRecords(JSON_SPLIT, offload=inline), rows_of(between.encode().join(texts) + b"\n")).rows
    assert rows.data.to_pylist() == texts
    assert rows.sub.to_pylist() == list(range(len(texts)))


@pytest.mark.parametrize(
    "record",
    [
        b'[{"a":1},{"a":2}]',
        b'{"a":1}{"a":',
        b'{"a":1}x{"a":2}',
        b'{"a":1}{a}',
        b'{"a":1}{"b":2}}',
        b"text",
        b"",
        b"\x00{}{",
    ],
)
def test_what_is_not_only_objects_passes_whole(record: bytes) -> None:
    """An array, half an object, something in between: nothing is lost."""
    assert through(SplitRecords(JSON_SPLIT, offload=inline), rows_of(record)).rows.data.to_pylist() == [record]


def test_a_record_of_more_than_500_passes_whole() -> None:
    """As on AWS, where the extraction of keys then refuses it."""
    most, more = b'{"a":1}' * SUB_RECORDS_MAX, b'{"a":1}' * (SUB_RECORDS_MAX + 1)
    rows = through(SplitRecords(JSON_SPLIT, offload=inline), rows_of(most, more)).rows
    assert len(rows) == SUB_RECORDS_MAX + 1
    assert rows.data[SUB_RECORDS_MAX].as_py() == more


@pytest.mark.timeout(20)
def test_braces_and_quotes_in_strings_do_not_make_splitting_slow() -> None:
    """A megabyte of what looks like boundaries, and one of quotes without an end."""
    braces = b'{"a":"' + b"}{" * 500_000 + b'"}'
    assert documents(braces + b"{}") == [braces, b"{}"]
    assert documents(b'{}{"' + b'\\"' * 500_000) is None


def test_records_between_delimiters_become_records() -> None:
    """Without what is empty; a record without the delimiter stays."""
    step = SplitRecords(plans.Deaggregation("DELIMITED", b"####"), offload=inline)
    rows = through(step, rows_of(b"a####b####", b"c", b"####", b"\xff####\xfe")).rows
    assert rows.data.to_pylist() == [b"a", b"b", b"c", b"\xff", b"\xfe"]
    assert rows.sub.to_pylist() == [0, 1, 0, 0, 1]
    assert rows.offset.to_pylist() == [0, 0, 1, 3, 3]


def test_records_of_an_aggregate_that_are_split_again_have_numbers_of_their_own() -> None:
    """A record in the stream, a number: ids of records are made of both."""
    rows = rows_of(aggregate([("k", b'{"a":1}{"a":2}'), ("k", b'{"a":3}')]), b'{"a":4}')
    rows = through(SplitAggregates(offload=inline), rows).rows
    rows = through(SplitRecords(JSON_SPLIT, offload=inline), rows).rows
    assert rows.data.to_pylist() == [b'{"a":1}', b'{"a":2}', b'{"a":3}', b'{"a":4}']
    assert rows.sub.to_pylist() == [0, 1, 2, 0]


# -- decompression ----------------------------------------------------------------------------------------------------


def subscription(*messages: str, kind: str = "DATA_MESSAGE") -> bytes:
    events = [{"id": str(place), "timestamp": 1, "message": text} for place, text in enumerate(messages)]
    document = {"messageType": kind, "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events}
    return json.dumps(document).encode()


def test_decompressed_records_go_on_as_the_documents_they_are() -> None:
    """And are known as they came, for error documents."""
    document, other = subscription("a"), b'"any JSON"'
    compressed = [gzip.compress(document), gzip.compress(other), gzip.compress(b"{}") + gzip.compress(b" ")]
    kept, failed = through(Decompress(plans.Decompression(), offload=inline), rows_of(*compressed))
    assert not failed
    assert kept.data.to_pylist() == [document, other, b"{} "]
    assert kept.raw is not None
    assert kept.raw.to_pylist() == compressed
    assert kept.slice(1, 2).take([0]).raw.to_pylist() == [compressed[1]]  # type: ignore[union-attr]


def test_extraction_leaves_the_messages_with_a_line_feed_each() -> None:
    """A control message has none: an empty record, as on AWS."""
    step = Decompress(plans.Decompression(extracts_messages=True), offload=inline)
    control = subscription("CWL CONTROL MESSAGE: Checking health of destination", kind="CONTROL_MESSAGE")
    values = [subscription("one", "", "zw\u00f6lf"), control]
    assert through(step, rows_of(*map(gzip.compress, values))).rows.data.to_pylist() == [
        "one\n\nzw\u00f6lf\n".encode(),
        b"",
    ]


@pytest.mark.parametrize(
    ("record", "extracts"),
    [
        (b"no gzip", False),
        (b"", False),
        (gzip.compress(b"no JSON", mtime=0), False),
        (gzip.compress(b"{} {}", mtime=0), False),
        (gzip.compress(b'{"a":1}', mtime=0)[:-1], False),
        (gzip.compress(b'{"a":1}', mtime=0) + b"more", False),
        (zlib.compress(b'{"a":1}'), False),
        (gzip.compress(b'{"a":1}', mtime=0), True),
        (gzip.compress(b"[" * 100_000, mtime=0), False),
    ],
)
def test_what_cannot_be_decompressed_fails_alone(record: bytes, *, extracts: bool) -> None:
    """The code is AWS's; the record in the error output is the one that came."""
    good = gzip.compress(subscription("a"))
    kept, failed = through(Decompress(plans.Decompression(extracts), offload=inline), rows_of(good, record, good))
    assert kept.offset.to_pylist() == [0, 2]
    (one,) = failed
    assert one.output_type == "decompression-failed"
    assert [code for code, _ in one.errors] == ["Decompression failed."]
    assert one.rows.data.to_pylist() == [record]


def test_a_record_that_would_fill_the_memory_fails() -> None:
    """A gigabyte of zeros in a megabyte is not unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1024 * 1024)
    bomb = b"".join(packer.compress(piece) for _ in range(2 * DECOMPRESSED_RECORD_BYTES_MAX // len(piece)))
    kept, failed = through(Decompress(plans.Decompression(), offload=inline), rows_of(bomb + packer.flush()))
    assert not len(kept)
    assert str(DECOMPRESSED_RECORD_BYTES_MAX) in failed[0].errors[0][1]


# -- delimiter --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=5), st.binary(min_size=1, max_size=3))
def test_the_delimiter_follows_each_record(values: list[bytes], delimiter: bytes) -> None:
    """Also one that ends with it already."""
    rows = through(AppendDelimiter(plans.AppendDelimiter(delimiter)), rows_of(*values)).rows
    assert rows.data.to_pylist() == [value + delimiter for value in values]
    assert rows.offset.to_pylist() == list(range(len(values)))


# -- all of them ------------------------------------------------------------------------------------------------------


def plan_of(*processors: plans.Processor) -> plans.DeliveryPlan:
    nowhere = plans.DestinationSpec("files")
    buffering = plans.Buffering(1, 1)
    arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/d"
    return plans.DeliveryPlan(
        "d", arn, 1, None, buffering, plans.Naming(), plans.TextFormat(), nowhere, nowhere, processors
    )


def test_steps_come_in_the_order_of_the_plan() -> None:
    """Messages of a compressed aggregate are decompressed, split, asked for their key and ended with a line feed."""
    plan = plan_of(
        plans.Deaggregation("KPL"),
        plans.Decompression(extracts_messages=True),
        plans.Deaggregation("JSON"),
        plans.MetadataExtraction("{kind: .kind}"),
        plans.AppendDelimiter(),
    )

    async def invoke(function_arn: str, event: Sequence[bytes]) -> object:
        raise AssertionError

    steps = make_steps(
        plan,
        invoke=invoke,  # type: ignore[arg-type]
        clock=SystemClock(),
        random=random.Random(1),
        region="us-east-1",
        offload=inline,
    )
    record = aggregate([("k", gzip.compress(subscription('{"kind":"a"}', '{"kind":"b"}')))])
    rows = rows_of(record)
    for step in steps:
        rows, failed = through(step, rows)
        assert not failed
    assert rows.data.to_pylist() == [b'{"kind":"a"}\n', b'{"kind":"b"}\n']
    assert rows.keys["partitionKeyFromQuery:kind"].to_pylist() == ["a", "b"]


# -- partitions -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("01")), max_size=40))
def test_partitions_hold_each_row_once_and_in_order(values: list[tuple[str, str, str]]) -> None:
    """One for each combination of values, in the order in which they first come."""
    columns = {name: [each[place] for each in values] for place, name in enumerate(["q:k", "q:l", "f:m"])}
    found = partitions(rows_of(*[b""] * len(values), keys=columns))
    combinations = list(dict.fromkeys(values))
    assert [tuple(part.values.values()) for part in found] == combinations
    for part, combination in zip(found, combinations, strict=True):
        assert list(part.values) == list(columns)
        assert part.rows.to_pylist() == [row for row, each in enumerate(values) if each == combination]


def test_rows_without_keys_are_one_partition() -> None:
    """And no rows are none."""
    assert [(part.values, part.rows.to_pylist()) for part in partitions(rows_of(b"a", b"b"))] == [({}, [0, 1])]
    assert partitions(rows_of()) == []
