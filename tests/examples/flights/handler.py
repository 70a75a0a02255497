"""The demo's Lambda function: tells another stream of each flight that left an hour late or more.

It runs as it would on AWS: boto3 finds the stream at the endpoint that the environment names.
"""

import base64
import json
import os
from typing import Any

import boto3

LATE_MIN = 60

kinesis = boto3.client("kinesis")


def tell_late(event: dict[str, Any], context: object) -> None:
    late = []
    for record in event["Records"]:
        line = base64.b64decode(record["kinesis"]["data"])
        flight = json.loads(line)  # raises on what is no flight: then the batch is split, and tried again
        if (flight["dep_delay"] or 0) >= LATE_MIN:
            late.append({"Data": line, "PartitionKey": flight["carrier"]})
    if late:
        answer = kinesis.put_records(StreamName=os.environ["LATE_STREAM"], Records=late)
        assert not answer["FailedRecordCount"], "an exception makes the whole batch come again"
