"""An object store on loopback (moto's server, in this process), and what a bad network does to it.

`FaultProxy` stands between a client and the store, and does with each request what its `plan` says next.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION: Final = "us-east-1"
ACCESS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_READ_BYTES: Final = 65_536


class ObjectStore:
    """moto's S3. `settings` are what `Surroundings.object_store` takes."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    @property
    def settings(self) -> Mapping[str, str]:
        return self.settings_at(self.endpoint)

    def settings_at(self, endpoint: str) -> Mapping[str, str]:
        """The same credentials for the store's address through something else."""
        return {
            "endpoint": endpoint,
            "region": REGION,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }

    @contextmanager
    def client(self) -> Iterator[Any]:
        """boto3, which nobody here wrote."""
        made = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        try:
            yield made
        finally:
            made.close()

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object of a bucket, as boto3 reads it."""
        found = {}
        with self.client() as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", ()):
                    found[entry["Key"]] = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        return found

    def head(self, bucket: str, key: str) -> Mapping[str, Any]:
        with self.client() as client:
            answer: Mapping[str, Any] = client.head_object(Bucket=bucket, Key=key)
        return answer

    def make_bucket(self, bucket: str) -> None:
        """Every write of a name is kept, as a version: see `versions`."""
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def versions(self, bucket: str) -> Counter[str]:
        """How often each key was written."""
        with self.client() as client:
            pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
            return Counter(version["Key"] for page in pages for version in page.get("Versions", ()))


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()


# -- faults ----------------------------------------------------------------------------------------------------------

Fault = Literal[
    "pass",  # nothing happens to it
    "cut",  # the connection is reset in the middle of the request; nothing of it reached the store
    "stall",  # it is read, never answered, and never reaches the store
    "lose",  # it reaches the store, and the connection is reset instead of the answer
    "slow down",  # it is answered with 503
    "fail",  # it is answered with 500
    "deny",  # it is answered with 403
    "conflict",  # it is answered with 409, as S3 does while another conditional write of the name is under way
    "no conditions",  # it is answered with 501 if it has a condition
]

_ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "slow down": ("503 Slow Down", "SlowDown"),
    "fail": ("500 Internal Server Error", "InternalError"),
    "deny": ("403 Forbidden", "AccessDenied"),
    "conflict": ("409 Conflict", "ConditionalRequestConflict"),
    "no conditions": ("501 Not Implemented", "NotImplemented"),
}


@dataclass
class Request:
    """As it came: method and path, headers by their names in lower case."""

    line: str
    headers: dict[str, str]
    raw: bytes
    body: bytes = b""


@dataclass
class FaultProxy:
    """One request after the other on each connection. `plan` says what happens to the next ones; when it is at its
    end, `otherwise` does. `seen` are the requests that came, with what was done to each; `headers` those of the
    requests that were read."""

    port: int
    otherwise: Fault = "pass"
    plan: deque[Fault] = field(default_factory=deque)
    seen: list[tuple[str, Fault]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def then(self, *faults: Fault) -> None:
        self.plan.extend(faults)

    def next_fault(self) -> Fault:
        return self.plan.popleft() if self.plan else self.otherwise


@contextmanager
def fault_proxy(store: ObjectStore, plan: Iterable[Fault] = ()) -> Iterator[FaultProxy]:
    """A proxy in front of a store; its connections end with it."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultProxy(listener.getsockname()[1], plan=deque(plan))
    over = threading.Event()
    host, _, port = store.endpoint.removeprefix("http://").partition(":")

    def accept() -> None:
        while not over.is_set():
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=_serve, args=(proxy, connection, (host, int(port)), over), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)


def _serve(proxy: FaultProxy, connection: socket.socket, store: tuple[str, int], over: threading.Event) -> None:
    with connection:
        connection.settimeout(30)
        try:
            while not over.is_set():
                if not connection.recv(1, socket.MSG_PEEK):
                    return
                answer = _serve_one(proxy, connection, store, over)
                if answer is None:
                    # Reset, as by a machine that went away, and not closed as by a server that is done.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return
                connection.sendall(answer)
                if b"\r\nconnection: close\r\n" in answer.lower():
                    return
        except OSError:
            return


def _serve_one(
    proxy: FaultProxy, connection: socket.socket, store: tuple[str, int], over: threading.Event
) -> bytes | None:
    """The answer; None where the connection is to be reset."""
    fault = proxy.next_fault()
    if fault == "cut":
        line = connection.recv(_READ_BYTES).partition(b"\r\n")[0].decode("latin-1")
        proxy.seen.append((line, fault))
        return None
    request = _read_request(connection)
    if request is None:
        return None
    if fault == "no conditions" and "if-none-match" not in request.headers:
        fault = "pass"
    proxy.seen.append((request.line, fault))
    proxy.headers.append(request.headers)
    if fault == "stall":
        over.wait(30)
        return None
    if fault in _ANSWERS:
        status, code = _ANSWERS[fault]
        body = f"<Error><Code>{code}</Code><Message>asked for by the test</Message></Error>".encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body
    answer = _forward(request, store)
    return None if fault == "lose" else answer


def _read_request(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(_READ_BYTES)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    left = int(headers.get("content-length", "0")) - len(body)
    parts = [body]
    while left > 0:
        more = connection.recv(min(left, 1 << 20))
        if not more:
            return None
        parts.append(more)
        left -= len(more)
    return Request(lines[0], headers, head, b"".join(parts))


def _forward(request: Request, store: tuple[str, int]) -> bytes:
    """The store's answer, whole: moto closes its connections after each."""
    with socket.create_connection(store, timeout=30) as upstream:
        upstream.sendall(request.raw + b"\r\nConnection: close\r\n\r\n" + request.body)
        parts = []
        while more := upstream.recv(1 << 20):
            parts.append(more)
    return b"".join(parts)
