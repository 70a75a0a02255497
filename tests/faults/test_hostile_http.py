"""Hostile clients: malformed requests from a seed, and clients that stall. The server stays up, small and quick."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop

from streamkit.api.http import HttpLimits, HttpServer, Request, Response
from streamkit.clock import SystemClock

SEED = 20261123
REQUESTS_COUNT = 10_000
CONNECTIONS_COUNT = 32
ANSWER_S = 10
RSS_GROWTH_BYTES_MAX = 48 << 20
LIMITS = HttpLimits(
    body_bytes_max=100_000,
    headers_timeout_ms=100,
    body_timeout_ms=100,
    idle_timeout_ms=100,
    send_timeout_ms=100,
    linger_timeout_ms=100,
)
ALLOWED = frozenset({200, 400, 405, 408, 413, 414, 417, 431, 501, 505})

VALID = (
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /old HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-amz-json-1.1\r\n"
    b"X-Amz-Target: Kinesis_20131202.PutRecord\r\nContent-Length: 44\r\n\r\n"
    b'{"StreamName":"s","Data":"YQ==","Key":"abc"}',
    b"POST /c?d=e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: 1\r\n\r\n",
    b"PUT /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
)
HEADERS = (
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 4",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding:\tchunked\r\n ",
    b"Host: b",
    b"Host:",
    b"Expect: 100-continue",
    b"Expect: the-unexpected",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b" folded: yes",
    b"\x00\xff: \x01",
    b"no colon",
    b"X: " + b"y" * 40_000,
    b"X: y\r\n" * 120 + b"Z: z",
    b"X: y\nContent-Length: 7",
)
NUMBERS = (b"0", b"-1", b"+7", b"1e9", b"0x10", b"65536", b"4294967296", b"18446744073709551616", b"9" * 300, b"")


# -- the generator ---------------------------------------------------------------------------------------------------


def truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def flip_bits(random: Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.randint(1, 8) if data else 0):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def inject_header(random: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(random.randrange(len(lines) + 1), random.choice(HEADERS))
    return b"\r\n".join(lines)


def change_number(random: Random, data: bytes) -> bytes:
    numbers = list(re.finditer(rb"\d+", data))
    if not numbers:
        return data
    at = random.choice(numbers)
    return data[: at.start()] + random.choice(NUMBERS) + data[at.end() :]


def change_line_end(random: Random, data: bytes) -> bytes:
    ends = [match.start() for match in re.finditer(rb"\r\n", data)]
    if not ends:
        return data
    at = random.choice(ends)
    return data[:at] + random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b"\x00")) + data[at + 2 :]


def insert_noise(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 3, 100, 5_000))) + data[at:]


def repeat_part(random: Random, data: bytes) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = random.randrange(start, len(data) + 1)
    return data[:stop] + data[start:stop] * random.choice((1, 2, 50)) + data[stop:]


def pipeline(random: Random, data: bytes) -> bytes:
    others = (random.choice(VALID), random.randbytes(50), b"\r\n" * 5, VALID[0] * 40)
    return data + random.choice(others) + random.choice(VALID)


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    truncate,
    flip_bits,
    inject_header,
    change_number,
    change_line_end,
    insert_noise,
    repeat_part,
    pipeline,
)


def malformed(index: int) -> bytes:
    """The index-th request of SEED: a valid one, changed one to four times."""
    random = Random(f"{SEED}:{index}")
    data = random.choice(VALID)
    for _ in range(random.randint(1, 4)):
        data = random.choice(MUTATIONS)(random, data)
    return data


# -- helpers ---------------------------------------------------------------------------------------------------------


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_body(request: Request) -> Response:
    return Response(200, b"%d" % len(request.body))


def on_uvloop(main: Coroutine[Any, Any, None]) -> list[dict[str, Any]]:
    """Runs it, and returns what the event loop complained of: exceptions that escaped from callbacks."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await main

    uvloop.run(watched())
    return complaints


async def started(handler: Callable[[Request], Response] = count_body) -> HttpServer:
    server = HttpServer(handler, clock=SystemClock(), limits=LIMITS)
    await server.start("127.0.0.1", 0)
    return server


async def exchange(port: int, data: bytes, half_close: bool) -> bytes:
    """Sends it in one go and returns all that comes until the server closes; a reset ends it, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        return await reader.read()
    except (ConnectionError, OSError):
        return b""
    finally:
        writer.close()


async def serves_a_good_request(server: HttpServer) -> bool:
    answer = await asyncio.wait_for(exchange(server.port, VALID[2], half_close=True), ANSWER_S)
    return answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n44")


# -- promises --------------------------------------------------------------------------------------------------------


def test_ten_thousand_malformed_requests_get_a_client_error_or_silence_and_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    statuses: dict[int, int] = {}

    async def attack(server: HttpServer, indexes: range) -> None:
        for index in indexes:
            data = malformed(index)
            blame = f"seed {SEED}, request {index}: {data[:300]!r}"
            try:  # one in fifty leaves the server to find out by itself that nothing more will come
                answer = await asyncio.wait_for(exchange(server.port, data, index % 50 != 0), ANSWER_S)
            except TimeoutError:
                pytest.fail(f"no end after {ANSWER_S} s; {blame}")
            for status in map(int, re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)):
                assert status in ALLOWED or status == 100, f"answered {status}; {blame}"
                statuses[status] = statuses.get(status, 0) + 1

    async def main() -> None:
        server = await started()
        assert await serves_a_good_request(server)
        before = rss_bytes()
        await asyncio.gather(
            *(attack(server, range(first, REQUESTS_COUNT, CONNECTIONS_COUNT)) for first in range(CONNECTIONS_COUNT))
        )
        assert await serves_a_good_request(server)
        await server.drain(1_000)
        gc.collect()
        assert rss_bytes() - before < RSS_GROWTH_BYTES_MAX

    assert on_uvloop(main()) == []
    assert not caplog.records
    assert {200, 400, 413, 431, 505} <= statuses.keys(), f"the generator reaches too little: {statuses}"


def test_the_same_seed_makes_the_same_requests() -> None:
    assert [malformed(index) for index in range(200)] == [malformed(index) for index in range(200)]
    assert len({malformed(index) for index in range(200)}) > 150


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Half: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"PRI * HTTP/2",
    ],
)
def test_senders_that_stall_are_cut_off_in_time(start: bytes) -> None:
    async def main() -> None:
        server = await started()
        since = time.monotonic()
        await asyncio.wait_for(
            asyncio.gather(*(exchange(server.port, start, half_close=False) for _ in range(200))), ANSWER_S
        )
        assert time.monotonic() - since < 2
        assert await serves_a_good_request(server)
        await server.drain(1_000)

    assert on_uvloop(main()) == []


def test_readers_that_stall_are_cut_off_in_time_and_cost_little_memory() -> None:
    huge = b"x" * (15 << 20)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await started(lambda request: Response(200, [huge] * 4) if request.query else count_body(request))
        before = rss_bytes()
        stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for each in stalled:
            each.sendall(b"GET /?huge HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        since = loop.time()
        peak = before
        await asyncio.sleep(0.02)
        while server.connections:
            peak = max(peak, rss_bytes())
            assert loop.time() - since < 3
            await asyncio.sleep(0.005)
        assert peak - before < RSS_GROWTH_BYTES_MAX
        for each in stalled:
            each.close()
        assert await serves_a_good_request(server)
        await server.drain(1_000)

    assert on_uvloop(main()) == []


def test_a_flood_of_connections_is_bounded_and_over_when_it_is_over() -> None:
    async def main() -> None:
        server = HttpServer(count_body, clock=SystemClock(), limits=HttpLimits(connections_max=50, idle_timeout_ms=200))
        await server.start("127.0.0.1", 0)
        answers = await asyncio.wait_for(
            asyncio.gather(*(exchange(server.port, b"", half_close=False) for _ in range(300))), ANSWER_S
        )
        assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in answers) >= 200
        assert await serves_a_good_request(server)
        await server.drain(1_000)

    assert on_uvloop(main()) == []
