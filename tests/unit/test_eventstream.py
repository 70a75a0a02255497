"""Promises of event streams: botocore's own parser reads them, and they end as their events do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import botocore.eventstream
import botocore.loaders
import botocore.model
import botocore.parsers
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.api import eventstream
from streamkit.api.errors import RequestIds
from streamkit.api.eventstream import EventStream
from streamkit.api.gateway import Action, FastPath, Gateway
from streamkit.api.http import Deferred, Request, Response
from streamkit.api.service_model import ServiceModel
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import SystemClock
from streamkit.metrics import Registry
from streamkit.model import errors
from streamkit.model.names import Scope

KINESIS: Final = ServiceModel.load("kinesis", "2013-12-02")
SUBSCRIBE: Final = KINESIS.operations["SubscribeToShard"]
EVENT: Final = {"Records": [], "ContinuationSequenceNumber": "1", "MillisBehindLatest": 0}


def messages_in(data: bytes) -> list[Any]:
    """As botocore's buffer finds them, which checks lengths and checksums."""
    buffer = botocore.eventstream.EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


class Events:
    """Gives some events, then an error if there is one; remembers that it was closed."""

    def __init__(self, events: Sequence[Mapping[str, Any]], error: Exception | None = None) -> None:
        self._events = [*events]
        self._error = error
        self.closed = False

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        if self._events:
            return self._events.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def sent(events: Events) -> list[Any]:
    """The messages of events, all in one."""

    async def collect() -> bytes:
        stream = SUBSCRIBE.encode_stream({"EventStream": events})
        return b"".join([message async for message in stream])

    return messages_in(asyncio.run(collect()))


# -- messages --------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(min_size=1, max_size=50), st.text(max_size=300), max_size=5), st.binary(max_size=2000))
def test_headers_and_payload_are_read_as_they_were_written(headers: dict[str, str], payload: bytes) -> None:
    (message,) = messages_in(eventstream.message(headers, payload))
    assert (message.headers, message.payload) == (headers, payload)


@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    message = bytearray(eventstream.message({":message-type": "event"}, b"payload"))
    position = data.draw(st.integers(0, len(message) - 1))
    message[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = messages_in(bytes(message))
    except botocore.eventstream.ParserError:
        return
    assert found == [], "read in spite of its checksums, and not as one that is still to come"


def test_messages_follow_each_other() -> None:
    data = eventstream.message({"a": "1"}) + eventstream.message({"a": "2"}, b"x")
    assert [(each.headers, each.payload) for each in messages_in(data)] == [({"a": "1"}, b""), ({"a": "2"}, b"x")]


# -- streams ---------------------------------------------------------------------------------------------------------


def test_json_begins_with_the_initial_response_and_an_event_names_its_type() -> None:
    first, second = sent(Events([{"SubscribeToShardEvent": EVENT}]))
    assert first.headers == {
        ":event-type": "initial-response",
        ":content-type": "application/x-amz-json-1.1",
        ":message-type": "event",
    }
    assert first.payload == b"{}"
    assert second.headers == {
        ":event-type": "SubscribeToShardEvent",
        ":content-type": "application/x-amz-json-1.1",
        ":message-type": "event",
    }
    assert orjson.loads(second.payload) == EVENT


def test_a_blob_may_be_the_whole_payload_of_an_event() -> None:
    model = ServiceModel.load("lambda", "2015-03-31")
    stream = model.operations["InvokeWithResponseStream"].events("application/json")
    (chunk,) = messages_in(stream.encode({"PayloadChunk": {"Payload": b"\x00\xff"}}))
    assert chunk.payload == b"\x00\xff"
    assert chunk.headers[":content-type"] == "application/octet-stream"
    (complete,) = messages_in(stream.encode({"InvokeComplete": {"ErrorCode": None, "LogResult": "bG9n"}}))
    assert complete.headers == {
        ":event-type": "InvokeComplete",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    assert complete.payload == b'{"LogResult":"bG9n"}'


def test_an_event_that_the_stream_does_not_have_is_a_mistake() -> None:
    stream = SUBSCRIBE.events("application/json")
    with pytest.raises(AssertionError, match="has no Nope"):
        stream.encode({"Nope": {}})


def test_an_error_of_the_stream_is_its_exception_and_the_last_message() -> None:
    events = Events([{"SubscribeToShardEvent": EVENT}], errors.ResourceNotFound("gone"))
    *_, last = sent(events)
    assert last.headers == {
        ":exception-type": "ResourceNotFoundException",
        ":content-type": "application/x-amz-json-1.1",
        ":message-type": "exception",
    }
    assert orjson.loads(last.payload) == {"message": "gone"}


def test_an_exception_may_also_be_given_as_an_event() -> None:
    *_, last = sent(Events([{"KMSDisabledException": {"message": "m"}}]))
    assert last.headers[":exception-type"] == "KMSDisabledException"


def test_another_error_tells_its_code_and_our_own_nothing() -> None:
    *_, last = sent(Events([], errors.ThroughputExceeded("slow down")))
    assert last.headers == {
        ":error-code": "ProvisionedThroughputExceededException",
        ":error-message": "slow down",
        ":message-type": "error",
    }
    *_, last = sent(Events([], KeyError("a secret")))
    assert last.headers[":error-code"] == "InternalFailure"
    assert "secret" not in last.headers[":error-message"]


@pytest.mark.parametrize("begun", [False, True])
def test_closing_the_messages_closes_the_events_begun_or_not(begun: bool) -> None:
    events = Events([{"SubscribeToShardEvent": EVENT}])

    async def close() -> None:
        messages: Any = SUBSCRIBE.encode_stream({"EventStream": events})
        if begun:
            await anext(messages)
        await messages.aclose()

    asyncio.run(close())
    assert events.closed


# -- over JSON 1.1 ---------------------------------------------------------------------------------------------------


class Toy:
    model = KINESIS
    fast_paths: Mapping[str, FastPath] = {}

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    @property
    def actions(self) -> Mapping[str, Action]:
        return {"SubscribeToShard": self.subscribe_to_shard}

    async def subscribe_to_shard(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        if self._error is not None:
            raise self._error
        return {"EventStream": Events([{"SubscribeToShardEvent": EVENT}])}


async def subscribed(error: Exception | None) -> tuple[Response, bytes]:
    gateway = Gateway(
        [Toy(error)],
        {},
        authenticator=Authenticator("off", {}, SystemClock()),
        default_scope=Scope("000000000000", "us-east-1"),
        request_ids=RequestIds(random.Random(7)),
        metrics=Registry(),
    )
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1"
    given = {"ConsumerARN": arn, "ShardId": "shardId-000000000000", "StartingPosition": {"Type": "LATEST"}}
    headers = {b"x-amz-target": b"Kinesis_20131202.SubscribeToShard"}
    answer = gateway.handle(Request("POST", "/", headers, orjson.dumps(given)))
    assert isinstance(answer, Deferred)
    given_answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    answer.then(given_answer.set_result)
    response = await given_answer
    body = response.body
    return response, body if isinstance(body, bytes) else b"".join([piece async for piece in as_pieces(body)])


def as_pieces(body: Any) -> AsyncIterator[bytes]:
    assert isinstance(body, AsyncIterator)
    return body


class Raw:
    """A connection's body, as botocore reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> list[bytes]:
        return [self._data]

    def close(self) -> None:
        pass


def test_a_json_service_answers_with_a_stream_that_botocore_reads() -> None:
    response, body = asyncio.run(subscribed(None))
    assert (response.status, response.content_type) == (200, b"application/vnd.amazon.eventstream")
    service = botocore.model.ServiceModel(
        botocore.loaders.Loader().load_service_model("kinesis", "service-2"), "kinesis"
    )
    shape = service.operation_model("SubscribeToShard").output_shape
    given = {"status_code": 200, "headers": {}, "body": Raw(body), "context": {"operation_name": "SubscribeToShard"}}
    parsed = botocore.parsers.create_parser("json").parse(given, shape)
    assert list(parsed["EventStream"]) == [{"SubscribeToShardEvent": EVENT}]


def test_what_fails_before_the_stream_is_an_error_as_ever() -> None:
    response, body = asyncio.run(subscribed(errors.ResourceNotFound("none")))
    assert (response.status, response.content_type) == (400, b"application/x-amz-json-1.1")
    assert orjson.loads(body)["__type"] == "ResourceNotFoundException"


def test_a_stream_of_a_model_is_found_in_its_operation() -> None:
    assert SUBSCRIBE.event_stream == "EventStream"
    assert KINESIS.operations["GetRecords"].event_stream is None
    assert KINESIS.operations["AddTagsToStream"].event_stream is None
    assert isinstance(SUBSCRIBE.events("application/json"), EventStream)
