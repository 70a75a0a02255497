"""Promises of REST-JSON: botocore's own client, and its own view of Lambda's model, understand every answer of ours."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.model
import botocore.serialize
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.api.codec import Member, Shape
from streamkit.api.context import TRACE_HEADER
from streamkit.api.errors import RequestIds
from streamkit.api.gateway import Gateway, RestAction, Route
from streamkit.api.http import HttpServer, Request, Response
from streamkit.api.rest import Encoded, RestAnswer, RestOperation, encode_refusal, query_pairs, rest_operations
from streamkit.api.rest_paths import PathTree
from streamkit.api.service_model import Http, Operation, ServiceModel
from streamkit.api.sigv4 import Authenticator, Mode
from streamkit.clock import SystemClock
from streamkit.metrics import Registry
from streamkit.model import errors
from streamkit.model.names import Scope

LAMBDA: Final = ServiceModel.load("lambda", "2015-03-31")
BOTOCORE: Final = botocore.model.ServiceModel(
    botocore.loaders.Loader().load_service_model("lambda", "service-2"), "lambda"
)
ARN: Final = "arn:aws:lambda:eu-west-1:123456789012:function:hello"
FUNCTION: Final = {"FunctionName": "hello", "FunctionArn": ARN, "LastModified": "2026-01-02T03:04:05.000+0000"}


# -- paths -----------------------------------------------------------------------------------------------------------


def tree_of(*templates: str) -> PathTree[str]:
    tree: PathTree[str] = PathTree()
    for template in templates:
        tree.add("GET", template, template)
    return tree


def all_of_lambda() -> PathTree[str]:
    tree: PathTree[str] = PathTree()
    for name, operation in LAMBDA.operations.items():
        tree.add(operation.http.method, operation.http.request_uri, name)
    return tree


TREE: Final = all_of_lambda()


@pytest.mark.parametrize(
    ("path", "template", "labels"),
    [
        ("/a", "/a", {}),
        ("/a/", "/a", {}),
        ("/a/x", "/a/{One}", {"One": "x"}),
        ("/a/b", "/a/b", {}),
        ("/a/%62", "/a/b", {}),
        ("/a/b/c", "/a/b/{Last}", {"Last": "c"}),
        ("/a/b/c/e", "/a/{Other}/c/e", {"Other": "b"}),
        ("/a/b/d", "/a/b/{Last}", {"Last": "d"}),
        ("/a/x%2Fy%3Az/c", "/a/{Other}/c", {"Other": "x/y:z"}),
        ("/a/x:y/c", "/a/{Other}/c", {"Other": "x:y"}),
        ("/k/x/y%20z", "/k/{Key+}", {"Key": "x/y z"}),
        ("/k/x/y/tags", "/k/{Key+}/tags", {"Key": "x/y"}),
        ("/k/tags", "/k/{Key+}", {"Key": "tags"}),
    ],
)
def test_the_most_specific_template_is_found(path: str, template: str, labels: Mapping[str, str]) -> None:
    templates = (
        "/a",
        "/a/{One}",
        "/a/b",
        "/a/{Other}/c",
        "/a/{Other}/c/e",
        "/a/b/{Last}",
        "/k/{Key+}/tags",
        "/k/{Key+}",
    )
    assert tree_of(*templates).find("GET", path) == (template, labels)


@pytest.mark.parametrize("path", ["/", "//", "/b", "/a/x/d", "/a//c", "//a", "/k", "/k/"])
def test_a_path_of_no_template_is_not_found(path: str) -> None:
    assert tree_of("/a", "/a/{One}", "/a/{Other}/c", "/k/{Key+}").find("GET", path) is None


def test_the_method_belongs_to_the_path() -> None:
    assert TREE.find("PATCH", "/2015-03-31/functions") is None
    assert TREE.find("GET", "/2015-03-31/functions/") == ("ListFunctions", {})
    assert TREE.find("POST", "/2015-03-31/functions") == ("CreateFunction", {})


def test_a_query_in_a_template_is_a_condition() -> None:
    path = "/2018-10-31/layers"
    assert TREE.find("GET", path, query_pairs("Marker=a")) == ("ListLayers", {})
    assert TREE.find("GET", path, query_pairs("Arn=a&find=LayerVersion")) == ("GetLayerVersionByArn", {})
    assert TREE.find("GET", path, query_pairs("find=Other")) == ("ListLayers", {})


def test_one_request_cannot_have_two_operations() -> None:
    tree = tree_of("/a/{One}")
    with pytest.raises(AssertionError, match="twice"):
        tree.add("GET", "/a/{Two}", "two")


LABEL = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12) | st.just(ARN)


@settings(max_examples=500)
@given(name=st.sampled_from(sorted(LAMBDA.operations)), data=st.data())
def test_each_url_that_botocore_makes_finds_its_operation_and_its_labels(name: str, data: st.DataObject) -> None:
    operation = BOTOCORE.operation_model(name)
    members = {} if operation.input_shape is None else operation.input_shape.members
    labels = {
        each: data.draw(LABEL if member.type_name == "string" else st.integers(0, 99))
        for each, member in members.items()
        if member.serialization.get("location") == "uri"
    }
    made = botocore.serialize.RestJSONSerializer().serialize_to_request(labels, operation)
    path, _, query = made["url_path"].partition("?")
    found = TREE.find(made["method"], path, query_pairs(query))
    assert found is not None
    wire_names = {each: members[each].serialization.get("name", each) for each in labels}
    assert found == (name, {wire_names[each]: str(value) for each, value in labels.items()})


# -- requests to values ----------------------------------------------------------------------------------------------

OPERATIONS: Final = rest_operations(LAMBDA)


def decode(
    name: str,
    labels: Mapping[str, str] | None = None,
    query: str = "",
    body: bytes = b"",
    headers: dict[bytes, bytes] | None = None,
) -> dict[str, Any]:
    request = Request("POST", "/", headers or {}, body)
    return OPERATIONS[name].decode(request, labels or {}, query_pairs(query))


def test_members_come_by_their_names_whatever_their_place() -> None:
    values = decode(
        "Invoke",
        {"FunctionName": ARN},
        "Qualifier=7",
        b"\x00not json",
        {b"x-amz-invocation-type": b"Event", b"x-amz-log-type": b"Tail", b"x-other": b"o"},
    )
    assert values == {
        "FunctionName": ARN,
        "Qualifier": "7",
        "Payload": b"\x00not json",
        "InvocationType": "Event",
        "LogType": "Tail",
    }


def test_a_repeated_name_in_the_query_is_a_list() -> None:
    values = decode("UntagResource", {"Resource": ARN}, "tagKeys=a&tagKeys=b%2Fc&tagKeys=d+e")
    assert values == {"Resource": ARN, "TagKeys": ["a", "b/c", "d+e"]}


def test_text_becomes_what_the_model_says() -> None:
    query = "ReverseOrder=TRUE&MaxItems=7&StartedAfter=2026-01-02T03%3A04%3A05.678Z&Statuses=RUNNING&Statuses=FAILED"
    assert decode("ListDurableExecutionsByFunction", {"FunctionName": "f"}, query) == {
        "FunctionName": "f",
        "ReverseOrder": True,
        "MaxItems": 7,
        "StartedAfter": 1767323045678,
        "Statuses": ["RUNNING", "FAILED"],
    }


@pytest.mark.parametrize("query", ["MaxItems=ten", "MaxItems=", "MaxItems=1.5"])
def test_text_that_cannot_be_converted_is_a_serialization_error(query: str) -> None:
    with pytest.raises(errors.SerializationError, match="can not be converted to an Integer"):
        decode("ListFunctions", query=query)


def test_unknown_members_are_ignored_wherever_they_are() -> None:
    body = b'{"Description": "d", "Unheard": {"of": 1}, "FunctionName": "other"}'
    values = decode("UpdateFunctionConfiguration", {"FunctionName": "f"}, "Unheard=1", body, {b"x-unheard": b"1"})
    assert values == {"FunctionName": "f", "Description": "d"}


def test_an_empty_body_has_no_members() -> None:
    assert decode("Invoke", {"FunctionName": "f"}) == {"FunctionName": "f"}
    assert decode("UpdateFunctionConfiguration", {"FunctionName": "f"}) == {"FunctionName": "f"}


def test_a_structure_may_be_the_whole_body() -> None:
    labels = {"DurableExecutionArn": f"{ARN}:1/durable-execution/a/b"}
    values = decode("StopDurableExecution", labels, body=b'{"ErrorType": "t"}')
    assert values == {**labels, "Error": {"ErrorType": "t"}}


@pytest.mark.parametrize("body", [b"{", b"1", b"\xff"])
def test_a_body_that_is_no_json_is_a_serialization_error(body: bytes) -> None:
    with pytest.raises(errors.SerializationError, match="Could not parse request body into json"):
        decode("CreateFunction", body=body)


def test_the_first_broken_constraints_are_told_in_the_texts_of_aws() -> None:
    with pytest.raises(errors.ValidationError) as refused:
        decode("ListFunctions", query="MaxItems=0&FunctionVersion=SOME")
    assert refused.value.message == (
        "2 validation errors detected: Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must "
        "satisfy enum value set: [ALL]; Value '0' at 'maxItems' failed to satisfy constraint: Member must have value "
        "greater than or equal to 1"
    )


def other_shapes() -> ServiceModel:
    """What Lambda's model does not use."""
    shapes = {
        "Any": Shape(
            "structure",
            {
                "Params": Member("StringMap", "querystring"),
                "Meta": Member("StringMap", "headers", "x-meta-"),
                "Listed": Member("Strings", "header", "x-listed"),
                "Json": Member("String", "header", "x-json", jsonvalue=True),
                "Blob": Member("Blob", "header", "x-blob"),
                "At": Member("Time", "header", "x-at"),
                "Yes": Member("Boolean", "header", "x-yes"),
                "Real": Member("Double", "header", "x-real"),
                "InBody": Member("Time", location_name="inBody", timestamp_format="iso8601"),
            },
        ),
        "StringMap": Shape("map", key=Member("String"), value=Member("String")),
        "ListMap": Shape("map", key=Member("String"), value=Member("Strings")),
        "Strings": Shape("list", member=Member("String")),
        "String": Shape("string"),
        "Blob": Shape("blob"),
        "Boolean": Shape("boolean"),
        "Double": Shape("double"),
        "Time": Shape("timestamp"),
        "Lists": Shape(
            "structure", {"Params": Member("ListMap", "querystring"), "One": Member("String", "querystring")}
        ),
        "Text": Shape("structure", {"Text": Member("String")}, payload="Text"),
    }
    wire = LAMBDA.wire
    operations = {name: Operation(name, name, name, Http(), shapes, wire) for name in ("Any", "Lists", "Text")}
    return ServiceModel("", "Other", operations, shapes, wire)


OTHER: Final = rest_operations(other_shapes())


def test_places_that_lambda_does_not_use_are_read_and_written() -> None:
    values = {
        "Meta": {"a": "1", "b": "2"},
        "Listed": ["x", "y"],
        "Json": {"k": [1]},
        "Blob": b"\x00\xff",
        "At": 1767323045000,
        "Yes": True,
        "Real": 1.5,
        "InBody": 1767323045678,
    }
    encoded = OTHER["Any"].encode(values)
    assert encoded.body == b'{"inBody":"2026-01-02T03:04:05.678Z"}'
    assert b"x-at: Fri, 02 Jan 2026 03:04:05 GMT\r\n" in encoded.headers
    headers = dict(line.split(b": ", 1) for line in encoded.headers.split(b"\r\n") if line)
    request = Request("GET", "/", headers, encoded.body if isinstance(encoded.body, bytes) else b"")
    assert OTHER["Any"].decode(request, {}, [("p", "1"), ("p", "2")]) == {**values, "Params": {"p": "1"}}
    assert OTHER["Lists"].decode(Request("GET", "/", {}), {}, [("p", "1"), ("One", "o"), ("p", "2")]) == {
        "Params": {"p": ["1", "2"]},
        "One": "o",
    }
    assert OTHER["Text"].decode(Request("GET", "/", {}, "ü".encode()), {}, ()) == {"Text": "ü"}
    assert OTHER["Text"].encode({"Text": "ü"}).body == "ü".encode()


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a, b,c", ["a", "b", "c"]),
        ('"a,b", c', ["a,b", "c"]),
        (r'"say \"a\"",b', ['say "a"', "b"]),
        ("a,,b", ["a", "", "b"]),
        ('"a"b,c', ['"a"b', "c"]),
    ],
)
def test_a_list_in_a_header_may_be_quoted(text: str, items: list[str]) -> None:
    assert OTHER["Any"].decode(Request("GET", "/", {b"x-listed": text.encode()}), {}, ())["Listed"] == items


# -- values to answers -----------------------------------------------------------------------------------------------


def encode(name: str, output: Mapping[str, Any] | RestAnswer) -> Encoded:
    return OPERATIONS[name].encode(output)


def test_members_of_an_output_go_to_their_places() -> None:
    output = {
        "StatusCode": 202,
        "FunctionError": "Unhandled",
        "LogResult": None,
        "Payload": [b"buf", memoryview(b"fers")],
    }
    encoded = encode("Invoke", output)
    assert encoded == (202, b"application/json", b"X-Amz-Function-Error: Unhandled\r\n", [b"buf", memoryview(b"fers")])


def test_the_status_is_the_models_unless_the_action_says_otherwise() -> None:
    assert encode("CreateFunction", {}).status == 201
    assert encode("TagResource", {}) == (204, b"application/json", b"", b"")
    answer = RestAnswer({}, status=202, headers=((b"X-Own", b"1"),))
    assert encode("TagResource", answer) == (202, b"application/json", b"X-Own: 1\r\n", b"")


def test_an_output_without_members_in_the_body_has_an_empty_one_and_others_an_object() -> None:
    assert encode("InvokeAsync", {"Status": 202}).body == b""
    assert encode("GetAccountSettings", {}).body == b"{}"
    assert encode("Invoke", {"StatusCode": 204}).body == b""


def test_a_header_cannot_smuggle_another() -> None:
    encoded = encode("Invoke", {"FunctionError": "Handled\r\nSet-Cookie: a"})
    assert encoded.headers == b"X-Amz-Function-Error: Handled  Set-Cookie: a\r\n"


def test_an_output_that_the_model_does_not_have_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="has no member Nope"):
        encode("GetFunction", {"Nope": 1})
    with pytest.raises(AssertionError, match="has no output"):
        encode("TagResource", {"Nope": 1})


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_every_operation_of_lambda_can_be_compiled(operation: RestOperation) -> None:
    try:
        operation.decode(Request("GET", "/", {}), {}, ())
    except errors.ValidationError:
        pass
    operation.encode({})


# -- errors ----------------------------------------------------------------------------------------------------------


def refusal(error: BaseException) -> tuple[int, bytes, Any]:
    encoded = encode_refusal(error, LAMBDA.errors)
    assert isinstance(encoded.body, bytes)
    return encoded.status, encoded.headers, json.loads(encoded.body)


def test_status_and_members_of_an_error_are_those_of_its_shape() -> None:
    assert refusal(errors.ResourceNotFound("Function not found: f")) == (
        404,
        b"x-amzn-ErrorType: ResourceNotFoundException\r\n",
        {"Type": "User", "Message": "Function not found: f"},
    )
    assert refusal(errors.InvalidParameterValue("no")) == (
        400,
        b"x-amzn-ErrorType: InvalidParameterValueException\r\n",
        {"Type": "User", "message": "no"},
    )


def test_further_fields_of_an_error_go_to_their_places() -> None:
    error = errors.TooManyRequests("ReservedFunctionConcurrentInvocationLimitExceeded")
    error.fields = {**error.fields, "retryAfterSeconds": "3", "Unknown": 1}
    assert refusal(error) == (
        429,
        b"x-amzn-ErrorType: TooManyRequestsException\r\nRetry-After: 3\r\n",
        {
            "Type": "User",
            "message": "Rate Exceeded.",
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        },
    )


def test_an_error_that_is_not_in_the_model_has_a_message_alone() -> None:
    assert refusal(errors.ValidationError("1 validation error")) == (
        400,
        b"x-amzn-ErrorType: ValidationException\r\n",
        {"message": "1 validation error"},
    )
    assert refusal(errors.SerializationError("no"))[2] == {"Message": "no"}
    assert refusal(errors.MissingAuthentication("Missing Authentication Token")) == (
        403,
        b"x-amzn-ErrorType: MissingAuthenticationTokenException\r\n",
        {"message": "Missing Authentication Token"},
    )


@pytest.mark.parametrize("error", [KeyError("secret"), asyncio.CancelledError("secret")])
def test_our_own_faults_are_the_services_and_tell_nothing(error: BaseException) -> None:
    assert refusal(error) == (
        500,
        b"x-amzn-ErrorType: ServiceException\r\n",
        {"Type": "Service", "Message": "An error occurred and the request cannot be processed."},
    )


# -- a server, and botocore's client ---------------------------------------------------------------------------------


class Toy:
    """Some operations of Lambda, as a service's author writes them."""

    model = LAMBDA

    def __init__(self) -> None:
        self.asked: list[tuple[str, Scope, dict[str, Any]]] = []
        self.traces: list[str | None] = []
        self.events_closed = threading.Event()

    @property
    def actions(self) -> Mapping[str, RestAction]:
        names = (
            "ListFunctions",
            "GetFunction",
            "Invoke",
            "DeleteFunction",
            "TagResource",
            "ListTags",
            "UntagResource",
            "InvokeWithResponseStream",
            "UpdateEventSourceMapping",
            "CreateFunction",
            "GetLayerVersionByArn",
            "GetPolicy",
            "GetAlias",
        )
        return {name: self._noting(name, getattr(self, name)) for name in names}

    def _noting(self, name: str, action: RestAction) -> RestAction:
        async def note(scope: Scope, values: dict[str, Any]) -> Mapping[str, Any] | RestAnswer:
            self.asked.append((name, scope, values))
            return await action(scope, values)

        return note

    async def ListFunctions(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"Functions": [FUNCTION], "NextMarker": values.get("Marker")}

    async def GetFunction(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        if values["FunctionName"] == "none":
            raise errors.ResourceNotFound(f"Function not found: {ARN}")
        if values["FunctionName"] == "busy":
            error = errors.TooManyRequests("ConcurrentInvocationLimitExceeded")
            error.fields = {**error.fields, "retryAfterSeconds": "7"}
            raise error
        if values["FunctionName"] == "broken":
            raise KeyError("a secret")
        return {"Configuration": FUNCTION, "Tags": {"a": "b"}}

    async def Invoke(self, scope: Scope, values: dict[str, Any]) -> RestAnswer:
        self.traces.append(TRACE_HEADER.get())
        output = {
            "StatusCode": 200,
            "FunctionError": "Unhandled",
            "ExecutedVersion": "$LATEST",
            "Payload": [b"[", b"]"],
        }
        return RestAnswer(output, request_id="5d5f1a5c-0000-4000-8000-000000000001")

    async def DeleteFunction(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"StatusCode": 204}

    async def TagResource(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {}

    UntagResource = TagResource

    async def ListTags(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"Tags": {"a": "ü"}}

    async def UpdateEventSourceMapping(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"UUID": values["UUID"], "LastModified": 1767323045678}

    async def CreateFunction(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return FUNCTION

    async def GetLayerVersionByArn(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"LayerVersionArn": values["Arn"]}

    async def GetPolicy(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        return {"Policy": "{}"}

    async def GetAlias(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        raise errors.RequestTooLarge("too large")

    async def InvokeWithResponseStream(self, scope: Scope, values: dict[str, Any]) -> Mapping[str, Any]:
        name = values["FunctionName"]

        async def events() -> AsyncIterator[Mapping[str, Any]]:
            try:
                yield {"PayloadChunk": {"Payload": values.get("Payload", b"")}}
                while name == "endless":
                    yield {"PayloadChunk": {"Payload": bytes(10_000)}}
                    await asyncio.sleep(0)
                if name == "broken":
                    raise KeyError("a secret")
                yield {"PayloadChunk": {"Payload": b"\x00\xff" * 100_000}}
                yield {"InvokeComplete": {"LogResult": "bG9n"}}
            finally:
                self.events_closed.set()

        return {"StatusCode": 200, "ExecutedVersion": "3", "EventStream": events()}


class World:
    def __init__(self, toy: Toy, port: int, metrics: Registry) -> None:
        self.toy = toy
        self.port = port
        self.metrics = metrics
        self._clients: list[Any] = []
        self._pool = urllib3.PoolManager()
        self.client = self.client_of()

    def close(self) -> None:
        self._pool.clear()
        for client in self._clients:
            client.close()

    def client_of(self, access_key: str = "AKIDEXAMPLE", secret: str = "secret", region: str = "eu-west-1") -> Any:
        config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=10, connect_timeout=10)
        client = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            config=config,
        )
        self._clients.append(client)
        return client

    def raw(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        url = f"http://127.0.0.1:{self.port}{path}"
        return self._pool.request(method, url, body=body, headers=headers, retries=False)

    @property
    def last(self) -> tuple[str, Scope, dict[str, Any]]:
        return self.toy.asked[-1]


@contextmanager
def serving(mode: Mode = "presence", **options: Any) -> Iterator[World]:
    """A server in a thread of its own, with a loop of its own."""
    toy = Toy()
    metrics = Registry()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> HttpServer:
        clock = SystemClock()
        gateway = Gateway(
            [],
            {("GET", "/health"): healthy},
            authenticator=Authenticator(mode, {"AKIDEXAMPLE": "secret"}, clock),
            default_scope=Scope("000000000000", "us-east-1"),
            request_ids=RequestIds(random.Random(7)),
            metrics=metrics,
            rest_services=[toy],
            **options,
        )
        server = HttpServer(gateway.handle, clock=clock, on_error=gateway.failed)
        await server.start("127.0.0.1", 0)
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    world = World(toy, server.port, metrics)
    try:
        yield world
    finally:
        world.close()
        asyncio.run_coroutine_threadsafe(server.drain(1000), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def healthy(request: Request) -> Response:
    return Response(200, b"well")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with serving("verified") as served:
        yield served


def test_a_query_arrives_and_a_document_comes_back(world: World) -> None:
    answer = world.client.list_functions(Marker="a b+c/ü=", MaxItems=3, FunctionVersion="ALL")
    assert answer["Functions"] == [FUNCTION]
    assert answer["NextMarker"] == "a b+c/ü="
    values = {"Marker": "a b+c/ü=", "MaxItems": 3, "FunctionVersion": "ALL"}
    assert world.last == ("ListFunctions", Scope("000000000000", "eu-west-1"), values)


def test_a_function_may_be_named_by_its_arn(world: World) -> None:
    answer = world.client.get_function(FunctionName=ARN, Qualifier="$LATEST")
    assert answer["Configuration"]["LastModified"] == FUNCTION["LastModified"]
    assert answer["Tags"] == {"a": "b"}
    assert world.last[2] == {"FunctionName": ARN, "Qualifier": "$LATEST"}


def test_an_access_key_of_12_digits_is_the_account() -> None:
    with serving() as world:
        world.client_of("123456789012", region="ap-south-1").list_functions()
        assert world.last[1] == Scope("123456789012", "ap-south-1")


def test_a_payload_goes_in_and_out_as_it_is_with_headers_beside_it(world: World) -> None:
    answer = world.client.invoke(FunctionName="f", Payload=b'{"a": "\xc3\xbc"}', LogType="Tail", ClientContext="e30=")
    assert answer["Payload"].read() == b"[]"
    assert (answer["StatusCode"], answer["FunctionError"], answer["ExecutedVersion"]) == (200, "Unhandled", "$LATEST")
    assert answer["ResponseMetadata"]["RequestId"] == "5d5f1a5c-0000-4000-8000-000000000001"
    assert world.last[2] == {
        "FunctionName": "f",
        "Payload": b'{"a": "\xc3\xbc"}',
        "LogType": "Tail",
        "ClientContext": "e30=",
    }
    world.client.invoke(FunctionName="f", Payload=io.BytesIO(b"1" * 300_000))
    assert world.last[2]["Payload"] == b"1" * 300_000


def test_an_answer_without_a_body_has_none(world: World) -> None:
    for _ in range(3):  # the connection is fit for more
        answer = world.client.delete_function(FunctionName="f")["ResponseMetadata"]
        assert answer["HTTPStatusCode"] == 204
        assert "content-length" not in answer["HTTPHeaders"]
        assert answer["RetryAttempts"] == 0


def test_a_request_id_is_answered_where_the_action_has_none(world: World) -> None:
    answer = world.client.list_functions()["ResponseMetadata"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["RequestId"])


def test_errors_become_the_exceptions_of_the_sdk(world: World) -> None:
    with pytest.raises(world.client.exceptions.ResourceNotFoundException) as missing:
        world.client.get_function(FunctionName="none")
    answer = missing.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert (answer["Type"], answer["Error"]["Message"]) == ("User", f"Function not found: {ARN}")
    with pytest.raises(world.client.exceptions.TooManyRequestsException) as busy:
        world.client.get_function(FunctionName="busy")
    answer = busy.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert (answer["Reason"], answer["retryAfterSeconds"]) == ("ConcurrentInvocationLimitExceeded", "7")
    with pytest.raises(world.client.exceptions.ServiceException) as broken:
        world.client.get_function(FunctionName="broken")
    assert broken.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "secret" not in str(broken.value.response)


def refused_code(call: Callable[[], Any]) -> tuple[str, int, str]:
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call()
    answer = refused.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def test_values_are_checked_with_the_texts_of_aws(world: World) -> None:
    assert refused_code(lambda: world.client.get_function(FunctionName="no/name")) == (
        "ValidationException",
        400,
        "1 validation error detected: Value 'no/name' at 'functionName' failed to satisfy constraint: Member must "
        f"satisfy regular expression pattern: {LAMBDA.shapes['NamespacedFunctionName'].pattern}",
    )


def test_what_is_in_the_model_and_not_here_says_so(world: World) -> None:
    code, status, text = refused_code(world.client.get_account_settings)
    assert (code, status) == ("NotImplementedException", 501)
    assert "GetAccountSettings" in text


def test_an_arn_may_stand_in_a_path_and_tags_in_query_and_body(world: World) -> None:
    assert world.client.tag_resource(Resource=ARN, Tags={"k": "ü v"})["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert world.last[2] == {"Resource": ARN, "Tags": {"k": "ü v"}}
    world.client.untag_resource(Resource=ARN, TagKeys=["a", "b c"])
    assert world.last[2] == {"Resource": ARN, "TagKeys": ["a", "b c"]}
    assert world.client.list_tags(Resource=ARN)["Tags"] == {"a": "ü"}


def test_a_condition_in_the_query_chooses_the_operation(world: World) -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:layer:l:1"
    assert world.client.get_layer_version_by_arn(Arn=arn)["LayerVersionArn"] == arn


def test_blobs_and_timestamps_in_a_body_are_those_of_json(world: World) -> None:
    world.client.create_function(FunctionName="f", Role="arn:aws:iam::123456789012:role/r", Code={"ZipFile": b"\x00"})
    assert world.last[2]["Code"] == {"ZipFile": b"\x00"}
    mapping = world.client.update_event_source_mapping(UUID="01234567-89ab-cdef-0123-456789abcdef")
    assert mapping["LastModified"].timestamp() == 1767323045.678


def test_an_event_stream_is_read_by_the_sdk(world: World) -> None:
    answer = world.client.invoke_with_response_stream(FunctionName="f", Payload=b"in")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "3")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/vnd.amazon.eventstream"
    assert list(answer["EventStream"]) == [
        {"PayloadChunk": {"Payload": b"in"}},
        {"PayloadChunk": {"Payload": b"\x00\xff" * 100_000}},
        {"InvokeComplete": {"LogResult": "bG9n"}},
    ]
    assert world.toy.events_closed.wait(10)


def test_an_event_stream_that_breaks_ends_with_an_error(world: World) -> None:
    answer = world.client.invoke_with_response_stream(FunctionName="broken", Payload=b"in")
    with (
        closing(answer["EventStream"]) as stream,
        pytest.raises(botocore.exceptions.EventStreamError, match="InternalFailure"),
    ):
        list(stream)


def test_an_event_stream_is_closed_when_its_reader_goes(world: World) -> None:
    world.toy.events_closed.clear()
    answer = world.client.invoke_with_response_stream(FunctionName="endless", Payload=b"in")
    with closing(answer["EventStream"]) as stream:
        assert next(iter(stream)) == {"PayloadChunk": {"Payload": b"in"}}
        assert not world.toy.events_closed.is_set()
    assert world.toy.events_closed.wait(10)


def test_a_wrong_secret_and_no_signature_are_forbidden(world: World) -> None:
    assert refused_code(world.client_of(secret="other").list_functions)[:2] == ("InvalidSignatureException", 403)
    answer = world.raw("GET", "/2015-03-31/functions")
    assert (answer.status, answer.json()) == (403, {"message": "Missing Authentication Token"})
    assert answer.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"


def test_requests_are_counted_by_their_operation(world: World) -> None:
    world.client.get_policy(FunctionName="f")
    refused_code(lambda: world.client.get_alias(FunctionName="f", Name="a"))
    text = world.metrics.text()
    assert 'streamkit_request_seconds_count{operation="GetPolicy"} 1' in text
    assert 'streamkit_request_errors_total{operation="GetAlias",code="RequestTooLargeException"} 1' in text


def test_a_path_of_no_operation_is_refused_as_lambda_does() -> None:
    with serving("off") as world:
        for method, path in (("GET", "/2015-03-31/nothing"), ("PUT", "/2015-03-31/functions/f")):
            answer = world.raw(method, path)
            assert answer.status == 403
            assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
            assert answer.json() == {"Message": "Unable to determine service/operation name to be authorized"}
        assert world.raw("GET", "/nothing").status == 404
        assert world.raw("GET", "/health").data == b"well"


def test_a_body_that_cannot_be_read_is_refused() -> None:
    with serving("off") as world:
        for body, text in (
            (b"{", "Could not parse request body into json."),
            (b"[]", "Start of list found where not expected"),
        ):
            answer = world.raw("POST", "/2015-03-31/functions", body)
            assert (answer.status, answer.json()) == (400, {"Message": text})
            assert answer.headers["x-amzn-ErrorType"] == "SerializationException"


def test_an_action_may_ask_for_the_trace_of_its_request() -> None:
    with serving("off") as world:
        path = "/2015-03-31/functions/f/invocations"
        world.raw("POST", path, headers={"X-Amzn-Trace-Id": "Root=1-2-3"})
        world.raw("POST", path)
        assert world.toy.traces == ["Root=1-2-3", None]


def test_unescaped_colons_and_a_trailing_slash_are_understood() -> None:
    with serving("off") as world:
        assert world.raw("GET", f"/2015-03-31/functions/{ARN}/").status == 200
        assert world.last[2] == {"FunctionName": ARN}


# -- other routes ----------------------------------------------------------------------------------------------------


def echo_of(name: str) -> Route:
    async def echo(request: Request) -> Response:
        return Response(200, f"{name} {request.method} {request.path}".encode())

    return echo


def test_hosts_come_first_then_paths_then_prefixes_the_longest_before() -> None:
    urls = echo_of("url")

    def host_route(host: bytes) -> Route | None:
        return urls if host.startswith(b"abc.lambda-url.") else None

    prefixes = {"/_runtime/": echo_of("runtime"), "/_runtime/2/": echo_of("second"), "/h": echo_of("h")}
    with serving("off", prefix_routes=prefixes, host_route=host_route) as world:
        assert world.raw("GET", "/_runtime/1/next?a").data == b"runtime GET /_runtime/1/next"
        assert world.raw("OPTIONS", "/_runtime/2/x").data == b"second OPTIONS /_runtime/2/x"
        assert world.raw("POST", "/_runtime/2/x", headers={"X-Amz-Target": "a.b"}).data == b"second POST /_runtime/2/x"
        assert world.raw("GET", "/health").data == b"well"
        assert world.raw("PATCH", "/health").data == b"h PATCH /health"
        host = {"Host": "abc.lambda-url.us-east-1.localhost"}
        assert world.raw("GET", "/health", headers=host).data == b"url GET /health"
        assert world.raw("POST", "/", headers={**host, "X-Amz-Target": "a.b"}).data == b"url POST /"
        assert 'operation="/_runtime/"' in world.metrics.text()
        assert 'operation="host"' in world.metrics.text()
