"""Measure an endpoint of the Kinesis API: puts, reads, latency. Streams it makes are deleted afterwards.

example:
  streamkit bench --endpoint http://127.0.0.1:4566
  streamkit bench --against http://127.0.0.1:5000 --json

With --against, both endpoints are measured in turns within one run, so that a noisy machine is noisy for both; trust
the ratio more than the rates. Run it in another process than the server, as it does by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from streamkit.cli.load_generator import Outcome, kinesis_request, run_connections, run_for
from streamkit.config import Config
from streamkit.kit.http_client import HttpClient
from streamkit.model.errors import ServerUnreachable, StreamkitError

SHARDS: Final = 4
CONNECTIONS: Final = 16
BODIES: Final = 32  # different requests, sent in turn


class Figure(NamedTuple):
    value: float
    unit: str
    errors: int = 0


Case = Callable[["Endpoint", float], Awaitable[Figure]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--endpoint", help="what is measured (default: http://127.0.0.1:4566)")
    add("--against", metavar="URL", help="another endpoint, measured in turns with the first")
    add("--case", action="append", choices=CASES, help="only this one; may be repeated (default: all)")
    add("--seconds", type=float, default=3.0, help="how long each put case runs, each time (default: 3)")
    add("--rounds", type=int, default=3, help="how often; medians are shown (default: 3)")
    add("--json", action="store_true", help="one JSON object per case")


def run(options: argparse.Namespace, config: Config) -> int:
    import uvloop

    endpoint = config.value("endpoint", options.endpoint, str, "http://127.0.0.1:4566")
    endpoints = [endpoint, *([options.against] if options.against else [])]
    results = uvloop.run(measure(endpoints, options.case or list(CASES), options.seconds, options.rounds))
    for name, figures in results.items():
        print(json.dumps(_line(name, figures)) if options.json else _text(name, figures))
    return 0


async def measure(endpoints: list[str], cases: list[str], seconds: float, rounds: int) -> dict[str, list[list[Figure]]]:
    """Per case and endpoint, the figures of all rounds; endpoints take turns within a round."""
    results: dict[str, list[list[Figure]]] = {}
    for name in cases:
        results[name] = [[] for _ in endpoints]
        for _ in range(rounds):
            for index, url in enumerate(endpoints):
                endpoint = Endpoint(url)
                try:
                    results[name][index].append(await CASES[name](endpoint, seconds))
                finally:
                    await endpoint.close()
    return results


class Endpoint:
    """A stream on an endpoint, made for one case."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.host = urlsplit(url).netloc
        self.stream = f"bench-{random.SystemRandom().getrandbits(48):012x}"
        self.client = HttpClient(url)
        self._is_made = False

    async def make_stream(self, shards: int) -> None:
        await self.call("CreateStream", {"StreamName": self.stream, "ShardCount": shards})
        self._is_made = True
        while True:
            found = await self.call("DescribeStreamSummary", {"StreamName": self.stream})
            if found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        if self._is_made:
            await self.call("DeleteStream", {"StreamName": self.stream})
        await self.client.close()

    async def call(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        head, _, body = self.request(operation, values).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        for name in ("Host", "Content-Length"):
            del headers[name]
        answer = await self.client.request("POST", "/", headers, [body])
        found: dict[str, Any] = json.loads(answer.body or b"{}")
        if answer.status != 200:
            raise ServerUnreachable(f"{self.url} refused {operation}: {found}")
        return found

    def request(self, operation: str, values: dict[str, Any]) -> bytes:
        return kinesis_request(self.host, operation, json.dumps(values, separators=(",", ":")).encode())

    def put_record(self, size_bytes: int, source: random.Random) -> bytes:
        return self.request("PutRecord", {"StreamName": self.stream, **_entry(size_bytes, source)})

    def put_records(self, count: int, size_bytes: int, source: random.Random) -> bytes:
        entries = [_entry(size_bytes, source) for _ in range(count)]
        return self.request("PutRecords", {"StreamName": self.stream, "Records": entries})


def _entry(size_bytes: int, source: random.Random) -> dict[str, str]:
    data = base64.b64encode(source.randbytes(size_bytes)).decode()
    return {"Data": data, "PartitionKey": f"key-{source.randrange(100_000)}"}


# -- cases -----------------------------------------------------------------------------------------------------------


async def put_record(endpoint: Endpoint, seconds: float) -> Figure:
    """PutRecord of 100 B, 16 connections, 4 shards."""
    await endpoint.make_stream(SHARDS)
    source = random.Random(1)
    requests = [endpoint.put_record(100, source) for _ in range(BODIES)]
    outcome = _checked(await run_for(endpoint.url, requests, CONNECTIONS, seconds))
    return Figure(outcome.requests_count / outcome.elapsed_s, "requests/s", outcome.errors_count)


def put_records(size_bytes: int, unit: str, per_request: float) -> Case:
    async def case(endpoint: Endpoint, seconds: float) -> Figure:
        await endpoint.make_stream(SHARDS)
        source = random.Random(1)
        requests = [endpoint.put_records(500, size_bytes, source) for _ in range(BODIES)]
        outcome = _checked(await run_for(endpoint.url, requests, 4, seconds))
        return Figure(outcome.requests_count * per_request / outcome.elapsed_s, unit, outcome.errors_count)

    return case


async def get_records(endpoint: Endpoint, seconds: float) -> Figure:
    """Records of 1 KiB, stored before by 300 PutRecords of 500, read from all shards at once to their tips."""
    await endpoint.make_stream(SHARDS)
    source = random.Random(1)
    bodies = [endpoint.put_records(500, 1024, source) for _ in range(BODIES)]
    stored = 300

    def put(status: int, body: bytes) -> bytes | None:
        nonlocal stored
        stored -= 1
        return bodies[stored % BODIES] if stored >= 0 else None

    _checked(await run_connections(endpoint.url, [put] * 2, Outcome()))
    outcome, found = Outcome(), 0

    def reader(iterator: str) -> Callable[[int, bytes], bytes | None]:
        def next_request(status: int, body: bytes) -> bytes | None:
            nonlocal iterator, found
            if status == 200:
                found += body.count(b'"SequenceNumber"')
                start = body.index(b'"NextShardIterator":') + 20
                iterator = body[body.index(b'"', start) + 1 : body.index(b'"', body.index(b'"', start) + 1)].decode()
                if b'"MillisBehindLatest":0' in body[:300] + body[-300:].replace(b" ", b""):
                    return None
            return endpoint.request("GetRecords", {"ShardIterator": iterator})

        return next_request

    readers = []
    for shard in (await endpoint.call("ListShards", {"StreamName": endpoint.stream}))["Shards"]:
        where = {"StreamName": endpoint.stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        readers.append(reader((await endpoint.call("GetShardIterator", where))["ShardIterator"]))
    _checked(await run_connections(endpoint.url, readers, outcome))
    return Figure(found / outcome.elapsed_s, "records/s", outcome.errors_count)


async def put_to_visible(endpoint: Endpoint, seconds: float) -> Figure:
    """From sending a PutRecord to having the record from a read that waits for it; the median of 300."""
    import streamkit

    await endpoint.make_stream(1)
    source = random.Random(1)
    request = endpoint.put_record(100, source)
    seen: list[float] = []
    async with streamkit.open(endpoint.url) as kit:
        batches = aiter(kit.consumer(endpoint.stream, "bench", start="LATEST"))
        for _ in range(300):
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.003)
            sent_at = time.perf_counter()
            put = asyncio.ensure_future(run_connections(endpoint.url, [_once(request)], Outcome()))
            await waiting
            seen.append(time.perf_counter() - sent_at)
            await put
    return Figure(statistics.median(seen) * 1000, "ms")


def _once(request: bytes) -> Callable[[int, bytes], bytes | None]:
    return lambda status, body: request if status == 0 else None


def _checked(outcome: Outcome) -> Outcome:
    if outcome.errors_count == outcome.requests_count:
        raise StreamkitError(f"every request was refused: {outcome.first_error.decode(errors='replace')}")
    return outcome


CASES: Final[dict[str, Case]] = {
    "put-record": put_record,
    "put-records-100": put_records(100, "records/s", 500),
    "put-records-1k": put_records(1024, "MB/s", 500 * 1024 / 1e6),
    "get-records-1k": get_records,
    "put-to-visible": put_to_visible,
}


def _line(name: str, figures: list[list[Figure]]) -> dict[str, Any]:
    medians = [statistics.median(figure.value for figure in each) for each in figures]
    line: dict[str, Any] = {"case": name, "value": round(medians[0], 3), "unit": figures[0][0].unit}
    line["rounds"] = [round(figure.value, 3) for figure in figures[0]]
    line["errors"] = sum(figure.errors for figure in figures[0])
    if len(medians) > 1:
        line["against"] = round(medians[1], 3)
        line["ratio"] = round(medians[0] / medians[1], 3)
    return line


def _text(name: str, figures: list[list[Figure]]) -> str:
    line = _line(name, figures)
    digits = 2 if line["value"] < 100 else 0
    text = f"{name:<18}{line['value']:>14,.{digits}f} {line['unit']:<11}"
    if "ratio" in line:
        text += f" against {line['against']:>14,.{digits}f}, ratio {line['ratio']:.2f}"
    return text + (f"  ({line['errors']} errors)" if line["errors"] else "")
