"""A server that delivers, under what breaks servers: a flood, a full disk, places that are away, streams that go and
come back, damaged segments, changes without end. Real processes, files and sockets.

`--kill-rounds` says how much: a round more is a larger flood, and more changes.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.model.limits import DELIVERY_HELD_BYTES_MIN, MIB
from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import ACCOUNT, REGION
from tests.wire.cloud import ROLE, eventually, stream_arn

STREAM: Final = "s"
BUFFER_BYTES: Final = 8 * MIB
CLOCK_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
COLUMNS: Final = [
    {"Name": "id", "Type": "bigint"},
    {"Name": "kind", "Type": "string"},
    {"Name": "price", "Type": "double"},
    {"Name": "text", "Type": "string"},
]
BY_KIND: Final[dict[str, Any]] = {
    "DynamicPartitioning": True,
    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
    "Prefix": "in/kind=!{partitionKeyFromQuery:kind}/",
    "ProcessingConfiguration": {
        "Enabled": True,
        "Processors": [
            {
                "Type": "MetadataExtraction",
                "Parameters": [
                    {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{kind: .kind}"},
                    {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
                ],
            }
        ],
    },
}


class Refused(Exception):
    """The server answered with an error."""


class Api:
    """Requests of Kinesis and Firehose over one kept connection, without a client that would be slower than both."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None

    def kinesis(self, operation: str, **members: Any) -> Any:
        return self._post("kinesis", f"Kinesis_20131202.{operation}", json.dumps(members).encode())

    def firehose(self, operation: str, **members: Any) -> Any:
        return self._post("firehose", f"Firehose_20150804.{operation}", json.dumps(members).encode())

    def put_bodies(self, body: bytes) -> Any:
        return self._post("kinesis", "Kinesis_20131202.PutRecords", body)

    def flush(self) -> None:
        self._request("POST", "/_streamkit/deliveries/flush", b"", {})

    def metric(self, name: str) -> float:
        lines = self.metrics().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def metrics(self) -> str:
        return self._request("GET", "/metrics", b"", {}).decode()

    def create_stream(self, shards: int = 1) -> None:
        self.kinesis("CreateStream", StreamName=STREAM, ShardCount=shards)

    def deliver(self, name: str, url: str, *, interval_ms: int = 200, size_bytes: int = 20_000, **members: Any) -> None:
        """From the stream, from its first record on."""
        hints = {"SizeInBytes": size_bytes, "IntervalInMilliseconds": interval_ms}
        self.firehose(
            "CreateDeliveryStream",
            DeliveryStreamName=name,
            DeliveryStreamType="KinesisStreamAsSource",
            KinesisStreamSourceConfiguration={"KinesisStreamARN": stream_arn(STREAM), "RoleARN": ROLE},
            StreamkitDestinationConfiguration={"Url": url, "BufferingHints": hints, "Prefix": "in/", **members},
        )

    def put(self, identities: range, **members: Any) -> None:
        documents = [json.dumps({"id": each, **members}).encode() + b"\n" for each in identities]
        records = [{"Data": base64.b64encode(each).decode(), "PartitionKey": str(hash(each))} for each in documents]
        answer = self.kinesis("PutRecords", StreamName=STREAM, Records=records)
        if answer["FailedRecordCount"]:
            raise Refused(str(answer)[:500])

    def _post(self, service: str, target: str, body: bytes) -> Any:
        headers = {
            "X-Amz-Target": target,
            "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/{service}/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64,
        }
        answer = self._request("POST", "/", body, headers)
        return json.loads(answer) if answer else {}

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.status != 200:
            raise Refused(f"{answer.status}: {content[:500]!r}")
        return content

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


OpenApi = Callable[[ServerProcess], Api]


@pytest.fixture
def open_api() -> Iterator[OpenApi]:
    """A connection to a server, which ends with the test."""
    with contextlib.ExitStack() as stack:

        def open_one(server: ServerProcess) -> Api:
            api = Api(server)
            stack.callback(api.close)
            return api

        yield open_one


def ids_below(folder: Path) -> Counter[int]:
    """Of text objects: error documents too."""
    found: Counter[int] = Counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            for line in path.read_bytes().splitlines():
                if not line:  # a delimiter behind a record that ends in one
                    continue
                document = json.loads(line)
                if "rawData" in document:
                    document = json.loads(base64.b64decode(document["rawData"]))
                found[document["id"]] += 1
    return found


def memory_mib(server: ServerProcess, name: str) -> float:
    text = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(rf"{name}:\s+(\d+) kB", text)
    assert match is not None
    return int(match[1]) / 1024


def cpu_s(server: ServerProcess) -> float:
    """Of all threads, so far."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        for each in held:
            each.close()


@contextmanager
def at_work(work: Callable[[], None]) -> Iterator[None]:
    """Does it again and again on a thread of its own."""
    stop, failed = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


# -- a flood -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["text", "parquet-400-partitions"])
def test_a_flood_takes_a_few_buffers_of_memory(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path, shape: str, request: pytest.FixtureRequest
) -> None:
    """Three times the buffer and 150 MiB at most, over the server that has nothing to do. Partitions share what buffers
    may always hold."""
    buffer_bytes = BUFFER_BYTES if shape == "text" else DELIVERY_HELD_BYTES_MIN
    flood_bytes = 45 * MIB * request.config.getoption("--kill-rounds")
    server = start_streamkit(durability="none")
    api = open_api(server)
    api.create_stream(2)
    idle_mib = memory_mib(server, "VmRSS")
    parquet = {"Format": "parquet", "Columns": COLUMNS, **BY_KIND} if "parquet" in shape else {}
    out = tmp_path / "out"
    api.deliver("d", str(out), size_bytes=BUFFER_BYTES, interval_ms=600_000, **parquet)
    rng = random.Random(1)
    bodies, count, size = [], 0, 0
    for _ in range(20):
        records = []
        for _ in range(500):
            text = "".join(rng.choices("abcdefghij klmnop", k=900))
            document = {"id": count, "kind": f"k{rng.randrange(400)}", "price": rng.random(), "text": text}
            data = json.dumps(document).encode() + b"\n"
            count, size = count + 1, size + len(data)
            records.append({"Data": base64.b64encode(data).decode(), "PartitionKey": str(rng.random())})
        bodies.append(json.dumps({"StreamName": STREAM, "Records": records}).encode())
    rounds = -(-flood_bytes // size)
    for _ in range(rounds):
        for body in bodies:
            api.put_bodies(body)
    api.flush()
    assert memory_mib(server, "VmHWM") - idle_mib <= 3 * buffer_bytes / MIB + 150
    if "parquet" in shape:
        import pyarrow.parquet as pq

        assert sum(pq.ParquetFile(path).metadata.num_rows for path in out.rglob("*.parquet")) == rounds * count
    else:
        assert ids_below(out) == Counter(dict.fromkeys(range(count), rounds))


def test_delivery_streams_that_wait_cost_nothing(start_streamkit: StartStreamkit, open_api: OpenApi) -> None:
    """Twenty of them, each of which has delivered something."""
    server = start_streamkit(durability="none")
    api = open_api(server)
    for number in range(20):
        s3 = {
            "BucketARN": "arn:aws:s3:::bucket",
            "RoleARN": ROLE,
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        }
        api.firehose("CreateDeliveryStream", DeliveryStreamName=f"d{number}", ExtendedS3DestinationConfiguration=s3)
        api.firehose("PutRecord", DeliveryStreamName=f"d{number}", Record={"Data": base64.b64encode(b"x").decode()})
    api.flush()
    time.sleep(0.3)
    before = cpu_s(server)
    time.sleep(1)
    assert cpu_s(server) - before <= 0.02


# -- a disk that is full -----------------------------------------------------------------------------------------------


def test_a_full_disk_delays_and_loses_nothing(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path
) -> None:
    """No file may grow beyond some KiB for a while: staged objects, spool files, the control file, the log itself. What
    was acknowledged is delivered once there is room, each record once."""
    server = start_streamkit()
    api, out = open_api(server), tmp_path / "out"
    api.create_stream(2)
    api.deliver("d", str(out), size_bytes=300_000, interval_ms=100)
    acknowledged: set[int] = set()
    sent = 0

    def put() -> None:
        nonlocal sent
        identities = range(sent, sent + 50)
        sent += 50
        with contextlib.suppress(Refused):
            api.put(identities, text="x" * 500)
            acknowledged.update(identities)

    for _ in range(10):
        put()
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    for _ in range(2):
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (10_000, hard))
        for _ in range(5):
            put()
            time.sleep(0.05)
        time.sleep(0.3)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))
        eventually(lambda: put_again(put, acknowledged))
    api.flush()
    assert "cannot be sealed" in server.log.read_text()
    found = ids_below(out)
    assert max(found.values()) == 1
    assert acknowledged <= found.keys()
    assert found.keys() <= set(range(sent))
    server.restart()
    api.close()
    api.flush()
    assert ids_below(out) == found


def put_again(put: Callable[[], None], acknowledged: set[int]) -> bool:
    before = len(acknowledged)
    put()
    return len(acknowledged) > before


# -- places that are away ------------------------------------------------------------------------------------------


def test_a_place_that_never_answers_keeps_no_server_from_ending(
    start_streamkit: StartStreamkit, open_api: OpenApi
) -> None:
    """A delivery stream to it is deleted and another made at once; who asks the server to stop twice does not wait for
    it; and what it could not deliver is there after the next start."""
    with black_hole() as port:
        server = start_streamkit(s3_endpoint=f"http://127.0.0.1:{port}", s3_access_key="k:s")
        api = open_api(server)
        api.create_stream()
        api.deliver("d", "s3://bucket/x", interval_ms=0)
        api.put(range(10))
        eventually(lambda: api.metric("streamkit_delivery_staged_bytes") > 0)
        began = time.monotonic()
        api.firehose("DeleteDeliveryStream", DeliveryStreamName="d")
        api.deliver("e", "s3://bucket/y", interval_ms=0)
        assert time.monotonic() - began < 2
        eventually(lambda: api.metric('streamkit_delivery_staged_bytes{delivery_stream="e"') > 0)
        began = time.monotonic()
        for _ in range(2):
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.3)
        eventually(lambda: not server.is_running)
        assert time.monotonic() - began < 8
        server.start()
        api.close()
        eventually(lambda: api.metric("streamkit_delivery_staged_bytes") > 0)


def test_what_a_place_missed_is_there_when_it_comes_back(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path
) -> None:
    """A directory whose disk is not there for a while, also over a kill: puts are taken, and each record is in one
    object afterwards."""
    server = start_streamkit()
    api, disk = open_api(server), tmp_path / "disk"
    disk.mkdir()
    api.create_stream()
    api.deliver("d", str(disk / "out"), interval_ms=50)
    api.put(range(20))
    api.flush()
    disk.rename(tmp_path / "away")
    disk.write_bytes(b"no directory")
    for first in range(20, 400, 20):
        api.put(range(first, first + 20), text="x" * 500)
    eventually(lambda: api.metric("streamkit_delivery_staged_bytes") > 0)
    assert api.metric("streamkit_delivery_tries_total{") > 1
    server.kill()
    server.start()
    api.close()
    api.put(range(400, 420))
    disk.unlink()
    (tmp_path / "away").rename(disk)
    api.flush()
    assert ids_below(disk) == Counter(range(420))
    eventually(lambda: not api.metric("streamkit_delivery_staged_bytes"))


def test_nothing_of_a_deleted_delivery_stream_is_counted_any_more(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path
) -> None:
    """Its series leave /metrics; those of others stay, and one that is made anew begins at 0."""
    server = start_streamkit(durability="none")
    api = open_api(server)
    api.create_stream()
    for name in ("gone", "stays"):
        api.deliver(name, str(tmp_path / name), interval_ms=0)
    api.put(range(10))
    api.flush()
    assert 'delivery_stream="gone"' in api.metrics()
    api.firehose("DeleteDeliveryStream", DeliveryStreamName="gone")
    eventually(lambda: 'delivery_stream="gone"' not in api.metrics())
    stays = 'streamkit_delivery_records_total{delivery_stream="stays"'
    assert api.metric(stays) == 10
    api.deliver("gone", str(tmp_path / "again"), interval_ms=0)
    api.flush()
    assert api.metric(stays.replace("stays", "gone")) == 10


# -- what happens to streams -------------------------------------------------------------------------------------------


def test_a_stream_may_go_and_come_back_under_load(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With other shards, and resharded before: nothing is there twice, nothing of the stream that is there is missing,
    and nothing of the ones before that was flushed."""
    server = start_streamkit(durability="none")
    api, putting, out = open_api(server), open_api(server), tmp_path / "out"
    api.create_stream(2)
    api.deliver("d", str(out), interval_ms=100)
    sent, acknowledged, before = 0, set(), set()  # type: ignore[var-annotated]

    def put() -> None:
        nonlocal sent
        identities = range(sent, sent + 20)
        sent += 20
        with contextlib.suppress(Refused):
            putting.put(identities, text="x" * 100)
            acknowledged.update(identities)
        time.sleep(0.005)

    with at_work(put):
        for _ in range(request.config.getoption("--kill-rounds") // 2):
            time.sleep(0.25)
            api.kinesis("UpdateShardCount", StreamName=STREAM, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
            time.sleep(0.25)
            flushed = set(acknowledged)
            api.flush()
            api.kinesis("DeleteStream", StreamName=STREAM)
            before |= flushed
            api.create_stream(2)
            acknowledged.clear()
        time.sleep(0.2)
    api.flush()
    found = ids_below(out)
    assert max(found.values()) == 1
    assert acknowledged
    assert acknowledged | before <= found.keys()


def test_damage_in_a_segment_costs_what_it_damaged(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path
) -> None:
    """A bit flips in the middle of the log: the batch it is in is left out, all others are delivered."""
    server = start_streamkit(durability="none")
    api, out = open_api(server), tmp_path / "out"
    api.create_stream()
    for first in range(0, 2_000, 20):
        api.put(range(first, first + 20), text="x" * 100)
    server.stop()
    segments = sorted(path for path in server.data.rglob("*") if path.is_file() and b'"id": 1000,' in path.read_bytes())
    for path in segments:
        content = bytearray(path.read_bytes())
        content[content.index(b'"id": 1000,') + 30] ^= 4
        path.write_bytes(content)
    assert segments
    server.start()
    api.close()
    api.deliver("d", str(out))
    api.put(range(2_000, 2_020))
    api.flush()
    found = ids_below(out)
    assert max(found.values()) == 1
    missing = sorted(set(range(2_020)) - set(found))
    assert 1_000 in missing
    assert len(missing) <= 20
    assert "records are lost" in server.log.read_text()


# -- changes -----------------------------------------------------------------------------------------------------------


def test_changes_under_load_neither_lose_nor_double(
    start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The format, the prefix and the buffer change while records come, and the server dies in the middle of that."""
    server = start_streamkit()
    api, putting, out = open_api(server), open_api(server), tmp_path / "out"
    api.create_stream(2)
    api.deliver("d", str(out), interval_ms=100, Compression="UNCOMPRESSED")
    sent = 0
    lost: set[int] = set()
    acknowledged: set[int] = set()

    def put() -> None:
        nonlocal sent
        identities = range(sent, sent + 20)
        sent += 20
        try:
            putting.put(identities, kind="k", text="x" * 100)
            acknowledged.update(identities)
        except (OSError, http.client.HTTPException, Refused):
            lost.update(identities)
            time.sleep(0.02)
        time.sleep(0.005)

    with at_work(put):
        version, rounds = 1, 3 * request.config.getoption("--kill-rounds")
        for number in range(rounds):
            time.sleep(0.05)
            hints = {"SizeInBytes": 5_000 * (1 + number % 3), "IntervalInMilliseconds": (0, 100, 5_000)[number % 3]}
            changed: dict[str, Any] = {"Prefix": f"in/v{number}/", "BufferingHints": hints}
            if number % 4 == 2:
                changed |= {**BY_KIND, "Prefix": f"in/v{number}/!{{partitionKeyFromQuery:kind}}/", "Replace": True}
                changed |= {"Url": str(out), "BufferingHints": {**hints, "IntervalInMilliseconds": 5_000}}
            elif number % 4 == 3:
                changed |= {"Url": str(out), "Replace": True}
            api.firehose(
                "UpdateDestination",
                DeliveryStreamName="d",
                CurrentDeliveryStreamVersionId=str(version),
                DestinationId="destinationId-000000000001",
                StreamkitDestinationUpdate=changed,
            )
            version += 1
            if number % 5 == 4:
                server.kill()
                server.start()
                api.close()
    api.flush()
    found = ids_below(out)
    assert max(found.values()) == 1
    assert acknowledged <= found.keys()
    assert found.keys() <= acknowledged | lost
    assert len({path.parent for path in out.rglob("*-*") if path.is_file()}) > 3


def test_a_reset_under_load_leaves_nothing(start_streamkit: StartStreamkit, open_api: OpenApi, tmp_path: Path) -> None:
    """Neither files nor tasks: the server delivers as if it were new."""
    server = start_streamkit(allow_reset=True, durability="none")
    api, out = open_api(server), tmp_path / "out"
    for number in range(3):
        api.create_stream()
        api.deliver("d", str(out / str(number)), interval_ms=0)
        api.deliver("held", str(out / "held"), interval_ms=600_000)
        for first in range(0, 400, 20):
            api.put(range(first, first + 20))
        if number < 2:
            server.reset()
            assert not list((server.data / "delivery").iterdir())
    api.flush()
    assert ids_below(out / "2") == ids_below(out / "held") == Counter(range(400))
    assert "Traceback" not in server.log.read_text()
