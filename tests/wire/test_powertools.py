"""Powertools for AWS Lambda as a client of mappings: its batch processor decides, the mapping does as it says.

The function's layer holds Powertools as it is installed here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.wire.cloud import Cloud, eventually, stream_arn
from tests.wire.lambda_code import layer_of

POWERTOOLS = ("aws_lambda_powertools", "jmespath", "typing_extensions")

# One line for each time that a record is handled: its number, and whether that went well.
CODE = """
import json, os
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
HANDLED = os.environ["HANDLED"]


def times(n):
    if not os.path.exists(HANDLED):
        return 0
    with open(HANDLED) as file:
        return sum(json.loads(line)[0] == n for line in file)


def record_handler(record: KinesisStreamRecord):
    data = record.kinesis.data_as_json()
    is_good = data["rule"] == "ok" or data["rule"] == "once" and times(data["n"]) > 0
    with open(HANDLED, "a") as file:
        file.write(json.dumps([data["n"], is_good]) + "\\n")
    if not is_good:
        raise ValueError(f"record {data['n']} is bad")


def handler(event, context):
    with open(HANDLED + ".batches", "a") as file:
        file.write(json.dumps(len(event["Records"])) + "\\n")
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
"""


class Shop:
    """A stream, a mapping with ReportBatchItemFailures, and what the function wrote down."""

    def __init__(self, cloud: Cloud, directory: Path) -> None:
        self.cloud = cloud
        self._handled = directory / "handled"
        layer = cloud.functions.publish_layer_version(
            LayerName="powertools", Content={"ZipFile": layer_of(*POWERTOOLS)}
        )
        variables = {"HANDLED": str(self._handled), "POWERTOOLS_SERVICE_NAME": "shop"}
        cloud.create("f", CODE, variables=variables, Layers=[layer["LayerVersionArn"]], Timeout=30, MemorySize=256)
        cloud.stream("s")
        cloud.stream("dead")

    def put(self, *rules: str) -> list[str]:
        """Before the mapping is made, so that they are one batch."""
        return self.cloud.put("s", *[("k", {"n": n, "rule": rule}) for n, rule in enumerate(rules)])

    def map(self, **members: Any) -> str:
        return self.cloud.map(
            stream_arn("s"),
            "f",
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": stream_arn("dead")}},
            **members,
        )

    def handled(self) -> list[tuple[int, bool]]:
        if not self._handled.exists():
            return []
        return [(n, is_good) for n, is_good in map(json.loads, self._handled.read_text().splitlines())]

    def batches(self) -> list[int]:
        path = self._handled.with_name("handled.batches")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def dead(self) -> list[Any]:
        return self.cloud.documents("dead")


@pytest.fixture
def shop(cloud: Cloud, tmp_path: Path) -> Shop:
    return Shop(cloud, tmp_path)


def test_a_batch_of_good_records_is_handled_once(shop: Shop) -> None:
    shop.put(*["ok"] * 8)
    uuid = shop.map()
    eventually(lambda: shop.cloud.last_result(uuid) == "OK")
    assert shop.batches() == [8]
    assert shop.handled() == [(n, True) for n in range(8)]
    assert shop.dead() == []


def test_of_a_mixed_batch_what_follows_the_first_bad_record_comes_again(shop: Shop) -> None:
    """Records before the first that failed are done with. Powertools goes on after a failure, so the good ones behind
    it are handled twice: the checkpoint is the lowest number it names."""
    shop.put("ok", "ok", "once", "ok", "once", "ok")
    uuid = shop.map(MaximumRetryAttempts=5)
    eventually(lambda: shop.cloud.last_result(uuid) == "OK" and len(shop.batches()) == 2, so_far=shop.handled)
    assert shop.batches() == [6, 4]
    times = Counter(n for n, _ in shop.handled())
    assert times == {0: 1, 1: 1, 2: 2, 3: 2, 4: 2, 5: 2}
    assert {n for n, is_good in shop.handled() if not is_good} == {2, 4}
    assert shop.dead() == []


def test_a_batch_that_failed_altogether_comes_again_as_it_was(shop: Shop) -> None:
    """Powertools raises then: the answer is an error, and the failure record says so."""
    numbers = shop.put("bad", "bad", "bad")
    shop.map(MaximumRetryAttempts=2)
    eventually(shop.dead)
    assert shop.batches() == [3, 3, 3]
    [document] = shop.dead()
    info = document["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == (numbers[0], numbers[2], 3)
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 3
    assert document["responseContext"]["functionError"] == "Unhandled"
    assert "BatchProcessingError" in shop.cloud.log_of("f")


def test_a_batch_that_partly_failed_to_the_end_is_recorded_without_an_error(shop: Shop) -> None:
    """As recorded from AWS: the last answer was a good one that named a failure."""
    numbers = shop.put("ok", "bad", "ok")
    shop.map(MaximumRetryAttempts=1)
    eventually(shop.dead)
    [document] = shop.dead()
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}
    info = document["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == (numbers[1], numbers[2], 2)


@pytest.mark.parametrize(
    "rules", ["ok ok bad ok ok once ok bad", "bad ok ok ok", "ok ok ok bad", "bad bad bad bad bad"]
)
def test_with_bisect_exactly_the_bad_records_are_given_up_each_alone(shop: Shop, rules: str) -> None:
    """Every record was handled well, or is in exactly one failure record."""
    kinds = rules.split()
    numbers = shop.put(*kinds)
    shop.map(MaximumRetryAttempts=1, BisectBatchOnFunctionError=True)
    bad = [number for number, kind in zip(numbers, kinds, strict=True) if kind == "bad"]

    def good() -> set[int]:
        return {n for n, is_good in shop.handled() if is_good}

    wanted = {n for n, kind in enumerate(kinds) if kind != "bad"}
    eventually(lambda: len(shop.dead()) >= len(bad) and good() == wanted, so_far=lambda: (shop.dead(), shop.handled()))
    infos = [document["KinesisBatchInfo"] for document in shop.dead()]
    assert [info["startSequenceNumber"] for info in infos] == bad
    assert [info["endSequenceNumber"] for info in infos] == bad
    assert {info["batchSize"] for info in infos} == {1}
    firsts = list(dict.fromkeys(n for n, _ in shop.handled()))
    assert firsts == sorted(firsts), "first deliveries are in order"
