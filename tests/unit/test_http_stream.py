"""Bodies that come piece by piece, over real sockets: chunks, back-pressure, clients that go, failures, draining."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from streamkit.api.http import Deferred, Handler, HttpLimits, HttpServer, Request, Response
from streamkit.clock import SystemClock
from tests.unit.test_http import PATIENT_S, Client, Run, connected, get, run, serving, until

__all__ = ["run"]  # a fixture


class Pieces:
    """Gives pieces as it is asked for them, and remembers what happened to it."""

    def __init__(self, *pieces: bytes, error: Exception | None = None, endless: bytes = b"") -> None:
        self._pieces = [*pieces]
        self._error = error
        self._endless = endless
        self.asked_count = 0
        self.waiting: asyncio.Event | None = None  # waits for it before every piece
        self.closed = asyncio.Event()
        self.cancelled = False

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        self.asked_count += 1
        if self.waiting is not None:
            try:
                await self.waiting.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        if self._endless:
            return self._endless
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


def with_body(pieces: AsyncIterator[bytes], status: int = 200) -> Handler:
    return lambda request: Response(status, pieces) if request.target != "/next" else Response(200, b"next")


async def head_of(client: Client) -> bytes:
    return await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), PATIENT_S)


async def chunks_of(client: Client) -> list[bytes]:
    """To the last chunk; IncompleteReadError where the connection ends before."""
    chunks: list[bytes] = []
    while True:
        size = int(await asyncio.wait_for(client.reader.readuntil(b"\r\n"), PATIENT_S), 16)
        chunk = await asyncio.wait_for(client.reader.readexactly(size + 2), PATIENT_S)
        assert chunk.endswith(b"\r\n")
        if not size:
            return chunks
        chunks.append(chunk[:-2])


def test_pieces_arrive_as_chunks_and_the_connection_goes_on(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"one", b"", b"x" * 100_000, b"two")
        async with serving(with_body(pieces)) as server, connected(server) as client:
            client.send(get() + get(b"/next"))
            head = await head_of(client)
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert b"Content-Length" not in head
            assert await chunks_of(client) == [b"one", b"x" * 100_000, b"two"], "an empty piece would end the body"
            assert (await client.answer()).body == b"next"
            assert pieces.closed.is_set()

    run(main())


def test_a_generator_may_give_the_body_and_a_deferred_answer_may_have_one(run: Run) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.01)
        yield b"b"

    async def main() -> None:
        answer = Deferred()
        async with serving(lambda request: answer) as server, connected(server) as client:
            client.send(get())
            await asyncio.sleep(0.01)
            answer.answer(Response(200, pieces()))
            await head_of(client)
            assert await chunks_of(client) == [b"a", b"b"]

    run(main())


def test_a_piece_is_sent_before_the_next_is_there(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"early", b"late")
        pieces.waiting = asyncio.Event()
        pieces.waiting.set()
        async with serving(with_body(pieces)) as server, connected(server) as client:
            client.send(get())
            await head_of(client)
            pieces.waiting.clear()
            assert await client.reader.readexactly(10) == b"5\r\nearly\r\n"
            pieces.waiting.set()
            assert await chunks_of(client) == [b"late"]

    run(main())


def test_http_1_0_gets_the_body_to_the_end_of_the_connection(run: Run) -> None:
    async def main() -> None:
        async with serving(with_body(Pieces(b"one", b"two"))) as server, connected(server) as client:
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head = await head_of(client)
            assert b"Connection: close" in head
            assert b"Transfer-Encoding" not in head
            assert await client.closed() == b"onetwo"

    run(main())


@pytest.mark.parametrize(
    ("method", "status", "framing"), [(b"HEAD", 200, b"Transfer-Encoding: chunked"), (b"GET", 204, None)]
)
def test_where_no_body_may_be_the_pieces_are_closed_unread(
    run: Run, method: bytes, status: int, framing: bytes | None
) -> None:
    async def main() -> None:
        pieces = Pieces(b"one")
        async with serving(with_body(pieces, status)) as server, connected(server) as client:
            client.send(get().replace(b"GET", method))
            head = await head_of(client)
            assert (framing or b"Transfer-Encoding") in head or framing is None
            assert framing is not None or b"Transfer-Encoding" not in head
            await asyncio.wait_for(pieces.closed.wait(), PATIENT_S)
            assert pieces.asked_count == 0
            assert (await client.ask(get(b"/next"))).body == b"next"

    run(main())


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"", b"ignored", [b"ignored"]])
def test_an_answer_that_can_have_no_body_has_no_length(run: Run, status: int, body: bytes | list[bytes]) -> None:
    def answer(request: Request) -> Response:
        return Response(status, body) if request.target == "/" else Response(200, b"next")

    async def main() -> None:
        async with serving(answer) as server, connected(server) as client:
            client.send(get() + get(b"/next"))
            head = await head_of(client)
            assert head.startswith(b"HTTP/1.1 %d" % status)
            assert b"Content-Length" not in head
            assert (await client.answer()).body == b"next"

    run(main())


def test_a_reader_that_stalls_stops_the_pieces(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(endless=bytes(10_000))
        async with serving(with_body(pieces), HttpLimits()) as server, connected(server) as client:
            client.send(get())
            await head_of(client)
            count = -1
            while count != pieces.asked_count:  # until the buffers between us are full
                count = pieces.asked_count
                await asyncio.sleep(0.1)
            await client.reader.readexactly(5_000_000)
            await until(lambda: pieces.asked_count > count)
            assert not pieces.closed.is_set()
        await asyncio.wait_for(pieces.closed.wait(), PATIENT_S)

    run(main())


def test_a_piece_larger_than_any_buffer_arrives_whole(run: Run) -> None:
    async def main() -> None:
        large = bytes(range(256)) * 40_000
        async with serving(with_body(Pieces(large, large, b"end"))) as server, connected(server) as client:
            client.send(get())
            await head_of(client)
            assert await chunks_of(client) == [large, large, b"end"]

    run(main())


def test_a_client_that_goes_cancels_the_piece_that_is_waited_for(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"one")
        async with serving(with_body(pieces)) as server:
            async with connected(server) as client:
                client.send(get())
                await head_of(client)
                assert await client.reader.readexactly(8) == b"3\r\none\r\n"
                pieces.waiting = asyncio.Event()
                pieces._pieces.append(b"never")
            await asyncio.wait_for(pieces.closed.wait(), PATIENT_S)
            await until(lambda: not server.connections)

    run(main())


def test_a_client_that_goes_while_nothing_is_sent_is_noticed(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"never")
        pieces.waiting = asyncio.Event()
        async with serving(with_body(pieces)) as server:
            async with connected(server) as client:
                client.send(get())
                await head_of(client)
            await asyncio.wait_for(pieces.closed.wait(), PATIENT_S)
            assert pieces.cancelled

    run(main())


def test_a_client_that_went_before_the_answer_gets_no_piece(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"never")
        answer = Deferred()
        requests: list[Request] = []

        def wait(request: Request) -> Deferred:
            requests.append(request)
            return answer

        async with serving(wait) as server:
            async with connected(server) as client:
                client.send(get())
                await until(lambda: bool(requests))
            await until(lambda: requests[0].client_gone)
            answer.answer(Response(200, pieces))
            await asyncio.wait_for(pieces.closed.wait(), PATIENT_S)
            assert pieces.asked_count == 0
            await until(lambda: not server.connections)

    run(main())


def test_pieces_that_keep_a_cancel_to_themselves_end_at_the_next_one(run: Run) -> None:
    ended = asyncio.Event()

    async def stubborn() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            while True:
                try:
                    await asyncio.sleep(PATIENT_S * 2)
                except asyncio.CancelledError:
                    pass
                yield b"two"
        finally:
            ended.set()

    async def main() -> None:
        async with serving(with_body(stubborn())) as server:
            async with connected(server) as client:
                client.send(get())
                await head_of(client)
            await asyncio.wait_for(ended.wait(), PATIENT_S)

    run(main())


def test_a_body_that_fails_is_seen_to_be_cut(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        for request in (get(), get().replace(b"HTTP/1.1", b"HTTP/1.0")):
            pieces = Pieces(b"one", error=ValueError("broken"))
            async with serving(with_body(pieces)) as server, connected(server) as client:
                client.send(request)
                if b"HTTP/1.0" in request:
                    with pytest.raises(ConnectionResetError):
                        await asyncio.wait_for(client.reader.read(), PATIENT_S)
                else:
                    await head_of(client)
                    with pytest.raises(asyncio.IncompleteReadError):
                        await chunks_of(client)
                assert pieces.closed.is_set()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.getMessage() for record in caplog.records] == ["an answer broke off: GET /"] * 2


def test_draining_waits_for_a_body_and_then_closes(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"one", b"two")
        pieces.waiting = asyncio.Event()
        server = HttpServer(with_body(pieces), clock=SystemClock(), limits=HttpLimits())
        await server.start("127.0.0.1", 0)
        async with connected(server) as client:
            client.send(get())
            await head_of(client)
            drained = asyncio.create_task(server.drain(PATIENT_S * 1000))
            await asyncio.sleep(0.02)
            assert not drained.done()
            pieces.waiting.set()
            assert await chunks_of(client) == [b"one", b"two"]
            assert await client.closed() == b""
            await asyncio.wait_for(drained, PATIENT_S)

    run(main())


def test_draining_that_has_no_more_time_closes_the_body_before_it_returns(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"never")
        pieces.waiting = asyncio.Event()
        server = HttpServer(with_body(pieces), clock=SystemClock(), limits=HttpLimits())
        await server.start("127.0.0.1", 0)
        async with connected(server) as client:
            client.send(get())
            await head_of(client)
            await asyncio.wait_for(server.drain(20), PATIENT_S)
            assert pieces.closed.is_set()

    run(main())


def test_requests_behind_a_body_wait_for_its_end(run: Run) -> None:
    async def main() -> None:
        pieces = Pieces(b"one")
        pieces.waiting = asyncio.Event()
        async with serving(with_body(pieces)) as server, connected(server) as client:
            client.send(get())
            await head_of(client)
            client.send(get(b"/next") + b"BROKEN\r\n\r\n")
            await asyncio.sleep(0.02)
            pieces.waiting.set()
            assert await chunks_of(client) == [b"one"]
            assert (await client.answer()).body == b"next"
            assert (await client.answer()).status == 400

    run(main())
