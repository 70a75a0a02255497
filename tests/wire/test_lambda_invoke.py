"""Invoking over the wire: kinds of invocation, what comes back, where outcomes go, and function URLs."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamkit.testing.server import ServerProcess
from tests.wire.clients import REGION
from tests.wire.cloud import Cloud, eventually, function_arn, open_cloud, stream_arn

MIB = 1024 * 1024
ECHO = "def handler(event, context):\n    return event\n"
FAILS = "def handler(event, context):\n    raise ValueError('not today')\n"
NOTES = """
import os

def handler(event, context):
    with open(os.environ["NOTES"], "a") as file:
        print(context.aws_request_id, file=file)
    if event.get("fail"):
        raise ValueError("not today")
    return {"seen": event}
"""


def refused(cloud: Cloud, name: str, payload: Any = None, **members: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        cloud.invoke(name, payload, **members)
    response: dict[str, Any] = error.value.response
    return response


# -- one call, one answer --------------------------------------------------------------------------------------------


def test_an_answer_says_which_version_ran_and_under_which_request(cloud: Cloud) -> None:
    code = "def handler(event, context):\n    return [context.aws_request_id, context.function_version]\n"
    cloud.create("f", code)
    answer = cloud.functions.invoke(FunctionName="f", Payload=b"{}")
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert json.loads(answer["Payload"].read()) == [headers["x-amzn-requestid"], "$LATEST"]
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == headers["x-amz-executed-version"] == "$LATEST"
    assert headers["content-type"] == "application/json"
    assert "x-amz-function-error" not in headers
    assert "FunctionError" not in answer


@pytest.mark.parametrize("event", [None, True, 0, -1.5, "", "ü€𝄞", [], {}, {"a": [None, {"b": "\u0000"}]}])
def test_any_json_goes_there_and_back(cloud: Cloud, event: Any) -> None:
    cloud.create("f", ECHO)
    assert cloud.value("f", event) == event


def test_a_dry_run_runs_nothing(cloud: Cloud, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    cloud.create("f", NOTES, variables={"NOTES": str(notes)})
    answer = cloud.invoke("f", {}, InvocationType="DryRun")
    assert (answer.status, answer.body, answer.version) == (204, b"", None)
    assert refused(cloud, "nobody", InvocationType="DryRun")["Error"]["Code"] == "ResourceNotFoundException"
    assert not notes.exists()


def test_the_tail_of_the_log_is_the_last_4_kib(cloud: Cloud) -> None:
    cloud.create("f", "def handler(event, context):\n    print('x' * event)\n")
    short = cloud.invoke("f", 10, LogType="Tail")
    lines = short.log.splitlines()
    assert lines[0] == f"START RequestId: {short.request_id} Version: $LATEST"
    assert lines[1:3] == ["x" * 10, f"END RequestId: {short.request_id}"]
    assert lines[3].startswith(f"REPORT RequestId: {short.request_id}\tDuration: ")
    long = cloud.invoke("f", 100_000, LogType="Tail")
    assert len(long.log) == 4096
    assert long.log.splitlines()[-1].startswith(f"REPORT RequestId: {long.request_id}\t")
    assert cloud.invoke("f", 10).log == "", "only where it is asked for"
    whole = cloud.log_of("f")
    assert whole.count("x" * 10) >= 2
    assert "x" * 100_000 in whole, "the log itself has everything"


def test_the_client_context_reaches_the_handler(cloud: Cloud) -> None:
    code = """
def handler(event, context):
    client = context.client_context
    return client and [client.custom, client.env, client.client.app_title]
"""
    cloud.create("f", code)
    given = {"custom": {"tenant": "a"}, "env": {"locale": "de"}, "client": {"app_title": "shop"}}
    text = base64.b64encode(json.dumps(given).encode()).decode()
    assert cloud.value("f", ClientContext=text) == [{"tenant": "a"}, {"locale": "de"}, "shop"]
    assert cloud.value("f") is None
    bad = refused(cloud, "f", ClientContext="no base64")
    assert bad["Error"]["Code"] == "InvalidRequestContentException"


def test_six_mebibytes_go_there_and_back_and_no_more(cloud: Cloud) -> None:
    cloud.create("f", "def handler(event, context):\n    return event if isinstance(event, str) else 'x' * event\n")
    text = "x" * (6 * MIB - 2)
    assert cloud.value("f", text) == text
    assert cloud.value("f", 6 * MIB - 2) == text
    too_much = refused(cloud, "f", text + "x")
    assert too_much["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert too_much["Error"]["Code"] == "RequestTooLargeException"
    assert "6291457 byte payload is too large for the RequestResponse invocation type" in str(too_much)
    too_long = cloud.invoke("f", 6 * MIB + 200)
    assert too_long.error == "Unhandled"
    assert too_long.value["errorType"] == "Function.ResponseSizeTooLarge"
    assert "Response payload size exceeded maximum allowed payload size" in too_long.value["errorMessage"]


@pytest.mark.parametrize("payload", [b"", b"not json", b"{", b'{"a": NaN}'])
def test_a_payload_that_is_no_json_is_refused_unless_it_is_empty(cloud: Cloud, payload: bytes) -> None:
    cloud.create("f", ECHO)
    if not payload:
        assert cloud.value("f", payload) == {}
        return
    response = refused(cloud, "f", payload)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["Error"]["Code"] == "InvalidRequestContentException"
    assert response["Error"]["Message"].startswith("Could not parse request body into json: ")


def test_a_function_that_is_not_there_is_not_found(cloud: Cloud) -> None:
    response = refused(cloud, "nobody")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert response["Error"]["Code"] == "ResourceNotFoundException"
    assert response["Error"]["Message"] == f"Function not found: {function_arn('nobody')}:$LATEST"


def test_a_function_calls_this_server_with_boto3_as_it_is(cloud: Cloud) -> None:
    """The environment has endpoint, region and credentials: the handler's clients need no argument."""
    code = """
import boto3

def handler(event, context):
    boto3.client("kinesis").put_record(StreamName="s", PartitionKey="k", Data=b"{}")
    return boto3.client("kinesis").describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
"""
    cloud.stream("s")
    cloud.create("f", code, Timeout=30)
    assert cloud.value("f") == stream_arn("s")
    assert cloud.documents("s") == [{}]


def test_a_response_is_streamed_piece_by_piece(cloud: Cloud) -> None:
    code = """
import time

def handler(event, context):
    for number in range(event):
        yield f"piece {number};"
        time.sleep(0.1)
    if event == 2:
        raise ValueError("no more")
"""
    cloud.create("f", code)

    def stream(event: int) -> list[tuple[float, dict[str, Any]]]:
        answer = cloud.functions.invoke_with_response_stream(FunctionName="f", Payload=str(event).encode())
        assert answer["ExecutedVersion"] == "$LATEST"
        return [(time.monotonic(), event) for event in answer["EventStream"]]

    events = stream(4)
    pieces = [(at, event["PayloadChunk"]["Payload"]) for at, event in events if "PayloadChunk" in event]
    assert b"".join(piece for _, piece in pieces) == b"piece 0;piece 1;piece 2;piece 3;"
    assert pieces[-1][0] - pieces[0][0] >= 0.2, "they came when they were made"
    assert events[-1][1] == {"InvokeComplete": {}}
    failed = stream(2)[-1][1]["InvokeComplete"]
    assert failed["ErrorCode"] == "Unhandled"
    assert json.loads(failed["ErrorDetails"])["errorMessage"] == "no more"


# -- events: accepted now, run soon ----------------------------------------------------------------------------------


def test_an_event_is_accepted_and_runs_under_the_id_of_its_answer(cloud: Cloud, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    cloud.create("f", NOTES, variables={"NOTES": str(notes)})
    answers = [cloud.invoke("f", {}, InvocationType="Event") for _ in range(20)]
    assert {(answer.status, answer.body, answer.version) for answer in answers} == {(202, b"", None)}
    eventually(lambda: notes.exists() and len(notes.read_text().split()) == 20)
    assert set(notes.read_text().split()) == {answer.request_id for answer in answers}


def test_outcomes_of_events_are_records_of_a_stream(cloud: Cloud, tmp_path: Path) -> None:
    """AWS's document, member by member; failures after as many attempts as were allowed."""
    cloud.stream("good")
    cloud.stream("bad")
    cloud.create("f", NOTES, variables={"NOTES": str(tmp_path / "notes")})
    destinations = {
        "OnSuccess": {"Destination": stream_arn("good")},
        "OnFailure": {"Destination": stream_arn("bad")},
    }
    cloud.functions.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, DestinationConfig=destinations
    )
    good = cloud.invoke("f", {"n": 1}, InvocationType="Event")
    bad = cloud.invoke("f", {"n": 2, "fail": True}, InvocationType="Event")
    eventually(lambda: cloud.documents("good") and cloud.documents("bad"))
    [success], [failure] = cloud.documents("good"), cloud.documents("bad")
    assert success == {
        "version": "1.0",
        "timestamp": success["timestamp"],
        "requestContext": {
            "requestId": good.request_id,
            "functionArn": function_arn("f") + ":$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"n": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"seen": {"n": 1}},
    }
    assert failure["requestContext"] == {
        "requestId": bad.request_id,
        "functionArn": function_arn("f") + ":$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 1,
    }
    assert failure["requestPayload"] == {"n": 2, "fail": True}
    assert failure["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert failure["responsePayload"]["errorMessage"] == "not today"
    assert list(failure) == [
        "version",
        "timestamp",
        "requestContext",
        "requestPayload",
        "responseContext",
        "responsePayload",
    ]


def test_outcomes_of_events_are_files_of_a_buckets_folder(
    cloud: Cloud, streamkit_shared_server: ServerProcess, tmp_path: Path
) -> None:
    cloud.create("f", NOTES, variables={"NOTES": str(tmp_path / "notes")})
    bucket = f"outcomes-{tmp_path.name.replace('_', '-')}"[:60].rstrip("-")
    cloud.functions.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnSuccess": {"Destination": f"arn:aws:s3:::{bucket}"}}
    )
    answer = cloud.invoke("f", {"n": 1}, InvocationType="Event")
    folder = streamkit_shared_server.data / "buckets" / bucket
    eventually(lambda: any(path.is_file() for path in folder.rglob("*")))
    [file] = [path for path in folder.rglob("*") if path.is_file()]
    document = json.loads(file.read_bytes())
    assert document["requestContext"]["requestId"] == answer.request_id
    assert document["responsePayload"] == {"seen": {"n": 1}}


def test_a_function_is_told_of_anothers_outcome(cloud: Cloud, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    cloud.create("told", NOTES, variables={"NOTES": str(notes)})
    cloud.create("f", ECHO)
    cloud.functions.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnSuccess": {"Destination": function_arn("told")}}
    )
    cloud.invoke("f", {}, InvocationType="Event")
    eventually(notes.exists)


def test_events_that_failed_for_good_are_dead_letters(cloud: Cloud) -> None:
    """The dead letter is the event as it was."""
    cloud.stream("dead")
    cloud.create("f", FAILS, DeadLetterConfig={"TargetArn": stream_arn("dead")})
    cloud.functions.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
    cloud.invoke("f", {"n": 7}, InvocationType="Event")
    eventually(lambda: cloud.documents("dead"))
    assert cloud.documents("dead") == [{"n": 7}]


def test_events_of_a_function_without_concurrency_are_sent_on_at_once(cloud: Cloud) -> None:
    cloud.stream("bad")
    cloud.create("f", ECHO)
    cloud.functions.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnFailure": {"Destination": stream_arn("bad")}}
    )
    cloud.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    cloud.invoke("f", {}, InvocationType="Event")
    eventually(lambda: cloud.documents("bad"))
    [document] = cloud.documents("bad")
    assert document["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert document["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in document


def test_an_event_may_have_one_mebibyte(cloud: Cloud) -> None:
    cloud.create("f", "def handler(event, context):\n    return len(event)\n")
    assert cloud.invoke("f", "x" * (MIB - 2), InvocationType="Event").status == 202
    response = refused(cloud, "f", "x" * (MIB - 1), InvocationType="Event")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert response["Error"]["Code"] == "RequestTooLargeException"


def test_accepted_events_survive_kill_9(streamkit_server: ServerProcess, tmp_path: Path) -> None:
    """Events are on disk when they are accepted: those that had not run when the server was killed run afterwards."""
    notes = tmp_path / "notes"
    slow = NOTES.replace("import os", "import os, time").replace("    with open", "    time.sleep(0.5)\n    with open")
    with open_cloud(streamkit_server.endpoint) as cloud:
        cloud.create("f", slow, variables={"NOTES": str(notes)})
        ids = {cloud.invoke("f", {"n": n}, InvocationType="Event").request_id for n in range(5)}
    streamkit_server.kill()
    assert not notes.exists(), "none was done yet"
    streamkit_server.restart()
    eventually(lambda: notes.exists() and set(notes.read_text().split()) == ids)


# -- function URLs ---------------------------------------------------------------------------------------------------


class Web:
    """What a browser does with a function's URL; the name is resolved to this machine, wherever the test runs."""

    def __init__(self, url: str) -> None:
        self.host = url.partition("//")[2].rstrip("/")
        self._connection = http.client.HTTPConnection("127.0.0.1", int(self.host.rpartition(":")[2]), timeout=20)

    def begin(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, {"Host": self.host, **given})
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def webs() -> Iterator[list[Web]]:
    made: list[Web] = []
    yield made
    for web in made:
        web.close()


def test_a_function_url_answers_http(cloud: Cloud, webs: list[Web]) -> None:
    code = """
import json

def handler(event, context):
    http = event["requestContext"]["http"]
    seen = [http["method"], event["rawPath"], event["rawQueryString"], event.get("body"), event.get("cookies")]
    headers = {"content-type": "application/json", "x-shop": event["headers"]["x-shop"]}
    return {"statusCode": 201, "headers": headers, "cookies": ["a=1", "b=2"], "body": json.dumps(seen)}
"""
    cloud.create("f", code)
    made = cloud.functions.create_function_url_config(FunctionName="f", AuthType="NONE")
    assert f".lambda-url.{REGION}." in made["FunctionUrl"]
    webs.append(web := Web(made["FunctionUrl"]))
    answer = web.begin("POST", "/orders/7?a=1&a=2", b"hello", X_Shop="5", Cookie="c=3; d=4", Content_Type="text/plain")
    assert answer.status == 201
    assert answer.headers["x-shop"] == "5"
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert json.loads(answer.read()) == ["POST", "/orders/7", "a=1&a=2", "hello", ["c=3", "d=4"]]


def test_a_function_url_of_an_alias_follows_it(cloud: Cloud, webs: list[Web]) -> None:
    cloud.create("f", "def handler(event, context):\n    return context.function_version\n", Publish=True)
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    made = cloud.functions.create_function_url_config(FunctionName="f", Qualifier="live", AuthType="NONE")
    webs.append(web := Web(made["FunctionUrl"]))
    assert web.begin("GET", "/").read() == b"1"
    cloud.update("f", "def handler(event, context):\n    return 'new ' + context.function_version\n")
    cloud.publish("f")
    assert web.begin("GET", "/").read() == b"1"
    cloud.functions.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
    assert web.begin("GET", "/").read() == b"new 2"


def test_a_function_url_streams_by_http(cloud: Cloud, webs: list[Web]) -> None:
    code = """
import json, time

def handler(event, context):
    yield json.dumps({"statusCode": 206, "headers": {"content-type": "text/plain", "x-shop": "5"}})
    yield b"\\0" * 8
    for number in range(4):
        yield f"piece {number};"
        time.sleep(0.1)
"""
    cloud.create("f", code)
    made = cloud.functions.create_function_url_config(FunctionName="f", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    webs.append(web := Web(made["FunctionUrl"]))
    began = time.monotonic()
    answer = web.begin("GET", "/")
    assert (answer.status, answer.headers["content-type"], answer.headers["x-shop"]) == (206, "text/plain", "5")
    assert answer.read(8) == b"piece 0;"
    first_s = time.monotonic() - began
    assert answer.read() == b"piece 1;piece 2;piece 3;"
    assert time.monotonic() - began - first_s >= 0.2


def test_a_function_url_says_what_went_wrong(cloud: Cloud, webs: list[Web]) -> None:
    cloud.create("f", FAILS)
    made = cloud.functions.create_function_url_config(FunctionName="f", AuthType="NONE")
    webs.append(web := Web(made["FunctionUrl"]))
    failed = web.begin("GET", "/")
    assert (failed.status, failed.read()) == (502, b"Internal Server Error")
    cloud.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    throttled = web.begin("GET", "/")
    assert throttled.status == 429
    throttled.read()
    cloud.functions.update_function_url_config(FunctionName="f", AuthType="AWS_IAM")
    forbidden = web.begin("GET", "/")
    assert forbidden.status == 403
    assert forbidden.headers["x-amzn-ErrorType"] == "AccessDeniedException"
    forbidden.read()
    cloud.functions.delete_function_url_config(FunctionName="f")
    gone = web.begin("GET", "/")
    assert gone.status == 403
    gone.read()
