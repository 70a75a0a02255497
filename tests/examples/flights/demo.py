"""Real flights through a real server that is killed half-way, and the proof that none was lost or counted twice.

A producer puts three weeks of flights with boto3, as a user would; a consumer of the library keeps a leaderboard of
the carriers at the same time; the server is killed with SIGKILL in the middle of it and started again on its directory.
A Lambda function, fed by a mapping, tells another stream of each flight that left an hour late; one record is no flight
at all, and has to end, alone, with the failure destination. A delivery stream fills a lake with Parquet files, an hour
of flights each, without those that were cancelled. A SQL query over the stream keeps an hourly leaderboard. At the end
everything is read once more, with boto3 from TRIM_HORIZON, and held against what was sent; the files are counted with
DuckDB, and the hourly leaderboard is computed from them.

Why nothing counts twice, although a retry may store a record twice and a restart may deliver one twice: the consumer
commits the flights it has counted and the leaderboard in one transaction, before it checkpoints. What comes again is
found by its id, and left out.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

import streamkit
from streamkit.model.errors import ServerUnreachable
from streamkit.testing.server import ServerProcess
from tests.examples.flights import lake, late, leaders

HERE: Final = Path(__file__).parent
STREAM: Final = "flights"
SHARDS: Final = 4
PUT_RECORDS_MAX: Final = 500
CHECKPOINT_BATCHES: Final = 4
RETRY_S: Final = 0.05
TRIES_MAX: Final = 200
RUN_S_MAX: Final = 60
LEADERS: Final = 10
LATE_MIN: Final = 60


class Flight(NamedTuple):
    id: str
    carrier: str
    delay_min: int | None  # None: cancelled
    line: bytes


class Score(NamedTuple):
    flights: int
    departed: int
    delay_min: int  # of all that departed

    @property
    def mean_delay_min(self) -> float:
        return self.delay_min / self.departed if self.departed else float("inf")


def flight_of(line: bytes) -> Flight:
    fields = json.loads(line)
    return Flight(fields["id"], fields["carrier"], fields["dep_delay"], line)


def load_flights(count: int | None = None) -> list[Flight]:
    with gzip.open(HERE / "flights-2013.jsonl.gz") as file:
        return [flight_of(line.rstrip()) for line in file][:count]


def load_airlines() -> dict[str, str]:
    with (HERE / "airlines.csv").open(newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


def client(endpoint: str, service: str = "kinesis") -> Any:
    # boto3 repeats a put whose answer was lost, and says nothing of it; the demo repeats it itself, to count.
    config = Config(retries={"total_max_attempts": 1}, read_timeout=10)
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", config=config, **keys)


# -- the producer ----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    shard_id: str
    sequence_number: str


class Producer:
    """Puts the flights in order, up to 500 a request, and repeats what was not acknowledged."""

    def __init__(self, endpoint: str, flights: Sequence[Flight]) -> None:
        self._client = client(endpoint)
        self._flights = flights
        self.acknowledged: dict[str, Place] = {}
        self.in_doubt: Counter[str] = Counter()  # how often a flight was sent without an answer
        self.requests_count = 0
        self.half_way = threading.Event()

    def run(self) -> None:
        try:
            for start in range(0, len(self._flights), PUT_RECORDS_MAX):
                waiting = list(self._flights[start : start + PUT_RECORDS_MAX])
                for _ in range(TRIES_MAX):
                    if not waiting:
                        break
                    waiting = self._put(waiting)
                if waiting:
                    raise RuntimeError(f"{len(waiting)} flights were not acknowledged in {TRIES_MAX} tries")
                if len(self.acknowledged) >= len(self._flights) // 2:
                    self.half_way.set()
        finally:
            self.half_way.set()

    def _put(self, flights: Sequence[Flight]) -> list[Flight]:
        """Returns those that must be sent again."""
        records = [{"Data": flight.line, "PartitionKey": flight.carrier} for flight in flights]
        self.requests_count += 1
        try:
            answers = self._client.put_records(StreamName=STREAM, Records=records)["Records"]
        except EndpointConnectionError:  # nobody listens: nothing was sent
            time.sleep(RETRY_S)
            return list(flights)
        except (HTTPClientError, ClientError):  # stored or not? Only sending it again makes sure
            self.in_doubt.update(flight.id for flight in flights)
            time.sleep(RETRY_S)
            return list(flights)
        again = []
        for flight, answer in zip(flights, answers, strict=True):
            if "ErrorCode" in answer:  # its shard was over the limit
                again.append(flight)
            else:
                self.acknowledged[flight.id] = Place(answer["ShardId"], answer["SequenceNumber"])
        return again


# -- the consumer ----------------------------------------------------------------------------------------------------


class Leaderboard:
    """The consumer's state: a SQLite file. What was counted and the sums change in one transaction."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS counted (id TEXT PRIMARY KEY, sequence_number TEXT) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS scores (carrier TEXT PRIMARY KEY, flights INT, departed INT, delay_min INT);
            """
        )

    def add(self, batch: streamkit.RecordBatch) -> tuple[int, int]:
        """Counts a batch's flights, on disk when it returns. How many were known: delivered again, stored twice."""
        delivered_again = stored_twice = 0
        self._db.execute("BEGIN")
        for record in batch.records():
            if record.data == late.POISON:
                continue
            flight = flight_of(record.data)
            found = self._db.execute("SELECT sequence_number FROM counted WHERE id = ?", (flight.id,)).fetchone()
            if found is None:
                self._count(flight, record.sequence_number)
            elif found[0] == record.sequence_number:
                delivered_again += 1
            else:
                stored_twice += 1
        self._db.execute("COMMIT")
        return delivered_again, stored_twice

    def _count(self, flight: Flight, sequence_number: str) -> None:
        self._db.execute("INSERT INTO counted VALUES (?, ?)", (flight.id, sequence_number))
        self._db.execute(
            """INSERT INTO scores VALUES (?, 1, ?, ?) ON CONFLICT DO UPDATE SET
            flights = flights + 1, departed = departed + excluded.departed, delay_min = delay_min + excluded.delay_min
            """,
            (flight.carrier, flight.delay_min is not None, flight.delay_min or 0),
        )

    def counted(self) -> set[str]:
        return {flight for (flight,) in self._db.execute("SELECT id FROM counted")}

    def scores(self) -> dict[str, Score]:
        rows = self._db.execute("SELECT carrier, flights, departed, delay_min FROM scores")
        return {carrier: Score(*numbers) for carrier, *numbers in rows}

    def close(self) -> None:
        self._db.close()


class Consumer:
    """Feeds the leaderboard. After a failure it goes on from what is on disk alone: its checkpoint and its state."""

    def __init__(self, endpoint: str, path: Path) -> None:
        self._endpoint = endpoint
        self._path = path
        self.counted_count = 0
        self.delivered_again = 0
        self.stored_twice = 0

    async def run(self, *, follow: bool) -> None:
        """Follows the stream until it is cancelled, or reads to the tip."""
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                await self._read(follow=follow)
                return
            except ServerUnreachable:
                if not tries_left:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _read(self, *, follow: bool) -> None:
        board = Leaderboard(self._path)
        try:
            async with streamkit.open(self._endpoint) as kit:
                consumer = kit.consumer(STREAM, "leaderboard", follow=follow)
                batches_count = 0
                try:
                    async for batch in consumer:
                        delivered_again, stored_twice = board.add(batch)
                        self.counted_count += len(batch) - delivered_again - stored_twice
                        self.delivered_again += delivered_again
                        self.stored_twice += stored_twice
                        batches_count += 1
                        if batches_count % CHECKPOINT_BATCHES == 0:
                            await consumer.checkpoint()
                except asyncio.CancelledError:  # told to stop: all that was handed out is in the leaderboard
                    await consumer.checkpoint()
                    raise
                await consumer.checkpoint()
        finally:
            board.close()


# -- the proof -------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    sequence_number: str
    data: bytes


@dataclass(slots=True)
class Evidence:
    """What each side says happened: the file, the producer, the stream itself, and the consumer's state."""

    flights: Sequence[Flight]
    acknowledged: Mapping[str, Place]
    in_doubt: Mapping[str, int]
    stored: Mapping[str, Sequence[Stored]]  # by shard id, as read again from TRIM_HORIZON
    counted: set[str]
    scores: Mapping[str, Score]
    function_faults: Sequence[str] = ()
    lake: lake.Lake = field(default_factory=lake.Lake)
    lake_faults: Sequence[str] = ()
    places: Sequence[leaders.Place] = ()  # of the live leaderboard
    places_faults: Sequence[str] = ()


@dataclass(slots=True)
class Verdict:
    stored_count: int
    counted_count: int
    twice: int  # stored twice, because an acknowledgement was lost and the producer sent it again
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    disordered: int = 0
    scores_agree: bool = False
    function_faults: Sequence[str] = ()
    lake_faults: Sequence[str] = ()
    places_faults: Sequence[str] = ()

    @property
    def is_good(self) -> bool:
        counts = self.lost or self.doubled or self.invented or self.disordered
        return self.scores_agree and not (counts or self.function_faults or self.lake_faults or self.places_faults)


def judge(evidence: Evidence) -> Verdict:
    sent = {flight.line: (place, flight.id) for place, flight in enumerate(evidence.flights)}
    found = {
        Place(shard, each.sequence_number): sent[each.data][1]
        for shard, records in evidence.stored.items()
        for each in records
        if each.data in sent
    }
    copies = Counter(found.values())
    verdict = Verdict(
        stored_count=sum(map(len, evidence.stored.values())),
        counted_count=sum(score.flights for score in evidence.scores.values()),
        twice=sum(copies.values()) - len(copies),
        doubled=sum(score.flights for score in evidence.scores.values()) - len(evidence.counted),
    )
    for flight in evidence.flights:
        place = evidence.acknowledged.get(flight.id)
        if place is None or found.get(place) != flight.id or flight.id not in evidence.counted:
            verdict.lost += 1
        if copies[flight.id] > 1 + evidence.in_doubt.get(flight.id, 0):
            verdict.doubled += 1
    verdict.invented = verdict.stored_count - sum(copies.values())
    for records in evidence.stored.values():
        numbers = [int(each.sequence_number) for each in records]
        first_seen = dict.fromkeys(sent[each.data][0] for each in records if each.data in sent)
        verdict.disordered += sum(a >= b for a, b in pairwise(numbers)) + sum(a > b for a, b in pairwise(first_seen))
    verdict.scores_agree = dict(evidence.scores) == scores_of(evidence.flights)
    verdict.function_faults = evidence.function_faults
    verdict.lake_faults = evidence.lake_faults
    verdict.places_faults = evidence.places_faults
    return verdict


def scores_of(flights: Sequence[Flight]) -> dict[str, Score]:
    """The leaderboard straight from the file, without a stream."""
    scheduled = Counter(flight.carrier for flight in flights)
    delays: dict[str, list[int]] = {carrier: [] for carrier in scheduled}
    for flight in flights:
        if flight.delay_min is not None:
            delays[flight.carrier].append(flight.delay_min)
    return {carrier: Score(count, len(delays[carrier]), sum(delays[carrier])) for carrier, count in scheduled.items()}


def read_again(endpoint: str, stream: str = STREAM) -> dict[str, list[Stored]]:
    """Every record of every shard, by the plain Kinesis API."""
    kinesis = client(endpoint)
    shards = [shard["ShardId"] for shard in kinesis.list_shards(StreamName=stream)["Shards"]]
    return {shard: list(_read_shard(kinesis, stream, shard)) for shard in shards}


def data_of(endpoint: str, stream: str) -> list[bytes]:
    return [record.data for records in read_again(endpoint, stream).values() for record in records]


def late_flights(flights: Sequence[Flight]) -> list[str]:
    """The ids of those that left an hour late or more, straight from the file."""
    return [flight.id for flight in flights if (flight.delay_min or 0) >= LATE_MIN]


def _read_shard(kinesis: Any, stream: str, shard: str) -> Iterator[Stored]:
    start = {"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(**start)["ShardIterator"]
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        yield from (Stored(each["SequenceNumber"], each["Data"]) for each in answer["Records"])
        if not answer["Records"] and not answer["MillisBehindLatest"]:
            return
        iterator = answer["NextShardIterator"]


# -- the run ---------------------------------------------------------------------------------------------------------


class Story:
    """Says what happens, and when."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._started_s:6.1f} s  {text}", flush=True)


async def bounded_run(flights: Sequence[Flight], folder: Path, rng: random.Random) -> Evidence:
    """As `run`, but raises TimeoutError rather than wait for ever."""
    async with asyncio.timeout(RUN_S_MAX):
        return await run(flights, folder, rng)


async def run(flights: Sequence[Flight], folder: Path, rng: random.Random) -> Evidence:
    """Puts and counts the flights while the server dies once."""
    story = Story()
    server = ServerProcess(folder / "data")
    await asyncio.to_thread(server.start)
    story.tell(f"server at {server.endpoint}, its data in a temporary folder")
    try:
        await asyncio.to_thread(client(server.endpoint).create_stream, StreamName=STREAM, ShardCount=SHARDS)
        await asyncio.to_thread(late.make_function, partial(client, server.endpoint), STREAM)
        await asyncio.to_thread(lake.make_lake, partial(client, server.endpoint), STREAM)
        story.tell(f"stream {STREAM!r} with {SHARDS} shards, a Lambda function that a mapping feeds, a delivery stream")
        story.tell("producer (boto3) and consumer (streamkit) start")
        producer = Producer(server.endpoint, flights)
        consumer = Consumer(server.endpoint, folder / "leaderboard.sqlite")
        producing = asyncio.create_task(asyncio.to_thread(producer.run))
        consuming = asyncio.create_task(consumer.run(follow=True))

        await asyncio.to_thread(producer.half_way.wait)
        poison = await asyncio.to_thread(
            client(server.endpoint).put_record, StreamName=STREAM, Data=late.POISON, PartitionKey="poison"
        )
        story.tell("one record put that is no flight")
        await asyncio.sleep(rng.uniform(0, 0.02))  # anywhere in a request
        await asyncio.to_thread(server.kill)
        counted_before = consumer.counted_count
        story.tell(f"kill -9: {len(producer.acknowledged):,} acknowledged, {counted_before:,} counted so far")
        await asyncio.to_thread(server.start)
        story.tell("server back, on the same folder; both go on, and a SQL query joins them")
        watcher = leaders.Watcher(server.endpoint, STREAM)
        watching = asyncio.create_task(watcher.run())

        await producing
        story.tell(
            f"producer done: {producer.requests_count} requests; "
            f"{len(producer.in_doubt):,} flights got no answer, and were sent again"
        )
        consuming.cancel()  # it waits for more, and there is none: once more, to the tip
        await asyncio.gather(consuming, return_exceptions=True)
        await consumer.run(follow=False)
        story.tell(
            "consumer done: resumed at its checkpoint; "
            f"of {counted_before:,} counted before, {consumer.delivered_again:,} came again and were left out"
        )

        wanted = late_flights(flights)
        told = await asyncio.to_thread(late.wait_for, wanted, partial(data_of, server.endpoint))
        again = sum(told.late.values()) - len(told.late)
        story.tell(
            f"function done: {len(told.late):,} flights were an hour late, {again:,} of them told twice, for the "
            f"kill; given up: {len(told.failures)} record"
        )
        await asyncio.to_thread(lake.flush, server.endpoint)
        filled = await asyncio.to_thread(lake.read_lake, folder / "data")
        story.tell(
            f"lake filled: {filled.flights.total():,} flights in {filled.files_count:,} Parquet files of "
            f"{filled.hours_count:,} hours; refused: {len(filled.refused)} record"
        )
        board = Leaderboard(folder / "leaderboard.sqlite")
        stored = await asyncio.to_thread(read_again, server.endpoint)
        flights_stored = {
            shard: [record for record in records if record.data != late.POISON] for shard, records in stored.items()
        }
        story.tell("all of it read again from TRIM_HORIZON (boto3), for the proof")
        records = {shard: [each.data for each in those] for shard, those in flights_stored.items()}
        places = await asyncio.to_thread(leaders.places_in_lake, folder / "data", leaders.closed_until(records))
        await watcher.until(len(places))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        story.tell(
            f"SQL over the stream: {len(watcher.places):,} places of an hourly leaderboard, told as hours closed"
        )
        evidence = Evidence(
            flights,
            producer.acknowledged,
            producer.in_doubt,
            flights_stored,
            board.counted(),
            board.scores(),
            late.faults(told, wanted, poison),
            filled,
            lake.faults(filled, [each.data for records in stored.values() for each in records]),
            watcher.places,
            leaders.faults(watcher.places, places),
        )
        board.close()
        return evidence
    finally:
        server.kill()


def main() -> int:
    flights = load_flights()
    print(f"{len(flights):,} flights that were to leave New York from 1 to 23 January 2013\n")
    with tempfile.TemporaryDirectory(prefix="streamkit-demo-") as folder:
        evidence = asyncio.run(bounded_run(flights, Path(folder), random.Random()))
    print_leaderboard(evidence.scores)
    print_places(evidence.places)
    verdict = judge(evidence)
    print_proof(evidence, verdict)
    return 0 if verdict.is_good else 1


def print_leaderboard(scores: Mapping[str, Score]) -> None:
    names = load_airlines()
    ranked = sorted(scores.items(), key=lambda item: item[1].mean_delay_min)
    print(f"\n{'':4}{'leaves most on time':<32}{'flights':>9}{'cancelled':>11}{'mean delay':>13}")
    for rank, (carrier, score) in enumerate(ranked[:LEADERS], 1):
        cancelled = score.flights - score.departed
        delay = f"{score.mean_delay_min:.1f} min"
        print(f"{rank:>2}  {names.get(carrier, carrier):<32}{score.flights:>9,}{cancelled:>11,}{delay:>13}")


def print_places(places: Sequence[leaders.Place]) -> None:
    """Those of the newest window that has closed."""
    names = load_airlines()
    newest = max(place.until for place in places)
    print(f"\n{'':4}{f'latest until {newest:%d %B, %H:%M}':<32}{'flights':>9}{'':11}{'mean delay':>13}")
    for each in sorted(place for place in places if place.until == newest):
        delay = f"{each.minutes / each.flights:.1f} min"
        print(f"{each.place:>2}  {names.get(each.carrier, each.carrier):<32}{each.flights:>9,}{'':11}{delay:>13}")


def print_proof(evidence: Evidence, verdict: Verdict) -> None:
    rows = (
        ("sent", len(evidence.flights), "flights of the file"),
        ("acknowledged", len(evidence.acknowledged), "each with its shard and sequence number"),
        ("stored", verdict.stored_count, _about_copies(verdict.twice, len(evidence.in_doubt))),
        ("counted", verdict.counted_count, "each flight once, by its id"),
        ("lost", verdict.lost, "acknowledged and not at its place, or not counted"),
        ("doubled", verdict.doubled, "counted twice, or stored twice without need"),
        ("invented", verdict.invented, "stored and never sent"),
        ("out of order", verdict.disordered, "within a shard"),
    )
    print()
    for name, count, meaning in rows:
        print(f"{name:>14}{count:>9,}   {meaning}")
    same = "is the one" if verdict.scores_agree else "IS NOT THE ONE"
    print(f"\nThe leaderboard {same} computed from the file directly.")
    if verdict.function_faults:
        print("The function: " + "; ".join(verdict.function_faults))
    else:
        print("The function told of every flight that was late, and only its poison record ended with the failures.")
    if verdict.lake_faults:
        print("The lake: " + "; ".join(verdict.lake_faults))
    else:
        print(
            "The lake has every flight that was not cancelled once for each time it is stored, says DuckDB; the error"
        )
        print("output has the record that is no flight; and there is nothing else.")
    if verdict.places_faults:
        print("The hourly leaderboard: " + "; ".join(verdict.places_faults))
    else:
        print("Every hour's leaderboard, as SQL over the stream told it, is the one DuckDB finds in the lake's files.")
    print("proof: good" if verdict.is_good else "proof: FAILED")


def _about_copies(twice: int, in_doubt_count: int) -> str:
    if twice:
        return f"{twice:,} twice: on disk, but the kill came before the answer, so they were sent again (as with AWS)"
    return "none twice: what got no answer had not reached the disk" if in_doubt_count else "each once"


if __name__ == "__main__":
    sys.exit(main())
