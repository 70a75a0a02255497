"""Functions and mappings that are stopped, reset, refused and led astray while they work."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.api.server import Server, ServerSettings
from streamkit.functions.destinations import Delivery
from streamkit.functions.invoke import Result
from streamkit.functions.state import Configuration
from streamkit.mappings import service
from streamkit.mappings.state import MappingState
from streamkit.model.errors import ResourceNotFound, StorageUnavailable
from streamkit.model.names import FunctionArn, Scope, StreamArn
from streamkit.node import Node, NodeSettings

SCOPE: Final = Scope("000000000000", "us-east-1")
STREAM: Final = StreamArn(SCOPE, "s")
SQS: Final = "arn:aws:sqs:us-east-1:000000000000:failed"
Handler = Callable[[Any, Any], Awaitable[Any]]


class Function:
    """Remembers what it was invoked with. `answers` is awaited for each invocation."""

    def __init__(self, answers: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.batches: list[list[str]] = []
        self._answers = answers

    async def __call__(self, event: Any, context: Any) -> Any:
        records = event.get("Records", ())
        self.batches.append([base64.b64decode(record["kinesis"]["data"]).decode() for record in records])
        return None if self._answers is None else await self._answers()

    @property
    def values(self) -> list[str]:
        return [value for batch in self.batches for value in batch]


async def never() -> None:
    await asyncio.sleep(60)


async def fails() -> None:
    raise ValueError("no")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


@asynccontextmanager
async def node_at(directory: Path, **handlers: Handler) -> AsyncIterator[Node]:
    """A node with these functions; their code is registered before mappings begin."""
    node = Node(directory, NodeSettings("none"))
    await node.open()
    try:
        for name, handler in handlers.items():
            await define(node, name, handler)
        await node.run()
        yield node
    finally:
        await node.close(finish_ms=0)


async def define(node: Node, name: str, handler: Handler) -> None:
    source = node.functions.inline.register(name, handler)
    try:
        node.functions.registry.find(SCOPE, name)
    except ResourceNotFound:
        configuration = Configuration(
            runtime="python3.11",
            handler="x.y",
            role="arn:aws:iam::000000000000:role/r",
            environment="inline",
            source=source,
            timeout_s=60,
        )
        await node.functions.registry.create(SCOPE, name, configuration)


async def map_stream(node: Node, **settings: Any) -> MappingState:
    given = {"FunctionName": "f", "EventSourceArn": str(STREAM), "StartingPosition": "TRIM_HORIZON"}
    return await node.mappings.registry.create(SCOPE, given | settings)


async def put(node: Node, *values: str, into: StreamArn = STREAM) -> None:
    stream = node.streams.find(*into)
    await stream.ready()
    for value in values:
        _, appended = stream.put_one(b"key", value.encode())
        await appended.wait()


async def invoke(node: Node, name: str = "f") -> Result:
    return await node.functions.invocations.invoke(FunctionArn(SCOPE, name, None), [b"{}"])


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [None, {"Enabled": False}, {"BatchSize": 7}], ids=["as it is", "disabled", "changed"]
)
def test_what_a_stop_cuts_off_comes_again_and_was_no_attempt(tmp_path: Path, change: dict[str, Any] | None) -> None:
    """A function that takes longer than a server has to stop. One failed attempt would be the end of the record; also
    where the mapping is about to become another one, and waits for its invocation."""

    async def main() -> None:
        slow, quick = Function(never), Function()
        async with node_at(tmp_path / "data", f=slow) as node:
            await node.streams.create(STREAM, shards_count=1)
            mapping = await map_stream(node, MaximumRetryAttempts=0, BatchSize=1)
            await put(node, "a", "b")
            await until(lambda: slow.values == ["a"])
            if change is not None:
                await node.mappings.registry.update(SCOPE, mapping.id, change)
                await asyncio.sleep(0.05)
            began_s = time.perf_counter()
            await node.mappings.stop(finish_ms=100)
            assert time.perf_counter() - began_s < 2
        async with node_at(tmp_path / "data", f=quick) as node:
            if change is not None and "Enabled" in change:
                await node.mappings.registry.update(SCOPE, mapping.id, {"Enabled": True})
            async with asyncio.timeout(5):
                await node.mappings.caught_up()
            assert quick.values == ["a", "b"]

    asyncio.run(main())


def test_mappings_stop_together_and_let_finish_what_can(tmp_path: Path) -> None:
    """Ten invocations of a third of a second end in half a second, and none of their records comes again."""

    async def main() -> None:
        function = Function(lambda: asyncio.sleep(0.3))
        async with node_at(tmp_path / "data", f=function) as node:
            for number in range(10):
                stream = StreamArn(SCOPE, f"s{number}")
                await node.streams.create(stream, shards_count=1)
                await map_stream(node, EventSourceArn=str(stream))
                await put(node, str(number), into=stream)
            await until(lambda: len(function.batches) == 10)
            began_s = time.perf_counter()
            await node.mappings.stop(finish_ms=5_000)
            assert time.perf_counter() - began_s < 1
        again = Function()
        async with node_at(tmp_path / "data", f=again) as node, asyncio.timeout(5):
            await node.mappings.caught_up()
            assert not again.batches

    asyncio.run(main())


def test_a_server_stops_in_its_time_and_leaves_no_process(tmp_path: Path) -> None:
    """A synchronous invocation, one of a mapping, one of an event and a cold start are under way, none of which ends
    by itself."""
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        f"open({str(tmp_path)!r} + '/pid-' + str(os.getpid()), 'w')\n"
        "if os.environ.get('SLOW'): time.sleep(60)\n"
        "def handler(event, context): time.sleep(60)\n"
    )

    async def main() -> None:
        server = Server(ServerSettings(tmp_path / "data", port=0, durability="none"))
        await server.start()
        node = server.node
        for name, variables in (("f", {}), ("slow", {"SLOW": "1"})):
            configuration = Configuration(
                runtime="python3.11",
                handler="app.handler",
                role="arn:aws:iam::000000000000:role/r",
                source=f"{tmp_path}/app.py:handler",
                environment="fork",
                timeout_s=60,
                variables=variables,
            )
            await node.functions.registry.create(SCOPE, name, configuration)
        await node.streams.create(STREAM, shards_count=1)
        await map_stream(node)
        await put(node, "a")
        await node.functions.accept(FunctionArn(SCOPE, "f", None), b"{}")
        asked = [asyncio.create_task(invoke(node, name)) for name in ("f", "slow")]
        await until(lambda: len(list(tmp_path.glob("pid-*"))) == 4)
        began_s = time.perf_counter()
        await server.stop(drain_ms=200)
        assert time.perf_counter() - began_s < 5
        assert {result.error_type for result in await asyncio.gather(*asked)} == {"Runtime.ExitError"}

    asyncio.run(main())
    for file in tmp_path.glob("pid-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name.removeprefix("pid-")), 0)


# -- resets ----------------------------------------------------------------------------------------------------------


def test_two_resets_at_once_end_all_that_is_under_way_and_all_works_afterwards(tmp_path: Path) -> None:
    """Nothing of what was there writes a log any more, and events are run that are accepted after it."""

    async def main() -> None:
        slow, quick = Function(never), Function()
        async with node_at(tmp_path / "data", f=slow) as node:
            for number in range(3):
                stream = StreamArn(SCOPE, f"s{number}")
                await node.streams.create(stream, shards_count=1)
                await map_stream(node, EventSourceArn=str(stream))
                await put(node, "a", into=stream)
            await node.functions.accept(FunctionArn(SCOPE, "f", None), b"{}")
            asked = asyncio.create_task(invoke(node))
            await until(lambda: len(slow.batches) == 5)
            async with asyncio.timeout(5):
                await asyncio.gather(node.reset(), node.reset())
            assert (await asked).error_type == "Runtime.ExitError"
            assert not node.mappings.registry.all()
            assert not node.streams.all()
            assert not node.functions.registry.all()
            await asyncio.sleep(0.2)
            assert not node.functions.logs.groups(SCOPE)
            await define(node, "g", quick)
            await node.functions.accept(FunctionArn(SCOPE, "g", None), b"{}")
            await until(lambda: len(quick.batches) == 1)

    asyncio.run(main())


def test_a_reset_while_mappings_are_made_and_changed_does_not_wait_for_their_functions(tmp_path: Path) -> None:
    """A change waits for its mapping's invocation; the reset drops both."""

    async def main() -> None:
        slow = Function(never)
        async with node_at(tmp_path / "data", f=slow) as node:
            await node.streams.create(STREAM, shards_count=1)
            mapping = await map_stream(node)
            await put(node, "a")
            await until(lambda: slow.values == ["a"])
            await node.mappings.registry.update(SCOPE, mapping.id, {"BatchSize": 7})
            await asyncio.sleep(0.02)
            async with asyncio.timeout(3):
                await node.reset()
            assert not node.mappings.registry.all()
            assert not node.mappings._workers

    asyncio.run(main())


# -- sources and destinations that go --------------------------------------------------------------------------------


def test_a_stream_that_is_deleted_and_made_anew_is_read_from_its_start(tmp_path: Path) -> None:
    """Also where nothing ran between the two: the new stream's records are others, at the offsets of the old ones."""

    async def main() -> None:
        function = Function()
        async with node_at(tmp_path / "data", f=function) as node:
            await node.streams.create(STREAM, shards_count=1)
            await map_stream(node)
            await put(node, *(f"old {number}" for number in range(20)))
            await node.mappings.caught_up()
            await node.streams.delete(node.streams.find(*STREAM))
            await node.streams.create(STREAM, shards_count=1)
            new = [f"new {number}" for number in range(30)]
            await put(node, *new)
            await until(lambda: len(function.values) >= 50)
            assert function.values[20:] == new

    asyncio.run(main())


def test_a_source_that_is_gone_for_long_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is looked for every second; a line each would fill the log."""

    async def main() -> None:
        async with node_at(tmp_path / "data", f=Function()) as node:
            await node.streams.create(STREAM, shards_count=1)
            await map_stream(node)
            await node.mappings.caught_up()
            caplog.clear()
            await node.streams.delete(node.streams.find(*STREAM))
            await asyncio.sleep(2.3)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("mapping interrupted")]
    assert len(lines) == 1


class _Destination:
    """Does what it is told for each delivery, in turn; then it takes them."""

    def __init__(self, turns: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._turns = list(turns)
        self.asked: list[tuple[str, bool]] = []
        self.taken: list[dict[str, Any]] = []

    async def position(self) -> str | None:
        return None

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        self.asked.append((delivery.id, may_be_there))
        if self._turns:
            await self._turns.pop(0)()
        self.taken.append(json.loads(delivery.body))


def test_a_destination_that_never_answers_or_breaks_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same document each time, said to be there perhaps; the shard's worker does not die of it."""
    monkeypatch.setattr(service, "DELIVERY_TIMEOUT_MS", 100)

    async def main() -> None:
        failing = Function(fails)
        destination = _Destination([never, fails])
        node = Node(tmp_path / "data", NodeSettings("none"))
        await node.open()
        node.functions.destinations.add("sqs", lambda arn: destination)
        await define(node, "f", failing)
        await node.run()
        await node.streams.create(STREAM, shards_count=1)
        await map_stream(
            node, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": SQS}}, BatchSize=1
        )
        await put(node, "a", "b")
        await until(lambda: len(destination.taken) == 2)
        first, second = destination.taken[0], destination.asked[0][0]
        assert first["requestContext"]["requestId"] == second
        assert [may_be_there for _, may_be_there in destination.asked] == [False, True, True, False]
        assert failing.values == ["a", "b"]
        await node.close()

    asyncio.run(main())


# -- a disk that refuses ---------------------------------------------------------------------------------------------


class _Refusal:
    """SQLite refuses to write, as it does on a disk that is full, until `end`."""

    def __init__(self, node: Node) -> None:
        self._db = node.directory.control.db
        self._db.execute("pragma query_only = true")

    def end(self) -> None:
        self._db.execute("pragma query_only = false")


def test_attempts_count_also_while_the_disk_refuses_to_note_them(tmp_path: Path) -> None:
    """A failed attempt is on disk before the next one, so there is no next one until the disk takes it; then the
    mapping goes on by itself, with the attempts that are left."""

    async def main() -> None:
        failing = Function(fails)
        async with node_at(tmp_path / "data", f=failing) as node:
            await node.streams.create(STREAM, shards_count=1)
            await map_stream(node, MaximumRetryAttempts=2)
            await node.mappings.caught_up()
            refusal = _Refusal(node)
            await put(node, "a")
            await until(lambda: len(failing.batches) == 1)
            await asyncio.sleep(2.2)
            assert len(failing.batches) == 1
            refusal.end()
            async with asyncio.timeout(5):
                await node.mappings.caught_up()
            assert len(failing.batches) == 3

    asyncio.run(main())


def test_what_succeeded_while_the_disk_refused_is_not_run_again_when_it_does_not(tmp_path: Path) -> None:
    """Progress that could not be saved is kept and saved later, without anything that changes it."""

    async def main() -> None:
        function = Function()
        async with node_at(tmp_path / "data", f=function) as node:
            await node.streams.create(STREAM, shards_count=1)
            await map_stream(node)
            await node.mappings.caught_up()
            refusal = _Refusal(node)
            await put(node, "a", "b")
            await until(lambda: function.values == ["a", "b"])
            await asyncio.sleep(0.2)
            refusal.end()
            await asyncio.sleep(0.2)
        again = Function()
        async with node_at(tmp_path / "data", f=again) as node, asyncio.timeout(5):
            await node.mappings.caught_up()
            assert not again.values

    asyncio.run(main())


def test_what_the_disk_refuses_is_refused_and_what_was_accepted_is_run(tmp_path: Path) -> None:
    """Events, functions and mappings: nothing half made is left, and the same call works when the disk does."""

    async def main() -> None:
        function = Function()
        async with node_at(tmp_path / "data", f=function) as node:
            await node.streams.create(STREAM, shards_count=1)
            refusal = _Refusal(node)
            with pytest.raises(StorageUnavailable):
                await node.functions.accept(FunctionArn(SCOPE, "f", None), b"{}")
            with pytest.raises(StorageUnavailable):
                await define(node, "g", function)
            with pytest.raises(StorageUnavailable):
                await map_stream(node)
            assert not node.mappings.registry.all()
            assert [state.name for state in node.functions.registry.all()] == ["f"]
            refusal.end()
            await define(node, "g", function)
            await map_stream(node)
            await put(node, "a")
            await node.mappings.caught_up()
            await node.functions.accept(FunctionArn(SCOPE, "f", None), b"{}")
            await until(lambda: function.batches == [["a"], []])

    asyncio.run(main())


# -- hostile requests, and answers -----------------------------------------------------------------------------------


class _Wire:
    """A server with a function that answers what its request's body says, and has a URL."""

    def __init__(self, server: Server, url_id: str) -> None:
        self.server = server
        self.node = server.node
        self._port = int(server.endpoint.rpartition(":")[2])
        self.url = f"/_streamkit/urls/{url_id}/"

    async def send(self, request: bytes) -> tuple[int, dict[str, list[str]], bytes]:
        """The answer: status, headers by name, body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        async with asyncio.timeout(10):
            whole = await reader.read()
        writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        return int(status.split(" ")[1]), headers, body

    async def post(self, path: str, body: bytes, *more: str) -> tuple[int, dict[str, list[str]], bytes]:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += "".join(f"{line}\r\n" for line in more)
        return await self.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def echo(self, answer: dict[str, Any]) -> tuple[int, dict[str, list[str]], bytes]:
        return await self.post(self.url, json.dumps(answer).encode())


@asynccontextmanager
async def wire_at(directory: Path) -> AsyncIterator[_Wire]:
    server = Server(ServerSettings(directory, port=0, durability="none", auth="off"))
    await server.start()
    try:

        async def echo(event: Any, context: Any) -> Any:
            return json.loads(event["body"])

        await define(server.node, "echo", echo)
        url = await server.node.functions.registry.settings.create_url(FunctionArn(SCOPE, "echo", None), auth="NONE")
        yield _Wire(server, url.id)
    finally:
        await server.stop(drain_ms=100)


def test_a_functions_headers_cannot_say_where_its_answer_ends(tmp_path: Path) -> None:
    """Nor that there are more headers, or another answer: clients and proxies would not agree on what they read."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            for name in ("Content-Length", "transfer-encoding", "Connection", "date", "X-Amzn-RequestId"):
                status, headers, body = await wire.echo({"statusCode": 200, "headers": {name: "3"}, "body": "hello"})
                assert (status, body) == (200, b"hello")
                assert headers["content-length"] == ["5"]
                assert "transfer-encoding" not in headers
                assert headers["connection"] == ["close"]
                assert len(headers["date"]) == 1
                assert len(headers["x-amzn-requestid"]) == 1
                assert headers["x-amzn-requestid"] != ["3"]
            for bad in ({"a\r\nb": "c"}, {"a": "b\r\nc: d"}, {"a": "b\nc"}, {"a:": "b"}, {"a": "\0"}, {"a": "\u20ac"}):
                status, headers, body = await wire.echo({"statusCode": 200, "headers": bad, "body": "hello"})
                assert (status, body) == (502, b"Internal Server Error")
                assert not headers.keys() & {"a", "b", "c"}
            status, headers, _ = await wire.echo({"statusCode": 200, "cookies": ["a=b\r\nc: d"], "body": ""})
            assert status == 502

    asyncio.run(main())


@pytest.mark.parametrize("status", [299, 499])
def test_a_status_that_has_no_name_is_answered_as_it_is(tmp_path: Path, status: int) -> None:
    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            answered, _, body = await wire.echo({"statusCode": status, "body": "hello"})
            assert (answered, body) == (status, b"hello")

    asyncio.run(main())


@pytest.mark.parametrize("status", [100, 101, 199, 600])
def test_a_status_that_cannot_end_an_answer_is_a_bad_gateway(tmp_path: Path, status: int) -> None:
    """The client would wait for an answer that never comes."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            answered, _, body = await wire.echo({"statusCode": status, "body": "hello"})
            assert (answered, body) == (502, b"Internal Server Error")

    asyncio.run(main())


def test_a_host_that_is_no_text_is_nobodys(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 before `.lambda-url.`: forbidden, as with every URL that is not there."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            request = b"GET / HTTP/1.1\r\nHost: \xff\xfe.lambda-url.us-east-1.localhost\r\nConnection: close\r\n\r\n"
            status, _, body = await wire.send(request)
            assert status == 403
            assert b"Forbidden" in body

    asyncio.run(main())


def test_a_streamed_invocation_that_is_throttled_is_refused_as_such(tmp_path: Path) -> None:
    """Before anything is answered: an SDK tries again for a 429, and not for a stream that breaks off."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            path = "/2021-11-15/functions/echo/response-streaming-invocations"
            status, _, body = await wire.post(path, b'{"body": "[1]"}')
            assert status == 200
            assert b"[1]" in body
            await wire.node.functions.registry.settings.reserve(SCOPE, "echo", 0)
            status, headers, _ = await wire.post(path, b'{"body": "1"}')
            assert status == 429
            assert headers["x-amzn-errortype"] == ["TooManyRequestsException"]

    asyncio.run(main())


def test_a_streamed_answer_names_the_version_that_gave_it(tmp_path: Path) -> None:
    """Also through an alias with weights, where each draw may be another."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            functions = wire.node.functions

            async def handler(event: Any, context: Any) -> str:
                return f"version {context.function_version}"

            for name in ("one", "two"):
                source = functions.inline.register(name, handler)
                await functions.registry.update_code(SCOPE, "echo", source=source)
                await functions.registry.publish_version(SCOPE, "echo")
            await functions.registry.aliases.create(SCOPE, "echo", "live", "1", weights={"2": 0.5})
            seen = set()
            for _ in range(40):
                path = "/2021-11-15/functions/echo/response-streaming-invocations?Qualifier=live"
                _, headers, body = await wire.post(path, b"{}")
                [version] = headers["x-amz-executed-version"]
                assert f"version {version}".encode() in body
                seen.add(version)
            assert seen == {"1", "2"}

    asyncio.run(main())


@pytest.mark.parametrize("context", ["[1]", "1", "null", "{", "\udcff"], ids=["list", "number", "null", "cut", "bytes"])
def test_a_client_context_that_is_no_object_is_refused(tmp_path: Path, context: str) -> None:
    """The function's runtime would break over it, and the function be blamed."""

    async def main() -> None:
        async with wire_at(tmp_path / "data") as wire:
            encoded = base64.b64encode(context.encode(errors="surrogateescape")).decode()
            path = "/2015-03-31/functions/echo/invocations"
            status, headers, _ = await wire.post(path, b'{"body": "1"}', f"X-Amz-Client-Context: {encoded}")
            assert status == 400
            assert headers["x-amzn-errortype"] == ["InvalidRequestContentException"]

    asyncio.run(main())
