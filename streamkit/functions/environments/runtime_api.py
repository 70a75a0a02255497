"""AWS's Runtime API, version 2018-06-01: how a runtime in another process takes its invocations and answers them.

One `RuntimeApi` serves one environment, on a port of its own: clients of some languages cannot take a path before
`/2018-06-01`. A runtime asks for the next invocation, and is kept waiting until there is one; posts its response, whole
or in chunks as they come; or posts an error. Only loopback is listened on, and only as much is kept of what a runtime
sends as AWS would take.

| request | answer |
|---|---|
| GET runtime/invocation/next | 200, the event; waits without bound |
| POST runtime/invocation/{id}/response | 202; 413 where it is too large |
| POST runtime/invocation/{id}/error | 202 |
| POST runtime/init/error | 202 |

Another id than the current one's is answered with 400, a request that does not fit the state with 403, as by AWS.
The Extensions API and SnapStart's `restore` are not served (404).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass, field
from typing import Final, cast

import httptools
import msgspec

from streamkit.functions.environments.port import Invocation, OnChunk
from streamkit.model.limits import (
    KIB,
    RESPONSE_BYTES_MAX,
    RUNTIME_CONNECTIONS_MAX,
    RUNTIME_HEADERS_BYTES_MAX,
)

ERROR_TYPE: Final = b"lambda-runtime-function-error-type"
_ERROR_BODY: Final = b"lambda-runtime-function-error-body"
_RESPONSE_MODE: Final = b"lambda-runtime-function-response-mode"

_PREFIX: Final = "/2018-06-01/runtime/"
_ACCEPTED: Final = b'{"status":"OK"}\n'
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Request Entity Too Large",
}
_JOINED_BYTES_MAX: Final = 16 * KIB  # up to here a copy is cheaper than another write


class _ErrorType(msgspec.Struct):
    errorType: str = ""  # AWS has it so


@dataclass(slots=True)
class Posted:
    """What a runtime answered. `error_type` is empty where it is a response; `body` is what goes to the caller."""

    body: bytes
    error_type: str = ""
    was_too_large: bool = False


def response_too_large() -> bytes:
    """What AWS answers the caller then."""
    message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
    return msgspec.json.encode({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"})


class RuntimeApi:
    """Used on the event loop. Whoever makes it closes it."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._waiting: _Connection | None = None  # has asked for the next invocation
        self._offered: Invocation | None = None  # no runtime has asked for it yet
        self._current: Invocation | None = None  # handed out, not answered
        self._answer: asyncio.Future[Posted] | None = None
        self._ready: asyncio.Future[Posted | None] | None = None
        self._asked: asyncio.Event = asyncio.Event()

    async def listen(self) -> str:
        """Opens a port on loopback. Returns `host:port`, the value of AWS_LAMBDA_RUNTIME_API."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Closes the port and what is connected to it. Nothing more is answered; whoever waits is to be told by the
        caller."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.abort()

    @property
    def ready(self) -> asyncio.Future[Posted | None]:
        """How INIT ended: None when the runtime first asks for an invocation, or the error it posted instead."""
        assert self._ready is not None, "not listening"
        return self._ready

    def invoke(self, invocation: Invocation) -> asyncio.Future[Posted]:
        """Hands an invocation to the runtime, now or when it next asks. One at a time."""
        assert self._offered is None, "another invocation is under way"
        assert self._answer is None or self._answer.done(), "another invocation is under way"
        self._answer = asyncio.get_running_loop().create_future()
        self._offered = invocation
        if self._waiting is not None:
            self._hand_out(self._waiting)
        return self._answer

    async def asked(self) -> None:
        """Returns when the runtime, having answered, asks for the next invocation."""
        await self._asked.wait()

    def _hand_out(self, connection: _Connection) -> None:
        assert self._offered is not None
        self._current, self._offered, self._waiting = self._offered, None, None
        self._asked.clear()
        connection.send_invocation(self._current)

    # -- requests ----------------------------------------------------------------------------------------------------

    def chunks_of(self, request: _Request) -> OnChunk | None:
        """Who takes a response piece by piece, where a runtime sends it so and the caller wants it so."""
        current = self._current
        if current is None or current.on_chunk is None or request.path != f"invocation/{current.request_id}/response":
            return None
        return current.on_chunk if request.headers.get(_RESPONSE_MODE, b"").lower() == b"streaming" else None

    def receive(self, connection: _Connection, request: _Request) -> None:
        """Answers a request that is complete."""
        match (request.method, *request.path.split("/")):
            case (b"GET", "invocation", "next"):
                self._receive_next(connection)
            case (b"POST", "invocation", str(request_id), ("response" | "error") as what):
                self._receive_answer(connection, request, request_id, what)
            case (b"POST", "init", "error"):
                self._receive_init_error(connection, request)
            case _:
                connection.send(404, b"404 page not found\n", b"text/plain")

    def _receive_next(self, connection: _Connection) -> None:
        if self._current is not None:
            connection.send_error(403, "InvalidStateTransition", _not_allowed("Running", "Ready"))
            return
        if not self.ready.done():
            self.ready.set_result(None)
        self._asked.set()
        self._waiting = connection  # the latest: an earlier one was given up by the runtime
        if self._offered is not None:
            self._hand_out(connection)

    def _receive_answer(self, connection: _Connection, request: _Request, request_id: str, what: str) -> None:
        current = self._current
        if current is None:
            to = "InvocationResponse" if what == "response" else "InvocationErrorResponse"
            connection.send_error(403, "InvalidStateTransition", _not_allowed("Ready", to))
            return
        if request_id != current.request_id:
            connection.send_error(400, "InvalidRequestID", "Invalid request ID")
            return
        self._current = None
        if what == "error":
            posted = _posted_error(request)
        elif ERROR_TYPE in request.trailers:
            posted = _failed_midway(request)
        elif request.is_too_large:
            posted = Posted(response_too_large(), "Function.ResponseSizeTooLarge", was_too_large=True)
        else:
            posted = Posted(bytes(request.body))
        if request.is_too_large:
            message = f"Exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
            connection.send_error(413, "RequestEntityTooLarge", message)
        else:
            connection.send(202, _ACCEPTED)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(posted)

    def _receive_init_error(self, connection: _Connection, request: _Request) -> None:
        if self.ready.done():
            connection.send_error(403, "InvalidStateTransition", _not_allowed("Ready", "InitError"))
            return
        connection.send(202, _ACCEPTED)
        self.ready.set_result(_posted_error(request))

    # -- connections -------------------------------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> bool:
        """Whether it may stay."""
        self._connections.add(connection)
        return len(self._connections) <= RUNTIME_CONNECTIONS_MAX

    def closed(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if self._waiting is connection:
            self._waiting = None


def _not_allowed(before: str, after: str) -> str:
    return f"State transition from {before} to {after} failed for runtime. Error: State transition is not allowed"


def _posted_error(request: _Request) -> Posted:
    """The error object as the runtime made it; one of AWS's shape where it sent none."""
    kind = request.headers.get(ERROR_TYPE, b"").decode("latin-1")
    body = bytes(request.body)
    if not kind:
        try:
            kind = msgspec.json.decode(body, type=_ErrorType).errorType
        except msgspec.DecodeError:
            pass
    kind = kind or "Runtime.Unknown"
    if not body or request.is_too_large:
        body = msgspec.json.encode({"errorMessage": "", "errorType": kind})
    return Posted(body, kind)


def _failed_midway(request: _Request) -> Posted:
    """A streamed response that broke off: its error stands in the trailers, base64."""
    kind = request.trailers[ERROR_TYPE].decode("latin-1") or "Runtime.Unknown"
    try:
        body = base64.b64decode(request.trailers.get(_ERROR_BODY, b""), validate=True)
    except binascii.Error:
        body = b""
    return Posted(body or msgspec.json.encode({"errorMessage": "", "errorType": kind}), kind)


@dataclass(slots=True)
class _Request:
    """`path` is what follows AWS's prefix; empty where that is missing."""

    method: bytes = b""
    path: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    is_too_large: bool = False
    on_chunk: OnChunk | None = None


class _Connection(asyncio.Protocol):
    """One connection of a runtime: a request, its answer, the next request."""

    __slots__ = ("_api", "_head_bytes", "_is_in_body", "_keeps_alive", "_parser", "_request", "_transport", "_url")

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = _Request()
        self._url = bytearray()
        self._head_bytes = 0
        self._is_in_body = False
        self._keeps_alive = True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's calls ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if not self._api.opened(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._api.closed(self)

    def data_received(self, data: bytes) -> None:
        if not self._is_in_body:
            self._head_bytes += len(data)
            if self._head_bytes > RUNTIME_HEADERS_BYTES_MAX:
                self.abort()
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()

    # -- the parser's calls ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._request = _Request()
        self._url.clear()
        self._is_in_body = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._request.trailers if self._is_in_body else self._request.headers)[name.lower()] = value

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method()
        path = self._url.decode("latin-1").partition("?")[0]
        request.path = path.removeprefix(_PREFIX) if path.startswith(_PREFIX) else ""
        request.on_chunk = self._api.chunks_of(request)
        self._keeps_alive = self._parser.should_keep_alive()
        self._is_in_body = True
        self._head_bytes = 0
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            self._write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        request = self._request
        if request.on_chunk is not None:
            request.on_chunk(body)
        elif len(request.body) + len(body) <= RESPONSE_BYTES_MAX:
            request.body += body
        else:
            request.is_too_large = True

    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._api.receive(self, self._request)

    # -- answers -----------------------------------------------------------------------------------------------------

    def send(self, status: int, body: bytes, content_type: bytes = b"application/json") -> None:
        connection = b"" if self._keeps_alive else b"Connection: close\r\n"
        head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
        self._write(head % (status, _PHRASES[status], content_type, len(body), connection) + body)
        self._close_unless_kept()

    def send_error(self, status: int, error_type: str, message: str) -> None:
        self.send(status, msgspec.json.encode({"errorMessage": message, "errorType": error_type}))

    def send_invocation(self, invocation: Invocation) -> None:
        pieces = invocation.payload or ()
        size = sum(len(memoryview(piece).cast("B")) if not isinstance(piece, bytes) else len(piece) for piece in pieces)
        lines = [
            "HTTP/1.1 200 OK",
            "Content-Type: application/json",
            f"Content-Length: {size}",
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}",
            f"Lambda-Runtime-Deadline-Ms: {invocation.deadline_ms}",
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.arn}",
            f"Lambda-Runtime-Trace-Id: {invocation.trace_id}",
        ]
        if invocation.client_context is not None:
            lines.append(f"Lambda-Runtime-Client-Context: {_on_one_line(invocation.client_context)}")
        if invocation.cognito_identity is not None:
            lines.append(f"Lambda-Runtime-Cognito-Identity: {_on_one_line(invocation.cognito_identity)}")
        if not self._keeps_alive:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode()
        if size <= _JOINED_BYTES_MAX:
            self._write(b"".join((head, *pieces)))
        else:
            self._write(head)
            for piece in pieces:
                self._write(piece)
        self._close_unless_kept()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close_unless_kept(self) -> None:
        if not self._keeps_alive and self._transport is not None:
            self._transport.close()


def _on_one_line(text: str) -> str:
    """JSON has line ends only between its values, where a space means the same."""
    return text.replace("\r", " ").replace("\n", " ")
