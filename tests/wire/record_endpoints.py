"""Real HTTP servers that records are delivered to: an endpoint of Firehose's protocol, Splunk's event collector, and
the part of OpenSearch that takes bulk requests. Each does as it should, unless its script says what to do with the next
request instead."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import ssl
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import pyarrow as pa

from streamkit.delivery.destination import Sealed
from streamkit.delivery.records_format import RecordsEncoder
from streamkit.delivery.rows import IPC_SCHEMA
from streamkit.testing.clock import START_MS
from streamkit.testing.destination_contract import sealed_of


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # as it came


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = {"Content-Type": "application/json"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.server.endpoint.serve(request, self)

    def reply(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def hang_up(self) -> None:
        """Closes with a reset, as a process that dies with unread data does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    endpoint: Endpoint
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.endpoint.connections += 1
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away is what many tests are about


Act = Callable[["Endpoint", Request, _Handler], None]


class Endpoint:
    """Serves in a `with` statement. `script`: what is done with the next requests, one each."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: deque[Act] = deque()
        self.requests: list[Request] = []
        self.connections = 0
        self.is_out = False
        self.released = threading.Event()  # lets go who stalls
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.endpoint = self
        self._server.tls = tls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        scheme = "http" if self._server.tls is None else "https"
        return f"{scheme}://localhost:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def serve(self, request: Request, handler: _Handler) -> None:
        with self.lock:
            self.requests.append(request)
            act = None if self.is_out or not self.script else self.script.popleft()
        if self.is_out:
            handler.hang_up()
        elif act is not None:
            act(self, request, handler)
        else:
            handler.reply(self.accept(request))

    def accept(self, request: Request) -> Reply:
        """What one does that works."""
        raise NotImplementedError


# -- what may happen to a request -------------------------------------------------------------------------------------


def answers(status: int, body: bytes = b"", **headers: str) -> Act:
    """Takes nothing, and says this."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda endpoint, request, handler: handler.reply(
        Reply(status, body, named or {"Content-Type": "application/json"})
    )


def changes(change: Callable[[Reply], Reply]) -> Act:
    """Takes it, and gives a changed answer."""
    return lambda endpoint, request, handler: handler.reply(change(endpoint.accept(request)))


def loses_the_answer(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
    endpoint.accept(request)
    handler.hang_up()


def hangs_up(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
    handler.hang_up()


def stalls(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
    endpoint.released.wait(30)
    handler.close_connection = True


def says(raw: bytes) -> Act:
    """Something of its own, whether it is HTTP or not."""

    def act(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    return act


def drips(head: bytes, drop: bytes) -> Act:
    """The head, and then a drop every few milliseconds, without end."""

    def act(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(head)
            while not endpoint.released.wait(0.005):
                handler.wfile.write(drop)

    return act


def floods(head: bytes, wave: bytes) -> Act:
    """The head, and then waves as fast as they are taken, without end."""

    def act(endpoint: Endpoint, request: Request, handler: _Handler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(head)
            while not endpoint.released.is_set():
                handler.wfile.write(wave)

    return act


# -- the three of them ------------------------------------------------------------------------------------------------


class FirehoseEndpoint(Endpoint):
    """Remembers request ids, where `remembers` is set, and takes each once."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, remembers: bool = True) -> None:
        super().__init__(tls)
        self._remembers = remembers
        self._seen: set[str] = set()
        self.records: list[bytes] = []

    def accept(self, request: Request) -> Reply:
        body = decoded(request)
        identity = body["requestId"]
        assert identity == request.headers["x-amz-firehose-request-id"]
        with self.lock:
            if identity not in self._seen or not self._remembers:
                self._seen.add(identity)
                self.records += [base64.b64decode(record["data"], validate=True) for record in body["records"]]
        return Reply(200, json.dumps({"requestId": identity, "timestamp": body["timestamp"]}).encode())


def decoded(request: Request) -> dict[str, Any]:
    """The body of a request of Firehose's protocol."""
    is_compressed = request.headers.get("content-encoding") == "gzip"
    return cast(dict[str, Any], json.loads(gzip.decompress(request.body) if is_compressed else request.body))


class SplunkCollector(Endpoint):
    """Acknowledges what was sent after it was asked `asked_before_acknowledging` times. None: it has no
    acknowledgement for the token."""

    def __init__(self, asked_before_acknowledging: int | None = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._patience = asked_before_acknowledging
        self._asked: Counter[tuple[str, int]] = Counter()
        self._ids: Counter[str] = Counter()
        self.raw: list[bytes] = []
        self.events: list[Any] = []

    def accept(self, request: Request) -> Reply:
        if request.headers.get("authorization") != "Splunk secret-token":
            return splunk_says(403, 4, "Invalid token")
        channel = request.headers.get("x-splunk-request-channel")
        if channel is None:
            return splunk_says(400, 10, "Data channel is missing")
        path = request.path.partition("?")[0]
        if path.endswith("/ack"):
            return self._acknowledge(channel, json.loads(request.body)["acks"])
        if not request.body:
            return splunk_says(400, 5, "No data")
        if path.endswith("/event"):
            try:
                events = documents_of(request.body.decode())
            except ValueError:
                return splunk_says(400, 6, "Invalid data format")
            if not all(event.get("event") for event in events):
                return splunk_says(400, 12, "Event field is required")
            self.events += events
        else:
            self.raw.append(request.body)
        with self.lock:
            identity = self._ids[channel]
            self._ids[channel] += 1
        more = {} if self._patience is None else {"ackId": identity}
        return Reply(200, json.dumps({"text": "Success", "code": 0, **more}).encode())

    def _acknowledge(self, channel: str, ids: list[int]) -> Reply:
        if self._patience is None:
            return splunk_says(400, 14, "ACK is disabled")
        acks = {}
        with self.lock:
            for each in ids:
                acks[str(each)] = each < self._ids[channel] and self._asked[channel, each] >= self._patience
                self._asked[channel, each] += 1
        return Reply(200, json.dumps({"acks": acks}).encode())


def splunk_says(status: int, code: int, text: str) -> Reply:
    return Reply(status, json.dumps({"text": text, "code": code}).encode())


def documents_of(text: str) -> list[Any]:
    """JSON documents one after the other. Raises ValueError."""
    found = []
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


class BulkIndex(Endpoint):
    """Takes what has `"text": "poison"` under no circumstances. `busy`: how often each document is put off first."""

    def __init__(self, busy: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}  # by index and id
        self._busy = busy
        self._put_off: Counter[bytes] = Counter()
        self.body_bytes_max = 100 * 1024 * 1024

    def accept(self, request: Request) -> Reply:
        if len(request.body) > self.body_bytes_max:
            return Reply(413, b"", {})
        assert request.path.partition("?")[0].endswith("/_bulk")
        lines = request.body.split(b"\n")
        assert lines.pop() == b"", "a bulk request ends with a line feed"
        assert not len(lines) % 2
        with self.lock:
            items = [self._take(json.loads(lines[at]), lines[at + 1]) for at in range(0, len(lines), 2)]
        has_errors = any("error" in outcome for item in items for outcome in item.values())
        return Reply(200, json.dumps({"errors": has_errors, "items": items}).encode())

    def _take(self, action: dict[str, Any], source: bytes) -> dict[str, Any]:
        ((operation, target),) = action.items()
        identity = target.get("_id") or f"made-{len(self.documents)}"
        place = (target["_index"], identity)
        self._put_off[source] += 1
        if self._put_off[source] <= self._busy:
            return {operation: _error(429, "rejected_execution_exception", "the queue is full")}
        try:
            document = json.loads(source)
        except ValueError:
            return {operation: _error(400, "mapper_parsing_exception", "failed to parse")}
        if not isinstance(document, dict) or document.get("text") == "poison":
            return {operation: _error(400, "mapper_parsing_exception", "failed to parse field [text]")}
        if place in self.documents and operation == "create":
            return {operation: _error(409, "version_conflict_engine_exception", "document already exists")}
        self.documents[place] = document
        return {operation: {"status": 201}}


def _error(status: int, kind: str, reason: str) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


# -- what is sent -----------------------------------------------------------------------------------------------------


def seal(directory: Path, records: list[bytes], *, number: int = 1, arrived_ms: int | list[int] = START_MS) -> Sealed:
    """An object as the engine seals it for a destination of records."""
    count = len(records)
    columns = {
        "data": records,
        "arrived_ms": arrived_ms if isinstance(arrived_ms, list) else [arrived_ms] * count,
        "shard": [0] * count,
        "shard_created_s": [START_MS // 1000] * count,
        "offset": list(range(count)),
        "sub": [0] * count,
        "partition_key": [b"key"] * count,
    }
    pieces = pa.table(columns, schema=IPC_SCHEMA).to_batches(max_chunksize=1_000)
    path = directory / f"sealed-{number}"
    RecordsEncoder().write(pieces, path)
    return sealed_of(path, count, number=number)
