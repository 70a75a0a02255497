"""HTTP/1.1 on the wire: our own thin server over httptools.

Bytes become requests in `_RequestReader`, which does no I/O and refuses whatever two HTTP implementations could read
differently. `_Connection` keeps the order, the answers and the back-pressure of one socket; `HttpServer` owns the
listening socket and the one timer. A request costs no task, no timer and no lock; only a body that comes piece by piece
has a task (`http_stream`). Requests and answers as handlers see them are in `http_messages`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final, cast

import httptools

from streamkit.api.http_messages import Body, Buffer, Deferred, Request, Response
from streamkit.api.http_stream import BodyStream, close_pieces
from streamkit.clock import Clock, Timer
from streamkit.model import limits

__all__ = ("Body", "Buffer", "Deferred", "Handler", "HttpLimits", "HttpServer", "Request", "Response", "internal_error")

_LOG: Final = logging.getLogger(__name__)

_METHODS: Final = {name.encode(): name for name in ("POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")}
_KNOWN_STATUSES: Final = frozenset(HTTPStatus)
_ALLOW: Final = (b"Allow", b", ".join(_METHODS))
_HEAD_END: Final = b"\r\n\r\n"
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_HEAD: Final = b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n"
_HEAD_UNSIZED: Final = b"%bContent-Type: %b\r\n%b%b%b\r\n"
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_BODILESS: Final = frozenset((204, 304))
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SEND_BATCH_BYTES: Final = 256 * limits.KIB  # what a transport is given at once of a large answer
_JOINED_BODY_BYTES_MAX: Final = 16 * limits.KIB  # up to here a copy is cheaper than a second buffer
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may ask of this process, and how long it may take."""

    body_bytes_max: int = limits.BODY_BYTES_MAX
    upload_paths: tuple[bytes, ...] = ()  # a body sent to a path that begins like one of these
    upload_bytes_max: int = limits.UPLOAD_BYTES_MAX  # may be this large
    request_line_bytes_max: int = limits.REQUEST_LINE_BYTES_MAX
    headers_bytes_max: int = limits.HEADERS_BYTES_MAX
    headers_count_max: int = limits.HEADERS_COUNT_MAX
    connections_max: int = limits.CONNECTIONS_MAX
    pipelined_requests_max: int = limits.PIPELINED_REQUESTS_MAX
    headers_timeout_ms: int = limits.HEADERS_TIMEOUT_MS
    body_timeout_ms: int = limits.BODY_TIMEOUT_MS
    idle_timeout_ms: int = limits.IDLE_TIMEOUT_MS
    send_timeout_ms: int = limits.SEND_TIMEOUT_MS
    linger_timeout_ms: int = limits.LINGER_TIMEOUT_MS

    @property
    def sweep_interval_ms(self) -> int:
        """How often timeouts are looked at: a timeout is kept to within this much, and never early."""
        shortest = min(
            self.headers_timeout_ms,
            self.body_timeout_ms,
            self.idle_timeout_ms,
            self.send_timeout_ms,
            self.linger_timeout_ms,
        )
        return max(1, min(1000, shortest // 4))


Handler = Callable[[Request], "Response | Deferred | asyncio.Future[Response]"]
ErrorHandler = Callable[[Request, BaseException], Response]


def internal_error(request: Request, error: BaseException) -> Response:
    """The answer to a request whose handler failed, where the caller gave no other. It tells nothing of the error."""
    return Response(500, b"internal error\n")


class _Refused(Exception):
    """A request the server answers by itself, and closes the connection after."""

    def __init__(self, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(why)
        phrase = HTTPStatus(status).phrase
        self.response = Response(status, f"{phrase}: {why}\n".encode(), headers=headers, close=True)


# Where a reader stands in a request.
_BETWEEN: Final = 0
_IN_HEAD: Final = 1
_IN_BODY: Final = 2


class _RequestReader:
    """Bytes in, requests out; no I/O.

    llhttp, inside httptools, already refuses bare line feeds, folded headers, blanks before a colon, and framing that
    is given twice. What it lets through is refused here, by name, with `_Refused`; after that the reader is of no use.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_bytes_expected",
        "_body_bytes_max",
        "_headers",
        "_headers_bytes",
        "_limits",
        "_line_bytes",
        "_method",
        "_parser",
        "_peer",
        "_repeats_count",
        "_target",
        "_unparsed",
        "_unparsed_from",
        "_upgrade_ignored",
        "_version",
        "ended",
        "expects_continue",
        "ready",
        "state",
    )

    def __init__(self, http_limits: HttpLimits, peer: str) -> None:
        self._limits = http_limits
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._unparsed = b""
        self._unparsed_from = 0
        self._line_bytes = 0
        self._upgrade_ignored = False
        self.ready: deque[Request] = deque()
        self.ended = False  # the last request said that it is the last
        self.expects_continue = False
        self.on_message_begin()
        self.state = _BETWEEN

    def close(self) -> None:
        """Drops what waits, and the parser, which holds on to this object in turn."""
        self.ready.clear()
        del self._parser

    @property
    def full(self) -> bool:
        """Whether enough requests wait. At most two more are made of bytes that have been fed."""
        ready = self.ready
        if len(ready) < 2:
            return False
        waiting_bytes = sum(len(request.body) for request in ready)
        return len(ready) >= self._limits.pipelined_requests_max or waiting_bytes > self._limits.body_bytes_max

    @property
    def has_unparsed(self) -> bool:
        return bool(self._unparsed)

    def feed(self, data: bytes) -> None:
        """Reads on. Bytes that come after too many waiting requests are kept, for `resume`."""
        in_one_body = self.state == _IN_BODY and self._body_bytes + len(data) <= self._body_bytes_expected
        if in_one_body or data.count(_HEAD_END) <= 1:
            self._parse(data)
        else:
            assert not self._unparsed, "fed while full"
            self._unparsed = data
            self.resume()

    def resume(self) -> None:
        """Reads on in the bytes that were kept.

        Each head ends in an empty line, so pieces that end there hold one head each: the parser cannot be stopped
        between two requests, but it can be given no more.
        """
        data = self._unparsed
        while self._unparsed and not self.full:
            end = data.find(_HEAD_END, self._unparsed_from)
            start = self._unparsed_from
            stop = len(data) if end < 0 else end + len(_HEAD_END)
            if stop == len(data):
                self._unparsed, self._unparsed_from = b"", 0
            else:
                self._unparsed_from = stop
            self._parse(data[start:stop])

    def _parse(self, data: bytes) -> None:
        body_bytes = self._body_bytes
        upgrade_end: int | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            upgrade_end = upgrade.args[0]
        except httptools.HttpParserError as error:
            self._unparsed = b""
            if self.ended:
                return  # bytes behind a request that said it is the last
            raise _refusal(error) from error
        if upgrade_end is not None:
            self._ignore_upgrade(data[upgrade_end:])
        elif self.state != _BETWEEN and self._body_bytes == body_bytes:
            self._bound_unfinished_line(data)

    def _bound_unfinished_line(self, data: bytes) -> None:
        """httptools tells of a header only when it is complete, and keeps it meanwhile, however long it gets.

        In bytes that left a request unfinished and brought nothing of its body, what stands behind the last line feed
        is such a line: of the head, of a trailer, or of a chunk's size and extensions.
        """
        line_feed_at = data.rfind(b"\n")
        self._line_bytes = self._line_bytes + len(data) if line_feed_at < 0 else len(data) - line_feed_at - 1
        if self._headers_bytes + self._line_bytes > self._limits.headers_bytes_max:
            raise self._headers_too_large()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """llhttp stops at an upgrade and drops the body; so it reads the same head again, without that header."""
        head = [b"%b %b HTTP/%b\r\n" % (self._method.encode(), self._target, self._version.encode())]
        head += [b"%b: %b\r\n" % header for header in self._headers.items() if header[0] != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade_ignored = False
        self._parse(b"".join(head) + b"\r\n" + rest)

    # -- called by httptools -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.state = _IN_HEAD
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._headers_bytes = 0
        self._repeats_count = 0
        self._body: bytes | bytearray = b""
        self._body_bytes = 0

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > self._limits.request_line_bytes_max:
            raise _Refused(414, f"the target is longer than {self._limits.request_line_bytes_max} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        # The bounds are checked at the end of the head and after each feed: what one feed can hold is bounded, too.
        self._headers_bytes += len(name) + len(value)
        if self.state != _IN_HEAD:
            return  # a trailer: nobody asked for one, and it must not look like a header
        name = name.lower()
        headers = self._headers
        if name in headers:
            if name == b"host":
                raise _Refused(400, "more than one Host header")
            self._repeats_count += 1
            headers[name] += b", " + value.rstrip()
        else:
            headers[name] = value.rstrip()

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self._headers
        http_limits = self._limits
        if self._headers_bytes > http_limits.headers_bytes_max:
            raise self._headers_too_large()
        if len(headers) + self._repeats_count > http_limits.headers_count_max:
            raise self._headers_too_large()
        name = parser.get_method()
        method = _METHODS.get(name)
        if method is None:
            raise _Refused(405, f"{name.decode()} is not served", _ALLOW)
        self._method = method
        self._version = version = parser.get_http_version()
        if version != "1.1":
            _check_old_version(version, headers)
        elif b"host" not in headers:
            raise _Refused(400, "HTTP/1.1 requires a Host header")
        if b"#" in self._target:
            raise _Refused(400, "a fragment in the target")
        if parser.should_upgrade():
            self._upgrade_ignored = True
            return
        self.state = _IN_BODY
        is_upload = self._target.startswith(http_limits.upload_paths)
        self._body_bytes_max = http_limits.upload_bytes_max if is_upload else http_limits.body_bytes_max
        self._body_bytes_expected = self._check_framing(headers)
        if b"expect" in headers:
            self._check_expectation(headers[b"expect"])

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        if self._body_bytes > self._body_bytes_max:
            raise self._body_too_large()
        body = self._body
        if not body:
            self._body = piece
        elif isinstance(body, bytearray):
            body += piece
        else:  # grown in place: joining pieces at the end would need twice the memory
            self._body = bytearray(body)
            self._body += piece

    def on_message_complete(self) -> None:
        if self._upgrade_ignored:
            return
        self.state = _BETWEEN
        self._line_bytes = 0
        self.expects_continue = False
        keep_alive = self._parser.should_keep_alive()
        self.ended = not keep_alive
        target = self._target.decode("ascii")
        if target[0] != "/":
            target = _origin_form(target)
        self.ready.append(
            Request(self._method, target, self._headers, self._body, self._peer, self._version, keep_alive)
        )

    # -- rules -------------------------------------------------------------------------------------------------------

    def _check_framing(self, headers: dict[bytes, bytes]) -> int:
        """How many bytes of body are announced; 0 where the body comes in chunks."""
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise _Refused(400, "the only transfer coding served is chunked")
        length = headers.get(b"content-length")
        if length is None:
            return 0
        expected = int(length)  # llhttp has seen to it that these are digits
        if expected > self._body_bytes_max:
            raise self._body_too_large()
        return expected

    def _check_expectation(self, expectation: bytes) -> None:
        if expectation.lower() != b"100-continue":
            raise _Refused(417, "the only expectation served is 100-continue")
        self.expects_continue = self._version == "1.1"

    def _headers_too_large(self) -> _Refused:
        count, size = self._limits.headers_count_max, self._limits.headers_bytes_max
        return _Refused(431, f"headers are limited to {count} and to {size} bytes")

    def _body_too_large(self) -> _Refused:
        return _Refused(413, f"a body is limited to {self._body_bytes_max} bytes")


def _refusal(error: httptools.HttpParserError) -> _Refused:
    """Our own refusal, raised inside a callback, or llhttp's."""
    if isinstance(error.__context__, _Refused):
        return error.__context__
    return _Refused(400, str(error))


def _check_old_version(version: str, headers: dict[bytes, bytes]) -> None:
    if version != "1.0":
        raise _Refused(505, f"HTTP/{version} is not served here")
    if b"transfer-encoding" in headers:  # unknown to HTTP/1.0: a proxy of that age would take the chunks for requests
        raise _Refused(400, "HTTP/1.0 has no transfer codings")


def _origin_form(target: str) -> str:
    """`http://host/path?query`, which a proxy is sent, as `/path?query`."""
    _, scheme_end, rest = target.partition("://")
    if not scheme_end:
        return target
    authority = rest.partition("?")[0].partition("/")[0]
    origin = rest[len(authority) :]
    return origin if origin.startswith("/") else "/" + origin


class _Connection(asyncio.Protocol):
    """One socket: requests are answered one at a time, in the order they came."""

    __slots__ = (
        "_closing",
        "_deaf",
        "_first_bytes",
        "_gone_callbacks",
        "_in_progress",
        "_lingering",
        "_reader",
        "_reading",
        "_refused",
        "_server",
        "_since_ms",
        "_stream",
        "_transport",
        "_unsent",
        "_write_buffer_bytes",
        "_write_paused",
        "client_gone",
    )

    _transport: asyncio.Transport
    _reader: _RequestReader

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._in_progress: Request | None = None
        self._gone_callbacks: list[Callable[[], None]] | None = None
        self._first_bytes: bytes | None = b""  # until it is certain that this is not HTTP/2
        self._refused: Response | None = None  # to be sent when all requests before it are answered
        self._unsent: deque[Buffer] = deque()
        self._stream: BodyStream | None = None  # the body that is being sent piece by piece
        self._since_ms = server.elapsed_ms  # when what is waited for now began
        self._write_buffer_bytes = 0
        self._reading = True
        self._write_paused = False
        self._deaf = False  # nothing more that arrives is looked at
        self._closing = False  # closes when all requests are answered
        self._lingering = False
        self.client_gone = False

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._reader = _RequestReader(self._server.limits, f"{peer[0]}:{peer[1]}" if peer else "")
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections = self._server.connections
        connections.add(self)
        if len(connections) > self._server.limits.connections_max or self._server.draining:
            # Closed without lingering: who is over the bound must not hold a place a moment longer.
            self._deaf = True
            self._write_response(Response(503, b"no connection is free\n", close=True), None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self)
        self._deaf = True
        self._closing = True
        self._reader.close()
        self._unsent.clear()
        self._client_is_gone()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._first_bytes is not None:
            data = self._look_for_http2(data)
        reader = self._reader
        state = reader.state
        try:
            reader.feed(data)
        except _Refused as refused:
            self._refuse(refused.response)
        if reader.state != _BETWEEN and (state != _IN_HEAD or reader.state != _IN_HEAD):
            self._since_ms = self._server.elapsed_ms  # a head has one deadline, a body needs progress
        self._advance()

    def eof_received(self) -> bool:
        """The client may have closed only its own side, so it still gets its answers; but nobody waits for it."""
        self._deaf = True
        self._closing = True
        self._client_is_gone()
        owes = self._in_progress is not None or self._reader.ready or self._write_paused
        return bool(owes) and self._stream is None and not self._lingering and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._regulate_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._since_ms = self._server.elapsed_ms
        self._send_unsent()
        if self._stream is not None and not self._write_paused:
            self._stream.resume()
        self._advance()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _look_for_http2(self, data: bytes) -> bytes:
        """Holds the first bytes back while they may be HTTP/2's preface; returns what HTTP/1.1 shall read."""
        data = cast("bytes", self._first_bytes) + data
        if not _HTTP2_PREFACE.startswith(data[: len(_HTTP2_PREFACE)]):
            self._first_bytes = None
            return data
        if len(data) < len(_HTTP2_PREFACE):
            self._first_bytes = data
            return b""
        self._begin_http2(data)
        return b""

    def _begin_http2(self, data: bytes) -> None:
        """Where HTTP/2 plugs in: a protocol of its own takes the transport over, and `data` with it.

        ALPN needs no second door, because a client that agreed on h2 sends the same preface.
        """
        self._refuse(Response(505, b"HTTP/2 is not served here\n", close=True))

    def _advance(self) -> None:
        """Answers waiting requests as far as that goes without waiting, then does what is due between two of them."""
        reader = self._reader
        ready = reader.ready
        while ready and self._in_progress is None and not self._write_paused:
            self._answer(ready.popleft())
            if reader.has_unparsed:
                self._resume_reader()
        if self._in_progress is not None or self._write_paused:
            if not self._reading or ready:
                self._regulate_reading()
        elif self._refused is not None:
            self._send_refusal()
        elif self._closing:
            self._transport.close()
        else:
            if reader.expects_continue:
                reader.expects_continue = False
                self._transport.write(_CONTINUE)
            if not self._reading:
                self._regulate_reading()

    def _resume_reader(self) -> None:
        try:
            self._reader.resume()
        except _Refused as refused:
            self._refuse(refused.response)

    def _answer(self, request: Request) -> None:
        request.connection = self
        self._in_progress = request
        try:
            answer = self._server.handler(request)
        except Exception as error:
            self._respond(self._server.failed(request, error))
            return
        if isinstance(answer, Response):
            self._respond(answer)
        elif isinstance(answer, Deferred):
            answer.then(self._respond_later)
        else:
            answer.add_done_callback(self._answer_done)

    def _answer_done(self, answer: asyncio.Future[Response]) -> None:
        request = cast("Request", self._in_progress)
        try:
            response = answer.result()
        except (Exception, asyncio.CancelledError) as error:
            response = self._server.failed(request, error)
        self._respond_later(response)

    def _respond_later(self, response: Response) -> None:
        self._respond(response)
        self._advance()

    def _respond(self, response: Response) -> None:
        request = cast("Request", self._in_progress)
        self._in_progress = None
        self._gone_callbacks = None
        self._since_ms = self._server.elapsed_ms
        body = response.body
        if type(body) is not bytes and isinstance(body, AsyncIterator):
            self._begin_stream(response, request, body)
            return
        if self._transport.is_closing():
            return
        if response.close or not request.keep_alive or (self._server.draining and self._nothing_follows()):
            self._take_no_more()
        self._write_response(response, request)

    def _take_no_more(self) -> None:
        self._closing = self._deaf = True
        self._refused = None
        self._reader.ready.clear()

    def _nothing_follows(self) -> bool:
        reader = self._reader
        return not reader.ready and reader.state == _BETWEEN and not reader.has_unparsed

    # -- answers -----------------------------------------------------------------------------------------------------

    def _write_response(self, response: Response, request: Request | None) -> None:
        body = response.body
        if isinstance(body, bytes):
            buffers: Sequence[Buffer] = (body,)
            body_bytes = len(body)
        else:
            buffers = cast("Sequence[Buffer]", body)
            body_bytes = sum(len(buffer) for buffer in buffers)
        if response.status in _BODILESS:
            self._transport.write(self._head(response, request, b""))
            return
        head = self._head(response, request, body_bytes)
        if request is not None and request.method == "HEAD":
            self._transport.write(head)
        elif body_bytes <= _JOINED_BODY_BYTES_MAX:
            self._transport.write(b"".join((head, *buffers)))
        else:
            self._unsent.append(head)
            self._unsent.extend(buffers)
            self._send_unsent()

    def _head(self, response: Response, request: Request | None, framing: int | bytes) -> bytes:
        """`framing` is the body's length, or the line that stands for it."""
        if self._closing or request is None:
            persistence = b"Connection: close\r\n"
        elif request.version == "1.0":
            persistence = b"Connection: keep-alive\r\n"
        else:
            persistence = b""
        return (_HEAD if isinstance(framing, int) else _HEAD_UNSIZED) % (
            self._server.status_lines(response.status),
            response.content_type,
            framing,
            persistence,
            response.headers
            if isinstance(response.headers, bytes)
            else b"".join([b"%b: %b\r\n" % header for header in response.headers]),
        )

    def _send_unsent(self) -> None:
        """Gives the transport as much as it takes; the rest waits here, because a transport may copy what it keeps."""
        unsent = self._unsent
        while unsent and not self._write_paused:
            batch: list[Buffer] = []
            room = _SEND_BATCH_BYTES
            while unsent and room > 0:
                buffer = unsent.popleft()
                if len(buffer) > room:
                    view = memoryview(buffer)
                    unsent.appendleft(view[room:])
                    buffer = view[:room]
                batch.append(buffer)
                room -= len(buffer)
            self._transport.writelines(batch)

    def _begin_stream(self, response: Response, request: Request, pieces: AsyncIterator[bytes]) -> None:
        if self._transport.is_closing() or self.client_gone:
            self._server.spawn(close_pieces(pieces))
            return
        bodiless = response.status in _BODILESS
        chunked = request.version != "1.0"
        last = response.close or not request.keep_alive or (self._server.draining and self._nothing_follows())
        if last or not (chunked or bodiless):
            self._take_no_more()
        self._transport.write(self._head(response, request, _CHUNKED if chunked and not bodiless else b""))
        if bodiless or request.method == "HEAD":
            self._server.spawn(close_pieces(pieces))
            return
        self._in_progress = request  # until the body has ended
        self._stream = BodyStream(pieces, self)
        self._server.keep(self._stream.task)

    def send_piece(self, piece: bytes) -> bool:
        """For the stream. What the transport does not take stays here, and the next piece has to wait."""
        if cast("Request", self._in_progress).version != "1.0":
            self._unsent.append(b"%x\r\n" % len(piece))
            self._unsent.append(piece)
            self._unsent.append(b"\r\n")
        else:
            self._unsent.append(piece)
        self._send_unsent()
        return not self._write_paused and not self._transport.is_closing()

    def body_ended(self, error: BaseException | None) -> None:
        """For the stream. A body that broke off must not look like a whole one: the last chunk stays away, and where
        there are no chunks the connection is reset."""
        request = cast("Request", self._in_progress)
        chunked = request.version != "1.0"
        self._stream = self._in_progress = self._gone_callbacks = None
        self._since_ms = self._server.elapsed_ms
        if self._transport.is_closing():
            return
        if error is not None:
            _LOG.error("an answer broke off: %s %s", request.method, request.path, exc_info=error)
            self._closing = self._deaf = True
            if chunked:
                self._transport.close()
            else:
                self._reset()
            return
        if chunked:
            self._transport.write(_LAST_CHUNK)
        if self._server.draining and self._nothing_follows():
            self._closing = self._deaf = True
        self._advance()

    def _reset(self) -> None:
        """Cuts the connection off in a way that no client takes for an end."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _refuse(self, response: Response) -> None:
        """What stands before the refused bytes is still answered first."""
        self._deaf = True
        self._refused = response

    def _send_refusal(self) -> None:
        """Sends the refusal, and goes on reading for a while.

        Closing a socket with unread bytes in it resets the connection, and the client would never see why.
        """
        response = cast("Response", self._refused)
        self._refused = None
        if self._transport.is_closing():
            return
        self._write_response(response, None)
        if self._transport.can_write_eof() and not self.client_gone:
            self._transport.write_eof()
            self._lingering = True
            self._since_ms = self._server.elapsed_ms
            self._regulate_reading()
        else:
            self._transport.close()

    def _regulate_reading(self) -> None:
        """Stops reading while answers are not taken or too many requests wait, and starts again after."""
        wanted = self._lingering or not (self._write_paused or self._reader.has_unparsed or self._reader.full)
        if wanted == self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- the client's going, and ours --------------------------------------------------------------------------------

    def watch(self, callback: Callable[[], None]) -> None:
        if self._gone_callbacks is None:
            self._gone_callbacks = []
        self._gone_callbacks.append(callback)

    def _client_is_gone(self) -> None:
        self.client_gone = True
        if self._stream is not None:
            self._stream.cancel()
        callbacks, self._gone_callbacks = self._gone_callbacks, None
        for callback in callbacks or ():
            callback()

    def drain(self) -> None:
        """Closes if no request has begun to arrive, as soon as the last answer is taken; else `_respond` will do it."""
        if self._in_progress is None and self._nothing_follows() and not self._lingering:
            self._closing = self._deaf = True
            if not self._write_paused:
                self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def check_timeouts(self, now_ms: int) -> None:
        """Cuts the connection off where it has kept us waiting for too long. A handler may take its time."""
        http_limits = self._server.limits
        write_buffer_bytes = self._transport.get_write_buffer_size()
        if write_buffer_bytes != self._write_buffer_bytes:
            self._write_buffer_bytes = write_buffer_bytes
            self._since_ms = now_ms
        waited_ms = now_ms - self._since_ms
        if self._lingering:
            if waited_ms > http_limits.linger_timeout_ms:
                self._transport.abort()
        elif write_buffer_bytes:
            if waited_ms > http_limits.send_timeout_ms:
                self._transport.abort()
        elif self._in_progress is None and not self._transport.is_closing():
            self._check_reading(waited_ms)

    def _check_reading(self, waited_ms: int) -> None:
        http_limits = self._server.limits
        state = self._reader.state
        if state == _BETWEEN:
            if waited_ms > http_limits.idle_timeout_ms:
                self._transport.close()
        elif waited_ms > (http_limits.headers_timeout_ms if state == _IN_HEAD else http_limits.body_timeout_ms):
            self._refuse(Response(408, b"the request did not arrive in time\n", close=True))
            self._advance()


class HttpServer:
    """Serves one handler on one port, on the running event loop.

    The handler is called for one request of a connection at a time and must not block. A Response that it returns is
    written at once; a Future is waited for, and never cancelled, also not when the client goes: a handler that waits
    for long asks `Request.on_client_gone`. An exception is logged and answered by `on_error`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        clock: Clock,
        limits: HttpLimits = HttpLimits(),
        on_error: ErrorHandler = internal_error,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.port = 0
        self.draining = False
        self.elapsed_ms = 0  # counted in sweeps: cheap to read, and a clock that is set does not matter
        self.connections: set[_Connection] = set()
        self._clock = clock
        self._on_error = on_error
        self._server: asyncio.Server | None = None
        self._timer: Timer | None = None
        self._status_lines: dict[int, bytes] = {}
        self._date_s = -1
        self._date = b""
        self._emptied: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, ssl: SSLContext | None = None) -> None:
        """Listens; with port 0 the system chooses one, and `port` says which."""
        assert self._server is None, "a server starts once"
        handshake_s = None if ssl is None else self.limits.headers_timeout_ms / 1000
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            host,
            port,
            ssl=ssl,
            ssl_handshake_timeout=handshake_s,
            backlog=limits.CONNECTIONS_MAX,  # who is over the bound of connections shall be told, not left waiting
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweep()

    async def drain(self, timeout_ms: int) -> None:
        """Takes no new connection, answers what has begun to arrive, and returns when every connection is closed, and
        every body that came piece by piece.

        Whatever is left after `timeout_ms` is cut off. Cancelling it leaves the server draining; it can be awaited
        again.
        """
        assert self._server is not None, "the server has not been started"
        self.draining = True
        self._server.close()
        for connection in list(self.connections):
            connection.drain()
        expiry = self._clock.call_later(timeout_ms, self._abort_all)
        try:
            while self.connections:
                self._emptied = asyncio.Event()
                await self._emptied.wait()
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._server.wait_closed()
        finally:
            expiry.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        """The one timer: moves `elapsed_ms` on, renews the date, and looks for connections that keep us waiting."""
        interval_ms = self.limits.sweep_interval_ms
        self.elapsed_ms += interval_ms
        self._renew_date()
        for connection in list(self.connections):
            connection.check_timeouts(self.elapsed_ms)
        self._timer = self._clock.call_later(interval_ms, self._sweep)

    def _renew_date(self) -> None:
        now_s = self._clock.now_ms() // 1000
        if now_s == self._date_s:
            return
        self._date_s = now_s
        at = time.gmtime(now_s)
        self._date = (
            f"Date: {_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
            f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT\r\n"
        ).encode()
        self._status_lines.clear()

    # -- for connections ---------------------------------------------------------------------------------------------

    def status_lines(self, status: int) -> bytes:
        """Status line and Date, made once per status and second."""
        lines = self._status_lines.get(status)
        if lines is None:
            phrase = HTTPStatus(status).phrase if status in _KNOWN_STATUSES else ""
            lines = self._status_lines[status] = f"HTTP/1.1 {status} {phrase}\r\n".encode() + self._date
        return lines

    def failed(self, request: Request, error: BaseException) -> Response:
        _LOG.error("request failed", exc_info=error)
        try:
            return self._on_error(request, error)
        except Exception as second:
            _LOG.error("the error handler failed", exc_info=second)
            return internal_error(request, second)

    def spawn(self, ending: Coroutine[Any, Any, None]) -> None:
        self.keep(asyncio.get_running_loop().create_task(ending))

    def keep(self, task: asyncio.Task[None]) -> None:
        """The loop itself does not keep a task from being collected."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None:
            self._emptied.set()
