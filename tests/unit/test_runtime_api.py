"""The Runtime API speaks AWS's protocol, to any client that speaks HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.functions.environments.port import Buffer, Invocation
from streamkit.functions.environments.runtime_api import RuntimeApi
from streamkit.model.limits import RESPONSE_BYTES_MAX, RUNTIME_CONNECTIONS_MAX, RUNTIME_HEADERS_BYTES_MAX

ID: Final = "8286a188-ba32-4475-8077-530cd35c09a9"
ARN: Final = "arn:aws:lambda:eu-central-1:123456789012:function:tested:$LATEST"
NEXT: Final = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE: Final = f"/2018-06-01/runtime/invocation/{ID}/response"
ERROR: Final = f"/2018-06-01/runtime/invocation/{ID}/error"
INIT_ERROR: Final = "/2018-06-01/runtime/init/error"
STREAMED: Final = ("Lambda-Runtime-Function-Response-Mode: streaming", "Transfer-Encoding: chunked")


def invocation(*payload: Buffer, **changes: Any) -> Invocation:
    values: dict[str, Any] = {
        "request_id": ID,
        "payload": payload or (b"{}",),
        "deadline_ms": 1_700_000_003_000,
        "arn": ARN,
        "trace_id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
        "timeout_ms": 3_000,
    }
    return Invocation(**values | changes)


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    if "Transfer-Encoding: chunked" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Client:
    """One connection of a runtime."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        return int(status.split()[1]), headers, body

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(request)
        return await self.answer()


class Stage:
    def __init__(self, api: RuntimeApi, address: str) -> None:
        self.api = api
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=2**24)
        self._writers.append(writer)
        return Client(reader, writer)

    async def running(self, **changes: Any) -> tuple[Client, asyncio.Future[Any]]:
        """A runtime that was handed an invocation."""
        client = await self.connect()
        answer = self.api.invoke(invocation(**changes))
        assert (await client.ask(NEXT))[0] == 200
        return client, answer

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.api.close()
        await asyncio.sleep(0)


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


def play(scenario: Scenario, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    async def main() -> None:
        api = RuntimeApi()
        stage = Stage(api, await api.listen())
        try:
            async with asyncio.timeout(20):
                await scenario(stage)
        finally:
            await stage.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.fixture(params=[None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return lambda scenario: play(scenario, request.param)


def test_a_runtime_waits_for_its_next_invocation_and_gets_all_of_it(run: Run) -> None:
    """The event as it is, and AWS's headers."""

    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        client.writer.write(NEXT)
        assert await stage.api.ready is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.reader.read(1)
        stage.api.invoke(
            invocation(
                b'{"a":',
                bytearray(b" "),
                memoryview(b"1}"),
                client_context='{\n"custom":\r\n{"k":"ü"}}',
                cognito_identity='{"cognitoIdentityId":"i"}',
            )
        )
        status, headers, body = await client.answer()
        assert (status, body) == (200, b'{"a": 1}')
        assert headers == {
            "Content-Type": "application/json",
            "Content-Length": "8",
            "Lambda-Runtime-Aws-Request-Id": ID,
            "Lambda-Runtime-Deadline-Ms": "1700000003000",
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
            "Lambda-Runtime-Client-Context": '{ "custom":  {"k":"ü"}}',
            "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"i"}',
        }

    run(scenario)


def test_headers_of_what_an_invocation_has_not_are_left_out(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        stage.api.invoke(invocation())
        _, headers, _ = await client.ask(NEXT)
        assert not [name for name in headers if "Client" in name or "Cognito" in name]

    run(scenario)


def test_an_event_of_megabytes_in_pieces_is_sent_as_they_follow(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        pieces: Sequence[Buffer] = [b"[", *[b"%d," % number * 10_000 for number in range(100)], b"0]"]
        stage.api.invoke(invocation(*pieces))
        _, _, body = await client.ask(NEXT)
        assert body == b"".join(pieces)

    run(scenario)


def test_responses_are_accepted_and_one_connection_serves_many_invocations(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        for number in range(3):
            answer = stage.api.invoke(invocation())
            assert (await client.ask(NEXT))[0] == 200
            status, headers, body = await client.ask(post(RESPONSE, b"%d" % number))
            assert (status, body) == (202, b'{"status":"OK"}\n')
            assert headers["Content-Type"] == "application/json"
            posted = await answer
            assert (posted.body, posted.error_type) == (b"%d" % number, "")

    run(scenario)


def test_a_connection_that_is_to_be_closed_is_closed_after_its_answer(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.invoke(invocation())
        for request in (
            NEXT.replace(b"Host: x", b"Connection: close"),
            post(RESPONSE, b"1", "Connection: close"),
        ):
            client = await stage.connect()
            status, headers, _ = await client.ask(request)
            assert status in (200, 202)
            assert headers["Connection"] == "close"
            assert await client.reader.read() == b""

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "body", "error_type", "payload"),
    [
        ((), b'{"errorMessage":"no","errorType":"Refused"}', "Refused", {"errorMessage": "no", "errorType": "Refused"}),
        (
            ("Lambda-Runtime-Function-Error-Type: Runtime.NoSuchHandler",),
            b'{"errorMessage":"no","errorType":"Other"}',
            "Runtime.NoSuchHandler",
            {"errorMessage": "no", "errorType": "Other"},
        ),
        (
            ("Lambda-Runtime-Function-Error-Type: Runtime.NoSuchHandler",),
            b"",
            "Runtime.NoSuchHandler",
            {"errorMessage": "", "errorType": "Runtime.NoSuchHandler"},
        ),
        ((), b'"text"', "Runtime.Unknown", "text"),
        ((), b"", "Runtime.Unknown", {"errorMessage": "", "errorType": "Runtime.Unknown"}),
    ],
)
def test_an_error_is_named_by_its_header_or_its_body(
    run: Run, headers: tuple[str, ...], body: bytes, error_type: str, payload: object
) -> None:
    """Its body is the payload; where there is none, one of AWS's shape is made."""

    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        assert (await client.ask(post(ERROR, body, *headers)))[0] == 202
        posted = await answer
        assert posted.error_type == error_type
        assert json.loads(posted.body) == payload

    run(scenario)


def test_an_error_of_init_ends_it(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        assert (await client.ask(post(INIT_ERROR, b'{"errorType":"Runtime.ImportModuleError"}')))[0] == 202
        posted = await stage.api.ready
        assert posted is not None
        assert (posted.error_type, posted.body) == (
            "Runtime.ImportModuleError",
            b'{"errorType":"Runtime.ImportModuleError"}',
        )

    run(scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status", "error_type"),
    [
        (post(RESPONSE.replace(ID, "00000000-0000-0000-0000-000000000000")), 400, "InvalidRequestID"),
        (post(ERROR.replace(ID, "00000000-0000-0000-0000-000000000000")), 400, "InvalidRequestID"),
        (NEXT, 403, "InvalidStateTransition"),
        (post(INIT_ERROR), 403, "InvalidStateTransition"),
    ],
    ids=["response of another", "error of another", "next before an answer", "init error after init"],
)
def test_what_does_not_fit_the_state_is_refused_and_changes_nothing(
    run: Run, request_bytes: bytes, status: int, error_type: str
) -> None:
    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        refused, _, body = await client.ask(request_bytes)
        assert (refused, json.loads(body)["errorType"]) == (status, error_type)
        assert not answer.done()
        assert (await client.ask(post(RESPONSE, b"1")))[0] == 202
        assert (await answer).body == b"1"

    run(scenario)


def test_a_second_answer_is_refused(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        assert (await client.ask(post(RESPONSE, b"1")))[0] == 202
        for path in (RESPONSE, ERROR):
            status, _, body = await client.ask(post(path, b"2"))
            assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")
        assert (await answer).body == b"1"

    run(scenario)


@pytest.mark.parametrize(
    "request_bytes",
    [
        NEXT.replace(b"2018-06-01", b"2015-03-31"),
        NEXT.replace(b"GET", b"PUT"),
        post("/2018-06-01/runtime/invocation"),
        post("/2020-01-01/extension/register"),
        NEXT.replace(b"invocation/next", b"restore/next"),
    ],
)
def test_other_paths_are_not_found(run: Run, request_bytes: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        assert (await client.ask(request_bytes))[0] == 404
        assert not stage.api.ready.done()

    run(scenario)


def test_a_response_may_have_six_mebibytes_and_a_hundred_bytes(run: Run) -> None:
    """One byte more is refused, and answered to the caller with AWS's error; the connection goes on."""

    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        assert (await client.ask(post(RESPONSE, b"x" * RESPONSE_BYTES_MAX)))[0] == 202
        assert (await answer).body == b"x" * RESPONSE_BYTES_MAX
        for headers in ((), ("Transfer-Encoding: chunked",)):
            answer = stage.api.invoke(invocation())
            await client.ask(NEXT)
            body = b"x" * (RESPONSE_BYTES_MAX + 1)
            status, _, refusal = await client.ask(
                post(RESPONSE, body if not headers else b"", *headers) + (chunk(body) + chunk(b"") if headers else b"")
            )
            assert (status, json.loads(refusal)["errorType"]) == (413, "RequestEntityTooLarge")
            posted = await answer
            assert (posted.error_type, posted.was_too_large) == ("Function.ResponseSizeTooLarge", True)
            assert json.loads(posted.body)["errorMessage"] == (
                "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
            )

    run(scenario)


def test_a_streamed_response_is_handed_on_as_it_comes(run: Run) -> None:
    """However long it gets."""

    async def scenario(stage: Stage) -> None:
        got: list[bytes] = []
        arrived = asyncio.Event()

        def take(piece: bytes) -> None:
            got.append(piece)
            arrived.set()

        client, answer = await stage.running(on_chunk=take)
        client.writer.write(post(RESPONSE, b"", *STREAMED))
        for piece in (b"one", b"two"):
            arrived.clear()
            client.writer.write(chunk(piece))
            await arrived.wait()
        assert got == [b"one", b"two"]
        assert not answer.done()
        big = b"x" * (RESPONSE_BYTES_MAX + 1)
        assert (await client.ask(chunk(big) + chunk(b"")))[0] == 202
        posted = await answer
        assert (posted.body, posted.error_type) == (b"", "")
        assert b"".join(got) == b"onetwo" + big

    run(scenario)


def test_a_streamed_response_is_joined_where_nobody_takes_its_pieces(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        assert (await client.ask(post(RESPONSE, chunk(b"one") + chunk(b"two") + chunk(b""), *STREAMED)))[0] == 202
        assert (await answer).body == b"onetwo"

    run(scenario)


def test_a_response_that_is_not_streamed_is_not_taken_in_pieces(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        got: list[bytes] = []
        client, answer = await stage.running(on_chunk=got.append)
        assert (await client.ask(post(RESPONSE, b"whole")))[0] == 202
        assert ((await answer).body, got) == (b"whole", [])

    run(scenario)


def test_a_streamed_response_that_breaks_off_fails_with_the_error_in_its_trailers(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        got: list[bytes] = []
        client, answer = await stage.running(on_chunk=got.append)
        error = b'{"errorMessage":"no","errorType":"Refused"}'
        end = b"0\r\nLambda-Runtime-Function-Error-Type: Refused\r\nLambda-Runtime-Function-Error-Body: %s\r\n\r\n"
        trailers = "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
        body = chunk(b"one") + end % base64.b64encode(error)
        assert (await client.ask(post(RESPONSE, body, *STREAMED, trailers)))[0] == 202
        posted = await answer
        assert (got, posted.error_type, posted.body) == ([b"one"], "Refused", error)

    run(scenario)


def test_a_client_that_asks_whether_to_go_on_is_told_so(run: Run) -> None:
    """As curl does before a long body."""

    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        head = post(RESPONSE, b"12", "Expect: 100-continue").removesuffix(b"12")
        client.writer.write(head)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"12"))[0] == 202
        assert (await answer).body == b"12"

    run(scenario)


def test_an_invocation_waits_for_a_runtime_that_has_lost_its_connection(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.connect()
        first.writer.write(NEXT)
        await stage.api.ready
        first.writer.transport.abort()
        await asyncio.sleep(0.1)
        answer = stage.api.invoke(invocation())
        second = await stage.connect()
        assert (await second.ask(NEXT))[0] == 200
        assert (await second.ask(post(RESPONSE, b"1")))[0] == 202
        assert (await answer).body == b"1"

    run(scenario)


def test_a_runtime_that_asks_again_has_done_with_the_answer_before(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client, _ = await stage.running()
        await client.ask(post(RESPONSE, b"1"))
        asked = asyncio.ensure_future(stage.api.asked())
        await asyncio.sleep(0.05)
        assert not asked.done()
        client.writer.write(NEXT)
        await asked

    run(scenario)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        NEXT.replace(b"Host: x", b"X: " + b"x" * (RUNTIME_HEADERS_BYTES_MAX + 1)),
        b"GET /" + b"x" * (RUNTIME_HEADERS_BYTES_MAX + 1),
        post(RESPONSE, b"zz\r\n", *STREAMED),
    ],
    ids=["no HTTP", "too long a header", "too long a path", "no chunk"],
)
def test_what_cannot_be_read_closes_its_connection_only(run: Run, sent: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        client.writer.write(sent)
        try:
            assert await client.reader.read() == b""
        except ConnectionResetError:
            pass
        other, answer = await stage.running()
        assert (await other.ask(post(RESPONSE, b"1")))[0] == 202
        assert (await answer).body == b"1"

    run(scenario)


def test_connections_are_bounded(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        clients = [await stage.connect() for _ in range(RUNTIME_CONNECTIONS_MAX)]
        stage.api.invoke(invocation())
        assert (await clients[-1].ask(NEXT))[0] == 200
        try:
            assert await (await stage.connect()).reader.read() == b""
        except ConnectionResetError:
            pass

    run(scenario)


def test_closing_ends_the_connections_that_wait(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        client = await stage.connect()
        client.writer.write(NEXT)
        await stage.api.ready
        stage.api.close()
        try:
            assert await client.reader.read() == b""
        except ConnectionResetError:
            pass
        with pytest.raises(OSError, match=r"Connect call failed|refused"):
            await stage.connect()

    run(scenario)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_requests_mean_the_same_however_they_are_cut(data: st.DataObject) -> None:
    """TCP may deliver them in any pieces."""
    request = data.draw(
        st.sampled_from(
            [
                post(RESPONSE, b"one two"),
                post(RESPONSE, chunk(b"one ") + chunk(b"two") + chunk(b""), *STREAMED),
                post(RESPONSE, b"one two", "Lambda-Runtime-Function-XRay-Error-Cause: {}"),
            ]
        )
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(request) - 1), max_size=6)))

    async def scenario(stage: Stage) -> None:
        client, answer = await stage.running()
        for start, stop in zip([0, *cuts], [*cuts, len(request)], strict=True):
            client.writer.write(request[start:stop])
            await client.writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        assert (await client.answer())[0] == 202
        assert (await answer).body == b"one two"

    play(scenario)
