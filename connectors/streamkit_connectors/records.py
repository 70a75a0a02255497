"""What the destinations that take records share: cutting a sealed file into requests, an HTTP client that can be
stopped, and the memory of what was delivered of an object that has to be tried again.

The client is the standard library's on threads, not a pool of urllib3: a bound on a whole request, and stopping it at
once, need the socket in hand from the moment it connects.
"""

from __future__ import annotations

import asyncio
import http.client
import select
import socket
import ssl
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed
from streamkit.delivery.records_format import read_records
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    ECHO_CHARACTERS_MAX,
    ENDPOINT_CONNECT_TIMEOUT_MS,
    ENDPOINT_CONNECTIONS_MAX,
    ENDPOINT_IDLE_MS_MAX,
    ENDPOINT_OBJECTS_REMEMBERED_MAX,
)

T = TypeVar("T")

# -- requests out of a sealed file ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `first` to `first + count` (exclusive) of a sealed file, for one request. `cost_bytes` is what they take in
    its body."""

    first: int
    count: int
    cost_bytes: int


def cut(
    path: Path, cost: Callable[[pa.RecordBatch], pa.Int64Array], *, bytes_max: int, records_max: int
) -> Iterator[Part]:
    """The fewest requests, in order, that keep to both bounds; a record that passes the first alone has its own.

    The same file and bounds always give the same parts. `cost` tells what each record takes. Blocking; holds one batch
    at a time. Raises OSError.
    """
    first = count = taken = 0
    for batch in read_records(path):
        sums = memoryview(pc.cumulative_sum(cost(batch)).buffers()[1]).cast("q")[: batch.num_rows]
        start = before = 0
        while start < batch.num_rows:
            stop = min(batch.num_rows, start + records_max - count)
            end = bisect_right(sums, before + bytes_max - taken, start, stop)
            if end == start and not count:
                end = start + 1
            if end > start:
                taken += sums[end - 1] - before
                count += end - start
                before, start = sums[end - 1], end
            if start < batch.num_rows:
                yield Part(first, count, taken)
                first, count, taken = first + count, 0, 0
    if count:
        yield Part(first, count, taken)


def slices(path: Path, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of a part, batch by batch. Blocking. Raises OSError."""
    start = 0
    for batch in read_records(path):
        first, last = max(part.first - start, 0), min(part.first + part.count - start, batch.num_rows)
        if first < last:
            yield batch.slice(first, last - first)
        start += batch.num_rows
        if start >= part.first + part.count:
            return


# -- what is known of an object ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Known:
    """What earlier tries of an object reached: one byte a record, 1 where it was delivered or refused."""

    settled: bytearray
    refused: dict[int, Refused] = field(default_factory=dict)

    def has(self, part: Part) -> bool:
        return self.settled.find(0, part.first, part.first + part.count) < 0

    def settle(self, part: Part) -> None:
        self.settled[part.first : part.first + part.count] = b"\1" * part.count

    def refuse(self, part: Part, failure: DeliveryFailed) -> None:
        for row in range(part.first, part.first + part.count):
            self.refused[row] = Refused(row, failure.error_code, failure.message)
        self.settle(part)

    def refusals(self) -> list[Refused]:
        return [self.refused[row] for row in sorted(self.refused)]

    def delivered(self) -> list[range]:
        """Rows that are at the destination."""
        there = bytearray(self.settled)
        for row in self.refused:
            there[row] = 0
        found: list[range] = []
        start = there.find(1)
        while start >= 0:
            stop = there.find(0, start)
            stop = len(there) if stop < 0 else stop
            found.append(range(start, stop))
            start = there.find(1, stop)
        return found


class Memory:
    """What is known of objects that have to be tried again, in this process. Those tried longest ago are forgotten:
    then parts of them are sent twice, with the same ids."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()

    def of(self, sealed: Sealed) -> Known:
        known = self._known.get(sealed.id)
        if known is None:
            known = self._known[sealed.id] = Known(bytearray(sealed.records_count))
            if len(self._known) > ENDPOINT_OBJECTS_REMEMBERED_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(sealed.id)
        return known

    def forget(self, sealed: Sealed) -> None:
        self._known.pop(sealed.id, None)


# -- options ----------------------------------------------------------------------------------------------------------


def url_of(options: Mapping[str, Any], service: str) -> SplitResult:
    """The option `url`. AWS takes https alone; here http is good for this machine too. Raises UsageError."""
    url = options.get("url")
    if not isinstance(url, str) or not url:
        raise UsageError(f"{service} needs the option url")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}") from None
    if split.scheme not in ("http", "https") or not split.hostname or port == 0:
        raise UsageError(f"{url!r} is no URL of the form https://HOST[:PORT]/PATH")
    if split.username or split.password or split.fragment:
        raise UsageError(f"the URL of {service} must have no user, password or fragment")
    if any(not "!" <= character <= "~" for character in url):
        raise UsageError(f"{url!r} has characters that must be percent-encoded")
    if split.scheme == "http" and not _is_loopback(split.hostname):
        raise UsageError(f"{url!r} must be https: http is taken for this machine alone (localhost)")
    return split


def header_value(text: str, option: str) -> str:
    """A value for a header, as it is. Raises UsageError for what no header can hold."""
    if any(not (" " <= character <= "~" or "\xa0" <= character <= "\xff") for character in text):
        raise UsageError(f"the option {option} has characters that an HTTP header cannot hold")
    return text


def text_option(options: Mapping[str, Any], name: str, default: str = "") -> str:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UsageError(f"the option {name} must be text, not {value!r}")
    return value


def known_options(options: Mapping[str, Any], known: Iterable[str], service: str) -> None:
    """Raises UsageError for options that are not known."""
    unknown = sorted(set(options).difference(known))
    if unknown:
        raise UsageError(f"{service} has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# -- HTTP -------------------------------------------------------------------------------------------------------------

Kind = Literal["connect", "tls", "tls_name", "timeout", "reset", "invalid", "too_large"]


class Unanswered(Exception):
    """A request got no whole answer. `connect`, `tls`, `tls_name` (the certificate does not prove the host): it was
    not sent. All others: it may have been done."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Answer(NamedTuple):
    """Names of headers are in lower case; of one that came twice, the values are joined with a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: Sequence[str]

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def excerpt(self) -> str:
        """Of the body, for messages."""
        return self.body[:ECHO_CHARACTERS_MAX].decode(errors="replace")


class Body(NamedTuple):
    chunks: Iterable[bytes]
    length: int


class Client:
    """POSTs to one host, on a few threads and kept connections.

    No redirect is followed and no proxy used; certificates are checked, against `ca_file` where it is given. Each
    request is bounded as a whole, whatever the other side does: sends nothing, a byte now and then, or without end.
    """

    def __init__(self, url: SplitResult, *, clock: Clock, ca_file: str | None = None) -> None:
        assert url.hostname is not None
        self._host = url.hostname
        self._port = url.port
        self._is_tls = url.scheme == "https"
        self._ca_file = ca_file
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._idle: deque[tuple[_Connection, int]] = deque()
        self._busy: set[_Connection] = set()
        self._places = asyncio.Semaphore(ENDPOINT_CONNECTIONS_MAX)
        self._pool = ThreadPoolExecutor(ENDPOINT_CONNECTIONS_MAX, thread_name_prefix="streamkit-endpoint")

    async def run(self, work: Callable[[], T]) -> T:
        """Blocking work, on one of the client's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def post(
        self,
        target: str,
        headers: Mapping[str, str],
        body: Callable[[], Body],
        *,
        answer_bytes_max: int,
        timeout_ms: int,
    ) -> Answer:
        """`body` is called and read on a thread. `answer_bytes_max` counts headers too. Raises Unanswered, and what
        `body` raises. Cancelling it closes the connection; its thread ends then."""
        async with self._places:
            connection = self._take()
            self._busy.add(connection)
            connection.timeout = timeout_ms / 1000
            timer = self._clock.call_later(
                timeout_ms, lambda: connection.abort(f"no whole answer within {timeout_ms / 1000:g} s")
            )
            exchange = _Exchange(connection, target, headers, body, answer_bytes_max)
            try:
                answer, is_kept = await self.run(exchange.run)
            except asyncio.CancelledError:
                connection.abort("cancelled")
                exchange.abandon()
                raise
            finally:
                timer.cancel()
                self._busy.discard(connection)
            if is_kept and not connection.aborted:
                self._idle.append((connection, self._clock.now_ms()))
            return answer

    async def close(self) -> None:
        """What is under way fails."""
        for connection in self._busy:
            connection.abort("closed")
        while self._idle:
            self._idle.pop()[0].release()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> _Connection:
        now_ms = self._clock.now_ms()
        while self._idle:
            connection, since_ms = self._idle.pop()
            if abs(now_ms - since_ms) < ENDPOINT_IDLE_MS_MAX and connection.is_quiet():
                return connection
            connection.release()
        return _Connection(self._host, self._port, self._tls if self._is_tls else None)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._ca_file)
        return self._context


class _Connection(http.client.HTTPConnection):
    """One that can be stopped from another thread, whatever it is waiting for."""

    def __init__(self, host: str, port: int | None, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self.default_port = 443 if tls else 80
        super().__init__(host, port)
        self._tls = tls
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None  # the same socket again, for `abort` alone: nobody else closes it
        self.aborted = ""

    def connect(self) -> None:
        try:
            found = [] if self.aborted else socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unanswered("connect", f"{self.host} has no address: {error}") from error
        last: OSError | None = None
        for family, kind, protocol, _, address in found:
            if self.aborted:
                break
            self.sock = socket.socket(family, kind, protocol)
            self.sock.settimeout(ENDPOINT_CONNECT_TIMEOUT_MS / 1000)
            with self._lock:
                self._handle = self.sock.dup()
            try:
                self.sock.connect(address)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                break
            except OSError as error:
                self.release()
                last = error
        if self.aborted or self.sock is None:
            raise Unanswered("connect", self.aborted or f"{self.host}:{self.port} cannot be reached: {last}") from last
        if self._tls is not None:
            self._handshake(self._tls)
        self.sock.settimeout(self.timeout)

    def _handshake(self, tls: Callable[[], ssl.SSLContext]) -> None:
        try:
            self.sock = tls().wrap_socket(self.sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            raise Unanswered("tls_name", f"{self.host} does not prove who it is: {error.verify_message}") from error
        except OSError as error:  # also SSLError, a time-out, and a file of certificates that cannot be read
            raise Unanswered("tls", f"no TLS with {self.host}:{self.port}: {error}") from error

    def abort(self, why: str) -> None:
        """From any thread: whatever waits on the socket fails at once."""
        with self._lock:
            self.aborted = self.aborted or why
            if self._handle is not None:
                try:
                    self._handle.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is not connected, or not any more

    def release(self) -> None:
        """Closes it for good."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None
        self.close()

    def is_quiet(self) -> bool:
        """Whether the other side has neither closed it nor said anything since the last answer."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class _Exchange:
    """One request and its answer, on a thread."""

    def __init__(
        self,
        connection: _Connection,
        target: str,
        headers: Mapping[str, str],
        body: Callable[[], Body],
        answer_bytes_max: int,
    ) -> None:
        self._connection = connection
        self._target = target
        self._headers = headers
        self._body = body
        self._answer_bytes_max = answer_bytes_max
        self._unreadable: OSError | None = None  # the body, on our side
        self._lock = threading.Lock()
        self._state: Literal["waiting", "running", "over"] = "waiting"
        self._is_abandoned = False

    def run(self) -> tuple[Answer, bool]:
        """With whether the connection can be used again; it is closed where it cannot."""
        with self._lock:
            if self._is_abandoned:
                raise Unanswered("timeout", self._connection.aborted)
            self._state = "running"
        is_kept = False
        try:
            answer, is_kept = self._run()
            return answer, is_kept
        except Unanswered as error:
            if self._connection.aborted:
                raise Unanswered("timeout", self._connection.aborted) from error
            raise
        finally:
            with self._lock:
                self._state = "over"
                if not is_kept or self._is_abandoned:
                    self._connection.release()

    def abandon(self) -> None:
        """Nobody waits for it any more: the connection is closed when it is over."""
        with self._lock:
            self._is_abandoned = True
            if self._state != "running":
                self._connection.release()

    def _run(self) -> tuple[Answer, bool]:
        connection = self._connection
        chunks, length = self._body()
        headers = {"Accept-Encoding": "identity", "User-Agent": "streamkit", **self._headers}
        headers["Content-Length"] = str(length)
        broken: OSError | None = None
        try:
            connection.request("POST", self._target, self._watched(chunks), headers)
        except TimeoutError as error:
            raise Unanswered("timeout", "the request was not taken") from error
        except OSError as error:
            if self._unreadable is not None:
                raise
            broken = error  # perhaps it answered before it had read all, as a server does that finds it too large
        try:
            response = connection.getresponse()
            try:
                answer = self._answer(response)
                is_kept = response.isclosed() and not response.will_close  # it is closed when it was read to its end
            finally:
                response.close()
        except TimeoutError as error:
            raise Unanswered("timeout", "no answer") from error
        except (http.client.RemoteDisconnected, http.client.IncompleteRead, OSError) as error:
            raise Unanswered("reset", f"closed before it had answered: {broken or error}") from error
        except (http.client.HTTPException, ValueError) as error:
            raise Unanswered("invalid", f"the answer is no HTTP: {type(error).__name__} {error}") from error
        if connection.aborted:  # headers that were cut off look like whole ones
            raise Unanswered("timeout", connection.aborted)
        return answer, is_kept

    def _answer(self, response: http.client.HTTPResponse) -> Answer:
        headers: dict[str, str] = {}
        head_bytes = 0
        for name, value in response.getheaders():
            head_bytes += len(name) + len(value) + 4
            lower = name.lower()
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        room = self._answer_bytes_max - head_bytes
        body = response.read(max(room, 0) + 1)
        if len(body) > room:
            raise Unanswered("too_large", f"the answer has more than {self._answer_bytes_max} bytes")
        if response.length:
            raise Unanswered("reset", f"closed {response.length} bytes before the end of its answer")
        cookies = [value.partition(";")[0].strip() for value in response.headers.get_all("set-cookie", [])]
        return Answer(response.status, headers, body, cookies)

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        try:
            for chunk in chunks:
                if self._connection.aborted:
                    return
                yield chunk
        except OSError as error:
            self._unreadable = error
            raise


# -- delivering part by part ------------------------------------------------------------------------------------------


async def deliver_parts(
    sealed: Sealed, parts: Iterable[Part], memory: Memory, send: Callable[[Part], Any]
) -> Sequence[Refused]:
    """Sends the parts that are not settled yet, one after the other. `send` raises DeliveryFailed: where that is final,
    the records of its part are refused and the others go on; otherwise it is raised, with what is delivered."""
    known = memory.of(sealed)
    for part in parts:
        if known.has(part):
            continue
        try:
            await send(part)
        except DeliveryFailed as failure:
            if not failure.is_final:
                failure.delivered = known.delivered()
                raise
            known.refuse(part, failure)
        else:
            known.settle(part)
    memory.forget(sealed)
    return known.refusals()
