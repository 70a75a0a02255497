"""A server killed with `kill -9` while it delivers: readers find every record in the lake exactly once.

One stream is delivered five ways at the same time, with buffers so small that some seal, upload or commit is under way
at every instant: GZIP lines to an S3 server, Parquet by partitions to a directory, lines without a buffer to a
directory, an Iceberg table and a Delta table. Beside it records are put to a delivery stream directly. Readers are
those of others: gzip, pyarrow, pyiceberg, deltalake.

`pytest tests/faults/test_kill_9_delivery.py --kill-rounds 100` kills as often; `--kill-seed` repeats a round's choices.
"""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from streamkit.testing.plugin import StartStreamkit
from tests.wire.clients import ACCOUNT, REGION, read_all
from tests.wire.cloud import stream_arn
from tests.wire.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, object_store

STREAM, DIRECT = "s", "direct"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
COLUMNS = [{"Name": "id", "Type": "bigint"}, {"Name": "kind", "Type": "string"}, {"Name": "text", "Type": "string"}]
KILLS_PER_ROUND = 2
PUTS_PER_S = 40
BAD = b"no document"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        kills: int = metafunc.config.getoption("--kill-rounds")
        first = metafunc.config.getoption("--kill-seed")
        rounds = (kills + KILLS_PER_ROUND - 1) // KILLS_PER_ROUND
        metafunc.parametrize("seed", range(first, first + rounds), ids=lambda seed: f"seed-{seed}")


def client(service: str, endpoint: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=20, parameter_validation=False)
    keys = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "secret"}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, config=config, **keys)


def from_stream(name: str) -> dict[str, Any]:
    return {
        "DeliveryStreamName": name,
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": {"KinesisStreamARN": stream_arn(STREAM), "RoleARN": ROLE},
    }


def to_url(endpoint: str, name: str, url: str, **more: Any) -> None:
    """A destination that only our own clients know of: boto3 would not send it."""
    hints = {"SizeInBytes": 8_000, "IntervalInMilliseconds": 150}
    body = {
        **from_stream(name),
        "StreamkitDestinationConfiguration": {"Url": url, "BufferingHints": hints, **more},
    }
    request = urllib.request.Request(
        endpoint,
        json.dumps(body).encode(),
        {
            "X-Amz-Target": "Firehose_20150804.CreateDeliveryStream",
            "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/firehose/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from error


def set_up(endpoint: str, folder: Path, bucket_name: str) -> None:
    client("kinesis", endpoint).create_stream(StreamName=STREAM, ShardCount=3)
    bucket = {
        "BucketARN": f"arn:aws:s3:::{bucket_name}",
        "RoleARN": ROLE,
        "Prefix": "in/",
        "ErrorOutputPrefix": "errors/",
    }
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 1}
    newline = {"Enabled": True, "Processors": [{"Type": "AppendDelimiterToRecord"}]}
    s3 = {**bucket, "BufferingHints": hints, "CompressionFormat": "GZIP", "ProcessingConfiguration": newline}
    firehose = client("firehose", endpoint)
    # AWS reads from the tip on; nothing is in the stream yet.
    firehose.create_delivery_stream(**from_stream("gzip"), ExtendedS3DestinationConfiguration=s3)
    direct = {**s3, "Prefix": "direct/", "CompressionFormat": "UNCOMPRESSED"}
    firehose.create_delivery_stream(DeliveryStreamName=DIRECT, ExtendedS3DestinationConfiguration=direct)
    parameters = [
        {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{kind: .kind}"},
        {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
    ]
    to_url(
        endpoint,
        "parquet",
        str(folder / "parquet"),
        Format="parquet",
        Columns=COLUMNS,
        Prefix="in/kind=!{partitionKeyFromQuery:kind}/",
        DynamicPartitioning=True,
        ProcessingConfiguration={
            "Enabled": True,
            "Processors": [{"Type": "MetadataExtraction", "Parameters": parameters}],
        },
    )
    to_url(
        endpoint,
        "lines",
        str(folder / "lines"),
        Prefix="in/",
        BufferingHints={"SizeInBytes": 8_000, "IntervalInMilliseconds": 0},
    )
    for kind in ("iceberg", "delta"):
        to_url(endpoint, kind, f"{kind}+file://{folder / kind}", Format="parquet", Columns=COLUMNS)


class Producer:
    """Puts records until it is told to stop, each once; knows which were acknowledged."""

    def __init__(self, endpoint: str, rng: random.Random) -> None:
        self._endpoint = endpoint
        self._rng = rng
        self._next = 0
        self.direct_acknowledged: set[int] = set()
        self.direct_sent: set[int] = set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        kinesis, firehose = client("kinesis", self._endpoint), client("firehose", self._endpoint)
        while not stop.is_set():
            try:
                kinesis.put_records(
                    StreamName=STREAM, Records=[{"Data": self._record(), "PartitionKey": str(row)} for row in range(40)]
                )
                if self._rng.random() < 0.1:
                    kinesis.put_record(StreamName=STREAM, Data=BAD, PartitionKey="bad")
                self._put_direct(firehose)
            except (BotoCoreError, ClientError):
                time.sleep(0.02)
            stop.wait(1 / PUTS_PER_S)

    def _put_direct(self, firehose: Any) -> None:
        first = self._next
        records = [{"Data": self._record()} for _ in range(5)]
        sent = range(first, self._next)
        self.direct_sent.update(sent)
        answer = firehose.put_record_batch(DeliveryStreamName=DIRECT, Records=records)
        taken = zip(sent, answer["RequestResponses"], strict=True)
        self.direct_acknowledged.update(identity for identity, each in taken if "RecordId" in each)

    def _record(self) -> bytes:
        identity, self._next = self._next, self._next + 1
        kind = self._rng.choice("abcde")
        return json.dumps({"id": identity, "kind": kind, "text": "x" * self._rng.randrange(300)}).encode()


# -- readers ---------------------------------------------------------------------------------------------------------


def ids_of_lines(contents: Sequence[bytes]) -> Counter[Any]:
    return Counter(
        BAD if line == BAD else json.loads(line)["id"] for content in contents for line in content.splitlines()
    )


def ids_of_files(paths: Sequence[Path]) -> Counter[Any]:
    return Counter(row for path in paths for row in pq.ParquetFile(path).read(columns=["id"])["id"].to_pylist())


def ids_of_table(table: pa.Table) -> Counter[Any]:
    return Counter(table["id"].to_pylist())


def read_lake(folder: Path, store: ObjectStore, bucket: str) -> dict[str, Counter[Any]]:
    """What readers that nobody here wrote find, by way of delivery."""
    from deltalake import DeltaTable
    from pyiceberg.catalog.sql import SqlCatalog

    objects = store.objects(bucket)
    warehouse = folder / "iceberg"
    catalog = SqlCatalog("streamkit", uri=f"sqlite:///{warehouse}/catalog.sqlite", warehouse=f"file://{warehouse}")
    try:
        iceberg = ids_of_table(catalog.load_table("streamkit.iceberg").scan().to_arrow())
    finally:
        catalog.engine.dispose()
    delta = ids_of_table(pa.table(DeltaTable(str(folder / "delta")).to_pyarrow_table()))
    return {
        "gzip": ids_of_lines([gzip.decompress(each) for key, each in objects.items() if key.startswith("in/")]),
        "direct": ids_of_lines([each for key, each in objects.items() if key.startswith("direct/")]),
        "parquet": ids_of_files(sorted((folder / "parquet" / "in").rglob("*.parquet"))),
        "lines": ids_of_lines([path.read_bytes() for path in sorted((folder / "lines" / "in").rglob("*-*"))]),
        "iceberg": iceberg,
        "delta": delta,
    }


def refused_count(folder: Path) -> int:
    """Error documents of the deliveries that convert."""
    found = 0
    for path in folder.rglob("*"):
        if path.is_file() and "errors" in str(path.relative_to(folder)) and path.suffix in ("", ".gz"):
            content = path.read_bytes()
            found += len((gzip.decompress(content) if path.suffix else content).splitlines())
    return found


def test_every_record_is_in_the_lake_exactly_once(tmp_path: Path, start_streamkit: StartStreamkit, seed: int) -> None:
    """Whatever a kill interrupts: reading, sealing, an upload, a commit of a table, or the answer to one."""
    rng = random.Random(seed)
    folder = tmp_path / "lake"
    folder.mkdir()
    with object_store() as store:
        bucket = f"lake-{seed}"  # what is in the store outlives a test
        store.make_bucket(bucket)
        server = start_streamkit(s3_endpoint=store.endpoint, s3_access_key=f"{ACCESS_KEY}:{SECRET_KEY}")
        set_up(server.endpoint, folder, bucket)
        producer = Producer(server.endpoint, rng)
        for _ in range(KILLS_PER_ROUND):
            with producer.at_work():
                time.sleep(rng.uniform(0.3, 2.0))
                server.kill()
            server.start()
        flush = urllib.request.Request(f"{server.endpoint}/_streamkit/deliveries/flush", method="POST")
        with urllib.request.urlopen(flush, timeout=120) as answer:
            assert answer.status == 200
        kinesis = client("kinesis", server.endpoint)
        stored = Counter(
            BAD if each["Data"] == BAD else json.loads(each["Data"])["id"]
            for records in read_all(kinesis, STREAM).values()
            for each in records
        )
        assert stored
        assert max(stored.values(), default=0) >= 1
        found = read_lake(folder, store, bucket)
        versions = store.versions(bucket)
        server.stop()

    assert {key for key, count in versions.items() if count > 1} == set(), "an object was written more than once"
    bad = stored[BAD]
    good = Counter({identity: count for identity, count in stored.items() if identity != BAD})
    for way in ("gzip", "lines"):
        assert_same(way, found[way], stored)
    for way in ("parquet", "iceberg", "delta"):
        assert_same(way, found[way], good)
    assert refused_count(folder) == 3 * bad
    direct = found["direct"]
    assert max(direct.values(), default=0) <= 1, "a record that was put once is there twice"
    assert producer.direct_acknowledged <= direct.keys(), "an acknowledged record is missing"
    assert direct.keys() <= producer.direct_sent


def assert_same(way: str, found: Counter[Any], wanted: Counter[Any]) -> None:
    missing, more = wanted - found, found - wanted
    assert not missing, f"{way}: {missing.total()} records are missing: {sorted(missing, key=str)[:5]}"
    assert not more, f"{way}: {more.total()} records are there too often: {sorted(more, key=str)[:5]}"
