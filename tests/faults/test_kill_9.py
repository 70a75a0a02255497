"""A server killed with `kill -9` under load, again and again: what it acknowledged is there, and nothing else.

`pytest tests/faults/test_kill_9.py --kill-rounds 50` runs as many rounds; `--kill-seed` repeats a round's choices.
"""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamkit.model.sequence import parse, sequence_number
from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, blob, kinesis, list_shards, read_all

WRITERS_COUNT = 16
STREAM = "s"
GONE = (OSError, http.client.HTTPException)  # what a client sees of a killed server

Place = tuple[str, int]  # shard and sequence number


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        rounds: int = metafunc.config.getoption("--kill-rounds")
        first = metafunc.config.getoption("--kill-seed")
        metafunc.parametrize("seed", range(first, first + rounds), ids=lambda seed: f"seed-{seed}")


@dataclass
class History:
    """What clients sent, and what they were told. A record's data is the writer and a number that grows."""

    sent: set[bytes] = field(default_factory=set)
    acknowledged: dict[bytes, Place] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)  # answers that should not have been
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, data: bytes, answer: dict[str, Any]) -> None:
        with self.lock:
            assert data not in self.acknowledged
            self.acknowledged[data] = (answer["ShardId"], int(answer["SequenceNumber"]))


def write(port: int, writer: str, rng: random.Random, history: History) -> None:
    """Puts records, one call after the other, until the server is gone."""
    data = (f"{writer}-{number:06}".encode() for number in itertools.count())
    with RawClient(port, timeout_s=20) as client:
        try:
            while True:
                batch = [next(data) for _ in range(rng.choice((1, 1, 2, 10, 50)))]
                size = rng.choice((0, 0, 100, 5_000))
                entries = [
                    {"Data": blob(each + b"-" + b"x" * size), "PartitionKey": f"{writer}-{rng.randrange(8)}"}
                    for each in batch
                ]
                with history.lock:
                    history.sent.update(batch)
                if len(batch) == 1:
                    answer = client.call("PutRecord", StreamName=STREAM, **entries[0])
                else:
                    answer = client.call("PutRecords", StreamName=STREAM, Records=entries)
                if answer.status != 200:
                    history.unexpected.append(repr(answer))
                    return
                placed = [answer.json] if len(batch) == 1 else answer.json["Records"]
                for each, place in zip(batch, placed, strict=True):
                    history.acknowledge(each, place)
        except GONE:
            return


def reshard(port: int, rng: random.Random, history: History) -> None:
    """Splits and merges at random until the server is gone. What is refused because it cannot be is no matter."""
    with RawClient(port, timeout_s=20) as client:
        try:
            while True:
                time.sleep(rng.uniform(0.005, 0.05))
                shards = client.ok("ListShards", StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})["Shards"]
                shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
                at = rng.randrange(len(shards))
                if len(shards) > 6 and at:
                    pair = {"ShardToMerge": shards[at - 1]["ShardId"], "AdjacentShardToMerge": shards[at]["ShardId"]}
                    answer = client.call("MergeShards", StreamName=STREAM, **pair)
                else:
                    first, last = (int(shards[at]["HashKeyRange"][f"{edge}HashKey"]) for edge in ("Starting", "Ending"))
                    key = str((first + last) // 2)
                    answer = client.call(
                        "SplitShard", StreamName=STREAM, ShardToSplit=shards[at]["ShardId"], NewStartingHashKey=key
                    )
                if answer.status != 200:
                    history.unexpected.append(repr(answer))
                    return
        except GONE:
            return


@contextmanager
def load(server: ServerProcess, life: str, rng: random.Random, history: History, *, reshards: bool) -> Iterator[None]:
    """Sixteen writers, and somebody who reshards, who end when the server does."""
    jobs = [
        threading.Thread(target=write, args=(server.port, f"{life}{index:02}", random.Random(rng.random()), history))
        for index in range(WRITERS_COUNT)
    ]
    if reshards:
        jobs.append(threading.Thread(target=reshard, args=(server.port, random.Random(rng.random()), history)))
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        server.kill()
        for job in jobs:
            job.join()


def require_history(history: History, server: ServerProcess) -> None:
    """Compares what was acknowledged with what is there."""
    assert history.unexpected == []
    with kinesis(server.endpoint) as client:
        found = read_all(client, STREAM)
        shards = {shard["ShardId"]: shard for shard in list_shards(client, STREAM)}
    places: dict[bytes, Place] = {}
    for shard, records in found.items():
        numbers = [int(record["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers)), f"{shard} is out of order"
        last_of_writer: dict[bytes, bytes] = {}
        for record, number in zip(records, numbers, strict=True):
            data = record["Data"].rpartition(b"-")[0]
            assert data not in places, f"{data!r} is there twice"
            places[data] = (shard, number)
            writer = data.partition(b"-")[0]
            assert last_of_writer.get(writer, b"") < data, f"{shard} has records of a writer in another order"
            last_of_writer[writer] = data
        for parent in (shards[shard].get("ParentShardId"), shards[shard].get("AdjacentParentShardId")):
            if parent is not None and numbers:
                assert int(shards[parent]["SequenceNumberRange"]["EndingSequenceNumber"]) < numbers[0]
    assert places.keys() <= history.sent, "a record was invented"
    lost = history.acknowledged.keys() - places.keys()
    assert not lost, f"{len(lost)} of {len(history.acknowledged)} acknowledged records are lost"
    moved = {data for data, place in history.acknowledged.items() if places[data] != place}
    assert not moved, f"{len(moved)} records are not where their acknowledgement said"


def test_no_acknowledged_record_is_lost_and_none_is_invented_by_kill_9(
    start_streamkit: StartStreamkit, seed: int
) -> None:
    print(f"repeat this with --kill-rounds 1 --kill-seed {seed}")
    rng = random.Random(seed)
    history = History()
    server = start_streamkit()
    with RawClient(server.port) as client:
        client.ok("CreateStream", StreamName=STREAM, ShardCount=rng.choice((1, 3, 8)))
    for life in "ab":
        with load(server, life, rng, history, reshards=seed % 2 == 0):
            time.sleep(rng.uniform(0.05, 0.5))
        assert any(data.startswith(life.encode()) for data in history.acknowledged), "nothing was under way"
        server.restart()
        require_history(history, server)


def test_a_kill_while_the_server_stops_loses_nothing(start_streamkit: StartStreamkit, seed: int) -> None:
    rng = random.Random(seed)
    history = History()
    server = start_streamkit()
    with RawClient(server.port) as client:
        client.ok("CreateStream", StreamName=STREAM, ShardCount=4)
    with load(server, "a", rng, history, reshards=False):
        time.sleep(0.1)
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(rng.uniform(0, 0.03))
    server.restart()
    require_history(history, server)


def offset_of(text: str) -> int:
    position = parse(text)
    assert position is not None
    return position.offset


def test_acknowledged_checkpoints_survive_kill_9(start_streamkit: StartStreamkit, seed: int) -> None:
    rng = random.Random(seed)
    server = start_streamkit()
    with RawClient(server.port) as client:
        client.ok("CreateStream", StreamName=STREAM, ShardCount=4)
    acknowledged: dict[str, int] = {}
    sent: dict[str, int] = {}

    def save(consumer: str) -> None:
        with RawClient(server.port, timeout_s=20) as client:
            try:
                for number in itertools.count(1):
                    sent[consumer] = number
                    shards = {str(index): sequence_number(1, index, number, 0) for index in range(4)}
                    answer = client.native(
                        "/_streamkit/checkpoints", {"stream": STREAM, "consumer": consumer, "save": shards}
                    )
                    assert answer.status == 200
                    acknowledged[consumer] = number
            except GONE:
                return

    savers = [threading.Thread(target=save, args=(f"c{index}",)) for index in range(8)]
    for saver in savers:
        saver.start()
    time.sleep(rng.uniform(0.05, 0.3))
    server.kill()
    for saver in savers:
        saver.join()
    server.restart()
    assert len(acknowledged) == 8
    with RawClient(server.port) as client:
        for consumer, number in acknowledged.items():
            answer = client.native("/_streamkit/checkpoints", {"stream": STREAM, "consumer": consumer})
            found = {int(shard): offset_of(text) for shard, text in answer.json.items()}
            assert found.keys() == {0, 1, 2, 3}
            assert len(set(found.values())) == 1, "the checkpoints of one call are all saved, or none"
            assert number <= found[0] <= sent[consumer]
