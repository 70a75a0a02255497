"""A closed-loop load generator over raw HTTP/1.1: what measures must cost less than what is measured.

Requests are made before the clock starts. Each connection sends its next request when the answer to the last one is
complete; a request costs about 10 µs here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

from streamkit.model.errors import ServerUnreachable

_AUTHORIZATION: Final = (
    "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/kinesis/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date;x-amz-target, "
    "Signature=0000000000000000000000000000000000000000000000000000000000000000"
)


@dataclass(slots=True)
class Outcome:
    """What one run did."""

    requests_count: int = 0
    errors_count: int = 0
    elapsed_s: float = 0.0
    first_error: bytes = b""
    latencies_s: list[float] = field(default_factory=list)


def kinesis_request(host: str, operation: str, body: bytes) -> bytes:
    """A whole request of the JSON protocol, as an SDK would send it."""
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n"
        f"Content-Type: application/x-amz-json-1.1\r\nX-Amz-Date: 20260101T000000Z\r\n"
        f"Authorization: {_AUTHORIZATION}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Sends requests one after the other, each made from the answer before it by `next_request` (None ends).

    Where the endpoint closes after an answer, a new connection goes on: that is how some servers are.
    """

    def __init__(
        self, host: str, port: int, next_request: Callable[[int, bytes], bytes | None], outcome: Outcome
    ) -> None:
        self._host = host
        self._port = port
        self._next_request = next_request
        self._outcome = outcome
        self._request = next_request(0, b"")
        self._buffer = bytearray()
        self._wanted = 0  # bytes of the whole answer, once its head is known
        self._status = 0
        self._head_bytes = 0
        self._closes = False
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
        except OSError as error:
            why = error.strerror or str(error)
            self._fail(ServerUnreachable(f"no server answers at {self._host}:{self._port}: {why}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            if not self._wanted and not self._read_head():
                return
        except (ServerUnreachable, ValueError) as error:
            self._fail(error)
            return
        if len(self._buffer) >= self._wanted:
            self._answered()

    def connection_lost(self, error: Exception | None) -> None:
        if self._closes and not self.done.done():
            self._closes = False
            self._opening = asyncio.get_running_loop().create_task(self.open())
        else:
            self._fail(error or ServerUnreachable("the endpoint closed the connection before it answered"))

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ServerUnreachable("the endpoint answers without Content-Length; it cannot be measured")
        self._closes = b"connection: close" in head or head.startswith(b"http/1.0")
        self._status = int(head[9:12])
        self._head_bytes = end + 4
        self._wanted = self._head_bytes + int(head[at + 15 :].split(b"\r\n", 1)[0])
        return True

    def _answered(self) -> None:
        outcome = self._outcome
        outcome.requests_count += 1
        outcome.latencies_s.append(time.perf_counter() - self._sent_at)
        body = bytes(memoryview(self._buffer)[self._head_bytes : self._wanted])
        if self._status != 200:
            outcome.errors_count += 1
            outcome.first_error = outcome.first_error or body[:500]
        self._buffer = bytearray()
        self._wanted = 0
        self._request = self._next_request(self._status, body)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        if self._request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
        elif self._closes:
            self._transport.close()  # `connection_lost` goes on
        else:
            self._sent_at = time.perf_counter()
            self._transport.write(self._request)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def run_connections(
    endpoint: str, makers: list[Callable[[int, bytes], bytes | None]], outcome: Outcome
) -> Outcome:
    """One connection per maker, all at once, until each has ended."""
    url = urlsplit(endpoint)
    connections = [Connection(url.hostname or "", url.port or 80, maker, outcome) for maker in makers]
    started = time.perf_counter()
    for connection in connections:
        await connection.open()
    await asyncio.gather(*(connection.done for connection in connections))
    outcome.elapsed_s = time.perf_counter() - started
    return outcome


async def run_for(endpoint: str, requests: list[bytes], connections_count: int, seconds: float) -> Outcome:
    """The same requests over and over, from so many connections, for so long."""
    deadline = time.perf_counter() + seconds
    turns: Iterator[bytes] = itertools.cycle(requests)

    def next_request(status: int, body: bytes) -> bytes | None:
        return next(turns) if time.perf_counter() < deadline else None

    return await run_connections(endpoint, [next_request] * connections_count, Outcome())
