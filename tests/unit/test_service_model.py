"""Promises of the service models: whole, quick to load, and without botocore."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamkit.api.service_model import ServiceModel

KINESIS = ServiceModel.load("kinesis", "2013-12-02")


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
