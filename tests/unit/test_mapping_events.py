"""Events built by columns are what a slow and obvious builder makes, record by record."""

from __future__ import annotations

import base64
import itertools
import json
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit.mappings.batcher import Batcher, BatchLimits
from streamkit.mappings.batches import Batch, Part
from streamkit.mappings.events import EventBuilder, WindowContext
from streamkit.model.batch import RecordBatch

ARN = 'arn:aws:kinesis:eu-west-1:000000000000:stream/s"1'
ROLE = "arn:aws:iam::000000000000:role/r"
SHARD = "shardId-000000000018"
BUILDER = EventBuilder(shard_index=18, source_arn=ARN, role_arn=ROLE, region="eu-west-1")


def batch_of(records: Sequence[tuple[str, bytes]], first: int, arrivals: Sequence[int], *, apart: bool) -> RecordBatch:
    """A log batch whose columns begin elsewhere than at zero, with one arrival time or one for each record."""
    around = [("before", b"before"), *records, ("after", b"after")]
    keys = [key.encode() for key, _ in around]
    data = [value for _, value in around]
    times = memoryview(array("q", [1, *arrivals, 2])) if apart else None
    return RecordBatch(
        18, 1_600_000_000, first, 1, len(records) + 1, arrivals[0], *column(keys), *column(data), None, times
    )


def column(values: Sequence[bytes]) -> tuple[memoryview, memoryview]:
    offsets = array("i", itertools.accumulate(map(len, values), initial=3))
    return memoryview(offsets), memoryview(b"###" + b"".join(values))


def slowly(batch: Batch) -> list[dict[str, Any]]:
    """The event's records as AWS's example has them."""
    found = []
    for part in batch.parts:
        records = list(part.batch.records())
        for row in range(len(records)) if part.rows is None else part.rows:
            record = records[row]
            found.append(
                {
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": record.partition_key,
                        "sequenceNumber": record.sequence_number,
                        "data": base64.b64encode(record.data).decode(),
                        "approximateArrivalTimestamp": Decimal(record.arrived_at_ms) / 1000,
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": f"{SHARD}:{record.sequence_number}",
                    "eventName": "aws:kinesis:record",
                    "invokeIdentityArn": ROLE,
                    "awsRegion": "eu-west-1",
                    "eventSourceARN": ARN,
                }
            )
    return found


def parsed(pieces: Sequence[bytes]) -> Any:
    return json.loads(b"".join(pieces), parse_float=Decimal)


def ordered_keys(value: Any) -> Any:
    """The names of a document in their order, which a program that reads it must not need, but a person may like."""
    if isinstance(value, dict):
        return [(key, ordered_keys(each)) for key, each in value.items()]
    return [ordered_keys(each) for each in value] if isinstance(value, list) else None


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.text(
    st.sampled_from('"\\/\b\n\x00\x1f\x7fé€😀<&'), min_size=1, max_size=12
)
times = st.integers(0, 4_102_444_800_000)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Several parts, whole or by rows, with one time or many."""
    parts, offset = [], draw(st.integers(0, 2**40))
    for _ in range(draw(st.integers(1, 4))):
        records = draw(st.lists(st.tuples(keys, st.binary(max_size=20)), min_size=1, max_size=5))
        count = len(records)
        arrivals = sorted(draw(st.lists(times, min_size=count, max_size=count)))
        batch = batch_of(records, offset, arrivals, apart=draw(st.booleans()))
        rows = draw(st.none() | st.sets(st.integers(0, count - 1), min_size=1))
        parts.append(Part(batch, None if rows is None else sorted(rows)))
        offset += count + draw(st.integers(0, 3))
    return Batch(parts)


@settings(max_examples=300, deadline=None)
@given(batch=batches())
def test_an_event_is_what_the_slow_builder_makes(batch: Batch) -> None:
    """Whatever the keys and the data are, however the records lie in the log."""
    event = parsed(BUILDER.build(batch))
    assert event == {"Records": slowly(batch)}
    assert ordered_keys(event["Records"]) == ordered_keys(slowly(batch))


@settings(max_examples=100, deadline=None)
@given(batch=batches(), data=st.data())
def test_a_slice_of_a_batch_has_its_records_and_finds_them_by_number(batch: Batch, data: st.DataObject) -> None:
    """Cut and joined again it is the same; one record batch made of it has the same records."""
    start = data.draw(st.integers(0, len(batch)))
    stop = data.draw(st.integers(start, len(batch)))
    whole = slowly(batch)
    left, cut, right = batch.slice(0, start), batch.slice(start, stop), batch.slice(stop, len(batch))
    assert slowly(cut) == whole[start:stop]
    assert len(cut) == stop - start
    assert slowly(left.joined(cut).joined(right)) == whole
    for index, record in enumerate(whole):
        number = record["kinesis"]["sequenceNumber"]
        assert batch.sequence_number(index) == number
        assert batch.index_of(number) == index
        assert cut.index_of(number) == (index - start if start <= index < stop else None) if len(cut) else True
    if len(cut):
        one = cut.as_record_batch()
        assert slowly(Batch([Part(one)])) == slowly(cut)
        assert one.next_offset == cut.last_offset + 1
        assert slowly(Batch([Part(one.slice(1, len(one)))])) == slowly(cut)[1:]


@given(batch=batches(), is_final=st.booleans(), ended_early=st.booleans(), has_records=st.booleans())
def test_an_event_in_a_window_tells_of_the_window(
    batch: Batch, is_final: bool, ended_early: bool, has_records: bool
) -> None:
    """Beside the records, which a final invocation has none of. The state goes in as it is."""
    state = '{"a": [1.50, 1e400, 123456789012345678901234567890], "b": "€"}'
    start_ms = 1_700_000_000_000
    window = WindowContext(start_ms, start_ms + 30_000, state, is_final, ended_early)
    if not has_records:
        batch = Batch([])
    pieces = BUILDER.build(batch, window)
    assert state.encode() in b"".join(pieces)
    event = parsed(pieces)
    assert event.pop("state") == json.loads(state, parse_float=Decimal)
    assert event == {
        "Records": slowly(batch),
        "window": {"start": _iso(start_ms), "end": _iso(start_ms + 30_000)},
        "shardId": SHARD,
        "eventSourceARN": ARN,
        "isFinalInvokeForWindow": is_final,
        "isWindowTerminatedEarly": ended_early,
    }


def _iso(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


escaped_keys = st.text(st.sampled_from('"\\\b\n\x7fk€'), min_size=1, max_size=256)


@settings(max_examples=200, deadline=None)
@given(records=st.lists(st.tuples(escaped_keys, st.binary(max_size=8)), min_size=2, max_size=20))
@example(records=[("k", b"x")] * 500)
@example(records=[("k", b"xyz")] * 500)
@example(records=[('"' * 256, b"")] * 50)
def test_what_a_batch_counts_for_is_no_less_than_its_event(records: list[tuple[str, bytes]]) -> None:
    """So a batch that fits by its count is not refused for its size; but for keys of control characters, which may
    take six times their length, and whose batch is split when it is refused."""
    part = Part(batch_of(records, 2**62, [9_999_999_999_999] * len(records), apart=False))
    event = len(b"".join(BUILDER.build(Batch([part])))) - len(b'{"Records":[]}')
    batcher = Batcher(BatchLimits(10_000, event - 1, envelope_bytes=BUILDER.envelope_bytes))
    batcher.add(part, 0)
    batch = batcher.take(0)
    assert batch is not None
    assert len(batch) < len(records)
