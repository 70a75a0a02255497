"""A small HTTP/1.1 client: one request at a time on each of a few kept connections.

It exists because a client that costs more than the server it measures measures itself: a request costs about 15 µs
here. It speaks to streamkit and to other endpoints of AWS's JSON protocol; for anything else use a real one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from streamkit.model.errors import ServerUnreachable, UsageError


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytearray


class _Connection(asyncio.Protocol):
    """Parses answers as they come; the body is collected once."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def request(self, buffers: Sequence[bytes | bytearray | memoryview]) -> Answer:
        assert self.transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body = {}, bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        for buffer in buffers:
            self.transport.write(buffer)
        await self._writable.wait()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.transport.abort()  # the answer would be taken for the next request's
            raise

    # -- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ServerUnreachable(f"the server's answer is no HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        self._fail(ServerUnreachable("the server closed the connection before it answered"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- httptools ---------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if status < 200 or self._answer is None or self._answer.done():  # 100 Continue, or nobody waits any more
            return
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        self._answer.set_result(Answer(status, self._headers, self._body))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class HttpClient:
    """A client of one endpoint. Connections are made when all others are busy, and kept."""

    def __init__(self, endpoint: str, *, timeout_s: float = 60.0) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError(f"{endpoint!r} is no endpoint; one looks like http://127.0.0.1:4566")
        self.endpoint = endpoint.rstrip("/")
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._host_header = f"{url.hostname}:{self._port}"
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Sequence[bytes | bytearray | memoryview] = (),
    ) -> Answer:
        """Sends the request and returns the answer; raises ServerUnreachable. A kept connection that the server
        closed meanwhile is replaced, but nothing is sent twice once bytes have come back."""
        length = sum(len(part) for part in body)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host_header}", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        connection = await self._connection()
        try:
            # Not wait_for: in Python 3.11 that loses a cancellation that comes together with the answer.
            async with asyncio.timeout(self._timeout_s):
                answer = await connection.request([head, *body])
        except TimeoutError:
            raise ServerUnreachable(f"{self.endpoint} did not answer within {self._timeout_s:g} s") from None
        if connection.is_open:
            self._idle.append(connection)
        return answer

    async def close(self) -> None:
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        except OSError as error:
            why = error.strerror or str(error)
            raise ServerUnreachable(
                f"no server answers at {self.endpoint} ({why}); is `streamkit serve` running?"
            ) from error
        return made
