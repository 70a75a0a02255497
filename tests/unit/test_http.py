"""The HTTP/1.1 front end over real sockets on loopback, on both event loops."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from streamkit.api.http import Buffer, Handler, HttpLimits, HttpServer, Request, Response
from streamkit.clock import SystemClock

Run = Callable[[Coroutine[Any, Any, None]], None]

QUICK = HttpLimits(
    headers_timeout_ms=80, body_timeout_ms=80, idle_timeout_ms=80, send_timeout_ms=80, linger_timeout_ms=80
)
PATIENT_S = 10  # an answer that does not come fails the test instead of hanging it


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on a new event loop of either kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_it(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(main, PATIENT_S * 2))

    return run_it


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, speaking bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, has_body: bool = True) -> Answer:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENT_S)
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", "0")) if has_body else 0
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def closed(self) -> bytes:
        """What still came before the server closed."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENT_S)
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def serving(handler: Handler, http_limits: HttpLimits = QUICK, **options: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(handler, clock=SystemClock(), limits=http_limits, **options)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.drain(0)


@asynccontextmanager
async def connected(server: HttpServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port, ssl=tls, limit=1 << 16))
    try:
        yield client
    finally:
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something inside the server that no answer tells of."""
    deadline = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


def echo(request: Request) -> Response:
    return Response(200, bytes(request.body) or request.target.encode())


def post(body: bytes = b"abc", target: bytes = b"/", extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (target, extra, len(body), body)


def get(target: bytes = b"/", extra: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, extra)


def chunked(body: bytes, extra: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%b\r\n%b" % (extra, body)


# -- requests and answers --------------------------------------------------------------------------------------------


def test_a_request_is_handed_over_complete(run: Run) -> None:
    seen: list[Request] = []

    def keep(request: Request) -> Response:
        seen.append(request)
        return Response(201, b"made", b"text/css", ((b"x-amzn-RequestId", b"r-1"), (b"x-amz-id-2", b"i")))

    async def main() -> None:
        async with serving(keep) as server, connected(server) as client:
            answer = await client.ask(post(b"data", b"/a/b%20c?d=e&f", b"X-Two: 1  \r\nx-two: 2\r\nX-Empty:\r\n"))
            assert answer.status == 201
            assert answer.body == b"made"
            assert answer.headers["x-amzn-RequestId"] == "r-1"
            assert answer.headers["x-amz-id-2"] == "i"
            assert answer.headers["Content-Type"] == "text/css"
            assert "Connection" not in answer.headers
            dated = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            assert abs(dated - time.time()) < 3

    run(main())
    (request,) = seen
    assert (request.method, request.target, request.version) == ("POST", "/a/b%20c?d=e&f", "1.1")
    assert (request.path, request.query) == ("/a/b%20c", "d=e&f")
    assert request.headers == {b"host": b"a", b"x-two": b"1, 2", b"x-empty": b"", b"content-length": b"4"}
    assert request.body == b"data"
    assert request.peer.startswith("127.0.0.1:")


def test_a_connection_is_kept_for_the_next_request(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            for body in (b"one", b"two", b"x" * 100_000, b"three"):
                assert (await client.ask(post(body))).body == body
            assert len(server.connections) == 1

    run(main())


def test_a_request_may_arrive_byte_by_byte(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            for byte in post(b"abc") + chunked(b"2\r\nde\r\n0\r\n\r\n"):
                client.send(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"abc"
            assert (await client.answer()).body == b"de"

    run(main())


def test_chunks_are_joined_and_trailers_are_dropped(run: Run) -> None:
    seen: list[Request] = []

    def keep(request: Request) -> Response:
        seen.append(request)
        return echo(request)

    async def main() -> None:
        async with serving(keep) as server, connected(server) as client:
            body = b"3\r\nabc\r\n000A;name=value\r\n0123456789\r\n0\r\nX-Trailer: t\r\nHost: b\r\n\r\n"
            assert (await client.ask(chunked(body))).body == b"abc0123456789"
            assert (await client.ask(get(b"/next"))).body == b"/next"

    run(main())
    assert b"x-trailer" not in seen[0].headers
    assert seen[0].headers[b"host"] == b"a"


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time(run: Run) -> None:
    async def main() -> None:
        waiting: list[asyncio.Future[Response]] = []
        loop = asyncio.get_running_loop()

        def wait(request: Request) -> asyncio.Future[Response] | Response:
            if request.target == "/now":
                return Response(200, b"now")
            waiting.append(loop.create_future())
            return waiting[-1]

        async with serving(wait, HttpLimits()) as server, connected(server) as client:
            client.send(get(b"/1") + get(b"/now") + post(b"x") + get(b"/now"))
            await until(lambda: bool(waiting))
            await asyncio.sleep(0.02)
            assert len(waiting) == 1, "the second was started before the first was answered"
            waiting[0].set_result(Response(200, b"first"))
            assert [(await client.answer()).body for _ in range(2)] == [b"first", b"now"]
            waiting[1].set_result(Response(200, b"second"))
            assert [(await client.answer()).body for _ in range(2)] == [b"second", b"now"]

    run(main())


def test_however_many_requests_are_pipelined_few_are_parsed_before_their_turn(run: Run) -> None:
    async def main() -> None:
        first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def wait_once(request: Request) -> asyncio.Future[Response] | Response:
            return first if request.target == "/0" else echo(request)

        http_limits = HttpLimits()
        async with serving(wait_once, http_limits) as server, connected(server) as client:
            count = 20_000
            client.send(b"".join(get(b"/%d" % index) for index in range(count)))
            await asyncio.sleep(0.05)
            (connection,) = server.connections
            assert len(connection._reader.ready) <= http_limits.pipelined_requests_max + 2
            first.set_result(Response(200, b"/0"))
            for index in range(count):
                assert (await client.answer()).body == b"/%d" % index

    run(main())


def test_large_bodies_waiting_behind_a_slow_request_stop_the_reading(run: Run) -> None:
    async def main() -> None:
        first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def wait_once(request: Request) -> asyncio.Future[Response] | Response:
            return first if request.target == "/0" else Response(200, b"%d" % len(request.body))

        body_bytes = 100_000
        async with (
            serving(wait_once, HttpLimits(body_bytes_max=body_bytes)) as server,
            connected(server) as client,
        ):
            client.send(get(b"/0") + post(b"x" * body_bytes) * 100)
            await asyncio.sleep(0.05)
            (connection,) = server.connections
            assert sum(len(request.body) for request in connection._reader.ready) <= 4 * body_bytes
            first.set_result(Response(200))
            assert (await client.answer()).status == 200
            for _ in range(100):
                assert (await client.answer()).body == b"100000"

    run(main())


def test_http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            async with connected(server) as client:
                answer = await client.ask(b"GET /old HTTP/1.0\r\n\r\n")
                assert (answer.body, answer.headers["Connection"]) == (b"/old", "close")
                assert await client.closed() == b""
            async with connected(server) as client:
                answer = await client.ask(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert answer.headers["Connection"] == "keep-alive"
                assert (await client.ask(get())).status == 200

    run(main())


def test_an_upgrade_is_refused_for_what_any_request_is_refused_for(run: Run) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    assert_refused(run, post(extra=upgrade + b"Expect: 200-ok\r\n"), 417)
    assert_refused(run, chunked(b"x", upgrade), 400)
    assert_refused(run, b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: 99999999\r\n\r\n" % upgrade, 413)


def test_nothing_is_answered_after_a_connection_that_was_to_close(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            client.send(get(b"/1") + get(b"/2", b"Connection: close\r\n") + get(b"/3"))
            assert "Connection" not in (await client.answer()).headers
            assert (await client.answer()).headers["Connection"] == "close"
            assert await client.closed() == b""

    run(main())


def test_the_handler_may_close_the_connection(run: Run) -> None:
    async def main() -> None:
        async with (
            serving(lambda request: Response(400, b"enough", close=True)) as server,
            connected(server) as client,
        ):
            answer = await client.ask(get() + get())
            assert (answer.status, answer.headers["Connection"]) == (400, "close")
            assert await client.closed() == b""

    run(main())


def test_an_answer_to_head_has_the_length_and_no_body(run: Run) -> None:
    async def main() -> None:
        async with (
            serving(lambda request: Response(200, [b"abc"] if request.query else b"abc")) as server,
            connected(server) as client,
        ):
            for target in (b"/", b"/?list"):
                client.send(get(target).replace(b"GET", b"HEAD"))
                assert (await client.answer(has_body=False)).headers["Content-Length"] == "3"
            assert (await client.ask(get())).body == b"abc"

    run(main())


def test_a_target_in_absolute_form_is_served_by_its_path(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            assert (await client.ask(get(b"http://a:1/b?c=/d"))).body == b"/b?c=/d"
            assert (await client.ask(get(b"http://a?c=/d"))).body == b"/?c=/d"
            assert (await client.ask(get(b"*").replace(b"GET", b"OPTIONS"))).body == b"*"

    run(main())


def test_an_upgrade_is_ignored_and_its_body_is_kept(run: Run) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"

    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            client.send(get(b"/1", upgrade) + post(b"body", b"/", upgrade) + get(b"/3"))
            assert [(await client.answer()).body for _ in range(3)] == [b"/1", b"body", b"/3"]
            client.send(chunked(b"", upgrade))
            await asyncio.sleep(0.01)
            client.send(b"3\r\nabc\r\n0\r\n\r\n")
            assert (await client.answer()).body == b"abc"

    run(main())


# -- large answers ---------------------------------------------------------------------------------------------------


def test_a_large_answer_of_many_buffers_arrives_as_it_is(run: Run) -> None:
    buffers: list[Buffer] = [
        b"head",
        bytearray(b"x" * 5_000_000),
        memoryview(b"0123456789" * 1_000_000)[7:],
        b"",
        b"tail" * 100,
    ]

    async def main() -> None:
        async with serving(lambda request: Response(200, buffers)) as server, connected(server) as client:
            for _ in range(2):
                assert (await client.ask(get())).body == b"".join(buffers)
            assert (await client.ask(get())).headers["Content-Length"] == str(sum(map(len, buffers)))

    run(main())


def test_a_reader_that_stalls_stops_the_answers_and_the_reading(run: Run) -> None:
    count = 0

    def large(request: Request) -> Response:
        nonlocal count
        count += 1
        return Response(200, b"x" * 1_000_000)

    async def main() -> None:
        async with serving(large, HttpLimits()) as server, connected(server) as client:
            client.send(get() * 100)
            await asyncio.sleep(0.1)
            (connection,) = server.connections
            assert count < 15, "answers were made for a reader that takes none"
            assert connection._transport.get_write_buffer_size() < 1_000_000
            for _ in range(100):
                assert len((await client.answer()).body) == 1_000_000
        assert count == 100

    run(main())


# -- Expect ----------------------------------------------------------------------------------------------------------


def test_100_continue_is_sent_before_the_body_is_read(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            head, body = post(b"abc", extra=b"Expect: 100-Continue\r\n").split(b"\r\n\r\n")
            assert await client.ask(head + b"\r\n\r\n") == Answer(100, {}, b"")
            assert (await client.ask(body)).body == b"abc"

    run(main())


def test_100_continue_waits_for_the_answers_before_it(run: Run) -> None:
    async def main() -> None:
        first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        answers = [first]
        async with (
            serving(lambda request: answers.pop() if answers else echo(request), HttpLimits()) as server,
            connected(server) as client,
        ):
            client.send(get() + post(b"abc", extra=b"Expect: 100-continue\r\n")[:-3])
            await asyncio.sleep(0.02)
            first.set_result(Response(200, b"first"))
            assert (await client.answer()).body == b"first"
            assert (await client.answer()).status == 100
            assert (await client.ask(b"abc")).body == b"abc"

    run(main())


def test_another_expectation_fails_with_417(run: Run) -> None:
    assert_refused(run, post(extra=b"Expect: 200-ok\r\n"), 417)


def test_a_body_over_the_cap_gets_413_instead_of_100(run: Run) -> None:
    assert_refused(run, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413)


# -- refusals --------------------------------------------------------------------------------------------------------


def assert_refused(run: Run, data: bytes, status: int, http_limits: HttpLimits = QUICK) -> None:
    """The bytes get this status, once, and the connection is closed; a request before them is answered first."""
    handled: list[str] = []

    def keep(request: Request) -> Response:
        handled.append(request.target)
        return Response(200)

    async def main() -> None:
        async with serving(keep, http_limits) as server:
            for first in (b"", get(b"/before")):
                async with connected(server) as client:
                    client.send(first + data)
                    if first:
                        assert (await client.answer()).status == 200
                    answer = await client.answer()
                    assert (answer.status, answer.headers["Connection"]) == (status, "close")
                    assert await client.closed() == b""

    run(main())
    assert handled == ["/before"]


SMUGGLED = {
    "length and coding": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"Content-Length: +3\r\n\r\nabc",
    "a negative length": b"Content-Length: -3\r\n\r\nabc",
    "an empty length": b"Content-Length:\r\n\r\nabc",
    "a hexadecimal length": b"Content-Length: 0x3\r\n\r\nabc",
    "a length beyond 64 bits": b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "a length in the trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\nabc",
    "another coding": b"Transfer-Encoding: gzip\r\n\r\nabc",
    "another coding before chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding behind chunked": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a coding that resembles chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding behind a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"X: a\r\n\tb\r\n\r\n",
    "a blank before the colon": b"Content-Length : 3\r\n\r\nabc",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the name": b" X: a\r\n\r\n",
    "a header without a colon": b"nonsense\r\n\r\n",
    "a header without a name": b": a\r\n\r\n",
    "NUL in a value": b"X: a\x00b\r\n\r\n",
    "a control character in a name": b"X\x01: b\r\n\r\n",
    "a bare line feed behind a header": b"X: a\nContent-Length: 3\r\n\r\nabc",
    "a bare line feed at the end": b"X: a\r\n\n",
    "a bare carriage return": b"X: a\rContent-Length: 3\r\n\r\nabc",
    "a doubled carriage return": b"X: a\r\r\n\r\n",
    "a chunk size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a blank behind the chunk size": b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    "a chunk size that ends in a line feed": b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "a line feed in a chunk extension": b"Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "a second host": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLED)
def test_a_request_that_two_servers_could_read_differently_is_refused(run: Run, shape: str) -> None:
    assert_refused(run, b"POST /smuggled HTTP/1.1\r\nHost: a\r\n" + SMUGGLED[shape], 400)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_what_is_not_our_http_is_refused(run: Run, data: bytes, status: int) -> None:
    assert_refused(run, data, status)


SMALL = HttpLimits(body_bytes_max=1000, headers_bytes_max=1000, headers_count_max=10, request_line_bytes_max=500)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"/" + b"x" * 500), 414),
        (b"GET /" + b"x" * 600, 414),
        (get(extra=b"X: %b\r\n" % (b"x" * 1000)), 431),
        (get(extra=b"X: 1\r\n" * 10), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1001, 431),
        (b"GET / HTTP/1.1\r\n" + b"x" * 1001, 431),
        (b"GET" + b" " * 1001, 431),
        (post(b"x" * 1001), 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", 413),
        (chunked(b"1F4\r\n%b\r\n" % (b"x" * 500) * 3), 413),
    ],
)
def test_what_is_too_large_is_refused_with_its_own_status(run: Run, data: bytes, status: int) -> None:
    assert_refused(run, data, status, SMALL)


@pytest.mark.parametrize("start", [chunked(b"0\r\nX: "), chunked(b"3;x="), b"GET / HTTP/1.1\r\nX: ", b"GET "])
def test_a_line_that_never_ends_is_refused_however_it_is_cut(run: Run, start: bytes) -> None:
    async def main() -> None:
        async with serving(echo, SMALL) as server, connected(server) as client:
            client.send(start)
            for _ in range(60):
                await asyncio.sleep(0)
                client.send(b"x" * 20)
            assert (await client.answer()).status in (414, 431)

    run(main())


def test_a_refused_client_that_still_sends_gets_to_read_why(run: Run) -> None:
    async def main() -> None:
        async with serving(echo, HttpLimits(body_bytes_max=1000)) as server, connected(server) as client:
            client.send(post(b"x" * 8_000_000))
            await client.writer.drain()
            assert (await client.answer()).status == 413

    run(main())


def test_a_refused_client_that_never_stops_sending_is_cut_off(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            client.send(b"nonsense\r\n\r\n")
            started = time.monotonic()
            while server.connections:
                client.send(b"x")
                await asyncio.sleep(0.005)
                assert time.monotonic() - started < 5

    run(main())


def test_the_http_2_preface_is_answered_with_505_however_it_is_cut(run: Run) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    async def main() -> None:
        async with serving(echo, HttpLimits()) as server:
            for cut in (0, 1, 3, 17, 23, 24):
                async with connected(server) as client:
                    client.send(preface[:cut])
                    await asyncio.sleep(0.005)
                    client.send(preface[cut:] + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
                    assert (await client.answer()).status == 505
                    assert await client.closed() == b""
            async with connected(server) as client:
                client.send(b"P")
                await asyncio.sleep(0.005)
                assert (await client.ask(post()[1:])).body == b"abc"

    run(main())


# -- failures of the handler -----------------------------------------------------------------------------------------


def test_a_handler_that_fails_is_a_logged_500_and_the_connection_lives(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def fail(request: Request) -> asyncio.Future[Response] | Response:
            if request.target == "/now":
                raise KeyError("secret")
            future: asyncio.Future[Response] = loop.create_future()
            if request.target == "/later":
                loop.call_soon(future.set_exception, KeyError("secret"))
            elif request.target == "/cancelled":
                loop.call_soon(future.cancel)
            else:
                future.set_result(Response(200, b"good"))
            return future

        async with serving(fail) as server, connected(server) as client:
            for target in (b"/now", b"/later", b"/cancelled"):
                answer = await client.ask(get(target))
                assert (answer.status, answer.body) == (500, b"internal error\n")
            assert (await client.ask(get())).body == b"good"

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.getMessage() for record in caplog.records] == ["request failed"] * 3
    assert all(record.exc_info for record in caplog.records)


def test_the_body_of_a_500_is_the_callers_choice_and_cannot_make_it_worse(run: Run) -> None:
    def fail(request: Request) -> Response:
        raise ValueError(request.target)

    def told(request: Request, error: BaseException) -> Response:
        if request.target == "/twice":
            raise error
        return Response(500, repr(error).encode(), b"application/json")

    async def main() -> None:
        async with serving(fail, on_error=told) as server, connected(server) as client:
            assert (await client.ask(get(b"/once"))).body == b"ValueError('/once')"
            assert (await client.ask(get(b"/twice"))).body == b"internal error\n"

    run(main())


# -- clients that go -------------------------------------------------------------------------------------------------


def test_a_waiting_handler_learns_that_the_client_went_away(run: Run) -> None:
    async def main() -> None:
        gone = asyncio.Event()
        late = asyncio.Event()
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        requests: list[Request] = []

        def wait(request: Request) -> asyncio.Future[Response]:
            assert not request.client_gone
            request.on_client_gone(gone.set)
            requests.append(request)
            return answer

        async with serving(wait) as server:
            async with connected(server) as client:
                client.send(get())
                await until(lambda: bool(requests))
                assert not gone.is_set()
            await asyncio.wait_for(gone.wait(), PATIENT_S)
            assert requests[0].client_gone
            requests[0].on_client_gone(late.set)
            assert late.is_set()
            answer.set_result(Response(200, b"to nobody"))
            await until(lambda: not server.connections)

    run(main())


def test_nobody_is_called_back_once_the_answer_is_given(run: Run) -> None:
    calls: list[str] = []

    def watch(request: Request) -> Response:
        request.on_client_gone(lambda: calls.append(request.target))
        return Response(200)

    async def main() -> None:
        async with serving(watch) as server:
            async with connected(server) as client:
                await client.ask(get())
            await until(lambda: not server.connections)

    run(main())
    assert calls == []


def test_a_client_that_closes_only_its_own_side_gets_its_answers(run: Run) -> None:
    async def main() -> None:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        async with (
            serving(lambda request: answer if request.target == "/wait" else echo(request)) as server,
            connected(server) as client,
        ):
            client.send(get(b"/wait") + get(b"/next"))
            client.writer.write_eof()
            await asyncio.sleep(0.02)
            answer.set_result(Response(200, b"waited"))
            assert (await client.answer()).body == b"waited"
            assert (await client.answer()).body == b"/next"
            assert await client.closed() == b""

    run(main())


# -- timeouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        b"GET",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        post()[:-1],
        chunked(b""),
        chunked(b"3\r\nab"),
        chunked(b"0\r\n"),
    ],
)
def test_a_request_that_stops_arriving_is_given_up_with_408(run: Run, start: bytes) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            started = time.monotonic()
            assert (await client.ask(start)).status == 408
            assert 0.08 <= time.monotonic() - started < 2
            assert await client.closed() == b""

    run(main())


def test_headers_that_trickle_in_have_one_deadline(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            client.send(b"GET / HTTP/1.1\r\n")
            answer = asyncio.ensure_future(client.answer())
            while not answer.done():
                client.send(b"X: y\r\n")
                await asyncio.sleep(0.01)
            assert (await answer).status == 408

    run(main())


def test_a_body_that_makes_progress_may_take_longer_than_the_timeout(run: Run) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            body = b"x" * 15
            client.send(post(body)[: -len(body)])
            for _ in body:
                await asyncio.sleep(0.02)
                client.send(b"x")
            assert (await client.answer()).body == body

    run(main())


@pytest.mark.parametrize("start", [b"", b"\r\n", b"P", get()])
def test_an_idle_connection_is_closed_without_a_word(run: Run, start: bytes) -> None:
    async def main() -> None:
        async with serving(echo) as server, connected(server) as client:
            client.send(start)
            if start == get():
                assert (await client.answer()).status == 200
            assert await client.closed() == b""

    run(main())


def test_a_handler_may_take_longer_than_every_timeout(run: Run) -> None:
    async def main() -> None:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.3, answer.set_result, Response(200, b"slow"))
        async with serving(lambda request: answer) as server, connected(server) as client:
            assert (await client.ask(get())).body == b"slow"

    run(main())


def test_a_reader_that_takes_nothing_is_cut_off(run: Run) -> None:
    async def main() -> None:
        async with (
            serving(lambda request: Response(200, b"x" * 50_000_000)) as server,
            connected(server) as client,
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(get())
            await until(lambda: bool(server.connections))
            await until(lambda: not server.connections)

    run(main())


def test_a_slow_reader_that_takes_something_is_not_cut_off(run: Run) -> None:
    async def main() -> None:
        size = 30_000_000
        started = time.monotonic()
        async with (
            serving(lambda request: Response(200, b"x" * size), HttpLimits(send_timeout_ms=200)) as server,
            connected(server) as client,
        ):
            client.send(get())
            received = 0
            while piece := await client.reader.read(1 << 20):
                received += len(piece)
                if received > size:
                    break
                await asyncio.sleep(0.005)
            assert received > size
            assert time.monotonic() - started > 0.3

    run(main())


# -- the server ------------------------------------------------------------------------------------------------------


def test_a_connection_over_the_bound_is_told_503_and_closed(run: Run) -> None:
    async def main() -> None:
        async with serving(echo, HttpLimits(connections_max=2)) as server:
            async with connected(server) as one, connected(server) as two, connected(server) as three:
                assert (await three.answer()).status == 503
                assert await three.closed() == b""
                assert (await one.ask(get())).status == 200
                assert (await two.ask(get())).status == 200
            async with connected(server) as again:
                assert (await again.ask(get())).status == 200

    run(main())


def test_draining_answers_what_has_begun_and_closes_the_rest(run: Run) -> None:
    async def main() -> None:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        server = HttpServer(lambda request: answer if request.target == "/wait" else echo(request), clock=SystemClock())
        await server.start("127.0.0.1", 0)
        async with connected(server) as idle, connected(server) as waiting, connected(server) as sending:
            assert (await idle.ask(get())).status == 200
            waiting.send(get(b"/wait") + get(b"/next"))
            sending.send(post()[:-1])
            await asyncio.sleep(0.02)
            drained = asyncio.ensure_future(server.drain(5_000))
            assert await idle.closed() == b""
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection("127.0.0.1", server.port)
            assert not drained.done()
            answer.set_result(Response(200, b"waited"))
            assert (await waiting.answer()).body == b"waited"
            last = await waiting.answer()
            assert (last.body, last.headers["Connection"]) == (b"/next", "close")
            assert await waiting.closed() == b""
            assert (await sending.ask(b"c")).body == b"abc"
            await asyncio.wait_for(drained, PATIENT_S)

    run(main())


def test_draining_ends_when_its_time_is_up(run: Run) -> None:
    async def main() -> None:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        server = HttpServer(lambda request: answer, clock=SystemClock())
        await server.start("127.0.0.1", 0)
        async with connected(server) as client:
            client.send(get())
            await asyncio.sleep(0.02)
            started = time.monotonic()
            await server.drain(50)
            assert 0.04 < time.monotonic() - started < 2
            assert await client.closed() == b""

    run(main())


def test_draining_lets_a_large_answer_go_out_and_then_closes(run: Run) -> None:
    async def main() -> None:
        server = HttpServer(lambda request: Response(200, b"x" * 20_000_000), clock=SystemClock())
        await server.start("127.0.0.1", 0)
        async with connected(server) as client:
            client.send(get())
            await asyncio.sleep(0.02)
            drained = asyncio.ensure_future(server.drain(5_000))
            assert len((await client.answer()).body) == 20_000_000
            assert await client.closed() == b""
            await asyncio.wait_for(drained, PATIENT_S)

    run(main())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and a client that trusts it."""
    directory: Path = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


def test_tls_serves_the_same(run: Run, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def main() -> None:
        server = HttpServer(lambda request: Response(200, [request.body] * 30), clock=SystemClock(), limits=QUICK)
        await server.start("127.0.0.1", 0, tls[0])
        async with connected(server, tls[1]) as client:
            for body in (b"a", b"x" * 300_000):
                assert (await client.ask(post(body))).body == body * 30
            assert (await client.ask(b"nonsense\r\n\r\n")).status == 400
            assert await client.closed() == b""
        await server.drain(1_000)

    run(main())
