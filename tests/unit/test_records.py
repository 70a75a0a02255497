"""The fast way of a put and the checked one: where the fast one answers, both answer and store the same."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit.api.gateway import Body
from streamkit.api.kinesis import Kinesis
from streamkit.metrics import Registry
from streamkit.model.batch import Record, RecordBatch
from streamkit.model.errors import StreamkitError
from streamkit.model.hashkey import HASH_KEY_MAX
from streamkit.model.limits import MIB, RECORD_BYTES_DEFAULT_MAX
from streamkit.model.names import Scope, StreamArn
from streamkit.shards.memory import MemoryLogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams
from streamkit.testing.clock import VirtualClock, run
from streamkit.testing.runner import InlineRunner

SCOPE = Scope("000000000000", "us-east-1")
UNPADDED = ("SerializationException", "Invalid last non-pad Base64 character dectected")
Outcome = tuple[Any, list[Record]]


def outcome(operation: str, body: bytes, *, fast: bool) -> Outcome | None:
    """What one put answers, and all that is stored afterwards; None where the fast way declines."""

    async def main(clock: VirtualClock, rng: random.Random) -> Outcome | None:
        store = MemoryLogStore(clock=clock, runner=InlineRunner())
        streams = Streams(ControlStore(None), store, clock=clock, random=rng)
        await streams.start()
        stream = await streams.create(StreamArn(SCOPE, "s"), shards_count=3)
        await stream.ready()
        kinesis = Kinesis(streams, clock, Registry())
        answer: Any
        try:
            if fast:
                answered: asyncio.Future[Body] = asyncio.get_running_loop().create_future()

                def respond(body: Body, error: BaseException | None) -> None:
                    if error is None:
                        answered.set_result(body)
                    else:
                        answered.set_exception(error)

                if not kinesis.fast_paths[operation](SCOPE, body, respond):
                    assert all(stream.log.bounds(shard.index).next_offset == 0 for shard in stream.state.shards)
                    return None
                answer = json.loads(bytes_of(await answered))
            else:
                values = kinesis.model.operations[operation].decode(body)
                output = await kinesis.actions[operation](SCOPE, values)
                assert isinstance(output, bytes)
                answer = json.loads(output)
        except StreamkitError as error:
            answer = [error.code, error.message]
        stored: list[Record] = []
        for shard in stream.state.shards:
            batches: list[RecordBatch] = await stream.log.read(shard.index, 0, records_max=1_000, bytes_max=1 << 30)
            stored += [record for batch in batches for record in batch.records()]
        await streams.close()
        return answer, stored

    return run(main, seed=1)


def bytes_of(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    assert not isinstance(body, AsyncIterator), "records are not streamed"
    return b"".join(map(bytes, body))


def require_same(operation: str, body: bytes) -> None:
    quick = outcome(operation, body, fast=True)
    if quick is not None:
        checked = outcome(operation, body, fast=False)
        if operation == "PutRecords" and len(body) < MIB and checked is not None and UNPADDED[0] in checked[0]:
            assert checked[0][1].endswith(UNPADDED[1])  # the one thing that `fast_put_records` says it lets pass
        else:
            assert quick == checked


BASE64 = st.one_of(
    st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    st.text("AQgw+/=_- \n", max_size=9),
    st.text(max_size=6),
)
KEYS = st.text(min_size=1, max_size=5) | st.sampled_from(["", "k" * 256, "k" * 257, "é" * 256, "😀" * 256])
HASH_KEYS = st.sampled_from(["0", "1", "00", "-1", "+1", " 1", "1_0", "１", "", "x", "9" * 40, str(HASH_KEY_MAX)]) | (
    st.integers(0, HASH_KEY_MAX + 2).map(str)
)
ODDITIES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.lists(st.integers(), max_size=1)
ENTRY = st.fixed_dictionaries(
    {"Data": BASE64 | ODDITIES, "PartitionKey": KEYS | ODDITIES},
    optional={"ExplicitHashKey": HASH_KEYS | ODDITIES, "Unknown": ODDITIES},
)
PLAIN = st.fixed_dictionaries({"Data": BASE64, "PartitionKey": KEYS}, optional={"ExplicitHashKey": HASH_KEYS})


@given(ENTRY | PLAIN, st.sampled_from(["s", "s", "s", "t", "", None]), st.booleans())
@example({"Data": "YR==", "PartitionKey": "k"}, "s", False)
@example({"Data": "YWJ=", "PartitionKey": "k"}, "s", False)
@example({"Data": "YWI", "PartitionKey": "k"}, "s", False)
@example({"Data": "Y WI=", "PartitionKey": "k"}, "s", False)
@example({"Data": "YWI=\n", "PartitionKey": "k"}, "s", False)
@example({"Data": "YWI=YWI=", "PartitionKey": "k"}, "s", False)
@example({"Data": "", "PartitionKey": "\ud800"}, "s", True)
def test_put_record_answers_the_same_by_both_ways(entry: dict[str, Any], stream: str | None, escaped: bool) -> None:
    values = {**entry, "StreamName": stream}
    try:
        body = json.dumps(values, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        body = json.dumps(values).encode()
    require_same("PutRecord", body)


@given(st.lists(ENTRY | PLAIN, max_size=4), st.sampled_from(["s", "s", "s", "t", None]))
def test_put_records_answers_the_same_by_both_ways(entries: list[dict[str, Any]], stream: str | None) -> None:
    require_same("PutRecords", json.dumps({"Records": entries, "StreamName": stream}).encode())


@pytest.mark.parametrize("data", ["Q" * 8_191 + "R", "QUJD" * 2_000 + "YR==", "QUJD" * 2_000 + "YWJ=", "QUJD" * 2_000])
def test_a_large_put_record_answers_the_same_by_both_ways(data: str) -> None:
    require_same("PutRecord", json.dumps({"Data": data, "PartitionKey": "k", "StreamName": "s"}).encode())


@pytest.mark.parametrize("last", ["YR==", "YWJ=", "YQ==", "YWI=", "Y=", "*AAA"])
def test_a_large_put_records_answers_the_same_by_both_ways(last: str) -> None:
    entries = [{"Data": "QUJD" * 100_000, "PartitionKey": f"k{index}"} for index in range(3)]
    body = {"Records": [*entries, {"Data": last, "PartitionKey": "last"}], "StreamName": "s"}
    require_same("PutRecords", orjson.dumps(body))


@given(st.binary(max_size=200), st.integers(0, 120), st.integers(0, 120))
@settings(max_examples=200)
def test_a_broken_body_answers_the_same_by_both_ways(noise: bytes, start: int, stop: int) -> None:
    body = b'{"Data":"aGVsbG8=","PartitionKey":"k","StreamName":"s","ExplicitHashKey":"5"}'
    require_same("PutRecord", body[:start] + noise[: len(noise) % 4] + body[min(start, stop) :])


@pytest.mark.parametrize(
    ("size", "count"), [(RECORD_BYTES_DEFAULT_MAX, 1), (RECORD_BYTES_DEFAULT_MAX + 1, 1), (1_000_000, 11), (0, 501)]
)
def test_sizes_and_counts_over_the_limit_answer_the_same_by_both_ways(size: int, count: int) -> None:
    data = base64.b64encode(b"x" * size).decode()
    entries = [{"Data": data, "PartitionKey": "k"} for _ in range(count)]
    require_same("PutRecords", orjson.dumps({"Records": entries, "StreamName": "s"}))
    require_same("PutRecord", orjson.dumps({**entries[0], "StreamName": "s"}))


def test_the_plain_case_goes_the_fast_way() -> None:
    """Otherwise all of the above would say nothing."""
    plain = {"Data": "aGVsbG8=", "PartitionKey": "ключ", "ExplicitHashKey": "5"}
    one = outcome("PutRecord", json.dumps({**plain, "StreamName": "s"}).encode(), fast=True)
    many = outcome("PutRecords", json.dumps({"Records": [plain] * 3, "StreamName": "s"}).encode(), fast=True)
    assert one is not None
    assert many is not None
    assert [record.data for record in one[1]] == [b"hello"]
    assert [record.partition_key for record in many[1]] == ["ключ"] * 3
