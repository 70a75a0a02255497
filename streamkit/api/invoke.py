"""Lambda's operations that run functions; a part of the Lambda service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
import pybase64

from streamkit.api.context import TRACE_HEADER
from streamkit.api.functions_common import arn_of
from streamkit.api.gateway import RestAction
from streamkit.api.rest import RestAnswer
from streamkit.functions.invoke import Result
from streamkit.functions.service import Functions
from streamkit.model.errors import InvalidRequestContent, RequestTooLarge, ResourceNotFound
from streamkit.model.limits import (
    ASYNC_PAYLOAD_BYTES_MAX,
    CLIENT_CONTEXT_BYTES_MAX,
    INVOCATION_BYTES_MAX,
    STREAMED_BYTES_HELD_MAX,
)
from streamkit.model.names import FunctionArn, Scope

Values = dict[str, Any]

_EMPTY_EVENT: Final = b"{}"
_JSON: Final = "application/json"
_STREAM: Final = "application/octet-stream"
_END: Final = None


class InvokeOperations:
    """The operations by name in `actions`."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    @property
    def actions(self) -> Mapping[str, RestAction]:
        return {
            "Invoke": self._invoke,
            "InvokeAsync": self._invoke_async,
            "InvokeWithResponseStream": self._invoke_with_response_stream,
        }

    async def _invoke(self, scope: Scope, given: Values) -> RestAnswer:
        arn = self._arn(scope, given)
        kind = given.get("InvocationType") or "RequestResponse"
        payload, context = _payload(given), _client_context(given)
        if kind == "DryRun":
            return RestAnswer({"StatusCode": 204})
        if kind == "Event":
            if len(payload) > ASYNC_PAYLOAD_BYTES_MAX:
                raise RequestTooLarge(
                    f"{len(payload)} byte payload is too large for the Event invocation type "
                    f"(limit {ASYNC_PAYLOAD_BYTES_MAX} bytes)"
                )
            trace_id = TRACE_HEADER.get()
            id = await self._functions.accept(arn, payload, trace_id=trace_id, client_context=context)
            return RestAnswer({"StatusCode": 202}, request_id=id)
        if len(payload) > INVOCATION_BYTES_MAX:
            raise RequestTooLarge(
                f"{len(payload)} byte payload is too large for the RequestResponse invocation type "
                f"(limit {INVOCATION_BYTES_MAX} bytes)"
            )
        wants_tail = given.get("LogType") == "Tail"
        trace_id = TRACE_HEADER.get() or self._functions.invocations.new_trace_id()
        result = await self._functions.invocations.invoke(
            arn, [payload], trace_id=trace_id, client_context=context, wants_tail=wants_tail
        )
        output = {
            "StatusCode": 200,
            "FunctionError": result.function_error,
            "ExecutedVersion": result.version,
            "LogResult": _log_result(result) if wants_tail else None,
            "Payload": result.payload,
        }
        headers = ((b"X-Amzn-Trace-Id", trace_id.encode()), (b"x-amzn-Remapped-Content-Length", b"0"))
        return RestAnswer(output, request_id=result.request_id, headers=headers)

    async def _invoke_async(self, scope: Scope, given: Values) -> RestAnswer:
        """The old way to say InvocationType Event."""
        arn = self._arn(scope, given)
        id = await self._functions.accept(arn, _checked(given.get("InvokeArgs") or _EMPTY_EVENT))
        return RestAnswer({"Status": 202}, request_id=id)

    async def _invoke_with_response_stream(self, scope: Scope, given: Values) -> RestAnswer:
        arn = self._arn(scope, given)
        payload, context = _payload(given), _client_context(given)
        if given.get("InvocationType") == "DryRun":
            return RestAnswer({"StatusCode": 204})
        stream = ResponseStream(self._functions, arn, payload, client_context=context)
        await stream.begun()
        output = {
            "StatusCode": 200,
            "ExecutedVersion": stream.version,
            "ResponseStreamContentType": _STREAM,
            "EventStream": _events(stream, wants_tail=given.get("LogType") == "Tail"),
        }
        return RestAnswer(output, request_id=stream.request_id)

    def _arn(self, scope: Scope, given: Values) -> FunctionArn:
        """What is invoked; whether it is there, too, as AWS says it: with a qualifier, whatever was asked for."""
        arn = arn_of(scope, given)
        try:
            self._functions.registry.resolve(arn)
        except ResourceNotFound as error:
            if arn.qualifier is None:
                raise ResourceNotFound(f"{error.message}:$LATEST") from None
            raise
        return arn


class ResponseStream:
    """An invocation whose answer is taken in pieces, as they come. Iterate over it once; then `result` is there."""

    def __init__(
        self, functions: Functions, arn: FunctionArn, payload: bytes, *, client_context: str | None = None
    ) -> None:
        self.request_id = functions.invocations.new_id()
        self.result: Result | None = None
        self.version = ""  # once it has begun
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._is_wanted = True
        self._held_bytes = 0
        self._room: asyncio.Future[None] | None = None  # waited for by the environment
        self._task = asyncio.get_running_loop().create_task(
            functions.invocations.invoke(
                arn,
                [payload],
                request_id=self.request_id,
                trace_id=TRACE_HEADER.get(),
                client_context=client_context,
                wants_tail=True,
                on_chunk=self._take,
                on_version=self._runs,
            )
        )
        self._task.add_done_callback(self._ended)

    async def begun(self) -> None:
        """Returns when there is a first piece, or the whole answer. Raises what kept the function from running."""
        await self._begun.wait()
        if self._task.done():
            self._task.result()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces; where the function did not stream, its answer in one piece. Raises what kept it from running."""
        streamed = False
        try:
            while (chunk := await self._chunks.get()) is not _END:
                streamed = True
                self._held_bytes -= len(chunk)
                if self._held_bytes < STREAMED_BYTES_HELD_MAX:
                    self._make_room()
                yield chunk
            self.result = await self._task
            if not streamed and self.result.function_error is None and self.result.payload:
                yield self.result.payload
        finally:  # as in AWS the function runs to its end, whoever is left to hear it
            self._is_wanted = False
            self._chunks = asyncio.Queue()
            self._make_room()

    def _runs(self, version: str) -> None:
        self.version = version

    def _take(self, chunk: bytes) -> asyncio.Future[None] | None:
        if not self._is_wanted:
            return None
        self._chunks.put_nowait(chunk)
        self._begun.set()
        self._held_bytes += len(chunk)
        if self._held_bytes < STREAMED_BYTES_HELD_MAX:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        if not task.cancelled():
            task.exception()  # heard: perhaps nobody waits any more
        self._chunks.put_nowait(_END)
        self._begun.set()


async def _events(stream: ResponseStream, *, wants_tail: bool) -> AsyncIterator[Mapping[str, Any]]:
    async for chunk in stream.chunks():
        yield {"PayloadChunk": {"Payload": chunk}}
    result = stream.result
    assert result is not None
    complete: Values = {}
    if result.function_error is not None:
        complete = {"ErrorCode": result.function_error, "ErrorDetails": result.payload.decode(errors="replace")}
    if wants_tail:
        complete["LogResult"] = _log_result(result)
    yield {"InvokeComplete": complete}


def _payload(given: Values) -> bytes:
    return _checked(bytes(given.get("Payload") or _EMPTY_EVENT))


def _checked(payload: bytes) -> bytes:
    """AWS takes any JSON value, and nothing else."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContent(f"Could not parse request body into json: {error}") from None
    return payload


def _client_context(given: Values) -> str | None:
    """JSON in base64, in a header."""
    text = given.get("ClientContext")
    if not text:
        return None
    if len(text) > CLIENT_CONTEXT_BYTES_MAX:
        raise InvalidRequestContent(
            f"Client context must be at most {CLIENT_CONTEXT_BYTES_MAX} bytes in base64; this one has {len(text)}."
        )
    try:
        decoded = pybase64.b64decode(text, validate=True)
        is_object = isinstance(orjson.loads(decoded), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.")
    return decoded.decode()


def _log_result(result: Result) -> str:
    return pybase64.b64encode_as_string(result.log_tail)
