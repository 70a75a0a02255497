"""Promises of the service models: whole, quick to load, and without botocore."""

from __future__ import annotations

import subprocess
import sys
import timeit

import pytest

from streamkit.api.service_model import Http, ServiceModel

KINESIS = ServiceModel.load("kinesis", "2013-12-02")
LAMBDA = ServiceModel.load("lambda", "2015-03-31")


def test_the_model_says_how_its_requests_are_addressed() -> None:
    assert KINESIS.target_prefix == "Kinesis_20131202"
    assert {"CreateStream", "PutRecord", "PutRecords", "GetRecords", "SubscribeToShard"} <= set(KINESIS.operations)
    assert all(operation.name == name for name, operation in KINESIS.operations.items())


def test_every_operation_can_be_compiled() -> None:
    for operation in KINESIS.operations.values():
        assert callable(operation.decode)
        assert callable(operation.encode)


def test_codecs_are_compiled_when_an_operation_is_first_used_and_then_kept() -> None:
    operation = ServiceModel.load("kinesis", "2013-12-02").operations["PutRecord"]
    assert "decode" not in vars(operation)
    assert operation.decode is operation.decode


def test_loading_a_model_does_not_import_botocore() -> None:
    program = (
        "import sys; from streamkit.api.service_model import ServiceModel;"
        "ServiceModel.load('kinesis', '2013-12-02').operations['PutRecord'].decode(b'{\"Data\": \"\"}');"
        "print('botocore' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_a_service_that_botocore_does_not_have_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-service"):
        ServiceModel.load("no-such-service", "2013-12-02")


def test_the_model_of_a_rest_service_says_where_its_operations_are() -> None:
    assert LAMBDA.service_id == "Lambda"
    assert LAMBDA.operations["GetFunction"].http == Http("GET", "/2015-03-31/functions/{FunctionName}", 200)
    assert LAMBDA.operations["CreateFunction"].http.response_code == 201
    assert KINESIS.operations["PutRecord"].http == Http()


def test_members_keep_their_places_on_the_wire() -> None:
    given = LAMBDA.shapes["InvocationRequest"]
    assert given.payload == "Payload"
    assert given.members["FunctionName"].location == "uri"
    assert given.members["Qualifier"].location == "querystring"
    kind = given.members["InvocationType"]
    assert (kind.location, kind.location_name) == ("header", "X-Amz-Invocation-Type")
    assert LAMBDA.shapes["InvocationResponse"].members["StatusCode"].location == "statusCode"
    assert LAMBDA.shapes["BlobStream"].streaming
    assert LAMBDA.shapes["InvokeWithResponseStreamResponseEvent"].eventstream
    assert LAMBDA.shapes["InvokeResponseStreamUpdate"].members["Payload"].eventpayload


def test_errors_are_found_by_their_codes_with_their_status() -> None:
    missing = LAMBDA.errors["ResourceNotFoundException"].error
    assert missing is not None
    assert missing.http_status_code == 404
    assert LAMBDA.errors["ServiceException"].fault
    assert KINESIS.errors["ResourceNotFoundException"].error is None
    assert not any(shape.type != "structure" for shape in LAMBDA.errors.values())


def test_a_large_model_is_loaded_within_the_start_of_a_server() -> None:
    """30 ms are what a start can spare; the best of some is taken, because the machine may be busy."""
    best_s = min(timeit.repeat(lambda: ServiceModel.load("lambda", "2015-03-31"), number=1, repeat=5))
    assert best_s < 0.03
