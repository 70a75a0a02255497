"""A request and its answer, as handlers see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview
Body = bytes | Sequence[Buffer] | AsyncIterator[bytes]


class Connection(Protocol):
    """What a request knows of where it came from."""

    client_gone: bool

    def watch(self, callback: Callable[[], None]) -> None: ...


class Request:
    """One request, complete with its body.

    Header names are in lower case; the values of a repeated header are joined with a comma and a space. `path` is
    still percent-encoded. `body` is a bytearray where it arrived in pieces.
    """

    __slots__ = (
        "body",
        "connection",
        "headers",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "target",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[bytes, bytes],
        body: bytes | bytearray = b"",
        peer: str = "",
        version: str = "1.1",
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.peer = peer
        self.version = version
        self.keep_alive = keep_alive
        self.connection: Connection | None = None

    @property
    def client_gone(self) -> bool:
        """Whether the client closed its side, so that nobody may be left to read the answer."""
        return self.connection is not None and self.connection.client_gone

    def on_client_gone(self, callback: Callable[[], None]) -> None:
        """Calls back once if the client goes away before the answer is given; at once if it has gone already."""
        if self.client_gone:
            callback()
        elif self.connection is not None:
            self.connection.watch(callback)


class Response:
    """An answer. The server adds Date and what tells the body's length; everything else is the caller's.

    `body` is one bytes object, or buffers of bytes that are sent one after the other and must not change meanwhile;
    they are neither joined nor copied as a whole. Or it is an asynchronous iterator of pieces, sent in chunks: it is
    asked for a piece when the one before was taken, and closed (`aclose`) when it ends and when the client goes, for
    which a client that closes only its own side is taken, too. If it fails, the connection is closed so that the
    client sees that something is missing.

    Header names and values are written as they are. `headers` may also be lines that are ready to be written, each
    ended by CRLF. An answer of status 204 or 304 has no body, whatever is given.
    """

    __slots__ = ("body", "close", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: Body = b"",
        content_type: bytes = b"text/plain",
        headers: Sequence[tuple[bytes, bytes]] | bytes = (),
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.close = close


class Deferred:
    """An answer that comes later. What a future does for one callback, at a fraction of its cost: the answer is written
    in the call that gives it, not in a later turn of the loop."""

    __slots__ = ("_callback", "_response")

    def __init__(self) -> None:
        self._callback: Callable[[Response], None] | None = None
        self._response: Response | None = None

    def answer(self, response: Response) -> None:
        """Gives the answer, once, on the event loop."""
        self._response = response
        if self._callback is not None:
            self._callback(response)

    def then(self, callback: Callable[[Response], None]) -> None:
        self._callback = callback
        if self._response is not None:
            callback(self._response)
