"""Readers that ask for much and take nothing: the server's memory stays bounded, and others are served."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, blob

BACKLOG_MIB = 108
STALLED_COUNT = 30
MEMORY_BYTES_MAX = 300 << 20


@contextmanager
def watched_memory(server: ServerProcess) -> Iterator[list[int]]:
    """The server's resident memory, sampled while this is entered."""
    samples: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        status = Path(f"/proc/{server.pid}/statm")
        while not ended.wait(0.01):
            samples.append(int(status.read_text().split()[1]) * 4096)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def request_bytes(raw: RawClient, operation: str, **members: object) -> bytes:
    body = json.dumps(members).encode()
    return (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n"
        f"X-Amz-Date: 20260101T000000Z\r\nAuthorization: {raw.authorization}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize("record_bytes", [1 << 20, 1_000])
def test_stalled_readers_of_a_large_backlog_cost_bounded_memory_and_keep_nobody_waiting(
    start_streamkit: StartStreamkit, record_bytes: int
) -> None:
    server = start_streamkit(durability="none")
    with RawClient(server.port) as raw, ExitStack() as sockets:
        raw.ok("CreateStream", StreamName="s", ShardCount=1)
        count = min(500, (9 << 20) // record_bytes)
        body = json.dumps(
            {"StreamName": "s", "Records": [{"Data": blob(b"x" * record_bytes), "PartitionKey": "k"}] * count}
        ).encode()
        for _ in range((BACKLOG_MIB << 20) // (record_bytes * count)):
            assert raw.send("PutRecords", body).status == 200
        shard = "shardId-000000000000"
        found = raw.ok("GetShardIterator", StreamName="s", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        with watched_memory(server) as samples:
            for _ in range(STALLED_COUNT):
                stalled = sockets.enter_context(socket.socket())
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stalled.connect(("127.0.0.1", server.port))
                stalled.sendall(request_bytes(raw, "GetRecords", ShardIterator=found["ShardIterator"]) * 3)
            waits = []
            for _ in range(20):
                began = time.perf_counter()
                raw.ok("PutRecord", StreamName="s", Data="", PartitionKey="k")
                waits.append(time.perf_counter() - began)
                time.sleep(0.05)
            time.sleep(1)
            answer = raw.ok("GetRecords", ShardIterator=found["ShardIterator"])
            assert answer["Records"], "a reader that takes what it asked for gets records meanwhile"
        assert max(waits) < 1.5
        assert sorted(waits)[len(waits) // 2] < 0.25
        assert max(samples) < MEMORY_BYTES_MAX, f"{max(samples) >> 20} MiB"


def test_a_reader_that_goes_on_after_a_pause_gets_the_whole_answer(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(durability="none")
    with RawClient(server.port) as raw, socket.socket() as slow:
        raw.ok("CreateStream", StreamName="s", ShardCount=1)
        for row in range(9):
            data = blob(bytes([row]) * (1 << 20))
            raw.ok("PutRecord", StreamName="s", Data=data, PartitionKey="k")
        found = raw.ok(
            "GetShardIterator", StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(request_bytes(raw, "GetRecords", ShardIterator=found["ShardIterator"]))
        time.sleep(0.5)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += slow.recv(65_536)
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        parts = [body]
        while (missing := length - sum(map(len, parts))) > 0:
            parts.append(slow.recv(min(missing, 1 << 20)))
        assert [len(record["Data"]) for record in json.loads(b"".join(parts))["Records"]] == [1_398_104] * 9
